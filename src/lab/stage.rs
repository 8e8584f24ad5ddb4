//! A room with everything in it: cabling, agents, foreign eyes, probers, and a journal of what was done.
//!
//! The one thing that scenarios, tests and benches hold. Every fault goes through here, so that it is
//! in the journal with its moment and the eyes know who lost power.

use super::agent::{Agent, Condition, Kind};
use super::clock::now;
use super::faults::Loss;
use super::netlink::LinkState;
use super::observe::Eyes;
use super::outage::Outage;
use super::plan::Plan;
use super::probe::Prober;
use super::service::{self, Mood, Service};
use super::topology::{Net, Topology};
use anyhow::{Context as _, bail};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vipd_core::time::Instant;

/// How long an agent may take to end after SIGTERM.
const STOP_BOUND: Duration = Duration::from_secs(10);

/// What was done to a room, with its moment.
#[derive(Clone, Debug)]
pub struct Note {
    /// When.
    pub at: Instant,
    /// What, in words.
    pub text: String,
}

/// What was done to a room; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<Note>>>);

impl Journal {
    /// Adds an entry.
    pub fn note(&self, at: Instant, text: impl Into<String>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(Note { at, text: text.into() });
    }

    /// Entries in `from..to`.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> Vec<Note> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter(|n| n.at >= from && n.at < to).cloned().collect()
    }
}

/// A played room.
#[derive(Debug)]
pub struct Stage {
    plan: Plan,
    room: Topology,
    eyes: Eyes,
    agents: Vec<Agent>,
    probers: Vec<Prober>,
    /// One for each host in a room whose plan has a health section.
    services: Vec<Service>,
    journal: Journal,
    /// Is a network split?
    split: bool,
    /// What is being swallowed.
    losses: Vec<(usize, Loss)>,
    /// Is the router off its switch?
    router_lost: bool,
}

impl Stage {
    /// Builds the room of a plan with its agents prepared, not started, and probing begun.
    ///
    /// # Errors
    /// When a part of it cannot be made.
    pub fn set(plan: Plan, kind: &Kind) -> anyhow::Result<Self> {
        let cast = vec![(kind.clone(), plan.clone()); plan.hosts];
        Self::cast(plan, &cast)
    }

