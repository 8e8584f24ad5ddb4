//! Is the copy of a set of state files good enough to be served (DESIGN 5.13)?
//!
//! Called by the engine. It knows nothing of owners: a copy is judged by what the owner last said of it, and by when this
//! host let go if nobody has owned since.

use crate::config::model::{Gate, Replicate};
use crate::time::{Duration, Instant};

/// What a copy does to a claim; the greater one counts.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Staleness {
    /// Nothing.
    #[default]
    Fresh,
    /// Second choice.
    SecondChoice,
    /// No claim.
    Forbids,
}

/// What is known of one copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// The owner said that everything up to then is here, and so many octets were still to come.
    known: Option<(Option<Instant>, u64)>,
    /// This host owned until then, and nobody is known to have owned since: all that was written is here, though no owner
    /// ever said so.
    owned: Option<Instant>,
}

impl Copy {
    /// News of the copy: complete up to then (`None` inside: never), and octets that are still to come; `None`: nobody
    /// knows.
    pub fn tell(&mut self, known: Option<(Option<Instant>, u64)>) {
        self.known = known;
    }

    /// This host let go then, and whoever owns next has it from here; `None`: somebody owned meanwhile, or may have.
    pub fn let_go(&mut self, owned: Option<Instant>) {
        self.owned = owned;
    }

    /// When this host let go, if nobody is known to have owned since.
    pub fn owned(&self) -> Option<Instant> {
        self.owned
    }

    /// Everything up to then is here.
    fn complete(&self) -> Option<Instant> {
        self.known.and_then(|(at, _)| at).max(self.owned)
    }

    /// Did anybody say something of it?
    pub fn told(&self) -> bool {
        self.known.is_some()
    }

    /// Time since it was complete; `None`: it never was, or nobody knows.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.complete().map(|at| now.since(at))
    }

    /// Octets that are still to come.
    pub fn pending(&self) -> u64 {
        self.known.map_or(0, |(_, pending)| pending)
    }

    fn is_stale(&self, set: &Replicate, now: Instant) -> bool {
        let old = self.age(now).is_none_or(|age| age >= set.max_age);
        old || set.max_pending.is_some_and(|most| self.pending() > most)
    }

    /// What it does to a claim.
    pub fn judge(&self, set: &Replicate, now: Instant) -> Staleness {
        match set.gate {
            Gate::Prefer if self.is_stale(set, now) => Staleness::SecondChoice,
            Gate::Require if self.is_stale(set, now) => Staleness::Forbids,
            _ => Staleness::Fresh,
        }
    }

    /// When its age alone makes it stale; `None`: it is, as far as age goes, or that does not matter.
    pub fn stale_at(&self, set: &Replicate) -> Option<Instant> {
        let at = self.complete()? + set.max_age;
        (set.gate != Gate::Ignore).then_some(at)
    }
}
