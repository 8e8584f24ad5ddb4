//! Checked file -> [`Model`] of each host.
//!
//! Called by `config::load` after the checks found no error. It decides nothing but defaults that
//! depend on other values.

use super::canonical;
use super::hash::stable_hash;
use super::model::{
    Auth, ChecksumFlavour, Heartbeat, HmacAuth, Host, Instance, Link, Model, OnConflict, Replicate,
    SyncGroup, Telemetry, Transport, VirtualRoute, VirtualRule,
};
use super::resolve_health;
use super::schema::{
    CheckDecl, File, HmacDecl, HookDecl, InstanceDecl, ReplicateDecl, RouteDecl, RuleDecl,
};
use crate::replica;
use crate::time::Duration;
use crate::types::{Family, HostIx, InstanceIx, Interval, LinkIx};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// UDP port of heartbeats.
const DEFAULT_HEARTBEAT_PORT: u16 = 7112;
/// Healthy this long before taking the address back.
const DEFAULT_PREEMPT_DELAY: Duration = Duration::from_secs(60);
/// Bounds of the freshness window that is not configured (draft-cassen-vrrp-auth-hmac).
const WINDOW_MIN: Duration = Duration::from_secs(5);
const WINDOW_MAX: Duration = Duration::from_secs(300);

/// The models of all hosts, by position of the host.
pub(super) fn resolve(file: &File) -> Vec<Model> {
    let mut models: Vec<Model> = (0u8..)
        .map(HostIx)
        .zip(file.with_checks().zip(&file.hooks))
        .map(|(ix, ((_, instances, checks), hooks))| model(file, ix, instances, checks, hooks))
        .collect();
    let hash = stable_hash(canonical::render(&models).as_bytes());
    for model in &mut models {
        model.hash = hash;
    }
    models
}

fn model(
    file: &File,
    host: HostIx,
    declared: &[InstanceDecl],
    checks: &[CheckDecl],
    hooks: &[HookDecl],
) -> Model {
    let hosts = file.hosts.iter().map(|h| Host {
        name: Arc::clone(&h.name.value),
        paths: h.paths.value.iter().map(|p| p.value).collect(),
    });
    let hosts: Vec<Host> = hosts.collect();
    let heartbeat = heartbeat(file);
    let mut links = Vec::new();
    let instances = declared
        .iter()
        .map(|decl| {
            let link = link_of(decl, &mut links);
            let place =
                Place { file, hosts: &hosts, me: host, link, heartbeats: heartbeat.is_some() };
            instance(&place, decl, checks)
        })
        .collect();
    let checks = resolve_health::checks(checks, declared, &links);
    let sync_groups = file.groups.iter().filter_map(|group| {
        let members = group.members.value.iter().filter_map(|member| {
            let at = declared.binary_search_by(|d| d.name.value.cmp(&member.value)).ok()?;
            u16::try_from(at).ok().map(InstanceIx)
        });
        let members: Vec<_> = members.collect();
        let name = Arc::clone(&group.name.value);
        (!members.is_empty()).then_some(SyncGroup { name, members })
    });
    Model {
        cluster: file.cluster.name.as_ref().map_or_else(|| "".into(), |n| Arc::clone(&n.value)),
        host,
        sync_groups: sync_groups.collect(),
        hosts,
        heartbeat,
        links,
        instances,
        checks,
        hooks: resolve_health::hooks(hooks, declared),
        replicates: file.sets.iter().filter_map(|decl| replicate(decl, declared)).collect(),
        replicate_port: file.cluster.replicate_port.as_ref().map_or(replica::PORT, |p| p.value),
        telemetry: telemetry(file, host),
        hash: 0,
    }
}

/// A set of an instance that runs on this host.
fn replicate(decl: &ReplicateDecl, declared: &[InstanceDecl]) -> Option<Replicate> {
    let at = declared.binary_search_by(|d| d.name.value.cmp(&decl.instance.value)).ok()?;
    Some(Replicate {
        name: Arc::clone(&decl.name.value),
        instance: InstanceIx(u16::try_from(at).ok()?),
        paths: decl.paths.iter().map(|path| path.value.clone()).collect(),
        exclude: decl.exclude.clone(),
        debounce: decl.debounce.value,
        max_delay: decl.max_delay,
        scan_interval: decl.scan_interval,
        atomic: decl.atomic,
        xattrs: decl.xattrs,
        setuid: decl.setuid,
        outward_links: decl.outward_links,
        require_mount: decl.require_mount,
        bandwidth: decl.bandwidth,
        delete_guard: decl.delete_guard,
        trash_versions: decl.trash_versions,
        trash_age: decl.trash_age,
        rescue_quota: decl.rescue_quota,
        gate: decl.gate.value,
        max_age: decl.max_age,
        max_pending: decl.max_pending,
    })
}

fn telemetry(file: &File, host: HostIx) -> Telemetry {
    let listen = file.telemetry.get(usize::from(host.0)).and_then(|decl| decl.listen.as_ref());
    Telemetry { listen: listen.map(|listen| listen.value.clone()) }
}

fn heartbeat(file: &File) -> Option<Heartbeat> {
    let key_file = file.cluster.key_file.as_ref().map(|k| k.value.clone())?;
    let interval = file.views.iter().flatten().map(|decl| decl.interval.value).min();
    file.has_heartbeats().then(|| Heartbeat {
        port: file.cluster.heartbeat_port.as_ref().map_or(DEFAULT_HEARTBEAT_PORT, |p| p.value),
        key_file,
        interval: interval.unwrap_or(Interval::SECOND),
    })
}

