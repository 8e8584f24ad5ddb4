//! Another configuration without another engine (DESIGN 5.16).
//!
//! In two steps. `Input::Retire`: what cannot go on in place is handed over, with its state, as in a clean stop of those
//! instances alone; the others notice nothing. `Input::Reload`: an engine of the new model takes over, by name, all that this one
//! knows of what goes on: state, timers, penalties, orders, peers, numbers of heartbeats and of orders to the kernel.
//! What is new, or was retired, begins as at a start.
//!
//! Rooms: `retire` what leaves first; `renumber` positions in one model to those in another; `carry` what an instance and its units take along. What
//! only another room of the engine knows is carried there (`Peers::go_on`, `Orders::go_on` ...).

mod carry;
mod renumber;
mod retire;

pub use renumber::Renumber;
pub(super) use retire::Retirement;

use super::io::{Alarm, Output, StandingReason};
use super::{Engine, Secrets, Slot};
use crate::config::diff::{Difference, Fate};
use crate::config::model::Model;
use crate::time::Instant;
use crate::types::{CheckIx, InstanceIx, LinkIx, State};
use std::sync::Arc;

/// What of an instance has to be carried over beside its state: what the change means for it.
struct Followed {
    /// Goes on in place.
    stays: Vec<bool>,
    /// The kernel is to hold something else for it.
    kernel: Vec<bool>,
    /// Something changes for it.
    touched: Vec<bool>,
}

impl Engine {
    /// Puts `model` in force.
    pub(super) fn reload(&mut self, model: &Arc<Model>, secrets: Secrets) {
        if self.stopping || self.closing.is_some() {
            return;
        }
        self.abort_restart();
        let now = self.now;
        let renumber = Renumber::between(&self.model, model);
        self.forget_what_goes(&renumber);
        let followed = self.followed(model);
        let mut old =
            std::mem::replace(self, Self::new(Arc::clone(model), secrets, self.boot, now));
        self.outputs = std::mem::take(&mut old.outputs);
        self.push(Output::Reloaded(Arc::clone(model)));
        self.started = old.started;
        self.backup_until = old.backup_until;
        self.resumed_from = old.resumed_from;
        self.begun = old.begun;
        self.global = std::mem::take(&mut old.global);
        self.renew = std::mem::take(&mut old.renew);
        self.renew.renumber();
        self.set_renew_slot();
        for (slot, kept) in [Slot::Heartbeat, Slot::Reach, Slot::Alarms].map(|s| {
            let at = old.agenda.at(s.index(old.units.len()));
            (s, at)
        }) {
            self.set_slot(slot, kept);
        }
        self.carry_links(&mut old, &renumber);
        self.carry_checks(&mut old, &renumber, &followed);
        self.carry_copies(&old, &renumber);
        self.carry_instances(&mut old, &renumber, &followed);
        self.orders.go_on(std::mem::take(&mut old.orders), &renumber);
        let numbered = old.peers.as_ref().map(|p| (p.boot, p.seq)).or(old.numbered);
        match (&mut self.peers, old.peers.take()) {
            (Some(mine), Some(before)) => mine.go_on(before, &renumber, &old.model, model),
            // Peers that were not reloaded believe nothing that is not newer than what they heard.
            (Some(mine), None) => (mine.boot, mine.seq) = numbered.unwrap_or((mine.boot, mine.seq)),
            (None, _) => self.numbered = numbered,
        }
        self.reporter = std::mem::take(&mut old.reporter);
        self.reporter.renumber(&renumber);
        self.in_force(&followed, &old);
    }

    /// Alarms and operations of what the new configuration does not have end under the names of the old one.
    fn forget_what_goes(&mut self, renumber: &Renumber) {
        let stands = |(instance, alarm): &(Option<InstanceIx>, Alarm)| {
            instance.is_none_or(|ix| renumber.instance(ix).is_some() && !self.retires(ix))
                && renumber.alarm(alarm).is_some()
        };
        let over: Vec<_> =
            self.reporter.alarms.keys().filter(|key| !stands(key)).cloned().collect();
        for (instance, alarm) in over {
            self.alarm(instance, alarm, false);
        }
        self.orders_forget(renumber);
    }

