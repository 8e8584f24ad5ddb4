//! One set on this host: a thread that makes its files those of the role that the agent named, scans them as owner, and
//! answers barriers. What it is told while it scans waits in its queue; pushing stops at once all the same, because the
//! service does that from outside ([`Worker::stop_pushing`]).

use super::pushing::{Others, Pushing};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use vipd_agent::sys::clock;
use vipd_core::replica::{SetReport, Word};
use vipd_core::time::Instant;
use vipd_core::types::Epoch;
use vipd_replicator::clock::Clock;
use vipd_replicator::error::Error;
use vipd_replicator::ports::{Position, Refusal};
use vipd_replicator::set::{Scope, Set};
use vipd_replicator::watch::{Change, Watch};

/// Between two looks at what comes by itself.
const LOOK: Duration = Duration::from_secs(1);
/// During a barrier: between two looks whether the target has confirmed.
const BARRIER_LOOK: Duration = Duration::from_millis(2);
/// After the deadline of a barrier: whoever began it is done by then.
const OUTLIVED: Duration = Duration::from_secs(60);
/// An owner that was told of a newer ownership is one that lets go, unless it goes on owning for so long.
const LETS_GO: Duration = Duration::from_secs(3);
/// Between two removals of what is kept aside for long enough.
const PRUNE: Duration = Duration::from_secs(3600);
/// A set that changes all the time is sealed again after so long a pause at least.
const RETRY: Duration = Duration::from_secs(5);

/// What the agent says of this host and the instance of the set.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    /// This host owns: it pushes.
    pub owns: bool,
    /// The newest ownership that is known.
    pub epoch: Epoch,
}

/// What the thread is told.
#[derive(Debug)]
enum Task {
    Stand(Stand),
    Change(Change),
    Barrier { id: u64, to: String, until: Instant },
    BarrierOver { id: u64 },
    BarriersOver,
    Acknowledged,
    Stop,
}

/// A set, with its thread.
pub(super) struct Worker {
    pub set: Set,
    pub shared: Arc<Shared>,
    tasks: Sender<Task>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and the service know of a set.
pub(super) struct Shared {
    /// `[replicate.NAME]`.
    pub name: Arc<str>,
    /// Its instance.
    pub instance: Arc<str>,
    /// Sends to the other hosts, while this one may push.
    pushing: Mutex<Option<Pushing>>,
    /// What the agent said last; `None`: nothing yet.
    stand: Mutex<Option<Stand>>,
    /// May others push to this host?
    receives: Mutex<Result<(), String>>,
    /// What an operator has to look at, by what it is about.
    faults: Mutex<BTreeMap<String, String>>,
    /// Errors by kind.
    errors: Mutex<BTreeMap<String, u64>>,
    /// Files of this standby are not what they should be: the owner is to offer its tree again.
    lacking: AtomicBool,
    words: UnboundedSender<Word>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// An error of that kind happened. Sessions that begin and end in good order are none.
    pub(super) fn count(&self, kind: &str) {
        if ["connected", "closed", "stopped", "bye"].contains(&kind) {
            return;
        }
        *lock(&self.errors).entry(kind.to_owned()).or_default() += 1;
    }

    /// Something worth a line in the log of the agent.
    pub(super) fn tell(&self, text: String, alarm: bool) {
        let _ = self.words.send(Word::Event { set: self.name.to_string(), text, alarm });
    }

    /// `text` without the name of the set: whoever reads it sees that anyhow.
    fn plain<'t>(&self, text: &'t str) -> &'t str {
        let name = format!("[replicate.{}] ", self.name);
        text.trim_start_matches(&*name)
    }

    /// A condition to look at, until [`Shared::mend`].
    pub(super) fn fault(&self, about: &str, text: String) {
        lock(&self.faults).insert(about.to_owned(), text);
    }

    /// It is over.
    pub(super) fn mend(&self, about: &str) {
        lock(&self.faults).remove(about);
    }

    /// Is the owner to offer its tree again? Says so once.
    pub(super) fn take_lacking(&self) -> bool {
        self.lacking.swap(false, Ordering::Relaxed)
    }

    /// Why this host takes nothing.
    ///
    /// # Errors
    /// That.
    pub(super) fn receives(&self) -> Result<(), String> {
        lock(&self.receives).clone()
    }
}

