//! JSON lines: `{"v":1,"verb":"status"}` -> `{"v":1,"status":{..}}`; `docs/control.md` is the reference for clients.
//!
//! Parsing never fails silently: whatever arrives gets an answer that says what was wrong with it.

mod verb;
mod what_if;

use super::events::Event;
use super::prediction::Prediction;
use super::status::Status;
use serde::{Deserialize, Serialize};
use std::time::Duration;
pub use verb::Verb;
use vipd_core::replica::Said;
pub use what_if::WhatIf;

/// Version of the protocol; another one is answered with an error that names this one.
pub const VERSION: u32 = 1;
/// Longest request in octets, its newline included.
pub const LONGEST_REQUEST: usize = 64 * 1024;
/// Longest answer that a client reads, in octets.
pub const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// Longest reason, in characters: it goes into the log and into the history.
pub const LONGEST_REASON: usize = 200;
/// Longest time that an answer may be waited for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Request {
    /// [`VERSION`].
    pub v: u32,
    /// What is asked.
    #[serde(flatten)]
    pub verb: Verb,
    /// How a change is made.
    #[serde(flatten)]
    pub how: How,
}

/// What every verb that changes something takes; verbs that read take none of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct How {
    /// Why, in the operator's words: for the log and the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only say what would happen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Follow the operation to its end, for so many seconds at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<f64>,
}

impl How {
    /// How long to follow the operation.
    pub fn wait(&self) -> Option<Duration> {
        self.wait_s.map(|s| Duration::try_from_secs_f64(s).unwrap_or(LONGEST_WAIT))
    }
}

/// One line from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`].
    pub v: u32,
    /// What came of it.
    #[serde(flatten)]
    pub body: Body,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// The answer to [`Verb::Status`], and the first line of a subscription.
    Status(Box<Status>),
    /// The answer to [`Verb::History`], oldest first.
    History(Vec<Event>),
    /// A line of a subscription.
    Event(Box<Event>),
    /// The answer to [`Verb::Simulate`].
    Prediction(Box<Prediction>),
    /// The order was given. The last line, unless its end is waited for.
    Accepted(Word),
    /// On the way to its end.
    Progress(Word),
    /// It is done.
    Done(Word),
    /// A dry run: what would happen.
    Would(Word),
    /// Of the replicator, on its own socket.
    Replica(Said),
    /// Nothing was done, or it did not come to its end.
    Error(Complaint),
}

/// A sentence about an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The operation, when one runs or ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// For people.
    pub message: String,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
    /// The operation, where one was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// Kinds of errors.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Not JSON, not an object, a field missing, unknown or of another type, an unknown verb.
    Malformed,
    /// Another version of the protocol.
    Version,
    /// More than [`LONGEST_REQUEST`] octets without a newline.
    TooLong,
    /// Too many connections or subscribers; try again.
    Busy,
    /// No complete request in time.
    TimedOut,
    /// A subscriber that did not take its events in time: some are missing.
    TooSlow,
    /// The agent cannot answer now: it is starting or stopping.
    Unavailable,
    /// Not by this user.
    Forbidden,
    /// It makes no sense here and now; the message says why, and what to do.
    Refused,
    /// The configuration file cannot be used; the message names the line and the fix. Nothing has changed.
    Config,
    /// The operation began and did not come to its end.
    Aborted,
    /// The operation goes on, or nobody knows: its end was not seen in the time that was given.
    OutcomeUnknown,
}

impl Answer {
    /// Of this version.
    pub const fn new(body: Body) -> Self {
        Self { v: VERSION, body }
    }

    /// An error.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Body::Error(Complaint { code, message: message.into(), operation: None }))
    }

    /// The status document.
    pub fn status(status: Status) -> Self {
        Self::new(Body::Status(Box::new(status)))
    }

    /// As a line with its newline.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_else(|_| {
            // Only maps whose keys are no strings cannot be written, and none of ours is one.
            br#"{"v":1,"error":{"code":"unavailable","message":"the answer is not JSON"}}"#.to_vec()
        });
        line.push(b'\n');
        line
    }
}

/// The request in `line`, with or without its newline.
///
/// # Errors
/// The answer to send instead.
pub fn parse(line: &[u8]) -> Result<Request, Answer> {
    let mut fields: Fields =
        serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
    // The version first: a later version may have fields that this one does not know.
    let v: u32 = take(&mut fields, "v")?;
    if v != VERSION {
        let message = format!("version {v} was asked for, this agent speaks version {VERSION}");
        return Err(Answer::error(Code::Version, message));
    }
    let how = How {
        reason: take(&mut fields, "reason")?,
        dry_run: take::<Option<bool>>(&mut fields, "dry_run")?.unwrap_or(false),
        wait_s: take(&mut fields, "wait_s")?,
    };
    let verb: Verb =
        serde_json::from_value(fields.into()).map_err(|error| malformed(error.to_string()))?;
    if !verb.changes() && how != How::default() {
        let word = verb.word();
        return Err(malformed(format!("{word} changes nothing: no reason, dry_run or wait_s")));
    }
    how.check().and_then(|()| verb.check()).map_err(malformed)?;
    Ok(Request { v, verb, how })
}

type Fields = serde_json::Map<String, serde_json::Value>;

fn malformed(message: String) -> Answer {
    Answer::error(Code::Malformed, message)
}

/// Field `name`; `null` when it is missing.
fn take<T: serde::de::DeserializeOwned>(fields: &mut Fields, name: &str) -> Result<T, Answer> {
    serde_json::from_value(fields.remove(name).unwrap_or_default())
        .map_err(|error| malformed(format!("field `{name}`: {error}")))
}

impl How {
    /// Is it within its bounds?
    fn check(&self) -> Result<(), String> {
        if let Some(reason) = &self.reason {
            if reason.chars().count() > LONGEST_REASON {
                return Err(format!("field `reason`: at most {LONGEST_REASON} characters"));
            }
            // It becomes part of a log line.
            if reason.chars().any(char::is_control) {
                return Err("field `reason`: one line, without control characters".into());
            }
        }
        verb::check_seconds("wait_s", self.wait_s, LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests;
