//! What status shows: plain data, taken between two inputs.

use super::Engine;
use super::explain::Explanation;
use super::io::{Alarm, Cause, LinkState, PeerView, Verdict};
use super::standby::Activating;
use crate::config::model::{self as config, StandbyKind};
use crate::histogram::Histogram;
use crate::policy::Closed;
use crate::policy::check::Progress;
use crate::policy::stamp::{instant, stamp};
use crate::time::{Duration, Instant};
use crate::types::{CheckIx, Class, Epoch, Family, HostIx, InstanceIx, State, Vip};
use crate::vrrp::Expiry;
use crate::wire::receive::{GlobalCounters, RouterCounters};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When.
    pub at: Instant,
    /// Time since the engine started.
    pub uptime: Duration,
    /// Virtual routers, one entry per unit: an instance in shared fate has one, others one per family.
    pub units: Vec<UnitView>,
    /// Checks, by position in the model.
    pub checks: Vec<CheckView>,
    /// Service interfaces, by position in the model.
    pub links: Vec<LinkState>,
    /// Peers, where heartbeats run.
    pub peers: Vec<PeerView>,
    /// Who owns what, of the instances whose state follows the address.
    pub roles: Vec<(InstanceIx, RoleView)>,
    /// Conditions that somebody has to look at.
    pub alarms: Vec<(Option<InstanceIx>, Alarm)>,
    /// Errors that belong to no instance.
    pub counters: GlobalCounters,
}

/// Who owns an instance, as far as this host knows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// This host owns it, knows of no living owner with a newer epoch, and knows that its own is the newest: it pushes.
    pub owns: bool,
    /// Who owns, where known.
    pub owner: Option<HostIx>,
    /// The newest ownership that is known; of an owner its own.
    pub epoch: Epoch,
}

/// How the copies of an instance's state files stand on this host.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// What an old one does to a claim: the strictest of all sets.
    pub gate: config::Gate,
    /// It is old or unknown. Never of an owner.
    pub stale: bool,
    /// Time since the oldest was complete; `None`: never, or nobody knows.
    pub age: Option<Duration>,
    /// Octets that were still to come.
    pub pending: u64,
}

/// One elected unit.
#[derive(Clone, Debug)]
pub struct UnitView {
    /// Its instance.
    pub instance: InstanceIx,
    /// Its families, the leading one first, each with its advert source and counters.
    pub families: Vec<(Family, Option<IpAddr>, RouterCounters)>,
    /// Time between adverts of one owner, by family as above.
    pub advert_gaps: Vec<Histogram>,
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
    /// Is there another host that would own if this one did not? `None`: without heartbeats nobody knows.
    pub redundant: Option<bool>,
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
    /// Why the class is not better, where a check of this instance is the reason.
    pub culprit: Option<(CheckIx, Verdict)>,
    /// Time left until the first word of its checks is waited for no longer.
    pub awaits_checks: Option<Duration>,
    /// Time left until the priority may follow the checks.
    pub priority_change: Option<Duration>,
    /// Unfit owner: time left until it tries again to hand over; zero: when a better host is there.
    pub next_offer: Option<Duration>,
    /// How this host stands by.
    pub standby: StandbyKind,
    /// Where its activation is.
    pub activation: ActivationView,
    /// An operator ordered it to claim, and it has not yet.
    pub ordered: bool,
    /// It owns because an operator said so.
    pub pinned: bool,
    /// On its way to or from another host, as planned.
    pub moving: Option<MoveView>,
    /// Owner: the stronger host that waits until its state is brought there, and what is left until that is tried again.
    pub asked_by: Option<(HostIx, Duration)>,
    /// Drained: what is left of that, `None` inside: until undrained; and whether it claims as the last resort.
    pub drained: Option<(Option<Duration>, bool)>,
    /// Frozen in the whole group: what is left of that, `None` inside: until thawed.
    pub frozen: Option<Option<Duration>>,
    /// Moved away from here by an operator: not taken back before failback.
    pub away: bool,
    /// A priority beside the configured one, and what is left of that, `None`: until taken back.
    pub ordered_priority: Option<(u8, Option<Duration>)>,
    /// The copies of its state files; `None`: it has no sets.
    pub replica: Option<ReplicaView>,
    /// What keeps the address from bouncing.
    pub flap: FlapView,
    /// Why it is where it is, and who is next.
    pub why: Explanation,
}

/// One check.
#[derive(Clone, Debug)]
pub struct CheckView {
    /// Which one.
    pub check: CheckIx,
    /// The verdict that counts; `None`: nothing said yet.
    pub settled: Option<Verdict>,
    /// How long it has been so.
    pub since: Option<Duration>,
    /// What was seen last.
    pub detail: Arc<str>,
    /// The last reading, and how long ago.
    pub last: Option<(Verdict, Duration)>,
    /// On its way to another verdict.
    pub progress: Option<Progress>,
    /// Could not be run, again and again.
    pub unknown: bool,
}

/// Where the activation of a standby is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActivationView {
    /// Not asked for.
    Idle,
    /// Running.
    Running {
        /// For so long.
        since: Duration,
        /// Taken to have failed after so long.
        left: Duration,
    },
    /// Ready to claim, for this long.
    Ready(Duration),
    /// Failed.
    Failed {
        /// Time left until it may be tried again.
        retry: Duration,
        /// Why.
        why: Arc<str>,
    },
}

