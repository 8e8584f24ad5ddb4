//! Heartbeats in (DESIGN 5.9): who is alive on which path, what each host says of each instance.
//!
//! Believed is what is made with our key and newer than what the same host said before: boot counter, then
//! sequence, no wall clock. A host whose boot counter was lost learns from its peers' heartbeats and goes on above it.

use super::heartbeats::millis;
use super::io::{Alarm, Cause, EventKind, Handover, HeartbeatIn, PeerHandover};
use super::leave::Leaving;
use super::reload::Renumber;
use super::silence::Reach;
use super::{Engine, Secrets, UnitIx};
use crate::config::model::{Heartbeat as Config, Model};
use crate::config::stable_hash;
use crate::time::{Duration, Instant};
use crate::types::{Class, Epoch, Family, HostIx, InstanceIx, Mac, State};
use crate::vrrp::Expiry;
use crate::wire::heartbeat::{Heard, Heartbeat, HeartbeatKey, InstanceRecord, LinkRecord};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// So many rounds of heartbeats are remembered: five seconds at the shortest interval.
const ROUNDS: usize = 512;
/// On its way for so long a heartbeat says nothing of who owns now.
const OLD_WORD: Duration = Duration::from_millis(100);

/// What one host said last.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) host: HostIx,
    pub(super) hash: u64,
    /// Newest accepted boot and, by path, sequence and time.
    pub(super) boot: u64,
    pub(super) paths: Vec<Option<(u64, Instant)>>,
    /// By path: has it heard us within three of its intervals, by its own word?
    hears_me: Vec<bool>,
    records: BTreeMap<u64, (u64, InstanceRecord)>,
    pub(super) links: Vec<LinkRecord>,
    /// Every hardware address it was ever heard to have.
    pub(super) macs: BTreeSet<Mac>,
    interval: Duration,
    pub(super) version: String,
    pub(super) alive: bool,
    /// Not before then its newest heartbeat was made.
    said_at: Instant,
}

impl Peer {
    /// When it was last heard on any path.
    pub(super) fn last_heard(&self) -> Option<Instant> {
        self.paths.iter().flatten().map(|(_, at)| *at).max()
    }

    /// What the next agent of this host has to know of it.
    pub(super) fn hand_over(&self, host: &str) -> PeerHandover {
        PeerHandover {
            host: host.to_owned(),
            boot: self.boot,
            paths: self.paths.iter().map(|p| p.map(|(seq, _)| seq)).collect(),
            hears_me: self.hears_me.clone(),
            macs: self.macs.iter().map(|mac| mac.0).collect(),
            interval_cs: u16::try_from(self.interval.as_millis() / 10).unwrap_or(u16::MAX),
            version: self.version.clone(),
            alive: self.alive,
        }
    }

    /// As the agent before this one knew it. While nobody listened nothing could be heard: its silence counts from `now`.
    fn resume(&mut self, before: &PeerHandover, now: Instant) {
        self.boot = before.boot;
        self.macs.extend(before.macs.iter().copied().map(Mac));
        self.interval =
            self.interval.max(Duration::from_millis(u64::from(before.interval_cs) * 10));
        self.version.clone_from(&before.version);
        self.alive = before.alive;
        for (path, seq) in self.paths.iter_mut().zip(&before.paths) {
            *path = seq.map(|seq| (seq, now));
        }
        for (mine, hears) in self.hears_me.iter_mut().zip(&before.hears_me) {
            *mine = *hears;
        }
    }

    /// By path: when it was last heard, and whether it says that it hears us.
    pub(super) fn path_view(&self) -> impl Iterator<Item = (Option<Instant>, bool)> {
        self.paths.iter().map(|p| p.map(|(_, at)| at)).zip(self.hears_me.iter().copied())
    }
}

/// Heartbeats of this host and of its peers.
#[derive(Clone)]
pub(super) struct Peers {
    pub(super) config: Config,
    pub(super) key: HeartbeatKey,
    pub(super) boot: u64,
    pub(super) seq: u64,
    pub(super) own_hash: u64,
    pub(super) all: Vec<Peer>,
    /// Something changed that peers should know now.
    pub(super) urgent: bool,
    pub(super) last_sent: Instant,
    /// The last number of each round of heartbeats, and when it went out.
    sent: VecDeque<(u64, Instant)>,
    pub(super) reach: Reach,
}

