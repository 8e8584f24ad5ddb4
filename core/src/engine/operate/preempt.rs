//! Preemption where state files follow the address: a planned move that nobody orders (DESIGN 5.5, 5.13).
//!
//! A stronger host whose gates are open does not take the address from an owner that it knows by fresh heartbeats: it
//! says that it would, and holds its timer back like any Backup. The owner then moves the address there as `failback`
//! does, barrier included. What fails leaves the owner where it is, with an alarm, and is tried again after growing
//! pauses. An owner that falls silent, that says nothing of this (an older release, no sets) or whose service fails is
//! taken over from as without state: nothing here keeps the address from a host when nobody serves it.

use super::super::io::Alarm;
use super::super::reload::Renumber;
use super::super::{Engine, UnitIx};
use super::barrier::NOBODY;
use crate::policy::Closed;
use crate::time::{Duration, Instant};
use crate::types::{Class, HostIx, InstanceIx, State};
use crate::wire::heartbeat::InstanceRecord;
use std::sync::Arc;

/// After the first failure the next try waits this long, then twice as long, and so on.
const RETRY: Duration = Duration::from_secs(10);
/// Between two tries at most.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// Tries to bring an instance to one host, of this ownership.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    host: HostIx,
    count: u32,
    /// Not again before then.
    next: Instant,
    /// What became of the last one.
    why: Arc<str>,
}

impl Tried {
    /// The same with the host's new number; `None`: it has none.
    pub(super) fn renumbered(self, renumber: &Renumber) -> Option<Self> {
        Some(Self { host: renumber.host(self.host)?, ..self })
    }
}

impl Engine {
    /// Do files follow the address of the instance, or of one that moves with it?
    fn has_sets(&self, ix: InstanceIx) -> bool {
        let with_set = |o: InstanceIx| self.model.sets_of(o).next().is_some();
        !self.model.replicates.is_empty() && self.together(ix).into_iter().any(with_set)
    }

    // Where the address is to go ------------------------------------------------------------------------------

    /// The owner that this host outranks and that brings it the state of the unit's instance by itself: a host of the
    /// group, alive, which hears this one, and whose adverts are those that are heard. One whose service fails does not:
    /// there is nothing to wait for.
    pub(in crate::engine) fn owner_brings(&self, u: UnitIx) -> Option<HostIx> {
        let unit = &self.units[u];
        if unit.state() != State::Backup || !self.has_sets(unit.instance) {
            return None;
        }
        let heard = unit.vr.heard()?;
        let owner = self.living_owner(u)?;
        let record = self.record(owner, u)?;
        let brings = record.plans_preemption && record.class != Class::Failing;
        let known = self.host_of(heard.src) == Some(owner) && self.hears_us(owner);
        (brings && known && heard.priority < unit.vr.params().priority).then_some(owner)
    }

    /// What heartbeats say: as owner, that this host brings the state to a stronger one; as Backup, that it would preempt
    /// and waits for that.
    pub(in crate::engine) fn plans_preemption(&self, u: UnitIx) -> bool {
        match self.units[u].state() {
            State::Active => self.has_sets(self.units[u].instance),
            State::Backup => matches!(self.preempt_gate(u), Some(Closed::OwnerBrings(_))),
            State::Initialize => false,
        }
    }

    // Where it is ---------------------------------------------------------------------------------------------

    /// Does that host say that it would preempt this owner, and waits to be brought the state?
    fn asks(&self, u: UnitIx, record: &InstanceRecord) -> bool {
        record.state == State::Backup
            && record.plans_preemption
            && record.class == Class::Healthy
            && record.priority > self.units[u].vr.params().priority
    }

    /// Is that host stronger for the instance, or for one that moves with it?
    fn outranked_by(&self, ix: InstanceIx, host: HostIx) -> bool {
        let mut units = self.together(ix).into_iter().flat_map(|o| self.units_of(o));
        units.any(|o| {
            let priority = self.units[o].vr.params().priority;
            self.record(host, o).is_some_and(|r| r.priority > priority)
        })
    }

    /// When it may be tried again to bring the instance, and what moves with it, to `host`.
    fn next_try(&self, ix: InstanceIx, host: HostIx) -> Instant {
        let together = self.together(ix).into_iter();
        let tried = together.flat_map(|o| &self.ordered_of(o).tried).filter(|t| t.host == host);
        tried.map(|t| t.next).max().unwrap_or(Instant::ZERO)
    }

    /// The best host that asks for the unit's instance, and when it is tried again to bring it there.
    pub(in crate::engine) fn asked_by(&self, u: UnitIx) -> Option<(HostIx, Instant)> {
        let unit = &self.units[u];
        if !unit.is_active() || !self.has_sets(unit.instance) {
            return None;
        }
        let asking = self.living_peers(u).filter(|(_, r)| self.asks(u, r));
        let best = asking.map(|(host, r)| {
            (
                self.next_try(unit.instance, host).max(self.now.mono),
                self.standing_of(u, host, r),
                host,
            )
        });
        // One that was tried in vain stands back behind the others for its pause.
        let best = best.min_by(|(at, a, _), (bt, b, _)| at.cmp(bt).then(b.compare(a)));
        best.map(|(at, _, host)| (host, at))
    }

