//! What a tree holds: one entry for each file, folder and link, sorted, with a hash over all of it.
//!
//! Made by the scanner, sent by sessions, kept by the store; must never touch a disk.

use crate::path::RelPath;
use std::sync::Arc;

/// Octets that are hashed at once.
const PIECE: usize = 64 * 1024;

/// BLAKE3.
pub type Hash = [u8; 32];

/// A file, folder or link of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: RelPath,
    /// What.
    pub kind: Kind,
    /// Permission bits (07777); those of links mean nothing and are 0777.
    pub mode: u32,
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Modification time, nanoseconds since 1970 (UTC); folders and links: 0, theirs are not kept.
    pub mtime_ns: i64,
    /// Extended attributes (ACLs are such), sorted by name; empty unless the set asks for them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is. Devices, sockets and FIFOs are never part of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Octets.
        size: u64,
        /// Of its content.
        hash: Hash,
    },
    /// A folder.
    Folder,
    /// A symbolic link.
    Link {
        /// Where it points, as it stands in the link.
        target: Vec<u8>,
    },
}

/// A tree at one moment: entries sorted by path, each path once. Trees, deltas and plans share their entries: of many small files
/// they are most of what the replicator has in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Arc<Entry>>,
}

/// From one manifest to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// New, or other than before; sorted.
    pub put: Vec<Arc<Entry>>,
    /// Not there any more; sorted.
    pub gone: Vec<RelPath>,
}

impl Manifest {
    /// Of `entries` in any order; of two with one path the last counts.
    pub fn new<E: Into<Arc<Entry>>>(entries: impl IntoIterator<Item = E>) -> Self {
        let mut entries: Vec<Arc<Entry>> = entries.into_iter().map(Into::into).collect();
        entries.reverse();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|b, a| a.path == b.path);
        Self { entries }
    }

    /// Of entries that are sorted, each path once.
    pub(crate) fn sorted(entries: Vec<Arc<Entry>>) -> Self {
        debug_assert!(entries.is_sorted_by(|a, b| a.path < b.path), "sorted, each path once");
        Self { entries }
    }

    /// All entries, sorted by path.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The entry at that position.
    pub fn at(&self, position: u32) -> Option<&Arc<Entry>> {
        self.entries.get(position as usize)
    }

    /// The entry at `path`.
    pub fn get(&self, path: &RelPath) -> Option<&Arc<Entry>> {
        self.entries.get(self.find(path)?)
    }

    /// Position of the entry at `path`.
    pub(crate) fn find(&self, path: &RelPath) -> Option<usize> {
        self.entries.binary_search_by(|e| e.path.cmp(path)).ok()
    }

    /// Hash over all that is in it: two trees are alike exactly when their roots are.
    pub fn root(&self) -> Hash {
        let mut hasher = blake3::Hasher::new();
        // In large pieces: BLAKE3 is several times as fast with them.
        let mut piece = Vec::with_capacity(2 * PIECE);
        for entry in &self.entries {
            entry.write_into(&mut piece);
            if piece.len() >= PIECE {
                hasher.update(&piece);
                piece.clear();
            }
        }
        hasher.update(&piece);
        *hasher.finalize().as_bytes()
    }

    /// What leads from `self` to `next`.
    pub fn delta(&self, next: &Self) -> Delta {
        let mut delta = Delta::default();
        let mut before = self.entries.iter().peekable();
        for entry in &next.entries {
            while let Some(gone) = before.next_if(|b| b.path < entry.path) {
                delta.gone.push(gone.path.clone());
            }
            if before.next_if(|b| b.path == entry.path) != Some(entry) {
                delta.put.push(Arc::clone(entry));
            }
        }
        delta.gone.extend(before.map(|b| b.path.clone()));
        delta
    }

    /// `self` after `delta`.
    pub fn with(&self, delta: &Delta) -> Self {
        let kept = self.entries.iter().filter(|e| delta.gone.binary_search(&e.path).is_err());
        Self::new(kept.chain(&delta.put).cloned())
    }
}

impl Entry {
    /// Size and hash of its content, where it is a regular file.
    pub const fn file(&self) -> Option<(u64, &Hash)> {
        match &self.kind {
            Kind::File { size, hash } => Some((*size, hash)),
            Kind::Folder | Kind::Link { .. } => None,
        }
    }

    fn write_into(&self, out: &mut Vec<u8>) {
        // Every field of variable length is preceded by its length: no two entries have the same octets.
        let mut octets = |bytes: &[u8]| {
            out.extend((bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        octets(&self.path.root().to_be_bytes());
        octets(self.path.as_bytes());
        match &self.kind {
            Kind::File { size, hash } => {
                octets(b"f");
                octets(&size.to_be_bytes());
                octets(hash);
            }
            Kind::Folder => octets(b"d"),
            Kind::Link { target } => {
                octets(b"l");
                octets(target);
            }
        }
        for number in [self.mode, self.uid, self.gid] {
            octets(&number.to_be_bytes());
        }
        octets(&self.mtime_ns.to_be_bytes());
        octets(&(self.xattrs.len() as u64).to_be_bytes());
        for (name, value) in &self.xattrs {
            octets(name);
            octets(value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn file(name: &str, hash: u8) -> Arc<Entry> {
        Arc::new(Entry {
            path: RelPath::new(0, name.as_bytes()).unwrap(),
            kind: Kind::File { size: 1, hash: [hash; 32] },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: 5,
            xattrs: Vec::new(),
        })
    }

    #[test]
    fn a_delta_leads_from_one_tree_to_the_next() {
        let before = Manifest::new(vec![file("b", 1), file("a", 1), file("c", 1)]);
        let after = Manifest::new(vec![file("a", 1), file("b", 2), file("d", 1)]);
        let delta = before.delta(&after);
        assert_eq!(delta.put, [file("b", 2), file("d", 1)]);
        assert_eq!(delta.gone, [file("c", 1).path.clone()]);
        assert_eq!(before.with(&delta), after);
        assert_eq!(before.with(&delta).root(), after.root());
        assert_ne!(before.root(), after.root());
    }

    #[test]
    fn of_two_entries_with_one_path_the_last_counts() {
        let tree = Manifest::new(vec![file("a", 1), file("a", 2)]);
        assert_eq!(tree.entries(), [file("a", 2)]);
    }
}
