//! `vipd run`: what happens in which order at start and stop.
//!
//! Start: capabilities, locks, configuration, keys, boot counter, first dump of links and addresses, sockets, and
//! only then the engine's first timer, so that tagged addresses of an earlier run are known before anything is
//! decided. Stop: the engine hands over and releases, the kernel thread finishes, the process ends. Restart: the engine
//! prepares, what it knows is written down, and another program goes on (DESIGN 5.7).
//!
//! Rooms: `serving` the main thread in between; `duties` what it does with what it hears; `reloading` how another
//! configuration comes into force.

mod duties;
mod reloading;
mod serving;

use super::chronicle::Chronicle;
use super::crashes::{self, Past};
use super::ending::{Ending, Next};
use super::handover::Left;
use super::keys::{self, KeyError};
use super::load::LoadError;
use super::lock::{Lock, LockError};
use super::observe::Counting;
use super::protocol::{Parts, Protocol};
use super::pulse::Pulse;
use super::queue::{self, Message, Sender};
use super::reload::Reloads;
use super::replica::Replication;
use super::report::Facts;
use super::slots::Slots;
use super::standing::{self, InForce, Keeper, Start};
use super::successor::{self, Successor};
use super::threads::{self, Threads};
use super::told::{self, Told};
use super::{boot, memory};
use crate::kernel::{Claims, Monitor, MonitorEvent, Worker};
use crate::sys::capability::{self, Missing};
use crate::sys::{AlreadyRunning, NamespaceLock, Watchdog, clock};
use crate::telemetry;
use sd_notify::NotifyState;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::Handover;

/// Longest time for the first dump of links and addresses.
const DUMP: Duration = Duration::from_secs(10);
/// Said at a start with a file that cannot be used.
const LAST_GOOD: &str = "the configuration file cannot be used: runs on the last good one; mend the file, then `vipd reload`";

/// Where this agent lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// Configuration file.
    pub config: PathBuf,
    /// Which host of it this is.
    pub host: String,
    /// Folder of the control socket and the lock.
    pub runtime_dir: PathBuf,
    /// Folder of what survives a restart of the machine.
    pub state_dir: PathBuf,
}

/// Why the agent did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A right is missing.
    #[error(transparent)]
    Capability(#[from] Missing),
    /// The runtime folder is in use, or cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Another agent runs in this network namespace.
    #[error(transparent)]
    Namespace(#[from] AlreadyRunning),
    /// The configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A key file is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The kernel refused something that it should not.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's words.
        error: io::Error,
    },
    /// A thread ended that should not.
    #[error("the {0} thread ended unexpectedly; the leases of the addresses end by themselves")]
    Died(&'static str),
    /// A clean stop did not finish.
    #[error("the stop did not finish within {0:?}; addresses were removed without a handover")]
    Stuck(Duration),
}

/// Names what failed.
pub(super) fn io_at(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |error| RunError::Io { what, error }
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When it cannot start, when a thread of it ends, or when the stop does not finish.
pub fn run(options: &Options) -> Result<(), RunError> {
    let successor = Successor::new(options);
    successor::hold_signals();
    telemetry::init();
    let (left, locks) = Left::take(&options.runtime_dir);
    capability::check()?;
    let (folder, namespace) = match locks {
        Some(inherited) => inherited,
        // The folder first: its holder can be named.
        None => (Lock::take(&options.runtime_dir)?, NamespaceLock::acquire()?),
    };
    let Start { loaded, trouble } = standing::start(options)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.trim_end());
    }
    let file: Arc<str> = loaded.text.into();
    let model = Arc::new(loaded.meaning);
    let in_force = InForce::new(
        Arc::clone(&model),
        Arc::clone(&file),
        trouble.as_ref().map(|(line, _)| line.clone()),
    );
    let secrets = keys::secrets(&model)?;
    let boot = boot::next(&options.state_dir, &options.runtime_dir);
    if let Some(warning) = &boot.warning {
        tracing::warn!("{warning}");
    }

    let (recalled, warnings) = memory::read(&options.state_dir, &model);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let (chronicle, warning) = Chronicle::open(&options.state_dir, Arc::clone(&model))
        .map_err(io_at("cannot start the thread of the history"))?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    if let Some((line, full)) = trouble.as_ref() {
        tracing::error!("{full}");
        tracing::error!("{LAST_GOOD}");
        chronicle.file(true, LAST_GOOD.into(), Some(line.clone()));
    }

    let past = crashes::begin(&options.runtime_dir, clock::monotonic());
    if past.starts_as_backup() {
        tracing::warn!(
            "the agent crashed {} times in a row{}: starts as backup and claims nothing for {} s",
            past.crashes,
            if past.died_leaving { ", the last time while handing over" } else { "" },
            past.wait().as_secs()
        );
    }

    let claims = Arc::new(Claims::open(&options.runtime_dir));
    let worker = Worker::new(Arc::clone(&model), &options.runtime_dir, Arc::clone(&claims))
        .map_err(io_at("cannot open a netlink socket"))?;
    let (sender, inbox) =
        queue::queue().map_err(io_at("cannot make the queue of the protocol thread"))?;
    let store = memory::Writer::start(&options.state_dir, confirm(sender.clone()))
        .map_err(io_at("cannot start the storing thread"))?;
    let (told, events) = told::channel(&model);
    let slots = Slots::new(model.instances.len());
    let pulse = watchdog().map(|watchdog| Pulse::new(watchdog, &model));
    let parts = Parts {
        model: Arc::clone(&model),
        secrets,
        boot: boot.counter,
        recalled,
        left: left.as_ref().map(|left| left.engine.clone()),
        backup_for: past.starts_as_backup().then(|| past.wait()),
        inbox,
        slots: slots.clone(),
        told,
        pulse,
    };
    let protocol =
        Protocol::new(parts).map_err(io_at("cannot make the poller of the protocol thread"))?;

    let ending = Ending::new(successor.clone(), sender.clone(), patience(&model));
    let ended = threads::main_loop(async {
        let mut monitor =
            Monitor::open(&model, claims).map_err(io_at("cannot watch the network"))?;
        let first = first_dump(&mut monitor, model.links.len()).await?;
        let threads = Threads::start(protocol, first, worker, slots, sender.clone())?;
        let facts = Facts {
            replication: Replication::new(in_force.clone(), sender.clone(), chronicle.clone()),
            counting: Counting::new(&model),
            in_force,
            scheduling: Arc::clone(&threads.scheduling),
            memory: Arc::clone(&threads.memory),
        };
        let keeper = Keeper::new(options);
        if trouble.is_none() {
            keeper.keep(file);
        }
        let main = Main {
            options,
            model,
            reloads: Reloads::new(options, facts.clone(), sender.clone()),
            facts,
            keeper,
            boot: boot.counter,
            monitor,
            events,
            sender,
            threads,
            past,
            store,
            chronicle,
            ending,
            left,
        };
        main.run().await
    })
    .map_err(io_at("cannot start the main loop"))??;
    let Ended::Replaced(engine, next) = ended else { return Ok(()) };
    let mut left = Left::new(*engine, next.operation, next.terminate);
    let what = "cannot leave the next agent its file";
    if !next.managed {
        left = left.with_locks(&folder, &namespace).map_err(io_at(what))?;
    }
    left.write(&options.runtime_dir).map_err(io_at(what))?;
    if next.managed {
        return Ok(());
    }
    Err(io_at("cannot become the next program")(successor.become_it()))
}

