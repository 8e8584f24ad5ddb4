//! Changes: who asks, whether it is possible, the record of it, and then the order.

use super::orders::{Order, order};
use super::{Control, reporter};
use crate::control::events::Outcome;
use crate::control::protocol::{Answer, Body, Code, Request, Word};
use crate::control::rights::{self, Standing};
use crate::control::server::{Caller, Gone, Lines};
use crate::runtime::chronicle::{self, Entry};
use crate::runtime::queue::Message;
use crate::runtime::tasks::No;
use crate::sys::clock;
use crate::telemetry::operation_name;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;

/// The protocol thread judges within microseconds, the main thread may have to read files.
const PATIENCE: Duration = Duration::from_secs(10);
/// The answer to an order waits so long for its record to be in the file: on a disk that hangs the log alone has it.
const RECORD: Duration = Duration::from_millis(100);

/// An order that was given.
#[derive(Debug)]
pub(super) struct Given {
    /// Number of the operation.
    pub id: u64,
    /// What happens.
    pub said: String,
    /// Every event since before it was given.
    pub live: Receiver<Arc<Entry>>,
}

/// What came of it, short of an error.
enum Done {
    Given(Given),
    Would(String),
}

/// Why not.
enum Not {
    Refused(No),
    Answer(Answer),
}

impl Control {
    /// Makes the change that `request` asks for, if it may be made.
    pub(super) async fn change(
        &self,
        request: Request,
        caller: Caller,
        standing: Standing,
        lines: &mut Lines,
    ) -> Result<Answer, Gone> {
        let wait = request.how.wait();
        // On its own: a client that goes away leaves neither half an order nor one without a record.
        let (this, done) = (self.clone(), async move |this: Self| {
            this.carry_out(&request, &caller, &standing).await
        });
        let done = tokio::spawn(async move { done(this).await }).await;
        let given = match done {
            Ok(Ok(Done::Given(given))) => given,
            Ok(Ok(Done::Would(message))) => {
                return Ok(Answer::new(Body::Would(Word { operation: None, message })));
            }
            Ok(Err(answer)) => return Ok(answer),
            Err(_) => return Ok(reporter::stopping()),
        };
        match wait {
            Some(wait) => self.follow(given, wait, lines).await,
            None => {
                let operation = Some(operation_name(given.id));
                Ok(Answer::new(Body::Accepted(Word { operation, message: given.said })))
            }
        }
    }

    async fn carry_out(
        &self,
        request: &Request,
        caller: &Caller,
        standing: &Standing,
    ) -> Result<Done, Answer> {
        let record = |outcome, operation, said: &str| {
            self.record(request, caller, standing, outcome, operation, said);
        };
        if !standing.may_change {
            let group = rights::ADMINISTRATORS;
            let said = format!("only root and members of the group {group} may do this");
            record(Outcome::Forbidden, None, &said);
            return Err(Answer::error(Code::Forbidden, said));
        }
        let refused = |not| match not {
            Not::Answer(answer) => answer,
            Not::Refused(no) => {
                let (code, why) = match no {
                    No::Refused(why) => (Code::Refused, why),
                    No::Config(why) => (Code::Config, why),
                };
                if !request.how.dry_run {
                    record(Outcome::Refused, None, first_line(&why));
                }
                Answer::error(code, why)
            }
        };
        let understood = || {
            let order = order(&self.0.facts.in_force.model(), &request.verb);
            order.map_err(|why| Not::Refused(No::Refused(why)))
        };
        let order = understood().map_err(refused)?;
        let (_, live) = self.0.chronicle.follow(0);
        let id = self.number();
        let said = match &order {
            Order::Engine(instance, order) => {
                let (tx, rx) = oneshot::channel();
                let message = Message::Judge { instance: *instance, order: *order, answer: tx };
                self.0.protocol.send(message).map_err(|_| reporter::stopping())?;
                self.verdict(rx, No::Refused).await.map_err(refused)?
            }
            Order::Main(task) => {
                let asked = self.0.tasks.ask(*task, id, request.how.dry_run);
                let asked = asked.ok_or_else(reporter::stopping)?;
                self.verdict(asked, std::convert::identity).await.map_err(refused)?
            }
        };
        if request.how.dry_run {
            return Ok(Done::Would(said));
        }
        record(Outcome::Accepted, Some(id), &said);
        // By the names of now: another configuration may have come into force since it was judged.
        if let Order::Engine(instance, order) = understood().map_err(refused)? {
            // After the record: the history reads in the order in which things happened.
            let message = Message::Order { id, instance, order };
            self.0.protocol.send(message).map_err(|_| reporter::stopping())?;
        }
        // The answer waits, not the order. An agent that is killed from now on finds it when it starts again.
        self.0.chronicle.kept(RECORD).await;
        Ok(Done::Given(Given { id, said, live }))
    }

    async fn verdict<E>(
        &self,
        answer: oneshot::Receiver<Result<String, E>>,
        no: impl FnOnce(E) -> No,
    ) -> Result<String, Not> {
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(verdict)) => verdict.map_err(|e| Not::Refused(no(e))),
            Ok(Err(_)) => Err(Not::Answer(reporter::stopping())),
            Err(_) => Err(Not::Answer(reporter::silent())),
        }
    }

    /// Into the log, the history, and to subscribers.
    fn record(
        &self,
        request: &Request,
        caller: &Caller,
        standing: &Standing,
        outcome: Outcome,
        operation: Option<u64>,
        said: &str,
    ) {
        let verb = request.verb.word();
        let (uid, pid) = (caller.uid, caller.pid.unwrap_or(0));
        let instance = request.verb.instance().unwrap_or_default();
        let subject = if instance.is_empty() { String::new() } else { format!("{instance}: ") };
        let who = match &standing.user {
            Some(user) => format!("{user} (uid {uid}, process {pid})"),
            None => format!("uid {uid} (process {pid})"),
        };
        let reason =
            request.how.reason.as_ref().map(|why| format!(", reason: {why}")).unwrap_or_default();
        let mut auditor = self.0.auditor.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match (outcome, operation.map(operation_name)) {
            (Outcome::Accepted, Some(operation)) => {
                let line =
                    format!("{subject}{verb} ordered by {who}, operation {operation}{reason}");
                auditor.accepted(instance, uid, pid, &line);
                line
            }
            _ => {
                let line = format!("{subject}{verb} refused to {who}: {said}{reason}");
                if !auditor.refused(verb, uid, pid, &line, clock::monotonic()) {
                    // The history is no longer than the log.
                    return;
                }
                line
            }
        };
        drop(auditor);
        self.0.chronicle.change(chronicle::Change {
            instance: request.verb.instance().map(str::to_owned),
            verb,
            uid,
            user: standing.user.clone(),
            pid: caller.pid,
            reason: request.how.reason.clone(),
            outcome,
            operation,
            line,
        });
    }
}

/// What fits into a line of the log.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
