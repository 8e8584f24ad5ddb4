//! A tree in the making, beside the one that is there: contents by their hash, so that what was complete before a
//! transfer was cut off is not sent again.
//!
//! Below the own folder of each root: `stage/c` complete contents, `stage/p` such that are not, `stage/f` files with
//! owner and mode, ready for a rename. Touches nothing outside of the own folders before [`crate::apply`] does.

mod prepare;

use crate::disk::Dir;
use crate::error::Error;
use crate::halt::{Look, halted};
use crate::hashing;
use crate::intent::Intent;
use crate::keep;
use crate::manifest::{Entry, Hash};
use crate::part::{Part, part_name};
use crate::path::RelPath;
use crate::plan::{From, Make, Plan, hash_of};
use crate::ports::{Need, Offer, Position, ReadSeek, Refusal, Stage, StageFile};
use crate::record::Folder;
use crate::settle::unused;
use crate::state::{Shared, Work, some_of};
use crate::store::{hex, unhex};
use crate::take::disk as refusal;
use crate::tree::Tree;
use std::collections::{HashMap, HashSet, hash_map};
use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Below the own folder.
pub(crate) const STAGE: &str = "stage";
/// So many files are brought to the disk one by one; more, with everything else of their file system, which others may be filling.
pub(crate) const SINGLY: usize = 64;

/// What was decided when the offer was taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) plan: Plan,
    /// What is on this host.
    pub(crate) local: Tree,
    pub(crate) offer: Offer,
    pub(crate) from: String,
    /// The tree that it is based on.
    pub(crate) based: Position,
}

/// A set's [`Stage`].
pub(crate) struct SetStage {
    shared: Arc<Shared>,
    owns: Vec<Dir>,
    /// By root.
    places: Vec<Arc<Places>>,
    taken: Taken,
    /// Contents that are still to come, by root and hash: the first entry that has them.
    missing: HashMap<(u16, Hash), u32>,
    /// Files whose content the sender does not have any more.
    left: Vec<RelPath>,
    /// What is ready is meant to come to its place.
    meant: bool,
}

impl Drop for SetStage {
    fn drop(&mut self) {
        // What is only on its way is waited for by the next attempt.
        if !self.meant && self.shared.stage.still().is_err() {
            let _ = self.shared.distrust(&self.owns);
        }
    }
}

/// Contents that came this time: their files have owner, mode and time of the entry that was asked for.
#[derive(Default)]
pub(crate) struct Finished {
    /// Numbers under which files are ready already.
    pub(crate) ready: HashSet<u32>,
    /// Such that are complete. The file of a large one is on its way to the disk: what goes wrong on the way is told to who had
    /// it open since then.
    pub(crate) complete: HashMap<Hash, Option<File>>,
}

/// The folders of the stage of one root.
pub(crate) struct Places {
    /// `c`: complete contents, named by their hash.
    pub(crate) complete: Dir,
    /// `p`: such that are not.
    pub(crate) parts: Dir,
    /// Something is left in it of an earlier attempt.
    pub(crate) left: bool,
    finished: Mutex<Finished>,
    /// `f`: files that are ready to be renamed, named by a number.
    pub(crate) ready: Dir,
}

impl Places {
    pub(crate) fn finished(&self) -> MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn ready_name(number: u32) -> PathBuf {
    Path::new(STAGE).join("f").join(number.to_string())
}

/// The content with this hash is in the stage.
pub(crate) fn complete(own: &Dir, hash: &Hash) -> bool {
    let name = Path::new(STAGE).join("c").join(hex(hash));
    own.see(name).is_ok_and(|seen| seen.is_some())
}

impl SetStage {
    /// Opens the stage; what is of use in it stays, everything else goes.
    pub(crate) fn open(shared: Arc<Shared>, owns: Vec<Dir>, taken: Taken) -> Result<Self, Error> {
        let (missing, left, places) = (HashMap::new(), Vec::new(), Vec::new());
        let mut stage = Self { shared, owns, places, taken, missing, left, meant: false };
        stage.find_missing();
        stage.shared.distrust(&stage.owns)?;
        for at in 0..stage.owns.len() {
            let root = u16::try_from(at).unwrap_or(u16::MAX);
            match stage.resume(root) {
                Ok(places) => stage.places.push(Arc::new(places)),
                Err(error) => {
                    let path = stage.shared.config.paths.get(at).cloned().unwrap_or_default();
                    return Err(Error::io(path, error));
                }
            }
        }
        stage.tell_pending();
        Ok(stage)
    }

