//! Trees on their way between two replicators: over either net that is open in both directions, with a delay and a
//! bandwidth. A connection that is cut in between costs the transfer.

use super::disk::{Offer, Position, Refusal};
use super::drive::Step;
use super::process::Barrier;
use crate::invariants::{Fact, Rule};
use crate::scenario::host_name;
use crate::wire::Net;
use crate::world::{Breakage, World};
use vipd_core::time::{Duration, Instant};

/// Between two words that a standby has everything.
const CURRENT: Duration = Duration::from_secs(1);
/// After a connection broke, or a host that does not take trees.
const HOLD: Duration = Duration::from_secs(1);
/// What waits for an operator is offered again after this.
const DIVERGED: Duration = Duration::from_secs(30);
/// For each record on its way; of a slow replicator.
const PACE: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(300);
/// More records at once take no longer.
const MOST: usize = 30;

/// Something on its way between two replicators.
#[derive(Clone, Debug)]
pub(crate) struct Travel {
    from: usize,
    to: usize,
    /// Of the sender: its run, and the number of the transfer.
    run: u64,
    number: u64,
    cargo: Cargo,
}

#[derive(Clone, Debug)]
enum Cargo {
    Offer(Offer),
    /// All that was lacking; to that run of the receiver, which had this tree.
    Content(Offer, u64, Position),
    Taken(Position),
    Refused(Refusal),
    /// The receiver has everything.
    Current(Position),
    /// So many records are still to come.
    Pending(u64),
}

impl World {
    /// How much longer something takes between two hosts than at its best; `None`: there is no connection.
    fn way(&self, a: usize, b: usize) -> Option<Duration> {
        let powered = self.hosts[a].powered() && self.hosts[b].powered();
        let service = self.hosts[a].connected() && self.hosts[b].connected();
        let nets = [(Net::Service, service), (Net::Second, powered)];
        let open = nets.into_iter().filter(|(_, up)| *up);
        open.filter_map(|(net, _)| self.wire.connection(net, a, b)).min()
    }

    fn travel(&mut self, after: Duration, travel: Travel) {
        let Some(more) = self.way(travel.from, travel.to) else { return self.broken(&travel) };
        let transit = self.soon();
        self.step_at(after + more + transit, Step::Travel(travel));
    }

    pub(super) fn push_all(&mut self, host: usize) {
        for to in (0..self.hosts.len()).filter(|to| *to != host) {
            self.push(host, to);
        }
    }

    fn push(&mut self, from: usize, to: usize) {
        let now = self.now;
        let replica = &mut self.replicas[from];
        let Some(process) = &mut replica.process else { return };
        let session = &mut process.sessions[to];
        if session.busy != 0 || session.hold > now {
            return;
        }
        let run = process.run;
        let Some(offer) = process.pushes().and_then(|_| replica.disk.offer()) else { return };
        let session = &mut process.sessions[to];
        if session.has != Some(offer.position) {
            self.transfers += 1;
            let number = self.transfers;
            session.busy = number;
            let cargo = Cargo::Offer(offer);
            self.travel(Duration::ZERO, Travel { from, to, run, number, cargo });
        } else if session.current_at <= now {
            session.current_at = now + CURRENT;
            let cargo = match replica.disk.is_dirty() {
                true => Cargo::Pending(1),
                false => Cargo::Current(offer.position),
            };
            self.travel(Duration::ZERO, Travel { from, to, run, number: 0, cargo });
        }
    }

    /// The connection is gone: tried again a little later, from the start.
    fn broken(&mut self, travel: &Travel) {
        let hold = self.now + HOLD;
        let Some(process) = &mut self.replicas[travel.from].process else { return };
        let session = &mut process.sessions[travel.to];
        if process.run == travel.run && (session.busy == travel.number || travel.number == 0) {
            (session.busy, session.has, session.hold) = (0, None, hold);
        }
    }

    pub(super) fn arrived(&mut self, travel: Travel) {
        if self.way(travel.from, travel.to).is_none() {
            return self.broken(&travel);
        }
        // The sender goes, or stops, and its connections with it.
        let sends = self.replicas[travel.from].process.as_ref().is_some_and(|p| {
            p.run == travel.run
                && (travel.number == 0 || p.sessions[travel.to].busy == travel.number)
        });
        if !sends {
            return;
        }
        match travel.cargo.clone() {
            Cargo::Offer(offer) => self.offered(&travel, offer),
            Cargo::Content(offer, run, based) => self.content(&travel, &offer, run, based),
            Cargo::Taken(position) => self.taken(&travel, position),
            Cargo::Refused(refusal) => self.refused(&travel, refusal),
            Cargo::Current(position) => {
                let (now, replica) = (self.now, &mut self.replicas[travel.to]);
                let Some(process) = &mut replica.process else { return self.broken(&travel) };
                let same = position == replica.disk.position && !replica.disk.is_dirty();
                if process.receives && same {
                    (process.fresh, process.pending) = (Some(now), 0);
                }
            }
            Cargo::Pending(records) => {
                if let Some(process) = &mut self.replicas[travel.to].process {
                    process.pending = records;
                }
            }
        }
    }

