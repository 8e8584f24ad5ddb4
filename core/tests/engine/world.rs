//! A few hosts on one segment without delay: what one says the others hear at once. Cuts are made by hand.

use crate::bench::{Bench, Said, ip, mac, ms};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{HeartbeatIn, Input, NeighbourIn, Probe, Renew, Want};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::State;

/// A host that always answers on the segment: the target of some tests.
pub(crate) const TARGET: &str = "192.0.2.1";

/// What is cut, from one host to another.
pub(crate) type Cuts = BTreeSet<(usize, usize)>;

/// What another release would have sent instead of this heartbeat.
pub(crate) type Strip = fn(&[u8]) -> Vec<u8>;

/// The hosts lb1, lb2 .. of one group, at positions 0, 1 ..
pub(crate) struct World {
    pub(crate) hosts: Vec<Bench>,
    /// How much of each host's log was delivered.
    delivered: Vec<usize>,
    pub(crate) now: Instant,
    /// Adverts that do not arrive.
    pub(crate) no_adverts: Cuts,
    /// Heartbeats that do not arrive, on any path.
    pub(crate) no_beats: Cuts,
    /// Questions and answers on the service segment that do not arrive.
    pub(crate) no_segment: Cuts,
    /// Hosts that do not reach the target.
    pub(crate) no_target: BTreeSet<usize>,
    /// Agents that do not run; their kernels do.
    pub(crate) hung: BTreeSet<usize>,
    /// Hosts without power.
    pub(crate) off: BTreeSet<usize>,
    /// Kernels that keep a leased address for ever.
    pub(crate) leaseless: BTreeSet<usize>,
    /// What becomes of heartbeats on the way.
    pub(crate) strips: Option<Strip>,
    /// What each kernel holds, and until when.
    held: Vec<Option<Instant>>,
}

impl World {
    /// `n` hosts that come up together.
    pub(crate) fn new(text: &str, n: u8) -> Self {
        Self::of((1..=n).map(|n| Bench::up(text, n)).collect())
    }

    /// Hosts that are up already, at the same time.
    pub(crate) fn of(hosts: Vec<Bench>) -> Self {
        let now = hosts[0].now;
        let count = hosts.len();
        let mut world = Self {
            hosts,
            delivered: vec![0; count],
            now,
            no_adverts: Cuts::new(),
            no_beats: Cuts::new(),
            no_segment: Cuts::new(),
            no_target: BTreeSet::new(),
            hung: BTreeSet::new(),
            off: BTreeSet::new(),
            leaseless: BTreeSet::new(),
            strips: None,
            held: vec![None; count],
        };
        world.deliver();
        world
    }

    /// Up, settled, lb1 owns; the logs are empty.
    pub(crate) fn settled(text: &str, n: u8) -> Self {
        let mut world = Self::new(text, n);
        world.run(ms(6000));
        assert_eq!(world.owners(), [0]);
        world.forget();
        world
    }

    pub(crate) fn forget(&mut self) {
        for (host, delivered) in self.hosts.iter_mut().zip(&mut self.delivered) {
            host.log.clear();
            *delivered = 0;
        }
    }

    pub(crate) fn all() -> Vec<(usize, usize)> {
        (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).filter(|(a, b)| a != b).collect()
    }

    /// Both directions between `a` and every other host.
    pub(crate) fn around(a: usize) -> Cuts {
        Self::all().into_iter().filter(|(x, y)| *x == a || *y == a).collect()
    }

    /// Another agent on a host: what it said so far is heard now.
    pub(crate) fn replace(&mut self, host: usize, agent: Bench) {
        self.hosts[host] = agent;
        self.delivered[host] = 0;
        self.deliver();
    }

    fn runs(&self, host: usize) -> bool {
        !self.hung.contains(&host) && !self.off.contains(&host)
    }

    /// Hosts that are Active.
    pub(crate) fn owners(&self) -> Vec<usize> {
        let active = |i: &usize| self.hosts[*i].state() == State::Active && self.runs(*i);
        (0..self.hosts.len()).filter(active).collect()
    }

