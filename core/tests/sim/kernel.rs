//! The kernel of one host with the agent's kernel thread in front of it: addresses, leases, orders.
//!
//! Runs on when the agent hangs or dies: that is what leases are for. Lateness and the re-creation of a missing
//! address by a renewal are as measured on Linux.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::net::IpAddr;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Applied, KernelAddr, KernelFault, Own, Renew, Renewed, Want};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, InstanceIx};

/// An address on the interface.
#[derive(Clone, Debug)]
struct Held {
    /// When its lifetime was last set.
    touched: Instant,
    /// End of its lifetime by the book; `None`: for ever.
    valid_until: Option<Instant>,
    /// When the kernel will remove it: `valid_until` and its lateness.
    removed_at: Option<Instant>,
}

/// What one step of the kernel thread did.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) added: Vec<IpAddr>,
    pub(crate) removed: Vec<IpAddr>,
    /// Addresses whose lifetime was set, with the moment of their removal.
    pub(crate) expiries: Vec<(IpAddr, Instant)>,
    pub(crate) report: Option<Report>,
}

/// What the kernel thread tells the engine.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    Applied(Applied),
    Renewed(Renewed),
}

pub(crate) struct Kernel {
    rng: Rng,
    held: BTreeMap<IpAddr, Held>,
    /// What the kernel thread believes to have put there: renewals touch this, present or not.
    records: BTreeMap<InstanceIx, Vec<IpAddr>>,
    slots: BTreeMap<InstanceIx, Own>,
    renew: Option<Renew>,
    /// False: a broken kernel that never removes anything by itself.
    pub(crate) expires: bool,
}

/// Lateness of the kernel with one leased address, and beside others.
const LATE_ALONE: Duration = Duration::from_millis(350);
const LATE_BESIDE: Duration = Duration::from_millis(1250);
/// Seen once: this much early.
const EARLY: Duration = Duration::from_millis(24);

