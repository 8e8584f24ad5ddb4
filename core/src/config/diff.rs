//! What another configuration changes on this host, per instance, and what each change costs (DESIGN 5.16).
//!
//! Called by the engine, which carries it out, and by those who say it beforehand (`vipd config diff`). Pure, and
//! exhaustive: a new field of the model does not compile before it is said here what its change means.

mod cost;

pub use cost::{Cost, cost_of};

use super::keys;
use super::model::{
    Auth, Check, Claim, Heartbeat, Hook, Host, Instance, Model, Probe, Replicate, Transport,
    VirtualRoute, VirtualRule,
};
use crate::types::{CheckIx, Family, InstanceIx, LinkIx, Vip};
use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::sync::Arc;

/// The section of most keys.
const INSTANCE: &str = "[instance.NAME]";

/// One thing that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, or what it is about.
    pub what: String,
    /// What it costs.
    pub cost: Cost,
    /// How: `100 -> 150`.
    pub how: String,
}

/// What becomes of an instance of this host.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Goes on as it is.
    InPlace,
    /// Is handed over and begins anew.
    Anew,
    /// Was not there before: begins as at a start of the agent.
    New,
    /// Is not there any more: is handed over and released.
    Gone,
}

/// What changes for one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceDifference {
    /// Its name.
    pub name: Arc<str>,
    /// What becomes of it.
    pub fate: Fate,
    /// What changes, hard changes first.
    pub changes: Vec<Change>,
    /// Does what the kernel holds for its owner change?
    pub kernel: bool,
}

/// What another configuration changes on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Instances for which something changes, by name.
    pub instances: Vec<InstanceDifference>,
    /// What changes beside instances.
    pub host: Vec<Change>,
}

impl Difference {
    /// What `new` changes where `old` is in force; both as the same host sees them.
    pub fn between(old: &Model, new: &Model) -> Self {
        let pair = Pair { old, new };
        let mut instances: Vec<InstanceDifference> = Vec::new();
        let named = |model: &'_ Model, name: &Arc<str>| {
            model.instances.binary_search_by(|i| i.name.cmp(name)).ok()
        };
        for before in &old.instances {
            instances.push(match named(new, &before.name) {
                Some(at) => pair.instance(before, &new.instances[at]),
                None => bare(&before.name, Fate::Gone),
            });
        }
        let came = new.instances.iter().filter(|i| named(old, &i.name).is_none());
        instances.extend(came.map(|i| bare(&i.name, Fate::New)));
        pair.groups(&mut instances);
        instances.retain(|i| i.fate != Fate::InPlace || !i.changes.is_empty());
        for instance in &mut instances {
            instance.changes.sort_by_key(|c| std::cmp::Reverse(c.cost));
        }
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        Self { instances, host: pair.host() }
    }

    /// Nothing changes for this host.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.host.is_empty()
    }

    /// What becomes of the instance called `name`.
    pub fn fate(&self, name: &str) -> Fate {
        self.find(name).map_or(Fate::InPlace, |i| i.fate)
    }

    /// What changes for the instance called `name`, if anything does.
    pub fn find(&self, name: &str) -> Option<&InstanceDifference> {
        let at = self.instances.binary_search_by(|i| (*i.name).cmp(name)).ok()?;
        self.instances.get(at)
    }
}

fn bare(name: &Arc<str>, fate: Fate) -> InstanceDifference {
    InstanceDifference { name: Arc::clone(name), fate, changes: Vec::new(), kernel: true }
}

/// Two models of one host.
struct Pair<'m> {
    old: &'m Model,
    new: &'m Model,
}

/// Collects the changes of one section.
struct Changes {
    section: &'static str,
    list: Vec<Change>,
}

impl Changes {
    fn note(&mut self, changed: bool, key: keys::Key, how: impl FnOnce() -> String) {
        if changed {
            let cost = cost_of(self.section, key.name);
            self.list.push(Change { what: key.name.into(), cost, how: how() });
        }
    }

    fn value<T: PartialEq>(
        &mut self,
        key: keys::Key,
        old: &T,
        new: &T,
        show: impl Fn(&T) -> String,
    ) {
        self.note(old != new, key, || arrow(show(old), show(new)));
    }

