//! What sessions that send see of a set.

use crate::disk::{Dir, Seen};
use crate::manifest::{Entry, Hash};
use crate::path::RelPath;
use crate::ports::{Behind, Offer, Position, ReadSeek, Refusal, Source};
use crate::set::Place;
use crate::state::Shared;
use crate::store;
use crate::unsealed::UNKNOWN_MS;
use std::cmp::Ordering;
use std::io;
use std::sync::Arc;

/// A set as a [`Source`].
pub(crate) struct SetSource(pub(crate) Arc<Shared>);

impl Source for SetSource {
    fn offer(&mut self) -> Option<Offer> {
        let state = self.0.state();
        let position = state.record.position;
        let fenced =
            state.stopped.is_some() || state.record.forgot || state.record.known > position.epoch;
        if !state.owns || fenced || position.generation == 0 {
            return None;
        }
        Some(Offer {
            position,
            lineage: state.record.lineage.clone(),
            manifest: state.tree.manifest().clone(),
            root: state.root,
        })
    }

    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadSeek>> {
        let path = self.0.state().readable(path).ok_or(io::ErrorKind::NotFound)?;
        let root = self.0.config.paths.get(usize::from(path.root()));
        let root = root.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Dir::open(root)?.file(path.as_path())?))
    }

    fn proves(&self, entry: &Entry, file: &dyn ReadSeek) -> bool {
        let Some(seen) = file.as_file().and_then(|file| Seen::of(file).ok()) else { return false };
        let state = self.0.state();
        let newest = state.tree.get(&entry.path);
        newest.is_some_and(|(known, mark)| **known == *entry && mark.proves(entry, &seen))
    }

    fn outline(&self, hash: &Hash) -> Option<Arc<Vec<Hash>>> {
        self.0.state().outlines.get(hash)
    }

    fn changed_underway(&mut self, path: &RelPath) {
        let now_ms = self.0.clock.steady_ms();
        let mut state = self.0.state();
        let path = state.readable(path).unwrap_or_else(|| path.clone());
        let place = Place { path: path.clone(), deep: false };
        if !state.hints.contains(&place) {
            state.hints.push(place);
        }
        state.unsealed.add(now_ms);
        state.count("changed-underway");
        drop(state);
        self.0.doubt(&path);
    }

    fn withholds(&self, path: &RelPath) -> bool {
        self.0.state().readable(path).is_none()
    }

    fn lacks(&mut self, peer: &str, paths: &[RelPath]) {
        let mut state = self.0.state();
        if let Some(peer) = state.peers.get_mut(peer) {
            peer.lacks = paths.to_vec();
        }
        state.count("withheld");
        state.tell_doubts(&self.0.config.name);
    }

    fn behind(&self, position: Position) -> Behind {
        let now_ms = self.0.clock.steady_ms();
        let state = self.0.state();
        if position.epoch != state.record.position.epoch {
            return Behind { files: 1, ms: 0 };
        }
        // How much it is shows with the next scan; that there is something counts now.
        let files = (state.hints.len() as u64).max(1);
        match state.oldest_lacked_ms(position.generation) {
            None => Behind::default(),
            Some(UNKNOWN_MS) => Behind { files, ms: 0 },
            Some(oldest) => Behind { files, ms: now_ms.saturating_sub(oldest).max(1) },
        }
    }

    fn acknowledged(&mut self, peer: &str, position: Position, root: Hash) {
        let mut state = self.0.state();
        let own = state.record.position;
        if position.epoch == own.epoch && position > own || position == own && root != state.root {
            drop(state);
            return self.0.forgot(peer, position);
        }
        let known = state.peers.entry(peer.to_owned()).or_default();
        (known.acknowledged, known.refused) = (Some(position), None);
        known.lacks.clear();
        let first = state.synced().is_none_or(|synced| synced.epoch < position.epoch);
        state.acknowledged = state.acknowledged.max(Some(position));
        let least = state.acknowledged_by_all();
        while state.sealed_ms.front().is_some_and(|(generation, _)| *generation <= least) {
            state.sealed_ms.pop_front();
        }
        drop(state);
        // That this ownership has something in common with another host decides later whose tree is taken: it must be
        // known after a crash. Where somebody works, that work writes it.
        if first
            && let Ok(work) = self.0.work.try_lock()
            && let Err(error) = self.0.update(&work, |_| {})
        {
            drop(work);
            self.0.alarm_error("record", &error);
        }
    }

    fn peer_stands(&mut self, peer: &str, position: Position, root: Hash) {
        let (own, own_root, owns) = {
            let mut state = self.0.state();
            if let Some(known) = state.peers.get_mut(peer)
                && known.acknowledged.is_some_and(|had| position < had)
            {
                // Its disk was put back: it has to acknowledge anew.
                known.acknowledged = None;
            }
            (state.record.position, state.root, state.owns)
        };
        if !owns || position.epoch != own.epoch || position.generation == 0 {
            return;
        }
        let foreign = match position.generation.cmp(&own.generation) {
            Ordering::Greater => true,
            Ordering::Equal => root != own_root,
            Ordering::Less => {
                // What the log does not reach back to is believed.
                let log = self.0.work().store.log().unwrap_or_default();
                let numbers = (own.epoch.number, own.epoch.host, position.generation);
                let made = log.iter().rev().find(|line| line.position == numbers);
                made.is_some_and(|line| line.root != store::short(&root))
            }
        };
        if foreign {
            self.0.forgot(peer, position);
        }
    }

    fn refused(&mut self, peer: &str, refusal: &Refusal) {
        let mut state = self.0.state();
        let known = state.peers.entry(peer.to_owned()).or_default();
        let text = refusal.to_string();
        if known.refused.as_ref() != Some(&text) {
            known.refused = Some(text.clone());
            let text = format!("[replicate.{}] {peer} refuses: {text}", self.0.config.name);
            state.notice(text, true);
        }
        state.count("refused");
        let own = state.record.position;
        if let Refusal::Diverged(position) = refusal
            && position.epoch == own.epoch
            && *position >= own
        {
            drop(state);
            return self.0.forgot(peer, *position);
        }
        // What was offered under the ownership before this one may be refused late.
        if let Refusal::StaleEpoch(epoch) = refusal
            && *epoch > own.epoch
        {
            state.stopped = Some(*epoch);
            let text = format!(
                "[replicate.{}] {peer} knows ownership {epoch}: this host pushes nothing any more",
                self.0.config.name
            );
            state.alarm("stale", text);
        }
    }
}

impl Shared {
    /// Another host has a tree of this host's ownership that this host did not make.
    fn forgot(&self, peer: &str, position: Position) {
        let text = format!(
            "[replicate.{}] {peer} has {}.{} of this ownership, which is no tree that this host made: its state folder was \
             lost or put back, and nothing is pushed any more; move the address once, so that a new ownership begins, and \
             acknowledge its tree on the other hosts",
            self.config.name, position.epoch, position.generation
        );
        self.state().alarm("forgot", text);
        let work = self.work();
        if let Err(error) = self.update(&work, |record| record.forgot = true) {
            self.alarm_error("record", &error);
        }
    }
}
