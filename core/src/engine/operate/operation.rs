//! Operations: what was ordered is reported until each instance that it waits for has come to its end, or takes too long.

use crate::engine::Engine;
use crate::engine::io::{EventKind, OperationStep};
use crate::time::{Duration, Instant};
use crate::types::InstanceIx;
use std::collections::BTreeSet;

/// An order that is being carried out.
#[derive(Clone)]
pub(super) struct Operation {
    pub(super) id: u64,
    pub(super) instance: Option<InstanceIx>,
    pub(super) waits: Waits,
    /// Instances that have not ended yet.
    pub(super) pending: BTreeSet<InstanceIx>,
    pub(super) done: Vec<String>,
    pub(super) failed: Vec<String>,
    /// What still waits then is given up.
    pub(super) until: Instant,
}

/// What the instances of an operation wait for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// That they are somewhere else.
    Move,
    /// The same, and nothing of it is left here.
    Drain,
    /// That this host owns.
    Promotion,
    /// That no host is pinned.
    Failback,
}

impl Engine {
    pub(super) fn operation(&mut self, id: u64, instance: Option<InstanceIx>, step: OperationStep) {
        self.event(instance, None, EventKind::Operation { id, step });
    }

    /// Opens an operation that waits for `pending`; [`Engine::close_operations`] ends it.
    pub(super) fn open(
        &mut self,
        id: u64,
        instance: Option<InstanceIx>,
        waits: Waits,
        pending: impl IntoIterator<Item = InstanceIx>,
        patience: Duration,
    ) {
        self.orders.running.push(Operation {
            id,
            instance,
            waits,
            pending: pending.into_iter().collect(),
            done: Vec::new(),
            failed: Vec::new(),
            until: self.now.mono + patience,
        });
    }

    /// The instance has come to the end of what the operation ordered for it.
    pub(super) fn leg_ended(&mut self, id: u64, ix: InstanceIx, result: Result<String, String>) {
        let Some(operation) = self.orders.running.iter_mut().find(|o| o.id == id) else { return };
        if operation.pending.remove(&ix) {
            match result {
                Ok(done) => operation.done.push(done),
                Err(failed) => operation.failed.push(failed),
            }
        }
        self.close_operations();
    }

    pub(super) fn progress(&mut self, id: u64, text: String) {
        // What nobody ordered is told to nobody.
        let Some(instance) = self.orders.running.iter().find(|o| o.id == id).map(|o| o.instance)
        else {
            return;
        };
        self.operation(id, instance, OperationStep::Progress(text.into()));
    }

    /// Ends what waits for nothing any more.
    pub(super) fn close_operations(&mut self) {
        while let Some(n) = self.orders.running.iter().position(|o| o.pending.is_empty()) {
            let operation = self.orders.running.swap_remove(n);
            let Operation { id, instance, waits, mut done, mut failed, .. } = operation;
            if waits == Waits::Drain {
                self.drain_ended(instance, &mut done, &mut failed);
            }
            let step = if failed.is_empty() {
                OperationStep::Done(done.join("; ").into())
            } else {
                failed.extend(done);
                OperationStep::Aborted(failed.join("; ").into())
            };
            self.operation(id, instance, step);
        }
        self.plan_orders();
    }

    /// Is the instance on its way already?
    pub(super) fn busy(&self, ix: InstanceIx) -> bool {
        let ordered = self.ordered_of(ix);
        ordered.moving.is_some()
            || ordered.takeover.as_ref().is_some_and(|t| t.claimed.is_none())
            || self.orders.running.iter().any(|o| o.pending.contains(&ix))
    }

    /// Ends the operations of this kind that wait for the instance.
    pub(super) fn end_waits(
        &mut self,
        ix: InstanceIx,
        waits: Waits,
        result: impl Fn(&str) -> Result<String, String>,
    ) {
        let running = self.orders.running.iter();
        let ids: Vec<u64> =
            running.filter(|o| o.waits == waits && o.pending.contains(&ix)).map(|o| o.id).collect();
        for id in ids {
            self.leg_ended(id, ix, result(self.name(ix)));
        }
    }

    /// What has taken too long is given up.
    pub(super) fn operations_due(&mut self) {
        let now = self.now.mono;
        let late = |o: &&Operation| o.until <= now;
        let late: Vec<(u64, Waits, Vec<InstanceIx>)> = self
            .orders
            .running
            .iter()
            .filter(late)
            .map(|o| (o.id, o.waits, o.pending.iter().copied().collect()))
            .collect();
        for (id, waits, pending) in late {
            for ix in pending {
                let name = self.name(ix).to_owned();
                let why = match waits {
                    Waits::Promotion => {
                        self.withdraw(ix);
                        format!("{name} could not claim in time: see `vipd why {name}`")
                    }
                    Waits::Failback => format!(
                        "{name} is still pinned on the host that owns it: is that host reached by heartbeats?"
                    ),
                    Waits::Move | Waits::Drain => {
                        // Each leg has an end of its own; this is the end of one that lost its way.
                        self.ordered_mut(ix).moving = None;
                        self.barrier_over(ix);
                        format!("{name} did not move in time")
                    }
                };
                self.leg_ended(id, ix, Err(why));
            }
        }
    }
}
