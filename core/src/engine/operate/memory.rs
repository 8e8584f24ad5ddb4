//! What of the orders outlives a restart: told whenever it changed, taken back before the first input.

use super::super::Engine;
use super::super::io::{DrainRecord, EventKind, FreezeRecord, Memory, OrderRecord};
use super::drain::Drain;
use super::freeze::FreezeWord;
use super::pins::PriorityOrder;
use crate::policy::stamp::{stamp, to_utc};
use crate::time::{Duration, Instant};
use crate::types::{InstanceIx, State};

/// What stands for no end where an end has to be stored.
const FOR_EVER: u64 = u64::MAX;

impl Engine {
    /// What was stored before a restart of the agent, of an instance or, with `None`, of the host. To be called before
    /// the first input.
    pub fn recall(&mut self, instance: Option<InstanceIx>, memory: Memory) {
        let OrderRecord { drained, freeze, priority, away, pin } = memory.orders.clone();
        let drain = drained.map(|d| Drain {
            until: self.recalled(d.until_ms.unwrap_or(FOR_EVER)),
            last_resort: d.last_resort,
        });
        let Some(ix) = instance else {
            self.orders.host = drain;
            self.orders.told = memory.orders;
            self.model.clone().iter().for_each(|(ix, _)| self.drain_changed(ix));
            return self.plan_orders();
        };
        if usize::from(ix.0) >= self.orders.all.len() {
            return;
        }
        let freeze = freeze.map(|f| FreezeWord {
            serial: f.serial,
            until: f.until_ms.map_or(Instant::ZERO, |at| self.recalled(at)),
        });
        let priority = priority.filter(|_| !self.model.instance(ix).priority.is_owner());
        let priority =
            priority.filter(|(priority, _)| !priority.is_owner()).map(|(priority, at)| {
                PriorityOrder { priority, until: self.recalled(at.unwrap_or(FOR_EVER)) }
            });
        if let Some(epoch) = pin {
            self.raise_epoch_to(ix, epoch);
        }
        let ordered = self.ordered_mut(ix);
        ordered.drain = drain;
        ordered.freeze = freeze;
        ordered.priority = priority;
        ordered.recalled_pin = pin;
        ordered.told = memory.orders;
        self.recall_epoch(ix, &memory.epoch);
        self.set_away(ix, away);
        self.look_for_freeze();
        self.recall_flap(ix, memory.flap);
        self.recalled_orders(ix);
        self.plan_orders();
    }

    fn recalled_orders(&mut self, ix: InstanceIx) {
        self.keep(ix);
        self.drain_changed(ix);
        let frozen = self.frozen_instance(ix).is_some();
        self.alarm(Some(ix), super::super::io::Alarm::Frozen, frozen);
        self.refit(ix, None);
        for u in self.units_of(ix) {
            self.refresh_preemption(u);
        }
    }

    /// An end that was stored: a clock that went back meanwhile makes it later, one that went on makes it now.
    fn recalled(&self, at: u64) -> Instant {
        if at == FOR_EVER {
            return Instant::MAX;
        }
        let now = to_utc(stamp(self.now.mono), self.now);
        self.now.mono + Duration::from_millis(at.saturating_sub(now))
    }

    fn end_utc(&self, at: Instant) -> Option<u64> {
        let left = at.since(self.now.mono).as_millis();
        let now = to_utc(stamp(self.now.mono), self.now);
        (at != Instant::MAX).then(|| now.saturating_add(u64::try_from(left).unwrap_or(u64::MAX)))
    }

    fn drain_record(&self, drain: Drain) -> DrainRecord {
        DrainRecord { until_ms: self.end_utc(drain.until), last_resort: drain.last_resort }
    }

    /// What is to be stored of an instance; ends that have been stored already keep their figure.
    fn order_record(&self, ix: InstanceIx) -> OrderRecord {
        let ordered = self.ordered_of(ix);
        let pinned = self
            .units_of(ix)
            .into_iter()
            .any(|u| self.units[u].pinned && self.units[u].state() != State::Backup);
        OrderRecord {
            drained: ordered.drain.map(|d| self.drain_record(d)),
            freeze: ordered.freeze.map(|word| FreezeRecord {
                serial: word.serial,
                until_ms: (word.until > self.now.mono)
                    .then(|| self.end_utc(word.until).unwrap_or(FOR_EVER)),
            }),
            priority: ordered.priority.map(|p| (p.priority, self.end_utc(p.until))),
            away: ordered.away,
            pin: pinned.then(|| self.epoch_of(ix)).or(ordered.recalled_pin),
        }
    }

    /// Has what was ordered of the instance changed? Then it is stored.
    pub(in crate::engine) fn keep(&mut self, ix: InstanceIx) {
        if !same(&self.order_record(ix), &self.ordered_of(ix).told) {
            self.remember(ix);
        }
    }

    /// The same for the host.
    pub(super) fn keep_host(&mut self) {
        let drained = self.orders.host.map(|d| self.drain_record(d));
        let orders = OrderRecord { drained, ..OrderRecord::default() };
        if !same(&orders, &self.orders.told) {
            self.orders.told.clone_from(&orders);
            let memory = Memory { orders, ..Memory::default() };
            self.event(None, None, EventKind::Remember(memory));
        }
    }

    /// Stores what is known of the instance.
    pub(in crate::engine) fn remember(&mut self, ix: InstanceIx) {
        let orders = self.order_record(ix);
        self.ordered_mut(ix).told.clone_from(&orders);
        let (flap, epoch) = (self.flap_record(ix), self.epoch_record(ix));
        self.event(Some(ix), None, EventKind::Remember(Memory { flap, orders, epoch }));
    }
}

/// Do these say the same? Ends are made of two clocks, of which one is set now and then: a second is no news.
fn same(a: &OrderRecord, b: &OrderRecord) -> bool {
    let near = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) < 1000,
        (a, b) => a == b,
    };
    let drained = match (a.drained, b.drained) {
        (Some(a), Some(b)) => near(a.until_ms, b.until_ms) && a.last_resort == b.last_resort,
        (a, b) => a == b,
    };
    let freeze = match (a.freeze, b.freeze) {
        (Some(a), Some(b)) => near(a.until_ms, b.until_ms) && a.serial == b.serial,
        (a, b) => a == b,
    };
    let priority = match (a.priority, b.priority) {
        (Some(a), Some(b)) => near(a.1, b.1) && a.0 == b.0,
        (a, b) => a == b,
    };
    drained && freeze && priority && (a.away, a.pin) == (b.away, b.pin)
}
