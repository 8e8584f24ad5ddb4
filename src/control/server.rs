//! Serves the control socket on the main thread of the agent.
//!
//! Every resource has a bound: connections, octets of a line, time to say it, time to take the answer. A client
//! can make itself wait, never the agent. Nothing here touches the protocol thread but the [`Handler`].

use super::protocol::{Answer, Code, LONGEST_REQUEST, Request, parse};
use crate::sys::file;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Answers requests; the runtime implements it.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The answer to `request` of `caller`. It is dropped when the client goes away.
    fn answer(&self, request: Request, caller: Caller) -> impl Future<Output = Answer> + Send;
}

/// Who asks, by the kernel's word (`SO_PEERCRED`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Process, where the kernel tells.
    pub pid: Option<i32>,
}

/// Bounds of the server.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Connections at a time; further ones are told that the agent is busy.
    pub connections: usize,
    /// From the connection, or the last answer, to the next complete line.
    pub request: Duration,
    /// From the answer to its last octet taken.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 32, request: Duration::from_secs(10), answer: Duration::from_secs(5) }
    }
}

/// Owner and group may read and write: those are the readers of the status.
const MODE: u32 = 0o660;
/// What is thrown away of a line that is too long, so that the client can read why.
const DISCARD_AT_MOST: u64 = 4 * 1024 * 1024;

/// The socket; its file goes with it.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    limits: Limits,
}

impl Server {
    /// Listens on `path`. What an earlier agent left there is replaced: the caller holds the lock of the folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn bind(path: &Path, limits: Limits) -> io::Result<Self> {
        let listener = UnixListener::from_std(file::listen(path, MODE)?)?;
        Ok(Self { listener, path: path.to_owned(), limits })
    }

    /// Serves until dropped.
    pub async fn serve(self, handler: impl Handler) {
        let seats = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of file descriptors: the ones in use end by their own time limits.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            match Arc::clone(&seats).try_acquire_owned() {
                Ok(seat) => drop(tokio::spawn(attend(stream, self.limits, handler.clone(), seat))),
                Err(_) => turn_away(&stream),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone: somebody cleaned the folder.
        let _ = fs::remove_file(&self.path);
    }
}

/// Says "busy" without waiting for anything.
fn turn_away(stream: &UnixStream) {
    let line = Answer::error(Code::Busy, "too many connections; try again").line();
    // A new socket takes a short line at once; where it does not, closing it is the answer.
    let _ = stream.try_write(&line);
}

/// One client, request by request, until it leaves, errs or is too slow.
async fn attend(
    mut stream: UnixStream,
    limits: Limits,
    handler: impl Handler,
    seat: OwnedSemaphorePermit,
) {
    let Ok(peer) = stream.peer_cred() else { return };
    let caller = Caller { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() };
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(LONGEST_REQUEST as u64);
        let (answer, goes_on) = match timeout(limits.request, bounded.read_until(b'\n', &mut line))
            .await
        {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) if line.ends_with(b"\n") => match parse(&line) {
                Ok(request) => (handler.answer(request, caller).await, true),
                Err(complaint) => (complaint, true),
            },
            Ok(Ok(_)) if line.len() >= LONGEST_REQUEST => {
                let message = format!("a request has at most {LONGEST_REQUEST} octets");
                (Answer::error(Code::TooLong, message), false)
            }
            Ok(Ok(_)) => (Answer::error(Code::Malformed, "a request ends with a newline"), false),
            Err(_) => {
                let message =
                    format!("no complete request within {} s", limits.request.as_secs_f32());
                (Answer::error(Code::TimedOut, message), false)
            }
        };
        let sent = timeout(limits.answer, writer.write_all(&answer.line())).await;
        if !goes_on || !matches!(sent, Ok(Ok(()))) {
            // Closing with unread octets would reset the connection before the client has read why.
            let mut rest = (&mut reader).take(DISCARD_AT_MOST);
            let mut sink = tokio::io::sink();
            let _ = writer.shutdown().await;
            let _ = timeout(limits.answer, tokio::io::copy(&mut rest, &mut sink)).await;
            break;
        }
    }
    drop(seat);
}

#[cfg(test)]
mod tests;
