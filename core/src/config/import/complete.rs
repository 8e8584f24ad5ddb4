//! A `vrrp_instance` as keepalived runs it -> instances of vipd.
//!
//! Called by `translate`. keepalived changes what is written without a word (rounds, clears, moves); this replays it.
//! One `vrrp_instance` becomes one instance, and one more for each other interface or family that it has addresses on.

use super::address::Address;
use super::blocks::Node;
use super::draft::{Group, Instance, Keys, Side};
use super::globals::Globals;
use super::hooks::{self, Subject};
use super::instance::{Tracked, Written};
use super::parts::Part;
use super::report::Notes;
use super::trackers::{Cost, Trackers};
use super::{authentication, parts, routing, text};

/// The largest priority that vipd does not use itself.
const PRIORITY_MAX: u32 = 253;
/// Weights of a member say nothing: keepalived looks at those of the group.
const OF_GROUP: &str =
    "keepalived ignores weights in a member of a sync group: track it in the group";
/// Weights of an owner.
const OF_OWNER: &str = "keepalived ignores weights at priority 255";

/// Which sync group an instance is in, and what that group tracks.
pub(super) struct Membership<'n> {
    /// The weights of its members count.
    pub(super) weights_count: bool,
    pub(super) tracked: &'n [(&'n Node, Tracked)],
}

/// Adds what becomes of `it` to `side`; the names of its instances, the main one first. Empty: it cannot run.
pub(super) fn add<'n>(
    it: &Written<'n>,
    globals: &Globals,
    membership: Option<&Membership<'n>>,
    trackers: &mut Trackers<'n>,
    side: &mut Side,
    notes: &mut Notes,
) -> Vec<String> {
    let Some((interface, vrid)) = needed(it, notes) else { return Vec::new() };
    let name = text::unused(&text::name(it.node.arg()), |n| taken(side, n));
    if name == it.node.arg() {
        notes.exact(it.node, format!("[instance.{name}]"));
    } else {
        notes.approximated(it.node, format!("[instance.{name}]; hooks are told that name"));
    }
    let parts = parts::split(it, &interface, &name, |n| taken(side, n), notes);
    let is_v6 = parts.first().is_some_and(|part| !part.is_v4);
    let priority = priority(it, notes);
    let (checks, boost) = track(it, &interface, priority, membership, trackers, notes);
    let version = version(it, globals, is_v6, notes);
    let is_strict = it.strict.map_or(globals.strict, |(_, on)| on);
    let router = Router {
        vrid,
        version,
        interval: interval(it, version, notes),
        priority: raised(it, priority, boost, notes),
        preempts: preempts(it, priority, notes),
        degrades: checks.iter().any(|name| trackers.weighs(name)),
        accepts: accepts(it, is_strict, priority, notes),
        virtual_mac: virtual_mac(it, notes),
        short_checksum: short_checksum(it, globals, notes),
        checks,
    };
    for (at, part) in parts.iter().enumerate() {
        let mut instance = router.instance(part);
        if at == 0 {
            transport(it, part.is_v4, &mut instance.keys, notes);
            let auth = authentication::keys(it, version, is_strict, &name, notes);
            auth.0.into_iter().for_each(|(key, value)| instance.keys.set(key, value));
        } else {
            parts::tell_satellite(it, part, notes);
            instance.is_satellite = true;
        }
        side.instances.push(instance);
    }
    routing::routes(it, &parts, side, notes);
    routing::rules(it, &parts, side, notes);
    let (subject, user) = (Subject::Instance(&name), globals.script_user.as_deref());
    for line in &it.notify {
        hooks::notify(line, &subject, user, &mut side.hooks, notes);
    }
    let names: Vec<String> = parts.into_iter().map(|part| part.name).collect();
    if membership.is_none() && names.len() > 1 {
        side.groups.push(Group { name, members: names.clone() });
    }
    names
}

/// What all instances that one `vrrp_instance` becomes have in common.
struct Router {
    vrid: u8,
    /// Of IPv4.
    version: u8,
    /// Milliseconds.
    interval: u64,
    priority: u8,
    /// As [`preempts`] says.
    preempts: Option<u64>,
    /// A check costs priority.
    degrades: bool,
    accepts: bool,
    virtual_mac: bool,
    short_checksum: bool,
    checks: Vec<String>,
}

