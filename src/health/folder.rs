//! Events of one name in a folder, by inotify: a file that appears, changes or goes is looked at once.
//!
//! Used by `file`, `absent` and `pid-file`. Where the kernel gives no watch (limits, no such folder) the interval of
//! the check remains; the watch is tried again at each run.

use crate::sys::Readable;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Watches one name.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    name: OsString,
    /// The queue and its place in the runtime.
    events: Option<(Arc<Inotify>, Readable)>,
    /// The folder is being watched.
    armed: Arc<AtomicBool>,
}

impl Folder {
    /// For the file at `path`, an absolute one.
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.parent().unwrap_or_else(|| Path::new("/")).to_owned(),
            name: path.file_name().unwrap_or_default().to_owned(),
            events: None,
            armed: Arc::default(),
        }
    }

    /// What puts the watch on, where there is none: to be called aside, because the folder may hang.
    pub(super) fn arm(&mut self) -> impl FnOnce() + Send + 'static {
        let queue = if self.is_armed() { None } else { self.queue() };
        let path = self.path.clone();
        let armed = Arc::clone(&self.armed);
        move || {
            if let Some(queue) = queue {
                let what = AddWatchFlags::IN_CLOSE_WRITE
                    | AddWatchFlags::IN_CREATE
                    | AddWatchFlags::IN_DELETE
                    | AddWatchFlags::IN_MOVE
                    | AddWatchFlags::IN_ATTRIB
                    | AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF
                    | AddWatchFlags::IN_ONLYDIR;
                armed.store(queue.add_watch(&path, what).is_ok(), Ordering::Relaxed);
            }
        }
    }

    /// Is the folder being watched?
    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    fn queue(&mut self) -> Option<Arc<Inotify>> {
        if self.events.is_none() {
            let queue = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
            let readable = Readable::new(&queue).ok()?;
            self.events = Some((Arc::new(queue), readable));
        }
        self.events.as_ref().map(|(queue, _)| Arc::clone(queue))
    }

    /// The file may have changed. Never, where nothing is watched.
    pub(super) async fn changed(&mut self) {
        loop {
            let Some((queue, readable)) = &self.events else { return pending().await };
            let read = readable.read(|_| queue.read_events().map_err(io::Error::from)).await;
            let events = match read {
                Ok(events) => events,
                Err(e) if e.raw_os_error() == Some(Errno::EINTR as i32) => continue,
                Err(_) => return pending().await,
            };
            let lost = AddWatchFlags::IN_IGNORED
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_UNMOUNT;
            if events.iter().any(|e| e.mask.intersects(lost)) {
                // A folder of the same name may be another one: begin anew.
                self.events = None;
                // Not the old flag: a job that hangs may still set that.
                self.armed = Arc::default();
                return;
            }
            let ours = |e: &nix::sys::inotify::InotifyEvent| {
                e.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) || e.name.as_ref() == Some(&self.name)
            };
            if events.iter().any(ours) {
                return;
            }
        }
    }
}
