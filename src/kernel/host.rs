//! What the worker keeps of this host: the request socket, what is held for whom, settings changed.
//!
//! Called by the worker's queue and by claims in progress, on the kernel thread.

use super::address::{Placement, Seen, dump_request};
use super::claims::Claims;
use super::netlink::{CHUNK, Netlink, Refusal, Request};
use super::sysctl::Sysctls;
use super::{device, filter, link, route};
use crate::sys::clock;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use vipd_core::config::model::{Claim, Instance, Model, VirtualRoute, VirtualRule};
use vipd_core::engine::io::{KernelAddr, KernelFault};
use vipd_core::engine::reload::Renumber;
use vipd_core::types::{Family, InstanceIx, LinkIx, Vip};

/// Errors that say that what should go is gone.
const GONE: [Errno; 5] =
    [Errno::EADDRNOTAVAIL, Errno::ENODEV, Errno::ESRCH, Errno::ENOENT, Errno::ENXIO];

/// What is held for one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Leased addresses, the anchor of `claim = "route"` among them.
    pub(super) placed: Vec<Placement>,
    /// Virtual routes with a lifetime of their own are on, by this interface.
    pub(super) routes_on: Option<u32>,
    /// Of an earlier configuration: to go once those of the new one are on.
    pub(super) stale: Stale,
}

/// Routes and rules that the configuration does not have any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Stale {
    routes: Vec<VirtualRoute>,
    rules: Vec<VirtualRule>,
}

impl Stale {
    /// What `old` has and `new` has not, and what of this `new` has not either.
    fn after(&mut self, old: &Instance, new: &Instance) {
        self.routes.extend(old.routes.iter().cloned());
        // One that differs in its source alone is replaced in place: it has no end of its own.
        let place = |r: &VirtualRoute| (r.to, r.via, r.table, r.metric);
        self.routes.retain(|old| new.routes.iter().all(|r| place(r) != place(old)));
        self.rules.extend(old.rules.iter().cloned());
        self.rules.retain(|rule| !new.rules.contains(rule));
    }
}

/// Whose settings and devices are to go that belong to no instance any more.
const NOBODY: InstanceIx = InstanceIx(u16::MAX);

/// The host, as the worker knows it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) model: Arc<Model>,
    pub(super) net: Netlink,
    pub(super) claims: Arc<Claims>,
    pub(super) sysctls: Sysctls,
    pub(super) held: HashMap<InstanceIx, Held>,
    /// Is there a packet filter for `accept = false`; why not, where one is needed?
    pub(super) filter: Result<bool, String>,
    /// Addresses that it drops packets to.
    filtered: Vec<IpAddr>,
    /// Devices of released routers, to be removed when nothing else waits.
    leftover: VecDeque<(InstanceIx, u32)>,
}

impl Host {
    pub(super) fn open(
        model: Arc<Model>,
        runtime_dir: &Path,
        claims: Arc<Claims>,
    ) -> io::Result<Self> {
        let filtered = filter::refused(&model);
        let filter = filter::install(&filtered);
        Ok(Self {
            model,
            filtered,
            net: Netlink::open()?,
            claims,
            sysctls: Sysctls::open(runtime_dir),
            held: HashMap::new(),
            filter,
            leftover: VecDeque::new(),
        })
    }

    /// Index of the service interface of `instance`.
    pub(super) fn parent(&mut self, instance: InstanceIx) -> Result<Option<u32>, KernelFault> {
        let name = self.link_name(instance);
        link::index_of(&mut self.net, &name).map_err(|e| refused("look up the interface", &e))
    }

    pub(super) fn link_name(&self, instance: InstanceIx) -> Arc<str> {
        let link = self.model.instance(instance).link;
        self.model.links[usize::from(link.0)].name.clone()
    }

    /// The refusal as the engine reads it.
    pub(super) fn fault(&self, instance: InstanceIx, what: &str, e: &Refusal) -> KernelFault {
        match e.errno {
            Errno::ENODEV => KernelFault::NoInterface(self.link_name(instance)),
            _ => refused(what, e),
        }
    }

