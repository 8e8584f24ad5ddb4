//! Events as documents: what `vipd events` prints, what a subscriber gets, what the history keeps. `schema` grows when
//! a field changes its meaning or goes; new fields and new kinds do not change it.

use serde::{Deserialize, Serialize};

/// Version of the document.
pub const SCHEMA: u32 = 1;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Counts the events of this host, restarts of the agent included: a gap is an event that was missed.
    pub seq: u64,
    /// When, by the wall clock of this host: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// Seconds since then, by the clock that nobody sets.
    pub age_s: f64,
    /// `info`, `warning` or `error`.
    pub level: Level,
    /// Which instance; absent: the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// `ipv4` or `ipv6`, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// The line of the log.
    pub message: String,
    /// Why, where there is a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Seconds that what ended with this event had lasted: the state before a transition, an operation, an alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// What it is, with the fields of that kind.
    #[serde(flatten)]
    pub what: What,
}

/// How much it matters.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Info,
    /// To be looked at.
    Warning,
    /// Something does not work.
    Error,
}

/// What happened, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// A virtual router changed state.
    Transition {
        /// `initialize`, `backup` or `active`.
        from: String,
        /// The same, now.
        to: String,
        /// Source address of the owner's adverts, where known.
        owner: Option<String>,
        /// Effective priority.
        priority: u8,
        /// Number and host of the claim.
        epoch: String,
    },
    /// The kernel confirmed a claim.
    Claimed {
        /// So many.
        addresses: usize,
    },
    /// The addresses are gone from this host.
    Released {},
    /// The kernel could not do what it was asked.
    KernelFault {},
    /// An address that somebody removed was put back.
    Repaired {
        /// With its prefix length.
        address: String,
    },
    /// Datagrams were refused.
    Refused {
        /// Sender.
        source: String,
        /// As `docs/conformance.md` names it.
        reason: String,
        /// So many before this one.
        suppressed: u64,
    },
    /// A peer appeared, or is gone.
    Peer {
        /// Which host.
        host: String,
        /// Is it heard?
        alive: bool,
    },
    /// A peer remembered a later start of this host.
    BootCounter {
        /// In use from now on.
        counter: u64,
    },
    /// A condition to look at began or ended.
    Alarm {
        /// As in the status document.
        code: String,
        /// Began?
        on: bool,
    },
    /// A check settled on another verdict.
    Check {
        /// `[check.NAME]`.
        check: String,
        /// Before; absent: nothing said yet.
        from: Option<String>,
        /// `pass`, `warn`, `fail` or `unknown`.
        to: String,
    },
    /// Class of eligibility or effective priority changed.
    Standing {
        /// As in the status document.
        class: String,
        /// Effective priority.
        priority: u8,
    },
    /// The agent stops or hands over for a reload, and what was written here last is on no host that takes over.
    Unsynced {},
    /// A pre-promote hook refused a claim that was ordered.
    Vetoed {},
    /// An operation began, went on or ended.
    Operation {
        /// Its name.
        operation: String,
        /// Where it is.
        step: Step,
    },
    /// The replicator told something.
    Replica {
        /// `[replicate.NAME]`.
        set: String,
        /// An operator has to look at it.
        alarm: bool,
    },
    /// Somebody asked for a change.
    Change {
        /// The verb.
        verb: String,
        /// User.
        uid: u32,
        /// His name, where it is known.
        user: Option<String>,
        /// Process.
        pid: Option<i32>,
        /// Why, in his words.
        reason: Option<String>,
        /// What came of asking.
        outcome: Outcome,
        /// The operation that it began.
        operation: Option<String>,
    },
    /// The agent started or is about to end.
    Agent {
        /// Its version.
        version: String,
        /// Started, or ending?
        up: bool,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Where an operation is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Begun.
    Started,
    /// On its way.
    Progress,
    /// At its end: what was asked for is so.
    Done,
    /// At its end: it is not.
    Aborted,
}

/// What came of asking for a change.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The order was given.
    Accepted,
    /// There was nothing to do.
    Done,
    /// It makes no sense here and now.
    Refused,
    /// Not by this user.
    Forbidden,
}

impl What {
    /// Does the history keep it?
    pub const fn is_history(&self) -> bool {
        match self {
            Self::Transition { .. }
            | Self::Alarm { .. }
            | Self::Replica { alarm: true, .. }
            | Self::Change { .. }
            | Self::Unsynced {}
            | Self::Vetoed {}
            | Self::Agent { .. } => true,
            Self::Operation { step, .. } => matches!(step, Step::Done | Step::Aborted),
            Self::Claimed { .. }
            | Self::Released {}
            | Self::KernelFault {}
            | Self::Repaired { .. }
            | Self::Refused { .. }
            | Self::Peer { .. }
            | Self::BootCounter { .. }
            | Self::Check { .. }
            | Self::Standing { .. }
            | Self::Replica { alarm: false, .. }
            | Self::Unknown => false,
        }
    }
}
