//! The one clock of the sessions: monotonic, as time since the process first asked.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Since the process first asked.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the replicator")]
pub(crate) fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    start.elapsed()
}
