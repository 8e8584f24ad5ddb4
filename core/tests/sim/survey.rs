//! How often which promise breaks, with the smallest example of each: for work on the rules of the design.

use crate::engine::real;
use crate::run::Case;
use crate::sweep::failures;
use std::collections::BTreeMap;

/// Examples that are shrunk for each promise.
const EXAMPLES: usize = 6;

#[test]
#[ignore = "prints a survey of all broken promises; SIM_SCHEDULES sets how many schedules"]
fn survey() {
    let seeds = crate::number("SIM_SCHEDULES").unwrap_or(crate::REGULAR);
    let mut broken: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in failures(0..seeds, usize::MAX, None, real) {
        let rule = case.run().violation.unwrap().rule;
        let kind = format!("{rule:?}, heartbeats {}", case.scenario.heartbeats);
        broken.entry(kind).or_default().push(case);
    }
    for (kind, cases) in &broken {
        let seeds: Vec<u64> = cases.iter().map(|c| c.seed).collect();
        println!("{kind}: {} of {seeds:?}", cases.len());
    }
    for cases in broken.into_values() {
        let few = cases.into_iter().take(EXAMPLES);
        let small = few.min_by_key(|c| c.clone().shrink().schedule.0.len()).unwrap();
        println!("\n{}", small.report());
    }
}
