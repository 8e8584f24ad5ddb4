//! `vipd exec`: accepts the agent, starts what it names, says how it ended.
//!
//! Called by the verb `exec`, on a runtime of one thread. Whoever is neither root nor the owner of the runtime folder is
//! turned away by the kernel's word on who connects. The configuration is read for each connection; one that is
//! broken leaves the last good one in use.

use super::books::Books;
use super::fifo::{self, Fifos};
use super::guard;
use super::launch::{self, Finished};
use super::leftovers::Leftovers;
use super::protocol::{Ask, End, Occasion, Subject, Tell, VERSION, Which, line, next};
use crate::sys::{file, process};
use nix::unistd::{Uid, geteuid, seteuid};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, TryAcquireError, mpsc};
use vipd_core::config::model::Model;

/// Programs that run, or wait for the one before them; further ones are not started.
const AT_ONCE: usize = 128;
/// Answers that may wait for the agent to read them.
const ANSWERS: usize = 256;
/// Octets of output that an answer carries.
const TOLD: usize = 4096;
/// Between two looks whether the socket is still there: the folder goes and comes with the agent's unit.
const LOOK: Duration = Duration::from_millis(500);

/// Reads the configuration.
pub type Load = dyn Fn() -> Result<Model, String> + Send + Sync;

/// What all connections share.
#[derive(Clone)]
pub struct Executor {
    load: Arc<Load>,
    config: PathBuf,
    books: Arc<Mutex<Arc<Books>>>,
    fifos: Arc<Mutex<Fifos>>,
    leftovers: Leftovers,
    seats: Arc<Semaphore>,
    lanes: Arc<Mutex<HashMap<Lane, Turn>>>,
}

/// Hook, and whom it is told of: one program at a time, also for two agents one after the other.
type Lane = (String, Subject, String);

