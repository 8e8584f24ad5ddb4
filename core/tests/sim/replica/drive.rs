//! What replicators, services and the agents' words to them do in virtual time. What is said when is as
//! `vipd-replicate` and the agent's runtime have it: roles at each change, reports each second and at news, nothing is pushed
//! once the agent has been away for 3 s, a replicator that is silent for 5 s is missing.
//!
//! Nothing here judges.

use super::disk::Disk;
use super::process::{Process, Stand};
use super::pushing::Travel;
use crate::host::{Agent, Item};
use crate::invariants::Fact;
use crate::world::{Breakage, Event, World};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use vipd_core::engine::io::{Input, Memory, ReplicaState};
use vipd_core::engine::snapshot::RoleView;
use vipd_core::time::{Duration, Instant};

/// Between two looks of a replicator.
const LOOK: Duration = Duration::from_millis(100);
/// An agent that is away for longer may have lost the address.
const GRACE: Duration = Duration::from_secs(3);
/// A replicator that says nothing for so long is missing.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two reports.
const REPORT: Duration = Duration::from_secs(1);
/// Between two attempts of a role that the disk refuses, and of a disk that takes nothing.
const RETRY: Duration = Duration::from_secs(5);

/// Something that happens to a set of files.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Look(usize),
    Write(usize),
    /// A hook of the service has done what it was told.
    Hook(usize),
    /// From the agent to its replicator.
    Role {
        host: usize,
        boot: u64,
    },
    /// From the replicator to its agent.
    Report {
        host: usize,
        boot: u64,
        state: ReplicaState,
    },
    /// The writer is quiet: the replicator is asked for its barrier.
    Quiet {
        host: usize,
        boot: u64,
        order: u64,
        until: Instant,
    },
    Answer {
        host: usize,
        boot: u64,
        order: u64,
        passed: bool,
    },
    /// The disk of the agent has taken what was to be stored, if it can.
    Stored {
        host: usize,
        boot: u64,
        number: u64,
    },
    Travel(Travel),
}

impl World {
    pub(crate) fn replicates(&self) -> bool {
        self.scenario.replica.is_some()
    }

    pub(super) fn step_at(&mut self, after: Duration, step: Step) {
        let at = self.now + after;
        self.at(at, Event::Replica(step));
    }

    /// Inside of a host: a socket, a thread.
    pub(super) fn soon(&mut self) -> Duration {
        self.replica_rng.duration(Duration::from_micros(100), Duration::from_millis(2))
    }

    /// Sets begin to live.
    pub(crate) fn start_replicas(&mut self) {
        if !self.replicates() {
            return;
        }
        for host in 0..self.hosts.len() {
            self.settle_replicator(host);
            let first = self.replica_rng.duration(Duration::ZERO, LOOK);
            self.step_at(first, Step::Look(host));
            self.step_at(first, Step::Write(host));
        }
    }

    pub(crate) fn replica_step(&mut self, step: Step) {
        match step {
            Step::Look(host) => {
                self.look(host);
                self.step_at(LOOK, Step::Look(host));
            }
            Step::Write(host) => {
                self.write(host);
                let pace = self.scenario.replica.as_ref().map_or(LOOK, |set| set.pace);
                let again = self.replica_rng.duration(pace / 4, pace);
                self.step_at(again, Step::Write(host));
            }
            Step::Hook(host) => {
                let service = &mut self.replicas[host].service;
                service.runs = service.wanted;
                service.quiet &= service.runs;
            }
            Step::Role { host, boot } => {
                // The newest one counts, as it does on the socket.
                let role = self.replicas[host].books.role;
                if let Some(role) = role.filter(|_| self.speaks(host, boot)) {
                    self.take_role(host, role.into());
                }
            }
            Step::Report { host, boot, state } => {
                if self.hosts[host].boot == boot && !self.is_dead(host) {
                    let books = &mut self.replicas[host].books;
                    (books.heard, books.missing) = (self.now, false);
                    self.deliver(host, Item::Replica(Some(state)));
                }
            }
            Step::Quiet { host, boot, order, until } => self.quiet(host, boot, order, until),
            Step::Answer { host, boot, order, passed } => self.answered(host, boot, order, passed),
            Step::Stored { host, boot, number } => self.stored(host, boot, number),
            Step::Travel(travel) => self.arrived(travel),
        }
    }

    pub(super) fn is_dead(&self, host: usize) -> bool {
        matches!(self.hosts[host].agent, Agent::Dead | Agent::Off)
    }

