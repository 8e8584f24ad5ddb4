//! What a session needs of the disk: [`Source`] where files are sent from, [`Target`] where they are put.
//!
//! The store implements both; sessions know nothing else of it, and their tests bring trees in memory.

use crate::manifest::{Entry, Hash, Manifest};
use crate::path::RelPath;
use crate::segment::Tag;
use std::any::Any;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;
use vipd_core::types::Epoch;

/// Where a set stands: which generation of which ownership its tree is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Under which ownership.
    pub epoch: Epoch,
    /// Number of the tree within it, from 1; 0: nothing yet.
    pub generation: u64,
}

/// What a sender has to offer, and what it descends from (DESIGN 5.13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The tree that is offered.
    pub position: Position,
    /// Earlier ownerships with the last generation of each that the tree descends from, oldest first; the newest
    /// [`MAX_LINEAGE`] of them.
    pub lineage: Vec<Position>,
    /// The tree.
    pub manifest: Arc<Manifest>,
    /// Its [`Manifest::root`].
    pub root: Hash,
}

/// Ownerships that an [`Offer`] remembers.
pub const MAX_LINEAGE: usize = 64;

/// Why a target does not take an offer. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It knows of a newer ownership: the sender must stop and alarm.
    #[error("a newer ownership is known here: epoch {0}")]
    StaleEpoch(Epoch),
    /// The tree does not descend from what this host last took: both are kept until an operator decides.
    #[error("the tree does not descend from {}.{} of this host", .0.epoch, .0.generation)]
    Diverged(Position),
    /// It would delete or replace more than the guard allows: waits for `vipd replica ack`.
    #[error("{0}")]
    Guard(String),
    /// This host is the owner itself, or the set is unknown or not the same here.
    #[error("{0}")]
    NotHere(String),
    /// Disk full, quota of the rescue folder, root missing, read-only or not mounted, other I/O.
    #[error("{0}")]
    Disk(String),
}

/// A file of the offered tree whose content the target lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Position in the entries of the offered manifest.
    pub entry: u32,
    /// Octets of the content.
    pub size: u64,
}

/// What changed at the owner since a tree that a standby has.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// At least so many files; 0: the tree is what the owner's disk holds, as far as is known.
    pub files: u64,
    /// How long ago the oldest of these changes was, milliseconds; everything before it is in the tree. 0 where there are
    /// files: not known, as older releases say it.
    pub ms: u64,
}

impl Behind {
    /// So long ago everything was in the tree, milliseconds; `None`: not known.
    pub fn age_ms(self) -> Option<u64> {
        (self.files == 0 || self.ms > 0).then_some(self.ms)
    }
}

/// Where files are sent from.
pub trait Source: Send {
    /// The newest sealed tree; `None`: this host is not the owner. Asked each second, each time it is woken, and before
    /// a hello that must not wait for 3 s: it does not scan.
    fn offer(&mut self) -> Option<Offer>;
    /// The content of a file, to be read from the start. What is read may have changed since the manifest was made: the
    /// session compares hashes.
    ///
    /// # Errors
    /// It is gone, or cannot be read.
    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadSeek>>;
    /// `file`, opened for this entry of the offer, is the very file that was hashed, and nobody touched it since, as far as the
    /// kernel tells: what was read of it up to now is what was hashed.
    fn proves(&self, entry: &Entry, file: &dyn ReadSeek) -> bool {
        let _ = (entry, file);
        false
    }
    /// Values of the segments of the file with that hash ([`Layout`](crate::segment::Layout)), if they are still known.
    fn outline(&self, hash: &Hash) -> Option<Arc<Vec<Hash>>> {
        let _ = hash;
        None
    }
    /// A file was not as the manifest says: the next offer comes from a new scan.
    fn changed_underway(&mut self, path: &RelPath);
    /// The content of a file of the offer cannot be had, and no scan changes that: it is not sent, everything else is.
    fn withholds(&self, path: &RelPath) -> bool {
        let _ = path;
        false
    }
    /// After [`Source::acknowledged`]: `peer` has the tree but for these files, which were withheld from it.
    fn lacks(&mut self, peer: &str, paths: &[RelPath]) {
        let _ = (peer, paths);
    }
    /// What changed since the tree of `position`, which was offered under this ownership, as far as is known.
    fn behind(&self, position: Position) -> Behind {
        let _ = position;
        Behind::default()
    }
    /// `peer` has taken the tree, durably.
    fn acknowledged(&mut self, peer: &str, position: Position, root: Hash);
    /// `peer` says where it stands, before anything is offered: shows an owner that forgot what it had sent.
    fn peer_stands(&mut self, peer: &str, position: Position, root: Hash) {
        let _ = (peer, position, root);
    }
    /// `peer` refused; [`Refusal::StaleEpoch`] ends the sending of this set until the agent names a new epoch.
    fn refused(&mut self, peer: &str, refusal: &Refusal);
}

