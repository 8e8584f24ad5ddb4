//! One function for each decoder; `fuzz_targets` has the programs.

mod control;
mod replica;
mod targets;

pub use control::control;
pub use replica::{replica_receive, replica_send, replica_wire};
pub use targets::*;
