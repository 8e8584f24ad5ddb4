//! The network of a play: which frames reach whom, and what kernels answer by themselves.
//!
//! Called by `group` for what the engines put out. Nothing is lost but what a cut takes.

use super::super::io::{Announce, HeartbeatOut, NeighbourIn, Probe, Transmit};
use super::super::silence::unanswered;
use super::group::{Actor, Group, HOP, Item, ME};
use super::story::Fact;
use crate::time::Instant;
use crate::types::{Family, LinkIx, Mac};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What does not pass between this host and the others.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Cut {
    /// On this service interface of this host.
    Link(LinkIx),
    Everything,
}

/// How the actors are connected.
pub(super) struct Wires {
    /// By actor and link: segments are one where an instance is on both.
    segments: Vec<Vec<usize>>,
    pub(super) cut: Option<Cut>,
    /// Actors whose adverts do not reach this host, or the other way round.
    deaf: BTreeSet<usize>,
    /// Paths to an actor that do not work.
    dead_paths: BTreeSet<(usize, usize)>,
    /// Targets that do not answer this host.
    unanswered: BTreeSet<(LinkIx, IpAddr)>,
}

impl Wires {
    /// As they are for `actors` at `now`. `deaf`: actors between whom and this host adverts do not pass.
    pub(super) fn new(actors: &[Actor], deaf: BTreeSet<usize>, now: Instant) -> Self {
        let unanswered = actors.iter().take(1).flat_map(|me| unanswered(&me.engine)).collect();
        let (segments, dead_paths) = (segments(actors), dead_paths(actors, now));
        Self { segments, cut: None, deaf, dead_paths, unanswered }
    }
}

impl Group {
    /// Is the actor connected to the segment of its `link`?
    pub(super) fn plugged(&self, n: usize, link: LinkIx) -> bool {
        let links = &self.actors[n].engine.links;
        self.actors[n].powered && links.get(usize::from(link.0)).is_some_and(|l| l.usable())
    }

    /// Does a frame pass between the two on the segment of this host's `link`?
    fn passes(&self, a: usize, b: usize, link: LinkIx) -> bool {
        let between = a == ME || b == ME;
        match self.wires.cut {
            Some(Cut::Everything) => !between,
            Some(Cut::Link(cut)) => !between || cut != link,
            None => true,
        }
    }

    pub(super) fn deaf_to(&self, a: usize, b: usize) -> bool {
        (a == ME && self.wires.deaf.contains(&b)) || (b == ME && self.wires.deaf.contains(&a))
    }

    /// The actors on the segment of `link` of `n`, with their links: those that a frame reaches.
    fn beside(&self, n: usize, link: LinkIx) -> Vec<(usize, LinkIx)> {
        let Some(segment) = self.wires.segments[n].get(usize::from(link.0)) else {
            return Vec::new();
        };
        let mut beside = Vec::new();
        for (other, links) in
            self.wires.segments.iter().enumerate().filter(|(other, _)| *other != n)
        {
            for (theirs, at) in (0u16..).map(LinkIx).zip(links) {
                let mine = if n == ME { link } else { theirs };
                if at == segment && self.passes(n, other, mine) {
                    beside.push((other, theirs));
                }
            }
        }
        beside
    }

    pub(super) fn send_advert(&mut self, from: usize, transmit: Transmit) {
        let Transmit { link, src, dst, payload, .. } = transmit;
        let beside = self.beside(from, link);
        for (dst, payload) in dst.into_iter().zip(payload) {
            let payload: Arc<[u8]> = payload.into();
            for (to, link) in beside.clone() {
                let theirs = &self.actors[to].engine.links[usize::from(link.0)].state.addrs;
                let group = Family::ALL.iter().any(|f| f.group() == dst);
                if group || theirs.contains(&dst) {
                    let payload = Arc::clone(&payload);
                    self.after(HOP, Item::Advert { from, to, link, src, dst, payload });
                }
            }
        }
    }

    pub(super) fn send_heartbeat(&mut self, from: usize, out: HeartbeatOut) {
        let path = usize::from(out.path.0);
        let addr = |n: usize| {
            let actor = &self.actors[n];
            let host = actor.engine.model.hosts.get(usize::from(actor.host?.0))?;
            host.paths.get(path).copied()
        };
        let to = (0..self.actors.len()).find(|n| *n != from && addr(*n) == Some(out.to.ip()));
        let (Some(to), Some(src)) = (to, addr(from)) else { return };
        if self.path_works(from, path)
            && self.path_works(to, path)
            && self.path_passes(from, to, path)
        {
            let src = SocketAddr::new(src, out.to.port());
            let payload = out.payload.into();
            self.after(HOP, Item::Heartbeat { to, path: out.path, src, payload });
        }
    }

    /// The service link of `n` over which its path runs, where it runs over one.
    fn link_of_path(&self, n: usize, path: usize) -> Option<LinkIx> {
        let actor = &self.actors[n];
        let host = actor.engine.model.hosts.get(usize::from(actor.host?.0))?;
        let addr = host.paths.get(path)?;
        let links = (0u16..).map(LinkIx).zip(&actor.engine.links);
        links.into_iter().find(|(_, l)| l.state.addrs.contains(addr)).map(|(ix, _)| ix)
    }

    fn path_works(&self, n: usize, path: usize) -> bool {
        self.actors[n].powered
            && self.link_of_path(n, path).is_none_or(|link| self.plugged(n, link))
    }

