//! Removes folders of our own that may hold very much: name by name, so that a claim or the end of the set ends it, and in
//! parts where others wait for the same lock.
//!
//! Must never be given a name that is not below an own folder.

use crate::disk::{Dir, What};
use crate::halt::Look;
use crate::path::OWN_FOLDER;
use std::io;
use std::path::Path;

/// Names that one part removes: some 30 ms of a disk that is not slow.
pub(crate) const PART: u64 = 2000;

/// A removal, and how far it may still go.
#[derive(Debug)]
pub(crate) struct Sweep<'h> {
    look: Look<'h>,
    left: u64,
}

impl<'h> Sweep<'h> {
    /// To the end.
    pub(crate) const fn all(look: Look<'h>) -> Self {
        Self { look, left: u64::MAX }
    }

    /// [`PART`] names at most.
    pub(crate) const fn part(look: Look<'h>) -> Self {
        Self { look, left: PART }
    }

    /// Removes what is at `path` with all that is below; nothing there is no error. `false`: the part is over, and something
    /// is left. What tells the age of a folder goes last, so that what is left of it is as old.
    pub(crate) fn remove(&mut self, dir: &Dir, path: &Path) -> io::Result<bool> {
        let Some(seen) = dir.see(path)? else { return Ok(true) };
        let folder = seen.what == What::Folder;
        if folder {
            let below = dir.at(path)?;
            let mut names = below.list()?;
            names.sort_by_key(|name| name == OWN_FOLDER);
            for name in names {
                if !self.remove(&below, name.as_ref())? {
                    return Ok(false);
                }
            }
        }
        self.look.look()?;
        let Some(left) = self.left.checked_sub(1) else { return Ok(false) };
        self.left = left;
        if folder {
            dir.rmdir(path)?
        } else {
            dir.unlink(path)?
        }
        Ok(true)
    }
}
