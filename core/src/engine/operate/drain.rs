//! Drains: everything moves away, and this host does not claim until it is undrained (DESIGN 5.10).
//!
//! A drain takes its class at once, so that peers see it; what is owned moves by request, as in a move without a pin.

use super::super::Engine;
use super::super::io::{Alarm, StandingReason};
use super::super::unit::Unit;
use super::{LONGEST, Waits};
use crate::policy::replica::Staleness;
use crate::time::Instant;
use crate::types::{Class, InstanceIx};

/// Does not claim.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Drain {
    /// Until then; `Instant::MAX`: until undrained.
    pub(super) until: Instant,
    /// Claims when nobody else is there.
    pub(super) last_resort: bool,
}

impl Engine {
    /// The drain of the instance on this host, its own or that of the host.
    pub(in crate::engine) fn drain_of(&self, ix: InstanceIx) -> Option<(Instant, bool)> {
        let drain = self.ordered_of(ix).drain.or(self.orders.host)?;
        Some((drain.until, drain.last_resort))
    }

    /// Is what keeps the unit from claiming a drain that allows it when nobody else is there?
    pub(in crate::engine) fn last_resort(&self, u: usize) -> bool {
        let members = self.others(u).chain([u]).map(|o| &self.units[o]);
        members.map(|unit: &Unit| unit.instance).all(|ix| {
            let fitness = self.fitness(ix);
            let drained = fitness.class() == Class::Drained;
            fitness.health.class < Class::Drained
                && fitness.replica < Staleness::Forbids
                && (!drained || self.drain_of(ix).is_some_and(|(_, last)| last))
        })
    }

    pub(super) fn start_drain(
        &mut self,
        id: u64,
        instance: Option<InstanceIx>,
        drain: Drain,
        allow_outage: bool,
    ) {
        let meant = self.meant_groups(instance);
        let owned = self.owned(meant.clone());
        let targets: Vec<_> = owned.iter().map(|ix| (*ix, self.target(*ix, None, false))).collect();
        self.open(id, instance, Waits::Drain, owned, LONGEST);
        for (ix, target) in targets {
            match target {
                Ok(Some(host)) => {
                    self.ask(id, ix, host, false, false);
                    self.insist_on_move(ix, allow_outage);
                }
                Ok(None) => self.offer_to_anybody(id, ix, false, allow_outage),
                Err(_) if allow_outage => self.offer_to_anybody(id, ix, false, true),
                Err(why) => {
                    let name = self.name(ix);
                    let stays = format!("{name} stays here as the last resort: {why}");
                    self.leg_ended(id, ix, if drain.last_resort { Ok(stays) } else { Err(why) });
                }
            }
        }
        match instance {
            None => self.orders.host = Some(drain),
            Some(_) => meant.iter().for_each(|ix| self.ordered_mut(*ix).drain = Some(drain)),
        }
        meant.into_iter().for_each(|ix| self.drain_changed(ix));
        self.keep_host();
        self.close_operations();
    }

    pub(super) fn undrain(&mut self, instance: Option<InstanceIx>) {
        if instance.is_none() {
            self.orders.host = None;
        }
        for ix in self.meant_groups(instance) {
            self.ordered_mut(ix).drain = None;
            self.drain_changed(ix);
        }
        self.keep_host();
    }

    /// The last instance of a drain has ended.
    pub(super) fn drain_ended(
        &mut self,
        instance: Option<InstanceIx>,
        done: &mut Vec<String>,
        failed: &mut Vec<String>,
    ) {
        let host = self.host_name(self.model.host).to_owned();
        if failed.is_empty() {
            done.push(format!("{host} is drained"));
        } else if self.stopping {
            failed.push(format!("{host} stays drained"));
        } else if done.is_empty() {
            self.undrain(instance);
            failed.push(format!("{host} is not drained: nothing has changed"));
        } else {
            failed.push(format!(
                "{host} stays drained and hands over the rest to who is better as soon as it can; `vipd undrain` takes \
                 it back"
            ));
        }
    }

    /// What is drained follows the orders.
    pub(in crate::engine) fn drain_changed(&mut self, ix: InstanceIx) {
        let drained = self.drain_of(ix).is_some();
        let before = std::mem::replace(&mut self.fitness_mut(ix).drained, drained);
        if before != drained {
            self.alarm(Some(ix), Alarm::Drained, drained);
            let reason = if drained { StandingReason::Drained } else { StandingReason::Undrained };
            self.reassess(ix, Some(reason));
        }
        self.keep(ix);
    }

    pub(super) fn drains_due(&mut self) {
        let now = self.now.mono;
        if self.orders.host.take_if(|d| d.until <= now).is_some() {
            self.model.clone().iter().for_each(|(ix, _)| self.drain_changed(ix));
            self.keep_host();
        }
        for n in 0..self.orders.all.len() {
            if self.orders.all[n].drain.take_if(|d| d.until <= now).is_some() {
                self.drain_changed(InstanceIx(u16::try_from(n).unwrap_or(u16::MAX)));
            }
        }
    }
}
