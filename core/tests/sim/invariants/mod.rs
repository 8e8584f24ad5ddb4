//! The promises, judged from outside: what the kernels hold, what frames are on the wire, what the client believes.
//! Never from the engine's state.
//!
//! Between two facts the world stands still, so every rule of the form "never longer than" is judged when the next
//! fact arrives, over the time since the last one (`lasting`); the others at their fact (`moments`); `orders` knows what
//! operators ordered, `state` what becomes of files that follow the address.
//! Words: *whole*: no trouble on any net, every host has carrier.

mod lasting;
mod moments;
mod orders;
mod state;

use crate::host::Agent;
use crate::replica::disk::{Position, Record, Refusal};
use crate::scenario::{Scenario, mac};
use orders::Orders;
use state::Sets;
use std::fmt;
use std::net::IpAddr;
use vipd_core::engine::io::OperatorOrder;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Epoch, Family, Mac, Vrid};

/// Something that an observer without any insight into the agents can see.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Fact {
    /// The kernel of a host has the address from now on.
    Holds(usize, IpAddr),
    /// The kernel of a host has it no more.
    Drops(usize, IpAddr),
    /// The agent process is now in this state.
    Agent(usize, Agent),
    /// The process runs again and finds adverts of a family's owner, still owner now, in its queue: who, with what
    /// priority.
    ResumedOver(usize, Family, usize, u8),
    /// The service interface of a host lost its carrier.
    LinkLost(usize),
    /// Is the service net whole; is the net of the second heartbeat path?
    Whole { service: bool, second: bool },
    /// An advert left a host: family, priority.
    Advert(usize, Family, u8),
    /// A gratuitous ARP or unsolicited NA left a host.
    Announced(usize, IpAddr),
    /// Somebody removes an address by hand: the drop follows.
    Tampers(IpAddr),
    /// The service of a host fails from now on, or is well again.
    Sick(usize, bool),
    /// The client asks the segment who has the address.
    Resolves,
    /// An operator gives an order to the agent of a host: its number.
    Ordered(usize, u64, OperatorOrder),
    /// The agent says that it carries it out.
    Accepted(usize, u64),
    /// The agent says that this is done (`true`) or aborted.
    Ended(usize, u64, bool),
    /// The agent says that it is drained, or is not any more.
    Drained(usize, bool),
    /// The agent says that it is frozen, or is not any more.
    Frozen(usize, bool),
    /// Operators take back everything that they ordered.
    Tidied,
    /// The replicator of a host runs from now on, or does not.
    Replicator(usize, bool),
    /// The agent of a host is told how old its copy of the state is; `None`: never complete, or nobody knows.
    Figures(usize, Option<Duration>),
    /// The agent of a host says whether it owns, under which ownership; else the newest that it knows.
    Role(usize, bool, Epoch),
    /// The disk of an agent takes nothing for a while.
    DiskFull(usize),
    /// The kernel of a host is busy with something else from now on, or not any more.
    KernelSlow(usize, bool),
    /// The disk of an agent has reserved epochs up to this number.
    Stored(usize, u64),
    /// The service wrote.
    Wrote(Record),
    /// A replicator made a tree, of which this is the digest.
    Sealed(usize, Position, u64),
    /// A replicator put a tree of another in place, and so many records into the rescue.
    Took(usize, usize, Position, usize),
    /// A replicator refused a tree of another.
    Refused(usize, usize, Refusal),
    /// The barrier of a move from the one to the other host was reached, or was not.
    Barrier(usize, usize, bool),
    /// The agent says that its barrier is over, and whether the address has moved.
    BarrierOver(usize, bool),
    /// The agent of the one host says that its state could not be brought to the other, which is stronger and waits for
    /// it; or no more.
    NotBrought(usize, usize, bool),
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
    /// A host announced an address that its kernel does not have.
    AnnouncedUnheld,
    /// The address changed hands and the owner did not announce it.
    NotAnnounced,
    /// The client sends to somebody else than the owner.
    BlackHole,
    /// A planned move left the address in no kernel for a while.
    Gap,
    /// A host preempted before it was healthy for the preempt delay.
    PreemptedTooSoon,
    /// The owner changed although nothing had happened for long.
    NeedlessMove,
    /// A weaker host still owns long after a stronger one could have taken over.
    WrongOwner,
    /// The engine keeps asking to be woken now.
    Spins,
    /// An operation was neither done nor aborted in its time, or more than once.
    Unended,
    /// In a planned move the client's packets went to the host that had let go.
    MoveLost,
    /// What an operator moved was taken by somebody else before failback.
    MovedBack,
    /// Two ownerships under one epoch, or one under an older epoch than the one before.
    EpochReused,
    /// A tree under an older ownership took the place of a newer one.
    EpochBack,
    /// A host whose copy of the state is stale by its own figures owns, and nobody accepted that.
    StalePromoted,
    /// It owns although a host with everything could have.
    StaleChosen,
    /// Something that was written is nowhere any more, or where what is deleted on purpose goes.
    RecordLost,
    /// A planned move whose barrier was reached, and the new owner lacks something.
    StateMissing,
    /// The target of a planned move claimed before everything was there.
    BarrierIgnored,
    /// A tree is refused for ever.
    RefusalLoop,
    /// A host took the address from a calm owner, without a word of an operator, and lacks what was written there.
    LeftBehind,
    /// The owner pushes nothing, or somebody does not follow it, long after everything is well.
    NotFollowed,
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
/// The kernel of a successor is waited for a little longer than this; what is left of a lease is about as much.
const LATE_KERNEL: Duration = Duration::from_millis(450);
/// The winner's own repeats come 1, 5 and 15 s after a claim (DESIGN 5.4).
const LATE_REPEAT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct HostView {
    agent: Agent,
    since: Instant,
    /// The process started at.
    started: Instant,
    /// Last advert with a priority above 0.
    advert: Option<Instant>,
    /// Last advert with priority 0.
    left: Option<Instant>,
    /// Did its kernel have an address when the agent began to hang?
    owned_when_hung: bool,
    /// By family.
    muzzle: [Option<Muzzle>; 2],
    /// Does its service fail, and when did it last fail or recover?
    sick: bool,
    sickened: Instant,
    /// Since when its kernel is busy with something else.
    slow: Option<Instant>,
}

