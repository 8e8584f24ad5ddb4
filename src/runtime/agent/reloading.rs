//! Another configuration comes into force: what the main thread does, and in which order (DESIGN 5.16).
//!
//! Called by the main loop with what `reload` found. It decides nothing: what goes, what stays and what is carried over is
//! the core's.

use super::duties::Duties;
use super::{Main, notify, patience};
use crate::runtime::observe;
use crate::runtime::queue::{Message, Reload};
use crate::runtime::reload::{Asker, Candidate, Trouble};
use crate::runtime::sync::Syncs;
use crate::runtime::tasks::No;
use crate::runtime::told;
use sd_notify::NotifyState;
use std::sync::Arc;
use tokio::sync::oneshot;
use vipd_core::config::model::{Check, Model, Probe};
use vipd_core::engine::io::OperationStep;
use vipd_core::engine::reload::Renumber;

impl Main<'_> {
    /// The file was read for a reload.
    pub(super) async fn judge(
        &mut self,
        duties: &mut Duties,
        asker: Asker,
        read: Result<Box<Candidate>, Trouble>,
    ) {
        let (candidate, asked) = match (read, asker) {
            (Ok(candidate), Asker::Signal) => (candidate, None),
            (Ok(candidate), Asker::Operator(asked)) => (candidate, Some(asked)),
            (Err(trouble), asker) => return self.keep_running(asker, trouble),
        };
        if !self.ending.running() {
            if let Some(asked) = asked {
                let why = "the agent is about to end or to be replaced";
                let _ = asked.answer.send(Err(No::Refused(why.into())));
            }
            return self.reload_over();
        }
        let dry_run = asked.as_ref().is_some_and(|asked| asked.dry_run);
        let operation = asked.as_ref().map(|asked| asked.id);
        // Nobody waits for it any more: not done either.
        let gone = asked.is_some_and(|a| a.answer.send(Ok(candidate.summary())).is_err());
        if gone || dry_run {
            return self.reload_over();
        }
        for warning in &candidate.warnings {
            tracing::warn!("{}", warning.trim_end());
        }
        // Who asked puts it on record first: the history reads in the order in which things happened.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        if let Some(id) = operation {
            self.tell_step(duties, id, OperationStep::Started);
        }
        let (done, retired) = oneshot::channel();
        self.hand_over(Message::Retire { model: Arc::clone(&candidate.model), done });
        self.reloads.retire(candidate, operation, retired);
    }

    /// The file cannot be used: nothing changes.
    fn keep_running(&mut self, asker: Asker, trouble: Trouble) {
        let Trouble { line, full } = trouble;
        let dry_run = matches!(&asker, Asker::Operator(asked) if asked.dry_run);
        if !dry_run {
            tracing::error!("the configuration was not reloaded, nothing has changed: {full}");
            if self.facts.in_force.set_trouble(Some(line.clone())) {
                let said = "the configuration file cannot be used; the one before stays in force";
                self.chronicle.file(true, said.into(), Some(line));
            }
        }
        if let Asker::Operator(asked) = asker {
            let _ = asked.answer.send(Err(No::Config(full)));
        }
        self.reload_over();
    }

    fn reload_over(&mut self) {
        let again = self.reloads.over();
        notify(&[NotifyState::Ready]);
        if again {
            self.reloads.ask(Asker::Signal, self.facts.in_force.model());
        }
    }

    /// What had to go is gone: the new configuration comes into force, everywhere at once.
    pub(super) async fn put_in_force(
        &mut self,
        duties: &mut Duties,
        candidate: Candidate,
        operation: Option<u64>,
    ) {
        if !self.ending.running() {
            let why = "the agent ends; the next one reads the file";
            if let Some(id) = operation {
                self.tell_step(duties, id, OperationStep::Aborted(why.into()));
            }
            return self.reload_over();
        }
        let headline = candidate.headline();
        let Candidate { model, secrets, text, recalled, .. } = candidate;
        let renumber = Renumber::between(&self.model, &model);
        // What runs by the clock or by changes knows hooks by their positions.
        let new_hooks = self.model.hooks != model.hooks;
        let new_checks = checks_differ(&self.model, &model);
        let listens = self.model.telemetry != model.telemetry;
        // Nothing is awaited up to the message: what this thread sends is numbered by the old configuration before it,
        // and by the new one after it.
        if new_checks {
            duties.checks = None;
        }
        self.monitor.reload(&model);
        self.facts.in_force.replace(Arc::clone(&model), text.clone());
        let (told, events) = told::channel(&model);
        let model_too = Arc::clone(&model);
        let reload = Reload { model: model_too, secrets, recalled, told };
        self.hand_over(Message::Reload(Box::new(reload)));
        // What the engine said under the old one; the way closes when the new one is in force.
        let mut before = std::mem::replace(&mut self.events, events);
        while let Some(told) = before.recv().await {
            self.tell(duties, told);
        }
        self.model = model;
        duties.teller.reload(Arc::clone(&self.model), &renumber);
        duties.counting.reload(&self.model, &renumber);
        self.chronicle.reload(Arc::clone(&self.model), &renumber);
        // `vipd exec` reads the file when it is connected to: also where no program changed, it may have read half of it.
        duties.runner = self.runner();
        duties.hooks.reload(&self.model, &renumber, duties.runner.clone());
        duties.moving.reload(&self.model, &renumber);
        duties.activations.reload(&self.model, duties.runner.clone());
        self.facts.replication.reload();
        if new_hooks {
            duties.syncs = Syncs::start(&self.model);
        }
        if new_checks {
            let checks = self.checks(&duties.counting, &duties.readings, &duties.runner);
            duties.checks = Some(checks);
        }
        if listens {
            // The old one first: it may be the same port.
            duties.monitoring = None;
            tokio::task::yield_now().await;
            duties.monitoring = observe::start(&self.facts, &self.sender);
        }
        self.ending.set_patience(patience(&self.model));
        self.keeper.keep(text);
        tracing::info!("{headline}");
        if self.facts.in_force.set_trouble(None) {
            self.chronicle.file(false, "the configuration file is in use again".into(), None);
        }
        if let Some(id) = operation {
            self.tell_step(duties, id, OperationStep::Done(headline.into()));
        }
        self.reload_over();
    }
}

/// Is there anything for `vipd exec` to do?
pub(super) fn has_programs(model: &Model) -> bool {
    let script = |check: &Check| matches!(check.probe, Probe::Script(_));
    !model.hooks.is_empty()
        || model.checks.iter().any(script)
        || model.instances.iter().any(|instance| instance.standby.activation().is_some())
}

/// Do the checks have to be started anew? What runs knows them by their positions.
fn checks_differ(old: &Model, new: &Model) -> bool {
    let link = |model: &Model, check: &Check| match check.probe {
        Probe::Gateway { link, .. } => {
            model.links.get(usize::from(link.0)).map(|link| Arc::clone(&link.name))
        }
        _ => None,
    };
    let same = |(a, b): (&Check, &Check)| match (&a.probe, &b.probe) {
        // Judged by the engine, which numbers instances by itself.
        (Probe::Instance { .. }, Probe::Instance { .. }) => a.name == b.name,
        (Probe::Gateway { addr, .. }, Probe::Gateway { addr: now, .. }) => {
            let rest = |c: &Check| (Arc::clone(&c.name), c.interval, c.timeout);
            addr == now && link(old, a) == link(new, b) && rest(a) == rest(b)
        }
        _ => a == b,
    };
    old.checks.len() != new.checks.len() || !old.checks.iter().zip(&new.checks).all(same)
}
