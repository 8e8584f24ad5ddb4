//! One check: from readings to the verdict that counts (DESIGN 5.14).
//!
//! The first word settles at once; then `fall` worse readings in a row make it worse and `rise` better ones make it
//! better. What could not be run is unknown: it neither counts nor breaks a row, and is told when it goes on.
//!
//! Called by the engine, once per reading. It never decides what a verdict means: that is `health`.

use crate::config::model::Check;
use crate::time::Instant;
use crate::types::{Reading, Verdict};
use std::sync::Arc;

/// So many unknown readings in a row, and the check costs its weight.
const UNKNOWN_ROUNDS: u32 = 3;

/// What is known of one check.
#[derive(Clone, Debug, Default)]
pub struct CheckState {
    settled: Option<Verdict>,
    /// When the verdict settled.
    since: Instant,
    detail: Arc<str>,
    /// The last reading.
    last: Option<(Verdict, Instant)>,
    row: Row,
    unknown_rounds: u32,
}

/// Readings in a row that are all worse, or all better, than the settled verdict.
#[derive(Copy, Clone, Debug, Default)]
struct Row {
    worse: bool,
    len: u32,
    /// The one of them closest to the settled verdict: all of them say at least that.
    mildest: u8,
}

/// How far a check is on its way to another verdict.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Towards a worse one?
    pub worse: bool,
    /// Readings in a row so far.
    pub count: u32,
    /// Readings that it takes.
    pub of: u32,
}

const fn rank(verdict: Verdict) -> Option<u8> {
    match verdict {
        Verdict::Pass => Some(0),
        Verdict::Warn => Some(1),
        Verdict::Fail => Some(2),
        Verdict::Unknown => None,
    }
}

const fn of_rank(rank: u8) -> Verdict {
    match rank {
        0 => Verdict::Pass,
        1 => Verdict::Warn,
        _ => Verdict::Fail,
    }
}

impl CheckState {
    /// Takes a reading. `Some((from, to))`: another verdict settled; `from` is `None` at the first word.
    pub fn read(
        &mut self,
        check: &Check,
        reading: &Reading,
        now: Instant,
    ) -> Option<(Option<Verdict>, Verdict)> {
        self.last = Some((reading.verdict, now));
        self.detail = Arc::clone(&reading.detail);
        let Some(new) = rank(reading.verdict) else {
            self.unknown_rounds = self.unknown_rounds.saturating_add(1);
            return self.settled.is_none().then(|| self.settle(Verdict::Unknown, now));
        };
        self.unknown_rounds = 0;
        let Some(old) = self.settled.and_then(rank) else {
            return Some(self.settle(reading.verdict, now));
        };
        if new == old {
            self.row = Row::default();
            return None;
        }
        let worse = new > old;
        if self.row.len == 0 || self.row.worse != worse {
            self.row = Row { worse, len: 0, mildest: new };
        }
        self.row.len = self.row.len.saturating_add(1);
        let mild = self.row.mildest;
        self.row.mildest = if worse { mild.min(new) } else { mild.max(new) };
        let enough = if worse { check.fall } else { check.rise };
        (self.row.len >= enough.max(1)).then(|| self.settle(of_rank(self.row.mildest), now))
    }

    /// Settles at once, whatever was before: for what the engine sees itself.
    pub fn force(&mut self, reading: &Reading, now: Instant) -> Option<(Option<Verdict>, Verdict)> {
        self.last = Some((reading.verdict, now));
        self.detail = Arc::clone(&reading.detail);
        (self.settled != Some(reading.verdict)).then(|| self.settle(reading.verdict, now))
    }

    fn settle(&mut self, to: Verdict, now: Instant) -> (Option<Verdict>, Verdict) {
        self.row = Row::default();
        self.since = now;
        (self.settled.replace(to), to)
    }

    /// As the agent before this one had settled it; readings go on from there.
    pub fn resumed(verdict: Verdict, since: Instant, detail: Arc<str>) -> Self {
        Self { settled: Some(verdict), since, detail, ..Self::default() }
    }

