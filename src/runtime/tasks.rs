//! What an operator asks for that only the main thread can do: reading the configuration anew, becoming another
//! program.
//!
//! Asked by the handler of the control socket, taken by the main loop. The main loop says yes or no at once, and reports
//! the rest as steps of the operation.

use tokio::sync::{mpsc, oneshot};

/// More than this wait for a main loop that hangs, and for nothing else.
const DEPTH: usize = 16;

/// What is asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Read the configuration anew.
    Reload,
    /// Become the program that is installed now.
    Reexec,
}

/// Why nothing was done, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum No {
    /// It makes no sense here and now.
    Refused(String),
    /// The configuration file cannot be used; nothing has changed.
    Config(String),
}

/// A task that was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// What.
    pub task: Task,
    /// Number of the operation; its steps bear it.
    pub id: u64,
    /// Only say what would happen.
    pub dry_run: bool,
    /// What happens, or why not and what to do. Whoever asked may have gone.
    pub answer: oneshot::Sender<Result<String, No>>,
}

/// The way to the main loop.
#[derive(Clone, Debug)]
pub(super) struct Tasks(mpsc::Sender<Asked>);

impl Tasks {
    /// The two ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (tx, rx) = mpsc::channel(DEPTH);
        (Self(tx), rx)
    }

    /// Asks for `task`; `None`: the main loop has ended or hangs.
    pub(super) fn ask(
        &self,
        task: Task,
        id: u64,
        dry_run: bool,
    ) -> Option<oneshot::Receiver<Result<String, No>>> {
        let (answer, verdict) = oneshot::channel();
        self.0.try_send(Asked { task, id, dry_run, answer }).ok()?;
        Some(verdict)
    }
}
