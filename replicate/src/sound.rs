//! Whether what was staged is on the disk: many small files are brought there while more come, and what may have been lost on the
//! way is not used.
//!
//! A write that failed is told once, to whoever waits for all of it, and the pages that did not arrive read on as if they had. So
//! after such an error nothing of the stage is believed, whatever its hash: it is removed at once, or before anything else is staged,
//! which a file in it tells the next process as well. Must never be asked to remove what an intent needs.

use crate::disk::Dir;
use crate::error::Error;
use crate::stage::STAGE;
use crate::state::Shared;
use crate::sweep::Sweep;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// So often, counted in small files, what came is sent to the disk.
const SYNC_EVERY: usize = 2048;
/// Between two looks at whether the disk has what it was sent.
const PAUSE: Duration = Duration::from_millis(5);

/// Among the files that are ready: not all that is in the stage may be on the disk.
pub(crate) const MARK: &str = "lost";

/// The same from the own folder.
pub(crate) fn mark() -> PathBuf {
    Path::new(STAGE).join("f").join(MARK)
}

/// What is known of the stage of a set.
#[derive(Debug, Default)]
pub(crate) struct Soundness {
    /// What came is on its way to the disk.
    syncing: AtomicBool,
    /// Something that was staged may not have reached the disk: why.
    lost: Mutex<Option<(io::ErrorKind, String)>>,
}

impl Soundness {
    fn lost(&self) -> MutexGuard<'_, Option<(io::ErrorKind, String)>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `synced`, remembered where it went wrong: here, and by a file at `mark`, if the disk takes one.
    pub(crate) fn judge(
        &self,
        synced: io::Result<()>,
        (folder, mark): (&Dir, impl AsRef<Path>),
    ) -> io::Result<()> {
        if let Err(error) = &synced {
            *self.lost() = Some((error.kind(), error.to_string()));
            let _ = folder.create(mark);
        }
        synced
    }

    /// Nothing went wrong on the way to the disk so far.
    pub(crate) fn still(&self) -> io::Result<()> {
        let lost = self.lost();
        let Some((kind, why)) = &*lost else { return Ok(()) };
        let text =
            format!("what came before could not be brought to the disk ({why}): it comes again");
        Err(io::Error::new(*kind, text))
    }
}

impl Shared {
    /// Another small file is ready in `folder`, one of `count`: from time to time what came is brought to the disk while more comes, so
    /// that little is left to wait for in the end.
    pub(crate) fn made(&self, count: usize, folder: &Dir) {
        let due = count.is_multiple_of(SYNC_EVERY) && self.standby_still().is_ok();
        if !due || self.stage.syncing.swap(true, Ordering::Relaxed) {
            return;
        }
        let stage = Arc::clone(&self.stage);
        // An error is told to each that was opened before, once: this one is not that of the end. What does not begin is left for
        // the end.
        let begun = folder.at(".").and_then(|folder| {
            let sync = move || {
                // Told with the next file, or by the end.
                let _ = stage.judge(folder.sync_all(), (&folder, MARK));
                stage.syncing.store(false, Ordering::Release);
            };
            thread::Builder::new().name("replica-sync".into()).spawn(sync)
        });
        if begun.is_err() {
            self.stage.syncing.store(false, Ordering::Relaxed);
        }
    }