    /// Forgets what was read: the next reading is a first word.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The verdict that counts; `None`: it has said nothing yet.
    pub const fn settled(&self) -> Option<Verdict> {
        self.settled
    }

    /// When the verdict settled.
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// What was seen last.
    pub const fn detail(&self) -> &Arc<str> {
        &self.detail
    }

    /// The last reading and its time.
    pub const fn last(&self) -> Option<(Verdict, Instant)> {
        self.last
    }

    /// Could not be run, again and again: costs its weight, fails nothing.
    pub const fn unknown(&self) -> bool {
        self.unknown_rounds >= UNKNOWN_ROUNDS
    }

    /// How far it is on its way to another verdict.
    pub fn progress(&self, check: &Check) -> Option<Progress> {
        let of = if self.row.worse { check.fall } else { check.rise };
        (self.row.len > 0).then_some(Progress { worse: self.row.worse, count: self.row.len, of })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::model::{Probe, Severity};
    use crate::time::Duration;

    pub(in crate::policy) fn check(severity: Severity, weight: u8) -> Check {
        Check {
            name: "web".into(),
            probe: Probe::Unix { path: "/run/web.sock".into() },
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
            severity,
            weight,
        }
    }

    pub(in crate::policy) fn reading(verdict: Verdict) -> Reading {
        Reading { verdict, detail: "seen".into(), took: Duration::from_millis(1) }
    }

    fn read(state: &mut CheckState, verdicts: &str) -> Vec<(Option<Verdict>, Verdict)> {
        let check = check(Severity::Fail, 0);
        let verdicts = verdicts.chars().map(|c| match c {
            'p' => Verdict::Pass,
            'w' => Verdict::Warn,
            'f' => Verdict::Fail,
            _ => Verdict::Unknown,
        });
        verdicts.filter_map(|v| state.read(&check, &reading(v), Instant::ZERO)).collect()
    }

    #[test]
    fn the_first_word_settles_then_rows_do() {
        use Verdict::{Fail, Pass};
        let mut state = CheckState::default();
        assert_eq!(read(&mut state, "f"), [(None, Fail)]);
        assert_eq!(read(&mut state, "pfp"), []);
        assert_eq!(read(&mut state, "p"), [(Some(Fail), Pass)]);
        assert_eq!(read(&mut state, "ffpff"), []);
        let on_its_way = state.progress(&check(Severity::Fail, 0));
        assert_eq!(on_its_way, Some(Progress { worse: true, count: 2, of: 3 }));
        assert_eq!(read(&mut state, "f"), [(Some(Pass), Fail)]);
        assert_eq!(state.progress(&check(Severity::Fail, 0)), None);
    }

    #[test]
    fn a_row_settles_on_what_all_of_it_says() {
        use Verdict::{Fail, Pass, Warn};
        let mut state = CheckState::default();
        assert_eq!(read(&mut state, "pwff"), [(None, Pass), (Some(Pass), Warn)]);
        assert_eq!(read(&mut state, "fff"), [(Some(Warn), Fail)]);
        assert_eq!(read(&mut state, "wp"), [(Some(Fail), Warn)]);
    }

    #[test]
    fn unknown_is_not_bad() {
        use Verdict::{Fail, Pass, Unknown};
        let mut state = CheckState::default();
        assert_eq!(read(&mut state, "u"), [(None, Unknown)]);
        assert_eq!(read(&mut state, "p"), [(Some(Unknown), Pass)]);
        assert_eq!(read(&mut state, "uu"), []);
        assert!(!state.unknown());
        assert_eq!(read(&mut state, "u"), []);
        assert!(state.unknown() && state.settled() == Some(Pass));
        // It neither counts nor breaks a row.
        assert_eq!(read(&mut state, "fufuf"), [(Some(Pass), Fail)]);
        assert!(!state.unknown());
    }
}