/// What a resumed agent may not do for a moment.
#[derive(Clone, Debug)]
struct Muzzle {
    until: Instant,
    rival: usize,
    /// A yielding owner's one last advert must be below this; `None`: none is due.
    last_advert_below: Option<u8>,
}

#[derive(Clone, Debug)]
struct AddrView {
    addr: IpAddr,
    /// Per host: in its kernel since.
    held: Vec<Option<Instant>>,
    /// Per host: last dropped by its kernel.
    dropped: Vec<Option<Instant>>,
    /// In no kernel since.
    vacant: Option<Instant>,
    /// Per host: an announcement is due because somebody else let go: since when, and by when.
    owed: Vec<Option<(Instant, Instant)>>,
    /// Per host: last announced.
    announced: Vec<Option<Instant>>,
    /// Somebody removed it by hand, the last time.
    tampered: Instant,
    /// One host alone has held it since.
    settled: Option<(usize, Instant)>,
    /// The client's entry, and since when it is so.
    entry: Option<(Mac, Instant)>,
}

pub(crate) struct Watch {
    scenario: Scenario,
    lease: Duration,
    longest_down: Duration,
    hosts: Vec<HostView>,
    addrs: Vec<AddrView>,
    /// Both nets whole since.
    whole: Option<Instant>,
    /// The net of the second heartbeat path whole since.
    second: Option<Instant>,
    /// Last start, stop, death, hang or resumption of any agent.
    agents_changed: Instant,
    /// The last time that a kernel was not busy any more; the same of one that was busy for longer than is waited for.
    kernels_changed: Instant,
    kernels_late: Instant,
    orders: Orders,
    sets: Sets,
    /// Moves that were carried out.
    pub(crate) moves_done: usize,
    /// Barriers that were not reached, and that were; trees that were refused.
    pub(crate) barriers: [usize; 2],
    pub(crate) refusals: usize,
    pub(crate) violations: Vec<Violation>,
    /// Every change of hands: when, which host, which address, taken or let go.
    pub(crate) history: Vec<(Instant, usize, IpAddr, bool)>,
}

