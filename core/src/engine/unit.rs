//! What is elected: one virtual router, or both families of an instance in shared fate (DESIGN 5.11).
//!
//! A unit has one state machine and one or two voices. The first voice leads: without its source address the unit
//! cannot take part; the other is only degraded.

use super::holding::ORDER_SLACK;
use super::io::{Cause, Output, UnitHandover};
use super::leave::Leaving;
use super::offer::Offers;
use super::restart::STRETCHED_ADVERTS;
use super::stale::StaleWait;
use super::yielding::Yielding;
use super::{Engine, UnitIx};
use crate::config::model::HmacMode;
use crate::config::model::{Auth, Instance, Transport};
use crate::histogram::{GAPS, Histogram};
use crate::policy::PreemptGates;
use crate::time::{Duration, Instant};
use crate::types::{Family, HostIx, InstanceIx, Interval, LinkIx, Mac, State, Vip};
use crate::vrrp::announce::{REPEATS, Schedule, VIRTUAL_MAC_REPEATS};
use crate::vrrp::{Due, Heard, Params, VirtualRouter};
use crate::wire::auth::{KeyRing, Signer, Verifier};
use crate::wire::receive::{Receiver, RouterCounters};
use std::net::IpAddr;

/// One family of a unit: how it speaks and hears.
#[derive(Clone)]
pub(super) struct Voice {
    pub(super) family: Family,
    /// What it accepts.
    pub(super) receiver: Receiver,
    /// Signs what it sends.
    pub(super) signer: Option<Signer>,
    /// Source address of its adverts; `None`: mute.
    pub(super) source: Option<IpAddr>,
    /// How regularly the owner is heard.
    pub(super) rhythm: Rhythm,
}

/// How regularly the owner is heard: measured, not judged.
#[derive(Clone)]
pub(super) struct Rhythm {
    last: Option<(IpAddr, Instant)>,
    pub(super) gaps: Histogram,
}

impl Rhythm {
    /// An advert of `src` at `at`. `listening`: this host is Backup, so that one after the other is of one owner.
    fn heard(&mut self, src: IpAddr, at: Instant, listening: bool) {
        if let Some((before, then)) = self.last
            && before == src
            && listening
        {
            self.gaps.observe(at.since(then));
        }
        self.last = Some((src, at)).filter(|_| listening);
    }
}

/// What is elected.
#[derive(Clone)]
pub(super) struct Unit {
    pub(super) instance: InstanceIx,
    pub(super) link: LinkIx,
    /// The first one leads.
    pub(super) voices: Vec<Voice>,
    pub(super) vr: VirtualRouter,
    pub(super) announce: Schedule,
    pub(super) gates: PreemptGates,
    /// When and why the state was entered.
    pub(super) since: Instant,
    pub(super) cause: Cause,
    /// Last advert that sendmsg accepted.
    pub(super) last_sent: Option<Instant>,
    /// The interval that the newest advert names, accepted or not.
    pub(super) named: Interval,
    /// The interval that peers count with since [`Unit::last_sent`], the shortest where some may not have heard of another.
    pub(super) counted: Interval,
    pub(super) adverts_sent: u64,
    /// Active, and stood still for this long: what is queued decides before it goes on (DESIGN 5.3).
    pub(super) overslept: Option<Duration>,
    /// Adopted until then: any other owner heard makes it Backup (DESIGN 5.7).
    pub(super) adopted_until: Instant,
    /// Backup: a late timer was given a second chance this often in a row.
    pub(super) late_rounds: u8,
    /// What the kernels of silent peers answered.
    pub(super) stale: StaleWait,
    /// Handing over or stopping.
    pub(super) leaving: Option<Leaving>,
    /// Yielded to a host that does not have the addresses yet.
    pub(super) yielding: Option<Yielding>,
    /// May start again after a fault of the kernel or a fight over the address.
    pub(super) barred_until: Instant,
    /// Weaker adverts in a row from a peer that does not hear us.
    pub(super) weaker_run: u32,
    /// When the last of them arrived.
    pub(super) weaker_at: Instant,
    /// We asked an unreachable owner over heartbeats to release, since then (DESIGN 5.9).
    pub(super) release_asked: Option<Instant>,
    /// Hands over because somebody better is there: how often it was tried.
    pub(super) offers: Offers,
    /// Let go for a better host: priority 0 goes out when the addresses are off.
    pub(super) farewell: bool,
    /// Second choice: lets others go first until then, after the owner that was last heard at the first time.
    pub(super) deferred: Option<(Instant, Instant)>,
    /// Backup: the owner of the group that said priority 0 itself, and nothing since.
    pub(super) leaver: Option<HostIx>,
    /// Backup: its timer was put off to then, because it has to be activated first.
    pub(super) parked: Option<Instant>,
    /// Owns because an operator said so.
    pub(super) pinned: bool,
    /// A restart or a longer interval is near: adverts name this one, so that peers have patience (DESIGN 5.7).
    pub(super) stretched: Option<Interval>,
    /// Takes this longer interval once it was told often enough.
    pub(super) lengthens: Option<Interval>,
    /// So many of them were accepted by sendmsg since this host owns.
    pub(super) stretched_sent: u8,
    /// What the agent before this one was, until that is gone on with.
    pub(super) inherited: Option<UnitHandover>,
}

