//! The promises, judged from outside: what the kernels hold, what frames are on the wire, what the client believes.
//! Never from the engine's state.
//!
//! Between two facts the world stands still, so every rule of the form "never longer than" is judged when the next
//! fact arrives, over the time since the last one. Words: *whole*: no trouble on any net, every host has carrier.

use crate::host::Agent;
use crate::scenario::{Scenario, host_name, mac};
use std::fmt;
use std::net::IpAddr;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, Mac, Vrid};

/// Something that an observer without any insight into the agents can see.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Fact {
    /// The kernel of a host has the address from now on.
    Holds(usize, IpAddr),
    /// The kernel of a host has it no more.
    Drops(usize, IpAddr),
    /// The agent process is now in this state.
    Agent(usize, Agent),
    /// The process runs again and finds adverts of an owner, still owner now, in its queue: who, with what priority.
    ResumedOver(usize, usize, u8),
    /// The nets are whole, or not.
    Whole(bool),
    /// An advert left a host: family, priority.
    Advert(usize, Family, u8),
    /// A gratuitous ARP or unsolicited NA left a host.
    Announced(usize, IpAddr),
    /// The client's entry changed.
    Sees(IpAddr, Mac),
}

/// Which promise was broken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Two running owners on a whole wire.
    TwoOwners,
    /// A hung or dead agent's kernel held on beyond its lease.
    LeaseOverrun,
    /// A claim after silence while the silent peer's kernel still answered, although the claimant had to ask.
    ClaimedOverHolder,
    /// A resumed agent acted on its timers before it read its sockets.
    WroteBeforeRead,
    /// Nobody owned the address for too long.
    NoOwner,
    /// An agent that was told to stop kept the address.
    StopOverran,
    /// The address changed hands and the owner did not announce it.
    NotAnnounced,
    /// The client sends to somebody else than the owner.
    BlackHole,
    /// The engine keeps asking to be woken now.
    Spins,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) at: Instant,
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.at, self.rule, self.what)
    }
}

/// Transit twice, the kernel thread twice, timers: what "at once" costs in this world.
const SLACK: Duration = Duration::from_millis(10);
/// The kernel removes a lapsed address at the latest this much after its time (measured; DESIGN 5.1).
const KERNEL_LATENESS: Duration = Duration::from_millis(1300);
/// The overlap that a handover adds to the successor's claim (DESIGN 5.5).
const OVERLAP: Duration = Duration::from_millis(200);
/// A yielding owner makes the winner announce; the winner's own repeats come 1, 5 and 15 s after a claim (DESIGN 5.4).
const ANNOUNCE_REPEAT: Duration = Duration::from_secs(1);
const ANNOUNCE_LATE_REPEAT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct HostView {
    agent: Agent,
    since: Instant,
    /// Last advert with a priority above 0.
    advert: Option<Instant>,
    /// Did its kernel have an address when the agent began to hang?
    owned_when_hung: bool,
    muzzle: Option<Muzzle>,
}

/// What a resumed agent may not do for a moment.
#[derive(Clone, Debug)]
struct Muzzle {
    until: Instant,
    rival: usize,
    /// By family: a yielding owner's one last advert must be below this; `None`: none is due.
    last_advert_below: [Option<u8>; 2],
}

#[derive(Clone, Debug)]
struct AddrView {
    addr: IpAddr,
    /// Per host: in its kernel since.
    held: Vec<Option<Instant>>,
    /// In no kernel since.
    vacant: Option<Instant>,
    /// Per host: an announcement is due because somebody else let go: since when, and by when.
    owed: Vec<Option<(Instant, Instant)>>,
    /// One host alone has held it since.
    settled: Option<(usize, Instant)>,
    entry: Option<Mac>,
}

pub(crate) struct Watch {
    scenario: Scenario,
    lease: Duration,
    longest_down: Duration,
    hosts: Vec<HostView>,
    addrs: Vec<AddrView>,
    whole: Option<Instant>,
    /// Last start, stop, death, hang or resumption of any agent.
    agents_changed: Instant,
    pub(crate) violations: Vec<Violation>,
}