impl Watch {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let host = HostView {
            agent: Agent::Dead,
            since: Instant::ZERO,
            started: Instant::ZERO,
            advert: None,
            left: None,
            owned_when_hung: false,
            muzzle: [None, None],
            sick: false,
            sickened: Instant::ZERO,
            slow: None,
        };
        let addr = |addr| AddrView {
            addr,
            held: vec![None; scenario.hosts],
            dropped: vec![None; scenario.hosts],
            vacant: Some(Instant::ZERO),
            owed: vec![None; scenario.hosts],
            announced: vec![None; scenario.hosts],
            tampered: Instant::ZERO,
            settled: None,
            entry: None,
        };
        Self {
            lease: scenario.lease(),
            longest_down: scenario.longest_down(),
            hosts: vec![host; scenario.hosts],
            addrs: scenario.vips().iter().map(|v| addr(v.addr)).collect(),
            whole: Some(Instant::ZERO),
            second: Some(Instant::ZERO),
            agents_changed: Instant::ZERO,
            kernels_changed: Instant::ZERO,
            kernels_late: Instant::ZERO,
            orders: Orders::new(scenario.hosts),
            sets: Sets::new(scenario.hosts),
            moves_done: 0,
            barriers: [0; 2],
            refusals: 0,
            violations: Vec::new(),
            history: Vec::new(),
            scenario: scenario.clone(),
        }
    }

    /// Judges the time up to `now`, then takes the fact in.
    pub(crate) fn note(&mut self, now: Instant, fact: &Fact) {
        self.judge(now);
        match fact {
            Fact::Holds(host, addr) => {
                self.history.push((now, *host, *addr, true));
                self.holds(now, *host, *addr);
            }
            Fact::Drops(host, addr) => {
                self.history.push((now, *host, *addr, false));
                self.drops(now, *host, *addr);
            }
            Fact::Agent(host, agent) => {
                // What was due from this agent is judged anew.
                self.addrs.iter_mut().for_each(|a| a.owed[*host] = None);
                let owned = self.addrs.iter().any(|a| a.held[*host].is_some());
                let view = &mut self.hosts[*host];
                if *agent == Agent::Hung {
                    view.owned_when_hung = owned;
                }
                let starts =
                    *agent == Agent::Running && matches!(view.agent, Agent::Dead | Agent::Off);
                if starts {
                    view.started = now;
                    view.owned_when_hung = false;
                }
                view.agent = *agent;
                view.since = now;
                view.muzzle = [None, None];
                self.agents_changed = now;
                self.orders_follow(now, *host, *agent);
                self.set_agent(now, *host, *agent, starts);
            }
            Fact::ResumedOver(host, family, rival, priority) => {
                self.resumed_over(now, *host, *family, (*rival, *priority));
            }
            // It says so over the second path: who waited behind it may claim.
            Fact::LinkLost(host) if self.scenario.heartbeats => self.unmuzzle(*host, &Family::ALL),
            Fact::LinkLost(_) => {}
            Fact::Whole { service, second } => {
                self.second = second.then_some(self.second.unwrap_or(now));
                self.whole = (*service && *second).then_some(now);
                self.moves_are_disturbed();
            }
            Fact::Advert(host, family, priority) => self.advert(now, *host, *family, *priority),
            Fact::Announced(host, addr) => self.announced(now, *host, *addr),
            Fact::Sick(host, sick) => {
                self.hosts[*host].sick = *sick;
                self.hosts[*host].sickened = now;
            }
            Fact::Tampers(addr) => {
                self.addr(*addr).tampered = now;
                self.moves_are_disturbed();
            }
            Fact::Resolves => self.orders.resolved = now,
            Fact::Ordered(host, id, order) => {
                self.ordered(*host, *id, *order);
                self.allow(now, *host, *order);
            }
            Fact::Replicator(host, runs) => self.replicator(now, *host, *runs),
            Fact::Figures(host, age) => self.figures(now, *host, *age),
            Fact::Role(host, owns, epoch) => self.role(now, *host, *owns, *epoch),
            Fact::DiskFull(host) => self.disk_full(*host),
            Fact::KernelSlow(host, slow) => {
                let before = std::mem::replace(&mut self.hosts[*host].slow, slow.then_some(now));
                self.kernels_changed = now;
                if before.is_some_and(|since| now - since > LATE_KERNEL) {
                    self.kernels_late = now;
                }
            }
            Fact::Stored(..) | Fact::Wrote(_) => {}
            Fact::BarrierOver(host, _) => self.barrier_over(*host),
            Fact::NotBrought(host, to, on) => self.not_brought(*host, *to, *on),
            Fact::Sealed(host, position, tree) => self.sealed(now, *host, *position, *tree),
            Fact::Took(host, from, position, _) => self.took(now, *host, *from, *position),
            Fact::Refused(by, from, refusal) => {
                self.refusals += 1;
                self.tree_refused(now, *by, *from, *refusal);
            }
            Fact::Barrier(host, to, passed) => {
                self.barriers[usize::from(*passed)] += 1;
                if *passed {
                    self.allowed(now, *to);
                    self.barrier_passed(now, *host, *to);
                }
            }
            Fact::Accepted(host, id) => self.accepted(now, *host, *id),
            Fact::Ended(host, id, done) => self.ended(now, *host, *id, *done),
            Fact::Drained(host, on) => self.drained_is(now, *host, *on),
            Fact::Frozen(host, on) => self.frozen_is(now, *host, *on),
            Fact::Tidied => {
                self.orders.tidy = true;
                self.orders.last = self.orders.last.max(now);
            }
            Fact::Sees(addr, mac) => {
                if let Some(view) = self.addrs.iter_mut().find(|a| a.addr == *addr) {
                    let since =
                        view.entry.filter(|(m, _)| m == mac).map_or(now, |(_, since)| since);
                    view.entry = Some((*mac, since));
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

    fn owner_mac(&self, addr: IpAddr, owner: usize) -> Mac {
        match self.scenario.virtual_mac {
            true => Mac::virtual_router(Family::of(&addr), Vrid::new(51).unwrap()),
            false => mac(owner),
        }
    }

    /// Since when nothing has happened to any agent, net, or to this address by hand.
    fn calm_since(&self, now: Instant, view: &AddrView) -> Option<Instant> {
        let calm = self.whole?.max(self.agents_changed).max(view.tampered).max(self.orders.last);
        let calm = calm.max(self.copies_changed(now)).max(self.kernels_changed);
        if self.hosts.iter().any(|h| h.slow.is_some()) {
            return None;
        }
        if self.scenario.replica.is_some() && self.orders.moving(None) {
            // Its barrier takes its time.
            return None;
        }
        Some(self.hosts.iter().map(|h| h.sickened).fold(calm, Instant::max))
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
