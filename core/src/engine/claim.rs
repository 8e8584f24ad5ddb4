//! Becoming and ceasing to be owner. Advert first, address second, announcement third (DESIGN 5.4).

use super::adverts::WEAKEST;
use super::io::{Alarm, Cause, EventKind};
use super::peers::unfit;
use super::{Engine, UnitIx};
use crate::config::model::StandbyKind;
use crate::policy::Closed;
use crate::time::{Duration, Instant};
use crate::types::{Class, HostIx, State};
use crate::vrrp::{Expiry, Heard, Params};

/// While adverts wait unread, silence is judged anew after this long.
const READ_ON: Duration = Duration::from_millis(1);
/// A Backup whose timer is served later than this many intervals listens once more.
const LATE_ROUNDS: u8 = 2;

impl Engine {
    /// The Active_Down_Timer ran out: claim, unless a gate is closed. Gates only postpone.
    pub(super) fn claim_due(&mut self, u: UnitIx, expiry: Expiry) {
        let now = self.now.mono;
        let interval = self.units[u].interval();
        let link = &self.links[usize::from(self.units[u].link.0)];
        if link.settling(now) {
            let again = link.settle_until().min(now + interval.min(Duration::from_millis(50)));
            self.units[u].vr.ask_again(again);
            return;
        }
        if let Some(until) = self.backup_until.filter(|until| *until > now) {
            self.units[u].vr.ask_again(until);
            return;
        }
        if self.sync_blocks(u) {
            self.units[u].vr.ask_again(now + interval);
            return;
        }
        if self.units[u].vr.may_be_unheard(self.read_until) {
            // What waits in the queue behind a flood may be the owner's advert.
            self.units[u].vr.ask_again(now + READ_ON);
            return;
        }
        let ordered = expiry == Expiry::Ordered;
        if ordered && self.takeover_lapsed(u) {
            return;
        }
        let never = self.class(u) >= Class::Drained && !ordered && !self.last_resort(u);
        if never || self.waits_for_order(u) {
            // Drained, or told to wait for an operator: looks again whether that is still so.
            self.units[u].vr.ask_again(now + interval);
            return;
        }
        let second = self.class(u) > Class::Healthy
            || self.frozen(u).is_some()
            || self.away(u)
            || self.owner_brings(u).is_some();
        if matches!(expiry, Expiry::Preempts(_))
            && second
            && let Some(heard) = self.units[u].vr.heard().copied()
        {
            // Second choice by now, told to leave it there, or to be brought the state first: the weaker owner is the
            // owner.
            self.units[u].vr.owner_alive(heard.at);
            return;
        }
        // Woken late: adverts may have been lost meanwhile, listen once more (DESIGN 5.3).
        if self.units[u].vr.lateness(now) > interval && self.units[u].late_rounds < LATE_ROUNDS {
            self.units[u].late_rounds += 1;
            self.units[u].vr.owner_alive(now);
            // Silent holders are asked anew before the new end: what was answered before the pause is old.
            self.stale_wait_over(u);
            self.press_order(u);
            return;
        }
        let released = matches!(expiry, Expiry::Released | Expiry::Unable(_));
        if released && self.owner_lives_on(u, expiry) {
            // It was another host that left: this owner's adverts, or their silence, decide.
            let heard = self.units[u].vr.heard().map_or(now, |h| h.at);
            self.units[u].vr.owner_alive(heard);
            return;
        }
        if let Some(again) = self.second_choice_waits(u, released).filter(|_| !ordered) {
            self.units[u].vr.ask_again(again);
            return;
        }
        let cause = match expiry {
            Expiry::Released => {
                let last = self.last_owner(self.units[u].instance);
                last.filter(|host| self.offered_by(u, *host))
                    .map_or(Cause::Released, Cause::Offered)
            }
            Expiry::Unable(host) if self.offered_by(u, host) => Cause::Offered(host),
            Expiry::Unable(host) => Cause::PeerUnable(host),
            // Who asked speaks, and still holds: that is what the overlap is for.
            Expiry::Ordered if let Some(host) = self.takeover_from(u) => Cause::MovedHere(host),
            Expiry::Ordered => {
                if !self.owner_speaks(u)
                    && let Some(again) = self.stale_holder_forbids(u)
                {
                    self.units[u].vr.ask_again(again);
                    return;
                }
                Cause::Promoted
            }
            Expiry::Preempts(priority) => match self.weaker_owner_silent(u) {
                None => Cause::Preempts(priority),
                Some(silence) => {
                    if let Some(again) = self.stale_holder_forbids(u) {
                        self.units[u].vr.ask_again(again);
                        return;
                    }
                    Cause::Silence(silence)
                }
            },
            Expiry::Silence => {
                let again = self.silence_forbids(u).or_else(|| self.stale_holder_forbids(u));
                if let Some(again) = again {
                    self.units[u].vr.ask_again(again);
                    return;
                }
                Cause::Silence(self.units[u].vr.silence(now))
            }
        };
        if let Some(again) = self.activation_forbids(u, &cause) {
            self.units[u].vr.ask_again(again);
            return;
        }
        if let Some(again) = self.epoch_forbids(u) {
            self.units[u].vr.ask_again(again);
            return;
        }
        let promoted = matches!(cause, Cause::Promoted | Cause::MovedHere(_));
        self.become_active(u, cause.clone());
        for o in self.units_of(self.units[u].instance) {
            // An operator means the instance, with both families.
            if promoted && self.units[o].state() == State::Backup {
                self.become_active(o, cause.clone());
            }
        }
        self.sync_claimed(u);
    }