impl Unit {
    /// The units of an instance: one for both families in shared fate, one each otherwise.
    pub(super) fn of(
        ix: InstanceIx,
        instance: &Instance,
        ring: Option<&KeyRing>,
        now: Instant,
    ) -> Vec<Self> {
        let mut families: Vec<Family> = instance.families().collect();
        families.sort_by_key(|f| *f != instance.leader());
        let groups: Vec<Vec<Family>> = if instance.shared_fate {
            vec![families]
        } else {
            families.into_iter().map(|f| vec![f]).collect()
        };
        groups
            .into_iter()
            .filter(|families| !families.is_empty())
            .map(|families| {
                let version = instance.version_in(families[0]);
                let params = Params {
                    version,
                    priority: instance.priority.get(),
                    interval: instance.interval,
                    preempt: instance.priority.is_owner(),
                };
                Self {
                    instance: ix,
                    link: instance.link,
                    voices: families.into_iter().map(|f| Voice::new(f, instance, ring)).collect(),
                    vr: VirtualRouter::new(params),
                    announce: Schedule::new(if instance.virtual_mac {
                        VIRTUAL_MAC_REPEATS
                    } else {
                        REPEATS
                    }),
                    gates: PreemptGates::default(),
                    since: now,
                    cause: Cause::Startup,
                    last_sent: None,
                    named: instance.interval,
                    counted: instance.interval,
                    adverts_sent: 0,
                    overslept: None,
                    adopted_until: Instant::ZERO,
                    late_rounds: 0,
                    stale: StaleWait::default(),
                    leaving: None,
                    yielding: None,
                    barred_until: Instant::ZERO,
                    weaker_run: 0,
                    weaker_at: Instant::ZERO,
                    release_asked: None,
                    offers: Offers::default(),
                    farewell: false,
                    deferred: None,
                    leaver: None,
                    parked: None,
                    pinned: false,
                    stretched: None,
                    lengthens: None,
                    stretched_sent: 0,
                    inherited: None,
                }
            })
            .collect()
    }

    pub(super) fn state(&self) -> State {
        self.vr.state()
    }

    pub(super) fn is_active(&self) -> bool {
        self.vr.state() == State::Active
    }

    /// Is it owner, or does it keep the addresses for a successor?
    pub(super) fn keeps_addresses(&self) -> bool {
        self.is_active()
            || self.yielding.is_some()
            || self.leaving.as_ref().is_some_and(|l| !l.released())
    }

    /// The source address that decides ties: that of the leading voice.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.voices.first().and_then(|v| v.source)
    }

    pub(super) fn interval(&self) -> Duration {
        self.vr.params().interval.duration()
    }

    /// Notes when an advert arrived at the voice `v`.
    pub(super) fn note_advert(&mut self, v: usize, heard: &Heard) {
        // Priority 0 is out of turn.
        let listening = self.state() == State::Backup && heard.priority != 0;
        self.voices[v].rhythm.heard(heard.src, heard.at, listening);
    }

    /// The interval that the next advert names.
    pub(super) fn told_interval(&self) -> Interval {
        self.stretched.unwrap_or_else(|| self.vr.params().interval)
    }

    /// An advert was accepted: what do those count with who heard it, and those who missed it?
    pub(super) fn peers_count(&mut self) {
        let everybody_knows = self.stretched.is_none() || self.stretched_sent >= STRETCHED_ADVERTS;
        let own = self.vr.params().interval;
        self.counted = if everybody_knows { self.named } else { self.named.min(own) };
    }

    /// Until when no peer claims for want of adverts: from the last one that went out, and no longer than what is on its way
    /// allows. A fresh claim sends its first one `now`.
    pub(super) fn peers_wait_until(&self, now: Instant) -> Instant {
        let patience = |interval: Interval| (interval.duration() * 3).max(ORDER_SLACK);
        let coming = now + patience(self.named);
        self.last_sent.map_or(coming, |at| coming.min(at + patience(self.counted)))
    }

    pub(super) fn speaks(&self, family: Family) -> bool {
        self.voices.iter().any(|v| v.family == family)
    }
}

impl Voice {
    /// Goes on with what `before` heard and sent.
    pub(super) fn go_on(&mut self, before: Self) {
        let Self { receiver, signer, source, rhythm, .. } = before;
        self.source = source;
        self.rhythm = rhythm;
        self.receiver.counters = receiver.counters;
        if let (Some(mine), Some(before)) = (&mut self.receiver.verifier, receiver.verifier) {
            mine.go_on(before);
        }
        if let (Some(mine), Some(before)) = (&mut self.signer, &signer) {
            mine.go_on(before);
        }
    }

