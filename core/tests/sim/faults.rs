//! What faults do to the world: nets, carriers, agents that hang, die, stop and come back.

use crate::host::{Agent, Item, LINK, Queues};
use crate::invariants::Fact;
use crate::schedule::Fault;
use crate::wire::Net;
use crate::world::{Breakage, Event, World};
use vipd_core::engine::io::{EpochRecord, Input};
use vipd_core::types::{Family, InstanceIx};

impl World {
    pub(crate) fn begin(&mut self, ix: usize) {
        let fault = self.schedule.0[ix].fault.clone();
        self.trace.say(self.now, || format!("begin: {fault}"));
        match fault {
            Fault::Wire(troubles) => {
                for (i, trouble) in troubles.into_iter().enumerate() {
                    let net = trouble.net;
                    self.wire.begin(ix * 8 + i, trouble);
                    self.troubled(net, 1);
                }
            }
            Fault::Carrier(host) => {
                self.troubled(Net::Service, 1);
                self.carrier(host, 1);
            }
            Fault::Pause(host) => {
                self.hosts[host].hung += 1;
                self.settle_agent(host);
            }
            Fault::Kill(host) => {
                self.hosts[host].dead += 1;
                self.settle_agent(host);
            }
            Fault::PowerOff(host) => {
                self.hosts[host].off += 1;
                self.settle_agent(host);
                self.settle_replicator(host);
            }
            Fault::ReplicatorDown(host) => {
                self.replicas[host].down += 1;
                self.settle_replicator(host);
            }
            Fault::ReplicatorSlow(host) => self.replicas[host].slow += 1,
            Fault::DiskFull(host) => {
                self.replicas[host].unwritable += 1;
                self.note(Fact::DiskFull(host));
            }
            Fault::KernelSlow(host) => {
                self.hosts[host].slow += 1;
                self.note(Fact::KernelSlow(host, true));
            }
            Fault::Accept => self.accept_trees(),
            Fault::Stop(host) => {
                if self.hosts[host].agent == Agent::Running {
                    self.hosts[host].leaving = true;
                    self.hosts[host].agent = Agent::Leaving;
                    self.note(Fact::Agent(host, Agent::Leaving));
                    self.feed(host, Input::Stop);
                }
            }
            Fault::Resolve => {
                self.note(Fact::Resolves);
                for vip in self.scenario.vips() {
                    self.resolve(vip.addr);
                }
            }
            Fault::Sick(host) => self.sickens(host, 1),
            Fault::Order(host, about, order) => self.order(host, ix as u64, about, order),
            Fault::Tidy => self.tidy(),
            Fault::Reload(host, edit) => self.reload(host, edit),
            Fault::Remove(host) => {
                for vip in self.scenario.vips() {
                    if self.hosts[host].kernel.remove(vip.addr) {
                        self.note(Fact::Tampers(vip.addr));
                        self.dropped(host, vip.addr);
                    }
                }
            }
        }
    }

    pub(crate) fn end(&mut self, ix: usize) {
        let fault = self.schedule.0[ix].fault.clone();
        self.trace.say(self.now, || format!("end: {fault}"));
        match fault {
            Fault::Wire(troubles) => {
                for (i, trouble) in troubles.into_iter().enumerate() {
                    self.wire.end(ix * 8 + i);
                    // What was delayed is still on the way, and the net not whole before it has arrived.
                    let at = self.now + trouble.kind.longest_delay();
                    self.at(at, Event::Clear(trouble.net));
                }
            }
            Fault::Carrier(host) => {
                self.carrier(host, -1);
                self.troubled(Net::Service, -1);
            }
            Fault::Pause(host) => {
                self.hosts[host].hung -= 1;
                self.settle_agent(host);
            }
            Fault::Kill(host) => {
                self.hosts[host].dead -= 1;
                self.settle_agent(host);
            }
            Fault::PowerOff(host) => {
                self.hosts[host].off -= 1;
                self.settle_agent(host);
                self.settle_replicator(host);
            }
            Fault::ReplicatorDown(host) => {
                self.replicas[host].down -= 1;
                self.settle_replicator(host);
            }
            Fault::ReplicatorSlow(host) => self.replicas[host].slow -= 1,
            Fault::DiskFull(host) => self.replicas[host].unwritable -= 1,
            Fault::KernelSlow(host) => {
                self.hosts[host].slow -= 1;
                if self.hosts[host].slow == 0 {
                    self.note(Fact::KernelSlow(host, false));
                    self.kernel_goes_on(host);
                }
            }
            // An agent that has left by now starts again; one that still hands over does so when it has left.
            Fault::Stop(host) => self.settle_agent(host),
            Fault::Sick(host) => self.sickens(host, -1),
            Fault::Resolve
            | Fault::Remove(_)
            | Fault::Order(..)
            | Fault::Tidy
            | Fault::Accept
            | Fault::Reload(..) => {}
        }
    }

    pub(crate) fn troubled(&mut self, net: Net, by: isize) {
        let count = &mut self.troubles[net as usize];
        *count = count.saturating_add_signed(by);
        let [service, second] = self.troubles.map(|n| n == 0);
        self.note(Fact::Whole { service, second });
    }