    /// Did that host let go because others are better?
    fn offered_by(&self, u: UnitIx, host: HostIx) -> bool {
        self.record(host, u).is_some_and(|r| unfit(&r))
    }

    /// Does a host own, by its fresh word, other than the one whose leaving made this timer run out?
    fn owner_lives_on(&self, u: UnitIx, expiry: Expiry) -> bool {
        let gone = match expiry {
            Expiry::Unable(host) => Some(host),
            _ => self.units[u].leaver,
        };
        self.living_owner(u).is_some_and(|owner| gone != Some(owner))
    }

    /// Is an owner known to live?
    pub(super) fn owner_speaks(&self, u: UnitIx) -> bool {
        let now = self.now.mono;
        let unit = &self.units[u];
        self.living_owner(u).is_some()
            || unit.vr.heard().is_some_and(|h| now.since(h.at) < h.interval.duration() * 3)
    }

    /// For how long the owner that is to be preempted has said nothing, when an advert of it is overdue: it may have
    /// died meanwhile, and its kernel would not let go on our advert (DESIGN 5.2).
    fn weaker_owner_silent(&self, u: UnitIx) -> Option<Duration> {
        let heard = self.units[u].vr.heard()?;
        let silence = self.now.mono.since(heard.at);
        // The last word of one that yields ends no wait for the kernel of another.
        let waits = self.units[u].stale.waits() && self.living_owner(u).is_none();
        (waits || silence > heard.interval.duration() * 3 / 2).then_some(silence)
    }

    /// Claims: the advert goes out, the kernel is asked; announcements follow its answer.
    pub(super) fn become_active(&mut self, u: UnitIx, cause: Cause) {
        if self.stopping || self.units[u].state() == State::Initialize {
            return;
        }
        let now = self.now.mono;
        if self.class(u) >= Class::Failing && cause != Cause::Adopted {
            self.units[u].offers.claimed_unfit(now);
        }
        let ix = self.units[u].instance;
        let group_pinned = self.others(u).any(|o| self.units[o].pinned);
        let recalled = self.take_recalled_pin(ix, cause == Cause::Adopted);
        let inherited = self.units[u].inherited.take().filter(|_| cause == Cause::Adopted);
        let kept_pin = inherited.as_ref().is_some_and(|before| before.pinned);
        let ordered = match self.takeover_claims(u, &cause) {
            Some(pin) => pin,
            None => self.ordered(u) || cause == Cause::Promoted,
        };
        self.units[u].pinned = ordered || group_pinned || recalled || kept_pin;
        self.units[u].stretched_sent = 0;
        self.units[u].vr.become_active(now);
        self.units[u].overslept = None;
        self.units[u].late_rounds = 0;
        self.units[u].weaker_run = 0;
        self.units[u].release_asked = None;
        self.units[u].yielding = None;
        self.units[u].last_sent = None;
        self.units[u].farewell = false;
        self.units[u].deferred = None;
        self.units[u].leaver = None;
        self.set_priority(u);
        for voice in &mut self.units[u].voices {
            voice.receiver.counters.master_transitions += 1;
        }
        let priority = self.units[u].vr.params().priority;
        self.advertise(u, priority);
        if inherited.is_none() {
            self.claim_epoch(u, cause == Cause::Adopted);
        }
        self.stale_wait_over(u);
        // Nobody listens for the owner's adverts any more: what kept them away is not known to last.
        self.clear_alarms(ix, |a| matches!(a, Alarm::AdvertPathBroken(_)));
        self.order_hold(u);
        self.owned_here(u);
        self.order_done(u);
        self.entered(u, State::Backup, cause);
        if let Some(before) = inherited {
            self.goes_on(u, &before);
        }
        self.refit(self.units[u].instance, None);
    }

