//! Reports of the protocol thread, shared by all who ask: however many clients there are, it is asked a few times a
//! second.

use crate::control::protocol::{Answer, Code};
use crate::runtime::protocol::Report;
use crate::runtime::queue::{Message, Sender};
use crate::sys::clock;
use std::sync::Arc;
use tokio::sync::{Mutex, oneshot};
use vipd_core::time::{Duration, Instant};

/// Time between two reports.
const APART: Duration = Duration::from_millis(50);
/// The protocol thread answers within microseconds; later means that it does not run.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the protocol thread, not too often.
#[derive(Debug)]
pub(super) struct Reporter {
    protocol: Sender,
    /// The last one, and when it was asked for.
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

impl Reporter {
    /// Asks the protocol thread behind `protocol`.
    pub(super) fn new(protocol: Sender) -> Self {
        Self { protocol, last: Mutex::new(None) }
    }

    /// A report that is at most [`APART`] old.
    ///
    /// # Errors
    /// The answer for the client, when the protocol thread does not answer.
    pub(super) async fn recent(&self) -> Result<Arc<Report>, Answer> {
        let now = clock::monotonic();
        self.since(now.before(APART)).await
    }

    /// A report that was made after `when`.
    ///
    /// # Errors
    /// The answer for the client, when the protocol thread does not answer.
    pub(super) async fn since(&self, when: Instant) -> Result<Arc<Report>, Answer> {
        // Whoever waits here finds the report that was made meanwhile.
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last {
            if *at >= when {
                return Ok(Arc::clone(report));
            }
            let next = *at + APART;
            tokio::time::sleep(next.since(clock::monotonic())).await;
        }
        let at = clock::monotonic();
        let report = Arc::new(self.ask().await?);
        *last = Some((at, Arc::clone(&report)));
        Ok(report)
    }

    async fn ask(&self) -> Result<Report, Answer> {
        let (tx, rx) = oneshot::channel();
        self.protocol.send(Message::Report(tx)).map_err(|_| stopping())?;
        match tokio::time::timeout(PATIENCE, rx).await {
            Ok(answer) => answer.map_err(|_| stopping()),
            Err(_) => Err(silent()),
        }
    }
}

/// The agent is about to end.
pub(super) fn stopping() -> Answer {
    Answer::error(Code::Unavailable, "the agent is stopping")
}

/// The protocol thread hangs.
pub(super) fn silent() -> Answer {
    Answer::error(Code::Unavailable, "the protocol thread does not answer")
}
