//! Which hook hears of what, and when: one program at a time for each hook and instance, in order; what comes while it
//! runs waits, and of what waits the newest state wins.
//!
//! Called by the main thread with each event. Nothing here waits: programs run in `vipd exec`, and neither a claim nor
//! a release knows of them.

use super::roles::{Change, Role, Roles, Whom};
use crate::exec::client::Runner;
use crate::exec::protocol::{Event as Word, Occasion, Subject, Which};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vipd_core::config::model::{Call, Hook, HookRun, Model, Moment, Program};
use vipd_core::engine::io::Event;
use vipd_core::engine::reload::Renumber;
use vipd_core::types::InstanceIx;

/// Beside a program's own time: for a missing `vipd exec` to come, and for TERM and KILL.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
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
    farewell: Duration,
}

/// What runs and what waits.
type Lanes = Arc<Mutex<HashMap<LaneKey, Lane>>>;

/// A hook, and whom it is about: a group or an instance, by name. Names outlive a reload.
type LaneKey = (Arc<str>, bool, String);

/// There while something runs.
#[derive(Debug, Default)]
struct Lane {
    waiting: Option<Occasion>,
}

impl Hooks {
    /// For the hooks of `model`.
    pub(super) fn new(model: Arc<Model>, runner: Runner) -> Self {
        Self {
            roles: Roles::new(Arc::clone(&model)),
            model,
            runner,
            lanes: Lanes::default(),
            farewell: FAREWELL,
        }
    }

    /// Another configuration: what runs goes on, hooks of instances that are gone hear that these stopped.
    pub(super) fn reload(&mut self, model: &Arc<Model>, renumber: &Renumber, runner: Runner) {
        let old = Arc::clone(&self.model);
        for (ix, _) in old.iter().filter(|(ix, _)| renumber.instance(*ix).is_none()) {
            self.tell_stop(Whom::Instance(ix));
        }
        self.roles.reload(Arc::clone(model), renumber);
        self.model = Arc::clone(model);
        self.runner = runner;
    }

    fn tell_stop(&self, whom: Whom) {
        let role = self.role(whom);
        let change = Change { whom, from: role, to: role.unwrap_or(Role::Backup) };
        self.deliver(&change, Word::Stop);
    }

    /// Hands on what `event` changed.
    pub(super) fn observe(&mut self, event: &Event) {
        for change in self.roles.observe(event) {
            let word = match change.to {
                Role::Active => Word::Active,
                Role::Backup => Word::Backup,
                Role::Fault => Word::Fault,
            };
            self.deliver(&change, word);
        }
    }

