//! Is this host fit to own (DESIGN 5.10, 5.14)? Readings in; class of eligibility and effective priority out.
//!
//! What readings, weights and penalties mean is decided in `policy`; here is what follows for the virtual routers.

use super::io::{Alarm, Cause, EventKind, Reading, StandingReason, Verdict};
use super::reload::Renumber;
use super::{Engine, UnitIx};
use crate::config::model::{Instance, Model, Probe};
use crate::policy::budget::Moves;
use crate::policy::check::CheckState;
use crate::policy::damping::{self, Penalty};
use crate::policy::health::{self, Health, Pace, Seen};
use crate::policy::replica::Staleness;
use crate::time::{Duration, Instant};
use crate::types::{CheckIx, Class, InstanceIx, State};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Priority of a host that an operator promoted (DESIGN 5.6).
pub(super) const PIN: u8 = 254;

/// All checks of this host.
#[derive(Clone)]
pub(super) struct Checks {
    pub(super) states: Vec<CheckState>,
    /// From when the first word of each is awaited.
    pub(super) from: Vec<Instant>,
    /// The instances that use each.
    users: Vec<Vec<InstanceIx>>,
}

impl Checks {
    pub(super) fn new(model: &Model, now: Instant) -> Self {
        let users = (0u16..).map(CheckIx).zip(&model.checks).map(|(check, _)| {
            let uses = |i: &Instance| {
                let ready = i.standby.activation().and_then(|a| a.ready);
                i.checks.contains(&check) || ready == Some(check)
            };
            model.iter().filter(|(_, i)| uses(i)).map(|(ix, _)| ix).collect()
        });
        Self {
            states: vec![CheckState::default(); model.checks.len()],
            from: vec![now; model.checks.len()],
            users: users.collect(),
        }
    }
}

/// What the policy knows of one instance on this host.
#[derive(Clone)]
pub(super) struct Fitness {
    pub(super) health: Health,
    /// By an operator.
    pub(super) drained: bool,
    /// What the copy of the state does to a claim.
    pub(super) replica: Staleness,
    pace: Pace,
    /// The cost may follow then, for this reason.
    retry: Option<(Instant, Option<StandingReason>)>,
    pub(super) penalty: Penalty,
    pub(super) moves: Moves,
    /// Class and priority as last told.
    told: (Class, u8),
}

impl Fitness {
    pub(super) fn new(instance: &Instance) -> Self {
        Self {
            health: Health::default(),
            drained: false,
            replica: Staleness::default(),
            pace: Pace::default(),
            retry: None,
            penalty: Penalty::default(),
            moves: Moves::default(),
            told: (Class::Healthy, instance.priority.get()),
        }
    }

    /// Class of the checks, and of flap control where they have nothing to say; drained it is no better than that. An
    /// old copy of the state is second choice as well, one that forbids to claim is as if drained.
    pub(super) fn class(&self) -> Class {
        if self.drained || self.replica == Staleness::Forbids {
            self.health.class.max(Class::Drained)
        } else if self.health.class == Class::Healthy
            && (self.second() || self.moves.held().is_some() || self.replica > Staleness::Fresh)
        {
            Class::Held
        } else {
            self.health.class
        }
    }

    /// Others may be better, as far as this host knows of itself: suppressed, or nothing known yet.
    pub(super) fn second(&self) -> bool {
        self.penalty.suppressed().is_some() || self.health.awaits.is_some()
    }

    /// Goes on with what `before` knew.
    pub(super) fn go_on(&mut self, before: &mut Self, renumber: &Renumber) {
        std::mem::swap(self, before);
        self.retry =
            self.retry.take().map(|(at, reason)| (at, reason.and_then(|r| renumber.reason(r))));
    }

    /// Was it told as fit last?
    pub(super) fn told_healthy(&self) -> bool {
        self.told.0 == Class::Healthy
    }

    /// When the priority may follow the checks.
    pub(super) fn priority_due(&self) -> Option<Instant> {
        self.retry.as_ref().map(|(at, _)| *at)
    }
}

impl Engine {
    pub(super) fn fitness(&self, ix: InstanceIx) -> &Fitness {
        &self.fitness[usize::from(ix.0)]
    }