    /// What the change means for each instance of `model`.
    fn followed(&self, model: &Model) -> Followed {
        let difference = Difference::between(&self.model, model);
        let mut followed = Followed { stays: vec![], kernel: vec![], touched: vec![] };
        for instance in &model.instances {
            let changes = difference.find(&instance.name);
            followed.stays.push(difference.fate(&instance.name) == Fate::InPlace);
            followed.kernel.push(changes.is_some_and(|c| c.kernel));
            followed.touched.push(changes.is_some());
        }
        followed
    }

    /// Everything is in its place: what follows from the new configuration.
    fn in_force(&mut self, followed: &Followed, old: &Self) {
        let now = self.now.mono;
        self.unwell = self.fitness.iter().filter(|f| !f.told_healthy()).count();
        let instances: Vec<InstanceIx> = self.model.iter().map(|(ix, _)| ix).collect();
        for link in (0u16..).map(LinkIx).take(self.links.len()) {
            self.sources_anew(link);
        }
        for ix in &instances {
            let at = usize::from(ix.0);
            self.drain_changed(*ix);
            self.flap_follows(*ix);
            if followed.touched[at] {
                self.refit(*ix, Some(StandingReason::Reload));
            } else {
                self.refit(*ix, None);
            }
            for u in self.units_of(*ix) {
                if followed.stays[at] {
                    self.follow_interval(u);
                    self.refresh_preemption(u);
                } else if self.units[u].state() == State::Initialize {
                    self.try_start(u);
                    self.tell_why_not_started(u);
                }
            }
            self.hold_what_is_wanted(*ix, followed.kernel[at]);
            self.instance_checks(*ix);
            // Without sets nothing looks at it again.
            self.replica_alarm(*ix);
        }
        self.look_for_freeze();
        (0..self.units.len()).for_each(|u| self.rearm(u));
        self.fastest_anew();
        self.plan_orders();
        if followed.touched.contains(&true) {
            self.plan_renewal();
        }
        self.renew_if_lost(now);
        if self.model.hash != old.model.hash {
            self.urgent();
        }
        if let Some(peers) = &self.peers {
            let beat = peers.config.interval.duration();
            let slot = Slot::Heartbeat.index(self.units.len());
            let at = self.agenda.at(slot).min(now + beat);
            self.set_slot(Slot::Heartbeat, at);
        }
    }

    /// The shortest advert interval may be another one now.
    pub(super) fn fastest_anew(&mut self) {
        let intervals = self.units.iter().map(super::unit::Unit::interval);
        self.fastest = intervals.min().unwrap_or(crate::time::Duration::MAX);
    }

    /// A renewal that was on its way is void: another one takes its place.
    fn renew_if_lost(&mut self, now: Instant) {
        if self.renew.order_lost() {
            self.renew_all_at(now);
        }
    }

    fn carry_links(&mut self, old: &mut Self, renumber: &Renumber) {
        let before = (0u16..).map(LinkIx).zip(std::mem::take(&mut old.links));
        for (ix, link) in before {
            if let Some(mine) =
                renumber.link(ix).and_then(|ix| self.links.get_mut(usize::from(ix.0)))
            {
                mine.go_on(link);
            }
        }
    }

    /// What checks had settled on still counts, whatever they look at now: readings go on from there. The first word
    /// of a new check is not awaited by who runs already.
    fn carry_checks(&mut self, old: &mut Self, renumber: &Renumber, followed: &Followed) {
        for (check, from) in (0u16..).map(CheckIx).zip(&mut self.checks.from) {
            let mut users = self.model.iter().zip(&followed.stays);
            let runs = users.any(|((_, i), stays)| *stays && i.checks.contains(&check));
            if runs {
                *from = Instant::ZERO;
            }
        }
        for (ix, state) in (0u16..).map(CheckIx).zip(std::mem::take(&mut old.checks.states)) {
            let Some(new) = renumber.check(ix).map(|ix| usize::from(ix.0)) else { continue };
            self.checks.states[new] = state;
            self.checks.from[new] = old.checks.from[usize::from(ix.0)];
        }
    }
}
