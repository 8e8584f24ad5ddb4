//! What the replicator tells, and the alarms about it, as log lines with fields.
//!
//! Called by the room of the replicator in the runtime, on the main thread.

use super::fields::Fields;
use super::limit::{Limiter, Verdict};
use std::hash::{DefaultHasher, Hash, Hasher};
use tracing::Level;
use vipd_core::time::Instant;

/// Nobody replicates, although sets are configured.
pub const REPLICATOR_MISSING: &str = "replicator-missing";
/// The replicator says that an operator has to look.
pub const REPLICA: &str = "replica";

/// Lines about one set in 60 s before they are held back.
const BURST: u32 = 20;

/// Tells what the replicator says.
#[derive(Debug)]
pub struct ReplicaTeller {
    limiter: Limiter,
}

impl Default for ReplicaTeller {
    fn default() -> Self {
        Self { limiter: Limiter::new(BURST) }
    }
}

impl ReplicaTeller {
    /// Logs `line` about `set`, unless too many were logged just now.
    pub fn told(
        &mut self,
        instance: Option<&str>,
        set: &str,
        line: &str,
        alarm: bool,
        at: Instant,
    ) {
        let level = if alarm { Level::WARN } else { Level::INFO };
        let mut kind = DefaultHasher::new();
        (set, alarm).hash(&mut kind);
        match self.limiter.ask(kind.finish(), at) {
            Verdict::Hold => {}
            Verdict::Tell { suppressed } => {
                Fields::of_replica(instance, set, suppressed).log(level, line);
            }
        }
    }
}

/// Logs that an alarm began or ended.
pub fn replica_alarm(
    code: &'static str,
    instance: Option<&str>,
    set: Option<&str>,
    line: &str,
    on: bool,
) {
    let level = if on { Level::WARN } else { Level::INFO };
    Fields::of_alarm(code, instance, set, on).log(level, line);
}
