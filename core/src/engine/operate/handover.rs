//! A move at its source: asks the target, keeps the addresses until that one has them, then lets go (DESIGN 5.5, 5.6).
//!
//! The request stands in the heartbeats for as long as the move lasts. The target claims first; what it says with its
//! first advert or heartbeat as owner makes the source hand over (`leave`). Whatever fails before that leaves the source
//! as owner, whatever fails after it as well, until the target was seen to hold the addresses. A foreign successor is
//! offered the addresses by priority 0, as in a clean stop.

use super::super::io::{Away, Cause};
use super::super::reload::Renumber;
use super::super::{Engine, UnitIx};
use super::Waits;
use super::barrier::Sync;
use crate::time::{Duration, Instant};
use crate::types::{HostIx, InstanceIx, State};
use crate::vrrp::Heard;
use crate::wire::heartbeat::{InstanceRecord, MoveAnswer, MoveRequest, Refusal};

/// Beyond the intervals that it takes to be heard: answers, kernels, timers.
pub(super) const SLACK: Duration = Duration::from_secs(1);
/// No operation lasts longer than this, whatever was promised.
pub(super) const LONGEST: Duration = Duration::from_secs(15 * 60);

/// An instance on its way from here.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    /// Which operation.
    pub(super) operation: u64,
    /// To whom; `None`: to whoever comes.
    pub(super) to: Option<HostIx>,
    /// Number of the request.
    number: u64,
    pub(super) force: bool,
    /// The new owner keeps it.
    pin: bool,
    /// Nobody ordered it: the target outranks this host.
    pub(super) preempts: bool,
    /// Let go even where nobody comes.
    insists: bool,
    /// The target has claimed, or the addresses are offered: `leave` brings it to an end.
    handing: bool,
    /// The target said that it takes over.
    answered: bool,
    /// Given up then, if nobody has claimed.
    pub(super) until: Instant,
    /// Where its state is.
    pub(super) sync: Sync,
    /// What the target does not have, where an operator insisted.
    pub(super) unsynced: Option<String>,
}

impl Moving {
    /// The same with the other host's new number; `None`: it has none.
    pub(super) fn renumbered(self, renumber: &Renumber) -> Option<Self> {
        let to = match self.to {
            Some(host) => Some(renumber.host(host)?),
            None => None,
        };
        Some(Self { to, ..self })
    }

    /// When it has to be looked at.
    pub(super) fn deadline(&self) -> Instant {
        if self.handing { Instant::MAX } else { self.until }
    }
}

impl Engine {
    pub(super) fn start_move(
        &mut self,
        id: u64,
        instance: Option<InstanceIx>,
        to: Option<HostIx>,
        force: bool,
    ) {
        let owned = self.owned(self.meant_groups(instance));
        let targets: Vec<_> =
            owned.iter().map(|ix| (*ix, self.target(*ix, to, force).ok().flatten())).collect();
        self.open(id, instance, Waits::Move, owned, LONGEST);
        for (ix, target) in targets {
            match target {
                Some(host) => self.ask(id, ix, host, force, true),
                None => self.offer_to_anybody(id, ix, true, false),
            }
        }
        self.plan_orders();
    }

    /// Lets go to whoever comes first, without a pin.
    pub(super) fn start_release(&mut self, id: u64, instance: Option<InstanceIx>) {
        let owned = self.owned(self.meant_groups(instance));
        self.open(id, instance, Waits::Move, owned.clone(), LONGEST);
        for ix in owned {
            self.offer_to_anybody(id, ix, true, false);
        }
        self.plan_orders();
    }

