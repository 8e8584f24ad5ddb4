//! Adverts are silent: is the owner gone, or only the path of its adverts (DESIGN 5.9)? And: two owners that hear
//! each other's heartbeats settle it there.

use super::fitness::PIN;
use super::io::{Alarm, Cause, NeighbourIn, Output, Probe};
use super::reload::Renumber;
use super::{Engine, Slot, UnitIx};
use crate::config::model::StandbyKind;
use crate::policy::Standing;
use crate::time::{Duration, Instant};
use crate::types::{Class, Family, HostIx, LinkIx, Mac, State};
use crate::wire::heartbeat::InstanceRecord;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Without suspicion targets are asked this often.
const CALM: Duration = Duration::from_secs(1);
/// Under suspicion they are asked at most this often.
const HURRY: Duration = Duration::from_millis(10);

/// Who was not asked for this long is no target and no peer any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What answers on the service segments.
#[derive(Clone, Default)]
pub(super) struct Reach {
    /// By interface and address.
    seen: BTreeMap<(LinkIx, IpAddr), Asked>,
    /// Asked at this pace at the moment.
    pace: Duration,
    /// Asked faster than usual since then.
    hurried: Option<Instant>,
}

impl Reach {
    /// Interfaces have other numbers.
    pub(super) fn renumber(&mut self, renumber: &Renumber) {
        let seen = std::mem::take(&mut self.seen).into_iter();
        self.seen = seen
            .filter_map(|((link, addr), asked)| Some(((renumber.link(link)?, addr), asked)))
            .collect();
    }
}

/// One address that is asked.
#[derive(Clone)]
struct Asked {
    /// The last question.
    last: Instant,
    /// The first question since the last answer.
    open: Option<Instant>,
    /// The last answer.
    answered: Option<Instant>,
}

/// What was asked on the service segments and does not answer.
pub(super) fn unanswered(engine: &Engine) -> impl Iterator<Item = (LinkIx, IpAddr)> {
    let reach = engine.peers.iter().flat_map(|p| p.reach.seen.keys().copied());
    reach.filter(|(link, addr)| engine.reached(*link, *addr) == Some(false))
}

/// Time between two questions under suspicion, where adverts come every `interval`.
fn hurried_pace(interval: Duration) -> Duration {
    (interval / 10).clamp(HURRY, CALM)
}

impl Engine {
    /// Backup, and nothing was heard for Active_Down_Interval. `Some`: ask again then; `None`: claim.
    pub(super) fn silence_forbids(&mut self, u: UnitIx) -> Option<Instant> {
        let now = self.now.mono;
        self.peers.as_ref()?;
        let owner = self.living_owner(u)?;
        let instance = self.units[u].instance;
        self.alarm(Some(instance), Alarm::AdvertPathBroken(owner), true);
        self.hurry();
        // Answers come long before an interval has passed; what they say only changes slowly.
        let soon = now + hurried_pace(self.units[u].interval());
        let Some(record) = self.record(owner, u) else { return Some(soon) };
        let reach_owner = self.reaches_host(u, owner) == Some(true);
        let mine = self.reaches_targets(u);
        let only_i_reach = mine == Some(true) && record.reaches_target != Some(true);
        // Who let go because it was cut off itself asks for nothing before it reaches what the owner does not.
        let yielded = self.units[u].gates.waits_for() == Some(owner);
        let nobody_reaches =
            !yielded && mine != Some(true) && record.reaches_target != Some(true) && !reach_owner;
        if reach_owner || !(only_i_reach || nobody_reaches) || !self.reach_is_known(u, owner) {
            self.units[u].release_asked = None;
            // Two intervals bring the owner's newest word; what they did not change is looked at less often.
            let interval = self.units[u].interval();
            let asked_for = self.suspected_for().unwrap_or_default();
            return Some(if asked_for > interval * 2 { now + interval } else { soon });
        }
        // The owner is cut off from the service segment and I am not, or nobody can tell: it is asked to release,
        // and its lease ends what it cannot release.
        if self.units[u].release_asked.is_none() {
            self.urgent();
        }
        let asked = *self.units[u].release_asked.get_or_insert(now);
        let patience = self.holder_gone_after(u);
        if !record.holds || now.since(asked) >= patience { None } else { Some(soon) }
    }

