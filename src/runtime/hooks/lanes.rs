//! One program at a time for each hook and instance, in order. What comes while it runs waits, and not everything
//! has to be kept: of states the newest wins, and two ticks that wait are one.
//!
//! Used by `hooks` on the main thread. A step of a planned move is waited for by who ordered it, never by the engine.

use super::super::observe::Counting;
use super::super::roles::Role;
use crate::exec::client::{Outcome, Runner};
use crate::exec::protocol::{End, Event as Word, Occasion, Which};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use vipd_core::config::model::Hook;

/// Beside a program's own time: for a missing `vipd exec` to come, and for TERM and KILL.
const PATIENCE: Duration = Duration::from_secs(30);
/// The exit code of a program that says no.
const VETO: i32 = 10;
/// The exit code of one that wants to be called again.
const LATER: i32 = 75;
/// The exit code of one that ended itself because it took too long, as timeout(1) does.
const TOO_LONG: i32 = 124;
/// The first wait before it is called again; doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
/// Called again at most so often.
const TRIES: u32 = 6;
/// Steps of roles that wait for a program that hangs; then the oldest goes.
const DEEP: usize = 32;

/// Hook, and whom it hears of: by their names, which outlive a reload.
pub(super) type Key = (Arc<str>, Of);

/// Whom a hook hears of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    /// This instance.
    Instance(Arc<str>),
    /// This sync group.
    Group(Arc<str>),
}

/// How a run ended, in the words of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Report {
    /// Exit code 0.
    Done,
    /// It said no, and why.
    Vetoed(String),
    /// Everything else, and what.
    Failed(String),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ended well"),
            Self::Vetoed(why) if why.is_empty() => f.write_str("said no"),
            Self::Vetoed(why) => write!(f, "said no: {why}"),
            Self::Failed(how) => f.write_str(how),
        }
    }
}

/// A run that is to be.
#[derive(Debug)]
pub(super) struct Job {
    which: Which,
    hook: Arc<str>,
    occasion: Occasion,
    /// How long the program may take.
    time: Duration,
    /// Who waits for its end, and until when.
    waits: Option<(oneshot::Sender<Report>, Instant)>,
}

impl Job {
    /// Nobody waits for it.
    pub(super) fn new(hook: &Hook, occasion: Occasion) -> Self {
        let time = hook.time(occasion.event.moment());
        Self {
            which: super::which(hook),
            hook: Arc::clone(&hook.name),
            occasion,
            time,
            waits: None,
        }
    }

    /// Did who waited for it give up?
    fn is_pointless(&self) -> bool {
        self.waits.as_ref().is_some_and(|(answer, _)| answer.is_closed())
    }
}

/// A run that somebody waits for.
#[derive(Debug)]
pub(in crate::runtime) struct Step {
    lanes: Lanes,
    key: Key,
    job: Job,
}

impl Step {
    /// Name of its hook.
    pub(in crate::runtime) fn name(&self) -> Arc<str> {
        Arc::clone(&self.job.hook)
    }

    /// How long its program may take.
    pub(in crate::runtime) fn time(&self) -> Duration {
        self.job.time
    }

    /// Runs it in its turn, and says how it ended: until `deadline`. A step whose future is dropped is not begun any more.
    pub(in crate::runtime) async fn run(self, deadline: Instant) -> Report {
        let Self { lanes, key, mut job } = self;
        let (answer, ended) = oneshot::channel();
        job.waits = Some((answer, deadline));
        lanes.push(key, job);
        match tokio::time::timeout_at(deadline, ended).await {
            Ok(Ok(report)) => report,
            Ok(Err(_)) => {
                Report::Failed("was not run: the host's role does not fit any more".into())
            }
            Err(_) => Report::Failed("took too long".into()),
        }
    }
}

