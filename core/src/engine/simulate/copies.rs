//! State files in a play: disks confirm what was reserved, and copies follow the owner.
//!
//! Replicators do not play. A copy that is good enough when the play begins is supposed to stay so for as long as an owner
//! is there that its host hears on a heartbeat path; one that is not stays as it is. From the last owner on copies age by
//! the engine's own rules. Called by `group`.

use super::super::Engine;
use super::super::io::{Alarm, Input, ReplicaState};
use super::group::{Group, Item, KERNEL};
use crate::config::model::Gate;
use crate::policy::replica::Staleness;
use crate::time::Duration;
use crate::types::{InstanceIx, SetIx};

/// What replicators are supposed to do.
#[derive(Default)]
pub(super) struct Copies {
    /// Actors whose copy of that set was good enough when the play began.
    good: Vec<(usize, SetIx)>,
    /// They are looked at so often.
    every: Duration,
}

/// A copy that has everything.
pub(super) const COMPLETE: ReplicaState = ReplicaState { age: Some(Duration::ZERO), pending: 0 };

impl Group {
    /// At the beginning of the play. True: something is supposed of copies.
    pub(super) fn begin_copies(&mut self) -> bool {
        for n in 0..self.actors.len() {
            for (instance, reserved) in self.actors[n].engine.unstored() {
                self.store(n, instance, reserved);
            }
        }
        let mut copies = Copies::default();
        for (n, actor) in self.actors.iter().enumerate() {
            let sets = (0u16..).map(SetIx).zip(&actor.engine.model.replicates);
            for (ix, set) in sets.filter(|(_, set)| set.gate != Gate::Ignore) {
                let shortest = if copies.good.is_empty() { Duration::MAX } else { copies.every };
                if actor.engine.staleness(set.instance) == Staleness::Fresh {
                    copies.every = shortest.min(set.max_age / 4);
                    copies.good.push((n, ix));
                }
            }
        }
        self.copies = copies;
        if self.copies.good.is_empty() {
            return false;
        }
        self.after(self.copies.every, Item::Copies);
        true
    }

    /// The disk of an actor takes a reservation, as it does now.
    pub(super) fn store(&mut self, n: usize, instance: InstanceIx, reserved: u64) {
        let unwritable = (Some(instance), Alarm::StateUnwritable);
        if reserved > 0 && !self.actors[n].engine.reporter.alarms.contains_key(&unwritable) {
            self.after(KERNEL, Item::Stored { at: n, instance, reserved });
        }
    }

    /// Copies follow the owner, where there is one.
    pub(super) fn copies_follow(&mut self) {
        for (n, set) in self.copies.good.clone() {
            let model = &self.actors[n].engine.model;
            let key = model.instance(model.replicates[usize::from(set.0)].instance).key;
            let serves = |m: &usize| {
                *m != n
                    && self.running(*m)
                    && owns(&self.actors[*m].engine, key)
                    && self.hears(n, *m)
            };
            if self.running(n) && (0..self.actors.len()).any(|m| serves(&m)) {
                self.feed(n, Input::Replica { set, state: Some(COMPLETE) });
            }
        }
        self.after(self.copies.every, Item::Copies);
    }
}

fn owns(engine: &Engine, key: u64) -> bool {
    engine.units.iter().any(|u| u.is_active() && engine.model.instance(u.instance).key == key)
}
