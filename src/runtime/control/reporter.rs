//! Reports of the protocol thread, shared by all who ask: however many clients there are, it is asked a few times a
//! second.

use crate::control::protocol::{Answer, Code};
use crate::runtime::protocol::Report;
use crate::runtime::queue::{Sender, Unanswered};
use crate::sys::clock;
use std::sync::Arc;
use tokio::sync::Mutex;
use vipd_core::time::{Duration, Instant};

/// Time between two reports.
const APART: Duration = Duration::from_millis(50);
/// The protocol thread answers within microseconds; later means that it does not run.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the protocol thread, not too often.
#[derive(Debug)]
pub(in crate::runtime) struct Reporter {
    protocol: Sender,
    /// The last one, and when it was asked for.
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

impl Reporter {
    /// Asks the protocol thread behind `protocol`.
    pub(in crate::runtime) fn new(protocol: Sender) -> Self {
        Self { protocol, last: Mutex::new(None) }
    }

    /// A report that is at most [`APART`] old.
    ///
    /// # Errors
    /// When the protocol thread has ended or does not answer.
    pub(in crate::runtime) async fn recent(&self) -> Result<Arc<Report>, Unanswered> {
        self.recent_after(Instant::ZERO).await
    }

    /// The same, and not older than `event`.
    ///
    /// # Errors
    /// When the protocol thread has ended or does not answer.
    pub(super) async fn recent_after(&self, event: Instant) -> Result<Arc<Report>, Unanswered> {
        let now = clock::monotonic();
        self.since(now.before(APART).max(event)).await
    }

    /// A report that was made after `when`.
    ///
    /// # Errors
    /// When the protocol thread has ended or does not answer.
    pub(in crate::runtime) async fn since(&self, when: Instant) -> Result<Arc<Report>, Unanswered> {
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
        let report = Arc::new(self.protocol.ask(PATIENCE).await?);
        *last = Some((at, Arc::clone(&report)));
        Ok(report)
    }
}

impl From<Unanswered> for Answer {
    fn from(why: Unanswered) -> Self {
        Self::error(Code::Unavailable, why.to_string())
    }
}

/// The agent is about to end.
pub(super) fn stopping() -> Answer {
    Unanswered::Stopping.into()
}

/// The protocol thread hangs.
pub(super) fn silent() -> Answer {
    Unanswered::Silent.into()
}
