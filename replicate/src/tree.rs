//! A manifest with what this host knows beside it: how each file looked when it was hashed, and since when it is so.
//!
//! Made by the scanner and by apply, kept by the store. `born` decides what a new owner's tree already descends from.

use crate::codec::{In, Malformed, Out, Sink};
use crate::disk::Seen;
use crate::manifest::{Entry, Kind, Manifest};
use crate::path::RelPath;
use crate::ports::Position;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What this host knows of an entry.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Of the file that was hashed.
    pub(crate) ino: u64,
    /// When the file last changed before it was hashed; 0: so shortly before that another change might not show.
    pub(crate) ctime_ns: i64,
    /// The generation that brought this version.
    pub(crate) born: Position,
}

/// An entry with its mark.
pub(crate) type Item = (Arc<Entry>, Mark);

/// A manifest and a mark for each of its entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    manifest: Arc<Manifest>,
    marks: Arc<Vec<Mark>>,
}

/// From one tree to the next, as [`Tree::encode_step`] writes it.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) put: Vec<Item>,
    pub(crate) gone: Vec<RelPath>,
}

impl Tree {
    /// Of `items` in any order, each path once.
    pub(crate) fn new(mut items: Vec<Item>) -> Self {
        items.sort_unstable_by(|a, b| a.0.path.cmp(&b.0.path));
        items.dedup_by(|b, a| a.0.path == b.0.path);
        let (mut entries, mut marks) =
            (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        for (entry, mark) in items {
            entries.push(entry);
            marks.push(mark);
        }
        Self { manifest: Arc::new(Manifest::sorted(entries)), marks: Arc::new(marks) }
    }

    /// `manifest` with the marks of `self` where the entry is the same, otherwise with `fresh`.
    pub(crate) fn rebased(
        &self,
        manifest: Arc<Manifest>,
        mut fresh: impl FnMut(&Entry) -> Mark,
    ) -> Self {
        let mut marks = Vec::with_capacity(manifest.entries().len());
        let mut old = self.iter().peekable();
        for entry in manifest.entries() {
            while old.next_if(|(known, _)| known.path < entry.path).is_some() {}
            marks.push(match old.peek() {
                Some((known, mark)) if *known == entry => *mark,
                _ => fresh(entry),
            });
        }
        Self { manifest, marks: Arc::new(marks) }
    }

    /// With everything that no generation brought yet brought by `position`.
    pub(crate) fn born(mut self, position: Position) -> Self {
        for mark in Arc::make_mut(&mut self.marks) {
            if mark.born == Position::default() {
                mark.born = position;
            }
        }
        self
    }

    /// With what is known anew of some files.
    pub(crate) fn refreshed(mut self, fresh: &HashMap<&RelPath, Mark>) -> Self {
        if !fresh.is_empty() {
            let marks = Arc::make_mut(&mut self.marks);
            for (entry, mark) in self.manifest.entries().iter().zip(marks) {
                if let Some(fresh) = fresh.get(&entry.path) {
                    *mark = Mark { born: mark.born, ..*fresh };
                }
            }
        }
        self
    }

    pub(crate) const fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<Entry>, Mark)> {
        self.manifest.entries().iter().zip(self.marks.iter().copied())
    }

    pub(crate) fn get(&self, path: &RelPath) -> Option<(&Arc<Entry>, Mark)> {
        self.at(self.find(path)?)
    }

    /// Position of the entry at `path`.
    pub(crate) fn find(&self, path: &RelPath) -> Option<usize> {
        self.manifest.find(path)
    }

    pub(crate) fn at(&self, at: usize) -> Option<(&Arc<Entry>, Mark)> {
        Some((self.manifest.entries().get(at)?, self.marks.get(at).copied().unwrap_or_default()))
    }

    /// Positions of all that is below the folder `path`.
    pub(crate) fn below(&self, path: &RelPath) -> Range<usize> {
        below(&self.manifest, path)
    }

    /// Files and links.
    pub(crate) fn files(&self) -> u64 {
        files(&self.manifest)
    }

    /// `self` without the entries at `dropped`, and with `items`, which replace those of the same path.
    pub(crate) fn with(&self, dropped: &[bool], mut items: Vec<Item>) -> Self {
        items.sort_unstable_by(|a, b| a.0.path.cmp(&b.0.path));
        items.dedup_by(|b, a| a.0.path == b.0.path);
        let room = self.marks.len() + items.len();
        let (mut entries, mut marks) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut items = items.into_iter().peekable();
        for ((entry, mark), dropped) in self.iter().zip(dropped) {
            while let Some((new, mark)) = items.next_if(|(new, _)| new.path < entry.path) {
                entries.push(new);
                marks.push(mark);
            }
            if !dropped && items.peek().is_none_or(|(new, _)| new.path != entry.path) {
                entries.push(Arc::clone(entry));
                marks.push(mark);
            }
        }
        for (entry, mark) in items {
            entries.push(entry);
            marks.push(mark);
        }
        Self { manifest: Arc::new(Manifest::sorted(entries)), marks: Arc::new(marks) }
    }

