//! Trees in memory: a source, and a target that keeps to the contract of the ports.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Cursor, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use vipd_core::types::Epoch;
use vipd_replicator::manifest::{Entry, Hash, Kind, Manifest};
use vipd_replicator::net::send::Handle;
use vipd_replicator::path::RelPath;
use vipd_replicator::ports::*;
use vipd_replicator::segment::{Segments, Tag};

pub(crate) fn path(name: &str) -> RelPath {
    RelPath::new(0, name.as_bytes()).unwrap()
}

pub(crate) fn at(epoch: u64, generation: u64) -> Position {
    Position { epoch: Epoch { number: epoch, host: 1 }, generation }
}

/// The same octets for the same seed.
pub(crate) fn octets(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

pub(crate) fn entry(name: &str, kind: Kind) -> Entry {
    let (mode, uid, gid, mtime_ns) = (0o640, 7, 8, 1_700_000_000_000_000_009);
    Entry { path: path(name), kind, mode, uid, gid, mtime_ns, xattrs: Vec::new() }
}

pub(crate) fn file(name: &str, content: &[u8]) -> Entry {
    let (size, hash) = (content.len() as u64, *blake3::hash(content).as_bytes());
    entry(name, Kind::File { size, hash })
}

/// A tree with the contents of its files.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) entries: BTreeMap<RelPath, Entry>,
    pub(crate) contents: BTreeMap<RelPath, Arc<Vec<u8>>>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.entries.values().map(|e| (&e.path, &e.kind))).finish()
    }
}

impl Tree {
    pub(crate) fn of(files: &[(&str, Vec<u8>)]) -> Self {
        let mut tree = Self::default();
        for (name, content) in files {
            tree.put(name, content.clone());
        }
        tree
    }

    pub(crate) fn put(&mut self, name: &str, content: Vec<u8>) {
        self.entries.insert(path(name), file(name, &content));
        self.contents.insert(path(name), Arc::new(content));
    }

    pub(crate) fn put_entry(&mut self, entry: Entry) {
        self.entries.insert(entry.path.clone(), entry);
    }

    pub(crate) fn manifest(&self) -> Arc<Manifest> {
        Arc::new(Manifest::new(self.entries.values().cloned()))
    }
}

/// What happens next.
type Then = Box<dyn FnMut(&mut Owner) + Send>;

/// What the owner has, and what it was told.
#[derive(Default)]
pub(crate) struct Owner {
    pub(crate) tree: Tree,
    pub(crate) position: Position,
    pub(crate) retired: bool,
    pub(crate) behind: Behind,
    pub(crate) acknowledged: Vec<(Position, Hash)>,
    pub(crate) refused: Vec<Refusal>,
    /// Called at each refusal.
    pub(crate) after_refusal: Option<Then>,
    pub(crate) changed: Vec<RelPath>,
    /// Called at each acknowledgement.
    pub(crate) after: Option<Then>,
    /// Called when a file changed underway.
    pub(crate) rescan: Option<Then>,
    /// Files that read otherwise than their entry says.
    pub(crate) drifted: HashMap<RelPath, Vec<u8>>,
    /// Files that read otherwise once they have been opened.
    pub(crate) drifting: HashMap<RelPath, Vec<u8>>,
    /// Files that read otherwise from the second place on that is looked up in them.
    pub(crate) fickle: Vec<RelPath>,
    /// Files that are not sent.
    pub(crate) withheld: Vec<RelPath>,
    /// Files that the standby was said to lack.
    pub(crate) lacks: Vec<RelPath>,
}

#[derive(Clone, Default)]
pub(crate) struct MemSource(pub(crate) Arc<Mutex<Owner>>);

impl MemSource {
    pub(crate) fn new(tree: Tree, position: Position) -> Self {
        Self(Arc::new(Mutex::new(Owner { tree, position, ..Owner::default() })))
    }

    /// Stops `handle` after so many acknowledgements.
    pub(crate) fn stop_after(&self, count: usize, handle: &Handle) {
        let handle = handle.clone();
        self.lock().after = Some(Box::new(move |owner| {
            if owner.acknowledged.len() >= count {
                handle.stop();
            }
        }));
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Owner> {
        self.0.lock().unwrap()
    }
}

impl Source for MemSource {
    fn offer(&mut self) -> Option<Offer> {
        let owner = self.lock();
        let manifest = owner.tree.manifest();
        let (position, root) = (owner.position, manifest.root());
        (!owner.retired).then_some(Offer { position, lineage: vec![at(1, 1)], manifest, root })
    }

    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadSeek>> {
        let mut owner = self.lock();
        if let Some(other) = owner.drifted.get(path) {
            return Ok(Box::new(Cursor::new(other.clone())));
        }
        if let Some(other) = owner.drifting.remove(path) {
            owner.drifted.insert(path.clone(), other);
        }
        let content = owner.tree.contents.get(path).ok_or(ErrorKind::NotFound)?;
        if owner.fickle.contains(path) {
            return Ok(Box::new(Fickle::new(content)));
        }
        Ok(Box::new(Cursor::new(Shared(Arc::clone(content)))))
    }

