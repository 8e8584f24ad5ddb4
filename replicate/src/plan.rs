//! From what is on this host to a tree that was offered: which files are needed, what is done in which order, and what
//! becomes of everything that is replaced or deleted.
//!
//! Made when an offer is taken; changes nothing. Must never plan to lose a version that only this host has.

use crate::disk::{Seen, What};
use crate::error::Error;
use crate::keep::{Keep, Rescued};
use crate::manifest::{Entry, Hash, Kind};
use crate::path::RelPath;
use crate::ports::{Offer, Position};
use crate::root::Root;
use crate::store::hex;
use crate::tree::{Mark, Tree};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use vipd_core::config::model::Replicate;

/// Inode, size and time of what a step may replace without another look.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expect {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
}

/// One step of putting a tree in place. Each may be done twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// What is at `path` goes aside; a folder with all that is in it.
    Aside { path: RelPath, keep: Keep, expect: Option<Expect> },
    /// An empty folder goes; one that is not empty stays.
    Rmdir { path: RelPath },
    /// A folder is made, or gets another owner or mode.
    Folder { entry: Arc<Entry> },
    /// A prepared file or link comes to its place; what is there is kept.
    Place { number: u32, entry: Arc<Entry>, keep: Keep, expect: Option<Expect> },
    /// Owner, mode, time, attributes only.
    Adjust { entry: Arc<Entry> },
}

/// Where the content of a prepared file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Over the network.
    Staged,
    /// A file with the same content that this host has already.
    Local(Arc<Entry>),
    /// It is a link.
    Link,
}

/// A file or link to be prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Make {
    /// Its name in the stage.
    pub(crate) number: u32,
    /// Position in the offered manifest; those of a plan are in its order.
    pub(crate) entry: u32,
    pub(crate) from: From,
    /// No other file of its root has the content that comes for it.
    pub(crate) alone: bool,
}

/// Everything that leads from here to the offered tree.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) acts: Vec<Act>,
    pub(crate) makes: Vec<Make>,
    pub(crate) rescued: Vec<Rescued>,
    pub(crate) rescued_bytes: u64,
    /// Files and links that this host shares with the sender and that go: what the guard counts.
    pub(crate) deleted: u64,
}

impl Plan {
    /// What is made for that entry of the offered manifest.
    pub(crate) fn make_of(&mut self, entry: u32) -> Option<&mut Make> {
        let at = self.makes.binary_search_by_key(&entry, |make| make.entry).ok()?;
        self.makes.get_mut(at)
    }
}

/// What there is to decide with.
pub(crate) struct Planner<'a> {
    pub(crate) config: &'a Replicate,
    pub(crate) roots: &'a [Root],
    /// The committed tree.
    pub(crate) standing: &'a Tree,
    /// What is on the disk.
    pub(crate) local: &'a Tree,
    pub(crate) offer: &'a Offer,
    /// Up to here the sender has all that this host has; `None`: nothing is known to be in common.
    pub(crate) fork: Option<Position>,
}

