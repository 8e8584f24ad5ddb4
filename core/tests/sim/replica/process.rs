//! The replicator of one host, the service that writes there, and what its agent knows of the replicator: data only.
//! What happens to them: `drive`.

use super::disk::{Disk, Position, Record};
use vipd_core::engine::io::{Memory, ReplicaState};
use vipd_core::engine::snapshot::RoleView;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::Epoch;

/// What the agent says of this host.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) owns: bool,
    pub(crate) epoch: Epoch,
}

impl From<RoleView> for Stand {
    fn from(role: RoleView) -> Self {
        Self { owns: role.owns, epoch: role.epoch }
    }
}

/// A connection to another host, as its sender knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// What is on its way, by number; 0: nothing.
    pub(crate) busy: u64,
    /// What the other host has.
    pub(crate) has: Option<Position>,
    /// No offer before.
    pub(crate) hold: Instant,
    /// Next word that it has everything.
    pub(crate) current_at: Instant,
}

/// A barrier that is on.
#[derive(Clone, Debug)]
pub(crate) struct Barrier {
    pub(crate) order: u64,
    pub(crate) to: usize,
    pub(crate) until: Instant,
    pub(crate) position: Position,
    pub(crate) answered: bool,
}

/// What a running replicator knows beside its disk.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// Which run of a replicator it is.
    pub(crate) run: u64,
    /// The agent answers; else since when it does not.
    pub(crate) agent: Result<(), Instant>,
    pub(crate) stand: Option<Stand>,
    /// The ownership that it has taken up.
    pub(crate) claimed: Option<Epoch>,
    /// Takes trees of others: goes on with that while the agent is away.
    pub(crate) receives: bool,
    /// Tries again then to take up its role, which its disk calls outdated.
    pub(crate) claim_again: Option<Instant>,
    /// A host knows of a newer ownership: nothing is pushed any more under that one.
    pub(crate) stopped: bool,
    /// The owner said then that this host has everything.
    pub(crate) fresh: Option<Instant>,
    pub(crate) pending: u64,
    pub(crate) dirty_since: Option<Instant>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) barrier: Option<Barrier>,
    /// What the last report said, and when it was.
    pub(crate) reported: (Instant, Outline),
}

/// What makes a report news.
pub(crate) type Outline = (bool, Epoch, bool, bool);

impl Process {
    pub(crate) fn new(run: u64, now: Instant, hosts: usize) -> Self {
        Self {
            run,
            agent: Err(now),
            stand: None,
            claimed: None,
            receives: false,
            claim_again: None,
            stopped: false,
            fresh: None,
            pending: 0,
            dirty_since: None,
            sessions: vec![Session::default(); hosts],
            barrier: None,
            reported: (now, Outline::default()),
        }
    }

    pub(crate) fn owns(&self) -> bool {
        self.stand.is_some_and(|stand| stand.owns)
    }

    /// Pushes, under this ownership.
    pub(crate) fn pushes(&self) -> Option<Epoch> {
        let stand = self.stand.filter(|stand| stand.owns && !self.stopped)?;
        self.claimed.filter(|epoch| *epoch == stand.epoch)
    }

    /// What is on its way is not any more.
    pub(crate) fn stop_pushing(&mut self) {
        self.sessions.fill(Session::default());
    }

    pub(crate) fn outline(&self, disk: &Disk) -> Outline {
        (self.owns(), disk.position.epoch, self.fresh.is_some(), self.pending > 0)
    }

    /// How the copy stands, by its own figures.
    pub(crate) fn figures(&self, now: Instant) -> ReplicaState {
        let age = match self.owns() {
            true => Some(Duration::ZERO),
            false => self.fresh.map(|at| now - at),
        };
        ReplicaState { age, pending: self.pending }
    }
}

/// The program whose files follow the address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    /// Started because this host owns; and whether it is meant to be.
    pub(crate) runs: bool,
    pub(crate) wanted: bool,
    /// Made quiet by the hook before a move.
    pub(crate) quiet: bool,
    /// Records so far.
    pub(crate) written: u32,
}

impl Service {
    pub(crate) fn write(&mut self, host: usize) -> Record {
        self.written += 1;
        Record { host, number: self.written }
    }
}

/// What the agent of a host knows of its replicator, and of its own disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// The last role that the engine told.
    pub(crate) role: Option<RoleView>,
    /// When the replicator spoke last, or the agent started.
    pub(crate) heard: Instant,
    pub(crate) missing: bool,
    /// What is about to be stored, and the number of the attempt.
    pub(crate) storing: Option<(u64, Memory)>,
}

/// A planned move that waits for its state, as seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) order: u64,
    pub(crate) to: usize,
    pub(crate) since: Instant,
    /// What the source had when its writer was quiet.
    pub(crate) owed: Option<Vec<Record>>,
    /// The answer.
    pub(crate) passed: Option<bool>,
}

/// All that a host has for its set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    pub(crate) service: Service,
    pub(crate) books: Books,
    pub(crate) moving: Option<Move>,
    /// Faults that want the replicator down, slow, the agent's disk read-only: counters, they may overlap.
    pub(crate) down: u32,
    pub(crate) slow: u32,
    pub(crate) unwritable: u32,
}
