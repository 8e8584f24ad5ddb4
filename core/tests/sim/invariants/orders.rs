//! What must come of the orders of operators: every operation ends in time, a move loses nothing and holds.

use super::{Rule, SLACK, Watch};
use crate::host::Agent;
use crate::operators::patience;
use crate::scenario::{host_name, mac};
use std::net::IpAddr;
use vipd_core::engine::io::OperatorOrder;
use vipd_core::time::{Duration, Instant};

/// What a promotion may take (`Engine`: a minute beyond what it waits for).
const PROMOTION: Duration = Duration::from_secs(60);
/// An agent announces this long before the release, and right after it (DESIGN 5.5).
const NOTICE: Duration = Duration::from_millis(20);

/// An order that was accepted and has not ended.
#[derive(Clone, Debug)]
struct Open {
    host: usize,
    id: u64,
    order: OperatorOrder,
    at: Instant,
    by: Instant,
    /// Nobody ordered another move, or a failback, meanwhile.
    alone: bool,
}

/// Where an operator moved the addresses.
#[derive(Clone, Debug)]
struct Kept {
    source: usize,
    owner: usize,
}

/// What operators ordered, and what the agents told them.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    given: Vec<(usize, u64, OperatorOrder)>,
    open: Vec<Open>,
    /// Per host.
    drained: Vec<bool>,
    frozen: Vec<bool>,
    /// Per host: its last operation ended.
    moved: Vec<Option<Instant>>,
    /// Per host: it accepted an order that may have changed its priority.
    pub(super) touched: Vec<bool>,
    /// The last order, end, or end of something that was ordered for a time.
    pub(super) last: Instant,
    /// The last word of an agent on what was ordered.
    pub(super) spoken: Instant,
    /// Operators have taken back everything.
    pub(super) tidy: bool,
    kept: Option<Kept>,
    /// The client asked who has the addresses.
    pub(super) resolved: Instant,
}

impl Orders {
    pub(super) fn new(hosts: usize) -> Self {
        let none = vec![false; hosts];
        Self {
            drained: none.clone(),
            frozen: none.clone(),
            touched: none,
            moved: vec![None; hosts],
            ..Self::default()
        }
    }

    /// Is an order of this host, or of any for `None`, under way that takes the addresses elsewhere?
    pub(super) fn moving(&self, host: Option<usize>) -> bool {
        let moves = |o: &&Open| {
            let order = o.order;
            matches!(
                order,
                OperatorOrder::Move { .. } | OperatorOrder::Release | OperatorOrder::Drain { .. }
            )
        };
        let mut open = self.open.iter().filter(moves);
        open.any(|o| host.is_none_or(|host| host == o.host))
    }

    /// Does this host keep the addresses of a move that was under way at `at`, or ended a moment before?
    pub(super) fn moved_lately(&self, host: usize, at: Instant) -> bool {
        self.moving(Some(host)) || self.moved[host].is_some_and(|end| end >= at)
    }

    /// Since when, of this host.
    pub(super) fn moving_since(&self, host: usize) -> Instant {
        self.open.iter().filter(|o| o.host == host).map(|o| o.at).min().unwrap_or_default()
    }

    /// Was this host told to claim?
    pub(super) fn promoting(&self, host: usize) -> bool {
        self.open.iter().any(|o| o.host == host && matches!(o.order, OperatorOrder::Promote { .. }))
    }

    /// Did an operator allow this host to let go without a successor?
    pub(super) fn outage_allowed(&self, host: usize) -> bool {
        let allows = |order: &OperatorOrder| {
            matches!(order, OperatorOrder::Drain { allow_outage: true, .. })
        };
        self.given.iter().any(|(h, _, order)| *h == host && allows(order))
    }

    /// Was a move of this host ever to be done whatever speaks against it?
    pub(super) fn forced(&self, host: usize) -> bool {
        let forces =
            |order: &OperatorOrder| matches!(order, OperatorOrder::Move { force: true, .. });
        self.given.iter().any(|(h, _, order)| *h == host && forces(order))
    }

    pub(super) fn drained(&self, host: usize) -> bool {
        self.drained[host]
    }
}

impl Watch {
    pub(crate) fn is_frozen(&self, host: usize) -> bool {
        self.orders.frozen[host]
    }

    pub(super) fn ordered(&mut self, host: usize, id: u64, order: OperatorOrder) {
        self.orders.given.push((host, id, order));
    }

    pub(super) fn accepted(&mut self, now: Instant, host: usize, id: u64) {
        let given = self.orders.given.iter().find(|(h, n, _)| (*h, *n) == (host, id));
        let Some((.., order)) = given.cloned() else {
            self.fail(
                now,
                Rule::Unended,
                format!("{} accepts what nobody ordered", host_name(host)),
            );
            return;
        };
        let by = now + self.time_for(&order);
        self.orders.spoken = now;
        self.orders.touched[host] = true;
        let until = match order {
            OperatorOrder::Drain { until, .. }
            | OperatorOrder::SetPriority { until, .. }
            // Heartbeats tell the rest of a freeze in whole seconds.
            | OperatorOrder::Freeze { until } => until.map(|at| at + Duration::from_secs(1)),
            _ => None,
        };
        self.orders.last = self.orders.last.max(until.unwrap_or(now)).max(now);
        let moves = matches!(
            order,
            OperatorOrder::Move { .. }
                | OperatorOrder::Release
                | OperatorOrder::Drain { .. }
                | OperatorOrder::Failback
                | OperatorOrder::Promote { .. }
        );
        if moves {
            self.orders.kept = None;
            self.orders.open.iter_mut().for_each(|o| o.alone = false);
        }
        let alone = !self.orders.moving(None);
        self.orders.open.push(Open { host, id, order, at: now, by, alone });
    }

