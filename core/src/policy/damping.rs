//! Penalties for losing the address or the fitness for it, halved by time (the form of RFC 2439).
//!
//! Called by the engine, per instance. Over the limit this host is second choice: it starts no move and lets others go
//! first, and still claims when nobody better does.

use super::stamp::{Stamp, ms};
use crate::config::model::Damping;

/// For an unplanned loss of the role, or a failure of a check as owner.
pub const LOSS: u32 = 1000;
/// For becoming unfit as Backup.
pub const UNFIT: u32 = 500;

/// Penalty of one instance on this host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Penalty {
    /// Penalty at `at`.
    value: f64,
    at: Stamp,
    /// Over the limit since then.
    suppressed: Option<Stamp>,
}

impl Penalty {
    /// As remembered: not above the ceiling, whatever the record or an older configuration says.
    pub fn recalled(config: &Damping, value: u32, at: Stamp, suppressed: Option<Stamp>) -> Self {
        Self { value: f64::from(value.min(config.ceiling)), at, suppressed }
    }

    fn decayed(&self, config: &Damping, now: Stamp) -> f64 {
        let half_life = ms(config.half_life).max(1) as f64;
        let age = now.saturating_sub(self.at).max(0) as f64;
        self.value * (-age / half_life).exp2()
    }

    /// The penalty at `now`, rounded.
    pub fn value(&self, config: &Damping, now: Stamp) -> u32 {
        self.decayed(config, now).round() as u32
    }

    /// Over the limit since then.
    pub const fn suppressed(&self) -> Option<Stamp> {
        self.suppressed
    }

    /// Adds to it; true: over the limit by it.
    pub fn add(&mut self, config: &Damping, amount: u32, now: Stamp) -> bool {
        let sum = self.decayed(config, now) + f64::from(amount);
        self.value = sum.min(f64::from(config.ceiling));
        self.at = now;
        let over = self.suppressed.is_none() && self.value >= f64::from(config.suppress);
        if over {
            self.suppressed = Some(now);
        }
        over
    }

    /// When this host is no second choice any more; `None`: it is none.
    pub fn free_at(&self, config: &Damping) -> Option<Stamp> {
        let since = self.suppressed?;
        let reuse = f64::from(config.reuse.max(1));
        let halvings = (self.value / reuse).log2().max(0.0);
        let decayed = self.at + (halvings * ms(config.half_life) as f64).ceil() as Stamp;
        Some(decayed.min(since + ms(config.max_suppress)))
    }

    /// Ends the suppression if its time is over; true: it ended.
    pub fn tick(&mut self, config: &Damping, now: Stamp) -> bool {
        let over = self.free_at(config).is_some_and(|at| at <= now);
        if over {
            self.forgive(config, now);
        }
        over
    }

    /// Ends the suppression now; what is left counts as little as it would at its regular end.
    pub fn forgive(&mut self, config: &Damping, now: Stamp) {
        self.value = self.decayed(config, now).min(f64::from(config.reuse));
        self.at = now;
        self.suppressed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const MINUTE: Stamp = 60_000;

    fn config() -> Damping {
        Damping::default()
    }

    #[test]
    fn three_losses_in_short_time_suppress_and_time_frees() {
        let (c, mut p) = (config(), Penalty::default());
        assert!(!p.add(&c, LOSS, 0));
        assert!(!p.add(&c, LOSS, MINUTE));
        assert!(p.add(&c, LOSS, 2 * MINUTE));
        let free = p.free_at(&c).unwrap_or(0);
        // 2802 halves to 1000 in 14.9 minutes.
        assert!((free - 2 * MINUTE) / MINUTE == 14, "{free}");
        assert!(!p.tick(&c, free - 1));
        assert!(p.tick(&c, free) && p.suppressed().is_none());
        assert!(p.value(&c, free) <= 1000);
    }

    #[test]
    fn losses_far_apart_do_not_add_up() {
        let (c, mut p) = (config(), Penalty::default());
        for n in 0..20 {
            assert!(!p.add(&c, LOSS, n * 10 * MINUTE));
        }
        assert_eq!(p.value(&c, 200 * MINUTE), 1000);
    }

    #[test]
    fn never_above_the_ceiling_never_for_longer_than_the_most() {
        let (c, mut p) = (config(), Penalty::default());
        for _ in 0..40 {
            p.add(&c, LOSS, 0);
        }
        assert_eq!(p.value(&c, 0), 10_000);
        assert!(p.free_at(&c).is_some_and(|at| at <= 60 * MINUTE));
        let long = Damping { max_suppress: Duration::from_secs(60), ..c };
        assert_eq!(p.free_at(&long), Some(MINUTE));
        assert!(p.tick(&long, MINUTE));
        // The next small loss does not suppress again at once.
        assert!(!p.add(&long, UNFIT, MINUTE));
    }
}
