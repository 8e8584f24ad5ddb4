//! Kernels that are late with an order, on this host or on its successor (DESIGN 5.1, 5.5).
//!
//! One lock guards all network changes of a host: while others hold it, an order waits, often for hundreds of milliseconds.
//! An owner that goes on advertising asks again; who hands over keeps the addresses until the other kernel has them.
//! Called by the handovers (`leave`, `yielding`) and by what the kernel answers (`holding`). Nothing here prolongs a lease:
//! that ends the wait in any case.

use super::lease::EARLY;
use super::{Engine, UnitIx};
use crate::time::{Duration, Instant};
use crate::types::{HostIx, InstanceIx};

/// So long a kernel may be late with a claim.
const LATE_KERNEL: Duration = Duration::from_millis(500);

impl Engine {
    /// Until when the addresses may stay here for a successor whose kernel is late.
    pub(super) fn kernel_patience(&self, u: UnitIx) -> Instant {
        let now = self.now.mono;
        let lease = self.holding(self.units[u].instance).lease_left(now);
        let left = lease.map_or(LATE_KERNEL, |left| left.saturating_sub(EARLY));
        now + left.min(LATE_KERNEL)
    }

    /// Does a living host, `of` that name if one is given, say that it owns and that its kernel does not have the addresses
    /// yet?
    pub(super) fn awaits_kernel(&self, u: UnitIx, of: Option<HostIx>) -> bool {
        self.living_peers(u)
            .any(|(host, r)| of.is_none_or(|of| of == host) && r.owns() && !r.applied)
    }

    /// The kernel thread came too late for an order to hold: the owner asks again if it has advertised all the while, so that
    /// nobody has claimed meanwhile. Not for ever: another host may have a faster kernel. False: it does not.
    pub(super) fn asks_again(&mut self, ix: InstanceIx) -> bool {
        let now = self.now.mono;
        let leased = self.holding(ix).lease_left(now).is_some_and(|left| left > EARLY);
        let speaks = |u: &UnitIx| {
            let unit = &self.units[*u];
            unit.is_active()
                && unit.overslept.is_none()
                && unit.last_sent.is_some()
                && unit.peers_wait_until(now) > now
                && (leased || now.since(unit.since) < LATE_KERNEL)
        };
        let owner = self.units_of(ix).into_iter().find(speaks);
        if let Some(u) = owner {
            self.order_hold(u);
        }
        owner.is_some()
    }
}
