//! Epochs as fencing tokens (DESIGN 5.13), of the instances whose state follows the address: each ownership has a number
//! above every one that was ever used or heard of, over restarts too, and whoever does not have the newest pushes nothing.
//!
//! Numbers are reserved on disk ahead of their use, so that a claim waits for no disk: what is stored is a ceiling that no
//! number has passed yet, and a start goes on above it. Where heartbeats know of higher numbers those count.
//!
//! Under which number an ownership goes on that was adopted after a crash the disk may not know: it is asked for the claim
//! while the claim goes on. The peers know, and until one has said so this host pushes nothing.

use super::io::{Alarm, EpochRecord, EventKind};
use super::snapshot::RoleView;
use super::{Engine, UnitIx};
use crate::config::model::Gate;
use crate::time::Instant;
use crate::types::{Epoch, InstanceIx};
use std::sync::Arc;

/// Numbers that are reserved ahead of the highest known one.
const AHEAD: u64 = 64;
/// When fewer are left, more are asked for: claims do not come faster than a disk answers, whatever goes wrong.
const LOW: u64 = 32;
/// Heartbeat intervals in which a living peer has said what it knows of an ownership that was adopted.
const TOLD: u32 = 3;

/// The epochs of one instance on this host, beside the newest one of its own (`Holding::epoch`).
#[derive(Clone, Debug, Default)]
pub(super) struct Epochs {
    /// Every number up to here may have been used before this start.
    floor: u64,
    /// Asked for, and confirmed by the disk.
    asked: u64,
    stored: u64,
    /// The ownership before this start: goes on by adoption.
    recalled: Option<Epoch>,
    /// The ownership that is stored.
    owned: Option<Epoch>,
    /// The newest that any peer ever spoke of: one that has restarted may know less than it said before.
    heard: Epoch,
    /// This ownership goes on from a run of the agent that may have known more than it stored.
    adopted: bool,
    /// That it is the newest one no peer has said yet, who would have by then.
    unsure: Option<Instant>,
    /// Another host owned at the same time.
    disputed: bool,
    /// What was told last.
    told: Option<RoleView>,
}

impl Epochs {
    /// Another configuration: who owns is told anew, because hosts may have other positions. Epochs go on, since they name
    /// hosts by numbers that stay.
    pub(super) fn go_on(&mut self, before: Self) {
        *self = Self { told: None, ..before };
    }
}

impl Engine {
    fn epochs_mut(&mut self, ix: InstanceIx) -> &mut Epochs {
        &mut self.epochs[usize::from(ix.0)]
    }

    fn epochs(&self, ix: InstanceIx) -> &Epochs {
        &self.epochs[usize::from(ix.0)]
    }

    /// By which number epochs know this host.
    fn own_number(&self) -> u8 {
        self.model.epoch_host(self.model.host)
    }

    pub(super) fn epoch_of(&self, instance: InstanceIx) -> Epoch {
        self.holding(instance).epoch
    }

    /// The newest ownership that this host knows of.
    pub(super) fn newest(&self, ix: InstanceIx) -> Epoch {
        self.epoch_of(ix).max(self.heard(ix))
    }

    /// The newest that any peer speaks of, or ever spoke of.
    fn heard(&self, ix: InstanceIx) -> Epoch {
        self.highest_epoch_heard(ix).max(self.epochs(ix).heard)
    }

    /// A number above every one that was ever used or heard of.
    fn next_number(&self, ix: InstanceIx) -> u64 {
        self.newest(ix).number.max(self.epochs(ix).floor).saturating_add(1)
    }

