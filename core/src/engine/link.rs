//! Service interfaces: state, settling, source addresses, and what the neighbours on them say.

use super::io::{Alarm, Cause, LinkState, NeighbourIn};
use super::{Engine, UnitIx};
use crate::config::model;
use crate::time::{Duration, Instant};
use crate::types::{Family, IfIndex, LinkIx, Mac, State};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One service interface.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) state: LinkState,
    settle: Duration,
    /// Not claiming before a frame was received, or before this time (DESIGN 5.12).
    settle_until: Instant,
    /// The interface on which the agent before this one did not have to wait for a frame any more.
    pub(super) heard_before: Option<IfIndex>,
    /// Neighbours outside the group, with the time of their last sign of life: targets where there are no others.
    neighbours: BTreeMap<IpAddr, Instant>,
}

/// Neighbours remembered per link; the one not heard for longest goes.
const NEIGHBOURS: usize = 4;
/// A neighbour not heard for this long is no target any more.
const NEIGHBOUR_FRESH: Duration = Duration::from_secs(60);

impl Link {
    pub(super) fn new(link: &model::Link) -> Self {
        Self {
            state: LinkState::default(),
            settle: link.settle,
            settle_until: Instant::ZERO,
            heard_before: None,
            neighbours: BTreeMap::new(),
        }
    }

    /// Goes on as `before` was; only the wait for a first frame is by the new configuration, from the next carrier on.
    pub(super) fn go_on(&mut self, before: Self) {
        let settle = self.settle;
        *self = Self { settle, ..before };
    }

    /// Exists, is up and has carrier.
    pub(super) fn usable(&self) -> bool {
        self.state.index.is_some() && self.state.running
    }

    pub(super) fn settling(&self, now: Instant) -> bool {
        now < self.settle_until
    }

    pub(super) fn settle_until(&self) -> Instant {
        self.settle_until
    }

    /// Neighbours outside the group that were heard in the last 60 s.
    pub(super) fn neighbours(&self, now: Instant) -> impl Iterator<Item = IpAddr> {
        self.neighbours
            .iter()
            .filter(move |(_, at)| now.since(**at) < NEIGHBOUR_FRESH)
            .map(|(a, _)| *a)
    }

    fn heard_neighbour(&mut self, addr: IpAddr, now: Instant) {
        self.neighbours.insert(addr, now);
        if self.neighbours.len() > NEIGHBOURS
            && let Some(oldest) = self.neighbours.iter().min_by_key(|(_, at)| **at).map(|(a, _)| *a)
        {
            self.neighbours.remove(&oldest);
        }
    }
}

impl Engine {
    pub(super) fn units_on(&self, link: LinkIx) -> Vec<UnitIx> {
        (0..self.units.len()).filter(|u| self.units[*u].link == link).collect()
    }

    pub(super) fn on_link(&mut self, link: LinkIx, state: LinkState) {
        let now = self.now.mono;
        let slot = &mut self.links[usize::from(link.0)];
        let was_usable = slot.usable();
        let old = std::mem::replace(&mut slot.state, state);
        let recreated = old.index != slot.state.index;
        let usable = slot.usable();
        if usable && (!was_usable || recreated) {
            // A predecessor heard somebody on this very interface.
            let heard =
                slot.heard_before.take().is_some_and(|index| slot.state.index == Some(index));
            slot.settle_until = if heard { Instant::ZERO } else { now + slot.settle };
        }
        if usable && (!was_usable || recreated || old.addrs != slot.state.addrs) {
            self.find_paths(link);
        }
        let mac_changed = old.mac != self.links[usize::from(link.0)].state.mac;
        for u in self.units_on(link) {
            if was_usable && (!usable || recreated) {
                self.fault(u, Cause::LinkDown);
            }
            self.choose_sources(u);
            if usable && self.units[u].state() == State::Initialize {
                self.try_start(u);
            }
            self.tell_why_not_started(u);
            if mac_changed && self.units[u].is_active() {
                self.announce_afresh(u);
            }
            self.rearm(u);
        }
        self.urgent();
    }

    /// Source addresses of the adverts on the interface, by another configuration.
    pub(super) fn sources_anew(&mut self, link: LinkIx) {
        if self.links[usize::from(link.0)].usable() {
            self.units_on(link).into_iter().for_each(|u| self.choose_sources(u));
        }
    }

    /// From its start on this host cannot take part: what is missing is said once, and stands in the status.
    pub(super) fn tell_why_not_started(&mut self, u: UnitIx) {
        let unit = &self.units[u];
        if unit.state() != State::Initialize || unit.cause != Cause::Startup {
            return;
        }
        if !self.links[usize::from(unit.link.0)].usable() {
            self.cannot_start(u, Cause::LinkDown);
        } else if unit.source().is_none() {
            self.cannot_start(u, Cause::NoSource);
        }
    }

