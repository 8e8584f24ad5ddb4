//! What the agent and its replicator tell each other over the control socket, and what both show: plain data, one
//! JSON object a line in either direction once `{"v":1,"verb":"replicate"}` was accepted. And what an operator asks of
//! the replicator on its own socket ([`Ask`], [`Said`]).
//!
//! Used by the agent's runtime, the command line and the crate `vipd-replicate`; decides nothing.

use crate::types::Epoch;
use serde::{Deserialize, Serialize};

/// TCP port of replication, on the heartbeat addresses of a host, where `[cluster] replicate-port` says nothing else.
pub const PORT: u16 = 7113;

/// Name of the replicator's socket in the runtime folder.
pub const SOCKET: &str = "replica.sock";

/// From the agent to the replicator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Who owns what: all instances with sets, first and at every change.
    Roles(Vec<Role>),
    /// Bring `to` up to date now, and answer with [`Word::Barrier`]. The writer is quiet from here on.
    Barrier(Barrier),
    /// The barrier is over, whatever came of it: the address moved, or the writer goes on here.
    BarrierOver {
        /// Which one.
        id: u64,
    },
    /// Another configuration is in force here: read the file anew.
    Reload,
}

/// Who owns an instance, as this host knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// `[instance.NAME]`.
    pub instance: String,
    /// This host owns it: it pushes.
    pub owns: bool,
    /// Who owns it, where known: a host of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The newest ownership that is known.
    pub epoch: EpochWord,
}

/// An [`Epoch`] in JSON.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochWord {
    /// Grows with each claim.
    pub number: u64,
    /// Position of the host that claimed.
    pub host: u8,
}

impl From<Epoch> for EpochWord {
    fn from(epoch: Epoch) -> Self {
        Self { number: epoch.number, host: epoch.host }
    }
}

impl From<EpochWord> for Epoch {
    fn from(word: EpochWord) -> Self {
        Self { number: word.number, host: word.host }
    }
}

/// A barrier in a planned move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// Its number: comes back in the answer.
    pub id: u64,
    /// Whose sets.
    pub instance: String,
    /// The host that takes over.
    pub to: String,
    /// The answer is of no use after so many milliseconds.
    pub deadline_ms: u64,
}

/// From the replicator to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// How all sets stand: each second, and when something changed.
    Report(Vec<SetReport>),
    /// The answer to [`Order::Barrier`].
    Barrier {
        /// Which one.
        id: u64,
        /// Why the target does not have everything; left out: it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
    },
    /// Something worth telling happened: for the log and the history.
    Event {
        /// Which set.
        set: String,
        /// One line for people.
        text: String,
        /// An operator has to look at it.
        alarm: bool,
    },
}

/// How one set stands on this host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    /// `[replicate.NAME]`.
    pub set: String,
    /// Its instance.
    pub instance: String,
    /// This host pushes it.
    pub owns: bool,
    /// Under which ownership the tree was made.
    pub epoch: EpochWord,
    /// Number of the tree within it.
    pub generation: u64,
    /// As a standby: everything that the owner had so many milliseconds ago is here. As owner: 0.
    /// `None`: unknown, or it never had everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// What would be missing if this host died now and the standby that lacks most took over: the largest
    /// [`PeerReport::rpo_ms`]. Standbys: their age. `None`: unknown, because it is of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_ms: Option<u64>,
    /// Files that wait to be taken; as owner: that wait to be sent to the standby with most octets to come.
    pub pending_files: u64,
    /// Octets of them.
    pub pending_bytes: u64,
    /// As owner: how each other host stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerReport>,
    /// Files in the rescue folder.
    pub rescued_files: u64,
    /// What an operator has to look at, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Errors since the start, by kind.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub errors: std::collections::BTreeMap<String, u64>,
    /// Seconds since 1970 of the last verification of every hash; left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_s: Option<u64>,
}

/// How another host stands, as the owner knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Which host.
    pub host: String,
    /// There is a connection.
    pub connected: bool,
    /// It has the newest tree.
    pub in_sync: bool,
    /// What it last acknowledged.
    pub generation: u64,
    /// What would be missing if the owner died now and this host took over: milliseconds since the oldest change that it
    /// has not acknowledged, also while it is away. `None`: unknown, because it has acknowledged nothing of this
    /// ownership, or not all of what it acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_ms: Option<u64>,
    /// Files of the newest tree that it has not acknowledged.
    #[serde(default)]
    pub pending_files: u64,
    /// Octets of them.
    #[serde(default)]
    pub pending_bytes: u64,
    /// Octets sent of the transfer that is on, and in all; left out: none is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<(u64, u64)>,
    /// Why it does not take what is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What is asked of the replicator on `replica.sock`: `{"v":1,"verb":"status"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// How all sets stand.
    Status {},
    /// Read every file again and compare its hash with the manifest; on a standby with what the owner sent.
    Verify {
        /// Which set; left out: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set: Option<String>,
    },
    /// What happened: trees taken and refused, files kept aside, rescued.
    Log {
        /// Which set; left out: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set: Option<String>,
        /// The newest so many; left out: all that is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<usize>,
    },
    /// Copy a file that was kept aside out of the trash or the rescue folder.
    Restore {
        /// Which set.
        set: String,
        /// Its path below the root of the set.
        path: String,
        /// Which version, as [`Version::name`] says; left out: only list the versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Where to; must not exist. Left out: only list the versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// The tree that waits for an operator may be taken, once.
    Ack {
        /// Which set.
        set: String,
    },
}

impl Ask {
    /// Does it change anything? Then only root and the group of administrators may.
    pub const fn changes(&self) -> bool {
        matches!(self, Self::Restore { version: Some(_), .. } | Self::Ack { .. })
    }

    /// The set that it is about.
    pub fn set(&self) -> Option<&str> {
        match self {
            Self::Status {} => None,
            Self::Verify { set } | Self::Log { set, .. } => set.as_deref(),
            Self::Restore { set, .. } | Self::Ack { set } => Some(set),
        }
    }
}

/// What the replicator answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// To [`Ask::Status`].
    Sets(Vec<SetReport>),
    /// To [`Ask::Verify`].
    Verified(Vec<Verified>),
    /// To [`Ask::Log`], oldest first.
    Log(Vec<Entry>),
    /// To [`Ask::Restore`] without a place to go to, newest first.
    Versions(Vec<Version>),
    /// To what changed something: what was done.
    Done(String),
}

/// What came of reading every file of a set again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Which set.
    pub set: String,
    /// Files that were read.
    pub files: u64,
    /// Octets of them.
    pub bytes: u64,
    /// What is not as the manifest says, one line each; the first hundred.
    pub differs: Vec<String>,
    /// How many such there are.
    pub divergent: u64,
}

/// Something that happened to a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When: seconds since 1970.
    pub at_s: u64,
    /// Which set.
    pub set: String,
    /// One line for people.
    pub text: String,
    /// An operator had to look at it.
    pub alarm: bool,
}

/// A version of a file that was kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// How `restore --version` names it; begins with `trash/` or `rescue/`.
    pub name: String,
    /// Since when it is kept: seconds since 1970.
    pub at_s: u64,
    /// Octets.
    pub size: u64,
}
