//! May this host claim, and how soon: the gates between an expired timer and a claim.
//!
//! Called by the engine, per unit. It never looks at packets or the kernel. None of its gates may keep the
//! address from a group that has no owner (P4): they bind preemption only.
//!
//! Here: gates and the order of eligibility. `check` readings to verdicts; `health` verdicts to class and priority;
//! `damping` and `budget` what keeps the address from bouncing; `replica` is the copy of the state good enough; `stamp` times that outlive a restart.

pub mod budget;
pub mod check;
pub mod damping;
pub mod health;
pub mod replica;
pub mod stamp;

use crate::time::{Duration, Instant};
use crate::types::{Class, HostIx};
use std::cmp::Ordering;
use std::net::IpAddr;

/// How a host stands in the order of eligibility (DESIGN 5.10): class, age of its copy of the state, effective priority,
/// address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Class.
    pub class: Class,
    /// Its copy of the state is old or unknown: worse than any other host of its class, better than one whose service
    /// fails. Old data is a smaller loss than no service, and a greater one than an address that bounces.
    pub stale: bool,
    /// Effective priority.
    pub priority: u8,
    /// Source address of its adverts, the tie-break of RFC 9568.
    pub addr: Option<IpAddr>,
}

impl Standing {
    /// `Greater` when this host is the better owner.
    pub fn compare(&self, other: &Self) -> Ordering {
        other
            .class
            .cmp(&self.class)
            .then(other.stale.cmp(&self.stale))
            .then(self.priority.cmp(&other.priority))
            .then(self.addr.cmp(&other.addr))
    }
}

/// What keeps a host from taking the address from a weaker owner, and until when.
#[derive(Clone, Debug, Default)]
pub struct PreemptGates {
    /// Usable without a break since then.
    healthy_since: Option<Instant>,
    /// Lost the address to a fault at that time.
    lost_at: Option<Instant>,
    /// Yielded over heartbeats to that host, which has not heard us since (DESIGN 5.9).
    unheard_by: Option<HostIx>,
}

/// The first gate that is closed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// `preempt = false`.
    Off,
    /// The preempt delay runs until then.
    Delay(Instant),
    /// The hold-down runs until then.
    HoldDown(Instant),
    /// The winner of a settlement does not hear us.
    Unheard(HostIx),
    /// Second choice: the class of this host, or of its sync group, is not `healthy`.
    SecondChoice(Class),
    /// The copy of the state is old or unknown.
    StaleReplica,
    /// A cold standby claims by an operator's order only.
    Cold,
    /// An operator stopped preemption and voluntary moves, until then; `Instant::MAX`: until ordered.
    Frozen(Instant),
    /// An operator moved the address away from this host: it stays there until failback.
    MovedAway,
    /// State files follow the address: the owner, this host, brings them here first and hands over.
    OwnerBrings(HostIx),
}

impl PreemptGates {
    /// The host became usable.
    pub fn usable(&mut self, now: Instant) {
        self.healthy_since.get_or_insert(now);
    }

    /// The host became unusable; `owner`: it lost the address by it.
    pub fn unusable(&mut self, now: Instant, owner: bool) {
        self.healthy_since = None;
        if owner {
            self.lost_at = Some(now);
        }
    }

    /// Yielded to `winner` over heartbeats.
    pub fn yielded_to(&mut self, winner: HostIx) {
        self.unheard_by = Some(winner);
    }

    /// `winner` hears us, or is gone.
    pub fn heard_by(&mut self, winner: HostIx) {
        if self.unheard_by == Some(winner) {
            self.unheard_by = None;
        }
    }

    /// Hosts have other numbers; who is gone is not waited for.
    pub fn renumber(&mut self, place: impl Fn(HostIx) -> Option<HostIx>) {
        self.unheard_by = self.unheard_by.and_then(place);
    }

    /// The host that this one yielded to and that does not hear it.
    pub const fn waits_for(&self) -> Option<HostIx> {
        self.unheard_by
    }

    /// Usable without a break since, and when the address was lost: what outlives a restart of the agent.
    pub const fn times(&self) -> (Option<Instant>, Option<Instant>) {
        (self.healthy_since, self.lost_at)
    }

    /// As the agent before this one had them.
    pub const fn resumed(
        (healthy_since, lost_at): (Option<Instant>, Option<Instant>),
        unheard_by: Option<HostIx>,
    ) -> Self {
        Self { healthy_since, lost_at, unheard_by }
    }

    /// The gate that closes preemption at `now`, if one does.
    pub fn closed(
        &self,
        now: Instant,
        preempt: bool,
        preempt_delay: Duration,
        hold_down: Duration,
    ) -> Option<Closed> {
        if !preempt {
            return Some(Closed::Off);
        }
        if let Some(host) = self.unheard_by {
            return Some(Closed::Unheard(host));
        }
        let free_at = self.lost_at.map_or(Instant::ZERO, |t| t + hold_down);
        if free_at > now {
            return Some(Closed::HoldDown(free_at));
        }
        let open_at = self.healthy_since.map_or(Instant::MAX, |t| t + preempt_delay);
        (open_at > now).then_some(Closed::Delay(open_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_open_in_order() {
        let mut g = PreemptGates::default();
        let at = Instant::from_millis;
        let (delay, hold) = (Duration::from_secs(60), Duration::from_secs(10));
        assert_eq!(g.closed(at(0), true, delay, hold), Some(Closed::Delay(Instant::MAX)));
        g.usable(at(1000));
        assert_eq!(g.closed(at(60_999), true, delay, hold), Some(Closed::Delay(at(61_000))));
        assert_eq!(g.closed(at(61_000), true, delay, hold), None);
        assert_eq!(g.closed(at(61_000), false, delay, hold), Some(Closed::Off));
        g.unusable(at(70_000), true);
        g.usable(at(71_000));
        assert_eq!(
            g.closed(at(72_000), true, Duration::ZERO, hold),
            Some(Closed::HoldDown(at(80_000)))
        );
        g.yielded_to(HostIx(1));
        assert_eq!(
            g.closed(at(90_000), true, Duration::ZERO, hold),
            Some(Closed::Unheard(HostIx(1)))
        );
        g.heard_by(HostIx(2));
        assert_eq!(g.waits_for(), Some(HostIx(1)));
        g.heard_by(HostIx(1));
        assert_eq!(g.closed(at(90_000), true, Duration::ZERO, hold), None);
    }

    #[test]
    fn eligibility_is_class_then_priority_then_address() {
        let s = |class, priority, last| Standing {
            class,
            stale: false,
            priority,
            addr: Some(IpAddr::from([192, 0, 2, last])),
        };
        assert_eq!(s(Class::Held, 200, 1).compare(&s(Class::Healthy, 1, 1)), Ordering::Less);
        assert_eq!(
            s(Class::Healthy, 200, 1).compare(&s(Class::Healthy, 100, 9)),
            Ordering::Greater
        );
        assert_eq!(s(Class::Healthy, 100, 1).compare(&s(Class::Healthy, 100, 9)), Ordering::Less);
        let stale = |class, priority| Standing { stale: true, ..s(class, priority, 1) };
        assert_eq!(stale(Class::Held, 200).compare(&s(Class::Held, 1, 1)), Ordering::Less);
        assert_eq!(stale(Class::Held, 1).compare(&s(Class::Failing, 200, 1)), Ordering::Greater);
    }
}
