//! Keeps the trash within the number of versions of each file, after a tree was acknowledged: nobody waits for it, and it
//! costs what the tree put aside, not what the trash holds.
//!
//! For that the names in the trash are kept in memory: about as much as the manifest has for the same files. They are read
//! from the disk once, before the first version has to go, and when an operator's verb has changed the trash. Called by the
//! service from time to time; never takes anything from a rescue folder.

use crate::disk::{Dir, What};
use crate::error::Error;
use crate::halt::Look;
use crate::keep::{self, TRASH};
use crate::path::OWN_FOLDER;
use crate::root::Root;
use crate::state::Shared;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The versions in the trash of one root: which folders of the trash have a file of this name, oldest first.
type Versions = HashMap<PathBuf, VecDeque<Arc<OsString>>>;

/// What is in the trash, and what came into it since it was thinned last.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// By root; roots that are not there have not been read.
    known: HashMap<u16, Versions>,
    /// Root, folder of the trash, files.
    fresh: Vec<(u16, String, Vec<PathBuf>)>,
}

/// What [`crate::set::Set::thin`] did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Names of the trash that were looked at on the disk.
    pub looked: u64,
    /// Versions that were removed.
    pub removed: u64,
}

impl Shelf {
    /// A tree has put `files` into the folder `name` of the trash.
    pub(crate) fn put(&mut self, root: u16, name: &str, files: Vec<PathBuf>) {
        if !files.is_empty() {
            self.fresh.push((root, name.to_owned(), files));
        }
    }

    /// The folder `name` of the trash goes, because its time is over.
    pub(crate) fn lose(&mut self, root: u16, name: &OsStr) {
        if let Some(versions) = self.known.get_mut(&root) {
            versions.retain(|_, of_file| {
                of_file.retain(|known| known.as_os_str() != name);
                !of_file.is_empty()
            });
        }
    }

    /// Somebody else than a tree has changed the trash: it is read again.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }
}

impl Shared {
    pub(crate) fn thin(&self) -> Result<Thinned, Error> {
        if self.state().owns {
            // Nothing comes into its trash; and what is acknowledged to it must find nobody at work.
            return Ok(Thinned::default());
        }
        let Some(mut work) = self.idle() else { return Ok(Thinned::default()) };
        self.open_still()?;
        let mut done = Thinned::default();
        if work.shelf.fresh.is_empty() {
            return Ok(done);
        }
        let roots = self.roots()?;
        let fresh = std::mem::take(&mut work.shelf.fresh);
        for root in &roots {
            let of_root = fresh.iter().filter(|(ix, ..)| *ix == root.ix);
            let fresh: Vec<_> = of_root.map(|(_, name, files)| (name, files)).collect();
            let thinned = self.thin_root(root, &fresh, &mut work.shelf.known, &mut done);
            if let Err(error) = thinned {
                // What is there then is read from the disk.
                work.shelf.known.clear();
                return Err(Error::io(&root.path, error));
            }
        }
        Ok(done)
    }

    fn thin_root(
        &self,
        root: &Root,
        fresh: &[(&String, &Vec<PathBuf>)],
        known: &mut HashMap<u16, Versions>,
        done: &mut Thinned,
    ) -> io::Result<()> {
        let trash = match root.own_if_there(&self.config).and_then(|own| own.at(TRASH)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            trash => trash?,
        };
        let most = usize::try_from(self.config.trash_versions).unwrap_or(usize::MAX);
        let over: Vec<PathBuf>;
        let versions = match known.entry(root.ix) {
            std::collections::hash_map::Entry::Occupied(versions) => {
                let versions = versions.into_mut();
                for (name, files) in fresh {
                    let name = Arc::new(OsString::from(name));
                    for file in *files {
                        let of_file = versions.entry(file.clone()).or_default();
                        if of_file.back() != Some(&name) {
                            of_file.push_back(Arc::clone(&name));
                        }
                    }
                }
                over = fresh.iter().flat_map(|(_, files)| files.iter().cloned()).collect();
                versions
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                let versions = place.insert(read(&trash, self.halt.standby(), done)?);
                over = versions.keys().cloned().collect();
                versions
            }
        };
        let mut thinned = BTreeSet::new();
        for file in over {
            self.halt.standby().look()?;
            let Some(of_file) = versions.get_mut(&file) else { continue };
            while of_file.len() > most {
                let Some(name) = of_file.pop_front() else { break };
                done.looked += 1;
                // Gone by age, or somebody's folder by now.
                let at = Path::new(&*name).join(&file);
                if trash.see(&at)?.is_some_and(|seen| seen.what != What::Folder) {
                    trash.unlink(&at)?;
                    done.removed += 1;
                    thinned.insert((name, file.parent().map(Path::to_path_buf)));
                }
            }
        }
        for (name, parent) in thinned {
            remove_empty(&trash, Path::new(&*name), parent.as_deref())?;
        }
        Ok(())
    }
}

/// Everything that is in the trash.
fn read(trash: &Dir, look: Look<'_>, done: &mut Thinned) -> io::Result<Versions> {
    let mut versions = Versions::new();
    let mut names = keep::generations(trash)?;
    names.reverse();
    for name in names {
        let name = Arc::new(name);
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            look.look()?;
            let at = Path::new(&*name).join(&below);
            let folder = match trash.at(&at) {
                // A file among the folders of the trash is nobody's version.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
                folder => folder?,
            };
            for file in folder.list()? {
                if below.as_os_str().is_empty() && file == OWN_FOLDER {
                    continue;
                }
                done.looked += 1;
                let path = below.join(&file);
                match folder.see_here(&file)?.map(|seen| seen.what) {
                    None => {}
                    Some(What::Folder) => waiting.push(path),
                    Some(_) => versions.entry(path).or_default().push_back(Arc::clone(&name)),
                }
            }
        }
    }
    Ok(versions)
}

/// Removes the folder `below` of `top` and those on the way to it as far as they are empty, in the end `top` itself.
fn remove_empty(trash: &Dir, top: &Path, below: Option<&Path>) -> io::Result<()> {
    let mut below = below.filter(|below| !below.as_os_str().is_empty());
    while let Some(path) = below {
        match trash.rmdir(&top.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            done => done?,
        }
        below = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    }
    let dir = match trash.at(top) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        dir => dir?,
    };
    let names = dir.list()?;
    if names.iter().all(|name| name == OWN_FOLDER) {
        trash.remove_tree(top)?;
    }
    Ok(())
}