impl Peers {
    /// The longest interval at which one of them says that it sends heartbeats.
    pub(super) fn slowest(&self) -> Option<Duration> {
        self.all.iter().map(|peer| peer.interval).max()
    }

    /// `None` where the model has no heartbeats or the key is missing (the edge refuses to start then).
    pub(super) fn new(model: &Model, secrets: &Secrets, boot: u64) -> Option<Self> {
        let config = model.heartbeat.clone()?;
        let key = HeartbeatKey::derive(secrets.cluster_key.as_ref()?, &model.cluster);
        let others = (0u8..).map(HostIx).zip(&model.hosts).filter(|(h, _)| *h != model.host);
        let all = others
            .map(|(host, h)| Peer {
                host,
                hash: stable_hash(h.name.as_bytes()),
                boot: 0,
                paths: vec![None; h.paths.len()],
                hears_me: vec![false; h.paths.len()],
                records: BTreeMap::new(),
                links: Vec::new(),
                macs: BTreeSet::new(),
                interval: config.interval.duration(),
                version: String::new(),
                alive: false,
                said_at: Instant::ZERO,
            })
            .collect();
        let own_hash = stable_hash(model.host_name(model.host).as_bytes());
        Some(Self {
            config,
            key,
            boot,
            seq: 0,
            own_hash,
            all,
            urgent: false,
            last_sent: Instant::ZERO,
            sent: VecDeque::new(),
            reach: Reach::default(),
        })
    }

    /// A round of heartbeats went out.
    pub(super) fn note_sent(&mut self, now: Instant) {
        if self.sent.len() == ROUNDS {
            self.sent.pop_front();
        }
        self.sent.push_back((self.seq, now));
    }

    /// Not before when a heartbeat was made in which a peer says what it `heard` of this host: what it heard had been sent,
    /// and the time since then is in it. `None`: it heard nothing, or so long ago that nobody remembers.
    fn made_after(&self, heard: &Heard) -> Option<Instant> {
        let known = heard.boot == self.boot && heard.seq > 0 && heard.age_ms < u16::MAX;
        let round = self.sent.iter().find(|(last, _)| *last >= heard.seq).filter(|_| known)?;
        // The first one that is remembered stands for all before it.
        let first = self.sent.front().is_some_and(|front| front.0 == round.0);
        (!first || heard.seq == round.0)
            .then(|| round.1 + Duration::from_millis(u64::from(heard.age_ms)))
    }

    /// Peers that have ever spoken of the instance.
    pub(super) fn of_instance(&self, key: u64) -> impl Iterator<Item = &Peer> {
        self.all.iter().filter(move |p| p.records.contains_key(&key))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.all.iter()
    }

    /// As the agent before this one knew them.
    pub(super) fn resume(&mut self, before: &Handover, model: &Model, now: Instant) {
        if before.boot != 0 {
            // Numbers of heartbeats go on: to peers this is the agent that they know.
            self.boot = before.boot;
            self.seq = before.seq;
        }
        for peer in &mut self.all {
            let name = model.host_name(peer.host);
            if let Some(known) = before.peers.iter().find(|known| *known.host == **name) {
                peer.resume(known, now);
            }
        }
    }

    /// Goes on with what is known under another configuration: hosts by name, their paths by address.
    pub(super) fn go_on(&mut self, before: Self, renumber: &Renumber, old: &Model, new: &Model) {
        let Self { boot, seq, all, urgent, last_sent, reach, .. } = before;
        // Numbers of heartbeats go on: to peers this is the host that they know.
        (self.boot, self.seq) = (boot, seq);
        (self.urgent, self.last_sent) = (urgent, last_sent);
        self.reach = reach;
        self.reach.renumber(renumber);
        for known in all {
            let paths =
                |model: &Model, host: HostIx| model.hosts[usize::from(host.0)].paths.clone();
            let was = paths(old, known.host);
            let Some(host) = renumber.host(known.host) else { continue };
            let will = paths(new, host);
            let Some(peer) = self.all.iter_mut().find(|p| p.host == host) else { continue };
            let before = |addr: &IpAddr| was.iter().position(|a| a == addr);
            let heard = will.iter().map(|a| before(a).and_then(|at| known.paths[at])).collect();
            let hears = will.iter().map(|a| before(a).is_some_and(|at| known.hears_me[at]));
            *peer = Peer { host, paths: heard, hears_me: hears.collect(), ..known };
        }
    }

