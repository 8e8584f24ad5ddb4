//! A thread of its own for what may block: file systems that hang, `/proc`, `/sys`, netlink dumps, name resolution.
//!
//! Used by the measurements, one [`Aside`] per check at most. A job that hangs keeps its thread, and no second one is
//! ever started beside it: a dead file server costs one thread, not one each second.

use super::outcome::{Outcome, span, words};
use crate::sys::clock;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;
use vipd_core::engine::io::Verdict;
use vipd_core::time::Instant;

type Job = Box<dyn FnOnce() + Send>;

/// The jobs need little.
const STACK: usize = 256 << 10;

/// A lazily started thread that does one job at a time.
#[derive(Debug)]
pub(super) struct Aside {
    /// What a job is that does not come back.
    late: Verdict,
    jobs: Option<Sender<Job>>,
    busy: Arc<AtomicBool>,
    since: Instant,
}

impl Aside {
    /// For jobs that are `late` when they hang.
    pub(super) fn new(late: Verdict) -> Self {
        Self { late, jobs: None, busy: Arc::default(), since: Instant::ZERO }
    }

    /// Runs `job` and gives what it gave. When this is cancelled, the job goes on, and until it ends the next call
    /// only says so.
    ///
    /// # Errors
    /// What to report instead: the job before hangs, or there is no thread to be had.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Outcome> {
        if self.busy.load(Ordering::Acquire) {
            let hung = span(clock::monotonic() - self.since);
            return Err(Outcome::new(self.late, format!("hangs for {hung}, not asked again")));
        }
        let (done, result) = oneshot::channel();
        let busy = Busy(Arc::clone(&self.busy));
        let job: Job = Box::new(move || {
            let outcome = job();
            drop(busy);
            let _cancelled = done.send(outcome);
        });
        self.busy.store(true, Ordering::Release);
        self.since = clock::monotonic();
        self.hand_over(job).map_err(|e| {
            Outcome::unknown(format!("cannot start a thread for it: {}", words(&e)))
        })?;
        result.await.map_err(|_| Outcome::unknown("its thread died: an error in vipd"))
    }

    fn hand_over(&mut self, job: Job) -> io::Result<()> {
        let job = match &self.jobs {
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
            None => job,
        };
        let (jobs, queue) = channel::<Job>();
        std::thread::Builder::new()
            .name("check".into())
            .stack_size(STACK)
            .spawn(move || queue.into_iter().for_each(|job| job()))?;
        // Its receiver lives: the thread was just started.
        let _accepted = jobs.send(job);
        self.jobs = Some(jobs);
        Ok(())
    }
}

/// Free again when the job ended, panicked or never ran.
#[derive(Debug)]
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_job_that_hangs_is_not_joined_by_a_second_one() {
        let mut aside = Aside::new(Verdict::Fail);
        assert_eq!(aside.run(|| 7).await.unwrap(), 7);
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let hung = aside.run(move || wait.recv().is_err());
        assert!(tokio::time::timeout(Duration::from_millis(20), hung).await.is_err());
        for _ in 0..3 {
            let refused = aside.run(|| panic!("a second job")).await.unwrap_err();
            assert_eq!(refused.verdict, Verdict::Fail);
            assert!(refused.detail.starts_with("hangs for "), "{}", refused.detail);
        }
        drop(release);
        while aside.busy.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(aside.run(|| 8).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn a_job_that_panics_does_not_end_the_check() {
        let mut aside = Aside::new(Verdict::Fail);
        let died = aside.run(|| panic!("expected by this test")).await.unwrap_err();
        assert_eq!(died.verdict, Verdict::Unknown);
        // The thread may take a moment to go.
        let mut next = aside.run(|| 1).await;
        while next.is_err() {
            next = aside.run(|| 1).await;
        }
        assert_eq!(next.unwrap(), 1);
    }
}