    fn path_passes(&self, a: usize, b: usize, path: usize) -> bool {
        let dead = |x: usize, y: usize| x == ME && self.wires.dead_paths.contains(&(y, path));
        if dead(a, b) || dead(b, a) {
            return false;
        }
        match (a == ME || b == ME, self.wires.cut) {
            (true, Some(Cut::Everything)) => false,
            (true, Some(Cut::Link(cut))) => self.link_of_path(ME, path) != Some(cut),
            _ => true,
        }
    }

    /// Does `n` hear `other` on any heartbeat path?
    pub(super) fn hears(&self, n: usize, other: usize) -> bool {
        let paths = |n: usize| {
            let actor = &self.actors[n];
            let host =
                actor.host.and_then(|host| actor.engine.model.hosts.get(usize::from(host.0)));
            host.map_or(0, |host| host.paths.len())
        };
        let paths = paths(n).min(paths(other));
        (0..paths).any(|path| {
            self.path_works(n, path)
                && self.path_works(other, path)
                && self.path_passes(other, n, path)
        })
    }

    pub(super) fn announce(&mut self, n: usize, announce: &Announce) {
        if !self.plugged(n, announce.link) {
            return;
        }
        let key = self.actors[n].engine.model.instance(announce.router.instance).key;
        let fact = Fact::Announced { player: n, key, family: announce.router.family };
        let now = self.now();
        self.story.note(now, fact);
        for (to, link) in self.beside(n, announce.link) {
            let seen = NeighbourIn { link, addr: announce.addr, mac: announce.mac, reply: false };
            self.after(HOP, Item::Neighbour { to, seen });
        }
    }

    /// Kernels answer by themselves, whatever their agents do; targets outside of the group do.
    pub(super) fn ask(&mut self, n: usize, probe: &Probe) {
        if !self.plugged(n, probe.link) {
            return;
        }
        let (link, addr) = (probe.link, probe.addr);
        let mut of_group = self.actors[n].engine.by_addr.contains_key(&(link, addr));
        for (to, theirs) in self.beside(n, link) {
            let actor = &self.actors[to].engine;
            let own = actor.links[usize::from(theirs.0)].state.addrs.contains(&addr);
            of_group |= own;
            let mac = match self.serves(to, theirs, addr) {
                Some(mac) => mac,
                None if own => actor.links[usize::from(theirs.0)].state.mac,
                None => continue,
            };
            if self.plugged(to, theirs) && probe.to.is_none_or(|asked| asked == mac) {
                self.after(
                    HOP * 2,
                    Item::Neighbour { to: n, seen: NeighbourIn { link, addr, mac, reply: true } },
                );
            }
        }
        let silent = n == ME && self.wires.unanswered.contains(&(link, addr));
        let of_hosts = self.actors[n].engine.is_of_group(addr);
        if !of_group && !of_hosts && !silent {
            let mac = Mac([2, 0x76, 0x69, 0x70, 0xfe, 0]);
            self.after(
                HOP * 2,
                Item::Neighbour { to: n, seen: NeighbourIn { link, addr, mac, reply: true } },
            );
        }
    }

    /// The hardware address under which the kernel of `n` has a virtual address.
    fn serves(&self, n: usize, link: LinkIx, addr: IpAddr) -> Option<Mac> {
        let actor = &self.actors[n];
        let ix = *actor.engine.by_addr.get(&(link, addr))?;
        let family = Family::of(&addr);
        let holds = actor.held.get(&ix).is_some_and(|families| families[family as usize]);
        let instance = actor.engine.model.instance(ix);
        holds.then(|| match instance.virtual_mac {
            true => Mac::virtual_router(family, instance.vrid),
            false => actor.engine.links[usize::from(link.0)].state.mac,
        })
    }
}

/// Paths on which a peer is not heard, or does not hear this host.
fn dead_paths(actors: &[Actor], now: Instant) -> BTreeSet<(usize, usize)> {
    let mut dead = BTreeSet::new();
    let Some(peers) = actors.first().and_then(|me| me.engine.peers.as_ref()) else { return dead };
    for (n, actor) in actors.iter().enumerate() {
        let Some(peer) = peers.iter().find(|p| Some(p.host) == actor.host) else { continue };
        let patience = peers.config.interval.duration() * 7 / 2;
        for (path, (heard, hears_me)) in peer.path_view().enumerate() {
            if !hears_me || heard.is_none_or(|at| now.since(at) > patience) {
                dead.insert((n, path));
            }
        }
    }
    dead
}

/// Numbers of segments, by actor and link.
fn segments(actors: &[Actor]) -> Vec<Vec<usize>> {
    let mut next = 0;
    let mut of: Vec<Vec<usize>> = Vec::new();
    for actor in actors {
        of.push(
            actor
                .engine
                .links
                .iter()
                .map(|_| {
                    next += 1;
                    next
                })
                .collect(),
        );
    }
    let mut by_key: BTreeMap<u64, usize> = BTreeMap::new();
    for (n, actor) in actors.iter().enumerate() {
        for instance in &actor.engine.model.instances {
            let link = usize::from(instance.link.0);
            let mine = of[n][link];
            let known = *by_key.entry(instance.key).or_insert(mine);
            if known != mine {
                // Both are one from now on.
                of.iter_mut().flatten().filter(|s| **s == mine).for_each(|s| *s = known);
                by_key.values_mut().filter(|s| **s == mine).for_each(|s| *s = known);
            }
        }
    }
    of
}
