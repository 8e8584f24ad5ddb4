//! Serves the control socket on the main thread of the agent, and the replicator's socket on the main thread of that.
//!
//! Every resource has a bound: connections, octets of a line, time to say it, time to take the answer. A client
//! can make itself wait, never the agent. Nothing here touches the protocol thread but the [`Handler`].

mod seats;

use super::protocol::{Answer, Body, Code, LONGEST_ANSWER, LONGEST_REQUEST};
use super::rights;
use crate::sys::{file, peer};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use seats::Seats;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Answers requests; the runtime implements it.
pub trait Handler: Clone + Send + Sync + 'static {
    /// What it understands.
    type Request: Send;

    /// The request in `line`.
    ///
    /// # Errors
    /// The answer to send instead.
    fn parse(line: &[u8]) -> Result<Self::Request, Answer>;

    /// The last line of the answer to `request` of `caller`; what comes before it goes through `lines`, which may fail.
    /// It is dropped when the client goes away.
    fn answer(
        &self,
        request: Self::Request,
        caller: Caller,
        lines: &mut Lines,
    ) -> impl Future<Output = Result<Answer, Gone>> + Send;

    /// Is the connection given to [`Handler::converse`] instead of answering `request`?
    fn takes_over(_request: &Self::Request) -> bool {
        false
    }

    /// Speaks with `caller` until one of them ends it.
    fn converse(&self, _caller: Caller, _wire: Wire) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Who asks, by the kernel's word (`SO_PEERCRED`, `SO_PEERGROUPS`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Process, where the kernel tells.
    pub pid: Option<i32>,
}

/// Bounds of the server.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Connections at a time; further ones are told that the agent is busy.
    pub connections: usize,
    /// So many more for root alone: whoever may only read cannot keep the operator out.
    pub reserve: usize,
    /// From the connection, or the last answer, to the next complete line.
    pub request: Duration,
    /// For each line of an answer, until its last octet is taken.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            reserve: 8,
            request: Duration::from_secs(10),
            answer: Duration::from_secs(5),
        }
    }
}