    /// A peer whose heartbeats are alive and that says that it owns.
    pub(super) fn living_owner(&self, u: UnitIx) -> Option<HostIx> {
        self.living_peers(u)
            .filter(|(_, r)| r.owns())
            .max_by(|(_, a), (_, b)| a.epoch.cmp(&b.epoch))
            .map(|(h, _)| h)
    }

    /// Our own standing in the order of eligibility.
    pub(super) fn standing(&self, u: UnitIx) -> Standing {
        let unit = &self.units[u];
        Standing {
            class: self.class(u),
            stale: self.stale(u),
            priority: unit.vr.params().priority,
            addr: unit.source(),
        }
    }

    pub(super) fn standing_of(&self, u: UnitIx, host: HostIx, record: &InstanceRecord) -> Standing {
        let family = self.units[u].voices[0].family;
        let addr = self.peer_addr(host, record.link, family);
        Standing { class: record.class, stale: record.stale, priority: record.priority, addr }
    }

    /// Is this host the best of those that could claim?
    pub(super) fn first_in_line(&self, u: UnitIx) -> bool {
        let mine = self.standing(u);
        self.living_peers(u)
            .filter(|(_, r)| r.state == State::Backup && r.class < Class::Drained)
            .filter(|(h, _)| self.standby_of(u, *h) != Some(StandbyKind::Cold))
            .all(|(h, r)| self.standing_of(u, h, r).compare(&mine) == Ordering::Less)
    }

    /// Of two owners of the group: `Greater` when this host stays by what counts more than priority and address: who
    /// reaches a target, then class. What an operator pinned, and the owner of the address at 255, go before class: they
    /// won by their adverts already.
    pub(super) fn eligible_before(
        &self,
        u: UnitIx,
        priority: u8,
        record: &InstanceRecord,
    ) -> Ordering {
        let reach = |r: Option<bool>| r != Some(false);
        let unit = &self.units[u];
        let mine = (unit.vr.params().priority, self.epoch_of(unit.instance));
        let wanted = |(priority, epoch)| match priority {
            255 => (2, None),
            // Of two pins the newer one is the operator's last word.
            PIN => (1, Some(epoch)),
            _ => (0, None),
        };
        reach(self.reaches_targets(u))
            .cmp(&reach(record.reaches_target))
            .then(wanted(mine).cmp(&wanted((priority, record.epoch))))
            .then(record.class.cmp(&self.class(u)))
    }

    /// Both own, and hear each other's heartbeats: who is more eligible, then effective priority, address.
    pub(super) fn settle_two_owners(&mut self, u: UnitIx, host: HostIx, record: &InstanceRecord) {
        let (mine, theirs) = (self.standing(u), self.standing_of(u, host, record));
        let order = self.eligible_before(u, record.priority, record).then(mine.compare(&theirs));
        let instance = self.units[u].instance;
        if let Some(addr) = theirs.addr {
            self.alarm(Some(instance), Alarm::DualActive(addr), true);
        }
        if order != Ordering::Less {
            // What keeps it from yielding may be its reach during a cut that is over: asked anew, and told.
            self.hurry();
            return;
        }
        self.units[u].gates.yielded_to(host);
        if record.applied {
            self.stand_back(u, Cause::Settled(host), None);
        } else {
            // Its heartbeat was faster than its kernel.
            self.stand_back_for(u, host, Cause::Settled(host));
        }
        self.last_advert(u, record.priority);
    }

    /// A backup that reaches the service segment asks this owner to release.
    pub(super) fn release_requested(&mut self, u: UnitIx, host: HostIx, record: &InstanceRecord) {
        let mine = self.reaches_targets(u);
        let isolated =
            mine == Some(false) || (mine.is_none() && self.reaches_host(u, host) != Some(true));
        let they_reach = record.reaches_target == Some(true);
        self.hurry();
        if isolated && (they_reach || record.reaches_target.is_none() || mine != Some(true)) {
            self.units[u].gates.yielded_to(host);
            self.stand_back(u, Cause::Isolated, None);
        }
    }

    // Targets and peers on the service segment.