    fn get(&self, host: HostIx) -> Option<&Peer> {
        self.all.iter().find(|p| p.host == host)
    }
}

/// A Backup that let go, if it did, because others are better: not one that starts and may not claim yet.
pub(super) fn unfit(record: &InstanceRecord) -> bool {
    record.state == State::Backup && matches!(record.class, Class::Failing | Class::Drained)
}

impl Engine {
    pub(super) fn on_heartbeat(&mut self, input: &HeartbeatIn<'_>) {
        let at = self.now.mono.before(input.age);
        let own_boot_seen;
        let (host, boot_was_new, config) = {
            let own_config = self.model.hash;
            let Some(peers) = &mut self.peers else { return };
            let beat = match Heartbeat::decode(input.payload, &peers.key) {
                Ok(beat) => beat,
                Err(error) => {
                    self.report_heartbeat(input.src.ip(), error);
                    return;
                }
            };
            let own_hash = peers.own_hash;
            let of_us = beat.paths.iter().filter(|heard| heard.host == own_hash);
            let made = of_us.filter_map(|heard| peers.made_after(heard)).max();
            let Some(peer) = peers.all.iter_mut().find(|p| p.hash == beat.host) else {
                return;
            };
            let path = usize::from(input.path.0);
            let boot_was_new = beat.boot > peer.boot;
            if boot_was_new {
                peer.boot = beat.boot;
                peer.paths.fill(None);
                peer.records.values_mut().for_each(|(seq, _)| *seq = 0);
            }
            let seen = peer.paths.get(path).copied().flatten().map_or(0, |(seq, _)| seq);
            if beat.boot < peer.boot || beat.seq <= seen {
                let behind = beat.boot < peer.boot;
                let host = peer.host;
                if behind {
                    self.alarm(None, Alarm::BootCounterBehind(host), true);
                    // It learns from our next heartbeat which counter we believe.
                }
                return;
            }
            peer.interval = beat.interval.duration();
            let patience = millis(peer.interval * 3);
            let mut path_back = false;
            if let Some(slot) = peer.paths.get_mut(path) {
                path_back = slot.is_some_and(|(_, last)| at.since(last) > peer.interval * 3);
                *slot = Some((beat.seq, at));
            }
            peer.said_at = made.unwrap_or(at);
            own_boot_seen = beat.paths.iter().filter(|h| h.host == own_hash).map(|h| h.boot).max();
            for heard in beat.paths.iter().filter(|h| h.host == own_hash) {
                if let Some(hears) = peer.hears_me.get_mut(usize::from(heard.path.0)) {
                    let again = heard.age_ms <= patience && heard.boot == peers.boot;
                    // A cut of this direction alone is seen by its far side only.
                    path_back |= again && !*hears;
                    *hears = again;
                }
            }
            let known = peer.macs.len();
            peer.macs.extend(beat.links.iter().map(|l| l.mac));
            let introduced = peer.macs.len() > known;
            peer.links.clone_from(&beat.links);
            peer.version.clone_from(&beat.version);
            let (host, mismatch) = (peer.host, beat.config != own_config);
            let mut changed = Vec::new();
            for record in beat.instances {
                let old = peer.records.get(&record.key).copied();
                if old.is_none_or(|(seq, _)| seq < beat.seq) {
                    peer.records.insert(record.key, (beat.seq, record));
                    changed.push((old.map(|(_, r)| r), record));
                }
            }
            let was_alive = std::mem::replace(&mut peer.alive, true);
            if introduced {
                self.no_strangers();
            }
            if !was_alive {
                self.event(None, None, EventKind::Peer { host, alive: true });
                self.urgent();
            }
            for (old, record) in changed {
                self.on_record(host, old.as_ref(), &record, at);
            }
            if path_back {
                self.announce_after_heal();
            }
            (host, boot_was_new, mismatch)
        };
        self.alarm(None, Alarm::ConfigMismatch(host), config);
        if boot_was_new {
            self.alarm(None, Alarm::BootCounterBehind(host), false);
        }
        self.catch_up_boot(own_boot_seen.unwrap_or(0), host);
    }