/// Owner and group may read and write: those are the readers of the status. Administrators are let in by
/// [`rights::open_to_administrators`].
const MODE: u32 = 0o660;
/// What is thrown away of a line that is too long, so that the client can read why.
const DISCARD_AT_MOST: u64 = 4 * 1024 * 1024;
/// While an answer is on its way: how often to look whether somebody still waits for it.
const LOOK: Duration = Duration::from_secs(1);

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
        let seats = Seats::new(&self.limits);
        // Aside: a name service that hangs does not keep root waiting.
        let path = self.path.clone();
        drop(tokio::task::spawn_blocking(move || rights::open_to_administrators(&path)));
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of file descriptors: the ones in use end by their own time limits.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(peer) = stream.peer_cred() else { continue };
            // A kernel that does not tell: the primary group has to do.
            let groups = peer::groups(&stream).unwrap_or_default();
            let caller = Caller { uid: peer.uid(), gid: peer.gid(), groups, pid: peer.pid() };
            match seats.take(&caller) {
                Some(seat) => {
                    let client = Client::new(stream, caller, self.limits, seat);
                    drop(tokio::spawn(client.attend(handler.clone())));
                }
                None => turn_away(&stream),
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

/// The way to one client.
#[derive(Debug)]
pub struct Lines {
    writer: OwnedWriteHalf,
    limit: Duration,
}

/// The client went away, or did not take a line in time.
#[derive(Debug, thiserror::Error)]
#[error("the client is gone or too slow")]
pub struct Gone;

impl Lines {
    /// Sends one line.
    ///
    /// # Errors
    /// When the client is gone or does not take it in time; nothing more can be sent then.
    pub async fn send(&mut self, answer: &Answer) -> Result<(), Gone> {
        self.octets(&answer.line()).await
    }

    async fn octets(&mut self, line: &[u8]) -> Result<(), Gone> {
        match timeout(self.limit, self.writer.write_all(line)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

/// A connection on which both sides speak when they like, a line at a time.
#[derive(Debug)]
pub struct Wire {
    reader: BufReader<OwnedReadHalf>,
    /// What has come of the next line.
    begun: Vec<u8>,
    lines: Lines,
    _seat: OwnedSemaphorePermit,
}

impl Wire {
    /// Sends an answer of the protocol.
    ///
    /// # Errors
    /// When the client is gone or does not take it in time.
    pub async fn answer(&mut self, answer: &Answer) -> Result<(), Gone> {
        self.lines.send(answer).await
    }

    /// Sends `what` as one line.
    ///
    /// # Errors
    /// When the client is gone or does not take it in time.
    pub async fn say(&mut self, what: &impl Serialize) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(what).map_err(|_| Gone)?;
        line.push(b'\n');
        self.lines.octets(&line).await
    }

    /// The next line. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the client is gone, says what is no `T`, or more than [`LONGEST_ANSWER`] octets.
    pub async fn hear<T: DeserializeOwned>(&mut self) -> Result<T, Gone> {
        let left = LONGEST_ANSWER.saturating_sub(self.begun.len());
        let mut bounded = (&mut self.reader).take(left as u64);
        bounded.read_until(b'\n', &mut self.begun).await.map_err(|_| Gone)?;
        let line = std::mem::take(&mut self.begun);
        if line.ends_with(b"\n") {
            serde_json::from_slice(&line).map_err(|_| Gone)
        } else {
            Err(Gone)
        }
    }
}

/// One client in its seat.
struct Client {
    reader: BufReader<OwnedReadHalf>,
    lines: Lines,
    caller: Caller,
    limits: Limits,
    _seat: OwnedSemaphorePermit,
}

/// What arrived instead of a request.
enum Silence {
    /// The client left.
    Gone,
    /// It is told what was wrong, and nothing more is read.
    Last(Answer),
    /// It is told what was wrong and may ask again.
    Wrong(Answer),
}

impl Client {
    fn new(stream: UnixStream, caller: Caller, limits: Limits, seat: OwnedSemaphorePermit) -> Self {
        let (reader, writer) = stream.into_split();
        let lines = Lines { writer, limit: limits.answer };
        Self { reader: BufReader::new(reader), lines, caller, limits, _seat: seat }
    }

    /// Request by request, until it leaves, errs or is too slow.
    async fn attend<H: Handler>(mut self, handler: H) {
        loop {
            let (answer, goes_on) = match self.request::<H>().await {
                Ok(request) if H::takes_over(&request) => {
                    let Self { reader, lines, caller, _seat, .. } = self;
                    let wire = Wire { reader, begun: Vec::new(), lines, _seat };
                    return handler.converse(caller, wire).await;
                }
                Ok(request) => {
                    let answer = tokio::select! {
                        biased;
                        answer = handler.answer(request, self.caller.clone(), &mut self.lines) => {
                            let Ok(answer) = answer else { return };
                            answer
                        }
                        () = hung_up(self.reader.get_ref().as_ref()) => return,
                    };
                    let goes_on =
                        !matches!(&answer.body, Body::Error(c) if c.code == Code::TooSlow);
                    (answer, goes_on)
                }
                Err(Silence::Gone) => return,
                Err(Silence::Last(complaint)) => (complaint, false),
                Err(Silence::Wrong(complaint)) => (complaint, true),
            };
            let sent = self.lines.send(&answer).await;
            if !goes_on || sent.is_err() {
                return self.part().await;
            }
        }
    }

    async fn request<H: Handler>(&mut self) -> Result<H::Request, Silence> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.reader).take(LONGEST_REQUEST as u64);
        let read = bounded.read_until(b'\n', &mut line);
        let last = |code, message: String| Err(Silence::Last(Answer::error(code, message)));
        match timeout(self.limits.request, read).await {
            Ok(Ok(0) | Err(_)) => Err(Silence::Gone),
            Ok(Ok(_)) if line.ends_with(b"\n") => H::parse(&line).map_err(Silence::Wrong),
            Ok(Ok(_)) if line.len() >= LONGEST_REQUEST => {
                last(Code::TooLong, format!("a request has at most {LONGEST_REQUEST} octets"))
            }
            Ok(Ok(_)) => last(Code::Malformed, "a request ends with a newline".into()),
            Err(_) => {
                let limit = self.limits.request.as_secs_f32();
                last(Code::TimedOut, format!("no complete request within {limit} s"))
            }
        }
    }

    /// Closing with unread octets would reset the connection before the client has read why.
    async fn part(mut self) {
        let mut rest = (&mut self.reader).take(DISCARD_AT_MOST);
        let mut sink = tokio::io::sink();
        let _ = self.lines.writer.shutdown().await;
        let _ = timeout(self.limits.answer, tokio::io::copy(&mut rest, &mut sink)).await;
    }
}

/// Returns when nobody is at the other end. A client that has only nothing more to ask is still there.
async fn hung_up(stream: &UnixStream) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
        let asked = poll(&mut fds, PollTimeout::ZERO);
        let [fd] = fds;
        if asked.is_err() || fd.revents().is_some_and(|r| r.contains(PollFlags::POLLHUP)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
