//! A claim in progress: from the order to the confirmed last address, in chunks.
//!
//! Called by the worker's queue. A claim puts on only what is missing, adopts what bears our tag, and
//! takes off again what it put on when it cannot finish or its time has passed.

use super::address::{Placement, Seen};
use super::host::{Held, Host, place, placement, refused};
use super::netlink::{CHUNK, Refusal, Request};
use super::route::Local;
use super::{device, route};
use crate::sys::clock;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use vipd_core::config::model::{self, Instance};
use vipd_core::engine::io::{KernelFault, Own, Want};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, InstanceIx};

/// One thing to put on.
#[derive(Copy, Clone, Debug)]
enum Item {
    /// An address that is not there.
    Add(Placement),
    /// An address that is there and ours.
    Adopt(Placement),
    /// A local route that is not there.
    AddLocal(Local),
    /// A local route that is there and ours.
    ReplaceLocal(Local),
}

/// A claim in progress.
#[derive(Debug)]
pub(super) struct Claim {
    order: Own,
    /// Before the first request: leases run from then at the earliest.
    begun: Instant,
    lease_secs: Option<u32>,
    /// The next chunk must begin by then.
    not_after: Instant,
    /// How long after a chunk the next one may begin.
    patience: Duration,
    families: [bool; 2],
    parent: u32,
    todo: VecDeque<Item>,
    /// What this claim put on, for taking it off again.
    added: Vec<Placement>,
    /// What goes when everything else is on.
    surplus: Vec<Placement>,
    /// Everything else is on.
    removes: bool,
    /// IPv6 addresses that the kernel took but may not serve yet, with their interfaces.
    coming: Vec<(u32, Ipv6Addr)>,
    /// Since when it is looked whether they are served.
    looking: Option<Instant>,
}

/// A claim that gets on may pause at least this long between two chunks: a renewal goes first.
const PATIENCE: Duration = Duration::from_millis(300);
/// Between two looks whether an added IPv6 address is served.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// After so long the claim is told as done all the same: the kernel acknowledged the address. Its work queue takes some 0.1 ms,
/// and as long as others hold the lock of all network changes: beside rooms that came and went 150 ms seem to have been
/// too few in two of 1,200 acts (17 and 5 probes lost, one each millisecond). Who hands over waits for half a second.
const LOOK_LIMIT: Duration = Duration::from_millis(450);

impl Claim {
    /// Looks at what is there and plans. `order` asks for `Hold`.
    pub(super) fn begin(host: &mut Host, order: &Own) -> Result<Self, KernelFault> {
        let Want::Hold { lease_secs, not_after, families } = order.want else {
            return Ok(Self::nothing(order));
        };
        let now = clock::monotonic();
        if now > not_after {
            return Err(KernelFault::Late);
        }
        let instance = order.instance;
        let shared = host.model.clone();
        let config = shared.instance(instance);
        if let (false, false, Err(why)) = (config.accept, config.priority.is_owner(), &host.filter)
        {
            let what = "install the packet filter of `accept = false`".to_owned();
            return Err(KernelFault::Refused { what, error: why.clone() });
        }
        let name = host.link_name(instance);
        let parent =
            host.parent(instance)?.ok_or_else(|| KernelFault::NoInterface(name.clone()))?;
        let targets = device::prepare(host, instance, &name, parent, families)?;
        let mut claim = Self {
            order: order.clone(),
            begun: clock::monotonic(),
            lease_secs,
            not_after,
            patience: not_after.since(now).max(PATIENCE),
            families,
            parent,
            todo: VecDeque::new(),
            added: Vec::new(),
            surplus: Vec::new(),
            removes: false,
            coming: Vec::new(),
            looking: None,
        };
        claim.plan(host, config, targets)?;
        Ok(claim)
    }

