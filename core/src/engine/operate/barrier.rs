//! A planned move of an instance whose state follows the address, in two phases (DESIGN 5.5, P2): the target gets ready
//! and does not claim; then the writer here is quieted and all that it wrote brought over; then the target may claim.
//!
//! What takes time is done while clients are served, what stops the writer comes last and is bounded. A barrier that
//! fails leaves everything as it was, writer included: whatever ends the move ends the barrier, once. Instances that move
//! together wait for each other: the first claim would take the others along.

use super::super::Engine;
use super::super::io::{EventKind, Output};
use super::handover::{Moving, SLACK};
use crate::time::{Duration, Instant};
use crate::types::{HostIx, InstanceIx};
use crate::wire::heartbeat::MoveAnswer;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of an operation that nobody ordered.
pub(in crate::engine) const NOBODY: u64 = u64::MAX;

/// Where the state of an instance on its way is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// The target gets ready, and must not claim.
    Preparing,
    /// It is ready.
    Ready,
    /// What was written is brought over, by this order.
    Running(u64),
    /// It is there, or nothing has to be: the target may claim when all that moves together has come so far.
    Passed,
}

/// Between two requests to a successor that said that it is not ready yet.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The agent was told to stop, and what it owns is brought over first.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Closing {
    /// Stops then, whatever has come of it. Later, when a successor says how long it needs to get ready.
    until: Instant,
    /// Not later than this.
    limit: Instant,
    /// Whose successor is about to be ready, and when to ask it.
    unready: BTreeMap<InstanceIx, Instant>,
    /// What is left behind, and why.
    unsynced: BTreeMap<InstanceIx, String>,
}

impl Closing {
    /// When it has to be looked at.
    pub(super) fn deadline(&self) -> Instant {
        self.unready.values().copied().fold(self.until, Instant::min)
    }

    fn wait_until(&mut self, at: Instant) {
        self.until = self.until.max(at.min(self.limit));
    }
}

impl Engine {
    /// Does state follow the address of the instance, or of one that moves with it?
    pub(in crate::engine) fn takes_state(&self, ix: InstanceIx) -> bool {
        !self.stateful.is_empty() && self.together(ix).iter().any(|o| self.stateful.contains(o))
    }

    /// The instances that are on their way together with this one, itself included.
    fn legs(&self, ix: InstanceIx) -> Vec<(InstanceIx, &Moving)> {
        let all = self.together(ix).into_iter();
        all.filter_map(|o| Some((o, self.ordered_of(o).moving.as_ref()?))).collect()
    }

    /// May the target of the move claim?
    pub(super) fn may_be_claimed(&self, ix: InstanceIx) -> bool {
        let passed = |moving: &Moving| moving.sync == Sync::Passed;
        match &self.ordered_of(ix).moving {
            Some(moving) if passed(moving) && !self.takes_state(ix) => true,
            Some(_) => self.legs(ix).into_iter().all(|(_, moving)| passed(moving)),
            None => false,
        }
    }

    /// The target says that it is ready.
    pub(super) fn target_ready(&mut self, ix: InstanceIx, answer: &MoveAnswer) {
        let Some(moving) = &mut self.ordered_mut(ix).moving else { return };
        if !answer.ready || moving.sync != Sync::Preparing {
            return;
        }
        moving.sync = Sync::Ready;
        let legs = self.legs(ix);
        if !legs.iter().all(|(_, moving)| moving.sync == Sync::Ready) {
            // The others have an end of their own, which is the end of this one as well.
            return self.plan_orders();
        }
        let legs: Vec<InstanceIx> = legs.into_iter().map(|(ix, _)| ix).collect();
        for ix in legs {
            self.begin_barrier(ix);
        }
    }

    fn begin_barrier(&mut self, ix: InstanceIx) {
        let Some(time) = self.model.barrier(ix) else { return self.barrier_passed(ix) };
        let deadline = self.now.mono + time;
        let order = self.next_order();
        let Some(moving) = &mut self.ordered_mut(ix).moving else { return };
        let Some(to) = moving.to else { return };
        moving.sync = Sync::Running(order);
        moving.until = deadline + SLACK;
        let id = moving.operation;
        self.ordered_mut(ix).barrier = Some(order);
        self.push(Output::Barrier { instance: ix, order, to, deadline });
        let text = format!(
            "{}: {} is ready; its state is brought there, for {time:?} at most",
            self.name(ix),
            self.host_name(to)
        );
        self.progress(id, text);
        self.plan_orders();
    }

    /// What the runtime says of a barrier.
    pub(in crate::engine) fn on_barrier_done(
        &mut self,
        ix: InstanceIx,
        order: u64,
        result: Result<(), Arc<str>>,
    ) {
        let Some(ordered) = self.orders.all.get(usize::from(ix.0)) else { return };
        let running = |m: &&Moving| m.sync == Sync::Running(order);
        if ordered.moving.as_ref().filter(running).is_none() {
            return;
        }
        match result {
            Ok(()) => self.barrier_passed(ix),
            Err(why) => self.barrier_failed(ix, &why),
        }
    }

