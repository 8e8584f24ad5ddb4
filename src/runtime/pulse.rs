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
    interval: Duration,
    next: Instant,
}

impl Pulse {
    /// For the instances of `model`; says nothing yet.
    pub(super) fn new(watchdog: Watchdog, model: &Model) -> Self {
        Self { watchdog, interval: interval(model), next: Instant::ZERO }
    }

    /// Another configuration; the manager hears of another interval with the next ping.
    pub(super) fn reload(&mut self, model: &Model) {
        let interval = interval(model);
        if interval != self.interval {
            self.interval = interval;
            self.next = Instant::ZERO;
        }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// Pings when it is due. The first one also tells the interval: told earlier, it would run while the network is
    /// read, when nobody pings.
    pub(super) fn beat(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        if self.next == Instant::ZERO {
            self.watchdog
                .set_interval_us(u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX));
        }
        self.watchdog.ping();
        self.next = now + self.interval / 4;
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
