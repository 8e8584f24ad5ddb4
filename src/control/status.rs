//! The status document: what `status --json` prints. `schema` grows when a field changes its meaning or goes;
//! new fields do not change it. Times are seconds before now, so that no clock has to be right.

use serde::{Deserialize, Serialize};

/// Version of the document.
pub const SCHEMA: u32 = 1;

/// What one agent does and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the agent.
    pub version: String,
    /// `[cluster] name`.
    pub cluster: String,
    /// This host.
    pub host: String,
    /// Hash of the meaning of the configuration, the same on every host of the group.
    pub config_hash: String,
    /// Seconds since the agent started.
    pub uptime_s: f64,
    /// How the protocol thread runs.
    pub scheduling: Scheduling,
    /// Instances of this host, by name.
    pub instances: Vec<Instance>,
    /// Other hosts; empty without heartbeats.
    pub peers: Vec<Peer>,
    /// Conditions of the host to look at.
    pub alarms: Vec<String>,
    /// What the edges counted.
    pub counters: Counters,
}

/// How the protocol thread runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// Real-time priority granted?
    pub real_time: bool,
    /// Pages locked?
    pub memory_locked: bool,
    /// Why not, when one of them was refused.
    pub refused: Option<String>,
}

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// `[instance.NAME]`.
    pub name: String,
    /// VRID.
    pub vrid: u8,
    /// Service interface.
    pub interface: String,
    /// `initialize`, `backup` or `active`.
    pub state: String,
    /// Why it may not claim or is second choice, where that is so: `fault`, `settling`, `held` ...
    pub condition: Option<String>,
    /// Seconds since it entered the state.
    pub since_s: f64,
    /// What brought it there.
    pub cause: Option<String>,
    /// Priority in use; 0: cannot own.
    pub priority: u8,
    /// Priority as configured.
    pub configured_priority: u8,
    /// Why the two differ.
    pub priority_cause: Option<String>,
    /// Number and host of the last claim seen.
    pub epoch: Option<String>,
    /// Who owns it.
    pub owner: Option<Owner>,
    /// Who would be next.
    pub next_owner: Option<NextOwner>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Seconds until the kernel drops the addresses unless they are renewed.
    pub lease_left_s: Option<f64>,
    /// Its virtual routers.
    pub routers: Vec<Router>,
    /// Conditions to look at.
    pub alarms: Vec<Alarm>,
}

/// Who owns an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name, where a heartbeat told.
    pub host: Option<String>,
    /// Source of its adverts; absent when it is this host before its first advert.
    pub address: Option<String>,
    /// Is it this host?
    pub this_host: bool,
}

/// Who would own an instance if its owner died now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextOwner {
    /// Name.
    pub host: String,
    /// Seconds that it would take, as far as this host can tell.
    pub after_s: Option<f64>,
}

/// An address of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// As configured, with its prefix length.
    pub address: String,
    /// Confirmed by the kernel on this host.
    pub applied: bool,
}

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Its state.
    pub state: String,
    /// Source of the owner's adverts.
    pub owner: Option<String>,
    /// Counters by name.
    pub counters: std::collections::BTreeMap<String, u64>,
}

/// A condition to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Name.
    pub host: String,
    /// Heard on any path?
    pub alive: bool,
    /// Every path to it.
    pub paths: Vec<Path>,
}

/// A heartbeat path to a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// The peer's address on it.
    pub address: String,
    /// Seconds since it was last heard; absent: never.
    pub heard_s: Option<f64>,
    /// Does it hear us there, by its own word?
    pub hears_me: bool,
}

/// What the edges counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Turns of the protocol thread.
    pub wakeups: u64,
    /// Longest time from a deadline to its handling, microseconds.
    pub latest_us: u64,
    /// Events that did not fit into the queue to the log.
    pub events_dropped: u64,
    /// Datagrams that the socket edge could not read or send.
    pub socket_errors: u64,
}
