//! The status document: what `status --json` prints. `schema` grows when a field changes its meaning or goes;
//! new fields do not change it. Times are seconds before now, so that no clock has to be right.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use vipd_core::replica::SetReport;

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
    /// Checks that an instance of this host uses, by name.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Other hosts; empty without heartbeats.
    pub peers: Vec<Peer>,
    /// The replicator of this host; absent: no sets are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicator: Option<Replicator>,
    /// Service interfaces.
    pub interfaces: Vec<Interface>,
    /// Conditions of the host to look at.
    pub alarms: Vec<Alarm>,
    /// Hooks that have run, by name and instance.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// What belongs to no instance, by name.
    pub counters: BTreeMap<String, u64>,
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

/// One instance; where its families run by themselves, one entry for each family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// `[instance.NAME]`.
    pub name: String,
    /// `ipv4`, `ipv6`: the leading one first.
    pub families: Vec<Family>,
    /// VRID.
    pub vrid: u8,
    /// Service interface.
    pub interface: String,
    /// `initialize`, `backup` or `active`.
    pub state: String,
    /// Why it may not claim or is second choice: `fault`, `settling`, `held`, `leaving`.
    pub condition: Option<String>,
    /// Seconds since it entered the state.
    pub since_s: f64,
    /// What brought it there.
    pub cause: String,
    /// Priority in use.
    pub priority: u8,
    /// Priority as configured.
    pub configured_priority: u8,
    /// Number and host of the last claim of this host.
    pub epoch: String,
    /// Who owns it, as far as this host knows.
    pub owner: Option<Owner>,
    /// What this host does next by itself.
    pub next: Option<String>,
    /// Its addresses, with their prefix lengths.
    pub addresses: Vec<String>,
    /// Did the kernel of this host confirm every address?
    pub applied: bool,
    /// Seconds until the kernel drops the addresses unless they are renewed.
    pub lease_left_s: Option<f64>,
    /// Class of eligibility: `healthy`, `held`, `failing`, `drained` or `unable`.
    #[serde(default)]
    pub class: String,
    /// `hot`, `warm` or `cold`.
    #[serde(default)]
    pub standby: String,
    /// Names of its checks.
    #[serde(default)]
    pub checks: Vec<String>,
    /// What it waits for, with the time that is left: one sentence each.
    #[serde(default)]
    pub waits: Vec<String>,
    /// What keeps the address from bouncing.
    #[serde(default)]
    pub flap: Flap,
    /// Its sets of state files, as the replicator says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<SetReport>,
    /// Conditions to look at.
    pub alarms: Vec<Alarm>,
    /// The decision behind the state: gates, order of the hosts, who is next.
    #[serde(default)]
    pub why: Why,
}

/// The decision of an instance at this moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// What stands between this host and owning, in the order in which it is asked.
    pub gates: Vec<Gate>,
    /// The hosts of the instance, the best owner first; this host among them.
    pub order: Vec<Candidate>,
    /// Who owns next if the owner dies now; absent: nobody that this host knows of.
    pub successor: Option<Successor>,
    /// What would change the state: one sentence each.
    pub changes: Vec<String>,
}

/// Something that a host needs to own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// For programs: `link`, `source`, `barred`, `settled`, `restart`, `group`, `class`, `standby`, `activation`,
    /// `owner`, `priority`, `stale-holder` or `kernel`.
    pub name: String,
    /// Does it let this host own?
    pub passed: bool,
    /// What it looked at.
    pub detail: String,
}

/// A host of the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub host: String,
    /// Is it this one?
    pub this_host: bool,
    /// Heard over heartbeats right now; true of this host.
    pub alive: bool,
    /// `initialize`, `backup` or `active`, by its last word; absent: it said nothing.
    pub state: Option<String>,
    /// As in [`Instance::class`].
    pub class: String,
    /// Effective priority by its last word, else the configured one.
    pub priority: u8,
    /// `hot`, `warm` or `cold`.
    pub standby: Option<String>,
}

/// Who owns next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Successor {
    /// Its name.
    pub host: String,
    /// Is it this one?
    pub this_host: bool,
    /// After so many seconds without an advert of the owner.
    pub after_s: f64,
    /// A warm standby: it is made ready first, which takes longer.
    pub activates: bool,
}

/// Flap control of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flap {
    /// Penalty now; absent: damping is off.
    pub penalty: Option<u32>,
    /// Second choice by penalties for so many seconds more.
    pub suppressed_s: Option<f64>,
    /// Held by the move budget for so many seconds more, if nothing moves and nobody acknowledges.
    pub held_s: Option<f64>,
    /// Automatic moves in each window of the budget.
    pub moves: Vec<Moves>,
}

/// Automatic moves in one window of the budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moves {
    /// So many.
    pub count: u32,
    /// With this many the instance is held.
    pub limit: u32,
    /// Length of the window in seconds.
    pub within_s: f64,
}

/// A hook, for one instance: its last run, and what it says of the replicas that it makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// `[hook.NAME]`.
    pub name: String,
    /// `[instance.NAME]`.
    pub instance: String,
    /// What the last run was told: `active`, `sync-change`, `pre-demote` and so on.
    pub event: String,
    /// How it ended: `ok`, `veto`, `later`, `timeout`, `not-run` or `failed`.
    pub outcome: String,
    /// The same for people, with its last words.
    pub told: String,
    /// Seconds since it ended.
    pub age_s: f64,
    /// Seconds that it took.
    pub took_s: f64,
    /// Runs since the last good one.
    pub failures: u32,
    /// On the owner: seconds of changes that the other hosts may lack by now, from `rpo_ms` of the last good push.
    pub rpo_s: Option<f64>,
    /// What it said that it pushed.
    pub generation: Option<String>,
}

/// A health check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `[check.NAME]`.
    pub name: String,
    /// The verdict that counts: `pass`, `warn`, `fail`; absent: nothing said yet.
    pub state: Option<String>,
    /// Seconds since it counts.
    pub since_s: Option<f64>,
    /// `info`, `degrade`, `fail`, `fatal` or `drain`.
    pub severity: String,
    /// What was seen last.
    pub detail: String,
    /// The last reading: `pass`, `warn`, `fail` or `unknown`.
    pub last: Option<String>,
    /// Seconds since then.
    pub last_s: Option<f64>,
    /// On its way to another verdict: readings in a row so far, and how many it takes.
    pub progress: Option<(u32, u32)>,
    /// Could not be run, again and again.
    pub unknown: bool,
}

/// One family of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Source of this host's adverts; absent: it cannot speak.
    pub source: Option<String>,
    /// Counters by the names of RFC 8347.
    pub counters: BTreeMap<String, u64>,
}

/// Who owns an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name, where a heartbeat told.
    pub host: Option<String>,
    /// Source of its adverts.
    pub address: Option<String>,
    /// Is it this host?
    pub this_host: bool,
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
    /// Its version.
    pub version: String,
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

/// The process that keeps state files in step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replicator {
    /// Does it speak to the agent?
    pub connected: bool,
    /// Seconds since its last word; absent: it said nothing yet.
    pub heard_s: Option<f64>,
}

/// A service interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Does it exist?
    pub exists: bool,
    /// Up, with carrier?
    pub running: bool,
    /// Usable addresses that are not virtual.
    pub addresses: Vec<String>,
}
