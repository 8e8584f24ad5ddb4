//! Asks the running agent; used by the verbs of the command line. Blocking, with time limits.

use super::protocol::{Answer, Body, Complaint, LONGEST_ANSWER, Request, VERSION, Verb};
use super::status::Status;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for each of connecting, asking and reading.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// The socket is not for this user.
    #[error("{path}: permission denied; run as root or as a member of the group of the socket")]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// The agent says no.
    #[error("the agent says: {}", .0.message)]
    Refused(Complaint),
    /// Not an answer.
    #[error(
        "the agent's answer makes no sense: {0}; do agent and command line have the same version?"
    )]
    Garbled(String),
}

/// The status document of the agent behind `socket`.
///
/// # Errors
/// When nobody answers in time, or not with a status.
pub fn status(socket: &Path) -> Result<Status, ClientError> {
    match ask(socket, Verb::Status {})? {
        Body::Status(status) => Ok(*status),
        Body::Error(complaint) => Err(ClientError::Refused(complaint)),
        Body::Done(_) => Err(ClientError::Garbled("no status".into())),
    }
}

/// Orders `verb`; gives the agent's sentence.
///
/// # Errors
/// When nobody answers in time, or the agent does not do it.
pub fn order(socket: &Path, verb: Verb) -> Result<String, ClientError> {
    match ask(socket, verb)? {
        Body::Done(text) => Ok(text),
        Body::Error(complaint) => Err(ClientError::Refused(complaint)),
        Body::Status(_) => Err(ClientError::Garbled("a status for an order".into())),
    }
}

fn ask(socket: &Path, verb: Verb) -> Result<Body, ClientError> {
    let request = Request { v: VERSION, verb };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Permission { path: socket.to_owned() },
        _ => ClientError::Unreachable { path: socket.to_owned(), error },
    };
    let garbled = |error: serde_json::Error| ClientError::Garbled(error.to_string());
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut line = serde_json::to_vec(&request).map_err(garbled)?;
    line.push(b'\n');
    // A busy agent answers and closes without reading: its answer counts, not the broken pipe.
    let asked = stream.write_all(&line);
    let mut answer = Vec::new();
    BufReader::new(stream.take(LONGEST_ANSWER as u64))
        .read_until(b'\n', &mut answer)
        .map_err(failed)?;
    if answer.is_empty() {
        asked.map_err(failed)?;
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&answer).map(|answer: Answer| answer.body).map_err(garbled)
}