/// How the main thread came to its end.
enum Ended {
    /// Nothing is owned by this host.
    Stopped,
    /// Everything is as it was: another agent goes on.
    Replaced(Box<Handover>, Next),
}

/// The way to the service manager, when there is one.
fn watchdog() -> Option<Watchdog> {
    let socket = std::env::var_os("NOTIFY_SOCKET")?;
    Watchdog::open(&socket).inspect_err(|error| tracing::warn!("no watchdog: {error}")).ok()
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot reach the service manager: {error}");
    }
}

/// What the main thread owns.
struct Main<'a> {
    options: &'a Options,
    /// By which the events that come are numbered.
    model: Arc<Model>,
    facts: Facts,
    reloads: Reloads,
    keeper: Keeper,
    /// Number of this start.
    boot: u64,
    monitor: Monitor,
    events: mpsc::Receiver<Told>,
    sender: Sender,
    threads: Threads,
    past: Past,
    store: memory::Writer,
    chronicle: Chronicle,
    ending: Ending,
    /// From the agent before this one.
    left: Option<Left>,
}

/// What the thread that stores tells the engine.
fn confirm(sender: Sender) -> memory::Confirm {
    Box::new(move |name, reserved, result| {
        // The engine may have ended.
        let _ = sender.send(Message::Stored { instance: name.into(), reserved, result });
    })
}

/// Longest time that a clean stop may take: what brings state to a successor, the overlap of a handover (DESIGN 5.5), and
/// as much again for the kernel.
fn patience(model: &Model) -> Duration {
    let longest = model.instances.iter().map(|i| i.interval.duration()).max().unwrap_or_default();
    let addresses: usize = model.instances.iter().map(|i| i.claimed().count()).sum();
    longest * 2
        + model.closing()
        + Duration::from_millis(u64::try_from(addresses).unwrap_or(u64::MAX))
        + Duration::from_secs(3)
}

/// The state of every service interface with its addresses, before anything is decided.
async fn first_dump(monitor: &mut Monitor, links: usize) -> Result<Vec<Message>, RunError> {
    let what = "cannot read the state of the network";
    let mut first = Vec::new();
    // One state for each link, and the addresses of those that exist.
    let mut missing = links;
    let dump = async {
        while missing > 0 {
            let event = monitor.next().await.map_err(io_at(what))?;
            match &event {
                MonitorEvent::Link { state, .. } if state.index.is_none() => missing -= 1,
                MonitorEvent::Addresses { .. } => missing -= 1,
                _ => {}
            }
            first.push(Message::Network(event));
        }
        Ok(())
    };
    match tokio::time::timeout(DUMP, dump).await {
        Ok(done) => done.map(|()| first),
        Err(_) => Err(RunError::Io { what, error: io::ErrorKind::TimedOut.into() }),
    }
}