    /// As [`Stage::set`], with an agent of its own kind and a plan of its own for each host.
    ///
    /// # Errors
    /// As [`Stage::set`], or when there are not as many agents as hosts.
    pub fn cast(plan: Plan, cast: &[(Kind, Plan)]) -> anyhow::Result<Self> {
        if cast.len() != plan.hosts {
            bail!("{} hosts need as many agents, not {}", plan.hosts, cast.len());
        }
        if plan.health.is_some() && cast.iter().any(|(kind, _)| !matches!(kind, Kind::Vipd(_))) {
            bail!("only vipd has the checks of this room");
        }
        let mut room = Topology::build(plan.hosts)?;
        let mut services = Vec::new();
        if plan.health.is_some() {
            room.add_router()?;
            for host in room.hosts() {
                let mut service = Service::new(host.name());
                service.set(host.ns()?, Mood::Serves)?;
                services.push(service);
            }
        }
        let eyes = Eyes::open(&room, plan.vips())?;
        let agents = cast
            .iter()
            .zip(0..)
            .map(|((kind, plan), ix)| Agent::prepare(kind.clone(), plan, ix))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let probers = plan
            .probed()
            .into_iter()
            .zip(1..)
            .map(|(vip, ident)| Prober::start(room.client(), vip, ident))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            plan,
            room,
            eyes,
            agents,
            probers,
            services,
            journal: Journal::default(),
            split: false,
            losses: Vec::new(),
            router_lost: false,
        })
    }

    /// What the room was told.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The cabling.
    #[must_use]
    pub const fn room(&self) -> &Topology {
        &self.room
    }

    /// The cabling, for what no method here does.
    pub const fn room_mut(&mut self) -> &mut Topology {
        &mut self.room
    }

    /// The foreign eyes.
    #[must_use]
    pub const fn eyes(&self) -> &Eyes {
        &self.eyes
    }

    /// The agent of a host.
    #[must_use]
    pub fn agent(&self, ix: usize) -> &Agent {
        &self.agents[ix]
    }

    /// The agent of a host, for what no method here does.
    pub fn agent_mut(&mut self, ix: usize) -> &mut Agent {
        &mut self.agents[ix]
    }

    /// One prober for each address of [`Plan::probed`], in that order.
    #[must_use]
    pub fn probers(&self) -> &[Prober] {
        &self.probers
    }

    /// What was done.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The host that alone has every virtual address.
    #[must_use]
    pub fn owner(&self) -> Option<usize> {
        let mut owners = self.plan.vips().into_iter().map(|vip| self.eyes.holders(vip));
        let first = owners.next()?;
        let [owner] = first[..] else { return None };
        owners.all(|o| o == first).then_some(owner)
    }

    /// The host that preemption favours: the strongest whose agent runs.
    #[must_use]
    pub fn favourite(&self) -> Option<usize> {
        self.agents.iter().position(|a| a.condition() == Condition::Running)
    }

    /// Runs a command of vipd (`["status", "--json"]`) on a host; what it printed.
    ///
    /// # Errors
    /// When the host is off, its agent is not vipd, or the command fails, with what it said.
    pub fn ask(&self, ix: usize, verb: &[&str]) -> anyhow::Result<String> {
        let name = self.room.host(ix).name();
        let command = self.agents[ix].vipd(verb);
        let mut command = command.with_context(|| format!("the agent of {name} is not vipd"))?;
        let out = self.room.host(ix).ns()?.run(move || Ok(command.output()?))?;
        if !out.status.success() {
            bail!("{verb:?} on {name}: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Waits until `wanted` is true of the hosts that hold each virtual address, and the client is
    /// answered at each; the moment at which both was so, or `None` after `bound`.
    #[must_use]
    pub fn wait<F>(&self, bound: Duration, wanted: F) -> Option<Instant>
    where
        F: Fn(&[usize]) -> bool,
    {
        let limit = now() + bound;
        let vips = self.plan.vips();
        self.eyes.wait(bound, |seen| vips.iter().all(|vip| wanted(&seen.holders(*vip))))?;
        let mut answered = self.probers.iter().map(|p| p.wait_answer(limit.since(now())));
        answered.all(|a| a).then(now)
    }

    /// Waits until one host alone owns everything and answers; which.
    ///
    /// # Errors
    /// When that is not so within `bound`, with what the agents printed last.
    pub fn wait_owner(&self, bound: Duration) -> anyhow::Result<usize> {
        let limit = now() + bound;
        // An owner that yields in the moment of its answer is none: then the wait goes on.
        while self.wait(limit.since(now()), |holders| holders.len() == 1).is_some() {
            if let Some(owner) = self.owner() {
                return Ok(owner);
            }
        }
        let (seen, logs) = (self.holders(), self.logs(5));
        bail!("no single owner after {bound:?}: {seen}; the agents said last:\n{logs}")
    }

    /// In words: who has each virtual address, and when the client was answered there last.
    fn holders(&self) -> String {
        let one = |prober: &Prober| {
            let hosts = self.eyes.holders(prober.target()).into_iter();
            let names: Vec<_> = hosts.map(|ix| self.room.host(ix).name()).collect();
            let names = if names.is_empty() { "nobody".into() } else { names.join(" and ") };
            let answered = prober.last_answer().map_or_else(
                || "never".into(),
                |(at, mac)| format!("{:?} ago by {mac}", now().since(at)),
            );
            format!("{} is held by {names}, answered {answered}", prober.target())
        };
        self.probers.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// The last `lines` lines of every agent.
    #[must_use]
    pub fn logs(&self, lines: usize) -> String {
        let one = |a: (&Agent, _)| {
            format!("--- {}\n{}\n", self.room.host(a.1).name(), a.0.log_tail(lines))
        };
        self.agents.iter().zip(0..).map(one).collect()
    }

    /// What the client saw at each virtual address in `from..to`; waits until late answers are in.
    #[must_use]
    pub fn outages(&self, from: Instant, to: Instant) -> Vec<Outage> {
        self.probers.iter().map(|p| p.outage(from, to)).collect()
    }

    /// The longest time in `from..to` in which one virtual address had two owners, summed per address.
    #[must_use]
    pub fn two_owners(&self, from: Instant, to: Instant) -> Duration {
        let seen = self.eyes.seen();
        self.plan.vips().iter().map(|vip| seen.overlap(*vip, from, to)).max().unwrap_or_default()
    }

    /// How often in `from..to` the address that moved most went to another host; see
    /// [`super::ownership::Ownership::moves`].
    #[must_use]
    pub fn moves(&self, from: Instant, to: Instant) -> usize {
        let seen = self.eyes.seen();
        self.plan.vips().iter().map(|vip| seen.moves(*vip, from, to)).max().unwrap_or_default()
    }

    /// The name of the host whose service answers the client at the first virtual address; `None`: none does.
    #[must_use]
    pub fn served_by(&self) -> Option<String> {
        service::ask(self.room.client(), *self.plan.vips().first()?)
    }

    /// What the service of a host does; dead in rooms without services.
    #[must_use]
    pub fn service(&self, ix: usize) -> Mood {
        self.services.get(ix).map_or(Mood::Dead, Service::mood)
    }

    /// Makes the service of a host die, hang or serve.
    ///
    /// # Errors
    /// When the room has no services, the host is off, or its port cannot be had.
    pub fn set_service(&mut self, ix: usize, mood: Mood) -> anyhow::Result<Instant> {
        let at = self.note(
            ix,
            match mood {
                Mood::Serves => "service serves",
                Mood::Hangs => "service hangs",
                Mood::Dead => "service dies",
            },
        );
        let service = self.services.get_mut(ix);
        let service =
            service.context("this room has no services: its plan has no health section")?;
        service.set(self.room.host(ix).ns()?, mood)?;
        Ok(at)
    }

    /// Takes the router off its switch, or puts it back.
    ///
    /// # Errors
    /// When the room has no router, or the switch refuses.
    pub fn set_router(&mut self, state: LinkState) -> anyhow::Result<Instant> {
        let at = now();
        self.journal.note(
            at,
            match state {
                LinkState::Down => "router lost",
                LinkState::Up => "router back",
            },
        );
        self.room.set_router(state)?;
        self.router_lost = state == LinkState::Down;
        Ok(at)
    }

    /// Starts the agent of a host.
    ///
    /// # Errors
    /// When it is up already, or its host is off.
    pub fn start(&mut self, ix: usize) -> anyhow::Result<Instant> {
        let at = self.note(ix, "agent started");
        self.agents[ix].start(self.room.host(ix).ns()?)?;
        Ok(at)
    }

    /// Starts every agent that is down.
    ///
    /// # Errors
    /// As [`Stage::start`].
    pub fn start_all(&mut self) -> anyhow::Result<Instant> {
        let at = now();
        for ix in 0..self.agents.len() {
            if self.agents[ix].condition() == Condition::Down {
                self.start(ix)?;
            }
        }
        Ok(at)
    }

    /// Kills the agent of a host with all its processes.
    ///
    /// # Errors
    /// When it is not up.
    pub fn crash(&mut self, ix: usize) -> anyhow::Result<Instant> {
        self.note(ix, "agent killed (SIGKILL)");
        self.agents[ix].crash(self.room.host(ix).ns()?)
    }

    /// Stops the agent of a host in its tracks.
    ///
    /// # Errors
    /// When it is not up.
    pub fn hang(&mut self, ix: usize) -> anyhow::Result<Instant> {
        self.note(ix, "agent hangs (SIGSTOP)");
        self.agents[ix].hang(self.room.host(ix).ns()?)
    }

    /// Lets a hung agent go on.
    ///
    /// # Errors
    /// When it is not up.
    pub fn resume(&mut self, ix: usize) -> anyhow::Result<Instant> {
        self.note(ix, "agent goes on (SIGCONT)");
        self.agents[ix].resume(self.room.host(ix).ns()?)
    }

    /// Stops the agent of a host cleanly and waits for its end.
    ///
    /// # Errors
    /// When it is not up or does not end within 10 s.
    pub fn stop(&mut self, ix: usize) -> anyhow::Result<Instant> {
        self.note(ix, "agent stopped (SIGTERM)");
        self.agents[ix].stop(self.room.host(ix).ns()?, STOP_BOUND)
    }

    /// Cuts the power of a host.
    ///
    /// # Errors
    /// When it is off already.
    pub fn power_off(&mut self, ix: usize) -> anyhow::Result<Instant> {
        let at = self.note(ix, "power cut");
        self.room.power_off(ix)?;
        if let Some(service) = self.services.get_mut(ix) {
            service.end();
        }
        self.eyes.close(ix, at);
        self.agents[ix].lost();
        // The folder of a running system is in memory and goes with the power.
        let _not_there = std::fs::remove_dir_all(self.agents[ix].dir().join("run"));
        Ok(at)
    }

    /// Gives a host its power back, and starts its agent as a boot would.
    ///
    /// # Errors
    /// When it is on already.
    pub fn power_on(&mut self, ix: usize) -> anyhow::Result<Instant> {
        let at = self.note(ix, "power on");
        self.room.power_on(ix)?;
        self.eyes.watch(&self.room, ix)?;
        if let Some(service) = self.services.get_mut(ix) {
            service.set(self.room.host(ix).ns()?, Mood::Serves)?;
        }
        self.start(ix)?;
        Ok(at)
    }

    /// Pulls or plugs the cable of a host; pulled, its carrier is lost.
    ///
    /// # Errors
    /// When the host is off.
    pub fn set_cable(&mut self, ix: usize, net: Net, state: LinkState) -> anyhow::Result<Instant> {
        let what = match state {
            LinkState::Down => "pulled",
            LinkState::Up => "plugged in",
        };
        let at = self.note(ix, format!("cable of {} {what}", net.link()));
        self.room.set_cable(ix, net, state)?;
        Ok(at)
    }

    /// Cuts a host off on some networks, with its carrier left.
    ///
    /// # Errors
    /// When a switch refuses.
    pub fn partition(&mut self, island: &[usize], nets: &[Net]) -> anyhow::Result<Instant> {
        let at = now();
        let links: Vec<_> = nets.iter().map(|n| n.link()).collect();
        for ix in island {
            self.note(*ix, format!("cut off on {}, carrier stays", links.join(" and ")));
        }
        self.split = true;
        for net in nets {
            self.room.partition(island, *net)?;
        }
        Ok(at)
    }

    /// Joins both networks again.
    ///
    /// # Errors
    /// When a switch refuses.
    pub fn heal(&mut self) -> anyhow::Result<Instant> {
        let at = now();
        self.journal.note(at, "networks joined");
        for net in Net::ALL {
            self.room.heal(net)?;
        }
        self.split = false;
        Ok(at)
    }

    /// Begins to swallow some packets of a host.
    ///
    /// # Errors
    /// When the program `nft` is missing or refuses.
    pub fn lose(&mut self, ix: usize, loss: Loss) -> anyhow::Result<Instant> {
        let at = self.note(ix, loss.to_string());
        self.room.lose(ix, loss)?;
        self.losses.push((ix, loss));
        Ok(at)
    }

    /// Ends [`Stage::lose`].
    ///
    /// # Errors
    /// When it was not begun, or as there.
    pub fn lose_no_more(&mut self, ix: usize, loss: Loss) -> anyhow::Result<Instant> {
        let at = self.note(ix, format!("no more: {loss}"));
        self.room.lose_no_more(ix, loss)?;
        self.losses.retain(|l| *l != (ix, loss));
        Ok(at)
    }

    /// Undoes every fault that this stage made and waits for a single owner.
    ///
    /// # Errors
    /// When nobody owns within `bound`.
    pub fn restore(&mut self, bound: Duration) -> anyhow::Result<usize> {
        if self.split {
            self.heal()?;
        }
        for (ix, loss) in self.losses.clone() {
            // A host that lost its power meanwhile took its filter with it.
            if self.room.host(ix).is_on() {
                self.lose_no_more(ix, loss)?;
            }
        }
        self.losses.clear();
        if self.router_lost {
            self.set_router(LinkState::Up)?;
        }
        for ix in 0..self.agents.len() {
            if !self.room.host(ix).is_on() {
                self.power_on(ix)?;
            }
            for net in Net::ALL {
                self.room.set_cable(ix, net, LinkState::Up)?;
            }
            if !self.services.is_empty() && self.service(ix) != Mood::Serves {
                self.set_service(ix, Mood::Serves)?;
            }
            if self.agents[ix].condition() == Condition::Hung {
                self.resume(ix)?;
            }
            if self.agents[ix].has_ended() {
                self.note(ix, "agent had ended by itself");
            }
        }
        self.start_all()?;
        self.wait_owner(bound)
    }

    /// Lets every agent that is up begin anew, without what it remembers of earlier scenes.
    ///
    /// # Errors
    /// When one does not stop, or its state cannot be removed.
    pub fn forget(&mut self) -> anyhow::Result<()> {
        for ix in 0..self.agents.len() {
            if self.agents[ix].condition() == Condition::Running {
                self.stop(ix)?;
            }
            let state = self.agents[ix].dir().join("state");
            if state.exists() {
                std::fs::remove_dir_all(&state)
                    .with_context(|| format!("cannot remove {}", state.display()))?;
            }
        }
        Ok(())
    }

    /// Writes down what is about to be done to a host; the moment.
    fn note(&self, ix: usize, what: impl AsRef<str>) -> Instant {
        let at = now();
        self.journal.note(at, format!("{}: {}", self.room.host(ix).name(), what.as_ref()));
        at
    }

    /// The position of the host called `name`.
    ///
    /// # Errors
    /// When the room has no such host.
    pub fn host_named(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.room.hosts().iter().position(|h| h.name() == name);
        let Some(ix) = found else {
            let all: Vec<_> = self.room.hosts().iter().map(super::topology::Host::name).collect();
            bail!("the room has no host {name}; it has {}", all.join(", "));
        };
        Ok(ix)
    }
}
