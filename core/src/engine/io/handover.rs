//! What an agent leaves to the one that is started in its place (DESIGN 5.7).
//!
//! Made by the engine, carried over by the runtime in a file. Agents of different releases read each other's: what a
//! reader does not know it skips, what is missing is as if there had been no agent before.

use crate::time::{Duration, Instant};
use crate::types::Verdict;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Everything that has to be known to go on as if nothing had happened. Times are monotonic: it is good for one boot of
/// the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Handover {
    /// When it was made: nothing was sent after that.
    pub at: Instant,
    /// Boot counter of the heartbeats; they go on with it.
    pub boot: u64,
    /// Sequence of the last heartbeat.
    pub seq: u64,
    /// Nothing was to be claimed before then.
    pub backup_until: Option<Instant>,
    /// Service interfaces on which somebody was heard.
    pub links: Vec<LinkHandover>,
    /// The instances of this host.
    pub instances: Vec<InstanceHandover>,
    /// What the checks had settled on.
    pub checks: Vec<CheckHandover>,
    /// The other hosts.
    pub peers: Vec<PeerHandover>,
}

/// A service interface that forwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LinkHandover {
    /// Its name.
    pub name: String,
    /// The kernel's index: another one is another interface.
    pub index: u32,
}

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct InstanceHandover {
    /// Its name.
    pub name: String,
    /// Number of its epoch.
    pub epoch: u64,
    /// Host of its epoch.
    pub epoch_host: u8,
    /// Service address of the last known owner.
    pub owner: Option<IpAddr>,
    /// When that was last known to own.
    pub owner_at: Instant,
    /// It said that it lets go.
    pub owner_left: bool,
    /// What is elected: one, or one for each family.
    pub units: Vec<UnitHandover>,
}

/// One election.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct UnitHandover {
    /// Leading family: 4 or 6.
    pub family: u8,
    /// Was it the owner? Then it may go on as such.
    pub active: bool,
    /// Since when it was what it was.
    pub since: Instant,
    /// It owned because an operator said so.
    pub pinned: bool,
    /// The interval that its last adverts named, centiseconds.
    pub told_cs: u16,
    /// Adverts sent.
    pub adverts_sent: u64,
    /// The last advert of an owner.
    pub heard: Option<HeardHandover>,
    /// Interval of the owner, centiseconds.
    pub active_interval_cs: u16,
    /// Fit to own without a break since then.
    pub healthy_since: Option<Instant>,
    /// Lost the address to a fault at that time.
    pub lost_at: Option<Instant>,
    /// Yielded to that host, which had not heard this one since.
    pub unheard_by: Option<String>,
    /// Not to take part before then.
    pub barred_until: Instant,
}

/// An advert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HeardHandover {
    /// Sender.
    pub src: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Its interval, centiseconds.
    pub interval_cs: u16,
    /// When it arrived.
    pub at: Instant,
}

/// What a check had settled on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckHandover {
    /// Its name.
    pub name: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Since when.
    pub since: Instant,
    /// What was seen.
    pub detail: String,
}

/// What was known of another host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PeerHandover {
    /// Its name.
    pub host: String,
    /// Its boot counter.
    pub boot: u64,
    /// By path: sequence of its last heartbeat.
    pub paths: Vec<Option<u64>>,
    /// By path: did it say that it hears this host?
    pub hears_me: Vec<bool>,
    /// Its hardware addresses.
    pub macs: Vec<[u8; 6]>,
    /// Pace of its heartbeats, centiseconds.
    pub interval_cs: u16,
    /// Its release.
    pub version: String,
    /// Was it heard on any path?
    pub alive: bool,
}

impl Handover {
    /// Is it good at `now`? Peers wait for three of the intervals that the last adverts named.
    pub fn is_fresh(&self, now: Instant) -> bool {
        let units = self.instances.iter().flat_map(|i| &i.units);
        let told = units.map(UnitHandover::told).max().unwrap_or_default();
        self.at <= now && now.since(self.at) < told.max(Duration::from_secs(1)) * 3
    }
}

impl UnitHandover {
    /// The interval that its last adverts named.
    pub fn told(&self) -> Duration {
        Duration::from_millis(u64::from(self.told_cs) * 10)
    }
}
