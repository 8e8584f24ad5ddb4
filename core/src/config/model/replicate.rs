//! Sets of state files that follow an instance, as configured.

use super::{Model, Moment};
use crate::time::Duration;
use crate::types::InstanceIx;
use std::path::PathBuf;
use std::sync::Arc;

/// State files that follow an instance: one owner pushes, all others mirror (DESIGN P5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicate {
    /// `[replicate.NAME]`.
    pub name: Arc<str>,
    /// Which instance's owner pushes.
    pub instance: InstanceIx,
    /// Folders, the same on every host; absolute, none inside of another.
    pub paths: Vec<PathBuf>,
    /// Names that are left out: shell patterns against the path below the root; without a slash, against the last
    /// component.
    pub exclude: Vec<Arc<str>>,
    /// After a change, wait for this long a quiet ...
    pub debounce: Duration,
    /// ... but never longer than this.
    pub max_delay: Duration,
    /// Between two scans of everything.
    pub scan_interval: Duration,
    /// Swap whole trees instead of one file after the other.
    pub atomic: bool,
    /// Extended attributes and ACLs too.
    pub xattrs: bool,
    /// Keep set-user-id and set-group-id bits.
    pub setuid: bool,
    /// Links that point out of their root are copied too; otherwise they are left out, with an alarm.
    pub outward_links: bool,
    /// The roots must be mount points, on either side.
    pub require_mount: bool,
    /// Octets per second to each host; `None`: no limit.
    pub bandwidth: Option<u64>,
    /// A tree that deletes more than this share of the files, in percent, and more than [`Replicate::GUARD_FILES`], or
    /// everything, waits for `vipd replica ack`.
    pub delete_guard: u8,
    /// Versions that the trash keeps of one file.
    pub trash_versions: u32,
    /// And for how long.
    pub trash_age: Duration,
    /// Octets that the rescue folder may hold; more is refused until an operator makes room.
    pub rescue_quota: u64,
    /// What a stale replica does to a claim.
    pub gate: Gate,
    /// A replica older than this is stale.
    pub max_age: Duration,
    /// So is one with more octets than this still to come, by the owner's last word; `None`: no limit.
    pub max_pending: Option<u64>,
}

impl Replicate {
    /// Deletions that need no acknowledgement whatever share they are.
    pub const GUARD_FILES: u64 = 20;
    /// What a planned move waits for the target to have everything.
    pub const BARRIER: Duration = Duration::from_secs(20);
    /// A clean stop waits no longer for successors; the unit of the agent gives it 60 s in all.
    pub const STOP: Duration = Duration::from_secs(45);
}

/// What a stale replica does to a claim (DESIGN 5.13).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Nothing.
    Ignore,
    /// Second choice, but claims when nobody better does.
    #[default]
    Prefer,
    /// No claim, except by `vipd promote --accept-data-loss`.
    Require,
}

impl Model {
    /// How long the state of the instance at `ix` may take to be complete on the target of a planned move; `None`: it has
    /// none that follows the address.
    pub fn barrier(&self, ix: InstanceIx) -> Option<Duration> {
        let sets = self.sets_of(ix).next().map(|_| Replicate::BARRIER);
        let hooks = [Moment::PreDemote, Moment::SyncBarrier].map(|m| self.time_at(ix, m));
        hooks.into_iter().chain([sets]).flatten().reduce(|all, one| all + one)
    }

    /// How long a clean stop may wait until the state of all that is owned is complete elsewhere, with the time that
    /// successors need to get ready; zero: nothing has state.
    pub fn closing(&self) -> Duration {
        let longest = self.iter().filter_map(|(ix, _)| self.barrier(ix)).max();
        longest.map_or(Duration::ZERO, |barrier| Replicate::STOP.max(barrier))
    }
}
