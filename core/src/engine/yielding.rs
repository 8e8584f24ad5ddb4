//! The addresses of a host that yielded to another of its group: they stay until that one has them (DESIGN 5.4, 5.5).

use super::leave::OVERLAP;
use super::reload::Renumber;
use super::{Engine, UnitIx};
use crate::time::Instant;
use crate::types::HostIx;
use std::net::IpAddr;

/// Backup by now, and the addresses are still here.
#[derive(Copy, Clone, Debug)]
pub(super) struct Yielding {
    /// For whom.
    to: HostIx,
    /// They go then, whether or not that host has them.
    pub(super) until: Instant,
    /// The same where its kernel is late.
    latest: Instant,
}

impl Yielding {
    pub(super) fn is_to(self, host: HostIx) -> bool {
        self.to == host
    }

    /// The same with the other host's new number. Who waits for a host that is gone from the configuration waits for
    /// nobody, which is `me`: for the time alone.
    pub(super) fn renumbered(self, renumber: &Renumber, me: HostIx) -> Self {
        Self { to: renumber.host(self.to).unwrap_or(me), ..self }
    }
}

impl Engine {
    /// Outranked by `winner`: a vipd host tells when its kernel has the addresses, and until then this one
    /// keeps them. A foreign winner is on its own.
    pub(super) fn free_after(&mut self, u: UnitIx, winner: IpAddr) {
        let living = self.host_of(winner).filter(|h| self.living_peers(u).any(|(p, _)| p == *h));
        match living {
            Some(host) => self.keep_for(u, host),
            None => self.order_free(u),
        }
    }

    /// The addresses stay until `host` has them, but not beyond the overlap, or what its kernel may be late.
    pub(super) fn keep_for(&mut self, u: UnitIx, host: HostIx) {
        let until = self.now.mono + OVERLAP;
        let latest = self.kernel_patience(u).max(until);
        self.units[u].yielding = Some(Yielding { to: host, until, latest });
    }

    /// An owner of the group has the addresses: who yielded, to it or to one that it outdid, lets go.
    pub(super) fn winner_applied(&mut self, u: UnitIx) {
        if self.units[u].yielding.is_some() {
            self.order_free(u);
        }
    }

    /// The time that they stay may be over.
    pub(super) fn yielding_due(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let Some(yielding) = self.units[u].yielding.filter(|yielding| yielding.until <= now) else {
            return;
        };
        if now < yielding.latest && self.awaits_kernel(u, Some(yielding.to)) {
            let until = yielding.latest;
            self.units[u].yielding = Some(Yielding { until, ..yielding });
            return;
        }
        self.order_free(u);
    }
}
