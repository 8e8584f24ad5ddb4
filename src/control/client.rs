//! Asks the running agent; used by the verbs of the command line. Blocking, with time limits.

use super::events::Event;
use super::prediction::Prediction;
use super::protocol::{
    Answer, Body, Complaint, How, LONGEST_ANSWER, Request, VERSION, Verb, WhatIf, Word,
};
use super::status::Status;
use serde::Serialize;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vipd_core::replica::{Ask, Said};

/// Time for each of connecting, asking and reading.
const PATIENCE: Duration = Duration::from_secs(5);
/// The agent may have to read files, and waits itself for what is asked to be waited for.
const PATIENCE_OF_CHANGES: Duration = Duration::from_secs(15);
/// A play of thousands of instances takes its time.
const PATIENCE_OF_PLAYS: Duration = Duration::from_secs(120);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no agent answers on {path}: {error}; is `vipd run` alive, with the same --runtime-dir?"
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
    /// Nobody listens on the socket of the replicator.
    #[error(
        "no replicator answers on {path}: {error}; is vipd-replicate.service running, with the same --runtime-dir?"
    )]
    NoReplicator {
        /// The socket.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
    /// The socket is not for this user.
    #[error(
        "{path}: permission denied; run as root or as a member of the group vipd (reads) or vipd-admin (changes)"
    )]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// The agent says no.
    #[error("{}", .0.message)]
    Refused(Complaint),
    /// The order was given, and then nothing more was heard.
    #[error(
        "operation {operation} may go on: the agent ended the connection ({error}); see `vipd history`"
    )]
    Lost {
        /// The operation.
        operation: String,
        /// What happened.
        error: io::Error,
    },
    /// Not an answer.
    #[error(
        "the agent's answer makes no sense: {0}; do agent and command line have the same version?"
    )]
    Garbled(String),
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The order was given; its end was not waited for.
    Accepted(Word),
    /// It is done.
    Done(Word),
    /// A dry run: this would happen.
    Would(Word),
}

/// The status document of the agent behind `socket`.
///
/// # Errors
/// When nobody answers in time, or not with a status.
pub fn status(socket: &Path) -> Result<Status, ClientError> {
    match Talk::read(socket, Verb::Status {})?.answer()?.body {
        Body::Status(status) => Ok(*status),
        _ => Err(ClientError::Garbled("no status".into())),
    }
}

/// What happened on the host of the agent behind `socket`, oldest first.
///
/// # Errors
/// When nobody answers in time, or not with a history.
pub fn history(
    socket: &Path,
    last: Option<usize>,
    instance: Option<String>,
) -> Result<Vec<Event>, ClientError> {
    match Talk::read(socket, Verb::History { last, instance })?.answer()?.body {
        Body::History(events) => Ok(events),
        _ => Err(ClientError::Garbled("no history".into())),
    }
}

/// What the replicator behind `socket` answers to `ask`. It may have to read every file first.
///
/// # Errors
/// When nobody answers, or not with what was asked for.
pub fn replica(socket: &Path, ask: &Ask) -> Result<Said, ClientError> {
    let patience = match ask {
        Ask::Verify { .. } | Ask::Restore { .. } => None,
        _ => Some(PATIENCE_OF_CHANGES),
    };
    let request = Versioned { v: VERSION, ask };
    let answer = Talk::start(socket, &request, patience).and_then(|mut talk| talk.answer());
    match answer.map_err(of_replicator)?.body {
        Body::Replica(said) => Ok(said),
        _ => Err(ClientError::Garbled("nothing about replicas".into())),
    }
}

/// Another program is meant than where nothing else is said.
fn of_replicator(error: ClientError) -> ClientError {
    match error {
        ClientError::Unreachable { path, error } => ClientError::NoReplicator { path, error },
        other => other,
    }
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    #[serde(flatten)]
    ask: &'a Ask,
}

/// What the agent behind `socket` says would happen.
///
/// # Errors
/// When nobody answers in time, or the event makes no sense there.
pub fn simulate(socket: &Path, event: WhatIf) -> Result<Prediction, ClientError> {
    let request = Request { v: VERSION, verb: Verb::Simulate { event }, how: How::default() };
    match Talk::start(socket, &request, Some(PATIENCE_OF_PLAYS))?.answer()?.body {
        Body::Prediction(prediction) => Ok(*prediction),
        _ => Err(ClientError::Garbled("no prediction".into())),
    }
}

