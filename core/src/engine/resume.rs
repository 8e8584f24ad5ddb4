//! After a planned restart of the agent (DESIGN 5.7): the new one goes on where the old one ended.
//!
//! As owner only under the conditions of every adoption, with the interval that the last adverts named as measure of
//! age; as Backup it listens anew, because nobody listened in between, but knows whom and at which interval.

use super::flap::Ownership;
use super::io::{Cause, Handover, HeardHandover, InstanceHandover, KernelAddr, UnitHandover};
use super::restart::number;
use super::{Engine, UnitIx};
use crate::policy::PreemptGates;
use crate::policy::check::CheckState;
use crate::time::Duration;
use crate::types::{CheckIx, Epoch, Family, HostIx, IfIndex, InstanceIx, Interval};
use crate::vrrp::Heard;
use std::sync::Arc;

impl Engine {
    /// Goes on from what the agent before this one left, if it is fresh. To be called before the first input.
    pub fn resume(&mut self, before: &Handover) {
        let now = self.now.mono;
        if !before.is_fresh(now) {
            return;
        }
        self.resumed_from = Some(before.at);
        self.backup_until = self.backup_until.max(before.backup_until);
        let model = Arc::clone(&self.model);
        for (link, config) in self.links.iter_mut().zip(&model.links) {
            let known = before.links.iter().find(|known| *known.name == *config.name);
            link.heard_before = known.and_then(|known| IfIndex::new(known.index));
        }
        for (ix, config) in (0u16..).map(CheckIx).zip(&model.checks) {
            if let Some(known) = before.checks.iter().find(|known| *known.name == *config.name) {
                let detail = Arc::from(&*known.detail);
                self.checks.states[usize::from(ix.0)] =
                    CheckState::resumed(known.verdict, known.since, detail);
            }
        }
        for (ix, config) in model.iter() {
            self.reassess(ix, None);
            if let Some(known) = before.instances.iter().find(|known| *known.name == *config.name) {
                self.resume_instance(ix, known);
            }
        }
        if let Some(peers) = &mut self.peers {
            peers.resume(before, &model, now);
        }
    }

    fn resume_instance(&mut self, ix: InstanceIx, before: &InstanceHandover) {
        self.raise_epoch_to(ix, Epoch { number: before.epoch, host: before.epoch_host });
        self.ownership[usize::from(ix.0)] =
            Ownership { owner: before.owner, at: before.owner_at, left: before.owner_left };
        for u in self.units_of(ix) {
            let leads = self.units[u].voices.first().map_or(0, |voice| number(voice.family));
            let Some(known) = before.units.iter().find(|known| known.family == leads) else {
                continue;
            };
            let mut hosts = (0u8..).map(HostIx).zip(&self.model.hosts);
            let unheard_by = known
                .unheard_by
                .as_deref()
                .and_then(|name| hosts.find(|(_, host)| *host.name == *name))
                .map(|(host, _)| host);
            let unit = &mut self.units[u];
            unit.gates = PreemptGates::resumed((known.healthy_since, known.lost_at), unheard_by);
            unit.barred_until = known.barred_until;
            unit.adverts_sent = known.adverts_sent;
            unit.inherited = Some(known.clone());
            self.rearm(u);
        }
    }

    /// Did an earlier agent own the instance in `family`? Of one that crashed nothing is known: what it left tells.
    pub(super) fn left_owning(&self, ix: InstanceIx, family: Family) -> bool {
        let units = self.units_of(ix);
        let mut speaking = units.into_iter().filter(|u| self.units[*u].speaks(family));
        speaking.all(|u| self.left_owner(u))
    }

    /// The same for one unit.
    pub(super) fn left_owner(&self, u: UnitIx) -> bool {
        self.units[u].inherited.as_ref().is_none_or(|before| before.active)
    }

    /// What an earlier agent left is adopted up to this age: what peers counted with, three times.
    pub(super) fn adoption_age(&self, u: UnitIx) -> Duration {
        let told = self.units[u].inherited.as_ref().filter(|before| before.active);
        told.map_or(Duration::ZERO, UnitHandover::told).max(self.units[u].interval()) * 3
    }

    /// The age of what an earlier agent left: that of its lifetime, or of that agent's last word where it has none.
    pub(super) fn left_age(&self, ix: InstanceIx, found: &KernelAddr) -> Duration {
        let left = self.units_of(ix).into_iter().any(|u| self.units[u].inherited.is_some());
        match self.resumed_from.filter(|_| left && found.valid_for.is_none()) {
            Some(at) => self.now.mono.since(at),
            None => found.age,
        }
    }

    /// The owner is the same one as before.
    pub(super) fn goes_on(&mut self, u: UnitIx, before: &UnitHandover) {
        self.units[u].since = before.since;
    }

    /// What this Backup was for an earlier agent, if that ended just before this one began.
    fn listened(&self, u: UnitIx) -> Option<&UnitHandover> {
        let unit = &self.units[u];
        unit.inherited.as_ref().filter(|before| !before.active && unit.cause == Cause::Startup)
    }

    /// Listens anew, to the owner that an earlier agent heard.
    pub(super) fn goes_on_listening(&mut self, u: UnitIx) {
        let Some(before) = self.listened(u) else { return };
        let heard = before.heard.as_ref().and_then(HeardHandover::heard);
        let interval = Interval::of_either(before.active_interval_cs);
        let interval = interval.unwrap_or_else(|_| self.units[u].vr.params().interval);
        self.units[u].vr.resume(self.now.mono, heard, interval);
    }

    /// It is Backup for as long as the earlier agent was.
    pub(super) fn listened_before(&mut self, u: UnitIx) {
        if let Some(since) = self.listened(u).map(|before| before.since) {
            self.units[u].since = since;
        }
    }
}

impl HeardHandover {
    /// `None`: no interval of either version.
    fn heard(&self) -> Option<Heard> {
        let interval = Interval::of_either(self.interval_cs).ok()?;
        Some(Heard { src: self.src, priority: self.priority, interval, at: self.at })
    }
}
