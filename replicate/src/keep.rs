//! What is kept aside: versions in the trash, bounded; what this host had changed in the rescue folder, never touched again.
//!
//! Both lie in the own folder of each root, so that keeping is a rename or a second name. Must never delete anything in the
//! rescue folder.

use crate::disk::{Dir, Seen, What};
use crate::error::Error;
use crate::path::{OWN_FOLDER, RelPath};
use crate::ports::Position;
use crate::root::Root;
use crate::stage::STAGE;
use crate::state::Shared;
use crate::swap::NEXT;
use crate::sweep::Sweep;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Below the own folder.
pub(crate) const TRASH: &str = "trash";
/// Below the own folder.
pub(crate) const RESCUE: &str = "rescue";
/// In a folder of the rescue folder: one line for each file.
const LIST: &str = "manifest.jsonl";
/// In a folder of the rescue folder: the files.
pub(crate) const FILES: &str = "files";
/// Names that one file may have in a folder of kept ones: `name`, `name~1` ...
const MAX_NAMES: u32 = 1000;

/// What happens to what is replaced or deleted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Trash,
    Rescue,
}

/// A line of the list of a rescue folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rescued {
    /// For the folder that holds the list: which root. Not written.
    #[serde(skip)]
    pub(crate) root: u16,
    /// Below the root; what is no UTF-8 is shown as U+FFFD.
    pub(crate) path: String,
    pub(crate) size: u64,
    /// BLAKE3; left out for links and what was only in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<String>,
    pub(crate) why: String,
}

/// The own folder of a root, and the names of what is kept there this time.
#[derive(Debug)]
pub(crate) struct Keeper<'a> {
    pub(crate) root: &'a Root,
    pub(crate) own: &'a Dir,
    pub(crate) trash: &'a str,
    pub(crate) rescue: &'a str,
}

/// What holds the versions that `position` replaced.
pub(crate) fn trash_name(position: Position) -> String {
    format!("{}.{}", position.epoch, position.generation)
}

/// What holds what this host had changed at `position`, by the wall clock's second.
pub(crate) fn rescue_name(position: Position, at_s: u64) -> String {
    let (day, second) = (at_s / 86_400, at_s % 86_400);
    let (year, month, day) = civil(day);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{}-{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}Z", trash_name(position))
}

/// Year, month and day of a day since 1970 (Gregorian; Howard Hinnant's `civil_from_days`).
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