    fn carrier(&mut self, host: usize, by: i32) {
        if by > 0 {
            self.note(Fact::LinkLost(host));
        }
        let cuts = self.hosts[host].carrier_cuts.saturating_add_signed(by);
        self.hosts[host].carrier_cuts = cuts;
        let state = self.link_state(host);
        self.deliver(host, Item::Link(state));
    }

    /// Brings the agent where the faults that are on want it.
    pub(crate) fn settle_agent(&mut self, host: usize) {
        let h = &self.hosts[host];
        let (before, leaving) = (h.agent, h.leaving);
        let wanted = match (h.off > 0, h.dead > 0, h.hung > 0) {
            (true, _, _) => Agent::Off,
            (_, true, _) => Agent::Dead,
            // Whoever starts while a pause is on starts after it.
            (_, _, true) if matches!(before, Agent::Off | Agent::Dead) => before,
            (_, _, true) => Agent::Hung,
            _ if leaving => Agent::Leaving,
            _ => Agent::Running,
        };
        let died = |a| matches!(a, Agent::Off | Agent::Dead);
        if wanted == before {
            return;
        }
        if died(wanted) {
            self.die(host);
        }
        self.hosts[host].agent = wanted;
        match wanted {
            Agent::Running if died(before) => self.start(host),
            Agent::Running | Agent::Leaving => self.resume(host, wanted),
            _ => self.note(Fact::Agent(host, wanted)),
        }
        if wanted == Agent::Off {
            self.hosts[host].died_leaving = false;
            for addr in self.hosts[host].kernel.power_off() {
                if self.is_judged(addr) {
                    self.note(Fact::Drops(host, addr));
                }
            }
        }
    }

    pub(crate) fn die(&mut self, host: usize) {
        let h = &mut self.hosts[host];
        h.brain = None;
        if let Some(model) = h.coming.take() {
            // It is on the disk: the next start reads it.
            h.retires = false;
            h.model = model;
        }
        h.died_leaving = std::mem::take(&mut h.leaving);
        h.kernel.agent_died();
        h.queues.clear();
        h.kernel_due = false;
        h.timer = None;
        self.replica_agent_died(host);
    }

    fn start(&mut self, host: usize) {
        self.note(Fact::Agent(host, Agent::Running));
        let now = self.clock();
        let state = self.link_state(host);
        let h = &mut self.hosts[host];
        h.boot += 1;
        let mut brain = (self.maker)(h.model.clone(), h.boot, now);
        if std::mem::take(&mut h.died_leaving) {
            brain.start_as_backup(self.now);
        }
        let [of_host, mut of_web] = h.memory.clone();
        if self.breakage == Some(Breakage::Reservation) {
            of_web.epoch = EpochRecord::default();
        }
        brain.recall(None, of_host);
        brain.recall(Some(InstanceIx(0)), of_web);
        h.brain = Some(brain);
        self.replica_agent_starts(host);
        let h = &self.hosts[host];
        let present = h.kernel.dump(self.now);
        self.feed(host, Input::Link { link: LINK, state });
        self.feed(host, Input::Addresses { link: LINK, present: &present });
        self.check(host);
        self.set_timer(host);
    }

    /// The process goes on: its kernel thread first, with the order that it was about to execute; then the protocol
    /// thread reads every socket, in any order, and only then looks at its timer.
    fn resume(&mut self, host: usize, as_what: Agent) {
        let rivals = Family::ALL.map(|family| (family, self.rival(host, family)));
        let still_leaves = self.hosts[host].retires;
        self.note(Fact::Agent(host, if still_leaves { Agent::Leaving } else { as_what }));
        for (family, rival) in rivals {
            if let Some((rival, priority)) = rival {
                self.note(Fact::ResumedOver(host, family, rival, priority));
            }
        }
        self.kernel_goes_on(host);
        if self.breakage == Some(Breakage::ReadBeforeWrite) {
            self.act_on_timer(host);
        }
        let first = self.rng.below(Queues::COUNT as u64) as usize;
        for queue in 0..Queues::COUNT {
            while let Some(item) = self.hosts[host].queues.pop((first + queue) % Queues::COUNT) {
                self.feed(host, item.input(self.now));
            }
        }
        self.check(host);
        self.act_on_timer(host);
        self.set_timer(host);
    }

    /// The kernel thread does what it was about to do.
    fn kernel_goes_on(&mut self, host: usize) {
        if std::mem::take(&mut self.hosts[host].kernel_due) {
            self.kernel_step(host);
        }
    }

    /// The owner whose fresh adverts wait in the queue of a host that resumes. Without heartbeats each family runs by
    /// itself, and its adverts alone speak of its owner; with them either family speaks for both (DESIGN 5.11).
    fn rival(&self, host: usize, family: Family) -> Option<(usize, u8)> {
        let shared = self.scenario.heartbeats;
        let speaks = |of: Family| shared || of == family;
        let mut adverts = self.hosts[host].queues.adverts();
        let (from, at, _, priority) = adverts.rfind(|(_, _, of, _)| speaks(*of))?;
        let owns = self.hosts[from].kernel.held().any(|addr| speaks(Family::of(&addr)));
        let fresh = self.now - at < self.scenario.t() * 3 / 2;
        (owns && fresh && priority > 0 && self.hosts[from].agent.runs()).then_some((from, priority))
    }
}
