//! What goes on after the first line: subscriptions, and operations that somebody waits for.

use super::Control;
use super::change::Given;
use crate::control::events::Step;
use crate::control::protocol::{Answer, Body, Code, Complaint, Word};
use crate::control::server::{Gone, Lines};
use crate::runtime::chronicle::{Entry, step_of};
use crate::runtime::report::document;
use crate::sys::clock;
use crate::telemetry::operation_name;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

impl Control {
    /// The status document, the newest `last` of the history, then every event, until the client leaves or is behind.
    pub(super) async fn subscribe(
        &self,
        last: usize,
        instance: Option<&str>,
        lines: &mut Lines,
    ) -> Result<Answer, Gone> {
        let shared = &self.0;
        let Ok(_seat) = Arc::clone(&shared.subscribers).try_acquire_owned() else {
            return Ok(Answer::error(Code::Busy, "too many subscribers; try again"));
        };
        // Listens before it looks: what happens in between comes twice rather than never.
        let (past, mut live) = shared.chronicle.follow(last);
        let snapshot = match shared.reporter.since(clock::monotonic()).await {
            Ok(report) => Answer::status(document(&shared.facts, &report)),
            Err(unanswered) => return Ok(unanswered.into()),
        };
        lines.send(&snapshot).await?;
        for entry in past.iter().filter(|entry| entry.concerns(instance)) {
            lines.send(&event(entry)).await?;
        }
        loop {
            match live.recv().await {
                Ok(entry) if entry.concerns(instance) => lines.send(&event(&entry)).await?,
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    let said = format!("missed {missed} events: too slow; subscribe again");
                    return Ok(Answer::error(Code::TooSlow, said));
                }
                Err(RecvError::Closed) => return Ok(super::reporter::stopping()),
            }
        }
    }

    /// Tells the client how the operation goes on, until it ends or `wait` is over.
    pub(super) async fn follow(
        &self,
        given: Given,
        wait: Duration,
        lines: &mut Lines,
    ) -> Result<Answer, Gone> {
        let name = operation_name(given.id);
        let word = |text: &str| Word { operation: Some(name.clone()), message: text.to_owned() };
        lines.send(&Answer::new(Body::Accepted(word(&given.said)))).await?;
        let mut live = given.live;
        let end = async {
            loop {
                match self.next_step(&mut live, &name).await {
                    Some((Step::Done, text)) => return Ok(Answer::new(Body::Done(word(&text)))),
                    Some((Step::Aborted, text)) => return Ok(failed(Code::Aborted, &name, text)),
                    Some((Step::Started, _)) => {}
                    Some((Step::Progress, text)) => {
                        lines.send(&Answer::new(Body::Progress(word(&text)))).await?;
                    }
                    None => {
                        let text = "the agent is stopping".to_owned();
                        return Ok(failed(Code::OutcomeUnknown, &name, text));
                    }
                }
            }
        };
        tokio::time::timeout(wait, end).await.unwrap_or_else(|_| {
            let text = format!(
                "operation {name} goes on: no end within {} s; see `vipd events -f`",
                wait.as_secs_f64()
            );
            Ok(failed(Code::OutcomeUnknown, &name, text))
        })
    }

    /// The next step of `operation`; `None`: nothing more is told.
    async fn next_step(
        &self,
        live: &mut Receiver<Arc<Entry>>,
        operation: &str,
    ) -> Option<(Step, String)> {
        let owned = |(step, text): (Step, &str)| (step, text.to_owned());
        loop {
            match live.recv().await {
                Ok(entry) => {
                    if let Some(step) = step_of(&entry, operation) {
                        return Some(owned(step));
                    }
                }
                // Behind: the end, if it was among what is lost, is in the history.
                Err(RecvError::Lagged(_)) => {
                    let history = self.0.chronicle.history();
                    let end = history.iter().rev().find_map(|entry| step_of(entry, operation));
                    if let Some(end) = end {
                        return Some(owned(end));
                    }
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn event(entry: &Entry) -> Answer {
    Answer::new(Body::Event(Box::new(entry.document())))
}

fn failed(code: Code, operation: &str, message: String) -> Answer {
    let operation = Some(operation.to_owned());
    Answer::new(Body::Error(Complaint { code, message, operation }))
}
