//! The operator's programs in a planned move: at its target the hooks that may refuse it, at its source the barrier.
//!
//! Told by the main thread what the engine orders; answers by the order's number. The barrier is three things, one after
//! the other: pre-demote hooks quiet the writer, sync-barrier hooks bring its last words to the target, and the
//! replicator says that the target has everything. Whatever fails ends it, and whoever began hears the counterpart, so
//! that a pair of hooks is symmetric. It never decides about addresses: the engine does, by the answer.

use super::hooks::{Hooks, Report, Step};
use super::queue::{Message, Sender};
use super::standing::InForce;
use crate::exec::protocol::Event as Word;
use crate::sys::clock;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vipd_core::config::model::Model;
use vipd_core::engine::reload::Renumber;
use vipd_core::time;
use vipd_core::types::{HostIx, InstanceIx};

/// The end of a barrier that brings over what replicated sets hold.
pub(super) trait Replicator: Clone + Send + Sync + 'static {
    /// Brings `to` everything of the sets of `instance`; the writer is quiet. `order` names the barrier.
    fn barrier(
        &self,
        order: u64,
        instance: Arc<str>,
        to: String,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// The barrier of that order is over, whatever came of it.
    fn over(&self, order: u64);
}

/// Hooks by name whose program was asked for.
type Begun = Arc<Mutex<BTreeSet<Arc<str>>>>;

/// What is under way for one instance.
#[derive(Debug)]
struct Underway {
    order: u64,
    begun: Begun,
    task: JoinHandle<()>,
}

impl Underway {
    /// Nothing of it is begun any more. Gives what was.
    fn end(self) -> BTreeSet<Arc<str>> {
        self.task.abort();
        std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Planned moves of one agent, from and to here.
#[derive(Debug)]
pub(super) struct Moving<R> {
    in_force: InForce,
    /// What orders are numbered by: behind what is in force, while the last words of an earlier engine are heard.
    model: Arc<Model>,
    engine: Sender,
    replicator: R,
    promotions: HashMap<InstanceIx, Underway>,
    barriers: HashMap<InstanceIx, Underway>,
}

impl<R: Replicator> Moving<R> {
    /// Answers go to `engine`.
    pub(super) fn new(in_force: InForce, engine: Sender, replicator: R) -> Self {
        let (promotions, barriers) = (HashMap::new(), HashMap::new());
        let model = in_force.model();
        Self { in_force, model, engine, replicator, promotions, barriers }
    }

    /// Another configuration is in force, and orders are numbered by it from now on: what is under way goes on, but for
    /// instances that are gone.
    pub(super) fn reload(&mut self, model: &Arc<Model>, renumber: &Renumber) {
        self.model = Arc::clone(model);
        for all in [&mut self.promotions, &mut self.barriers] {
            let before = std::mem::take(all);
            for (was, underway) in before {
                match renumber.instance(was) {
                    Some(ix) => drop(all.insert(ix, underway)),
                    None => drop(underway.end()),
                }
            }
        }
    }

    /// Asks the pre-promote hooks of `ix`, which `from` hands over, or an operator promotes here.
    pub(super) fn pre_promote(
        &mut self,
        hooks: &Hooks,
        ix: InstanceIx,
        order: u64,
        from: Option<HostIx>,
    ) {
        let steps = hooks.steps(ix, Word::PrePromote, from);
        let deadline = Instant::now() + steps.iter().map(Step::time).sum();
        let (begun, engine) = (Begun::default(), self.engine.clone());
        let in_force = self.in_force.clone();
        let name = Arc::clone(&self.model.instance(ix).name);
        let asked = Arc::clone(&begun);
        let task = tokio::spawn(async move {
            let result = consent(steps, &asked, deadline, from.is_some()).await;
            let result = result.map_err(Arc::from);
            // Gone by a reload: nobody waits for it.
            let Some(instance) = in_force.instance(&name) else { return };
            // The agent may be stopping.
            let _ = engine.send(Message::PrePromoted { instance, order, result });
        });
        self.promotions.insert(ix, Underway { order, begun, task });
    }

    /// The claim of that order does not come: who began to prepare for it puts it back.
    pub(super) fn not_promoted(&mut self, hooks: &Hooks, ix: InstanceIx, order: u64) {
        if let Some(underway) = taken(&mut self.promotions, ix, order) {
            hooks.undo(ix, &underway.end(), Word::PostDemote, "promotion aborted");
        }
    }

    /// Begins the barrier of a move to `to`.
    pub(super) fn barrier(
        &mut self,
        hooks: &Hooks,
        ix: InstanceIx,
        order: u64,
        to: HostIx,
        deadline: time::Instant,
    ) {
        let deadline = Instant::now() + deadline.since(clock::monotonic());
        let quiet = hooks.steps(ix, Word::PreDemote, Some(to));
        let push = hooks.steps(ix, Word::SyncBarrier, Some(to));
        let (begun, engine) = (Begun::default(), self.engine.clone());
        if let Some(earlier) = self.barriers.remove(&ix) {
            // What that one quieted is still quiet.
            begun.lock().unwrap_or_else(PoisonError::into_inner).extend(earlier.end());
        }
        let (asked, replicator) = (Arc::clone(&begun), self.replicator.clone());
        let in_force = self.in_force.clone();
        let name = Arc::clone(&self.model.instance(ix).name);
        let target = self.model.host_name(to).to_string();
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let pushed = Begun::default();
            let reach = async {
                walk(quiet, &asked, deadline, "pre-demote").await?;
                walk(push, &pushed, deadline, "sync-barrier").await?;
                let replicated =
                    replicator.barrier(order, Arc::clone(&name), target.clone(), deadline);
                match tokio::time::timeout_at(deadline, replicated).await {
                    Ok(result) => result,
                    Err(_) => Err("the replicator did not reach the barrier in time".to_owned()),
                }
            };
            let result = reach.await;
            let took = began.elapsed().as_secs_f64();
            match &result {
                Ok(()) => tracing::info!("{name}: {target} has everything after {took:.3} s"),
                Err(why) => tracing::warn!("{name}: stays here, no barrier to {target}: {why}"),
            }
            let result = result.map_err(Arc::from);
            // Gone by a reload: nobody waits for it.
            let Some(instance) = in_force.instance(&name) else { return };
            // The agent may be stopping.
            let _ = engine.send(Message::BarrierDone { instance, order, result });
        });
        self.barriers.insert(ix, Underway { order, begun, task });
    }

