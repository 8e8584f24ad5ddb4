//! What lies on the disks of hosts: a writer of numbered records, how many of them are there, and everything else.

use crate::arena::wait;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_core::time::Instant;

/// The file that the writer appends to.
const RECORDS: &str = "records";

/// Appends numbered records to a file, each on the disk before the next, until it is told to stop.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    /// Records on the disk.
    written: Arc<AtomicU64>,
    /// When each was.
    pub(super) times: Arc<Mutex<Vec<Instant>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Goes on after record `from`, one each `pause`.
    pub(super) fn start(folder: &Path, from: u64, pause: Duration) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let written = Arc::new(AtomicU64::new(from));
        let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let mut file =
            OpenOptions::new().create(true).append(true).open(folder.join(RECORDS)).unwrap();
        let thread = std::thread::spawn({
            let (stop, written, times) =
                (Arc::clone(&stop), Arc::clone(&written), Arc::clone(&times));
            move || {
                while !stop.load(Ordering::Acquire) {
                    let number = written.load(Ordering::Acquire) + 1;
                    file.write_all(format!("{number}\n").as_bytes()).unwrap();
                    file.sync_all().unwrap();
                    times.lock().unwrap().push(now());
                    written.store(number, Ordering::Release);
                    wait(pause);
                }
            }
        });
        Self { stop, written, times, thread: Some(thread) }
    }

    /// Quiet from here on; how many records there are.
    pub(super) fn quiesce(&mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.written.load(Ordering::Acquire)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.quiesce();
    }
}

/// Records of a host; they must be in order and without a gap.
pub(super) fn records(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join(RECORDS)).unwrap_or_default();
    let mut last = 0;
    for line in text.lines() {
        assert_eq!(line.parse::<u64>().ok(), Some(last + 1), "record after {last}: {line:?}");
        last += 1;
    }
    assert!(text.is_empty() || text.ends_with('\n'), "half a record after {last}");
    last
}

/// Every file below `folder` with its content.
pub(super) fn find(folder: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(find(&path));
        } else if let Ok(octets) = fs::read(&path) {
            found.push((path, String::from_utf8_lossy(&octets).into_owned()));
        }
    }
    found
}

/// What is below `folder`, but the replicator's own: names with the hash of their contents.
pub(super) fn snapshot(folder: &Path) -> Vec<String> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut lines: Vec<String> = find(folder)
        .into_iter()
        .filter_map(|(path, content)| {
            let name = path.strip_prefix(folder).ok()?.to_owned();
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            let own = name.starts_with(".vipd");
            (!own).then(|| format!("{} {:016x}", name.display(), hasher.finish()))
        })
        .collect();
    lines.sort();
    lines
}
