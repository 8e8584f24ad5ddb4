//! How the process ends: for good, or for another one to go on (DESIGN 5.5, 5.7).
//!
//! Owned by the main loop, which polls [`Ending::next`] beside everything else and does what it says. Nothing is
//! prepared before it is known that the successor would run.

use super::manager;
use super::queue::{Message, Sender};
use super::successor::Successor;
use super::tasks::{Asked, No};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vipd_core::engine::io::OperationStep;

/// Three adverts and a renewal take a quarter of a second; whoever is not ready by then has something else to do.
const PREPARATION: Duration = Duration::from_secs(3);

/// Where it is.
#[derive(Debug)]
enum Phase {
    Running,
    /// The engine prepares; ready, the protocol thread ends.
    Preparing {
        since: Instant,
        /// The operator's operation.
        operation: Option<u64>,
        /// The service manager starts the next one, in a process of its own.
        managed: bool,
    },
    Stopping {
        since: Instant,
    },
}

/// What the main loop has to do.
#[derive(Debug)]
pub(super) enum Turn {
    /// Begin the clean stop.
    Stop,
    /// Tell of an operation.
    Tell(u64, OperationStep),
    /// The clean stop did not finish in time.
    OutOfPatience,
}

/// What follows a protocol thread that is ready for another agent.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// The operation that ends with it.
    pub operation: Option<u64>,
    /// In a process of its own.
    pub managed: bool,
    /// Somebody wanted this process to end: the next agent has to look into that.
    pub terminate: bool,
}

/// The end, as far as it is known.
#[derive(Debug)]
pub(super) struct Ending {
    phase: Phase,
    successor: Successor,
    engine: Sender,
    /// Longest clean stop.
    patience: Duration,
    /// What SIGTERM means is being found out: true is a restart.
    meaning: Option<JoinHandle<bool>>,
    /// The successor is being looked at, for somebody.
    looking: Option<JoinHandle<(Asked, Result<String, String>)>>,
}

impl Ending {
    /// Nothing ends yet; a clean stop may take `patience`.
    pub(super) fn new(successor: Successor, engine: Sender, patience: Duration) -> Self {
        let phase = Phase::Running;
        Self { phase, successor, engine, patience, meaning: None, looking: None }
    }

    /// Has the clean stop begun?
    pub(super) fn stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping { .. })
    }

    /// Does the process go on as it is, as far as is known?
    pub(super) fn running(&self) -> bool {
        matches!(self.phase, Phase::Running) && self.looking.is_none() && self.meaning.is_none()
    }

    /// A clean stop may take this long under another configuration.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// An operator wants the program that is installed now to go on.
    pub(super) fn reexec(&mut self, asked: Asked) {
        let busy = match self.phase {
            Phase::Stopping { .. } => Some("the agent is stopping"),
            Phase::Preparing { .. } => Some("a restart is under way"),
            Phase::Running => self.looking.as_ref().map(|_| "a restart is under way"),
        };
        if let Some(busy) = busy {
            let _ = asked.answer.send(Err(No::Refused(busy.into())));
            return;
        }
        let successor = self.successor.clone();
        self.looking = Some(tokio::spawn(async move {
            let checked = successor.check().await;
            (asked, checked)
        }));
    }

    /// SIGTERM: the end, unless the service manager is about to start the unit again, and could.
    pub(super) fn terminate(&mut self) {
        if self.meaning.is_some() || self.stopping() {
            return;
        }
        let successor = self.successor.clone();
        self.meaning = Some(tokio::spawn(async move {
            if !manager::wants_restart().await {
                return false;
            }
            let able = successor.check().await;
            if let Err(why) = &able {
                tracing::error!("restart: {why}: hands over and stops instead");
            }
            able.is_ok()
        }));
    }

    /// The end without a question, because of `cause`; `None`: it has begun.
    pub(super) fn stop(&mut self, cause: &str) -> Option<Turn> {
        (!self.stopping()).then(|| {
            tracing::info!("{cause}: handing over");
            self.phase = Phase::Stopping { since: Instant::now() };
            Turn::Stop
        })
    }

    /// What to do next; waits until there is something. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Turn {
        loop {
            let late = match &self.phase {
                Phase::Running => None,
                Phase::Preparing { since, .. } => Some(*since + PREPARATION),
                Phase::Stopping { since } => Some(*since + self.patience),
            };
            let turn = tokio::select! {
                restart = end_of(&mut self.meaning) => {
                    self.meaning = None;
                    self.meant(restart.unwrap_or(false))
                }
                looked = end_of(&mut self.looking) => {
                    self.looking = None;
                    looked.ok().and_then(|(asked, checked)| self.looked(asked, checked))
                }
                () = at(late) => self.late(),
            };
            if let Some(turn) = turn {
                return turn;
            }
        }
    }

    /// The protocol thread was ready and has ended: who goes on? `None`: it was not asked to.
    pub(super) fn replaced(&self) -> Option<Next> {
        let Phase::Preparing { operation, managed, .. } = self.phase else { return None };
        Some(Next { operation, managed, terminate: self.meaning.is_some() })
    }

    fn meant(&mut self, restart: bool) -> Option<Turn> {
        match &mut self.phase {
            _ if !restart => self.stop("SIGTERM"),
            Phase::Preparing { managed, .. } => {
                *managed = true;
                None
            }
            Phase::Running => {
                tracing::info!("SIGTERM: to be started again, keeps its addresses");
                self.prepare(None, true);
                None
            }
            Phase::Stopping { .. } => None,
        }
    }

    fn looked(&mut self, asked: Asked, checked: Result<String, String>) -> Option<Turn> {
        let version = match checked {
            Ok(version) if matches!(self.phase, Phase::Running) => version,
            Ok(_) => {
                let _ = asked.answer.send(Err(No::Refused("the agent is stopping".into())));
                return None;
            }
            Err(why) => {
                let _ = asked.answer.send(Err(No::Refused(why)));
                return None;
            }
        };
        let answer = Ok(format!("{version} goes on; addresses stay, peers see no change"));
        // Nobody waits for it any more: not done either.
        if asked.answer.send(answer).is_err() || asked.dry_run {
            return None;
        }
        self.prepare(Some(asked.id), false);
        Some(Turn::Tell(asked.id, OperationStep::Started))
    }

    fn prepare(&mut self, operation: Option<u64>, managed: bool) {
        self.phase = Phase::Preparing { since: Instant::now(), operation, managed };
        // A protocol thread that has ended says so by itself.
        let _ = self.engine.send(Message::PrepareRestart);
    }

    fn late(&mut self) -> Option<Turn> {
        match self.phase {
            Phase::Preparing { operation, managed: false, .. } => {
                self.phase = Phase::Running;
                let _ = self.engine.send(Message::AbortRestart);
                let why = "addresses or adverts did not settle, or a move is under way: see `vipd status`, try again";
                operation.map(|id| Turn::Tell(id, OperationStep::Aborted(why.into())))
            }
            Phase::Preparing { .. } => self.stop("cannot be started anew without a gap"),
            _ => Some(Turn::OutOfPatience),
        }
    }
}

async fn end_of<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
