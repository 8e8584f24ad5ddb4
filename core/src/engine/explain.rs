//! Why an instance is where it is and what would change it: the decision of this moment as data (P6, DESIGN 5.15).
//!
//! Asks the functions that decide, in the order in which a claim asks them, and changes nothing. Called by
//! `snapshot` for `vipd status` and `vipd why`, and by `simulate`. It must never come to a verdict of its own.

use super::peers::Peer;
use super::snapshot::{ActivationView, ReplicaView};
use super::{Engine, UnitIx};
use crate::config::model::{self as config, StandbyKind};
use crate::policy::replica::Staleness;
use crate::policy::{Closed, Standing};
use crate::time::{Duration, Instant};
use crate::types::{CheckIx, Class, HostIx, InstanceIx, State, Verdict};
use crate::vrrp::timing;
use std::net::IpAddr;

/// The decision of one unit at one moment.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What stands between this host and owning, in the order in which it is asked.
    pub gates: Vec<GateView>,
    /// The hosts of the instance by their order of eligibility, the best first; this host among them.
    pub order: Vec<Candidate>,
    /// Who would own next if the owner died now; `None`: nobody that this host knows of.
    pub successor: Option<Successor>,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateView {
    /// Which one, with what it looked at.
    pub gate: Gate,
    /// Does it let this host own?
    pub passed: bool,
}

/// What a claim asks for, with the inputs of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The service interface exists and runs.
    Link {
        /// Does it exist?
        exists: bool,
        /// Up, with carrier?
        running: bool,
    },
    /// There is an address to send adverts from.
    Source(Option<IpAddr>),
    /// Not kept out after a fault of the kernel or a fight over the address: time left.
    Barred(Option<Duration>),
    /// The interface has heard somebody since it came up (DESIGN 5.12): time left otherwise.
    Settled(Option<Duration>),
    /// Not kept back after crashes of the agent (DESIGN 5.7): time left.
    Restart(Option<Duration>),
    /// No member of the sync group is unable to own.
    Group(Option<InstanceIx>),
    /// The class of eligibility lets it claim at all, and why it is not better.
    Class(Class, Option<(CheckIx, Verdict)>),
    /// The copy of the state is good enough (DESIGN 5.13): as configured, and how it stands.
    Replica(ReplicaView),
    /// It claims by itself: no cold standby without an order.
    ByItself,
    /// The activation of the standby, where a claim needs it.
    Activation(ActivationView),
    /// No other owner lives.
    NoOwner(OwnerView),
    /// It may take the address from an owner that is weaker.
    Preempts {
        /// Effective priority here.
        mine: u8,
        /// That of the owner's last advert.
        theirs: u8,
        /// The gate that forbids it although it outranks the owner.
        closed: Option<Closed>,
    },
    /// The kernel of a silent peer does not serve the address any more (DESIGN 5.2).
    StaleHolder,
    /// The kernel confirmed the addresses.
    Applied,
}

/// Another owner, as this host sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerView {
    /// Time since its last advert.
    pub advert: Option<Duration>,
    /// The host that says over heartbeats that it owns.
    pub says_so: Option<HostIx>,
    /// Does that host answer on the service segment?
    pub reached: Option<bool>,
    /// Does any target answer on the service segment?
    pub targets: Option<bool>,
    /// After this long without an advert it counts as gone.
    pub patience: Duration,
}

/// A host of the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub host: HostIx,
    /// Is it this host, or heard over heartbeats right now?
    pub alive: bool,
    /// Its state, by its last word; `None`: it never spoke of the instance.
    pub state: Option<State>,
    /// Class of eligibility, by its last word.
    pub class: Class,
    /// Its copy of the state is old or unknown, by its last word.
    pub stale: bool,
    /// Effective priority, by its last word; as configured where it never spoke.
    pub priority: u8,
    /// How it stands by.
    pub standby: Option<StandbyKind>,
}

/// Who would own next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Which host.
    pub host: HostIx,
    /// After so long without an advert of the owner. An owner that says that it leaves is followed at once.
    pub after: Duration,
    /// It has to be made ready first, which takes longer by the time of its activation.
    pub activates: bool,
}

impl Engine {
    /// The decision of unit `u` at `now`.
    pub(super) fn explain(&self, u: UnitIx, now: Instant) -> Explanation {
        let order = self.order_of_eligibility(u);
        Explanation { gates: self.gates(u, now), successor: self.successor(u, &order), order }
    }

