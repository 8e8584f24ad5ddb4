//! What status shows: plain data, taken between two inputs.

use super::Engine;
use super::io::{Alarm, Cause, LinkState, PeerView};
use crate::policy::Closed;
use crate::time::{Duration, Instant};
use crate::types::{Class, Epoch, Family, HostIx, InstanceIx, State, Vip};
use crate::vrrp::Expiry;
use crate::wire::receive::{GlobalCounters, RouterCounters};
use std::net::IpAddr;

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When.
    pub at: Instant,
    /// Time since the engine started.
    pub uptime: Duration,
    /// Virtual routers, one entry per unit: an instance in shared fate has one, others one per family.
    pub units: Vec<UnitView>,
    /// Service interfaces, by position in the model.
    pub links: Vec<LinkState>,
    /// Peers, where heartbeats run.
    pub peers: Vec<PeerView>,
    /// Conditions that somebody has to look at.
    pub alarms: Vec<(Option<InstanceIx>, Alarm)>,
    /// Errors that belong to no instance.
    pub counters: GlobalCounters,
}

/// One elected unit.
#[derive(Clone, Debug)]
pub struct UnitView {
    /// Its instance.
    pub instance: InstanceIx,
    /// Its families, the leading one first, each with its advert source and counters.
    pub families: Vec<(Family, Option<IpAddr>, RouterCounters)>,
    /// State.
    pub state: State,
    /// Time in this state.
    pub since: Duration,
    /// Why it is in this state.
    pub cause: Cause,
    /// Effective priority.
    pub priority: u8,
    /// Configured priority.
    pub configured: u8,
    /// Class of eligibility.
    pub class: Class,
    /// Epoch of the last claim here.
    pub epoch: Epoch,
    /// Who owns, as far as known: this host, or the sender of the last advert.
    pub owner: Option<IpAddr>,
    /// The owner's host, where heartbeats tell.
    pub owner_host: Option<HostIx>,
    /// Did the kernel confirm every address?
    pub applied: bool,
    /// What is left of the lease.
    pub lease_left: Option<Duration>,
    /// Addresses that it claims.
    pub addresses: Vec<Vip>,
    /// Backup: when it would claim, and why, if nothing is heard until then.
    pub next_claim: Option<(Duration, Expiry)>,
    /// What keeps it from preempting.
    pub gate: Option<Closed>,
    /// Handing over or stopping.
    pub leaving: bool,
}

impl Engine {
    /// What status shows, at `now`.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let peers = self.peers.iter().flat_map(super::peers::Peers::iter).map(|p| PeerView {
            host: p.host,
            alive: p.alive,
            version: p.version.clone(),
            heard: p.path_view().map(|(at, _)| at.map(|t| now.since(t))).collect(),
            hears_me: p.path_view().map(|(_, hears)| hears).collect(),
        });
        Snapshot {
            at: now,
            uptime: now.since(self.started),
            units: (0..self.units.len()).map(|u| self.unit_view(u, now)).collect(),
            links: self.links.iter().map(|l| l.state.clone()).collect(),
            peers: peers.collect(),
            alarms: self.reporter.alarms.keys().cloned().collect(),
            counters: self.global,
        }
    }

    fn unit_view(&self, u: usize, now: Instant) -> UnitView {
        let unit = &self.units[u];
        let holding = self.holding(unit.instance);
        let owner = match unit.state() {
            State::Active => unit.source(),
            State::Backup => unit.vr.heard().map(|h| h.src),
            State::Initialize => None,
        };
        UnitView {
            instance: unit.instance,
            families: unit
                .voices
                .iter()
                .map(|v| (v.family, v.source, v.receiver.counters))
                .collect(),
            state: unit.state(),
            since: now.since(unit.since),
            cause: unit.cause.clone(),
            priority: unit.vr.params().priority,
            configured: self.instance(u).priority.get(),
            class: unit.class(),
            epoch: self.epoch_of(unit.instance),
            owner,
            owner_host: if unit.is_active() {
                Some(self.model.host)
            } else {
                self.living_owner(u).or_else(|| owner.and_then(|o| self.host_of(o)))
            },
            applied: holding.applied() && unit.is_active(),
            lease_left: holding.lease_left(now).filter(|_| unit.keeps_addresses()),
            addresses: self.unit_vips(u).copied().collect(),
            next_claim: unit.vr.next_claim().map(|(at, why)| (at.since(now), why)),
            gate: self.preempt_gate(u).filter(|_| unit.state() == State::Backup),
            leaving: unit.leaving.is_some(),
        }
    }
}
