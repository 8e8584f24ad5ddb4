//! An owner that is no good any more lets a better host have the address (DESIGN 5.10), and keeps it when there is none.
//!
//! With heartbeats it knows who would come, lets go and says priority 0 when the addresses are off: the best backup
//! claims on that. Without them, and where the service itself is well (a drain), it offers: priority 0 goes out, the
//! addresses stay as in a clean stop, and if nobody came it goes on as owner.

use super::io::Cause;
use super::operate::NOBODY;
use super::{Engine, UnitIx};
use crate::config::model::StandbyKind;
use crate::policy::replica::Staleness;
use crate::policy::stamp::instant;
use crate::time::{Duration, Instant};
use crate::types::{Class, HostIx, State};
use crate::wire::heartbeat::InstanceRecord;

/// After the first try the next one waits this long, then twice as long, and so on.
const RETRY: Duration = Duration::from_secs(10);
/// Between two tries at most.
const RETRY_MAX: Duration = Duration::from_secs(600);
/// A failing Backup gives the owner this much longer than an interval to take back what it offered: what the owner
/// waits for successors beside the longest skew, and the way of its next advert.
const OFFER_SLACK: Duration = Duration::from_millis(120);

/// Tries to hand over since this host was last fit to own.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Offers {
    tried: u32,
    /// Not before then.
    next: Instant,
    /// It claimed while it was unfit: nobody better was there.
    claimed_unfit: bool,
}

impl Offers {
    /// Fit again.
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }

    /// Claimed although it was unfit.
    pub(super) fn claimed_unfit(&mut self, now: Instant) {
        self.claimed_unfit = true;
        self.tried(now);
    }

    fn tried(&mut self, now: Instant) {
        let wait = RETRY * 2u32.pow(self.tried.min(6));
        self.tried += 1;
        self.next = now + wait.min(RETRY_MAX);
    }
}

impl Engine {
    /// Does this unit own although its class says that somebody better should?
    fn unfit_owner(&self, u: UnitIx) -> bool {
        let unit = &self.units[u];
        // Who was promoted although it was unfit stays where the operator wants it.
        let wanted = unit.pinned && unit.offers.claimed_unfit;
        unit.is_active()
            && self.unwell > 0
            && unit.overslept.is_none()
            && !self.stopping
            && !wanted
            && !self.moving(u)
            && self.frozen(u).is_none()
            && matches!(self.class(u), Class::Failing | Class::Drained)
            && (self.peers.is_some() || !unit.offers.claimed_unfit)
    }

    /// Not before then, by the tries so far and by the move budget: spent, a failure moves at most once in 10 min.
    fn next_offer(&self, u: UnitIx) -> Instant {
        let unit = &self.units[u];
        let failing = self.class(u) == Class::Failing;
        let members = self.others(u).chain([u]).filter(|_| failing);
        let held = members
            .filter_map(|o| self.fitness(self.units[o].instance).moves.fail_move_at())
            .map(instant);
        held.fold(unit.offers.next.max(self.acts_at(u)), Instant::max)
    }

    /// A failing owner waits until the others would have found out as well; of several members that fail, the first
    /// that need not wait any more decides.
    fn acts_at(&self, u: UnitIx) -> Instant {
        let members = self.others(u).chain([u]).map(|o| self.fitness(self.units[o].instance));
        let failing = members.filter(|f| f.health.class == Class::Failing);
        failing.map(|f| f.health.acts_at).min().unwrap_or(Instant::ZERO)
    }

    /// When this owner tries to hand over, for status; `None`: it is fit.
    pub(super) fn offer_due(&self, u: UnitIx) -> Option<Instant> {
        self.unfit_owner(u).then(|| self.next_offer(u))
    }

    /// When to look again; `None`: the word of a peer brings the next try.
    pub(super) fn offer_deadline(&self, u: UnitIx) -> Option<Instant> {
        self.offer_due(u).filter(|at| *at > self.now.mono)
    }

    /// Hands over if this owner is unfit, somebody better is there, and it is time.
    pub(super) fn consider_hand_over(&mut self, u: UnitIx) {
        let now = self.now.mono;
        if !self.unfit_owner(u) || self.next_offer(u) > now {
            return;
        }
        if self.peers.is_some() && self.better_peer(u).is_none() {
            return;
        }
        let cause = self.culprit(u);
        let failing = self.class(u) == Class::Failing;
        // The service is well: there is time to bring its state along.
        let host = if failing { None } else { self.better_peer(u) };
        if let Some(host) = host
            && self.bring_state(self.units[u].instance, host, NOBODY)
        {
            self.units[u].offers.tried(now);
            return;
        }
        let mut members = self.partners(u);
        members.push(u);
        members.retain(|o| self.units[*o].is_active());
        for o in &members {
            self.units[*o].offers.tried(now);
        }
        for o in members {
            if !self.units[o].is_active() {
                continue;
            }
            self.units[o].gates.unusable(now, true);
            let cause = if o == u { cause.clone() } else { Cause::SyncGroup };
            if self.peers.is_some() && failing {
                self.let_go(o, cause);
            } else {
                self.offer(o, cause);
            }
            self.rearm(o);
        }
    }