    fn time_for(&self, order: &OperatorOrder) -> Duration {
        match order {
            OperatorOrder::Promote { .. } => PROMOTION + SLACK,
            OperatorOrder::Move { .. }
            | OperatorOrder::Release
            | OperatorOrder::Drain { .. }
            | OperatorOrder::Failback => patience(&self.scenario),
            _ => Duration::ZERO,
        }
    }

    pub(super) fn ended(&mut self, now: Instant, host: usize, id: u64, done: bool) {
        self.orders.last = self.orders.last.max(now);
        self.orders.spoken = now;
        self.orders.moved[host] = Some(now);
        let open = self.orders.open.iter().position(|o| (o.host, o.id) == (host, id));
        let Some(open) = open.map(|n| self.orders.open.swap_remove(n)) else {
            // Refused: it never began.
            let refused = !done && self.orders.given.iter().any(|(h, n, _)| (*h, *n) == (host, id));
            if !refused {
                let what = format!("{} ends operation {id} twice", host_name(host));
                self.fail(now, Rule::Unended, what);
            }
            return;
        };
        let OperatorOrder::Move { to, force } = open.order else { return };
        if !done {
            return;
        }
        self.moves_done += 1;
        // By force to whoever came: no host of the group keeps it by name.
        let pinned = !(force && to.is_none());
        let view = &self.addrs[0];
        let mut holders = (0..self.hosts.len()).filter(|h| view.held[*h].is_some());
        if let (Some(owner), None) = (holders.next(), holders.next())
            && owner != host
            && open.alone
            && pinned
            && self.whole.is_some_and(|since| since < open.at)
            && self.hosts[owner].agent == Agent::Running
            && self.hosts[owner].since < open.at
        {
            self.orders.kept = Some(Kept { source: host, owner });
        }
    }

    /// An agent started, stopped, hung or died: nobody waits for one that is not there, one that goes on is given the
    /// time again.
    pub(super) fn orders_follow(&mut self, now: Instant, host: usize, agent: Agent) {
        let whole = patience(&self.scenario).max(PROMOTION) + SLACK;
        for open in self.orders.open.iter_mut().filter(|o| o.host == host) {
            open.by = match agent {
                Agent::Running => now + whole,
                Agent::Leaving => now + SLACK,
                Agent::Hung | Agent::Dead | Agent::Off => Instant::MAX,
            };
        }
        if matches!(agent, Agent::Dead | Agent::Off) {
            self.orders.open.retain(|o| o.host != host);
        }
        self.orders.kept.take_if(|kept| kept.owner == host);
    }

    pub(super) fn drained_is(&mut self, now: Instant, host: usize, on: bool) {
        self.orders.drained[host] = on;
        self.orders.spoken = now;
        self.orders.last = self.orders.last.max(now);
    }

    pub(super) fn frozen_is(&mut self, now: Instant, host: usize, on: bool) {
        self.orders.frozen[host] = on;
        self.orders.last = self.orders.last.max(now);
    }

    /// The net is troubled, or an address was removed by hand: what a move left is not judged any more.
    pub(super) fn moves_are_disturbed(&mut self) {
        self.orders.kept = None;
    }

    pub(super) fn judge_operations(&mut self, now: Instant) {
        if let Some(open) = self.orders.open.iter().find(|o| o.by < now).cloned() {
            let what = format!("{} owes the end of {:?}", host_name(open.host), open.order);
            self.fail(open.by, Rule::Unended, what);
        }
    }

    /// What was moved stays: nobody of the group takes it before failback (DESIGN 5.6). Among strangers it is the source
    /// alone that leaves it there.
    pub(super) fn judge_kept(&mut self, now: Instant, claimant: usize, addr: IpAddr) {
        let Some(kept) = self.orders.kept.clone() else { return };
        let bound = match self.scenario.heartbeats {
            // The owner of the address by configuration listens to nobody (RFC 9568).
            true => self.scenario.priorities[claimant] != 255 || claimant == kept.source,
            false => claimant == kept.source,
        };
        if claimant == kept.owner {
            return;
        }
        self.orders.kept = None;
        if bound {
            let (source, owner) = (host_name(kept.source), host_name(kept.owner));
            let what = format!(
                "{} takes {addr}, which was moved from {source} to {owner}",
                host_name(claimant)
            );
            self.fail(now, Rule::MovedBack, what);
        }
    }

    /// A planned move on a whole wire: the client does not send to the host that has just let go. Who asks during the
    /// overlap may be answered by the old owner last; a host of the group announces before it goes, a foreign one after.
    pub(super) fn judge_lost(&mut self, now: Instant, host: usize, addr: IpAddr) {
        let Some(whole) = self.whole else { return };
        let view = &self.addrs[self.addrs.iter().position(|a| a.addr == addr).unwrap()];
        let calm = self.longest_down * 2;
        let steady = |at: Instant| now - at > calm;
        let taken = view.held.iter().flatten().max().copied().unwrap_or_default();
        let late = match self.scenario.heartbeats {
            true => now.before(NOTICE + SLACK / 5),
            false => taken,
        };
        if !self.orders.moving(Some(host))
            || !steady(whole)
            || !steady(self.agents_changed)
            || !steady(view.tampered)
            || self.scenario.virtual_mac
            || self.orders.resolved >= late
        {
            return;
        }
        if view.entry.is_some_and(|(entry, _)| entry == mac(host)) {
            let what = format!("the client sends {addr} to {}, which lets go", host_name(host));
            self.fail(now, Rule::MoveLost, what);
        }
    }
}
