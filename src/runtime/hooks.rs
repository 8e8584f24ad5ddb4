//! Which hook hears of what, and when.
//!
//! Called by the main thread with each event of the engine, with each tick of `sync`, and by `moving` for the steps of a
//! planned move. Nothing here waits: programs run in `vipd exec`, and neither a claim nor a release knows of them.
//! `lanes` keeps the order of each hook and instance; `occasion` is what a program is told.

mod lanes;
mod occasion;

pub(super) use lanes::{Report, Step};

use super::observe::Counting;
use super::roles::{Change, Role, Roles, Whom};
use crate::exec::client::Runner;
use crate::exec::protocol::{Event as Word, Occasion, Which};
use lanes::{Job, Key, Lanes, Of};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use vipd_core::config::model::{Call, Hook, HookRun, Model, Moment};
use vipd_core::engine::io::{Cause, Event, EventKind};
use vipd_core::engine::reload::Renumber;
use vipd_core::types::{HostIx, InstanceIx, State};

/// After a clean stop the programs that hear of it may take this long; nothing is owned any more. What has not begun by
/// then is left to `vipd exec`.
const FAREWELL: Duration = Duration::from_secs(5);

/// The hooks of one agent.
#[derive(Debug)]
pub(super) struct Hooks {
    model: Arc<Model>,
    runner: Runner,
    roles: Roles,
    lanes: Lanes,
    /// Instances that are no longer owned, and whose addresses are not known to be gone.
    leaving: BTreeSet<InstanceIx>,
    /// Instances whose addresses are gone while they still count as owned: a handover ends in this order.
    gone: BTreeSet<InstanceIx>,
    /// Orders of operators that have not come to their end.
    operations: BTreeSet<u64>,
    farewell: Duration,
}

impl Hooks {
    /// For the hooks of `model`; `counting` hears how their runs end.
    pub(super) fn new(model: Arc<Model>, runner: Runner, counting: Counting) -> Self {
        Self {
            roles: Roles::new(Arc::clone(&model)),
            lanes: Lanes::new(runner.clone(), counting),
            model,
            runner,
            leaving: BTreeSet::new(),
            gone: BTreeSet::new(),
            operations: BTreeSet::new(),
            farewell: FAREWELL,
        }
    }

    /// Another configuration: what runs goes on, hooks of instances that are gone hear that these stopped.
    pub(super) fn reload(&mut self, model: &Arc<Model>, renumber: &Renumber, runner: Runner) {
        let old = Arc::clone(&self.model);
        for (ix, _) in old.iter().filter(|(ix, _)| renumber.instance(*ix).is_none()) {
            self.farewell_to(ix);
            self.tell_stop(Whom::Instance(ix));
        }
        self.roles.reload(Arc::clone(model), renumber);
        let place = |all: &BTreeSet<InstanceIx>| -> BTreeSet<InstanceIx> {
            all.iter().filter_map(|ix| renumber.instance(*ix)).collect()
        };
        (self.leaving, self.gone) = (place(&self.leaving), place(&self.gone));
        self.model = Arc::clone(model);
        self.lanes.reload(runner.clone());
        self.runner = runner;
    }

    /// This host lets go of the instance for good.
    fn farewell_to(&mut self, ix: InstanceIx) {
        let owned = self.role(Whom::Instance(ix)) == Some(Role::Active);
        // Not even the last push of a host that has let go.
        self.lanes.stands(self.name(ix), Role::Fault);
        if owned || self.leaving.remove(&ix) {
            self.tell(ix, Word::PostDemote);
        }
    }

    fn tell_stop(&self, whom: Whom) {
        let occasion = self.occasion(whom, self.role(whom), Word::Stop);
        self.deliver(whom, &occasion);
    }

    fn name(&self, ix: InstanceIx) -> &Arc<str> {
        &self.model.instance(ix).name
    }