    pub(super) fn fitness_mut(&mut self, ix: InstanceIx) -> &mut Fitness {
        &mut self.fitness[usize::from(ix.0)]
    }

    /// What the checks say before any of them has said something.
    pub(super) fn first_judgement(&mut self) {
        for ix in (0u16..).map(InstanceIx).take(self.fitness.len()) {
            self.judge_health(ix);
            let fitness = self.fitness_mut(ix);
            fitness.told.0 = fitness.class();
            self.unwell += usize::from(self.fitness(ix).told.0 != Class::Healthy);
            self.units_of(ix).into_iter().for_each(|u| self.rearm(u));
        }
    }

    /// Class of the unit without its sync group.
    pub(super) fn own_class(&self, u: UnitIx) -> Class {
        let unit = &self.units[u];
        match self.fitness(unit.instance).class() {
            _ if unit.state() == State::Initialize => Class::Unable,
            Class::Held if unit.pinned => Class::Healthy,
            class => class,
        }
    }

    /// Class of eligibility: that of the worst member of the sync group (DESIGN 5.10).
    pub(super) fn class(&self, u: UnitIx) -> Class {
        self.others(u).map(|o| self.own_class(o)).fold(self.own_class(u), Class::max)
    }

    /// Why this unit is worse than others: the failed check of the worst member of its group.
    pub(super) fn culprit(&self, u: UnitIx) -> Cause {
        let members = self.others(u).chain([u]);
        let worst = members.max_by_key(|o| self.own_class(*o)).unwrap_or(u);
        match self.fitness(self.units[worst].instance).health.culprit {
            Some((check, _)) => Cause::CheckFailed(check),
            None if self.fitness(self.units[worst].instance).drained => Cause::Drained,
            None => Cause::SyncGroup,
        }
    }

    pub(super) fn on_check(&mut self, check: CheckIx, reading: &Reading) {
        let model = Arc::clone(&self.model);
        let Some(config) = model.checks.get(usize::from(check.0)) else { return };
        if matches!(config.probe, Probe::Instance { .. }) {
            return;
        }
        let now = self.now.mono;
        let state = &mut self.checks.states[usize::from(check.0)];
        let was_unknown = state.unknown();
        let change = state.read(config, reading, now);
        let unknown = state.unknown();
        if unknown != was_unknown {
            self.alarm(None, Alarm::CheckUnknown(check), unknown);
        }
        if change.is_some() || unknown != was_unknown {
            self.settled(check, change);
        }
    }

    /// A check settled, or became unknown for long.
    fn settled(&mut self, check: CheckIx, change: Option<(Option<Verdict>, Verdict)>) {
        let to = change.map_or(Verdict::Unknown, |(_, to)| to);
        if let Some((from, to)) = change {
            let detail = Arc::clone(self.checks.states[usize::from(check.0)].detail());
            self.event(None, None, EventKind::Check { check, from, to, detail });
        }
        let mut changed = Vec::new();
        for ix in self.checks.users[usize::from(check.0)].clone() {
            let before = self.fitness(ix).health.class;
            let reason = match change {
                Some((None, Verdict::Pass | Verdict::Unknown)) => StandingReason::Settled,
                _ => StandingReason::Check(check, to),
            };
            // The first word of a check is no loss: nobody relied on it.
            let counts = change.is_some_and(|(from, _)| from.is_some());
            let worse = |class: Class| matches!(class, Class::Failing | Class::Unable);
            let owner = self.units_of(ix).into_iter().any(|u| self.units[u].is_active());
            self.judge_health(ix);
            if counts && before == Class::Healthy && worse(self.fitness(ix).health.class) {
                self.penalize(ix, if owner { damping::LOSS } else { damping::UNFIT });
            }
            if self.refit(ix, Some(reason)) {
                changed.push(ix);
            }
        }
        self.groups_follow(changed);
    }