    /// Asks `host` to take over the instance.
    pub(super) fn ask(&mut self, id: u64, ix: InstanceIx, host: HostIx, force: bool, pin: bool) {
        self.orders.requests += 1;
        let boot = self.peers.as_ref().map_or(0, |p| p.boot);
        let number = (boot << 24) | (self.orders.requests & 0xff_ffff);
        let until = self.now.mono + self.answer_within(ix);
        let moving = Moving {
            operation: id,
            to: Some(host),
            number,
            force,
            pin,
            preempts: false,
            insists: false,
            handing: false,
            answered: false,
            until,
            sync: if self.takes_state(ix) { Sync::Preparing } else { Sync::Passed },
            unsynced: None,
        };
        self.ordered_mut(ix).moving = Some(moving);
        let text = format!("{}: {} is asked to take over", self.name(ix), self.host_name(host));
        self.progress(id, text);
        self.urgent();
    }

    /// Says priority 0 and hands over to whoever comes; `away`: this host does not take it back by preemption.
    pub(super) fn offer_to_anybody(&mut self, id: u64, ix: InstanceIx, away: bool, insists: bool) {
        let moving = Moving {
            operation: id,
            to: None,
            number: 0,
            force: false,
            pin: false,
            preempts: false,
            insists,
            handing: true,
            answered: false,
            until: Instant::MAX,
            sync: Sync::Passed,
            unsynced: None,
        };
        self.ordered_mut(ix).moving = Some(moving);
        if away {
            self.set_away(ix, Some(Away::Open));
        }
        let text = format!("{}: offered to whoever comes", self.name(ix));
        self.progress(id, text);
        for u in self.units_of(ix) {
            if !self.units[u].is_active() {
                continue;
            }
            let cause = if away { Cause::MovedAway(None) } else { Cause::Drained };
            if insists {
                self.give(u, cause);
            } else {
                self.offer(u, cause);
            }
            self.refresh_preemption(u);
            self.rearm(u);
        }
        self.keep(ix);
    }

    /// The same, and where that host does not take it, to whoever comes, or to nobody.
    pub(super) fn insist_on_move(&mut self, ix: InstanceIx, insists: bool) {
        if let Some(moving) = &mut self.ordered_mut(ix).moving {
            moving.insists = insists;
        }
    }

    /// How long an answer, and then the claim, may take.
    pub(super) fn answer_within(&self, ix: InstanceIx) -> Duration {
        let beat = self.peers.as_ref().map_or(Duration::ZERO, |p| p.config.interval.duration());
        let advert = self.model.instance(ix).interval.duration();
        beat.max(advert) * 4 + SLACK
    }

    /// What the heartbeats say of a move from here.
    pub(super) fn told_request(&self, ix: InstanceIx) -> Option<MoveRequest> {
        let moving = self.ordered_of(ix).moving.as_ref()?;
        // The target stops before this host does: a claim after the end of the operation would be nobody's order.
        let hold = !self.may_be_claimed(ix);
        // One that only holds makes nobody claim, however long the source lives: it ends when it is not heard again.
        let left = match hold {
            true => LONGEST,
            false => moving.until.since(self.now.mono).saturating_sub(self.answer_within(ix) / 2),
        };
        Some(MoveRequest {
            to: self.host_hash(moving.to?),
            number: moving.number,
            left_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            force: moving.force,
            pin: moving.pin,
            preempts: moving.preempts,
            hold,
        })
    }

    /// A peer spoke of the instance: its answer, if there is one.
    pub(super) fn heard_answer(&mut self, host: HostIx, ix: InstanceIx, record: &InstanceRecord) {
        let now = self.now.mono;
        let own = self.peers.as_ref().map_or(0, |p| p.own_hash);
        let slack = self.answer_within(ix);
        let Some(moving) = &mut self.orders.all[usize::from(ix.0)].moving else { return };
        let mine = |a: &MoveAnswer| a.to == own && a.number == moving.number;
        let waits = moving.to == Some(host) && !moving.handing;
        let Some(answer) = record.orders.answer.filter(mine).filter(|_| waits) else { return };
        let id = moving.operation;
        match answer.refusal {
            Some(why) => {
                if matches!(why, Refusal::Starting | Refusal::Stale) {
                    self.successor_unready(ix);
                }
                let why = self.refusal_text(host, ix, why);
                self.move_ended(ix, Err(why));
            }
            None if !moving.answered => {
                moving.answered = true;
                let ready = Duration::from_millis(u64::from(answer.ready_in_ms)).min(LONGEST / 2);
                moving.until = now + ready + slack;
                self.successor_needs(ix, ready);
                if !ready.is_zero() {
                    let (name, host) = (self.name(ix), self.host_name(host));
                    let text = format!("{name}: {host} gets ready, which may take {ready:?}");
                    self.progress(id, text);
                }
                self.plan_orders();
            }
            None => {}
        }
        self.target_ready(ix, &answer);
    }

