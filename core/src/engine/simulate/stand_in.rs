//! A peer out of its last word: an engine of its own, brought into the state that its heartbeats tell.
//!
//! By the doors through which a started agent goes (links, what was stored, adoption), so that nothing is skipped that the
//! engine keeps account of. Called when a play begins.

use super::super::flap::Ownership;
use super::super::io::{Applied, DrainRecord, Input, LinkState, Memory, Output, UnitHandover};
use super::super::peers::Peer;
use super::super::{Engine, Secrets};
use super::copies::COMPLETE;
use super::{STAGE_SECRET, Supposed};
use crate::config::model::{Model, Probe, Severity, Transport};
use crate::policy::PreemptGates;
use crate::policy::check::CheckState;
use crate::policy::stamp::{stamp, to_utc};
use crate::time::{Instant, Now};
use crate::types::{
    CheckIx, Class, Epoch, Family, HostIx, IfIndex, InstanceIx, LinkIx, Mac, Priority, SetIx,
    State, Verdict,
};
use crate::vrrp::Heard;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A host that plays.
pub(super) struct StandIn {
    pub(super) name: Arc<str>,
    /// Its place in the configuration; `None`: it has none.
    pub(super) host: Option<HostIx>,
    pub(super) engine: Engine,
}

/// What is known of a host: enough to make one that acts like it.
struct Part {
    model: Arc<Model>,
    /// Boot counter and sequence of its heartbeats.
    boot: u64,
    seq: u64,
    /// By position in the model.
    links: Vec<LinkState>,
    /// By the key of the instance.
    roles: BTreeMap<u64, Role>,
}

/// What a host is for one instance.
#[derive(Copy, Clone)]
struct Role {
    state: State,
    class: Class,
    priority: u8,
    pinned: bool,
    epoch: Epoch,
    /// Its copy of the state is old or unknown, or that of an instance that moves with it.
    stale: bool,
    /// The owner that it hears.
    hears: Option<Heard>,
    /// Healthy enough to preempt since then.
    healthy_since: Instant,
}

/// The other hosts of the group of `me`.
pub(super) fn cast(
    me: &Engine,
    models: &[Model],
    now: Now,
    supposed: &mut Vec<Supposed>,
) -> Vec<StandIn> {
    let mut cast: Vec<StandIn> = match &me.peers {
        Some(peers) => peers
            .iter()
            .filter_map(|peer| {
                let model = models.get(usize::from(peer.host.0))?;
                let name = Arc::clone(me.model.host_name(peer.host));
                if !peer.alive {
                    supposed.push(Supposed::Silent(name));
                    return None;
                }
                let part = by_heartbeat(me, peer, model, now, supposed);
                Some(StandIn { name, host: Some(peer.host), engine: raise(&part, now) })
            })
            .collect(),
        None => by_configuration(me, models, now, supposed),
    };
    cast.extend(strangers(me, &cast, now, supposed));
    cast
}

/// The owner of an instance as the others hear it, if one is heard now.
fn owner_heard(me: &Engine, u: usize, now: Instant) -> Option<Heard> {
    let unit = &me.units[u];
    match unit.state() {
        State::Active => Some(Heard {
            src: unit.source()?,
            priority: unit.vr.params().priority,
            interval: unit.told_interval(),
            at: now,
        }),
        State::Backup => {
            let heard = unit.vr.heard().filter(|h| now.since(h.at) < h.interval.duration() * 3)?;
            Some(Heard { at: now, ..*heard })
        }
        State::Initialize => None,
    }
}