    /// A peer has seen a higher boot counter of ours: the stored one was lost. Go on above it.
    fn catch_up_boot(&mut self, seen: u64, host: HostIx) {
        if let Some(peers) = &mut self.peers
            && seen > peers.boot
        {
            let counter = seen.saturating_add(1);
            peers.boot = counter;
            self.event(None, None, EventKind::Boot { counter, told_by: host });
            self.urgent();
        }
    }

    /// A path works again: neighbours on its far side may have learnt another owner meanwhile.
    fn announce_after_heal(&mut self) {
        for u in 0..self.units.len() {
            if self.units[u].is_active() {
                self.units[u].announce.limited(self.now.mono);
                self.rearm(u);
            }
        }
    }

    /// What a peer says of an instance changed, or was said again, in a heartbeat that arrived `at`.
    fn on_record(
        &mut self,
        host: HostIx,
        old: Option<&InstanceRecord>,
        new: &InstanceRecord,
        at: Instant,
    ) {
        let Some(ix) = self.by_key.get(&new.key).copied() else { return };
        self.heard_orders(host, ix, old, new, at);
        for u in self.units_of(ix) {
            self.on_record_of(u, host, old, new, at);
            self.rearm(u);
        }
    }

    fn on_record_of(
        &mut self,
        u: UnitIx,
        host: HostIx,
        old: Option<&InstanceRecord>,
        new: &InstanceRecord,
        at: Instant,
    ) {
        let now = self.now.mono;
        let owned = old.is_some_and(InstanceRecord::owns);
        let owns = new.owns();
        let own = self.peers.as_ref().map(|p| p.own_hash);
        if self.units[u].gates.waits_for() == Some(host) {
            // The winner hears us on the service segment again, or is owner no more.
            let heard = new.hears == own
                || (new.reaches_target != Some(false) && self.reaches_host(u, host) == Some(true));
            if !owns || (heard && self.units[u].vr.silence(now) < self.units[u].interval() * 2) {
                self.units[u].gates.heard_by(host);
            }
        }
        match self.units[u].state() {
            State::Backup => {
                if owns && new.applied {
                    self.winner_applied(u);
                }
                if owns {
                    self.warm_up(u, host, new.class);
                }
                // Who was yielded to yields in turn, our word that we own having crossed its advert: the addresses
                // are still here, and stay.
                let given_back = owned
                    && new.state == State::Backup
                    && self.units[u].yielding.is_some_and(|yielding| yielding.is_to(host));
                if given_back && self.living_owner(u).is_none() {
                    self.units[u].vr.owner_gone(now, Expiry::Unable(host), true);
                }
                let gone = new.state == State::Initialize;
                // Read late, the news may be older than the adverts of the next owner (DESIGN 5.3).
                let news = !self.units[u].vr.silence(at).is_zero()
                    && !old.is_some_and(|o| self.claimed_since(u, host, o.epoch));
                if owned && gone && news && self.living_owner(u).is_none() {
                    // Told at once: no need to wait for the silence of its adverts.
                    let first = self.first_in_line(u);
                    let expiry = if new.leaving { Expiry::Released } else { Expiry::Unable(host) };
                    self.units[u].vr.owner_gone(at, expiry, first);
                } else if self.let_go_for_us(u, host, old, new) && news {
                    let first = self.first_in_line(u);
                    self.units[u].vr.owner_gone(at, Expiry::Unable(host), first);
                } else if self.units[u].release_asked.is_some()
                    && old.is_some_and(|o| o.holds)
                    && !new.holds
                {
                    // The word of the owner that was asked, not that of a third host.
                    self.units[u].vr.owner_gone(now, Expiry::Unable(host), true);
                }
            }
            State::Active => {
                let let_go = old.is_some_and(|o| o.holds) && !new.holds;
                let about_to = new.releasing && !old.is_some_and(|o| o.releasing);
                // A neighbour may have resolved the other host during the overlap.
                if let_go {
                    self.units[u].announce.once(now);
                } else if about_to {
                    self.units[u].announce.release_near(now);
                }
                let deaf = u128::from(new.hears_age_ms) > self.units[u].interval().as_millis() * 2;
                if new.state == State::Backup && deaf {
                    // It will ask which of us is cut off: find out.
                    self.hurry();
                }
                if let Some(gap) = self.units[u].overslept.filter(|_| owns) {
                    self.stand_back(u, Cause::Overslept(gap), None);
                } else if owns {
                    if !self.move_taken(u, host, None)
                        && !self.crosses(u, host)
                        && !self.is_old_word(host)
                    {
                        self.settle_two_owners(u, host, new);
                    }
                } else if new.release_request && new.hears != own {
                    self.release_requested(u, host, new);
                }
                self.consider_hand_over(u);
                self.follow_preemption(u, host, new);
            }
            State::Initialize => {
                let leaving = self.units[u].leaving.as_ref();
                if owns && new.applied && leaving.is_some() {
                    self.successor_applied(u, host);
                } else if owned
                    && !owns
                    && leaving.and_then(Leaving::moves_to) == Some(host)
                    && !self.hands_on(new)
                {
                    self.move_failed(u);
                }
            }
        }
    }

