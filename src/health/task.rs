//! One check: when it runs, how long it may take, what is reported.
//!
//! A task of the `main` thread per check. One run at a time, from start to start on a monotonic grid, so that a step
//! of the wall clock means nothing; a start that a long run covered is left out. It never judges a reading.

use super::outcome::{Outcome, span};
use crate::sys::clock;
use std::future::{Future, pending};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use vipd_core::config::model::Check;
use vipd_core::engine::io::{Reading, Verdict};
use vipd_core::time::Duration;
use vipd_core::types::CheckIx;

/// Between two runs that the kernel's events ask for.
const QUIET: Duration = Duration::from_millis(50);

/// Something that can be measured again and again.
pub(super) trait Measure: Send + 'static {
    /// What a run is that takes too long: a service that does not answer in time fails; what only this host
    /// would have to say, and does not, is unknown.
    const LATE: Verdict;

    /// One measurement. Dropped when it takes too long.
    fn run(&mut self) -> impl Future<Output = Outcome> + Send;

    /// Returns when something may have changed since the last run. Cancelling it loses nothing.
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// How long a run may take, for a check with this timeout.
    fn patience(&self, timeout: Duration) -> Duration {
        timeout
    }
}

/// Runs the check until it is dropped; the first time after `first`.
///
/// A run that an event asked for is reported only if its verdict is another one: a burst of events must not count as
/// that many readings in a row.
pub(super) async fn watch(
    ix: CheckIx,
    check: Check,
    first: Duration,
    mut measure: impl Measure,
    report: impl Fn(CheckIx, Reading),
) {
    let mut grid = interval_at(Instant::now() + first, check.interval.max(QUIET));
    grid.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = None;
    let mut quiet_until = Instant::now();
    loop {
        let event = tokio::select! {
            biased;
            _ = grid.tick() => false,
            () = changed(&mut measure, quiet_until), if last.is_some() => true,
        };
        let reading = once(&mut measure, check.timeout).await;
        if event {
            quiet_until = Instant::now() + QUIET;
            if last == Some(reading.verdict) {
                continue;
            }
        }
        last = Some(reading.verdict);
        report(ix, reading);
    }
}

async fn changed(measure: &mut impl Measure, quiet_until: Instant) {
    sleep_until(quiet_until).await;
    measure.changed().await;
}

async fn once<M: Measure>(measure: &mut M, limit: Duration) -> Reading {
    let began = clock::monotonic();
    let patience = measure.patience(limit);
    let outcome = timeout(patience, measure.run())
        .await
        .unwrap_or_else(|_| Outcome::new(M::LATE, format!("timeout after {}", span(patience))));
    Reading {
        verdict: outcome.verdict,
        detail: outcome.detail.into(),
        took: clock::monotonic() - began,
    }
}