    /// `self` after `step`.
    pub(crate) fn after(&self, step: Step) -> Self {
        let mut dropped = vec![false; self.marks.len()];
        for path in &step.gone {
            let at = self.find(path);
            if let Some(dropped) = at.and_then(|at| dropped.get_mut(at)) {
                *dropped = true;
            }
        }
        self.with(&dropped, step.put)
    }

    /// The octets of the [`Step`] from `self` to `next`, marks included.
    pub(crate) fn encode_step(&self, next: &Self, sink: Sink<'_>) -> io::Result<()> {
        let (mut put, mut gone) = (0, 0);
        self.compare(next, |change| {
            match change {
                Change::Put(..) => put += 1,
                Change::Gone(_) => gone += 1,
            }
            Ok(())
        })?;
        // More than once over both trees: the step itself is in memory at no time.
        let mut out = Out::default();
        out.u64(put);
        self.compare(next, |change| {
            if let Change::Put(entry, mark) = change {
                encode_item(&mut out, entry, mark);
                out.hand_on(sink)?;
            }
            Ok(())
        })?;
        out.u64(gone);
        self.compare(next, |change| {
            if let Change::Gone(path) = change {
                out.path(path);
                out.hand_on(sink)?;
            }
            Ok(())
        })?;
        out.hand_on_rest(sink)
    }

    fn compare<'t>(
        &'t self,
        next: &'t Self,
        mut found: impl FnMut(Change<'t>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut old = self.iter().peekable();
        for (entry, mark) in next.iter() {
            while let Some((gone, _)) = old.next_if(|(known, _)| known.path < entry.path) {
                found(Change::Gone(&gone.path))?;
            }
            match old.next_if(|(known, _)| known.path == entry.path) {
                Some(same) if same == (entry, mark) => {}
                _ => found(Change::Put(entry, mark))?,
            }
        }
        old.try_for_each(|(gone, _)| found(Change::Gone(&gone.path)))
    }
}

/// One of those of which a [`Step`] consists.
enum Change<'t> {
    Put(&'t Entry, Mark),
    Gone(&'t RelPath),
}

/// Positions in `manifest` of all that is below the folder `path`.
pub(crate) fn below(manifest: &Manifest, path: &RelPath) -> Range<usize> {
    let entries = manifest.entries();
    let prefix = [path.as_bytes(), b"/"].concat();
    let start = entries
        .partition_point(|e| (e.path.root(), e.path.as_bytes()) < (path.root(), prefix.as_slice()));
    let rest = entries.get(start..).unwrap_or_default();
    let length = rest.partition_point(|e| {
        e.path.root() == path.root() && e.path.as_bytes().starts_with(&prefix)
    });
    start..start + length
}

/// Files and links of `manifest`.
pub(crate) fn files(manifest: &Manifest) -> u64 {
    manifest.entries().iter().filter(|e| e.kind != Kind::Folder).count() as u64
}

impl Mark {
    /// `seen` is the very file of this mark and of `entry`, unchanged since it was hashed.
    pub(crate) fn proves(&self, entry: &Entry, seen: &Seen) -> bool {
        let Kind::File { size, .. } = entry.kind else { return false };
        self.ctime_ns != 0
            && (self.ino, self.ctime_ns) == (seen.ino, seen.ctime_ns)
            && (size, entry.mtime_ns) == (seen.size, seen.mtime_ns)
    }
}

/// How much one tree differs from another.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) put: u64,
    pub(crate) gone: u64,
    /// Files and links among those that are gone.
    pub(crate) gone_files: u64,
    /// Octets of the files that are new or other.
    pub(crate) bytes: u64,
}

impl Changes {
    /// From `old` to `new`.
    pub(crate) fn between(old: &Manifest, new: &Manifest) -> Self {
        let (mut changes, mut old) = (Self::default(), old.entries().iter().peekable());
        let went = |changes: &mut Self, entry: &Entry| {
            changes.gone += 1;
            changes.gone_files += u64::from(entry.kind != Kind::Folder);
        };
        for entry in new.entries() {
            while let Some(gone) = old.next_if(|known| known.path < entry.path) {
                went(&mut changes, gone);
            }
            if old.next_if(|known| known.path == entry.path) != Some(entry) {
                changes.put += 1;
                if let Kind::File { size, .. } = entry.kind {
                    changes.bytes += size;
                }
            }
        }
        old.for_each(|gone| went(&mut changes, gone));
        changes
    }
}

fn encode_item(out: &mut Out, entry: &Entry, mark: Mark) {
    out.entry(entry);
    out.u64(mark.ino);
    out.i64(mark.ctime_ns);
    out.position(mark.born);
}

impl Step {
    pub(crate) fn decode(octets: &mut In<'_>) -> Result<Self, Malformed> {
        let mut step = Self::default();
        for _ in 0..octets.u64()? {
            let entry = octets.entry()?;
            let mark =
                Mark { ino: octets.u64()?, ctime_ns: octets.i64()?, born: octets.position()? };
            step.put.push((entry, mark));
        }
        for _ in 0..octets.u64()? {
            step.gone.push(octets.path()?);
        }
        Ok(step)
    }
}
