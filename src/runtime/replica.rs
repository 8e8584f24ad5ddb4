//! The agent's side of the way to the replicator (`vipd-replicate`): roles and barriers go there, reports come back.
//!
//! Runs on the main thread. One replicator at a time is attached, over the control socket; a newer one takes the place of
//! an older. It is told who owns what at every change, and asked for a barrier in a planned move; what it says goes into
//! status, metrics, log and history, and to the engine, which decides what a stale replica does to a claim. Nothing here
//! decides, and nobody waits for it but a barrier, whose end the engine sets.

mod fed;

use super::chronicle::Chronicle;
use super::control::reporter::Reporter;
use super::moving::Replicator;
use super::protocol::Report;
use super::queue::{Message, Sender};
use super::standing::InForce;
use crate::control::protocol::{Answer, Body, Code, Word as Said};
use crate::control::rights;
use crate::control::server::{Caller, Gone, Wire};
use crate::control::status::Replicator as ReplicatorView;
use crate::sys::clock;
use crate::telemetry::{REPLICA, REPLICATOR_MISSING, ReplicaTeller, replica_alarm};
use fed::Fed;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use vipd_core::config::model::Model;
use vipd_core::engine::io::ReplicaState;
use vipd_core::engine::snapshot::RoleView;
use vipd_core::replica::{Barrier, Order, Role, SetReport, Word};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{InstanceIx, SetIx};

/// A replicator that says nothing for so long is missing. It reports each second.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two looks at what no event tells.
const LOOK: Duration = Duration::from_secs(1);
/// Orders that wait for the replicator to read them; it takes them at once.
const ORDERS: usize = 16;
/// Alarms of one set that are shown.
const ALARMS: usize = 16;
/// Longest line of the replicator that goes into log and history, in characters.
const LONGEST_LINE: usize = 500;

/// The room of the replicator. A clone is the same room.
#[derive(Clone, Debug)]
pub(super) struct Replication(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    in_force: InForce,
    engine: Sender,
    reporter: Reporter,
    chronicle: Chronicle,
    roles: watch::Sender<Vec<Role>>,
    /// Who owns what has changed, and was not looked at yet.
    changed: Notify,
    books: Mutex<Books>,
}

/// What is known of the replicator.
#[derive(Debug)]
struct Books {
    /// Who is attached: its number, and the way to it.
    attached: Option<(u64, mpsc::Sender<Order>)>,
    /// How many were.
    count: u64,
    /// When it spoke last, or this agent started.
    heard: Instant,
    /// Did it ever speak?
    spoke: bool,
    /// Was it said that it is missing?
    missing: bool,
    /// The last report on each set, and when it came.
    sets: BTreeMap<String, (Instant, SetReport)>,
    /// Alarms that stand, by set and text, with the instance under whose name they were told.
    alarms: BTreeMap<(String, String), String>,
    /// What the engine knows of the sets.
    fed: Fed,
    /// Who waits for the end of a barrier.
    barriers: HashMap<u64, oneshot::Sender<Result<(), String>>>,
    teller: ReplicaTeller,
}

/// What is shown of the replicator at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// `None`: no sets are configured.
    pub replicator: Option<ReplicatorView>,
    /// Silent for too long.
    pub missing: bool,
    /// The sets, by name; their ages as of now.
    pub sets: Vec<SetReport>,
}

impl Replication {
    /// For the sets of what is in force.
    pub(super) fn new(in_force: InForce, engine: Sender, chronicle: Chronicle) -> Self {
        let books = Books {
            attached: None,
            count: 0,
            heard: clock::monotonic(),
            spoke: false,
            missing: false,
            sets: BTreeMap::new(),
            alarms: BTreeMap::new(),
            fed: Fed::default(),
            barriers: HashMap::new(),
            teller: ReplicaTeller::default(),
        };
        Self(Arc::new(Shared {
            in_force,
            reporter: Reporter::new(engine.clone()),
            engine,
            chronicle,
            roles: watch::Sender::new(Vec::new()),
            changed: Notify::new(),
            books: Mutex::new(books),
        }))
    }

    /// Keeps roles up to date and looks whether the replicator is there; for ever.
    pub(super) async fn tend(self) {
        loop {
            let _ = tokio::time::timeout(LOOK, self.0.changed.notified()).await;
            if self.model().replicates.is_empty() {
                self.none_configured();
                continue;
            }
            if let Ok(report) = self.0.reporter.since(clock::monotonic()).await {
                let roles = roles(&report);
                self.0.roles.send_if_modified(|last| {
                    let changed = *last != roles;
                    *last = roles;
                    changed
                });
            }
            self.look();
        }
    }