    /// Is there a connection between that run of the agent and its replicator?
    pub(super) fn speaks(&self, host: usize, boot: u64) -> bool {
        let connected = self.replicas[host].process.as_ref().is_some_and(|p| p.agent.is_ok());
        connected && self.hosts[host].boot == boot && !self.is_dead(host)
    }

    /// Brings the replicator where the faults that are on want it.
    pub(crate) fn settle_replicator(&mut self, host: usize) {
        if !self.replicates() {
            return;
        }
        let wanted = self.hosts[host].powered() && self.replicas[host].down == 0;
        if wanted == self.replicas[host].process.is_some() {
            return;
        }
        self.note(Fact::Replicator(host, wanted));
        if !self.hosts[host].powered() {
            let service = &mut self.replicas[host].service;
            (service.runs, service.wanted) = (false, false);
        }
        self.transfers += 1;
        let process = Process::new(self.transfers, self.now, self.hosts.len());
        self.replicas[host].process = wanted.then_some(process);
        if !wanted {
            // The agent sees the connection end.
            if let Some(order) = self.replicas[host].moving.as_ref().map(|m| m.order) {
                self.answer_barrier(host, order, false);
            }
        }
    }

    // Agent and replicator ----------------------------------------------------------------------------------

    /// The agent process is gone, and what it had not stored with it.
    pub(crate) fn replica_agent_died(&mut self, host: usize) {
        let now = self.now;
        let replica = &mut self.replicas[host];
        replica.books.storing = None;
        replica.books.role = None;
        replica.moving = None;
        if let Some(process) = &mut replica.process {
            process.barrier = None;
            if process.agent.is_ok() {
                process.agent = Err(now);
            }
        }
    }

    /// An agent starts: what it finds running that should not is stopped by its hooks.
    pub(crate) fn replica_agent_starts(&mut self, host: usize) {
        let books = &mut self.replicas[host].books;
        (books.heard, books.missing) = (self.now, false);
        let service = &mut self.replicas[host].service;
        (service.runs, service.wanted, service.quiet) = (false, false, false);
    }

