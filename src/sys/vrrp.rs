//! The VRRP socket: IP protocol 112 on one interface in one family, in and out.
//!
//! Called by the protocol thread. It receives on the service interface itself, never on a macvlan:
//! joining the group there would send membership reports from the virtual MAC (protocol.md 4.3).
//! It judges nothing but the destination; TTL, version, VRID and checksum are the core's to count.

use super::clock::{self, Ages};
use super::{filter, packet};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, IfIndex, Mac};
use vipd_core::wire::ip;

/// IANA protocol number of VRRP.
const VRRP: i32 = 112;
/// DSCP CS6 in the TOS or traffic class octet, as keepalived and FRR send.
const CS6: u32 = 0xC0;

/// Which destinations reach the reader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The VRRP group: joins it.
    pub multicast: bool,
    /// Addresses of this host.
    pub unicast: bool,
}

/// A received VRRP datagram; the octets are in the caller's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// Where the VRRP message is in the buffer: after the IP header, without padding.
    pub payload: Range<usize>,
    /// Time since arrival in the kernel, clamped to what is possible.
    pub age: Duration,
}

/// Adverts of one interface and family. Readable ([`AsFd`]) when something waits.
#[derive(Debug)]
pub struct VrrpSocket {
    family: Family,
    index: IfIndex,
    rx: Socket,
    tx: Socket,
    frames: Socket,
    ages: Ages,
    /// When the last datagram that was read had arrived; `None`: the queue was found empty after it.
    last: Option<Instant>,
    ancillary: Vec<u8>,
}

impl VrrpSocket {
    /// Opens the sockets of `link`, whose kernel index is `index`.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_RAW`; `ENODEV` when the interface is gone. The text names
    /// the interface and the step.
    pub fn open(
        link: &str,
        index: IfIndex,
        family: Family,
        delivery: Delivery,
    ) -> io::Result<Self> {
        let at = |what: &'static str| move |e: io::Error| explain(link, what, &e);
        let rx = raw(family).map_err(at("open a raw socket for protocol 112"))?;
        // Between creation and binding a raw socket queues datagrams of every interface.
        rx.attach_filter(&filter::nothing()).map_err(at("attach a filter"))?;
        rx.bind_device(Some(link.as_bytes())).map_err(at("bind to the interface"))?;
        prepare_rx(&rx, index, family, delivery).map_err(at("join the VRRP group"))?;
        let ages = Ages::new();
        rx.attach_filter(&match family {
            Family::V4 => filter::vrrp_v4(delivery.multicast, delivery.unicast),
            Family::V6 => filter::vrrp_v6(delivery.multicast, delivery.unicast),
        })
        .map_err(at("attach a filter"))?;

        let tx = raw(family).map_err(at("open a raw socket for protocol 112"))?;
        tx.attach_filter(&filter::nothing()).map_err(at("attach a filter"))?;
        tx.bind_device(Some(link.as_bytes())).map_err(at("bind to the interface"))?;
        prepare_tx(&tx, index, family).map_err(at("set TTL 255"))?;
        let frames = super::frame::sender().map_err(at("open a packet socket"))?;
        Ok(Self { family, index, rx, tx, frames, ages, last: None, ancillary: packet::ancillary() })
    }

    /// The next datagram, into `buf`; `None` when none waits. A datagram longer than `buf` is cut.
    /// Malformed IP headers are skipped: the kernel has checked them before.
    ///
    /// # Errors
    /// `ENETDOWN` once after the interface went down; the socket remains usable.
    pub fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            let received =
                packet::receive(&self.rx, buf, &mut self.ancillary).inspect_err(|_| {
                    // Nothing can be read: nobody waits for what may lie behind it.
                    self.last = Some(clock::monotonic());
                })?;
            let Some(meta) = received else {
                self.ages.drained();
                self.last = None;
                return Ok(None);
            };
            let Some(src) = meta.src.map(|s| s.ip()) else { continue };
            let age = self.ages.of(meta.stamp);
            self.last = Some(clock::monotonic().before(age));
            let parsed = match self.family {
                Family::V4 => {
                    let octets = buf.get(..meta.len).unwrap_or_default();
                    v4_header(octets).map(|(dst, ttl, payload)| (dst.into(), ttl, payload))
                }
                Family::V6 => meta
                    .dst6
                    .zip(meta.hop_limit)
                    .map(|(dst, ttl)| (dst.into(), ttl, 0..meta.len.min(buf.len()))),
            };
            if let Some((dst, ttl, payload)) = parsed {
                return Ok(Some(Received { src, dst, ttl, payload, age }));
            }
        }
    }

    /// Every datagram that arrived before this was read.
    pub fn read_until(&self) -> Instant {
        self.last.unwrap_or_else(|| self.ages.empty_at())
    }

    /// Sends one advert from `src` with TTL 255 and CS6. The payload goes out as it is: its checksum
    /// is final.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` or `EINVAL` while `src` is tentative or not on this host, `ENETDOWN`,
    /// `ENETUNREACH`, `WouldBlock` when the device queue is full. None of them ends the socket.
    pub fn send(&self, src: IpAddr, dst: IpAddr, payload: &[u8]) -> io::Result<()> {
        let to = SockaddrStorage::from(packet::endpoint(dst, self.index.get()));
        let iov = [IoSlice::new(payload)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.tx.as_raw_fd();
        let sent = match src {
            IpAddr::V4(src) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: i32::try_from(self.index.get()).unwrap_or(0),
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(src.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                sendmsg(fd, &iov, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))
            }
            IpAddr::V6(src) => {
                let info = libc::in6_pktinfo {
                    ipi6_ifindex: self.index.get(),
                    ipi6_addr: libc::in6_addr { s6_addr: src.octets() },
                };
                sendmsg(fd, &iov, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))
            }
        }?;
        whole(sent, payload.len())
    }

    /// Sends one advert to the VRRP group with the virtual router MAC as Ethernet source, as a frame
    /// of the interface itself, so that no macvlan has to be up.
    ///
    /// # Errors
    /// `ENETDOWN`, `ENXIO` when the interface is gone; `InvalidInput` when `src` is of the other
    /// family or the payload exceeds an IP packet.
    pub fn send_from_mac(&self, mac: Mac, src: IpAddr, payload: &[u8]) -> io::Result<()> {
        let frame = advert_frame(mac, src, self.family, payload)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        super::frame::send(&self.frames, self.index, &frame)
    }

    /// The interface index that the socket is bound to.
    pub const fn index(&self) -> IfIndex {
        self.index
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rx.as_fd()
    }
}