fn by_heartbeat(
    me: &Engine,
    peer: &Peer,
    model: &Model,
    now: Now,
    supposed: &mut Vec<Supposed>,
) -> Part {
    let name = me.model.host_name(peer.host);
    let told = |link: usize| peer.links.get(link);
    let links = model.links.iter().enumerate().map(|(n, _)| LinkState {
        index: IfIndex::new(u32::try_from(n + 2).unwrap_or(2)),
        running: told(n).is_some_and(|l| l.running),
        mac: told(n).map(|l| l.mac).unwrap_or_default(),
        mtu: 1500,
        addrs: told(n).map(|l| l.addrs.clone()).unwrap_or_default(),
        gateways: gateways_beside(me, model, n),
    });
    let mut roles = BTreeMap::new();
    for u in 0..me.units.len() {
        let instance = me.instance(u);
        let Some(record) = me.record(peer.host, u) else { continue };
        let hears = owner_heard(me, u, now.mono);
        // Whoever outranks the owner and does not take over is kept from it, and does not say for how long.
        let outranks = hears.is_some_and(|h| h.priority < record.priority);
        let waits = record.state == State::Backup && record.class == Class::Healthy && outranks;
        if waits && !supposed.contains(&Supposed::DelayBeginsNow(Arc::clone(name))) {
            supposed.push(Supposed::DelayBeginsNow(Arc::clone(name)));
        }
        roles.entry(instance.key).or_insert(Role {
            state: record.state,
            class: record.class,
            priority: record.priority,
            pinned: record.orders.pinned,
            epoch: record.epoch,
            stale: record.stale,
            hears,
            healthy_since: if waits { now.mono } else { Instant::ZERO },
        });
    }
    let differs = me.reporter.alarms.keys().any(|(_, alarm)| {
        matches!(alarm, super::super::io::Alarm::ConfigMismatch(host) if *host == peer.host)
    });
    if differs {
        supposed.push(Supposed::OtherConfiguration(Arc::clone(name)));
    }
    Part {
        boot: peer.boot,
        seq: peer.paths.iter().flatten().map(|(seq, _)| *seq).max().unwrap_or(0),
        links: links.collect(),
        roles,
        model: Arc::new(model.clone()),
    }
}

/// The default gateways of the segment on which link `n` of `model` is: they are this host's as well.
fn gateways_beside(me: &Engine, model: &Model, n: usize) -> Vec<IpAddr> {
    let on = |i: &&crate::config::model::Instance| usize::from(i.link.0) == n;
    let keys: Vec<u64> = model.instances.iter().filter(on).map(|i| i.key).collect();
    let mine = me.model.instances.iter().find(|i| keys.contains(&i.key));
    mine.map(|i| me.links[usize::from(i.link.0)].state.gateways.clone()).unwrap_or_default()
}

