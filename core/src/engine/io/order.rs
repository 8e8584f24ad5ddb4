//! What an operator orders, and how the engine reports on it (DESIGN 5.5, 5.6, 5.10).

use crate::time::Instant;
use crate::types::{HostIx, Priority};
use std::sync::Arc;

/// What an operator may order, for one instance or for all of a host.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum OperatorOrder {
    /// Claim: a standby that does not do so by itself, or one that is held.
    Promote {
        /// Also with a copy of the state that is old or unknown: what it lacks is lost.
        accept_data_loss: bool,
    },
    /// The reason why moves were held was looked at: they may go on.
    Acknowledge,
    /// Hand the address over; the new owner keeps it until [`OperatorOrder::Failback`].
    Move {
        /// To this host; `None`: to the best eligible one.
        to: Option<HostIx>,
        /// Overrides what a refusal calls overridable.
        force: bool,
    },
    /// Ends what a move left behind: the pin of the owner, and that the source does not preempt.
    Failback,
    /// Let the address go without a pin: priority 0, overlap; this host stays a backup.
    Release,
    /// A priority beside the configured one.
    SetPriority {
        /// 1 to 254; `None`: the configured one again.
        priority: Option<Priority>,
        /// Until then; `None`: until it is taken back.
        until: Option<Instant>,
    },
    /// Move everything away and do not claim.
    Drain {
        /// Until then; `None`: until [`OperatorOrder::Undrain`].
        until: Option<Instant>,
        /// Claim all the same when nobody else is there.
        last_resort: bool,
        /// Also where nobody can take over.
        allow_outage: bool,
    },
    /// Take part again.
    Undrain,
    /// No preemption and no voluntary move on any host of the group; a dead owner is replaced.
    Freeze {
        /// Until then; `None`: until [`OperatorOrder::Thaw`].
        until: Option<Instant>,
    },
    /// Ends [`OperatorOrder::Freeze`].
    Thaw,
}

/// How far an ordered operation is. Every one that starts ends, as done or aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationStep {
    /// Accepted.
    Started,
    /// This happens now.
    Progress(Arc<str>),
    /// Ended as ordered.
    Done(Arc<str>),
    /// Ended otherwise: why, and what holds now.
    Aborted(Arc<str>),
}

impl OperationStep {
    /// Does nothing more follow?
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Aborted(_))
    }
}
