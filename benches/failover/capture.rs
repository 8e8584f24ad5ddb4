//! What is heard on the client's cable: adverts and gratuitous ARP, with the kernel's stamps.

use anyhow::Context as _;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::netns::Netns;
use vipd_core::time::Instant;
use vipd_core::types::Mac;

/// Everything from here (`ETH_P_ALL`).
const ALL: u16 = 3;
/// A burst of 5000 announcements, each with its bookkeeping in the kernel.
const BUFFER: usize = 64 << 20;

/// What a frame was.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// An IPv4 advert.
    Advert {
        /// Its sender.
        from: Ipv4Addr,
    },
    /// An announcement: ARP whose sender and target are the same address.
    Garp {
        /// Whose Ethernet address it names.
        mac: Mac,
        /// Which address.
        addr: Ipv4Addr,
    },
}

/// A frame.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Seen {
    /// When it arrived.
    pub(crate) at: Instant,
    /// What it was.
    pub(crate) what: What,
}

/// Listens until dropped.
#[derive(Debug)]
pub(crate) struct Capture {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins to listen on a machine.
    ///
    /// # Errors
    /// When it refuses a packet socket.
    pub(crate) fn start(ns: &Netns) -> anyhow::Result<Self> {
        let socket = ns.run(|| Ok(open()?)).context("cannot listen")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("bench-capture".into())
            .spawn(move || listen(&socket, &log, &stopped))?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What came at or after `from`.
    pub(crate) fn since(&self, from: Instant) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen[seen.partition_point(|s| s.at < from)..].to_vec()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

fn open() -> std::io::Result<Socket> {
    let socket =
        Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL.to_be()))))?;
    // ARP, or IPv4 with protocol 112; the client's own probes stay in the kernel.
    let (load16, load8, equal, give) = (0x28, 0x30, 0x15, 0x06);
    socket.attach_filter(&[
        SockFilter::new(load16, 0, 0, 12),
        SockFilter::new(equal, 3, 0, 0x0806),
        SockFilter::new(equal, 0, 3, 0x0800),
        SockFilter::new(load8, 0, 0, 23),
        SockFilter::new(equal, 0, 1, 112),
        SockFilter::new(give, 0, 0, 256),
        SockFilter::new(give, 0, 0, 0),
    ])?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket)
}

fn listen(socket: &Socket, seen: &Mutex<Vec<Seen>>, stop: &AtomicBool) {
    let behind = wall_minus_monotonic();
    let mut frame = [0_u8; 256];
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    while !stop.load(Ordering::Relaxed) {
        let mut iov = [IoSliceMut::new(&mut frame)];
        let fd = socket.as_raw_fd();
        let got = recvmsg::<SockaddrStorage>(fd, &mut iov, Some(&mut space), MsgFlags::empty());
        let Ok(got) = got else { continue };
        let length = got.bytes;
        let stamp = got.cmsgs().ok().and_then(|mut c| {
            c.find_map(|c| match c {
                ControlMessageOwned::ScmTimestampns(t) => {
                    u64::try_from(Duration::from(t).as_nanos()).ok()
                }
                _ => None,
            })
        });
        let at = stamp.map_or_else(now, |wall| Instant::from_nanos(wall.saturating_sub(behind)));
        if let Some(what) = read(&frame[..length]) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { at, what });
        }
    }
}

fn read(frame: &[u8]) -> Option<What> {
    let v4 =
        |at: usize| frame.get(at..at + 4)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    if frame.get(12..14)? == [0x08, 0x00] {
        return Some(What::Advert { from: v4(26)? });
    }
    let (sender, target) = (v4(28)?, v4(38)?);
    let mac = frame.get(22..28)?.first_chunk::<6>()?;
    (sender == target).then_some(What::Garp { mac: Mac(*mac), addr: sender })
}

/// How far the time of day is ahead of the room's clock, in nanoseconds, from the tightest of many looks.
fn wall_minus_monotonic() -> u64 {
    let look = || {
        let before = now();
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default();
        let width = now().since(before);
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(0);
        (width, wall.saturating_sub((before + width / 2).as_nanos()))
    };
    (0..1000).map(|_| look()).min().map_or(0, |(_, ahead)| ahead)
}