    /// Did the owner let go for a better host, and are the addresses off now?
    fn let_go_for_us(
        &self,
        u: UnitIx,
        host: HostIx,
        old: Option<&InstanceRecord>,
        new: &InstanceRecord,
    ) -> bool {
        old.is_some_and(|o| o.holds)
            && !new.holds
            && unfit(new)
            && self.last_owner(self.units[u].instance) == Some(host)
            && self.living_owner(u).is_none()
    }

    /// Was the newest heartbeat of that host on its way for so long that it may not own any more? A kernel keeps what it cannot
    /// send yet, and sends it when the cable is back; a newer one is close behind.
    fn is_old_word(&self, host: HostIx) -> bool {
        let peer = self.peers.as_ref().and_then(|peers| peers.get(host));
        peer.is_some_and(|peer| {
            self.now.mono.since(peer.said_at) > (peer.interval * 3).max(OLD_WORD)
        })
    }

    /// Does that host say that it hears our heartbeats on any path?
    pub(super) fn hears_us(&self, host: HostIx) -> bool {
        let peer = self.peers.as_ref().and_then(|peers| peers.get(host));
        peer.is_some_and(|peer| peer.hears_me.contains(&true))
    }

    /// Looks who has gone silent on all paths.
    pub(super) fn peers_due(&mut self) {
        let now = self.now.mono;
        let Some(peers) = &mut self.peers else { return };
        let mut gone = Vec::new();
        for peer in &mut peers.all {
            let patience = peer.interval * 7 / 2;
            let silent = peer.last_heard().is_none_or(|at| now.since(at) > patience);
            if peer.alive && silent {
                peer.alive = false;
                peer.hears_me.fill(false);
                gone.push(peer.host);
            }
        }
        for host in gone {
            self.event(None, None, EventKind::Peer { host, alive: false });
            self.move_target_gone(host);
            self.asks_no_more(host);
            for u in 0..self.units.len() {
                self.units[u].gates.heard_by(host);
            }
        }
    }

    /// Peers that take part in the unit's instance and were heard in the last two intervals: an owner that
    /// died right after a heartbeat is silent for longer when its adverts time out, so this never delays a claim.
    pub(super) fn living_peers(
        &self,
        u: UnitIx,
    ) -> impl Iterator<Item = (HostIx, &InstanceRecord)> {
        let now = self.now.mono;
        let key = self.instance(u).key;
        let patience = self.units[u].interval() * 2;
        self.peers.iter().flat_map(move |p| {
            p.all.iter().filter_map(move |peer| {
                let fresh = peer
                    .last_heard()
                    .is_some_and(|at| now.since(at) <= patience.max(peer.interval * 2));
                let (_, record) = peer.records.get(&key).filter(|_| fresh)?;
                Some((peer.host, record))
            })
        })
    }

