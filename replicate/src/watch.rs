//! What changes in the roots of a set, as it happens: recursive inotify, debounced.
//!
//! Started by the service for a host that owns; tells [`Set::dirty`] as soon as an event was read, and the service when
//! it is time to scan. Must never be believed to see everything: queues overflow, so full scans remain.

use crate::error::Error;
use crate::path::RelPath;
use crate::set::{Place, Scope, Set};
use crate::state::Shared;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use vipd_core::time::Duration;

/// More names than this, and everything is scanned.
const MAX_PLACES: usize = 10_000;
/// Octets of events that are read at once.
const BUFFER: usize = 64 * 1024;

/// What the service hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Changes have settled, `max_delay` or `scan_interval` is over, or events were lost: [`Set::seal`] now.
    Due(Scope),
    /// Not everything is watched: full scans, each `max_delay` after the last, replace the rest. Why, and the fix.
    Degraded(String),
    /// Everything is watched again.
    Whole,
}

/// A thread that watches; ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the roots of `set`. `tell` is called on the watching thread and must not block for long. The first
    /// [`Change::Due`] comes at once, for everything.
    ///
    /// # Errors
    /// No inotify at all, no thread: out of descriptors or memory.
    pub fn start(set: &Set, tell: impl FnMut(Change) + Send + 'static) -> Result<Self, Error> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| Error::io("inotify", error))?;
        let stop =
            eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| Error::io("eventfd", error))?;
        let stop = Arc::new(stop);
        let watcher = Watcher {
            shared: set.0.clone(),
            queue,
            stop: stop.clone(),
            folders: HashMap::new(),
            pending: Pending::default(),
            last_full_ms: 0,
            degraded: None,
            told: None,
            stale: true,
        };
        let name = format!("watch {}", set.0.config.name);
        let thread = std::thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn(move || watcher.run(tell))
            .map_err(|error| Error::io("thread", error))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Eight octets always fit: nobody else writes.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Changes that no scan was asked for yet.
#[derive(Debug, Default)]
struct Pending {
    /// Names, and whether all below them counts.
    places: HashMap<RelPath, bool>,
    everything: bool,
    /// Of the first and the last of them.
    since_ms: Option<(u64, u64)>,
}

struct Watcher {
    shared: Arc<Shared>,
    queue: OwnedFd,
    stop: Arc<OwnedFd>,
    /// What is watched: root and name below it, empty for the root itself.
    folders: HashMap<i32, (u16, Vec<u8>)>,
    pending: Pending,
    last_full_ms: u64,
    degraded: Option<String>,
    /// What the service knows of that.
    told: Option<String>,
    /// The folders that are watched may not be those that are there: begin anew with the next full scan.
    stale: bool,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Watcher {
    fn run(mut self, mut tell: impl FnMut(Change)) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        self.everything(&mut tell);
        loop {
            let now_ms = self.shared.clock.steady_ms();
            let wait_ms = self.due_ms().saturating_sub(now_ms);
            if wait_ms == 0 {
                self.scan_due(now_ms, &mut tell);
                continue;
            }
            if self.wait(wait_ms) {
                return;
            }
            self.drain(&mut buffer);
        }
    }

    /// Waits for events; true: the end.
    fn wait(&self, wait_ms: u64) -> bool {
        let mut fds =
            [PollFd::new(&self.queue, PollFlags::IN), PollFd::new(&*self.stop, PollFlags::IN)];
        let (seconds, rest) = (wait_ms / 1000, wait_ms % 1000);
        let timeout = Timespec {
            tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(rest * 1_000_000).unwrap_or(0),
        };
        // An interruption is as good as a time-out: the loop looks at the clock.
        let _ = poll(&mut fds, Some(&timeout));
        let [_, stop] = &fds;
        !stop.revents().is_empty()
    }

    /// When the next scan is due.
    fn due_ms(&self) -> u64 {
        let config = &self.shared.config;
        let every = if self.degraded.is_some() { config.max_delay } else { config.scan_interval };
        let full_ms = self.last_full_ms.saturating_add(ms(every).max(1));
        let change_ms = self.pending.since_ms.map_or(u64::MAX, |(first, last)| {
            let quiet = last.saturating_add(ms(config.debounce));
            quiet.min(first.saturating_add(ms(config.max_delay)))
        });
        full_ms.min(change_ms)
    }

    fn scan_due(&mut self, now_ms: u64, tell: &mut impl FnMut(Change)) {
        let config = &self.shared.config;
        let every = if self.degraded.is_some() { config.max_delay } else { config.scan_interval };
        if self.pending.everything || now_ms >= self.last_full_ms.saturating_add(ms(every).max(1)) {
            return self.everything(tell);
        }
        let pending = std::mem::take(&mut self.pending);
        let mut places: Vec<_> =
            pending.places.into_iter().map(|(path, deep)| Place { path, deep }).collect();
        places.sort();
        self.tell_changes(now_ms);
        tell(Change::Due(Scope::Places(places)));
    }

    /// A full scan; what is not watched yet is from here on.
    fn everything(&mut self, tell: &mut impl FnMut(Change)) {
        let now_ms = self.shared.clock.steady_ms();
        (self.pending, self.last_full_ms) = (Pending::default(), now_ms);
        if std::mem::take(&mut self.stale) || self.degraded.is_some() {
            self.degraded = None;
            self.unwatch(|_| true);
            for ix in 0..self.shared.config.paths.len() {
                self.watch(u16::try_from(ix).unwrap_or(u16::MAX), Vec::new());
            }
            if self.degraded != self.told {
                self.told.clone_from(&self.degraded);
                tell(self.degraded.clone().map_or(Change::Whole, Change::Degraded));
            }
        }
        {
            let unsealed = &mut self.shared.state().unsealed;
            unsealed.tell();
            if self.degraded.is_some() {
                // Nobody sees what changes from here on.
                unsealed.hear(now_ms);
            }
        }
        tell(Change::Due(Scope::Everything));
    }

