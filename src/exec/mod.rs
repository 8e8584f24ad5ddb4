//! The operator's programs: hooks, activations, script checks, and keepalived's notify FIFO (DESIGN section 3).
//!
//! They run in a process of their own, `vipd exec`, so that the agent needs neither root nor the right to switch
//! users, and never forks itself. The agent names a hook, a check or an instance; `vipd exec` reads the
//! configuration itself and starts what stands there, nothing else.
//!
//! | file | what | runs in |
//! |---|---|---|
//! | `protocol` | JSON lines between the two | both |
//! | `client` | the connection; starts the process where no unit does | agent |
//! | `server` | accepts the agent, runs what it names | `vipd exec` |
//! | `books` | which programs stand in the configuration, as whom | `vipd exec` |
//! | `guard` | refuses programs that somebody else could have changed | `vipd exec` |
//! | `launch` | one program from start to end: environment, limits, output | `vipd exec` |
//! | `leftovers` | ends what programs leave behind | `vipd exec` |
//! | `fifo` | keepalived's notify lines into a FIFO | `vipd exec` |
//!
//! Which hook hears of what, and when, is the runtime's business (`runtime::hooks`).
//! It never decides about addresses, and no release waits for it.

mod books;
pub mod client;
mod fifo;
mod guard;
mod launch;
mod leftovers;
pub mod protocol;
pub mod server;

use std::path::{Path, PathBuf};

/// The socket of the `vipd exec` that serves the agent in `runtime_dir`.
pub fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("exec.sock")
}