    /// Active hears a stronger advert: one last advert makes the winner announce (DESIGN 5.4), then Backup.
    pub(super) fn yield_to(&mut self, u: UnitIx, winner: Heard, tie_break: bool) {
        let cause = if tie_break { Cause::TieBreak } else { Cause::Outranked(winner.priority) };
        self.units[u].vr.step_down(winner);
        self.last_advert(u, winner.priority);
        self.free_after(u, winner.src);
        self.left_active(u, cause);
        self.sync_yielded(u);
    }

    /// The advert of a host that yielded: weaker than the winner's, so that the winner answers and announces.
    pub(super) fn last_advert(&mut self, u: UnitIx, winner: u8) {
        let own = self.units[u].vr.params().priority;
        self.advertise(u, if own < winner { own } else { WEAKEST });
    }

    /// Active becomes Backup without an advert: it may not own any more, or another owner was found.
    pub(super) fn stand_back(&mut self, u: UnitIx, cause: Cause, winner: Option<Heard>) {
        let now = self.now.mono;
        let slept = self.units[u].overslept.is_some() || matches!(cause, Cause::Overslept(_));
        if slept || cause == Cause::LeaseEnded {
            // It stood still: the time in which it has to be healthy before it preempts begins anew.
            self.units[u].gates.unusable(now, true);
            self.units[u].gates.usable(now);
        }
        self.units[u].vr.listen(now);
        if let Some(winner) = winner {
            self.units[u].vr.step_down(winner);
        }
        self.order_free(u);
        self.left_active(u, cause);
        self.sync_yielded(u);
        self.rearm(u);
    }

    /// Active becomes Backup for an owner of the group that does not have the addresses yet: they stay until then.
    pub(super) fn stand_back_for(&mut self, u: UnitIx, host: HostIx, cause: Cause) {
        self.units[u].vr.listen(self.now.mono);
        self.keep_for(u, host);
        self.left_active(u, cause);
        self.sync_yielded(u);
        self.rearm(u);
    }

    pub(super) fn left_active(&mut self, u: UnitIx, cause: Cause) {
        self.copies_after(self.units[u].instance, &cause);
        self.units[u].announce.cancel();
        self.units[u].overslept = None;
        self.units[u].pinned = false;
        self.units[u].deferred = None;
        self.set_priority(u);
        self.refresh_preemption(u);
        self.lost(u, true, &cause);
        self.entered(u, State::Active, cause);
        self.refit(self.units[u].instance, None);
    }

    /// Cannot own any more: priority 0 where a packet can still leave, then Initialize.
    pub(super) fn fault(&mut self, u: UnitIx, cause: Cause) {
        let from = self.units[u].state();
        if from == State::Initialize {
            return;
        }
        self.units[u].inherited = None;
        let was_active = self.units[u].is_active();
        let holds = self.units[u].keeps_addresses();
        if holds {
            self.copies_after(self.units[u].instance, &cause);
        }
        // Who stood still may have been followed as owner: it leaves without a word (DESIGN 5.3).
        if was_active && self.units[u].overslept.is_none() {
            self.advertise(u, 0);
        }
        self.units[u].vr.shut_down();
        self.units[u].announce.cancel();
        self.units[u].overslept = None;
        self.units[u].leaving = None;
        self.units[u].gates.unusable(self.now.mono, was_active);
        self.units[u].pinned = false;
        self.units[u].farewell = false;
        self.units[u].deferred = None;
        self.units[u].parked = None;
        let instance = self.units[u].instance;
        if self.units_of(instance).into_iter().all(|o| self.units[o].state() == State::Initialize) {
            // Else the other family goes on with its activation, or with what an operator ordered.
            self.preparation_off(instance);
            self.order_done(u);
        }
        self.set_priority(u);
        self.lost(u, was_active, &cause);
        self.stale_wait_over(u);
        if holds {
            self.order_free(u);
        }
        self.entered(u, from, cause);
        self.sync_faulted(u);
        self.rearm(u);
    }

    /// Stays in Initialize for `cause`.
    pub(super) fn cannot_start(&mut self, u: UnitIx, cause: Cause) {
        self.entered(u, State::Initialize, cause);
    }

