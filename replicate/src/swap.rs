//! Sets with `atomic`: the whole tree is built beside the root, from second names of what stays, and changes places with it
//! at once.
//!
//! Called by a stage (build) and by apply (exchange, and what is left of the old tree). With several roots each is swapped by
//! itself, one after the other.

use crate::disk::{Dir, Seen, What};
use crate::error::Error;
use crate::halt::Look;
use crate::manifest::{Entry, Kind};
use crate::meta;
use crate::path::{OWN_FOLDER, RelPath};
use crate::plan::{Make, hash_of};
use crate::root::{Root, own_beside};
use crate::sound;
use crate::stage::{Taken, ready_name};
use crate::state::Shared;
use crate::tree::{Mark, Tree};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Below the own folder: the tree that is to come, and, after the exchange, the one that was.
pub(crate) const NEXT: &str = "next";

impl Shared {
    /// Builds the next tree of each root; their inodes.
    pub(crate) fn build(
        &self,
        roots: &[Root],
        owns: &[Dir],
        taken: &Taken,
    ) -> Result<Vec<(u16, u64)>, Error> {
        let entries = taken.offer.manifest.entries();
        let makes: HashMap<&RelPath, &Make> = taken
            .plan
            .makes
            .iter()
            .filter_map(|make| Some((&entries.get(make.entry as usize)?.path, make)))
            .collect();
        let mut swap = Vec::new();
        for (root, own) in roots.iter().zip(owns) {
            let ino = self
                .build_root(root, own, taken, &makes)
                .map_err(|error| Error::io(own_beside(&root.path), error))?;
            swap.push((root.ix, ino));
        }
        Ok(swap)
    }

    fn build_root(
        &self,
        root: &Root,
        own: &Dir,
        taken: &Taken,
        makes: &HashMap<&RelPath, &Make>,
    ) -> io::Result<u64> {
        own.remove_tree(NEXT.as_ref())?;
        let next = own.make(NEXT)?;
        // What identifies the root goes with it.
        root.marked()?;
        next.make(OWN_FOLDER)?;
        let id = Path::new(OWN_FOLDER).join("id");
        root.dir.link(&id, &next, &id)?;
        let entries = taken.offer.manifest.entries();
        let here = entries.iter().filter(|entry| entry.path.root() == root.ix);
        for entry in here.clone() {
            self.halt.standby().look()?;
            let path = entry.path.as_path();
            match (&entry.kind, makes.get(&entry.path)) {
                (Kind::Folder, _) => {
                    let (parent, name) = next.parent(path)?;
                    parent.make_here(name)?;
                }
                (_, Some(make)) => own.link(&ready_name(make.number), &next, path)?,
                (Kind::Link { target }, None) => {
                    next.symlink(path, OsStr::from_bytes(target))?;
                    next.own_link(path, entry.uid, entry.gid)?;
                }
                (Kind::File { .. }, None) => root.dir.link(path, &next, path)?,
            }
        }
        self.carry(root, &root.dir, Path::new(""), &next, taken)?;
        for entry in here.filter(|entry| entry.kind == Kind::Folder) {
            meta::apply(next.at(entry.path.as_path())?, entry, &self.config)?;
        }
        meta::like(&root.dir, &next)?;
        self.stage.judge(own.sync_all(), (own, sound::mark()))?;
        Ok(next.seen()?.ino)
    }

    /// What is in the root and no part of the set comes along: excluded files and folders, sockets, FIFOs.
    fn carry(
        &self,
        root: &Root,
        dir: &Dir,
        below: &Path,
        next: &Dir,
        taken: &Taken,
    ) -> io::Result<()> {
        for name in dir.list()? {
            if below.as_os_str().is_empty() && name == OWN_FOLDER {
                continue;
            }
            let path = below.join(&name);
            let Ok(named) = RelPath::new(root.ix, path.as_os_str().as_bytes()) else { continue };
            let Some(seen) = dir.see_here(&name)? else { continue };
            if self.rules.excludes_deep(&named) || matches!(seen.what, What::Other(_)) {
                self.carry_tree(root, &path, &seen, next)?;
            } else if seen.what == What::Folder && taken.local.get(&named).is_some() {
                self.carry(root, &dir.at(&name)?, &path, next, taken)?;
            }
        }
        Ok(())
    }