    /// Addresses on these interfaces.
    pub(super) fn seen(&mut self, indices: &[u32]) -> Result<Vec<Seen>, Refusal> {
        let mut found = Vec::new();
        for &index in indices {
            let messages = match self.net.dump(&dump_request(index)) {
                Err(e) if e.errno == Errno::ENODEV => continue,
                other => other?,
            };
            found.extend(messages.iter().filter_map(|m| match m {
                RouteNetlinkMessage::NewAddress(a) => Seen::parse(a).filter(|s| s.index == index),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Takes off every address of `instance` that is ours, with its routes, rules, settings and
    /// devices. What is gone already is done.
    pub(super) fn free(&mut self, instance: InstanceIx) -> Result<(), KernelFault> {
        let config = self.model.clone();
        let config = config.instance(instance);
        let parent = self.parent(instance)?;
        let mut first_failure = Ok(());
        let mut note = |answer: Result<(), Refusal>, what: &str| {
            if let Err(e) = answer
                && !GONE.contains(&e.errno)
                && first_failure.is_ok()
            {
                first_failure = Err(refused(what, &e));
            }
        };
        let held = self.held.remove(&instance).unwrap_or_default();
        for rule in config.rules.iter().chain(&held.stale.rules) {
            let (message, flags) = route::delete_rule(rule);
            note(self.net.request(message, flags), "remove a rule");
        }
        for r in config.routes.iter().chain(&held.stale.routes) {
            if let Some(index) = held.routes_on.or(parent) {
                let (message, flags) = route::delete(r, index);
                note(self.net.request(message, flags), "remove a route");
            }
        }
        let devices = self.devices(config, parent);
        let indices: BTreeSet<u32> = parent
            .into_iter()
            .chain(devices.iter().copied())
            .chain(held.placed.iter().map(|p| p.index))
            .collect();
        let indices: Vec<u32> = indices.into_iter().collect();
        let wanted: BTreeSet<IpAddr> =
            config.claimed().map(|v| v.addr).chain(held.placed.iter().map(|p| p.addr)).collect();
        match self.seen(&indices) {
            Err(e) => note(Err(e), "list the addresses"),
            Ok(seen) => {
                let ours: Vec<Placement> = seen
                    .iter()
                    .filter(|s| wanted.contains(&s.addr) && self.claims.ours(s))
                    .map(placement)
                    .collect();
                silence(config, parent);
                for (answer, _) in self.take_off(&ours) {
                    note(answer, "remove an address");
                }
            }
        }
        self.leftover.extend(devices.into_iter().map(|d| (instance, d)));
        self.settle(instance);
        first_failure
    }

    /// Removes addresses, in chunks; the answer for each. The record forgets those that are gone.
    pub(super) fn take_off(
        &mut self,
        placements: &[Placement],
    ) -> Vec<(Result<(), Refusal>, Placement)> {
        let mut answers = Vec::with_capacity(placements.len());
        for chunk in placements.chunks(CHUNK) {
            let requests: Vec<Request> = chunk.iter().map(Placement::delete).collect();
            answers.extend(self.net.batch(&requests).into_iter().zip(chunk.iter().copied()));
        }
        let gone = answers
            .iter()
            .filter(|(a, _)| a.as_ref().map_or_else(|e| GONE.contains(&e.errno), |()| true))
            .map(|(_, p)| (p.index, p.addr));
        self.claims.took_off(gone);
        answers
    }

    /// The messages that renew what `instance` holds, in a fixed order, from the one at position `from` on.
    pub(super) fn renewals(
        &self,
        instance: InstanceIx,
        secs: u32,
        from: usize,
    ) -> impl Iterator<Item = Request> {
        let config = self.model.instance(instance);
        self.held.get(&instance).into_iter().flat_map(move |held| {
            // Of thousands only those that are asked for are made.
            let addresses = held.placed.iter().skip(from).map(move |p| p.renew(Some(secs)));
            let routes = held.routes_on.into_iter().flat_map(move |index| {
                let lasting = config.routes.iter().filter(|r| route::has_lifetime(r));
                lasting.map(move |r| route::renew(r, index, r.src, Some(secs)))
            });
            addresses.chain(routes.skip(from.saturating_sub(held.placed.len())))
        })
    }

    /// Devices of the virtual MACs and of the anchor of `config` that exist.
    pub(super) fn devices(&mut self, config: &Instance, parent: Option<u32>) -> Vec<u32> {
        let Some(parent) = parent else { return Vec::new() };
        let mut names = Vec::new();
        if config.virtual_mac {
            names.extend(Family::ALL.map(|f| link::macvlan_name(f, config.vrid, parent)));
        }
        if config.claim == Claim::Route {
            names.push(link::anchor_name(config.vrid, parent));
        }
        names
            .into_iter()
            .filter_map(|name| link::index_of(&mut self.net, &name).ok().flatten())
            .collect()
    }

    /// Is this device waiting to be removed? Then it is used again instead.
    pub(super) fn keep(&mut self, device: u32) {
        self.leftover.retain(|(_, d)| *d != device);
    }

    /// Removes one device of a released router; false when there is none.
    pub(super) fn tidy(&mut self) -> bool {
        let Some((instance, device)) = self.leftover.pop_front() else { return false };
        // A device that cannot be removed holds no address; clean-up tries again.
        let _kept = link::delete(&mut self.net, device);
        self.settle(instance);
        true
    }

    /// A claim failed: its devices and settings go when nothing is held after it. What was only too late will be asked for
    /// again, or released, which takes them as well.
    pub(super) fn give_up(&mut self, instance: InstanceIx, fault: &KernelFault) {
        if *fault == KernelFault::Late {
            return;
        }
        if self.held.get(&instance).is_some_and(|h| !h.placed.is_empty()) {
            return;
        }
        self.held.remove(&instance);
        let model = self.model.clone();
        let link = &self.link_name(instance);
        let parent = link::index_of(&mut self.net, link).ok().flatten();
        silence(model.instance(instance), parent);
        for device in self.devices(model.instance(instance), parent) {
            self.keep(device);
            self.leftover.push_back((instance, device));
        }
        self.settle(instance);
    }

    /// Puts settings back once nothing is held for `instance` and its devices are gone.
    fn settle(&mut self, instance: InstanceIx) {
        if !self.held.contains_key(&instance) && self.leftover.iter().all(|(i, _)| *i != instance) {
            self.sysctls.release(instance);
        }
    }

    /// The device called `name`, if there is one, is to be removed when nothing else waits.
    pub(super) fn discard(&mut self, instance: InstanceIx, name: &str) {
        if let Ok(Some(device)) = link::index_of(&mut self.net, name) {
            device::silence(name);
            self.keep(device);
            self.leftover.push_back((instance, device));
        }
    }

    /// Takes off routes and rules of an earlier configuration, after those of this one are on.
    pub(super) fn drop_stale(&mut self, instance: InstanceIx, parent: u32) {
        let Some(held) = self.held.get_mut(&instance) else { return };
        let Stale { routes, rules } = std::mem::take(&mut held.stale);
        let rules = rules.iter().map(route::delete_rule);
        let routes = routes.iter().map(|r| route::delete(r, parent));
        let requests: Vec<Request> = rules.chain(routes).collect();
        for (message, flags) in requests {
            // What was replaced by its successor is gone already.
            let _gone = self.net.request(message, flags);
        }
    }

    /// Another configuration: what is held stays, under the instance of the same name, or of the one that claims the
    /// address now.
    pub(super) fn reload(&mut self, model: Arc<Model>) {
        let renumber = Renumber::between(&self.model, &model);
        let gone = self.held.keys().copied().filter(|ix| renumber.instance(*ix).is_none());
        for ix in gone.collect::<Vec<_>>() {
            // What cannot be removed now ends with its lease.
            let _leased = self.free(ix);
        }
        let before = std::mem::take(&mut self.held);
        for (was, mut held) in before {
            let Some(ix) = renumber.instance(was) else { continue };
            held.stale.after(self.model.instance(was), model.instance(ix));
            self.held.insert(ix, held);
        }
        self.pass_on(&model);
        let place = |ix| renumber.instance(ix).unwrap_or(NOBODY);
        self.leftover.iter_mut().for_each(|(ix, _)| *ix = place(*ix));
        self.sysctls.renumber(place);
        self.model = model;
        self.settle(NOBODY);
        let filtered = filter::refused(&self.model);
        if filtered != self.filtered {
            let had_filter = self.filter != Ok(false);
            self.filter = filter::install(&filtered);
            if had_filter && self.filter == Ok(false) {
                filter::remove();
            }
            self.filtered = filtered;
        }
    }

    /// An address that another instance claims by now is that one's, and never off in between: where that one owns, and
    /// on the same device.
    fn pass_on(&mut self, model: &Model) {
        let plain = |i: &Instance| !i.virtual_mac && i.claim == Claim::Address;
        let mut moves = Vec::new();
        for (from, held) in &self.held {
            let config = model.instance(*from);
            let given = |p: &&Placement| config.claimed().all(|v| v.addr != p.addr);
            for p in held.placed.iter().filter(given) {
                let heir = model.iter().find(|(ix, i)| {
                    ix != from
                        && i.link == config.link
                        && plain(i)
                        && plain(config)
                        && i.claimed().any(|v| v.addr == p.addr)
                        && self.held.get(ix).is_some_and(|h| !h.placed.is_empty())
                });
                moves.extend(heir.map(|(to, _)| (*from, to, *p)));
            }
        }
        for (from, to, p) in moves {
            if let Some(held) = self.held.get_mut(&from) {
                held.placed.retain(|other| *other != p);
            }
            if let Some(held) = self.held.get_mut(&to) {
                held.placed.push(p);
            }
        }
    }

    pub(super) fn snapshot(&mut self, link: LinkIx) -> Result<Vec<KernelAddr>, Refusal> {
        let name = self.model.links[usize::from(link.0)].name.clone();
        let Some(parent) = link::index_of(&mut self.net, &name)? else { return Ok(Vec::new()) };
        let mut indices = vec![parent];
        let on_this_link: Vec<Instance> =
            self.model.instances.iter().filter(|i| i.link == link).cloned().collect();
        for instance in &on_this_link {
            indices.extend(self.devices(instance, Some(parent)));
        }
        let now = clock::tick_centis();
        let seen = self.seen(&indices)?;
        Ok(seen.iter().map(|s| s.report(self.claims.ours(s), now)).collect())
    }
}

/// Ends IPv6 on the device of the virtual MAC, if there is one.
fn silence(config: &Instance, parent: Option<u32>) {
    if let Some(parent) = parent.filter(|_| config.virtual_mac) {
        device::silence(&link::macvlan_name(Family::V6, config.vrid, parent));
    }
}

/// Where an address is.
pub(super) fn placement(s: &Seen) -> Placement {
    Placement { index: s.index, addr: s.addr, prefix_len: s.prefix_len, prefix_route: true }
}

/// Where `vip` goes on interface `index`.
pub(super) fn place(config: &Instance, vip: &Vip, index: u32) -> Placement {
    let prefix_len = if config.prefix_route { vip.prefix_len } else { vip.family().host_prefix() };
    Placement { index, addr: vip.addr, prefix_len, prefix_route: config.prefix_route }
}

/// The refusal of something that is not about a missing interface.
pub(super) fn refused(what: &str, e: &Refusal) -> KernelFault {
    KernelFault::Refused { what: what.to_owned(), error: e.to_string() }
}
