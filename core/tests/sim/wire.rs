//! The nets between the hosts: directed links that lose, delay, duplicate, reorder and are cut.
//!
//! `Wire::send` is the rule: a frame from one node to another -> when it arrives, how often, or never.
//! It knows nothing of what the frames mean, except which are adverts (filters drop those alone).

use crate::rng::Rng;
use std::collections::BTreeMap;
use vipd_core::time::{Duration, Instant};

/// A net. Adverts, ARP and the first heartbeat path share one.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Net {
    /// The service segment.
    Service,
    /// The network of the second heartbeat path.
    Second,
}

/// A set of nodes: bit `h` for host `h`, bit `hosts` for the gateway.
pub(crate) type Nodes = u8;

/// What is wrong with a net, or with some of its links, for a while.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) net: Net,
    pub(crate) from: Nodes,
    pub(crate) to: Nodes,
    pub(crate) kind: Kind,
}

/// How a link misbehaves.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Nothing passes.
    Cut,
    /// Adverts do not pass, the rest does (a multicast filter, IGMP snooping gone wrong).
    NoAdverts,
    /// This many of 1000 frames are lost.
    Loss(u32),
    /// Each frame takes up to this much longer; order is kept.
    Delay(Duration),
    /// Each frame takes up to this much longer; order is not kept.
    Reorder(Duration),
    /// This many of 1000 frames arrive twice.
    Duplicate(u32),
}

impl Kind {
    /// How long a frame may be on the way beyond the transit of a healthy link.
    pub(crate) fn longest_delay(self) -> Duration {
        match self {
            Self::Delay(most) | Self::Reorder(most) => most,
            Self::Cut | Self::NoAdverts | Self::Loss(_) | Self::Duplicate(_) => Duration::ZERO,
        }
    }
}

/// All nets.
pub(crate) struct Wire {
    rng: Rng,
    /// By the number of the fault that brought it.
    troubles: BTreeMap<usize, Trouble>,
    /// Last arrival on each link: frames do not overtake each other on a healthy one.
    last: BTreeMap<(Net, usize, usize), Instant>,
}

/// Transit times of a healthy link.
const TRANSIT: (Duration, Duration) = (Duration::from_micros(30), Duration::from_micros(300));

impl Wire {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng, troubles: BTreeMap::new(), last: BTreeMap::new() }
    }

    pub(crate) fn begin(&mut self, fault: usize, trouble: Trouble) {
        self.troubles.insert(fault, trouble);
    }

    pub(crate) fn end(&mut self, fault: usize) {
        self.troubles.remove(&fault);
    }

    /// How much longer a connection takes there and back than at its best; `None`: it is cut, in either direction.
    pub(crate) fn connection(&self, net: Net, a: usize, b: usize) -> Option<Duration> {
        let mut longer = Duration::ZERO;
        for trouble in self.troubles.values().filter(|trouble| trouble.net == net) {
            let on =
                |from: usize, to: usize| trouble.from & 1 << from != 0 && trouble.to & 1 << to != 0;
            let ways = u32::from(on(a, b)) + u32::from(on(b, a));
            match trouble.kind {
                Kind::Cut if ways > 0 => return None,
                Kind::Loss(permille) => longer += Duration::from_millis(1) * permille * ways,
                kind => longer += kind.longest_delay() * ways,
            }
        }
        Some(longer)
    }

    /// When the frame arrives: no, one or two instants.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        net: Net,
        from: usize,
        to: usize,
        advert: bool,
    ) -> [Option<Instant>; 2] {
        let mut delay = self.rng.duration(TRANSIT.0, TRANSIT.1);
        let (mut in_order, mut twice) = (true, false);
        for trouble in self.troubles.values() {
            if trouble.net != net || trouble.from & 1 << from == 0 || trouble.to & 1 << to == 0 {
                continue;
            }
            match trouble.kind {
                Kind::Cut => return [None, None],
                Kind::NoAdverts if advert => return [None, None],
                Kind::NoAdverts => {}
                Kind::Loss(permille) => {
                    if self.rng.chance(permille) {
                        return [None, None];
                    }
                }
                Kind::Delay(most) => delay += self.rng.duration(Duration::ZERO, most),
                Kind::Reorder(most) => {
                    delay += self.rng.duration(Duration::ZERO, most);
                    in_order = false;
                }
                Kind::Duplicate(permille) => twice |= self.rng.chance(permille),
            }
        }
        let mut at = now + delay;
        let last = self.last.entry((net, from, to)).or_default();
        if in_order {
            at = at.max(*last + Duration::from_nanos(1));
        }
        *last = at.max(*last);
        [Some(at), twice.then(|| at + delay)]
    }
}