    /// Places are told because something was heard of them.
    fn tell_changes(&self, now_ms: u64) {
        let mut state = self.shared.state();
        state.unsealed.hear(now_ms);
        state.unsealed.tell();
    }

    fn full_path(&self, root: u16, below: &[u8]) -> Option<PathBuf> {
        let root = self.shared.config.paths.get(usize::from(root))?;
        let below = OsStr::from_bytes(below);
        Some(if below.is_empty() { root.clone() } else { root.join(below) })
    }

    /// Watches a folder, then all in it: what appears in between shows as an event or in the list.
    fn watch(&mut self, root: u16, below: Vec<u8>) {
        let mut waiting = vec![below];
        while let Some(below) = waiting.pop() {
            let Some(path) = self.full_path(root, &below) else { return };
            match inotify::add_watch(&self.queue, &path, mask()) {
                Ok(id) => drop(self.folders.insert(id, (root, below.clone()))),
                // Gone again; or a root that is missing, which the scan tells.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    self.stale |= below.is_empty();
                    continue;
                }
                Err(Errno::NOSPC) => {
                    let text = format!(
                        "[replicate.{}] no more folders can be watched (at {}): raise the sysctl \
                         fs.inotify.max_user_watches; until then everything is scanned over and over",
                        self.shared.config.name,
                        path.display()
                    );
                    self.degraded = Some(text);
                    return;
                }
                Err(error) => {
                    let text = format!(
                        "[replicate.{}] {} cannot be watched: {}",
                        self.shared.config.name,
                        path.display(),
                        io::Error::from(error)
                    );
                    self.degraded = Some(text);
                    continue;
                }
            }
            let Ok(entries) = std::fs::read_dir(&path) else { continue };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && let Some(path) = self.named(root, &below, &entry.file_name())
                {
                    waiting.push(path.as_bytes().to_vec());
                }
            }
        }
    }

    /// A name that belongs to the set.
    fn named(&self, root: u16, below: &[u8], name: &OsStr) -> Option<RelPath> {
        let octets = if below.is_empty() {
            name.as_bytes().to_vec()
        } else {
            [below, b"/", name.as_bytes()].concat()
        };
        RelPath::new(root, &octets).ok().filter(|path| !self.shared.rules.excludes(path))
    }

    fn unwatch(&mut self, which: impl Fn(&(u16, Vec<u8>)) -> bool) {
        let queue = &self.queue;
        self.folders.retain(|id, folder| {
            let out = which(folder);
            if out {
                // Gone with its folder already.
                let _ = inotify::remove_watch(queue, *id);
            }
            !out
        });
    }

    /// Reads all events that are there.
    fn drain(&mut self, buffer: &mut [MaybeUninit<u8>]) {
        let mut seen = Vec::new();
        let mut reader = inotify::Reader::new(&self.queue, buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().to_vec());
                    seen.push((event.wd(), event.events(), name));
                }
                Err(Errno::INTR) => {}
                // Nothing more; any other error comes again with the next call.
                Err(_) => break,
            }
            // Never before the buffer is empty: what is left in it is gone with the reader.
            if seen.len() >= MAX_PLACES && reader.is_buffer_empty() {
                break;
            }
        }
        for (id, events, name) in seen {
            self.event(id, events, name.as_deref());
        }
    }

    fn event(&mut self, id: i32, events: ReadFlags, name: Option<&[u8]>) {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            (self.pending.everything, self.stale) = (true, true);
            self.shared.state().count("watch-overflow");
            return self.changed();
        }
        if events.contains(ReadFlags::IGNORED) {
            self.folders.remove(&id);
            return;
        }
        let Some((root, below)) = self.folders.get(&id).cloned() else { return };
        let Some(name) = name else {
            let own = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
            if below.is_empty() && events.intersects(own) {
                (self.pending.everything, self.stale) = (true, true);
                self.changed();
            } else if !below.is_empty()
                && events.contains(ReadFlags::ATTRIB)
                && let Ok(path) = RelPath::new(root, &below)
            {
                self.place(path, false);
            }
            return;
        };
        let Some(path) = self.named(root, &below, OsStr::from_bytes(name)) else { return };
        let folder = events.contains(ReadFlags::ISDIR);
        if folder && events.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE) {
            let (octets, prefix) = (path.as_bytes().to_vec(), [path.as_bytes(), b"/"].concat());
            self.unwatch(|(of, below)| {
                *of == root && (*below == octets || below.starts_with(&prefix))
            });
        }
        let new = folder && events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        if new {
            self.watch(root, path.as_bytes().to_vec());
        }
        let gone = folder && events.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE);
        self.place(path, new || gone);
    }

    fn place(&mut self, path: RelPath, deep: bool) {
        if self.pending.places.len() >= MAX_PLACES {
            self.pending.everything = true;
        } else if !self.pending.everything {
            *self.pending.places.entry(path).or_insert(false) |= deep;
        }
        self.changed();
    }

    fn changed(&mut self) {
        let now_ms = self.shared.clock.steady_ms();
        let first = self.pending.since_ms.map_or(now_ms, |(first, _)| first);
        self.pending.since_ms = Some((first, now_ms));
        self.shared.state().unsealed.hear(now_ms);
    }
}

fn mask() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        | WatchFlags::DONT_FOLLOW
        | WatchFlags::EXCL_UNLINK
}