    fn targets(&self, u: UnitIx) -> Vec<IpAddr> {
        let instance = self.instance(u);
        if !instance.targets.is_empty() {
            return instance.targets.clone();
        }
        let link = &self.links[usize::from(instance.link.0)];
        let gateways = link.state.gateways.iter().copied();
        let gateways: Vec<IpAddr> =
            gateways.filter(|g| !self.by_addr.contains_key(&(instance.link, *g))).collect();
        if gateways.is_empty() { link.neighbours(self.now.mono).collect() } else { gateways }
    }

    fn reached(&self, link: LinkIx, addr: IpAddr) -> Option<bool> {
        let peers = self.peers.as_ref()?;
        let asked = peers.reach.seen.get(&(link, addr))?;
        let fresh = peers.reach.pace * 3 + HURRY;
        // A question on its way says nothing yet: after a start or a pause no answer is fresh because nobody asked.
        let on_its_way = asked.open.is_some_and(|open| self.now.mono.since(open) < HURRY);
        match asked.answered {
            Some(at) => Some(asked.last.since(at) <= fresh || on_its_way),
            None if on_its_way => None,
            None => Some(false),
        }
    }

    /// Does any target on the service segment answer? `None`: there are none.
    pub(super) fn reaches_targets(&self, u: UnitIx) -> Option<bool> {
        let link = self.units[u].link;
        if !self.links[usize::from(link.0)].usable() {
            return Some(false);
        }
        self.targets(u).into_iter().filter_map(|t| self.reached(link, t)).reduce(|a, b| a || b)
    }

    /// Does the service address of a peer answer?
    pub(super) fn reaches_host(&self, u: UnitIx, host: HostIx) -> Option<bool> {
        let link = self.units[u].link;
        let addr = self.record(host, u).and_then(|r| self.any_peer_addr(host, r.link))?;
        self.reached(link, addr)
    }

    /// Were the questions asked under suspicion, long enough for answers?
    fn reach_is_known(&self, u: UnitIx, owner: HostIx) -> bool {
        let Some(peers) = &self.peers else { return false };
        let enough = peers.reach.pace * 2 + HURRY;
        self.suspected_for().is_some_and(|asked_for| asked_for >= enough)
            && self.reaches_host(u, owner).is_some()
    }

    /// How long questions have been asked under suspicion.
    fn suspected_for(&self) -> Option<Duration> {
        let hurried = self.peers.as_ref()?.reach.hurried?;
        Some(self.now.mono.since(hurried))
    }

    /// Suspicion: ask targets and peers often enough that the answers cost little beside the detection.
    pub(super) fn hurry(&mut self) {
        let now = self.now.mono;
        let fastest = self.fastest;
        if let Some(peers) = &mut self.peers {
            let pace = hurried_pace(fastest);
            peers.reach.hurried.get_or_insert(now);
            if peers.reach.pace != pace {
                peers.reach.pace = pace;
                self.set_slot(Slot::Reach, now);
            }
        }
    }

    /// Asks every target and every living peer on the service segments.
    pub(super) fn reach_due(&mut self) {
        let now = self.now.mono;
        if self.peers.is_none() {
            return;
        }
        let mut questions: BTreeMap<(LinkIx, IpAddr), ()> = BTreeMap::new();
        for u in 0..self.units.len() {
            let link = self.units[u].link;
            for addr in self.targets(u) {
                questions.insert((link, addr), ());
            }
            let hosts: Vec<IpAddr> =
                self.living_peers(u).filter_map(|(h, r)| self.any_peer_addr(h, r.link)).collect();
            for addr in hosts {
                questions.insert((link, addr), ());
            }
        }
        if let Some(peers) = &mut self.peers {
            // Neighbours come and go: who was not asked for long is forgotten.
            let fresh = |asked: Instant| now.since(asked) < FORGOTTEN;
            peers.reach.seen.retain(|at, asked| questions.contains_key(at) || fresh(asked.last));
        }
        for (link, addr) in questions.into_keys() {
            let Some(probe) = self.question(link, addr) else { continue };
            self.push(Output::Probe(probe));
            if let Some(peers) = &mut self.peers {
                let first = Asked { last: now, open: None, answered: None };
                let asked = peers.reach.seen.entry((link, addr)).or_insert(first);
                asked.last = now;
                asked.open.get_or_insert(now);
            }
        }
        let suspicious = self
            .reporter
            .alarms
            .keys()
            .any(|(_, a)| matches!(a, Alarm::AdvertPathBroken(_) | Alarm::DualActive(_)))
            || self.units.iter().any(|unit| unit.gates.waits_for().is_some());
        if let Some(peers) = &mut self.peers {
            let calm = peers.reach.hurried.is_none_or(|at| now.since(at) > CALM);
            if !suspicious && calm {
                peers.reach.pace = CALM;
                peers.reach.hurried = None;
            }
            let at = now + peers.reach.pace;
            self.set_slot(Slot::Reach, at);
        }
    }

