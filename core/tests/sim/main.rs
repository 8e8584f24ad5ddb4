//! The simulation: 2 to 5 hosts with the real engine in virtual time, under seeded faults, judged from outside.
//!
//! `SIM_SCHEDULES=100000 cargo test -p vipd-core --test sim --release` is the long run (in pieces: `SIM_FROM=n` is its
//! first seed), `SIM_SEED=n` replays one seed with its trace; with `SIM_CHECKS=1`, `SIM_ORDERS=1`, `SIM_RELOADS=1`,
//! `SIM_SETS=1` or `SIM_SLOW=1` that of the run with checks, operators, reloads, sets of state files or slow kernels. Which
//! promise is judged how: `invariants`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a replay is for reading")]

mod checks;
mod client;
mod directed;
mod engine;
mod fake;
mod faults;
mod host;
mod invariants;
mod kernel;
mod net;
mod operators;
mod reloads;
mod replica;
mod rng;
mod run;
mod scenario;
mod schedule;
mod slow;
mod sweep;
mod trace;
mod wire;
mod world;

use engine::real;
use invariants::Rule;
use run::Case;
use sweep::{failures, find};
use world::Breakage;

/// Schedules of the regular run.
const REGULAR: u64 = 2000;
/// Seeds in which a broken rule must show.
const BROKEN: u64 = 400;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a whole number is needed")))
}

#[test]
fn every_schedule_keeps_the_promises() {
    if let Some(seed) = number("SIM_SEED") {
        let case = Case::of_seed(seed, None, real);
        println!("{}", case.report());
        assert!(case.run().violation.is_none());
        return;
    }
    let from = number("SIM_FROM").unwrap_or(0);
    let to = from + number("SIM_SCHEDULES").unwrap_or(REGULAR);
    let failed = failures(from..to, 3, |seed| Case::of_seed(seed, None, real));
    let reports: Vec<String> = failed.iter().map(Case::report).collect();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..60 {
        let case = Case::of_seed(seed, None, real);
        let (first, second) = (case.run(), case.run());
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert!(first.digest.1 > 10, "seed {seed}: nothing happened");
    }
}

#[test]
fn a_kernel_without_leases_is_found() {
    assert!(find(0..BROKEN, Rule::LeaseOverrun, Breakage::Lease, real).is_some());
}

#[test]
fn a_claim_that_does_not_ask_the_silent_holder_is_found() {
    assert!(find(0..BROKEN, Rule::ClaimedOverHolder, Breakage::Wait, real).is_some());
}

#[test]
fn an_agent_that_writes_before_it_reads_is_found() {
    assert!(find(0..BROKEN, Rule::WroteBeforeRead, Breakage::ReadBeforeWrite, real).is_some());
}
