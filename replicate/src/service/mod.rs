//! The process `vipd-replicate`: joins the agent, the disk (`vipd_replicator::set`) and the network
//! (`vipd_replicator::net`).
//!
//! ```text
//!             agent                     worker, one a set              pushing, one a set and other host
//!  control.sock ──> Order ──> Service ──> role, barrier ──> Set ──> wake ──> Pusher ══> their Receiver
//!        Word <──────────────────┘                           ^
//!                            answer: replica.sock            └── inbound: Listener, Receiver <══ their Pusher
//! ```
//!
//! The main thread runs tokio and does nothing that blocks; everything that touches a file has a thread of its own. It
//! pushes only while the agent says that this host owns, and stops when the agent has been gone for [`GRACE`]. It never
//! decides who owns, and touches no address.

mod agent;
mod answer;
mod inbound;
mod pulse;
mod pushing;
mod sets;
mod worker;

use agent::FromAgent;
use answer::Answers;
use pulse::Pulse;
use sd_notify::NotifyState;
use sets::{Ready, Sets};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::sync::mpsc::UnboundedSender;
use vipd_agent::control::socket_path;
use vipd_agent::runtime::keys::KeyError;
use vipd_agent::runtime::load::{self, LoadError};
use vipd_agent::sys::clock;
use vipd_agent::telemetry;
use vipd_core::replica::{EpochWord, Order, Role, SetReport, Word};
use vipd_core::time::Instant;
use worker::Stand;

/// Between two reports where nothing happens.
const REPORT: Duration = Duration::from_secs(1);
/// Who has not taken a change for so long is not about to.
const AWAY_MS: u64 = 10_000;
/// Between two looks whether something is worth a report at once.
const LOOK: Duration = Duration::from_millis(50);
/// An agent that is away for longer may have lost the address: nothing is pushed any more.
const GRACE: Duration = Duration::from_secs(3);

/// Where this replicator lives: the same four options as the agent's.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Configuration file.
    pub(crate) config: PathBuf,
    /// Which host of it this is.
    pub(crate) host: String,
    /// Folder of the agent's control socket and of `replica.sock`.
    pub(crate) runtime_dir: PathBuf,
    /// Folder of what survives a restart of the machine.
    pub(crate) state_dir: PathBuf,
}

/// Why the replicator does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// The configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The cluster key is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Sets without a key: the configuration check does not let that pass.
    #[error("replication needs [cluster] key-file and [hosts.NAME] paths")]
    NoKey,
    /// The kernel refused something.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's words.
        error: io::Error,
    },
}

fn io_at(what: &'static str) -> impl Fn(io::Error) -> ServiceError {
    move |error| ServiceError::Io { what, error }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start.
pub(crate) fn run(options: &Options) -> Result<(), ServiceError> {
    telemetry::init();
    let what = "cannot start the main loop";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(io_at(what))?;
    let done = runtime.block_on(Service::serve(options));
    runtime.shutdown_background();
    done
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot reach the service manager: {error}");
    }
}

/// A barrier over all sets of an instance.
struct Gathering {
    waits_for: usize,
    failed: Option<String>,
}

/// The main thread.
struct Service<'o> {
    options: &'o Options,
    sets: Sets,
    answers: Answers,
    words: UnboundedSender<Word>,
    to_agent: UnboundedSender<Word>,
    barriers: BTreeMap<u64, Gathering>,
    /// What the agent said last.
    roles: Vec<Role>,
    /// Since when the agent is gone.
    gone_since: Option<Instant>,
    /// Was that said?
    gone_told: bool,
    state: String,
    /// What the last report said, but figures that always change; and when it was.
    outline: Vec<Outline>,
    reported: Instant,
    pulse: Pulse,
}

