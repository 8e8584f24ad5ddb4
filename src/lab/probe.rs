//! The client's view: an ICMP echo each millisecond, who answered it, and what was lost.
//!
//! Two threads in the client's network: one sends on an absolute grid, one receives through a packet
//! socket, so that the Ethernet source tells which host answered. A prober that is itself late never
//! counts as an outage: only probes that left can be lost, and its lateness is reported.

use super::clock::{now, sleep_until};
use super::echo;
use super::netns::Netns;
use super::outage::{Answer, Outage, Probe};
use anyhow::Context as _;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_core::time::Instant;
use vipd_core::types::Mac;

/// Time between two probes.
pub const PERIOD: Duration = Duration::from_millis(1);
/// An answer that comes later than this is none.
pub const DEADLINE: Duration = Duration::from_millis(200);
/// How long the receiver sleeps when nothing comes, before it looks whether to stop.
const IDLE: Duration = Duration::from_millis(50);

/// Probes one address until dropped.
#[derive(Debug)]
pub struct Prober {
    target: IpAddr,
    probes: Arc<Mutex<Vec<Probe>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Prober {
    /// Begins to probe `target` from the machine `client`. `ident` tells probers of one client apart.
    ///
    /// # Errors
    /// When the client cannot open raw and packet sockets.
    pub fn start(client: &Netns, target: IpAddr, ident: u16) -> anyhow::Result<Self> {
        let (tx, rx) = client.run(move || sockets(target)).context("cannot open probe sockets")?;
        let probes = Arc::new(Mutex::new(Vec::with_capacity(1 << 16)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut prober = Self { target, probes, stop, threads: Vec::new() };
        let (probes, stop) = (Arc::clone(&prober.probes), Arc::clone(&prober.stop));
        let receiver = std::thread::Builder::new().name("lab-probe-rx".into());
        prober.threads.push(receiver.spawn(move || receive(&rx, target, ident, &probes, &stop))?);
        let (probes, stop) = (Arc::clone(&prober.probes), Arc::clone(&prober.stop));
        let sender = std::thread::Builder::new().name("lab-probe-tx".into());
        prober.threads.push(sender.spawn(move || send(&tx, target, ident, &probes, &stop))?);
        Ok(prober)
    }

    /// The probed address.
    #[must_use]
    pub const fn target(&self) -> IpAddr {
        self.target
    }

    /// What the client saw of the probes sent in `from..to`; waits until the last had its time.
    #[must_use]
    pub fn outage(&self, from: Instant, to: Instant) -> Outage {
        sleep_until(to + DEADLINE + IDLE);
        let probes = lock(&self.probes);
        let begin = probes.partition_point(|p| p.sent < from);
        let end = probes.partition_point(|p| p.sent < to);
        Outage::of(&probes[begin..end])
    }

    /// A handle for another thread that wants to read along.
    #[must_use]
    pub fn log(&self) -> ProbeLog {
        ProbeLog { target: self.target, probes: Arc::clone(&self.probes) }
    }

    /// The newest answered probe and who answered it.
    #[must_use]
    pub fn last_answer(&self) -> Option<(Instant, Mac)> {
        let probes = lock(&self.probes);
        probes.iter().rev().find_map(|p| p.answer.map(|a| (p.sent, a.mac)))
    }

    /// Waits for an answer to a probe that is sent from now on; false after `bound` without.
    #[must_use]
    pub fn wait_answer(&self, bound: Duration) -> bool {
        let start = now();
        while now() < start + bound {
            if self.last_answer().is_some_and(|(sent, _)| sent >= start) {
                return true;
            }
            sleep_until(now() + PERIOD);
        }
        false
    }
}

/// Reads what a prober found.
#[derive(Clone, Debug)]
pub struct ProbeLog {
    target: IpAddr,
    probes: Arc<Mutex<Vec<Probe>>>,
}

impl ProbeLog {
    /// The probed address.
    #[must_use]
    pub const fn target(&self) -> IpAddr {
        self.target
    }

    /// Probes from position `first` on that were sent before `to`.
    #[must_use]
    pub fn read(&self, first: usize, to: Instant) -> Vec<Probe> {
        let probes = lock(&self.probes);
        let end = probes.partition_point(|p| p.sent < to).max(first);
        probes.get(first..end).unwrap_or_default().to_vec()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed why; its probes are then missing from the report.
            let _ = thread.join();
        }
    }
}

/// A poisoned log is still a log: its writer pushes whole entries.
fn lock(probes: &Mutex<Vec<Probe>>) -> MutexGuard<'_, Vec<Probe>> {
    probes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sending ICMP socket and the receiving packet socket of the calling thread's network.
fn sockets(target: IpAddr) -> anyhow::Result<(Socket, Socket)> {
    let (tx, ethertype) = match target {
        IpAddr::V4(_) => {
            (Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?, echo::ETHERTYPE_V4)
        }
        IpAddr::V6(_) => {
            (Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?, echo::ETHERTYPE_V6)
        }
    };
    // Answers are read from the packet socket; the copies that this one gets may drop.
    tx.set_recv_buffer_size(0)?;
    tx.set_nonblocking(true)?;
    let protocol = Protocol::from(i32::from(ethertype.to_be()));
    let rx = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    rx.set_recv_buffer_size(8 << 20)?;
    // Refused in a user namespace; there the kernel's limit, about 0.3 s of answers, has to do.
    let _ = setsockopt(&rx, sockopt::RcvBufForce, &(8 << 20));
    rx.set_read_timeout(Some(IDLE))?;
    setsockopt(&rx, sockopt::ReceiveTimestampns, &true)?;
    Ok((tx, rx))
}

fn send(tx: &Socket, to: IpAddr, ident: u16, probes: &Mutex<Vec<Probe>>, stop: &AtomicBool) {
    let to = SocketAddr::new(to, 0).into();
    let mut due = now() + PERIOD;
    let mut seq = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        sleep_until(due);
        let packet = echo::request(to_ip(&to), ident, seq);
        // The entry exists before the packet does, because the answer may overtake this thread.
        let sent = now();
        lock(probes).push(Probe { sent, late: sent.since(due), answer: None, copies: 0 });
        seq += 1;
        // A probe that the kernel refuses (no neighbour) is a probe without an answer.
        let _ = tx.send_to(&packet, &to);
        due += PERIOD;
        // Slots that a stalled prober missed are skipped, not sent in a burst.
        while due + PERIOD < now() {
            due += PERIOD;
        }
    }
}

fn to_ip(addr: &socket2::SockAddr) -> Option<IpAddr> {
    addr.as_socket().map(|a| a.ip())
}

fn receive(rx: &Socket, from: IpAddr, ident: u16, probes: &Mutex<Vec<Probe>>, stop: &AtomicBool) {
    let mut frame = [0_u8; 2048];
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    while !stop.load(Ordering::Relaxed) {
        let mut iov = [IoSliceMut::new(&mut frame)];
        let got = recvmsg::<SockaddrStorage>(
            rx.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::empty(),
        );
        let Ok(got) = got else { continue };
        let length = got.bytes;
        let stamp = got.cmsgs().ok().and_then(|mut c| {
            c.find_map(|c| match c {
                ControlMessageOwned::ScmTimestampns(t) => Some(t),
                _ => None,
            })
        });
        let at = arrival(stamp);
        let Some((mac, seq)) = echo::reply(&frame[..length], from, ident) else { continue };
        let Ok(ix) = usize::try_from(seq) else { continue };
        if let Some(probe) = lock(probes).get_mut(ix) {
            let round_trip = at.since(probe.sent);
            if round_trip <= DEADLINE {
                probe.copies = probe.copies.saturating_add(1);
                probe.answer.get_or_insert(Answer { mac, round_trip });
            }
        }
    }
}

/// When a frame arrived, from the kernel's stamp (time of day), as an age: a receiver that the scheduler
/// held back must not make answers late.
fn arrival(stamp: Option<nix::sys::time::TimeSpec>) -> Instant {
    let age = stamp.zip(clock_gettime(ClockId::CLOCK_REALTIME).ok()).map(|(stamp, wall)| {
        let age = Duration::from(wall).saturating_sub(Duration::from(stamp));
        // The clock may have been set in between; no frame waits longer than this.
        if age > Duration::from_secs(5) { Duration::ZERO } else { age }
    });
    now().before(age.unwrap_or_default())
}
