//! What happened on this host: events as documents, for subscribers, for who waits for an operation, for the history.
//!
//! Fed by the main thread with each event it tells, and by the handler of the control socket with changes that were
//! asked for. A subscriber that is behind loses events and learns how many; nobody ever waits for one.

mod document;
mod file;

use crate::control::events::{Event, Level, Outcome, SCHEMA, Step, What};
use crate::sys::clock;
use crate::telemetry::{CONFIG_NOT_USED, Telling, operation_name};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{self as engine, Alarm, EventKind};
use vipd_core::engine::reload::Renumber;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, HostIx, InstanceIx};

/// Entries of the history.
const KEPT: usize = 500;
/// Events that wait for one subscriber; they are shared, so it costs the same for any number of them.
const BEHIND: usize = 512;
/// Numbers left out between two runs of the agent.
const APART: u64 = 10_000;

/// When an event was.
#[derive(Copy, Clone, Debug)]
enum When {
    /// Since the machine started, by a clock that nobody sets.
    Here(Instant),
    /// Before that, by the wall clock.
    Earlier(Timestamp),
}

/// An event and when it was.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    event: Event,
    when: When,
}

impl Entry {
    /// The document as of now.
    pub(super) fn document(&self) -> Event {
        let age = match self.when {
            When::Here(at) => clock::monotonic().since(at).as_secs_f64(),
            When::Earlier(time) => Timestamp::now().duration_since(time).as_secs_f64().max(0.0),
        };
        Event { age_s: age, ..self.event.clone() }
    }

    /// Is it about `instance`, or about the host?
    pub(super) fn concerns(&self, instance: Option<&str>) -> bool {
        match (instance, &self.event.instance) {
            (Some(wanted), Some(about)) => wanted == about,
            _ => true,
        }
    }
}

/// What lasts until another event ends it.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Lasting {
    State(InstanceIx, Option<Family>),
    Alarm(Option<InstanceIx>, Alarm),
    Peer(HostIx),
    Operation(String),
}

impl Lasting {
    /// Under its new numbers; `None`: it is gone.
    fn renumbered(self, renumber: &Renumber) -> Option<Self> {
        Some(match self {
            Self::State(ix, family) => Self::State(renumber.instance(ix)?, family),
            Self::Alarm(None, alarm) => Self::Alarm(None, renumber.alarm(&alarm)?),
            Self::Alarm(Some(ix), alarm) => {
                Self::Alarm(Some(renumber.instance(ix)?), renumber.alarm(&alarm)?)
            }
            Self::Peer(host) => Self::Peer(renumber.host(host)?),
            Self::Operation(name) => Self::Operation(name),
        })
    }
}

#[derive(Debug)]
struct Inner {
    /// Numbers the events of the engine.
    model: Arc<Model>,
    seq: u64,
    /// When the last event was.
    newest: Instant,
    entries: VecDeque<Arc<Entry>>,
    since: HashMap<Lasting, Instant>,
    file: file::Writer,
}

/// What happened on this host. A clone is the same chronicle.
#[derive(Clone, Debug)]
pub(super) struct Chronicle {
    inner: Arc<Mutex<Inner>>,
    live: broadcast::Sender<Arc<Entry>>,
}

/// A change that was asked for: for the record.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Which instance; `None`: the host.
    pub instance: Option<String>,
    /// The verb.
    pub verb: &'static str,
    /// User.
    pub uid: u32,
    /// His name, where it is known.
    pub user: Option<String>,
    /// Process.
    pub pid: Option<i32>,
    /// Why, in his words.
    pub reason: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// The operation that it began.
    pub operation: Option<u64>,
    /// The line of the log.
    pub line: String,
}