    /// What the engine is told of its copy, noted as it is; a gate that is broken on purpose believes the best of it.
    pub(crate) fn with_figures<'a>(&mut self, host: usize, input: Input<'a>) -> Input<'a> {
        let Input::Replica { set, state } = input else { return input };
        self.note(Fact::Figures(host, state.and_then(|state| state.age)));
        let best = ReplicaState { age: Some(Duration::ZERO), pending: 0 };
        let believes = self.breakage == Some(Breakage::Gate);
        Input::Replica { set, state: if believes { Some(best) } else { state } }
    }

    /// The engine says who owns.
    pub(crate) fn role_told(&mut self, host: usize, role: RoleView) {
        self.note(Fact::Role(host, role.owns, role.epoch));
        self.replicas[host].books.role = Some(role);
        let (boot, after) = (self.hosts[host].boot, self.soon());
        self.step_at(after, Step::Role { host, boot });
    }

    /// The virtual router became owner, or ceased to be.
    pub(crate) fn service_follows(&mut self, host: usize, owns: bool) {
        let service = &mut self.replicas[host].service;
        service.wanted = owns;
        service.quiet &= !owns;
        let after = self.replica_rng.duration(Duration::from_millis(1), Duration::from_millis(20));
        self.step_at(after, Step::Hook(host));
    }

    fn write(&mut self, host: usize) {
        let now = self.now;
        if !self.hosts[host].powered() {
            return;
        }
        let replica = &mut self.replicas[host];
        if !replica.service.runs || replica.service.quiet {
            return;
        }
        let record = replica.service.write(host);
        replica.disk.append(record);
        if let Some(process) = &mut replica.process {
            process.dirty_since.get_or_insert(now);
        }
        self.note(Fact::Wrote(record));
    }

    /// What an agent wants to be kept goes to its disk, which takes its time.
    pub(crate) fn store(&mut self, host: usize, memory: Memory) {
        self.transfers += 1;
        let number = self.transfers;
        self.replicas[host].books.storing = Some((number, memory));
        let most = if self.replica_rng.chance(100) { 2000 } else { 40 };
        let after =
            self.replica_rng.duration(Duration::from_micros(200), Duration::from_millis(most));
        let boot = self.hosts[host].boot;
        self.step_at(after, Step::Stored { host, boot, number });
    }

    fn stored(&mut self, host: usize, boot: u64, number: u64) {
        if self.hosts[host].boot != boot || self.is_dead(host) {
            return;
        }
        let books = &mut self.replicas[host].books;
        let Some((_, memory)) = books.storing.take_if(|(n, _)| *n == number) else { return };
        let reserved = memory.epoch.reserved;
        if self.replicas[host].unwritable > 0 {
            self.replicas[host].books.storing = Some((number, memory));
            self.step_at(RETRY, Step::Stored { host, boot, number });
            let result = Err(Arc::from("no space left on device"));
            return self.deliver(host, Item::Stored { reserved, result });
        }
        self.hosts[host].memory[1] = memory;
        self.note(Fact::Stored(host, reserved));
        self.deliver(host, Item::Stored { reserved, result: Ok(()) });
    }

    fn take_role(&mut self, host: usize, stand: Stand) {
        let Some(process) = &mut self.replicas[host].process else { return };
        if process.stand == Some(stand) {
            return;
        }
        if !stand.owns {
            process.stop_pushing();
        }
        process.stand = Some(stand);
        process.barrier = None;
        self.put_role(host, stand);
    }

    /// The role comes to the disk of the set.
    fn put_role(&mut self, host: usize, stand: Stand) {
        let now = self.now;
        let replica = &mut self.replicas[host];
        let Some(process) = &mut replica.process else { return };
        process.claim_again = None;
        process.receives = !stand.owns;
        if !stand.owns {
            replica.disk.follow(stand.epoch);
            process.claimed = None;
            process.stopped = false;
            return;
        }
        if replica.disk.claim(stand.epoch).is_err() {
            process.claimed = None;
            process.claim_again = Some(now + RETRY);
            return;
        }
        process.stopped &= process.claimed == Some(stand.epoch);
        process.claimed = Some(stand.epoch);
        self.seal(host);
        self.push_all(host);
    }

    pub(super) fn seal(&mut self, host: usize) {
        let replica = &mut self.replicas[host];
        let Some(process) = &mut replica.process else { return };
        process.dirty_since = None;
        if process.pushes().is_some() && replica.disk.seal() {
            let position = replica.disk.position;
            let digest = digest(&replica.disk);
            self.note(Fact::Sealed(host, position, digest));
        }
    }

    /// What comes by itself.
    fn look(&mut self, host: usize) {
        let now = self.now;
        let books = &mut self.replicas[host].books;
        if self.hosts[host].agent.runs() && !books.missing && now - books.heard >= SILENCE {
            books.missing = true;
            self.deliver(host, Item::Replica(None));
        }
        let (running, role) = (self.hosts[host].agent.runs(), self.replicas[host].books.role);
        let Some(process) = &mut self.replicas[host].process else { return };
        match process.agent {
            Err(_) if running => {
                process.agent = Ok(());
                if let Some(role) = role {
                    self.take_role(host, role.into());
                }
                self.report(host);
            }
            Err(since) if now - since >= GRACE && process.stand.is_some() => {
                process.stand = None;
                process.stop_pushing();
            }
            _ => {}
        }
        let debounce = self.scenario.replica.as_ref().map_or(LOOK, |set| set.debounce);
        let Some(process) = &self.replicas[host].process else { return };
        let due = process.dirty_since.is_some_and(|since| now - since >= debounce);
        let again = process.claim_again.is_some_and(|at| now >= at);
        let barrier = process.barrier.clone();
        if let Some(stand) = process.stand.filter(|_| again) {
            self.put_role(host, stand);
        }
        if due && barrier.is_none() {
            self.seal(host);
        }
        self.push_all(host);
        if let Some(barrier) = barrier.filter(|b| !b.answered && now >= b.until) {
            self.answer_barrier(host, barrier.order, false);
        }
        let replica = &self.replicas[host];
        let Some(process) = &replica.process else { return };
        let (at, outline) = process.reported;
        if now - at >= REPORT || outline != process.outline(&replica.disk) {
            self.report(host);
        }
    }

    fn report(&mut self, host: usize) {
        let now = self.now;
        let replica = &mut self.replicas[host];
        let Some(process) = &mut replica.process else { return };
        process.reported = (now, process.outline(&replica.disk));
        if process.agent.is_ok() {
            let state = process.figures(now);
            let (boot, after) = (self.hosts[host].boot, self.soon());
            self.step_at(after, Step::Report { host, boot, state });
        }
    }
}

fn digest(disk: &Disk) -> u64 {
    let mut hasher = DefaultHasher::new();
    disk.records().for_each(|record| record.hash(&mut hasher));
    hasher.finish()
}
