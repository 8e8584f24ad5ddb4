//! The unix socket of the running agent: what is said on it, who serves it, who asks.
//!
//! `rights` says who may change something. `server` runs on the main thread of the agent, `client` in the verbs of the
//! command line. Neither knows the engine: the runtime fills the documents in (`status`, `events`, `prediction`).

pub mod client;
pub mod events;
pub mod prediction;
pub mod protocol;
pub mod rights;
pub mod server;
pub mod status;

use std::path::{Path, PathBuf};

/// The socket of the agent that lives in `runtime_dir`.
pub fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control.sock")
}