    /// Checks that look at an instance of this host see what it became.
    pub(super) fn instance_checks(&mut self, ix: InstanceIx) {
        let model = Arc::clone(&self.model);
        for (check, config) in (0u16..).map(CheckIx).zip(&model.checks) {
            let Probe::Instance { instance, active } = config.probe else { continue };
            if instance != ix {
                continue;
            }
            let state = self
                .units_of(ix)
                .into_iter()
                .map(|u| match self.units[u].leaving {
                    Some(_) => State::Active,
                    None => self.units[u].state(),
                })
                .max()
                .unwrap_or(State::Initialize);
            let good = if active { state == State::Active } else { state != State::Initialize };
            let verdict = if good { Verdict::Pass } else { Verdict::Fail };
            let detail = format!("{} is {state}", model.instance(ix).name).into();
            let reading = Reading { verdict, detail, took: Duration::ZERO };
            let now = self.now.mono;
            let change = self.checks.states[usize::from(check.0)].force(&reading, now);
            if change.is_some() {
                self.settled(check, change);
            }
        }
    }

    /// Is the check of readiness without meaning: this host neither owns nor is made ready to?
    fn exempt(&self, ix: InstanceIx, check: CheckIx) -> bool {
        let ready = self.model.instance(ix).standby.activation().and_then(|a| a.ready);
        ready == Some(check)
            && !self.units_of(ix).into_iter().any(|u| self.units[u].keeps_addresses())
    }

    /// The check of readiness begins anew: what it said while nothing ran means nothing. What another instance relies
    /// on as owner is not forgotten, nor what this engine sees itself: that says nothing again before it changes.
    pub(super) fn forget_readiness(&mut self, ix: InstanceIx) {
        let ready = self.model.instance(ix).standby.activation().and_then(|a| a.ready);
        let Some(check) = ready else { return };
        let slot = usize::from(check.0);
        let owns =
            |o: &InstanceIx| self.units_of(*o).into_iter().any(|u| self.units[u].is_active());
        let seen_here = matches!(self.model.check(check).probe, Probe::Instance { .. });
        if seen_here || self.checks.users[slot].iter().any(owns) {
            return;
        }
        self.checks.states[slot].forget();
        self.checks.from[slot] = self.now.mono;
    }

    fn judge_health(&mut self, ix: InstanceIx) {
        let instance = self.model.instance(ix);
        let ready = instance.standby.activation().and_then(|a| a.ready);
        let extra = ready.filter(|check| !instance.checks.contains(check));
        let seen = instance.checks.iter().copied().chain(extra).filter(|c| !self.exempt(ix, *c));
        let seen = seen.map(|check| Seen {
            check,
            config: self.model.check(check),
            state: &self.checks.states[usize::from(check.0)],
            from: self.checks.from[usize::from(check.0)],
        });
        let health = health::judge(seen, self.now.mono);
        let replica = self.staleness(ix);
        let fitness = self.fitness_mut(ix);
        fitness.health = health;
        fitness.replica = replica;
    }

    /// Class and priority anew, and what follows, for those that move with the instance as well. `reason` is told if
    /// they changed.
    pub(super) fn reassess(&mut self, ix: InstanceIx, reason: Option<StandingReason>) {
        if self.refit(ix, reason) {
            self.groups_follow(vec![ix]);
        }
    }

    /// The class of these instances changed: each of their groups looks once.
    fn groups_follow(&mut self, changed: Vec<InstanceIx>) {
        let mut done = BTreeSet::new();
        let units: Vec<UnitIx> = changed.into_iter().flat_map(|ix| self.units_of(ix)).collect();
        for u in units {
            let Some(group) = self.groups.group_of(u) else { continue };
            if !done.insert(group) {
                continue;
            }
            for o in self.partners(u) {
                self.class_changed(o);
                self.rearm(o);
            }
        }
    }