    /// `host` spoke of the unit's instance, which this host owns: follows what it asks for.
    pub(in crate::engine) fn follow_preemption(
        &mut self,
        u: UnitIx,
        host: HostIx,
        record: &InstanceRecord,
    ) {
        let ix = self.units[u].instance;
        if !self.units[u].is_active() || !self.has_sets(ix) {
            return;
        }
        let to = self.ordered_of(ix).moving.as_ref().filter(|m| m.preempts).and_then(|m| m.to);
        let reason = if record.class >= Class::Failing {
            Some("is not fit to own any more")
        } else if !self.outranked_by(ix, host) {
            Some("is not stronger any more")
        } else {
            None
        };
        if let Some(reason) = reason
            && to == Some(host)
            && !self.may_be_claimed(ix)
        {
            let (name, host) = (self.name(ix), self.host_name(host));
            let why = format!("{name} stays here: {host} {reason}");
            self.move_ended(ix, Err(why));
        }
        self.tell_not_brought(u, host);
        self.consider_preemption(u);
    }

    /// Brings the instance, and what moves with it, to a stronger host that asks for it, if nothing speaks against it.
    fn consider_preemption(&mut self, u: UnitIx) {
        let (ix, now) = (self.units[u].instance, self.now.mono);
        let Some((host, at)) = self.asked_by(u) else {
            self.ordered_mut(ix).asked_since = None;
            return;
        };
        let since = *self.ordered_mut(ix).asked_since.get_or_insert(now);
        // Of several that are back together the best one may be the last to be heard.
        if at > now || now.since(since) < self.beat() * 9 / 10 {
            return;
        }
        let leaves = self.stopping || self.closing.is_some() || self.preparing.is_some();
        if leaves || self.units[u].overslept.is_some() || self.frozen(u).is_some() {
            return;
        }
        // An unfit owner hands over by its own rules.
        let fails = matches!(self.class(u), Class::Failing | Class::Unable);
        if fails || self.offer_due(u).is_some() {
            return;
        }
        let members: Vec<InstanceIx> = self.together(ix).into_iter().collect();
        let underway = |o: &InstanceIx| {
            self.busy(*o)
                || self.retires(*o)
                || self.units_of(*o).into_iter().any(|u| self.units[u].leaving.is_some())
        };
        if members.iter().any(underway) {
            return;
        }
        if !self.objections_of_group(ix, host).is_empty() || !self.bring_state(ix, host, NOBODY) {
            return;
        }
        for o in members {
            if let Some(moving) = &mut self.ordered_mut(o).moving {
                moving.preempts = true;
            }
        }
    }

    /// A move that nobody ordered has failed: the next one waits longer.
    pub(super) fn not_brought(&mut self, ix: InstanceIx, host: HostIx, why: &str) {
        let now = self.now.mono;
        let tried = &mut self.ordered_mut(ix).tried;
        let before = tried.iter().position(|t| t.host == host).map(|n| tried.swap_remove(n));
        let count = before.map_or(0, |t| t.count);
        let wait = RETRY * 2u32.pow(count.min(6));
        let next = now + wait.min(RETRY_MAX);
        tried.push(Tried { host, count: count + 1, next, why: why.into() });
        for u in self.units_of(ix) {
            self.tell_not_brought(u, host);
        }
    }

    /// The alarm stands while `host` asks, and was not brought what it asks for.
    fn tell_not_brought(&mut self, u: UnitIx, host: HostIx) {
        let ix = self.units[u].instance;
        let tried = self.ordered_of(ix).tried.iter().find(|t| t.host == host);
        let why = tried.map(|t| Arc::clone(&t.why)).filter(|_| {
            let mut living = self.living_peers(u).filter(|(peer, _)| *peer == host);
            living.any(|(_, record)| self.asks(u, record))
        });
        let stands = why.map(|why| Alarm::NotBrought(host, why));
        self.clear_alarms(ix, |alarm| {
            matches!(alarm, Alarm::NotBrought(h, _) if *h == host) && stands.as_ref() != Some(alarm)
        });
        if let Some(alarm) = stands {
            self.alarm(Some(ix), alarm, true);
        }
    }

    /// `host` has fallen silent: it asks for nothing.
    pub(in crate::engine) fn asks_no_more(&mut self, host: HostIx) {
        for n in 0..self.orders.all.len() {
            let ix = InstanceIx(u16::try_from(n).unwrap_or(u16::MAX));
            self.clear_alarms(ix, |alarm| matches!(alarm, Alarm::NotBrought(h, _) if *h == host));
        }
    }

    /// This ownership has ended, or an operator says that what failed may be tried at once.
    pub(super) fn try_afresh(&mut self, ix: InstanceIx) {
        let ordered = self.ordered_mut(ix);
        ordered.tried.clear();
        ordered.asked_since = None;
        self.clear_alarms(ix, |alarm| matches!(alarm, Alarm::NotBrought(..)));
    }

    /// Moves are frozen: one that no operator ordered, and that the target may not claim for yet, is off.
    pub(super) fn freeze_preemption(&mut self, ix: InstanceIx) {
        let preempts = self.ordered_of(ix).moving.as_ref().is_some_and(|m| m.preempts);
        if !preempts || self.frozen_instance(ix).is_none() || self.may_be_claimed(ix) {
            return;
        }
        // Nothing has failed: once thawed it begins at once, with all that moves together.
        for o in self.together(ix) {
            if let Some(moving) = &mut self.ordered_mut(o).moving {
                moving.preempts = false;
            }
        }
        let why = format!("{} stays here: moves are frozen", self.name(ix));
        self.move_ended(ix, Err(why));
    }
}