    /// A tree is offered.
    fn offered(&mut self, travel: &Travel, offer: Offer) {
        let anything = self.breakage == Some(Breakage::Refusal);
        let replica = &mut self.replicas[travel.to];
        let Some(process) = &mut replica.process else { return self.broken(travel) };
        let judged = match process.receives {
            true => replica.disk.judge(&offer, anything),
            false => Err(Refusal::NotHere),
        };
        if let Err(refusal) = judged {
            return self.send_back(travel, Duration::ZERO, Cargo::Refused(refusal));
        }
        let lacks = replica.disk.lacks(&offer);
        process.pending = lacks as u64;
        let (run, based) = (process.run, replica.disk.tree_position());
        let slow = replica.slow + self.replicas[travel.from].slow > 0;
        let takes = if slow { SLOW } else { PACE } * lacks.min(MOST) as u32;
        self.send_back(travel, takes, Cargo::Content(offer, run, based));
    }

    fn send_back(&mut self, travel: &Travel, after: Duration, cargo: Cargo) {
        self.travel(after, Travel { cargo, ..travel.clone() });
    }

    /// All of it is there: it is put in place.
    fn content(&mut self, travel: &Travel, offer: &Offer, run: u64, based: Position) {
        let anything = self.breakage == Some(Breakage::Refusal);
        let replica = &mut self.replicas[travel.to];
        let Some(process) = replica.process.as_mut().filter(|p| p.run == run) else {
            return self.broken(travel);
        };
        let taken = match process.receives && replica.disk.tree_position() == based {
            true => replica.disk.take(offer, anything),
            false => Err(Refusal::NotHere),
        };
        match taken {
            Ok(replaced) => {
                process.pending = 0;
                process.dirty_since = None;
                if self.breakage == Some(Breakage::Rescue) {
                    replica.disk.rescue.clear();
                }
                for record in &replaced.trashed {
                    let what = format!(
                        "{} calls {record:?} deleted by its owner, and nobody deletes",
                        host_name(travel.to)
                    );
                    self.watch.fail(self.now, Rule::RecordLost, what);
                }
                self.note(Fact::Took(
                    travel.to,
                    travel.from,
                    offer.position,
                    replaced.rescued.len(),
                ));
                self.send_back(travel, Duration::ZERO, Cargo::Taken(offer.position));
            }
            Err(refusal) => self.send_back(travel, Duration::ZERO, Cargo::Refused(refusal)),
        }
    }

    fn taken(&mut self, travel: &Travel, position: Position) {
        let now = self.now;
        let replica = &mut self.replicas[travel.from];
        let Some(process) = &mut replica.process else { return };
        let session = &mut process.sessions[travel.to];
        (session.busy, session.has, session.current_at) = (0, Some(position), now);
        replica.disk.acknowledged(position);
        let barrier = process.barrier.clone();
        let reached = |b: &Barrier| !b.answered && b.to == travel.to && b.position == position;
        if let Some(barrier) = barrier.filter(reached) {
            self.answer_barrier(travel.from, barrier.order, true);
        }
        self.push(travel.from, travel.to);
    }

    fn refused(&mut self, travel: &Travel, refusal: Refusal) {
        let now = self.now;
        self.note(Fact::Refused(travel.to, travel.from, refusal));
        let Some(process) = &mut self.replicas[travel.from].process else { return };
        let session = &mut process.sessions[travel.to];
        (session.busy, session.has) = (0, None);
        session.hold = now + if refusal == Refusal::Diverged { DIVERGED } else { HOLD };
        // What was offered under the ownership before this one may be refused late.
        if matches!(refusal, Refusal::Stale(known) if process.claimed.is_none_or(|own| known > own))
        {
            process.stopped = true;
            process.stop_pushing();
        }
        let final_word = matches!(refusal, Refusal::Stale(_) | Refusal::Diverged);
        let barrier = process.barrier.clone();
        if let Some(barrier) = barrier.filter(|b| final_word && b.to == travel.to && !b.answered) {
            self.answer_barrier(travel.from, barrier.order, false);
        }
    }

    /// An operator accepts what waits on any host.
    pub(crate) fn accept_trees(&mut self) {
        for host in 0..self.replicas.len() {
            if !self.replicas[host].disk.waits() {
                continue;
            }
            self.replicas[host].disk.accept();
            for other in 0..self.replicas.len() {
                if let Some(process) = &mut self.replicas[other].process {
                    process.sessions[host].hold = Instant::ZERO;
                }
            }
        }
    }
}