impl Router {
    /// The instance for the addresses of `part`.
    fn instance(&self, part: &Part) -> Instance {
        let mut keys = Keys::default();
        keys.set("vrid", self.vrid.to_string());
        keys.set("interface", text::string(&part.interface));
        let written = |list: &[Address]| text::strings(list.iter().map(|a| a.written.as_str()));
        keys.set("addresses", written(&part.addresses));
        if !part.unadvertised.is_empty() {
            keys.set("unadvertised", written(&part.unadvertised));
        }
        let version = if part.is_v4 { self.version } else { 3 };
        if version == 2 {
            keys.set("version", "2");
        }
        keys.set("advert-interval", text::duration(self.interval));
        match self.preempts {
            None => keys.set("preempt", "false"),
            Some(delay) => {
                keys.set("preempt-delay", text::duration(delay));
                keys.set("hold-down", "\"0s\"");
            }
        }
        if self.degrades {
            keys.set("stickiness", "0");
            keys.set("priority-hold", "\"0s\"");
        }
        if !self.accepts {
            keys.set("accept", "false");
        }
        if self.virtual_mac {
            keys.set("virtual-mac", "true");
        }
        if version == 3 && part.is_v4 && !self.short_checksum {
            keys.set("checksum", "\"rfc5798\"");
        }
        Instance {
            name: part.name.clone(),
            vrid: self.vrid,
            is_v4: part.is_v4,
            priority: self.priority,
            keys,
            checks: self.checks.clone(),
            routes: Vec::new(),
            rules: Vec::new(),
            is_satellite: false,
        }
    }
}

fn taken(side: &Side, name: &str) -> bool {
    side.instances.iter().any(|instance| instance.name == name)
}

/// Interface and VRID, and at least one address; `None`: said to the report.
fn needed(it: &Written<'_>, notes: &mut Notes) -> Option<(String, u8)> {
    let missing = match (it.interface, it.vrid) {
        (None, _) => "an interface",
        (_, None) => "a virtual_router_id",
        _ if it.addresses.is_empty() && it.excluded.is_empty() => "a virtual address",
        (Some(interface), Some((line, vrid))) => {
            notes.exact(interface, "interface");
            notes.exact(line, "vrid");
            return Some((interface.arg().to_owned(), vrid));
        }
    };
    notes.dropped(it.node, format!("has no instance in vipd.toml: it needs {missing}"));
    None
}

fn version(it: &Written<'_>, globals: &Globals, is_v6: bool, notes: &mut Notes) -> u8 {
    let written = it.version.map(|(_, version)| version);
    let version = if is_v6 { 3 } else { written.unwrap_or(globals.version) };
    if let Some((line, written)) = it.version {
        if written == version {
            notes.exact(line, "version");
        } else {
            notes.exact(line, "IPv6 is always version 3, in keepalived too");
        }
    }
    version
}

/// The priority that keepalived begins with.
fn priority(it: &Written<'_>, notes: &mut Notes) -> u8 {
    let starts_master = it.state.is_some_and(|line| line.arg() == "MASTER");
    match it.priority {
        Some((line, priority)) => {
            if priority == 254 {
                notes.approximated(
                    line,
                    "priority; 254 is also what an owner advertises after a planned move: use 253",
                );
            } else {
                notes.exact(line, "priority");
            }
            if let Some(state) = it.state {
                notes.exact(state, "the priority decides who begins");
            }
            priority
        }
        None if starts_master => {
            if let Some(state) = it.state {
                notes.approximated(state, "without a priority keepalived takes 255, and so does this: write one, at most 253");
            }
            255
        }
        None => {
            if let Some(state) = it.state {
                notes.exact(state, "the priority decides who begins: 100 where none is written");
            }
            100
        }
    }
}

/// `advert_int` in milliseconds, as the version carries it.
fn interval(it: &Written<'_>, version: u8, notes: &mut Notes) -> u64 {
    let Some((line, written)) = it.interval else { return 1000 };
    let legal = if version == 2 {
        (written.saturating_add(500) / 1000 * 1000).clamp(1000, 255_000)
    } else {
        (written.saturating_add(5) / 10 * 10).clamp(10, 40_950)
    };
    if legal == written {
        notes.exact(line, "advert-interval");
    } else {
        notes.approximated(
            line,
            format!(
                "advert-interval: version {version} carries {}, as keepalived sends",
                text::duration(legal)
            ),
        );
    }
    legal
}

fn accepts(it: &Written<'_>, is_strict: bool, priority: u8, notes: &mut Notes) -> bool {
    if let Some((line, _)) = it.strict {
        notes.approximated(line, "vipd always checks what it receives; strict mode means accept = false and no password here");
    }
    if let Some((line, accept)) = it.accept {
        notes.exact(line, "accept");
        return accept;
    }
    !is_strict || priority == 255
}

fn virtual_mac(it: &Written<'_>, notes: &mut Notes) -> bool {
    let Some(line) = it.vmac else { return false };
    if it.peers.is_some() {
        notes.dropped(line, "a virtual MAC and unicast adverts do not go together: switches learn it from multicast");
        return false;
    }
    if line.args().is_empty() {
        notes.exact(line, "virtual-mac");
    } else {
        notes.approximated(
            line,
            "virtual-mac; the device has a name of vipd's own, and the MAC is that of RFC 9568",
        );
    }
    true
}

