//! Between the engine's words for neighbours and the frames on the wire: announcements and probes out, evidence in.
//!
//! Used by the protocol thread. It decides nothing about evidence; it only drops, cheaply, what nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use vipd_core::config::model::{Model, Transport};
use vipd_core::engine::io::{Announce, LinkState, NeighbourIn, Probe};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, LinkIx, Mac};
use vipd_core::wire::{arp, ndp};

/// Frames of neighbours that nobody asked about, per link and second: enough to know that somebody is there, too
/// few to cost anything.
const STRANGERS_PER_SECOND: u32 = 20;

/// An answer that comes later was to somebody else.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Questions remembered before old ones are forgotten.
const ASKED_AT_MOST: usize = 1024;

/// Which frames of one link reach the engine.
#[derive(Debug)]
pub(super) struct Filter {
    link: LinkIx,
    /// From the configuration: virtual addresses, targets, unicast peers, heartbeat addresses of hosts.
    configured: BTreeSet<IpAddr>,
    /// Next hops, which the monitor reports.
    gateways: Vec<IpAddr>,
    /// When the engine last asked for an address: its answer is wanted, however many come.
    asked: BTreeMap<IpAddr, Instant>,
    window: Instant,
    strangers: u32,
}

impl Filter {
    /// For `link` of `model`.
    pub(super) fn new(model: &Model, link: LinkIx) -> Self {
        let mut configured: BTreeSet<IpAddr> =
            model.hosts.iter().flat_map(|h| h.paths.iter().copied()).collect();
        for instance in model.instances.iter().filter(|i| i.link == link) {
            configured.extend(instance.claimed().map(|vip| vip.addr));
            configured.extend(&instance.targets);
            if let Transport::Unicast(peers) = &instance.transport {
                configured.extend(peers);
            }
        }
        Self {
            link,
            configured,
            gateways: Vec::new(),
            asked: BTreeMap::new(),
            window: Instant::ZERO,
            strangers: 0,
        }
    }

    /// Another configuration of the same interface.
    pub(super) fn go_on(&mut self, before: Self) {
        let Self { gateways, asked, window, strangers, .. } = before;
        (self.gateways, self.asked) = (gateways, asked);
        (self.window, self.strangers) = (window, strangers);
    }

    /// The engine asks for an address.
    pub(super) fn let_answer(&mut self, addr: IpAddr, now: Instant) {
        if self.asked.len() >= ASKED_AT_MOST && !self.asked.contains_key(&addr) {
            self.asked.retain(|_, at| now.since(*at) < ANSWERS_WITHIN);
        }
        self.asked.insert(addr, now);
    }

    /// The monitor reported the link.
    pub(super) fn update(&mut self, state: &LinkState) {
        self.gateways.clone_from(&state.gateways);
    }

    /// What `frame` of family `family` says about a neighbour, if the engine shall hear it.
    pub(super) fn read(
        &mut self,
        family: Family,
        frame: &[u8],
        now: Instant,
    ) -> Option<NeighbourIn> {
        let (addr, mac, reply) = match family {
            Family::V4 => {
                let seen = arp::parse(frame)?;
                // A probe (RFC 5227) speaks for nobody.
                if seen.sender_addr.is_unspecified() {
                    return None;
                }
                let multicast = seen.eth_dst.0[0] & 1 == 1;
                (IpAddr::V4(seen.sender_addr), seen.sender_mac, !seen.request && !multicast)
            }
            Family::V6 => {
                let seen = ndp::parse(frame)?;
                (IpAddr::V6(seen.target), seen.mac, seen.solicited)
            }
        };
        self.wanted(addr, now).then_some(NeighbourIn { link: self.link, addr, mac, reply })
    }

