//! Puts a tree in place, step by step, from an intent that is on disk: so whoever reads a file meanwhile sees the old or the
//! new one, and a standby finishes later what a crash interrupts.
//!
//! Called by a stage's commit and by [`crate::settle`]. Every step may be done twice. Must never remove anything that the plan
//! does not name, and begin no step in the root once this host becomes the owner.

use crate::clock;
use crate::disk::{Dir, Near, Seen, What};
use crate::error::Error;
use crate::halt::Look;
use crate::intent::Intent;
use crate::keep::{self, Keep, Keeper};
use crate::manifest::{Entry, Kind};
use crate::meta;
use crate::owner;
use crate::path::RelPath;
use crate::plan::{Act, Expect};
use crate::root::Root;
use crate::scan;
use crate::set::LogLine;
use crate::stage::STAGE;
use crate::state::{Shared, Work};
use crate::store;
use crate::swap;
use crate::sweep::Sweep;
use crate::tree::Mark;
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many folders are brought to the disk one by one; more, with everything else of their file system.
const SINGLY: usize = 32;

/// A root that is being changed.
struct Site<'a> {
    keeper: Keeper<'a>,
    look: Look<'a>,
    config: &'a vipd_core::config::model::Replicate,
    /// What is put, and so may be there already.
    put: HashSet<&'a RelPath>,
    /// Folders in which names changed.
    touched: BTreeSet<PathBuf>,
    near: Near,
    /// Where what goes is moved from: the root, or what was the root before it was swapped.
    old: Dir,
    swapped: bool,
    /// Where what is put is moved from; `None`: nothing is left there.
    ready: Option<Dir>,
}

impl Shared {
    /// Everything from the intent to the commit, and the cleaning after it.
    pub(crate) fn forward(
        &self,
        work: &mut Work,
        roots: &[Root],
        intent: &Intent,
    ) -> Result<(), Error> {
        let mut marks = HashMap::new();
        for root in roots {
            self.forward_root(root, intent, &mut marks)
                .map_err(|(path, error)| Error::io(root.path.join(path), error))?;
        }
        self.commit_tree(work, roots, intent, &marks)?;
        // True from here on: what fails now is litter at worst, and removed with the next tree.
        let look = self.halt.standby();
        let cleaned = Intent::remove(work.store.folder()).and_then(|()| self.clean(roots, look));
        for root in roots {
            let kept = intent.acts.iter().filter(|act| act.trashes(root.ix));
            let kept = kept.map(|act| act.path().as_path().to_path_buf()).collect();
            work.shelf.put(root.ix, &intent.trash, kept);
        }
        if let Err(error) = cleaned {
            self.alarm_error("clean", &error);
        } else {
            self.state().clear("clean");
        }
        if !intent.rescued.is_empty() {
            let octets: u64 = intent.rescued.iter().map(|line| line.size).sum();
            let text = format!(
                "[replicate.{}] divergence: files={} bytes={octets}: what this host had changed is in {}/{}",
                self.config.name,
                intent.rescued.len(),
                keep::RESCUE,
                intent.rescue
            );
            let mut state = self.state();
            state.notice(text, true);
            state.count("diverged-files");
        }
        self.count_rescued();
        Ok(())
    }

