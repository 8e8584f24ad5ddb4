//! A room with everything in it: cabling, agents, foreign eyes, probers, and a journal of what was done.
//!
//! The one thing that scenarios, tests and benches hold. Here it is set and looked at; `acts` does something to it.

mod acts;

use super::agent::{Agent, Condition, Kind};
use super::clock::now;
use super::faults::Loss;
use super::journal::Journal;
use super::observe::Eyes;
use super::outage::Outage;
use super::plan::Plan;
use super::probe::Prober;
use super::replicator::{Replicator, StateFiles};
use super::service::{self, Mood, Service};
use super::topology::Topology;
use anyhow::{Context as _, bail};
use std::time::Duration;
use vipd_core::time::Instant;

/// A played room.
#[derive(Debug)]
pub struct Stage {
    plan: Plan,
    room: Topology,
    eyes: Eyes,
    agents: Vec<Agent>,
    /// One for each host in a room whose plan has state files.
    replicators: Vec<Replicator>,
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
        let replicators = match &plan.state_files {
            Some(sets) => replicators(&room, &agents, cast, sets)?,
            None => Vec::new(),
        };
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
            replicators,
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

    /// The replicator of a host, in a room with state files.
    #[must_use]
    pub fn replicator(&self, ix: usize) -> &Replicator {
        &self.replicators[ix]
    }

    /// The replicator of a host, for what no method here does.
    pub fn replicator_mut(&mut self, ix: usize) -> &mut Replicator {
        &mut self.replicators[ix]
    }

    /// Starts the replicator of a host, if the room has one and it is down.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_replicator(&mut self, ix: usize) -> anyhow::Result<()> {
        match self.replicators.get_mut(ix) {
            Some(replicator) => replicator.start(self.room.host(ix).ns()?),
            None => Ok(()),
        }
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

    /// The last `lines` lines of every agent, and of every replicator.
    #[must_use]
    pub fn logs(&self, lines: usize) -> String {
        let name = |ix| self.room.host(ix).name();
        let agents = self.agents.iter().zip(0..);
        let agents = agents.map(|(a, ix)| format!("--- {}\n{}\n", name(ix), a.log_tail(lines)));
        let replicators = self.replicators.iter().zip(0..);
        let replicators = replicators
            .map(|(r, ix)| format!("--- replicator of {}\n{}\n", name(ix), r.log_tail(lines)));
        agents.chain(replicators).collect()
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

fn replicators(
    room: &Topology,
    agents: &[Agent],
    cast: &[(Kind, Plan)],
    sets: &StateFiles,
) -> anyhow::Result<Vec<Replicator>> {
    let each = room.hosts().iter().zip(agents.iter().zip(cast));
    each.map(|(host, (agent, (kind, _)))| match kind {
        Kind::Vipd(program) => Replicator::prepare(agent, program, host.name(), sets),
        _ => bail!("only vipd has a replicator"),
    })
    .collect()
}