    /// Removes what may be lost from the stages below `owns`, of which nothing is in use.
    pub(crate) fn distrust(&self, owns: &[Dir]) -> Result<(), Error> {
        if self.state().owns {
            // Nothing is staged here any more, and what is left goes by and by.
            return Ok(());
        }
        let look = self.halt.standby();
        let failed = |at: usize, error| {
            Error::io(self.config.paths.get(at).cloned().unwrap_or_default(), error)
        };
        // It may be about to find out.
        while self.stage.syncing.load(Ordering::Acquire) {
            look.look().map_err(|error| failed(0, error))?;
            thread::sleep(PAUSE);
        }
        let marked = |own: &Dir| own.see(mark()).is_ok_and(|seen| seen.is_some());
        if self.stage.still().is_ok() && !owns.iter().any(marked) {
            return Ok(());
        }
        for (at, own) in owns.iter().enumerate() {
            let removed = Sweep::all(look).remove(own, STAGE.as_ref());
            removed.map_err(|error| failed(at, error))?;
        }
        *self.stage.lost() = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::clock::Clock;
    use crate::set::{Scope, Set};
    use vipd_core::types::Epoch;

    fn host(base: &std::path::Path) -> Set {
        let root = base.join("root");
        std::fs::create_dir_all(&root).unwrap();
        let config = crate::testing::config(&[&root], |_| {});
        Set::open(config, &base.join("state"), Clock::system()).unwrap()
    }

    #[test]
    fn after_a_write_that_failed_meanwhile_the_next_file_says_so_and_all_of_it_comes_again() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [a, b] = [0, 1].map(|at: usize| host(dirs[at].path()));
        for name in ["1", "2", "3"] {
            std::fs::write(dirs[0].path().join("root").join(name), name).unwrap();
        }
        a.claim(Epoch { number: 1, host: 1 }).unwrap();
        a.seal(&Scope::Everything).unwrap();
        let offer = a.source().offer().unwrap();
        let mut stage = b.target().take("a", &offer).unwrap();
        let needs = stage.needs();
        assert_eq!(needs.len(), 3);
        let mut bring = |at: usize| {
            let entry = offer.manifest.at(needs[at].entry).unwrap();
            let mut file = stage.create(entry).unwrap();
            file.put(0, entry.path.as_bytes()).unwrap();
            file.finish()
        };
        bring(0).unwrap();
        let own = Dir::open(&dirs[1].path().join("root/.vipd")).unwrap();
        let lost = Err(io::ErrorKind::StorageFull.into());
        b.0.stage.judge(lost, (&own, mark())).unwrap_err();
        let error = bring(1).unwrap_err().to_string();
        assert!(error.contains("no storage space") && error.contains("comes again"), "{error}");
        drop(stage);
        assert!(!dirs[1].path().join("root/.vipd/stage").exists(), "also if this process ends now");
        let stage = b.target().take("a", &offer).unwrap();
        assert_eq!(stage.needs().len(), 3);
        assert!(b.0.stage.still().is_ok());
    }

    #[test]
    fn what_may_be_lost_holds_up_no_claim_and_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let set = host(dir.path());
        let own = dir.path().join("root/.vipd");
        std::fs::create_dir_all(own.join("stage/c/x")).unwrap();
        std::fs::create_dir_all(own.join("stage/f")).unwrap();
        let owns = [Dir::open(&own).unwrap()];
        let lost = Err(io::ErrorKind::StorageFull.into());
        set.0.stage.judge(lost, (&owns[0], mark())).unwrap_err();
        set.announce(true);
        assert!(matches!(set.0.distrust(&owns), Err(Error::Interrupted)));
        assert!(own.join("stage/c/x").exists() && set.0.stage.still().is_err());
        set.announce(false);
        set.0.distrust(&owns).unwrap();
        assert!(!own.join("stage").exists());
        // And by another process.
        std::fs::create_dir_all(own.join("stage/f")).unwrap();
        let lost = Err(io::ErrorKind::StorageFull.into());
        Soundness::default().judge(lost, (&owns[0], mark())).unwrap_err();
        set.0.distrust(&owns).unwrap();
        assert!(!own.join("stage").exists());
    }

    #[test]
    fn what_is_on_its_way_is_waited_for_before_anything_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let set = host(dir.path());
        let own = dir.path().join("root/.vipd");
        std::fs::create_dir_all(own.join("stage/f")).unwrap();
        let owns = [Dir::open(&own).unwrap()];
        // What goes well takes nothing away.
        set.0.made(SYNC_EVERY - 1, &owns[0]);
        assert!(!set.0.stage.syncing.load(Ordering::Acquire), "not yet");
        set.0.made(SYNC_EVERY, &owns[0]);
        set.0.distrust(&owns).unwrap();
        assert!(!set.0.stage.syncing.load(Ordering::Acquire) && own.join("stage/f").exists());
        // One that fails late.
        let (stage, at) = (Arc::clone(&set.0.stage), Dir::open(&own).unwrap());
        stage.syncing.store(true, Ordering::Relaxed);
        let late = thread::spawn(move || {
            thread::sleep(PAUSE * 10);
            stage.judge(Err(io::ErrorKind::StorageFull.into()), (&at, mark())).unwrap_err();
            stage.syncing.store(false, Ordering::Release);
        });
        set.0.distrust(&owns).unwrap();
        assert!(!own.join("stage").exists());
        late.join().unwrap();
    }
}
