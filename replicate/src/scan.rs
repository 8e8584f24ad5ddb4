//! What is in the roots of a set: entries with their hashes.
//!
//! Used by the owner (what to push), by receivers before they take a tree (what would be lost), and by `drift`. Reads
//! only what changed since it was last hashed. Must never follow a link, leave a file system, or take a root that is
//! not there for an empty one.

use crate::clock;
use crate::disk::{Dir, Seen, What};
use crate::error::Error;
use crate::halt::{self, Look};
use crate::manifest::{Entry, Hash, Kind};
use crate::meta;
use crate::path::{OWN_FOLDER, RelPath};
use crate::root::Root;
use crate::rules::{self, Rules};
use crate::segment::Layout;
use crate::set::{Place, Scope};
use crate::tree::{Item, Mark, Tree};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use vipd_core::config::model::Replicate;

/// Read again so often when a file changed while it was read.
const TRIES: u32 = 3;
/// A file that changed so shortly before it was hashed may change again within the same stamp: nanoseconds. The kernel's
/// clock for stamps is at most 10 ms coarse; file systems with whole seconds get whole seconds.
const COARSE_NS: i64 = 50_000_000;
/// More places than this, and everything is scanned.
const MAX_PLACES: usize = 10_000;
/// Octets that are read at once.
const CHUNK: usize = 256 * 1024;
/// Several threads hash a file of so many octets. Larger ones, sparse ones most likely, would have too many segments.
const SHARED: std::ops::Range<u64> = 8 << 20..4 << 40;
/// So many of them at most.
const THREADS: usize = 4;
/// Segments that one of them takes at once.
const SHARE: usize = 16;

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) tree: Tree,
    /// Kept changing, or could not be read: their last good version is in the tree.
    pub(crate) deferred: Vec<RelPath>,
    /// Left out, and why.
    pub(crate) skipped: Vec<String>,
}

/// A scan that is on.
struct Scan<'a> {
    config: &'a Replicate,
    rules: &'a Rules,
    /// What was known before.
    base: &'a Tree,
    /// Entries of it that are as they were.
    same: Vec<bool>,
    /// Such that are new or other.
    items: Vec<Item>,
    deferred: Vec<RelPath>,
    skipped: Vec<String>,
    buffer: Vec<u8>,
    look: Look<'a>,
}

/// Scans `scope`; `base` is what was known before, and is believed outside of it.
pub(crate) fn scan(
    config: &Replicate,
    rules: &Rules,
    roots: &[Root],
    base: &Tree,
    scope: &Scope,
    look: Look<'_>,
) -> Result<Found, Error> {
    let mut scan = Scan {
        config,
        rules,
        base,
        same: vec![false; base.manifest().entries().len()],
        items: Vec::new(),
        deferred: Vec::new(),
        skipped: Vec::new(),
        buffer: vec![0; CHUNK],
        look,
    };
    let places = match scope {
        Scope::Places(places) if places.len() <= MAX_PLACES => Some(places),
        _ => None,
    };
    let mut dropped = vec![places.is_none(); scan.same.len()];
    match places {
        None => {
            for root in roots {
                scan.folders(root, None)?;
            }
        }
        Some(places) => {
            for place in places {
                scan.place(roots, place, &mut dropped)?;
            }
        }
    }
    for (dropped, same) in dropped.iter_mut().zip(&scan.same) {
        *dropped &= !same;
    }
    let tree = if scan.items.is_empty() && !dropped.contains(&true) {
        base.clone()
    } else {
        base.with(&dropped, scan.items)
    };
    Ok(Found { tree, deferred: scan.deferred, skipped: scan.skipped })
}