    /// The target owns by its own word, `heard` or of its heartbeat: this host hands over to it. False: no move to that
    /// host is on.
    pub(in crate::engine) fn move_taken(
        &mut self,
        u: UnitIx,
        host: HostIx,
        heard: Option<Heard>,
    ) -> bool {
        let ix = self.units[u].instance;
        // One that claims before it may is not followed: its state is not complete.
        let may = self.may_be_claimed(ix);
        let moving = self.ordered_mut(ix).moving.as_mut();
        let Some(moving) = moving.filter(|m| may && m.to == Some(host)) else { return false };
        let (id, first) = (moving.operation, !std::mem::replace(&mut moving.handing, true));
        if moving.pin {
            self.set_away(ix, Some(Away::Pinned));
        }
        if first {
            let (name, host) = (self.name(ix), self.host_name(host));
            let text = format!("{name}: {host} has claimed; both hold it for the overlap");
            self.progress(id, text);
            self.plan_orders();
        }
        self.hand_over(u, host, heard);
        self.keep(ix);
        true
    }

    /// Does the host that took over here hand over in turn, by a newer order, to a third? It holds the addresses until
    /// that one does, and this host is asked for nothing.
    pub(in crate::engine) fn hands_on(&self, new: &InstanceRecord) -> bool {
        let own = self.peers.as_ref().map(|p| p.own_hash);
        new.holds && new.orders.request.is_some_and(|request| Some(request.to) != own)
    }

    /// Is a move of the unit's instance on?
    pub(in crate::engine) fn moving(&self, u: UnitIx) -> bool {
        self.is_moving(self.units[u].instance)
    }

    /// Does the unit's instance go to a host that outranks this one, and nobody ordered it?
    pub(in crate::engine) fn is_preempted(&self, u: UnitIx) -> bool {
        self.ordered_of(self.units[u].instance).moving.as_ref().is_some_and(|m| m.preempts)
    }

    /// The unit changed its state for `cause`.
    pub(in crate::engine) fn move_follows(&mut self, u: UnitIx, cause: &Cause) {
        let ix = self.units[u].instance;
        let Some(moving) = &self.ordered_of(ix).moving else { return };
        let (to, handing) = (moving.to, moving.handing);
        let name = self.name(ix);
        if self.units[u].is_active() {
            if handing {
                let why = match to {
                    Some(host) => format!(
                        "{name} stays here: {} claimed it and did not hold it, see `vipd status` there",
                        self.host_name(host)
                    ),
                    None => format!("{name} stays here: nobody took over"),
                };
                self.move_ended(ix, Err(why));
            }
            return;
        }
        let left = |o: UnitIx| {
            let unit = &self.units[o];
            // Handed over to a host whose kernel does not have it yet, it may come back.
            let comes_back = handing && unit.yielding.is_some();
            !unit.is_active() && unit.leaving.is_none() && !comes_back
        };
        if !self.units_of(ix).into_iter().all(left) {
            return;
        }
        let result = match (cause, to) {
            (Cause::MovedAway(_), Some(host)) if handing => {
                Ok(format!("{name} is on {}", self.host_name(host)))
            }
            // With the member of its group that went first.
            (Cause::SyncGroup, Some(host)) => Ok(format!("{name} is on {}", self.host_name(host))),
            (Cause::MovedAway(_) | Cause::Drained | Cause::SyncGroup, None) => {
                let owner = self.units[u].vr.heard().map(|h| h.src);
                Ok(match owner {
                    Some(owner) => format!("{name} is on {owner}"),
                    None => format!("{name} was released, and nobody took over"),
                })
            }
            _ => Err(format!(
                "{name} left this host meanwhile for another reason: see `vipd history`"
            )),
        };
        self.move_ended(ix, result);
    }

