//! What the kernel holds for each instance, and its leases (DESIGN 5.1, 5.8).
//!
//! A lease is renewed because the engine says so, and only after an advert that sendmsg accepted: a host that no
//! longer advertises loses its addresses by the kernel's own clock.

use super::io::{Alarm, Applied, Cause, EventKind, KernelAddr, KernelFault, Output, Own, Want};
use super::{Engine, UnitIx};
use crate::config::model::Instance;
use crate::reconcile;
use crate::time::{Duration, Instant};
use crate::types::{Class, Epoch, InstanceIx, LinkIx};
use crate::vrrp::bucket::Bucket;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest acceptable delay between an order and its execution where 3T is shorter than that.
pub(super) const ORDER_SLACK: Duration = Duration::from_millis(100);
/// After a fight over the address or a kernel fault the instance stays away this long.
const BAR: Duration = Duration::from_secs(10);

/// What the kernel shall hold and what it confirmed, for one instance.
#[derive(Clone)]
pub(super) struct Holding {
    /// Number of the newest order; 0: none yet.
    pub(super) order: u64,
    /// What that order wants.
    want: bool,
    /// When that was asked for first.
    pub(super) asked_at: Instant,
    /// It was asked for again, because the kernel thread was too late.
    pub(super) asked_again: bool,
    /// When the kernel last put them on, or said that they are; `None`: not since they are wanted.
    pub(super) put_on: Option<Instant>,
    /// The order was confirmed; leases run from this moment or a later renewal.
    pub(super) confirmed: Option<Instant>,
    /// Something of ours may be in the kernel.
    may_hold: bool,
    /// Lifetime of the addresses, whole seconds.
    pub(super) lease_secs: Option<u32>,
    /// The newest renewal asked for this lifetime.
    pub(super) asked_lease: Option<(u64, u32)>,
    /// Repairs: five in 60 s, then the address is given up for a while.
    repairs: Bucket,
    /// Number of the newest order that was answered.
    answered: u64,
    /// Another set of addresses was ordered by a reload and is not confirmed: a dump may still show the one before.
    amending: bool,
    /// One of them was missing meanwhile.
    missed: bool,
    /// A repair was ordered and is not confirmed: what else goes meanwhile is the same occasion.
    repairing: bool,
    /// How many addresses.
    pub(super) count: usize,
    pub(super) epoch: Epoch,
    /// Bears our tag since before this start, with the age of its lifetime: what adoption looks at.
    found: Option<Duration>,
}

impl Holding {
    pub(super) fn new(instance: &Instance) -> Self {
        Self {
            order: 0,
            want: false,
            asked_at: Instant::ZERO,
            asked_again: false,
            put_on: None,
            confirmed: None,
            may_hold: false,
            lease_secs: None,
            asked_lease: None,
            repairs: Bucket::new(5, Duration::from_secs(12)),
            answered: 0,
            amending: false,
            missed: false,
            repairing: false,
            count: instance.claimed().count(),
            epoch: Epoch::default(),
            found: None,
        }
    }

    /// Nothing of ours can be in the kernel.
    pub(super) fn is_empty(&self) -> bool {
        !self.may_hold
    }

    /// The kernel confirmed every address and no lease can have ended since.
    pub(super) fn applied(&self) -> bool {
        self.want && self.confirmed.is_some()
    }

    /// Something was missing and was ordered again; the kernel has not answered yet.
    pub(super) fn repairing(&self) -> bool {
        self.repairing
    }

    /// What is left of the lease at `now`; `None`: no lease runs.
    pub(super) fn lease_left(&self, now: Instant) -> Option<Duration> {
        let end = self.confirmed? + Duration::from_secs(u64::from(self.lease_secs?));
        Some(end.since(now))
    }
}

impl Engine {
    pub(super) fn holding(&self, instance: InstanceIx) -> &Holding {
        &self.holdings[usize::from(instance.0)]
    }