impl Keeper<'_> {
    /// Where `path` is kept, as a name below the own folder.
    fn place(&self, keep: Keep, path: &Path) -> PathBuf {
        match keep {
            Keep::Rescue => Path::new(RESCUE).join(self.rescue).join(FILES).join(path),
            Keep::Trash | Keep::Nothing => Path::new(TRASH).join(self.trash).join(path),
        }
    }

    /// A second name for what is at `from`, the name `path` of the root, which stays where it is. Done before: no second time.
    pub(crate) fn link(
        &self,
        from: (&Dir, &Path),
        keep: Keep,
        path: &Path,
        seen: &Seen,
    ) -> io::Result<()> {
        self.first_free(keep, path, |to| {
            if self.own.see(to)?.is_some_and(|there| there.ino == seen.ino) {
                return Ok(());
            }
            match from.0.link(from.1, self.own, to) {
                // No second names on this file system, of this file (protected_hardlinks), or no more of them.
                Err(error) if no_links(&error) && seen.what == What::File => self.copy(from, to),
                done => done,
            }
        })
    }

    fn copy(&self, (dir, name): (&Dir, &Path), to: &Path) -> io::Result<()> {
        if self.own.see(to)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut file = dir.file(name)?;
        let mut fresh = to.as_os_str().to_owned();
        fresh.push(".new");
        let mut copy = self.own.create(&fresh)?;
        io::copy(&mut file, &mut copy)?;
        copy.set_modified(file.metadata()?.modified()?)?;
        crate::disk::sync_file(&copy)?;
        self.own.rename_new(fresh.as_ref(), self.own, to)
    }

    /// Moves what is at `from`, the name `path` of the root, aside.
    pub(crate) fn aside(&self, from: (&Dir, &Path), keep: Keep, path: &Path) -> io::Result<()> {
        self.first_free(keep, path, |to| from.0.rename_new(from.1, self.own, to))
    }

    /// Moves `from` of the own folder to where what is rescued of `path` belongs.
    pub(crate) fn bring(&self, from: &Path, path: &Path) -> io::Result<()> {
        self.first_free(Keep::Rescue, path, |to| self.own.rename_new(from, self.own, to))
    }

    /// Makes the folders, and finds a name that is free: a second version in one generation gets a name of its own.
    fn first_free(
        &self,
        keep: Keep,
        path: &Path,
        mut put: impl FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let to = self.place(keep, path);
        if let Some(parent) = to.parent() {
            self.make_way(parent)?;
        }
        for number in 0..MAX_NAMES {
            let mut name = to.clone().into_os_string();
            if number > 0 {
                name.push(format!("~{number}"));
            }
            match put(Path::new(&name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return done,
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is taken", to.display())))
    }

    /// The folder `parent`, with those on the way. What was kept before under the name of one of them gets a free name beside
    /// it: a file may have become a folder, and both are kept.
    fn make_way(&self, parent: &Path) -> io::Result<()> {
        match self.own.make(parent) {
            Err(error) if no_folder(&error) => {}
            made => return made.map(drop),
        }
        let mut way = PathBuf::new();
        for part in parent {
            way.push(part);
            if self.own.see(&way)?.is_some_and(|seen| seen.what != What::Folder) {
                self.give_way(&way)?;
            }
        }
        self.own.make(parent).map(drop)
    }

    fn give_way(&self, name: &Path) -> io::Result<()> {
        for number in 1..MAX_NAMES {
            let mut free = name.as_os_str().to_owned();
            free.push(format!("~{number}"));
            match self.own.rename_new(name, self.own, free.as_ref()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return done,
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is taken", name.display())))
    }

    /// Writes the list of what is rescued in this root; the same again is the same. What was found late the time before stays
    /// in it.
    pub(crate) fn list(&self, rescued: &[Rescued]) -> io::Result<()> {
        let ours = rescued.iter().filter(|line| line.root == self.root.ix);
        let lines: Vec<String> = ours.map(serde_json::to_string).collect::<Result<_, _>>()?;
        if lines.is_empty() {
            return Ok(());
        }
        let folder = self.own.make(Path::new(RESCUE).join(self.rescue))?;
        let mut text = String::new();
        match folder.file(LIST) {
            Ok(mut file) => drop(file.read_to_string(&mut text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let known: HashSet<String> = text.lines().map(str::to_owned).collect();
        for line in lines.into_iter().filter(|line| !known.contains(line)) {
            text.push_str(&line);
            text.push('\n');
        }
        let mut file = folder.create("manifest.new")?;
        file.write_all(text.as_bytes())?;
        crate::disk::sync_file(&file)?;
        folder.rename("manifest.new".as_ref(), &folder, LIST.as_ref())
    }

    /// One more line for something that was found when it was about to be replaced.
    pub(crate) fn list_late(&self, path: &RelPath, seen: &Seen) -> io::Result<()> {
        let line = Rescued {
            root: self.root.ix,
            path: path.to_string(),
            size: seen.size,
            hash: None,
            why: "changed here while the tree was being put in place".to_owned(),
        };
        let folder = self.own.make(Path::new(RESCUE).join(self.rescue))?;
        let mut file = folder.append(LIST)?;
        file.write_all(format!("{}\n", serde_json::to_string(&line)?).as_bytes())?;
        crate::disk::sync_file(&file)
    }

    /// Remembers when the versions of this generation were put aside.
    pub(crate) fn stamp(&self, at_s: u64) -> io::Result<()> {
        stamp(&self.own.make(Path::new(TRASH).join(self.trash))?, at_s)
    }
}

fn stamp(folder: &Dir, at_s: u64) -> io::Result<()> {
    write!(folder.create(OWN_FOLDER)?, "{at_s}")
}

/// A name on the way is no folder.
fn no_folder(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotADirectory
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Second names do not work here.
fn no_links(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::PERM, Errno::OPNOTSUPP, Errno::MLINK, Errno::XDEV, Errno::NOSYS]
        .iter()
        .any(|known| errno == Some(known.raw_os_error()))
}

/// When the versions in a folder of the trash were put aside; `None`: unknown.
pub(crate) fn stamp_of(trash: &Dir, name: &Path) -> Option<u64> {
    let mut text = String::new();
    let file: File = trash.file(name.join(OWN_FOLDER)).ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Folders of the trash, newest first.
pub(crate) fn generations(trash: &Dir) -> io::Result<Vec<OsString>> {
    let number = |name: &OsString| -> Vec<u64> {
        name.to_string_lossy().split('.').map(|n| n.parse().unwrap_or(0)).collect()
    };
    let mut names = trash.list()?;
    names.sort_by_cached_key(|name| std::cmp::Reverse(number(name)));
    Ok(names)
}

/// Files below `path`, and their octets.
pub(crate) fn count(own: &Dir, path: &Path) -> io::Result<(u64, u64)> {
    match own.see(path)? {
        None => Ok((0, 0)),
        Some(seen) if seen.what == What::Folder => {
            let (mut files, mut octets) = (0, 0);
            for name in own.at(path)?.list()? {
                let below = count(own, &path.join(name))?;
                (files, octets) = (files + below.0, octets + below.1);
            }
            Ok((files, octets))
        }
        Some(seen) => Ok((1, seen.size)),
    }
}

/// Files in the rescue folder, without the lists, and all octets of it.
pub(crate) fn rescued(own: &Dir) -> io::Result<(u64, u64)> {
    let folder = match own.at(RESCUE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        folder => folder?,
    };
    let (mut files, mut octets) = (0, 0);
    for name in folder.list()? {
        let (count, size) = count(&folder, &Path::new(&name).join(FILES))?;
        (files, octets) = (files + count, octets + size);
    }
    Ok((files, octets))
}

impl Shared {
    /// Removes from the trash a part of what its time is over for, and of what a claim did not let be cleaned up; `true`: that
    /// was not all.
    pub(crate) fn prune(&self) -> Result<bool, Error> {
        let Some(mut work) = self.idle() else { return Ok(true) };
        let (owns, unsettled) = {
            let state = self.state();
            (state.owns, state.unsettled)
        };
        // Files that are put aside on an owner are nobody's; on a standby a claim must not wait for their end.
        let look = if owns { self.halt.any() } else { self.halt.standby() };
        look.look().map_err(|_| Error::Interrupted)?;
        let (now_s, age_s) =
            (self.clock.wall_s(), self.config.trash_age.as_nanos() / 1_000_000_000);
        let mut sweep = Sweep::part(look);
        for root in self.roots()? {
            let mut prune = || {
                let own = root.own(&self.config)?;
                let litter = if owns && !unsettled { [NEXT, STAGE].as_slice() } else { &[] };
                for name in litter {
                    if !sweep.remove(&own, name.as_ref())? {
                        return Ok(false);
                    }
                }
                let trash = own.make(TRASH)?;
                for name in generations(&trash)? {
                    match stamp_of(&trash, name.as_ref()) {
                        // A stamp from the future, by a clock that was set back, is as new.
                        Some(at_s) if u128::from(now_s.saturating_sub(at_s)) <= age_s => {}
                        Some(_) => {
                            work.shelf.lose(root.ix, &name);
                            if !sweep.remove(&trash, name.as_ref())? {
                                return Ok(false);
                            }
                        }
                        // Cut off by a crash: its time begins now.
                        None => stamp(&trash.at(&name)?, now_s)?,
                    }
                }
                io::Result::Ok(true)
            };
            if !prune().map_err(|error| Error::io(&root.path, error))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts the rescue folders anew: operators empty them by hand.
    pub(crate) fn count_rescued(&self) {
        let marks = self.state().record.marks.clone();
        let Ok(roots) = Root::open_all(&self.config, &marks) else { return };
        let count = |root: &Root| {
            root.own_if_there(&self.config)
                .map_or(0, |own| rescued(&own).map_or(0, |(files, _)| files))
        };
        let files = roots.iter().map(count).sum();
        let mut state = self.state();
        state.rescued = files;
        if files == 0 {
            state.clear("rescued");
        } else {
            let text = format!(
                "[replicate.{}] {files} files of this host that lost against another are in the rescue folder: take what \
                 is needed and empty it",
                self.config.name
            );
            state.alarm("rescued", text);
        }
    }
}
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// As when the process died between the list and the end of the tree, and it is gone through once more.
    #[test]
    fn a_list_that_is_written_twice_has_each_line_once_and_keeps_what_was_found_late() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::testing::config(&[dir.path()], |_| {});
        let roots = Root::open_all(&config, &[]).unwrap();
        let own = roots[0].own(&config).unwrap();
        let keeper = Keeper { root: &roots[0], own: &own, trash: "", rescue: "x" };
        let line = |path: &str, root| Rescued {
            root,
            path: path.to_owned(),
            size: 1,
            hash: None,
            why: "because".to_owned(),
        };
        let lines = [line("a", 0), line("b", 0), line("of another root", 1)];
        keeper.list(&lines).unwrap();
        std::fs::write(dir.path().join("late"), "1").unwrap();
        let seen = roots[0].dir.see("late").unwrap().unwrap();
        keeper.list_late(&RelPath::new(0, b"late").unwrap(), &seen).unwrap();
        keeper.list(&lines).unwrap();
        let text = std::fs::read_to_string(dir.path().join(".vipd/rescue/x/manifest.jsonl"));
        let paths = text
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Rescued>(line).unwrap().path)
            .collect::<Vec<_>>();
        assert_eq!(paths, ["a", "b", "late"]);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_786), (2026, 11, 29));
        assert!(rescue_name(Position::default(), 86_399).ends_with("-19700101T235959Z"));
    }
}