impl Planner<'_> {
    pub(crate) fn plan(&self) -> Result<Plan, Error> {
        let delta = self.local.manifest().delta(&self.offer.manifest);
        let mut plan = Plan::default();
        // Folders that become something else are emptied first, files that become folders go first.
        let turned: HashSet<&RelPath> = delta
            .put
            .iter()
            .filter(|new| {
                self.local.get(&new.path).is_some_and(|(old, _)| {
                    (old.kind == Kind::Folder) != (new.kind == Kind::Folder)
                })
            })
            .map(|new| &new.path)
            .collect();
        let (early, late): (Vec<_>, Vec<_>) =
            delta.gone.iter().partition(|path| ancestors(path).any(|a| turned.contains(&a)));
        self.removals(&mut plan, &early);
        self.turn(&mut plan, &delta.put, &turned)?;
        self.puts(&mut plan, &delta.put, &turned)?;
        self.removals(&mut plan, &late);
        Ok(plan)
    }

    /// Deletes `paths`: files first, then folders, the deepest first.
    fn removals(&self, plan: &mut Plan, paths: &[&RelPath]) {
        let mut folders = Vec::new();
        for path in paths {
            match self.local.get(path) {
                Some((entry, _)) if entry.kind == Kind::Folder => folders.push((*path).clone()),
                Some((entry, mark)) => {
                    let keep = self.keep(plan, entry, true);
                    let (path, expect) = ((*path).clone(), expect(entry, mark));
                    plan.acts.push(Act::Aside { path, keep, expect });
                }
                None => {}
            }
        }
        plan.acts.extend(folders.into_iter().rev().map(|path| Act::Rmdir { path }));
    }

    /// Makes way where a folder becomes a file or the other way round.
    fn turn(
        &self,
        plan: &mut Plan,
        put: &[Arc<Entry>],
        turned: &HashSet<&RelPath>,
    ) -> Result<(), Error> {
        for new in put.iter().filter(|new| turned.contains(&new.path)) {
            let Some((old, mark)) = self.local.get(&new.path) else { continue };
            if old.kind != Kind::Folder {
                let keep = self.keep(plan, old, false);
                let (path, expect) = (old.path.clone(), expect(old, mark));
                plan.acts.push(Act::Aside { path, keep, expect });
                continue;
            }
            let range = self.local.below(&old.path);
            let inside = self.local.manifest().entries().get(range).unwrap_or_default();
            let folders = inside.iter().filter(|e| e.kind == Kind::Folder).map(|e| &e.path);
            for folder in folders.chain([&old.path]) {
                self.left_over(plan, folder)?;
            }
            // Their folders were kept by what was left over in them.
            let inside = inside.iter().rev().filter(|e| e.kind == Kind::Folder);
            plan.acts.extend(inside.map(|e| Act::Rmdir { path: e.path.clone() }));
            plan.acts.push(Act::Rmdir { path: old.path.clone() });
        }
        Ok(())
    }

    /// What is in a folder that must go, though it is no part of the set: excluded files, sockets.
    fn left_over(&self, plan: &mut Plan, folder: &RelPath) -> Result<(), Error> {
        let Some(root) = self.roots.get(usize::from(folder.root())) else { return Ok(()) };
        let io = |error| Error::io(root.path.join(folder.as_path()), error);
        for name in root.dir.at(folder.as_path()).map_err(io)?.list().map_err(io)? {
            let octets = [folder.as_bytes(), b"/", name.as_encoded_bytes()].concat();
            let Ok(path) = RelPath::new(folder.root(), &octets) else { continue };
            if self.local.get(&path).is_none() {
                self.in_the_way(plan, root, &path)?;
            }
        }
        Ok(())
    }

    fn in_the_way(&self, plan: &mut Plan, root: &Root, path: &RelPath) -> Result<(), Error> {
        let io = |error| Error::io(root.path.join(path.as_path()), error);
        let Some(seen) = root.dir.see(path.as_path()).map_err(io)? else { return Ok(()) };
        if seen.dev != root.dev {
            let text = "another file system is mounted where the set has to put something";
            return Err(io(std::io::Error::other(text)));
        }
        plan.rescued.push(Rescued {
            root: path.root(),
            path: path.to_string(),
            size: seen.size,
            hash: None,
            why: "not part of the set, and in the way of something that is".to_owned(),
        });
        plan.rescued_bytes += if seen.what == What::File { seen.size } else { 0 };
        let expect = Some(Expect { ino: seen.ino, size: seen.size, mtime_ns: seen.mtime_ns });
        plan.acts.push(Act::Aside { path: path.clone(), keep: Keep::Rescue, expect });
        Ok(())
    }

    /// Folders, then files and links, then what gets another owner, mode or time only.
    fn puts(
        &self,
        plan: &mut Plan,
        put: &[Arc<Entry>],
        turned: &HashSet<&RelPath>,
    ) -> Result<(), Error> {
        let have = self.contents(put);
        let (mut places, mut adjusts) = (Vec::new(), Vec::new());
        let mut fresh: HashSet<RelPath> = HashSet::new();
        let mut folders = Vec::new();
        for new in put {
            let old = self.local.get(&new.path).filter(|_| !turned.contains(&new.path));
            let in_fresh = parent(&new.path).is_some_and(|parent| fresh.contains(&parent));
            if self.local.get(&new.path).is_none()
                && !in_fresh
                && let Some(root) = self.roots.get(usize::from(new.path.root()))
            {
                self.in_the_way(plan, root, &new.path)?;
            }
            if new.kind == Kind::Folder {
                if old.is_none() {
                    fresh.insert(new.path.clone());
                }
                folders.push(Act::Folder { entry: Arc::clone(new) });
                continue;
            }
            if let Some((old, _)) = old
                && old.kind == new.kind
                && !self.config.atomic
            {
                adjusts.push(Act::Adjust { entry: Arc::clone(new) });
                continue;
            }
            let number = u32::try_from(plan.makes.len()).unwrap_or(u32::MAX);
            let at = self.offer.manifest.find(&new.path);
            let entry = at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX);
            let from = match &new.kind {
                Kind::File { hash, .. } => {
                    have.get(hash).map_or(From::Staged, |local| From::Local(Arc::clone(local)))
                }
                _ => From::Link,
            };
            plan.makes.push(Make { number, entry, from, alone: false });
            let same = old.is_some_and(|(old, _)| old.kind == new.kind);
            let keep = match old {
                Some((old, _)) if !same => self.keep(plan, old, false),
                _ => Keep::Nothing,
            };
            let expect = old.and_then(|(old, mark)| expect(old, mark));
            places.push(Act::Place { number, entry: Arc::clone(new), keep, expect });
        }
        for acts in [folders, places, adjusts] {
            plan.acts.extend(acts);
        }
        Ok(())
    }

    /// Files of this host by content, as far as `put` asks for it.
    fn contents(&self, put: &[Arc<Entry>]) -> HashMap<Hash, Arc<Entry>> {
        let wanted: HashSet<&Hash> = put.iter().filter_map(|entry| hash_of(entry)).collect();
        if wanted.is_empty() {
            return HashMap::new();
        }
        let local = self.local.iter().filter_map(|(entry, _)| {
            hash_of(entry)
                .filter(|hash| wanted.contains(hash))
                .map(|hash| (*hash, Arc::clone(entry)))
        });
        local.collect()
    }

    /// What becomes of `old`, which is replaced or `deleted`.
    fn keep(&self, plan: &mut Plan, old: &Entry, deleted: bool) -> Keep {
        let why = match self.standing.get(&old.path) {
            None => "new here, never sent to another host",
            Some((known, _)) if known.kind != old.kind => {
                "changed here, never sent to another host"
            }
            Some((_, mark)) if mark.born == Position::default() => "never sent to another host",
            Some((_, mark)) if self.fork.is_none_or(|fork| mark.born > fork) => {
                "changed under an ownership that lost"
            }
            Some(_) => {
                plan.deleted += u64::from(deleted);
                return if self.config.trash_versions == 0 { Keep::Nothing } else { Keep::Trash };
            }
        };
        let (size, hash) = match &old.kind {
            Kind::File { size, hash } => (*size, Some(hex(hash))),
            Kind::Link { target } => (target.len() as u64, None),
            Kind::Folder => (0, None),
        };
        plan.rescued_bytes += size;
        plan.rescued.push(Rescued {
            root: old.path.root(),
            path: old.path.to_string(),
            size,
            hash,
            why: why.to_owned(),
        });
        Keep::Rescue
    }
}