    /// Hardware addresses of the peers of this instance that are silent, or that are alive and still hold something.
    pub(super) fn silent_macs(&self, u: UnitIx) -> Vec<Mac> {
        let living: BTreeSet<HostIx> =
            self.living_peers(u).filter(|(_, r)| !r.holds).map(|(h, _)| h).collect();
        let key = self.instance(u).key;
        let Some(peers) = &self.peers else { return Vec::new() };
        let silent = peers.of_instance(key).filter(|p| !living.contains(&p.host));
        let on_link = silent.filter_map(|p| {
            let (_, record) = p.records.get(&key)?;
            p.links.get(usize::from(record.link)).map(|l| l.mac)
        });
        on_link.collect()
    }

    pub(super) fn record(&self, host: HostIx, u: UnitIx) -> Option<InstanceRecord> {
        let key = self.instance(u).key;
        self.peers.as_ref()?.get(host)?.records.get(&key).map(|(_, r)| *r)
    }

    /// Has another host claimed after `host` did with `epoch`, by its last word? It may be silent and still hold the
    /// addresses: that `host`, which slept, does not own is no news then.
    fn claimed_since(&self, u: UnitIx, host: HostIx, epoch: Epoch) -> bool {
        let key = self.instance(u).key;
        let others = self.peers.iter().flat_map(|p| p.of_instance(key)).filter(|p| p.host != host);
        let mut records = others.filter_map(|p| p.records.get(&key));
        records.any(|(_, r)| r.owns() && r.epoch > epoch)
    }

    /// The highest epoch that any peer spoke of.
    pub(super) fn highest_epoch_heard(&self, ix: InstanceIx) -> Epoch {
        let key = self.model.instance(ix).key;
        let records =
            self.peers.iter().flat_map(|p| p.all.iter()).filter_map(|p| p.records.get(&key));
        records.map(|(_, r)| r.epoch).max().unwrap_or_default()
    }

    /// Which host of the group has this service address?
    pub(super) fn host_of(&self, addr: IpAddr) -> Option<HostIx> {
        let peers = self.peers.as_ref()?;
        peers.all.iter().find(|p| p.links.iter().any(|l| l.addrs.contains(&addr))).map(|p| p.host)
    }

    /// Is this a host of the group that is known to run another configuration? While the hosts are reloaded one after
    /// the other, that alarm says it all.
    pub(super) fn differs(&self, addr: IpAddr) -> bool {
        let stands = |host| self.reporter.alarms.contains_key(&(None, Alarm::ConfigMismatch(host)));
        self.host_of(addr).is_some_and(stands)
    }

    /// Is this the service address or a heartbeat address of a host of the group?
    pub(super) fn is_of_group(&self, addr: IpAddr) -> bool {
        self.host_of(addr).is_some() || self.model.hosts.iter().any(|h| h.paths.contains(&addr))
    }

    pub(super) fn mac_of_a_peer(&self, mac: Mac) -> bool {
        self.peers.as_ref().is_some_and(|p| p.all.iter().any(|peer| peer.macs.contains(&mac)))
    }

    pub(super) fn host_hash(&self, host: HostIx) -> u64 {
        stable_hash(self.model.host_name(host).as_bytes())
    }

    /// Service address of a peer in `family`.
    pub(super) fn peer_addr(&self, host: HostIx, link: u8, family: Family) -> Option<IpAddr> {
        let record = self.peers.as_ref()?.get(host)?.links.get(usize::from(link))?;
        record.addrs.iter().find(|a| Family::of(a) == family).copied()
    }

    /// Service address of a peer, IPv4 first.
    pub(super) fn any_peer_addr(&self, host: HostIx, link: u8) -> Option<IpAddr> {
        Family::ALL.into_iter().find_map(|f| self.peer_addr(host, link, f))
    }
}
