//! What becomes of a tree that was interrupted while it was put in place: by a crash, by a disk that failed, by somebody who
//! changed what it needed, or because this host became the owner.
//!
//! A standby finishes it ([`Shared::settle`]): its files are a mirror, and what somebody changed in them is kept aside. An owner
//! never does ([`Shared::relinquish`]): the agent claims without waiting for this process, so a service may have read, written
//! and answered from the files since, and whether it has cannot be proved after the fact, because a file that looks untouched may
//! have been read and its like written elsewhere. What is in place stays, what is not stays old, and the files that had come for
//! the rest are kept in the rescue folder. Only a tree that was exchanged as a whole is complete, and stands.
//!
//! Called when a role is known, and before a tree is taken. Must never remove a content that is nowhere else.

use crate::disk::{Dir, What};
use crate::error::Error;
use crate::intent::Intent;
use crate::keep::{self, Keep, Keeper, RESCUE, Rescued};
use crate::manifest::{Entry, Kind};
use crate::plan::{Act, hash_of};
use crate::ports::Position;
use crate::root::Root;
use crate::set::LogLine;
use crate::stage::ready_name;
use crate::state::{Shared, Work};
use crate::store::{hex, short};
use crate::swap::{self, NEXT};
use rustix::io::Errno;
use std::io;
use std::sync::TryLockError;
use std::time::Duration;

/// Between two looks whether the last one who works has ended.
const LOOK: Duration = Duration::from_millis(5);

impl Shared {
    /// Work that anybody does may go on.
    pub(crate) fn open_still(&self) -> Result<(), Error> {
        self.halt.any().look().map_err(|_| Error::Interrupted)
    }

    /// Work that only a standby does may go on.
    pub(crate) fn standby_still(&self) -> Result<(), Error> {
        self.halt.standby().look().map_err(|_| Error::Interrupted)
    }

