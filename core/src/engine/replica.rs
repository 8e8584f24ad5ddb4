//! The promote gate (DESIGN 5.13): how complete the copies of an instance's state files are here, and what that does to a
//! claim. The runtime tells what the replicator says; between its words a copy ages by itself.
//!
//! Under `prefer` a stale copy makes this host second choice: it claims when nobody better does. Under `require` it does
//! not claim, but by `vipd promote --accept-data-loss`. An owner has what there is, and is never stale. What is not known
//! is stale: here not to know is to risk what others wrote.

use super::io::{Alarm, Cause, ReplicaState, StandingReason};
use super::snapshot::ReplicaView;
use super::{Engine, UnitIx};
use crate::config::model::{Gate, Replicate};
use crate::policy::replica::{Copy, Staleness};
use crate::time::{Duration, Instant};
use crate::types::{InstanceIx, SetIx};

/// A replicator that has just started says nothing yet: until then no alarm is raised.
const SETTLE: Duration = Duration::from_secs(10);

impl Engine {
    /// The sets of an instance with what is known of them.
    fn copies(&self, ix: InstanceIx) -> impl Iterator<Item = (&Replicate, &Copy)> {
        self.model.replicates.iter().zip(&self.copies).filter(move |(set, _)| set.instance == ix)
    }

    /// Did the replicator of this host speak of every set of the instance?
    pub(super) fn knows_copies(&self, ix: InstanceIx) -> bool {
        self.copies(ix).all(|(_, copy)| copy.told())
    }

    fn owns_or_hands_over(&self, ix: InstanceIx) -> bool {
        let here = |u: UnitIx| self.units[u].is_active() || self.units[u].leaving.is_some();
        self.units_of(ix).into_iter().any(here)
    }

    /// What the copies of the instance do to a claim here.
    pub(super) fn staleness(&self, ix: InstanceIx) -> Staleness {
        if self.model.replicates.is_empty() || self.owns_or_hands_over(ix) {
            return Staleness::Fresh;
        }
        let now = self.now.mono;
        self.copies(ix).map(|(set, copy)| copy.judge(set, now)).max().unwrap_or_default()
    }

    /// The worst of those that move together.
    pub(super) fn group_staleness(&self, u: UnitIx) -> Staleness {
        let members = self.others(u).chain([u]).map(|o| self.units[o].instance);
        members.map(|ix| self.fitness(ix).replica).max().unwrap_or_default()
    }

    /// Does an old or unknown copy make this host a worse owner than its class alone says?
    pub(super) fn stale(&self, u: UnitIx) -> bool {
        self.group_staleness(u) > Staleness::Fresh
    }

    pub(super) fn on_replica(&mut self, set: SetIx, state: Option<ReplicaState>) {
        let now = self.now.mono;
        let Some(ix) = self.model.replicates.get(usize::from(set.0)).map(|set| set.instance) else {
            return;
        };
        let Some(copy) = self.copies.get_mut(usize::from(set.0)) else { return };
        copy.tell(state.map(|s| (s.age.map(|age| now.before(age)), s.pending)));
        self.replica_changed(ix);
    }

    /// The copies of the instance may be another class of themselves.
    pub(super) fn replica_changed(&mut self, ix: InstanceIx) {
        let (before, after) = (self.fitness(ix).replica, self.staleness(ix));
        if before != after {
            self.reassess(ix, Some(StandingReason::Replica(after > Staleness::Fresh)));
        }
        self.replica_alarm(ix);
        self.units_of(ix).into_iter().for_each(|u| self.rearm(u));
    }

    /// Stale for long enough to be told: a standby that is not what it is there for.
    fn alarming(&self, ix: InstanceIx) -> bool {
        let settling = self.now.mono < self.started + SETTLE;
        let unknown = self.copies(ix).any(|(set, copy)| set.gate != Gate::Ignore && !copy.told());
        self.staleness(ix) > Staleness::Fresh && !(settling && unknown)
    }

    pub(super) fn replica_alarm(&mut self, ix: InstanceIx) {
        let on = self.alarming(ix);
        self.alarm(Some(ix), Alarm::ReplicaStale, on);
    }

    /// When a copy becomes stale by itself, or its alarm is due.
    pub(super) fn replica_deadline(&self, ix: InstanceIx) -> Option<Instant> {
        let now = self.now.mono;
        if !self.stateful.contains(&ix) {
            return None;
        }
        let told = self.reporter.alarms.contains_key(&(Some(ix), Alarm::ReplicaStale));
        if self.staleness(ix) != self.fitness(ix).replica || self.alarming(ix) != told {
            return Some(now);
        }
        let ends = self.copies(ix).filter_map(|(set, copy)| copy.stale_at(set));
        ends.chain([self.started + SETTLE]).filter(|at| *at > now).min()
    }

    /// This host does not own the instance any more, for `cause`. Whom it handed over to had to come from here: its copy
    /// was complete, and stays that while nobody comes, whatever the replicator says, which knows what it has from owners
    /// alone. Where another host owned meanwhile nobody knows before the replicator says.
    pub(super) fn copies_after(&mut self, ix: InstanceIx, cause: &Cause) {
        let handed = matches!(
            cause,
            Cause::MovedAway(_)
                | Cause::Drained
                | Cause::CheckFailed(_)
                | Cause::SyncGroup
                | Cause::LinkDown
                | Cause::Reload
        );
        // Who slept may have been followed already.
        let slept = self.units_of(ix).into_iter().any(|u| self.units[u].overslept.is_some());
        let complete = (handed && !slept).then_some(self.now.mono);
        for (set, copy) in self.model.replicates.iter().zip(&mut self.copies) {
            if set.instance == ix {
                copy.tell(complete.map(|at| (Some(at), 0)));
                copy.let_go(complete);
            }
        }
    }

    /// After each input: where another host has owned since this one let go, only the replicator knows how much of that is
    /// here.
    pub(super) fn follow_owners(&mut self, ix: InstanceIx) {
        let Some(owned) = self.copies(ix).filter_map(|(_, copy)| copy.owned()).max() else {
            return;
        };
        let heard = |u: UnitIx| self.units[u].vr.heard().is_some_and(|heard| heard.at > owned);
        let newer = self.newest(ix) > self.epoch_of(ix);
        if self.owns_or_hands_over(ix) || !newer && !self.units_of(ix).into_iter().any(heard) {
            return;
        }
        for (set, copy) in self.model.replicates.iter().zip(&mut self.copies) {
            if set.instance == ix {
                copy.let_go(None);
            }
        }
        self.replica_changed(ix);
    }

    /// How old the copies are, in words.
    pub(super) fn age_text(&self, ix: InstanceIx) -> String {
        match self.replica_view(ix) {
            Some(ReplicaView { age: Some(age), pending, .. }) => {
                format!("{} s old, {pending} octets were still to come", age.as_secs())
            }
            _ => "of unknown age".to_owned(),
        }
    }

    pub(super) fn replica_view(&self, ix: InstanceIx) -> Option<ReplicaView> {
        let now = self.now.mono;
        let gate = self.copies(ix).map(|(set, _)| set.gate).max()?;
        let ages = self.copies(ix).map(|(_, copy)| copy.age(now));
        let age = ages.reduce(|a, b| Some(a?.max(b?))).flatten();
        let pending = self.copies(ix).map(|(_, copy)| copy.pending()).sum();
        let stale = self.staleness(ix) > Staleness::Fresh;
        Some(ReplicaView { gate, stale, age, pending })
    }
}