/// The folders on the way to `path`.
pub(crate) fn ancestors(path: &RelPath) -> impl Iterator<Item = RelPath> {
    let octets = path.as_bytes();
    let ends = octets.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    ends.filter_map(|end| RelPath::new(path.root(), octets.get(..end)?).ok())
}

/// The folder of `path`, unless that is the root.
pub(crate) fn parent(path: &RelPath) -> Option<RelPath> {
    ancestors(path).last()
}

pub(crate) const fn hash_of(entry: &Entry) -> Option<&Hash> {
    match entry.file() {
        Some((_, hash)) => Some(hash),
        None => None,
    }
}

fn expect(entry: &Entry, mark: Mark) -> Option<Expect> {
    let (size, mtime_ns) = match &entry.kind {
        Kind::File { size, .. } => (*size, entry.mtime_ns),
        Kind::Link { target } => (target.len() as u64, 0),
        Kind::Folder => return None,
    };
    Some(Expect { ino: mark.ino, size, mtime_ns })
}

impl Expect {
    /// `seen` is what was planned for. A second name changes the ctime, so that does not count.
    pub(crate) fn meets(&self, seen: &Seen) -> bool {
        self.ino == seen.ino
            && match seen.what {
                What::File => (self.size, self.mtime_ns) == (seen.size, seen.mtime_ns),
                What::Link | What::Folder | What::Other(_) => true,
            }
    }
}
