//! `vipd run`: what happens in which order at start and stop, and the main thread in between.
//!
//! Start: capabilities, locks, configuration, keys, boot counter, first dump of links and addresses, sockets, and
//! only then the engine's first timer, so that tagged addresses of an earlier run are known before anything is
//! decided. Stop: the engine hands over and releases, the kernel thread finishes, the process ends.

use super::activation::{Activations, Readings};
use super::chronicle::Chronicle;
use super::control::Control;
use super::crashes::{self, Past};
use super::hooks::Hooks;
use super::keys::{self, KeyError};
use super::load::{self, LoadError};
use super::lock::{Lock, LockError};
use super::observe::{self, Counting};
use super::protocol::{Parts, Protocol, Told};
use super::pulse::Pulse;
use super::queue::{self, Message, Sender};
use super::report::Facts;
use super::scripts::ScriptChecks;
use super::slots::Slots;
use super::tasks::{Asked, Task, Tasks};
use super::threads::{self, Threads};
use super::{boot, memory};
use crate::control::server::{Limits, Server};
use crate::control::socket_path;
use crate::exec;
use crate::exec::client::{Runner, Whereabouts};
use crate::health::Checks;
use crate::kernel::{self, Claims, Monitor, MonitorEvent, Worker};
use crate::sys::capability::{self, Missing};
use crate::sys::{AlreadyRunning, NamespaceLock, Watchdog, clock};
use crate::telemetry::{self, Teller, operation_name};
use sd_notify::NotifyState;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use vipd_core::config::model::{Check, Model, Probe};
use vipd_core::engine::io::{EventKind, Reading};

/// Longest time for the first dump of links and addresses.
const DUMP: Duration = Duration::from_secs(10);
/// The last words of a clean stop.
const STOPPED: &str = "stopped; nothing is owned by this host";
/// Events that may wait for the log.
const EVENTS: usize = 1024;

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
    telemetry::init();
    capability::check()?;
    // The folder first: its holder can be named.
    let _folder = Lock::take(&options.runtime_dir)?;
    let _namespace = NamespaceLock::acquire()?;
    let loaded = load::for_host(&options.config, &options.host)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.trim_end());
    }
    let model = Arc::new(loaded.meaning);
    let secrets = keys::secrets(&model)?;
    let boot = boot::next(&options.state_dir, &options.runtime_dir);
    if let Some(warning) = &boot.warning {
        tracing::warn!("{warning}");
    }

    let (recalled, warnings) = memory::read(&options.state_dir, &model);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let store = memory::Writer::start(&options.state_dir)
        .map_err(io_at("cannot start the storing thread"))?;
    let (chronicle, warning) = Chronicle::open(&options.state_dir, Arc::clone(&model))
        .map_err(io_at("cannot start the thread of the history"))?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
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
    let (told, events) = mpsc::channel(EVENTS);
    let slots = Slots::new(model.instances.len());
    let pulse = watchdog().map(|watchdog| Pulse::new(watchdog, &model));
    let parts = Parts {
        model: Arc::clone(&model),
        secrets,
        boot: boot.counter,
        recalled,
        backup_for: past.starts_as_backup().then(|| past.wait()),
        inbox,
        slots: slots.clone(),
        told,
        pulse,
    };
    let protocol =
        Protocol::new(parts).map_err(io_at("cannot make the poller of the protocol thread"))?;

    threads::main_loop(async {
        let mut monitor =
            Monitor::open(&model, claims).map_err(io_at("cannot watch the network"))?;
        let first = first_dump(&mut monitor, model.links.len()).await?;
        let threads = Threads::start(protocol, first, worker, slots, sender.clone())?;
        let boot = boot.counter;
        let main =
            Main { options, model, boot, monitor, events, sender, threads, past, store, chronicle };
        main.run().await
    })
    .map_err(io_at("cannot start the main loop"))?
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
    model: Arc<Model>,
    /// Number of this start.
    boot: u64,
    monitor: Monitor,
    events: mpsc::Receiver<Told>,
    sender: Sender,
    threads: Threads,
    past: Past,
    store: memory::Writer,
    chronicle: Chronicle,
}

/// What the main thread does with events beside telling them.
struct Duties {
    teller: Teller,
    counting: Counting,
    hooks: Hooks,
    activations: Activations,
    /// They end with it.
    _checks: Checks,
}