    /// Not everything is there: nothing moves, unless an operator insists.
    pub(super) fn barrier_failed(&mut self, ix: InstanceIx, why: &str) {
        let Some(moving) = &mut self.ordered_mut(ix).moving else { return };
        if moving.force {
            moving.unsynced = Some(why.to_owned());
            return self.barrier_passed(ix);
        }
        let way_out = if moving.preempts { "" } else { "; --force moves it all the same" };
        let to = moving.to;
        let to = to.map_or("the target", |host| self.host_name(host));
        let name = self.name(ix);
        let why = format!("{name} stays here, its state is not complete on {to}: {why}{way_out}");
        self.move_ended(ix, Err(why));
    }

    fn barrier_passed(&mut self, ix: InstanceIx) {
        let Some(moving) = &mut self.ordered_mut(ix).moving else { return };
        moving.sync = Sync::Passed;
        if self.may_be_claimed(ix) {
            let legs: Vec<InstanceIx> = self.legs(ix).into_iter().map(|(o, _)| o).collect();
            for o in legs {
                let until = self.now.mono + self.answer_within(o);
                if let Some(moving) = &mut self.ordered_mut(o).moving {
                    moving.until = until;
                }
            }
            self.urgent();
        }
        self.plan_orders();
    }

    /// Has this leg nothing to wait for but the others of its group?
    pub(super) fn waits_for_group(&self, ix: InstanceIx) -> bool {
        let waits = |m: &Moving| matches!(m.sync, Sync::Ready | Sync::Passed);
        self.ordered_of(ix).moving.as_ref().is_some_and(waits) && !self.may_be_claimed(ix)
    }

    /// The move has ended, whatever came of it: so has its barrier.
    pub(super) fn barrier_over(&mut self, ix: InstanceIx) {
        let Some(order) = self.ordered_mut(ix).barrier.take() else { return };
        // Who only keeps the addresses for its successor is no owner any more: the writer is the successor's.
        let moved = !self.units_of(ix).into_iter().any(|u| self.units[u].is_active());
        self.push(Output::BarrierOver { instance: ix, order, moved });
    }

    /// One leg of a group has failed before the target might claim: the others stay as well.
    pub(super) fn group_stays(&mut self, ix: InstanceIx) {
        let legs: Vec<InstanceIx> = self.legs(ix).into_iter().map(|(o, _)| o).collect();
        for o in legs.into_iter().filter(|o| *o != ix) {
            let why = format!("{} stays here with {}", self.name(o), self.name(ix));
            self.move_ended(o, Err(why));
        }
    }

    // Voluntary moves -----------------------------------------------------------------------------------------

    /// This host hands over with its state where no move was ordered: a drain by a check, a
    /// failback, a preemption, a stop. False: there
    /// is nothing to bring, or it is on its way already.
    pub(in crate::engine) fn bring_state(
        &mut self,
        ix: InstanceIx,
        host: HostIx,
        operation: u64,
    ) -> bool {
        if !self.takes_state(ix) {
            return false;
        }
        for o in self.owned(self.together(ix).into_iter().collect()) {
            if self.ordered_of(o).moving.is_none() {
                self.ask(operation, o, host, false, false);
            }
        }
        self.plan_orders();
        true
    }

    // The stop ------------------------------------------------------------------------------------------------

    /// The agent is told to stop: true where it first brings what it owns to a successor.
    pub(in crate::engine) fn brings_before_stop(&mut self) -> bool {
        let owned = self.still_here(self.stateful.clone());
        if owned.is_empty() {
            return false;
        }
        self.end_orders();
        let (unsynced, until) = self.bring_away(&owned);
        let (now, limit) = (self.now.mono, self.now.mono + self.model.closing());
        let getting = unsynced.iter().map(|(ix, _)| *ix).filter(|ix| self.gets_ready(*ix));
        let unready = getting.map(|ix| (ix, now)).collect();
        let unsynced = unsynced.into_iter().collect();
        self.closing = Some(Closing { until, limit, unready, unsynced });
        self.plan_orders();
        true
    }

    /// Is there a host to which nothing speaks but what passes by itself: a copy that is not complete yet? Where the
    /// replicator of this host says nothing no copy becomes complete.
    fn gets_ready(&self, ix: InstanceIx) -> bool {
        let here = self.together(ix).into_iter().all(|o| self.knows_copies(o));
        let soon = |host: HostIx| {
            let cold = self.together(ix).into_iter().any(|o| self.is_cold(o, host));
            !cold && self.objections_of_group(ix, host).iter().all(|objection| objection.passes)
        };
        here && self.others_of(ix).any(soon)
    }