    fn carry_tree(&self, root: &Root, path: &Path, seen: &Seen, next: &Dir) -> io::Result<()> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // Its folder may be none of the new tree.
            if next.see(parent)?.is_none() {
                next.make(parent)?;
                meta::like(&root.dir.at(parent)?, &next.at(parent)?)?;
            }
        }
        if seen.what != What::Folder {
            return root.dir.link(path, next, path);
        }
        let (parent, name) = next.parent(path)?;
        parent.make_here(name)?;
        let from = root.dir.at(path)?;
        for name in from.list()? {
            if let Some(seen) = from.see_here(&name)? {
                self.carry_tree(root, &path.join(&name), &seen, next)?;
            }
        }
        meta::like(&from, &parent.at(name)?)
    }
}

/// Puts the tree with the inode `ino` in the place of the root, unless it is there already; what was the root.
pub(crate) fn exchange(root: &Root, own: &Dir, ino: u64, look: Look<'_>) -> io::Result<Dir> {
    if root.dir.seen()?.ino != ino {
        let parent = root.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = root.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let next = own.at(NEXT)?;
        if next.seen()?.ino != ino {
            return Err(rustix::io::Errno::NOENT.into());
        }
        let parent = Dir::open_configured(parent)?;
        look.look()?;
        own.exchange(NEXT.as_ref(), &parent, name.as_ref())?;
        parent.sync()?;
        own.sync()?;
    }
    own.at(NEXT)
}

/// What is in the tree that was swapped out and has no second name in the one that is there: nobody planned for it, and it is
/// nowhere else.
pub(crate) fn strays(
    old: &Dir,
    root: &Root,
    mut found: impl FnMut(&RelPath, &Seen) -> io::Result<()>,
) -> io::Result<()> {
    let new = Dir::open(&root.path)?;
    let mut waiting = vec![std::path::PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let dir = if below.as_os_str().is_empty() { old.at(".")? } else { old.at(&below)? };
        for name in dir.list()? {
            if below.as_os_str().is_empty() && name == OWN_FOLDER {
                continue;
            }
            let path = below.join(&name);
            let Some(seen) = dir.see_here(&name)? else { continue };
            if seen.what == What::Folder {
                waiting.push(path);
                continue;
            }
            let Ok(named) = RelPath::new(root.ix, path.as_os_str().as_bytes()) else { continue };
            let there = new.see(&path)?;
            let same = match there {
                // A link that stays is made anew.
                Some(there) if (there.what, seen.what) == (What::Link, What::Link) => {
                    new.link_target(&path)? == old.link_target(&path)?
                }
                there => there.is_some_and(|there| there.ino == seen.ino),
            };
            if !same {
                found(&named, &seen)?;
            }
        }
    }
    Ok(())
}

/// Second names changed the ctime of files that were only linked: they are known to be as they were.
pub(crate) fn restamp(roots: &[Root], tree: Tree) -> Tree {
    let dirs: Vec<_> = roots.iter().map(|root| Dir::open(&root.path).ok()).collect();
    let (known, mut fresh) = (tree.clone(), HashMap::new());
    for (entry, mark) in known.iter().filter(|(entry, _)| hash_of(entry).is_some()) {
        if let Some(mark) = restamped(&dirs, entry, mark) {
            fresh.insert(&entry.path, mark);
        }
    }
    tree.refreshed(&fresh)
}

fn restamped(dirs: &[Option<Dir>], entry: &Entry, mark: Mark) -> Option<Mark> {
    let dir = dirs.get(usize::from(entry.path.root()))?.as_ref()?;
    let seen = dir.see(entry.path.as_path()).ok()??;
    let Kind::File { size, .. } = entry.kind else { return None };
    let same = (mark.ino, size, entry.mtime_ns) == (seen.ino, seen.size, seen.mtime_ns);
    (same && mark.ctime_ns != 0).then_some(Mark { ctime_ns: seen.ctime_ns, ..mark })
}
