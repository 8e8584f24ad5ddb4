//! The handler of the control socket: reads for everybody who reached it, changes for who may, all on record.
//!
//! Runs on the main thread. The protocol thread hears of a change once it is understood, judges it with the engine and
//! takes it or refuses it in one go; it is asked for a report at most every [`reporter::APART`], however many ask.

mod change;
mod orders;
pub(super) mod reporter;
mod simulate;
mod stream;

use super::chronicle::Chronicle;
use super::queue::Sender;
use super::report::{Facts, document};
use super::tasks::Tasks;
use crate::control::protocol::{Answer, Body, Request, Verb, parse};
use crate::control::rights;
use crate::control::server::{Caller, Gone, Handler, Lines, Wire};
use crate::telemetry::Auditor;
use reporter::Reporter;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Subscribers at a time: they hold their seats, and others want to sit down.
const SUBSCRIBERS: usize = 32;
/// Simulations at a time: each may keep a processor busy for a while.
const PLAYS: usize = 1;

/// Answers requests of the control socket. A clone is the same handler.
#[derive(Clone, Debug)]
pub(super) struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    facts: Facts,
    protocol: Sender,
    reporter: Reporter,
    chronicle: Chronicle,
    tasks: Tasks,
    auditor: Mutex<Auditor>,
    subscribers: Arc<Semaphore>,
    plays: Arc<Semaphore>,
    /// Number of this start of the agent.
    boot: u64,
    /// Number of the last operation.
    operations: AtomicU32,
}

impl Control {
    /// For the agent of start number `boot`.
    pub(super) fn new(
        facts: Facts,
        protocol: Sender,
        chronicle: Chronicle,
        tasks: Tasks,
        boot: u64,
    ) -> Self {
        Self(Arc::new(Shared {
            reporter: Reporter::new(protocol.clone()),
            facts,
            protocol,
            chronicle,
            tasks,
            auditor: Mutex::default(),
            subscribers: Arc::new(Semaphore::new(SUBSCRIBERS)),
            plays: Arc::new(Semaphore::new(PLAYS)),
            boot,
            operations: AtomicU32::new(0),
        }))
    }
}

impl Handler for Control {
    type Request = Request;

    fn parse(line: &[u8]) -> Result<Request, Answer> {
        parse(line)
    }

    fn takes_over(request: &Request) -> bool {
        matches!(request.verb, Verb::Replicate {})
    }

    async fn converse(&self, caller: Caller, wire: Wire) {
        self.0.facts.replication.converse(caller, wire).await;
    }

    async fn answer(
        &self,
        request: Request,
        caller: Caller,
        lines: &mut Lines,
    ) -> Result<Answer, Gone> {
        match request.verb {
            Verb::Status {} => Ok(self.status().await),
            Verb::History { last, instance } => Ok(self.history(last, instance.as_deref())),
            Verb::Subscribe { last, instance } => {
                self.subscribe(last.unwrap_or(0), instance.as_deref(), lines).await
            }
            Verb::Simulate { event } => Ok(self.simulate(&event).await),
            _ => {
                let standing = rights::standing(&caller).await;
                self.change(request, caller, standing, lines).await
            }
        }
    }
}

impl Control {
    async fn status(&self) -> Answer {
        // Whoever was told of a change sees it.
        match self.0.reporter.recent_after(self.0.chronicle.newest()).await {
            Ok(report) => Answer::status(document(&self.0.facts, &report)),
            Err(unanswered) => unanswered.into(),
        }
    }

    fn history(&self, last: Option<usize>, instance: Option<&str>) -> Answer {
        let all = self.0.chronicle.history();
        let of: Vec<_> = all.iter().filter(|entry| entry.concerns(instance)).collect();
        let skip = of.len().saturating_sub(last.unwrap_or(usize::MAX));
        let documents = of.into_iter().skip(skip).map(|entry| entry.document());
        Answer::new(Body::History(documents.collect()))
    }

    /// The number of a new operation: of this start in the upper half, so that it names one operation for good.
    fn number(&self) -> u64 {
        let n = self.0.operations.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        (self.0.boot << 32) | u64::from(n)
    }
}
