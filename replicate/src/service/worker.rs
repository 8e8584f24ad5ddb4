//! One set on this host: a thread that makes its files those of the role that the agent named, scans them as owner, and
//! answers barriers ([`thread`]). What it is told while it scans waits in its queue; pushing stops and a tree that comes in stops
//! at once all the same, because the service does that from outside ([`Worker::stand`]).

mod shared;
mod thread;

use super::pushing::Others;
use shared::lock;
pub(super) use shared::{Shared, Stand};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use thread::Thread;
use tokio::sync::mpsc::UnboundedSender;
use vipd_agent::sys::clock;
use vipd_core::replica::{SetReport, Word};
use vipd_core::time::Instant;
use vipd_replicator::error::Error;
use vipd_replicator::set::Set;
use vipd_replicator::watch::Change;

/// Between two looks whether the thread has ended.
const LOOK: Duration = Duration::from_millis(5);

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
        let shared = Arc::new(Shared::new(Arc::clone(&set.config().name), instance, words));
        let (tasks, inbox) = channel();
        let thread = Thread::new(&set, &shared, others, (tasks.clone(), inbox));
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
        // Before anything that waits: from here on the files of an owner are its service's.
        self.set.announce(stand.owns);
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

    /// Has the thread, the sessions and all that goes on in the set end; does not wait.
    pub(super) fn stop(&self) {
        self.stop_pushing();
        self.set.stop();
        self.tell(Task::Stop);
    }

    /// After [`Worker::stop`]: waits until all has ended and the state folder is free, no longer than to `until`. `false`:
    /// somebody still works with it.
    pub(super) fn ended(&self, until: Instant) -> bool {
        let left = || until.since(clock::monotonic());
        if let Some(thread) = lock(&self.thread).take() {
            while !thread.is_finished() && !left().is_zero() {
                std::thread::sleep(LOOK);
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
        self.set.close(left())
    }

    fn tell(&self, task: Task) {
        // A thread that has ended was told to.
        let _ = self.tasks.send(task);
    }
}
