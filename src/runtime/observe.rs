//! What monitoring asks the agent: figures, health and readiness, answered from one report of the protocol thread.
//!
//! Started by [`super::agent`] where `[telemetry] listen` is set. However often it is asked, the protocol thread
//! is asked a few times a second ([`Reporter`]), and nobody waits for it longer than two seconds.

use super::control::reporter::Reporter;
use super::hooks::Report as RunReport;
use super::protocol::Report;
use super::queue::Sender;
use super::report::Facts;
use crate::exec::client::Outcome;
use crate::exec::protocol::{End, Event as Word};
use crate::sys::clock;
use crate::telemetry::http::{self, Limits, Pages, Verdict};
use crate::telemetry::metrics::{Figures, Format, Loop, Replicas};
use crate::telemetry::{HookOf, HookRun, HookTally, Tally, cause_text};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Event, Reading};
use vipd_core::engine::reload::Renumber;
use vipd_core::engine::snapshot::{Snapshot, UnitView};
use vipd_core::types::{CheckIx, Class, State};

/// Between two looks whether a reload is through, and how many of them: it takes milliseconds.
const SOON: Duration = Duration::from_millis(20);
const ROUNDS: u32 = 50;

/// The tally that the main thread fills and scrapes read, with the configuration that numbers it.
#[derive(Clone, Debug)]
pub(super) struct Counting(Arc<Mutex<(Tally, Arc<Model>)>>);

impl Counting {
    /// Nothing has happened yet.
    pub(super) fn new(model: &Arc<Model>) -> Self {
        Self(Arc::new(Mutex::new((Tally::new(model), Arc::clone(model)))))
    }

    /// Another configuration is in force.
    pub(super) fn reload(&self, model: &Arc<Model>, renumber: &Renumber) {
        self.with(|(tally, numbers)| {
            tally.reload(model, renumber);
            numbers.clone_from(model);
        });
    }

    /// Something happened.
    pub(super) fn observe(&self, event: &Event) {
        self.with(|(tally, _)| tally.observe(event));
    }

    /// A check was run.
    pub(super) fn check(&self, check: CheckIx, reading: &Reading) {
        self.with(|(tally, _)| tally.check(check, reading));
    }

    /// A hook was run for an instance.
    pub(super) fn hook(
        &self,
        hook: &Arc<str>,
        instance: &Arc<str>,
        event: Word,
        report: &RunReport,
        done: &Outcome,
    ) {
        let ran = HookRun {
            at: clock::monotonic(),
            event: event.word(),
            outcome: outcome(report, &done.end),
            told: report.to_string(),
            took: done.took,
        };
        let pushed = matches!(event, Word::SyncInterval | Word::SyncChange | Word::SyncBarrier);
        let line = (pushed && *report == RunReport::Done).then_some(&*done.last);
        self.with(|(tally, _)| tally.hook(hook, instance, ran, line));
    }

    /// This host does not own the instance any more, or never did: what was said of its replicas is of no interest.
    pub(super) fn not_owner(&self, instance: &Arc<str>) {
        self.with(|(tally, _)| tally.not_owner(instance));
    }

    /// What hooks came to until now, with the hook and the instance.
    pub(super) fn hooks(&self) -> Vec<(HookOf, HookTally)> {
        self.with(|(tally, _)| tally.hooks().map(|(key, of)| (key.clone(), of.clone())).collect())
    }

