//! Watching the kernel: links, addresses and default routes of the service interfaces.
//!
//! Called by the `main` thread, inside tokio. It opens one socket for events, with a bounded queue in
//! the kernel: an overrun is noticed and answered by reading everything anew, at most every 100 ms.
//! It decides nothing, and reports nothing of our own adds and renewals.

use super::address;
use super::claims::Claims;
use super::netlink::{Netlink, Refusal};
use super::route;
use super::table::Table;
use crate::sys::Readable;
use crate::sys::clock;
use crate::sys::netlink::messages;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{KernelAddr, LinkState};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, LinkIx};

/// `RTMGRP_*`: links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 0x40 | 0x400;
/// Event queue: some 20 000 renewals.
const QUEUE: usize = 8 << 20;
/// Not more often than this after overruns.
const REREAD: Duration = Duration::from_millis(100);
/// How often frame counters are read while an interface settles.
const LISTEN: Duration = Duration::from_millis(50);

/// What changed, one to one the engine's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorEvent {
    /// State of a service interface, whole.
    Link {
        /// Which one.
        link: LinkIx,
        /// Its state.
        state: LinkState,
    },
    /// Every address of a service interface and of our devices on it.
    Addresses {
        /// Which one.
        link: LinkIx,
        /// All of them.
        present: Vec<KernelAddr>,
    },
    /// A foreign address appeared or changed.
    AddressAdded {
        /// Where.
        link: LinkIx,
        /// What.
        addr: KernelAddr,
    },
    /// An address is gone, whoever removed it, by command or by the end of its lifetime.
    AddressRemoved {
        /// Where.
        link: LinkIx,
        /// What.
        addr: IpAddr,
    },
    /// The interface, which settles, received a frame since its carrier came up.
    FrameSeen(LinkIx),
}

/// Watches the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Monitor {
    events: Readable,
    requests: Netlink,
    table: Table,
    out: VecDeque<MonitorEvent>,
    buf: Vec<u8>,
    /// Everything is to be read anew, not before this instant.
    reread_at: Option<Instant>,
    listen_at: Instant,
    /// How often events were lost.
    overruns: u64,
}

impl Monitor {
    /// Subscribes, then reads everything: [`Monitor::next`] first gives the state of every link and its
    /// addresses. Inside a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When netlink is not there or the process is out of descriptors.
    pub fn open(model: &Model, claims: Arc<Claims>) -> io::Result<Self> {
        Self::with_queue(model, claims, QUEUE)
    }

    /// The same with an event queue of `queue` octets, for tests of overruns.
    ///
    /// # Errors
    /// As [`Monitor::open`].
    pub fn with_queue(model: &Model, claims: Arc<Claims>, queue: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &queue).is_err() {
            // Up to the system's limit; then an overrun is more likely, and handled.
            let _limited = setsockopt(&socket, sockopt::RcvBuf, &queue);
        }
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            events: Readable::new(&socket)?,
            requests: Netlink::open()?,
            table: Table::new(&model.links, claims),
            out: VecDeque::new(),
            buf: vec![0; 64 << 10],
            reread_at: Some(clock::monotonic()),
            listen_at: Instant::ZERO,
            overruns: 0,
        })
    }

    /// The next change. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the event socket is broken: open a new monitor.
    pub async fn next(&mut self) -> io::Result<MonitorEvent> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Ok(event);
            }
            let now = clock::monotonic();
            let settling = self.table.settling(clock::tick_centis());
            let listen_at = (!settling.is_empty()).then_some(self.listen_at);
            if self.reread_at.is_some_and(|at| at <= now) {
                self.reread(now)?;
                continue;
            }
            if listen_at.is_some_and(|at| at <= now) {
                self.listen(&settling)?;
                self.listen_at = now + LISTEN;
                continue;
            }
            let wake = self.reread_at.into_iter().chain(listen_at).min();
            let sleep = wake.map(|at| at - now);
            let buf = &mut self.buf;
            let read = self.events.read(|fd| {
                recv(fd.as_raw_fd(), buf, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
            });
            let got = tokio::select! {
                got = read => got,
                () = wait(sleep) => continue,
            };
            match got {
                Ok(n) => {
                    self.take(n);
                    if self.table.routes_in_doubt() {
                        self.reread_soon();
                    }
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.overruns += 1;
                    self.reread_soon();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Reads everything anew, and reports the addresses of every link: for an engine in doubt.
    pub fn refresh(&mut self) {
        self.reread_at = Some(clock::monotonic());
    }

    /// Follow the interfaces of a new configuration; all states are reported again.
    pub fn reload(&mut self, model: &Model) {
        self.table.watch(&model.links);
        // What waits is numbered by the old one; the state that is read now tells it all.
        self.out.clear();
        self.refresh();
    }

    /// How often events were lost and everything was read anew, for metrics.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Reads everything anew, not at once: more may be lost or in doubt by then.
    fn reread_soon(&mut self) {
        self.reread_at.get_or_insert_with(|| clock::monotonic() + REREAD);
    }

    /// The events of one datagram.
    fn take(&mut self, len: usize) {
        let now = clock::tick_centis();
        for (_, payload) in messages(self.buf.get(..len).unwrap_or_default()) {
            if let NetlinkPayload::InnerMessage(m) = payload {
                self.table.apply(m, now, &mut self.out);
            }
        }
    }

    fn reread(&mut self, now: Instant) -> io::Result<()> {
        let mut all = Vec::new();
        let requests = [
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            address::dump_request(0),
            route::dump_request(Family::V4),
            route::dump_request(Family::V6),
        ];
        for request in &requests {
            match self.requests.dump(request) {
                Ok(found) => all.extend(found),
                // A host without IPv6 has none of its routes.
                Err(e) if matches!(e.errno, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => {}
                // Changed while it was read, or memory is short: once more, later.
                Err(_) => {
                    self.reread_at = Some(now + REREAD);
                    return Ok(());
                }
            }
        }
        self.reread_at = None;
        self.table.replace(all, clock::tick_centis(), &mut self.out);
        Ok(())
    }

    /// Reads the frame counters of settling interfaces.
    fn listen(&mut self, settling: &[u32]) -> io::Result<()> {
        let mut found = Vec::new();
        for index in settling {
            let mut m = LinkMessage::default();
            m.header.index = *index;
            match self.requests.get(&RouteNetlinkMessage::GetLink(m)) {
                Ok(answer) => found.extend(answer),
                // Its end comes as an event.
                Err(Refusal { errno: Errno::ENODEV, .. }) => {}
                Err(e) => return Err(io::Error::from_raw_os_error(e.errno as i32)),
            }
        }
        self.table.hear(found, clock::tick_centis(), &mut self.out);
        Ok(())
    }
}

/// Sleeps, or for ever.
async fn wait(sleep: Option<Duration>) {
    match sleep {
        Some(d) => tokio::time::sleep(d).await,
        None => std::future::pending().await,
    }
}