    /// A new ownership, if it is none that goes on.
    pub(super) fn claim_epoch(&mut self, u: UnitIx, adopted: bool) {
        let ix = self.units[u].instance;
        let heard = self.heard(ix);
        let recalled = self.epochs_mut(ix).recalled.take();
        self.epochs_mut(ix).adopted = adopted;
        if let Some(epoch) = recalled.filter(|epoch| adopted && heard <= *epoch) {
            // What was written under it was written by this ownership, if the disk took its claim.
            if self.resumed_from.is_some() {
                // The agent before this one said it itself.
                return self.raise_epoch_to(ix, epoch);
            }
            let interval = self.peers.as_ref().map(|peers| peers.config.interval.duration());
            let told = self.now.mono + interval.unwrap_or_default() * TOLD;
            self.epochs_mut(ix).unsure = Some(told);
            return self.raise_epoch_to(ix, epoch);
        }
        self.raise_epoch(ix);
    }

    fn raise_epoch(&mut self, ix: InstanceIx) {
        // A peer's word may be the highest there is; the host then tells two claims apart.
        let (number, host) = (self.next_number(ix), self.own_number());
        self.epochs_mut(ix).unsure = None;
        self.holdings[usize::from(ix.0)].epoch = Epoch { number, host };
    }

    /// Epochs of this host go on above `last`, that of an ownership before a restart.
    pub(super) fn raise_epoch_to(&mut self, ix: InstanceIx, last: Epoch) {
        let epoch = &mut self.holdings[usize::from(ix.0)].epoch;
        *epoch = last.max(*epoch);
    }

    /// What is to be stored.
    pub(super) fn epoch_record(&self, ix: InstanceIx) -> EpochRecord {
        let epochs = self.epochs(ix);
        EpochRecord { reserved: epochs.asked, owned: epochs.owned, heard: epochs.heard }
    }

    /// What was stored before a restart.
    pub(super) fn recall_epoch(&mut self, ix: InstanceIx, record: &EpochRecord) {
        if !self.stateful.contains(&ix) {
            return;
        }
        let EpochRecord { reserved, owned, heard } = *record;
        let (floor, own) = (reserved, self.own_number());
        let recalled = owned.filter(|epoch| epoch.host == own);
        let told = self.epochs_mut(ix).told.take();
        *self.epochs_mut(ix) = Epochs {
            floor,
            asked: reserved,
            stored: reserved,
            recalled,
            owned,
            heard,
            told,
            ..Epochs::default()
        };
        if let Some(epoch) = owned {
            self.raise_epoch_to(ix, epoch);
        }
    }

    /// Reservations that no disk has confirmed yet.
    pub(super) fn unstored(&self) -> Vec<(InstanceIx, u64)> {
        let waits = |ix: &InstanceIx| {
            let epochs = self.epochs(*ix);
            (epochs.asked > epochs.stored).then_some((*ix, epochs.asked))
        };
        self.stateful.iter().filter_map(waits).collect()
    }

    /// The disk has taken a reservation, or not.
    pub(super) fn on_stored(
        &mut self,
        ix: InstanceIx,
        reserved: u64,
        result: &Result<(), Arc<str>>,
    ) {
        if usize::from(ix.0) >= self.epochs.len() {
            return;
        }
        self.alarm(Some(ix), Alarm::StateUnwritable, result.is_err());
        if result.is_ok() {
            let epochs = self.epochs_mut(ix);
            epochs.stored = epochs.stored.max(reserved);
        }
    }

    /// No claim of a set with gate `require` takes a number that is not reserved: after a power cut the same number
    /// could name another ownership. `Some`: ask again then. All other claims take it, and the alarm stands.
    pub(super) fn epoch_forbids(&mut self, u: UnitIx) -> Option<Instant> {
        let interval = self.units[u].interval();
        let unreserved = self.group(u).iter().any(|ix| self.unreserved(*ix));
        unreserved.then(|| self.now.mono + interval)
    }

    fn unreserved(&self, ix: InstanceIx) -> bool {
        self.stateful.contains(&ix)
            && self.model.sets_of(ix).any(|set| set.gate == Gate::Require)
            && self.next_number(ix) > self.epochs(ix).stored
    }

