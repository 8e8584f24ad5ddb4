//! Planned moves that wait for the state, from the quiet of the writer to the answer; and what no fact can carry: whether
//! the records are where they have to be.

use super::disk::Record;
use super::drive::Step;
use super::process::{Barrier, Move, Process};
use crate::host::Item;
use crate::invariants::{Fact, Rule};
use crate::scenario::host_name;
use crate::world::{Breakage, World};
use std::collections::BTreeSet;
use std::sync::Arc;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::HostIx;

impl World {
    pub(crate) fn barrier_asked(&mut self, host: usize, order: u64, to: HostIx, until: Instant) {
        let (since, to) = (self.now, usize::from(to.0));
        self.replicas[host].moving = Some(Move { order, to, since, owed: None, passed: None });
        let hook = self.replica_rng.duration(Duration::from_millis(1), Duration::from_millis(20));
        let boot = self.hosts[host].boot;
        self.step_at(hook, Step::Quiet { host, boot, order, until });
    }

    pub(super) fn quiet(&mut self, host: usize, boot: u64, order: u64, until: Instant) {
        let connected = self.speaks(host, boot);
        let replica = &mut self.replicas[host];
        let Some(moving) = replica.moving.as_mut().filter(|m| m.order == order) else { return };
        replica.service.quiet = true;
        moving.owed = Some(replica.disk.records().collect());
        let to = moving.to;
        if self.breakage == Some(Breakage::Hasty) {
            return self.deliver(host, Item::Barrier { order, result: Ok(()) });
        }
        if self.breakage == Some(Breakage::Barrier) {
            return self.answer_barrier(host, order, true);
        }
        let pushes = replica.process.as_ref().is_some_and(|p| p.pushes().is_some());
        if !connected || !pushes {
            return self.answer_barrier(host, order, false);
        }
        self.seal(host);
        let replica = &mut self.replicas[host];
        let Some(process) = &mut replica.process else { return };
        let position = replica.disk.position;
        process.barrier = Some(Barrier { order, to, until, position, answered: false });
        // Only what is acknowledged from here on counts.
        (process.sessions[to].has, process.sessions[to].hold) = (None, Instant::ZERO);
        self.push_all(host);
    }

    pub(super) fn answer_barrier(&mut self, host: usize, order: u64, passed: bool) {
        if let Some(barrier) = self.replicas[host].process.as_mut().and_then(|p| p.barrier.as_mut())
        {
            barrier.answered = true;
        }
        let (boot, after) = (self.hosts[host].boot, self.soon());
        self.step_at(after, Step::Answer { host, boot, order, passed });
    }

    pub(super) fn answered(&mut self, host: usize, boot: u64, order: u64, passed: bool) {
        if self.hosts[host].boot != boot || self.is_dead(host) {
            return;
        }
        let moving = self.replicas[host].moving.as_mut();
        let Some(moving) = moving.filter(|m| m.order == order && m.passed.is_none()) else {
            return;
        };
        moving.passed = Some(passed);
        let to = moving.to;
        self.note(Fact::Barrier(host, to, passed));
        let result = if passed { Ok(()) } else { Err(Arc::from("not everything is there")) };
        self.deliver(host, Item::Barrier { order, result });
    }

    pub(crate) fn barrier_over(&mut self, host: usize, order: u64, moved: bool) {
        let replica = &mut self.replicas[host];
        if replica.moving.take_if(|m| m.order == order).is_none() {
            return;
        }
        if !moved {
            replica.service.quiet = false;
        }
        if let Some(process) = &mut replica.process {
            process.barrier.take_if(|b| b.order == order);
        }
        self.note(Fact::BarrierOver(host, moved));
    }

    /// The kernel of `host` takes the address: has it what it was to be brought?
    pub(crate) fn judge_state(&mut self, host: usize) {
        if !self.replicates() {
            return;
        }
        let planned = (0..self.hosts.len()).filter_map(|from| {
            let moving = self.replicas[from].moving.clone()?;
            (moving.to == host && self.hosts[from].agent.runs()).then_some((from, moving))
        });
        for (from, moving) in planned.collect::<Vec<_>>() {
            let (target, source) = (&self.replicas[host].disk, &self.replicas[from].disk);
            let same = target.tree_position().epoch == source.tree_position().epoch;
            let has = moving
                .owed
                .as_ref()
                .is_some_and(|owed| target.records().take(owed.len()).eq(owed.iter().copied()));
            if moving.passed == Some(true) && same && !has {
                let what = format!(
                    "{} takes what {} moves, without all that was written there",
                    host_name(host),
                    host_name(from)
                );
                self.watch.fail(self.now, Rule::StateMissing, what);
            }
            if moving.passed != Some(true) && self.watch.must_wait(from, moving.since) {
                let what = format!("{} claims before its barrier was reached", host_name(host));
                self.watch.fail(self.now, Rule::BarrierIgnored, what);
            }
        }
        self.judge_left_behind(host);
    }

    /// Does it take the address from an owner that brings everything first, and lack something?
    fn judge_left_behind(&mut self, host: usize) {
        let Some(owner) = self.watch.calm_owner(self.now, host) else { return };
        let (target, source) = (&self.replicas[host].disk, &self.replicas[owner].disk);
        let has: BTreeSet<Record> = target.records().collect();
        let lacks = source.records().find(|record| !has.contains(record));
        // What leaves for another configuration goes in any case.
        if let Some(record) = lacks.filter(|_| !self.hosts[owner].retires) {
            let (host, owner) = (host_name(host), host_name(owner));
            let what = format!("{host} takes what {owner} owns, without {record:?}");
            self.watch.fail(self.now, Rule::LeftBehind, what);
        }
    }

    /// In the end: is all that was ever written somewhere, and does everybody have what the owner has?
    pub(crate) fn judge_replicas(&mut self) {
        if !self.replicates() {
            return;
        }
        let disks = || self.replicas.iter().map(|replica| &replica.disk);
        let kept: BTreeSet<Record> = disks()
            .flat_map(|disk| disk.records().chain(disk.rescue.iter().chain(&disk.trash).copied()))
            .collect();
        let written = |host: usize| {
            let last = self.replicas[host].service.written;
            (1..=last).map(move |number| Record { host, number })
        };
        let lost = (0..self.hosts.len()).flat_map(written).find(|record| !kept.contains(record));
        if let Some(record) = lost {
            let what = format!("{record:?} is nowhere any more");
            self.watch.fail(self.now, Rule::RecordLost, what);
        }
        let Some(owner) = self.watch.settled_owner(self.now) else { return };
        let disk = &self.replicas[owner].disk;
        let pushes = self.replicas[owner].process.as_ref().and_then(Process::pushes);
        let epoch = disk.position.epoch;
        let behind = (0..self.hosts.len()).find(|host| {
            let other = &self.replicas[*host].disk;
            !other.waits() && other.position.epoch != epoch
        });
        let what = match (pushes, behind) {
            (None, _) => format!("{} owns and pushes nothing", host_name(owner)),
            (_, Some(host)) => {
                format!("{} does not follow {} under {epoch}", host_name(host), host_name(owner))
            }
            _ => return,
        };
        self.watch.fail(self.now, Rule::NotFollowed, what);
    }
}