    fn changed_underway(&mut self, path: &RelPath) {
        let mut owner = self.lock();
        owner.changed.push(path.clone());
        if let Some(mut rescan) = owner.rescan.take() {
            rescan(&mut owner);
            owner.rescan = Some(rescan);
        }
    }

    fn withholds(&self, path: &RelPath) -> bool {
        self.lock().withheld.contains(path)
    }

    fn lacks(&mut self, _: &str, paths: &[RelPath]) {
        self.lock().lacks.extend_from_slice(paths);
    }

    fn behind(&self, _: Position) -> Behind {
        self.lock().behind
    }

    fn acknowledged(&mut self, _: &str, position: Position, root: Hash) {
        let mut owner = self.lock();
        owner.acknowledged.push((position, root));
        if let Some(mut after) = owner.after.take() {
            after(&mut owner);
            owner.after = Some(after);
        }
    }

    fn refused(&mut self, _: &str, refusal: &Refusal) {
        let mut owner = self.lock();
        owner.refused.push(refusal.clone());
        if let Some(mut after) = owner.after_refusal.take() {
            after(&mut owner);
            owner.after_refusal = Some(after);
        }
    }
}

/// Reads without copying the whole.
pub(crate) struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What the standby has, and what it was told.
#[derive(Default)]
pub(crate) struct Standby {
    pub(crate) tree: Tree,
    pub(crate) position: Position,
    /// Complete files of stages that were not committed.
    pub(crate) staged: HashMap<Hash, Arc<Vec<u8>>>,
    /// Answers to the next offers, before those that follow from epochs.
    pub(crate) refuse: VecDeque<Refusal>,
    /// The disk is full when so many octets have been written.
    pub(crate) room: Option<u64>,
    pub(crate) commits: u64,
    pub(crate) currents: Vec<(Position, Behind)>,
    pub(crate) pendings: Vec<(u64, u64)>,
    /// Octets that came into files from anywhere.
    pub(crate) written: u64,
    /// Files whose version that is there reads otherwise than it did.
    pub(crate) false_bases: Vec<RelPath>,
    /// Files in the making, now and at most.
    pub(crate) open: usize,
    pub(crate) most_open: usize,
    /// Octets that were read of versions that are there.
    pub(crate) looked_through: u64,
    /// When it has looked through so many octets it becomes the owner.
    pub(crate) claims_at: Option<u64>,
}

#[derive(Clone, Default)]
pub(crate) struct MemTarget(pub(crate) Arc<Mutex<Standby>>);

impl MemTarget {
    pub(crate) fn new(tree: Tree, position: Position) -> Self {
        Self(Arc::new(Mutex::new(Standby { tree, position, ..Standby::default() })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Standby> {
        self.0.lock().unwrap()
    }
}

impl Target for MemTarget {
    fn standing(&self) -> (Position, Arc<Manifest>) {
        let standby = self.lock();
        (standby.position, standby.tree.manifest())
    }

    fn take(&mut self, _: &str, offer: &Offer) -> Result<Box<dyn Stage>, Refusal> {
        let mut standby = self.lock();
        if let Some(refusal) = standby.refuse.pop_front() {
            return Err(refusal);
        }
        if offer.position.epoch < standby.position.epoch {
            return Err(Refusal::StaleEpoch(standby.position.epoch));
        }
        let (standby, offer) = (Arc::clone(&self.0), offer.clone());
        Ok(Box::new(MemStage { standby, offer, withheld: Vec::new() }))
    }

    fn current(&mut self, _: &str, position: Position, behind: Behind) {
        self.lock().currents.push((position, behind));
    }

    fn pending(&mut self, _: &str, files: u64, octets: u64) {
        self.lock().pendings.push((files, octets));
    }
}

struct MemStage {
    standby: Arc<Mutex<Standby>>,
    offer: Offer,
    withheld: Vec<RelPath>,
}

impl MemStage {
    fn content(standby: &Standby, path: &RelPath, hash: &Hash) -> Option<Arc<Vec<u8>>> {
        let there = standby.tree.contents.get(path);
        let same = there.filter(|content| blake3::hash(content) == *hash);
        same.or_else(|| standby.staged.get(hash)).cloned()
    }
}

impl Stage for MemStage {
    fn needs(&self) -> Vec<Need> {
        let standby = self.standby.lock().unwrap();
        let mut needs = Vec::new();
        for (number, entry) in self.offer.manifest.entries().iter().enumerate() {
            if let Kind::File { size, hash } = entry.kind
                && Self::content(&standby, &entry.path, &hash).is_none()
            {
                needs.push(Need { entry: number as u32, size });
            }
        }
        needs
    }

    fn base(&self, entry: &Entry) -> Option<Box<dyn ReadSeek>> {
        let standby = self.standby.lock().unwrap();
        let content = standby.tree.contents.get(&entry.path)?;
        let file: Box<dyn ReadSeek> = if standby.false_bases.contains(&entry.path) {
            Box::new(Fickle::new(content))
        } else {
            Box::new(Cursor::new(Shared(Arc::clone(content))))
        };
        Some(Box::new(Counted { file, standby: Arc::clone(&self.standby) }))
    }

    fn look(&self) -> Result<(), Refusal> {
        let standby = self.standby.lock().unwrap();
        match standby.claims_at {
            Some(at) if standby.looked_through >= at => Err(Refusal::NotHere("it claims".into())),
            _ => Ok(()),
        }
    }

    fn create(&mut self, entry: &Entry) -> io::Result<Box<dyn StageFile>> {
        let Kind::File { hash, size } = entry.kind else { return Err(ErrorKind::Other.into()) };
        let (standby, segments) = (Arc::clone(&self.standby), Segments::new(size));
        {
            let mut standby = standby.lock().unwrap();
            standby.open += 1;
            standby.most_open = standby.most_open.max(standby.open);
        }
        Ok(Box::new(MemFile { standby, content: Vec::new(), segments, hash }))
    }

    fn withhold(&mut self, entry: u32) -> Result<(), Refusal> {
        self.withheld.push(self.offer.manifest.entries()[entry as usize].path.clone());
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), Refusal> {
        let mut standby = self.standby.lock().unwrap();
        let mut tree = Tree::default();
        for entry in self.offer.manifest.entries() {
            if self.withheld.contains(&entry.path) {
                let there = standby.tree.contents.get(&entry.path).cloned();
                tree.contents.extend(there.map(|there| (entry.path.clone(), there)));
            } else if let Kind::File { hash, .. } = &entry.kind {
                let content = Self::content(&standby, &entry.path, hash).expect("complete");
                tree.contents.insert(entry.path.clone(), content);
            }
            tree.put_entry(Entry::clone(entry));
        }
        standby.tree = tree;
        standby.staged.clear();
        standby.position = self.offer.position;
        standby.commits += 1;
        Ok(())
    }
}

struct MemFile {
    standby: Arc<Mutex<Standby>>,
    content: Vec<u8>,
    segments: Segments,
    hash: Hash,
}

impl MemFile {
    fn write(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let mut standby = self.standby.lock().unwrap();
        standby.written += octets.len() as u64;
        if standby.room.is_some_and(|room| standby.written > room) {
            return Err(ErrorKind::StorageFull.into());
        }
        let (from, to) = (offset as usize, offset as usize + octets.len());
        self.content.resize(self.content.len().max(to), 0);
        self.content[from..to].copy_from_slice(octets);
        Ok(())
    }
}

impl StageFile for MemFile {
    fn put(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.segments.put(offset, octets);
        self.write(offset, octets)
    }

    fn keep(&mut self, at: usize, octets: &[u8], tag: Tag) -> io::Result<bool> {
        let Some(offset) = self.segments.keep(at, octets, tag) else { return Ok(false) };
        self.write(offset, octets)?;
        Ok(true)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        // What the session put together by segments is what it is as a whole.
        let whole = *blake3::hash(&self.content).as_bytes();
        assert!(self.segments.whole().is_none_or(|hash| hash == whole));
        if whole != self.hash {
            return Err(ErrorKind::InvalidData.into());
        }
        let content = Arc::new(std::mem::take(&mut self.content));
        self.standby.lock().unwrap().staged.insert(self.hash, content);
        Ok(())
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        // A test that has failed may hold it.
        if let Ok(mut standby) = self.standby.lock() {
            standby.open -= 1;
        }
    }
}

/// Counts what is read.
struct Counted {
    file: Box<dyn ReadSeek>,
    standby: Arc<Mutex<Standby>>,
}

impl io::Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(into)?;
        self.standby.lock().unwrap().looked_through += len as u64;
        Ok(len)
    }
}

impl io::Seek for Counted {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Reads the truth up to the second seek, and something else after it: what was indexed is not what is copied.
struct Fickle {
    content: Cursor<Vec<u8>>,
    sought: bool,
}

impl Fickle {
    fn new(content: &[u8]) -> Self {
        Self { content: Cursor::new(content.to_vec()), sought: false }
    }
}

impl io::Read for Fickle {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.content.read(into)
    }
}

impl io::Seek for Fickle {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        if std::mem::replace(&mut self.sought, true) {
            self.content.get_mut().fill(0);
        }
        self.content.seek(to)
    }
}
