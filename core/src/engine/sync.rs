//! Sync groups: instances that move together. A member that cannot own keeps the whole group from owning.

use super::io::Cause;
use super::{Engine, UnitIx};
use crate::types::State;

impl Engine {
    /// The other units of the unit's group: other instances of it, and the other families of its own instance
    /// only where the group says so.
    pub(super) fn partners(&self, u: UnitIx) -> Vec<UnitIx> {
        let mine = self.units[u].instance;
        let Some(group) = self.model.sync_groups.iter().find(|g| g.members.contains(&mine)) else {
            return Vec::new();
        };
        (0..self.units.len())
            .filter(|o| *o != u && group.members.contains(&self.units[*o].instance))
            .collect()
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
        self.sync_yielded(u);
    }
}
