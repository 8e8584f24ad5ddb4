//! Address leases (DESIGN 5.1): renewed because the engine says so, and only after an advert that sendmsg accepted. A host
//! that no longer advertises loses its addresses by the kernel's own clock.

use super::holding::{Holding, ORDER_SLACK};
use super::io::{EventKind, KernelFault, Output, Renew, Renewed};
use super::restart::STRETCHED_ADVERTS;
use super::{Engine, Slot, UnitIx};
use crate::time::{Duration, Instant};
use crate::types::InstanceIx;
use std::collections::BTreeSet;

/// Leases are renewed at most this often.
const RENEW_GAP: Duration = Duration::from_millis(300);
/// From this many addresses on, a host renews only every half lease.
const MANY: usize = 64;
/// The kernel may drop a leased address this much early (measured: 24 ms once).
pub(super) const EARLY: Duration = Duration::from_millis(50);
/// A lease ends at least this long before the peers' patience, where whole seconds allow it (DESIGN 5.1).
const MARGIN: Duration = Duration::from_millis(400);

/// When leases were last renewed, all of the host in one burst, and who is still to be renewed after it.
#[derive(Clone, Default)]
pub(super) struct RenewClock {
    last: Instant,
    /// The next burst; `None`: nothing is leased.
    next: Option<Instant>,
    /// Their adverts were too old for the last burst, or the kernel was too late for them: each is renewed right
    /// after its next advert.
    missed: BTreeSet<InstanceIx>,
    /// When to look at those again; `None`: there are none.
    again: Option<Instant>,
    /// Number of the newest order of any kind.
    pub(super) order: u64,
    /// Number of the newest renewal, until it is answered.
    asked: Option<u64>,
    /// Answers to orders up to this one are not believed.
    void: u64,
    /// `None`: nothing is leased.
    pace: Option<Pace>,
}

/// Bounds of the time between two renewals.
#[derive(Copy, Clone)]
struct Pace {
    soonest: Duration,
    latest: Duration,
}

impl RenewClock {
    /// A renewal that is not answered is void, and its answer with it; true: there was one.
    pub(super) fn order_lost(&mut self) -> bool {
        self.void = self.order;
        self.asked.take().is_some()
    }

    /// Instances have other numbers: who missed the last burst is renewed with all others.
    pub(super) fn renumber(&mut self) {
        self.missed.clear();
        self.next = [self.next, self.again.take()].into_iter().flatten().min();
    }
}

/// How long a renewal is harmless.
#[derive(Copy, Clone)]
struct Room {
    /// After the advert that permits it.
    whole: Duration,
    /// The end of it.
    until: Instant,
}

impl Room {
    /// Is there enough of it left for the kernel thread to take its turn? Less is no order but a race with `not_after`.
    fn will_do(self, now: Instant) -> bool {
        now + self.whole / 4 <= self.until
    }

    /// Did the advert leave not long ago? Twice as long as the time between two looks: a look that is late, or that comes
    /// just before the advert is accepted, costs no more than the next one.
    fn is_fresh(self, now: Instant) -> bool {
        now + self.whole / 2 <= self.until
    }

    /// When to look again at who was not ready.
    fn look_again(self, now: Instant) -> Instant {
        now + self.whole / 4
    }
}

impl Engine {
    /// An advert was accepted by sendmsg: leases may be renewed, best at once, while peers have just heard us.
    pub(super) fn advert_accepted(&mut self) {
        if let Some(pace) = self.renew.pace {
            let at = self.now.mono.max(self.renew.last + pace.soonest);
            // What was to be renewed earlier is not put off.
            self.renew_all_at(self.renew.next.map_or(at, |next| at.min(next)));
        }
    }

    /// Every lease is renewed then.
    pub(super) fn renew_all_at(&mut self, at: Instant) {
        self.renew.next = Some(at);
        self.set_renew_slot();
    }

    /// Whichever comes first of the next burst and of who missed the last one.
    pub(super) fn set_renew_slot(&mut self) {
        let at = [self.renew.next, self.renew.again].into_iter().flatten().min();
        self.set_slot(Slot::Renew, at.unwrap_or(Instant::MAX));
    }

    fn leased(&self) -> impl Iterator<Item = (InstanceIx, &Holding)> {
        (0u16..)
            .map(InstanceIx)
            .zip(&self.holdings)
            .filter(|(_, h)| h.applied() && h.lease_secs.is_some())
    }

