//! Which addresses a host's kernel begins to answer for, and when: its local routes.
//!
//! An address and a route of type `local` both become one, so that both ways to claim are judged by the
//! same events.

use anyhow::Context as _;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteType};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::netns::Netns;
use vipd_core::time::Instant;

/// `RTNLGRP_IPV4_ROUTE`.
const ROUTES: u32 = 7;
/// 5000 events and their bookkeeping.
const BUFFER: usize = 64 << 20;

/// Datagrams with the time at which they were read.
type Heard = Mutex<Vec<(Instant, Vec<u8>)>>;

/// Listens until dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    heard: Arc<Heard>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to listen on a host.
    ///
    /// # Errors
    /// When its kernel refuses the socket.
    pub(crate) fn start(ns: &Netns) -> anyhow::Result<Self> {
        let open = || -> anyhow::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(ROUTES)?;
            socket.set_non_blocking(true)?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
            Ok(socket)
        };
        let socket = ns.run(open).context("cannot watch routes")?;
        let heard = Arc::new(Heard::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("bench-watch".into())
            .spawn(move || listen(&socket, &log, &stopped))?;
        Ok(Self { heard, stop, thread: Some(thread) })
    }

    /// New local routes since `from`: when, first address, how many addresses.
    pub(crate) fn served(&self, from: Instant) -> Vec<(Instant, Ipv4Addr, usize)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let late = heard.iter().filter(|(at, _)| *at >= from);
        late.filter_map(|(at, datagram)| local_route(datagram).map(|(ip, n)| (*at, ip, n)))
            .collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

fn listen(socket: &Socket, heard: &Heard, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, PollTimeout::from(50_u16));
        while let Ok((datagram, _)) = socket.recv_from_full() {
            let at = now();
            heard.lock().unwrap_or_else(PoisonError::into_inner).push((at, datagram));
        }
    }
}

fn local_route(datagram: &[u8]) -> Option<(Ipv4Addr, usize)> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram).ok()?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) = message.payload else {
        return None;
    };
    if route.header.kind != RouteType::Local {
        return None;
    }
    let covered = 1_usize << 32_u8.checked_sub(route.header.destination_prefix_length)?;
    route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some((*ip, covered)),
        _ => None,
    })
}
