//! Listens for adverts of others on interfaces of this machine; sends nothing.
//!
//! Called by `vipd doctor --scan` and `vipd init`.

use super::clock;
use super::vrrp::{Delivery, VrrpSocket};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use vipd_core::types::{Family, IfIndex};

/// Longest datagram.
const DATAGRAM: usize = 65_536;

/// A VRRP message that somebody sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overheard {
    /// Position of the interface in what was asked for.
    pub interface: usize,
    /// Family of the adverts.
    pub family: Family,
    /// Who sent it.
    pub src: IpAddr,
    /// The message after the IP header, as it came; not validated.
    pub message: Vec<u8>,
}

/// What could not be listened to: position of the interface, family, reason.
pub type Deaf = (usize, Family, io::Error);

/// Listens on `interfaces` for `time` where that is possible, and tells `heard` of every message. Gives where it was not
/// possible; without `CAP_NET_RAW` that is everywhere (`PermissionDenied`).
pub fn listen(interfaces: &[&str], time: Duration, mut heard: impl FnMut(Overheard)) -> Vec<Deaf> {
    let mut deaf = Vec::new();
    let mut sockets = Vec::new();
    for (n, name) in interfaces.iter().enumerate() {
        for family in Family::ALL {
            match open(name, family) {
                Ok(socket) => sockets.push((n, family, socket)),
                Err(why) => deaf.push((n, family, why)),
            }
        }
    }
    let until = clock::monotonic() + time;
    let mut buffer = vec![0; DATAGRAM];
    while !sockets.is_empty() {
        let left = until.since(clock::monotonic());
        if left.is_zero() {
            break;
        }
        let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let fds = sockets.iter().map(|(.., socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> = fds.collect();
        match poll(&mut fds, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                deaf.extend(sockets.drain(..).map(|(n, family, _)| (n, family, errno.into())));
            }
        }
        sockets.retain_mut(|(n, family, socket)| {
            loop {
                match socket.recv(&mut buffer) {
                    Ok(None) => return true,
                    Ok(Some(datagram)) => heard(Overheard {
                        interface: *n,
                        family: *family,
                        src: datagram.src,
                        message: buffer.get(datagram.payload).unwrap_or_default().to_vec(),
                    }),
                    Err(why) => {
                        deaf.push((*n, *family, why));
                        return false;
                    }
                }
            }
        });
    }
    deaf
}

fn open(name: &str, family: Family) -> io::Result<VrrpSocket> {
    let missing = || io::Error::other(format!("{name} is not an interface of this machine"));
    let index = nix::net::if_::if_nametoindex(name).map_err(|_| missing())?;
    let index = IfIndex::new(index).ok_or_else(missing)?;
    // Both, so that groups of unicast peers are heard as well.
    VrrpSocket::open(name, index, family, Delivery { multicast: true, unicast: true })
}
