//! Kernels that are late with an order, on this host or on its successor (DESIGN 5.1, 5.5).
//!
//! One lock guards all network changes of a host: while others hold it, an order waits, often for hundreds of milliseconds.
//! An owner that goes on advertising asks again; who hands over keeps the addresses until the other kernel has them, within
//! what is left of the lease. Called by the handovers (`leave`, `yielding`) and by what the kernel answers (`holding`).

use super::lease::EARLY;
use super::{Engine, UnitIx};
use crate::time::{Duration, Instant};
use crate::types::{HostIx, InstanceIx};

/// So long a kernel may be late with a claim.
const LATE_KERNEL: Duration = Duration::from_millis(500);

impl Engine {
    /// `wait` from now, or what is left of the lease of the unit's addresses.
    pub(super) fn within_lease(&self, u: UnitIx, wait: Duration) -> Instant {
        let now = self.now.mono;
        let left = self.holding(self.units[u].instance).lease_left(now);
        now + left.map_or(wait, |left| left.saturating_sub(EARLY).min(wait))
    }

    /// Until when the addresses may stay here for a successor whose kernel is late.
    pub(super) fn kernel_patience(&self, u: UnitIx) -> Instant {
        self.within_lease(u, LATE_KERNEL)
    }

    /// Does a living host, `of` that name if one is given, say that it owns and that its kernel does not have the addresses
    /// yet?
    pub(super) fn awaits_kernel(&self, u: UnitIx, of: Option<HostIx>) -> bool {
        self.living_peers(u)
            .any(|(host, r)| of.is_none_or(|of| of == host) && r.owns() && !r.applied)
    }

    /// The kernel thread came too late for an order to hold: an owner that has advertised all the while asks again. One that
    /// holds them does so for as long as its lease lasts; a claim is repeated once in any case, because the kernel may have
    /// become free at that moment, and not for ever. False: it does not ask.
    pub(super) fn asks_again(&mut self, ix: InstanceIx) -> bool {
        let now = self.now.mono;
        let units = self.units_of(ix).into_iter();
        let owners: Vec<UnitIx> = units.filter(|u| self.units[*u].is_active()).collect();
        let speaks = |u: &UnitIx| {
            let unit = &self.units[*u];
            let sent = unit.last_sent.is_some() && unit.peers_wait_until(now) > now;
            sent && unit.overslept.is_none()
        };
        let Some(first) = owners.first().copied().filter(|_| owners.iter().all(speaks)) else {
            return false;
        };
        let holding = self.holding(ix);
        let newest = owners.iter().map(|u| self.units[*u].since).max().unwrap_or(now);
        let patient = |begun: Instant| !holding.asked_again || now.since(begun) < LATE_KERNEL;
        let may = match holding.put_on {
            None => patient(holding.asked_at),
            // Of another family.
            Some(at) if newest > at => patient(newest),
            Some(_) => holding.lease_left(now).is_none_or(|left| left > EARLY),
        };
        if may {
            self.order_hold(first);
            self.holdings[usize::from(ix.0)].asked_again = true;
        }
        may
    }
}