    /// Hosts whose kernel has the address.
    pub(crate) fn holders(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|i| self.holds(*i)).collect()
    }

    fn holds(&self, host: usize) -> bool {
        !self.off.contains(&host)
            && self.held[host].is_some_and(|end| end > self.now || self.leaseless.contains(&host))
    }

    /// Hands an input to one host.
    pub(crate) fn give(&mut self, host: usize, input: Input<'_>) {
        self.hosts[host].now = self.now;
        self.hosts[host].give(input);
        self.deliver();
    }

    /// One host is to let go what another file has no more, or otherwise.
    pub(crate) fn retire(&mut self, host: usize, text: &str) -> Arc<Model> {
        self.hosts[host].now = self.now;
        let next = self.hosts[host].retire(text);
        self.deliver();
        next
    }

    /// A reload on one host: what goes leaves first.
    pub(crate) fn reload(&mut self, host: usize, text: &str) {
        let next = self.retire(host, text);
        self.until(ms(60_000), |w| w.hosts[host].engine.retired());
        self.hosts[host].now = self.now;
        self.hosts[host].put_in_force(next);
        self.deliver();
    }

    pub(crate) fn run(&mut self, d: Duration) {
        let end = self.now + d;
        let mut rounds = 0;
        loop {
            let running = (0..self.hosts.len()).filter(|i| self.runs(*i));
            let Some(next) = running.min_by_key(|i| self.hosts[*i].engine.deadline()) else {
                break;
            };
            let at = self.hosts[next].engine.deadline();
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            self.give(next, Input::Timeout);
            rounds += 1;
            assert!(rounds < 1_000_000, "the engine of host {next} spins at {}", self.now);
        }
        self.now = end;
        for i in 0..self.hosts.len() {
            if self.runs(i) {
                self.hosts[i].now = end;
            }
        }
    }

    /// Runs until `done`, at most for `d`; how long it took.
    pub(crate) fn until(&mut self, d: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            assert!(self.now - start < d, "not within {d:?}");
            self.run(ms(1));
        }
        self.now - start
    }

    fn deliver(&mut self) {
        while let Some(from) =
            (0..self.hosts.len()).find(|i| self.delivered[*i] < self.hosts[*i].log.len())
        {
            let said = self.hosts[from].log[self.delivered[from]].1.clone();
            self.delivered[from] += 1;
            self.carry(from, said);
        }
    }

    fn to(&mut self, host: usize, input: Input<'_>) {
        if self.runs(host) {
            self.hosts[host].now = self.now;
            self.hosts[host].give(input);
        }
    }

    fn carry(&mut self, from: usize, said: Said) {
        let others: Vec<usize> = (0..self.hosts.len()).filter(|i| *i != from).collect();
        match said {
            Said::Advert(t, _) => {
                for to in others.into_iter().filter(|to| !self.no_adverts.contains(&(from, *to))) {
                    if self.runs(to) {
                        self.hosts[to].now = self.now;
                        self.hosts[to].hear_bytes(
                            t.src,
                            t.dst[0],
                            255,
                            &t.payload[0],
                            Duration::ZERO,
                        );
                    }
                }
            }
            Said::Beat(beat) => {
                // By name: the file may have more hosts than play.
                let hosts = &self.hosts[from].model.hosts;
                let at = |n: usize| hosts.iter().find(|h| *h.name == *format!("lb{}", n + 1));
                let has = |n: usize| at(n).is_some_and(|h| h.paths.contains(&beat.to.ip()));
                let to = (0..self.hosts.len()).find(|n| has(*n));
                let src = at(from).unwrap().paths[usize::from(beat.path.0)];
                if let Some(to) = to
                    && !self.no_beats.contains(&(from, to))
                {
                    let src = SocketAddr::new(src, beat.to.port());
                    let stripped = self.strips.map(|strip| strip(&beat.payload));
                    let (path, payload) = (beat.path, stripped.as_ref().unwrap_or(&beat.payload));
                    self.to(
                        to,
                        Input::Heartbeat(HeartbeatIn { path, src, payload, age: Duration::ZERO }),
                    );
                }
            }
            Said::Announce(a) => {
                let seen = NeighbourIn { link: a.link, addr: a.addr, mac: a.mac, reply: false };
                for to in others {
                    if !self.no_segment.contains(&(from, to)) {
                        self.to(to, Input::Neighbour(seen));
                    }
                }
            }
            Said::Probe(p) => self.answer(from, &p),
            Said::Own(own) => {
                self.held[from] = match own.want {
                    Want::Hold { lease_secs, .. } => Some(self.lease_end(lease_secs)),
                    Want::Free => None,
                };
            }
            Said::Renew(Renew { instances, .. }) => {
                if self.held[from].is_some() {
                    self.held[from] = Some(self.lease_end(Some(instances[0].1)));
                }
            }
            Said::Activate(..)
            | Said::PrePromote(..)
            | Said::NotPromoted(..)
            | Said::Barrier(..)
            | Said::BarrierOver(..)
            | Said::Event(_) => {}
        }
    }

    fn lease_end(&self, secs: Option<u32>) -> Instant {
        secs.map_or(Instant::MAX, |s| self.now + Duration::from_secs(u64::from(s)))
    }

    /// The kernels that have the address answer, whatever their agents do.
    fn answer(&mut self, from: usize, p: &Probe) {
        let mut answers = Vec::new();
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            let n = u8::try_from(to + 1).unwrap();
            let own = [format!("192.0.2.1{n}"), format!("fe80::1{n}")].map(|a| ip(&a));
            let vip = self.hosts[to].model.instances[0].claimed().any(|v| v.addr == p.addr);
            let asked = p.to.is_none_or(|m| m == mac(n));
            let cut =
                self.no_segment.contains(&(from, to)) || self.no_segment.contains(&(to, from));
            let has = own.contains(&p.addr) || (vip && self.holds(to));
            if asked && has && !cut && !self.off.contains(&to) {
                answers.push(mac(n));
            }
        }
        if p.addr == ip(TARGET) && !self.no_target.contains(&from) {
            answers.push(mac(99));
        }
        for mac in answers {
            let seen = NeighbourIn { link: p.link, addr: p.addr, mac, reply: true };
            self.to(from, Input::Neighbour(seen));
        }
    }
}
