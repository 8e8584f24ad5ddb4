//! One function for each decoder; `fuzz_targets` has the programs.

mod control;
mod targets;

pub use control::control;
pub use targets::*;