impl Kernel {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rng,
            held: BTreeMap::new(),
            records: BTreeMap::new(),
            slots: BTreeMap::new(),
            renew: None,
            expires: true,
        }
    }

    pub(crate) fn holds(&self, addr: IpAddr) -> bool {
        self.held.contains_key(&addr)
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.held.keys().copied()
    }

    /// The newest order of an instance wins.
    pub(crate) fn own(&mut self, order: Own) {
        self.slots.insert(order.instance, order);
    }

    pub(crate) fn renew(&mut self, order: Renew) {
        self.renew = Some(order);
    }

    pub(crate) fn idle(&self) -> bool {
        self.slots.is_empty() && self.renew.is_none()
    }

    /// Time from an order to its execution.
    pub(crate) fn latency(&mut self) -> Duration {
        let most = if self.rng.chance(20) { 3000 } else { 600 };
        self.rng.duration(Duration::from_micros(30), Duration::from_micros(most))
    }

    /// The agent died: orders not yet executed and all records die with it. Addresses stay.
    pub(crate) fn agent_died(&mut self) {
        self.slots.clear();
        self.renew = None;
        self.records.clear();
    }

    /// Another configuration: orders not executed yet are void. What is held stays.
    pub(crate) fn reload(&mut self) {
        self.slots.clear();
        self.renew = None;
    }

    /// Power off: everything goes.
    pub(crate) fn power_off(&mut self) -> Vec<IpAddr> {
        self.agent_died();
        std::mem::take(&mut self.held).into_keys().collect()
    }

    /// Executes one order: releases before renewals before adds.
    pub(crate) fn step(&mut self, now: Instant, model: &Model) -> Step {
        let release = self.slots.iter().find(|(_, o)| o.want == Want::Free).map(|(i, _)| *i);
        if let Some(order) = release.and_then(|i| self.slots.remove(&i)) {
            self.free(now, model, &order)
        } else if let Some(order) = self.renew.take() {
            self.execute_renew(now, &order)
        } else if let Some((_, order)) = self.slots.pop_first() {
            self.hold(now, model, &order)
        } else {
            Step::default()
        }
    }

    /// Removes `addr` if its time has come; false when it was renewed meanwhile.
    pub(crate) fn expire(&mut self, now: Instant, addr: IpAddr) -> bool {
        let due = self.held.get(&addr).is_some_and(|h| h.removed_at.is_some_and(|r| r <= now));
        due && self.held.remove(&addr).is_some()
    }

    /// Somebody on the host removes an address by hand.
    pub(crate) fn remove(&mut self, addr: IpAddr) -> bool {
        self.held.remove(&addr).is_some()
    }

    /// Our addresses as a dump shows them.
    pub(crate) fn dump(&self, now: Instant) -> Vec<KernelAddr> {
        let show = |(addr, h): (&IpAddr, &Held)| KernelAddr {
            addr: *addr,
            prefix_len: Family::of(addr).host_prefix(),
            ours: true,
            age: now - h.touched,
            valid_for: h.valid_until.map(|until| until - now),
        };
        self.held.iter().map(show).collect()
    }

    fn free(&mut self, now: Instant, model: &Model, order: &Own) -> Step {
        let mut step = Step::default();
        let before = self.records.remove(&order.instance).unwrap_or_default();
        let claimed = model.instance(order.instance).claimed().map(|vip| vip.addr);
        for addr in claimed.chain(before) {
            if self.held.remove(&addr).is_some() {
                step.removed.push(addr);
            }
        }
        step.report = Some(applied(now, order, Ok(())));
        step
    }

    fn hold(&mut self, now: Instant, model: &Model, order: &Own) -> Step {
        let mut step = Step::default();
        let Want::Hold { lease_secs, not_after, families } = order.want else { return step };
        if now > not_after {
            step.report = Some(applied(now, order, Err(KernelFault::Late)));
            return step;
        }
        let wanted = |addr: &IpAddr| match Family::of(addr) {
            Family::V4 => families[0],
            Family::V6 => families[1],
        };
        let (on, off): (Vec<IpAddr>, Vec<IpAddr>) =
            model.instance(order.instance).claimed().map(|v| v.addr).partition(wanted);
        // What this instance held under another configuration goes as well.
        let before = self.records.get(&order.instance).cloned().unwrap_or_default();
        let surplus = before.into_iter().filter(|addr| !on.contains(addr));
        let off: Vec<IpAddr> = off.into_iter().chain(surplus).collect();
        for addr in off {
            if self.held.remove(&addr).is_some() {
                step.removed.push(addr);
            }
        }
        self.set_all(now, &on, lease_secs, &mut step);
        self.records.insert(order.instance, on);
        step.report = Some(applied(now, order, Ok(())));
        step
    }

    fn execute_renew(&mut self, now: Instant, order: &Renew) -> Step {
        let mut step = Step::default();
        let late = now > order.not_after;
        let mut failed = Vec::new();
        for (instance, secs) in &order.instances {
            if late {
                failed.push((*instance, KernelFault::Late));
                continue;
            }
            // A renewal re-creates what is missing: only `not_after` stands against that.
            let addrs = self.records.get(instance).cloned().unwrap_or_default();
            self.set_all(now, &addrs, Some(*secs), &mut step);
        }
        step.report = Some(Report::Renewed(Renewed { order: order.order, at: now, failed }));
        step
    }

    /// How late the kernel will be with what is set now: one pass takes all of a family that lapsed together.
    fn lateness(&mut self, addresses: usize) -> [Lateness; 2] {
        let most = if addresses > 1 { LATE_BESIDE } else { LATE_ALONE };
        let mut draw = || match self.rng.chance(10) {
            true => Lateness::Early(EARLY),
            false => Lateness::Late(self.rng.duration(Duration::ZERO, most)),
        };
        [draw(), draw()]
    }

    fn set_all(
        &mut self,
        now: Instant,
        addrs: &[IpAddr],
        lease_secs: Option<u32>,
        step: &mut Step,
    ) {
        let lateness = self.lateness(self.held.len().max(addrs.len()));
        for addr in addrs {
            let valid_until = lease_secs.map(|s| now + Duration::from_secs(u64::from(s)));
            let removed_at = valid_until.filter(|_| self.expires).map(|until| {
                match lateness[Family::of(addr) as usize] {
                    Lateness::Early(by) => until.before(by),
                    Lateness::Late(by) => until + by,
                }
            });
            if self.held.insert(*addr, Held { touched: now, valid_until, removed_at }).is_none() {
                step.added.push(*addr);
            }
            step.expiries.extend(removed_at.map(|at| (*addr, at)));
        }
    }
}

/// When the kernel removes a lapsed address, against its time.
#[derive(Copy, Clone)]
enum Lateness {
    Early(Duration),
    Late(Duration),
}

fn applied(at: Instant, order: &Own, result: Result<(), KernelFault>) -> Report {
    Report::Applied(Applied { instance: order.instance, order: order.order, at, result })
}