    /// The move of the instance is over, one way or the other.
    pub(super) fn move_ended(&mut self, ix: InstanceIx, result: Result<String, String>) {
        let held = self.takes_state(ix) && !self.may_be_claimed(ix);
        let Some(moving) = self.ordered_mut(ix).moving.take() else { return };
        self.barrier_over(ix);
        if let (Err(why), Some(host), true) = (&result, moving.to, moving.preempts) {
            self.not_brought(ix, host, why);
        }
        if held && result.is_err() {
            self.group_stays(ix);
        }
        let result = match (result, &moving.unsynced) {
            (Ok(done), Some(why)) => {
                Ok(format!("{done}, without what it lacks of the state: {why}"))
            }
            (result, _) => result,
        };
        if let Err(why) = &result {
            self.left_behind(ix, why);
        }
        // Told at once: a target that still gets ready need not go on.
        self.urgent();
        let owns = self.units_of(ix).into_iter().any(|u| self.units[u].is_active());
        if result.is_err() && moving.insists && moving.to.is_some() && owns && !self.stopping {
            return self.offer_to_anybody(moving.operation, ix, false, true);
        }
        self.leg_ended(moving.operation, ix, result);
        self.failbacks_done();
        for u in self.units_of(ix) {
            self.refresh_preemption(u);
            self.consider_hand_over(u);
            self.rearm(u);
        }
        self.keep(ix);
    }

    /// Nobody claimed in time.
    pub(super) fn move_due(&mut self, ix: InstanceIx) {
        let Some(moving) = &self.ordered_of(ix).moving else { return };
        if moving.deadline() > self.now.mono || self.waits_for_group(ix) {
            return;
        }
        if matches!(moving.sync, Sync::Running(_)) {
            return self.barrier_failed(ix, "it took too long");
        }
        let Some(host) = moving.to else { return };
        let (name, host, answered) = (self.name(ix), self.host_name(host), moving.answered);
        let why = if answered {
            format!("{name} stays here: {host} wanted to take over and did not in time")
        } else {
            format!("{name} stays here: {host} did not answer; is its release older than this one?")
        };
        self.move_ended(ix, Err(why));
    }

    /// A peer fell silent on all paths: it takes over nothing that it has not claimed.
    pub(in crate::engine) fn move_target_gone(&mut self, gone: HostIx) {
        let asked: Vec<InstanceIx> = (0u16..)
            .map(InstanceIx)
            .zip(&self.orders.all)
            .filter(|(_, o)| o.moving.as_ref().is_some_and(|m| m.to == Some(gone) && !m.handing))
            .map(|(ix, _)| ix)
            .collect();
        for ix in asked {
            let why = format!("{} stays here: {} fell silent", self.name(ix), self.host_name(gone));
            self.move_ended(ix, Err(why));
        }
    }

    /// Does an order explain that the address went from `before` to another host?
    pub(in crate::engine) fn move_was_ordered(&self, u: UnitIx, before: HostIx) -> bool {
        let ordered = |r: InstanceRecord| r.orders.request.is_some_and(|request| !request.preempts);
        self.record(before, u).is_some_and(ordered)
            || self.living_peers(u).any(|(_, r)| r.state == State::Active && r.orders.pinned)
    }

    pub(super) fn host_name(&self, host: HostIx) -> &str {
        self.model.host_name(host)
    }
}
