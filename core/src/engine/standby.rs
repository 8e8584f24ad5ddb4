//! Warm and cold standby: what has to be done before a claim, and who claims only when told to.
//!
//! A warm host that would claim asks for its activation first, and claims if the reason still holds when it is ready. A
//! cold one does nothing by itself.

use super::io::{Alarm, Cause, Output};
use super::prepare::Preparing;
use super::{Engine, UnitIx};
use crate::config::model::StandbyKind;
use crate::time::{Duration, Instant};
use crate::types::{Class, HostIx, InstanceIx, State};
use crate::vrrp::Expiry;
use crate::wire::heartbeat::{InstanceRecord, Refusal};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Beyond the program's own timeout: its end, and the way of the answer.
const SLACK: Duration = Duration::from_secs(5);
/// After a failed activation the next one waits this long, then twice as long, and so on.
const RETRY: Duration = Duration::from_secs(10);
/// Between two activations at most.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// A group whose members are not activated at the same time asks again after this.
const TICK: Duration = Duration::from_millis(10);
/// Ready and not needed at once, it is taken to be ready for this long.
const STAYS_READY: Duration = Duration::from_secs(60);

/// Where the activation of an instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Activating {
    /// Not asked for.
    #[default]
    Idle,
    /// Asked for; taken to have failed when nothing came until then.
    Running { order: u64, since: Instant, until: Instant },
    /// Done: claims, if it may by then.
    Ready { until: Instant },
    /// Failed; tried again from then on.
    Failed { at: Instant, why: Arc<str> },
}

/// How an instance stands by on this host.
#[derive(Clone, Debug, Default)]
pub(super) struct StandbyState {
    pub(super) activating: Activating,
    pub(super) preparing: Preparing,
    /// Failures in a row.
    failures: u32,
    /// An operator wants this host to own, and it has not claimed yet.
    pub(super) ordered: bool,
}

impl Engine {
    pub(super) fn standby_mut(&mut self, ix: InstanceIx) -> &mut StandbyState {
        &mut self.standby[usize::from(ix.0)]
    }

    pub(super) fn standby(&self, ix: InstanceIx) -> &StandbyState {
        &self.standby[usize::from(ix.0)]
    }

    /// How a host of the group stands by.
    pub(super) fn standby_of(&self, u: UnitIx, host: HostIx) -> Option<StandbyKind> {
        self.instance(u).standbys.get(usize::from(host.0)).copied().flatten()
    }

    /// The instances that move with this unit, its own one included.
    pub(super) fn group(&self, u: UnitIx) -> BTreeSet<InstanceIx> {
        let members = self.others(u).chain([u]);
        members.map(|o| self.units[o].instance).collect()
    }

    /// Does an operator want this unit, or one that moves with it, to claim?
    pub(super) fn ordered(&self, u: UnitIx) -> bool {
        self.group(u).into_iter().any(|ix| self.standby(ix).ordered)
    }

    /// Does this unit never claim by itself?
    pub(super) fn waits_for_order(&self, u: UnitIx) -> bool {
        self.groups.cold(u) && !self.ordered(u)
    }

    /// The claim for `cause` needs the word of the hooks, and then what the activation brings. `Some`: ask again then;
    /// `None`: claim.
    pub(super) fn activation_forbids(&mut self, u: UnitIx, cause: &Cause) -> Option<Instant> {
        let now = self.now.mono;
        let mut again = None;
        for ix in self.group(u) {
            if self.units_of(ix).into_iter().any(|o| self.units[o].is_active()) {
                // The other family runs here already.
                continue;
            }
            if let Some(at) = self.preparation_forbids(ix, cause) {
                again = again.max(Some(at));
                continue;
            }
            let Some(activation) = self.model.instance(ix).standby.activation() else { continue };
            let timeout = activation.program.timeout;
            let at = match &self.standby(ix).activating {
                Activating::Ready { until } if *until > now => continue,
                Activating::Failed { at, .. } if *at > now => *at,
                Activating::Running { until, .. } => (*until).max(now + TICK),
                _ => {
                    let order = self.next_order();
                    let until = now + timeout + SLACK;
                    self.standby_mut(ix).activating =
                        Activating::Running { order, since: now, until };
                    self.push(Output::Activate { instance: ix, order });
                    until
                }
            };
            again = again.max(Some(at));
        }
        self.units[u].parked = again;
        again
    }