    /// The successor of the instance needs that long to get ready: whoever waits for it to have the state waits longer.
    pub(super) fn successor_needs(&mut self, ix: InstanceIx, ready: Duration) {
        self.retiring.wait_for(ready);
        let barrier = self.model.barrier(ix).unwrap_or_default();
        let at = self.now.mono + ready + barrier + SLACK * 2;
        if let Some(closing) = &mut self.closing {
            closing.wait_until(at);
        }
    }

    /// The successor of the instance said that it is not ready yet: a stop asks it again.
    pub(super) fn successor_unready(&mut self, ix: InstanceIx) {
        let at = self.now.mono + ASK_AGAIN;
        if let Some(closing) = &mut self.closing {
            closing.unready.insert(ix, at);
        }
    }

    /// Asks those that have become ready.
    fn ask_unready(&mut self) {
        let now = self.now.mono;
        let Some(closing) = &self.closing else { return };
        if closing.until <= now || closing.unready.is_empty() {
            return;
        }
        let mut unready = closing.unready.clone();
        let here = self.still_here(unready.keys().copied().collect());
        unready.retain(|ix, _| here.contains(ix) && !self.is_moving(*ix) && self.gets_ready(*ix));
        for (ix, at) in &mut unready {
            if *at > now {
                continue;
            }
            *at = now + ASK_AGAIN;
            if let Ok(Some(host)) = self.target(*ix, None, false) {
                self.bring_state(*ix, host, NOBODY);
                self.successor_needs(*ix, Duration::ZERO);
            }
        }
        unready.retain(|ix, _| !self.is_moving(*ix));
        if let Some(closing) = &mut self.closing {
            closing.unready = unready;
        }
        self.plan_orders();
    }

    /// Those of `instances` that this host owns, and that may be brought to a host which says that it has them. What a
    /// successor has claimed is on its way, with its state.
    pub(in crate::engine) fn still_here(&self, instances: Vec<InstanceIx>) -> Vec<InstanceIx> {
        if self.peers.is_none() {
            return Vec::new();
        }
        let leaves = |ix: &InstanceIx| {
            self.units_of(*ix).into_iter().any(|u| self.units[u].leaving.is_some())
        };
        let mut owned = self.owned(instances);
        owned.retain(|ix| !leaves(ix));
        owned
    }

    /// Begins to bring each of `owned` to a successor. What has none and why, and when it has taken too long.
    pub(in crate::engine) fn bring_away(
        &mut self,
        owned: &[InstanceIx],
    ) -> (Vec<(InstanceIx, String)>, Instant) {
        let (mut unsynced, mut legs) = (Vec::new(), Vec::new());
        let mut time = Duration::ZERO;
        for ix in owned {
            match self.target(*ix, None, false) {
                Ok(Some(host)) => legs.push((*ix, host)),
                Ok(None) => {}
                Err(why) => unsynced.push((*ix, why)),
            }
            time = time.max(self.model.barrier(*ix).unwrap_or_default());
        }
        for (ix, host) in legs {
            self.bring_state(ix, host, NOBODY);
        }
        (unsynced, self.now.mono + time + SLACK * 2)
    }

    /// Is the instance on its way from here?
    pub(in crate::engine) fn is_moving(&self, ix: InstanceIx) -> bool {
        self.ordered_of(ix).moving.is_some()
    }

    /// A leg of the stop, or of what leaves for another configuration, has failed.
    pub(in crate::engine) fn left_behind(&mut self, ix: InstanceIx, why: &str) {
        if let Some(closing) = &mut self.closing {
            closing.unsynced.insert(ix, why.to_owned());
        } else if self.retires_with_state(ix)
            && self.stateful.contains(&ix)
            && !self.owned(vec![ix]).is_empty()
        {
            self.event(Some(ix), None, EventKind::Unsynced(why.into()));
        }
    }

    /// Stops when nothing is on its way any more, or it has taken too long.
    pub(in crate::engine) fn close(&mut self) {
        self.ask_unready();
        let Some(closing) = &self.closing else { return };
        let moving = self.orders.all.iter().any(|o| o.moving.is_some());
        if (moving || !closing.unready.is_empty()) && closing.until > self.now.mono {
            return;
        }
        let Some(closing) = self.closing.take() else { return };
        let mut unsynced = closing.unsynced;
        for ix in self.stateful.clone() {
            if self.is_moving(ix) {
                unsynced.insert(ix, "it took too long".to_owned());
            }
        }
        for (ix, why) in unsynced {
            if !self.owned(vec![ix]).is_empty() {
                self.event(Some(ix), None, EventKind::Unsynced(why.into()));
            }
        }
        self.stop_now();
    }
}
