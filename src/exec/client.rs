//! The agent's end: asks `vipd exec` to run programs, connects again when it is gone, starts it where no unit does.
//!
//! Runs on the main thread of the agent. Nobody waits here but who asked; while there is no connection, asks wait
//! in a bounded queue until their own time is over.

use super::protocol::{Ask, End, Occasion, Tell, VERSION, Which, line, next};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Asks that may wait for a connection.
const ASKS: usize = 256;
/// Of these, for hooks alone: a check asks again at its next interval, a hook is not told twice.
const FOR_HOOKS: usize = ASKS / 2;
/// Shortest and longest wait between two attempts to connect.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];
/// Under a service manager the unit is given this long before the process is started here.
const UNIT: Duration = Duration::from_secs(5);
/// Between two looks whether the unit is back, while a process started here stands in for it.
const LOOK: Duration = Duration::from_secs(1);
/// The greeting comes at once.
const GREETING: Duration = Duration::from_secs(5);

/// Whom the agent talks to.
enum Executor {
    /// The unit's process.
    Unit(UnixStream),
    /// One started here: with the rights of the agent only, until the unit is back.
    StandIn(UnixStream),
}

/// Why a conversation ended well.
enum Over {
    /// The agent ends.
    Agent,
    /// The unit is back.
    StandIn,
}

/// How a run ended, as far as the agent knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub end: End,
    /// What the program wrote, its beginning.
    pub output: String,
    /// The last line of its standard output.
    pub last: String,
    /// From start to end.
    pub took: Duration,
}

impl Outcome {
    fn unknown(reason: &str) -> Self {
        let (output, last) = (String::new(), String::new());
        Self { end: End::Unknown(reason.into()), output, last, took: Duration::ZERO }
    }
}

/// Where `vipd exec` is, and how to start it.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// The socket of its unit.
    pub socket: PathBuf,
    /// The program and options of this agent, without a verb.
    pub command: Vec<std::ffi::OsString>,
    /// Is there a service manager that may have a unit for it?
    pub managed: bool,
}

/// A way to run programs; clones share the connection.
#[derive(Clone, Debug)]
pub struct Runner {
    asks: mpsc::Sender<Pending>,
}

#[derive(Debug)]
enum Pending {
    Run { program: Which, occasion: Option<Occasion>, answer: oneshot::Sender<Outcome> },
    Line { hook: String, occasion: Occasion },
    Flush(oneshot::Sender<()>),
}

impl Runner {
    /// Connects in the background. Inside a tokio runtime.
    pub fn start(whereabouts: Whereabouts) -> Self {
        let (asks, waiting) = mpsc::channel(ASKS);
        tokio::spawn(keep_connected(whereabouts, waiting));
        Self { asks }
    }

    /// Where nothing is configured that could run: no process is started, nothing is run.
    pub fn none() -> Self {
        Self { asks: mpsc::channel(1).0 }
    }

    /// Runs `program` and waits at most `limit` for its end: its own time limit, and as long as the asker has
    /// patience with a missing executor.
    pub async fn run(
        &self,
        program: Which,
        occasion: Option<Occasion>,
        limit: Duration,
    ) -> Outcome {
        let (answer, ended) = oneshot::channel();
        let full = matches!(program, Which::Check(_)) && self.asks.capacity() <= FOR_HOOKS;
        if full || self.asks.try_send(Pending::Run { program, occasion, answer }).is_err() {
            return Outcome::unknown("`vipd exec` takes no more: too many programs wait");
        }
        match tokio::time::timeout(limit, ended).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::unknown("the connection to `vipd exec` broke"),
            Err(_) => {
                Outcome::unknown("`vipd exec` did not answer in time; is vipd-exec.service alive?")
            }
        }
    }

    /// Writes a line into the FIFO of `hook`; false when too much waits already.
    pub fn line(&self, hook: &str, occasion: Occasion) -> bool {
        self.asks.try_send(Pending::Line { hook: hook.into(), occasion }).is_ok()
    }

    /// The last words of an agent that ends: asks for `runs`, and waits at most `limit` until they and everything
    /// before them were handed over. Nobody hears how they end but the log of `vipd exec`.
    pub async fn leave(&self, runs: Vec<(Which, Occasion)>, limit: Duration) {
        let ask = |(program, occasion)| {
            let (answer, unheard) = oneshot::channel();
            let run = Pending::Run { program, occasion: Some(occasion), answer };
            self.asks.try_send(run).is_ok().then_some(unheard)
        };
        // Until then somebody seems to listen: what nobody asks for any more is not handed over.
        let _asked: Vec<_> = runs.into_iter().map(ask).collect();
        let (done, handed_over) = oneshot::channel();
        if self.asks.try_send(Pending::Flush(done)).is_ok() {
            let _ = tokio::time::timeout(limit, handed_over).await;
        }
    }
}

