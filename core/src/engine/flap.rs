//! Flap control of an instance: penalties, the move budget, and what of both outlives a restart (DESIGN 5.10, P4).

use super::fitness::PIN;
use super::io::{Alarm, Cause, FlapRecord, StandingReason};
use super::{Engine, UnitIx};
use crate::config::model::{Budget, Damping};
use crate::policy::budget::Moves;
use crate::policy::damping::{self, Penalty};
use crate::policy::stamp::{instant, of_utc, stamp, to_utc};
use crate::time::Instant;
use crate::types::{HostIx, InstanceIx, State};
use crate::wire::heartbeat::InstanceRecord;
use std::net::IpAddr;

/// Who owned last, as this host saw it.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Ownership {
    pub(super) owner: Option<IpAddr>,
    /// When it was last known to own.
    pub(super) at: Instant,
    /// It said that it lets go.
    pub(super) left: bool,
}

impl Engine {
    fn damping(&self, ix: InstanceIx) -> Option<Damping> {
        self.model.instance(ix).flap.damping
    }

    fn budget(&self, ix: InstanceIx) -> Option<Budget> {
        self.model.instance(ix).flap.budget.clone()
    }

    /// Flap control that is off holds nothing.
    pub(super) fn flap_configured(&mut self, ix: InstanceIx) {
        let (damping, budget) = (self.damping(ix), self.budget(ix));
        let fitness = &mut self.fitness[usize::from(ix.0)];
        if damping.is_none() {
            fitness.penalty = Penalty::default();
        }
        if budget.is_none() {
            fitness.moves = Moves::default();
        }
    }

    /// What flap control remembered before a restart of the agent.
    pub(super) fn recall_flap(&mut self, instance: InstanceIx, record: FlapRecord) {
        let now = self.now;
        let at = |utc: u64| of_utc(utc, now);
        let (damping, budget) = (self.damping(instance), self.budget(instance));
        let fitness = &mut self.fitness[usize::from(instance.0)];
        fitness.penalty = damping.map_or_else(Penalty::default, |config| {
            Penalty::recalled(
                &config,
                record.penalty,
                at(record.at_ms),
                record.suppressed_ms.map(at),
            )
        });
        fitness.moves = budget.map_or_else(Moves::default, |_| {
            Moves::recalled(record.moves_ms.into_iter().map(at).collect(), record.held_ms.map(at))
        });
        self.flap_due(instance);
        let fitness = self.fitness(instance);
        let (held, suppressed) =
            (fitness.moves.held().is_some(), fitness.penalty.suppressed().is_some());
        self.alarm(Some(instance), Alarm::Held, held);
        self.alarm(Some(instance), Alarm::Suppressed, suppressed);
        self.reassess(instance, held.then_some(StandingReason::Held));
    }

    /// What flap control has to remember over a restart.
    pub(super) fn flap_record(&self, ix: InstanceIx) -> FlapRecord {
        let now = self.now;
        let at = stamp(now.mono);
        let fitness = self.fitness(ix);
        let utc = |t| to_utc(t, now);
        FlapRecord {
            penalty: self.damping(ix).map_or(0, |config| fitness.penalty.value(&config, at)),
            at_ms: utc(at),
            suppressed_ms: fitness.penalty.suppressed().map(utc),
            moves_ms: fitness.moves.times().iter().copied().map(utc).collect(),
            held_ms: fitness.moves.held().map(utc),
        }
    }

    /// Only one unit of an instance counts: what happens to both families together is one thing.
    fn leads(&self, u: UnitIx) -> bool {
        self.by_instance[usize::from(self.units[u].instance.0)].first() == Some(&u)
    }

    /// This host lost the address, or the fitness for it.
    pub(super) fn penalize(&mut self, ix: InstanceIx, amount: u32) {
        let Some(config) = self.damping(ix) else { return };
        let now = stamp(self.now.mono);
        let penalty = &mut self.fitness[usize::from(ix.0)].penalty;
        let over = penalty.add(&config, amount, now);
        let value = penalty.value(&config, now);
        self.remember(ix);
        if over {
            self.alarm(Some(ix), Alarm::Suppressed, true);
            self.reassess(ix, Some(StandingReason::Suppressed { penalty: value }));
        }
    }

    /// The unit ceased to be owner, or to be able to, for `cause`.
    pub(super) fn lost(&mut self, u: UnitIx, owner: bool, cause: &Cause) {
        if !self.leads(u) {
            return;
        }
        let ix = self.units[u].instance;
        let unplanned = matches!(
            cause,
            Cause::LinkDown
                | Cause::NoSource
                | Cause::KernelFault
                | Cause::LeaseEnded
                | Cause::Overslept(_)
                | Cause::Isolated
                | Cause::Settled(_)
        );
        if unplanned {
            self.penalize(ix, if owner { damping::LOSS } else { damping::UNFIT });
        }
        if owner {
            self.ownership[usize::from(ix.0)].left = true;
        }
    }

