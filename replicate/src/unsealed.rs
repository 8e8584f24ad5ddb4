//! Since when there are changes that are in no generation yet: what the RPO counts from.
//!
//! The watch says when it heard of one and when it told it, a seal which of them it looks at. A change counts at each moment
//! from the first word of it to the commit of a generation that has it, also while a large file is read for minutes. Times
//! are steady milliseconds. Must never forget one: what counts too long is only too careful.

use std::collections::VecDeque;

/// The time of a change that may be older than this process: no age can be told of it.
pub(crate) const UNKNOWN_MS: u64 = 0;

/// The oldest changes, by how far each has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsealed {
    /// Heard, and not told to anybody who seals.
    heard: Option<u64>,
    /// Told, one for each time, in this order.
    told: VecDeque<u64>,
    /// Of no known time or place: the next seal looks at it, whichever that is.
    loose: Option<u64>,
    /// A seal of them failed, and nobody remembers where they are: a look at everything finds them.
    missed: Option<u64>,
    /// Looked at by a seal that is under way.
    sealing: Option<u64>,
}

/// What a seal that has begun looks at.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Covered {
    told: usize,
    /// The oldest change in it, if one is known.
    pub(crate) since: Option<u64>,
}

impl Unsealed {
    /// Something changed at `at`, and the next seal looks at it.
    pub(crate) fn add(&mut self, at: u64) {
        self.loose = Some(self.loose.map_or(at, |known| known.min(at)));
    }

    /// The watch heard of a change at `at`.
    pub(crate) fn hear(&mut self, at: u64) {
        self.heard = Some(self.heard.map_or(at, |known| known.min(at)));
    }

    /// What was heard is told to who seals. Where nothing was heard, a look at everything is no change.
    pub(crate) fn tell(&mut self) {
        self.told.extend(self.heard.take());
    }

    /// A seal begins: of everything, or of what was told first.
    pub(crate) fn begin(&mut self, everything: bool) -> Covered {
        let told = if everything { self.told.len() } else { self.told.len().min(1) };
        let missed = if everything { self.missed.take() } else { None };
        let known = self.told.iter().take(told).copied();
        let since = known.chain(self.loose.take()).chain(missed).min();
        self.sealing = since;
        Covered { told, since }
    }

    /// What it looked at is in a generation.
    pub(crate) fn done(&mut self, covered: Covered) {
        self.sealing = None;
        self.told.drain(..covered.told.min(self.told.len()));
    }

    /// Not all of it is, and the next seal looks at the rest.
    pub(crate) fn failed(&mut self, covered: Covered, began: u64) {
        self.done(covered);
        self.add(covered.since.unwrap_or(began));
    }

    /// Nothing of it is, and nobody remembers where it was.
    pub(crate) fn miss(&mut self, covered: Covered, began: u64) {
        self.done(covered);
        let since = covered.since.unwrap_or(began);
        self.missed = Some(self.missed.map_or(since, |known| known.min(since)));
    }

    /// Since when there is a change.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        let known = [self.heard, self.loose, self.missed, self.sealing].into_iter().flatten();
        known.chain(self.told.iter().copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_while_it_is_sealed_and_while_another_is() {
        let mut unsealed = Unsealed::default();
        unsealed.hear(10);
        unsealed.hear(12);
        unsealed.tell();
        // Heard while the first is waited for, told while it is read.
        unsealed.hear(20);
        let first = unsealed.begin(false);
        assert_eq!((first.since, unsealed.oldest_ms()), (Some(10), Some(10)));
        unsealed.tell();
        unsealed.done(first);
        assert_eq!(unsealed.oldest_ms(), Some(20));
        let second = unsealed.begin(false);
        assert_eq!((second.since, unsealed.oldest_ms()), (Some(20), Some(20)));
        unsealed.done(second);
        assert_eq!(unsealed.oldest_ms(), None);
    }

    #[test]
    fn what_failed_counts_on_and_everything_covers_all_that_was_told_before() {
        let mut unsealed = Unsealed::default();
        unsealed.hear(10);
        unsealed.tell();
        let seal = unsealed.begin(false);
        unsealed.failed(seal, 12);
        assert_eq!(unsealed.oldest_ms(), Some(10));
        unsealed.hear(20);
        unsealed.tell();
        let seal = unsealed.begin(true);
        assert_eq!(seal.since, Some(10));
        unsealed.hear(30);
        unsealed.tell();
        unsealed.done(seal);
        assert_eq!(unsealed.oldest_ms(), Some(30));
    }
}