    /// The same for one instance; true: its class is another one.
    pub(super) fn refit(&mut self, ix: InstanceIx, reason: Option<StandingReason>) -> bool {
        let now = self.now.mono;
        self.judge_health(ix);
        let hold = self.model.instance(ix).flap.priority_hold;
        let owner = self.units_of(ix).into_iter().any(|u| self.units[u].is_active());
        let fitness = self.fitness_mut(ix);
        let mut wanted = fitness.health.cost;
        if owner && fitness.moves.held().is_some() {
            // Held: weights move nothing.
            wanted = wanted.min(fitness.pace.cost());
        }
        let retry = fitness.pace.follow(wanted, hold, now);
        let waiting = fitness.retry.take().and_then(|(_, reason)| reason);
        let reason = if retry.is_none() { reason.or(waiting) } else { reason };
        fitness.retry = retry.map(|at| (at, reason.clone()));
        let fit = fitness.health.class == Class::Healthy && !fitness.drained;
        for u in self.units_of(ix) {
            self.set_priority(u);
            if !fit {
                self.units[u].gates.unusable(now, false);
            } else if self.units[u].state() != State::Initialize {
                self.units[u].gates.usable(now);
            }
        }
        let told = self.fitness(ix).told.0;
        self.tell_standing(ix, reason);
        let changed = self.fitness(ix).told.0 != told;
        for u in self.units_of(ix) {
            self.class_changed(u);
            self.rearm(u);
        }
        changed
    }

    /// What the class of a unit makes it do.
    fn class_changed(&mut self, u: UnitIx) {
        let fatal = self.fitness(self.units[u].instance).health.class == Class::Unable;
        match self.units[u].state() {
            State::Initialize if !fatal && self.units[u].leaving.is_none() => self.try_start(u),
            State::Active | State::Backup if fatal => {
                let cause = self.culprit(u);
                self.fault(u, cause);
            }
            _ => {}
        }
        self.refresh_preemption(u);
        if self.class(u) <= Class::Held {
            self.units[u].offers.over();
        }
        self.consider_hand_over(u);
    }

    fn tell_standing(&mut self, ix: InstanceIx, reason: Option<StandingReason>) {
        let lead = self.units_of(ix).first().map(|u| self.units[*u].vr.params().priority);
        let fitness = self.fitness_mut(ix);
        let standing = (fitness.class(), lead.unwrap_or(fitness.told.1));
        let before = std::mem::replace(&mut fitness.told, standing);
        if before == standing {
            return;
        }
        self.unwell += usize::from(standing.0 != Class::Healthy);
        self.unwell -= usize::from(before.0 != Class::Healthy);
        if let Some(reason) = reason {
            let (class, priority) = standing;
            self.event(Some(ix), None, EventKind::Standing { class, priority, reason });
        }
        self.urgent();
    }

    /// Sets the effective priority; an Active says so at once.
    pub(super) fn set_priority(&mut self, u: UnitIx) {
        let instance = self.instance(u);
        let unit = &self.units[u];
        let configured = instance.priority.get();
        let base = self.priority_order(unit.instance).map_or(configured, |(ordered, _)| ordered);
        let sticky = if unit.is_active() { instance.flap.stickiness } else { 0 };
        let cost = self.fitness(unit.instance).pace.cost();
        let priority = match base {
            255 => base,
            _ if unit.pinned => PIN,
            _ => health::effective(base, cost, sticky),
        };
        let params = *unit.vr.params();
        if params.priority == priority {
            return;
        }
        if self.units[u].vr.set_params(crate::vrrp::Params { priority, ..params })
            && self.units[u].last_sent.is_some()
        {
            self.advertise(u, priority);
            self.urgent();
        }
    }

    /// When the policy wants to be called for this unit.
    pub(super) fn policy_deadline(&self, u: UnitIx) -> Instant {
        let unit = &self.units[u];
        let fitness = self.fitness(unit.instance);
        let times = [
            fitness.health.awaits,
            fitness.priority_due(),
            self.flap_deadline(unit.instance),
            self.offer_deadline(u),
            self.standby_deadline(unit.instance),
            self.replica_deadline(unit.instance),
        ];
        times.into_iter().flatten().min().unwrap_or(Instant::MAX)
    }

    /// The time of something that the policy waits for may have come.
    pub(super) fn policy_due(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let ix = self.units[u].instance;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let fitness = self.fitness(ix);
        if due(fitness.health.awaits) {
            self.reassess(ix, Some(StandingReason::Settled));
        } else if due(fitness.priority_due()) {
            self.reassess(ix, None);
        }
        if due(self.flap_deadline(ix)) {
            self.flap_due(ix);
        }
        if !self.model.replicates.is_empty() {
            self.replica_changed(ix);
        }
        self.standby_due(ix);
        self.consider_hand_over(u);
    }
}
