//! What all threads that work with a set share, and how it is told to people.
//!
//! Two locks: `work` for whatever scans, applies or writes, one at a time; `state` for a moment only, never while the disk is
//! touched. Whoever needs both takes `work` first.

use crate::clock::Clock;
use crate::doubt::Doubts;
use crate::error::Error;
use crate::halt::Halt;
use crate::hashing::Outlines;
use crate::manifest::Hash;
use crate::path::RelPath;
use crate::ports::Position;
use crate::record::Record;
use crate::root::Root;
use crate::rules::Rules;
use crate::set::{LogLine, Notice, Place};
use crate::sound::Soundness;
use crate::store::Store;
use crate::thin::Shelf;
use crate::tree::Tree;
use crate::unsealed::{UNKNOWN_MS, Unsealed};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use vipd_core::config::model::Replicate;
use vipd_core::replica::{PeerReport, SetReport};
use vipd_core::types::Epoch;

/// Notices that wait for the service.
const MAX_NOTICES: usize = 1000;
/// Names in one line for people.
pub(crate) const NAMED: usize = 3;

/// A set, shared.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Replicate>,
    pub(crate) rules: Rules,
    pub(crate) clock: Clock,
    pub(crate) halt: Halt,
    pub(crate) stage: Arc<Soundness>,
    pub(crate) work: Mutex<Work>,
    pub(crate) state: Mutex<State>,
}

/// What one thread at a time may use.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) store: Store,
    pub(crate) shelf: Shelf,
}

/// What is known at the moment.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// As on the disk.
    pub(crate) record: Record,
    /// The committed tree.
    pub(crate) tree: Tree,
    /// Its hash.
    pub(crate) root: Hash,
    pub(crate) owns: bool,
    /// It had a role since it was opened: of what changed since then somebody knew.
    pub(crate) stood: bool,
    /// A tree is in place in part: a standby finishes it.
    pub(crate) unsettled: bool,
    /// A full scan was sealed since the set was opened or claimed.
    pub(crate) scanned: bool,
    /// The newest tree that was acknowledged; goes to the record with its next change.
    pub(crate) acknowledged: Option<Position>,
    /// A receiver refused because it knows this ownership: nothing is offered any more.
    pub(crate) stopped: Option<Epoch>,
    /// The oldest change that is in no generation yet.
    pub(crate) unsealed: Unsealed,
    /// Generations, and the oldest change in each, steady milliseconds.
    pub(crate) sealed_ms: VecDeque<(u64, u64)>,
    /// What sessions found changed.
    pub(crate) hints: Vec<Place>,
    /// The standbys of the configuration, and whoever spoke.
    pub(crate) peers: BTreeMap<String, Peer>,
    pub(crate) doubts: Doubts,
    /// As owner: of files that a session may have to outline.
    pub(crate) outlines: Outlines,
    /// Everything that the owner of this ownership had then is here, as it last said, steady milliseconds.
    pub(crate) fresh: Option<(Epoch, u64)>,
    /// As receiver: files and octets still to come.
    pub(crate) pending: (u64, u64),
    /// Files of the tree that are not here, because the owner has lost their content.
    pub(crate) left: Vec<RelPath>,
    /// Changed behind the replicator's back: replaced with the next tree.
    pub(crate) drifted: Vec<RelPath>,
    pub(crate) rescued: u64,
    pub(crate) notices: Vec<Notice>,
    /// By kind.
    pub(crate) alarms: BTreeMap<&'static str, String>,
    pub(crate) errors: BTreeMap<String, u64>,
}

/// Another host, as the owner knows it.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) acknowledged: Option<Position>,
    pub(crate) refused: Option<String>,
    /// Of what it acknowledged last it does not have these files, nor others of their content: they were withheld.
    pub(crate) lacks: Vec<RelPath>,
    /// What it lacks, counted last.
    unsent: Unsent,
}

/// What a standby lacks. Counted anew only when it or the owner has another tree: the whole tree is looked through.
#[derive(Copy, Clone, Debug, Default)]
struct Unsent {
    /// The owner's tree, and what of its ownership the standby had.
    of: (Position, Option<u64>),
    files: u64,
    octets: u64,
}

