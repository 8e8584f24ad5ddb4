//! Adverts in and out: from a datagram to the state machine's reaction, and from a state to bytes.

use super::fitness::PIN;
use super::io::{Alarm, Cause, Output, Packet, Transmit};
use super::{Engine, UnitIx};
use crate::config::model::Transport;
use crate::time::{Duration, Instant};
use crate::types::{Family, RouterId, State};
use crate::vrrp::{Expiry, Heard, Reaction};
use crate::wire::receive::{Accepted, Datagram, validate};
use crate::wire::vrrp::Advert;
use std::cmp::Ordering;

/// The lowest priority of an advert.
pub(super) const WEAKEST: u8 = 1;

impl Engine {
    pub(super) fn on_packet(&mut self, packet: &Packet<'_>) {
        self.on_frame_seen(packet.link);
        let family = Family::of(&packet.src);
        let datagram = Datagram {
            family,
            src: packet.src,
            dst: packet.dst,
            ttl: packet.ttl,
            payload: packet.payload,
        };
        let mut target = None;
        let (routers, units) = (&self.routers, &mut self.units);
        let own = &self.links[usize::from(packet.link.0)].state.addrs;
        let verdict = validate(&datagram, own, self.now.utc, &mut self.global, |vrid| {
            let (u, v) = *routers.get(&(packet.link, family, vrid))?;
            target = Some((u, v));
            Some(&mut units[u].voices[v].receiver)
        });
        match (verdict, target) {
            (Ok(accepted), Some((u, v))) => {
                let at = self.now.mono.before(packet.age);
                self.on_advert(u, v, packet, &accepted, at);
                self.rearm(u);
            }
            (Ok(_), None) => {}
            (Err(reason), _) => self.report_refused(packet.src, reason),
        }
    }

    fn on_advert(
        &mut self,
        u: UnitIx,
        v: usize,
        packet: &Packet<'_>,
        accepted: &Accepted,
        at: Instant,
    ) {
        let advert = &accepted.advert;
        let instance = self.units[u].instance;
        if accepted.list_mismatch && !self.differs(packet.src) {
            self.alarm(Some(instance), Alarm::DuplicateVrid(packet.src), true);
        }
        if accepted.duplicate_owner {
            self.alarm(Some(instance), Alarm::DuplicateOwner(packet.src), true);
        }
        let heard =
            Heard { src: packet.src, priority: advert.priority, interval: advert.interval, at };
        self.units[u].note_advert(v, &heard);
        self.units[u].release_asked = None;
        if self.units[u].leaving.is_some() {
            self.successor_heard(u, &heard);
            return;
        }
        let owner_speaks = advert.priority != 0;
        let doubtful =
            self.units[u].overslept.is_some() || self.now.mono < self.units[u].adopted_until;
        if owner_speaks && doubtful && self.units[u].is_active() {
            let cause = Cause::Overslept(self.units[u].overslept.unwrap_or(Duration::ZERO));
            self.units[u].overslept = None;
            self.stand_back(u, cause, Some(heard));
            // It may have served until now: the one last advert makes the other owner announce (DESIGN 5.4). Who owned
            // when this one was queued may have been followed by a weaker one: it must outrank nobody.
            self.advertise(u, WEAKEST);
            return;
        }
        if !owner_speaks && self.units[u].overslept.is_some() {
            // What is still queued may show the owner after the one that left: no answer before it is read
            // (DESIGN 5.3). The advert that is overdue follows.
            return;
        }
        if owner_speaks
            && self.units[u].is_active()
            && let Some(host) = self.host_of(heard.src)
        {
            if self.move_taken(u, host, Some(heard)) {
                return;
            }
            if self.crosses(u, host) {
                // It has not heard of our claim: told again, and not yielded to.
                let priority = self.units[u].vr.params().priority;
                self.advertise(u, priority);
                return;
            }
        }
        if v == 0 {
            self.owner_seen(u, heard.src, heard.priority, at);
        }
        self.refresh_preemption(u);
        let Some(local) = self.units[u].voices[v].source else {
            // A mute voice hears for the unit, but has no address to compare.
            if self.units[u].state() == State::Backup {
                self.units[u].vr.hear(heard, packet.dst);
            }
            return;
        };
        self.newer_pin(u, &heard);
        let reaction = self.units[u].vr.hear(heard, local);
        self.react(u, heard, reaction, accepted.authenticated);
        self.press_order(u);
    }

