//! What is in the roots of a set: entries with their hashes.
//!
//! Used by the owner (what to push), by receivers before they take a tree (what would be lost), and by `drift`. Reads
//! only what changed since it was last hashed. Must never follow a link, leave a file system, or take a root that is
//! not there for an empty one.

use crate::disk::{Dir, Seen, What};
use crate::error::Error;
use crate::halt::Look;
use crate::hashing::{self, Outlines};
use crate::manifest::{Entry, Kind};
use crate::meta;
use crate::path::{OWN_FOLDER, RelPath};
use crate::reading::{self, Reading, Unread, gone};
use crate::root::Root;
use crate::rules::{self, Rules};
use crate::set::{Place, Scope};
use crate::tree::{Item, Mark, Tree};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use vipd_core::config::model::Replicate;

/// So many files of a folder are read at once, by several threads.
const READ_AT_ONCE: usize = 4096;
/// A file that changed so shortly before it was hashed may change again within the same stamp: nanoseconds. The kernel's
/// clock for stamps is at most 10 ms coarse; file systems with whole seconds get whole seconds.
const COARSE_NS: i64 = 50_000_000;
/// More places than this, and everything is scanned.
const MAX_PLACES: usize = 10_000;

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) tree: Tree,
    /// Kept changing, or could not be read: their last good version is in the tree.
    pub(crate) deferred: Vec<RelPath>,
    /// Left out, and why.
    pub(crate) skipped: Vec<String>,
    /// Of the large files that were read.
    pub(crate) outlines: Outlines,
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
    outlines: Outlines,
    /// Of the folder that is looked through.
    unread: Vec<Unread>,
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
        outlines: Outlines::default(),
        unread: Vec::new(),
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
    let Scan { deferred, skipped, outlines, .. } = scan;
    Ok(Found { tree, deferred, skipped, outlines })
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
        if let Some(at) = self.base.find(&path) {
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
                self.leaf(root, &dir, name, &path, &seen)?;
                self.read(root, &dir)
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
            self.read(root, &dir)?;
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
        self.unread.push(Unread { name: name.to_owned(), path: path.clone() });
        // Of a large one every thread reads a part, of small ones each some.
        if hashing::SHARED.contains(&seen.size) || self.unread.len() >= READ_AT_ONCE {
            self.read(root, dir)?;
        }
        Ok(())
    }

    /// Reads what `dir` has to be read of.
    fn read(&mut self, root: &Root, dir: &Dir) -> Result<(), Error> {
        let unread = std::mem::take(&mut self.unread);
        let readings = reading::read(self.config, dir, &unread, self.look);
        let readings = readings.map_err(|error| Error::io(&root.path, error))?;
        for (Unread { path, .. }, reading) in unread.into_iter().zip(readings) {
            match reading {
                Reading::Gone => continue,
                Reading::Done(done) => {
                    let (entry, mark, values) = *done;
                    if let Some((_, hash)) = entry.file() {
                        self.outlines.put(*hash, values);
                    }
                    self.found(entry, mark);
                    continue;
                }
                // Nobody may take a file for deleted because it could not be read.
                Reading::Failed(error) if self.base.get(&path).is_none() => {
                    self.skip(root, &path, &format!("cannot be read: {error}"));
                }
                Reading::Failed(error) => {
                    let why = format!("cannot be read, its last version stays: {error}");
                    self.skip(root, &path, &why);
                }
                Reading::Changing => {}
            }
            if let Some((known, mark)) = self.base.get(&path) {
                self.items.push((Arc::clone(known), Mark { ctime_ns: 0, ..mark }));
            }
            self.deferred.push(path);
        }
        Ok(())
    }

    /// An entry; its mark keeps since when it is so, where it is as it was.
    fn found(&mut self, entry: Entry, mut mark: Mark) {
        if let Some(at) = self.base.find(&entry.path)
            && let Some((known, was)) = self.base.at(at)
            && **known == entry
        {
            mark.born = was.born;
            if mark == was {
                return self.keep(at);
            }
        }
        self.items.push((Arc::new(entry), mark));
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

/// The mark of a file that was seen at `now_ns` and hashed after that.
pub(crate) fn mark(seen: &Seen, now_ns: i64) -> Mark {
    // A clock that was set back makes stamps from the future: never believed.
    let settled = now_ns.saturating_sub(seen.ctime_ns) > coarse_ns(seen);
    let ctime_ns = if settled { seen.ctime_ns } else { 0 };
    Mark { ino: seen.ino, ctime_ns, ..Mark::default() }
}

/// The mark of a file that this host has just put in place with a content that it knows, seen at `now_ns`. Its time of modification is
/// the owner's, and mostly older: whoever writes to it gives it another one, also within the stamp of the change that put it there.
pub(crate) fn placed(seen: &Seen, now_ns: i64) -> Mark {
    let older = seen.ctime_ns.saturating_sub(seen.mtime_ns) > coarse_ns(seen);
    if !older {
        return mark(seen, now_ns);
    }
    Mark { ino: seen.ino, ctime_ns: seen.ctime_ns, ..Mark::default() }
}

/// Within so many nanoseconds two changes of a file may have the same stamp.
fn coarse_ns(seen: &Seen) -> i64 {
    let whole_seconds = seen.ctime_ns % 1_000_000_000 == 0;
    if whole_seconds { 1_000_000_000 + COARSE_NS } else { COARSE_NS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_put_in_place_is_known_where_a_change_would_show() {
        let second = 1_000_000_000;
        let seen = |mtime_ns, ctime_ns| Seen {
            what: What::File,
            dev: 1,
            ino: 2,
            size: 3,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns,
            ctime_ns,
        };
        let now = 100 * second + 5_000_000;
        let placed = |mtime_ns, ctime_ns| placed(&seen(mtime_ns, ctime_ns), now).ctime_ns;
        let ctime = now - 1_000_000;
        assert_eq!(placed(now - second, ctime), ctime, "a write would give it another mtime");
        assert_eq!(placed(now - COARSE_NS / 2, ctime), 0, "perhaps the same one");
        assert_eq!(placed(now + second, ctime), 0, "a clock that goes before this one");
        // As anything else once some time has passed.
        assert_eq!(placed(now - COARSE_NS * 2, now - COARSE_NS * 2), now - COARSE_NS * 2);
        // Where there are whole seconds only.
        assert_eq!(placed(99 * second, 100 * second), 0);
        assert_eq!(placed(98 * second, 100 * second), 100 * second);
    }
}
