//! The move budget: so many moves within so long, then the address stays where it is until somebody looked, or until it
//! was quiet for long enough.
//!
//! Called by the engine, per instance; every host of the group counts what it sees. What is dead or fatal is replaced
//! all the same.

use super::stamp::{Stamp, ms};
use crate::config::model::Budget;
use crate::time::Duration;

/// While held, an owner whose check fails hands over at most once in this time.
pub const FAIL_EVERY: Duration = Duration::from_secs(600);
/// Moves remembered; the oldest goes. No limit allows more.
const REMEMBERED: usize = Budget::MOST_MOVES as usize;

/// Moves of one instance, as this host saw them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Oldest first.
    at: Vec<Stamp>,
    held: Option<Stamp>,
}

impl Moves {
    /// As remembered.
    pub fn recalled(mut at: Vec<Stamp>, held: Option<Stamp>) -> Self {
        at.sort_unstable();
        let mut moves = Self { at, held };
        moves.forget_oldest();
        moves
    }

    fn forget_oldest(&mut self) {
        let excess = self.at.len().saturating_sub(REMEMBERED);
        self.at.drain(..excess);
    }

    /// When each remembered move happened, oldest first.
    pub fn times(&self) -> &[Stamp] {
        &self.at
    }

    /// Held since then.
    pub const fn held(&self) -> Option<Stamp> {
        self.held
    }

    /// The address moved by itself at `at`, which may lie before moves that are known already; true: the budget is
    /// spent by it.
    pub fn moved(&mut self, config: &Budget, at: Stamp) -> bool {
        let place = self.at.partition_point(|known| *known <= at);
        self.at.insert(place, at);
        self.forget_oldest();
        let last = self.at.last().copied().unwrap_or(at);
        let spent = config.limits.iter().any(|(most, within)| self.within(*within, last) >= *most);
        let newly = spent && self.held.is_none();
        if newly {
            self.held = Some(last);
        }
        newly
    }

    /// Moves in the last `window`.
    pub fn within(&self, window: Duration, now: Stamp) -> u32 {
        let recent = self.at.iter().filter(|at| now.saturating_sub(**at) < ms(window));
        u32::try_from(recent.count()).unwrap_or(u32::MAX)
    }

    /// When the hold ends by itself; `None`: it is not held.
    pub fn free_at(&self, config: &Budget) -> Option<Stamp> {
        let last = self.at.last().copied().max(self.held)?;
        self.held.map(|_| last + ms(config.quiet))
    }

    /// Ends the hold if it was quiet for long enough; true: it ended.
    pub fn tick(&mut self, config: &Budget, now: Stamp) -> bool {
        let over = self.free_at(config).is_some_and(|at| at <= now);
        if over {
            self.acknowledge();
        }
        over
    }

    /// Somebody looked: the budget begins anew.
    pub fn acknowledge(&mut self) {
        self.at.clear();
        self.held = None;
    }

    /// While held: when a failing owner may hand over again.
    pub fn fail_move_at(&self) -> Option<Stamp> {
        self.held?;
        self.at.last().map(|last| last + ms(FAIL_EVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Stamp = 60_000;

    fn config() -> Budget {
        Budget::default()
    }

    #[test]
    fn the_third_move_in_ten_minutes_holds() {
        let (c, mut m) = (config(), Moves::default());
        assert!(!m.moved(&c, 0));
        assert!(!m.moved(&c, 4 * MINUTE));
        assert!(m.moved(&c, 9 * MINUTE));
        assert_eq!(m.within(Duration::from_secs(600), 9 * MINUTE), 3);
        // A dead owner is replaced all the same, and quiet begins anew.
        assert!(!m.moved(&c, 20 * MINUTE));
        assert_eq!(m.free_at(&c), Some(80 * MINUTE));
        assert_eq!(m.fail_move_at(), Some(30 * MINUTE));
        assert!(!m.tick(&c, 80 * MINUTE - 1));
        assert!(m.tick(&c, 80 * MINUTE) && m.held().is_none());
    }

    #[test]
    fn the_largest_limit_can_be_spent() {
        let most = Budget::MOST_MOVES;
        let (c, mut m) = (
            Budget { limits: vec![(most, Duration::from_secs(3600))], ..config() },
            Moves::default(),
        );
        let spent: Vec<bool> = (0..most).map(|n| m.moved(&c, n.into())).collect();
        assert_eq!(spent.iter().position(|s| *s), Some(spent.len() - 1));
    }

    #[test]
    fn a_move_that_is_read_of_late_counts_where_it_belongs() {
        let (c, mut m) = (config(), Moves::default());
        assert!(!m.moved(&c, 20 * MINUTE));
        assert!(!m.moved(&c, 5 * MINUTE), "more than ten minutes before");
        assert!(!m.moved(&c, 6 * MINUTE));
        assert_eq!(m.times(), [5 * MINUTE, 6 * MINUTE, 20 * MINUTE]);
        assert!(!m.moved(&c, 12 * MINUTE) && m.moved(&c, 13 * MINUTE));
        assert_eq!(m.held(), Some(20 * MINUTE));
    }

    #[test]
    fn slow_moves_spend_the_longer_budget() {
        let (c, mut m) = (config(), Moves::default());
        let held: Vec<bool> = (0..6).map(|n| m.moved(&c, n * 6 * MINUTE)).collect();
        assert_eq!(held, [false, false, false, false, false, true]);
        m.acknowledge();
        assert_eq!((m.held(), m.times().len()), (None, 0));
    }
}