/// Orders `verb`; `on_the_way` hears of the order that was given and of progress when the end is waited for.
///
/// # Errors
/// When nobody answers in time, the agent does not do it, or the end is not seen.
pub fn change(
    socket: &Path,
    verb: Verb,
    how: How,
    mut on_the_way: impl FnMut(&Body),
) -> Result<Changed, ClientError> {
    let wait = how.wait();
    let patience = PATIENCE_OF_CHANGES + wait.unwrap_or_default();
    let mut talk = Talk::start(socket, &Request { v: VERSION, verb, how }, Some(patience))?;
    let mut operation = None;
    loop {
        let body = match (talk.answer(), &operation) {
            (Err(ClientError::Unreachable { error, .. }), Some(operation)) => {
                return Err(ClientError::Lost { operation: String::clone(operation), error });
            }
            (answer, _) => answer?.body,
        };
        match body {
            Body::Done(word) => return Ok(Changed::Done(word)),
            Body::Would(word) => return Ok(Changed::Would(word)),
            Body::Accepted(word) if wait.is_none() => return Ok(Changed::Accepted(word)),
            Body::Accepted(ref word) => operation.clone_from(&word.operation),
            Body::Progress(_) => {}
            _ => return Err(ClientError::Garbled("not about an order".into())),
        }
        on_the_way(&body);
    }
}

/// A connection on which something was asked.
#[derive(Debug)]
pub struct Talk {
    path: PathBuf,
    reader: BufReader<UnixStream>,
    /// What became of asking: an agent that is busy answers and closes without reading, and its answer counts.
    asked: io::Result<()>,
}

impl Talk {
    /// Asks for events of `instance`, after the status document and the newest `last` of the history.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn subscribe(
        socket: &Path,
        last: Option<usize>,
        instance: Option<String>,
    ) -> Result<Self, ClientError> {
        let verb = Verb::Subscribe { last, instance };
        Self::start(socket, &Request { v: VERSION, verb, how: How::default() }, None)
    }

    fn read(socket: &Path, verb: Verb) -> Result<Self, ClientError> {
        Self::start(socket, &Request { v: VERSION, verb, how: How::default() }, Some(PATIENCE))
    }

    fn start(
        socket: &Path,
        request: &impl Serialize,
        patience: Option<Duration>,
    ) -> Result<Self, ClientError> {
        let path = socket.to_owned();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Permission { path: path.clone() },
            _ => ClientError::Unreachable { path: path.clone(), error },
        };
        let mut line =
            serde_json::to_vec(request).map_err(|e| ClientError::Garbled(e.to_string()))?;
        line.push(b'\n');
        let mut stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(patience).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let asked = stream.write_all(&line);
        Ok(Self { path, reader: BufReader::new(stream), asked })
    }

    /// The next line, as it came.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn line(&mut self) -> Result<String, ClientError> {
        let failed = |error| ClientError::Unreachable { path: self.path.clone(), error };
        let mut line = Vec::new();
        let mut bounded = (&mut self.reader).take(LONGEST_ANSWER as u64);
        bounded.read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            std::mem::replace(&mut self.asked, Ok(())).map_err(failed)?;
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        String::from_utf8(line).map_err(|error| ClientError::Garbled(error.to_string()))
    }

    /// The next line, understood.
    ///
    /// # Errors
    /// When none comes in time, or an error does.
    pub fn answer(&mut self) -> Result<Answer, ClientError> {
        understood(&self.line()?)
    }
}

/// `line` as an answer.
///
/// # Errors
/// When it is none, or an error.
pub fn understood(line: &str) -> Result<Answer, ClientError> {
    let answer: Answer =
        serde_json::from_str(line).map_err(|error| ClientError::Garbled(error.to_string()))?;
    match answer.body {
        Body::Error(complaint) => Err(ClientError::Refused(complaint)),
        body => Ok(Answer { body, ..answer }),
    }
}
