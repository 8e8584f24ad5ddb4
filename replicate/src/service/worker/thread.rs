//! The thread of a set: takes roles, seals what changed, looks after what comes by itself.

mod barrier;

use super::super::pushing::{Others, Pushing};
use super::shared::{Shared, Stand, lock};
use super::{Change, Error, Set, Task, clock};
use barrier::OnBarrier;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;
use vipd_core::time::Instant;
use vipd_replicator::clock::Clock;
use vipd_replicator::set::Scope;
use vipd_replicator::watch::Watch;

/// Between two looks at what comes by itself.
const LOOK: Duration = Duration::from_secs(1);
/// During a barrier: between two looks whether the target has confirmed.
const BARRIER_LOOK: Duration = Duration::from_millis(2);
/// An owner that was told of a newer ownership is one that lets go, unless it goes on owning for so long.
const LETS_GO: Duration = Duration::from_secs(3);
/// Between two removals of what is kept aside for long enough.
const PRUNE: Duration = Duration::from_secs(3600);
/// A set that changes all the time is sealed again after so long a pause at least.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct Thread {
    set: Set,
    shared: Arc<Shared>,
    others: Arc<Others>,
    tasks: Sender<Task>,
    inbox: Receiver<Task>,
    /// What was put on the disk of what the agent says.
    done: Option<Stand>,
    /// It could not be put there.
    unwritten: bool,
    watch: Option<Watch>,
    barrier: Option<OnBarrier>,
    /// Changes came while a barrier held.
    behind: bool,
    /// When to seal everything again, after it did not work.
    seal_again: Option<Instant>,
    /// A guard or a root holds the set back: each look is one at everything, and `seal_again` says when.
    held_back: bool,
    /// A seal failed, and what it did not see waits for a look at everything.
    missed: bool,
    /// Since when another host knows of a newer ownership.
    stale: Option<Instant>,
    drift_at: Instant,
    prune_at: Instant,
}

impl Thread {
    /// For `set`, which is pushed to `others`; it is told things through `queue`.
    pub(super) fn new(
        set: &Set,
        shared: &Arc<Shared>,
        others: Others,
        (tasks, inbox): (Sender<Task>, Receiver<Task>),
    ) -> Self {
        Self {
            set: set.clone(),
            shared: Arc::clone(shared),
            others: Arc::new(others),
            tasks,
            inbox,
            done: None,
            unwritten: false,
            watch: None,
            barrier: None,
            behind: false,
            seal_again: None,
            held_back: false,
            missed: false,
            stale: None,
            drift_at: clock::monotonic(),
            prune_at: clock::monotonic() + PRUNE,
        }
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
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
        if matches!(put, Err(Error::Interrupted)) {
            // The set is closed.
            return;
        }
        // Not on the disk yet: tried again.
        let again = put.is_err().then(|| clock::monotonic() + RETRY);
        if let Err(error) = put {
            self.shared.count(error.kind());
            self.shared.fault("role", error.to_string());
            if stand.owns {
                (self.done, self.watch, self.seal_again) = (None, None, again);
                return;
            }
            // The role has changed all the same.
        } else {
            self.shared.mend("role");
        }
        self.unwritten = again.is_some();
        self.shared.mend("agent");
        self.shared.mend("stale-epoch");
        self.done = Some(stand);
        self.stale = None;
        if !stand.owns {
            self.watch = None;
            self.seal_again = again;
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
        // An owner's files are what they are.
        self.shared.mend("drift");
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
            Change::Due(_) if self.held_back && self.seal_again.is_some() => {}
            Change::Due(scope) => drop(self.seal(&scope)),
            Change::Whole => self.shared.mend("watch"),
            Change::Degraded(why) => self.shared.fault("watch", why),
        }
    }

    /// Makes the next generation; gives whether what is there is sealed.
    fn seal(&mut self, scope: &Scope) -> Result<(), String> {
        let began = Clock::system().steady_ms();
        match self.set.seal(scope) {
            Ok(sealed) => {
                if self.watch.is_none() {
                    // Nobody heard of what changed after it was read: the next look at everything finds it.
                    self.set.dirty(began);
                }
                self.shared.mend("scan");
                let later = clock::monotonic() + RETRY;
                let rest = (!sealed.deferred.is_empty()).then_some(later);
                self.missed &= *scope != Scope::Everything;
                self.seal_again = rest.or_else(|| self.seal_again.filter(|_| self.missed));
                self.held_back = false;
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
            // The set is closed.
            Err(Error::Interrupted) => Err("the replicator stops".to_owned()),
            Err(error) => {
                // The set itself says what its guard or its roots hold back.
                self.held_back = matches!(error, Error::Guard(_) | Error::Root(_));
                self.missed = true;
                if !self.held_back {
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
                Some(stand) if self.done != wanted || self.unwritten => self.take_role(stand),
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
                // This host becomes the owner, or the set is closed.
                Err(Error::Interrupted) => {}
                Err(error) => {
                    // Of what the owner sends then, the roots are opened anew.
                    self.shared.lacking.store(true, Ordering::Relaxed);
                    self.shared.count(error.kind());
                    self.shared.fault("drift", error.to_string());
                }
            }
        }
        match self.set.thin() {
            // A claim, or the end of the set: the next one thins.
            Ok(_) | Err(Error::Interrupted) => {}
            Err(error) => self.shared.count(error.kind()),
        }
        if now >= self.prune_at {
            match self.set.prune() {
                // The rest with the next look, whoever owns by then.
                Ok(true) | Err(Error::Interrupted) => {}
                Ok(false) => self.prune_at = now + PRUNE,
                Err(error) => {
                    self.prune_at = now + PRUNE;
                    self.shared.count(error.kind());
                }
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