    /// Which contents have to come, and which of them for one file only.
    fn find_missing(&mut self) {
        let Taken { plan, offer, .. } = &mut self.taken;
        for at in 0..plan.makes.len() {
            let make = &mut plan.makes[at];
            let entry = offer.manifest.at(make.entry).filter(|_| make.from == From::Staged);
            let Some((entry, hash)) = entry.and_then(|entry| Some((entry, hash_of(entry)?))) else {
                continue;
            };
            match self.missing.entry((entry.path.root(), *hash)) {
                hash_map::Entry::Vacant(place) => {
                    make.alone = true;
                    place.insert(make.entry);
                }
                hash_map::Entry::Occupied(first) => {
                    if let Some(first) = plan.make_of(*first.get()) {
                        first.alone = false;
                    }
                }
            }
        }
    }

    /// Octets of the content of that entry.
    fn size(&self, entry: u32) -> u64 {
        let file = self.taken.offer.manifest.at(entry).and_then(|entry| entry.file());
        file.map_or(0, |(size, _)| size)
    }

    fn tell_pending(&self) {
        let sizes = self.missing.values().map(|entry| self.size(*entry));
        // Only claimed.
        let octets = sizes.fold(0, u64::saturating_add);
        self.shared.state().pending = (self.missing.len() as u64, octets);
    }