/// What runs and what waits.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// The way to the programs of the configuration in force.
    runner: Arc<Mutex<Runner>>,
    pub(super) counting: Counting,
    lanes: Arc<Mutex<HashMap<Key, Lane>>>,
    /// What each instance is here.
    roles: Arc<Mutex<HashMap<Arc<str>, Role>>>,
}

/// There while something runs.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Job>,
    /// Rung when something comes to wait.
    bell: Arc<Notify>,
}

impl Lanes {
    /// Nothing runs.
    pub(super) fn new(runner: Runner, counting: Counting) -> Self {
        let runner = Arc::new(Mutex::new(runner));
        Self { runner, counting, lanes: Arc::default(), roles: Arc::default() }
    }

    /// What begins from now on is run by `runner`.
    pub(super) fn reload(&self, runner: Runner) {
        *lock(&self.runner) = runner;
    }

    /// The instance is this here from now on.
    pub(super) fn stands(&self, instance: &Arc<str>, role: Role) {
        lock(&self.roles).insert(Arc::clone(instance), role);
        if role != Role::Active {
            self.counting.not_owner(instance);
        }
    }

    /// Does the host's role fit that? A push of a host that has lost the address would overwrite newer files.
    pub(super) fn fits(&self, word: Word, instance: &Arc<str>) -> bool {
        let role = lock(&self.roles).get(instance).copied();
        match word {
            Word::SyncInterval | Word::SyncChange | Word::SyncBarrier | Word::PreDemote => {
                role == Some(Role::Active)
            }
            Word::Verify => role == Some(Role::Backup),
            _ => true,
        }
    }

    /// Nothing runs and nothing waits?
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.lanes).is_empty()
    }

    /// What waits, taken from its lanes.
    pub(super) fn late(&self) -> Vec<(Which, Occasion)> {
        let mut lanes = lock(&self.lanes);
        let waiting = lanes.values_mut().flat_map(|lane| std::mem::take(&mut lane.waiting));
        waiting.filter(|job| !job.is_pointless()).map(|job| (job.which, job.occasion)).collect()
    }

    /// A run that is waited for.
    pub(super) fn step(&self, key: Key, job: Job) -> Step {
        Step { lanes: self.clone(), key, job }
    }

    /// Runs it when it is its turn.
    pub(super) fn push(&self, key: Key, job: Job) {
        let mut lanes = lock(&self.lanes);
        if let Some(busy) = lanes.get_mut(&key) {
            join(&mut busy.waiting, job);
            busy.bell.notify_one();
            return;
        }
        lanes.insert(key.clone(), Lane::default());
        drop(lanes);
        let this = self.clone();
        tokio::spawn(async move { this.work(key, job).await });
    }

    async fn work(self, key: Key, mut job: Job) {
        loop {
            if self.suits(&key, job.occasion.event) && !job.is_pointless() {
                self.run(&key, job).await;
            }
            let mut lanes = lock(&self.lanes);
            match lanes.get_mut(&key).and_then(|busy| busy.waiting.pop_front()) {
                Some(next) => job = next,
                None => {
                    lanes.remove(&key);
                    return;
                }
            }
        }
    }

    /// Does the host's role fit, where it matters?
    fn suits(&self, key: &Key, word: Word) -> bool {
        match &key.1 {
            Of::Instance(name) => self.fits(word, name),
            Of::Group(_) => true,
        }
    }

    async fn run(&self, key: &Key, job: Job) {
        let Job { which, hook, mut occasion, time, waits } = job;
        let (whom, event) = (occasion.name.clone(), occasion.event);
        let mut pause = PAUSE;
        for tried in 1.. {
            let left = waits.as_ref().map(|(_, until)| until.duration_since(Instant::now()));
            let time = left.map_or(time, |left| left.min(time));
            // 0 stands for no deadline of its own.
            occasion.deadline_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
            let runner = lock(&self.runner).clone();
            let done = runner.run(which.clone(), Some(occasion.clone()), time + PATIENCE).await;
            let later = done.end == End::Exited(LATER) && tried < TRIES;
            let report = judge(event, &done);
            if let Of::Instance(name) = &key.1 {
                self.counting.hook(&hook, name, event, &report, &done);
                if !self.fits(event, name) {
                    // The address went while it pushed.
                    self.counting.not_owner(name);
                }
            }
            match &report {
                Report::Done => tracing::debug!("hook {hook} ({whom} {}) {report}", event.word()),
                _ => tracing::warn!("hook {hook} ({whom} {}) {report}", event.word()),
            }
            let patient = left.is_none_or(|left| left > pause) && later;
            if !patient || !self.waits_again(key, event, pause, waits.is_some()).await {
                if let Some((answer, _)) = waits {
                    // Who waited may have given up.
                    let _ = answer.send(report);
                }
                return;
            }
            pause *= 2;
        }
    }

    /// Waits before a program is called again; false: something newer came, or the role does not fit any more.
    async fn waits_again(&self, key: &Key, event: Word, pause: Duration, awaited: bool) -> bool {
        let until = Instant::now() + pause;
        loop {
            let bell = match lock(&self.lanes).get(key) {
                Some(lane) if awaited || lane.waiting.is_empty() => Arc::clone(&lane.bell),
                _ => return false,
            };
            if tokio::time::timeout_at(until, bell.notified()).await.is_err() {
                break;
            }
        }
        self.suits(key, event)
    }
}

