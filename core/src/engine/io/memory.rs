//! What outlives a restart of the agent, and a reboot: plain data, stored by the runtime and given back.
//!
//! Times are UTC, milliseconds since 1970: a restart may be a reboot.

use crate::types::{Epoch, Priority};

/// All that is stored of one instance, or of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Flap control; without meaning for the host.
    pub flap: FlapRecord,
    /// What operators ordered.
    pub orders: OrderRecord,
    /// Ownerships, where state follows the address; without meaning for the host.
    pub epoch: EpochRecord,
}

/// Ownerships of one instance whose state follows the address.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochRecord {
    /// No number above this was used by this host or heard by it: the next start goes on above it. Confirmed by
    /// [`Input::Stored`](super::Input::Stored).
    pub reserved: u64,
    /// The last ownership of this host: an agent that adopts the addresses goes on with it.
    pub owned: Option<Epoch>,
    /// The newest ownership that any peer ever spoke of: who starts passes it on.
    pub heard: Epoch,
}

/// Flap control of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlapRecord {
    /// Penalty at `at_ms`.
    pub penalty: u32,
    /// When the penalty had this value.
    pub at_ms: u64,
    /// Held by the penalty since then.
    pub suppressed_ms: Option<u64>,
    /// Automatic moves, oldest first.
    pub moves_ms: Vec<u64>,
    /// Held by the budget since then.
    pub held_ms: Option<u64>,
}

/// What operators ordered of one instance on this host, or, of drains alone, of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderRecord {
    /// Does not claim.
    pub drained: Option<DrainRecord>,
    /// The newest word on preemption and voluntary moves in the group.
    pub freeze: Option<FreezeRecord>,
    /// Priority beside the configured one; `None` as its end: until it is taken back.
    pub priority: Option<(Priority, Option<u64>)>,
    /// Moved away from here: does not preempt.
    pub away: Option<Away>,
    /// Owns until failback: the epoch of that ownership.
    pub pin: Option<Epoch>,
}

/// A drain.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DrainRecord {
    /// Until then; `None`: until undrained.
    pub until_ms: Option<u64>,
    /// Claims when nobody else is there.
    pub last_resort: bool,
}

/// The newest word on preemption and voluntary moves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FreezeRecord {
    /// Number of the order in the group.
    pub serial: u32,
    /// Frozen until then, `u64::MAX`: until thawed; `None`: not frozen.
    pub until_ms: Option<u64>,
}

/// Where the address went by an operator's order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Away {
    /// To a host of the group that keeps it: ends when that host says that it does not any more.
    Pinned,
    /// To whoever came: ends by failback, or when no owner is heard.
    Open,
}