    fn gates(&self, u: UnitIx, now: Instant) -> Vec<GateView> {
        let unit = &self.units[u];
        let ix = unit.instance;
        let link = &self.links[usize::from(unit.link.0)];
        let left = |until: Instant| (until > now).then(|| until.since(now));
        let mut gates = Vec::new();
        let mut ask = |gate, passed| gates.push(GateView { gate, passed });
        let exists = link.state.index.is_some();
        ask(Gate::Link { exists, running: link.state.running }, link.usable());
        ask(Gate::Source(unit.source()), unit.source().is_some());
        let barred = left(unit.barred_until);
        ask(Gate::Barred(barred), barred.is_none());
        let class = self.class(u);
        let culprit = self.fitness(ix).health.culprit;
        if unit.is_active() {
            ask(Gate::Class(class, culprit), class <= Class::Held || unit.pinned);
            ask(Gate::Applied, self.holding(ix).applied());
            return gates;
        }
        let settling = link.settling(now).then(|| link.settle_until().since(now));
        ask(Gate::Settled(settling), settling.is_none());
        let kept_back = self.backup_until.and_then(left);
        ask(Gate::Restart(kept_back), kept_back.is_none());
        if self.others(u).next().is_some() {
            let unable = self.others(u).find(|o| self.units[*o].state() == State::Initialize);
            ask(Gate::Group(unable.map(|o| self.units[o].instance)), !self.sync_blocks(u));
        }
        let allowed = class < Class::Drained || self.ordered(u) || self.last_resort(u);
        ask(Gate::Class(class, culprit), allowed);
        if let Some(view) = self.replica_view(ix).filter(|view| view.gate != config::Gate::Ignore) {
            let forbids = self.fitness(ix).replica == Staleness::Forbids && !self.ordered(u);
            ask(Gate::Replica(view), !forbids);
        }
        if self.instance(u).standby.kind() == StandbyKind::Cold || self.waits_for_order(u) {
            ask(Gate::ByItself, !self.waits_for_order(u));
        }
        if self.instance(u).standby.activation().is_some() {
            let view = self.activation_view(ix, now);
            let running = matches!(view, ActivationView::Running { .. });
            let failed = matches!(view, ActivationView::Failed { .. });
            ask(Gate::Activation(view), !running && !failed);
        }
        if unit.state() != State::Backup {
            return gates;
        }
        let speaks = self.owner_speaks(u);
        ask(Gate::NoOwner(self.owner_view(u, now)), !speaks);
        if let Some(heard) = unit.vr.heard().filter(|_| speaks) {
            let (mine, theirs) = (unit.vr.params().priority, heard.priority);
            let closed = self.preempt_gate(u);
            ask(Gate::Preempts { mine, theirs, closed }, mine > theirs && closed.is_none());
        }
        if unit.stale.waits() {
            ask(Gate::StaleHolder, false);
        }
        gates
    }

    fn owner_view(&self, u: UnitIx, now: Instant) -> OwnerView {
        let vr = &self.units[u].vr;
        let says_so = self.living_owner(u);
        OwnerView {
            advert: vr.heard().map(|heard| now.since(heard.at)),
            says_so,
            reached: says_so.and_then(|host| self.reaches_host(u, host)),
            targets: self.reaches_targets(u),
            patience: vr.active_down(),
        }
    }

    /// Every host that is configured to take part.
    fn order_of_eligibility(&self, u: UnitIx) -> Vec<Candidate> {
        let instance = self.instance(u);
        let hosts = (0u8..).map(HostIx).zip(&instance.priorities);
        let mut order: Vec<(Standing, Candidate)> = hosts
            .filter_map(|(host, configured)| {
                let configured = configured.as_ref()?.get();
                Some(self.candidate(u, host, configured))
            })
            .collect();
        // Silent hosts last, whatever they were.
        order.sort_by(|(a, ca), (b, cb)| cb.alive.cmp(&ca.alive).then(b.compare(a)));
        order.into_iter().map(|(_, candidate)| candidate).collect()
    }

    fn candidate(&self, u: UnitIx, host: HostIx, configured: u8) -> (Standing, Candidate) {
        let standby = self.standby_of(u, host);
        if host == self.model.host {
            let standing = self.standing(u);
            let (class, priority) = (standing.class, standing.priority);
            let (state, stale) = (Some(self.units[u].state()), standing.stale);
            let candidate = Candidate { host, alive: true, state, class, stale, priority, standby };
            return (standing, candidate);
        }
        let alive =
            self.peers.iter().flat_map(|p| p.iter()).any(|p: &Peer| p.host == host && p.alive);
        let record = self.record(host, u);
        let standing = match &record {
            Some(record) => self.standing_of(u, host, record),
            None => {
                Standing { class: Class::Unable, stale: false, priority: configured, addr: None }
            }
        };
        let candidate = Candidate {
            host,
            alive,
            state: record.as_ref().map(|r| r.state),
            class: standing.class,
            stale: standing.stale,
            priority: standing.priority,
            standby,
        };
        (standing, candidate)
    }

    /// The first in `order` that would claim by itself if the owner died now.
    fn successor(&self, u: UnitIx, order: &[Candidate]) -> Option<Successor> {
        let unit = &self.units[u];
        let interval = unit.vr.active_interval();
        let comes = |c: &&Candidate| {
            c.alive
                && c.state == Some(State::Backup)
                && c.class < Class::Drained
                && c.standby != Some(StandbyKind::Cold)
        };
        let next = order.iter().find(comes)?;
        let after = if next.host == self.model.host {
            unit.vr.active_down()
        } else {
            timing::active_down(unit.vr.params().version, next.priority, interval)
        };
        let activates = next.standby == Some(StandbyKind::Warm);
        Some(Successor { host: next.host, after, activates })
    }
}