/// Puts `job` behind what waits already.
fn join(waiting: &mut VecDeque<Job>, mut job: Job) {
    let event = job.occasion.event;
    if event.moment().is_state() {
        if let Some(at) = waiting.iter().position(|j| j.occasion.event.moment().is_state())
            && let Some(late) = waiting.remove(at)
        {
            job.occasion.skipped = late.occasion.skipped + 1;
            tracing::info!(
                "hook {} is late: it will not hear that {} became {}",
                late.hook,
                late.occasion.name,
                late.occasion.role
            );
        }
        waiting.push_back(job);
        return;
    }
    match event {
        Word::SyncInterval | Word::SyncChange | Word::Verify => {
            if let Some(same) = waiting.iter_mut().find(|j| j.occasion.event == event) {
                job.occasion.skipped = same.occasion.skipped + 1;
                *same = job;
                return;
            }
        }
        // Its push brings what they would have brought.
        Word::SyncBarrier | Word::PreDemote => waiting.retain(|j| {
            !matches!(j.occasion.event, Word::SyncInterval | Word::SyncChange | Word::Verify)
        }),
        _ => {}
    }
    waiting.push_back(job);
    if waiting.len() > DEEP
        && let Some(lost) = waiting.pop_front()
    {
        let event = lost.occasion.event.word();
        tracing::warn!("hook {} hangs: {event} of {} is lost", lost.hook, lost.occasion.name);
    }
}

/// What the end of a program says of `event`.
fn judge(event: Word, done: &Outcome) -> Report {
    match &done.end {
        End::Exited(0) => Report::Done,
        End::Exited(VETO) if matches!(event, Word::PrePromote | Word::PreDemote) => {
            Report::Vetoed(last_words(done))
        }
        End::Exited(TOO_LONG) => Report::Failed(with_words("said that it took too long", done)),
        End::Exited(LATER) => Report::Failed(with_words("wants to be called later", done)),
        end => Report::Failed(with_words(&end.to_string(), done)),
    }
}

/// What a program said last: on standard output, else at the end of all that is kept.
fn last_words(done: &Outcome) -> String {
    let all = done.output.trim_end().lines().next_back().unwrap_or_default();
    let line = if done.last.is_empty() { all.trim() } else { &done.last };
    line.chars().take(LINE).collect()
}

/// Characters of a program's words that are told on.
const LINE: usize = 200;

fn with_words(how: &str, done: &Outcome) -> String {
    match last_words(done) {
        words if words.is_empty() => how.to_owned(),
        words => format!("{how}: {words}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
