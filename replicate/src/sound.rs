//! Whether what was staged is on the disk: many small files are brought there while more come, and what may have been lost on the
//! way is never used.
//!
//! A write that failed is told once, to whoever waits for all of it, and the pages that did not arrive read on as if they had. So
//! after the first such error nothing that was staged is believed, whatever its hash: the next attempt begins with an empty stage.

use crate::disk::Dir;
use crate::state::Shared;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// So often, counted in small files, what came is sent to the disk.
const SYNC_EVERY: usize = 2048;

impl Shared {
    /// `synced`, remembered where it went wrong.
    pub(crate) fn sound(&self, synced: io::Result<()>) -> io::Result<()> {
        if synced.is_err() {
            self.unsound.store(true, Ordering::Relaxed);
        }
        synced
    }

    /// Nothing went wrong on the way to the disk so far.
    pub(crate) fn still_sound(&self) -> io::Result<()> {
        if self.unsound.load(Ordering::Relaxed) {
            let text = "what came before could not be brought to the disk: it comes again";
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    /// Another small file is ready in `folder`, one of `count`: from time to time what came is brought to the disk while more comes, so
    /// that little is left to wait for in the end.
    pub(crate) fn made(self: &Arc<Self>, count: usize, folder: &Dir) {
        if !count.is_multiple_of(SYNC_EVERY)
            || self.standby_still().is_err()
            || self.syncing.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let shared = Arc::clone(self);
        // An error is told to each that was opened before, once: this one is not that of the end.
        let folder = folder.at(".");
        let sync = move || {
            // Told with the next file, or by the end.
            let _ = shared.sound(folder.and_then(|folder| folder.sync_all()));
            shared.syncing.store(false, Ordering::Relaxed);
        };
        if thread::Builder::new().name("replica-sync".into()).spawn(sync).is_err() {
            // It is all left for the end.
            self.syncing.store(false, Ordering::Relaxed);
        }
    }
}