/// A move that is on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MoveView {
    /// From here, to this host or to whoever comes.
    To(Option<HostIx>),
    /// To here.
    From(HostIx),
}

/// Flap control of one instance.
#[derive(Clone, Debug)]
pub struct FlapView {
    /// Penalty; `None`: damping is off.
    pub penalty: Option<u32>,
    /// Second choice by penalties, for this long.
    pub suppressed: Option<Duration>,
    /// Held by the move budget, for this long unless something moves or somebody acknowledges.
    pub held: Option<Duration>,
    /// Automatic moves in each window of the budget: so many, of so many, in so long.
    pub moves: Vec<(u32, u32, Duration)>,
}

/// What is left until then; `None`: it has no end.
fn left(until: Instant, now: Instant) -> Option<Duration> {
    (until != Instant::MAX).then(|| until.since(now))
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
            checks: (0u16..)
                .map(CheckIx)
                .take(self.model.checks.len())
                .map(|check| self.check_view(check, now))
                .collect(),
            links: self.links.iter().map(|l| l.state.clone()).collect(),
            peers: peers.collect(),
            roles: self.stateful.iter().map(|ix| (*ix, self.role(*ix))).collect(),
            alarms: self.reporter.alarms.keys().cloned().collect(),
            counters: self.global,
        }
    }

    pub(super) fn unit_view(&self, u: usize, now: Instant) -> UnitView {
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
            advert_gaps: unit.voices.iter().map(|v| v.rhythm.gaps).collect(),
            state: unit.state(),
            since: now.since(unit.since),
            cause: unit.cause.clone(),
            priority: unit.vr.params().priority,
            configured: self.instance(u).priority.get(),
            class: self.class(u),
            epoch: self.epoch_of(unit.instance),
            owner,
            owner_host: if unit.is_active() {
                Some(self.model.host)
            } else {
                self.living_owner(u).or_else(|| owner.and_then(|o| self.host_of(o)))
            },
            redundant: self.redundant(u),
            applied: holding.applied() && unit.is_active(),
            lease_left: holding.lease_left(now).filter(|_| unit.keeps_addresses()),
            addresses: self.unit_vips(u).copied().collect(),
            next_claim: unit.vr.next_claim().map(|(at, why)| (at.since(now), why)),
            gate: self.preempt_gate(u).filter(|_| unit.state() == State::Backup),
            leaving: unit.leaving.is_some(),
            culprit: self.fitness(unit.instance).health.culprit,
            awaits_checks: self.fitness(unit.instance).health.awaits.map(|at| at.since(now)),
            priority_change: self.fitness(unit.instance).priority_due().map(|at| at.since(now)),
            next_offer: self.offer_due(u).map(|at| at.since(now)),
            standby: self.instance(u).standby.kind(),
            activation: self.activation_view(unit.instance, now),
            ordered: self.standby(unit.instance).ordered,
            pinned: unit.pinned,
            moving: self.move_view(unit.instance),
            asked_by: self.asked_by(u).map(|(host, at)| (host, at.since(now))),
            drained: self.drain_of(unit.instance).map(|(until, last)| (left(until, now), last)),
            frozen: self.frozen(u).map(|until| left(until, now)),
            away: self.away(u),
            ordered_priority: self
                .priority_order(unit.instance)
                .map(|(priority, until)| (priority, left(until, now))),
            replica: self.replica_view(unit.instance),
            flap: self.flap_view(unit.instance, now),
            why: self.explain(u, now),
        }
    }

    fn check_view(&self, check: CheckIx, now: Instant) -> CheckView {
        let state = &self.checks.states[usize::from(check.0)];
        CheckView {
            check,
            settled: state.settled(),
            since: state.settled().map(|_| now.since(state.since())),
            detail: Arc::clone(state.detail()),
            last: state.last().map(|(verdict, at)| (verdict, now.since(at))),
            progress: state.progress(self.model.check(check)),
            unknown: state.unknown(),
        }
    }

    pub(super) fn activation_view(&self, ix: InstanceIx, now: Instant) -> ActivationView {
        match &self.standby(ix).activating {
            Activating::Running { since, until, .. } => {
                ActivationView::Running { since: now.since(*since), left: until.since(now) }
            }
            Activating::Ready { until } if *until > now => ActivationView::Ready(until.since(now)),
            Activating::Failed { at, why } => {
                ActivationView::Failed { retry: at.since(now), why: Arc::clone(why) }
            }
            Activating::Idle | Activating::Ready { .. } => ActivationView::Idle,
        }
    }

    fn flap_view(&self, ix: InstanceIx, now: Instant) -> FlapView {
        let flap = &self.model.instance(ix).flap;
        let fitness = self.fitness(ix);
        let left = |at| instant(at).since(now);
        let at = stamp(now);
        FlapView {
            penalty: flap.damping.as_ref().map(|c| fitness.penalty.value(c, at)),
            suppressed: flap.damping.as_ref().and_then(|c| fitness.penalty.free_at(c)).map(left),
            held: flap.budget.as_ref().and_then(|c| fitness.moves.free_at(c)).map(left),
            moves: flap
                .budget
                .iter()
                .flat_map(|c| &c.limits)
                .map(|(most, within)| (fitness.moves.within(*within, at), *most, *within))
                .collect(),
        }
    }
}
