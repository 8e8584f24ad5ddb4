//! Keep-alive datagrams to the service manager, sent by the protocol thread itself.
//!
//! The socket is opened and connected in advance, and sending never waits: a blocked service manager
//! must not stop a healthy owner.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The way to the service manager.
#[derive(Debug)]
pub struct Watchdog {
    socket: OwnedFd,
}

impl Watchdog {
    /// Connects to `notify_socket`, the content of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(notify_socket: &OsStr) -> io::Result<Self> {
        let name = notify_socket.as_bytes();
        let to = match name.strip_prefix(b"@") {
            Some(hidden) => UnixAddr::new_abstract(hidden)?,
            None => UnixAddr::new(name)?,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        connect(socket.as_raw_fd(), &to)?;
        Ok(Self { socket })
    }

    /// Says that the agent is alive. Lost when the queue of the service manager is full: the next one
    /// says the same.
    pub fn ping(&self) {
        self.say(b"WATCHDOG=1");
    }

    /// Sets the watchdog interval, microseconds (`WATCHDOG_USEC`).
    pub fn set_interval_us(&self, micros: u64) {
        self.say(format!("WATCHDOG_USEC={micros}").as_bytes());
    }

    fn say(&self, what: &[u8]) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _full = send(self.socket.as_raw_fd(), what, flags);
    }
}