    fn with<T>(&self, work: impl FnOnce(&mut (Tally, Arc<Model>)) -> T) -> T {
        // Counts are whole between two events, whoever panicked.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The word of metrics for the end of a run.
fn outcome(report: &RunReport, end: &End) -> &'static str {
    match (report, end) {
        (RunReport::Done, _) => "ok",
        (RunReport::Vetoed(_), _) => "veto",
        (_, End::Exited(75)) => "later",
        (_, End::TimedOut | End::Exited(124)) => "timeout",
        (_, End::NotStarted(_) | End::Refused(_) | End::Unknown(_)) => "not-run",
        _ => "failed",
    }
}

/// Serves until aborted; `None`: nothing is to be served.
pub(super) fn start(facts: &Facts, protocol: &Sender) -> Option<Serving> {
    let at = facts.in_force.model().telemetry.listen.clone()?;
    let pages =
        Monitoring { facts: facts.clone(), reporter: Arc::new(Reporter::new(protocol.clone())) };
    Some(Serving(tokio::spawn(http::serve(at, Limits::default(), pages))))
}

/// The endpoint; it ends with it.
#[derive(Debug)]
pub(super) struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers of one agent.
#[derive(Clone, Debug)]
struct Monitoring {
    facts: Facts,
    reporter: Arc<Reporter>,
}

impl Monitoring {
    async fn report(&self) -> Result<Arc<Report>, String> {
        self.reporter.recent().await.map_err(|error| error.to_string())
    }

    fn counted(&self, report: &Report) -> Loop {
        let counters = &report.counters;
        Loop {
            wakeups: counters.wakeups,
            lateness: counters.lateness,
            untold: counters.untold,
            socket_errors: counters.socket_errors,
            announced: report.announced.clone(),
            real_time: self.facts.real_time(),
            memory_locked: self.facts.memory_locked(),
        }
    }
}

impl Pages for Monitoring {
    async fn metrics(&self, format: Format) -> Verdict {
        // Without an answer the scrape says so: `vipd_up` is 0.
        let counting = &self.facts.counting;
        let (mut report, mut counted) = (self.report().await.ok(), counting.with(|t| t.clone()));
        for _ in 0..ROUNDS {
            // In the middle of a reload one of them is ahead.
            if report.as_ref().is_none_or(|report| Arc::ptr_eq(&report.model, &counted.1)) {
                break;
            }
            tokio::time::sleep(SOON).await;
            (report, counted) = (self.report().await.ok(), counting.with(|t| t.clone()));
        }
        let (tally, model) = counted;
        report.take_if(|report| !Arc::ptr_eq(&report.model, &model));
        let standing = self.facts.replication.standing();
        let replicas = standing.replicator.map(|replicator| Replicas {
            connected: replicator.connected,
            missing: standing.missing,
            sets: standing.sets,
        });
        let figures = Figures {
            replicas,
            model,
            tally,
            config_used: self.facts.in_force.trouble().is_none(),
            now: report.map(|report| (report.snapshot.clone(), self.counted(&report))),
        };
        figures.text(format).map_err(|error| format!("the figures could not be written: {error}"))
    }

    async fn health(&self) -> Verdict {
        self.report().await.map(|_| "ok".to_owned())
    }

    async fn readiness(&self) -> Verdict {
        let report = self.report().await?;
        readiness(&report.model, &report.snapshot)
    }
}

/// Ready is who owns, or could own, each of his instances: then another host may be taken down.
fn readiness(model: &Model, snapshot: &Snapshot) -> Verdict {
    let reasons: Vec<String> = snapshot
        .units
        .iter()
        .filter_map(|unit| Some((unit, obstacle(model, unit)?)))
        .map(|(unit, why)| format!("{}: {why}", model.instance(unit.instance).name))
        .collect();
    if reasons.is_empty() { Ok("ready".to_owned()) } else { Err(reasons.join("\n")) }
}

/// Why the host could not own, or not go on as owner.
fn obstacle(model: &Model, unit: &UnitView) -> Option<String> {
    match (unit.state, unit.class) {
        _ if unit.leaving => Some("leaves".to_owned()),
        (State::Initialize, _) => Some(cause_text(model, &unit.cause)),
        (State::Active, _) if !unit.applied => {
            Some("owns, but the kernel has not confirmed the addresses".to_owned())
        }
        (_, class @ (Class::Failing | Class::Drained | Class::Unable)) => {
            let culprit = unit.culprit.map(|(check, _)| model.check(check).name.to_string());
            Some(
                culprit
                    .map_or_else(|| class.to_string(), |check| format!("{class}, check {check}")),
            )
        }
        _ => unit.awaits_checks.map(|_| "its checks have not said anything yet".to_owned()),
    }
}