impl Chronicle {
    /// Goes on with what an earlier run left in `state_dir`. Gives what was wrong with that, too.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn open(state_dir: &Path, model: Arc<Model>) -> io::Result<(Self, Option<String>)> {
        let mut found = file::read(state_dir, KEPT);
        let warning = found.warning.take();
        let entries: VecDeque<_> =
            std::mem::take(&mut found.entries).into_iter().map(Arc::new).collect();
        let file = file::Writer::start(state_dir, KEPT, found)?;
        // Above what an earlier run told and the history does not keep.
        let seq = entries.iter().map(|entry| entry.event.seq).max().map_or(0, |seq| seq + APART);
        let since = HashMap::new();
        let inner = Inner { model, seq, newest: Instant::ZERO, entries, since, file };
        let live = broadcast::Sender::new(BEHIND);
        let chronicle = Self { inner: Arc::new(Mutex::new(inner)), live };
        chronicle.end_unfinished();
        Ok((chronicle, warning))
    }

    /// Operations that the last run did not bring to their end: nobody carries them on, and who asks must learn it. A
    /// `reexec` is at its end when the next program runs, which is for that one to say.
    fn end_unfinished(&self) {
        let mut inner = self.lock();
        let ends = inner.entries.iter().filter_map(|entry| match &entry.event.what {
            What::Operation { operation, .. } => Some(operation.clone()),
            _ => None,
        });
        let ended: HashSet<String> = ends.collect();
        let begun = inner.entries.iter().filter_map(|entry| match &entry.event.what {
            What::Change { operation: Some(operation), verb, .. } if verb != "reexec" => {
                Some((operation.clone(), entry.event.instance.clone()))
            }
            _ => None,
        });
        let unfinished: Vec<_> =
            begun.filter(|(operation, _)| !ended.contains(operation)).collect();
        for (operation, instance) in unfinished {
            let cause = "the agent ended before it did; `vipd status` says who owns what";
            let line = format!("operation {operation} aborted: {cause}");
            tracing::warn!("{line}");
            let what = What::Operation { operation, step: Step::Aborted };
            let event = Event {
                level: Level::Warning,
                instance,
                cause: Some(cause.into()),
                ..blank(line, what)
            };
            self.note(&mut inner, event, clock::monotonic());
        }
    }

    /// The newest `last` of the history, oldest first, and everything from now on.
    pub(super) fn follow(&self, last: usize) -> (Vec<Arc<Entry>>, broadcast::Receiver<Arc<Entry>>) {
        let inner = self.lock();
        // Under the lock: nothing is in both, nothing in neither.
        let live = self.live.subscribe();
        let skip = inner.entries.len().saturating_sub(last);
        (inner.entries.iter().skip(skip).cloned().collect(), live)
    }

    /// When the last event was: what was reported before it is out of date.
    pub(super) fn newest(&self) -> Instant {
        self.lock().newest
    }

    /// The history, oldest first.
    pub(super) fn history(&self) -> Vec<Arc<Entry>> {
        self.lock().entries.iter().cloned().collect()
    }

    /// Takes an event of the engine, as it was told.
    pub(super) fn event(&self, event: &engine::Event, telling: Telling) {
        let mut inner = self.lock();
        let Some((what, cause)) = document::what(&inner.model, &event.kind) else { return };
        let (over, begins) = lasting(event);
        let instance = event
            .instance
            .and_then(|ix| inner.model.instances.get(usize::from(ix.0)))
            .map(|i| i.name.to_string());
        let document = Event {
            instance,
            family: event.family.map(|family| family.to_string()),
            level: document::level(telling.level),
            cause,
            ..blank(telling.line, what)
        };
        let since = over.and_then(|lasting| inner.since.remove(&lasting));
        if let Some(lasting) = begins {
            inner.since.entry(lasting).or_insert(event.at);
        }
        let duration_s = since.map(|since| event.at.since(since).as_secs_f64());
        self.note(&mut inner, Event { duration_s, ..document }, event.at);
    }

    /// Takes a change that was asked for. Who tells the asker that it was accepted waits for [`Self::kept`] first.
    pub(super) fn change(&self, change: Change) {
        let level = match change.outcome {
            Outcome::Accepted | Outcome::Done => Level::Info,
            Outcome::Refused | Outcome::Forbidden => Level::Warning,
        };
        let what = What::Change {
            verb: change.verb.to_owned(),
            uid: change.uid,
            user: change.user,
            pid: change.pid,
            reason: change.reason,
            outcome: change.outcome,
            operation: change.operation.map(operation_name),
        };
        let event = Event { instance: change.instance, level, ..blank(change.line, what) };
        self.note(&mut self.lock(), event, clock::monotonic());
    }

    /// Waits until the history so far is in its file or could not be written, no longer than `patience`.
    pub(super) async fn kept(&self, patience: std::time::Duration) {
        let stored = self.lock().file.stored();
        stored.wait(patience).await;
    }

    /// Another configuration is in force: what lasts, lasts on.
    pub(super) fn reload(&self, model: Arc<Model>, renumber: &Renumber) {
        let mut inner = self.lock();
        let since = std::mem::take(&mut inner.since).into_iter();
        inner.since =
            since.filter_map(|(what, at)| Some((what.renumbered(renumber)?, at))).collect();
        inner.model = model;
    }

    /// The configuration file cannot be used, or is in use again.
    pub(super) fn file(&self, bad: bool, line: String, cause: Option<String>) {
        let what = What::Alarm { code: CONFIG_NOT_USED.into(), on: bad };
        let level = if bad { Level::Error } else { Level::Info };
        let event = Event { level, cause, ..blank(line, what) };
        self.note(&mut self.lock(), event, clock::monotonic());
    }

    /// The replicator told something about `set`.
    pub(super) fn replica(&self, instance: Option<&str>, set: &str, line: String, alarm: bool) {
        let what = What::Replica { set: set.to_owned(), alarm };
        self.beside(instance, line, what, alarm);
    }

    /// An alarm that is none of the engine's began or ended.
    pub(super) fn alarm(&self, code: &str, instance: Option<&str>, line: String, on: bool) {
        self.beside(instance, line, What::Alarm { code: code.to_owned(), on }, on);
    }

    fn beside(&self, instance: Option<&str>, line: String, what: What, warns: bool) {
        let level = if warns { Level::Warning } else { Level::Info };
        let event = Event { instance: instance.map(str::to_owned), level, ..blank(line, what) };
        self.note(&mut self.lock(), event, clock::monotonic());
    }

    /// The agent started, or is about to end.
    pub(super) fn agent(&self, up: bool, line: String) {
        let what = What::Agent { version: env!("CARGO_PKG_VERSION").into(), up };
        self.note(&mut self.lock(), blank(line, what), clock::monotonic());
    }

    fn note(&self, inner: &mut Inner, event: Event, at: Instant) {
        inner.seq += 1;
        inner.newest = inner.newest.max(at);
        let time = rfc3339(clock::monotonic().since(at));
        let event = Event { seq: inner.seq, time, ..event };
        let entry = Arc::new(Entry { event, when: When::Here(at) });
        if entry.event.what.is_history() {
            inner.file.store(&entry);
            inner.entries.push_back(Arc::clone(&entry));
            if inner.entries.len() > KEPT {
                inner.entries.pop_front();
            }
        }
        // Nobody listens: nobody has to be told.
        let _ = self.live.send(entry);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn blank(message: String, what: What) -> Event {
    Event {
        schema: SCHEMA,
        seq: 0,
        time: String::new(),
        age_s: 0.0,
        level: Level::Info,
        instance: None,
        family: None,
        message,
        cause: None,
        duration_s: None,
        what,
    }
}

/// The wall clock's reading so long ago.
fn rfc3339(age: Duration) -> String {
    let then = jiff::SignedDuration::try_from(age).ok();
    let at = then.and_then(|age| Timestamp::now().checked_sub(age).ok()).unwrap_or_default();
    format!("{at:.3}")
}

/// What ends with `event`, and what begins.
fn lasting(event: &engine::Event) -> (Option<Lasting>, Option<Lasting>) {
    match &event.kind {
        EventKind::Transition { .. } => {
            let state = || event.instance.map(|ix| Lasting::State(ix, event.family));
            (state(), state())
        }
        EventKind::Alarm(alarm, on) => {
            let alarm = Some(Lasting::Alarm(event.instance, alarm.clone()));
            if *on { (None, alarm) } else { (alarm, None) }
        }
        EventKind::Peer { host, .. } => (Some(Lasting::Peer(*host)), Some(Lasting::Peer(*host))),
        EventKind::Operation { id, step } => {
            let operation = Some(Lasting::Operation(operation_name(*id)));
            if step.is_end() { (operation, None) } else { (None, operation) }
        }
        _ => (None, None),
    }
}

/// Where `operation` is by this entry, if it is about it, and in which words.
pub(super) fn step_of<'a>(entry: &'a Entry, operation: &str) -> Option<(Step, &'a str)> {
    match &entry.event.what {
        What::Operation { operation: of, step } if of == operation => {
            Some((*step, entry.event.cause.as_deref().unwrap_or(&entry.event.message)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
