//! Who had which address when: intervals, overlaps, gaps.
//!
//! Pure. Filled by `observe`, read by scenarios, tests and benches.

use std::net::IpAddr;
use std::time::Duration;
use vipd_core::time::Instant;

/// A time during which a host had an address on one of its interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The host.
    pub host: usize,
    /// Index of the interface on that host.
    pub link: u32,
    /// The address.
    pub addr: IpAddr,
    /// Since when.
    pub from: Instant,
    /// Until when; `None`: still.
    pub to: Option<Instant>,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    holdings: Vec<Holding>,
}

impl Ownership {
    /// A kernel reported an address as there (new or renewed) or gone.
    pub fn event(&mut self, host: usize, link: u32, addr: IpAddr, there: bool, at: Instant) {
        let open = self
            .holdings
            .iter_mut()
            .find(|h| (h.host, h.link, h.addr, h.to) == (host, link, addr, None));
        match (open, there) {
            (None, true) => self.holdings.push(Holding { host, link, addr, from: at, to: None }),
            (Some(holding), false) => holding.to = Some(at),
            _ => {}
        }
    }

    /// The whole table of a host, as it is at `at`.
    pub fn resync(&mut self, host: usize, present: &[(u32, IpAddr)], at: Instant) {
        for h in self.holdings.iter_mut().filter(|h| h.host == host && h.to.is_none()) {
            if !present.contains(&(h.link, h.addr)) {
                h.to = Some(at);
            }
        }
        for (link, addr) in present {
            self.event(host, *link, *addr, true, at);
        }
    }

    /// A host ended at `at`; what its dying kernel reported after that does not count.
    pub fn powered_off(&mut self, host: usize, at: Instant) {
        for h in self.holdings.iter_mut().filter(|h| h.host == host) {
            if h.to.is_none_or(|to| to > at) {
                h.to = Some(at.max(h.from));
            }
        }
    }

    /// All intervals, in the order in which they began.
    #[must_use]
    pub fn holdings(&self) -> &[Holding] {
        &self.holdings
    }

