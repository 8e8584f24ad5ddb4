//! Foreign eyes: which host has which address, from the address tables of the hosts' kernels.
//!
//! One thread for each host listens to its kernel's address events; all stamps are on one clock. What
//! the agents say about themselves is never asked. Judges "two owners" and "nobody".

use super::clock::now;
use super::netlink::{Rtnl, address_of, is_shut, messages};
use super::ownership::Ownership;
use super::topology::Topology;
use crate::sys::sched;
use anyhow::Context as _;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_core::time::Instant;

/// Multicast groups of rtnetlink: `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`.
const GROUPS: [u32; 3] = [1, 5, 9];
/// How long an eye sleeps when nothing happens, before it looks whether to close.
const IDLE_MS: u16 = 20;
/// Real-time priority of an eye.
const PRIORITY: u8 = 1;
/// An eye never computes for so long without a pause.
const BRAKE: Duration = Duration::from_secs(5);

/// Watches some addresses on every host of a room.
#[derive(Debug)]
pub struct Eyes {
    shared: Arc<Shared>,
    watches: Vec<Option<Watch>>,
}

/// Reads what the eyes see.
#[derive(Clone, Debug)]
pub struct Sight(Arc<Shared>);

impl Sight {
    /// What has been seen so far.
    #[must_use]
    pub fn seen(&self) -> Ownership {
        self.0.lock().clone()
    }
}

#[derive(Debug)]
struct Shared {
    watched: Vec<IpAddr>,
    seen: Mutex<Ownership>,
    changed: Condvar,
}

#[derive(Debug)]
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Eyes {
    /// Opens eyes on every host that is on.
    ///
    /// # Errors
    /// When a host's kernel refuses the socket.
    pub fn open(room: &Topology, watched: Vec<IpAddr>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            watched,
            seen: Mutex::new(Ownership::default()),
            changed: Condvar::new(),
        });
        let mut eyes = Self { shared, watches: Vec::new() };
        for ix in 0..room.hosts().len() {
            eyes.watches.push(None);
            if room.host(ix).is_on() {
                eyes.watch(room, ix)?;
            }
        }
        Ok(eyes)
    }

    /// Begins to watch a host that has been powered on.
    ///
    /// # Errors
    /// When the host is off or its kernel refuses the socket.
    pub fn watch(&mut self, room: &Topology, ix: usize) -> anyhow::Result<()> {
        let open = || -> anyhow::Result<(Socket, Rtnl)> {
            let mut events = Socket::new(NETLINK_ROUTE)?;
            events.bind(&SocketAddr::new(0, 0))?;
            for group in GROUPS {
                events.add_membership(group)?;
            }
            events.set_non_blocking(true)?;
            Ok((events, Rtnl::open()?))
        };
        let name = room.host(ix).name();
        let (events, dump) =
            room.host(ix).ns()?.run(open).with_context(|| format!("cannot watch {name}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name(format!("lab-eye-{name}"))
            .spawn(move || look(ix, &events, dump, &shared, &stopped))?;
        self.close(ix, now());
        self.watches[ix] = Some(Watch { stop, thread });
        Ok(())
    }

    /// A host lost its power at `at`: it has no address from then on, whatever its kernel still said.
    pub fn close(&mut self, ix: usize, at: Instant) {
        if let Some(watch) = self.watches[ix].take() {
            watch.stop.store(true, Ordering::Relaxed);
            // An eye that panicked has printed why.
            let _ = watch.thread.join();
            self.shared.lock().powered_off(ix, at);
            self.shared.changed.notify_all();
        }
    }

    /// Hosts that have `addr` now.
    #[must_use]
    pub fn holders(&self, addr: IpAddr) -> Vec<usize> {
        self.shared.lock().holders(addr)
    }

    /// What has been seen so far.
    #[must_use]
    pub fn seen(&self) -> Ownership {
        self.shared.lock().clone()
    }

    /// A handle for another thread that wants to read along.
    #[must_use]
    pub fn sight(&self) -> Sight {
        Sight(Arc::clone(&self.shared))
    }

    /// Waits until exactly `hosts` (sorted) have `addr`; when that was, or `None` after `bound`.
    #[must_use]
    pub fn wait_holders(&self, addr: IpAddr, hosts: &[usize], bound: Duration) -> Option<Instant> {
        self.wait(bound, |seen| seen.holders(addr) == hosts)
    }

    /// Waits until `wanted` is true of what is seen; when it was, or `None` after `bound`.
    pub fn wait<F>(&self, bound: Duration, wanted: F) -> Option<Instant>
    where
        F: Fn(&Ownership) -> bool,
    {
        let waited =
            self.shared.changed.wait_timeout_while(self.shared.lock(), bound, |seen| !wanted(seen));
        let (seen, result) = waited.unwrap_or_else(PoisonError::into_inner);
        (!result.timed_out() || wanted(&seen)).then(now)
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        for ix in 0..self.watches.len() {
            self.close(ix, now());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ownership> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<F: FnOnce(&mut Ownership)>(&self, change: F) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

fn look(ix: usize, events: &Socket, mut dump: Rtnl, shared: &Shared, stop: &AtomicBool) {
    // An event is stamped when this thread runs: before whatever merely computes, behind the agents that it judges.
    // Where that is refused, in a user namespace, a busy machine may make stamps late.
    let _ = sched::real_time(PRIORITY, BRAKE);
    // Subscribed before the first dump: nothing falls between them.
    let mut stale = true;
    // An address behind `protodown` is not had: FRR shuts a Backup's device instead of emptying it.
    let mut shut_links = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if stale && let (Ok(present), Ok(shut)) = (dump.addresses(), dump.shut_links()) {
            let at = now();
            shut_links = shut;
            let held =
                |link: &u32, a: &IpAddr| shared.watched.contains(a) && !shut_links.contains(link);
            let watched: Vec<_> = present.into_iter().filter(|(l, a)| held(l, a)).collect();
            shared.update(|seen| seen.resync(ix, &watched, at));
            stale = false;
        }
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, PollTimeout::from(IDLE_MS));
        let at = now();
        match events.recv_from_full() {
            Ok((datagram, _)) => {
                for message in messages(&datagram) {
                    let (message, there) = match message.payload {
                        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(m)) => {
                            (m, true)
                        }
                        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(m)) => {
                            (m, false)
                        }
                        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(m)) => {
                            let known = shut_links.contains(&m.header.index);
                            stale |= is_shut(&m).is_some_and(|shut| shut != known);
                            continue;
                        }
                        _ => continue,
                    };
                    let link = message.header.index;
                    let addr = address_of(&message).filter(|a| shared.watched.contains(a));
                    if let Some(addr) = addr.filter(|_| !there || !shut_links.contains(&link)) {
                        shared.update(|seen| seen.event(ix, link, addr, there, at));
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            // Events were lost (ENOBUFS): look at the whole table again.
            Err(_) => stale = true,
        }
    }
}