impl<'o> Service<'o> {
    async fn serve(options: &'o Options) -> Result<(), ServiceError> {
        let signals = io_at("cannot listen to signals");
        let mut terminate = signal(SignalKind::terminate()).map_err(&signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(&signals)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(&signals)?;
        let loaded = load::for_host(&options.config, &options.host)?;
        for warning in &loaded.warnings {
            tracing::warn!("{}", warning.trim_end());
        }
        let ready = Ready::new(loaded.meaning)?;
        // Now: reading large trees may take a while, and the agent is started after this process.
        notify(&[NotifyState::Ready]);
        let (words, mut said) = mpsc::unbounded_channel();
        let sets = Sets::open(options, ready, &words);
        let (tell, mut agent) = mpsc::unbounded_channel();
        let (to_agent, from_here) = mpsc::unbounded_channel();
        let answers = Answers::default();
        answers.show(&sets);
        let socket = options.runtime_dir.join(answer::SOCKET);
        tokio::spawn(answer::serve(socket, answers.clone()));
        tokio::spawn(agent::speak(socket_path(&options.runtime_dir), tell, from_here));
        let mut service = Self {
            options,
            sets,
            answers,
            words,
            to_agent,
            barriers: BTreeMap::new(),
            roles: Vec::new(),
            gone_since: Some(clock::monotonic()),
            gone_told: false,
            state: String::new(),
            outline: Vec::new(),
            reported: clock::monotonic(),
            pulse: Pulse::new(),
        };
        tracing::info!(
            "vipd-replicate {} on host {}, {} sets",
            env!("CARGO_PKG_VERSION"),
            options.host,
            service.sets.workers.len()
        );
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(heard) = agent.recv() => service.heard(heard),
                Some(word) = said.recv() => service.pass(word),
                _ = tick.tick() => service.look(),
                _ = hangup.recv() => service.reload(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        notify(&[NotifyState::Stopping]);
        tracing::info!("stops");
        service.sets.stop();
        Ok(())
    }

    fn heard(&mut self, heard: FromAgent) {
        match heard {
            FromAgent::Here => {
                tracing::info!("the agent is there");
                (self.gone_since, self.gone_told) = (None, false);
                self.report();
            }
            FromAgent::Gone(why) => {
                if !self.gone_told {
                    tracing::warn!("{why}; trying again");
                    self.gone_told = true;
                }
                self.gone_since.get_or_insert_with(clock::monotonic);
                // Whoever waited there waits no longer, and says no more that it is over.
                self.barriers.clear();
                self.sets.workers.iter().for_each(|worker| worker.barriers_over());
            }
            FromAgent::Order(Order::Roles(roles)) => {
                self.roles = roles;
                self.assign();
                self.report();
            }
            FromAgent::Order(Order::Barrier(barrier)) => {
                if let Some(why) = self.sets.out_of_use(&barrier.instance) {
                    let _ = self.to_agent.send(Word::Barrier { id: barrier.id, failed: Some(why) });
                    return;
                }
                let limit = Duration::from_millis(barrier.deadline_ms);
                let workers: Vec<_> = self.sets.of(&barrier.instance).collect();
                let gathering = Gathering { waits_for: workers.len(), failed: None };
                if workers.is_empty() {
                    let failed = Some(format!("no set follows {} here", barrier.instance));
                    let _ = self.to_agent.send(Word::Barrier { id: barrier.id, failed });
                    return;
                }
                for worker in workers {
                    worker.barrier(barrier.id, barrier.to.clone(), limit);
                }
                self.barriers.insert(barrier.id, gathering);
            }
            FromAgent::Order(Order::Reload) => self.reload(),
            FromAgent::Order(Order::BarrierOver { id }) => {
                self.barriers.remove(&id);
                self.sets.workers.iter().for_each(|worker| worker.barrier_over(id));
            }
        }
    }

    /// Tells each set what the agent said last.
    fn assign(&self) {
        for role in &self.roles {
            let stand = Stand { owns: role.owns, epoch: role.epoch.into() };
            for worker in self.sets.of(&role.instance) {
                worker.stand(stand);
                if let (true, Some(inbound)) = (stand.owns, &self.sets.inbound) {
                    inbound.close(&worker.shared.name);
                }
            }
        }
    }

    /// A word of a worker, on its way to the agent.
    fn pass(&mut self, word: Word) {
        let word = match word {
            Word::Barrier { id, failed } => {
                let Some(gathering) = self.barriers.get_mut(&id) else { return };
                gathering.waits_for = gathering.waits_for.saturating_sub(1);
                gathering.failed = gathering.failed.take().or(failed);
                if gathering.waits_for > 0 && gathering.failed.is_none() {
                    return;
                }
                let failed = self.barriers.remove(&id).and_then(|gathering| gathering.failed);
                Word::Barrier { id, failed }
            }
            Word::Event { set, text, alarm } => {
                if alarm {
                    tracing::warn!("set {set}: {text}");
                } else {
                    tracing::info!("set {set}: {text}");
                }
                self.answers.note(&set, &text, alarm);
                Word::Event { set, text, alarm }
            }
            word @ Word::Report(_) => word,
        };
        let _ = self.to_agent.send(word);
    }

    fn look(&mut self) {
        self.pulse.beat(clock::monotonic());
        let reports = self.sets.reports();
        let outline = outline(&reports);
        let due = gauge_moves(&reports) || clock::monotonic().since(self.reported) >= REPORT;
        if !due && outline == self.outline {
            return;
        }
        self.outline = outline;
        self.reported = clock::monotonic();
        if self.gone_since.is_some_and(|since| clock::monotonic().since(since) >= GRACE) {
            self.sets.workers.iter().for_each(|worker| worker.agent_gone());
        }
        if let Some(inbound) = &self.sets.inbound {
            inbound.look();
        }
        if self.sets.try_again(self.options, &self.words) {
            self.answers.show(&self.sets);
            if self.gone_since.is_none() {
                self.assign();
            }
        }
        self.report();
    }

    fn report(&mut self) {
        self.sets.workers.iter().for_each(|worker| worker.pass_notices());
        let reports = self.sets.reports();
        let state = state(&reports, self.gone_since.is_some());
        if state != self.state {
            notify(&[NotifyState::Status(&state)]);
            self.state = state;
        }
        if !reports.is_empty() {
            let _ = self.to_agent.send(Word::Report(reports));
        }
    }

    /// Reads the file anew; a bad one changes nothing. One that means the same only has sets that could not be opened tried
    /// again.
    fn reload(&mut self) {
        let loaded = load::for_host(&self.options.config, &self.options.host);
        let model = match loaded {
            Ok(loaded) => loaded.meaning,
            Err(error) => {
                tracing::error!("{error}\nthe old configuration stays in use");
                return;
            }
        };
        if self.sets.means_the_same(&model) {
            tracing::info!("the configuration means the same as before");
            self.sets.try_now();
            return;
        }
        let ready = match Ready::new(model) {
            Ok(ready) => ready,
            Err(error) => {
                tracing::error!("{error}; the old configuration stays in use");
                return;
            }
        };
        // Threads end, and what they left is finished.
        self.pulse.pause();
        self.sets.stop();
        self.sets = Sets::open(self.options, ready, &self.words);
        self.answers.show(&self.sets);
        tracing::info!("goes on with the new configuration");
        if self.gone_since.is_none() {
            self.assign();
        }
    }
}

/// What makes a report news: role, ownership, whether there is a copy, whether something is to come, who has everything.
type Outline = (bool, EpochWord, bool, bool, Vec<bool>);

fn outline(reports: &[SetReport]) -> Vec<Outline> {
    let each = reports.iter().map(|report| {
        let in_sync = report.peers.iter().map(|peer| peer.in_sync).collect();
        (report.owns, report.epoch, report.age_ms.is_some(), report.pending_bytes > 0, in_sync)
    });
    each.collect()
}

/// While something is on its way the gauge moves: what the agent shows of it is as old as a look at most. Where a standby is
/// away for long a second more or less tells nobody anything.
fn gauge_moves(reports: &[SetReport]) -> bool {
    let moves = |ms: u64| ms > 0 && ms < AWAY_MS;
    reports.iter().any(|report| report.owns && report.rpo_ms.is_some_and(moves))
}

/// One line for the service manager.
fn state(reports: &[SetReport], alone: bool) -> String {
    if reports.is_empty() {
        return "no sets".to_owned();
    }
    let pushes = reports.iter().filter(|report| report.owns).count();
    let alarms: usize = reports.iter().map(|report| report.alarms.len()).sum();
    let agent = if alone { ", the agent is away" } else { "" };
    format!("{} sets, {pushes} pushed from here, {alarms} alarms{agent}", reports.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_quickly_while_an_owner_sends_and_not_for_a_standby_that_is_away() {
        let of = |owns, rpo_ms| SetReport { owns, rpo_ms, ..SetReport::default() };
        assert!(gauge_moves(&[of(false, None), of(true, Some(1))]));
        assert!(gauge_moves(&[of(true, Some(AWAY_MS - 1))]));
        let slow = [of(true, Some(0)), of(true, None), of(true, Some(10_000)), of(false, Some(1))];
        assert!(!gauge_moves(&slow));
    }
}
