//! A reload as the main thread sees it (DESIGN 5.16): the file is read and judged aside, what changes is said, what has
//! to go leaves first, and only then the new configuration comes into force, everywhere at once.
//!
//! Owned by the main loop, which polls `Reloads::next` beside everything else and does what it says.

use super::agent::Options;
use super::keys;
use super::load::{self, LoadError};
use super::memory;
use super::queue::Sender;
use super::report::{Facts, document};
use super::tasks::{Asked, No};
use crate::control::status::{Instance, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vipd_core::config::diff::{Cost, Difference, Fate, InstanceDifference};
use vipd_core::config::model::Model;
use vipd_core::engine::Secrets;
use vipd_core::engine::io::Memory;
use vipd_core::types::InstanceIx;

/// For the engine's word on who would take over.
const PATIENCE: Duration = Duration::from_secs(2);
/// Why nothing more can be asked for at the moment.
const BUSY: &str = "a reload is under way; see `vipd events -f`";

/// A file that could come into force.
pub(super) struct Candidate {
    /// What it means.
    pub model: Arc<Model>,
    /// Its keys.
    pub secrets: Secrets,
    /// As it was read.
    pub text: Arc<str>,
    /// Findings that do not keep it from being used.
    pub warnings: Vec<String>,
    /// What was stored of instances that are new here.
    pub recalled: Vec<(Option<InstanceIx>, Memory)>,
    /// What it changes.
    pub difference: Difference,
    /// What handing over costs, as far as the engine told.
    pub costs: Vec<String>,
}

/// Who wants a reload.
#[derive(Debug)]
pub(super) enum Asker {
    /// SIGHUP.
    Signal,
    /// By the control socket.
    Operator(Asked),
}

/// Why a file is not used: in one line, and in full.
pub(super) struct Trouble {
    /// For alarms.
    pub line: String,
    /// For the log and for who asked.
    pub full: String,
}

/// What the main loop has to do.
pub(super) enum Turn {
    /// The file was read.
    Read(Asker, Result<Box<Candidate>, Trouble>),
    /// All that does not go on with it is gone.
    Retired(Box<Candidate>, Option<u64>),
}

enum Phase {
    Idle,
    Reading(JoinHandle<(Asker, Result<Box<Candidate>, Trouble>)>),
    Retiring { candidate: Box<Candidate>, operation: Option<u64>, done: oneshot::Receiver<()> },
}

/// The reload that is under way, if one is.
pub(super) struct Reloads {
    options: Options,
    facts: Facts,
    engine: Sender,
    phase: Phase,
    /// A signal came meanwhile: once more.
    again: bool,
}

impl Reloads {
    /// None is under way.
    pub(super) fn new(options: &Options, facts: Facts, engine: Sender) -> Self {
        Self { options: options.clone(), facts, engine, phase: Phase::Idle, again: false }
    }

    /// Is one under way?
    pub(super) fn busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Somebody wants one, where `now` is in force. Inside a tokio runtime.
    pub(super) fn ask(&mut self, asker: Asker, now: Arc<Model>) {
        if self.busy() {
            match asker {
                Asker::Signal => self.again = true,
                Asker::Operator(asked) => drop(asked.answer.send(Err(No::Refused(BUSY.into())))),
            }
            return;
        }
        let (options, facts, engine) =
            (self.options.clone(), self.facts.clone(), self.engine.clone());
        self.phase = Phase::Reading(tokio::spawn(async move {
            let report = engine.ask(PATIENCE).await;
            let status = report.map(|report| document(&facts, &report)).ok();
            // Files may be on a disk that hangs.
            let reads = move || read(&options, &now, status.as_ref());
            let read = tokio::task::spawn_blocking(reads).await;
            let read = read.unwrap_or_else(|error| {
                Err(Trouble { line: error.to_string(), full: error.to_string() })
            });
            (asker, read)
        }));
    }

    /// The engine was asked to let go of what does not go on with `candidate`.
    pub(super) fn retire(
        &mut self,
        candidate: Box<Candidate>,
        operation: Option<u64>,
        done: oneshot::Receiver<()>,
    ) {
        self.phase = Phase::Retiring { candidate, operation, done };
    }

    /// It is over; true: a signal came meanwhile.
    pub(super) fn over(&mut self) -> bool {
        self.phase = Phase::Idle;
        std::mem::take(&mut self.again)
    }

    /// What to do next; waits until there is something. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Turn {
        match &mut self.phase {
            Phase::Idle => std::future::pending().await,
            Phase::Reading(task) => match task.await {
                Ok((asker, read)) => Turn::Read(asker, read),
                // Only at the end of the runtime.
                Err(_) => std::future::pending().await,
            },
            Phase::Retiring { done, .. } => {
                if done.await.is_err() {
                    // The protocol thread has ended, which says so by itself.
                    return std::future::pending().await;
                }
                match std::mem::replace(&mut self.phase, Phase::Idle) {
                    Phase::Retiring { candidate, operation, .. } => {
                        Turn::Retired(candidate, operation)
                    }
                    _ => std::future::pending().await,
                }
            }
        }
    }
}