fn raw(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(VRRP)))
}

fn prepare_rx(rx: &Socket, index: IfIndex, family: Family, delivery: Delivery) -> io::Result<()> {
    packet::widen(rx);
    packet::stamp(rx)?;
    match family {
        Family::V4 => {
            rx.set_multicast_all_v4(false)?;
            rx.set_multicast_loop_v4(false)?;
            if let (true, IpAddr::V4(group)) = (delivery.multicast, family.group()) {
                rx.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index.get()))?;
            }
        }
        Family::V6 => {
            // IPV6_CHECKSUM stays off: with it bad checksums vanish uncounted (protocol.md 4.2).
            rx.set_multicast_all_v6(false)?;
            rx.set_multicast_loop_v6(false)?;
            rx.set_recv_hoplimit_v6(true)?;
            nix::sys::socket::setsockopt(rx, nix::sys::socket::sockopt::Ipv6RecvPacketInfo, &true)?;
            if let (true, IpAddr::V6(group)) = (delivery.multicast, family.group()) {
                rx.join_multicast_v6(&group, index.get())?;
            }
        }
    }
    Ok(())
}

fn prepare_tx(tx: &Socket, index: IfIndex, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => {
            tx.set_multicast_ttl_v4(255)?;
            tx.set_ttl_v4(255)?;
            tx.set_multicast_loop_v4(false)?;
            tx.set_tos_v4(CS6)?;
        }
        Family::V6 => {
            tx.set_multicast_hops_v6(255)?;
            tx.set_unicast_hops_v6(255)?;
            tx.set_multicast_loop_v6(false)?;
            tx.set_multicast_if_v6(index.get())?;
            tx.set_tclass_v6(CS6)?;
        }
    }
    // Control traffic leaves before bulk data in the device queue (TC_PRIO_CONTROL).
    tx.set_priority(7).or(Ok(()))
}

/// Destination, TTL and payload of an IPv4 packet as a raw socket delivers it. One that claims to be
/// longer than it is has an empty payload, which the core counts as a length error.
fn v4_header(packet: &[u8]) -> Option<(Ipv4Addr, u8, Range<usize>)> {
    let view = match ip::ipv4(packet) {
        Ok(view) | Err(ip::Ipv4Error::Length(view)) => view,
        Err(_) => return None,
    };
    let start = usize::from(packet.first()? & 0x0f) * 4;
    Some((view.dst, view.ttl, start..start + view.payload.len()))
}

/// An advert to the group as an Ethernet frame from `mac`.
fn advert_frame(mac: Mac, src: IpAddr, family: Family, payload: &[u8]) -> Option<Vec<u8>> {
    let mut frame = Vec::with_capacity(54 + payload.len());
    match (src, family) {
        (IpAddr::V4(src), Family::V4) => {
            frame.extend([0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]);
            frame.extend(mac.0);
            frame.extend([0x08, 0x00]);
            let len = u16::try_from(payload.len()).ok()?;
            let group = Ipv4Addr::new(224, 0, 0, 18);
            frame.extend(ip::ipv4_header(src, group, len));
        }
        (IpAddr::V6(src), Family::V6) => {
            frame.extend([0x33, 0x33, 0x00, 0x00, 0x00, 0x12]);
            frame.extend(mac.0);
            frame.extend([0x86, 0xdd]);
            frame.extend([0x6c, 0, 0, 0]);
            frame.extend(u16::try_from(payload.len()).ok()?.to_be_bytes());
            frame.extend([112, 255]);
            frame.extend(src.octets());
            frame.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).octets());
        }
        _ => return None,
    }
    frame.extend(payload);
    Some(frame)
}

/// A datagram goes out whole or not at all.
fn whole(sent: usize, len: usize) -> io::Result<()> {
    if sent == len { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The error with the interface and the step in its text.
fn explain(link: &str, what: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{link}: cannot {what}: {e}"))
}
