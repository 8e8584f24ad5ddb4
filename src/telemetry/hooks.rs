//! What hooks came to, and what they say of the replicas that they make.
//!
//! Counted by the tally; a push that says `rpo_ms=` bounds what the other hosts lack, and the bound grows until the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use vipd_core::time::{Duration, Instant};

/// A hook and an instance, by their names, which outlive a reload.
pub type HookOf = (Arc<str>, Arc<str>);

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRun {
    /// When.
    pub at: Instant,
    /// What it was told.
    pub event: &'static str,
    /// `ok`, `veto`, `later`, `timeout`, `not-run` or `failed`.
    pub outcome: &'static str,
    /// The same for people.
    pub told: String,
    /// From start to end.
    pub took: Duration,
}

/// The runs of one hook for one instance.
#[derive(Clone, Debug, Default)]
pub struct HookTally {
    /// By event and outcome.
    pub(super) runs: BTreeMap<(&'static str, &'static str), u64>,
    last: Option<HookRun>,
    failures: u32,
    rpo: Option<(Duration, Instant)>,
    generation: Option<String>,
}

impl HookTally {
    /// Takes a run; of a good push `line` is what it said last.
    pub(super) fn note(&mut self, run: HookRun, line: Option<&str>) {
        *self.runs.entry((run.event, run.outcome)).or_default() += 1;
        self.failures = if run.outcome == "ok" { 0 } else { self.failures + 1 };
        for word in line.unwrap_or_default().split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("rpo_ms", ms)) => {
                    let rpo = ms.parse().ok().map(Duration::from_millis);
                    self.rpo = rpo.map(|rpo| (rpo, run.at)).or(self.rpo);
                }
                Some(("generation", name)) => self.generation = Some(name.to_owned()),
                _ => {}
            }
        }
        self.last = Some(run);
    }

    /// Another host pushes now.
    pub(super) fn forget_push(&mut self) {
        self.rpo = None;
        self.generation = None;
    }

    /// The last run.
    pub fn last(&self) -> Option<&HookRun> {
        self.last.as_ref()
    }

    /// Runs since the last good one.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What the other hosts may lack at `now`: what the last good push said, and what has passed since.
    pub fn rpo(&self, now: Instant) -> Option<Duration> {
        self.rpo.map(|(rpo, at)| rpo.saturating_add(now.since(at)))
    }

    /// What was pushed last, by its own name for it.
    pub fn generation(&self) -> Option<&str> {
        self.generation.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(at: u64, outcome: &'static str) -> HookRun {
        let (event, took) = ("sync-interval", Duration::from_millis(3));
        let at = Instant::ZERO + Duration::from_secs(at);
        HookRun { at, event, outcome, told: String::new(), took }
    }

    #[test]
    fn a_bound_grows_until_the_next_good_push() {
        let mut tally = HookTally::default();
        let at = |s| Instant::ZERO + Duration::from_secs(s);
        tally.note(run(10, "ok"), Some("sent 3 files, rpo_ms=250 generation=7"));
        assert_eq!(tally.rpo(at(10)), Some(Duration::from_millis(250)));
        assert_eq!(tally.generation(), Some("7"));
        tally.note(run(20, "failed"), None);
        tally.note(run(21, "timeout"), None);
        assert_eq!((tally.rpo(at(30)), tally.failures()), (Some(Duration::from_millis(20_250)), 2));
        // Nonsense is no bound.
        tally.note(run(40, "ok"), Some("rpo_ms=-1 rpo_ms generation"));
        assert_eq!((tally.rpo(at(40)), tally.failures()), (Some(Duration::from_millis(30_250)), 0));
        assert_eq!(tally.runs[&("sync-interval", "ok")], 2);
        tally.forget_push();
        assert_eq!((tally.rpo(at(40)), tally.generation()), (None, None));
    }
}
