//! The record of who asked for which change, as log lines.
//!
//! Called by the handler of the control socket. What is refused to strangers is held back when it repeats: a user who
//! may not change anything must not be able to fill the log.

use super::limit::{Limiter, Verdict};
use std::hash::{DefaultHasher, Hash, Hasher};
use vipd_core::time::Instant;

/// Refusals of one user and verb in 60 s before they are held back.
const BURST: u32 = 5;

/// Logs changes that were asked for.
#[derive(Debug)]
pub struct Auditor {
    limiter: Limiter,
}

impl Default for Auditor {
    fn default() -> Self {
        Self { limiter: Limiter::new(BURST) }
    }
}

impl Auditor {
    /// `line`: the order was given.
    pub fn accepted(&self, instance: &str, uid: u32, pid: i32, line: &str) {
        tracing::warn!(instance, uid, pid, "{line}");
    }

    /// `line`: nothing was done. `verb` of the user `uid` is what repeats. Gives whether it was told.
    pub fn refused(&mut self, verb: &str, uid: u32, pid: i32, line: &str, now: Instant) -> bool {
        let mut kind = DefaultHasher::new();
        (verb, uid).hash(&mut kind);
        match self.limiter.ask(kind.finish(), now) {
            Verdict::Hold => return false,
            Verdict::Tell { suppressed: 0 } => tracing::warn!(uid, pid, "{line}"),
            Verdict::Tell { suppressed } => {
                tracing::warn!(uid, pid, "{line} (and {suppressed} more like it before)");
            }
        }
        true
    }
}
