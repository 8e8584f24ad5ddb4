//! The watchdog ping to the service manager, sent by the main loop itself: what must live is the loop that takes roles,
//! answers barriers and reports. Never waits.
//!
//! The interval is told with the first ping: before it, what a crash left is finished, which may take long and is no hang.

use std::time::Duration;
use vipd_agent::sys::Watchdog;
use vipd_core::time::Instant;

/// A loop that is silent for so long hangs: it looks at itself every 50 ms. Long, because this process is behind
/// everything that serves, and a restart costs a transfer that is on its way.
const INTERVAL: Duration = Duration::from_secs(30);
/// Between two pings.
const BEAT: Duration = Duration::from_secs(5);

/// Pings often enough, where a service manager listens.
pub(super) struct Pulse {
    watchdog: Option<Watchdog>,
    /// `None`: the interval is not in force.
    next: Option<Instant>,
}

impl Pulse {
    /// Says nothing yet.
    pub(super) fn new() -> Self {
        let watchdog = std::env::var_os("NOTIFY_SOCKET").and_then(|socket| {
            let told = |error: &std::io::Error| tracing::warn!("no watchdog: {error}");
            Watchdog::open(&socket).inspect_err(told).ok()
        });
        Self { watchdog, next: None }
    }

    /// Pings when it is due.
    pub(super) fn beat(&mut self, now: Instant) {
        let Some(watchdog) = &self.watchdog else { return };
        match self.next {
            Some(next) if now < next => return,
            Some(_) => {}
            None => {
                watchdog.set_interval_us(u64::try_from(INTERVAL.as_micros()).unwrap_or(u64::MAX));
            }
        }
        watchdog.ping();
        self.next = Some(now + BEAT);
    }

    /// The loop is about to do something that may take long: no interval before the next ping.
    pub(super) fn pause(&mut self) {
        if let (Some(watchdog), Some(_)) = (&self.watchdog, self.next.take()) {
            watchdog.set_interval_us(0);
        }
    }
}
