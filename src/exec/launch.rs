//! One program from start to end: what it is told, how long it may take, what it says.
//!
//! No shell, working directory `/`, a session of its own, a clean environment. Its output is read to the end, so that
//! it never waits for us, and kept up to a bound.

use super::books::{Entry, Person};
use super::fifo;
use super::leftovers::Leftovers;
use super::protocol::{End, Occasion, Which};
use crate::sys::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use vipd_core::config::model::Call;

/// From TERM to KILL.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// Output kept of one run, octets; the rest is read and thrown away.
const KEPT: usize = 64 * 1024;
/// End of standard output kept of one run, octets.
const TAIL: usize = 1024;
/// After the end of a program, its last words may take this long to arrive.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Longest variable that the kernel passes on (`MAX_ARG_STRLEN`), octets with name, `=` and final zero.
const VARIABLE: usize = 128 * 1024;
/// The only search path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a run went.
#[derive(Debug)]
pub(super) struct Finished {
    /// How it ended.
    pub end: End,
    /// What it wrote, at most 64 KiB.
    pub output: Vec<u8>,
    /// The last line of its standard output.
    pub last: String,
    /// From start to end.
    pub took: Duration,
}

/// Runs the program of `entry` as `person` and waits until it ended.
pub(super) async fn run(
    which: &Which,
    entry: &Entry,
    person: &Person,
    occasion: Option<&Occasion>,
    leftovers: &Leftovers,
) -> Finished {
    let began = Instant::now();
    let deadline = began + entry.time(occasion);
    let mut child = match start(which, entry, person, occasion) {
        Ok(child) => child,
        Err(error) => {
            let path = entry.program.argv.first().map(|p| &**p).unwrap_or_default();
            let end = End::NotStarted(format!("{path}: {error}"));
            return Finished::unstarted(end);
        }
    };
    // Has one until it was waited for.
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    leftovers.began(pid, deadline);
    let feeder = feed(&mut child, occasion);
    let kept = Arc::new(Mutex::new(Kept::default()));
    let readers = [
        child.stdout.take().map(|out| keep(out, Arc::clone(&kept), Kept::say)),
        child.stderr.take().map(|err| keep(err, Arc::clone(&kept), Kept::complain)),
    ];
    let end = wait(&mut child, pid, deadline).await;
    let took = began.elapsed();
    let until = match which {
        // What a notify script left in the background has the time that the script had.
        Which::Hook(_) | Which::Activation(_) => deadline,
        Which::Check(_) => Instant::now(),
    };
    leftovers.ended(pid, until);
    if let Some(feeder) = feeder {
        feeder.abort();
    }
    let last_words = Instant::now() + LAST_WORDS;
    for reader in readers.into_iter().flatten() {
        // Held open by a leftover: read on and thrown away until that ends.
        let _ = tokio::time::timeout_at(last_words, reader).await;
    }
    let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    Finished { end, last: kept.last_line(), output: kept.all, took }
}

impl Finished {
    /// Nothing ran.
    pub(super) fn unstarted(end: End) -> Self {
        Self { end, output: Vec::new(), last: String::new(), took: Duration::ZERO }
    }
}

/// What a program wrote, as far as it is kept.
#[derive(Debug, Default)]
struct Kept {
    /// The beginning of both outputs, as they came.
    all: Vec<u8>,
    /// The end of standard output.
    tail: Vec<u8>,
}

impl Kept {
    /// On standard output.
    fn say(&mut self, text: &[u8]) {
        self.complain(text);
        self.tail.extend_from_slice(text);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
    }

    /// On standard error.
    fn complain(&mut self, text: &[u8]) {
        let room = KEPT.saturating_sub(self.all.len()).min(text.len());
        self.all.extend_from_slice(text.get(..room).unwrap_or_default());
    }

    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        text.trim_end().lines().next_back().unwrap_or_default().trim().to_owned()
    }
}

async fn wait(child: &mut Child, pid: i32, deadline: Instant) -> End {
    if let Ok(ended) = tokio::time::timeout_at(deadline, child.wait()).await {
        return ended.map_or_else(|e| End::Unknown(e.to_string()), how);
    }
    for with in [Signal::SIGTERM, Signal::SIGKILL] {
        // The whole group; the program itself was not waited for, so the number is still its own.
        let _ = kill(Pid::from_raw(-pid), with);
        if timeout(GRACE, child.wait()).await.is_ok() {
            break;
        }
    }
    End::TimedOut
}