    /// Another host claims with the priority of a promotion: the newer word of an operator ends the older one
    /// (DESIGN 5.6), whichever address is higher, also while this host hands over: it may take the addresses back.
    pub(super) fn newer_pin(&mut self, u: UnitIx, heard: &Heard) {
        let unit = &mut self.units[u];
        if unit.pinned && heard.priority == PIN {
            unit.pinned = false;
            let ix = unit.instance;
            self.set_priority(u);
            self.keep(ix);
        }
    }

    fn react(&mut self, u: UnitIx, heard: Heard, reaction: Reaction, authenticated: bool) {
        let now = self.now.mono;
        match reaction {
            Reaction::Ignored => {}
            Reaction::WeakerOwner => self.units[u].leaver = None,
            Reaction::OwnerAlive => {
                self.units[u].leaver = None;
                self.owner_heard(u);
            }
            Reaction::OwnerLeaves => {
                // Of several Backups the best one need not wait for its skew when heartbeats name it.
                // Who cleans up leaves as well: while another host is known to own, its answer is awaited.
                let leaver = self.host_of(heard.src);
                let owned = self.living_owner(u).is_some_and(|owner| leaver != Some(owner));
                if !owned {
                    self.units[u].leaver = leaver;
                }
                let first = self.peers.is_some() && !owned && self.first_in_line(u);
                self.units[u].vr.owner_gone(heard.at, Expiry::Released, first);
            }
            Reaction::Yield { .. } if self.less_eligible(u, &heard) => {
                // Over heartbeats that host yields to this one: both would let go.
                if self.units[u].vr.may_answer(heard.at) {
                    let priority = self.units[u].vr.params().priority;
                    self.advertise(u, priority);
                    self.urgent();
                }
            }
            Reaction::Yield { tie_break } => self.yield_to(u, heard, tie_break),
            Reaction::Answer { allowed } => {
                if heard.priority != 0 {
                    self.weaker_heard(u, &heard, authenticated);
                }
                if allowed {
                    let priority = self.units[u].vr.params().priority;
                    self.advertise(u, priority);
                }
                self.units[u].announce.limited(now);
            }
            Reaction::SameAddress => {
                self.report_refused(heard.src, crate::wire::receive::Reason::OwnSource);
            }
        }
    }

    /// A host of the group that is stronger by priority and the worse owner by its own fresh word: between hosts with
    /// heartbeats reach and class decide first (DESIGN 5.9). Who says that it does not hear ours would not yield.
    fn less_eligible(&self, u: UnitIx, heard: &Heard) -> bool {
        let Some(host) = self.host_of(heard.src).filter(|host| self.hears_us(*host)) else {
            return false;
        };
        if heard.priority == PIN && self.units[u].vr.params().priority == PIN {
            // The epoch of the newer pin may not have come by heartbeat yet.
            return false;
        }
        let mut peers = self.living_peers(u).filter(|(peer, _)| *peer == host);
        peers
            .any(|(_, record)| self.eligible_before(u, heard.priority, record) == Ordering::Greater)
    }

    /// A weaker peer advertises although we do. Once is the last word of a host that yields; more is a second owner,
    /// and one that goes on after our answers does not hear us (DESIGN 5.12).
    fn weaker_heard(&mut self, u: UnitIx, heard: &Heard, authenticated: bool) {
        let instance = self.units[u].instance;
        self.units[u].weaker_run += 1;
        self.units[u].weaker_at = heard.at;
        let run = self.units[u].weaker_run;
        if run > 1 {
            self.alarm(Some(instance), Alarm::DualActive(heard.src), true);
        }
        if authenticated && run > 3 {
            self.alarm(Some(instance), Alarm::DeafPeer(heard.src), true);
        }
    }

    /// Nobody weaker was heard for 3T: the conflict is over, and the neighbours are told once more who owns. The alarm of
    /// two owners ends by itself: heartbeats may still speak for it.
    pub(super) fn conflict_over(&mut self, u: UnitIx) {
        let now = self.now.mono;
        let unit = &mut self.units[u];
        if unit.weaker_run > 0 && now.since(unit.weaker_at) > unit.interval() * 3 {
            let run = std::mem::take(&mut unit.weaker_run);
            let instance = unit.instance;
            if run > 1 {
                self.announce_afresh(u);
                self.clear_alarms(instance, |a| matches!(a, Alarm::DeafPeer(_)));
            }
        }
    }