impl Main<'_> {
    async fn run(mut self) -> Result<(), RunError> {
        let control = Server::bind(&socket_path(&self.options.runtime_dir), Limits::default())
            .map_err(io_at("cannot listen on the control socket"))?;
        let facts = Facts {
            model: Arc::clone(&self.model),
            scheduling: Arc::clone(&self.threads.scheduling),
            memory: Arc::clone(&self.threads.memory),
        };
        let mut duties = self.duties();
        let _monitoring = observe::start(&facts, &duties.counting, &self.sender);
        let (tasks, mut asked) = Tasks::new();
        let (sender, chronicle) = (self.sender.clone(), self.chronicle.clone());
        let handler = Control::new(facts, sender, chronicle, tasks, self.boot);
        let control = tokio::spawn(control.serve(handler));
        let ended = self.serve(&mut duties, &mut asked).await;
        control.abort();
        // Its file goes with it.
        let _ = control.await;
        // What the engine said last.
        while let Ok(told) = self.events.try_recv() {
            self.tell(&mut duties, told);
        }
        if ended.is_ok() {
            self.chronicle.agent(false, STOPPED.into());
            duties.hooks.stop().await;
        }
        ended
    }

    fn duties(&self) -> Duties {
        let runner =
            if has_programs(&self.model) { Runner::start(self.executor()) } else { Runner::none() };
        let readings = Readings::new(&self.model);
        let counting = Counting::new(&self.model);
        let model = || Arc::clone(&self.model);
        let report = {
            let (readings, counting) = (readings.clone(), counting.clone());
            let engine = self.sender.clone();
            move |check, reading: Reading| {
                readings.note(check, &reading);
                counting.check(check, &reading);
                engine.offer(Message::Check(check, reading));
            }
        };
        let scripts = ScriptChecks::new(model(), runner.clone());
        Duties {
            _checks: Checks::start(&self.model, report, scripts),
            teller: Teller::new(model()),
            counting,
            hooks: Hooks::new(model(), runner.clone()),
            activations: Activations::new(model(), runner, readings, self.sender.clone()),
        }
    }

    /// Where `vipd exec` is, and how it is started as a child: the same program with the same four options.
    fn executor(&self) -> Whereabouts {
        let Options { config, host, runtime_dir, state_dir } = self.options;
        let options: [(&str, &OsStr); 4] = [
            ("--config", config.as_os_str()),
            ("--host", host.as_ref()),
            ("--runtime-dir", runtime_dir.as_os_str()),
            ("--state-dir", state_dir.as_os_str()),
        ];
        // The file that this process runs, whatever has become of its name.
        let mut command = vec![OsString::from("/proc/self/exe")];
        for (name, value) in options {
            command.extend([OsString::from(name), value.to_owned()]);
        }
        Whereabouts {
            socket: exec::socket_path(runtime_dir),
            command,
            managed: std::env::var_os("NOTIFY_SOCKET").is_some(),
        }
    }

    async fn serve(
        &mut self,
        duties: &mut Duties,
        asked: &mut mpsc::Receiver<Asked>,
    ) -> Result<(), RunError> {
        let signals = io_at("cannot listen to signals");
        let mut terminate = signal(SignalKind::terminate()).map_err(&signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(&signals)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(&signals)?;
        // The protocol thread has begun when it answers: sockets are open, left-overs known.
        let (tx, begun) = oneshot::channel();
        self.sender.send(Message::Report(tx)).map_err(|_| RunError::Died("protocol"))?;
        begun.await.map_err(|_| RunError::Died("protocol"))?;
        self.tell_scheduling();
        notify(&[NotifyState::Ready]);
        let cluster = match &*self.model.cluster {
            "" => "a group without a name",
            name => name,
        };
        let line = format!(
            "vipd {} is host {} of {cluster}, {} instances",
            env!("CARGO_PKG_VERSION"),
            self.model.host_name(self.model.host),
            self.model.instances.len()
        );
        tracing::info!("{line}");
        self.chronicle.agent(true, line);

        let patience = patience(&self.model);
        let mut give_up: Option<tokio::time::Instant> = None;
        loop {
            let stopping = give_up.is_some();
            let out_of_patience = async {
                match give_up {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let stop = tokio::select! {
                // Ends first: what else happens then is a consequence.
                biased;
                ended = &mut self.threads.protocol_ended => {
                    match ended {
                        Ok(Ok(())) if stopping => break,
                        Ok(Err(error)) => return Err(RunError::Io { what: "the protocol thread", error }),
                        Ok(Ok(())) | Err(_) => return Err(RunError::Died("protocol")),
                    }
                }
                _ = &mut self.threads.kernel_ended => return Err(RunError::Died("kernel")),
                () = out_of_patience => return Err(self.remove_by_force(patience)),
                Some(told) = self.events.recv() => {
                    self.tell(duties, told);
                    continue;
                }
                event = self.monitor.next() => {
                    let event = event.map_err(io_at("cannot watch the network"))?;
                    self.hand_over(Message::Network(event));
                    continue;
                }
                Some(asked) = asked.recv() => {
                    take(asked);
                    continue;
                }
                _ = hangup.recv() => {
                    tracing::warn!("SIGHUP: reload is not in this version; restart to use a changed configuration");
                    continue;
                }
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if !stopping {
                tracing::info!("{stop}: handing over");
                notify(&[NotifyState::Stopping]);
                crashes::leaving(&self.options.runtime_dir, self.past, clock::monotonic());
                self.hand_over(Message::Stop);
                give_up = Some(tokio::time::Instant::now() + patience);
            }
        }
        self.threads.slots.close();
        // Closed, so it ends after what it has in hand.
        let _ = (&mut self.threads.kernel_ended).await;
        crashes::end(&self.options.runtime_dir);
        tracing::info!("{STOPPED}");
        Ok(())
    }

    fn hand_over(&self, message: Message) {
        // A protocol thread that has ended says so by itself, with its reason.
        let _ = self.sender.send(message);
    }

    fn tell(&self, duties: &mut Duties, told: Told) {
        let event = match told {
            Told::Socket(text) => {
                tracing::warn!("{text}; trying again each second");
                return;
            }
            Told::Activate { instance, order } => {
                let occasion = duties.hooks.activation(instance);
                duties.activations.begin(instance, order, occasion);
                return;
            }
            Told::Event(event) => event,
        };
        let telling = duties.teller.tell(&event);
        if let Some(state) = &telling.state {
            notify(&[NotifyState::Status(state)]);
        }
        duties.counting.observe(&event);
        self.chronicle.event(&event, telling);
        duties.hooks.observe(&event);
        if let EventKind::Remember(memory) = &event.kind {
            let instance = event.instance.map(|ix| &*self.model.instance(ix).name);
            self.store.store(instance, memory);
        }
        if let EventKind::Boot { counter, .. } = event.kind {
            let Options { state_dir, runtime_dir, .. } = self.options;
            if let Err(error) = boot::raise(state_dir, runtime_dir, counter) {
                tracing::warn!("cannot store the boot counter: {error}");
            }
        }
    }

    /// The engine did not finish: the addresses go all the same, without a handover.
    fn remove_by_force(&self, patience: Duration) -> RunError {
        self.threads.slots.close();
        match kernel::cleanup(&self.options.runtime_dir) {
            Ok(cleaned) => cleaned.errors.iter().for_each(|error| tracing::error!("{error}")),
            Err(error) => tracing::error!(
                "cannot remove the addresses: {error}; their leases end by themselves"
            ),
        }
        RunError::Stuck(patience)
    }

    fn tell_scheduling(&self) {
        for granted in [&self.threads.scheduling, &self.threads.memory] {
            if let Some(Err(reason)) = granted.get() {
                tracing::warn!("{reason}");
            }
        }
    }
}

/// What an operator asks of this thread.
fn take(asked: Asked) {
    let id = operation_name(asked.id);
    tracing::debug!("operation {id}: {:?} was asked for, dry run: {}", asked.task, asked.dry_run);
    let said = match asked.task {
        Task::Reload => "reload is not in this version; restart to use a changed configuration",
        Task::Reexec => "reexec is not in this version; restart to use another program",
    };
    let _ = asked.answer.send(Err(said.into()));
}

/// Is there anything for `vipd exec` to do?
fn has_programs(model: &Model) -> bool {
    let script = |check: &Check| matches!(check.probe, Probe::Script(_));
    !model.hooks.is_empty()
        || model.checks.iter().any(script)
        || model.instances.iter().any(|instance| instance.standby.activation().is_some())
}

/// Longest time that a clean stop may take: the overlap of a handover (DESIGN 5.5), and as much again for the kernel.
fn patience(model: &Model) -> Duration {
    let longest = model.instances.iter().map(|i| i.interval.duration()).max().unwrap_or_default();
    let addresses: usize = model.instances.iter().map(|i| i.claimed().count()).sum();
    longest * 2
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
