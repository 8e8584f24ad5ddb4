//! The engine's snapshot as status document.

mod health;
mod prediction;
mod why;

pub(super) use prediction::prediction;

use super::observe::Counting;
use super::protocol::Report;
use super::replica::{Replication, Standing, missing_text};
use super::standing::InForce;
use crate::control::status::{
    Alarm, Family, Hook, Instance, Interface, Owner, Path, Peer, SCHEMA, Scheduling, Status,
};
use crate::sys::clock;
use crate::sys::sched::Granted;
use crate::telemetry::{
    CONFIG_NOT_USED, REPLICA, REPLICATOR_MISSING, alarm_code, alarm_text, cause_text, host_name,
    seconds,
};
use std::sync::{Arc, OnceLock};
use vipd_core::config::model::Model;
use vipd_core::engine::snapshot::{Snapshot, UnitView};
use vipd_core::policy::Closed;
use vipd_core::replica::SetReport;
use vipd_core::time::Instant;
use vipd_core::types::{Class, InstanceIx, State};
use vipd_core::vrrp::Expiry;

/// What the main thread knows by itself.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The configuration in force.
    pub in_force: InForce,
    /// What was counted since the start.
    pub counting: Counting,
    /// Was real-time scheduling granted?
    pub scheduling: Arc<OnceLock<Granted>>,
    /// Was locking memory granted?
    pub memory: Arc<OnceLock<Granted>>,
    /// The way to the replicator.
    pub replication: Replication,
}

impl Facts {
    /// Was real-time scheduling granted?
    pub(super) fn real_time(&self) -> bool {
        self.scheduling.get().is_some_and(Result::is_ok)
    }

    /// Was locking memory granted?
    pub(super) fn memory_locked(&self) -> bool {
        self.memory.get().is_some_and(Result::is_ok)
    }
}

/// The status document.
pub(super) fn document(facts: &Facts, report: &Report) -> Status {
    let model = &report.model;
    let snapshot = &report.snapshot;
    let loops = [
        ("wakeups", report.counters.wakeups),
        ("latest-us", u64::try_from(report.counters.latest.as_micros()).unwrap_or(u64::MAX)),
        ("events-untold", report.counters.untold),
        ("socket-errors", report.counters.socket_errors),
    ];
    let replicas = facts.replication.standing();
    Status {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        cluster: model.cluster.to_string(),
        host: model.host_name(model.host).to_string(),
        config_hash: format!("{:016x}", model.hash),
        uptime_s: snapshot.uptime.as_secs_f64(),
        scheduling: scheduling(facts),
        instances: snapshot
            .units
            .iter()
            .map(|unit| instance(model, snapshot, unit, &replicas))
            .collect(),
        checks: snapshot.checks.iter().map(|check| health::check(model, check)).collect(),
        peers: peers(model, snapshot),
        interfaces: interfaces(model, snapshot),
        alarms: of_file(facts).into_iter().chain(host_alarms(model, snapshot, &replicas)).collect(),
        replicator: replicas.replicator,
        hooks: hooks(facts),
        counters: snapshot
            .counters
            .iter()
            .chain(loops)
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
    }
}

/// Hooks that ran, by name and instance.
fn hooks(facts: &Facts) -> Vec<Hook> {
    let now = clock::monotonic();
    let hooks = facts.counting.hooks().into_iter().filter_map(|((name, instance), of)| {
        let last = of.last()?;
        Some(Hook {
            name: name.to_string(),
            instance: instance.to_string(),
            event: last.event.into(),
            outcome: last.outcome.into(),
            told: last.told.clone(),
            age_s: now.since(last.at).as_secs_f64(),
            took_s: last.took.as_secs_f64(),
            failures: of.failures(),
            rpo_s: of.rpo(now).map(|rpo| rpo.as_secs_f64()),
            generation: of.generation().map(str::to_owned),
        })
    });
    hooks.collect()
}

/// The file is not the one in force.
fn of_file(facts: &Facts) -> Option<Alarm> {
    let why = facts.in_force.trouble()?;
    Some(Alarm {
        code: CONFIG_NOT_USED.into(),
        message: format!("runs on the last good configuration, the file is not used: {why}"),
    })
}

fn scheduling(facts: &Facts) -> Scheduling {
    let refused =
        [&facts.scheduling, &facts.memory].into_iter().find_map(|what| what.get()?.clone().err());
    Scheduling { real_time: facts.real_time(), memory_locked: facts.memory_locked(), refused }
}

fn instance(model: &Model, snapshot: &Snapshot, unit: &UnitView, replicas: &Standing) -> Instance {
    let configured = model.instance(unit.instance);
    let replicas: Vec<SetReport> =
        replicas.sets.iter().filter(|set| set.instance == *configured.name).cloned().collect();
    let of_sets = replicas.iter().flat_map(|set| set.alarms.iter().map(|alarm| (&set.set, alarm)));
    let of_sets: Vec<Alarm> = of_sets
        .map(|(set, alarm)| Alarm {
            code: REPLICA.into(),
            message: format!("replica {set}: {alarm}"),
        })
        .collect();
    let families = unit.families.iter().map(|(family, source, counters)| Family {
        family: family.to_string(),
        source: source.map(|source| source.to_string()),
        counters: counters.iter().map(|(name, count)| (name.to_owned(), count)).collect(),
    });
    Instance {
        name: configured.name.to_string(),
        families: families.collect(),
        vrid: configured.vrid.get(),
        interface: model
            .links
            .get(usize::from(configured.link.0))
            .map_or_else(String::new, |l| l.name.to_string()),
        state: unit.state.to_string(),
        condition: condition(unit).map(str::to_owned),
        since_s: unit.since.as_secs_f64(),
        cause: cause_text(model, &unit.cause),
        priority: unit.priority,
        configured_priority: unit.configured,
        epoch: unit.epoch.to_string(),
        owner: owner(model, unit),
        next: next(model, snapshot.at, unit),
        addresses: unit.addresses.iter().map(ToString::to_string).collect(),
        applied: unit.applied,
        lease_left_s: unit.lease_left.map(|left| left.as_secs_f64()),
        class: unit.class.to_string(),
        standby: why::kind_word(unit.standby).into(),
        checks: configured.checks.iter().map(|c| model.check(*c).name.to_string()).collect(),
        waits: health::waits(model, unit),
        flap: health::flap(unit),
        alarms: [alarms(model, snapshot, Some(unit.instance)), of_sets].concat(),
        replicas,
        why: why::why(model, snapshot.at, unit),
    }
}