    /// Who owns what has changed.
    pub(super) fn roles_changed(&self) {
        self.0.changed.notify_one();
    }

    /// Is it silent for too long?
    fn look(&self) {
        let mut books = self.lock();
        let silent = clock::monotonic().since(books.heard) >= SILENCE;
        if silent == books.missing {
            return;
        }
        books.missing = silent;
        drop(books);
        let line = if silent {
            format!("alarm: {}", missing_text())
        } else {
            "over: the replicator speaks again".to_owned()
        };
        replica_alarm(REPLICATOR_MISSING, None, None, &line, silent);
        self.0.chronicle.alarm(REPLICATOR_MISSING, None, line, silent);
        self.feed();
    }

    /// Another configuration is in force: the replicator reads the file anew as well.
    pub(super) fn reload(&self) {
        let books = self.lock();
        if let Some((_, orders)) = &books.attached
            && orders.try_send(Order::Reload).is_err()
        {
            tracing::warn!("the replicator does not read its orders: reload it by itself");
        }
        drop(books);
        self.forget_removed();
        // The sets have other numbers.
        self.lock().fed = Fed::default();
        self.0.changed.notify_one();
    }

    /// What is shown.
    pub(super) fn standing(&self) -> Standing {
        if self.model().replicates.is_empty() {
            return Standing::default();
        }
        let (now, books) = (clock::monotonic(), self.lock());
        let heard_s = books.spoke.then(|| now.since(books.heard).as_secs_f64());
        Standing {
            replicator: Some(ReplicatorView { connected: books.attached.is_some(), heard_s }),
            missing: books.missing,
            sets: books.sets.values().map(|(at, report)| aged(report, now.since(*at))).collect(),
        }
    }

    /// Tells the engine how the replicas of this host stand, where that is news: it decides what a stale one does to a claim.
    fn feed(&self) {
        let (standing, now) = (self.standing(), clock::monotonic());
        for (set, configured) in (0u16..).map(SetIx).zip(&self.model().replicates) {
            let report = standing.sets.iter().find(|report| *report.set == *configured.name);
            let report = report.filter(|_| !standing.missing);
            let state = report.map(copy_of);
            let owns = report.is_some_and(|report| report.owns);
            if self.lock().fed.is_news(&configured.name, (owns, state), now) {
                self.0.engine.offer(Message::Replica(set, state));
            }
        }
    }

    /// Without sets nobody is missed; those that come by a reload begin anew.
    fn none_configured(&self) {
        self.forget_removed();
        let missing = {
            let mut books = self.lock();
            books.heard = clock::monotonic();
            books.spoke = false;
            std::mem::take(&mut books.missing)
        };
        if missing {
            let line = "over: no sets of state files are configured any more".to_owned();
            replica_alarm(REPLICATOR_MISSING, None, None, &line, false);
            self.0.chronicle.alarm(REPLICATOR_MISSING, None, line, false);
        }
    }

    /// What is known of sets that are not configured any more is forgotten, and their alarms are over.
    fn forget_removed(&self) {
        let model = self.model();
        let stays = |set: &str| model.replicates.iter().any(|known| *known.name == *set);
        let over: BTreeMap<_, _> = {
            let mut books = self.lock();
            books.sets.retain(|set, _| stays(set));
            let alarms = std::mem::take(&mut books.alarms);
            let (stand, over) = alarms.into_iter().partition(|((set, _), _)| stays(set));
            books.alarms = stand;
            over
        };
        for ((set, alarm), instance) in over {
            self.tell_alarm(&instance, &set, &format!("over: {alarm}"), false);
        }
    }