/// Held while a program of a lane runs.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl Executor {
    /// Reads the configuration at `config` with `load`. Gives up every capability that a program could inherit.
    /// Inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel cannot make this process the parent of orphans, or `config` is relative to a folder that is gone.
    pub fn new(config: &Path, load: Arc<Load>) -> io::Result<Self> {
        process::adopt_orphans()?;
        drop_rights();
        // The agent is protected from the kernel's memory killer; its programs are not.
        let _ = fs::write("/proc/self/oom_score_adj", "0");
        let leftovers = Leftovers::default();
        tokio::spawn(leftovers.clone().tend());
        Ok(Self {
            load,
            // As it is judged from the root on.
            config: std::path::absolute(config)?,
            books: Arc::default(),
            fifos: Arc::default(),
            leftovers,
            seats: Arc::new(Semaphore::new(AT_ONCE)),
            lanes: Arc::default(),
        })
    }

    /// Serves the agents that connect to `socket`, until `stop` ends.
    ///
    /// # Errors
    /// When the process is out of descriptors at the start.
    pub async fn listen(&self, socket: &Path, stop: impl Future<Output = ()>) -> io::Result<()> {
        let serve = async {
            loop {
                let listener = bind(socket).await;
                tracing::info!("listens on {}", socket.display());
                self.accept(socket, &listener).await;
            }
        };
        tokio::select! {
            () = serve => {}
            () = stop => {}
        }
        // What waits for a turn is not begun any more.
        self.seats.close();
        self.leftovers.end_all();
        self.finish(launch::GRACE + Duration::from_secs(1)).await;
        Ok(())
    }

    /// Serves the one agent at the other end of `stream`; when it is gone, waits for the programs that it started.
    pub async fn inherited(&self, stream: UnixStream) {
        self.attend(stream).await;
        self.finish(Duration::MAX).await;
    }

    /// Until the socket is no longer the one at `path`.
    async fn accept(&self, path: &Path, listener: &UnixListener) {
        let made = identity(path);
        loop {
            match tokio::time::timeout(LOOK, listener.accept()).await {
                Ok(Ok((stream, _))) => {
                    let this = self.clone();
                    match welcome(path, &stream) {
                        Ok(()) => drop(tokio::spawn(async move { this.attend(stream).await })),
                        Err(who) => {
                            tracing::warn!("{who} may not connect: only root and the agent")
                        }
                    }
                }
                // Out of descriptors.
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(_) if identity(path) != made => return,
                Err(_) => {}
            }
        }
    }

    /// Waits until nothing runs and nothing is left.
    async fn finish(&self, longest: Duration) {
        let nothing = async {
            while !self.leftovers.is_empty() || self.seats.available_permits() < AT_ONCE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(longest, nothing).await;
    }

    async fn attend(&self, stream: UnixStream) {
        self.fifos().join();
        self.reload();
        let (reader, mut writer) = stream.into_split();
        let (answers, mut waiting) = mpsc::channel::<Tell>(ANSWERS);
        let hello = Tell::Hello { v: VERSION, version: env!("CARGO_PKG_VERSION").to_owned() };
        // Room for the first one is there.
        let _ = answers.try_send(hello);
        let speaker = tokio::spawn(async move {
            while let Some(tell) = waiting.recv().await {
                let Ok(line) = line(&tell) else { continue };
                if writer.write_all(&line).await.is_err() {
                    break;
                }
            }
        });
        let mut reader = BufReader::new(reader);
        loop {
            match next::<Ask>(&mut reader).await {
                Ok(Some(ask)) => self.serve(ask, &answers),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!("the agent said something that makes no sense: {error}");
                    break;
                }
            }
        }
        self.fifos().leave();
        speaker.abort();
    }

    fn serve(&self, ask: Ask, answers: &mpsc::Sender<Tell>) {
        match ask {
            Ask::Run { run, program, occasion } => {
                let (this, answers) = (self.clone(), answers.clone());
                tokio::spawn(async move {
                    let Finished { end, output, last, took } = this.run(&program, occasion).await;
                    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    let output = abridged(&output);
                    // The agent may be gone.
                    let _ = answers.send(Tell::Ended { run, end, output, last, took_ms }).await;
                });
            }
            Ask::Line { hook, occasion } => self.write_line(&hook, &occasion),
        }
    }

    async fn run(&self, which: &Which, occasion: Option<Occasion>) -> Finished {
        let _seat = match self.seats.try_acquire() {
            Ok(seat) => seat,
            Err(TryAcquireError::NoPermits) => {
                let why = format!("{AT_ONCE} programs run or wait already");
                return Finished::unstarted(End::NotStarted(why));
            }
            Err(TryAcquireError::Closed) => return Finished::unstarted(ending()),
        };
        let turn = self.turn(which, occasion.as_ref());
        let _turn = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        if self.seats.is_closed() {
            return Finished::unstarted(ending());
        }
        let books = self.books();
        let Some(entry) = books.program(which) else {
            return Finished::unstarted(End::Refused(format!(
                "{which} is not in {}: is it the file that the agent uses?",
                self.config.display()
            )));
        };
        let person = match entry.cleared() {
            Ok(person) => person,
            Err(reason) => {
                tracing::error!("{which} is refused: {reason}");
                return Finished::unstarted(End::Refused(reason));
            }
        };
        let done = launch::run(which, entry, person, occasion.as_ref(), &self.leftovers).await;
        tell_log(which, &done);
        done
    }

    /// What the program has to wait for; checks and activations for nothing.
    fn turn(&self, which: &Which, occasion: Option<&Occasion>) -> Option<Turn> {
        let (Which::Hook(hook), Some(occasion)) = (which, occasion) else { return None };
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody runs or waits there any more.
        lanes.retain(|_, turn| Arc::strong_count(turn) > 1);
        let lane = (hook.clone(), occasion.subject, occasion.name.clone());
        Some(Arc::clone(lanes.entry(lane).or_default()))
    }

    fn write_line(&self, hook: &str, occasion: &Occasion) {
        let books = self.books();
        let Some(path) = books.fifo(hook) else {
            tracing::error!("hook {hook} has no FIFO in {}", self.config.display());
            return;
        };
        let mut fifos = self.fifos();
        if let Err(error) = fifos.write(path, fifo::line(occasion)) {
            tracing::error!("hook {hook}: {}: {error}", path.display());
        } else if fifos.tend() {
            let this = self.clone();
            tokio::spawn(async move {
                while !this.fifos().tended() {
                    tokio::time::sleep(fifo::RETRY).await;
                }
            });
        }
    }

    fn reload(&self) {
        let trusted = [geteuid().as_raw()];
        let loaded = match guard::verify(&self.config, &trusted) {
            Ok(()) => (self.load)(),
            Err(error) => Err(format!("{error}; it names programs, so nobody else may change it")),
        };
        match loaded {
            Ok(model) => {
                let books = Arc::new(Books::new(&model));
                *self.books.lock().unwrap_or_else(PoisonError::into_inner) = books;
            }
            Err(reason) => tracing::error!("the last good configuration stays in use: {reason}"),
        }
    }

    fn books(&self) -> Arc<Books> {
        Arc::clone(&self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn fifos(&self) -> std::sync::MutexGuard<'_, Fifos> {
        self.fifos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ending() -> End {
    End::NotStarted("`vipd exec` ends".to_owned())
}

/// What a program wrote goes to the log of this process; checks run every second and are told by the agent.
fn tell_log(which: &Which, done: &Finished) {
    if matches!(which, Which::Check(_)) {
        return;
    }
    for line in String::from_utf8_lossy(&done.output).lines() {
        tracing::info!("{which}: {line}");
    }
    if done.end.is_success() {
        tracing::info!("{which} ended well after {:.3} s", done.took.as_secs_f64());
    } else {
        tracing::warn!("{which} {} after {:.3} s", done.end, done.took.as_secs_f64());
    }
}

/// The first octets as text.
fn abridged(output: &[u8]) -> String {
    String::from_utf8_lossy(output.get(..TOLD).unwrap_or(output)).into_owned()
}

/// Nothing that a program of another user could inherit. Root keeps what it needs to become somebody else; a program
/// of another user has lost it with the change.
fn drop_rights() {
    use caps::CapSet;
    let root = geteuid().is_root();
    let sets: &[CapSet] = if root {
        &[CapSet::Ambient, CapSet::Inheritable]
    } else {
        &[CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted]
    };
    for set in sets {
        if let Err(error) = caps::clear(None, *set) {
            tracing::warn!("cannot give up capabilities: {error}");
        }
    }
}

/// Listens on `path`; waits until its folder is there.
async fn bind(path: &Path) -> UnixListener {
    let mut told = false;
    loop {
        match try_bind(path) {
            Ok(listener) => return listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{}: {error}; trying again", path.display());
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// As the owner of the folder: nothing is made there with rights that its owner does not have, and the socket is
/// the agent's to connect to.
fn try_bind(path: &Path) -> io::Result<UnixListener> {
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    let owner = Uid::from_raw(fs::metadata(folder)?.uid());
    let me = geteuid();
    let switch = me.is_root() && !owner.is_root();
    if switch {
        seteuid(owner)?;
    }
    let bound = file::listen(path, 0o600).and_then(UnixListener::from_std);
    if switch {
        seteuid(me)?;
    }
    bound
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Root and the owner of the folder may connect.
fn welcome(path: &Path, stream: &UnixStream) -> Result<(), String> {
    let peer = stream.peer_cred().map_err(|error| error.to_string())?;
    let owner = path.parent().and_then(|folder| fs::metadata(folder).ok()).map(|meta| meta.uid());
    if peer.uid() == 0 || Some(peer.uid()) == owner {
        return Ok(());
    }
    Err(format!("user {}", peer.uid()))
}