impl Worker {
    /// Starts the thread of `set`, which follows `instance` and is pushed to `others`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(
        set: Set,
        instance: Arc<str>,
        others: Others,
        words: UnboundedSender<Word>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            name: Arc::clone(&set.config().name),
            instance,
            pushing: Mutex::new(None),
            stand: Mutex::new(None),
            receives: Mutex::new(Err("who owns the instance is not known yet".to_owned())),
            faults: Mutex::default(),
            errors: Mutex::default(),
            lacking: AtomicBool::new(false),
            words,
        });
        let (tasks, inbox) = channel();
        let thread = Thread {
            set: set.clone(),
            shared: Arc::clone(&shared),
            others: Arc::new(others),
            tasks: tasks.clone(),
            inbox,
            done: None,
            watch: None,
            barrier: None,
            behind: false,
            seal_again: None,
            stale: None,
            drift_at: clock::monotonic(),
            prune_at: clock::monotonic() + PRUNE,
        };
        let thread = std::thread::Builder::new()
            .name(format!("set {}", shared.name))
            .spawn(move || thread.run())?;
        Ok(Self { set, shared, tasks, thread: Mutex::new(Some(thread)) })
    }

    /// The agent says so.
    pub(super) fn stand(&self, stand: Stand) {
        let before = lock(&self.shared.stand).replace(stand);
        if before == Some(stand) {
            return;
        }
        if !stand.owns {
            self.stop_pushing();
        }
        // Whoever owns takes nothing; a standby does so when its thread has put its role on the disk.
        *lock(&self.shared.receives) = Err(if stand.owns {
            "this host owns the instance itself".to_owned()
        } else {
            "this host is about to become a standby".to_owned()
        });
        self.tell(Task::Stand(stand));
    }

    /// Nothing is pushed any more, also not what is on its way. The thread begins again when the agent says so.
    pub(super) fn stop_pushing(&self) {
        if let Some(pushing) = lock(&self.shared.pushing).take() {
            pushing.stop();
        }
    }

    /// The agent is gone: whether this host still owns is not known, and nothing is pushed.
    pub(super) fn agent_gone(&self) {
        let owned = lock(&self.shared.stand).take().is_some_and(|stand| stand.owns);
        self.stop_pushing();
        if owned {
            let said = "the agent is gone: nothing is pushed until it says that this host owns";
            self.shared.fault("agent", said.to_owned());
        }
    }

    /// Brings `to` up to date; the answer is a word to the agent.
    pub(super) fn barrier(&self, id: u64, to: String, limit: Duration) {
        self.tell(Task::Barrier { id, to, until: clock::monotonic() + limit });
    }

    /// The barrier is over.
    pub(super) fn barrier_over(&self, id: u64) {
        self.tell(Task::BarrierOver { id });
    }

    /// Whoever began barriers is gone, and will end none, also not one that was answered.
    pub(super) fn barriers_over(&self) {
        self.tell(Task::BarriersOver);
    }

    /// An operator accepted what was refused.
    ///
    /// # Errors
    /// Nothing was refused; the disk.
    pub(super) fn acknowledge(&self) -> Result<String, Error> {
        let said = self.set.ack()?;
        self.tell(Task::Acknowledged);
        Ok(said)
    }

    /// How the set stands.
    pub(super) fn report(&self) -> SetReport {
        let mut report = self.set.report();
        report.instance = self.shared.instance.to_string();
        for alarm in &mut report.alarms {
            *alarm = self.shared.plain(alarm).to_owned();
        }
        if let Some(pushing) = &*lock(&self.shared.pushing) {
            pushing.complete(&mut report);
        } else if report.owns {
            for peer in &mut report.peers {
                (peer.connected, peer.in_sync) = (false, false);
            }
        } else {
            // From when it was the owner.
            report.peers.clear();
        }
        report.alarms.extend(lock(&self.shared.faults).values().cloned());
        for (kind, count) in &*lock(&self.shared.errors) {
            *report.errors.entry(kind.clone()).or_default() += count;
        }
        report
    }

    /// What happened since it was last asked, to the agent.
    pub(super) fn pass_notices(&self) {
        for notice in self.set.notices() {
            self.shared.tell(self.shared.plain(&notice.text).to_owned(), notice.alarm);
        }
    }

    /// Ends the thread; waits for it no longer than `limit`.
    pub(super) fn stop(&self, limit: Duration) {
        self.stop_pushing();
        self.tell(Task::Stop);
        let Some(thread) = lock(&self.thread).take() else { return };
        let until = clock::monotonic() + limit;
        while !thread.is_finished() && clock::monotonic() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }

    fn tell(&self, task: Task) {
        // A thread that has ended was told to.
        let _ = self.tasks.send(task);
    }
}