    /// Hands on what `event` changed.
    pub(super) fn observe(&mut self, event: &Event) {
        if let EventKind::Operation { id, step } = &event.kind {
            if step.is_end() {
                self.operations.remove(id);
            } else {
                self.operations.insert(*id);
            }
        }
        for change in self.roles.observe(event) {
            if let Whom::Instance(ix) = change.whom {
                self.lanes.stands(self.name(ix), change.to);
            }
            let word = match change.to {
                Role::Active => Word::Active,
                Role::Backup => Word::Backup,
                Role::Fault => Word::Fault,
            };
            let occasion = self.occasion(change.whom, change.from, word);
            self.deliver(change.whom, &occasion);
            if let Whom::Instance(ix) = change.whom {
                self.owner_changed(ix, &change);
            }
        }
        let Some(ix) = event.instance else { return };
        match &event.kind {
            // Ordered claims have asked before.
            EventKind::Transition { from, to: State::Active, cause, .. }
                if *from != State::Active
                    && !matches!(cause, Cause::MovedHere(_) | Cause::Promoted | Cause::Adopted) =>
            {
                self.tell(ix, Word::PrePromote);
            }
            EventKind::Released if self.role(Whom::Instance(ix)) == Some(Role::Active) => {
                self.gone.insert(ix);
            }
            EventKind::Released => self.released(ix),
            _ => {}
        }
    }

    /// The owner's hooks, once it is one, and once it is none.
    fn owner_changed(&mut self, ix: InstanceIx, change: &Change) {
        if change.to == Role::Active {
            // Owner again before the kernel said that the addresses were gone.
            self.released(ix);
            self.gone.remove(&ix);
            self.tell(ix, Word::PostPromote);
            self.tell(ix, Word::SyncInterval);
        } else if change.from == Some(Role::Active) {
            self.leaving.insert(ix);
            if self.gone.remove(&ix) {
                self.released(ix);
            }
        }
    }

    fn released(&mut self, ix: InstanceIx) {
        if self.leaving.remove(&ix) {
            self.tell(ix, Word::PostDemote);
        }
    }