fn how(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Killed(signal),
        (None, None) => End::Unknown("neither a code nor a signal".into()),
    }
}

fn start(
    which: &Which,
    entry: &Entry,
    person: &Person,
    occasion: Option<&Occasion>,
) -> io::Result<Child> {
    let mut argv = entry.program.argv.iter();
    let Some(path) = argv.next() else { return Err(io::ErrorKind::NotFound.into()) };
    let mut command = std::process::Command::new(&**path);
    command
        .args(argv.map(|word| &**word))
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", &person.home)
        .env("USER", &person.name)
        .env("LOGNAME", &person.name)
        .env("LANG", "C.UTF-8")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match occasion {
        Some(_) => command.stdin(Stdio::piped()),
        None => command.stdin(Stdio::null()),
    };
    if let Some(occasion) = occasion {
        command.args(arguments(entry.call, occasion)).envs(environment(occasion));
    }
    if let Which::Check(name) = which {
        command.env("VIPD_CHECK", name);
    }
    // Last: what the operator wrote counts.
    command.envs(entry.program.env.iter().map(|(name, value)| (&**name, &**value)));
    process::detach(&mut command, person.switch.clone());
    Command::from(command).spawn()
}

/// What follows the configured words.
fn arguments(call: Call, occasion: &Occasion) -> Vec<String> {
    match call {
        Call::Vipd => vec![occasion.event.word().to_owned(), occasion.name.clone()],
        Call::Keepalived => fifo::words(occasion).to_vec(),
    }
}

/// What does not fit into a variable stands on standard input alone: one that is too long would keep the program from
/// being started at all, one that is cut would be taken for all there is.
fn environment(occasion: &Occasion) -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("VIPD_INSTANCE", occasion.name.clone()),
        ("VIPD_EVENT", occasion.event.word().to_owned()),
        ("VIPD_ROLE", occasion.role.clone()),
        ("VIPD_PREV_ROLE", occasion.prev_role.clone()),
        ("VIPD_REASON", occasion.reason.clone()),
        ("VIPD_HOST", occasion.host.clone()),
        ("VIPD_OWNER", occasion.owner.clone()),
        ("VIPD_EPOCH", occasion.epoch.clone()),
        ("VIPD_PRIORITY", occasion.priority.to_string()),
        ("VIPD_VIPS", occasion.vips.join(" ")),
        ("VIPD_VRID", occasion.vrid.to_string()),
        ("VIPD_INTERFACE", occasion.interface.clone()),
        ("VIPD_SKIPPED", occasion.skipped.to_string()),
        ("VIPD_PEER", words(occasion.peers.iter().map(|peer| Some(&peer.host)))),
        ("VIPD_PEER_ADDR", words(occasion.peers.iter().map(|peer| peer.addresses.first()))),
        ("VIPD_OP_ID", occasion.op_id.clone()),
        ("VIPD_DEADLINE_MS", occasion.deadline_ms.to_string()),
        ("VIPD_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    all.into_iter().filter(|(name, value)| name.len() + value.len() + 2 <= VARIABLE)
}

/// In one variable; what is not there leaves a `-`, so that two lists can be read side by side.
fn words<'w>(words: impl Iterator<Item = Option<&'w String>>) -> String {
    words.map(|word| word.map_or("-", String::as_str)).collect::<Vec<_>>().join(" ")
}

/// Writes the occasion as JSON to standard input, whether it is read or not.
fn feed(child: &mut Child, occasion: Option<&Occasion>) -> Option<JoinHandle<()>> {
    let mut stdin = child.stdin.take()?;
    let mut text = serde_json::to_vec(occasion?).unwrap_or_default();
    text.push(b'\n');
    Some(tokio::spawn(async move {
        // A program that reads nothing is no error.
        let _ = stdin.write_all(&text).await;
    }))
}

fn keep(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    kept: Arc<Mutex<Kept>>,
    note: fn(&mut Kept, &[u8]),
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut kept, buffer.get(..read).unwrap_or_default());
        }
    })
}