/// The checks of what is tracked, and what keepalived adds to the priority while all is well.
fn track<'n>(
    it: &Written<'n>,
    interface: &str,
    priority: u8,
    membership: Option<&Membership<'n>>,
    trackers: &mut Trackers<'n>,
    notes: &mut Notes,
) -> (Vec<String>, u32) {
    let (mut checks, mut boost) = (Vec::new(), 0);
    let owner = (priority == 255).then_some(OF_OWNER);
    let member = membership.filter(|group| !group.weights_count).map(|_| OF_GROUP);
    let of_group = membership.map_or(&[][..], |group| group.tracked);
    let own = it.tracked.iter().map(|line| (line, owner.or(member)));
    for ((line, what), ignored) in own.chain(of_group.iter().map(|line| (line, owner))) {
        let found = match what {
            Tracked::Interface => trackers.track_interface(line, interface, ignored, notes),
            Tracked::Named(kind) => trackers.track(line, *kind, ignored, notes),
        };
        let Some((name, cost)) = found.filter(|(name, _)| !checks.contains(name)) else { continue };
        if let Cost::More(weight) = cost {
            boost += u32::try_from(weight).unwrap_or(0);
        }
        checks.push(name);
    }
    checks.extend(source_check(it, trackers, notes));
    (checks, boost)
}

/// The priority while all is well.
fn raised(it: &Written<'_>, priority: u8, boost: u32, notes: &mut Notes) -> u8 {
    if boost == 0 {
        return priority;
    }
    let sum = u32::from(priority) + boost;
    let line = it.priority.map_or(it.node, |(line, _)| line);
    if sum > PRIORITY_MAX {
        notes.approximated(
            line,
            format!("with what checks add it would be {sum}: {PRIORITY_MAX} is written"),
        );
    } else {
        notes.exact(line, format!("with what checks add while they are well: {sum}"));
    }
    u8::try_from(sum.min(PRIORITY_MAX)).unwrap_or(priority)
}

/// How long this host waits before it takes the address from a weaker owner, in milliseconds; `None`: for ever.
fn preempts(it: &Written<'_>, priority: u8, notes: &mut Notes) -> Option<u64> {
    let starts_master = it.state.is_some_and(|line| line.arg() == "MASTER");
    let cleared = if priority == 255 {
        Some("keepalived ignores it at priority 255")
    } else if starts_master {
        Some("keepalived ignores it beside state MASTER")
    } else {
        None
    };
    let never = it.nopreempt.is_some() && cleared.is_none();
    if let Some(line) = it.nopreempt {
        notes.exact(line, cleared.unwrap_or("preempt = false"));
    }
    let Some((line, delay)) = it.preempt_delay else {
        return (!never).then_some(0);
    };
    if never {
        notes.exact(line, "keepalived ignores it beside nopreempt");
        return None;
    }
    match cleared {
        Some(why) => {
            notes.exact(line, why);
            Some(0)
        }
        None => {
            notes.exact(line, "preempt-delay");
            Some(delay.min(86_400_000))
        }
    }
}

/// `source` and `unicast-peers`.
fn transport(it: &Written<'_>, is_v4: bool, keys: &mut Keys, notes: &mut Notes) {
    if let Some((block, peers)) = &it.peers {
        let (fit, others) =
            peers.iter().copied().partition::<Vec<std::net::IpAddr>, _>(|p| p.is_ipv4() == is_v4);
        if fit.is_empty() {
            notes.dropped(block, "no peer is of the family of the addresses");
        } else {
            let fit: Vec<String> = fit.iter().map(ToString::to_string).collect();
            keys.set("unicast-peers", text::strings(fit.iter().map(String::as_str)));
            if others.is_empty() {
                notes.exact(block, "unicast-peers");
            } else {
                notes.approximated(block, "unicast-peers, those of the family of the addresses");
            }
        }
        if !is_v4 && !it.has_ttl {
            notes.beside(format!("{}: add unicast_ttl 255 to keepalived, which sends 64 over IPv6; vipd takes 255 only", it.node.arg()));
        }
    }
    if let Some((line, source)) = it.source {
        let link_local = matches!(source, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
        if source.is_ipv4() != is_v4 {
            notes.dropped(line, "is of another family than the addresses");
        } else if it.addresses.iter().any(|(_, a)| a.addr == source) {
            notes.dropped(
                line,
                "is a virtual address: adverts come from one that stays on the host",
            );
        } else if !is_v4 && it.peers.is_none() && !link_local {
            notes.dropped(line, "IPv6 adverts to the group come from a link-local address");
        } else {
            keys.set("source", text::string(&source.to_string()));
            notes.exact(line, "source");
        }
    }
}

/// `track_src_ip`: without its source the host cannot speak.
fn source_check(
    it: &Written<'_>,
    trackers: &mut Trackers<'_>,
    notes: &mut Notes,
) -> Option<String> {
    let line = it.track_source?;
    let Some((_, source)) = it.source else {
        notes.dropped(line, "there is no source address to look after");
        return None;
    };
    let name = trackers.address(source);
    notes.exact(line, format!("[check.{name}]"));
    Some(name)
}

fn short_checksum(it: &Written<'_>, globals: &Globals, notes: &mut Notes) -> bool {
    let Some((line, on)) = it.short_checksum else { return globals.short_checksum };
    notes.exact(line, "checksum");
    on
}