    /// Orders that the kernel has not answered yet, for who answers in its place.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = Own> {
        let waits = |h: &Holding| {
            if h.want { h.confirmed.is_none() || h.repairing } else { h.may_hold && h.order > 0 }
        };
        (0u16..).map(InstanceIx).zip(&self.holdings).filter(move |(_, h)| waits(h)).map(
            |(ix, h)| {
                let mut families = [false; 2];
                let units = self.units_of(ix).into_iter().map(|u| &self.units[u]);
                for voice in units.filter(|u| u.keeps_addresses()).flat_map(|u| &u.voices) {
                    families[voice.family as usize] = true;
                }
                let (lease_secs, not_after) = (h.lease_secs, Instant::MAX);
                let want = if h.want {
                    Want::Hold { lease_secs, not_after, families }
                } else {
                    Want::Free
                };
                Own { instance: ix, order: h.order, want }
            },
        )
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.renew.order += 1;
        self.renew.order
    }

    /// Asks the kernel for the addresses of every active unit of this unit's instance.
    pub(super) fn order_hold(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let ix = self.units[u].instance;
        let mut families = [false; 2];
        for other in self.units_of(ix).into_iter().filter(|o| self.units[*o].keeps_addresses()) {
            for voice in &self.units[other].voices {
                families[voice.family as usize] = true;
            }
        }
        let lease_secs = self.lease_wanted(ix);
        let not_after = self.units[u].peers_wait_until(now);
        let order = self.next_order();
        let holding = &mut self.holdings[usize::from(ix.0)];
        holding.order = order;
        if !holding.want || holding.confirmed.is_some() {
            (holding.asked_at, holding.asked_again) = (now, false);
        }
        holding.want = true;
        holding.may_hold = true;
        holding.lease_secs = lease_secs;
        self.push(Output::Own(Own {
            instance: ix,
            order,
            want: Want::Hold { lease_secs, not_after, families },
        }));
    }

    /// Takes the unit's addresses off, or all of the instance when no other unit of it is active.
    pub(super) fn order_free(&mut self, u: UnitIx) {
        let yielded = self.units[u].yielding.take().is_some();
        let ix = self.units[u].instance;
        match self.units_of(ix).into_iter().find(|o| *o != u && self.units[*o].keeps_addresses()) {
            Some(other) => self.order_hold(other),
            None => self.free(ix),
        }
        if yielded {
            // A move that waited for the other kernel has come to its end.
            let cause = self.units[u].cause.clone();
            self.move_follows(u, &cause);
        }
    }

    /// Orders that nothing of ours is left for the instance.
    pub(super) fn free(&mut self, ix: InstanceIx) {
        let now = self.now.mono;
        let order = self.next_order();
        let holding = &mut self.holdings[usize::from(ix.0)];
        holding.order = order;
        holding.want = false;
        holding.repairing = false;
        holding.asked_at = now;
        (holding.put_on, holding.confirmed) = (None, None);
        holding.may_hold = true;
        self.push(Output::Own(Own { instance: ix, order, want: Want::Free }));
        self.plan_renewal();
    }

    pub(super) fn on_applied(&mut self, applied: &Applied) {
        let ix = applied.instance;
        // Numbered by a model with more instances: the kernel thread was at it when another came into force.
        let Some(holding) = self.holdings.get_mut(usize::from(ix.0)) else { return };
        if applied.order != holding.order {
            return;
        }
        holding.answered = applied.order;
        match &applied.result {
            Ok(()) if holding.want => self.confirmed_hold(ix, applied.at),
            Ok(()) => {
                holding.may_hold = false;
                self.event(Some(ix), None, EventKind::Released);
                self.released(ix);
                self.urgent();
            }
            Err(fault) => self.kernel_failed(ix, fault.clone()),
        }
    }

    fn confirmed_hold(&mut self, ix: InstanceIx, at: Instant) {
        let now = self.now.mono;
        let holding = &mut self.holdings[usize::from(ix.0)];
        let first = holding.confirmed.is_none();
        let missed = std::mem::take(&mut holding.missed);
        holding.amending = false;
        holding.repairing = false;
        (holding.put_on, holding.confirmed) = (Some(at), Some(at));
        let (took, addresses) = (now.since(holding.asked_at), holding.count);
        if first {
            self.event(Some(ix), None, EventKind::Claimed { took, addresses });
        }
        for u in self.units_of(ix) {
            if self.units[u].is_active() && self.units[u].leaving.is_none() {
                self.units[u].announce.start(now);
                self.rearm(u);
            }
        }
        self.urgent();
        self.plan_renewal();
        if missed {
            self.hold_again(ix);
        }
    }

    /// After a reload: orders that the kernel thread had not finished are void. What is wanted is ordered again, and
    /// what is wanted by now in another shape, if the `kernel` shall hold something else.
    pub(super) fn hold_what_is_wanted(&mut self, ix: InstanceIx, kernel: bool) {
        let holding = &mut self.holdings[usize::from(ix.0)];
        let unanswered = holding.order != holding.answered;
        match holding.want {
            true if kernel || unanswered => {
                holding.amending = true;
                self.hold_again(ix);
            }
            false if unanswered && holding.may_hold => self.free(ix),
            _ => {}
        }
    }

    fn hold_again(&mut self, ix: InstanceIx) {
        let keeps = |u: &UnitIx| self.units[*u].keeps_addresses();
        if let Some(u) = self.units_of(ix).into_iter().find(keeps) {
            self.order_hold(u);
        }
    }

    fn kernel_failed(&mut self, ix: InstanceIx, fault: KernelFault) {
        let late = fault == KernelFault::Late;
        let want = self.holding(ix).want;
        self.event(Some(ix), None, EventKind::KernelFailed(fault));
        // What was repaired or amended still is.
        if want && late && self.asks_again(ix) {
            return;
        }
        self.holdings[usize::from(ix.0)].repairing = false;
        self.holdings[usize::from(ix.0)].amending = false;
        if !want {
            // The lease ends what could not be taken off; a stop does not wait for it.
            self.holdings[usize::from(ix.0)].may_hold = false;
            self.released(ix);
            return;
        }
        for u in self.units_of(ix) {
            if !self.units[u].is_active() {
                continue;
            }
            if late {
                self.stand_back(u, Cause::KernelFault, None);
            } else {
                self.bar(u, self.now.mono + BAR);
                self.fault(u, Cause::KernelFault);
            }
        }
    }

    pub(super) fn on_address_removed(&mut self, link: LinkIx, addr: IpAddr) {
        let Some(ix) = self.owner_of(link, addr) else { return };
        if !self.holding(ix).applied() {
            return;
        }
        if self.holding(ix).amending {
            // Not there yet, or gone while the kernel thread was at it: that one's answer decides.
            self.holdings[usize::from(ix.0)].missed = true;
            return;
        }
        // The unit that claims this very address: where the families run by themselves, the other one has no say.
        // Who hands over keeps its addresses as an owner does, until the release (DESIGN 5.5).
        let claims = |u: &UnitIx| {
            self.units[*u].keeps_addresses() && self.unit_vips(*u).any(|vip| vip.addr == addr)
        };
        let Some(u) = self.units_of(ix).into_iter().find(claims) else { return };
        if self.lease_may_have_ended(u) {
            // Ended by its own lifetime: never put back by rule 8, others may own by now (DESIGN 5.1).
            if self.units[u].is_active() {
                self.stand_back(u, Cause::LeaseEnded, None);
            }
            return;
        }
        self.repair(u, addr);
    }

    fn repair(&mut self, u: UnitIx, addr: IpAddr) {
        let now = self.now.mono;
        let ix = self.units[u].instance;
        let holding = &mut self.holdings[usize::from(ix.0)];
        let same_occasion = std::mem::replace(&mut holding.repairing, true);
        if !same_occasion && !holding.repairs.take(now) {
            self.alarm(Some(ix), Alarm::AddressFight, true);
            // Known to have no successor it stays: a renewal puts the address back in a moment (P4).
            let lonely =
                self.peers.is_some() && self.living_peers(u).all(|(_, r)| r.class == Class::Unable);
            if !lonely {
                self.bar(u, now + BAR);
                self.fault(u, Cause::KernelFault);
            }
            return;
        }
        // Announced again when the kernel has it, not before (DESIGN 5.4).
        self.units[u].announce.cancel();
        self.order_hold(u);
        let vip = self.model.instance(ix).claimed().find(|v| v.addr == addr).copied();
        if let Some(vip) = vip {
            self.event(Some(ix), None, EventKind::Repaired(vip));
        }
    }

    fn owner_of(&self, link: LinkIx, addr: IpAddr) -> Option<InstanceIx> {
        self.by_addr.get(&(link, addr)).copied()
    }

    /// An address of ours that nobody wants is taken off.
    pub(super) fn on_address_added(&mut self, link: LinkIx, addr: &KernelAddr) {
        if !addr.ours {
            return;
        }
        if let Some(ix) = self.owner_of(link, addr.addr) {
            let holding = self.holding(ix);
            if !holding.want && !holding.may_hold {
                self.free(ix);
            }
        }
    }

    /// A whole dump: what is missing is put back, what is stray is taken off; before the start it shows what a dead
    /// agent left.
    pub(super) fn on_addresses(&mut self, link: LinkIx, present: &[KernelAddr]) {
        let wanted: BTreeSet<IpAddr> = self
            .model
            .iter()
            .filter(|(ix, i)| i.link == link && self.holding(*ix).applied())
            .flat_map(|(_, i)| i.listed().map(|v| v.addr))
            .collect();
        let difference = reconcile::difference(&wanted, present);
        let mut broken: Vec<(InstanceIx, IpAddr)> = Vec::new();
        for addr in difference.missing {
            if let Some(ix) = self.owner_of(link, addr)
                && broken.last().is_none_or(|(b, _)| *b != ix)
            {
                broken.push((ix, addr));
            }
        }
        for (_, addr) in broken {
            self.on_address_removed(link, addr);
        }
        let stray: BTreeSet<IpAddr> = difference.stray.into_iter().collect();
        for (ix, instance) in Arc::clone(&self.model).iter() {
            if instance.link != link || self.holding(ix).want || self.holding(ix).may_hold {
                continue;
            }
            if instance.claimed().any(|v| stray.contains(&v.addr)) {
                self.found_left_over(ix, instance, present);
            }
        }
    }

    /// An earlier agent left these addresses: young and complete ones are kept for adoption, others are taken
    /// off (DESIGN 5.7).
    fn found_left_over(&mut self, ix: InstanceIx, instance: &Instance, present: &[KernelAddr]) {
        let mut oldest = Some(Duration::ZERO);
        let mut expected = 0;
        for vip in instance.listed().filter(|vip| self.left_owning(ix, vip.family())) {
            let there = present.iter().find(|a| a.addr == vip.addr && a.ours);
            let age = there.map(|a| self.left_age(ix, a));
            oldest = age.and_then(|age| Some(oldest?.max(age)));
            expected += 1;
        }
        let patience = self.units_of(ix).into_iter().map(|u| self.adoption_age(u)).max();
        let young = oldest.filter(|age| expected > 0 && patience.is_some_and(|p| *age < p));
        let starting = self
            .units_of(ix)
            .into_iter()
            .all(|u| self.units[u].last_sent.is_none() && !self.units[u].is_active());
        let mut owners = self.units_of(ix).into_iter().filter(|u| self.left_owner(*u));
        let outdone = owners.all(|u| self.units[u].vr.heard().is_some());
        // What was on its way to another host is not this one's any more.
        let away = self.units_of(ix).into_iter().any(|u| self.away(u));
        let may = starting && !outdone && !away && self.backup_until.is_none() && !self.stopping;
        if young.is_some() && may {
            self.holdings[usize::from(ix.0)].found = young;
            for u in self.units_of(ix) {
                if self.units[u].source().is_some()
                    && self.may_adopt(u)
                    && self.units[u].vr.heard().is_none()
                {
                    self.adopt(u);
                }
            }
            return;
        }
        self.free(ix);
        for u in self.units_of(ix) {
            self.units[u].inherited = None;
            if self.units[u].vr.heard().is_none() && self.units[u].source().is_some() {
                self.advertise(u, 0);
            }
        }
    }

    /// Were young addresses of ours found at the start, and nobody else heard since?
    pub(super) fn may_adopt(&self, u: UnitIx) -> bool {
        let age = self.now.mono.since(self.started);
        let patience = self.adoption_age(u);
        self.left_owner(u)
            && self
                .holding(self.units[u].instance)
                .found
                .is_some_and(|found| found + age < patience)
    }

    fn adopt(&mut self, u: UnitIx) {
        if self.units[u].state() == crate::types::State::Initialize {
            self.try_start(u);
        } else if !self.units[u].is_active() {
            self.units[u].adopted_until = self.now.mono + self.units[u].interval();
            self.become_active(u, Cause::Adopted);
        }
    }
}