    /// Sends one advert of `priority` by every voice that has a source address.
    pub(super) fn advertise(&mut self, u: UnitIx, priority: u8) {
        let model = std::sync::Arc::clone(&self.model);
        let utc = self.now.utc;
        // A frame from the virtual MAC moves the switches' tables: only who serves the addresses sends one.
        let serves = self.holding(self.units[u].instance).applied();
        let unit = &mut self.units[u];
        let instance = model.instance(unit.instance);
        let owns = unit.is_active() || unit.leaving.as_ref().is_some_and(|l| !l.released());
        let virtual_mac = instance.virtual_mac && serves && owns;
        let interval = unit.told_interval();
        unit.named = interval;
        for voice in &mut unit.voices {
            let Some(src) = voice.source else { continue };
            let family = voice.family;
            let advert = Advert {
                version: instance.version_in(family),
                vrid: instance.vrid,
                priority,
                interval,
                addresses: instance.advertised(family).map(|vip| vip.addr).collect(),
                simple_text: voice.receiver.simple_text,
            };
            let dst: Vec<_> = match &instance.transport {
                Transport::Multicast => vec![family.group()],
                Transport::Unicast(peers) => {
                    peers.iter().copied().filter(|p| Family::of(p) == family).collect()
                }
            };
            let payload = dst
                .iter()
                .map(|to| {
                    let mut message = advert.encode(src, *to, instance.checksum);
                    if let Some(signer) = &mut voice.signer {
                        signer.sign(utc, advert.version, advert.vrid, src, *to, &mut message);
                    }
                    message
                })
                .collect();
            let counters = &mut voice.receiver.counters;
            counters.advertisement_sent += 1;
            if priority == 0 {
                counters.priority_zero_pkts_sent += 1;
            }
            self.outputs.push_back(Output::Send(Transmit {
                router: RouterId { instance: unit.instance, family },
                link: unit.link,
                src,
                dst,
                virtual_mac,
                payload,
            }));
        }
    }

    pub(super) fn on_sent(&mut self, router: RouterId, accepted: bool) {
        if !accepted {
            return;
        }
        let now = self.now.mono;
        for u in self.units_of(router.instance) {
            let unit = &mut self.units[u];
            if unit.speaks(router.family) {
                unit.last_sent = Some(now);
                unit.adverts_sent += 1;
                self.advert_accepted();
                self.stretched_accepted(u, router.family);
                self.units[u].peers_count();
            }
        }
    }

    /// An Active that stood still for 3T may have lost the address to a peer (DESIGN 5.3): what is queued is read
    /// first.
    pub(super) fn notice_oversleep(&mut self) {
        let now = self.now.mono;
        // Who last advertised 3T ago has an advert that is overdue by 2T: the agenda tells in O(1).
        if now.since(self.agenda.next()) < self.fastest * 2 {
            return;
        }
        for unit in &mut self.units {
            if !unit.is_active() || unit.leaving.is_some() || unit.overslept.is_some() {
                continue;
            }
            // Who goes on for an earlier agent owns for longer than this one runs.
            let gap = now.since(unit.last_sent.unwrap_or_else(|| unit.since.max(self.started)));
            if gap >= unit.interval() * 3 {
                unit.overslept = Some(gap);
            }
        }
    }

    /// All sockets are drained and nobody else was heard: go on, unless the lease may have ended.
    pub(super) fn wake_after_oversleep(&mut self, u: UnitIx) {
        let Some(gap) = self.units[u].overslept.take() else { return };
        if self.lease_may_have_ended(u) {
            self.stand_back(u, Cause::Overslept(gap), None);
        } else {
            self.announce_afresh(u);
        }
    }

    /// Announces as after a claim, if the kernel has the addresses: while a repair is on its way, the answer to it
    /// announces (DESIGN 5.4).
    pub(super) fn announce_afresh(&mut self, u: UnitIx) {
        let holding = self.holding(self.units[u].instance);
        if holding.applied() && !holding.repairing() {
            self.units[u].announce.start(self.now.mono);
        }
    }
}