impl Scan<'_> {
    /// One name, or a folder with all below it.
    fn place(&mut self, roots: &[Root], place: &Place, dropped: &mut [bool]) -> Result<(), Error> {
        let mut path = place.path.clone();
        let mut deep = place.deep;
        if self.rules.excludes_deep(&path) {
            return Ok(());
        }
        let Some(root) = roots.get(usize::from(path.root())) else { return Ok(()) };
        // A folder on the way that is not known yet is new as a whole, one that is gone takes all with it.
        let octets = place.path.as_bytes();
        for end in octets.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at) {
            let Ok(parent) = RelPath::new(path.root(), octets.get(..end).unwrap_or_default())
            else {
                continue;
            };
            let known = self.base.get(&parent).is_some_and(|(e, _)| e.kind == Kind::Folder);
            let seen = root.dir.see(parent.as_path()).map_err(|e| self.at(root, &parent, e))?;
            if !known || seen.is_none_or(|seen| seen.what != What::Folder) {
                (path, deep) = (parent, true);
                break;
            }
        }
        let seen = root.dir.see(path.as_path()).map_err(|e| self.at(root, &path, e))?;
        let folder = seen.is_some_and(|seen| seen.what == What::Folder);
        let was_folder = self.base.get(&path).is_some_and(|(e, _)| e.kind == Kind::Folder);
        let mut drop = |at: usize| {
            if let Some(dropped) = dropped.get_mut(at) {
                *dropped = true;
            }
        };
        let entries = self.base.manifest().entries();
        if let Ok(at) = entries.binary_search_by(|e| e.path.cmp(&path)) {
            drop(at);
        }
        if deep || folder != was_folder {
            self.base.below(&path).for_each(&mut drop);
        }
        match seen {
            None => Ok(()),
            Some(_) if folder && (deep || !was_folder) => self.folders(root, Some(&path)),
            Some(_) if folder => self.folder(root, &path).map(drop_value),
            Some(seen) => {
                let (dir, name) =
                    root.dir.parent(path.as_path()).map_err(|e| self.at(root, &path, e))?;
                self.leaf(root, &dir, name, &path, &seen)
            }
        }
    }

    fn at(&self, root: &Root, path: &RelPath, error: io::Error) -> Error {
        Error::io(root.path.join(path.as_path()), error)
    }

    /// A folder with all below it; `None`: the root, which is no entry itself.
    fn folders(&mut self, root: &Root, top: Option<&RelPath>) -> Result<(), Error> {
        let mut waiting = vec![top.cloned()];
        while let Some(path) = waiting.pop() {
            let dir = match &path {
                None => root.dir.at(".").map_err(|e| Error::io(&root.path, e))?,
                Some(path) => match self.folder(root, path)? {
                    Some(dir) => dir,
                    None => continue,
                },
            };
            let prefix = path.as_ref().map_or(&[] as &[u8], RelPath::as_bytes);
            let here = path.as_ref().map_or_else(|| Path::new(""), RelPath::as_path);
            let names = dir.list().map_err(|e| Error::io(root.path.join(here), e))?;
            for name in names {
                self.child(root, &dir, prefix, &name, &mut waiting)?;
            }
        }
        Ok(())
    }

    fn child(
        &mut self,
        root: &Root,
        dir: &Dir,
        prefix: &[u8],
        name: &OsStr,
        waiting: &mut Vec<Option<RelPath>>,
    ) -> Result<(), Error> {
        if prefix.is_empty() && name == OWN_FOLDER {
            return Ok(());
        }
        self.look.look().map_err(|error| Error::io(&root.path, error))?;
        let octets = if prefix.is_empty() {
            name.as_bytes().to_vec()
        } else {
            [prefix, b"/", name.as_bytes()].concat()
        };
        let path = match RelPath::new(root.ix, &octets) {
            Ok(path) => path,
            Err(why) => {
                let full = root.path.join(OsStr::from_bytes(&octets));
                self.skipped.push(format!("{}: {why}", full.display()));
                return Ok(());
            }
        };
        if self.rules.excludes(&path) {
            return Ok(());
        }
        let seen = dir.see_here(name).map_err(|e| self.at(root, &path, e))?;
        match seen {
            // Gone since the folder was listed.
            None => Ok(()),
            Some(seen) if seen.what == What::Folder => {
                waiting.push(Some(path));
                Ok(())
            }
            Some(seen) => self.leaf(root, dir, name, &path, &seen),
        }
    }

    /// The entry of a folder itself; open, unless it is gone or another file system.
    fn folder(&mut self, root: &Root, path: &RelPath) -> Result<Option<Dir>, Error> {
        let dir = match root.dir.at(path.as_path()) {
            Ok(dir) => dir,
            Err(error) if gone(&error) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.skip(root, path, "another file system is mounted there");
                return Ok(None);
            }
            Err(error) => return Err(self.at(root, path, error)),
        };
        let seen = dir.seen().map_err(|e| self.at(root, path, e))?;
        let xattrs = meta::read_xattrs(&dir, self.config).map_err(|e| self.at(root, path, e))?;
        let (mode, uid, gid) = (meta::kept_mode(&seen, self.config), seen.uid, seen.gid);
        let entry =
            Entry { path: path.clone(), kind: Kind::Folder, mode, uid, gid, mtime_ns: 0, xattrs };
        let mark = Mark { ino: seen.ino, ..Mark::default() };
        self.found(entry, mark);
        Ok(Some(dir))
    }

    fn skip(&mut self, root: &Root, path: &RelPath, why: &str) {
        self.skipped.push(format!("{}: {why}", root.path.join(path.as_path()).display()));
    }

    /// Whatever is no folder.
    fn leaf(
        &mut self,
        root: &Root,
        dir: &Dir,
        name: &OsStr,
        path: &RelPath,
        seen: &Seen,
    ) -> Result<(), Error> {
        match seen.what {
            What::Other(what) => {
                self.skip(root, path, &format!("a {what} is never part of a set"));
                Ok(())
            }
            // Became one since it was looked at: the next scan finds it.
            What::Folder => Ok(()),
            What::Link => {
                let target = match dir.link_target(Path::new(name)) {
                    Ok(target) => target,
                    Err(error) if gone(&error) => return Ok(()),
                    Err(error) => return Err(self.at(root, path, error)),
                };
                if !self.config.outward_links && rules::leads_out(&root.path, path, &target) {
                    self.skip(root, path, "a link out of its root (outward-links is not set)");
                    return Ok(());
                }
                let entry = Entry {
                    path: path.clone(),
                    kind: Kind::Link { target },
                    mode: 0o777,
                    uid: seen.uid,
                    gid: seen.gid,
                    mtime_ns: 0,
                    xattrs: Vec::new(),
                };
                self.found(entry, Mark { ino: seen.ino, ..Mark::default() });
                Ok(())
            }
            What::File => self.file(root, dir, name, path, seen),
        }
    }

    fn file(
        &mut self,
        root: &Root,
        dir: &Dir,
        name: &OsStr,
        path: &RelPath,
        seen: &Seen,
    ) -> Result<(), Error> {
        let base = self.base;
        let before = base.find(path).and_then(|at| Some((at, base.at(at)?)));
        if let Some((at, (known, mark))) = before
            && mark.proves(known, seen)
            && (known.uid, known.gid) == (seen.uid, seen.gid)
            && known.mode == meta::kept_mode(seen, self.config)
        {
            self.keep(at);
            return Ok(());
        }
        for _ in 0..TRIES {
            match self.read(dir, name, path) {
                Ok(Some((entry, mark))) => {
                    self.found(entry, mark);
                    return Ok(());
                }
                Ok(None) => {}
                Err(error) if gone(&error) => return Ok(()),
                Err(error) if halt::halted(&error) => return Err(self.at(root, path, error)),
                // Nobody may take a file for deleted because it could not be read.
                Err(error) if base.get(path).is_none() => {
                    self.skip(root, path, &format!("cannot be read: {error}"));
                    self.deferred.push(path.clone());
                    return Ok(());
                }
                Err(error) => {
                    self.skip(
                        root,
                        path,
                        &format!("cannot be read, its last version stays: {error}"),
                    );
                    break;
                }
            }
        }
        self.deferred.push(path.clone());
        if let Some((known, mark)) = base.get(path) {
            let known = known.clone();
            self.items.push((known, Mark { ctime_ns: 0, ..mark }));
        }
        Ok(())
    }

    /// Reads a file once; `None`: it changed meanwhile.
    fn read(&mut self, dir: &Dir, name: &OsStr, path: &RelPath) -> io::Result<Option<Item>> {
        let mut file = dir.file(name)?;
        let now_ns = clock::stamp_ns();
        let before = Seen::of(&file)?;
        let xattrs = meta::read_xattrs(&file, self.config)?;
        let (size, hash) = if !SHARED.contains(&before.size) {
            hash(&mut file, &mut self.buffer, self.look)?
        } else {
            match hash_shared(&file, before.size, self.look) {
                Ok(hash) => (before.size, hash),
                // Shorter than it was.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        let after = Seen::of(&file)?;
        if !before.same(&after) || size != after.size {
            return Ok(None);
        }
        let entry = Entry {
            path: path.clone(),
            kind: Kind::File { size, hash },
            mode: meta::kept_mode(&after, self.config),
            uid: after.uid,
            gid: after.gid,
            mtime_ns: after.mtime_ns,
            xattrs,
        };
        Ok(Some((entry, Mark { born: Default::default(), ..mark(&after, now_ns) })))
    }

    /// An entry; its mark keeps since when it is so, where it is as it was.
    fn found(&mut self, entry: Entry, mut mark: Mark) {
        if let Some(at) = self.base.find(&entry.path)
            && let Some((known, was)) = self.base.at(at)
            && *known == entry
        {
            mark.born = was.born;
            if mark == was {
                return self.keep(at);
            }
        }
        self.items.push((entry, mark));
    }
}

impl Scan<'_> {
    fn keep(&mut self, at: usize) {
        if let Some(same) = self.same.get_mut(at) {
            *same = true;
        }
    }
}

