//! What a replicator has on its disk, and the rules by which a tree of another host is taken (DESIGN 5.13): pure.
//!
//! A tree is a row of records; each stands for a file that nobody changes or deletes. So whatever a tree that is taken
//! removes was lost in a dispute, and belongs into the rescue.

use std::rc::Rc;
use vipd_core::types::Epoch;

/// What a service wrote: on which host, and which of all that were written there.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    pub(crate) host: usize,
    pub(crate) number: u32,
}

/// Which tree of which ownership; generation 0: none yet.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) generation: u64,
}

/// A record as it lies there, and the tree in which it was sent first; the default: in none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Item {
    record: Record,
    born: Position,
}

/// A tree on its way, and what it descends from.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) position: Position,
    lineage: Rc<[Position]>,
    pub(crate) tree: Rc<[Record]>,
}

/// Why a tree is not taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// A newer ownership is known.
    Stale(Epoch),
    /// It does not descend from what is here: an operator decides.
    Diverged,
    /// This host owns, or does not know yet that it does not.
    NotHere,
}

/// What became of the records that a tree replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) rescued: Vec<Record>,
    pub(crate) trashed: Vec<Record>,
}

/// Survives whatever happens to the processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    data: Vec<Item>,
    pub(crate) position: Position,
    lineage: Vec<Position>,
    /// The newest ownership that is known.
    pub(crate) known: Epoch,
    /// The newest tree that this host has in common with another.
    synced: Option<Position>,
    /// Under that ownership a tree was refused that an operator may accept, and whether one did.
    refused: Option<(Epoch, bool)>,
    pub(crate) rescue: Vec<Record>,
    pub(crate) trash: Vec<Record>,
}

impl Disk {
    /// The service writes.
    pub(crate) fn append(&mut self, record: Record) {
        self.data.push(Item { record, born: Position::default() });
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.data.iter().map(|item| item.record)
    }

    /// Is anything here that no tree has yet?
    pub(crate) fn is_dirty(&self) -> bool {
        self.data.last().is_some_and(|item| item.born == Position::default())
    }

    /// This host owns. `Err`: a newer ownership is known here.
    pub(crate) fn claim(&mut self, epoch: Epoch) -> Result<(), Epoch> {
        if epoch < self.known {
            return Err(self.known);
        }
        self.known = epoch;
        if self.position.epoch != epoch {
            if self.position.generation > 0 {
                self.lineage.push(self.position);
            }
            self.position = Position { epoch, generation: 0 };
            self.refused = None;
        }
        Ok(())
    }

    /// Another host owns.
    pub(crate) fn follow(&mut self, epoch: Epoch) {
        self.known = self.known.max(epoch);
    }

    /// Makes the next tree of what is there; false: nothing is new.
    pub(crate) fn seal(&mut self) -> bool {
        if self.position.generation > 0 && !self.is_dirty() {
            return false;
        }
        self.position.generation += 1;
        let position = self.position;
        let new = self.data.iter_mut().filter(|item| item.born == Position::default());
        new.for_each(|item| item.born = position);
        true
    }

    /// What there is to push.
    pub(crate) fn offer(&self) -> Option<Offer> {
        let fenced = self.known > self.position.epoch || self.position.generation == 0;
        (!fenced).then(|| Offer {
            position: self.position,
            lineage: self.lineage.as_slice().into(),
            // What is not sealed yet is no part of it.
            tree: self
                .data
                .iter()
                .filter(|item| item.born != Position::default())
                .map(|item| item.record)
                .collect(),
        })
    }

    /// Another host has this tree of ours.
    pub(crate) fn acknowledged(&mut self, position: Position) {
        self.synced = self.synced.max(Some(position));
    }

    /// The position of what is on the disk: with a claim that sealed nothing yet, the one before.
    pub(crate) fn tree_position(&self) -> Position {
        match self.position {
            Position { generation: 0, .. } => self.lineage.last().copied().unwrap_or_default(),
            position => position,
        }
    }

    /// May the tree be taken? From here on the owner before is fenced off. `anything`: whatever its ownership, a rule
    /// that is broken on purpose.
    pub(crate) fn judge(&mut self, offer: &Offer, anything: bool) -> Result<(), Refusal> {
        let epoch = offer.position.epoch;
        if epoch < self.known && !anything {
            return Err(Refusal::Stale(self.known));
        }
        self.known = self.known.max(epoch);
        let fork = self.fork(offer);
        if fork.is_err() && !anything {
            self.refused = Some((epoch, false));
        }
        if anything { Ok(()) } else { fork.map(drop) }
    }

    /// Records of the tree that are not here.
    pub(crate) fn lacks(&self, offer: &Offer) -> usize {
        let same = self.records().zip(offer.tree.iter()).take_while(|(a, b)| a == *b).count();
        offer.tree.len() - same
    }

    /// Puts the tree in place.
    pub(crate) fn take(&mut self, offer: &Offer, anything: bool) -> Result<Replaced, Refusal> {
        self.judge(offer, anything)?;
        let fork = self.fork(offer).unwrap_or_default();
        let mut replaced = Replaced::default();
        let mut data = Vec::with_capacity(offer.tree.len());
        let mut old: std::collections::BTreeMap<Record, Position> =
            self.data.iter().map(|item| (item.record, item.born)).collect();
        for record in offer.tree.iter() {
            let born = old.remove(record).filter(|born| *born != Position::default());
            data.push(Item { record: *record, born: born.unwrap_or(offer.position) });
        }
        for (record, born) in old {
            let shared = born != Position::default() && fork.is_some_and(|fork| born <= fork);
            if shared { &mut replaced.trashed } else { &mut replaced.rescued }.push(record);
        }
        self.rescue.extend(&replaced.rescued);
        self.trash.extend(&replaced.trashed);
        self.data = data;
        self.position = offer.position;
        self.lineage = offer.lineage.to_vec();
        self.synced = Some(offer.position);
        self.refused = None;
        Ok(replaced)
    }

    /// Up to where the sender has everything that is here; `None`: nothing is known to be in common.
    fn fork(&self, offer: &Offer) -> Result<Option<Position>, Refusal> {
        let accepted = self.refused == Some((offer.position.epoch, true));
        let own = self.tree_position();
        let Some(synced) = self.synced else { return Ok(None) };
        if offer.position.epoch == own.epoch {
            return match offer.position >= own {
                true => Ok(Some(own)),
                false if accepted => Ok(None),
                false => Err(Refusal::Diverged),
            };
        }
        if !offer.lineage.iter().any(|position| position.epoch == synced.epoch) {
            return if accepted { Ok(None) } else { Err(Refusal::Diverged) };
        }
        let shared = |position: &&Position| {
            own.epoch == position.epoch
                || self.lineage.iter().any(|before| before.epoch == position.epoch)
        };
        Ok(offer.lineage.iter().filter(shared).max().copied())
    }

    /// An operator accepts what was refused.
    pub(crate) fn accept(&mut self) {
        if let Some((_, accepted)) = &mut self.refused {
            *accepted = true;
        }
    }

    /// Does a tree wait for an operator?
    pub(crate) fn waits(&self) -> bool {
        self.refused.is_some_and(|(_, accepted)| !accepted)
    }
}