/// Reads, judges and compares. Blocks.
fn read(
    options: &Options,
    now: &Model,
    status: Option<&Status>,
) -> Result<Box<Candidate>, Trouble> {
    let Options { config, host, state_dir, .. } = options;
    let trouble = |error: LoadError| Trouble { line: error.summary(), full: error.to_string() };
    let loaded = load::for_host(config, host).map_err(trouble)?;
    let model = Arc::new(loaded.meaning);
    let secrets = keys::secrets(&model).map_err(|error| Trouble {
        line: error.to_string(),
        full: format!("{}: {error}", config.display()),
    })?;
    let difference = Difference::between(now, &model);
    let (text, mut warnings) = (loaded.text.into(), loaded.warnings);
    let (mut recalled, rubbish) = memory::read(state_dir, &model);
    warnings.extend(rubbish);
    recalled.retain(|(ix, _)| {
        ix.is_some_and(|ix| now.instances.iter().all(|i| i.name != model.instance(ix).name))
    });
    let costs = status.map(|status| costs(&difference, now, status)).unwrap_or_default();
    Ok(Box::new(Candidate { model, secrets, text, warnings, recalled, difference, costs }))
}

impl Candidate {
    /// What the reload changes, for people: a line for each change.
    pub(super) fn summary(&self) -> String {
        match lines(&self.difference) {
            lines if lines.is_empty() => "nothing changes on this host; keys are read anew".into(),
            mut lines => {
                lines.extend_from_slice(&self.costs);
                lines.join("\n")
            }
        }
    }

    /// In one line, for the log.
    pub(super) fn headline(&self) -> String {
        let Difference { instances, host } = &self.difference;
        let count = |fate: Fate| instances.iter().filter(|i| i.fate == fate).count();
        let parts = [
            (count(Fate::InPlace), "changed in place"),
            (count(Fate::Anew), "begun anew"),
            (count(Fate::New), "new"),
            (count(Fate::Gone), "gone"),
            (host.len(), "changes beside instances"),
        ];
        let said: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let said =
            if said.is_empty() { "nothing changed on this host".into() } else { said.join(", ") };
        format!("configuration {:016x} is in force: {said}", self.model.hash)
    }
}

/// What changes, a line each: the instance or the host, what, how, and what it costs.
pub fn lines(difference: &Difference) -> Vec<String> {
    let mut lines = Vec::new();
    for instance in &difference.instances {
        lines.extend(of_instance(instance));
    }
    for change in &difference.host {
        lines.push(format!("host: {}: {} ({})", change.what, change.how, change.cost));
    }
    if difference.host.iter().any(|c| c.cost == Cost::Soft)
        || difference.instances.iter().flat_map(|i| &i.changes).any(|c| c.cost == Cost::Soft)
    {
        lines.push(
            "soft changes: until the other hosts have them too, they and this host may not hear each other; reload \
             them soon"
                .into(),
        );
    }
    lines
}

fn of_instance(instance: &InstanceDifference) -> Vec<String> {
    let InstanceDifference { name, fate, changes, .. } = instance;
    let head = match fate {
        Fate::New => Some("new: begins as at a start, listens first (hot)"),
        Fate::Gone => {
            Some("gone: handed over where another host can take it, then released (hard)")
        }
        Fate::Anew => {
            Some("begins anew: handed over where another host can take it, then backup (hard)")
        }
        Fate::InPlace => None,
    };
    let head = head.map(|head| format!("{name}: {head}"));
    let changes = changes.iter().map(|c| format!("{name}: {}: {} ({})", c.what, c.how, c.cost));
    head.into_iter().chain(changes).collect()
}

/// What handing over costs for each instance that this host owns by `status` and that does not go on in place.
pub fn costs(difference: &Difference, old: &Model, status: &Status) -> Vec<String> {
    let goes = difference.instances.iter().filter(|i| matches!(i.fate, Fate::Anew | Fate::Gone));
    let cost = |instance: &InstanceDifference| {
        let name = &instance.name;
        let owns = |i: &&Instance| *i.name == **name && i.state == "active";
        let shown = status.instances.iter().find(owns)?;
        let interval = old.instances.iter().find(|i| i.name == *name)?.interval.duration();
        let successor = shown.why.successor.as_ref().filter(|next| !next.this_host);
        Some(match successor {
            Some(next) => {
                format!("{name}: this host owns it; {} takes over, without a gap", next.host)
            }
            None => format!(
                "{name}: this host owns it, and no other one is known that would take over: nobody has it for up to \
                 {:.1} s",
                (interval * 5).as_secs_f64()
            ),
        })
    };
    goes.filter_map(cost).collect()
}