impl State {
    /// The newest tree in common with another host.
    pub(crate) fn synced(&self) -> Option<Position> {
        self.record.synced.max(self.acknowledged)
    }

    /// The position of the tree on the disk: with a claim that sealed nothing yet, the one before.
    pub(crate) fn tree_position(&self) -> Position {
        match self.record.position {
            Position { generation: 0, .. } => {
                self.record.lineage.last().copied().unwrap_or_default()
            }
            position => position,
        }
    }

    pub(crate) fn notice(&mut self, text: String, alarm: bool) {
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(Notice { text, alarm });
        }
    }

    /// An alarm that stands until it is cleared; told once.
    pub(crate) fn alarm(&mut self, kind: &'static str, text: String) {
        if self.alarms.get(kind) != Some(&text) {
            self.notice(text.clone(), true);
            self.alarms.insert(kind, text);
        }
    }

    pub(crate) fn clear(&mut self, kind: &'static str) {
        if let Some(text) = self.alarms.remove(kind) {
            self.notice(format!("over: {text}"), false);
        }
    }

    pub(crate) fn count(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_insert(0) += 1;
    }
}

impl Shared {
    pub(crate) fn work(&self) -> MutexGuard<'_, Work> {
        // What a panic interrupted is settled from the disk, as after a crash.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same where nobody works; what is done in it can wait.
    pub(crate) fn idle(&self) -> Option<MutexGuard<'_, Work>> {
        match self.work.try_lock() {
            Ok(work) => Some(work),
            Err(TryLockError::Poisoned(work)) => Some(work.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record, durably; nothing is written where nothing changes.
    pub(crate) fn update(
        &self,
        work: &Work,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), Error> {
        let (old, mut record) = self.next_record();
        change(&mut record);
        if record != old {
            work.store.write(&record)?;
            let mut state = self.state();
            state.record = record;
            state.clear("record");
        }
        Ok(())
    }

    /// A line for `vipd replica log`. Without it all else is as it should be.
    pub(crate) fn log(&self, work: &mut Work, line: &LogLine) {
        match work.store.log_line(line) {
            Ok(()) => self.state().clear("log"),
            Err(error) => self.alarm_error("log", &error),
        }
    }

    /// The record as it is, and as it is to be with what was acknowledged since.
    pub(crate) fn next_record(&self) -> (Record, Record) {
        let state = self.state();
        let mut next = state.record.clone();
        next.synced = state.synced();
        (state.record.clone(), next)
    }

    /// Opens the roots; a root that is not what it was is an alarm.
    pub(crate) fn roots(&self) -> Result<Vec<Root>, Error> {
        let marks = self.state().record.marks.clone();
        let opened = Root::open_all(&self.config, &marks);
        let mut state = self.state();
        match &opened {
            Ok(_) => state.clear("root"),
            Err(error) => {
                state.count(error.kind());
                state.alarm("root", error.to_string());
            }
        }
        opened
    }

    /// An error that is not the caller's.
    pub(crate) fn alarm_error(&self, kind: &'static str, error: &Error) {
        if matches!(error, Error::Interrupted) {
            return;
        }
        let mut state = self.state();
        state.count(error.kind());
        if !matches!(error, Error::Root(_)) {
            state.alarm(kind, format!("[replicate.{}] {error}", self.config.name));
        }
    }

    /// How it stands.
    pub(crate) fn report(&self) -> SetReport {
        let now_ms = self.clock.steady_ms();
        let mut state = self.state();
        state.look_at_doubts(&self.config.name);
        let position = state.record.position;
        let fresh_ms = state.fresh.map(|(_, at)| now_ms.saturating_sub(at));
        let age_ms = if state.owns { Some(0) } else { fresh_ms };
        let peers = state.standbys(now_ms);
        let (rpo_ms, pending) = if state.owns {
            // Of those that may take over the one that lacks most.
            let most = peers.iter().map(|peer| peer.rpo_ms).reduce(|a, b| Some(a?.max(b?)));
            let pending = peers.iter().map(|peer| (peer.pending_bytes, peer.pending_files)).max();
            let (octets, files) = pending.unwrap_or_else(|| {
                let all = state.unsent(None);
                (all.octets, all.files)
            });
            (most.flatten(), (files, octets))
        } else {
            (age_ms, state.pending)
        };
        SetReport {
            set: self.config.name.to_string(),
            owns: state.owns,
            epoch: position.epoch.into(),
            generation: position.generation,
            age_ms,
            rpo_ms,
            pending_files: pending.0,
            pending_bytes: pending.1,
            peers,
            rescued_files: state.rescued,
            alarms: state.alarms.values().cloned().collect(),
            errors: state.errors.clone(),
            verified_s: state.record.verified_s,
            ..SetReport::default()
        }
    }
}

impl State {
    /// What `peer` acknowledged of the present ownership.
    fn acknowledged_by(&self, peer: &Peer) -> Option<u64> {
        let epoch = self.record.position.epoch;
        peer.acknowledged.filter(|p| p.epoch == epoch).map(|p| p.generation)
    }

    /// As owner: what every standby has acknowledged; 0: not all of them have anything.
    pub(crate) fn acknowledged_by_all(&self) -> u64 {
        let each = self.peers.values().map(|peer| self.acknowledged_by(peer).unwrap_or(0));
        each.min().unwrap_or(0)
    }

    /// How each standby stands.
    fn standbys(&mut self, now_ms: u64) -> Vec<PeerReport> {
        let newest = self.record.position;
        let has: Vec<_> = self.peers.values().map(|peer| self.acknowledged_by(peer)).collect();
        let mut reports = Vec::with_capacity(has.len());
        for (host, has) in self.peers.keys().cloned().collect::<Vec<_>>().into_iter().zip(has) {
            let of = (newest, has);
            let counted = self.peers.get(&host).map(|peer| peer.unsent);
            let unsent = counted.filter(|unsent| unsent.of == of && self.owns);
            let unsent = unsent.unwrap_or_else(|| self.unsent(has));
            let oldest_ms = has.and_then(|has| self.oldest_lacked_ms(has));
            let Some(peer) = self.peers.get_mut(&host) else { continue };
            peer.unsent = unsent;
            let whole = has.filter(|_| peer.lacks.is_empty());
            let rpo_ms = whole.and_then(|_| match oldest_ms {
                None => Some(0),
                Some(UNKNOWN_MS) => None,
                Some(at) => Some(now_ms.saturating_sub(at)),
            });
            reports.push(PeerReport {
                in_sync: newest.generation > 0 && whole == Some(newest.generation),
                generation: has.unwrap_or(0),
                rpo_ms: rpo_ms.filter(|_| self.owns),
                pending_files: unsent.files,
                pending_bytes: unsent.octets,
                refused: peer.refused.clone(),
                host,
                ..PeerReport::default()
            });
        }
        reports
    }

    /// When the oldest change was that is not in generation `has` of this ownership, or [`UNKNOWN_MS`]; `None`: none is
    /// known of.
    pub(crate) fn oldest_lacked_ms(&self, has: u64) -> Option<u64> {
        // A later generation may hold an older change: one that nobody heard of when it was made.
        let sealed = self.sealed_ms.iter().filter(|(made, _)| *made > has).map(|(_, at)| *at);
        sealed.chain(self.unsealed.oldest_ms()).min()
    }

    /// Files of the newest tree that a standby does not have which has the tree `has` of this ownership.
    fn unsent(&self, has: Option<u64>) -> Unsent {
        let newest = self.record.position;
        let mut unsent = Unsent { of: (newest, has), ..Unsent::default() };
        if !self.owns || has == Some(newest.generation) {
            return unsent;
        }
        let new = |born: Position| match has {
            Some(has) => born.epoch == newest.epoch && born.generation > has,
            None => true,
        };
        for (entry, mark) in self.tree.iter() {
            if let crate::manifest::Kind::File { size, .. } = entry.kind
                && new(mark.born)
            {
                (unsent.files, unsent.octets) = (unsent.files + 1, unsent.octets + size);
            }
        }
        unsent
    }
}

/// The first of `names` for one line, and how many more there are.
pub(crate) fn some_of(names: &[impl ToString]) -> String {
    let mut text: Vec<_> = names.iter().take(NAMED).map(ToString::to_string).collect();
    if names.len() > NAMED {
        text.push(format!("and {} more", names.len() - NAMED));
    }
    text.join(", ")
}
