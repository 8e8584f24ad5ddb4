//! What operators order: judged first, then carried out; each operation is reported until it is done or aborted.
//!
//! Rooms: `judge` would it be carried out; `eligible` who may take over; `handover` the move at its source, `barrier`
//! its state, `takeover` the move at its target, `preempt` one that a stronger host asks for; `promote` this host is to own;
//! `drain`, `freeze`, `pins` (pin, failback, priority) what stands until it is taken back; `operation` what is reported of all of
//! them; `memory` what outlives a restart.
//!
//! An operation lives in the agent that was told of it: it waits for instances, each of which ends by itself and within a
//! bounded time, and ends with the last of them.

mod barrier;
mod drain;
mod eligible;
mod freeze;
mod handover;
mod judge;
mod memory;
mod operation;
mod pins;
mod preempt;
mod promote;
mod takeover;

use super::io::{Away, Cause, OperationStep, OperatorOrder, OrderRecord};
use super::reload::Renumber;
use super::snapshot::MoveView;
use super::{Engine, Slot, UnitIx};
use crate::config::model::{Model, StandbyKind};
use crate::time::Instant;
use crate::types::{Epoch, HostIx, InstanceIx, State};
use crate::wire::heartbeat::{self, InstanceRecord, MoveAnswer, Refusal};
pub(super) use barrier::{Closing, NOBODY};
use drain::Drain;
use freeze::FreezeWord;
use handover::{LONGEST, Moving};
use operation::{Operation, Waits};
use pins::PriorityOrder;
use preempt::Tried;
use std::collections::BTreeSet;
use takeover::Takeover;

/// What operators ordered of this host.
#[derive(Clone, Default)]
pub(super) struct Orders {
    /// The whole host is drained.
    host: Option<Drain>,
    /// What was stored of that.
    told: OrderRecord,
    /// By instance.
    all: Vec<Ordered>,
    /// Not ended yet.
    running: Vec<Operation>,
    /// Instances that were moved away from here.
    away: usize,
    /// Is any instance frozen?
    some_frozen: bool,
    /// Requests to peers so far.
    requests: u64,
}

/// What operators ordered of one instance.
#[derive(Clone, Default)]
struct Ordered {
    drain: Option<Drain>,
    freeze: Option<FreezeWord>,
    priority: Option<PriorityOrder>,
    away: Option<Away>,
    /// The pin of the last run: goes on with the ownership that it belongs to, by adoption.
    recalled_pin: Option<Epoch>,
    /// Peers are told of a failback until then.
    failback_until: Option<Instant>,
    /// On its way from here.
    moving: Option<Moving>,
    /// Its writer is quiet for the move of that order.
    barrier: Option<u64>,
    /// Stronger hosts ask for it since then.
    asked_since: Option<Instant>,
    /// Those to which it could not be brought.
    tried: Vec<Tried>,
    /// On its way to here.
    takeover: Option<Takeover>,
    /// What is said to the host that asked last.
    answer: Option<MoveAnswer>,
    /// What was stored.
    told: OrderRecord,
}

impl Orders {
    /// Goes on with what was ordered under another configuration. What was about things that are gone has ended.
    pub(super) fn go_on(&mut self, before: Self, renumber: &Renumber) {
        let Self { host, told, all, running, away: _, some_frozen, requests } = before;
        (self.host, self.told, self.requests) = (host, told, requests);
        self.some_frozen = some_frozen;
        for (was, mut ordered) in (0u16..).map(InstanceIx).zip(all) {
            let Some(ix) = renumber.instance(was) else { continue };
            ordered.moving = ordered.moving.and_then(|m| m.renumbered(renumber));
            ordered.takeover = ordered.takeover.and_then(|t| t.renumbered(renumber));
            let tried = ordered.tried.into_iter();
            ordered.tried = tried.filter_map(|t| t.renumbered(renumber)).collect();
            self.all[usize::from(ix.0)] = ordered;
        }
        self.away = self.all.iter().filter(|o| o.away.is_some()).count();
        self.running = running
            .into_iter()
            .map(|o| Operation {
                instance: o.instance.and_then(|ix| renumber.instance(ix)),
                pending: o.pending.iter().filter_map(|ix| renumber.instance(*ix)).collect(),
                ..o
            })
            .collect();
    }

    pub(super) fn new(model: &Model) -> Self {
        Self {
            host: None,
            told: OrderRecord::default(),
            all: model.instances.iter().map(|_| Ordered::default()).collect(),
            running: Vec::new(),
            away: 0,
            some_frozen: false,
            requests: 0,
        }
    }
}

impl Engine {
    fn ordered_of(&self, ix: InstanceIx) -> &Ordered {
        &self.orders.all[usize::from(ix.0)]
    }

    fn ordered_mut(&mut self, ix: InstanceIx) -> &mut Ordered {
        &mut self.orders.all[usize::from(ix.0)]
    }

