//! Heartbeats out (DESIGN 5.9): what this host says of itself, at its pace and at once when something changed.

use super::io::{HeartbeatOut, Output};
use super::restart::RESTART;
use super::{Engine, Slot};
use crate::time::Duration;
use crate::types::{Class, InstanceIx, LinkIx, PathIx, State};
use crate::wire::heartbeat::{
    Heard, Heartbeat, InstanceRecord, LinkRecord, MAX_INSTANCES_PER_DATAGRAM, parts,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Service interfaces that a heartbeat describes; instances on further ones are known by their adverts alone.
const MAX_LINKS: usize = 16;

/// Between two urgent heartbeats of a host with many instances.
const URGENT_GAP: Duration = Duration::from_millis(10);

impl Engine {
    /// Tells the peers at the end of this call.
    pub(super) fn urgent(&mut self) {
        if let Some(peers) = &mut self.peers {
            peers.urgent = true;
        }
    }

    pub(super) fn tell_peers_if_urgent(&mut self) {
        let now = self.now.mono;
        let Some(peers) = &self.peers else { return };
        // Whoever stood still reads first: what it would say of itself may be long over (DESIGN 5.3).
        // Nor does it speak before it has read what it owns: "does not take part" would be taken for a fault.
        if !peers.urgent || !self.begun || self.units.iter().any(|unit| unit.overslept.is_some()) {
            return;
        }
        // What takes several datagrams is not repeated for every single change.
        let gap = if self.holdings.len() > MAX_INSTANCES_PER_DATAGRAM {
            URGENT_GAP
        } else {
            Duration::ZERO
        };
        if now.since(peers.last_sent) >= gap {
            self.send_heartbeats();
        } else {
            self.set_slot(Slot::Heartbeat, peers.last_sent + gap);
        }
    }

    pub(super) fn heartbeat_due(&mut self) {
        let Some(peers) = &self.peers else { return };
        let at = self.now.mono + peers.config.interval.duration();
        // The sockets are drained: whether this host still owns is settled before it says so.
        (0..self.units.len()).for_each(|u| self.wake_after_oversleep(u));
        (0..self.units.len()).for_each(|u| self.look_for_standby(u));
        self.send_heartbeats();
        self.set_slot(Slot::Heartbeat, at);
        self.peers_due();
    }

    fn send_heartbeats(&mut self) {
        let now = self.now.mono;
        let links = self.link_records();
        let mut classes = BTreeMap::new();
        let model = std::sync::Arc::clone(&self.model);
        let records: Vec<InstanceRecord> =
            model.iter().map(|(ix, _)| self.own_record(ix, &mut classes)).collect();
        let config_hash = self.model.hash;
        let restart = self.preparing.as_ref().map(|_| RESTART);
        let Some(peers) = &mut self.peers else { return };
        let own = peers.config.interval;
        peers.urgent = false;
        peers.last_sent = now;
        let heard: Vec<Heard> = peers
            .all
            .iter()
            .flat_map(|p| {
                let paths = (0u8..).map(PathIx).zip(&p.paths);
                paths.map(|(path, last)| Heard {
                    host: p.hash,
                    path,
                    boot: p.boot,
                    seq: last.map_or(0, |(seq, _)| seq),
                    age_ms: last.map_or(u16::MAX, |(_, at)| millis(now.since(at))),
                })
            })
            .collect();
        let all = parts(&records, heard.len(), links.len());
        let parts = u8::try_from(all.len()).unwrap_or(u8::MAX);
        for (part, instances) in (0u8..parts).zip(all) {
            let mut beat = Heartbeat {
                host: peers.own_hash,
                boot: peers.boot,
                seq: 0,
                config: config_hash,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                interval: restart.map_or(own, |restart| restart.max(own)),
                part,
                parts,
                paths: heard.clone(),
                links: links.clone(),
                instances: instances.to_vec(),
            };
            for peer in &peers.all {
                let addrs = &self.model.hosts[usize::from(peer.host.0)].paths;
                for (path, addr) in (0u8..).map(PathIx).zip(addrs) {
                    peers.seq += 1;
                    beat.seq = peers.seq;
                    self.outputs.push_back(Output::Heartbeat(HeartbeatOut {
                        path,
                        to: SocketAddr::new(*addr, peers.config.port),
                        payload: beat.encode(&peers.key),
                    }));
                }
            }
        }
        peers.note_sent(now);
    }

    fn link_records(&self) -> Vec<LinkRecord> {
        let records = (0..).map(LinkIx).zip(&self.links).map(|(ix, link)| {
            let state = &link.state;
            let first = |wanted: fn(&&IpAddr) -> bool| state.addrs.iter().find(wanted).copied();
            let v4 = first(|a| a.is_ipv4());
            let v6 = first(|a| matches!(a, IpAddr::V6(v) if v.is_unicast_link_local()));
            // Adverts may leave from others: configured ones, and those by which unicast peers name this host.
            let mut addrs: Vec<_> = v4.into_iter().chain(v6).collect();
            for voice in self.units_on(ix).into_iter().flat_map(|u| &self.units[u].voices) {
                addrs.extend(voice.source.filter(|a| !addrs.contains(a)));
            }
            LinkRecord { mac: state.mac, running: link.usable(), addrs }
        });
        records.take(MAX_LINKS).collect()
    }

    /// What this host says of an instance: its most important unit speaks for it.
    /// `classes`: of the sync groups that were looked at already.
    fn own_record(&self, ix: InstanceIx, classes: &mut BTreeMap<usize, Class>) -> InstanceRecord {
        let now = self.now.mono;
        let instance = self.model.instance(ix);
        let holding = self.holding(ix);
        let lead = self.units_of(ix).into_iter().max_by_key(|u| self.units[*u].state());
        let unit = lead.map(|u| &self.units[u]);
        let heard =
            unit.and_then(|u| u.vr.heard()).filter(|h| now.since(h.at) < h.interval.duration() * 3);
        let owner = lead.and_then(|u| self.living_owner(u));
        let class = match lead.map(|u| (u, self.groups.group_of(u))) {
            Some((u, Some(group))) => *classes.entry(group).or_insert_with(|| self.class(u)),
            Some((u, None)) => self.own_class(u),
            None => Class::Unable,
        };
        // Who may not claim yet, whatever it hears, is nobody to wait for.
        let link = &self.links[usize::from(instance.link.0)];
        let barred = link.settling(now) || self.backup_until.is_some_and(|until| until > now);
        let waits = unit.is_some_and(|u| u.state() == State::Backup) && barred;
        let class = if waits { Class::Unable } else { class };
        // Who moves it away by request is missed by nobody: to the others it is a Backup that still holds.
        let moves =
            unit.is_some_and(|u| u.leaving.as_ref().is_some_and(|l| l.moves_to().is_some()));
        let class = if moves { self.fitness(ix).class() } else { class };
        let state = unit.map_or(State::Initialize, super::unit::Unit::state);
        InstanceRecord {
            key: instance.key,
            link: u8::try_from(instance.link.0).unwrap_or(u8::MAX),
            state: if moves { State::Backup } else { state },
            class,
            priority: unit.map_or(0, |u| u.vr.params().priority),
            // Who does not own passes on the highest epoch it knows: an owner that restarts goes on above it.
            epoch: self.newest(ix),
            applied: holding.applied(),
            holds: !holding.is_empty(),
            releasing: unit.is_some_and(|u| u.leaving.as_ref().is_some_and(|l| l.releasing())),
            leaving: unit.is_some_and(|u| u.leaving.is_some()) && !moves,
            hears: heard.map(|h| self.host_of(h.src).map_or(0, |p| self.host_hash(p))),
            hears_age_ms: heard.map_or(u16::MAX, |h| millis(now.since(h.at))),
            adverts_sent: unit.map_or(0, |u| u.adverts_sent),
            advert_age_ms: unit
                .and_then(|u| u.last_sent)
                .map_or(u16::MAX, |t| millis(now.since(t))),
            lease_left_ms: holding.lease_left(now).map_or(0, millis),
            reaches_target: lead.and_then(|u| self.reaches_targets(u)),
            reaches_owner: lead.zip(owner).and_then(|(u, o)| self.reaches_host(u, o)),
            release_request: unit.is_some_and(|u| u.release_asked.is_some())
                || lead.is_some_and(|u| self.asks_for_address(u)),
            virtual_mac: instance.virtual_mac,
            stale: lead.is_some_and(|u| self.stale(u)),
            plans_preemption: lead.is_some_and(|u| self.plans_preemption(u)),
            orders: self.told_orders(ix),
        }
    }
}

/// Whole milliseconds for the wire; 65535: longer.
pub(super) fn millis(d: Duration) -> u16 {
    u16::try_from(d.as_millis()).unwrap_or(u16::MAX)
}
