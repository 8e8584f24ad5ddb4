//! Many seeds on all cores; the first failures in the order of the seeds, whatever thread met them.

use crate::invariants::Rule;
use crate::run::Case;
use crate::world::{Breakage, Maker};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Runs every seed of `seeds`; returns up to `most` cases that break a promise.
pub(crate) fn failures(
    seeds: Range<u64>,
    most: usize,
    case_of: impl Fn(u64) -> Case + Sync,
) -> Vec<Case> {
    let next = AtomicU64::new(seeds.start);
    let found = AtomicUsize::new(0);
    let work = || {
        let mut mine = Vec::new();
        while found.load(Ordering::Relaxed) < most {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let case = case_of(seed);
            if case.run().violation.is_some() {
                found.fetch_add(1, Ordering::Relaxed);
                mine.push(case);
            }
        }
        mine
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut cases = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect::<Vec<_>>()
    });
    cases.sort_by_key(|c| c.seed);
    cases.truncate(most);
    cases
}

/// The first seed in which the breakage shows as a breach of `rule`.
pub(crate) fn find(
    seeds: Range<u64>,
    rule: Rule,
    breakage: Breakage,
    maker: Maker,
) -> Option<Case> {
    let shows = |case: &Case| case.run().violation.is_some_and(|v| v.rule == rule);
    seeds.map(|seed| Case::of_seed(seed, Some(breakage), maker)).find(shows)
}