    /// Gives the state folder free when nobody works any more; waits at most `limit`.
    pub(crate) fn close(&self, limit: Duration) -> bool {
        self.halt.stop();
        for _ in 0..=limit.as_millis() / LOOK.as_millis() {
            match self.work.try_lock() {
                Ok(mut work) => return work.store.close().is_ok(),
                Err(TryLockError::Poisoned(work)) => {
                    return work.into_inner().store.close().is_ok();
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            }
        }
        false
    }

    /// As a standby: finishes what was interrupted, or, where that cannot be, says so and makes sure that the next tree looks at
    /// every file.
    pub(crate) fn settle(&self, work: &mut Work) -> Result<(), Error> {
        let Some(intent) = Intent::read(work.store.folder())? else {
            self.settled();
            return Ok(());
        };
        let roots = self.roots()?;
        if self.committed(&intent) {
            return self.finish(work, &roots);
        }
        if self.state().tree_position() != intent.based {
            // Its owner may be gone for good: what had come of it is kept.
            self.keep_staged(&roots, &intent)?;
            let why = "it was interrupted, and another tree came since";
            return self.abandon(work, &roots, &intent, why);
        }
        match self.forward(work, &roots, &intent) {
            Ok(()) => {
                self.tell_complete(&intent);
                Ok(())
            }
            Err(error) => {
                self.half_done(work, &roots, &intent, &error);
                // What cannot be finished is no obstacle to the next tree; a full disk is.
                if Intent::read(work.store.folder())?.is_some() { Err(error) } else { Ok(()) }
            }
        }
    }

    /// An interrupted tree cannot be finished because of `error`, and `offered` comes. Where that is another tree, what keeps
    /// the old one from its place may be what its owner has put right since.
    pub(crate) fn supersede(
        &self,
        work: &mut Work,
        offered: Position,
        error: Error,
    ) -> Result<(), Error> {
        let intent = match (&error, Intent::read(work.store.folder())?) {
            (Error::Interrupted, _) | (_, None) => return Err(error),
            (_, Some(intent)) if intent.to == offered => return Err(error),
            (_, Some(intent)) => intent,
        };
        let roots = self.roots()?;
        self.keep_staged(&roots, &intent)?;
        self.abandon(work, &roots, &intent, "it could not be finished, and its owner has another")
    }

    /// As the owner that this host becomes: what is not in place never comes to its place.
    pub(crate) fn relinquish(&self, work: &mut Work) -> Result<(), Error> {
        let Some(intent) = Intent::read(work.store.folder())? else {
            self.settled();
            return Ok(());
        };
        let roots = self.roots()?;
        if self.committed(&intent) {
            return self.finish(work, &roots);
        }
        let based = self.state().tree_position() == intent.based;
        // Complete as it is: only the old tree beside it is still to be cleared.
        let whole = based && roots.iter().all(|root| exchanged(root, &intent));
        if whole {
            match self.forward(work, &roots, &intent) {
                Ok(()) => {
                    self.tell_complete(&intent);
                    return Ok(());
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                // What is left of the old tree is rescued as a whole.
                Err(error) => self.alarm_error("half", &error),
            }
        }
        let done = self.done(&roots, &intent)?;
        let text = format!(
            "[replicate.{}] this host became the owner while tree {}.{} of {} was being put in place: {} of its changes are in \
             place, the others are not and never come, so that nothing replaces what the service writes; look whether the files \
             belong together, then `vipd replica ack {}`",
            self.config.name,
            intent.to.epoch,
            intent.to.generation,
            intent.from,
            done.put + done.gone,
            self.config.name
        );
        let torn = done.put + done.gone > 0;
        if torn {
            // Before the files below go: their number tells how far it was.
            self.update(work, |record| {
                record.suspect = true;
                record.torn.get_or_insert(text);
            })?;
        }
        let kept = self.keep_staged(&roots, &intent)?;
        self.keep_swapped_out(&roots, &intent)?;
        Intent::remove(work.store.folder())?;
        self.settled();
        {
            let mut state = self.state();
            if let Some(text) = state.record.torn.clone() {
                state.alarm("torn", text);
            }
        }
        let line = LogLine {
            at_s: self.clock.wall_s(),
            position: (intent.to.epoch.number, intent.to.epoch.host, intent.to.generation),
            root: short(&intent.root),
            from: Some(intent.from.clone()),
            put: done.put,
            gone: done.gone,
            bytes: 0,
            rescued: kept,
            unfinished: true,
        };
        self.log(work, &line);
        self.count_rescued();
        self.clean(&roots, self.halt.any())
    }

    /// A step failed. A disk that is full, broken or gone: tried again later, as what was asked to end. Anything else was
    /// changed by somebody, and stays as it is: the next tree looks at every file.
    pub(crate) fn half_done(
        &self,
        work: &mut Work,
        roots: &[Root],
        intent: &Intent,
        error: &Error,
    ) {
        self.state().unsettled = true;
        let later = match error {
            Error::Interrupted => return,
            Error::Io { source, .. } => {
                let errno = source.raw_os_error();
                [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO, Errno::PERM, Errno::ACCESS]
                    .iter()
                    .any(|known| errno == Some(known.raw_os_error()))
                    || errno.is_none() && source.kind() != io::ErrorKind::NotFound
            }
            _ => true,
        };
        let text = format!("[replicate.{}] a tree is in place in part: {error}", self.config.name);
        self.state().alarm("half", text);
        let why = "somebody changed what it needed";
        if !later && let Err(error) = self.abandon(work, roots, intent, why) {
            self.alarm_error("record", &error);
        }
    }

    fn abandon(
        &self,
        work: &mut Work,
        roots: &[Root],
        intent: &Intent,
        why: &str,
    ) -> Result<(), Error> {
        self.keep_swapped_out(roots, intent)?;
        self.update(work, |record| record.suspect = true)?;
        Intent::remove(work.store.folder())?;
        self.settled();
        let text = format!(
            "[replicate.{}] a tree could not be put in place as a whole ({why}); the next one compares every file",
            self.config.name
        );
        self.state().alarm("half", text);
        Ok(())
    }

    /// It became true before it was interrupted. A tree that was offered anew, to repair what somebody changed here, has the
    /// position and the hash of the one before: of that nothing tells, and it is gone through once more.
    fn committed(&self, intent: &Intent) -> bool {
        let state = self.state();
        let there = state.record.position == intent.to && state.root == intent.root;
        there && intent.to != intent.based
    }

    /// What is left of a tree that is in place.
    fn finish(&self, work: &Work, roots: &[Root]) -> Result<(), Error> {
        Intent::remove(work.store.folder())?;
        self.settled();
        self.clean(roots, self.halt.any())
    }

    fn settled(&self) {
        let mut state = self.state();
        state.unsettled = false;
        state.clear("open");
    }

    fn tell_complete(&self, intent: &Intent) {
        let text = format!(
            "[replicate.{}] a tree that was interrupted while it was put in place is complete: {}.{}",
            self.config.name, intent.to.epoch, intent.to.generation
        );
        self.state().notice(text, false);
    }

    /// How much of a tree is in place; what a service changed since may count as well.
    fn done(&self, roots: &[Root], intent: &Intent) -> Result<Done, Error> {
        let mut done = Done::default();
        for root in roots {
            let mut count = || {
                let own = root.own(&self.config)?;
                let all = exchanged(root, intent);
                for act in intent.acts.iter().filter(|act| act.path().root() == root.ix) {
                    match act {
                        Act::Place { number, .. } => {
                            let placed = all || own.see(ready_name(*number))?.is_none();
                            done.put += u64::from(placed);
                        }
                        Act::Aside { path, expect, .. } => {
                            let there = root.dir.see(path.as_path())?;
                            let still = there.is_some_and(|seen| {
                                expect.is_none_or(|expect| expect.meets(&seen))
                            });
                            done.gone += u64::from(all || !still);
                        }
                        Act::Rmdir { .. } | Act::Folder { .. } | Act::Adjust { .. } => {}
                    }
                }
                io::Result::Ok(())
            };
            count().map_err(|error| Error::io(&root.path, error))?;
        }
        Ok(done)
    }

    /// Files that are ready and not in place go to the rescue folder, under the name of their tree, listed.
    fn keep_staged(&self, roots: &[Root], intent: &Intent) -> Result<u64, Error> {
        let mut kept = 0;
        for root in roots.iter().filter(|root| !exchanged(root, intent)) {
            let keep = || {
                let own = root.own(&self.config)?;
                let mut ready: Vec<(u32, &Entry)> = Vec::new();
                for act in intent.acts.iter().filter(|act| act.path().root() == root.ix) {
                    if let Act::Place { number, entry, .. } = act
                        && own.see(ready_name(*number))?.is_some()
                    {
                        ready.push((*number, entry));
                    }
                }
                if ready.is_empty() {
                    return Ok(0);
                }
                let name = keep::rescue_name(intent.to, self.clock.wall_s());
                let rescue = unused(std::slice::from_ref(&own), RESCUE, name);
                let keeper = Keeper { root, own: &own, trash: "", rescue: &rescue };
                let lines: Vec<_> = ready.iter().map(|(_, entry)| line(entry, intent)).collect();
                keeper.list(&lines)?;
                for (number, entry) in &ready {
                    keeper.bring(&ready_name(*number), entry.path.as_path())?;
                }
                own.sync_all()?;
                io::Result::Ok(ready.len() as u64)
            };
            kept += keep().map_err(|error| Error::io(&root.path, error))?;
        }
        Ok(kept)
    }

    /// What is in a tree that was swapped out, and in no other place, goes to the rescue folder before that tree is removed.
    fn keep_swapped_out(&self, roots: &[Root], intent: &Intent) -> Result<(), Error> {
        for root in roots {
            let Some((_, ino)) = intent.swap.iter().find(|(ix, _)| *ix == root.ix) else {
                continue;
            };
            let keep = || {
                let own = root.own(&self.config)?;
                match own.see(NEXT)? {
                    // As it was built: it never was the root.
                    Some(seen) if seen.ino == *ino => return own.remove_tree(NEXT.as_ref()),
                    Some(seen) if seen.what == What::Folder => {}
                    _ => return Ok(()),
                }
                let old = own.at(NEXT)?;
                let keeper =
                    Keeper { root, own: &own, trash: &intent.trash, rescue: &intent.rescue };
                swap::strays(&old, root, |path, seen| {
                    keeper.list_late(path, seen)?;
                    keeper.aside((&old, path.as_path()), Keep::Rescue, path.as_path())
                })?;
                own.sync_all()?;
                own.remove_tree(NEXT.as_ref())
            };
            keep().map_err(|error| Error::io(&root.path, error))?;
        }
        Ok(())
    }
}

/// What of a tree is in place: files that were put, and names that are gone.
#[derive(Default)]
struct Done {
    put: u64,
    gone: u64,
}

/// The root is the tree that `intent` swaps in.
fn exchanged(root: &Root, intent: &Intent) -> bool {
    let ino = intent.swap.iter().find(|(ix, _)| *ix == root.ix).map(|(_, ino)| *ino);
    // By its name: the root may have been opened before it was swapped.
    let there = Dir::open(&root.path).and_then(|dir| dir.seen());
    ino.is_some() && there.is_ok_and(|seen| Some(seen.ino) == ino)
}

fn line(entry: &Entry, intent: &Intent) -> Rescued {
    let size = match &entry.kind {
        Kind::File { size, .. } => *size,
        Kind::Link { target } => target.len() as u64,
        Kind::Folder => 0,
    };
    Rescued {
        root: entry.path.root(),
        path: entry.path.to_string(),
        size,
        hash: hash_of(entry).map(hex),
        why: format!(
            "of tree {}.{} of {}, which was not in place yet when another tree or this host's ownership came",
            intent.to.epoch, intent.to.generation, intent.from
        ),
    }
}

/// `name`, or one made of it that no folder `kind` of `owns` has yet.
pub(crate) fn unused(owns: &[Dir], kind: &str, name: String) -> String {
    let taken = |name: &str| {
        let at = std::path::Path::new(kind).join(name);
        owns.iter().any(|own| own.see(&at).is_ok_and(|seen| seen.is_some()))
    };
    let mut free = name.clone();
    for number in 1_u64.. {
        if !taken(&free) {
            break;
        }
        free = format!("{name}.{number}");
    }
    free
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_kept_under_one_name_as_file_as_link_and_as_folder_is_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::testing::config(&[dir.path()], |_| {});
        let roots = Root::open_all(&config, &[]).unwrap();
        let own = roots[0].own(&config).unwrap();
        let keeper = Keeper { root: &roots[0], own: &own, trash: "1.1.1", rescue: "x" };
        let aside = |path: &str| {
            keeper.aside((&roots[0].dir, Path::new(path)), Keep::Trash, Path::new(path)).unwrap()
        };
        let (a, kept) = (dir.path().join("a"), dir.path().join(".vipd/trash/1.1.1"));
        std::fs::write(&a, "file").unwrap();
        aside("a");
        std::os::unix::fs::symlink("nowhere", &a).unwrap();
        aside("a");
        std::fs::create_dir(&a).unwrap();
        std::fs::write(a.join("b"), "below").unwrap();
        aside("a/b");
        assert_eq!(std::fs::read_to_string(kept.join("a/b")).unwrap(), "below");
        assert_eq!(std::fs::read_link(kept.join("a~1")).unwrap(), Path::new("nowhere"));
        assert_eq!(std::fs::read_to_string(kept.join("a~2")).unwrap(), "file");
    }
}