    /// Hosts that have `addr`, sorted.
    #[must_use]
    pub fn holders(&self, addr: IpAddr) -> Vec<usize> {
        let mut hosts: Vec<_> = self
            .holdings
            .iter()
            .filter(|h| h.addr == addr && h.to.is_none())
            .map(|h| h.host)
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// Hosts that had `addr` at `at`, sorted.
    #[must_use]
    pub fn holders_at(&self, addr: IpAddr, at: Instant) -> Vec<usize> {
        let mut hosts: Vec<_> = self
            .holdings
            .iter()
            .filter(|h| h.addr == addr && h.from <= at && h.to.is_none_or(|to| to > at))
            .map(|h| h.host)
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// Within `from..to`: times with more than one owner of `addr`.
    #[must_use]
    pub fn overlaps(&self, addr: IpAddr, from: Instant, to: Instant) -> Vec<(Instant, Instant)> {
        self.times(addr, from, to, |owners| owners > 1)
    }

    /// Within `from..to`: times without an owner of `addr`.
    #[must_use]
    pub fn gaps(&self, addr: IpAddr, from: Instant, to: Instant) -> Vec<(Instant, Instant)> {
        self.times(addr, from, to, |owners| owners == 0)
    }

    /// Sum of [`Ownership::overlaps`].
    #[must_use]
    pub fn overlap(&self, addr: IpAddr, from: Instant, to: Instant) -> Duration {
        self.overlaps(addr, from, to).into_iter().map(|(a, b)| b.since(a)).sum()
    }

    /// Sum of [`Ownership::gaps`].
    #[must_use]
    pub fn gap(&self, addr: IpAddr, from: Instant, to: Instant) -> Duration {
        self.gaps(addr, from, to).into_iter().map(|(a, b)| b.since(a)).sum()
    }

    /// How often within `from..to` another host got `addr` than had got it last. The first of all is no move.
    #[must_use]
    pub fn moves(&self, addr: IpAddr, from: Instant, to: Instant) -> usize {
        let mut got: Vec<_> =
            self.holdings.iter().filter(|h| h.addr == addr && h.from < to).collect();
        got.sort_by_key(|h| h.from);
        got.windows(2).filter(|pair| pair[0].host != pair[1].host && pair[1].from > from).count()
    }

    /// Times within `from..to` at which the number of owners is `wanted`, neighbours joined.
    fn times(
        &self,
        addr: IpAddr,
        from: Instant,
        to: Instant,
        wanted: fn(usize) -> bool,
    ) -> Vec<(Instant, Instant)> {
        let mut edges: Vec<Instant> = self
            .holdings
            .iter()
            .filter(|h| h.addr == addr)
            .flat_map(|h| [Some(h.from), h.to])
            .flatten()
            .filter(|at| *at > from && *at < to)
            .chain([from, to])
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let mut found: Vec<(Instant, Instant)> = Vec::new();
        for pair in edges.windows(2) {
            if wanted(self.holders_at(addr, pair[0]).len()) {
                match found.last_mut() {
                    Some(last) if last.1 == pair[0] => last.1 = pair[1],
                    _ => found.push((pair[0], pair[1])),
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;

    fn ms(n: u64) -> Instant {
        Instant::from_millis(n)
    }

    #[test]
    fn a_move_with_overlap_then_one_with_a_gap() {
        let addr: IpAddr = "192.0.2.100".parse().unwrap();
        let mut seen = Ownership::default();
        seen.event(0, 2, addr, true, ms(10));
        seen.event(0, 2, addr, true, ms(15)); // renewed
        seen.event(1, 2, addr, true, ms(20));
        seen.event(0, 2, addr, false, ms(25));
        seen.event(1, 2, addr, false, ms(40));
        seen.event(0, 2, addr, true, ms(50));
        assert_eq!(seen.overlaps(addr, ms(0), ms(60)), [(ms(20), ms(25))]);
        assert_eq!(seen.gaps(addr, ms(10), ms(60)), [(ms(40), ms(50))]);
        assert_eq!(seen.gap(addr, ms(0), ms(60)), Duration::from_millis(20));
        assert_eq!(seen.holders(addr), [0]);
        assert_eq!(seen.holders_at(addr, ms(22)), [0, 1]);
    }

    #[test]
    fn a_move_is_another_host_than_before() {
        let addr: IpAddr = "192.0.2.100".parse().unwrap();
        let mut seen = Ownership::default();
        for (host, from, to) in [(0, 10, 20), (0, 30, 40), (1, 39, 50), (0, 60, 70)] {
            seen.event(host, 2, addr, true, ms(from));
            seen.event(host, 2, addr, false, ms(to));
        }
        assert_eq!(seen.moves(addr, ms(0), ms(99)), 2, "the first owner and its own gap are none");
        assert_eq!(seen.moves(addr, ms(38), ms(50)), 1);
        assert_eq!(seen.moves(addr, ms(40), ms(50)), 0);
    }

    #[test]
    fn two_links_of_one_host_are_one_owner() {
        let addr: IpAddr = "2001:db8::100".parse().unwrap();
        let mut seen = Ownership::default();
        seen.event(0, 2, addr, true, ms(10));
        seen.event(0, 3, addr, true, ms(20));
        assert_eq!(seen.overlaps(addr, ms(0), ms(60)), []);
    }

    #[test]
    fn a_dead_host_owns_nothing() {
        let addr: IpAddr = "192.0.2.100".parse().unwrap();
        let mut seen = Ownership::default();
        seen.event(0, 2, addr, true, ms(10));
        seen.event(0, 2, addr, false, ms(35));
        seen.powered_off(0, ms(30));
        assert_eq!(seen.holders_at(addr, ms(32)), Vec::<usize>::new());
    }
}
