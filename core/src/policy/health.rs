//! What all checks of an instance come to: its class of eligibility and what its priority costs (DESIGN 5.10).
//!
//! Called by the engine after every settled verdict. It knows nothing of flaps (`damping`, `budget`) nor of peers.

use super::check::CheckState;
use crate::config::model::{Check, Severity};
use crate::time::{Duration, Instant};
use crate::types::Verdict;
use crate::types::{CheckIx, Class};

/// What the checks of one instance say together.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `Healthy`, `Failing`, `Drained`, or `Unable` for a fatal failure.
    pub class: Class,
    /// The check that put it into this class, with its verdict.
    pub culprit: Option<(CheckIx, Verdict)>,
    /// Failing: an owner does not hand over before then. What fails outside of this host may fail for the others as
    /// well, and they find out up to an interval and a timeout later.
    pub acts_at: Instant,
    /// Sum of the weights that count, unbounded.
    pub cost: u32,
    /// A check that can fail it has not had its first word, which is due by then at the latest.
    pub awaits: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self { class: Class::Healthy, culprit: None, acts_at: Instant::ZERO, cost: 0, awaits: None }
    }
}

/// One check as an instance sees it.
pub struct Seen<'a> {
    /// Which one.
    pub check: CheckIx,
    /// As configured.
    pub config: &'a Check,
    /// What it said.
    pub state: &'a CheckState,
    /// From when its first word is awaited.
    pub from: Instant,
}

/// The health of an instance with these checks.
pub fn judge<'a>(checks: impl Iterator<Item = Seen<'a>>, now: Instant) -> Health {
    let mut health = Health::default();
    for seen in checks {
        let severity = seen.config.severity;
        let weight = u32::from(seen.config.weight);
        let verdict = seen.state.settled();
        let costs = match verdict {
            Some(Verdict::Warn) => severity != Severity::Info,
            Some(Verdict::Fail) => severity == Severity::Degrade,
            _ => false,
        };
        if costs || (seen.state.unknown() && severity != Severity::Info) {
            health.cost = health.cost.saturating_add(weight);
        }
        let class = match (verdict, severity) {
            (Some(Verdict::Fail), Severity::Fail) => Class::Failing,
            (Some(Verdict::Fail), Severity::Drain) => Class::Drained,
            (Some(Verdict::Fail), Severity::Fatal) => Class::Unable,
            _ => Class::Healthy,
        };
        if class == Class::Failing {
            let patience = if seen.config.probe.is_shared() {
                seen.config.interval + seen.config.timeout
            } else {
                Duration::ZERO
            };
            let acts_at = seen.state.since() + patience;
            let first = health.class < Class::Failing;
            health.acts_at = if first { acts_at } else { health.acts_at.min(acts_at) };
        }
        if class > health.class {
            health.class = class;
            health.culprit = verdict.map(|v| (seen.check, v));
        }
        let first_word = seen.from + seen.config.interval + seen.config.timeout;
        if verdict.is_none()
            && matches!(severity, Severity::Fail | Severity::Fatal)
            && first_word > now
        {
            health.awaits = health.awaits.max(Some(first_word));
        }
    }
    health
}

/// Effective priority: `base` less `cost`, 1 to 254, with up to `stickiness` back for the holder. The owner of the
/// address at 255 keeps its priority (RFC 9568 section 6.1).
pub fn effective(base: u8, cost: u32, stickiness: u8) -> u8 {
    if base == u8::MAX {
        return base;
    }
    let left = u32::from(base).saturating_sub(cost);
    let sticky = left.saturating_add(u32::from(stickiness)).min(u32::from(base));
    u8::try_from(sticky.clamp(1, 254)).unwrap_or(254)
}

/// What the priority costs at the moment: changes of it are kept apart, so that weights do not make it dance.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    cost: u32,
    changed: Option<Instant>,
}

impl Pace {
    /// The cost that counts.
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    /// Lets the cost follow `wanted`, if the last change is at least `hold` ago. `Some`: try again then.
    pub fn follow(&mut self, wanted: u32, hold: Duration, now: Instant) -> Option<Instant> {
        if wanted == self.cost {
            return None;
        }
        let free = self.changed.map_or(Instant::ZERO, |at| at + hold);
        if free > now {
            return Some(free);
        }
        self.cost = wanted;
        self.changed = Some(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{check, reading};
    use super::*;

    fn health(checks: &[(Severity, u8, &[Verdict])]) -> Health {
        let built: Vec<(Check, CheckState)> = checks
            .iter()
            .map(|(severity, weight, verdicts)| {
                let config = check(*severity, *weight);
                let mut state = CheckState::default();
                for v in *verdicts {
                    state.read(&config, &reading(*v), Instant::ZERO);
                }
                (config, state)
            })
            .collect();
        let seen = (0..).map(CheckIx).zip(&built).map(|(check, (config, state))| Seen {
            check,
            config,
            state,
            from: Instant::ZERO,
        });
        judge(seen, Instant::from_millis(10))
    }

    #[test]
    fn the_worst_check_decides() {
        use Severity::{Degrade, Drain, Fail, Fatal, Info};
        use Verdict::{Fail as F, Pass, Unknown, Warn};
        assert_eq!(health(&[]).class, Class::Healthy);
        assert_eq!(health(&[(Info, 9, &[F]), (Degrade, 20, &[F]), (Fail, 5, &[Warn])]).cost, 25);
        let two = health(&[(Fail, 0, &[F]), (Drain, 0, &[F])]);
        assert_eq!((two.class, two.culprit), (Class::Drained, Some((CheckIx(1), F))));
        assert_eq!(health(&[(Fatal, 0, &[F]), (Drain, 0, &[F])]).class, Class::Unable);
        let unknown = health(&[(Fail, 7, &[Pass, Unknown, Unknown, Unknown])]);
        assert_eq!((unknown.class, unknown.cost), (Class::Healthy, 7));
    }

    #[test]
    fn the_first_word_is_awaited_for_a_bounded_time() {
        let silent = health(&[(Severity::Fail, 0, &[])]);
        assert_eq!(
            (silent.class, silent.awaits),
            (Class::Healthy, Some(Instant::from_millis(3000)))
        );
        assert_eq!(health(&[(Severity::Degrade, 9, &[])]).awaits, None);
        assert_eq!(health(&[(Severity::Fail, 0, &[Verdict::Unknown])]).awaits, None);
    }

    #[test]
    fn priority_stays_between_1_and_254() {
        for base in 1..=255u8 {
            for cost in [0, 1, 9, 100, 253, 254, 255, 1000, u32::MAX] {
                for sticky in [0, 10, 255] {
                    let p = effective(base, cost, sticky);
                    assert!(p >= 1 && p <= base && (base == 255) == (p == 255));
                }
            }
        }
        assert_eq!(effective(150, 20, 10), 140);
        assert_eq!(effective(150, 5, 10), 150);
    }

    #[test]
    fn the_first_change_is_at_once_and_the_next_waits() {
        let (mut pace, hold) = (Pace::default(), Duration::from_secs(10));
        let at = Instant::from_millis;
        assert_eq!(pace.follow(20, hold, at(5000)), None);
        assert_eq!(pace.cost(), 20);
        assert_eq!(pace.follow(0, hold, at(9000)), Some(at(15_000)));
        assert_eq!(pace.cost(), 20);
        assert_eq!(pace.follow(0, hold, at(15_000)), None);
        assert_eq!(pace.cost(), 0);
    }
}
