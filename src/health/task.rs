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

/// What is said of a check whose task panicked.
pub(super) fn crashed() -> Reading {
    let detail = "its task died: an error in vipd; a reload starts it again".into();
    Reading { verdict: Verdict::Unknown, detail, took: Duration::ZERO }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Notify;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::sync::watch as cell;
    use tokio::task::JoinHandle;
    use vipd_core::config::model::{Probe, Severity};

    /// Says what is in the cell, after the time that is in it.
    struct Fake {
        says: cell::Receiver<(Verdict, Duration)>,
        event: Arc<Notify>,
    }

    impl Measure for Fake {
        const LATE: Verdict = Verdict::Fail;

        async fn run(&mut self) -> Outcome {
            let (verdict, after) = *self.says.borrow();
            tokio::time::sleep(after).await;
            Outcome::new(verdict, "said")
        }

        async fn changed(&mut self) {
            self.event.notified().await;
        }
    }

    struct Watched {
        says: cell::Sender<(Verdict, Duration)>,
        event: Arc<Notify>,
        readings: UnboundedReceiver<Reading>,
        task: JoinHandle<()>,
    }

    fn start(interval: Duration) -> Watched {
        let (says, heard) = cell::channel((Verdict::Pass, Duration::ZERO));
        let event = Arc::new(Notify::new());
        let (to, readings) = unbounded_channel();
        let fake = Fake { says: heard, event: Arc::clone(&event) };
        let check = Check {
            name: "x".into(),
            probe: Probe::Absent { path: "/x".into() },
            interval,
            timeout: Duration::from_millis(150),
            fall: 1,
            rise: 1,
            severity: Severity::Info,
            weight: 0,
        };
        let report = move |_, reading| drop(to.send(reading));
        let task = tokio::spawn(watch(CheckIx(0), check, Duration::ZERO, fake, report));
        Watched { says, event, readings, task }
    }

    #[tokio::test]
    async fn a_burst_of_events_is_one_reading() {
        let mut watched = start(Duration::from_secs(60));
        assert_eq!(watched.readings.recv().await.unwrap().verdict, Verdict::Pass);
        watched.says.send((Verdict::Fail, Duration::ZERO)).unwrap();
        for _ in 0..20 {
            watched.event.notify_one();
            tokio::time::sleep(QUIET / 5).await;
        }
        assert_eq!(watched.readings.recv().await.unwrap().verdict, Verdict::Fail);
        tokio::time::sleep(QUIET * 2).await;
        assert!(watched.readings.is_empty());
        watched.says.send((Verdict::Pass, Duration::ZERO)).unwrap();
        watched.event.notify_one();
        assert_eq!(watched.readings.recv().await.unwrap().verdict, Verdict::Pass);
        watched.task.abort();
    }

    #[tokio::test]
    async fn a_long_run_ends_by_the_timeout_and_covers_no_second_one() {
        let mut watched = start(Duration::from_millis(100));
        watched.says.send((Verdict::Pass, Duration::from_secs(60))).unwrap();
        let first = watched.readings.recv().await.unwrap();
        assert_eq!((first.verdict, &*first.detail), (Verdict::Fail, "timeout after 150 ms"));
        assert!(first.took >= Duration::from_millis(150), "{:?}", first.took);
        watched.says.send((Verdict::Pass, Duration::ZERO)).unwrap();
        // At most one run was under way with the old answer.
        let next = watched.readings.recv().await.unwrap();
        let after = watched.readings.recv().await.unwrap();
        assert!(next.verdict == Verdict::Pass || after.verdict == Verdict::Pass);
        watched.task.abort();
    }
}
