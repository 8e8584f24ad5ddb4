//! A token bucket in virtual time: bounds the immediate answer to weaker adverts (an Active would otherwise be a
//! reflector for a flood) and repeated announcements.

use crate::time::{Duration, Instant};

/// `burst` at once, then one per `every`.
#[derive(Clone, Debug)]
pub struct Bucket {
    every: Duration,
    burst: u32,
    /// When the bucket will be full again.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { every, burst, full_at: Instant::ZERO }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let from = self.full_at.max(now);
        if from.since(now) + self.every > self.every * self.burst {
            return false;
        }
        self.full_at = from + self.every;
        true
    }

    /// Takes the next token, and says when it is there.
    pub fn reserve(&mut self, now: Instant) -> Instant {
        let from = self.full_at.max(now) + self.every;
        self.full_at = from;
        from.before(self.every * self.burst).max(now)
    }

    /// Gives a reserved token back.
    pub fn refund(&mut self) {
        self.full_at = self.full_at.before(self.every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut b = Bucket::new(3, Duration::from_millis(100));
        let t = Instant::from_millis(5000);
        assert_eq!((0..5).filter(|_| b.take(t)).count(), 3);
        assert!(!b.take(t + Duration::from_millis(99)));
        assert!(b.take(t + Duration::from_millis(100)));
        assert!(!b.take(t + Duration::from_millis(101)));
    }
}
