//! A histogram of lengths of time with fixed buckets: observing one is a short scan and three additions, without
//! allocation, so that the protocol thread and the engine can afford it.
//!
//! Filled by the engine (gaps between adverts) and by the protocol thread (its lateness); read by `/metrics`. It must
//! never decide anything.

use crate::time::Duration;

/// Most buckets of a histogram, that for everything above the last bound not counted.
pub const BUCKETS: usize = 20;

/// Upper bounds of buckets, growing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bounds(&'static [Duration]);

impl Bounds {
    /// Bounds from a table.
    ///
    /// # Panics
    /// At compile time, when a constant table is too long.
    pub const fn new(table: &'static [Duration]) -> Self {
        assert!(table.len() <= BUCKETS, "a histogram has no room for so many buckets");
        Self(table)
    }
}

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How late a thread is: from what a timer costs to what costs a lease.
pub const LATENESS: Bounds = Bounds::new(&[
    us(50),
    us(100),
    us(250),
    us(500),
    ms(1),
    us(2500),
    ms(5),
    ms(10),
    ms(25),
    ms(50),
    ms(100),
    ms(250),
    ms(500),
    ms(1000),
    ms(2500),
    ms(5000),
]);

/// Time between two adverts of one owner: at intervals of 10 ms, 100 ms and 1 s each lost advert is one bucket.
pub const GAPS: Bounds = Bounds::new(&[
    ms(9),
    ms(11),
    ms(21),
    ms(31),
    ms(50),
    ms(90),
    ms(110),
    ms(210),
    ms(310),
    ms(500),
    ms(900),
    ms(1100),
    ms(2100),
    ms(3100),
    ms(5100),
    ms(10_100),
    ms(20_100),
    ms(41_000),
]);

/// Time without an owner.
pub const OUTAGES: Bounds = Bounds::new(&[
    ms(10),
    ms(25),
    ms(50),
    ms(100),
    ms(250),
    ms(500),
    ms(1000),
    ms(2000),
    ms(3000),
    ms(3500),
    ms(4000),
    ms(5000),
    ms(10_000),
    ms(30_000),
    ms(60_000),
    ms(150_000),
]);

/// Counts of lengths of time by bucket.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: Bounds,
    counts: [u64; BUCKETS],
    above: u64,
    sum: Duration,
}

impl Histogram {
    /// Nothing seen yet.
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, counts: [0; BUCKETS], above: 0, sum: Duration::ZERO }
    }

    /// Counts `length` in the first bucket whose bound is not below it.
    pub fn observe(&mut self, length: Duration) {
        let slots = self.bounds.0.iter().zip(&mut self.counts);
        match slots.into_iter().find(|(bound, _)| length <= **bound) {
            Some((_, count)) => *count += 1,
            None => self.above += 1,
        }
        self.sum = self.sum.saturating_add(length);
    }

    /// Sum of all lengths.
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// Number of lengths.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// Each bucket with its bound and what is in it alone; `None`: above all bounds.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounded = self.bounds.0.iter().copied().map(Some).zip(self.counts);
        bounded.chain([(None, self.above)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::new(LATENESS);
        for length in [us(0), us(50), us(51), ms(5000), ms(5001)] {
            histogram.observe(length);
        }
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(Some(us(50)), 2), (Some(us(100)), 1), (Some(ms(5000)), 1), (None, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (5, ms(10_001) + us(101)));
    }

    #[test]
    fn bounds_grow() {
        for Bounds(table) in [LATENESS, GAPS, OUTAGES] {
            assert!(table.is_sorted_by(|a, b| a < b));
        }
    }
}
