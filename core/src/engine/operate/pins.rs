//! What an operator's word makes of priorities: the pin of an owner, the host that does not take the address back, and
//! how both end (DESIGN 5.6); a priority beside the configured one.

use super::super::fitness::PIN;
use super::super::io::{Away, StandingReason};
use super::super::{Engine, UnitIx};
use super::Waits;
use super::barrier::NOBODY;
use crate::time::{Duration, Instant};
use crate::types::{HostIx, InstanceIx, Priority};
use crate::wire::heartbeat::InstanceRecord;

/// A failback is told for at least this long, and its end waited for.
const TOLD: Duration = Duration::from_secs(2);
/// What a failback may take in all.
const FAILBACK: Duration = Duration::from_secs(8);

/// A priority beside the configured one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct PriorityOrder {
    pub(super) priority: Priority,
    /// Until then; `Instant::MAX`: until it is taken back.
    pub(super) until: Instant,
}

impl Engine {
    /// Does this host leave the address where an operator moved it?
    pub(in crate::engine) fn away(&self, u: UnitIx) -> bool {
        self.orders.away > 0
            && self
                .others(u)
                .chain([u])
                .any(|o| self.ordered_of(self.units[o].instance).away.is_some())
    }

    pub(super) fn set_away(&mut self, ix: InstanceIx, away: Option<Away>) {
        let before = std::mem::replace(&mut self.ordered_mut(ix).away, away);
        match (before.is_some(), away.is_some()) {
            (false, true) => self.orders.away += 1,
            (true, false) => self.orders.away -= 1,
            _ => {}
        }
    }

    /// The priority before checks and pins, and until when an operator's order makes it so.
    pub(in crate::engine) fn priority_order(&self, ix: InstanceIx) -> Option<(u8, Instant)> {
        self.ordered_of(ix).priority.map(|order| (order.priority.get(), order.until))
    }

    pub(super) fn order_priority(
        &mut self,
        ix: InstanceIx,
        priority: Option<Priority>,
        until: Option<Instant>,
    ) {
        let until = until.unwrap_or(Instant::MAX);
        self.ordered_mut(ix).priority = priority.map(|priority| PriorityOrder { priority, until });
        self.reassess(ix, Some(StandingReason::PriorityOrdered));
        self.keep(ix);
    }

    pub(super) fn priority_due_over(&mut self, ix: InstanceIx) {
        let now = self.now.mono;
        if self.ordered_mut(ix).priority.take_if(|order| order.until <= now).is_some() {
            self.reassess(ix, Some(StandingReason::PriorityOrdered));
            self.keep(ix);
        }
    }

    pub(super) fn start_failback(&mut self, id: u64, instance: Option<InstanceIx>) {
        let meant = self.meant_groups(instance);
        let until = self.now.mono + TOLD.max(self.beat() * 4);
        let time = meant.iter().filter_map(|ix| self.model.barrier(*ix)).max().unwrap_or_default();
        self.open(id, instance, Waits::Failback, meant.clone(), FAILBACK + time + self.beat() * 4);
        for ix in meant {
            self.ordered_mut(ix).failback_until = Some(until);
            self.fail_back(ix, id);
        }
        self.urgent();
        self.failbacks_done();
    }

    /// The pin ends. Where state follows the address, the owner brings it to the host that is preferred and keeps its
    /// pin until that one has claimed: a preemption would wait for nothing.
    fn fail_back(&mut self, ix: InstanceIx, operation: u64) {
        let preferred = self.preferred(ix).filter(|_| self.takes_state(ix));
        let Some(host) = preferred else { return self.end_pin(ix) };
        self.set_away(ix, None);
        self.bring_state(ix, host, operation);
        self.keep(ix);
    }

    /// The host that would take the address from this one if it was not pinned, and could.
    fn preferred(&self, ix: InstanceIx) -> Option<HostIx> {
        let u = self.units_of(ix).into_iter().find(|u| self.units[*u].pinned)?;
        let configured =
            |host: HostIx| self.instance(u).priorities.get(usize::from(host.0)).copied().flatten();
        let host = self.target(ix, None, false).ok().flatten()?;
        (configured(host) > configured(self.model.host)).then_some(host)
    }

    /// Time between heartbeats; zero without.
    pub(super) fn beat(&self) -> Duration {
        self.peers.as_ref().map_or(Duration::ZERO, |p| p.config.interval.duration())
    }

    /// The address may go where priorities and checks say.
    fn end_pin(&mut self, ix: InstanceIx) {
        self.set_away(ix, None);
        for u in self.units_of(ix) {
            self.units[u].pinned = false;
        }
        self.refit(ix, None);
        for u in self.units_of(ix) {
            self.set_priority(u);
            self.refresh_preemption(u);
            self.rearm(u);
        }
        self.keep(ix);
    }

    /// Ends the operations whose instances nobody keeps any more.
    pub(super) fn failbacks_done(&mut self) {
        let waiting: Vec<InstanceIx> = self
            .orders
            .running
            .iter()
            .filter(|o| o.waits == Waits::Failback)
            .flat_map(|o| o.pending.iter().copied())
            .collect();
        for ix in waiting {
            let pinned = self
                .units_of(ix)
                .into_iter()
                .any(|u| self.living_peers(u).any(|(_, r)| r.orders.pinned));
            if !pinned && self.ordered_of(ix).moving.is_none() {
                self.end_waits(ix, Waits::Failback, |name| {
                    Ok(format!("{name} goes where priorities and checks say"))
                });
            }
        }
        self.plan_orders();
    }

    pub(super) fn failback_told(&mut self, ix: InstanceIx) {
        let now = self.now.mono;
        self.ordered_mut(ix).failback_until.take_if(|until| *until <= now);
    }

    /// A peer spoke of the instance: of a failback, or as an owner that is not pinned.
    pub(super) fn heard_pins(
        &mut self,
        host: HostIx,
        ix: InstanceIx,
        old: Option<&InstanceRecord>,
        new: &InstanceRecord,
    ) {
        let owns = new.owns();
        let free = owns && !new.orders.pinned && new.priority != PIN;
        let is_owner =
            || self.units_of(ix).first().is_some_and(|u| self.living_owner(*u) == Some(host));
        let told = new.orders.failback && old.is_some_and(|o| !o.orders.failback);
        let over = self.ordered_of(ix).away == Some(Away::Pinned) && free && is_owner();
        if told {
            self.fail_back(ix, NOBODY);
        } else if over {
            self.set_away(ix, None);
            for u in self.units_of(ix) {
                self.refresh_preemption(u);
            }
            self.keep(ix);
        }
        if old.is_some_and(|o| o.orders.pinned) && !new.orders.pinned {
            self.failbacks_done();
        }
    }

    /// The pin that goes on with an ownership that was adopted, if it belongs to that one.
    pub(in crate::engine) fn take_recalled_pin(&mut self, ix: InstanceIx, adopted: bool) -> bool {
        let Some(epoch) = self.ordered_mut(ix).recalled_pin.take() else { return false };
        adopted && self.highest_epoch_heard(ix).number <= epoch.number
    }
}
