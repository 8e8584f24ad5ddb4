//! A move at its target: judges the request of the owner, gets ready, and claims while the owner still holds.

use super::super::io::Cause;
use super::super::reload::Renumber;
use super::super::standby::Activating;
use super::super::{Engine, UnitIx};
use crate::time::{Duration, Instant};
use crate::types::{Class, HostIx, InstanceIx, State};
use crate::vrrp::Expiry;
use crate::wire::heartbeat::{InstanceRecord, MoveAnswer, MoveRequest, Refusal};

/// Until the last advert that the source sent before it heard of the claim has arrived.
const CROSSING: Duration = Duration::from_millis(100);
/// What a host says by heartbeat may overtake the advert that it sent before by so much.
const OVERTAKES: Duration = Duration::from_millis(10);

/// An instance on its way to here.
#[derive(Clone, Debug)]
pub(super) struct Takeover {
    /// Who asks.
    pub(super) from: HostIx,
    /// Number of its request.
    number: u64,
    /// This host keeps the address.
    pin: bool,
    /// Gets ready, and does not claim yet.
    hold: bool,
    /// The request is not followed after this time: its own end, or because it was not heard again.
    until: Instant,
    /// This host has claimed, at that time.
    pub(super) claimed: Option<Instant>,
    /// The source has said since that it does not own any more, first at that time: it knows of the claim.
    known: Option<Instant>,
}

impl Takeover {
    /// The same with the other host's new number; `None`: it has none.
    pub(super) fn renumbered(self, renumber: &Renumber) -> Option<Self> {
        Some(Self { from: renumber.host(self.from)?, ..self })
    }

    /// When it is over if nothing more is heard.
    pub(super) fn lapses(&self) -> Instant {
        self.claimed.map_or(self.until, |at| at + Duration::from_secs(60))
    }
}

impl Engine {
    /// A peer spoke of the instance: its request to this host, if there is one.
    pub(super) fn heard_request(
        &mut self,
        from: HostIx,
        ix: InstanceIx,
        record: &InstanceRecord,
        at: Instant,
    ) {
        let own = self.peers.as_ref().map_or(0, |p| p.own_hash);
        let from_hash = self.host_hash(from);
        if record.state != State::Active
            && let Some(takeover) = &mut self.ordered_mut(ix).takeover
            && takeover.from == from
            && takeover.claimed.is_some()
        {
            takeover.known.get_or_insert(at);
        }
        let Some(request) = record.orders.request.filter(|r| r.to == own) else {
            let ordered = self.ordered_mut(ix);
            let answered = ordered.answer.is_some_and(|a| a.to == from_hash);
            if answered {
                ordered.answer = None;
            }
            if ordered.takeover.as_ref().is_some_and(|t| t.from == from && t.claimed.is_none()) {
                // Withdrawn.
                self.drop_takeover(ix);
            }
            return;
        };
        let until = self.request_until(&request, at);
        let known = self
            .ordered_of(ix)
            .answer
            .is_some_and(|a| a.to == from_hash && a.number == request.number);
        if known {
            if let Some(takeover) = self.ordered_mut(ix).takeover.as_mut()
                && takeover.number == request.number
                && takeover.claimed.is_none()
            {
                takeover.until = until;
                let now_claims =
                    std::mem::replace(&mut takeover.hold, request.hold) && !request.hold;
                if request.hold {
                    self.stay_ready(ix);
                }
                if now_claims {
                    self.promote_ready(ix);
                }
                self.plan_orders();
            }
            return;
        }
        // Answers to requests that are over are news of yesterday.
        if request.left_ms == 0 || record.state != State::Active {
            return;
        }
        let refusal = self.refuses(ix, from, &request);
        let ready_in = match refusal {
            None => self.take_over(ix, from, &request, until),
            Some(_) => Duration::ZERO,
        };
        let ready_in_ms = u32::try_from(ready_in.as_millis()).unwrap_or(u32::MAX);
        let number = request.number;
        let answer = MoveAnswer { to: from_hash, number, refusal, ready_in_ms, ready: false };
        self.ordered_mut(ix).answer = Some(answer);
        self.urgent();
        self.plan_orders();
    }

    /// The request counts for so long, unless it is heard again: an owner that died is replaced in the ordinary way.
    fn request_until(&self, request: &MoveRequest, at: Instant) -> Instant {
        let beat = self.peers.as_ref().map_or(Duration::ZERO, |p| p.config.interval.duration());
        let left = Duration::from_millis(u64::from(request.left_ms));
        at + left.min(beat * 5 / 2)
    }

    /// Why this host does not take over.
    fn refuses(&self, ix: InstanceIx, from: HostIx, request: &MoveRequest) -> Option<Refusal> {
        let now = self.now.mono;
        let units = self.units_of(ix);
        if self.stopping || self.closing.is_some() {
            return Some(Refusal::Stopping);
        }
        let starting = |u: &UnitIx| {
            self.links[usize::from(self.units[*u].link.0)].settling(now)
                || self.backup_until.is_some_and(|until| until > now)
        };
        let class = units.iter().map(|u| self.class(*u)).max().unwrap_or(Class::Unable);
        if class == Class::Unable {
            return Some(Refusal::Unable);
        }
        // What leaves for another configuration begins anew under that one.
        if self.retires(ix) || units.iter().any(starting) {
            return Some(Refusal::Starting);
        }
        if request.force {
            return None;
        }
        let hears = |u: &UnitIx| {
            let unit = &self.units[*u];
            unit.is_active()
                || unit.vr.heard().is_some_and(|h| now.since(h.at) < h.interval.duration() * 3)
                || self.reaches_host(*u, from) == Some(true)
        };
        let suppressed = |ix: InstanceIx| self.fitness(ix).penalty.suppressed().is_some();
        if units.iter().any(|u| self.stale(*u)) {
            return Some(Refusal::Stale);
        }
        match class {
            Class::Drained => Some(Refusal::Drained),
            Class::Failing => Some(Refusal::Failing),
            _ if self.frozen_instance(ix).is_some() => Some(Refusal::Frozen),
            _ if self.together(ix).into_iter().any(suppressed) => Some(Refusal::Suppressed),
            _ if !units.iter().all(hears) => Some(Refusal::Deaf),
            _ => None,
        }
    }