    /// An owner was heard, or said that it lets go.
    pub(super) fn owner_seen(&mut self, u: UnitIx, src: IpAddr, priority: u8, at: Instant) {
        if !self.leads(u) || self.units[u].state() != State::Backup {
            return;
        }
        let ix = self.units[u].instance;
        let patience = self.units[u].vr.active_interval().duration() * 3 / 2;
        let known = &mut self.ownership[usize::from(ix.0)];
        if priority == 0 {
            known.left |= known.owner == Some(src);
            return;
        }
        let same = known.owner.is_none_or(|owner| owner == src);
        // Two that own at once are no move: one of them falls silent first. What an operator moved is none that
        // counts: the host where he did so advertises that.
        if same || known.left || at.since(known.at) > patience {
            self.owned_by(u, src, at, priority == PIN);
        }
    }

    /// This host claimed.
    pub(super) fn owned_here(&mut self, u: UnitIx) {
        let Some(src) = self.units[u].source().filter(|_| self.leads(u)) else { return };
        // Pinned is also what moves with the instance that an operator promoted.
        let planned = self.units[u].pinned;
        self.owned_by(u, src, self.now.mono, planned);
    }

    /// This host let go for `src`, as planned.
    pub(super) fn went_to(&mut self, u: UnitIx, src: IpAddr) {
        if self.leads(u) {
            self.owned_by(u, src, self.now.mono, true);
        }
    }

    fn owned_by(&mut self, u: UnitIx, src: IpAddr, at: Instant, planned: bool) {
        let ix = self.units[u].instance;
        let known = &mut self.ownership[usize::from(ix.0)];
        let before = known.owner.replace(src);
        known.at = known.at.max(at);
        known.left = false;
        let Some(before) = before.filter(|b| *b != src) else { return };
        // A clean stop is no flap. Only heartbeats tell it from an owner that lets go because it fails.
        let stopped = self.host_of(before).is_some_and(|host| {
            let leaves = |r: InstanceRecord| r.leaving && r.state == State::Initialize;
            self.record(host, u).is_some_and(leaves) || self.move_was_ordered(u, host)
        });
        if !planned && !stopped {
            self.moved(ix, at);
        }
    }

    /// The address moved by itself at `at`: who slept reads of it later, and counts as the others did.
    fn moved(&mut self, ix: InstanceIx, at: Instant) {
        let Some(config) = self.budget(ix) else { return };
        let spent = self.fitness[usize::from(ix.0)].moves.moved(&config, stamp(at));
        self.remember(ix);
        if spent {
            self.alarm(Some(ix), Alarm::Held, true);
            self.reassess(ix, Some(StandingReason::Held));
        }
    }

    /// The host that owned last, if it is another one of the group.
    pub(super) fn last_owner(&self, ix: InstanceIx) -> Option<HostIx> {
        self.host_of(self.ownership[usize::from(ix.0)].owner?)
    }

    /// When a suppression or a hold ends by itself.
    pub(super) fn flap_deadline(&self, ix: InstanceIx) -> Option<Instant> {
        let flap = &self.model.instance(ix).flap;
        let fitness = self.fitness(ix);
        let reused = flap.damping.as_ref().and_then(|c| fitness.penalty.free_at(c));
        let freed = flap.budget.as_ref().and_then(|c| fitness.moves.free_at(c));
        reused.into_iter().chain(freed).min().map(instant)
    }

    pub(super) fn flap_due(&mut self, ix: InstanceIx) {
        let now = stamp(self.now.mono);
        let (damping, budget) = (self.damping(ix), self.budget(ix));
        let fitness = &mut self.fitness[usize::from(ix.0)];
        let reused = damping.is_some_and(|c| fitness.penalty.tick(&c, now));
        let freed = budget.is_some_and(|c| fitness.moves.tick(&c, now));
        if reused || freed {
            self.remember(ix);
        }
        self.flap_over(ix, reused, freed);
    }

    fn flap_over(&mut self, ix: InstanceIx, reused: bool, freed: bool) {
        if reused {
            self.alarm(Some(ix), Alarm::Suppressed, false);
            self.reassess(ix, Some(StandingReason::Reused));
        }
        if freed {
            self.alarm(Some(ix), Alarm::Held, false);
            self.reassess(ix, Some(StandingReason::HoldOver));
        }
    }

    /// Somebody looked: what was held goes on.
    pub(super) fn acknowledge(&mut self, ix: InstanceIx) {
        let now = stamp(self.now.mono);
        let damping = self.damping(ix);
        let fitness = &mut self.fitness[usize::from(ix.0)];
        let reused = fitness.penalty.suppressed().is_some();
        let freed = fitness.moves.held().is_some();
        if let Some(config) = damping {
            fitness.penalty.forgive(&config, now);
        }
        if freed {
            fitness.moves.acknowledge();
        }
        // A penalty below the limit is forgiven as well: a restart must not bring it back.
        self.remember(ix);
        self.flap_over(ix, reused, freed);
    }
}