    fn model(&self) -> Arc<Model> {
        self.0.in_force.model()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of a replicator.
impl Replication {
    /// Speaks with the replicator at the other end of `wire`, until it goes or another one comes.
    pub(super) async fn converse(&self, caller: Caller, mut wire: Wire) {
        if !rights::is_replicator(&caller).await {
            let said = format!("only root and the user {} replicate", rights::REPLICATOR);
            let _ = wire.answer(&Answer::error(Code::Forbidden, said)).await;
            return;
        }
        if self.model().replicates.is_empty() {
            let said = "no sets of state files are configured: [replicate.NAME]";
            let _ = wire.answer(&Answer::error(Code::Refused, said)).await;
            return;
        }
        let message = "roles follow".to_owned();
        let accepted = Answer::new(Body::Accepted(Said { operation: None, message }));
        if wire.answer(&accepted).await.is_err() {
            return;
        }
        let (tx, orders) = mpsc::channel(ORDERS);
        let number = {
            let mut books = self.lock();
            books.count += 1;
            // The older one hears nothing more, and its connection ends.
            books.attached = Some((books.count, tx));
            books.heard = clock::monotonic();
            books.count
        };
        tracing::info!("the replicator is there, process {}", caller.pid.unwrap_or(0));
        self.look();
        let _ = self.exchange(&mut wire, orders).await;
        let mut books = self.lock();
        let gone = matches!(&books.attached, Some((attached, _)) if *attached == number);
        if gone {
            books.attached = None;
            for (_, waits) in books.barriers.drain() {
                let _ = waits.send(Err("the replicator has gone".to_owned()));
            }
        }
        drop(books);
        tracing::info!(
            "the replicator of process {} {}",
            caller.pid.unwrap_or(0),
            if gone { "has gone" } else { "was replaced by a newer one" }
        );
    }

    async fn exchange(
        &self,
        wire: &mut Wire,
        mut orders: mpsc::Receiver<Order>,
    ) -> Result<(), Gone> {
        let mut roles = self.0.roles.subscribe();
        roles.mark_changed();
        loop {
            tokio::select! {
                biased;
                changed = roles.changed() => {
                    changed.map_err(|_| Gone)?;
                    let now = roles.borrow_and_update().clone();
                    // Nothing is known before the first look at the engine.
                    if !now.is_empty() {
                        wire.say(&Order::Roles(now)).await?;
                    }
                }
                order = orders.recv() => match order {
                    Some(order) => wire.say(&order).await?,
                    None => return Err(Gone),
                },
                word = wire.hear::<Word>() => self.take(word?),
            }
        }
    }

    fn take(&self, word: Word) {
        let now = clock::monotonic();
        {
            let mut books = self.lock();
            books.heard = now;
            books.spoke = true;
        }
        self.look();
        match word {
            Word::Report(reports) => self.take_reports(reports, now),
            Word::Barrier { id, failed } => {
                if let Some(waits) = self.lock().barriers.remove(&id) {
                    let _ = waits.send(failed.map_or(Ok(()), Err));
                }
            }
            Word::Event { set, text, alarm } => {
                let Some(instance) = self.instance_of(&set) else { return };
                let line = one_line(&format!("{instance}: replica {set}: {text}"));
                self.lock().teller.told(Some(&instance), &set, &line, alarm, now);
                self.0.chronicle.replica(Some(&instance), &set, line, alarm);
            }
        }
    }

    fn take_reports(&self, reports: Vec<SetReport>, now: Instant) {
        let (mut sets, mut standing) = (BTreeMap::new(), BTreeMap::new());
        for mut report in reports {
            let Some(instance) = self.instance_of(&report.set) else { continue };
            report.alarms.truncate(ALARMS);
            for alarm in &mut report.alarms {
                *alarm = one_line(alarm);
                standing.insert((report.set.clone(), alarm.clone()), instance.clone());
            }
            sets.insert(report.set.clone(), (now, report));
        }
        let before = {
            let mut books = self.lock();
            books.sets = sets;
            for (alarm, instance) in &mut standing {
                // It ends under the name under which it began.
                if let Some(told) = books.alarms.get(alarm) {
                    instance.clone_from(told);
                }
            }
            std::mem::replace(&mut books.alarms, standing.clone())
        };
        for ((set, alarm), instance) in
            standing.iter().filter(|(alarm, _)| !before.contains_key(*alarm))
        {
            self.tell_alarm(instance, set, &format!("alarm: {alarm}"), true);
        }
        for ((set, alarm), instance) in
            before.iter().filter(|(alarm, _)| !standing.contains_key(*alarm))
        {
            self.tell_alarm(instance, set, &format!("over: {alarm}"), false);
        }
        self.feed();
    }

    fn tell_alarm(&self, instance: &str, set: &str, text: &str, on: bool) {
        let line = format!("{instance}: replica {set}: {text}");
        replica_alarm(REPLICA, Some(instance), Some(set), &line, on);
        self.0.chronicle.alarm(REPLICA, Some(instance), line, on);
    }

    /// The instance whose state the set is, where that set is configured.
    fn instance_of(&self, set: &str) -> Option<String> {
        let model = self.model();
        let configured = model.replicates.iter().find(|known| *known.name == *set)?;
        Some(model.instance(configured.instance).name.to_string())
    }
}

/// Barriers of planned moves.
impl Replicator for Replication {
    async fn barrier(
        &self,
        order: u64,
        instance: Arc<str>,
        to: String,
        deadline: tokio::time::Instant,
    ) -> Result<(), String> {
        // By name: the hooks that ran before this may have outlasted a reload.
        let Some(ix) = self.0.in_force.instance(&instance) else {
            return Err("the instance is not configured any more".into());
        };
        if self.model().sets_of(ix).next().is_none() {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let barrier = Barrier {
            id: order,
            instance: instance.to_string(),
            to,
            deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        };
        let (tx, rx) = oneshot::channel();
        let orders = {
            let mut books = self.lock();
            let Some((_, orders)) = &books.attached else {
                return Err("the replicator does not run: systemctl status vipd-replicate".into());
            };
            let orders = orders.clone();
            books.barriers.insert(order, tx);
            orders
        };
        // A host may hand over more instances at once than orders wait.
        if orders.send(Order::Barrier(barrier)).await.is_err() {
            self.lock().barriers.remove(&order);
            return Err("the replicator has gone".into());
        }
        // Whoever waits here ends it at the deadline; then the other end finds nobody.
        rx.await.unwrap_or_else(|_| Err("the replicator has gone".into()))
    }

    fn over(&self, order: u64) {
        let mut books = self.lock();
        books.barriers.remove(&order);
        if let Some((_, orders)) = &books.attached {
            let over = Order::BarrierOver { id: order };
            if let Err(mpsc::error::TrySendError::Full(over)) = orders.try_send(over) {
                // Lost, it would leave the replicator in a barrier that nobody waits for.
                let orders = orders.clone();
                tokio::spawn(async move {
                    // It may have gone by then, and its barriers with it.
                    let _ = orders.send(over).await;
                });
            }
        }
    }
}

/// What is said of a replicator that does not speak.
pub(super) fn missing_text() -> String {
    format!(
        "the replicator has said nothing for {} s: state files do not follow the address \
         (systemctl status vipd-replicate)",
        SILENCE.as_secs()
    )
}

/// The replicator reads lines from others; they go into the log.
fn one_line(text: &str) -> String {
    text.chars().take(LONGEST_LINE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How complete the copy of this host is: by its own figures, never by those of the standbys that it pushes to.
fn copy_of(report: &SetReport) -> ReplicaState {
    ReplicaState {
        age: report.age_ms.map(Duration::from_millis),
        pending: if report.owns { 0 } else { report.pending_bytes },
    }
}

/// `report`, so long after it came: a standby ages while nobody speaks, and so does what it lacks. Where it lacked nothing
/// the next look of the replicator tells.
fn aged(report: &SetReport, since: Duration) -> SetReport {
    let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let mut report = report.clone();
    if !report.owns {
        report.age_ms = report.age_ms.map(|age| age.saturating_add(ms));
        report.rpo_ms = report.rpo_ms.map(|rpo| rpo.saturating_add(ms));
    } else if since >= SILENCE {
        // Nobody looks at the files any more.
        report.rpo_ms = None;
        report.peers.iter_mut().for_each(|peer| peer.rpo_ms = None);
    } else {
        let gauges = report.peers.iter_mut().map(|peer| &mut peer.rpo_ms);
        for rpo in gauges.chain([&mut report.rpo_ms]).flatten().filter(|rpo| **rpo > 0) {
            *rpo = rpo.saturating_add(ms);
        }
    }
    report
}

/// Who owns what, for the instances that have sets.
fn roles(report: &Report) -> Vec<Role> {
    let model = &report.model;
    let role = |(ix, role): &(InstanceIx, RoleView)| Role {
        instance: model.instance(*ix).name.to_string(),
        owns: role.owns,
        owner: role.owner.map(|host| model.host_name(host).to_string()),
        epoch: role.epoch.into(),
    };
    report.snapshot.roles.iter().map(role).collect()
}

#[cfg(test)]
mod tests;