/// Without heartbeats: every host of the file is up and as configured, and the owner that is heard is one of them.
fn by_configuration(
    me: &Engine,
    models: &[Model],
    now: Now,
    supposed: &mut Vec<Supposed>,
) -> Vec<StandIn> {
    let owners: Vec<Option<(HostIx, Heard)>> = (0..me.units.len())
        .map(|u| {
            let heard = owner_heard(me, u, now.mono).filter(|_| !me.units[u].is_active())?;
            Some((taken_for(me, u, heard.priority)?, heard))
        })
        .collect();
    let mut cast = Vec::new();
    for (host, model) in (0u8..).map(HostIx).zip(models) {
        let units: Vec<usize> = (0..me.units.len())
            .filter(|u| {
                me.instance(*u).priorities.get(usize::from(host.0)).copied().flatten().is_some()
            })
            .collect();
        if host == me.model.host || units.is_empty() {
            continue;
        }
        let name = Arc::clone(me.model.host_name(host));
        let mut roles = BTreeMap::new();
        let mut addrs = vec![made_up(host); model.links.len()];
        for u in units {
            let instance = me.instance(u);
            let Some(at) = model.instances.iter().find(|i| i.key == instance.key) else { continue };
            let link = usize::from(at.link.0);
            let owner = owners[u].filter(|(owner, _)| *owner == host);
            for addr in owner.map(|(_, heard)| heard.src).into_iter().chain(unicast(instance, at)) {
                addrs[link].retain(|a| Family::of(a) != Family::of(&addr));
                addrs[link].push(addr);
            }
            let priority = at.priority.get();
            // Who owns the address at 255 claims when it starts: it is not up where it does not own.
            let away = at.priority.is_owner() && owner.is_none();
            let state = match owner {
                Some(_) => State::Active,
                None if away => State::Initialize,
                None => State::Backup,
            };
            let role = Role {
                state,
                class: if away { Class::Unable } else { Class::Healthy },
                priority: owner.map_or(priority, |(_, heard)| heard.priority),
                pinned: false,
                epoch: Epoch::default(),
                stale: false,
                hears: owner_heard(me, u, now.mono),
                healthy_since: now.mono,
            };
            let known = roles.entry(instance.key).or_insert(role);
            if state > known.state {
                *known = role;
            }
        }
        let owns = roles.values().any(|r| r.state == State::Active);
        supposed.push(Supposed::AsConfigured(Arc::clone(&name)));
        if owns {
            supposed.push(Supposed::TakenFor(Arc::clone(&name)));
        }
        let links = addrs.into_iter().enumerate().map(|(n, addrs)| LinkState {
            index: IfIndex::new(u32::try_from(n + 2).unwrap_or(2)),
            running: true,
            mac: Mac([2, 0x76, 0x69, 0x70, host.0, u8::try_from(n).unwrap_or(u8::MAX)]),
            mtu: 1500,
            addrs,
            gateways: Vec::new(),
        });
        let part =
            Part { boot: 1, seq: 0, links: links.collect(), roles, model: Arc::new(model.clone()) };
        cast.push(StandIn { name, host: Some(host), engine: raise(&part, now) });
    }
    cast
}

/// Which host of the file the owner that advertises `priority` is: the one with that priority, else the strongest other.
fn taken_for(me: &Engine, u: usize, priority: u8) -> Option<HostIx> {
    let instance = me.instance(u);
    let others = (0u8..).map(HostIx).zip(&instance.priorities);
    let others: Vec<(HostIx, u8)> = others
        .filter_map(|(host, p)| Some((host, p.as_ref()?.get())))
        .filter(|(host, _)| *host != me.model.host)
        .collect();
    let same = others.iter().find(|(_, p)| *p == priority);
    same.or_else(|| others.iter().max_by_key(|(_, p)| *p)).map(|(host, _)| *host)
}

/// The address of a unicast peer: the one that is a peer of ours and not of its own.
fn unicast(
    mine: &crate::config::model::Instance,
    theirs: &crate::config::model::Instance,
) -> Vec<IpAddr> {
    match (&mine.transport, &theirs.transport) {
        (Transport::Unicast(mine), Transport::Unicast(theirs)) => {
            mine.iter().filter(|a| !theirs.contains(a)).copied().collect()
        }
        _ => Vec::new(),
    }
}

/// Addresses for a host whose own are unknown, out of ranges that nobody routes.
fn made_up(host: HostIx) -> Vec<IpAddr> {
    let n = u16::from(host.0) + 1;
    let v4 = Ipv4Addr::new(198, 18, 0, host.0.saturating_add(1));
    let v6 = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x5eed, n);
    vec![IpAddr::V4(v4), IpAddr::V6(v6)]
}