    fn wanted(&mut self, addr: IpAddr, now: Instant) -> bool {
        if self.configured.contains(&addr) || self.gateways.contains(&addr) {
            return true;
        }
        if self.asked.get(&addr).is_some_and(|at| now.since(*at) < ANSWERS_WITHIN) {
            return true;
        }
        if now.since(self.window) >= Duration::from_secs(1) {
            (self.window, self.strangers) = (now, 0);
        }
        self.strangers += 1;
        self.strangers <= STRANGERS_PER_SECOND
    }
}

/// Gratuitous ARP or unsolicited NA. R is set: the virtual router is one (RFC 9568 section 6.4.1); a host that takes
/// the address for its default router would drop it otherwise.
pub(super) fn announcement(announce: &Announce) -> Vec<u8> {
    match announce.addr {
        IpAddr::V4(addr) => arp::gratuitous(announce.mac, addr).to_vec(),
        IpAddr::V6(addr) => ndp::unsolicited_na(announce.mac, addr, true).to_vec(),
    }
}

/// ARP request or NS; `None` when an NS has no source of its family.
pub(super) fn question(probe: &Probe) -> Option<Vec<u8>> {
    match (probe.addr, probe.source) {
        (IpAddr::V4(addr), _) => {
            Some(arp::probe(probe.from, probe.to.unwrap_or(Mac::BROADCAST), addr).to_vec())
        }
        (IpAddr::V6(addr), Some(IpAddr::V6(source))) => {
            Some(ndp::solicitation(probe.from, source, probe.to, addr).to_vec())
        }
        (IpAddr::V6(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use std::net::Ipv4Addr;
    use vipd_core::config::load;

    const TEXT: &str = "[cluster]\nname = \"shop\"\n[hosts.lb1]\n[hosts.lb2]\n[instance.web]\nvrid = 51\n\
                        interface = \"eth0\"\naddresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]\n\
                        priority = { lb1 = 150, lb2 = 100 }\n";

    fn filter() -> Filter {
        let (model, _) = load(TEXT, "vipd.toml", "lb1").unwrap();
        Filter::new(&model, LinkIx(0))
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn who_speaks_for_our_address_is_heard_however_often() {
        let mut filter = filter();
        let v4 = arp::gratuitous(mac(9), Ipv4Addr::new(192, 0, 2, 10));
        let v6 = ndp::unsolicited_na(mac(9), "2001:db8::10".parse().unwrap(), true);
        for _ in 0..1000 {
            let seen = filter.read(Family::V4, &v4, Instant::ZERO).unwrap();
            assert_eq!((seen.mac, seen.reply), (mac(9), false));
            let seen = filter.read(Family::V6, &v6, Instant::ZERO).unwrap();
            assert_eq!((seen.mac, seen.reply), (mac(9), false));
        }
    }

    #[test]
    fn strangers_are_heard_now_and_then_and_always_when_asked() {
        let mut filter = filter();
        let addr = Ipv4Addr::new(192, 0, 2, 77);
        let frame = arp::gratuitous(mac(7), addr);
        let heard = |filter: &mut Filter, at: u64| {
            let at = Instant::from_millis(at);
            (0..100).filter(|_| filter.read(Family::V4, &frame, at).is_some()).count()
        };
        let few = STRANGERS_PER_SECOND as usize;
        assert_eq!(heard(&mut filter, 10_000), few);
        assert_eq!(heard(&mut filter, 10_500), 0);
        assert_eq!(heard(&mut filter, 11_000), few, "a second later");
        filter.let_answer(addr.into(), Instant::from_millis(11_100));
        assert_eq!(heard(&mut filter, 11_200), 100);
        assert_eq!(heard(&mut filter, 20_000), few, "an answer that late was to somebody else");
    }

    #[test]
    fn a_question_speaks_for_nobody() {
        let mut filter = filter();
        let probe = arp::probe(mac(9), Mac::BROADCAST, Ipv4Addr::new(192, 0, 2, 10));
        assert_eq!(filter.read(Family::V4, &probe, Instant::ZERO), None);
        assert_eq!(filter.read(Family::V4, &[0; 10], Instant::ZERO), None);
    }
}
