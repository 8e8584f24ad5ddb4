//! One function for each decoder; `fuzz_targets` has the programs.

mod control;
mod replica;
mod replica_put;
mod targets;

pub use control::control;
pub use replica::{replica_receive, replica_send, replica_wire};
pub use replica_put::replica_put;
pub use targets::*;