    /// A living peer that would own better and would claim by itself.
    fn better_peer(&self, u: UnitIx) -> Option<HostIx> {
        let class = self.class(u);
        let own = self.peers.as_ref().map(|p| p.own_hash);
        // Where the service is well here, an old copy is no better place for it.
        let well = class != Class::Failing;
        self.living_peers(u)
            .filter(|(host, r)| {
                r.state == State::Backup
                    && r.class < class
                    && !(well && r.stale)
                    && self.claims_by_itself(u, *host, r)
                    && (r.hears == own || self.reaches_host(u, *host) == Some(true))
            })
            .max_by(|(a, ra), (b, rb)| {
                self.standing_of(u, *a, ra).compare(&self.standing_of(u, *b, rb))
            })
            .map(|(host, _)| host)
    }

    /// A hot standby claims at once, a warm one when it has been made ready: then it asks.
    fn claims_by_itself(&self, u: UnitIx, host: HostIx, record: &InstanceRecord) -> bool {
        match self.standby_of(u, host) {
            Some(StandbyKind::Hot) => true,
            Some(StandbyKind::Warm) => record.release_request,
            Some(StandbyKind::Cold) | None => false,
        }
    }

    /// The best peer is known to come: the addresses go, then priority 0 says so.
    fn let_go(&mut self, u: UnitIx, cause: Cause) {
        self.units[u].vr.listen(self.now.mono);
        self.units[u].farewell = true;
        self.order_free(u);
        if self.holding(self.units[u].instance).applied() {
            // The other family keeps the device busy: nothing more will be confirmed.
            self.farewell(u);
        }
        self.left_active(u, cause);
    }

    /// The addresses are off: whoever is better may have them.
    pub(super) fn farewell(&mut self, u: UnitIx) {
        if std::mem::take(&mut self.units[u].farewell) && !self.units[u].is_active() {
            self.advertise(u, 0);
        }
    }

    /// Nobody came: it goes on as it was. Not if it stood still meanwhile, or cannot.
    pub(super) fn take_back(&mut self, u: UnitIx, cause: Cause) {
        let now = self.now.mono;
        let unit = &self.units[u];
        let link = &self.links[usize::from(unit.link.0)];
        let fatal = self.fitness(unit.instance).health.class == Class::Unable;
        let group_left = self.others(u).any(|o| {
            let other = &self.units[o];
            !other.is_active() && other.leaving.as_ref().is_none_or(|l| l.succeeded())
        });
        if !link.usable() || unit.source().is_none() || fatal {
            self.order_free(u);
            let why = if fatal { cause } else { Cause::LinkDown };
            self.units[u].pinned = false;
            self.set_priority(u);
            self.lost(u, true, &why);
            self.entered(u, State::Active, why);
            self.sync_faulted(u);
            return;
        }
        if group_left || self.lease_may_have_ended(u) {
            self.units[u].vr.listen(now);
            self.order_free(u);
            self.left_active(u, if group_left { Cause::SyncGroup } else { Cause::LeaseEnded });
            // A member with a shorter interval may have gone on already.
            self.sync_yielded(u);
            return;
        }
        let since = self.units[u].since;
        self.units[u].vr.become_active(now);
        self.set_priority(u);
        let priority = self.units[u].vr.params().priority;
        self.advertise(u, priority);
        // Repeats were due, and a weaker one may have announced meanwhile.
        self.announce_afresh(u);
        self.entered(u, State::Active, Cause::NobodyCame);
        self.units[u].since = since;
    }

    /// Second choice gives others time to go first. `Some`: ask again then.
    pub(super) fn second_choice_waits(&mut self, u: UnitIx, released: bool) -> Option<Instant> {
        let (class, stale) = (self.class(u), self.stale(u));
        let members = self.others(u).chain([u]);
        let second = members.map(|o| self.units[o].instance).map(|ix| self.fitness(ix)).any(|f| {
            let stale = f.replica > Staleness::Fresh;
            f.health.class > Class::Healthy || f.drained || f.second() || stale
        });
        if !second || self.units[u].pinned || class < Class::Held {
            return None;
        }
        let mut extra = self.units[u].interval();
        if self.peers.is_some() {
            let better = |(host, r): (HostIx, &InstanceRecord)| {
                r.state == State::Backup
                    && (r.class, r.stale) < (class, stale)
                    && self.standby_of(u, host) != Some(StandbyKind::Cold)
            };
            if !self.living_peers(u).any(better) {
                return None;
            }
        } else if released && class < Class::Failing {
            // Who leaves keeps the addresses for an interval only: nothing that is healthy is late for that.
            return None;
        } else if released {
            extra += OFFER_SLACK;
        }
        let now = self.now.mono;
        // Once for each owner that fell silent: a priority 0 that is said twice is one.
        let last = self.units[u].vr.heard().map_or(Instant::ZERO, |h| h.at);
        let until = match self.units[u].deferred {
            Some((heard, until)) if heard == last => until,
            _ => self.units[u].vr.deadline() + extra,
        };
        self.units[u].deferred = Some((last, until));
        (until > now).then_some(until)
    }
}
