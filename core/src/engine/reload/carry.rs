//! What an instance takes along into the engine of another configuration, and how a running unit follows what changed.

use super::super::io::Alarm;
use super::super::unit::Unit;
use super::super::{Engine, UnitIx};
use super::{Followed, Renumber};
use crate::types::{HostIx, InstanceIx, SetIx};

impl Engine {
    /// What is known of sets that are of the same instance still.
    pub(super) fn carry_copies(&mut self, old: &Self, renumber: &Renumber) {
        let before = (0u16..).map(SetIx).zip(old.model.replicates.iter().zip(&old.copies));
        for (was, (set, copy)) in before {
            let Some(ix) = renumber.set(was) else { continue };
            let now = &self.model.replicates[usize::from(ix.0)];
            if renumber.instance(set.instance) == Some(now.instance) {
                self.copies[usize::from(ix.0)] = copy.clone();
            }
        }
    }

    pub(super) fn carry_instances(
        &mut self,
        old: &mut Self,
        renumber: &Renumber,
        followed: &Followed,
    ) {
        let mut before: Vec<Option<Unit>> =
            std::mem::take(&mut old.units).into_iter().map(Some).collect();
        let places = (0u16..).map(InstanceIx).take(old.by_instance.len());
        for (was, ix) in places.filter_map(|was| Some((was, renumber.instance(was)?))) {
            let (from, to) = (usize::from(was.0), usize::from(ix.0));
            // What an instance is known by to others, whatever became of it.
            self.holdings[to].epoch = old.holdings[from].epoch;
            self.epochs[to].go_on(std::mem::take(&mut old.epochs[from]));
            self.ownership[to] = old.ownership[from];
            self.fitness[to].go_on(&mut old.fitness[from], renumber);
            if !followed.stays[to] {
                continue;
            }
            let count = self.holdings[to].count;
            std::mem::swap(&mut self.holdings[to], &mut old.holdings[from]);
            self.holdings[to].count = count;
            self.standby[to] = std::mem::take(&mut old.standby[from]);
            let me = self.model.host;
            for (u, known) in self.units_of(ix).into_iter().zip(old.by_instance[from].clone()) {
                if let Some(unit) = before[known].take() {
                    let fresh = std::mem::replace(&mut self.units[u], unit);
                    self.units[u].go_on_as(fresh, renumber, me);
                }
            }
        }
    }

    /// Flap control that is off by now holds nothing; another limit counts from now on.
    pub(super) fn flap_follows(&mut self, ix: InstanceIx) {
        self.flap_configured(ix);
        let fitness = self.fitness(ix);
        let (held, suppressed) =
            (fitness.moves.held().is_some(), fitness.penalty.suppressed().is_some());
        self.alarm(Some(ix), Alarm::Held, held);
        self.alarm(Some(ix), Alarm::Suppressed, suppressed);
    }

    /// A running unit takes another advert interval. A shorter one counts at once. A longer one is named by as many
    /// adverts as a restart would send, still at the old pace: one or two may be lost, and who has not heard of it counts
    /// with the old one.
    pub(super) fn follow_interval(&mut self, u: UnitIx) {
        let wanted = self.instance(u).interval;
        let now = self.now.mono;
        let unit = &mut self.units[u];
        let running = unit.vr.params().interval;
        if wanted == running && unit.lengthens.is_none() {
            return;
        }
        if wanted > running && unit.keeps_addresses() {
            if unit.lengthens.replace(wanted) != Some(wanted) {
                unit.stretched = Some(wanted);
                unit.stretched_sent = 0;
            }
        } else {
            unit.lengthens = None;
            unit.stretched = None;
            unit.vr.change_interval(now, wanted);
            // Peers wait less: leases of before would outlive them, were this agent to die now.
            self.renew_all_at(now);
        }
        if self.units[u].is_active() && self.units[u].last_sent.is_some() {
            let priority = self.units[u].vr.params().priority;
            self.advertise(u, priority);
        }
    }

    /// The longer interval was named often enough, or nobody is to be told of it any more.
    pub(in crate::engine) fn lengthened(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let unit = &mut self.units[u];
        let Some(interval) = unit.lengthens.take() else { return };
        unit.stretched = None;
        unit.stretched_sent = 0;
        unit.vr.change_interval(now, interval);
        self.fastest_anew();
        self.renew_all_at(now);
        self.rearm(u);
    }
}

impl Unit {
    /// Goes on with its state in the place of `fresh`, which knows the new configuration.
    fn go_on_as(&mut self, fresh: Self, renumber: &Renumber, me: HostIx) {
        self.instance = fresh.instance;
        self.link = fresh.link;
        let before = std::mem::replace(&mut self.voices, fresh.voices);
        for known in before {
            if let Some(voice) = self.voices.iter_mut().find(|v| v.family == known.family) {
                voice.go_on(known);
            }
        }
        self.cause = renumber.cause(&self.cause);
        self.gates.renumber(|host| renumber.host(host));
        self.stale.renumber(renumber);
        if let Some(leaving) = &mut self.leaving {
            leaving.renumber(renumber);
        }
        self.yielding = self.yielding.map(|yielding| yielding.renumbered(renumber, me));
        self.leaver = self.leaver.and_then(|host| renumber.host(host));
    }
}