    /// After each input: reserves, lets the winner of a dispute go on above it, and tells who owns.
    pub(super) fn follow_epochs(&mut self) {
        for ix in self.stateful.clone() {
            self.go_above(ix);
            self.follow_owners(ix);
            let active = self.units_of(ix).into_iter().any(|u| self.units[u].is_active());
            let mine = self.epoch_of(ix);
            let (highest, heard) = (self.newest(ix).number, self.heard(ix));
            let epochs = self.epochs_mut(ix);
            // Stored as well: others may have to hear it from here after a restart.
            let mut news = std::mem::replace(&mut epochs.heard, heard) != heard;
            if highest.max(epochs.floor).saturating_add(LOW) > epochs.asked {
                epochs.asked = highest.max(epochs.floor).saturating_add(AHEAD);
                news = true;
            }
            if active && epochs.owned != Some(mine) {
                epochs.owned = Some(mine);
                news = true;
            }
            if news {
                self.remember(ix);
            }
            let role = self.role(ix);
            if self.epochs(ix).told != Some(role) {
                self.epochs_mut(ix).told = Some(role);
                self.event(Some(ix), None, EventKind::Role(role));
            }
        }
    }

    /// An owner whose number is not the newest goes on above it, once no other host owns: it won a dispute, its disk
    /// forgot, or a host that it moved to gave the address back.
    fn go_above(&mut self, ix: InstanceIx) {
        let Some(u) = self.units_of(ix).into_iter().find(|u| self.units[*u].is_active()) else {
            let epochs = self.epochs_mut(ix);
            (epochs.disputed, epochs.unsure) = (false, None);
            return;
        };
        if let Some(other) = self.living_owner(u) {
            // A host that hands over to this one says so until it has heard of the claim; one that takes over from
            // here has the newer number, and keeps it.
            let planned = self.crosses(u, other) || self.moving(u);
            self.epochs_mut(ix).disputed |= !planned;
            return;
        }
        let (mine, heard) = (self.epoch_of(ix), self.heard(ix));
        let disputed = std::mem::take(&mut self.epochs_mut(ix).disputed);
        if !disputed && heard <= mine && !self.in_vain(ix) {
            return;
        }
        if !disputed && heard > mine && heard.host == self.own_number() && self.epochs(ix).adopted {
            // This very ownership, which the agent before this one could not store.
            self.epochs_mut(ix).unsure = None;
            self.raise_epoch_to(ix, heard);
        } else {
            self.epochs_mut(ix).adopted = false;
            self.raise_epoch(ix);
        }
        self.urgent();
    }

    /// Is an adopted ownership still not known to be the newest, and no peer left to wait for? A new number is then the only
    /// one that no ownership of this host can have had. The word of a peer ends the doubt.
    fn in_vain(&mut self, ix: InstanceIx) -> bool {
        let Some(told) = self.epochs(ix).unsure else { return false };
        if self.highest_epoch_heard(ix) >= self.epoch_of(ix) {
            self.epochs_mut(ix).unsure = None;
            return false;
        }
        self.now.mono >= told && !self.unreserved(ix)
    }

    /// Who owns the instance, as far as this host knows.
    pub(super) fn role(&self, ix: InstanceIx) -> RoleView {
        let units = self.units_of(ix);
        let epoch = self.epoch_of(ix);
        let active = units.iter().copied().find(|u| self.units[*u].is_active());
        let other = units.first().and_then(|u| self.living_owner(*u));
        // A living owner with a newer number: whatever becomes of the dispute, this host pushes nothing.
        let newer =
            active.zip(other).and_then(|(u, host)| Some((host, self.record(host, u)?.epoch)));
        let newer = newer.filter(|(_, theirs)| *theirs > epoch);
        let unsure = self.epochs(ix).unsure.is_some();
        match (active, newer) {
            (Some(_), None) if !unsure => {
                RoleView { owns: true, owner: Some(self.model.host), epoch }
            }
            (_, newer) => {
                let heard = || {
                    let unit = &self.units[*units.first()?];
                    self.host_of(unit.vr.heard()?.src)
                };
                let own = active.map(|_| self.model.host);
                let owner = newer.map(|(host, _)| host).or(own).or(other).or_else(heard);
                RoleView { owns: false, owner, epoch: self.newest(ix) }
            }
        }
    }
}