    /// Claims as soon as this host is ready; how long that may take.
    fn take_over(
        &mut self,
        ix: InstanceIx,
        from: HostIx,
        request: &MoveRequest,
        until: Instant,
    ) -> Duration {
        let MoveRequest { number, pin, hold, .. } = *request;
        self.ordered_mut(ix).takeover =
            Some(Takeover { from, number, pin, hold, until, claimed: None, known: None });
        if hold {
            self.make_ready(ix, from);
        } else {
            self.promote(ix);
        }
        let ready = matches!(self.standby(ix).activating, Activating::Ready { .. });
        let activation = self.model.instance(ix).standby.activation();
        let activation = activation.filter(|_| !ready).map(|a| a.program.timeout);
        activation.into_iter().chain(self.preparation(ix)).sum()
    }

    /// Who asked this host to get ready and to hold.
    pub(in crate::engine) fn held_for(&self, ix: InstanceIx) -> Option<HostIx> {
        let takeover = self.ordered_of(ix).takeover.as_ref();
        takeover.filter(|t| t.hold && t.claimed.is_none()).map(|t| t.from)
    }

    /// Was this host asked to get ready and to hold, and is it ready?
    pub(super) fn holds_ready(&self, ix: InstanceIx) -> bool {
        self.held_for(ix).is_some() && self.is_ready(ix)
    }

    /// An unclaimed takeover whose request has lapsed is dropped; true: it was.
    pub(in crate::engine) fn takeover_lapsed(&mut self, u: UnitIx) -> bool {
        let ix = self.units[u].instance;
        let lapsed = self
            .ordered_of(ix)
            .takeover
            .as_ref()
            .is_some_and(|t| t.claimed.is_none() && t.until <= self.now.mono);
        if lapsed {
            self.drop_takeover(ix);
        }
        lapsed
    }

    pub(super) fn takeover_due(&mut self, ix: InstanceIx) {
        let now = self.now.mono;
        let Some(takeover) = &self.ordered_of(ix).takeover else { return };
        if takeover.lapses() > now {
            return;
        }
        if takeover.claimed.is_some() {
            self.ordered_mut(ix).takeover = None;
        } else {
            self.drop_takeover(ix);
        }
    }

    /// This host said that it takes over, and cannot.
    pub(in crate::engine) fn takeover_failed(&mut self, ix: InstanceIx, why: Refusal) {
        let ordered = self.ordered_mut(ix);
        if ordered.takeover.as_ref().is_none_or(|t| t.claimed.is_some()) {
            return;
        }
        if let Some(answer) = &mut ordered.answer {
            answer.refusal = Some(why);
        }
        self.drop_takeover(ix);
        self.urgent();
    }

    fn drop_takeover(&mut self, ix: InstanceIx) {
        self.ordered_mut(ix).takeover = None;
        self.withdraw(ix);
        self.plan_orders();
    }

    /// This host claims nothing by order any more; what was heard of the owner decides.
    pub(super) fn withdraw(&mut self, ix: InstanceIx) {
        self.order_withdrawn(ix);
        let now = self.now.mono;
        for u in self.units_of(ix) {
            let unit = &mut self.units[u];
            let ordered = unit.vr.next_claim().is_some_and(|(_, why)| why == Expiry::Ordered);
            if unit.state() == State::Backup && ordered {
                let heard = unit.vr.heard().map_or(now, |h| h.at);
                unit.vr.owner_alive(heard);
                unit.parked = None;
            }
            self.rearm(u);
        }
    }

    /// Who asked this host to take the unit's instance over, if it claims for that.
    pub(in crate::engine) fn takeover_from(&self, u: UnitIx) -> Option<HostIx> {
        let takeover = self.ordered_of(self.units[u].instance).takeover.as_ref();
        takeover.filter(|t| t.claimed.is_none()).map(|t| t.from)
    }

    /// The unit claims for `cause`: does it keep the address because of a move? `None`: no move is on.
    pub(in crate::engine) fn takeover_claims(&mut self, u: UnitIx, cause: &Cause) -> Option<bool> {
        let now = self.now.mono;
        let ix = self.units[u].instance;
        let planned = matches!(cause, Cause::MovedHere(_) | Cause::SyncGroup);
        let takeover = self.ordered_mut(ix).takeover.as_mut()?;
        let pin = takeover.pin && planned;
        if planned {
            takeover.claimed = Some(now);
        } else {
            self.ordered_mut(ix).takeover = None;
        }
        Some(pin)
    }

    /// Has this host just claimed what `host` hands over? What that one still says as owner crossed the claim.
    pub(in crate::engine) fn crosses(&self, u: UnitIx, host: HostIx) -> bool {
        let (unit, now) = (&self.units[u], self.now.mono);
        let window = unit.interval() * 2 + CROSSING;
        let takeover = self.ordered_of(unit.instance).takeover.as_ref().filter(|t| t.from == host);
        takeover.is_some_and(|t| {
            unit.is_active()
                && t.claimed.is_some_and(|at| now.since(at) <= window)
                // Owner again after that it speaks of a new claim.
                && t.known.is_none_or(|at| now.since(at) <= OVERTAKES)
        })
    }
}
