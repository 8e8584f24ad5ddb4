//! What the receive paths share: one `recvmsg` with its ancillary data, options that no crate wraps.
//!
//! Called by the sockets of this room alone.

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sockopt};
use nix::sys::time::TimeSpec;
use socket2::Socket;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// Receive queue that survives a flood long enough for the drop counter to matter, octets.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What came with a datagram.
pub(super) struct Meta {
    pub(super) len: usize,
    pub(super) src: Option<SocketAddr>,
    pub(super) dst6: Option<Ipv6Addr>,
    pub(super) hop_limit: Option<u8>,
    /// Wall clock in nanoseconds.
    pub(super) stamp: Option<i128>,
}

/// Room for the ancillary data of one datagram.
pub(super) fn ancillary() -> Vec<u8> {
    cmsg_space!(TimeSpec, libc::in6_pktinfo, libc::in_pktinfo, libc::c_int)
}

/// One datagram, or `None` when the queue is empty.
pub(super) fn receive(
    socket: &impl AsFd,
    buf: &mut [u8],
    ancillary: &mut [u8],
) -> io::Result<Option<Meta>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut iov = [IoSliceMut::new(buf)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let msg = match recvmsg::<SockaddrStorage>(fd, &mut iov, Some(ancillary), flags) {
        Ok(msg) => msg,
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut meta = Meta {
        len: msg.bytes,
        src: msg.address.as_ref().and_then(std_address),
        dst6: None,
        hop_limit: None,
        stamp: None,
    };
    for c in msg.cmsgs()? {
        match c {
            ControlMessageOwned::ScmTimestampns(t) => {
                meta.stamp = Some(i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec()));
            }
            ControlMessageOwned::Ipv6PacketInfo(i) => {
                meta.dst6 = Some(Ipv6Addr::from(i.ipi6_addr.s6_addr));
            }
            ControlMessageOwned::Ipv6HopLimit(h) => meta.hop_limit = u8::try_from(h).ok(),
            _ => {}
        }
    }
    Ok(Some(meta))
}

/// The sender as the standard library has it.
fn std_address(a: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = a.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    a.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
}

/// A large receive queue: beyond the system's limit with `CAP_NET_ADMIN` in the first user
/// namespace, up to the limit without. Either is a normal result.
pub(super) fn widen(socket: &impl AsFd) {
    use nix::sys::socket::setsockopt;
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _up_to_the_limit = setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
}

/// Stamp datagrams on arrival.
pub(super) fn stamp(socket: &impl AsFd) -> io::Result<()> {
    Ok(nix::sys::socket::setsockopt(socket, sockopt::ReceiveTimestampns, &true)?)
}

/// A socket option that is an `int` and that neither nix nor socket2 has.
pub(super) fn set_int(
    socket: &Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the length of the call, and the pointer and length
    // describe one live `int` that the kernel only reads.
    let rc = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `addr` with port 0, and for a link-local IPv6 address the interface.
pub(super) fn endpoint(addr: IpAddr, scope: u32) -> SocketAddr {
    match addr {
        IpAddr::V4(a) => SocketAddrV4::new(a, 0).into(),
        IpAddr::V6(a) => SocketAddrV6::new(a, 0, 0, scope_of(&a, scope)).into(),
    }
}

fn scope_of(addr: &Ipv6Addr, scope: u32) -> u32 {
    if addr.is_unicast_link_local() || addr.is_multicast() { scope } else { 0 }
}