/// Owners that are heard and are no host of the file: foreign peers, as strong as their adverts say.
fn strangers(
    me: &Engine,
    cast: &[StandIn],
    now: Now,
    supposed: &mut Vec<Supposed>,
) -> Vec<StandIn> {
    let known = |addr: &IpAddr| {
        let engines = cast.iter().map(|s| &s.engine);
        engines.flat_map(|e| &e.links).any(|l| l.state.addrs.contains(addr))
    };
    let mut found: BTreeMap<IpAddr, Vec<(usize, Heard)>> = BTreeMap::new();
    for u in (0..me.units.len()).filter(|u| !me.units[*u].is_active()) {
        if let Some(heard) = owner_heard(me, u, now.mono).filter(|h| !known(&h.src)) {
            found.entry(heard.src).or_default().push((u, heard));
        }
    }
    let mut strangers = Vec::new();
    for (n, (addr, owned)) in (0u8..).zip(found) {
        let mut model = Model::clone(&me.model);
        model.heartbeat = None;
        let mut roles = BTreeMap::new();
        for (u, heard) in owned {
            let ix = me.units[u].instance;
            if let Ok(priority) = Priority::new(heard.priority) {
                model.instances[usize::from(ix.0)].priority = priority;
            }
            roles.insert(
                me.instance(u).key,
                Role {
                    state: State::Active,
                    class: Class::Healthy,
                    priority: heard.priority,
                    pinned: false,
                    epoch: Epoch::default(),
                    stale: false,
                    hears: None,
                    healthy_since: Instant::ZERO,
                },
            );
        }
        let mut links: Vec<LinkState> = Vec::new();
        for (slot, link) in model.links.iter().enumerate() {
            let mut state = me.links[slot].state.clone();
            state.mac = Mac([2, 0x76, 0x69, 0x70, 0xff, n]);
            state.addrs = vec![addr];
            let speaks = |(u, _): &(usize, ())| usize::from(me.units[*u].link.0) == slot;
            let on = (0..me.units.len())
                .map(|u| (u, ()))
                .any(|u| speaks(&u) && roles.contains_key(&me.instance(u.0).key));
            state.running = on;
            let _ = link;
            links.push(state);
        }
        // Only what it owns is known of it.
        model.checks.clear();
        for instance in &mut model.instances {
            instance.checks.clear();
            instance.shared_fate = false;
        }
        model.sync_groups.clear();
        let name: Arc<str> = addr.to_string().into();
        supposed.push(Supposed::AsConfigured(Arc::clone(&name)));
        let part = Part { boot: 1, seq: 0, links, roles, model: Arc::new(model) };
        strangers.push(StandIn { name, host: None, engine: raise(&part, now) });
    }
    strangers
}

/// The engine that plays the part.
fn raise(part: &Part, now: Now) -> Engine {
    let trailers = vec![None; part.model.instances.len()];
    let secrets = Secrets { cluster_key: Some(STAGE_SECRET.to_vec()), trailers };
    let mut engine = Engine::new(Arc::clone(&part.model), secrets, part.boot, now);
    if let Some(peers) = &mut engine.peers {
        peers.seq = part.seq;
    }
    let model = Arc::clone(&part.model);
    let role = |ix: InstanceIx| part.roles.get(&model.instance(ix).key).copied();
    for (ix, _) in model.iter() {
        let Some(role) = role(ix) else {
            // It has said nothing of it.
            engine
                .units_of(ix)
                .into_iter()
                .for_each(|u| engine.units[u].barred_until = Instant::MAX);
            continue;
        };
        remember(&mut engine, ix, &role, now);
        if role.state == State::Initialize || role.class == Class::Unable {
            engine
                .units_of(ix)
                .into_iter()
                .for_each(|u| engine.units[u].barred_until = Instant::MAX);
        }
    }
    checks(&mut engine, &part.roles);
    copies(&mut engine, &part.roles, now);
    for (n, state) in part.links.iter().enumerate() {
        let link = LinkIx(u16::try_from(n).unwrap_or(u16::MAX));
        engine.handle(now, Input::Link { link, state: state.clone() });
        engine.handle(now, Input::Addresses { link, present: &[] });
        engine.handle(now, Input::FrameSeen(link));
    }
    for (ix, _) in model.iter() {
        if let Some(role) = role(ix) {
            take(&mut engine, ix, &role, now);
        }
    }
    settle(&mut engine, now);
    engine
}