    /// What is leased changed: next renewal a gap after the last one, never with nothing to renew.
    pub(super) fn plan_renewal(&mut self) {
        let shortest = self.leased().filter_map(|(_, h)| h.lease_secs).min();
        let addresses: usize = self.leased().map(|(_, h)| h.count).sum();
        self.renew.pace = shortest.map(|secs| {
            let half = Duration::from_secs(u64::from(secs)) / 2;
            if addresses > MANY {
                Pace { soonest: half, latest: half }
            } else {
                Pace { soonest: RENEW_GAP, latest: RENEW_GAP.max(half / 2) }
            }
        });
        let planned = self.renew.next;
        let next = self.renew.pace.map(|pace| self.renew.last + pace.latest);
        // Nor is what was to be renewed earlier put off.
        self.renew.next = next.map(|next| planned.map_or(next, |at| at.min(next)));
        self.set_renew_slot();
    }

    /// Length of the next lease: by the interval that peers count with, once they all had the chance to hear of it.
    pub(super) fn lease_wanted(&self, ix: InstanceIx) -> Option<u32> {
        let units = self.units_of(ix);
        let mut owners = units.iter().map(|u| &self.units[*u]).filter(|u| u.keeps_addresses());
        let stretched = owners.all(|u| u.stretched_sent >= STRETCHED_ADVERTS);
        let unit = units.first().map(|u| &self.units[*u])?;
        let own = unit.vr.params().interval;
        let interval = if stretched { unit.told_interval() } else { own };
        self.model.instance(ix).lease_secs(interval)
    }

    /// Until when peers cannot have claimed, so that a renewal at that time is harmless; `None`: no
    /// advert was accepted since the claim.
    fn room(&self, ix: InstanceIx) -> Option<Room> {
        let lease = Duration::from_secs(u64::from(self.holding(ix).lease_secs?));
        let rooms = self.units_of(ix).into_iter().filter_map(|u| {
            let unit = &self.units[u];
            let leaves = unit.leaving.as_ref().is_some_and(|leaving| !leaving.released());
            let sent = unit.last_sent.filter(|_| unit.is_active() || leaves)?;
            let interval = unit.counted.duration();
            let patience = interval * 3;
            // Where even the shortest lease outlives the peers' patience the stale-holder wait bounds the overlap
            // (DESIGN 5.1), and every advert that was accepted is good until the next one is due.
            let whole = if patience > lease + MARGIN {
                patience - lease
            } else {
                interval.max(patience.min(ORDER_SLACK))
            };
            Some(Room { whole, until: sent + whole })
        });
        rooms.max_by_key(|room| room.until)
    }

