//! Sync groups: instances that move together. A member that cannot own keeps the whole group from owning.

use super::io::Cause;
use super::unit::Unit;
use super::{Engine, UnitIx};
use crate::config::model::{Model, StandbyKind};
use crate::types::State;

/// Which units move together.
#[derive(Clone)]
pub(super) struct Groups {
    /// The units of each group.
    members: Vec<Vec<UnitIx>>,
    /// The group of each unit.
    of: Vec<Option<usize>>,
    /// By unit: it, or one that moves with it, is a cold standby here.
    cold: Vec<bool>,
}

impl Groups {
    pub(super) fn new(model: &Model, units: &[Unit]) -> Self {
        let group_of =
            |u: &Unit| model.sync_groups.iter().position(|g| g.members.contains(&u.instance));
        let of: Vec<Option<usize>> = units.iter().map(group_of).collect();
        let mut members = vec![Vec::new(); model.sync_groups.len()];
        for (u, group) in of.iter().enumerate() {
            if let Some(group) = group {
                members[*group].push(u);
            }
        }
        let is_cold =
            |u: UnitIx| model.instance(units[u].instance).standby.kind() == StandbyKind::Cold;
        let cold = of.iter().enumerate().map(|(u, group)| match group {
            Some(group) => members[*group].iter().any(|o| is_cold(*o)),
            None => is_cold(u),
        });
        let cold = cold.collect();
        Self { members, of, cold }
    }

    /// The position of the unit's group, if it is in one.
    pub(super) fn group_of(&self, u: UnitIx) -> Option<usize> {
        self.of[u]
    }

    /// Is a cold standby among those that move with the unit?
    pub(super) fn cold(&self, u: UnitIx) -> bool {
        self.cold[u]
    }
}

impl Engine {
    /// The other units of the unit's group: other instances of it, and the other families of its own instance
    /// only where the group says so.
    pub(super) fn partners(&self, u: UnitIx) -> Vec<UnitIx> {
        self.others(u).collect()
    }

    /// The same, without a copy.
    pub(super) fn others(&self, u: UnitIx) -> impl Iterator<Item = UnitIx> + '_ {
        let members = self.groups.of[u].map(|group| &self.groups.members[group]);
        members.into_iter().flatten().copied().filter(move |o| *o != u)
    }

    /// A partner that cannot own forbids the claim.
    pub(super) fn sync_blocks(&self, u: UnitIx) -> bool {
        self.partners(u).into_iter().any(|o| self.units[o].state() == State::Initialize)
    }

    /// The unit claimed: its partners do.
    pub(super) fn sync_claimed(&mut self, u: UnitIx) {
        for o in self.partners(u) {
            if self.units[o].state() == State::Backup {
                self.become_active(o, Cause::SyncGroup);
                self.rearm(o);
            }
        }
    }

    /// The unit yielded: its partners do, with priority 0, since nobody outranked them.
    pub(super) fn sync_yielded(&mut self, u: UnitIx) {
        for o in self.partners(u) {
            if self.units[o].is_active() {
                self.advertise(o, 0);
                self.stand_back(o, Cause::SyncGroup, None);
            }
        }
    }

    /// The unit cannot own any more: its partners let go.
    pub(super) fn sync_faulted(&mut self, u: UnitIx) {
        // Those whose interface is gone as well go the same way at once: no detour over Backup, which hooks would hear.
        for o in self.partners(u) {
            if !self.links[usize::from(self.units[o].link.0)].usable() {
                self.fault(o, Cause::LinkDown);
            }
        }
        self.sync_yielded(u);
    }
}
