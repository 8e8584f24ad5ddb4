//! Between the last content and the first step in the root: every file that is to be put in place is ready under a number, with
//! owner, mode and time, and on the disk.
//!
//! Called when a stage is committed. Touches nothing outside of the own folders.

use super::{Places, SINGLY, STAGE, SetStage};
use crate::disk;
use crate::error::Error;
use crate::manifest::{Entry, Hash, Kind};
use crate::meta;
use crate::part::copy;
use crate::plan::{From, Make, hash_of};
use crate::root::Root;
use crate::sound::{MARK, mark};
use crate::store::hex;
use crate::swap;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl SetStage {
    /// Nothing of it is in place, and nothing says that it is to be. Contents stay for the next attempt.
    pub(super) fn drop_prepared(&self) {
        for make in self.taken.plan.makes.iter().filter(|make| make.from == From::Staged) {
            if let Some(entry) = self.entry(make)
                && let (Some(hash), Ok(places)) = (hash_of(entry), self.places(entry.path.root()))
            {
                // Most are not ready yet; what was being copied is complete there still.
                let name = PathBuf::from(make.number.to_string());
                let _ = places.ready.rename_new(&name, &places.complete, hex(hash).as_ref());
            }
        }
        for own in &self.owns {
            let _ = own.remove_tree(&Path::new(STAGE).join("f"));
            let _ = own.remove_tree(swap::NEXT.as_ref());
        }
    }

    /// Everything that is to be renamed, complete with owner and mode, on the disk. For trees that are swapped the tree itself.
    pub(super) fn prepare(&self, roots: &[Root]) -> Result<Vec<(u16, u64)>, Error> {
        for root in roots {
            let own = self.own(root.ix).map_err(|error| Error::io(&root.path, error))?;
            let makes =
                self.taken.plan.makes.iter().filter(|make| {
                    self.entry(make).is_some_and(|entry| entry.path.root() == root.ix)
                });
            let makes: Vec<_> = makes.collect();
            let singly = makes.len() <= SINGLY;
            let mut uses: HashMap<Hash, usize> = HashMap::new();
            let many = |make: &&&Make| make.from == From::Staged && !make.alone;
            for make in makes.iter().filter(many) {
                if let Some(hash) = self.entry(make).and_then(|entry| hash_of(entry)) {
                    *uses.entry(*hash).or_default() += 1;
                }
            }
            for make in &makes {
                let Some(entry) = self.entry(make) else { continue };
                self.shared.standby_still()?;
                self.make(roots, make, entry, &mut uses, singly)
                    .map_err(|error| Error::io(root.path.join(entry.path.as_path()), error))?;
            }
            let sync = || {
                if !singly {
                    self.shared.stage.judge(own.sync_all(), (own, mark()))?;
                } else if !makes.is_empty() {
                    let ready = own.at(Path::new(STAGE).join("f"))?;
                    self.shared.stage.judge(ready.sync(), (own, mark()))?;
                }
                self.shared.stage.still()
            };
            sync().map_err(|error| Error::io(&root.path, error))?;
        }
        if self.shared.config.atomic {
            return self.shared.build(roots, &self.owns, &self.taken);
        }
        Ok(Vec::new())
    }

    fn entry(&self, make: &Make) -> Option<&Arc<Entry>> {
        self.taken.offer.manifest.at(make.entry)
    }

    fn make(
        &self,
        roots: &[Root],
        make: &Make,
        entry: &Entry,
        uses: &mut HashMap<Hash, usize>,
        singly: bool,
    ) -> io::Result<()> {
        let places = &**self.places(entry.path.root())?;
        let Places { complete, ready, .. } = places;
        let number = PathBuf::from(make.number.to_string());
        let (size, hash) = match &entry.kind {
            Kind::Link { target } => {
                ready.symlink(&number, OsStr::from_bytes(target))?;
                return ready.own_link(&number, entry.uid, entry.gid);
            }
            Kind::Folder => return Ok(()),
            Kind::File { size, hash } => (*size, *hash),
        };
        let mut held = None;
        match &make.from {
            From::Staged => {
                let mut finished = places.finished();
                let made_there = finished.ready.contains(&make.number);
                let came = finished.complete.get_mut(&hash);
                let done = made_there || came.is_some();
                let last = make.alone || {
                    let left = uses.get_mut(&hash).ok_or(io::ErrorKind::NotFound)?;
                    *left -= 1;
                    *left == 0
                };
                if made_there {
                    // And has its name.
                } else if last {
                    // Not by a second name, which would have to go again.
                    complete.rename(Path::new(&hex(&hash)), ready, &number)?;
                    held = came.and_then(Option::take);
                } else {
                    let mut from = complete.file(hex(&hash))?;
                    let look = self.shared.halt.standby();
                    copy(&mut from, ready, &number, (size, &hash), look)?;
                }
                if !singly && done && make.alone {
                    return Ok(());
                }
            }
            From::Local(local) => {
                let path = &local.path;
                let root = roots.get(usize::from(path.root())).ok_or(io::ErrorKind::NotFound)?;
                let look = self.shared.halt.standby();
                let mut from = root.dir.file(path.as_path())?;
                let copied = copy(&mut from, ready, &number, (size, &hash), look);
                if copied.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
                    // Not what it was taken for: the next attempt reads it.
                    self.shared.state().drifted.push(path.clone());
                }
                copied?;
            }
            From::Link => {}
        }
        let file = match held {
            Some(file) => file,
            None => ready.file(&number)?,
        };
        meta::apply(&file, entry, &self.shared.config)?;
        if !singly {
            return Ok(());
        }
        self.shared.stage.judge(disk::sync_file(&file), (ready, MARK))
    }
}