    pub(super) fn on_activated(
        &mut self,
        ix: InstanceIx,
        order: u64,
        result: Result<(), Arc<str>>,
    ) {
        let known = self.standby.get(usize::from(ix.0)).map(|s| &s.activating);
        if !matches!(known, Some(Activating::Running { order: o, .. }) if *o == order) {
            return;
        }
        match result {
            Ok(()) => {
                let until = self.now.mono + STAYS_READY;
                let standby = self.standby_mut(ix);
                standby.activating = Activating::Ready { until };
                standby.failures = 0;
                self.forget_readiness(ix);
                self.alarm(Some(ix), Alarm::ActivationFailed, false);
                self.unpark(ix);
                self.urgent();
            }
            Err(why) => self.activation_failed(ix, why),
        }
    }

    fn activation_failed(&mut self, ix: InstanceIx, why: Arc<str>) {
        let now = self.now.mono;
        let standby = self.standby_mut(ix);
        let wait = RETRY * 2u32.pow(standby.failures.min(5));
        standby.failures += 1;
        standby.activating = Activating::Failed { at: now + wait.min(RETRY_MAX), why };
        self.takeover_failed(ix, Refusal::Activation);
        self.alarm(Some(ix), Alarm::ActivationFailed, true);
        self.unpark(ix);
    }

    /// Who waited for the activation asks again, if its reason still holds: nothing was heard that set its timer anew.
    pub(super) fn unpark(&mut self, ix: InstanceIx) {
        let now = self.now.mono;
        for u in 0..self.units.len() {
            if !self.group(u).contains(&ix) {
                continue;
            }
            let parked = self.units[u].parked.take();
            let unit = &mut self.units[u];
            if unit.state() == State::Backup && parked == Some(unit.vr.deadline()) {
                unit.vr.ask_again(now);
            }
            self.press_order(u);
            self.rearm(u);
        }
    }

    /// Is an activation under way, or did hooks prepare for a claim? The end of either would be lost to the next agent.
    pub(super) fn activates(&self, ix: InstanceIx) -> bool {
        let StandbyState { activating, preparing, .. } = self.standby(ix);
        matches!(activating, Activating::Running { .. }) || *preparing != Preparing::Idle
    }

    /// When an activation has failed by its time, or is tried again for an operator.
    pub(super) fn standby_deadline(&self, ix: InstanceIx) -> Option<Instant> {
        let standby = self.standby(ix);
        let activation = match &standby.activating {
            Activating::Running { until, .. } => Some(*until),
            Activating::Failed { at, .. } if standby.ordered && *at > self.now.mono => Some(*at),
            _ => None,
        };
        let hooks = match standby.preparing {
            Preparing::Running { until, .. } => Some(until),
            _ => None,
        };
        activation.into_iter().chain(hooks).min()
    }

    pub(super) fn standby_due(&mut self, ix: InstanceIx) {
        let now = self.now.mono;
        self.preparation_due(ix);
        match &self.standby(ix).activating {
            Activating::Running { until, .. } if *until <= now => {
                self.activation_failed(ix, "no answer in time".into());
            }
            Activating::Failed { at, .. } if *at <= now => {
                self.units_of(ix).into_iter().for_each(|u| self.press_order(u));
            }
            _ => {}
        }
    }

    /// An operator wants this host to own.
    pub(super) fn promote(&mut self, ix: InstanceIx) {
        // Each order asks anew.
        if self.may_be_ordered(ix) {
            self.preparation_off(ix);
            self.claim_by_order(ix);
        }
    }

    /// The target of a move, which got ready while the source still wrote, claims: its hooks have agreed.
    pub(super) fn promote_ready(&mut self, ix: InstanceIx) {
        if self.may_be_ordered(ix) {
            self.claim_by_order(ix);
        }
    }

    fn may_be_ordered(&self, ix: InstanceIx) -> bool {
        let waits = |u: &UnitIx| self.units[*u].state() == State::Backup;
        !self.stopping && self.units_of(ix).iter().any(waits)
    }

    fn claim_by_order(&mut self, ix: InstanceIx) {
        let standby = self.standby_mut(ix);
        standby.ordered = true;
        if matches!(standby.activating, Activating::Failed { .. }) {
            standby.activating = Activating::Idle;
        }
        for u in self.units_of(ix) {
            self.press_order(u);
            self.rearm(u);
        }
    }

    /// Able to serve without a claim: what the target of a move from `from` does while that one still writes.
    pub(super) fn make_ready(&mut self, ix: InstanceIx, from: HostIx) {
        for u in self.units_of(ix) {
            for o in self.group(u) {
                let standby = self.standby_mut(o);
                if matches!(standby.activating, Activating::Failed { .. }) {
                    standby.activating = Activating::Idle;
                }
            }
            self.activation_forbids(u, &Cause::MovedHere(from));
            self.units[u].parked = None;
        }
    }