    /// This value costs more than its key usually does.
    fn harden(&mut self, key: keys::Key, why: &str) {
        if let Some(change) = self.list.iter_mut().find(|c| c.what == key.name) {
            change.cost = Cost::Hard;
            change.how = format!("{} ({why})", change.how);
        }
    }
}

fn arrow(old: impl Display, new: impl Display) -> String {
    format!("{old} -> {new}")
}

fn on_off(on: &bool) -> String {
    if *on { "on".into() } else { "off".into() }
}

fn word(value: &impl Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// What was added to a list and what was taken off it.
fn plus_minus<T: PartialEq + Display>(old: &[T], new: &[T]) -> String {
    let added = new.iter().filter(|v| !old.contains(v)).map(|v| format!("+{v}"));
    let gone = old.iter().filter(|v| !new.contains(v)).map(|v| format!("-{v}"));
    let all: Vec<String> = added.chain(gone).collect();
    match all.as_slice() {
        [] => "another order".into(),
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first} {second} {third} and {} more", rest.len())
        }
        all => all.join(" "),
    }
}

impl Pair<'_> {
    fn instance(&self, old: &Instance, new: &Instance) -> InstanceDifference {
        use keys::instance as key;
        // Every field, so that none is forgotten.
        let Instance {
            name,
            key: _,
            vrid,
            link,
            version,
            addresses,
            unadvertised,
            priorities,
            priority,
            interval,
            preempt,
            preempt_delay,
            hold_down,
            accept,
            virtual_mac,
            claim,
            transport,
            source,
            checksum,
            auth,
            lease,
            stale_holder_wait,
            on_conflict,
            shared_fate,
            prefix_route,
            targets,
            routes,
            rules,
            strict,
            standby,
            standbys,
            checks,
            flap,
        } = old;
        let mut c = Changes { section: INSTANCE, list: Vec::new() };
        c.value(key::VRID, vrid, &new.vrid, ToString::to_string);
        let (was, will) = (self.old.link_name(*link), self.new.link_name(new.link));
        c.value(key::INTERFACE, &was, &will, |n| n.to_string());
        c.value(key::VERSION, version, &new.version, |v| v.get().to_string());
        c.value(key::VIRTUAL_MAC, virtual_mac, &new.virtual_mac, on_off);
        c.value(key::CLAIM, claim, &new.claim, word);
        c.note(*shared_fate != new.shared_fate && old.families().count() > 1, key::FATE, || {
            let show = |shared| if shared { "shared" } else { "independent" };
            arrow(show(*shared_fate), show(new.shared_fate))
        });
        c.value(key::PREFIX_ROUTE, prefix_route, &new.prefix_route, on_off);
        self.addresses(&mut c, old, new, (addresses, unadvertised));
        c.value(key::PRIORITY, priority, &new.priority, |p| p.get().to_string());
        if priority.is_owner() != new.priority.is_owner() {
            c.harden(key::PRIORITY, "to or from 255");
        }
        let named = |model: &Model, all: &[Option<_>]| by_name(model, all);
        c.note(
            priority == &new.priority
                && named(self.old, priorities) != named(self.new, &new.priorities),
            key::PRIORITY,
            || "of other hosts".into(),
        );
        c.value(key::ADVERT_INTERVAL, interval, &new.interval, |i| format!("{:?}", i.duration()));
        c.value(key::PREEMPT, preempt, &new.preempt, on_off);
        c.value(key::PREEMPT_DELAY, preempt_delay, &new.preempt_delay, |d| format!("{d:?}"));
        c.value(key::HOLD_DOWN, hold_down, &new.hold_down, |d| format!("{d:?}"));
        c.value(key::ACCEPT, accept, &new.accept, on_off);
        c.note(transport != &new.transport, key::UNICAST_PEERS, || {
            match (transport, &new.transport) {
                (Transport::Unicast(old), Transport::Unicast(new)) => plus_minus(old, new),
                (_, Transport::Unicast(_)) => "multicast -> unicast".into(),
                (_, Transport::Multicast) => "unicast -> multicast".into(),
            }
        });
        c.note(source != &new.source, key::SOURCE, || {
            let show = |s: &[Option<_>; 2]| {
                let all: Vec<String> = s.iter().flatten().map(ToString::to_string).collect();
                if all.is_empty() { "automatic".into() } else { all.join(", ") }
            };
            arrow(show(source), show(&new.source))
        });
        c.value(key::CHECKSUM, checksum, &new.checksum, word);
        let simple = |auth: &Auth| matches!(auth, Auth::SimpleText(_));
        let either = simple(auth) || simple(&new.auth);
        c.note(auth != &new.auth && either, key::SIMPLE_TEXT, || "another one".into());
        c.note(auth != &new.auth && !either, key::HMAC, || "another one".into());
        c.value(key::LEASE, lease, &new.lease, on_off);
        c.value(key::STALE_HOLDER_WAIT, stale_holder_wait, &new.stale_holder_wait, on_off);
        c.value(key::ON_CONFLICT, on_conflict, &new.on_conflict, word);
        c.note(targets != &new.targets, key::TARGETS, || plus_minus(targets, &new.targets));
        c.value(key::STRICT, strict, &new.strict, on_off);
        c.note(routes != &new.routes, key::ROUTE, || lists(routes, &new.routes));
        c.note(rules != &new.rules, key::RULE, || lists(rules, &new.rules));
        self.standby(&mut c, old, new);
        c.note(
            standby.kind() == new.standby.kind()
                && by_name(self.old, standbys) != by_name(self.new, &new.standbys),
            key::STANDBY,
            || "of other hosts".into(),
        );
        let names = |model: &Model, all: &[CheckIx]| -> Vec<Arc<str>> {
            all.iter().map(|ix| Arc::clone(&model.check(*ix).name)).collect()
        };
        let (was, will) = (names(self.old, checks), names(self.new, &new.checks));
        c.note(was != will, key::CHECKS, || plus_minus(&was, &will));
        c.note(flap.damping != new.flap.damping, key::DAMPING, || "another one".into());
        c.note(flap.budget != new.flap.budget, key::MOVE_BUDGET, || "another one".into());
        c.value(key::STICKINESS, &flap.stickiness, &new.flap.stickiness, ToString::to_string);
        c.value(key::PRIORITY_HOLD, &flap.priority_hold, &new.flap.priority_hold, |d| {
            format!("{d:?}")
        });
        let hard = c.list.iter().any(|change| change.cost == Cost::Hard);
        let kernel = (addresses, unadvertised, routes, rules, lease)
            != (&new.addresses, &new.unadvertised, &new.routes, &new.rules, &new.lease);
        let fate = if hard { Fate::Anew } else { Fate::InPlace };
        InstanceDifference { name: Arc::clone(name), fate, changes: c.list, kernel }
    }

    fn addresses(
        &self,
        c: &mut Changes,
        old: &Instance,
        new: &Instance,
        (addresses, unadvertised): (&[Vip], &[Vip]),
    ) {
        use keys::instance as key;
        c.note(addresses != new.addresses, key::ADDRESSES, || {
            plus_minus(addresses, &new.addresses)
        });
        c.note(unadvertised != new.unadvertised, key::UNADVERTISED, || {
            plus_minus(unadvertised, &new.unadvertised)
        });
        if !old.families().eq(new.families()) || old.leader() != new.leader() {
            c.harden(key::ADDRESSES, "families, or the first one's family");
        }
        let anchor = |i: &Instance| i.claimed().find(|v| v.family() == Family::V4).copied();
        if old.claim == Claim::Route && anchor(old) != anchor(new) {
            c.harden(key::ADDRESSES, "the first one carries the others with claim = \"route\"");
            c.harden(key::UNADVERTISED, "the first one carries the others with claim = \"route\"");
        }
    }

    fn standby(&self, c: &mut Changes, old: &Instance, new: &Instance) {
        use keys::instance as key;
        c.value(key::STANDBY, &old.standby.kind(), &new.standby.kind(), word);
        let activation = |model: &Model, i: &Instance| {
            i.standby.activation().map(|a| {
                (a.program.clone(), a.ready.map(|check| Arc::clone(&model.check(check).name)))
            })
        };
        c.note(activation(self.old, old) != activation(self.new, new), key::ACTIVATION, || {
            "another one".into()
        });
    }

    /// Instances that move together begin anew together, and so do those that have other company than before.
    fn groups(&self, instances: &mut [InstanceDifference]) {
        let company = |model: &Model, name: &str| -> BTreeSet<Arc<str>> {
            let of = |ix: &InstanceIx| Arc::clone(&model.instance(*ix).name);
            let mut groups = model.sync_groups.iter();
            let group = groups.find(|g| g.members.iter().any(|ix| *of(ix) == *name));
            group.map(|g| g.members.iter().map(of).collect()).unwrap_or_default()
        };
        let sync = |how: String| Change { what: "sync".into(), cost: Cost::Hard, how };
        for instance in instances.iter_mut().filter(|i| i.fate == Fate::InPlace) {
            let was = company(self.old, &instance.name);
            let will = company(self.new, &instance.name);
            if was != will {
                let list = |names: BTreeSet<Arc<str>>| names.into_iter().collect::<Vec<_>>();
                instance.fate = Fate::Anew;
                instance.changes.push(sync(plus_minus(&list(was), &list(will))));
            }
        }
        let hard: Vec<Arc<str>> = instances
            .iter()
            .filter(|i| matches!(i.fate, Fate::Anew | Fate::Gone))
            .map(|i| Arc::clone(&i.name))
            .collect();
        for name in hard {
            for other in company(self.old, &name) {
                let staying = instances.iter_mut().filter(|i| i.fate == Fate::InPlace);
                for partner in staying.filter(|i| i.name == other) {
                    partner.fate = Fate::Anew;
                    partner.changes.push(sync(format!("moves with {name}")));
                }
            }
        }
    }

    /// What changes beside instances.
    fn host(&self) -> Vec<Change> {
        // Every field, so that none is forgotten. The hash is that of the whole file, other hosts included.
        let Model {
            cluster,
            host: _,
            hosts,
            heartbeat,
            links,
            instances: _,
            sync_groups: _,
            checks,
            hooks,
            replicates,
            replicate_port,
            telemetry,
            hash: _,
        } = self.old;
        let new = self.new;
        let mut c = Changes { section: "[cluster]", list: Vec::new() };
        c.value(keys::cluster::NAME, cluster, &new.cluster, |n| format!("\"{n}\""));
        let of = |h: &Option<Heartbeat>| h.as_ref().map(|h| (h.port, h.key_file.clone()));
        let (was, will) = (of(heartbeat), of(&new.heartbeat));
        if let (Some((port, file)), Some((new_port, new_file))) = (&was, &will) {
            c.value(keys::cluster::HEARTBEAT_PORT, port, new_port, ToString::to_string);
            c.value(keys::cluster::KEY_FILE, file, new_file, |f| f.display().to_string());
        }
        c.value(
            keys::cluster::REPLICATE_PORT,
            replicate_port,
            &new.replicate_port,
            ToString::to_string,
        );
        c.section = "[hosts.NAME]";
        let pair = |h: &Host| (Arc::clone(&h.name), h.paths.clone());
        let (was, will): (Vec<_>, Vec<_>) =
            (hosts.iter().map(pair).collect(), new.hosts.iter().map(pair).collect());
        let only =
            |all: &[(Arc<str>, _)]| all.iter().map(|(n, _)| Arc::clone(n)).collect::<Vec<_>>();
        let (names, new_names) = (only(&was), only(&will));
        if names != new_names {
            let how = plus_minus(&names, &new_names);
            c.list.push(Change { what: "hosts".into(), cost: Cost::Soft, how });
        }
        for (name, paths) in &will {
            let before = was.iter().find(|(n, _)| n == name).map(|(_, paths)| paths);
            if let Some(before) = before.filter(|before| *before != paths) {
                let how = format!("of {name}: {}", plus_minus(before, paths));
                c.note(true, keys::host::PATHS, || how);
            }
        }
        c.section = INSTANCE;
        for link in &new.links {
            let before = links.iter().find(|l| l.name == link.name).map(|l| l.settle);
            if let Some(before) = before.filter(|before| *before != link.settle) {
                c.note(true, keys::instance::SETTLE, || {
                    format!(
                        "{}: {}",
                        link.name,
                        arrow(format!("{before:?}"), format!("{:?}", link.settle))
                    )
                });
            }
        }
        self.sections("check", checks, &new.checks, |c| &c.name, Self::same_check, &mut c.list);
        self.sections("hook", hooks, &new.hooks, |h| &h.name, Self::same_hook, &mut c.list);
        let (sets, new_sets) = (replicates, &new.replicates);
        self.sections("replicate", sets, new_sets, |r| &r.name, Self::same_set, &mut c.list);
        c.section = "[telemetry]";
        let listen = |t: &super::model::Telemetry| {
            t.listen.as_ref().map_or_else(|| "nowhere".to_owned(), ToString::to_string)
        };
        c.value(keys::telemetry::LISTEN, telemetry, &new.telemetry, listen);
        c.list
    }

    /// Sections of one kind that came, went or say something else.
    fn sections<T>(
        &self,
        kind: &str,
        old: &[T],
        new: &[T],
        name: impl Fn(&T) -> &Arc<str>,
        same: impl Fn(&Self, &T, &T) -> bool,
        list: &mut Vec<Change>,
    ) {
        let mut note = |which: &T, how: &str| {
            let what = format!("{kind} {}", name(which));
            list.push(Change { what, cost: Cost::Hot, how: how.into() });
        };
        for before in old {
            match new.iter().find(|n| name(n) == name(before)) {
                None => note(before, "gone"),
                Some(after) if !same(self, before, after) => note(after, "changed"),
                Some(_) => {}
            }
        }
        let came = |n: &&T| old.iter().all(|o| name(o) != name(n));
        new.iter().filter(came).for_each(|n| note(n, "new"));
    }

    fn same_check(&self, old: &Check, new: &Check) -> bool {
        let renumbered = match (&old.probe, &new.probe) {
            (
                Probe::Instance { instance: a, active },
                Probe::Instance { instance: b, active: active_now },
            ) => active == active_now && self.old.instance(*a).name == self.new.instance(*b).name,
            (Probe::Gateway { addr, link }, Probe::Gateway { addr: addr_now, link: link_now }) => {
                addr == addr_now && self.old.link_name(*link) == self.new.link_name(*link_now)
            }
            (a, b) => a == b,
        };
        let rest = |c: &Check| (c.interval, c.timeout, c.fall, c.rise, c.severity, c.weight);
        renumbered && rest(old) == rest(new)
    }

    fn same_hook(&self, old: &Hook, new: &Hook) -> bool {
        let names = |model: &Model, hook: &Hook| -> Vec<Arc<str>> {
            hook.instances.iter().map(|ix| Arc::clone(&model.instance(*ix).name)).collect()
        };
        let rest = |hook: &Hook| Hook { instances: Vec::new(), ..hook.clone() };
        names(self.old, old) == names(self.new, new) && rest(old) == rest(new)
    }

    fn same_set(&self, old: &Replicate, new: &Replicate) -> bool {
        let instance =
            |model: &Model, set: &Replicate| Arc::clone(&model.instance(set.instance).name);
        instance(self.old, old) == instance(self.new, new)
            && Replicate { instance: new.instance, ..old.clone() } == *new
    }
}

impl Model {
    fn link_name(&self, ix: LinkIx) -> Arc<str> {
        Arc::clone(&self.links[usize::from(ix.0)].name)
    }
}

/// What is said of each host, by its name.
fn by_name<T: Copy>(model: &Model, all: &[Option<T>]) -> Vec<(Arc<str>, T)> {
    let hosts = model.hosts.iter().zip(all);
    hosts.filter_map(|(host, value)| Some((Arc::clone(&host.name), (*value)?))).collect()
}

/// What routes and rules were added and taken off.
fn lists<T: PartialEq + Line>(old: &[T], new: &[T]) -> String {
    let line = |all: &[T]| all.iter().map(Line::line).collect::<Vec<_>>();
    plus_minus(&line(old), &line(new))
}

/// In one word or two.
trait Line {
    fn line(&self) -> String;
}

impl Line for VirtualRoute {
    fn line(&self) -> String {
        match self.via {
            Some(via) => format!("{} via {via} table {}", self.to, self.table),
            None => format!("{} table {}", self.to, self.table),
        }
    }
}

impl Line for VirtualRule {
    fn line(&self) -> String {
        format!("preference {} table {}", self.preference, self.table)
    }
}