    /// The agent has left cleanly: tells every instance, then every group, and waits a little.
    pub(super) async fn stop(&mut self) {
        let instances: Vec<InstanceIx> = self.model.iter().map(|(ix, _)| ix).collect();
        for ix in &instances {
            self.farewell_to(*ix);
        }
        let instances = instances.into_iter().map(Whom::Instance);
        let groups = (0..self.model.sync_groups.len()).map(Whom::Group);
        for whom in instances.chain(groups).collect::<Vec<_>>() {
            self.tell_stop(whom);
        }
        let quiet = async {
            while !self.lanes.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(self.farewell, quiet).await.is_err() {
            tracing::warn!(
                "hooks are still running; the agent ends, `vipd exec` goes on with what waits for them"
            );
            let late = self.lanes.late();
            return self.runner.leave(late, self.farewell).await;
        }
        if self.model.hooks.iter().any(|hook| matches!(hook.run, HookRun::Fifo(_))) {
            self.runner.leave(Vec::new(), self.farewell).await;
        }
    }

    /// What an activation of `ix` is told.
    pub(super) fn activation(&self, ix: InstanceIx) -> Occasion {
        self.occasion(Whom::Instance(ix), self.role(Whom::Instance(ix)), Word::Activate)
    }

    /// It is time for the hook at position `at`: a tick, or a change of what it watches. Nothing happens on a host whose
    /// role does not fit.
    pub(super) fn due(&self, at: usize, moment: Moment) {
        let word = match moment {
            Moment::SyncInterval => Word::SyncInterval,
            Moment::SyncChange => Word::SyncChange,
            Moment::Verify => Word::Verify,
            _ => return,
        };
        let Some(hook) = self.model.hooks.get(at) else { return };
        for (ix, _) in self.model.iter() {
            if hook.hears(ix, moment) && self.lanes.fits(word, self.name(ix)) {
                self.queue(hook, Whom::Instance(ix), self.told(ix, word));
            }
        }
    }

    /// The programs that hear `word` of a move of `ix` from or to `peer`, in the order in which they run.
    pub(super) fn steps(&self, ix: InstanceIx, word: Word, peer: Option<HostIx>) -> Vec<Step> {
        let mut occasion = self.told(ix, word);
        if let Some(peer) = peer {
            occasion.peers = vec![occasion::peer(&self.model, peer)];
        }
        let steps = self.model.hooks.iter().filter_map(|hook| {
            let HookRun::Program(..) = &hook.run else { return None };
            hook.hears(ix, word.moment()).then(|| {
                let job = Job::new(hook, occasion.clone());
                self.lanes.step(self.key(hook, Whom::Instance(ix)), job)
            })
        });
        steps.collect()
    }

    /// What the hooks called `begun` did for a move or a promotion is undone: they hear `word`, the counterpart, and
    /// `reason`.
    pub(super) fn undo(
        &self,
        ix: InstanceIx,
        begun: &BTreeSet<Arc<str>>,
        word: Word,
        reason: &str,
    ) {
        let occasion = Occasion { reason: reason.into(), ..self.told(ix, word) };
        for hook in &self.model.hooks {
            if begun.contains(&hook.name) && hook.hears(ix, word.moment()) {
                self.queue(hook, Whom::Instance(ix), occasion.clone());
            }
        }
    }

    fn role(&self, whom: Whom) -> Option<Role> {
        match whom {
            Whom::Instance(ix) => self.roles.known(ix)?.role,
            Whom::Group(at) => self.roles.group(at),
        }
    }

    /// Whoever asked for it hears `word` of the instance.
    fn tell(&self, ix: InstanceIx, word: Word) {
        if self.model.hooks_at(ix, word.moment()).next().is_some() {
            self.deliver(Whom::Instance(ix), &self.told(ix, word));
        }
    }

    fn told(&self, ix: InstanceIx, word: Word) -> Occasion {
        let before = self.roles.known(ix).and_then(|known| known.before);
        self.occasion(Whom::Instance(ix), before, word)
    }

    fn occasion(&self, whom: Whom, from: Option<Role>, word: Word) -> Occasion {
        let operation = match self.operations.first() {
            Some(id) if self.operations.len() == 1 => Some(*id),
            _ => None,
        };
        occasion::of(&self.model, &self.roles, whom, from, word, operation)
    }

    fn deliver(&self, whom: Whom, occasion: &Occasion) {
        let moment = occasion.event.moment();
        for hook in &self.model.hooks {
            if hook.on.contains(&moment) && self.concerns(hook, whom) {
                self.queue(hook, whom, occasion.clone());
            }
        }
    }

    fn key(&self, hook: &Hook, whom: Whom) -> Key {
        let of = match whom {
            Whom::Instance(ix) => Of::Instance(Arc::clone(self.name(ix))),
            Whom::Group(at) => Of::Group(
                self.model.sync_groups.get(at).map(|g| Arc::clone(&g.name)).unwrap_or_default(),
            ),
        };
        (Arc::clone(&hook.name), of)
    }

    fn queue(&self, hook: &Hook, whom: Whom, occasion: Occasion) {
        match &hook.run {
            HookRun::Program(_, Call::Vipd) if matches!(whom, Whom::Group(_)) => {}
            HookRun::Program(..) => {
                self.lanes.push(self.key(hook, whom), Job::new(hook, occasion));
            }
            HookRun::Fifo(_) => {
                if !self.runner.line(&hook.name, occasion) {
                    tracing::warn!("hook {}: a line was lost, `vipd exec` is behind", hook.name);
                }
            }
        }
    }

    /// A hook without instances hears of all; one with instances of them, and of groups of them alone.
    fn concerns(&self, hook: &Hook, whom: Whom) -> bool {
        hook.instances.is_empty()
            || match whom {
                Whom::Instance(ix) => hook.instances.contains(&ix),
                Whom::Group(at) => self.model.sync_groups.get(at).is_some_and(|group| {
                    group.members.iter().all(|ix| hook.instances.contains(ix))
                }),
            }
    }
}

/// A hook by its name, as `vipd exec` is asked for it.
fn which(hook: &Hook) -> Which {
    Which::Hook(hook.name.to_string())
}

#[cfg(test)]
pub(super) mod tests;
