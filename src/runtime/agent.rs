//! `vipd run`: what happens in which order at start and stop, and the main thread in between.
//!
//! Start: capabilities, locks, configuration, keys, boot counter, first dump of links and addresses, sockets, and
//! only then the engine's first timer, so that tagged addresses of an earlier run are known before anything is
//! decided. Stop: the engine hands over and releases, the kernel thread finishes, the process ends. Restart: the engine
//! prepares, what it knows is written down, and another program goes on (DESIGN 5.7).

mod reloading;

use super::activation::{Activations, Readings};
use super::chronicle::Chronicle;
use super::control::Control;
use super::crashes::{self, Past};
use super::ending::{Ending, Next, Turn};
use super::handover::Left;
use super::hooks::Hooks;
use super::keys::{self, KeyError};
use super::load::LoadError;
use super::lock::{Lock, LockError};
use super::moving::Moving;
use super::observe::{self, Counting, Serving};
use super::protocol::{End, Parts, Protocol, Told};
use super::pulse::Pulse;
use super::queue::{self, Message, Sender};
use super::reload::{self, Asker, Reloads};
use super::replica::Replication;
use super::report::Facts;
use super::scripts::ScriptChecks;
use super::slots::Slots;
use super::standing::{self, InForce, Keeper, Start};
use super::successor::{self, Successor};
use super::sync::Syncs;
use super::tasks::{Asked, No, Task, Tasks};
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
use crate::telemetry::{self, Teller};
use sd_notify::NotifyState;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Event, EventKind, Handover, OperationStep, Reading};
use vipd_core::types::CheckIx;

/// Longest time for the first dump of links and addresses.
const DUMP: Duration = Duration::from_secs(10);
/// The last words of a clean stop.
const STOPPED: &str = "stopped; nothing is owned by this host";
/// Said at a start with a file that cannot be used.
const LAST_GOOD: &str = "the configuration file cannot be used: runs on the last good one; mend the file, then `vipd reload`";
/// The last word before another agent goes on.
const REPLACED: &str = "ends for the next agent of this host; addresses stay";
/// For signals that came before they were held back.
const LAST_SIGNALS: Duration = Duration::from_millis(1);
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
    let (told, events) = mpsc::channel(EVENTS);
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

/// What the main thread does with events beside telling them.
struct Duties {
    teller: Teller,
    counting: Counting,
    hooks: Hooks,
    activations: Activations,
    moving: Moving<Replication>,
    replication: Replication,
    syncs: Syncs,
    /// The way to the programs of `vipd exec`.
    runner: Runner,
    readings: Readings,
    /// They end with it.
    checks: Option<Checks>,
    monitoring: Option<Serving>,
}