    /// An operator says so: what [`Engine::judge`] refuses ends at once.
    pub(super) fn on_order(&mut self, id: u64, instance: Option<InstanceIx>, order: OperatorOrder) {
        let judged = match self.judge(instance, &order) {
            Ok(judged) => judged,
            Err(why) => {
                self.operation(id, instance, OperationStep::Aborted(why.into()));
                return;
            }
        };
        self.operation(id, instance, OperationStep::Started);
        match order {
            OperatorOrder::Acknowledge => {
                for ix in self.meant(instance) {
                    self.acknowledge(ix);
                    self.try_afresh(ix);
                }
            }
            OperatorOrder::Promote { .. } => return self.start_promotion(id, instance),
            OperatorOrder::Move { to, force } => return self.start_move(id, instance, to, force),
            OperatorOrder::Release => return self.start_release(id, instance),
            OperatorOrder::Failback => return self.start_failback(id, instance),
            OperatorOrder::Drain { until, last_resort, allow_outage } => {
                let drain = Drain { until: until.unwrap_or(Instant::MAX), last_resort };
                return self.start_drain(id, instance, drain, allow_outage);
            }
            OperatorOrder::Undrain => self.undrain(instance),
            OperatorOrder::SetPriority { priority, until } => {
                self.meant(instance)
                    .into_iter()
                    .for_each(|ix| self.order_priority(ix, priority, until));
            }
            OperatorOrder::Freeze { until } => {
                self.freeze(instance, until.unwrap_or(Instant::MAX));
            }
            OperatorOrder::Thaw => self.freeze(instance, Instant::ZERO),
        }
        self.plan_orders();
        self.operation(id, instance, OperationStep::Done(judged.into()));
    }

    /// The instances that an order is about.
    fn meant(&self, instance: Option<InstanceIx>) -> Vec<InstanceIx> {
        match instance {
            Some(ix) => vec![ix],
            None => self.model.iter().map(|(ix, _)| ix).collect(),
        }
    }