    /// The barrier of that order is over. Where nothing `moved`, the writer goes on here.
    pub(super) fn barrier_over(&mut self, hooks: &Hooks, ix: InstanceIx, order: u64, moved: bool) {
        self.replicator.over(order);
        let Some(underway) = taken(&mut self.barriers, ix, order) else { return };
        let begun = underway.end();
        if !moved {
            hooks.undo(ix, &begun, Word::PostPromote, "move aborted");
        }
    }
}

/// What is under way for `ix`, if it is of that order.
fn taken(all: &mut HashMap<InstanceIx, Underway>, ix: InstanceIx, order: u64) -> Option<Underway> {
    if all.get(&ix)?.order == order { all.remove(&ix) } else { None }
}

fn note(begun: &Begun, step: &Step) {
    begun.lock().unwrap_or_else(PoisonError::into_inner).insert(step.name());
}

/// The hooks one after the other: anything but a good end is the end of it.
async fn walk(
    steps: Vec<Step>,
    begun: &Begun,
    deadline: Instant,
    moment: &str,
) -> Result<(), String> {
    for step in steps {
        note(begun, &step);
        let name = step.name();
        match step.run(deadline).await {
            Report::Done => {}
            report => return Err(format!("hook {name} ({moment}) {report}")),
        }
    }
    Ok(())
}

/// The hooks one after the other: one that says no is the end of it. One that fails is that only while another host
/// owns: nothing is lost by not moving, and much where nobody serves.
async fn consent(
    steps: Vec<Step>,
    begun: &Begun,
    deadline: Instant,
    owned: bool,
) -> Result<(), String> {
    for step in steps {
        note(begun, &step);
        let name = step.name();
        match step.run(deadline).await {
            Report::Done => {}
            Report::Failed(how) if !owned => {
                tracing::warn!("hook {name} (pre-promote) {how}; the promotion goes on");
            }
            report => return Err(format!("hook {name} (pre-promote) {report}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