fn condition(unit: &UnitView) -> Option<&'static str> {
    match (unit.leaving, unit.state, unit.class) {
        (true, ..) => Some("leaving"),
        (_, State::Initialize, _) | (_, _, Class::Unable) => Some("fault"),
        (_, _, Class::Held) => Some("held"),
        (_, _, Class::Failing) => Some("failing"),
        (_, _, Class::Drained) => Some("drained"),
        (_, _, Class::Healthy) => None,
    }
}

fn owner(model: &Model, unit: &UnitView) -> Option<Owner> {
    if unit.owner.is_none() && unit.owner_host.is_none() {
        return None;
    }
    Some(Owner {
        host: unit.owner_host.map(|host| model.host_name(host).to_string()),
        address: unit.owner.map(|address| address.to_string()),
        this_host: unit.state == State::Active,
    })
}

/// What would happen next by itself, and what holds it up.
fn next(model: &Model, now: Instant, unit: &UnitView) -> Option<String> {
    let claim = unit.next_claim.as_ref().map(|(after, expiry)| {
        let after = seconds(*after);
        match expiry {
            Expiry::Silence => format!("claims in {after} if no advert comes"),
            Expiry::Released => format!("claims in {after}: the owner has left"),
            Expiry::Unable(host) => {
                format!("claims in {after}: {} cannot own any more", model.host_name(*host))
            }
            Expiry::Preempts(theirs) => {
                format!("claims in {after}: the owner has priority {theirs}")
            }
            Expiry::Ordered => format!("claims in {after}: promoted by an operator"),
        }
    });
    let gate = unit.gate.as_ref().map(|gate| gate_text(model, now, gate));
    match (claim, gate) {
        (Some(claim), Some(gate)) => Some(format!("{claim}; {gate}")),
        (one, other) => one.or(other),
    }
}

/// Why it does not preempt.
fn gate_text(model: &Model, now: Instant, gate: &Closed) -> String {
    match gate {
        Closed::Off => "does not preempt (preempt = false)".to_owned(),
        Closed::Delay(until) => {
            format!("may preempt in {} (preempt-delay)", seconds(until.since(now)))
        }
        Closed::HoldDown(until) => {
            format!("may preempt in {} (hold-down)", seconds(until.since(now)))
        }
        Closed::Unheard(host) => {
            format!("does not preempt before {} hears its adverts", model.host_name(*host))
        }
        Closed::SecondChoice(class) => format!("does not preempt while it is {class}"),
        Closed::StaleReplica => {
            "does not preempt with an old or unknown copy of the state (promote-gate)".to_owned()
        }
        Closed::Cold => "claims only when promoted (standby = \"cold\")".to_owned(),
        Closed::Frozen(Instant::MAX) => "does not preempt until thawed".to_owned(),
        Closed::Frozen(until) => {
            format!("does not preempt while frozen, for {}", seconds(until.since(now)))
        }
        Closed::MovedAway => "leaves the address where it was moved, until failback".to_owned(),
        Closed::OwnerBrings(host) => {
            format!("{} hands over when its state is here", model.host_name(*host))
        }
    }
}

fn peers(model: &Model, snapshot: &Snapshot) -> Vec<Peer> {
    let paths = |host: usize| model.hosts.get(host).map(|h| h.paths.as_slice()).unwrap_or_default();
    snapshot
        .peers
        .iter()
        .map(|peer| Peer {
            host: model.host_name(peer.host).to_string(),
            alive: peer.alive,
            version: peer.version.clone(),
            paths: paths(usize::from(peer.host.0))
                .iter()
                .zip(peer.heard.iter().zip(&peer.hears_me))
                .map(|(address, (heard, hears_me))| Path {
                    address: address.to_string(),
                    heard_s: heard.map(|ago| ago.as_secs_f64()),
                    hears_me: *hears_me,
                })
                .collect(),
        })
        .collect()
}

fn interfaces(model: &Model, snapshot: &Snapshot) -> Vec<Interface> {
    let each = model.links.iter().zip(&snapshot.links);
    each.map(|(link, state)| Interface {
        name: link.name.to_string(),
        exists: state.index.is_some(),
        running: state.running,
        addresses: state.addrs.iter().map(ToString::to_string).collect(),
    })
    .collect()
}

fn host_alarms(model: &Model, snapshot: &Snapshot, replicas: &Standing) -> Vec<Alarm> {
    let mut alarms = alarms(model, snapshot, None);
    if replicas.missing {
        alarms.push(Alarm { code: REPLICATOR_MISSING.into(), message: missing_text() });
    }
    alarms
}

fn alarms(model: &Model, snapshot: &Snapshot, of: Option<InstanceIx>) -> Vec<Alarm> {
    let mine = snapshot.alarms.iter().filter(|(instance, _)| *instance == of);
    mine.map(|(_, alarm)| Alarm {
        code: alarm_code(alarm).into(),
        message: alarm_text(model, alarm),
    })
    .collect()
}
