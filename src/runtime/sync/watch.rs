//! Changes below folders, and of files, by inotify: with every folder below them, those that come later included.
//!
//! A thread of its own for each hook that watches, because a folder may hang; it ends when nobody listens any more.
//! inotify loses events by design: an overflow is told as a change, and a hook that must not miss one runs by the clock as
//! well. What cannot be watched is told once in the log and tried again.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two looks whether anybody listens, and whether what is missing has come.
const LOOK: u16 = 1000;
/// After a root was lost, so that one that comes and goes costs nothing.
const ANEW: Duration = Duration::from_millis(200);

/// Starts to watch `paths` for the hook `name`; each change is told, and those that nobody took yet are one.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start(name: &str, paths: Vec<PathBuf>) -> io::Result<mpsc::Receiver<()>> {
    let (tell, changes) = mpsc::channel(1);
    let name = name.to_owned();
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || Watcher { name, paths, tell, told: String::new() }.run())?;
    Ok(changes)
}

struct Watcher {
    name: String,
    paths: Vec<PathBuf>,
    tell: mpsc::Sender<()>,
    /// The last complaint.
    told: String,
}

/// What is watched.
struct Trees {
    queue: Inotify,
    /// Folders, and which names in them count; `None`: all.
    watched: HashMap<WatchDescriptor, (PathBuf, Option<Vec<OsString>>)>,
    /// Roots that could not be watched.
    missing: Vec<PathBuf>,
    /// Why not.
    complaint: String,
}

/// What came of reading events.
#[derive(PartialEq, Eq)]
enum News {
    Nothing,
    Changed,
    /// A root is gone, or events are: everything has to be looked at anew.
    Lost,
}

impl Watcher {
    fn run(mut self) {
        while !self.tell.is_closed() {
            match Trees::new(&self.paths) {
                // Whatever happened before is a change.
                Ok(trees) => self.watch(trees),
                Err(error) => self.complain(format!("cannot watch anything: {error}")),
            }
            std::thread::sleep(ANEW);
        }
    }

    /// Until something is lost, or nobody listens.
    fn watch(&mut self, mut trees: Trees) {
        loop {
            self.complain(std::mem::take(&mut trees.complaint));
            // Full: the change before has not been taken yet.
            let _ = self.tell.try_send(());
            loop {
                if self.tell.is_closed() {
                    return;
                }
                match trees.read() {
                    Ok(News::Nothing) if trees.retry() => break,
                    Ok(News::Nothing) => {}
                    Ok(News::Changed) => break,
                    Ok(News::Lost) => return,
                    Err(error) => {
                        self.complain(format!("cannot read changes: {error}"));
                        return;
                    }
                }
            }
        }
    }

    fn complain(&mut self, text: String) {
        if !text.is_empty() && text != self.told {
            tracing::warn!("hook {}: {text}; trying again", self.name);
            self.told = text;
        }
    }
}

impl Trees {
    fn new(paths: &[PathBuf]) -> io::Result<Self> {
        let queue = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let (watched, missing) = (HashMap::new(), paths.to_vec());
        let mut trees = Self { queue, watched, missing, complaint: String::new() };
        trees.retry();
        Ok(trees)
    }

    /// Watches what was missing and is there now; true: something was.
    fn retry(&mut self) -> bool {
        let mut found = false;
        for path in std::mem::take(&mut self.missing) {
            match self.root(&path) {
                Ok(()) => found = true,
                Err(error) => {
                    self.complaint = format!("cannot watch {}: {error}", path.display());
                    self.missing.push(path);
                }
            }
        }
        found
    }

