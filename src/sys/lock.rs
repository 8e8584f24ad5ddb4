//! One agent per network namespace.
//!
//! Called at start by `run` and by `cleanup`. The lock is a bound abstract socket: such names belong
//! to the network namespace, exactly the thing that two agents must not share, they need no folder,
//! and the kernel lets go when the process ends, however it ends.

use super::inherit;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, getsockname, socket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Name of the abstract socket.
const NAME: &[u8] = b"vipd/agent";

/// Another agent runs in this network namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlreadyRunning {
    /// The name is taken.
    #[error(
        "another vipd runs in this network namespace: one agent holds all instances of a host; \
         see `vipd status`, or stop it first"
    )]
    Taken,
    /// The lock could not be tried.
    #[error("cannot take the one-agent lock of this network namespace: {0}")]
    Failed(String),
}

/// The right to be the agent of this network namespace, until dropped.
#[derive(Debug)]
pub struct NamespaceLock {
    socket: OwnedFd,
}

impl AsFd for NamespaceLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl NamespaceLock {
    /// Takes the lock, without waiting.
    ///
    /// # Errors
    /// When another agent has it.
    pub fn acquire() -> Result<Self, AlreadyRunning> {
        let failed = |e: nix::Error| AlreadyRunning::Failed(e.to_string());
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(failed)?;
        let name = UnixAddr::new_abstract(NAME).map_err(failed)?;
        match bind(socket.as_raw_fd(), &name) {
            Ok(()) => Ok(Self { socket }),
            Err(nix::Error::EADDRINUSE) => Err(AlreadyRunning::Taken),
            Err(e) => Err(failed(e)),
        }
    }

    /// The lock that the program before this one left open as `number`, in the same process; `None`: it is not there.
    pub fn inherited(number: RawFd) -> Option<Self> {
        let is_it = |fd: &OwnedFd| {
            getsockname::<UnixAddr>(fd.as_raw_fd()).is_ok_and(|a| a.as_abstract() == Some(NAME))
        };
        inherit::take(number, is_it).map(|socket| Self { socket })
    }
}