/// What operators and flap control made of it.
fn remember(engine: &mut Engine, ix: InstanceIx, role: &Role, now: Now) {
    let instance = Arc::clone(&engine.model);
    let instance = instance.instance(ix);
    let mut memory = Memory::default();
    let utc = to_utc(stamp(now.mono), now);
    // What its copy makes of it follows from that one.
    let class = if role.stale { Class::Healthy } else { role.class };
    if class == Class::Drained {
        memory.orders.drained = Some(DrainRecord { until_ms: None, last_resort: false });
    }
    if class == Class::Held {
        if let Some(damping) = &instance.flap.damping {
            memory.flap.penalty = damping.suppress;
            memory.flap.suppressed_ms = Some(utc);
        }
        memory.flap.held_ms = instance.flap.budget.as_ref().map(|_| utc);
        memory.flap.at_ms = utc;
    }
    let told = Priority::new(role.priority).ok().filter(|p| !p.is_owner() && !role.pinned);
    memory.orders.priority = told.filter(|p| *p != instance.priority).map(|p| (p, None));
    engine.recall(Some(ix), memory);
    engine.raise_epoch_to(ix, role.epoch);
}

/// Its copies of state files are good enough, unless it says otherwise: then nothing is known of them.
fn copies(engine: &mut Engine, roles: &BTreeMap<u64, Role>, now: Now) {
    let model = Arc::clone(&engine.model);
    for (set, config) in (0u16..).map(SetIx).zip(&model.replicates) {
        let role = roles.get(&model.instance(config.instance).key);
        if role.is_some_and(|role| !role.stale) {
            engine.handle(now, Input::Replica { set, state: Some(COMPLETE) });
        }
    }
}

/// Checks say what the classes tell: good, and one that fails where a class is worse for it.
fn checks(engine: &mut Engine, roles: &BTreeMap<u64, Role>) {
    let model = Arc::clone(&engine.model);
    let here = |check: CheckIx| !matches!(model.check(check).probe, Probe::Instance { .. });
    let say = |engine: &mut Engine, check: CheckIx, verdict| {
        engine.checks.states[usize::from(check.0)] =
            CheckState::resumed(verdict, Instant::ZERO, Arc::from(""));
    };
    for check in (0u16..).map(CheckIx).take(model.checks.len()).filter(|c| here(*c)) {
        say(engine, check, Verdict::Pass);
    }
    for (ix, instance) in model.iter() {
        let class = roles.get(&instance.key).map(|role| role.class);
        let fails = |c: &CheckIx| model.check(*c).severity == Severity::Fail && here(*c);
        if class == Some(Class::Failing)
            && let Some(check) = instance.checks.iter().copied().find(fails)
        {
            say(engine, check, Verdict::Fail);
        }
        engine.reassess(ix, None);
    }
}

/// Its state.
fn take(engine: &mut Engine, ix: InstanceIx, role: &Role, now: Now) {
    for u in engine.units_of(ix) {
        if engine.units[u].state() == State::Initialize {
            continue;
        }
        if let Some(heard) = role.hears {
            let interval = heard.interval;
            engine.units[u].vr.resume(now.mono, Some(heard), interval);
            engine.ownership[usize::from(ix.0)] =
                Ownership { owner: Some(heard.src), at: now.mono, left: false };
        }
        engine.units[u].gates = PreemptGates::resumed((Some(role.healthy_since), None), None);
        engine.refresh_preemption(u);
        if role.state == State::Active {
            engine.units[u].inherited = Some(UnitHandover {
                active: true,
                pinned: role.pinned,
                since: now.mono,
                ..UnitHandover::default()
            });
            engine.become_active(u, super::super::io::Cause::Adopted);
        }
        engine.rearm(u);
    }
}

/// What it asks for while it comes up is done at once, and nobody hears of it.
fn settle(engine: &mut Engine, now: Now) {
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Send(transmit) => {
                engine.handle(now, Input::Sent { router: transmit.router, accepted: true });
            }
            Output::Own(own) => {
                let (instance, order) = (own.instance, own.order);
                let applied = Applied { instance, order, at: now.mono, result: Ok(()) };
                engine.handle(now, Input::Applied(applied));
            }
            _ => {}
        }
    }
}