    /// The agent has left cleanly: tells every instance, then every group, and waits a little.
    pub(super) async fn stop(&mut self) {
        let instances = self.model.iter().map(|(ix, _)| Whom::Instance(ix));
        let groups = (0..self.model.sync_groups.len()).map(Whom::Group);
        for whom in instances.chain(groups).collect::<Vec<_>>() {
            self.tell_stop(whom);
        }
        let quiet = async {
            while !lock(&self.lanes).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(self.farewell, quiet).await.is_err() {
            tracing::warn!(
                "hooks are still running; the agent ends, `vipd exec` goes on with what waits for them"
            );
            let late = self.late();
            return self.runner.leave(late, self.farewell).await;
        }
        if self.model.hooks.iter().any(|hook| matches!(hook.run, HookRun::Fifo(_))) {
            self.runner.leave(Vec::new(), self.farewell).await;
        }
    }

    /// What waits, taken from its lane.
    fn late(&self) -> Vec<(Which, Occasion)> {
        let mut lanes = lock(&self.lanes);
        let late = lanes.iter_mut().filter_map(|((hook, ..), lane)| {
            Some((Which::Hook(hook.to_string()), lane.waiting.take()?))
        });
        late.collect()
    }

    /// What an activation of `ix` is told.
    pub(super) fn activation(&self, ix: InstanceIx) -> Occasion {
        self.occasion(Whom::Instance(ix), self.role(Whom::Instance(ix)), Word::Activate)
    }

    fn role(&self, whom: Whom) -> Option<Role> {
        match whom {
            Whom::Instance(ix) => self.roles.known(ix)?.role,
            Whom::Group(at) => self.roles.group(at),
        }
    }

    fn deliver(&self, change: &Change, word: Word) {
        let occasion = self.occasion(change.whom, change.from, word);
        for hook in &self.model.hooks {
            if !hook.on.contains(&moment(word)) || !self.concerns(hook, change.whom) {
                continue;
            }
            match &hook.run {
                HookRun::Program(_, Call::Vipd) if matches!(change.whom, Whom::Group(_)) => {}
                HookRun::Program(program, _) => {
                    let group = matches!(change.whom, Whom::Group(_));
                    let lane = (Arc::clone(&hook.name), group, occasion.name.clone());
                    self.queue(lane, hook, program, occasion.clone());
                }
                HookRun::Fifo(_) => {
                    if !self.runner.line(&hook.name, occasion.clone()) {
                        tracing::warn!(
                            "hook {}: a line was lost, `vipd exec` is behind",
                            hook.name
                        );
                    }
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

    fn occasion(&self, whom: Whom, from: Option<Role>, event: Word) -> Occasion {
        let model = &self.model;
        let prev_role = from.map_or("", Role::word).to_owned();
        let role = match event {
            Word::Active => "active",
            Word::Backup => "backup",
            Word::Fault => "fault",
            Word::Stop => "stop",
            Word::Activate => from.map_or("", Role::word),
        };
        let host = model.host_name(model.host).to_string();
        let mut occasion = Occasion {
            subject: Subject::Group,
            name: String::new(),
            event,
            role: role.to_owned(),
            prev_role,
            reason: String::new(),
            host,
            owner: String::new(),
            epoch: String::new(),
            priority: 0,
            vips: Vec::new(),
            vrid: 0,
            interface: String::new(),
            skipped: 0,
        };
        match whom {
            Whom::Group(at) => {
                occasion.name =
                    model.sync_groups.get(at).map(|g| g.name.to_string()).unwrap_or_default();
            }
            Whom::Instance(ix) => {
                let instance = model.instance(ix);
                occasion.subject = Subject::Instance;
                occasion.name = instance.name.to_string();
                occasion.vips = instance.claimed().map(ToString::to_string).collect();
                occasion.vrid = instance.vrid.get();
                occasion.interface = model
                    .links
                    .get(usize::from(instance.link.0))
                    .map(|link| link.name.to_string())
                    .unwrap_or_default();
                occasion.priority = instance.priority.get();
                if let Some(known) = self.roles.known(ix) {
                    occasion.reason.clone_from(&known.reason);
                    occasion.owner.clone_from(&known.owner);
                    occasion.epoch.clone_from(&known.epoch);
                    if known.priority > 0 {
                        occasion.priority = known.priority;
                    }
                }
            }
        }
        occasion
    }

    fn queue(&self, lane: LaneKey, hook: &Hook, program: &Program, mut occasion: Occasion) {
        let mut lanes = lock(&self.lanes);
        if let Some(busy) = lanes.get_mut(&lane) {
            if let Some(late) = &busy.waiting {
                occasion.skipped = late.skipped + 1;
                tracing::info!(
                    "hook {} is late: it will not hear that {} became {}",
                    hook.name,
                    late.name,
                    late.role
                );
            }
            busy.waiting = Some(occasion);
            return;
        }
        lanes.insert(lane.clone(), Lane::default());
        drop(lanes);
        let limit = program.timeout + PATIENCE;
        let (lanes, runner) = (Arc::clone(&self.lanes), self.runner.clone());
        let name = hook.name.to_string();
        tokio::spawn(async move {
            loop {
                let (whom, event) = (occasion.name.clone(), occasion.event.word());
                let done = runner.run(Which::Hook(name.clone()), Some(occasion), limit).await;
                if done.end.is_success() {
                    tracing::debug!("hook {name} ({whom} {event}) ended well");
                } else {
                    tracing::warn!("hook {name} ({whom} {event}) {}", done.end);
                }
                let mut lanes = lock(&lanes);
                match lanes.get_mut(&lane).and_then(|busy| busy.waiting.take()) {
                    Some(next) => occasion = next,
                    None => {
                        lanes.remove(&lane);
                        return;
                    }
                }
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn moment(word: Word) -> Moment {
    match word {
        Word::Active | Word::Activate => Moment::Active,
        Word::Backup => Moment::Backup,
        Word::Fault => Moment::Fault,
        Word::Stop => Moment::Stop,
    }
}

#[cfg(test)]
mod tests;