    /// Would a claim of the instance, and of what moves with it, wait for no hook and no activation?
    pub(super) fn is_ready(&self, ix: InstanceIx) -> bool {
        let now = self.now.mono;
        let ready = |o: &InstanceIx| match &self.standby(*o).activating {
            Activating::Ready { until } => *until > now,
            _ => self.model.instance(*o).standby.activation().is_none(),
        };
        let mut all = self.units_of(ix).into_iter().flat_map(|u| self.group(u));
        all.all(|o| self.is_prepared(o) && ready(&o))
    }

    /// What is ready is needed for longer; what ceased to be so is made ready again.
    pub(super) fn stay_ready(&mut self, ix: InstanceIx) {
        let until = self.now.mono + STAYS_READY;
        for o in self.units_of(ix).into_iter().flat_map(|u| self.group(u)).collect::<BTreeSet<_>>()
        {
            if let Activating::Ready { until: ready } = &mut self.standby_mut(o).activating {
                *ready = until;
            }
            self.stay_prepared(o);
        }
    }

    /// The order stands until the claim, whatever is heard meanwhile.
    pub(super) fn press_order(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let ix = self.units[u].instance;
        let unit = &self.units[u];
        let pressed = unit.vr.next_claim().is_some_and(|(_, why)| why == Expiry::Ordered);
        let busy = match &self.standby(ix).activating {
            Activating::Running { .. } => true,
            Activating::Failed { at, .. } => *at > now,
            _ => self.group_prepares(u),
        };
        if self.standby(ix).ordered && unit.state() == State::Backup && !pressed && !busy {
            self.units[u].vr.owner_gone(now, Expiry::Ordered, true);
        }
    }

    /// The operator's order to claim is no more.
    pub(super) fn order_withdrawn(&mut self, ix: InstanceIx) {
        self.standby_mut(ix).ordered = false;
        self.preparation_off(ix);
    }

    /// Became owner, or cannot be: the order is done.
    pub(super) fn order_done(&mut self, u: UnitIx) {
        let ix = self.units[u].instance;
        let standby = self.standby_mut(ix);
        standby.ordered = false;
        standby.activating = Activating::Idle;
        standby.preparing = Preparing::Idle;
        self.units[u].parked = None;
    }

    /// A warm standby next to an unfit owner is made ready before it asks for the address.
    pub(super) fn warm_up(&mut self, u: UnitIx, host: HostIx, owner: Class) {
        let ix = self.units[u].instance;
        let warm = self.instance(u).standby.kind() == StandbyKind::Warm;
        let mine = self.class(u);
        let frozen = self.frozen(u).is_some();
        if !warm || frozen || owner < Class::Failing || mine >= owner || self.waits_for_order(u) {
            return;
        }
        let hot = self.living_peers(u).any(|(h, r)| {
            h != host
                && r.state == State::Backup
                && r.class < owner
                && self.standby_of(u, h) == Some(StandbyKind::Hot)
        });
        if !hot && self.first_in_line(u) {
            let until = self.now.mono + STAYS_READY;
            if let Activating::Ready { until: ready } = &mut self.standby_mut(ix).activating {
                *ready = until;
            }
            self.activation_forbids(u, &Cause::Offered(host));
            self.units[u].parked = None;
        }
    }

    /// Ready, and the owner is worse: it should let go.
    pub(super) fn asks_for_address(&self, u: UnitIx) -> bool {
        let now = self.now.mono;
        let ready = |ix| match &self.standby(ix).activating {
            Activating::Ready { until } => *until > now,
            _ => false,
        };
        let unit = &self.units[u];
        unit.state() == State::Backup
            && ready(unit.instance)
            && self
                .living_owner(u)
                .and_then(|owner| self.record(owner, u))
                .is_some_and(|r| r.class >= Class::Failing && self.class(u) < r.class)
    }

    /// Would anybody take over by himself? Told where heartbeats show that nobody would.
    pub(super) fn look_for_standby(&mut self, u: UnitIx) {
        let unit = &self.units[u];
        let (ix, owns) = (unit.instance, unit.is_active());
        let idle = |(host, r): (HostIx, &InstanceRecord)| {
            // Stale and as if drained: it was configured not to claim then.
            let gated = r.stale && r.class >= Class::Drained;
            r.class == Class::Unable || gated || self.standby_of(u, host) == Some(StandbyKind::Cold)
        };
        let nobody = self.living_peers(u).next().is_some() && self.living_peers(u).all(idle);
        self.alarm(Some(ix), Alarm::NoStandby, owns && nobody);
    }

    /// Is another host, by its own fresh word, fit to own without an operator? `None` without heartbeats.
    pub(super) fn redundant(&self, u: UnitIx) -> Option<bool> {
        self.peers.as_ref()?;
        let mut fit = self.living_peers(u).filter(|(host, record)| {
            record.class <= Class::Held
                && record.state != State::Initialize
                && self.standby_of(u, *host) != Some(StandbyKind::Cold)
        });
        Some(fit.next().is_some())
    }
}
