//! What the agent tells about itself: events of the core become log lines.
//!
//! Runs on the main thread only. The log may block (a full journal); the protocol thread never comes near it.

mod limit;
mod log;
mod text;

pub use limit::{Limiter, Verdict};
pub use log::{Journal, init};
pub use text::{Narrator, alarm_text, cause_text, seconds};