fn drop_value<T>(_: T) {}

/// Vanished, or became something else, since its folder was listed.
fn gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput
    ) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// The mark of a file that was seen at `now_ns` and hashed after that.
pub(crate) fn mark(seen: &Seen, now_ns: i64) -> Mark {
    let whole_seconds = seen.ctime_ns % 1_000_000_000 == 0;
    let coarse = if whole_seconds { 1_000_000_000 + COARSE_NS } else { COARSE_NS };
    // A clock that was set back makes stamps from the future: never believed.
    let settled = now_ns.saturating_sub(seen.ctime_ns) > coarse;
    let ctime_ns = if settled { seen.ctime_ns } else { 0 };
    Mark { ino: seen.ino, ctime_ns, ..Mark::default() }
}

/// Size and hash of what is left to read of `file`; ends early when `look` says so.
pub(crate) fn hash(file: &mut File, buffer: &mut [u8], look: Look<'_>) -> io::Result<(u64, Hash)> {
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    loop {
        look.look()?;
        let length = match file.read(buffer) {
            Ok(0) => return Ok((size, *hasher.finalize().as_bytes())),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..length).unwrap_or_default());
        size += length as u64;
    }
}

/// Hash of `file`, which has `size` octets, by several threads; ends early when `look` says so.
fn hash_shared(file: &File, size: u64, look: Look<'_>) -> io::Result<Hash> {
    let layout = Layout::of(size);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let share = || {
        let (mut values, mut buffer) = (Vec::new(), Vec::new());
        loop {
            let from = next.fetch_add(SHARE, Ordering::Relaxed);
            if from >= layout.count() || failed.load(Ordering::Relaxed) {
                return Ok(values);
            }
            for at in from..layout.count().min(from + SHARE) {
                look.look()?;
                buffer.resize(layout.len(at), 0);
                file.read_exact_at(&mut buffer, layout.offset(at))?;
                values.push((at, layout.hash(at, &buffer)));
            }
        }
    };
    let noted = || share().inspect_err(|_| failed.store(true, Ordering::Relaxed));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let mut values = vec![Hash::default(); layout.count()];
    thread::scope(|scope| {
        // Where there are no more threads to be had this one does it alone.
        let other = |_| thread::Builder::new().spawn_scoped(scope, noted).ok();
        let others: Vec<_> = (1..threads).filter_map(other).collect();
        let mut shares = vec![noted()];
        shares.extend(others.into_iter().map(|other| {
            let fault = |_| Err(io::Error::other("a thread that hashes ended by a fault of vipd"));
            other.join().unwrap_or_else(fault)
        }));
        for share in shares {
            for (at, value) in share? {
                values[at] = value;
            }
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(layout.whole(&values))
}

/// A buffer for [`hash`].
pub(crate) fn buffer() -> Vec<u8> {
    vec![0; CHUNK]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::halt::Halt;

    #[test]
    fn several_threads_find_the_hash_that_one_finds() {
        let dir = tempfile::tempdir().unwrap();
        let halt = Halt::default();
        for size in [8 << 20, (8 << 20) + 17, (9 << 20) - 1] {
            let mut content = vec![0; size];
            blake3::Hasher::new().finalize_xof().fill(&mut content);
            let path = dir.path().join("file");
            std::fs::write(&path, &content).unwrap();
            let file = File::open(&path).unwrap();
            let hash = hash_shared(&file, size as u64, halt.any()).unwrap();
            assert_eq!(hash, *blake3::hash(&content).as_bytes());
            let short = hash_shared(&file, size as u64 + 1, halt.any()).unwrap_err();
            assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        }
        halt.stop();
        let file = File::open(dir.path().join("file")).unwrap();
        assert!(halt::halted(&hash_shared(&file, 8 << 20, halt.any()).unwrap_err()));
    }
}