    /// Initialize: starts when the link runs, the leading voice has a source address and nothing bars it.
    pub(super) fn try_start(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let unit = &self.units[u];
        let link = &self.links[usize::from(unit.link.0)];
        let fit = self.fitness(unit.instance).health.class;
        let barred = now < unit.barred_until || unit.leaving.is_some() || fit == Class::Unable;
        let leaves = self.stopping || self.retires(unit.instance);
        if leaves || !link.usable() || unit.source().is_none() || barred {
            return;
        }
        if fit == Class::Healthy {
            self.units[u].gates.usable(now);
        }
        self.units[u].vr.listen(now);
        self.goes_on_listening(u);
        self.refresh_preemption(u);
        let cause =
            if self.units[u].cause == Cause::Startup { Cause::Startup } else { Cause::LinkUp };
        self.entered(u, State::Initialize, cause);
        self.listened_before(u);
        let owner = self.instance(u).priority.is_owner();
        // An owner of the address waits for nobody it cannot know (RFC 9568 section 6.4.1); with vipd peers it
        // listens first (DESIGN 5.7).
        if self.may_adopt(u) {
            self.units[u].adopted_until = now + self.units[u].interval();
            self.become_active(u, Cause::Adopted);
        } else if owner
            && self.peers.is_none()
            && !self.away(u)
            && self.backup_until.is_none()
            && self.own_class(u) == Class::Healthy
            && self.instance(u).standby.kind() == StandbyKind::Hot
        {
            self.become_active(u, Cause::Startup);
        }
        self.rearm(u);
    }

    /// Sets Preempt_Mode of the state machine to what the gates say now.
    pub(super) fn refresh_preemption(&mut self, u: UnitIx) {
        let open = self.preempt_gate(u).is_none();
        let params = *self.units[u].vr.params();
        if params.preempt != open {
            // The next weaker advert decides; a timer that runs towards preemption goes on.
            self.units[u].vr.set_params(Params { preempt: open, ..params });
        }
    }

    /// The gate that keeps this unit from preempting, if one does.
    pub(super) fn preempt_gate(&self, u: UnitIx) -> Option<Closed> {
        let instance = self.instance(u);
        // Each advert asks: the rest of the group is looked at only where something is wrong.
        let class = if self.unwell > 0 { self.class(u) } else { self.own_class(u) };
        if class > Class::Healthy {
            if self.stale(u) {
                return Some(Closed::StaleReplica);
            }
            return Some(Closed::SecondChoice(class));
        }
        if self.waits_for_order(u) {
            return Some(Closed::Cold);
        }
        if let Some(until) = self.frozen(u) {
            return Some(Closed::Frozen(until));
        }
        if self.away(u) {
            return Some(Closed::MovedAway);
        }
        let gates = &self.units[u].gates;
        let closed = match instance.priority.is_owner() {
            true => None,
            false => gates.closed(
                self.now.mono,
                instance.preempt,
                instance.preempt_delay,
                instance.hold_down,
            ),
        };
        closed.or_else(|| self.owner_brings(u).map(Closed::OwnerBrings))
    }

    /// The owner was heard on the service segment: what doubted it is over.
    pub(super) fn owner_heard(&mut self, u: UnitIx) {
        self.units[u].late_rounds = 0;
        self.stale_wait_over(u);
        self.clear_alarms(self.units[u].instance, |a| {
            matches!(a, Alarm::AdvertPathBroken(_) | Alarm::DualActive(_))
        });
    }

    /// Books a change of state: time, cause, event; peers hear of it at once.
    pub(super) fn entered(&mut self, u: UnitIx, from: State, cause: Cause) {
        let now = self.now.mono;
        let unit = &mut self.units[u];
        unit.since = now;
        unit.cause = cause.clone();
        let to = unit.state();
        let owner = match to {
            State::Active => unit.source(),
            _ => unit.vr.heard().map(|h| h.src),
        };
        let family = (unit.voices.len() == 1).then(|| unit.voices[0].family);
        let (instance, priority) = (unit.instance, unit.vr.params().priority);
        let epoch = self.epoch_of(instance);
        self.event(
            Some(instance),
            family,
            EventKind::Transition { from, to, cause: cause.clone(), owner, priority, epoch },
        );
        self.urgent();
        self.orders_follow(u, &cause);
        self.instance_checks(instance);
        self.look_for_standby(u);
        self.rearm(u);
    }

    /// May not start before `until`.
    pub(super) fn bar(&mut self, u: UnitIx, until: Instant) {
        self.units[u].barred_until = until;
        self.rearm(u);
    }
}