    fn root(&mut self, path: &Path) -> io::Result<()> {
        if fs::metadata(path)?.is_dir() {
            return self.folder(path);
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let watch = self.queue.add_watch(parent, mask())?;
        let (_, only) =
            self.watched.entry(watch).or_insert_with(|| (parent.to_owned(), Some(Vec::new())));
        if let Some(only) = only {
            only.push(name.to_owned());
        }
        Ok(())
    }

    /// The folder and all below it. Links are not followed.
    fn folder(&mut self, path: &Path) -> io::Result<()> {
        let watch = self.queue.add_watch(path, mask() | AddWatchFlags::IN_ONLYDIR)?;
        self.watched.insert(watch, (path.to_owned(), None));
        for entry in fs::read_dir(path)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.below(&entry.path());
            }
        }
        Ok(())
    }

    /// A folder below a root: one that is gone by now has made an event.
    fn below(&mut self, path: &Path) {
        if let Err(error) = self.folder(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.complaint = format!("cannot watch {}: {error}", path.display());
        }
    }

    /// Waits a little for events, and takes all that are there.
    fn read(&mut self) -> io::Result<News> {
        let mut fds = [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(LOOK)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(News::Nothing),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let events = match self.queue.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(News::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        let mut news = News::Nothing;
        for event in &events {
            match self.take(event) {
                News::Lost => return Ok(News::Lost),
                News::Changed => news = News::Changed,
                News::Nothing => {}
            }
        }
        Ok(news)
    }

    fn take(&mut self, event: &InotifyEvent) -> News {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return News::Lost;
        }
        let Some((folder, only)) = self.watched.get(&event.wd) else { return News::Nothing };
        let gone = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_UNMOUNT;
        if event.mask.intersects(gone) {
            return News::Lost;
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            let (folder, _) = (folder.clone(), self.watched.remove(&event.wd));
            // Below a root its parent has told; a root itself has to be found again.
            let whole = |(at, only): &(PathBuf, Option<Vec<OsString>>)| {
                only.is_none() && Some(at.as_path()) == folder.parent()
            };
            let inside = self.watched.values().any(whole);
            return if inside { News::Nothing } else { News::Lost };
        }
        if let Some(only) = only {
            let counts = event.name.as_ref().is_some_and(|name| only.contains(name));
            return if counts { News::Changed } else { News::Nothing };
        }
        let came = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        if event.mask.contains(AddWatchFlags::IN_ISDIR)
            && event.mask.intersects(came)
            && let Some(name) = &event.name
        {
            let path = folder.join(name);
            self.below(&path);
        }
        News::Changed
    }
}

/// What counts as a change. Writes into files that stay open count as well: a log is never closed.
fn mask() -> AddWatchFlags {
    AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_DONT_FOLLOW
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::sys::clock;

    /// Takes what was told until now, and waits for one more.
    fn hears(changes: &mut mpsc::Receiver<()>) -> bool {
        let until = clock::monotonic() + Duration::from_secs(10);
        while clock::monotonic() < until {
            if changes.try_recv().is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn quiet(changes: &mut mpsc::Receiver<()>) {
        std::thread::sleep(Duration::from_millis(300));
        while changes.try_recv().is_ok() {}
    }

    #[test]
    fn every_change_below_is_heard_and_a_root_that_comes_back_too() {
        let room = tempfile::tempdir().unwrap();
        let base = room.path();
        let (tree, file) = (base.join("tree"), base.join("one"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        let mut changes = start("h", vec![tree.clone(), file.clone()]).unwrap();
        assert!(hears(&mut changes), "at the start");
        let steps: [(&str, &dyn Fn()); 9] = [
            ("a file deep below", &|| fs::write(tree.join("a/b/c"), "1").unwrap()),
            ("it changes", &|| fs::write(tree.join("a/b/c"), "2").unwrap()),
            ("a new folder", &|| fs::create_dir(tree.join("new")).unwrap()),
            ("a file in it", &|| fs::write(tree.join("new/file"), "3").unwrap()),
            ("it goes", &|| fs::remove_file(tree.join("new/file")).unwrap()),
            ("a file that was missing", &|| fs::write(&file, "4").unwrap()),
            ("and changes", &|| fs::write(&file, "5").unwrap()),
            ("the root goes", &|| fs::remove_dir_all(&tree).unwrap()),
            ("and comes back", &|| fs::create_dir(&tree).unwrap()),
        ];
        for (what, step) in steps {
            quiet(&mut changes);
            step();
            assert!(hears(&mut changes), "{what}");
        }
        quiet(&mut changes);
        fs::write(base.join("another"), "6").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(changes.try_recv().is_err(), "nobody watches that");
    }
}