    fn own(&self, root: u16) -> io::Result<&Dir> {
        self.owns.get(usize::from(root)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn places(&self, root: u16) -> io::Result<&Arc<Places>> {
        self.places.get(usize::from(root)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Looks through what is left of an earlier attempt. Nothing of it is believed before it was hashed again.
    fn resume(&mut self, root: u16) -> io::Result<Places> {
        let stage = self.own(root)?.make(STAGE)?;
        let [complete, parts, ready] = ["c", "p", "f"].map(|name| stage.make(name));
        let (complete, parts, ready) = (complete?, parts?, ready?);
        let (mut buffer, shared) = (Vec::new(), Arc::clone(&self.shared));
        let look = shared.halt.standby();
        for name in complete.list()? {
            let hash = unhex(name.as_bytes());
            let hash = hash.filter(|hash| self.missing.contains_key(&(root, *hash)));
            let good = match hash {
                Some(hash) => content(complete.file(&name), &mut buffer, look)? == Some(hash),
                None => false,
            };
            match hash.filter(|_| good) {
                Some(hash) => drop(self.missing.remove(&(root, hash))),
                None => {
                    look.look()?;
                    if hash.is_some() {
                        self.shared.state().count("corrupt-stage");
                    }
                    complete.remove_tree(name.as_ref())?;
                }
            }
        }
        // What was made ready and never put in place is content as well.
        for name in ready.list()? {
            let hash = content(ready.file(&name), &mut buffer, look)?;
            match hash.filter(|hash| self.missing.contains_key(&(root, *hash))) {
                Some(hash) => {
                    ready.rename(name.as_ref(), &complete, hex(&hash).as_ref())?;
                    self.missing.remove(&(root, hash));
                }
                None => {
                    look.look()?;
                    ready.remove_tree(name.as_ref())?;
                }
            }
        }
        let mut left = false;
        for name in parts.list()? {
            let hash = name.as_bytes().get(..64).and_then(unhex);
            if !hash.is_some_and(|hash| self.missing.contains_key(&(root, hash))) {
                look.look()?;
                parts.remove_tree(name.as_ref())?;
            } else {
                left = true;
            }
        }
        Ok(Places { complete, parts, left, finished: Mutex::default(), ready })
    }
}

impl Stage for SetStage {
    fn needs(&self) -> Vec<Need> {
        let need = |entry: &u32| Need { entry: *entry, size: self.size(*entry) };
        let mut needs: Vec<_> = self.missing.values().map(need).collect();
        needs.sort_unstable_by_key(|need| need.entry);
        needs
    }

    fn base(&self, entry: &Entry) -> Option<Box<dyn ReadSeek>> {
        let local = self.taken.local.get(&entry.path).filter(|(e, _)| hash_of(e).is_some());
        if local.is_some() {
            let root = self.shared.config.paths.get(usize::from(entry.path.root()))?;
            return Some(Box::new(Dir::open(root).ok()?.file(entry.path.as_path()).ok()?));
        }
        let (places, hash) = (self.places(entry.path.root()).ok()?, hash_of(entry)?);
        let part = |suffix| places.parts.file(part_name(hash, suffix)).ok();
        let file = match (part("part"), part("prev")) {
            (Some(part), Some(prev)) => {
                let size = |file: &File| file.metadata().map_or(0, |m| m.len());
                if size(&part) > size(&prev) { part } else { prev }
            }
            (part, prev) => part.or(prev)?,
        };
        Some(Box::new(file))
    }

    fn look(&self) -> Result<(), Refusal> {
        self.shared.standby_still().map_err(refusal)
    }

    fn create(&mut self, entry: &Entry) -> io::Result<Box<dyn StageFile>> {
        let root = entry.path.root();
        let places = Arc::clone(self.places(root)?);
        let Taken { plan, offer, .. } = &mut self.taken;
        let at = offer.manifest.find(&entry.path).and_then(|at| u32::try_from(at).ok());
        let make = at.and_then(|at| plan.make_of(at)).filter(|make| make.alone);
        let number = make.map(|make| make.number);
        let part = Part::create(self.shared.clone(), places, entry, number)?;
        if let Some(hash) = hash_of(entry) {
            self.missing.remove(&(root, *hash));
        }
        Ok(Box::new(part))
    }

    fn withhold(&mut self, entry: u32) -> Result<(), Refusal> {
        let offered = &self.taken.offer.manifest;
        let Some(entry) = offered.at(entry) else { return Ok(()) };
        let (path, Some(hash)) = (&entry.path, hash_of(entry)) else { return Ok(()) };
        if self.shared.config.atomic {
            return Err(Refusal::Disk(format!(
                "{path} is rotten on the owner, and atomic-set takes all files or none: put it right there"
            )));
        }
        let same = |make: &Make| {
            let staged = make.from == From::Staged;
            let lost = |other: &&Arc<Entry>| {
                staged && other.path.root() == path.root() && hash_of(other) == Some(hash)
            };
            offered.at(make.entry).filter(lost).map(|other| other.path.clone())
        };
        let plan = &mut self.taken.plan;
        let lost: Vec<_> = plan.makes.iter().filter_map(same).collect();
        plan.makes.retain(|make| same(make).is_none());
        plan.acts.retain(|act| !lost.contains(act.path()));
        let of = |path: &RelPath| (path.root(), path.to_string());
        plan.rescued
            .retain(|line| !lost.iter().any(|path| of(path) == (line.root, line.path.clone())));
        self.missing.remove(&(path.root(), *hash));
        self.left.extend(lost);
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), Refusal> {
        let shared = self.shared.clone();
        let mut work = shared.work();
        let done = self.put_in_place(&mut work);
        drop(work);
        if done.is_ok() {
            self.note_left();
        }
        if let Err(Refusal::Disk(text)) = &done {
            let mut state = shared.state();
            state.count("disk");
            state.alarm("disk", format!("[replicate.{}] {text}", shared.config.name));
        }
        done
    }
}

impl SetStage {
    fn put_in_place(&mut self, work: &mut Work) -> Result<(), Refusal> {
        let (shared, offer) = (Arc::clone(&self.shared), self.taken.offer.clone());
        shared.standby_still().map_err(refusal)?;
        {
            let state = shared.state();
            let name = &shared.config.name;
            if state.owns {
                return Err(Refusal::NotHere(format!("this host owns the set {name} itself")));
            }
            if state.record.known > offer.position.epoch {
                return Err(Refusal::StaleEpoch(state.record.known));
            }
            if state.tree_position() != self.taken.based {
                let text = "another tree was taken meanwhile: offer this one again";
                return Err(Refusal::NotHere(text.to_owned()));
            }
        }
        let unchanged = {
            let state = shared.state();
            state.record.position == offer.position
                && state.root == offer.root
                && !state.record.suspect
                && self.taken.plan.acts.is_empty()
        };
        if unchanged {
            return Ok(());
        }
        let roots = shared.roots().map_err(refusal)?;
        let swap = match self.prepare(&roots) {
            Ok(swap) => swap,
            Err(error) => {
                // A claim waits: what is left is looked through by the next attempt, or goes when this host owns.
                // Nor does what may be lost need names.
                if !matches!(error, Error::Interrupted) && shared.stage.still().is_ok() {
                    self.drop_prepared();
                }
                return Err(refusal(error));
            }
        };
        let at_s = shared.clock.wall_s();
        let (standing, lost) = {
            let state = shared.state();
            (state.tree.manifest().clone(), state.tree_position())
        };
        let plan = &mut self.taken.plan;
        let intent = Intent {
            based: self.taken.based,
            to: offer.position,
            lineage: offer.lineage.clone(),
            root: offer.root,
            from: self.taken.from.clone(),
            at_s,
            trash: keep::trash_name(offer.position),
            // A list of what was rescued is written once and never replaced.
            rescue: unused(&self.owns, keep::RESCUE, keep::rescue_name(lost, at_s)),
            delta: standing.delta(&offer.manifest),
            acts: mem::take(&mut plan.acts),
            rescued: mem::take(&mut plan.rescued),
            swap,
        };
        // What was only of use on the way.
        self.missing = HashMap::new();
        for places in &self.places {
            *places.finished() = Finished::default();
        }
        let holed = (!self.left.is_empty()).then_some(offer.position);
        // Known before the tree is in place, whoever finishes it.
        shared.update(work, |record| record.holed = holed).map_err(refusal)?;
        // From here on a claim would find the tree half in place.
        let folder: &Folder = work.store.folder();
        self.meant = true;
        if let Err(error) = shared.standby_still().and_then(|()| intent.write(folder)) {
            // It may be on the disk all the same.
            match Intent::read(folder) {
                Ok(None) => self.drop_prepared(),
                _ => shared.state().unsettled = true,
            }
            return Err(refusal(error));
        }
        // Of no use any more.
        (self.taken.local, self.taken.plan.makes) = Default::default();
        shared.forward(work, &roots, &intent).map_err(|error| {
            shared.half_done(work, &roots, &intent, &error);
            refusal(error)
        })
    }

    /// Says which files it lacks.
    fn note_left(&self) {
        let mut state = self.shared.state();
        state.left.clone_from(&self.left);
        if self.left.is_empty() {
            return state.clear("withheld");
        }
        let text = format!(
            "[replicate.{}] the owner has lost the content of {}: left here as it is",
            self.shared.config.name,
            some_of(&self.left)
        );
        state.count("withheld");
        state.alarm("withheld", text);
    }
}

/// Hash of `file`; `None`: it cannot be read, or is none. An attempt that is over left it: it goes, and is no obstacle.
fn content(
    file: io::Result<File>,
    buffer: &mut Vec<u8>,
    look: Look<'_>,
) -> io::Result<Option<Hash>> {
    match file.and_then(|mut file| hashing::hash(&mut file, buffer, look)) {
        Ok((_, hash)) => Ok(Some(hash)),
        Err(error) if halted(&error) => Err(error),
        Err(_) => Ok(None),
    }
}
