//! The engine, driven by hand in virtual time: one test per rule of the protocol (`docs/conformance.md`, V-numbers)
//! and of the promises (`docs/promises.md`). Nothing here is random: `tests/sim` does that.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod adopt;
mod backup;
mod beats;
mod bench;
mod claim;
mod config;
mod docs;
mod fit;
mod flap;
mod groups;
mod health;
mod late;
mod lease;
mod offer;
mod operate;
mod owner;
mod promotion;
mod property;
mod refuse;
mod releases;
mod reload;
mod replica;
mod restart;
mod send;
mod simulate;
mod stale;
mod standby;
mod startup;
mod stop;
mod trailer;
mod two_owners;
mod vectors;
mod world;
