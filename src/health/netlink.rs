//! Asking the kernel, and hearing of what changes: rtnetlink for the checks of links, addresses and routes.
//!
//! Requests block and are made aside. Events come by one socket for all checks, on `main`, and only wake those that
//! they may concern.

use super::net::is_route_to;
use crate::sys::Readable;
use crate::sys::netlink::messages;
use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::LinkAttribute;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A kernel that takes longer than this for a part of an answer gives none.
const PATIENCE_SECS: i64 = 2;
/// The largest datagram of a dump.
const DATAGRAM: usize = 64 << 10;
/// `RTMGRP_*`: links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const LINKS: u32 = 0x1;
const ADDRESSES: u32 = 0x10 | 0x100;
const ROUTES: u32 = 0x40 | 0x400;
/// After the event socket failed, until another one is opened.
const REOPEN: Duration = Duration::from_secs(1);

/// Asks for one object. Blocks.
pub(super) fn ask(
    message: RouteNetlinkMessage,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    exchange(message, 0, |m| {
        each(m);
        ControlFlow::Break(())
    })
}

/// Asks for all objects, or until `each` has enough. Blocks.
pub(super) fn dump(
    message: RouteNetlinkMessage,
    each: impl FnMut(RouteNetlinkMessage) -> ControlFlow<()>,
) -> io::Result<()> {
    exchange(message, NLM_F_DUMP, each)
}

/// On a socket of its own, so that nothing of an answer that was not read to its end is taken for the next one.
fn exchange(
    message: RouteNetlinkMessage,
    flags: u16,
    mut each: impl FnMut(RouteNetlinkMessage) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECS))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    request.finalize();
    let mut octets = vec![0; request.buffer_len()];
    request.serialize(&mut octets);
    socket.send(&octets, 0)?;
    let mut buf = vec![0; DATAGRAM];
    loop {
        let len = match recv(socket.as_raw_fd(), &mut buf, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            got => got?,
        };
        for (_, payload) in messages(buf.get(..len).unwrap_or_default()) {
            let flow = match payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(e) => match e.code {
                    Some(code) => return Err(io::Error::from_raw_os_error(code.get().abs())),
                    None => return Ok(()),
                },
                NetlinkPayload::InnerMessage(m) => each(m),
                _ => ControlFlow::Continue(()),
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }
}

/// What a check wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// An interface, and every slave of a bond, whose master an event names by index alone.
    Link(Arc<str>),
    /// An address.
    Address(IpAddr),
    /// A route.
    Route(IpNet),
}

/// Who is to be woken by what.
#[derive(Debug, Default)]
pub(super) struct Events {
    listeners: Vec<(Topic, Arc<Notify>)>,
}

impl Events {
    /// What wakes a check that looks at `topic`.
    pub(super) fn listen(&mut self, topic: Topic) -> Arc<Notify> {
        let wake = Arc::new(Notify::new());
        self.listeners.push((topic, Arc::clone(&wake)));
        wake
    }

    /// Is there anybody to wake?
    pub(super) fn is_needed(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Wakes the checks, for ever. Where the kernel gives no socket, their interval remains.
    pub(super) async fn run(self) {
        loop {
            if let Ok((socket, readable)) = self.open() {
                // What happened while nobody listened.
                self.wake(|_| true);
                self.follow(&socket, &readable).await;
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    fn open(&self) -> io::Result<(Socket, Readable)> {
        let groups = self.listeners.iter().fold(0, |groups, (topic, _)| {
            groups
                | match topic {
                    Topic::Link(_) => LINKS,
                    Topic::Address(_) => LINKS | ADDRESSES,
                    Topic::Route(_) => LINKS | ADDRESSES | ROUTES,
                }
        });
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        socket.set_non_blocking(true)?;
        let readable = Readable::new(&socket)?;
        Ok((socket, readable))
    }

    /// Until the socket breaks.
    async fn follow(&self, socket: &Socket, readable: &Readable) {
        let mut buf = vec![0; DATAGRAM];
        loop {
            let read = readable
                .read(|_| Ok(recv(socket.as_raw_fd(), &mut buf, MsgFlags::MSG_DONTWAIT)?))
                .await;
            match read {
                Ok(len) => {
                    for (_, payload) in messages(buf.get(..len).unwrap_or_default()) {
                        if let NetlinkPayload::InnerMessage(m) = payload {
                            self.wake(|topic| concerns(&m, topic));
                        }
                    }
                }
                // Events were lost: any check may be concerned.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => self.wake(|_| true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn wake(&self, concerned: impl Fn(&Topic) -> bool) {
        for (_, wake) in self.listeners.iter().filter(|(topic, _)| concerned(topic)) {
            wake.notify_one();
        }
    }
}

fn concerns(m: &RouteNetlinkMessage, topic: &Topic) -> bool {
    match (m, topic) {
        (RouteNetlinkMessage::NewLink(l) | RouteNetlinkMessage::DelLink(l), Topic::Link(name)) => {
            l.attributes.iter().any(|a| match a {
                LinkAttribute::IfName(n) => **n == **name,
                // A slave of some bond, perhaps of this one.
                LinkAttribute::Controller(_) => true,
                _ => false,
            })
        }
        (
            RouteNetlinkMessage::NewAddress(a) | RouteNetlinkMessage::DelAddress(a),
            Topic::Address(addr),
        ) => address(a) == Some(*addr),
        // IPv4 routes, the local ones that addresses live by among them, go without a word with their interface, and
        // with the address that is their source.
        (
            RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_),
            Topic::Address(_) | Topic::Route(_),
        )
        | (RouteNetlinkMessage::DelAddress(_), Topic::Route(_)) => true,
        (RouteNetlinkMessage::NewRoute(r) | RouteNetlinkMessage::DelRoute(r), Topic::Route(to)) => {
            is_route_to(r, *to)
        }
        _ => false,
    }
}

fn address(m: &AddressMessage) -> Option<IpAddr> {
    let of = |local: bool| {
        m.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(a) if local => Some(*a),
            AddressAttribute::Address(a) if !local => Some(*a),
            _ => None,
        })
    };
    of(true).or_else(|| of(false))
}