    pub(super) fn renew_due(&mut self) {
        let now = self.now.mono;
        let all = self.renew.next.is_some_and(|next| next <= now);
        let mut missed = std::mem::take(&mut self.renew.missed);
        self.renew.again = None;
        let leased: Vec<_> = self.leased().map(|(ix, _)| ix).collect();
        if all {
            // Without anybody to renew now, the next advert that is accepted brings it.
            self.renew.next = (!leased.is_empty()).then(|| now + RENEW_GAP);
        }
        let due = leased.into_iter().filter(|ix| all || missed.contains(ix));
        let mut ready = Vec::new();
        for ix in due.collect::<Vec<_>>() {
            let (Some(room), Some(secs)) = (self.room(ix), self.lease_wanted(ix)) else { continue };
            // Who missed a burst for want of room must not lose the next race as well.
            let fits = if missed.contains(&ix) { room.is_fresh(now) } else { room.will_do(now) };
            if fits {
                missed.remove(&ix);
                // Asking again prolongs the lease as well: only what may be renewed is doubted.
                self.doubt_lease(ix, room);
                ready.push((ix, secs, room.until));
            } else {
                self.renew_again(ix, room.look_again(now));
            }
        }
        if !ready.is_empty() {
            // Who has many addresses may need all the time that there is, and more: it goes last and by itself.
            let (many, few): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|(ix, ..)| self.holding(*ix).count > MANY);
            self.ask_renewal(&few);
            many.chunks(1).for_each(|one| self.ask_renewal(one));
            if all {
                (self.renew.last, self.renew.next) = (now, None);
                self.plan_renewal();
            }
        }
        self.set_renew_slot();
    }

    /// One order for these instances, each with the length of its lease and the time until which that is harmless.
    fn ask_renewal(&mut self, ready: &[(InstanceIx, u32, Instant)]) {
        let Some(not_after) = ready.iter().map(|(.., until)| *until).min() else { return };
        let order = self.next_order();
        self.renew.asked = Some(order);
        for (ix, secs, _) in ready {
            self.holdings[usize::from(ix.0)].asked_lease = Some((order, *secs));
        }
        let instances = ready.iter().map(|(ix, secs, _)| (*ix, *secs)).collect();
        self.push(Output::Renew(Renew { instances, order, not_after }));
    }

    /// This one is still to be renewed; it is looked at again then.
    fn renew_again(&mut self, ix: InstanceIx, at: Instant) {
        self.renew.missed.insert(ix);
        self.renew.again = Some(self.renew.again.map_or(at, |again| again.min(at)));
    }

    /// A lease not confirmed for half its life is asked for again as a claim is (DESIGN 5.1).
    fn doubt_lease(&mut self, ix: InstanceIx, room: Room) {
        let now = self.now.mono;
        let holding = self.holding(ix);
        let (Some(left), Some(secs)) = (holding.lease_left(now), holding.lease_secs) else {
            return;
        };
        let lease = Duration::from_secs(u64::from(secs));
        let half = lease / 2;
        // Where renewals are half a lease apart, that much is left each time and proves nothing; who misses a burst is
        // renewed after its next advert.
        let pace = self.renew.pace.map_or(Duration::ZERO, |pace| pace.latest);
        let behind = self.units_of(ix).into_iter().map(|u| self.units[u].interval()).max();
        let behind = behind.unwrap_or_default().saturating_sub(room.whole / 2);
        let enough = half.min(lease.saturating_sub(pace + behind + EARLY));
        if left >= enough || now.since(holding.asked_at) < half {
            return;
        }
        let unit = self
            .units_of(ix)
            .into_iter()
            .find(|u| self.units[*u].is_active() && self.units[*u].overslept.is_none());
        if let Some(u) = unit {
            self.order_hold(u);
        }
    }

    pub(super) fn on_renewed(&mut self, renewed: &Renewed) {
        if renewed.order <= self.renew.void {
            // Of a configuration that is not in force any more: its instances have other numbers.
            return;
        }
        self.renew.asked.take_if(|asked| *asked <= renewed.order);
        let failed: BTreeSet<InstanceIx> = renewed.failed.iter().map(|(ix, _)| *ix).collect();
        for (n, holding) in self.holdings.iter_mut().enumerate() {
            let ix = InstanceIx(u16::try_from(n).unwrap_or(u16::MAX));
            // A renewal that was overtaken by a newer order of the instance says nothing about that one, nor about
            // an instance that it does not name.
            let named = holding.asked_lease.filter(|(order, _)| *order == renewed.order);
            if let Some((_, secs)) = named
                && holding.applied()
                && holding.order < renewed.order
                && !failed.contains(&ix)
            {
                holding.confirmed = holding.confirmed.max(Some(renewed.at));
                holding.lease_secs = Some(secs);
            }
        }
        for (ix, fault) in &renewed.failed {
            if !self.holding(*ix).applied() {
                continue;
            }
            if *fault == KernelFault::Late {
                // By now the advert is an old one: the next is awaited. The kernel thread then goes on where it stopped.
                if let Some(room) = self.room(*ix) {
                    let now = self.now.mono;
                    self.renew_again(*ix, room.look_again(now).max(now + ORDER_SLACK));
                }
                continue;
            }
            self.event(Some(*ix), None, EventKind::KernelFailed(fault.clone()));
            if let Some(u) = self.units_of(*ix).into_iter().find(|u| self.units[*u].is_active()) {
                self.order_hold(u);
            }
        }
        self.set_renew_slot();
    }

    /// Could the kernel have dropped the addresses by itself?
    pub(super) fn lease_may_have_ended(&self, u: UnitIx) -> bool {
        let holding = self.holding(self.units[u].instance);
        match (holding.confirmed, holding.lease_secs) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(_), Some(_)) => {
                holding.lease_left(self.now.mono).is_none_or(|left| left <= EARLY)
            }
        }
    }
}
