//! The watchdog ping to the service manager, sent by the protocol thread itself (DESIGN 5.7): what must live is
//! the loop, and a blocked log must not kill a healthy owner.

use crate::sys::Watchdog;
use vipd_core::config::model::Model;
use vipd_core::time::{Duration, Instant};

/// A killed agent must be back before its lease ends: this is left for kill, exec and adoption.
const MARGIN: Duration = Duration::from_millis(800);
/// Below that a busy machine would kill healthy agents.
const SHORTEST: Duration = Duration::from_millis(500);

/// Pings often enough; never waits.
#[derive(Debug)]
pub(super) struct Pulse {
    watchdog: Watchdog,
    every: Duration,
    next: Instant,
}

impl Pulse {
    /// Tells the service manager the interval and starts with a ping at once.
    pub(super) fn start(watchdog: Watchdog, model: &Model) -> Self {
        let interval = interval(model);
        watchdog.set_interval_us(u64::try_from(interval.as_micros()).unwrap_or(u64::MAX));
        Self { watchdog, every: interval / 4, next: Instant::ZERO }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// Pings when it is due.
    pub(super) fn beat(&mut self, now: Instant) {
        if now >= self.next {
            self.watchdog.ping();
            self.next = now + self.every;
        }
    }
}

/// Lease - 0.8 s, at least 0.5 s, of the instance that needs it soonest; without a lease the time after which
/// peers take over stands in for it.
fn interval(model: &Model) -> Duration {
    let lease = |instance: &vipd_core::config::model::Instance| {
        instance.lease_secs(instance.interval).map_or_else(
            || instance.interval.duration() * 3,
            |secs| Duration::from_secs(secs.into()),
        )
    };
    let shortest = model.instances.iter().map(lease).min().unwrap_or(Duration::from_secs(10));
    shortest.saturating_sub(MARGIN).max(SHORTEST)
}
