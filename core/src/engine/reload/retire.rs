//! What cannot go on in place with another configuration leaves before that comes into force: as in a clean stop, but of
//! these instances alone.
//!
//! Where state follows the address it is brought to the successor first, each instance leaves when its own move has ended,
//! and in any case when the time for that is over. Called at `Input::Retire` and after each input from then on.

use super::super::io::{Cause, EventKind};
use super::super::{Engine, UnitIx};
use crate::config::diff::{Difference, Fate};
use crate::config::model::Model;
use crate::time::{Duration, Instant};
use crate::types::{InstanceIx, State};
use std::collections::BTreeSet;

/// Instances that leave because another configuration comes.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Retirement {
    going: BTreeSet<InstanceIx>,
    /// Those of them whose state is on its way to a successor.
    bringing: BTreeSet<InstanceIx>,
    /// What is still on its way then is left behind.
    until: Instant,
}

impl Retirement {
    /// When state that is on its way is given up.
    pub(in crate::engine) fn deadline(&self) -> Option<Instant> {
        (!self.bringing.is_empty()).then_some(self.until)
    }

    /// A successor has to get ready first, which may take it that long.
    pub(in crate::engine) fn wait_for(&mut self, ready: Duration) {
        self.until += ready;
    }
}

impl Engine {
    /// Lets instances go that cannot go on with `model` in place.
    pub(in crate::engine) fn retire(&mut self, model: &Model) {
        if self.stopping || self.closing.is_some() || self.preparing.is_some() {
            return;
        }
        let difference = Difference::between(&self.model, model);
        let goes = |name: &str| matches!(difference.fate(name), Fate::Anew | Fate::Gone);
        let going: BTreeSet<InstanceIx> =
            self.model.iter().filter(|(_, i)| goes(&i.name)).map(|(ix, _)| ix).collect();
        if going.is_empty() {
            return;
        }
        self.retiring = Retirement { going: going.clone(), ..Retirement::default() };
        for ix in &going {
            self.orders_retire(*ix);
        }
        let stateful = self.stateful.iter().filter(|ix| going.contains(ix)).copied().collect();
        let owned = self.still_here(stateful);
        let (unsynced, until) = self.bring_away(&owned);
        for (ix, why) in unsynced {
            self.event(Some(ix), None, EventKind::Unsynced(why.into()));
        }
        let (bringing, leaving) = going.into_iter().partition(|ix| self.is_moving(*ix));
        (self.retiring.bringing, self.retiring.until) = (bringing, until);
        self.retire_now(leaving);
        self.plan_orders();
    }

    fn retire_now(&mut self, leaving: BTreeSet<InstanceIx>) {
        for ix in leaving {
            for u in self.units_of(ix) {
                self.leave_for_good(u, Cause::Reload);
            }
        }
        self.urgent();
    }

    /// Those leave whose state has been brought over, or will not be.
    pub(in crate::engine) fn follow_retirement(&mut self) {
        if self.retiring.bringing.is_empty() {
            return;
        }
        if self.stopping || self.closing.is_some() {
            // The stop has taken over, and brings it itself.
            return self.retiring.bringing.clear();
        }
        let late = self.retiring.until <= self.now.mono;
        let over = |ix: &InstanceIx| late || !self.is_moving(*ix);
        let leaving: BTreeSet<InstanceIx> =
            self.retiring.bringing.iter().copied().filter(over).collect();
        if leaving.is_empty() {
            return;
        }
        for ix in &leaving {
            if self.is_moving(*ix) {
                self.left_behind(*ix, "it took too long");
                self.orders_retire(*ix);
            }
            self.retiring.bringing.remove(ix);
        }
        self.retire_now(leaving);
    }

    /// Has everything that [`Input::Retire`](crate::engine::io::Input::Retire) asked for come to its end: is nothing left
    /// of the instances that do not go on?
    pub fn retired(&self) -> bool {
        self.retiring.going.iter().all(|ix| {
            let gone = |u: &UnitIx| {
                let unit = &self.units[*u];
                unit.state() == State::Initialize
                    && unit.leaving.is_none()
                    && unit.yielding.is_none()
            };
            self.units_of(*ix).iter().all(gone) && self.holding(*ix).is_empty()
        })
    }

    /// Does the instance leave because another configuration comes?
    pub(in crate::engine) fn retires(&self, ix: InstanceIx) -> bool {
        self.retiring.going.contains(&ix)
    }

    /// Does it leave when its state has been brought to a successor?
    pub(in crate::engine) fn retires_with_state(&self, ix: InstanceIx) -> bool {
        self.retiring.bringing.contains(&ix)
    }

    /// The operations that wait for an instance which leaves because of a reload end.
    fn orders_retire(&mut self, ix: InstanceIx) {
        let name = self.model.instance(ix).name.to_string();
        let why = format!("{name}: the configuration changed, the agent hands it over for that");
        self.orders_withdraw(ix, &why);
    }
}