/// The interface of `decl` in `links`, entered if it is new there.
fn link_of(decl: &InstanceDecl, links: &mut Vec<Link>) -> LinkIx {
    let name = &decl.interface.value;
    let at = links.iter().position(|link| link.name == *name).unwrap_or_else(|| {
        links.push(Link { name: Arc::clone(name), settle: Duration::ZERO });
        links.len() - 1
    });
    links[at].settle = links[at].settle.max(decl.settle);
    // The checks allow fewer instances than a link index can count.
    LinkIx(u16::try_from(at).unwrap_or(u16::MAX))
}

/// Where an instance runs.
struct Place<'f> {
    file: &'f File,
    hosts: &'f [Host],
    me: HostIx,
    link: LinkIx,
    /// Are there heartbeats?
    heartbeats: bool,
}

fn instance(place: &Place<'_>, decl: &InstanceDecl, checks: &[CheckDecl]) -> Instance {
    let Place { file, hosts, me, link, heartbeats } = *place;
    let name = decl.name.value.as_ref();
    let source_in = |family| decl.source.iter().map(|s| s.value).find(|s| Family::of(s) == family);
    let source = Family::ALL.map(source_in);
    let own = &hosts[usize::from(me.0)].paths;
    let transport = match &decl.unicast_peers {
        None => Transport::Multicast,
        Some(peers) => Transport::Unicast(
            peers
                .value
                .iter()
                .map(|peer| peer.value)
                .filter(|peer| !own.contains(peer) && !source.contains(&Some(*peer)))
                .collect(),
        ),
    };
    Instance {
        name: Arc::clone(&decl.name.value),
        key: stable_hash(decl.name.value.as_bytes()),
        vrid: decl.vrid.value,
        link,
        version: decl.version.value,
        addresses: decl.addresses.value.iter().map(|vip| vip.value).collect(),
        unadvertised: decl.unadvertised.iter().map(|vip| vip.value).collect(),
        priorities: by_host(file, name, |d| d.priority.value),
        priority: decl.priority.value,
        interval: decl.interval.value,
        preempt: decl.preempt.value,
        preempt_delay: decl.preempt_delay.as_ref().map_or(DEFAULT_PREEMPT_DELAY, |d| d.value),
        hold_down: decl.hold_down,
        accept: decl.accept,
        virtual_mac: decl.virtual_mac.value,
        claim: decl.claim.value,
        transport,
        source,
        checksum: decl.checksum.as_ref().map_or(ChecksumFlavour::Rfc9568, |c| c.value),
        auth: auth(decl),
        lease: decl.lease,
        stale_holder_wait: decl.stale_holder_wait.as_ref().is_none_or(|w| w.value),
        on_conflict: decl.on_conflict.as_ref().map_or(OnConflict::Alarm, |c| c.value),
        shared_fate: heartbeats && decl.shared_fate.as_ref().is_none_or(|s| s.value),
        prefix_route: decl.prefix_route,
        targets: decl.targets.iter().map(|t| t.value).collect(),
        routes: decl.routes.iter().map(|r| virtual_route(decl, r)).collect(),
        rules: decl.rules.iter().map(virtual_rule).collect(),
        strict: decl.strict.value,
        standby: resolve_health::standby(decl, checks),
        standbys: by_host(file, name, |d| d.standby.value),
        checks: resolve_health::used(decl, checks),
        flap: decl.flap.clone(),
    }
}

/// What the instance `name` says of each host; `None`: that host does not take part.
fn by_host<T>(file: &File, name: &str, value: impl Fn(&InstanceDecl) -> T) -> Vec<Option<T>> {
    let of_host = |instances: &Vec<InstanceDecl>| {
        let at = instances.binary_search_by(|d| d.name.value.as_ref().cmp(name)).ok()?;
        Some(value(&instances[at]))
    };
    file.views.iter().map(of_host).collect()
}

fn auth(decl: &InstanceDecl) -> Auth {
    match (&decl.simple_text, &decl.hmac) {
        (_, Some(hmac)) => hmac_auth(hmac, decl.interval.value).map_or(Auth::None, Auth::Hmac),
        (Some(password), None) => Auth::SimpleText(password.value),
        (None, None) => Auth::None,
    }
}

/// The trailer; `None` without keys, which the checks refuse.
fn hmac_auth(hmac: &HmacDecl, interval: Interval) -> Option<HmacAuth> {
    let keys: Vec<(u8, PathBuf)> = hmac.keys.iter().map(|(id, p)| (id.value, p.clone())).collect();
    let active_key = hmac.active_key()?;
    let default_window = (interval.duration() * 3).clamp(WINDOW_MIN, WINDOW_MAX);
    let window = hmac.window.unwrap_or(Some(default_window));
    Some(HmacAuth { mode: hmac.mode, keys, active_key, window })
}

fn virtual_route(decl: &InstanceDecl, route: &RouteDecl) -> VirtualRoute {
    let is_v4 = route.to.value.addr().is_ipv4();
    // An IPv4 route goes away with its source: it always has one that is leased (DESIGN 5.1).
    let leased = || -> Option<IpAddr> {
        decl.router(Family::V4).filter(|_| is_v4).map(|vip| vip.value.addr)
    };
    VirtualRoute {
        to: route.to.value,
        via: route.via.as_ref().map(|via| via.value),
        src: route.src.as_ref().map(|src| src.value).or_else(leased),
        table: route.table,
        metric: route.metric,
    }
}

fn virtual_rule(rule: &RuleDecl) -> VirtualRule {
    let from = rule.from.as_ref().map(|p| p.value);
    let to = rule.to.as_ref().map(|p| p.value);
    let family = from.or(to).map_or(Family::V4, |prefix| Family::of(&prefix.addr()));
    VirtualRule { family, from, to, table: rule.table, preference: rule.preference.value }
}