impl Watch {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let host = HostView {
            agent: Agent::Dead,
            since: Instant::ZERO,
            advert: None,
            owned_when_hung: false,
            muzzle: None,
        };
        let addr = |addr| AddrView {
            addr,
            held: vec![None; scenario.hosts],
            vacant: Some(Instant::ZERO),
            owed: vec![None; scenario.hosts],
            settled: None,
            entry: None,
        };
        Self {
            lease: scenario.lease(),
            longest_down: scenario.longest_down(),
            hosts: vec![host; scenario.hosts],
            addrs: scenario.vips().iter().map(|v| addr(v.addr)).collect(),
            whole: Some(Instant::ZERO),
            agents_changed: Instant::ZERO,
            violations: Vec::new(),
            scenario: scenario.clone(),
        }
    }

    /// Judges the time up to `now`, then takes the fact in.
    pub(crate) fn note(&mut self, now: Instant, fact: &Fact) {
        self.judge(now);
        match fact {
            Fact::Holds(host, addr) => self.holds(now, *host, *addr),
            Fact::Drops(host, addr) => self.drops(now, *host, *addr),
            Fact::Agent(host, agent) => {
                let owned = self.addrs.iter().any(|a| a.held[*host].is_some());
                let view = &mut self.hosts[*host];
                if *agent == Agent::Hung {
                    view.owned_when_hung = owned;
                }
                view.agent = *agent;
                view.since = now;
                view.muzzle = None;
                self.agents_changed = now;
            }
            Fact::ResumedOver(host, rival, priority) => self.resumed_over(now, *host, *rival, *priority),
            Fact::Whole(whole) => self.whole = whole.then_some(now),
            Fact::Advert(host, family, priority) => self.advert(now, *host, *family, *priority),
            Fact::Announced(host, addr) => self.announced(now, *host, *addr),
            Fact::Sees(addr, mac) => {
                if let Some(view) = self.addrs.iter_mut().find(|a| a.addr == *addr) {
                    view.entry = Some(*mac);
                }
            }
        }
    }

    pub(crate) fn fail(&mut self, at: Instant, rule: Rule, what: String) {
        // One report per promise and run: the first is the one to look at.
        if !self.violations.iter().any(|v| v.rule == rule) {
            self.violations.push(Violation { at, rule, what });
        }
    }

    /// Everything that must not last too long.
    pub(crate) fn judge(&mut self, now: Instant) {
        for ix in 0..self.addrs.len() {
            let view = self.addrs[ix].clone();
            for b in 0..self.hosts.len() {
                for a in 0..b {
                    if let (Some(since_a), Some(since_b)) = (view.held[a], view.held[b]) {
                        self.judge_pair(now, view.addr, (a, b), since_a.max(since_b));
                    }
                }
            }
            for host in 0..self.hosts.len() {
                self.judge_holder(now, &view, host);
            }
            self.judge_vacancy(now, &view);
            self.judge_entry(now, &view);
        }
    }

    /// Two running agents on a whole wire: one interval after the heal, an overlap otherwise.
    fn judge_pair(&mut self, now: Instant, addr: IpAddr, (a, b): (usize, usize), start: Instant) {
        let Some(whole) = self.whole else { return };
        let (first, second) = (self.hosts[a].agent, self.hosts[b].agent);
        if !first.runs() || !second.runs() {
            return;
        }
        let disturbed = whole.max(self.hosts[a].since).max(self.hosts[b].since);
        let t = self.scenario.t();
        let (from, most) = if first == Agent::Leaving || second == Agent::Leaving {
            // A successor's word that it holds the address comes with its next heartbeat at the latest.
            (start, OVERLAP + per_address(self.addrs.len()) + t + SLACK)
        } else {
            (start.max(disturbed), t + SLACK)
        };
        if now - from > most {
            let (a, b) = (host_name(a), host_name(b));
            self.fail(
                from + most,
                Rule::TwoOwners,
                format!("{addr} is on {a} and {b} since {start}, whole and running since {disturbed}"),
            );
        }
    }

    fn judge_holder(&mut self, now: Instant, view: &AddrView, host: usize) {
        let HostView { agent, since, .. } = self.hosts[host];
        let Some(held) = view.held[host] else { return };
        let name = host_name(host);
        match agent {
            Agent::Hung | Agent::Dead => {
                let end = since.max(held) + self.lease + KERNEL_LATENESS;
                if now > end {
                    let what = format!("{} still on {name}, {agent:?} since {since}", view.addr);
                    self.fail(end, Rule::LeaseOverrun, what);
                }
            }
            Agent::Leaving => {
                let end = since + self.scenario.t() + Duration::from_millis(100) + OVERLAP
                    + per_address(self.addrs.len()) + SLACK;
                if now > end {
                    let what = format!("{} still on {name}, told to stop at {since}", view.addr);
                    self.fail(end, Rule::StopOverran, what);
                }
            }
            Agent::Running => {
                if let Some((since, by)) = view.owed[host].filter(|(_, by)| now > *by) {
                    let what = format!("{name} owns {} alone since {since}", view.addr);
                    self.fail(by, Rule::NotAnnounced, what);
                }
            }
            Agent::Off => {}
        }
    }

    /// An owner within M + 1 interval after any heal, start, death or release.
    fn judge_vacancy(&mut self, now: Instant, view: &AddrView) {
        let (Some(vacant), Some(whole)) = (view.vacant, self.whole) else { return };
        if !self.hosts.iter().any(|h| h.agent == Agent::Running) {
            return;
        }
        let from = vacant.max(whole).max(self.agents_changed);
        let end = from + self.longest_down + self.scenario.t() + SLACK;
        if now > end {
            let what = format!("{} in no kernel since {vacant}, undisturbed since {from}", view.addr);
            self.fail(end, Rule::NoOwner, what);
        }
    }

    /// Where the client's packets go, once every repeat of the announcements must have come.
    fn judge_entry(&mut self, now: Instant, view: &AddrView) {
        let (Some((owner, since)), Some(whole), Some(entry)) = (view.settled, self.whole, view.entry)
        else {
            return;
        };
        if self.hosts[owner].agent != Agent::Running {
            return;
        }
        let end = since.max(whole).max(self.hosts[owner].since) + ANNOUNCE_LATE_REPEAT + SLACK;
        if now > end && entry != self.owner_mac(view.addr, owner) {
            let what = format!(
                "the client sends {} to {entry}, {} owns it alone since {since}",
                view.addr,
                host_name(owner)
            );
            self.fail(end, Rule::BlackHole, what);
        }
    }

    fn owner_mac(&self, addr: IpAddr, owner: usize) -> Mac {
        match self.scenario.virtual_mac {
            true => Mac::virtual_router(Family::of(&addr), Vrid::new(51).unwrap()),
            false => mac(owner),
        }
    }

    fn holds(&mut self, now: Instant, host: usize, addr: IpAddr) {
        self.judge_claim(now, host, addr);
        if let Some(rival) = self.muzzled(now, host) {
            let what = format!("{addr} put on {}, {} owns it", host_name(host), host_name(rival));
            self.fail(now, Rule::WroteBeforeRead, what);
        }
        let view = self.addr(addr);
        view.held[host] = Some(now);
        view.vacant = None;
        view.settle(now);
    }

    /// A claim after silence asks the silent peer's kernel first (DESIGN 5.2), where heartbeats tell whom to ask.
    fn judge_claim(&mut self, now: Instant, claimant: usize, addr: IpAddr) {
        let Some(whole) = self.whole else { return };
        let view = self.addr(addr).clone();
        let down = self.scenario.down(claimant);
        // The question goes out while the timer runs: the wire must have been whole since the last advert.
        if !self.scenario.heartbeats || now - whole < down + self.scenario.t() {
            return;
        }
        // One that let go beside the silent one a moment ago may have said so: then this is no claim after silence.
        let holders: Vec<usize> = (0..self.hosts.len()).filter(|h| view.held[*h].is_some()).collect();
        let &[holder] = holders.as_slice() else { return };
        let silent = &self.hosts[holder];
        let sole = view.settled.is_some_and(|(_, since)| now - since > down + self.scenario.t());
        let asked = silent.advert.is_none_or(|last| now - last >= down);
        if holder != claimant && matches!(silent.agent, Agent::Hung | Agent::Dead) && sole && asked {
            let what = format!(
                "{addr} put on {} while the kernel of {} serves it, {:?} since {}",
                host_name(claimant),
                host_name(holder),
                silent.agent,
                silent.since
            );
            self.fail(now, Rule::ClaimedOverHolder, what);
        }
    }

    fn drops(&mut self, now: Instant, host: usize, addr: IpAddr) {
        let agents: Vec<Agent> = self.hosts.iter().map(|h| h.agent).collect();
        // A running agent that lets go makes the other one announce; a lapsed lease is nobody's word.
        let within = if agents[host].runs() { ANNOUNCE_REPEAT } else { ANNOUNCE_LATE_REPEAT };
        let view = self.addr(addr);
        view.held[host] = None;
        for (other, held) in view.held.iter().enumerate() {
            if held.is_some() {
                view.owed[other] = Some((now, now + within + SLACK));
            }
        }
        view.owed[host] = None;
        if view.held.iter().all(Option::is_none) {
            view.vacant = Some(now);
        }
        view.settle(now);
    }

    fn announced(&mut self, now: Instant, host: usize, addr: IpAddr) {
        if let Some(rival) = self.muzzled(now, host) {
            let what = format!("{} announces {addr}, {} owns it", host_name(host), host_name(rival));
            self.fail(now, Rule::WroteBeforeRead, what);
        }
        self.addr(addr).owed[host] = None;
    }

    fn resumed_over(&mut self, now: Instant, host: usize, rival: usize, priority: u8) {
        let view = &self.hosts[host];
        let outranks = self.scenario.priorities[host] > priority
            && self.scenario.preempt
            && self.scenario.preempt_delay.is_zero();
        let silent = view.advert.is_none_or(|last| now - last >= self.scenario.t() * 3);
        // A Backup that outranks the owner may preempt at once; a former owner must not go on.
        if silent && (!outranks || view.owned_when_hung) {
            self.hosts[host].muzzle = Some(Muzzle {
                until: now + self.scenario.t() / 2,
                rival,
                last_advert_below: [view.owned_when_hung.then_some(priority); 2],
            });
        }
    }

    fn muzzled(&self, now: Instant, host: usize) -> Option<usize> {
        let muzzle = self.hosts[host].muzzle.as_ref().filter(|m| now <= m.until)?;
        Some(muzzle.rival)
    }

    fn advert(&mut self, now: Instant, host: usize, family: Family, priority: u8) {
        if priority == 0 {
            return;
        }
        if let Some(rival) = self.muzzled(now, host) {
            let muzzle = self.hosts[host].muzzle.as_mut();
            let allowed = muzzle.and_then(|m| m.last_advert_below[family as usize].take());
            if allowed.is_none_or(|below| priority >= below && priority > 1) {
                let what = format!(
                    "{} advertises {priority} right after it resumed, {} owns",
                    host_name(host),
                    host_name(rival)
                );
                self.fail(now, Rule::WroteBeforeRead, what);
            }
        }
        self.hosts[host].advert = Some(now);
    }

    fn addr(&mut self, addr: IpAddr) -> &mut AddrView {
        self.addrs.iter_mut().find(|a| a.addr == addr).expect("an address of the instance")
    }
}

impl AddrView {
    fn settle(&mut self, now: Instant) {
        let mut holders = (0..self.held.len()).filter(|h| self.held[*h].is_some());
        self.settled = match (holders.next(), holders.next()) {
            (Some(host), None) => Some((host, now)),
            _ => None,
        };
    }
}

/// What a handover adds for each address (DESIGN 5.5).
fn per_address(addresses: usize) -> Duration {
    Duration::from_micros(200) * addresses as u32
}
