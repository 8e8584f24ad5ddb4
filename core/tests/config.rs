//! The configuration from outside: the example files, files with one error each, any text.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "config/cases.rs"]
mod cases;
#[path = "config/cases_check.rs"]
mod cases_check;
#[path = "config/cases_policy.rs"]
mod cases_policy;
#[path = "config/examples.rs"]
mod examples;
#[path = "config/health.rs"]
mod health;
#[path = "config/mutations.rs"]
mod mutations;
#[path = "config/pools.rs"]
mod pools;
#[path = "config/reload.rs"]
mod reload;
#[path = "config/replicate.rs"]
mod replicate;
