//! The one deadline: which slot of the engine wants to be called when. O(log n) per change, so that a
//! thousand instances cost what one does.

use crate::time::Instant;
use std::collections::BTreeSet;

/// Slots with a next time each.
#[derive(Clone, Debug)]
pub(super) struct Agenda {
    order: BTreeSet<(Instant, usize)>,
    at: Vec<Instant>,
}

impl Agenda {
    /// `slots` slots, none of them due.
    pub(super) fn new(slots: usize) -> Self {
        Self { order: BTreeSet::new(), at: vec![Instant::MAX; slots] }
    }

    /// Calls `slot` at `at`; `Instant::MAX`: never.
    pub(super) fn set(&mut self, slot: usize, at: Instant) {
        let old = std::mem::replace(&mut self.at[slot], at);
        if old != at {
            self.order.remove(&(old, slot));
            if at != Instant::MAX {
                self.order.insert((at, slot));
            }
        }
    }

    /// When `slot` is to be called.
    pub(super) fn at(&self, slot: usize) -> Instant {
        self.at[slot]
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Instant {
        self.order.first().map_or(Instant::MAX, |(at, _)| *at)
    }

    /// Takes the earliest slot that is due at `now`; it is then not due any more.
    pub(super) fn take(&mut self, now: Instant) -> Option<usize> {
        let (at, slot) = *self.order.first()?;
        (at <= now).then(|| {
            self.set(slot, Instant::MAX);
            slot
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_first_and_once() {
        let at = Instant::from_millis;
        let mut a = Agenda::new(3);
        a.set(0, at(30));
        a.set(1, at(10));
        a.set(2, at(20));
        a.set(0, at(5));
        assert_eq!(a.next(), at(5));
        assert_eq!((a.take(at(10)), a.take(at(10)), a.take(at(10))), (Some(0), Some(1), None));
        a.set(2, Instant::MAX);
        assert_eq!(a.next(), Instant::MAX);
    }
}
