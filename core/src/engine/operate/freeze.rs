//! Freeze: no preemption and no voluntary move on any host of the group (DESIGN 5.6).
//!
//! The newest word counts: it stands in everybody's heartbeats and on everybody's disk, so that it does not end with
//! the host on which it was given. Nothing here touches yielding, releasing, or replacing an owner that died.

use super::super::io::Alarm;
use super::super::{Engine, UnitIx};
use crate::time::{Duration, Instant};
use crate::types::InstanceIx;
use crate::wire::heartbeat::Freeze;

/// The newest word of the group.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct FreezeWord {
    /// Number of the order; its lowest octet is the host that gave it, by the number of its name
    /// ([`Model::epoch_host`](crate::config::model::Model::epoch_host)): its place in the file changes when hosts come or go.
    pub(super) serial: u32,
    /// Frozen until then; zero: not, `Instant::MAX`: until thawed.
    pub(super) until: Instant,
}

impl Engine {
    /// Until when the instance, or one that moves with it, is frozen.
    pub(in crate::engine) fn frozen_instance(&self, ix: InstanceIx) -> Option<Instant> {
        if !self.orders.some_frozen {
            return None;
        }
        let words = self.together(ix).into_iter().filter_map(|ix| self.ordered_of(ix).freeze);
        words.map(|word| word.until).max().filter(|until| *until > self.now.mono)
    }

    pub(in crate::engine) fn frozen(&self, u: UnitIx) -> Option<Instant> {
        self.frozen_instance(self.units[u].instance)
    }

    /// Freezes until then, or thaws with zero.
    pub(super) fn freeze(&mut self, instance: Option<InstanceIx>, until: Instant) {
        for ix in self.meant_groups(instance) {
            let last = self.ordered_of(ix).freeze.map_or(0, |word| word.serial >> 8);
            let host = self.model.epoch_host(self.model.host);
            let serial = ((last + 1) << 8) | u32::from(host);
            self.ordered_mut(ix).freeze = Some(FreezeWord { serial, until });
            self.freeze_changed(ix);
        }
    }

    /// What a peer knows of the last order.
    pub(super) fn heard_freeze(&mut self, ix: InstanceIx, freeze: Freeze) {
        if self.ordered_of(ix).freeze.is_some_and(|word| word.serial >= freeze.serial) {
            return;
        }
        let until = match freeze.left_s {
            0 => Instant::ZERO,
            Freeze::FOR_EVER => Instant::MAX,
            left => self.now.mono + Duration::from_secs(u64::from(left)),
        };
        self.ordered_mut(ix).freeze = Some(FreezeWord { serial: freeze.serial, until });
        self.freeze_changed(ix);
        self.plan_orders();
    }

    /// What the heartbeats say of it.
    pub(super) fn told_freeze(&self, ix: InstanceIx) -> Option<Freeze> {
        let word = self.ordered_of(ix).freeze?;
        let left = word.until.since(self.now.mono);
        let left_s = match word.until {
            Instant::MAX => Freeze::FOR_EVER,
            _ => u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(Freeze::FOR_EVER - 1),
        };
        Some(Freeze { serial: word.serial, left_s })
    }

    pub(super) fn freezes_due(&mut self) {
        let now = self.now.mono;
        for n in 0..self.orders.all.len() {
            let over = |word: &&mut FreezeWord| word.until > Instant::ZERO && word.until <= now;
            if let Some(word) = self.orders.all[n].freeze.as_mut().filter(over) {
                word.until = Instant::ZERO;
                self.freeze_changed(InstanceIx(u16::try_from(n).unwrap_or(u16::MAX)));
            }
        }
    }

    /// Is anything frozen at all? Most of the time nothing is, and nobody has to look further.
    pub(in crate::engine) fn look_for_freeze(&mut self) {
        let now = self.now.mono;
        let mut words = self.orders.all.iter().filter_map(|o| o.freeze);
        self.orders.some_frozen = words.any(|word| word.until > now);
    }

    fn freeze_changed(&mut self, ix: InstanceIx) {
        self.look_for_freeze();
        self.keep(ix);
        let frozen = self.frozen_instance(ix).is_some();
        self.alarm(Some(ix), Alarm::Frozen, frozen);
        for ix in self.together(ix) {
            self.freeze_preemption(ix);
            for u in self.units_of(ix) {
                self.refresh_preemption(u);
                self.consider_hand_over(u);
                self.rearm(u);
            }
        }
        self.urgent();
    }
}