    /// Source addresses of the adverts: configured, else the first that fits and is not virtual.
    fn choose_sources(&mut self, u: UnitIx) {
        let link = usize::from(self.units[u].link.0);
        let instance = self.model.instance(self.units[u].instance);
        let addrs = &self.links[link].state.addrs;
        let chosen: Vec<Option<IpAddr>> = self.units[u]
            .voices
            .iter()
            .map(|voice| {
                let fits = |a: &&IpAddr| {
                    Family::of(a) == voice.family
                        && (instance.priority.is_owner()
                            || !instance.claimed().any(|v| v.addr == **a))
                };
                match instance.source_in(voice.family) {
                    Some(wanted) => addrs.iter().filter(fits).find(|a| **a == wanted).copied(),
                    None => addrs.iter().filter(fits).find(|a| instance.is_source(**a)).copied(),
                }
            })
            .collect();
        let ix = self.units[u].instance;
        for (v, source) in chosen.into_iter().enumerate() {
            let family = self.units[u].voices[v].family;
            self.units[u].voices[v].source = source;
            if v > 0 {
                self.alarm(Some(ix), Alarm::FamilyDegraded(family), source.is_none());
            }
        }
        if self.units[u].source().is_none() {
            self.fault(u, Cause::NoSource);
        }
    }

    /// Somebody is out there: the port forwards.
    pub(super) fn on_frame_seen(&mut self, link: LinkIx) {
        let slot = &mut self.links[usize::from(link.0)];
        if slot.settling(self.now.mono) {
            slot.settle_until = Instant::ZERO;
            for u in self.units_on(link) {
                self.rearm(u);
            }
        }
    }

    /// ARP or NDP evidence of who holds an address.
    pub(super) fn on_neighbour(&mut self, seen: &NeighbourIn) {
        self.on_frame_seen(seen.link);
        self.reach_answered(seen);
        let Some(ix) = self.by_addr.get(&(seen.link, seen.addr)).copied() else {
            if self.peers.is_some() && !self.is_of_group(seen.addr) {
                let now = self.now.mono;
                self.links[usize::from(seen.link.0)].heard_neighbour(seen.addr, now);
            }
            return;
        };
        let family = Family::of(&seen.addr);
        for u in self.units_of(ix) {
            if self.units[u].voices.len() == 1
                && self.units_of(ix).len() > 1
                && !self.units[u].speaks(family)
            {
                continue;
            }
            if seen.mac == self.unit_mac(u, family) && self.units[u].is_active() {
                continue;
            }
            if self.units[u].is_active() && !seen.reply {
                // Whoever it was, the neighbours believe it now: an owner defends what it owns (RFC 5227 section 2.4).
                self.units[u].announce.limited(self.now.mono);
            }
            // An answer from a stranger may come from the kernel of a peer that never spoke since we started.
            let stranger = seen.reply && !self.mac_of_a_peer(seen.mac);
            let refuses = self.instance(u).on_conflict == model::OnConflict::Refuse;
            let never_heard = self.never_heard(u).filter(|_| stranger && !refuses);
            match self.silent_holder(u, seen.mac, family).or(never_heard) {
                Some(host) if seen.reply => self.stale_answer(u, host),
                Some(_) => {}
                None => self.foreign_holder(u, seen),
            }
            self.rearm(u);
        }
    }

    /// Somebody who is no host of the group uses the address (DESIGN 5.2). Without heartbeats the hardware
    /// addresses of the peers are unknown, so only an owner can tell.
    fn foreign_holder(&mut self, u: UnitIx, seen: &NeighbourIn) {
        let instance = self.units[u].instance;
        let known = self.mac_of_a_peer(seen.mac) || self.is_virtual_mac(u, seen.mac);
        if known || (!self.units[u].is_active() && self.peers.is_none()) {
            return;
        }
        // A peer that has not spoken since we started is not known by its hardware address yet.
        let refuses = self.instance(u).on_conflict == model::OnConflict::Refuse;
        if !refuses && !self.units[u].is_active() && self.never_heard(u).is_some() {
            return;
        }
        // Foreign VRRP peers are heard: what they own is theirs to announce.
        if self.units[u].vr.heard().is_some_and(|h| self.host_of(h.src).is_none()) {
            return;
        }
        self.alarm(Some(instance), Alarm::Conflict(seen.addr, seen.mac), true);
        if !self.units[u].is_active() {
            self.units[u].stale.conflict(self.now.mono);
        }
    }

    /// A peer has said which hardware addresses are its own: what was taken for a stranger may have been it.
    pub(super) fn no_strangers(&mut self) {
        let peers =
            |alarm: &Alarm| matches!(alarm, Alarm::Conflict(_, mac) if self.mac_of_a_peer(*mac));
        let over: Vec<_> =
            self.reporter.alarms.keys().filter(|(_, alarm)| peers(alarm)).cloned().collect();
        for (instance, alarm) in over {
            self.alarm(instance, alarm, false);
        }
    }

    fn is_virtual_mac(&self, u: UnitIx, mac: Mac) -> bool {
        let vrid = self.instance(u).vrid;
        Family::ALL.into_iter().any(|f| mac == Mac::virtual_router(f, vrid))
    }
}