async fn keep_connected(whereabouts: Whereabouts, mut waiting: mpsc::Receiver<Pending>) {
    let mut backoff = BACKOFF[0];
    let mut lone_since = Instant::now();
    let mut told = false;
    // More than one while an earlier one still waits for its programs.
    let mut children: Vec<Child> = Vec::new();
    loop {
        match connect(&whereabouts, lone_since, &mut children).await {
            Ok(executor) => {
                let began = Instant::now();
                match converse(executor, &mut waiting, &whereabouts.socket).await {
                    Ok(Over::Agent) => return,
                    Ok(Over::StandIn) => {
                        tracing::info!("{} is there again", whereabouts.socket.display());
                    }
                    Err(error) => tracing::warn!(
                        "the connection to `vipd exec` broke: {error}; what it ran is unknown, trying again"
                    ),
                }
                lone_since = Instant::now();
                told = false;
                if began.elapsed() > BACKOFF[1] {
                    backoff = BACKOFF[0];
                }
            }
            Err(error) => {
                if !std::mem::replace(
                    &mut told,
                    !whereabouts.managed || lone_since.elapsed() > UNIT,
                ) && told
                {
                    tracing::warn!(
                        "no `vipd exec`: {error}; hooks and script checks wait: start vipd-exec.service"
                    );
                }
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF[1]);
        // Ended children are not left as zombies.
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

/// The unit's process, or one of our own.
async fn connect(
    whereabouts: &Whereabouts,
    lone_since: Instant,
    children: &mut Vec<Child>,
) -> io::Result<Executor> {
    let refused = match UnixStream::connect(&whereabouts.socket).await {
        Ok(stream) => return Ok(Executor::Unit(stream)),
        Err(error) => error,
    };
    if whereabouts.managed && lone_since.elapsed() < UNIT {
        return Err(refused);
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut words = whereabouts.command.iter();
    let Some(program) = words.next() else { return Err(refused) };
    children.push(
        Command::new(program)
            .args(words)
            .args(["exec", "--inherited"])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // Ctrl-C on a terminal is for the agent: this one ends when the agent has hung up.
            .process_group(0)
            .spawn()?,
    );
    UnixStream::from_std(ours).map(Executor::StandIn)
}

/// Until the agent ends, the connection does (`Err`), or a stand-in is not needed any more.
async fn converse(
    executor: Executor,
    waiting: &mut mpsc::Receiver<Pending>,
    unit: &Path,
) -> io::Result<Over> {
    let (stream, stands_in) = match executor {
        Executor::Unit(stream) => (stream, false),
        Executor::StandIn(stream) => (stream, true),
    };
    let mut look = tokio::time::interval(LOOK);
    let (reader, mut writer) = stream.into_split();
    // Reading is not interrupted in the middle of a line: a task of its own, ended with the conversation.
    let (heard, mut tells) = mpsc::channel(16);
    let mut listener = tokio::task::JoinSet::new();
    listener.spawn(async move {
        let mut reader = BufReader::new(reader);
        loop {
            let tell = next::<Tell>(&mut reader).await;
            let over = !matches!(tell, Ok(Some(_)));
            if heard.send(tell).await.is_err() || over {
                return;
            }
        }
    });
    greet(&mut tells).await?;
    // By number: is it a check, and who waits for its end.
    let mut runs: HashMap<u64, (bool, oneshot::Sender<Outcome>)> = HashMap::new();
    let mut last = 0;
    loop {
        tokio::select! {
            tell = tells.recv() => match tell {
                Some(Ok(Some(Tell::Ended { run, end, output, last, took_ms }))) => {
                    if let Some((_, answer)) = runs.remove(&run) {
                        // Who asked may have given up.
                        let _ = answer.send(Outcome { end, output, last, took: Duration::from_millis(took_ms) });
                    }
                }
                Some(Ok(Some(Tell::Hello { .. }))) => {}
                Some(Ok(None)) | None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(Err(error)) => return Err(error),
            },
            _ = look.tick(), if stands_in => {
                // What a check loses is one reading.
                let only_checks = runs.values().all(|(check, answer)| *check || answer.is_closed());
                if only_checks && UnixStream::connect(unit).await.is_ok() {
                    return Ok(Over::StandIn);
                }
            }
            pending = waiting.recv() => {
                let Some(pending) = pending else { return Ok(Over::Agent) };
                let ask = match pending {
                    Pending::Run { answer, .. } if answer.is_closed() => continue,
                    Pending::Flush(done) => {
                        let _ = done.send(());
                        continue;
                    }
                    Pending::Run { program, occasion, answer } => {
                        last += 1;
                        runs.retain(|_, (_, answer)| !answer.is_closed());
                        runs.insert(last, (matches!(program, Which::Check(_)), answer));
                        Ask::Run { run: last, program, occasion }
                    }
                    Pending::Line { hook, occasion } => Ask::Line { hook, occasion },
                };
                match line(&ask) {
                    Ok(line) => writer.write_all(&line).await?,
                    // Hundreds of addresses with endless names; the asker hears that it is unknown.
                    Err(error) => {
                        tracing::error!("cannot tell `vipd exec`: {error}");
                        runs.remove(&last);
                    }
                }
            }
        }
    }
}

async fn greet(tells: &mut mpsc::Receiver<io::Result<Option<Tell>>>) -> io::Result<()> {
    let hello = tokio::time::timeout(GREETING, tells.recv())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    match hello {
        Some(Ok(Some(Tell::Hello { v, .. }))) if v == VERSION => Ok(()),
        Some(Ok(Some(Tell::Hello { v, version }))) => Err(io::Error::other(format!(
            "`vipd exec` {version} speaks version {v} of the protocol, this agent {VERSION}: restart vipd-exec.service"
        ))),
        Some(Err(error)) => Err(error),
        Some(Ok(_)) | None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn checks_that_wait_leave_room_for_hooks() {
        let runner = Runner::start(Whereabouts {
            socket: "/nowhere/exec.sock".into(),
            command: Vec::new(),
            managed: true,
        });
        let run = async |which| runner.run(which, None, Duration::from_millis(1)).await.end;
        let mut last = End::Exited(0);
        for _ in 0..=ASKS {
            last = run(Which::Check("c".into())).await;
        }
        assert!(last.to_string().contains("too many programs wait"), "{last}");
        let hook = run(Which::Hook("h".into())).await;
        assert!(hook.to_string().contains("did not answer in time"), "{hook}");
    }
}
