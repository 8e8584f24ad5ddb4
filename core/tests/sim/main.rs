//! The simulation: 2 to 5 hosts with the real engine in virtual time, under seeded faults, judged from outside.
//!
//! `SIM_SCHEDULES=100000 cargo test -p vipd-core --test sim --release` is the long run, `SIM_SEED=n` replays one seed
//! with its trace. Which promise is judged how: `invariants.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a replay is for reading")]

mod client;
mod fake;
mod host;
mod invariants;
mod kernel;
mod net;
mod rng;
mod run;
mod scenario;
mod schedule;
mod trace;
mod wire;
mod world;