impl Main<'_> {
    async fn run(mut self) -> Result<Ended, RunError> {
        let control = Server::bind(&socket_path(&self.options.runtime_dir), Limits::default())
            .map_err(io_at("cannot listen on the control socket"))?;
        let mut duties = self.duties();
        duties.monitoring = observe::start(&self.facts, &self.sender);
        let (tasks, mut asked) = Tasks::new();
        let (sender, chronicle) = (self.sender.clone(), self.chronicle.clone());
        let handler = Control::new(self.facts.clone(), sender, chronicle, tasks, self.boot);
        let control = tokio::spawn(control.serve(handler));
        let replication = tokio::spawn(self.facts.replication.clone().tend());
        let ended = self.serve(&mut duties, &mut asked).await;
        replication.abort();
        control.abort();
        // Its file goes with it.
        let _ = control.await;
        // What the engine said last.
        while let Ok(told) = self.events.try_recv() {
            self.tell(&mut duties, told);
        }
        match &ended {
            Ok(Ended::Stopped) => {
                self.chronicle.agent(false, STOPPED.into());
                duties.hooks.stop().await;
            }
            Ok(Ended::Replaced(..)) => self.chronicle.agent(false, REPLACED.into()),
            Err(_) => {}
        }
        ended
    }

    fn duties(&self) -> Duties {
        let runner = self.runner();
        let readings = Readings::default();
        let counting = self.facts.counting.clone();
        let engine = self.sender.clone();
        let activations =
            Activations::new(self.facts.in_force.clone(), runner.clone(), readings.clone(), engine);
        Duties {
            checks: Some(self.checks(&counting, &readings, &runner)),
            teller: Teller::new(Arc::clone(&self.model)),
            hooks: Hooks::new(Arc::clone(&self.model), runner.clone(), counting.clone()),
            counting,
            moving: Moving::new(
                self.facts.in_force.clone(),
                self.sender.clone(),
                self.facts.replication.clone(),
            ),
            replication: self.facts.replication.clone(),
            syncs: Syncs::start(&self.model),
            activations,
            runner,
            readings,
            monitoring: None,
        }
    }

    /// A way to the programs of the configuration in force.
    fn runner(&self) -> Runner {
        if reloading::has_programs(&self.model) {
            Runner::start(self.executor())
        } else {
            Runner::none()
        }
    }

    /// The checks of the configuration in force, started.
    fn checks(&self, counting: &Counting, readings: &Readings, runner: &Runner) -> Checks {
        let (readings, counting) = (readings.clone(), counting.clone());
        let (engine, model) = (self.sender.clone(), Arc::clone(&self.model));
        let report = move |check: CheckIx, reading: Reading| {
            readings.note(&model.check(check).name, &reading);
            counting.check(check, &reading);
            engine.offer(Message::Check(check, reading));
        };
        let scripts = ScriptChecks::new(Arc::clone(&self.model), runner.clone());
        Checks::start(&self.model, report, scripts)
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
    ) -> Result<Ended, RunError> {
        let signals = io_at("cannot listen to signals");
        let mut terminate = signal(SignalKind::terminate()).map_err(&signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(&signals)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(&signals)?;
        successor::welcome_signals();
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

        if let Some(left) = self.left.take() {
            self.goes_on(duties, &left);
        }
        let mut ended = loop {
            tokio::select! {
                // Ends first: what else happens then is a consequence.
                biased;
                ended = &mut self.threads.protocol_ended => match (ended, self.ending.replaced()) {
                    (Ok(Ok(End::Stopped)), _) if self.ending.stopping() => break Ended::Stopped,
                    (Ok(Ok(End::Replaced(engine))), Some(next)) => {
                        break Ended::Replaced(engine, next);
                    }
                    (Ok(Err(error)), _) => {
                        return Err(RunError::Io { what: "the protocol thread", error });
                    }
                    _ => return Err(RunError::Died("protocol")),
                },
                _ = &mut self.threads.kernel_ended => return Err(RunError::Died("kernel")),
                turn = self.ending.next() => match turn {
                    Turn::Stop => self.stop(),
                    Turn::Tell(id, step) => self.tell_step(duties, id, step),
                    Turn::OutOfPatience => return Err(self.remove_by_force()),
                },
                turn = self.reloads.next() => match turn {
                    reload::Turn::Read(asker, read) => self.judge(duties, asker, read).await,
                    reload::Turn::Retired(candidate, operation) => {
                        self.put_in_force(duties, *candidate, operation).await;
                    }
                },
                Some(told) = self.events.recv() => self.tell(duties, told),
                due = duties.syncs.next() => duties.hooks.due(due.hook, due.moment),
                event = self.monitor.next() => {
                    let event = event.map_err(io_at("cannot watch the network"))?;
                    self.hand_over(Message::Network(event));
                }
                Some(asked) = asked.recv() => self.take(asked),
                _ = hangup.recv() => {
                    let began = NotifyState::monotonic_usec_now().ok();
                    let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(began).collect();
                    notify(&states);
                    self.reloads.ask(Asker::Signal, self.facts.in_force.model());
                }
                _ = terminate.recv() => self.ending.terminate(),
                _ = interrupt.recv() => {
                    if self.ending.stop("SIGINT").is_some() {
                        self.stop();
                    }
                }
            }
        };
        self.threads.slots.close();
        // Closed, so it ends after what it has in hand.
        let _ = (&mut self.threads.kernel_ended).await;
        crashes::end(&self.options.runtime_dir);
        if let Ended::Replaced(_, next) = &mut ended {
            // What comes from here on waits for the next agent; what came a moment ago is passed on.
            successor::hold_signals();
            let late = tokio::time::timeout(LAST_SIGNALS, terminate.recv()).await;
            next.terminate |= late.is_ok() && !next.managed;
            tracing::info!("{REPLACED}");
        } else {
            tracing::info!("{STOPPED}");
        }
        Ok(ended)
    }

    /// Begins the clean stop.
    fn stop(&self) {
        notify(&[NotifyState::Stopping]);
        crashes::leaving(&self.options.runtime_dir, self.past, clock::monotonic());
        self.hand_over(Message::Stop);
    }

    /// This agent goes on for another one, and ends what that one had begun.
    fn goes_on(&mut self, duties: &mut Duties, left: &Left) {
        let gap = clock::monotonic().since(left.engine.at);
        let line = format!("goes on for vipd {}, {gap:.0?} after its last word", left.version);
        tracing::info!("{line}");
        if let Some(id) = left.operation {
            self.tell_step(duties, id, OperationStep::Done(line.into()));
        }
        if left.terminate {
            self.ending.terminate();
        }
    }

    fn tell_step(&self, duties: &mut Duties, id: u64, step: OperationStep) {
        let kind = EventKind::Operation { id, step };
        let event = Event { at: clock::monotonic(), instance: None, family: None, kind };
        self.tell(duties, Told::Event(event));
    }

    /// What an operator asks of this thread.
    fn take(&mut self, asked: Asked) {
        match asked.task {
            Task::Reexec if self.reloads.busy() => {
                let _ = asked.answer.send(Err(No::Refused("a reload is under way".into())));
            }
            Task::Reexec => self.ending.reexec(asked),
            Task::Reload => self.reloads.ask(Asker::Operator(asked), self.facts.in_force.model()),
        }
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
            Told::PrePromote { instance, order, from } => {
                duties.moving.pre_promote(&duties.hooks, instance, order, from);
                return;
            }
            Told::NotPromoted { instance, order } => {
                duties.moving.not_promoted(&duties.hooks, instance, order);
                return;
            }
            Told::Barrier { instance, order, to, deadline } => {
                duties.moving.barrier(&duties.hooks, instance, order, to, deadline);
                return;
            }
            Told::BarrierOver { instance, order, moved } => {
                duties.moving.barrier_over(&duties.hooks, instance, order, moved);
                return;
            }
            Told::Event(event) => event,
        };
        if let EventKind::Role(_) = event.kind {
            duties.replication.roles_changed();
        }
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
    fn remove_by_force(&self) -> RunError {
        self.threads.slots.close();
        match kernel::cleanup(&self.options.runtime_dir) {
            Ok(cleaned) => cleaned.errors.iter().for_each(|error| tracing::error!("{error}")),
            Err(error) => tracing::error!(
                "cannot remove the addresses: {error}; their leases end by themselves"
            ),
        }
        RunError::Stuck(patience(&self.model))
    }

    fn tell_scheduling(&self) {
        for granted in [&self.threads.scheduling, &self.threads.memory] {
            if let Some(Err(reason)) = granted.get() {
                tracing::warn!("{reason}");
            }
        }
    }
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
    let barrier = model.iter().filter_map(|(ix, _)| model.barrier(ix)).max().unwrap_or_default();
    longest * 2
        + barrier
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