    /// Who has `addr`? `None` where nobody can be asked.
    fn question(&self, link: LinkIx, addr: IpAddr) -> Option<Probe> {
        let slot = &self.links[usize::from(link.0)];
        let source = match addr {
            IpAddr::V4(_) => None,
            IpAddr::V6(_) => {
                let ours = |a: &&IpAddr| matches!(a, IpAddr::V6(v) if v.is_unicast_link_local());
                Some(*slot.state.addrs.iter().find(ours)?)
            }
        };
        slot.usable().then_some(Probe { link, addr, to: None, from: slot.state.mac, source })
    }

    /// The interface carries again: asks where the heartbeat paths through it lead. While it did not, our kernel asked
    /// in vain, and it asks next up to a second later. It learns from answers to others as well: so our heartbeats
    /// arrive at once, and an owner that we preempt keeps the address until it reads that we have it.
    pub(super) fn find_paths(&mut self, link: LinkIx) {
        if self.peers.is_none() {
            return;
        }
        let model = std::sync::Arc::clone(&self.model);
        let addrs = &self.links[usize::from(link.0)].state.addrs;
        let own = &model.hosts[usize::from(model.host.0)].paths;
        let through: Vec<usize> =
            (0..own.len()).filter(|path| addrs.contains(&own[*path])).collect();
        for (host, ix) in model.hosts.iter().zip(0..) {
            let there = through.iter().filter_map(|path| host.paths.get(*path));
            for addr in there.filter(|_| HostIx(ix) != model.host) {
                if let Some(probe) = self.question(link, *addr) {
                    self.push(Output::Probe(probe));
                }
            }
        }
    }

    /// An address on the service segment showed a sign of life.
    pub(super) fn reach_answered(&mut self, seen: &NeighbourIn) {
        let now = self.now.mono;
        let was_cut_off = self.reached(seen.link, seen.addr) == Some(false);
        if let Some(peers) = &mut self.peers
            && let Some(asked) = peers.reach.seen.get_mut(&(seen.link, seen.addr))
        {
            asked.answered = Some(now);
            asked.open = None;
        }
        if was_cut_off && self.two_owners() {
            // After a heal each owner goes by what the other said of its reach during the cut: both would stay.
            self.urgent();
        }
    }

    /// Is this host in conflict with another owner, of any instance?
    fn two_owners(&self) -> bool {
        self.reporter.alarms.keys().any(|(_, alarm)| matches!(alarm, Alarm::DualActive(_)))
    }

    /// The host of the group, silent at the moment, whose hardware address or virtual MAC this is.
    pub(super) fn silent_holder(&self, u: UnitIx, mac: Mac, family: Family) -> Option<HostIx> {
        let peers = self.peers.as_ref()?;
        let instance = self.instance(u);
        let virtual_mac = Mac::virtual_router(family, instance.vrid);
        peers
            .of_instance(instance.key)
            .find(|p| p.macs.contains(&mac) || (instance.virtual_mac && mac == virtual_mac))
            .map(|p| p.host)
    }

    /// A host that takes part in the instance and has sent no heartbeat since this host started: nothing is known of
    /// it, and its kernel may serve the address all the same, for as long as a lease can last.
    pub(super) fn never_heard(&self, u: UnitIx) -> Option<HostIx> {
        if self.now.mono.since(self.started) > self.holder_gone_after(u) {
            return None;
        }
        let instance = self.instance(u);
        let peers = self.peers.as_ref()?;
        let heard = |host: &HostIx| peers.of_instance(instance.key).any(|p| p.host == *host);
        let taking_part =
            (0u8..).map(HostIx).zip(&instance.priorities).filter(|(_, p)| p.is_some());
        taking_part.map(|(host, _)| host).find(|host| *host != self.model.host && !heard(host))
    }
}
