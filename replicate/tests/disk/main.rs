//! The disk side of the replicator on real folders: two or three hosts, each with a root and a state folder, and sessions that
//! are function calls.
//!
//! Half of them stop or break the replicator at a step of its own (`fail`), which only builds with debug assertions can do: a
//! release build has none of these tests.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is told where the test is")]

mod age;
mod attributes;
mod common;
mod crash;
mod faults;
mod lock;
mod ownership;
mod property;
mod rot;
mod scale;
mod session;
mod staged;
mod swapped;
mod takeover;
mod transfer;
mod trash;
mod verbs;
mod watch;
