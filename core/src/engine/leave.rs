//! The clean stop: make before break (DESIGN 5.5). Priority 0 goes out, the addresses stay until somebody else has them.

use super::adverts::WEAKEST;
use super::io::{Cause, EventKind};
use super::reload::Renumber;
use super::{Engine, UnitIx};
use crate::time::{Duration, Instant};
use crate::types::{HostIx, InstanceIx, State};
use crate::vrrp::Heard;
use std::net::IpAddr;

/// The addresses stay this long after the successor has them.
pub(super) const OVERLAP: Duration = Duration::from_millis(200);
/// A foreign successor may need this long per address before it announces.
const PER_ADDRESS: Duration = Duration::from_micros(200);
/// A vipd successor announces this long before the release.
const NOTICE: Duration = Duration::from_millis(20);

/// Where a clean stop is.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    /// Released then, whoever came.
    release_at: Instant,
    /// The same where the kernel of a vipd successor is late.
    latest: Instant,
    successor: Successor,
    /// Peers were told that the release is near.
    noticed: bool,
    /// The release was ordered.
    released: bool,
    plan: Plan,
    /// Who advertised meanwhile.
    heard: Option<Heard>,
    /// Who owned before this host, when that lets go only now: until then its last advert may come.
    predecessor: Option<(IpAddr, Instant)>,
}

/// What is to become of the addresses, and of this host.
#[derive(Clone, Debug)]
enum Plan {
    /// The host stops.
    Stop,
    /// Only offered: if nobody comes it goes on as owner. For this cause.
    Offer(Cause),
    /// Given away, whoever comes.
    Give(Cause),
    /// This host of the group has claimed by our own request (DESIGN 5.6): if it does not come to hold the addresses,
    /// this one goes on.
    Move(HostIx),
}

