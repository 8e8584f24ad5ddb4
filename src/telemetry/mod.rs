//! What the agent tells about itself: events of the core become log lines.
//!
//! Runs on the main thread only. The log may block (a full journal); the protocol thread never comes near it.

mod audit;
mod fields;
mod hooks;
pub mod http;
mod limit;
mod log;
mod message;
pub mod metrics;
mod process;
mod replica;
mod tally;
mod tell;
mod text;

pub use audit::Auditor;
pub use hooks::{HookOf, HookRun, HookTally};
pub use log::{Journal, init};
pub use replica::{REPLICA, REPLICATOR_MISSING, ReplicaTeller, replica_alarm};
pub use tally::Tally;
pub use tell::{Teller, Telling};
pub use text::{
    CONFIG_NOT_USED, alarm_code, alarm_text, cause_code, cause_text, check_name, host_name,
    operation_name, reason_text, seconds, verdict_word,
};
