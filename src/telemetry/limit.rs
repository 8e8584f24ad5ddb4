//! Repeats: the first few of a kind are told, then one line a minute says how many were not.

use std::collections::HashMap;
use vipd_core::time::{Duration, Instant};

/// Length of the window in which lines of one kind are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds remembered; when there are more, all are forgotten, which tells too much rather than too little.
const KINDS: usize = 1024;

/// May this line be told?
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes; so many of its kind were held back in the window before.
    Tell {
        /// Lines held back.
        suppressed: u64,
    },
    /// No: the window is full.
    Hold,
}

#[derive(Debug)]
struct Kind {
    since: Instant,
    told: u32,
    held: u64,
}

/// Counts lines by kind.
#[derive(Debug)]
pub(super) struct Limiter {
    burst: u32,
    kinds: HashMap<u64, Kind>,
}

impl Limiter {
    /// Lets `burst` lines of a kind through in each window of 60 s.
    pub(super) fn new(burst: u32) -> Self {
        Self { burst, kinds: HashMap::new() }
    }

    /// A line of `kind` at `now`.
    pub(super) fn ask(&mut self, kind: u64, now: Instant) -> Verdict {
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            self.kinds.clear();
        }
        let entry = self.kinds.entry(kind).or_insert(Kind { since: now, told: 0, held: 0 });
        let mut suppressed = 0;
        if now.since(entry.since) >= WINDOW {
            suppressed = entry.held;
            *entry = Kind { since: now, told: 0, held: 0 };
        }
        if entry.told < self.burst {
            entry.told += 1;
            Verdict::Tell { suppressed }
        } else {
            entry.held += 1;
            Verdict::Hold
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_first_then_holds_then_says_how_many() {
        let mut limiter = Limiter::new(2);
        let at = |s: u64| Instant::from_millis(s * 1000);
        assert_eq!(limiter.ask(7, at(0)), Verdict::Tell { suppressed: 0 });
        assert_eq!(limiter.ask(7, at(1)), Verdict::Tell { suppressed: 0 });
        for s in 2..60 {
            assert_eq!(limiter.ask(7, at(s)), Verdict::Hold);
        }
        assert_eq!(limiter.ask(8, at(59)), Verdict::Tell { suppressed: 0 }, "another kind");
        assert_eq!(limiter.ask(7, at(60)), Verdict::Tell { suppressed: 58 });
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = Limiter::new(1);
        for kind in 0..10_000 {
            limiter.ask(kind, Instant::ZERO);
        }
        assert!(limiter.kinds.len() <= KINDS);
    }
}