    fn new(family: Family, instance: &Instance, ring: Option<&KeyRing>) -> Self {
        let simple_text = match &instance.auth {
            Auth::SimpleText(text) if family == Family::V4 => Some(*text),
            _ => None,
        };
        let (mut signer, mut verifier) = (None, None);
        if let (Auth::Hmac(auth), Some(ring)) = (&instance.auth, ring) {
            // One mark per unicast peer, four for multicast (auth-hmac.md).
            let marks = match &instance.transport {
                Transport::Multicast => 4,
                Transport::Unicast(peers) => peers.len().max(1),
            };
            verifier = Some(Verifier::new(ring.clone(), auth.mode, auth.window, marks));
            if auth.mode != HmacMode::ReceiveOnly {
                signer = Some(Signer::new(ring.clone(), auth.window));
            }
        }
        let receiver = Receiver {
            version: instance.version_in(family),
            family,
            vrid: instance.vrid,
            addresses: instance.advertised(family).map(|v| v.addr).collect(),
            interval: instance.interval,
            owner: instance.priority.is_owner(),
            unicast_peers: match &instance.transport {
                Transport::Multicast => None,
                Transport::Unicast(peers) => {
                    Some(peers.iter().copied().filter(|p| Family::of(p) == family).collect())
                }
            },
            simple_text,
            strict: instance.strict,
            check_list: true,
            verifier,
            counters: RouterCounters::default(),
        };
        let rhythm = Rhythm { last: None, gaps: Histogram::new(GAPS) };
        Self { family, receiver, signer, source: None, rhythm }
    }
}

impl Engine {
    pub(super) fn instance(&self, u: UnitIx) -> &Instance {
        self.model.instance(self.units[u].instance)
    }

    /// Addresses that a unit announces: those of its families, advertised or not.
    pub(super) fn unit_vips(&self, u: UnitIx) -> impl Iterator<Item = &Vip> {
        let unit = &self.units[u];
        let instance = self.model.instance(unit.instance);
        let alone = instance.families().count() == unit.voices.len();
        instance.claimed().filter(move |v| alone || unit.speaks(v.family()))
    }

    /// Hardware address that holds the unit's addresses of `family` while this host is active.
    pub(super) fn unit_mac(&self, u: UnitIx, family: Family) -> Mac {
        let instance = self.instance(u);
        if instance.virtual_mac {
            Mac::virtual_router(family, instance.vrid)
        } else {
            self.links[usize::from(instance.link.0)].state.mac
        }
    }

    pub(super) fn unit_deadline(&self, u: UnitIx) -> Instant {
        let unit = &self.units[u];
        let mut at = unit.vr.deadline().min(unit.announce.deadline()).min(self.stale_deadline(u));
        at = at.min(self.policy_deadline(u));
        if let Some(leaving) = &unit.leaving {
            at = at.min(leaving.deadline());
        }
        if let Some(yielding) = unit.yielding {
            at = at.min(yielding.until);
        }
        if unit.state() == State::Initialize && unit.barred_until > self.now.mono {
            at = at.min(unit.barred_until);
        }
        at
    }

    /// The unit's own slot of the agenda came up.
    pub(super) fn unit_due(&mut self, u: UnitIx) {
        let now = self.now.mono;
        self.policy_due(u);
        if self.units[u].state() == State::Initialize && self.units[u].leaving.is_none() {
            self.try_start(u);
        }
        self.wake_after_oversleep(u);
        self.probe_stale_holders(u);
        match self.units[u].vr.due(now) {
            Some(Due::Advert) => {
                let priority = self.units[u].vr.params().priority;
                self.advertise(u, priority);
                self.conflict_over(u);
            }
            Some(Due::Claim(expiry)) => self.claim_due(u, expiry),
            None => {}
        }
        if self.units[u].leaving.is_some() {
            self.leave_due(u);
        }
        self.yielding_due(u);
        self.announce_due(u);
        self.rearm(u);
    }

    fn announce_due(&mut self, u: UnitIx) {
        let now = self.now.mono;
        if self.units[u].announce.deadline() > now {
            return;
        }
        let total = self.unit_vips(u).count();
        let range = self.units[u].announce.due(now, total);
        let link = self.units[u].link;
        let frames: Vec<Output> = self
            .unit_vips(u)
            .skip(range.start)
            .take(range.len())
            .map(|vip| {
                let family = vip.family();
                Output::Announce(super::io::Announce {
                    router: self.router_id(u, family),
                    link,
                    addr: vip.addr,
                    mac: self.unit_mac(u, family),
                })
            })
            .collect();
        self.outputs.extend(frames);
    }
}