/// A barrier that is on.
struct OnBarrier {
    id: u64,
    to: String,
    until: Instant,
    /// What the target must have.
    position: Position,
    answered: bool,
}

impl OnBarrier {
    /// Its end got lost: nothing may keep changes from being sealed for ever.
    fn outlived(&self, now: Instant) -> bool {
        now >= self.until + OUTLIVED
    }
}

struct Thread {
    set: Set,
    shared: Arc<Shared>,
    others: Arc<Others>,
    tasks: Sender<Task>,
    inbox: Receiver<Task>,
    /// What was put on the disk of what the agent says.
    done: Option<Stand>,
    watch: Option<Watch>,
    barrier: Option<OnBarrier>,
    /// Changes came while a barrier held.
    behind: bool,
    /// When to seal everything again, after it did not work.
    seal_again: Option<Instant>,
    /// Since when another host knows of a newer ownership.
    stale: Option<Instant>,
    drift_at: Instant,
    prune_at: Instant,
}

impl Thread {
    fn run(mut self) {
        loop {
            let waiting = self.barrier.as_ref().is_some_and(|barrier| !barrier.answered);
            match self.inbox.recv_timeout(if waiting { BARRIER_LOOK } else { LOOK }) {
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Task::Stand(stand)) => self.take_role(stand),
                Ok(Task::Change(change)) => self.changed(change),
                Ok(Task::Barrier { id, to, until }) => self.begin_barrier(id, to, until),
                Ok(Task::BarrierOver { id }) => {
                    if self.barrier.as_ref().is_some_and(|barrier| barrier.id == id) {
                        self.barrier = None;
                    }
                    self.catch_up();
                }
                Ok(Task::BarriersOver) => {
                    self.barrier = None;
                    self.catch_up();
                }
                Ok(Task::Acknowledged) => {
                    if self.owns() {
                        let _ = self.seal(&Scope::Everything);
                    }
                    if let Some(pushing) = &*lock(&self.shared.pushing) {
                        pushing.ask_again();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look();
        }
    }

    fn owns(&self) -> bool {
        self.done.is_some_and(|stand| stand.owns)
    }

    /// Puts on the disk what the agent says, and begins to act by it.
    fn take_role(&mut self, stand: Stand) {
        // Said anew while this waited in the queue.
        if *lock(&self.shared.stand) != Some(stand) {
            return;
        }
        let put =
            if stand.owns { self.set.claim(stand.epoch) } else { self.set.follow(stand.epoch) };
        self.barrier = None;
        if let Err(error) = put {
            self.shared.count(error.kind());
            self.shared.fault("role", error.to_string());
            self.seal_again = Some(clock::monotonic() + RETRY);
            if stand.owns {
                (self.done, self.watch) = (None, None);
                return;
            }
            // The role has changed all the same.
        } else {
            self.shared.mend("role");
        }
        self.shared.mend("agent");
        self.shared.mend("stale-epoch");
        self.done = Some(stand);
        self.stale = None;
        if !stand.owns {
            self.watch = None;
            self.seal_again = None;
            for about in ["scan", "watch"] {
                self.shared.mend(about);
            }
            self.drift_at = clock::monotonic() + self.set.config().scan_interval;
            let mut receives = lock(&self.shared.receives);
            if *lock(&self.shared.stand) == Some(stand) {
                *receives = Ok(());
            }
            return;
        }
        let _ = self.seal(&Scope::Everything);
        if self.watch.is_none() {
            self.start_watch();
        }
        self.start_pushing(stand);
    }

    fn start_watch(&mut self) {
        let tasks = self.tasks.clone();
        match Watch::start(&self.set, move |change| drop(tasks.send(Task::Change(change)))) {
            Ok(watch) => {
                self.shared.mend("watch");
                self.watch = Some(watch);
            }
            Err(error) => self.shared.fault("watch", format!("changes are not watched: {error}")),
        }
    }

    fn start_pushing(&self, stand: Stand) {
        let mut pushing = lock(&self.shared.pushing);
        // Lost meanwhile.
        if *lock(&self.shared.stand) != Some(stand) {
            return;
        }
        match &*pushing {
            Some(pushing) => pushing.wake(),
            None => *pushing = Some(Pushing::start(&self.set, &self.others, &self.shared)),
        }
    }

    fn changed(&mut self, change: Change) {
        if !self.owns() {
            return;
        }
        match change {
            Change::Due(_) if self.barrier.is_some() => self.behind = true,
            Change::Due(scope) => drop(self.seal(&scope)),
            Change::Whole => self.shared.mend("watch"),
            Change::Degraded(why) => self.shared.fault("watch", why),
        }
    }

    /// Makes the next generation; gives whether what is there is sealed.
    fn seal(&mut self, scope: &Scope) -> Result<(), String> {
        match self.set.seal(scope) {
            Ok(sealed) => {
                self.shared.mend("scan");
                let later = clock::monotonic() + RETRY;
                self.seal_again = (!sealed.deferred.is_empty()).then_some(later);
                if sealed.new
                    && let Some(pushing) = &*lock(&self.shared.pushing)
                {
                    pushing.wake();
                }
                match sealed.deferred.first() {
                    None => Ok(()),
                    Some(path) => Err(format!("{path} changes while it is read")),
                }
            }
            Err(error) => {
                // The set itself says what its guard or its roots hold back.
                if !matches!(error, Error::Guard(_) | Error::Root(_)) {
                    self.shared.count(error.kind());
                    self.shared.fault("scan", error.to_string());
                }
                self.seal_again = Some(clock::monotonic() + RETRY);
                Err(self.shared.plain(&error.to_string()).to_owned())
            }
        }
    }

    /// What comes by itself.
    fn look(&mut self) {
        self.look_at_barrier();
        let now = clock::monotonic();
        if self.seal_again.is_some_and(|at| now >= at) && self.barrier.is_none() {
            self.seal_again = None;
            let wanted = *lock(&self.shared.stand);
            match wanted {
                Some(stand) if self.done != wanted => self.take_role(stand),
                Some(Stand { owns: true, .. }) => drop(self.seal(&Scope::Everything)),
                _ => {}
            }
        }
        if self.owns() && self.watch.is_none() {
            self.start_watch();
            if self.watch.is_none() {
                // Nobody sees what changes: something may have, and a full scan must find it.
                self.set.dirty(Clock::system().steady_ms());
                let interval = self.set.config().scan_interval;
                self.seal_again.get_or_insert_with(|| now + interval);
            }
        }
        self.look_at_refusals(now);
        if self.done.is_some_and(|stand| !stand.owns) && now >= self.drift_at {
            self.drift_at = now + self.set.config().scan_interval;
            match self.set.drift() {
                Ok(drifted) => {
                    self.shared.mend("drift");
                    if !drifted.is_empty() {
                        self.shared.lacking.store(true, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    // Of what the owner sends then, the roots are opened anew.
                    self.shared.lacking.store(true, Ordering::Relaxed);
                    self.shared.count(error.kind());
                    self.shared.fault("drift", error.to_string());
                }
            }
        }
        if let Err(error) = self.set.thin() {
            self.shared.count(error.kind());
        }
        if now >= self.prune_at {
            self.prune_at = now + PRUNE;
            if let Err(error) = self.set.prune() {
                self.shared.count(error.kind());
            }
        }
    }

    /// An owner that others call outdated, and goes on owning, has to be looked at.
    fn look_at_refusals(&mut self, now: Instant) {
        let refused = match &*lock(&self.shared.pushing) {
            Some(pushing) => pushing.refused_as_stale(),
            None => None,
        };
        match (refused, self.stale) {
            (None, _) => {
                self.stale = None;
                self.shared.mend("stale-epoch");
            }
            (Some(_), None) => self.stale = Some(now),
            (Some((host, epoch)), Some(since)) if now.since(since) >= LETS_GO => {
                self.shared.fault(
                    "stale-epoch",
                    format!(
                        "{host} knows of a newer ownership (epoch {epoch}) than the agent here: nothing is pushed \
                         to it; compare `vipd status` of both hosts"
                    ),
                );
            }
            _ => {}
        }
    }
}

/// Barriers.
impl Thread {
    fn begin_barrier(&mut self, id: u64, to: String, until: Instant) {
        let position = Position::default();
        self.barrier = Some(OnBarrier { id, to, until, position, answered: false });
        if !self.owns() {
            return self
                .answer(Some("this host does not push the set: it does not own".to_owned()));
        }
        if let Err(why) = self.seal(&Scope::Everything) {
            return self.answer(Some(why));
        }
        let position = self.set.position();
        if let Some(barrier) = &mut self.barrier {
            barrier.position = position;
            if let Some(pushing) = &*lock(&self.shared.pushing) {
                pushing.ask_again_of(&barrier.to);
            }
        }
    }

    fn look_at_barrier(&mut self) {
        let Some(barrier) = &self.barrier else { return };
        if barrier.outlived(clock::monotonic()) {
            self.barrier = None;
            return self.catch_up();
        }
        if barrier.answered {
            return;
        }
        let progress = match &*lock(&self.shared.pushing) {
            Some(pushing) => pushing.progress(&barrier.to),
            None => None,
        };
        let answer = match progress {
            None => Some(format!("nothing is pushed to {}", barrier.to)),
            Some(progress)
                if progress.confirmed == Some(barrier.position)
                    && progress.connected
                    && progress.refused.is_none() =>
            {
                return self.answer(None);
            }
            Some(progress) => match progress.refused {
                Some(
                    refusal @ (Refusal::StaleEpoch(_) | Refusal::Diverged(_) | Refusal::Guard(_)),
                ) => Some(format!("{} does not take it: {refusal}", barrier.to)),
                _ if clock::monotonic() < barrier.until => return,
                _ if !progress.connected => Some(format!("no connection to {}", barrier.to)),
                other => Some(match other {
                    Some(refusal) => format!("{} does not take it: {refusal}", barrier.to),
                    None => format!("{} has not confirmed everything in time", barrier.to),
                }),
            },
        };
        self.answer(answer);
    }

    fn answer(&mut self, failed: Option<String>) {
        if let Some(barrier) = &mut self.barrier {
            barrier.answered = true;
            let failed = failed.map(|why| format!("set {}: {why}", self.shared.name));
            let _ = self.shared.words.send(Word::Barrier { id: barrier.id, failed });
        }
    }

    /// Seals what came while a barrier held.
    fn catch_up(&mut self) {
        if self.barrier.is_none() && std::mem::take(&mut self.behind) && self.owns() {
            let _ = self.seal(&Scope::Everything);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_whose_end_got_lost_is_over_a_minute_after_its_deadline() {
        let until = clock::monotonic();
        let (to, position) = ("b".to_owned(), Position::default());
        let barrier = OnBarrier { id: 1, to, until, position, answered: true };
        assert!(!barrier.outlived(until + Duration::from_secs(59)));
        assert!(barrier.outlived(until + Duration::from_secs(60)));
    }
}
