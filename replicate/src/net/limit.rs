//! Bandwidth: a token bucket, in whose time its caller tells it.
//!
//! Used by the link for each frame; never sleeps itself.

use std::time::Duration;

/// Octets that may go at once, as time at the full rate.
const BURST: Duration = Duration::from_millis(100);
/// Smallest piece that is worth a record of its own, octets.
const LEAST_PIECE: u64 = 512;

/// Octets per second, with a burst of 100 ms.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// `None`: no limit.
    rate: Option<u64>,
    /// Until when what went is paid for.
    paid_until: Duration,
}

impl Bucket {
    /// Lets `rate` octets per second pass (0 counts as 1); `None`: all.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|r| r.max(1)), paid_until: Duration::ZERO }
    }

    /// The largest piece that should go at once, octets: an eighth of a second, so that a slow link is never silent
    /// for long; at least 512, at most `most`.
    pub fn piece(&self, most: usize) -> usize {
        let fair = self.rate.map_or(u64::MAX, |rate| (rate / 8).max(LEAST_PIECE));
        usize::try_from(fair).unwrap_or(usize::MAX).min(most)
    }

    /// `octets` go at `now` (time since any fixed moment): how long to wait before.
    pub fn take(&mut self, now: Duration, octets: usize) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        // What was not used for a while is not saved up beyond the burst.
        let from = self.paid_until.max(now.saturating_sub(BURST));
        let nanos = (octets as u128 * 1_000_000_000).div_ceil(u128::from(rate));
        self.paid_until = from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `octets` in pieces of `piece`, waiting as told; how long that took.
    fn send(bucket: &mut Bucket, mut now: Duration, octets: usize, piece: usize) -> Duration {
        let start = now;
        for _ in 0..octets / piece {
            now += bucket.take(now, piece);
        }
        now - start
    }

    #[test]
    fn a_transfer_takes_as_long_as_its_rate_says() {
        let mut bucket = Bucket::new(Some(1_000_000));
        let took = send(&mut bucket, Duration::from_secs(100), 10_000_000, 10_000);
        assert!((9_850..=10_000).contains(&took.as_millis()), "{took:?}");
    }

    #[test]
    fn a_pause_saves_up_no_more_than_the_burst() {
        let mut bucket = Bucket::new(Some(1_000));
        assert_eq!(bucket.take(Duration::from_secs(3600), 100), Duration::ZERO);
        assert_eq!(bucket.take(Duration::from_secs(3600), 100), Duration::from_millis(100));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut bucket = Bucket::new(None);
        assert_eq!(send(&mut bucket, Duration::ZERO, 1 << 40, 1 << 30), Duration::ZERO);
        assert_eq!(bucket.piece(65_000), 65_000);
    }

    #[test]
    fn a_slow_link_gets_small_pieces() {
        assert_eq!(Bucket::new(Some(80_000)).piece(65_000), 10_000);
        assert_eq!(Bucket::new(Some(0)).piece(65_000), 512);
    }
}
