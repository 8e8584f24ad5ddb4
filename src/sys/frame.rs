//! Ethernet frames on one interface: ARP or neighbour advertisements in, any frame out.
//!
//! Called by the protocol thread: announcements and probes go out here, answers and conflicts come in. The gateway
//! checks of the `main` thread have sockets of their own.

use super::{filter, packet};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use vipd_core::types::{Family, IfIndex};

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// `PACKET_IGNORE_OUTGOING` (Linux 4.20).
const IGNORE_OUTGOING: libc::c_int = 23;

/// Neighbour traffic of one interface: ARP for IPv4, neighbour advertisements for IPv6. Frames of
/// this host and of VLANs above the interface are not delivered. Readable ([`AsFd`]) when one waits.
#[derive(Debug)]
pub struct FrameSocket {
    socket: Socket,
    index: IfIndex,
}

impl FrameSocket {
    /// Opens the packet socket of the interface with this index.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_RAW`, `ENODEV` when there is no such interface.
    pub fn open(index: IfIndex, family: Family) -> io::Result<Self> {
        // Protocol 0 receives nothing: no frame slips in between creation and binding.
        let socket = sender()?;
        packet::set_int(&socket, libc::SOL_PACKET, IGNORE_OUTGOING, 1)?;
        let protocol = match family {
            Family::V4 => ETH_P_ARP,
            Family::V6 => {
                socket.attach_filter(&filter::neighbour_advertisement())?;
                ETH_P_IPV6
            }
        };
        socket.bind(&link_layer(index, protocol))?;
        Ok(Self { socket, index })
    }

    /// From now on only ARP replies from `addr`, or advertisements of it, are delivered: on a busy segment
    /// nothing else wakes the owner of the socket.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn hear_only(&self, addr: IpAddr) -> io::Result<()> {
        self.socket.attach_filter(&filter::answer_of(addr))
    }

    /// The next frame, from the Ethernet header on; `None` when none waits. A longer frame is cut.
    ///
    /// # Errors
    /// `ENETDOWN` once after the interface went down; the socket remains usable.
    pub fn recv_frame<'b>(&mut self, buf: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let mut none = [0u8; 0];
        let Some(meta) = packet::receive(&self.socket, buf, &mut none)? else { return Ok(None) };
        Ok(buf.get(..meta.len))
    }

    /// Sends a whole Ethernet frame.
    ///
    /// # Errors
    /// `ENETDOWN`, `ENXIO` when the interface is gone, `ENOBUFS` or `WouldBlock` when its queue is full.
    pub fn send_frame(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.socket, self.index, frame)
    }

    /// The interface index that the socket is bound to.
    pub const fn index(&self) -> IfIndex {
        self.index
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A packet socket that receives nothing.
pub(super) fn sender() -> io::Result<Socket> {
    Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None::<Protocol>)
}

/// Sends `frame` by the interface `index`.
pub(super) fn send(socket: &Socket, index: IfIndex, frame: &[u8]) -> io::Result<()> {
    let sent = socket.send_to(frame, &link_layer(index, 0))?;
    if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// `sockaddr_ll` of an interface.
fn link_layer(index: IfIndex, protocol: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the address structures that `sockaddr_storage` is made to
    // hold, and every bit pattern of its integer fields, the zeroed storage included, is valid.
    let ll = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    ll.sll_family = libc::AF_PACKET as libc::sa_family_t;
    ll.sll_protocol = protocol.to_be();
    ll.sll_ifindex = i32::try_from(index.get()).unwrap_or(0);
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage holds an initialised `sockaddr_ll` of exactly this length.
    unsafe { SockAddr::new(storage, len) }
}
