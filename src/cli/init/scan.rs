//! Which VRIDs are used on an interface: listens for adverts, sends nothing.

use crate::sys::{Delivery, VrrpSocket, clock};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use vipd_core::time::Duration;
use vipd_core::types::{Family, IfIndex};

/// Longest frame.
const FRAME_MAX: usize = 65_536;

/// Who sent adverts, by VRID.
pub(super) type Heard = BTreeMap<u8, BTreeSet<IpAddr>>;

/// Listens on `interface` for `time`.
///
/// # Errors
/// In words: the interface is not there, or the right to listen is missing.
pub(super) fn listen(interface: &str, time: Duration) -> Result<Heard, String> {
    let index = nix::net::if_::if_nametoindex(interface)
        .map_err(|_| format!("{interface} is not an interface of this machine"))?;
    let index = IfIndex::new(index).ok_or_else(|| format!("{interface} has no index"))?;
    let delivery = Delivery { multicast: true, unicast: true };
    let open = |family| VrrpSocket::open(interface, index, family, delivery);
    let mut sockets: Vec<VrrpSocket> = Vec::new();
    for family in Family::ALL {
        match open(family) {
            Ok(socket) => sockets.push(socket),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err("no right to listen for protocol 112 (CAP_NET_RAW): run as root".into());
            }
            // A host without IPv6, or without IPv4 on that interface.
            Err(e) if sockets.is_empty() && family == Family::V6 => return Err(e.to_string()),
            Err(_) => {}
        }
    }
    let mut heard = Heard::new();
    let until = clock::monotonic() + time;
    let mut buffer = vec![0; FRAME_MAX];
    loop {
        let left = until.since(clock::monotonic());
        if left.is_zero() {
            return Ok(heard);
        }
        let mut wait: Vec<PollFd<'_>> =
            sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut wait, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(format!("cannot wait for adverts on {interface}: {e}")),
        }
        for socket in &mut sockets {
            while let Some(received) =
                socket.recv(&mut buffer).map_err(|e| format!("{interface}: {e}"))?
            {
                // Version and type, then the VRID (RFC 9568 section 5.1).
                if let Some([version, vrid, ..]) = buffer.get(received.payload)
                    && matches!(version, 0x21 | 0x31)
                {
                    heard.entry(*vrid).or_default().insert(received.src);
                }
            }
        }
    }
}
