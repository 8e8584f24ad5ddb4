//! Virtual time: one queue of events, the hosts, the nets and the client; everything that happens is noted.
//!
//! The clock jumps from event to event. Nothing here judges (`invariants.rs`) and nothing draws faults (`schedule.rs`).

use crate::client::Client;
use crate::host::{Agent, Brain, Host, Item};
use crate::invariants::{Fact, Rule, Violation, Watch};
use crate::kernel::Kernel;
use crate::replica::drive::Step;
use crate::replica::process::Replica;
use crate::rng::Rng;
use crate::scenario::{self, Scenario, host_name};
use crate::schedule::{Fault, Schedule};
use crate::trace::Trace;
use crate::wire::{Net, Wire};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Input, LinkState, Output};
use vipd_core::time::{Duration, Instant, Now, Utc};
use vipd_core::types::{IfIndex, Mac};

/// Makes the brain of a host: the model, the boot counter, the time.
pub(crate) type Maker = fn(Arc<Model>, u64, Now) -> Box<dyn Brain>;

/// A rule of the design switched off, to see that the simulation finds out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// Kernels never remove an address by themselves (DESIGN 5.1).
    Lease,
    /// Claims do not ask the silent peer's kernel (DESIGN 5.2).
    Wait,
    /// A resumed agent acts on its timer before it reads its sockets (DESIGN 5.3).
    ReadBeforeWrite,
    /// Nobody announces anything (DESIGN 5.4).
    Announcements,
    /// Who is ordered to move lets go before anybody has it (DESIGN 5.5).
    Overlap,
    /// Nothing that was ordered outlives a restart (DESIGN 5.6).
    Memory,
    /// A frozen host does not claim (DESIGN 5.6).
    Freeze,
    /// Ends of operations are not told.
    Ends,
    /// Which epochs were reserved is forgotten with a restart (DESIGN 5.13).
    Reservation,
    /// Receivers take what comes under any epoch (DESIGN 5.13).
    Refusal,
    /// Barriers wait for no acknowledgement (DESIGN 5.5).
    Barrier,
    /// The agent is told that its barrier was reached before the replicator was asked (DESIGN 5.5).
    Hasty,
    /// Agents take every copy for fresh (DESIGN 5.13).
    Gate,
    /// What loses a dispute is thrown away.
    Rescue,
    /// No owner brings its state to a stronger host, as with a release that does not know of it (DESIGN 5.5).
    Preemption,
}

#[derive(Debug)]
pub(crate) enum Event {
    Arrive { net: Net, from: usize, to: usize, frame: Frame },
    Timer { host: usize, number: u64 },
    KernelStep { host: usize },
    Expire { host: usize, addr: IpAddr },
    Clear(Net),
    Begin(usize),
    End(usize),
    Noise,
    Replica(Step),
}

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Advert {
        src: IpAddr,
        dst: IpAddr,
        payload: Rc<[u8]>,
    },
    Heartbeat {
        path: usize,
        payload: Rc<[u8]>,
    },
    Announce {
        addr: IpAddr,
        mac: Mac,
    },
    /// A question; unicast when `to` is given. `from` is where the answer goes.
    Ask {
        addr: IpAddr,
        to: Option<Mac>,
        from: Mac,
    },
    Answer {
        addr: IpAddr,
        mac: Mac,
    },
    /// Broadcast of no interest: shows that the port forwards.
    Noise,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) scenario: Scenario,
    pub(crate) schedule: Schedule,
    pub(crate) breakage: Option<Breakage>,
    pub(crate) maker: Maker,
    pub(crate) rng: Rng,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    pub(crate) hosts: Vec<Host>,
    /// What each host has for the set, where there is one.
    pub(crate) replicas: Vec<Replica>,
    pub(crate) replica_rng: Rng,
    /// Number of the last thing on its way between replicators.
    pub(crate) transfers: u64,
    pub(crate) wire: Wire,
    /// Faults that are on: of the service net, of the second net.
    pub(crate) troubles: [usize; 2],
    pub(crate) client: Client,
    pub(crate) watch: Watch,
    pub(crate) trace: Trace,
    /// Timeouts handed to a host without any progress of time.
    spins: (Instant, u32),
}

/// Where the world ends if time does not.
const MAX_SPINS: u32 = 200;

impl World {
    pub(crate) fn new(
        seed: u64,
        mut scenario: Scenario,
        schedule: Schedule,
        breakage: Option<Breakage>,
        maker: Maker,
    ) -> Self {
        let rng = Rng::new(seed);
        if breakage == Some(Breakage::Wait) {
            scenario.stale_holder_wait = false;
        }
        let hosts = (0..scenario.hosts)
            .map(|h| {
                let mut kernel = Kernel::new(rng.fork(100 + h as u64));
                kernel.expires = breakage != Some(Breakage::Lease);
                Host::new(scenario.model(h), kernel)
            })
            .collect();
        let mut world = Self {
            now: Instant::ZERO,
            watch: Watch::new(&scenario),
            wire: Wire::new(rng.fork(1)),
            rng: rng.fork(2),
            replicas: vec![Replica::default(); scenario.hosts],
            replica_rng: rng.fork(3),
            transfers: 0,
            scenario,
            schedule,
            breakage,
            maker,
            queue: BTreeMap::new(),
            sequence: 0,
            hosts,
            troubles: [0; 2],
            client: Client::default(),
            trace: Trace::default(),
            spins: (Instant::ZERO, 0),
        };
        for (ix, fault) in world.schedule.clone().0.iter().enumerate() {
            world.at(fault.at, Event::Begin(ix));
            world.at(fault.at + fault.lasts, Event::End(ix));
        }
        world.at(Instant::ZERO, Event::Noise);
        world
    }