impl Plan {
    /// Why this host is Backup afterwards; `None`: it stops.
    fn cause(&self) -> Option<Cause> {
        match self {
            Self::Stop => None,
            Self::Offer(cause) | Self::Give(cause) => Some(cause.clone()),
            Self::Move(host) => Some(Cause::MovedAway(Some(*host))),
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Successor {
    None,
    /// A host that tells over heartbeats what it has applied.
    Vipd(HostIx),
    Foreign,
}

impl Leaving {
    /// Peers are told again when that is near.
    fn release_then(&mut self, at: Instant) {
        (self.release_at, self.noticed) = (at, false);
    }

    pub(super) fn deadline(&self) -> Instant {
        if self.released {
            Instant::MAX
        } else if self.noticed {
            self.release_at
        } else {
            self.release_at.before(NOTICE)
        }
    }

    /// Hosts and checks have other numbers. A successor that is gone from the configuration is one that does not tell.
    pub(super) fn renumber(&mut self, renumber: &Renumber) {
        if let Successor::Vipd(host) = self.successor {
            self.successor = renumber.host(host).map_or(Successor::Foreign, Successor::Vipd);
        }
        self.plan = match &self.plan {
            Plan::Stop => Plan::Stop,
            Plan::Offer(cause) => Plan::Offer(renumber.cause(cause)),
            Plan::Give(cause) => Plan::Give(renumber.cause(cause)),
            Plan::Move(host) => {
                renumber.host(*host).map_or(Plan::Offer(Cause::MovedAway(None)), Plan::Move)
            }
        };
    }

    /// Was the release ordered?
    pub(super) fn released(&self) -> bool {
        self.released
    }

    /// Is somebody else known to own now?
    pub(super) fn succeeded(&self) -> bool {
        let heard = self.heard.is_some() && self.moves_to().is_none();
        self.successor != Successor::None || heard
    }

    /// The host that took over by request.
    pub(super) fn moves_to(&self) -> Option<HostIx> {
        match self.plan {
            Plan::Move(host) => Some(host),
            _ => None,
        }
    }

    /// Peers may announce: the release is near.
    pub(super) fn releasing(&self) -> bool {
        self.noticed
    }
}

impl Engine {
    pub(super) fn on_stop(&mut self) {
        if self.stopping {
            return;
        }
        self.preparing = None;
        // Told again, it does not wait any longer.
        if self.closing.take().is_none() && self.brings_before_stop() {
            return;
        }
        self.stop_now();
    }

    /// Hands over what is owned, whether or not anybody has its state.
    pub(super) fn stop_now(&mut self) {
        self.stopping = true;
        self.orders_stop();
        for u in 0..self.units.len() {
            self.leave_for_good(u, Cause::Stop);
        }
        self.urgent();
    }

    /// Ends the unit for `cause`: an owner hands over and releases, who is none falls silent.
    pub(super) fn leave_for_good(&mut self, u: UnitIx, cause: Cause) {
        match self.units[u].state() {
            State::Active => {
                self.say_zero(u, Plan::Stop);
                self.left_for_good(u, cause);
            }
            State::Backup => {
                // Nothing is sent (RFC 9568 section 6.4.2).
                self.units[u].vr.shut_down();
                let now = self.now.mono;
                self.units[u].since = now;
                self.stale_wait_over(u);
                if self.units[u].yielding.is_some() {
                    self.order_free(u);
                }
            }
            State::Initialize => {
                // What was offered is given now.
                if let Some(leaving) = &mut self.units[u].leaving {
                    leaving.plan = Plan::Stop;
                    self.left_for_good(u, cause);
                }
            }
        }
        self.rearm(u);
    }

    /// Offers the addresses to whoever is better, for `cause`.
    pub(super) fn offer(&mut self, u: UnitIx, cause: Cause) {
        self.say_zero(u, Plan::Offer(cause));
        self.urgent();
    }

    /// Lets go for `cause`, also where nobody comes.
    pub(super) fn give(&mut self, u: UnitIx, cause: Cause) {
        self.say_zero(u, Plan::Give(cause));
        self.urgent();
    }

    /// `host` has claimed by our own request: the addresses stay until it has them.
    pub(super) fn hand_over(&mut self, u: UnitIx, host: HostIx, heard: Option<Heard>) {
        // The operator's last word is that host: what this one takes back if that fails is not pinned any more, and stands
        // back behind whoever was promoted meanwhile.
        self.units[u].pinned = false;
        self.begin_leaving(u, Plan::Move(host), heard);
        let applied = self.record(host, u).is_some_and(|r| r.owns() && r.applied);
        if applied {
            self.successor_applied(u, host);
        }
        self.urgent();
        self.rearm(u);
    }

    /// Says priority 0 and keeps the addresses.
    fn say_zero(&mut self, u: UnitIx, plan: Plan) {
        self.advertise(u, 0);
        self.begin_leaving(u, plan, None);
    }

    /// Keeps the addresses for a successor.
    fn begin_leaving(&mut self, u: UnitIx, plan: Plan, heard: Option<Heard>) {
        let now = self.now.mono;
        // The longest skew of a successor at priority 1, and what it needs to speak (DESIGN 5.5).
        let interval = self.units[u].told_interval().duration();
        let patience = interval * 255 / 256 + Duration::from_millis(100);
        let predecessor = self.predecessor(u);
        let latest = self.kernel_patience(u).max(now + patience);
        self.units[u].vr.shut_down();
        self.units[u].announce.cancel();
        self.units[u].leaving = Some(Leaving {
            release_at: now + patience,
            latest,
            successor: Successor::None,
            noticed: false,
            released: false,
            plan,
            heard,
            predecessor,
        });
    }

    /// The owner before this one, while it may still be in the overlap that follows our claim, and the end of that: it
    /// says one weak advert when it has let go, which is no claim.
    fn predecessor(&self, u: UnitIx) -> Option<(IpAddr, Instant)> {
        let unit = &self.units[u];
        let addresses = u32::try_from(self.unit_vips(u).count()).unwrap_or(u32::MAX);
        let until = unit.since + (OVERLAP + PER_ADDRESS.saturating_mul(addresses)) * 2;
        let before = unit.vr.heard().filter(|_| unit.is_active() && until > self.now.mono)?;
        Some((before.src, until))
    }

    fn left_for_good(&mut self, u: UnitIx, cause: Cause) {
        let now = self.now.mono;
        self.copies_after(self.units[u].instance, &cause);
        let (instance, priority) = (self.units[u].instance, self.units[u].vr.params().priority);
        let epoch = self.epoch_of(instance);
        self.units[u].since = now;
        self.units[u].cause = cause.clone();
        let kind = EventKind::Transition {
            from: State::Active,
            to: State::Initialize,
            cause,
            owner: None,
            priority,
            epoch,
        };
        self.event(Some(instance), None, kind);
    }

    /// Somebody advertises while we leave.
    pub(super) fn successor_heard(&mut self, u: UnitIx, heard: &Heard) {
        let now = self.now.mono;
        let predecessor = self.units[u].leaving.as_ref().and_then(|l| l.predecessor);
        if heard.priority == WEAKEST
            && predecessor.is_some_and(|(src, until)| src == heard.src && now < until)
        {
            // It has let go: who resolved it last hears who has the addresses.
            self.announce_afresh(u);
            return self.rearm(u);
        }
        let moves_to = self.units[u].leaving.as_ref().and_then(Leaving::moves_to);
        if moves_to.is_none() || self.host_of(heard.src) != moves_to {
            self.newer_pin(u, heard);
        }
        if heard.priority == 0 && moves_to.is_some() && self.host_of(heard.src) == moves_to {
            return self.move_failed(u);
        }
        if heard.priority == 0 && self.successor_left(u, heard.src) {
            return;
        }
        if let Some(leaving) = self.units[u].leaving.as_mut().filter(|_| heard.priority > 0) {
            leaving.heard = Some(*heard);
        }
        // A vipd host tells when its kernel has the addresses; that is waited for.
        if heard.priority == 0 || self.host_of(heard.src).is_some() {
            return;
        }
        let addresses = u32::try_from(self.unit_vips(u).count()).unwrap_or(u32::MAX);
        if let Some(leaving) = &mut self.units[u].leaving
            && leaving.successor == Successor::None
        {
            leaving.successor = Successor::Foreign;
            leaving.release_then(now + OVERLAP + PER_ADDRESS.saturating_mul(addresses));
        }
        self.rearm(u);
    }

    /// Who came for what an operator gave away leaves at once: it stays here. True: it does. What was offered because a
    /// check failed is different: its successor may offer it for the same reason, and then two would hold it for the
    /// overlap of either.
    fn successor_left(&mut self, u: UnitIx, src: IpAddr) -> bool {
        let Some(leaving) = &mut self.units[u].leaving else { return false };
        let Plan::Offer(cause @ Cause::MovedAway(_)) = &leaving.plan else { return false };
        if leaving.released || leaving.heard.is_none_or(|heard| heard.src != src) {
            return false;
        }
        let cause = cause.clone();
        self.units[u].leaving = None;
        self.take_back(u, cause);
        true
    }

    /// Did who came fall silent meanwhile, for as long as makes a Backup claim? With short intervals that shows before
    /// the overlap ends, and then there is nobody to leave the addresses to.
    fn successor_silent(&self, u: UnitIx) -> bool {
        let longest_down = self.units[u].interval() * 4;
        let heard = self.units[u].leaving.as_ref().and_then(|l| l.heard);
        heard.is_some_and(|heard| {
            let host = self.host_of(heard.src);
            let lives = self.living_peers(u).any(|(peer, _)| Some(peer) == host);
            !lives && self.now.mono.since(heard.at) > longest_down
        })
    }

    /// A vipd host says that its kernel has the addresses.
    pub(super) fn successor_applied(&mut self, u: UnitIx, host: HostIx) {
        let release_at = self.within_lease(u, OVERLAP);
        if let Some(leaving) = &mut self.units[u].leaving
            && leaving.successor == Successor::None
        {
            leaving.successor = Successor::Vipd(host);
            let told = leaving.noticed;
            leaving.release_then(release_at);
            if told {
                // It is not that near any more, and will be told again.
                self.urgent();
            }
        }
        self.rearm(u);
    }

    pub(super) fn leave_due(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let Some(leaving) = &mut self.units[u].leaving else { return };
        if leaving.released {
            return;
        }
        let near = leaving.release_at.before(NOTICE) <= now;
        let nobody = leaving.successor == Successor::None;
        let (to, latest) = (leaving.moves_to(), leaving.latest);
        let may_wait = near && nobody && leaving.release_at < latest;
        if may_wait && self.awaits_kernel(u, to) {
            if let Some(leaving) = &mut self.units[u].leaving {
                leaving.release_then(latest);
            }
            return;
        }
        let Some(leaving) = &mut self.units[u].leaving else { return };
        if near && !leaving.noticed {
            leaving.noticed = true;
            self.urgent();
            if nobody && to.is_none() {
                // Nobody took over; the first priority 0 may have been lost.
                self.advertise(u, 0);
            }
        }
        let silent = self.successor_silent(u);
        let Some(leaving) = &mut self.units[u].leaving else { return };
        if leaving.release_at <= now {
            match &leaving.plan {
                Plan::Move(_) if silent => return self.move_failed(u),
                Plan::Move(_) if !leaving.succeeded() => return self.move_overdue(u),
                Plan::Offer(cause)
                    if !leaving.succeeded() || silent && matches!(cause, Cause::MovedAway(_)) =>
                {
                    let cause = cause.clone();
                    self.units[u].leaving = None;
                    return self.take_back(u, cause);
                }
                _ => {}
            }
            leaving.released = true;
            self.units[u].announce.cancel();
            self.order_free(u);
        }
    }

    /// The host that claimed by our request said that it does not own: this one goes on.
    pub(super) fn move_failed(&mut self, u: UnitIx) {
        let failed = |l: &mut Leaving| l.moves_to().is_some() && !l.released;
        if let Some(host) = self.units[u].leaving.take_if(failed).and_then(|l| l.moves_to()) {
            self.take_back(u, Cause::MovedAway(Some(host)));
        }
    }

    /// The host that claimed by our request has not come to hold the addresses in time. One that still advertises is
    /// yielded to as to any stronger owner, one that does not is gone: up to 25 s the patience of a release is longer
    /// than an interval, beyond that the heartbeats tell.
    fn move_overdue(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let interval = self.units[u].interval();
        let Some(leaving) = &self.units[u].leaving else { return };
        let (Some(host), heard) = (leaving.moves_to(), leaving.heard) else { return };
        let lives = self.living_peers(u).any(|(peer, _)| peer == host);
        match heard.filter(|heard| lives && now.since(heard.at) <= interval) {
            Some(heard) => {
                self.units[u].leaving = None;
                self.units[u].vr.listen(now);
                self.units[u].vr.step_down(heard);
                self.keep_for(u, host);
                self.left_active(u, Cause::MovedAway(Some(host)));
                self.sync_yielded(u);
                self.rearm(u);
            }
            None => self.move_failed(u),
        }
    }

    /// The kernel let go of the instance: who leaves it is done.
    pub(super) fn released(&mut self, instance: InstanceIx) {
        for u in self.units_of(instance) {
            self.farewell(u);
            let Some(leaving) = self.units[u].leaving.take_if(|l| l.released) else { continue };
            if leaving.successor == Successor::Foreign {
                // A neighbour may have resolved us during the overlap; an Active answers a weak advert with
                // announcements (measured with keepalived).
                self.advertise(u, 1);
            }
            if let Some(cause) = leaving.plan.cause() {
                self.units[u].vr.listen(self.now.mono);
                if let Some(heard) = leaving.heard {
                    self.units[u].vr.step_down(heard);
                    let planned = matches!(cause, Cause::MovedAway(_) | Cause::Drained);
                    if planned && !self.is_preempted(u) {
                        self.went_to(u, heard.src);
                    }
                }
                self.left_active(u, cause);
                self.sync_yielded(u);
            }
            self.rearm(u);
        }
    }
}