    fn forward_root<'i>(
        &self,
        root: &Root,
        intent: &'i Intent,
        marks: &mut HashMap<&'i RelPath, Mark>,
    ) -> Result<(), (PathBuf, io::Error)> {
        let here = |error| (PathBuf::new(), error);
        let own = root.own(&self.config).map_err(here)?;
        let keeper = Keeper { root, own: &own, trash: &intent.trash, rescue: &intent.rescue };
        let begin = || {
            // Contents have another name by now, and a second one would change their ctime later.
            Sweep::all(self.halt.standby()).remove(&own, &Path::new(STAGE).join("c"))?;
            keeper.list(&intent.rescued)?;
            if intent.acts.iter().any(|act| act.trashes(root.ix)) {
                keeper.stamp(intent.at_s)?;
            }
            match intent.swap.iter().find(|(ix, _)| *ix == root.ix) {
                Some((_, ino)) => swap::exchange(root, &own, *ino, self.halt.standby()).map(Some),
                None => Ok(None),
            }
        };
        let swapped = begin().map_err(here)?;
        let ready = match own.at(Path::new(STAGE).join("f")) {
            Ok(ready) => Some(ready),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(here(error)),
        };
        // What is left after an exchange touches the old tree alone, whoever owns.
        let look = if swapped.is_some() { self.halt.any() } else { self.halt.standby() };
        let mut site = Site {
            keeper,
            look,
            config: &self.config,
            put: intent.acts.iter().filter(|act| act.puts()).map(Act::path).collect(),
            touched: BTreeSet::new(),
            near: Near::default(),
            swapped: swapped.is_some(),
            ready,
            old: match swapped {
                Some(old) => old,
                None => root.dir.at(".").map_err(here)?,
            },
        };
        let acts = intent.acts.iter().filter(|act| act.path().root() == root.ix);
        for act in acts {
            site.act(act).map_err(|error| (act.path().as_path().to_path_buf(), error))?;
        }
        site.near.leave(&root.dir).map_err(here)?;
        if site.swapped {
            site.rescue_strays().map_err(here)?;
        }
        site.sync().map_err(here)?;
        // As they are now, with the content that was hashed when it came.
        let dir = if site.swapped { Dir::open(&root.path).map_err(here)? } else { site.old };
        let (now_ns, mut near) = (clock::stamp_ns(), Near::default());
        for act in intent.acts.iter().filter(|act| act.path().root() == root.ix) {
            if let Act::Folder { entry } | Act::Place { entry, .. } | Act::Adjust { entry } = act
                && let Some(seen) = near.see(&dir, entry.path.as_path()).map_err(here)?
                && site_agrees(entry, &seen)
            {
                let mark = match act {
                    Act::Place { .. } => scan::placed(&seen, now_ns),
                    // Its content was looked at when the tree was offered, and the time by which a write since then would
                    // show has just been set: read once more, by the next scan.
                    Act::Adjust { .. } => Mark { ino: seen.ino, ..Mark::default() },
                    _ => scan::mark(&seen, now_ns),
                };
                marks.insert(&entry.path, mark);
            }
        }
        Ok(())
    }

    fn commit_tree(
        &self,
        work: &mut Work,
        roots: &[Root],
        intent: &Intent,
        marks: &HashMap<&RelPath, Mark>,
    ) -> Result<(), Error> {
        let (_, mut record) = self.next_record();
        let standing = self.state().tree.clone();
        let manifest = Arc::new(standing.manifest().with(&intent.delta));
        if manifest.root() != intent.root {
            return Err(Error::Refused(
                "the tree that was put in place has another hash".to_owned(),
            ));
        }
        let next = standing.rebased(manifest, |entry| Mark {
            born: intent.to,
            ..marks.get(&entry.path).copied().unwrap_or_default()
        });
        // Repaired where the entry is the same as before.
        let next = next.refreshed(marks);
        let next = if intent.swap.is_empty() { next } else { swap::restamp(roots, next) };
        record.position = intent.to;
        record.lineage.clone_from(&intent.lineage);
        record.known = record.known.max(intent.to.epoch);
        record.synced = Some(intent.to);
        record.from = Some(intent.from.clone());
        (record.refused, record.torn) = (None, None);
        // With a hole it is not what the owner has, whatever its hash: nobody may say that it is current.
        record.suspect = record.holed.take() == Some(intent.to);
        record.forgot = false;
        record.marks = owner::marked(roots)?;
        work.store.commit(&mut record, &standing, &next)?;
        {
            let mut state = self.state();
            (state.record, state.tree, state.root) = (record, next, intent.root);
            (state.acknowledged, state.pending) = (None, (0, 0));
            state.unsettled = false;
            state.drifted.clear();
            for kind in ["guard", "diverged", "drift", "half", "open", "disk", "torn", "record"] {
                state.clear(kind);
            }
        }
        let bytes = intent.delta.put.iter().map(|entry| match entry.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        });
        let line = LogLine {
            at_s: intent.at_s,
            position: (intent.to.epoch.number, intent.to.epoch.host, intent.to.generation),
            root: store::short(&intent.root),
            from: Some(intent.from.clone()),
            put: intent.delta.put.len() as u64,
            gone: intent.delta.gone.len() as u64,
            bytes: bytes.sum(),
            rescued: intent.rescued.len() as u64,
            unfinished: false,
        };
        self.log(work, &line);
        Ok(())
    }

    /// Removes stages and trees that were swapped out. What `look` leaves is removed with the next tree, or by
    /// [`Shared::prune`] of an owner.
    pub(crate) fn clean(&self, roots: &[Root], look: Look<'_>) -> Result<(), Error> {
        for root in roots {
            let clean = || {
                let own = root.own(&self.config)?;
                let mut sweep = Sweep::all(look);
                sweep.remove(&own, swap::NEXT.as_ref())?;
                sweep.remove(&own, STAGE.as_ref())
            };
            clean().map_err(|error| Error::io(&root.path, error))?;
        }
        Ok(())
    }
}

