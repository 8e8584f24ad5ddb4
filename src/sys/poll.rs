//! Waiting: epoll, one absolute timer, and a bell that other threads ring.
//!
//! Called by the protocol thread alone (the [`Waker`] by everybody else).

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use vipd_core::time::Instant;

/// How many ready descriptors one wait reports; the rest are reported by the next.
const BATCH: usize = 64;

/// A level-triggered epoll set: a descriptor is reported until it has been drained.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    ready: Vec<EpollEvent>,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, ready: vec![EpollEvent::empty(); BATCH] })
    }

    /// Report `token` whenever `fd` is readable or broken. A closed descriptor leaves by itself.
    ///
    /// # Errors
    /// When `fd` is in the set already.
    pub fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// From now on report `token` for `fd`.
    ///
    /// # Errors
    /// When `fd` is not in the set.
    pub fn rename(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN, token);
        Ok(self.epoll.modify(fd, &mut event)?)
    }

    /// Stop reporting `fd`.
    ///
    /// # Errors
    /// When `fd` is not in the set.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    /// Sleep until something is readable, then the tokens, at most 64 of them. An interruption by a
    /// signal gives none.
    ///
    /// # Errors
    /// None that a correct program meets.
    pub fn wait(&mut self) -> io::Result<impl Iterator<Item = u64> + '_> {
        self.poll(EpollTimeout::NONE)
    }

    /// The tokens of what is readable now, at most 64 of them, without sleeping.
    ///
    /// # Errors
    /// None that a correct program meets.
    pub fn ready(&mut self) -> io::Result<impl Iterator<Item = u64> + '_> {
        self.poll(EpollTimeout::ZERO)
    }

    fn poll(&mut self, timeout: EpollTimeout) -> io::Result<impl Iterator<Item = u64> + '_> {
        let n = match self.epoll.wait(&mut self.ready, timeout) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        Ok(self.ready.iter().take(n).map(EpollEvent::data))
    }
}

/// A timer on the monotonic clock, armed to an absolute instant, so that lateness never adds up.
#[derive(Debug)]
pub struct DeadlineTimer {
    timer: TimerFd,
}

impl DeadlineTimer {
    /// A disarmed timer.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)? })
    }

    /// Become readable at `at`, at once when it has passed; `None` or [`Instant::MAX`]: never.
    ///
    /// # Errors
    /// None that a correct program meets.
    pub fn arm(&self, at: Option<Instant>) -> io::Result<()> {
        let Some(at) = at.filter(|at| *at != Instant::MAX) else {
            return Ok(self.timer.unset()?);
        };
        // All zero would disarm.
        let nanos = at.as_nanos().max(1);
        let spec = TimeSpec::new(
            i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
        );
        Ok(self.timer.set(Expiration::OneShot(spec), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// Make it unreadable after it fired; nothing when it has not.
    pub fn clear(&self) {
        // WouldBlock is the only failure, and means what is wanted.
        let _not_fired = self.timer.wait();
    }
}

impl AsFd for DeadlineTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// A bell: any thread rings, the poller of one thread wakes.
#[derive(Debug)]
pub struct Waker {
    event: EventFd,
}

impl Waker {
    /// A silent bell.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self { event: EventFd::from_value_and_flags(0, flags)? })
    }

    /// Wake the poller; any number of rings before it looks are one.
    pub fn ring(&self) {
        // Fails only when the counter is full, that is, when it rings already.
        let _full = self.event.write(1);
    }

    /// Silence it, before looking at what was handed over.
    pub fn clear(&self) {
        // WouldBlock is the only failure, and means what is wanted.
        let _silent = self.event.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::sys::clock;
    use vipd_core::time::Duration;

    #[test]
    fn a_timer_fires_at_its_instant_and_a_bell_wakes() {
        let mut poller = Poller::new().unwrap();
        let timer = DeadlineTimer::new().unwrap();
        let bell = Waker::new().unwrap();
        poller.add(&timer, 1).unwrap();
        poller.add(&bell, 2).unwrap();
        let at = clock::monotonic() + Duration::from_millis(5);
        timer.arm(Some(at)).unwrap();
        assert_eq!(poller.wait().unwrap().collect::<Vec<_>>(), [1]);
        assert!(clock::monotonic() >= at);
        timer.clear();
        bell.ring();
        bell.ring();
        assert_eq!(poller.wait().unwrap().collect::<Vec<_>>(), [2]);
        bell.clear();
        timer.arm(Some(Instant::ZERO)).unwrap();
        assert_eq!(poller.wait().unwrap().collect::<Vec<_>>(), [1]);
    }
}