    /// The claim of an order that wants nothing.
    fn nothing(order: &Own) -> Self {
        Self {
            order: order.clone(),
            begun: clock::monotonic(),
            lease_secs: None,
            not_after: Instant::MAX,
            patience: PATIENCE,
            families: [false; 2],
            parent: 0,
            todo: VecDeque::new(),
            added: Vec::new(),
            surplus: Vec::new(),
            removes: false,
            coming: Vec::new(),
            looking: None,
        }
    }

    pub(super) fn instance(&self) -> InstanceIx {
        self.order.instance
    }

    pub(super) fn order(&self) -> &Own {
        &self.order
    }

    fn wants(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.families[0],
            Family::V6 => self.families[1],
        }
    }

    /// Compares what is wanted with what is there, and takes off what is ours and not wanted.
    fn plan(
        &mut self,
        host: &mut Host,
        config: &Instance,
        targets: [u32; 2],
    ) -> Result<(), KernelFault> {
        let target = |f: Family| targets[usize::from(f == Family::V6)];
        let by_route = config.claim == model::Claim::Route;
        let mut wanted = Vec::new();
        let mut local = Vec::new();
        let mut anchor = None;
        for vip in config.claimed().filter(|v| self.wants(v.family())) {
            let index = target(vip.family());
            match (vip.addr, anchor) {
                (IpAddr::V4(addr), Some(anchor)) if by_route => {
                    local.push(Local { index, addr, anchor });
                }
                (addr, _) => {
                    if let IpAddr::V4(first) = addr {
                        anchor = anchor.or(Some(first));
                    }
                    wanted.push(place(config, vip, index));
                }
            }
        }
        let mut indices = vec![self.parent];
        indices.extend(targets.iter().filter(|t| **t != self.parent));
        let held = host.held.get(&self.order.instance).cloned().unwrap_or_default();
        indices.extend(held.placed.iter().map(|p| p.index));
        indices.extend(host.devices(config, Some(self.parent)));
        indices.sort_unstable();
        indices.dedup();
        let seen = host
            .seen(&indices)
            .map_err(|e| host.fault(self.order.instance, "list addresses", &e))?;

        let (mut unwanted, mut surplus) = (Vec::new(), Vec::new());
        for s in &seen {
            let mine = config.claimed().any(|v| v.addr == s.addr)
                || held.placed.iter().any(|p| p.addr == s.addr);
            let fits = wanted
                .iter()
                .any(|w| (w.index, w.addr, w.prefix_len) == (s.index, s.addr, s.prefix_len));
            if mine && !fits && host.claims.ours(s) {
                // What stands in the way of its own successor goes first, all else last.
                let in_the_way =
                    wanted.iter().any(|w| w.addr == s.addr) || self.families_change(s.addr);
                if in_the_way { unwanted.push(placement(s)) } else { surplus.push(placement(s)) }
            }
        }
        for (answer, p) in host.take_off(&unwanted) {
            if let Err(e) = answer
                && !matches!(e.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV)
            {
                return Err(refused(&format!("remove {}", p.addr), &e));
            }
        }
        for w in wanted {
            let there = |s: &&Seen| s.addr == w.addr && !unwanted.contains(&placement(s));
            match seen.iter().find(there) {
                None => self.todo.push_back(Item::Add(w)),
                Some(s) if host.claims.ours(s) => self.todo.push_back(Item::Adopt(w)),
                // The owner's own address stays as it is.
                Some(_) if config.priority.is_owner() => {}
                Some(_) => return Err(KernelFault::Foreign(w.addr)),
            }
        }
        // After the anchor, which they use as source.
        if !local.is_empty() {
            let there = route::locals(&mut host.net).map_err(|e| refused("list routes", &e))?;
            for l in local {
                self.todo.push_back(match there.get(&IpAddr::V4(l.addr)) {
                    None => Item::AddLocal(l),
                    Some(true) => Item::ReplaceLocal(l),
                    Some(false) => return Err(KernelFault::Foreign(l.addr.into())),
                });
            }
        }
        let Held { routes_on, stale, .. } = held;
        host.held.insert(self.order.instance, Held { placed: surplus.clone(), routes_on, stale });
        self.surplus = surplus;
        Ok(())
    }

    /// Is this address of a family that is not to be held at all any more? Another host owns it by now.
    fn families_change(&self, addr: IpAddr) -> bool {
        !self.wants(Family::of(&addr))
    }

    /// When it began.
    pub(super) const fn begun(&self) -> Instant {
        self.begun
    }

    /// Is there still something to put on? What is only taken off waits for others that do.
    pub(super) fn adds(&self) -> bool {
        !self.removes
    }

    /// Does one chunk; the result when that was the last, or when it failed.
    pub(super) fn advance(&mut self, host: &mut Host) -> Option<Result<(), KernelFault>> {
        let outcome = self.chunk(host);
        match outcome {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(fault) => {
                // What cannot be taken off now ends with its lease.
                host.take_off(&self.added);
                // What was there before and not looked at again still is, and is renewed.
                let left = self.todo.iter().filter_map(Item::adopted);
                if let Some(held) = host.held.get_mut(&self.order.instance) {
                    held.placed.retain(|p| !self.added.contains(p));
                    held.placed.extend(left);
                }
                host.give_up(self.order.instance, &fault);
                Some(Err(fault))
            }
        }
    }

    /// True when all is done.
    fn chunk(&mut self, host: &mut Host) -> Result<bool, KernelFault> {
        if self.removes {
            self.remove(host);
            return Ok(true);
        }
        if clock::monotonic() > self.not_after {
            return Err(KernelFault::Late);
        }
        let n = self.todo.len().min(CHUNK);
        let items: Vec<Item> = self.todo.drain(..n).collect();
        let requests: Vec<Request> = items.iter().map(|i| i.request(self.lease_secs)).collect();
        // Recorded first: on kernels without tags the monitor knows our adds by the record alone.
        let on = |i: &Item| i.placement().map(|p| (p.index, p.addr));
        host.claims.put_on(items.iter().filter_map(on));
        let answers = host.net.batch(&requests);
        let mut refusal = None;
        let mut put = Vec::new();
        for (item, answer) in items.iter().zip(answers) {
            match (item, answer) {
                (Item::Add(p) | Item::Adopt(p), Ok(())) => {
                    put.push(*p);
                    if matches!(item, Item::Add(_)) {
                        self.added.push(*p);
                        if let IpAddr::V6(addr) = p.addr {
                            self.coming.push((p.index, addr));
                        }
                    }
                }
                (Item::AddLocal(_) | Item::ReplaceLocal(_), Ok(())) => {}
                (_, Err(e)) => {
                    refusal = refusal.or_else(|| Some(self.explain(host, item, &e)));
                }
            }
        }
        let failed = items.iter().filter_map(Item::placement).filter(|p| !put.contains(p));
        host.claims.took_off(failed.map(|p| (p.index, p.addr)));
        if let Some(held) = host.held.get_mut(&self.order.instance) {
            held.placed.extend(put);
        }
        if let Some(fault) = refusal {
            return Err(fault);
        }
        // Thousands of addresses take longer than an order may wait; meanwhile adverts go on. What stood still
        // between two chunks is late all the same.
        self.not_after = self.not_after.max(clock::monotonic() + self.patience);
        if !self.todo.is_empty() || self.still_coming(host) {
            return Ok(false);
        }
        self.routes(host)?;
        self.check_tag(host);
        host.drop_stale(self.order.instance, self.parent);
        self.removes = true;
        Ok(self.surplus.is_empty())
    }

    /// Takes off what is held for no reason any more.
    fn remove(&mut self, host: &mut Host) {
        // What cannot be taken off is not renewed either, and ends with its lease.
        host.take_off(&self.surplus);
        if let Some(held) = host.held.get_mut(&self.order.instance) {
            held.placed.retain(|p| !self.surplus.contains(p));
        }
    }

    /// An address is announced once the kernel serves it, not when it acknowledges it: packets that come
    /// between would be lost.
    fn still_coming(&mut self, host: &mut Host) -> bool {
        while let Some((index, addr)) = self.coming.last() {
            let now = clock::monotonic();
            let since = *self.looking.get_or_insert(now);
            if now.since(since) >= LOOK_LIMIT || route::delivers(&mut host.net, *index, *addr) {
                self.coming.pop();
            } else {
                std::thread::sleep(LOOK_EVERY);
                return true;
            }
        }
        false
    }

    fn explain(&self, host: &Host, item: &Item, e: &Refusal) -> KernelFault {
        match item {
            // Between our look and our add somebody else put it on.
            Item::Add(p) if e.errno == Errno::EEXIST => KernelFault::Foreign(p.addr),
            Item::AddLocal(l) if e.errno == Errno::EEXIST => KernelFault::Foreign(l.addr.into()),
            Item::Add(p) | Item::Adopt(p) => {
                host.fault(self.order.instance, &format!("add {}", p.addr), e)
            }
            Item::AddLocal(l) | Item::ReplaceLocal(l) => {
                host.fault(self.order.instance, &format!("add the local route of {}", l.addr), e)
            }
        }
    }

    /// Virtual routes and rules, after the addresses that they use.
    fn routes(&self, host: &mut Host) -> Result<(), KernelFault> {
        let shared = host.model.clone();
        let config = shared.instance(self.order.instance);
        let first_v4 = config.claimed().map(|v| v.addr).find(IpAddr::is_ipv4);
        for r in config.routes.iter().filter(|r| self.wants(route::family_of(r))) {
            // An IPv4 route goes with its source, so it always has one that is leased.
            let src = if r.to.addr().is_ipv4() { r.src.or(first_v4) } else { r.src };
            let put = |host: &mut Host, (message, flags): Request| host.net.request(message, flags);
            let mut answer = put(host, route::add(r, self.parent, src, self.lease_secs));
            if answer.as_ref().is_err_and(|e| e.errno == Errno::EEXIST)
                && route::virtual_is_ours(&mut host.net, r)
            {
                answer = put(host, route::renew(r, self.parent, src, self.lease_secs));
            }
            answer.map_err(|e| refused(&format!("add the route to {}", r.to), &e))?;
        }
        for r in config.rules.iter().filter(|r| self.wants(r.family)) {
            let (message, flags) = route::add_rule(r);
            match host.net.request(message, flags) {
                Err(e) if e.errno != Errno::EEXIST => {
                    return Err(refused(&format!("add the rule {}", r.preference), &e));
                }
                _ => {}
            }
        }
        if let Some(held) = host.held.get_mut(&self.order.instance) {
            held.routes_on = (!config.routes.is_empty()).then_some(self.parent);
        }
        Ok(())
    }

    /// Finds out once whether this kernel keeps the tag.
    fn check_tag(&self, host: &mut Host) {
        let Some(p) = self.added.first().filter(|_| host.claims.undecided()) else { return };
        let Ok(seen) = host.seen(&[p.index]) else { return };
        if let Some(s) = seen.iter().find(|s| s.addr == p.addr) {
            if s.tag.is_none() {
                host.claims.kernel_keeps_no_tags();
            } else {
                // Asking notes the answer.
                let _noted = host.claims.ours(s);
            }
        }
    }
}

impl Item {
    /// The address that it goes on with, if it does.
    fn adopted(&self) -> Option<Placement> {
        match *self {
            Self::Adopt(p) => Some(p),
            Self::Add(_) | Self::AddLocal(_) | Self::ReplaceLocal(_) => None,
        }
    }

    /// The address that it puts on, if it is one.
    fn placement(&self) -> Option<Placement> {
        match *self {
            Self::Add(p) | Self::Adopt(p) => Some(p),
            Self::AddLocal(_) | Self::ReplaceLocal(_) => None,
        }
    }

    fn request(&self, lease_secs: Option<u32>) -> Request {
        match *self {
            Self::Add(p) => p.add(lease_secs),
            Self::Adopt(p) => p.renew(lease_secs),
            Self::AddLocal(l) => l.add(),
            Self::ReplaceLocal(l) => l.replace(),
        }
    }
}
