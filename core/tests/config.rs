//! The configuration from outside: the example files, files with one error each, any text.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "config/cases.rs"]
mod cases;
#[path = "config/examples.rs"]
mod examples;
#[path = "config/mutations.rs"]
mod mutations;