/// What is there is what was put there: nobody changed it in between.
fn site_agrees(entry: &Entry, seen: &Seen) -> bool {
    match (&entry.kind, seen.what) {
        (Kind::File { size, .. }, What::File) => {
            (*size, entry.mtime_ns) == (seen.size, seen.mtime_ns)
        }
        (Kind::Folder, What::Folder) | (Kind::Link { .. }, What::Link) => true,
        _ => false,
    }
}

impl Act {
    pub(crate) fn path(&self) -> &RelPath {
        match self {
            Self::Aside { path, .. } | Self::Rmdir { path } => path,
            Self::Folder { entry } | Self::Place { entry, .. } | Self::Adjust { entry } => {
                &entry.path
            }
        }
    }

    const fn puts(&self) -> bool {
        matches!(self, Self::Folder { .. } | Self::Place { .. })
    }

    fn trashes(&self, root: u16) -> bool {
        match self {
            Self::Aside { path, keep: Keep::Trash, .. } => path.root() == root,
            Self::Place { entry, keep: Keep::Trash, .. } => entry.path.root() == root,
            _ => false,
        }
    }
}

impl Site<'_> {
    fn root(&self) -> &Dir {
        &self.keeper.root.dir
    }

    fn act(&mut self, act: &Act) -> io::Result<()> {
        self.look.look()?;
        let path = act.path().as_path();
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        if !self.touched.contains(parent) {
            self.touched.insert(parent.to_path_buf());
        }
        match act {
            Act::Aside { path, keep, expect } => self.aside(path, *keep, *expect),
            // With a swap only what is kept counts: the new tree is there as a whole.
            Act::Rmdir { .. } | Act::Folder { .. } | Act::Adjust { .. } if self.swapped => Ok(()),
            Act::Place { entry, keep, expect, .. } if self.swapped => match keep {
                Keep::Nothing if expect.is_none() => Ok(()),
                _ => self.aside(&entry.path, *keep, *expect),
            },
            Act::Rmdir { path } => self.rmdir(path),
            Act::Folder { entry } => self.folder(entry),
            Act::Place { number, entry, keep, expect } => {
                self.place(*number, entry, *keep, *expect)
            }
            Act::Adjust { entry } => self.adjust(entry),
        }
    }

    /// What to do with what is there, which may be other than what was planned for.
    fn judge(
        keeper: &Keeper<'_>,
        path: &RelPath,
        seen: &Seen,
        keep: Keep,
        expect: Option<Expect>,
    ) -> io::Result<Keep> {
        if keep == Keep::Rescue || expect.is_some_and(|expect| expect.meets(seen)) {
            return Ok(keep);
        }
        keeper.list_late(path, seen)?;
        Ok(Keep::Rescue)
    }

    fn aside(&self, path: &RelPath, keep: Keep, expect: Option<Expect>) -> io::Result<()> {
        let Some(seen) = self.old.see(path.as_path())? else { return Ok(()) };
        if !self.swapped
            && self.put.contains(path)
            && !expect.is_some_and(|expect| expect.meets(&seen))
        {
            // It went before, and this is what came in its place; or that step deals with it.
            return Ok(());
        }
        match Self::judge(&self.keeper, path, &seen, keep, expect)? {
            Keep::Nothing => self.old.unlink(path.as_path()),
            keep => self.keeper.aside((&self.old, path.as_path()), keep, path.as_path()),
        }
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        match self.root().rmdir(path.as_path()) {
            // Excluded files live on in it; or it went before, and a file came in its place.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    fn folder(&self, entry: &Entry) -> io::Result<()> {
        let (parent, name) = self.root().parent(entry.path.as_path())?;
        parent.make_here(name)?;
        meta::apply(parent.at(name)?, entry, self.config)
    }

    fn place(
        &mut self,
        number: u32,
        entry: &Entry,
        keep: Keep,
        expect: Option<Expect>,
    ) -> io::Result<()> {
        let number = PathBuf::from(number.to_string());
        let there = match &self.ready {
            // Of another tree, if it has other stamps.
            Some(ready) => {
                ready.see(&number)?.filter(|seen| site_agrees(entry, seen)).map(|_| ready)
            }
            None => None,
        };
        let ready = match there {
            Some(ready) => ready,
            // Done before, or lost: only the former may pass.
            None => {
                let top = &self.keeper.root.dir;
                return match self.near.see(top, entry.path.as_path())? {
                    Some(seen) if site_agrees(entry, &seen) => Ok(()),
                    _ => Err(Errno::NOENT.into()),
                };
            }
        };
        let path = entry.path.as_path();
        self.look.look()?;
        let (holder, name) = self.near.holder(&self.keeper.root.dir, path)?;
        if expect.is_none() {
            // Most likely there is nothing.
            match ready.rename_new(&number, holder, name.as_ref()) {
                Err(error) if is_no_answer(&error) => {}
                done => return done,
            }
        }
        if let Some(seen) = holder.see_here(name)? {
            match Self::judge(&self.keeper, &entry.path, &seen, keep, expect)? {
                Keep::Nothing => {}
                // In the very folder in which it is replaced.
                keep if seen.what == What::Folder => {
                    self.keeper.aside((holder, name.as_ref()), keep, path)?;
                }
                keep => self.keeper.link((holder, name.as_ref()), keep, path, &seen)?,
            }
        }
        self.look.look()?;
        ready.rename(&number, holder, name.as_ref())
    }

    fn adjust(&self, entry: &Entry) -> io::Result<()> {
        meta::apply_at(self.root(), entry.path.as_path(), entry, self.config)
    }

    /// What appeared in a tree while it was swapped out is in no other place.
    fn rescue_strays(&self) -> io::Result<()> {
        swap::strays(&self.old, self.keeper.root, |path, seen| {
            self.keeper.list_late(path, seen)?;
            self.keeper.aside((&self.old, path.as_path()), Keep::Rescue, path.as_path())
        })
    }

    /// All names that changed are on the disk, in the root and aside.
    fn sync(&self) -> io::Result<()> {
        if self.swapped || self.touched.len() > SINGLY {
            return self.keeper.own.sync_all();
        }
        for path in &self.touched {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            match self.root().at(path) {
                Ok(dir) => dir.sync()?,
                // It went itself, or became a file or a link.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        }
        // And where the old versions went, with the folders on the way.
        let own = self.keeper.own;
        for (kind, name) in [(keep::TRASH, self.keeper.trash), (keep::RESCUE, self.keeper.rescue)] {
            let top = Path::new(kind).join(name);
            if own.see(&top)?.is_some() {
                sync_tree(&own.at(&top)?)?;
                own.at(kind)?.sync()?;
            }
        }
        own.sync()
    }
}

/// Something is there, or the file system cannot tell.
fn is_no_answer(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::EXIST | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

fn sync_tree(dir: &Dir) -> io::Result<()> {
    for name in dir.list()? {
        if dir.see_here(&name)?.is_some_and(|seen| seen.what == What::Folder) {
            sync_tree(&dir.at(&name)?)?;
        }
    }
    dir.sync()
}