/// Where files are put.
pub trait Target: Send {
    /// Where this host stands, and the tree that it committed last (for deltas of manifests).
    fn standing(&self) -> (Position, Arc<Manifest>);
    /// Takes an offer: checks epoch, lineage and guards, and opens or resumes its stage.
    ///
    /// # Errors
    /// Why not; nothing was changed.
    fn take(&mut self, from: &str, offer: &Offer) -> Result<Box<dyn Stage>, Refusal>;
    /// The sender says how far this host is behind, which has the tree of `position`; without that the replica ages. After
    /// each tree, and each second.
    fn current(&mut self, from: &str, position: Position, behind: Behind);
    /// So many files, with so many octets, are still to come in the transfer that begins.
    fn pending(&mut self, from: &str, files: u64, octets: u64) {
        let _ = (from, files, octets);
    }
}

/// A tree that is being put together beside the one that is there. Dropped without [`Stage::commit`]: what is complete
/// stays, for the next attempt; the old tree is untouched.
pub trait Stage: Send {
    /// Files whose content is neither in the old tree nor complete in the stage.
    fn needs(&self) -> Vec<Need>;
    /// The version of the file that this host has now, or what was staged of it before: what deltas copy from.
    fn base(&self, entry: &Entry) -> Option<Box<dyn ReadSeek>>;
    /// Goes on: asked before each step of work that takes long, such as looking through [`Stage::base`].
    ///
    /// # Errors
    /// It must not: the set is closed, or this host becomes the owner.
    fn look(&self) -> Result<(), Refusal> {
        Ok(())
    }
    /// A file to be filled with the content of `entry`.
    ///
    /// # Errors
    /// Disk full, or other I/O.
    fn create(&mut self, entry: &Entry) -> io::Result<Box<dyn StageFile>>;
    /// The sender does not have the content of this file (its position in the manifest) any more: what is at its path
    /// stays as it is, and this host's copy is not complete, whatever the rest of the tree.
    ///
    /// # Errors
    /// The tree cannot be taken without it.
    fn withhold(&mut self, entry: u32) -> Result<(), Refusal>;
    /// Everything is there: puts it in place, durably; deletions last. What is replaced or deleted is kept aside.
    ///
    /// # Errors
    /// The old tree is as it was; or it is in place in part, which a standby finishes later, and an owner never.
    fn commit(self: Box<Self>) -> Result<(), Refusal>;
}

/// A file in the making. Each octet of it is put once; segments in any order, each from its start to its end
/// ([`Segments`](crate::segment::Segments)).
pub trait StageFile: Send {
    /// These octets are at `offset`.
    ///
    /// # Errors
    /// Disk full, or other I/O; more octets than the manifest says.
    fn put(&mut self, offset: u64, octets: &[u8]) -> io::Result<()>;
    /// These are segment `at`, if its tag is that. `false`: it is another, and nothing was put.
    ///
    /// # Errors
    /// As for [`StageFile::put`].
    fn keep(&mut self, at: usize, octets: &[u8], tag: Tag) -> io::Result<bool>;
    /// [`StageFile::keep`] for the segments from `from` on, one for each of `tags`, as `base` has them in the same places; those that
    /// it does not have are other ones. `None`: this file cannot, and nothing was put.
    fn keep_all(
        &mut self,
        base: &File,
        from: usize,
        tags: &[Tag],
    ) -> Option<io::Result<Vec<bool>>> {
        let _ = (base, from, tags);
        None
    }
    /// The content is complete: compared with the hash of the manifest.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`]: other content than the manifest says, or not all of it (it is asked for
    /// again), or I/O; the file is forgotten.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A file that is read in any order.
pub trait ReadSeek: Read + Seek + Send {
    /// The file on a disk that it is.
    fn as_file(&self) -> Option<&File>;
}

impl<T: Read + Seek + Send + 'static> ReadSeek for T {
    fn as_file(&self) -> Option<&File> {
        (self as &dyn Any).downcast_ref()
    }
}