    /// Runs until `end` or the first broken promise; can be called again for a later end.
    pub(crate) fn run(&mut self, end: Instant) -> Option<Violation> {
        if self.now == Instant::ZERO {
            self.switch_on();
        }
        while self.watch.violations.is_empty()
            && self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end)
        {
            self.step();
        }
        if self.watch.violations.is_empty() {
            self.now = end;
            self.watch.judge(end);
            self.judge_replicas();
        }
        self.watch.violations.first().cloned()
    }

    /// Every host that no fault of the first moment keeps off.
    fn switch_on(&mut self) {
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at == Instant::ZERO) {
            self.step();
        }
        self.start_replicas();
        for host in 0..self.hosts.len() {
            self.settle_agent(host);
        }
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    pub(crate) fn note(&mut self, fact: Fact) {
        self.trace.note(self.now, &fact);
        self.watch.note(self.now, &fact);
    }

    fn step(&mut self) {
        let Some(((at, _), event)) = self.queue.pop_first() else { return };
        self.now = at;
        match event {
            Event::Arrive { net, from, to, frame } => self.arrive(net, from, to, &frame),
            Event::Timer { host, number } => self.timer(host, number),
            Event::KernelStep { host } => self.kernel_step(host),
            Event::Expire { host, addr } => {
                if self.hosts[host].kernel.expire(at, addr) {
                    self.dropped(host, addr);
                }
            }
            Event::Clear(net) => self.troubled(net, -1),
            Event::Begin(ix) => self.begin(ix),
            Event::End(ix) => self.end(ix),
            Event::Replica(step) => self.replica_step(step),
            Event::Noise => {
                let period = (self.scenario.t() / 2).max(Duration::from_millis(10));
                self.broadcast(self.hosts.len(), &Frame::Noise);
                self.at(at + period, Event::Noise);
            }
        }
    }

    // The agent ---------------------------------------------------------------------------------------------

    pub(crate) fn clock(&self) -> Now {
        // The trailer wants seconds since 1970 in units of 2^-16 s; any start will do.
        let nanos = u128::from(self.now.as_nanos());
        Now {
            mono: self.now,
            utc: Utc((1_700_000_000 << 16) + (nanos * 65536 / 1_000_000_000) as u64),
        }
    }

    /// Into the agent, or into its queues while it hangs.
    pub(crate) fn deliver(&mut self, host: usize, item: Item) {
        match self.hosts[host].agent {
            Agent::Running | Agent::Leaving => {
                self.feed(host, item.input(self.now));
                self.set_timer(host);
            }
            Agent::Hung => self.hosts[host].queues.push(item),
            Agent::Dead | Agent::Off => {}
        }
    }

    /// One input, then every output until there is none; reports of `sendmsg` are inputs of their own.
    pub(crate) fn feed(&mut self, host: usize, input: Input<'_>) {
        let now = self.clock();
        let input = self.with_figures(host, input);
        let Some(mut brain) = self.hosts[host].brain.take() else { return };
        brain.handle(now, input);
        let mut sent = Vec::new();
        loop {
            while let Some(output) = brain.poll_output() {
                if let Output::Send(transmit) = &output {
                    sent.push((transmit.router, self.hosts[host].connected()));
                }
                self.act(host, output);
            }
            if sent.is_empty() {
                break;
            }
            for (router, accepted) in std::mem::take(&mut sent) {
                brain.handle(now, Input::Sent { router, accepted });
            }
        }
        let (left, retired) = (brain.stopped(), brain.retired());
        self.hosts[host].brain = Some(brain);
        if retired && self.hosts[host].agent == Agent::Running {
            self.put_in_force(host);
        }
        if left && self.hosts[host].agent == Agent::Leaving {
            self.left(host);
        }
    }

    /// The engine said that it is done: the process ends. It starts again unless a fault is on.
    fn left(&mut self, host: usize) {
        self.die(host);
        self.hosts[host].died_leaving = false;
        self.hosts[host].agent = Agent::Dead;
        self.note(Fact::Agent(host, Agent::Dead));
        let stop = |f: &crate::schedule::Timed| {
            f.fault == Fault::Stop(host) && f.at <= self.now && f.at + f.lasts > self.now
        };
        if !self.schedule.0.iter().any(stop) {
            self.settle_agent(host);
        }
    }

    pub(crate) fn set_timer(&mut self, host: usize) {
        let Some(deadline) = self.hosts[host].brain.as_ref().map(|b| b.deadline()) else { return };
        if self.hosts[host].timer == Some(deadline) {
            return;
        }
        self.hosts[host].timer = Some(deadline);
        self.hosts[host].timer_gen += 1;
        if deadline != Instant::MAX {
            let late = self.rng.duration(Duration::from_micros(1), Duration::from_micros(80));
            let number = self.hosts[host].timer_gen;
            self.at(deadline.max(self.now) + late, Event::Timer { host, number });
        }
    }

    fn timer(&mut self, host: usize, number: u64) {
        if self.hosts[host].agent.runs() && self.hosts[host].timer_gen == number {
            self.act_on_timer(host);
            self.set_timer(host);
        }
    }

    pub(crate) fn act_on_timer(&mut self, host: usize) {
        let due = self.hosts[host].brain.as_ref().is_some_and(|b| b.deadline() <= self.now);
        if !due {
            return;
        }
        self.hosts[host].timer = None;
        self.feed(host, Input::Timeout);
        self.spins = match self.spins {
            (since, n) if self.now - since < Duration::from_millis(1) => (since, n + 1),
            _ => (self.now, 0),
        };
        if self.spins.1 > MAX_SPINS {
            let what = format!("{} wants to be woken over and over", host_name(host));
            self.watch.fail(self.now, Rule::Spins, what);
        }
    }

    fn act(&mut self, host: usize, output: Output) {
        match output {
            Output::Send(transmit) => self.send_advert(host, transmit),
            Output::Heartbeat(out) => self.send_heartbeat(host, &out),
            Output::Announce(a) => {
                let mute = self.breakage == Some(Breakage::Announcements);
                if self.hosts[host].connected() && !mute {
                    if self.is_judged(a.addr) {
                        self.note(Fact::Announced(host, a.addr));
                    }
                    self.broadcast(host, &Frame::Announce { addr: a.addr, mac: a.mac });
                }
            }
            Output::Probe(probe) => self.send_probe(host, &probe),
            Output::Own(order) if self.frozen_out(host, &order.want) => {}
            Output::Own(order) => {
                self.trace.say(self.now, || format!("{}: {:?}", host_name(host), order.want));
                self.hosts[host].kernel.own(order);
                self.wake_kernel(host);
            }
            Output::Renew(order) => {
                let until = order.not_after;
                self.trace.say(self.now, || format!("{}: Renew until {until}", host_name(host)));
                self.hosts[host].kernel.renew(order);
                self.wake_kernel(host);
            }
            Output::Reloaded(model) => {
                self.hosts[host].kernel.reload();
                self.hosts[host].model = model;
            }
            // The model has hot standbys only.
            Output::Activate { .. } => {}
            // And no hooks.
            Output::PrePromote { .. } | Output::NotPromoted { .. } => {}
            Output::Barrier { order, to, deadline, .. } => {
                self.barrier_asked(host, order, to, deadline);
            }
            Output::BarrierOver { order, moved, .. } => self.barrier_over(host, order, moved),
            Output::Event(event) => {
                self.trace.say(self.now, || format!("{} says {:?}", host_name(host), event.kind));
                self.told(host, event);
            }
        }
    }

    // The kernel --------------------------------------------------------------------------------------------

    fn wake_kernel(&mut self, host: usize) {
        if !self.hosts[host].kernel_busy {
            self.hosts[host].kernel_busy = true;
            let at = self.now + self.hosts[host].kernel.latency();
            self.at(at, Event::KernelStep { host });
        }
    }

    pub(crate) fn kernel_step(&mut self, host: usize) {
        self.hosts[host].kernel_busy = false;
        if self.hosts[host].agent == Agent::Hung || self.hosts[host].slow > 0 {
            self.hosts[host].kernel_due = true;
            return;
        }
        let now = self.now;
        let h = &mut self.hosts[host];
        let step = h.kernel.step(now, &h.model);
        if !h.kernel.idle() {
            self.wake_kernel(host);
        }
        for (addr, at) in step.expiries {
            self.at(at, Event::Expire { host, addr });
        }
        for addr in step.removed {
            self.dropped(host, addr);
        }
        for addr in step.added {
            if self.is_judged(addr) {
                self.judge_state(host);
                self.note(Fact::Holds(host, addr));
            }
        }
        if let Some(report) = step.report {
            self.deliver(host, Item::Report(report));
        }
    }

    pub(crate) fn dropped(&mut self, host: usize, addr: IpAddr) {
        if self.is_judged(addr) {
            self.note(Fact::Drops(host, addr));
        }
        self.deliver(host, Item::Removed(addr));
    }

    /// Is it an address of the scenario? What a reload adds has no promises of its own.
    pub(crate) fn is_judged(&self, addr: IpAddr) -> bool {
        self.scenario.vips().iter().any(|vip| vip.addr == addr)
    }

    pub(crate) fn link_state(&self, host: usize) -> LinkState {
        LinkState {
            index: IfIndex::new(2),
            running: self.hosts[host].connected(),
            mac: scenario::mac(host),
            mtu: 1500,
            addrs: scenario::own_addrs(host),
            gateways: scenario::gateways().to_vec(),
        }
    }
}