    /// The same, with all that moves together with them.
    fn meant_groups(&self, instance: Option<InstanceIx>) -> Vec<InstanceIx> {
        let all = self.meant(instance).into_iter().flat_map(|ix| self.together(ix));
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The instances that move with this one, itself included.
    fn together(&self, ix: InstanceIx) -> BTreeSet<InstanceIx> {
        let groups = self.units_of(ix).into_iter().flat_map(|u| self.group(u));
        groups.chain([ix]).collect()
    }

    /// Those of `instances` that this host owns or hands over.
    fn owned(&self, instances: Vec<InstanceIx>) -> Vec<InstanceIx> {
        let owns = |ix: &InstanceIx| {
            self.units_of(*ix)
                .into_iter()
                .any(|u| self.units[u].is_active() || self.units[u].leaving.is_some())
        };
        instances.into_iter().filter(owns).collect()
    }

    fn name(&self, ix: InstanceIx) -> &str {
        &self.model.instance(ix).name
    }

    fn names(&self, instances: impl IntoIterator<Item = InstanceIx>) -> String {
        instances.into_iter().map(|ix| self.name(ix)).collect::<Vec<_>>().join(", ")
    }

    /// The unit changed its state for `cause`: what was ordered of its instance may have come to its end.
    pub(super) fn orders_follow(&mut self, u: UnitIx, cause: &Cause) {
        let ix = self.units[u].instance;
        let active = self.units[u].is_active();
        if active {
            self.set_away(ix, None);
        }
        let unable = self.units[u].state() == State::Initialize;
        if unable {
            self.takeover_failed(ix, Refusal::Unable);
        }
        if !active {
            self.ordered_mut(ix).takeover.take_if(|t| t.claimed.is_some());
        }
        self.move_follows(u, cause);
        if !active {
            self.try_afresh(ix);
        }
        self.keep(ix);
        if active {
            self.end_waits(ix, Waits::Promotion, |name| Ok(format!("{name} is active here")));
        } else if unable {
            self.end_waits(ix, Waits::Promotion, |name| {
                Err(format!("{name} cannot be active here any more: see `vipd status`"))
            });
        }
    }

    /// The instance leaves, because of `why`: what operators wait for of it will not come.
    pub(super) fn orders_withdraw(&mut self, ix: InstanceIx, why: &str) {
        let ordered = self.ordered_mut(ix);
        ordered.moving = None;
        ordered.takeover = None;
        ordered.answer = None;
        self.barrier_over(ix);
        self.order_withdrawn(ix);
        let waits = self.orders.running.iter().filter(|o| o.pending.contains(&ix));
        let ids: Vec<u64> = waits.map(|o| o.id).collect();
        for id in ids {
            self.leg_ended(id, ix, Err(why.to_owned()));
        }
    }

    /// The same for moves to and from hosts that the next configuration does not have.
    pub(super) fn orders_forget(&mut self, renumber: &Renumber) {
        for n in 0..self.orders.all.len() {
            let ix = InstanceIx(u16::try_from(n).unwrap_or(u16::MAX));
            let ordered = self.ordered_of(ix);
            let to = ordered.moving.as_ref().and_then(|m| m.to);
            let from = ordered.takeover.as_ref().map(|t| t.from);
            if to.into_iter().chain(from).any(|host| renumber.host(host).is_none()) {
                let name = self.name(ix).to_owned();
                self.orders_withdraw(
                    ix,
                    &format!("{name}: the other host is not configured any more"),
                );
            }
        }
    }

    /// The agent stops: nothing that was ordered goes on, and the stop hands over what is owned.
    pub(super) fn orders_stop(&mut self) {
        self.end_orders();
    }

    /// Nothing that was ordered goes on.
    fn end_orders(&mut self) {
        for n in 0..self.orders.all.len() {
            let ix = InstanceIx(u16::try_from(n).unwrap_or(u16::MAX));
            self.orders.all[n].moving = None;
            self.barrier_over(ix);
            self.orders.all[n].takeover = None;
            // A promotion that was ordered here as well: hooks that were asked for it hear that it does not come.
            self.withdraw(ix);
        }
        for operation in &mut self.orders.running {
            operation.pending.clear();
            operation
                .failed
                .push("the agent was told to stop, which hands over what it owns".into());
        }
        self.close_operations();
    }

    // Time --------------------------------------------------------------------------------------------------

    /// When the next thing that was ordered has to be looked at.
    pub(super) fn plan_orders(&mut self) {
        let all = (0u16..).map(InstanceIx).zip(&self.orders.all);
        let times = all.flat_map(|(ix, o)| {
            let moving = o.moving.as_ref().filter(|_| !self.waits_for_group(ix));
            [
                o.drain.map(|d| d.until),
                o.freeze.map(|f| f.until).filter(|at| *at > Instant::ZERO),
                o.priority.map(|p| p.until),
                o.failback_until,
                moving.map(Moving::deadline),
                o.takeover.as_ref().map(|t| t.lapses()),
            ]
        });
        let running = self.orders.running.iter().map(|o| Some(o.until));
        let host = self.orders.host.map(|d| d.until);
        let closing = self.closing.as_ref().map(Closing::deadline);
        let at = times
            .chain(closing.map(Some))
            .chain([self.retiring.deadline()])
            .chain(running)
            .chain([host])
            .flatten()
            .min()
            .unwrap_or(Instant::MAX);
        self.set_slot(Slot::Orders, at);
    }

    pub(super) fn orders_due(&mut self) {
        self.drains_due();
        self.freezes_due();
        for n in 0..self.orders.all.len() {
            let ix = InstanceIx(u16::try_from(n).unwrap_or(u16::MAX));
            self.priority_due_over(ix);
            self.failback_told(ix);
            self.move_due(ix);
            self.takeover_due(ix);
        }
        self.operations_due();
        // Before the next look is planned: what has taken too long would be due again at once, for ever.
        self.close();
        self.follow_retirement();
        self.plan_orders();
    }

    // Peers -------------------------------------------------------------------------------------------------

    /// What this host says of the orders of an instance.
    pub(super) fn told_orders(&self, ix: InstanceIx) -> heartbeat::Orders {
        let ordered = self.ordered_of(ix);
        let pinned = |u: UnitIx| self.units[u].pinned && self.units[u].is_active();
        heartbeat::Orders {
            pinned: self.units_of(ix).into_iter().any(pinned),
            failback: ordered.failback_until.is_some_and(|until| until > self.now.mono),
            request: self.told_request(ix),
            answer: ordered.answer.map(|a| MoveAnswer { ready: self.holds_ready(ix), ..a }),
            freeze: self.told_freeze(ix),
        }
    }

    /// A peer spoke of an instance.
    pub(super) fn heard_orders(
        &mut self,
        host: HostIx,
        ix: InstanceIx,
        old: Option<&InstanceRecord>,
        new: &InstanceRecord,
        at: Instant,
    ) {
        if let Some(freeze) = new.orders.freeze {
            self.heard_freeze(ix, freeze);
        }
        self.heard_request(host, ix, new, at);
        self.heard_answer(host, ix, new);
        self.heard_pins(host, ix, old, new);
    }

    /// How a move looks to those who show it.
    pub(super) fn move_view(&self, ix: InstanceIx) -> Option<MoveView> {
        let ordered = self.ordered_of(ix);
        if let Some(moving) = &ordered.moving {
            return Some(MoveView::To(moving.to));
        }
        let takeover = ordered.takeover.as_ref().filter(|t| t.claimed.is_none())?;
        Some(MoveView::From(takeover.from))
    }

    /// Is this host a cold standby of the instance?
    fn is_cold(&self, ix: InstanceIx, host: HostIx) -> bool {
        let kind = self.model.instance(ix).standbys.get(usize::from(host.0)).copied().flatten();
        kind == Some(StandbyKind::Cold)
    }
}
