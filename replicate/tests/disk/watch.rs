//! Changes as they happen, on the machine's clock: order and counts, and ten times the time that is expected.

use crate::common::{epoch, rel};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use vipd_core::config::model::Replicate;
use vipd_replicator::clock::Clock;
use vipd_replicator::set::{Scope, Set};
use vipd_replicator::testing;
use vipd_replicator::watch::{Change, Watch};

struct Watched {
    _dir: TempDir,
    root: PathBuf,
    set: Set,
    watch: Option<Watch>,
    due: Receiver<Change>,
    /// Who holds it, holds the watching thread.
    gate: Arc<Mutex<()>>,
}

fn watched(change: impl FnOnce(&mut Replicate)) -> Watched {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("old/deep")).unwrap();
    fs::write(root.join("old/deep/file"), "0").unwrap();
    let config = testing::config(&[&root], change);
    let set = Set::open(config, &dir.path().join("state"), Clock::system()).unwrap();
    set.claim(epoch(1, 1)).unwrap();
    let (send, due) = channel();
    let gate = Arc::new(Mutex::new(()));
    let held = gate.clone();
    let tell = move |change| {
        drop(held.lock());
        drop(send.send(change));
    };
    let watch = Some(Watch::start(&set, tell).unwrap());
    let watched = Watched { _dir: dir, root, set, watch, due, gate };
    assert_eq!(watched.next(), Scope::Everything);
    watched.set.seal(&Scope::Everything).unwrap();
    watched
}

impl Watched {
    fn next(&self) -> Scope {
        match self.due.recv_timeout(Duration::from_secs(20)).unwrap() {
            Change::Due(scope) => scope,
            other @ (Change::Degraded(_) | Change::Whole) => panic!("{other:?}"),
        }
    }

    /// Seals what is due until the tree holds `path` with `content`.
    fn until(&self, path: &str, content: Option<&str>) {
        for _ in 0..50 {
            let scope = self.next();
            self.set.seal(&scope).unwrap();
            let offer = self.set.source().offer().unwrap();
            let found = offer.manifest.get(&rel(path)).map(|entry| entry.kind.clone());
            let wanted = content.map(|content| vipd_replicator::manifest::Kind::File {
                size: content.len() as u64,
                hash: *blake3::hash(content.as_bytes()).as_bytes(),
            });
            if found == wanted {
                return;
            }
        }
        panic!("{path} never came");
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn changes_are_told_where_they_are_and_the_gauge_runs_at_once() {
    let watched = watched(|c| {
        c.debounce = vipd_core::time::Duration::from_millis(300);
        c.max_delay = vipd_core::time::Duration::from_millis(3000);
        c.scan_interval = vipd_core::time::Duration::from_millis(3_600_000);
        c.exclude = vec!["*.tmp".into(), "skip".into()];
    });
    watched.set.source().acknowledged("b", watched.set.position(), watched.set.root());
    assert_eq!(watched.set.report().rpo_ms, Some(0));
    watched.write("old/deep/x.tmp", "no matter");
    watched.write("skip/x", "no matter");
    watched.write("old/deep/file", "1");
    // Long before the scan is due.
    std::thread::sleep(Duration::from_millis(100));
    assert!(watched.set.report().rpo_ms.unwrap() > 0);
    let Scope::Places(places) = watched.next() else { panic!("a full scan for one file") };
    let paths: Vec<_> = places.iter().map(|place| place.path.to_string()).collect();
    assert_eq!(paths, ["old/deep/file"]);
    // Many changes of one file are few scans.
    for number in 0..20 {
        watched.write("old/deep/file", &number.to_string());
    }
    let mut scans = 0;
    while watched.due.recv_timeout(Duration::from_millis(1500)).is_ok() {
        scans += 1;
    }
    assert!((1..20).contains(&scans), "{scans} scans for 20 changes");
}

#[test]
fn new_folders_are_watched_before_anything_in_them_can_be_missed() {
    let watched = watched(|c| {
        c.debounce = vipd_core::time::Duration::from_millis(20);
        c.scan_interval = vipd_core::time::Duration::from_millis(3_600_000);
    });
    for number in 0..20 {
        let path = format!("new-{number}/a/b/c/file");
        watched.write(&path, "first");
        watched.until(&path, Some("first"));
        watched.write(&path, "second");
        watched.until(&path, Some("second"));
    }
    // A folder that moves is watched under its new name, one that goes is gone with all in it.
    fs::rename(watched.root.join("new-0"), watched.root.join("moved")).unwrap();
    watched.until("moved/a/b/c/file", Some("second"));
    watched.write("moved/a/b/c/file", "third");
    watched.until("moved/a/b/c/file", Some("third"));
    fs::remove_dir_all(watched.root.join("moved")).unwrap();
    watched.until("moved/a/b/c/file", None);
    let offer = watched.set.source().offer().unwrap();
    assert!(
        offer.manifest.get(&rel("new-0/a")).is_none()
            && offer.manifest.get(&rel("moved")).is_none()
    );
}

#[test]
fn a_writer_that_never_rests_is_scanned_all_the_same() {
    let watched = watched(|c| {
        c.debounce = vipd_core::time::Duration::from_millis(400);
        c.max_delay = vipd_core::time::Duration::from_millis(600);
    });
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(watched.root.join("busy"), "x").unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        for _ in 0..3 {
            assert!(matches!(watched.next(), Scope::Places(_)));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn everything_is_scanned_at_its_interval_and_when_events_were_lost() {
    let watched = watched(|c| {
        c.scan_interval = vipd_core::time::Duration::from_millis(300);
        c.debounce = vipd_core::time::Duration::from_millis(60_000);
        c.max_delay = vipd_core::time::Duration::from_millis(60_000);
    });
    for _ in 0..2 {
        assert_eq!(watched.next(), Scope::Everything);
    }
    drop(watched);
    let queue = Path::new("/proc/sys/fs/inotify/max_queued_events");
    let limit: usize = fs::read_to_string(queue).unwrap().trim().parse().unwrap();
    if limit > 100_000 {
        return crate::common::skipped(format!("a queue of {limit} events takes too long to fill"));
    }
    let watched = self::watched(|c| {
        c.debounce = vipd_core::time::Duration::from_millis(50);
        c.scan_interval = vipd_core::time::Duration::from_millis(36_000_000);
    });
    // The watching thread is held where it tells, so that nobody reads.
    let held = watched.gate.lock().unwrap();
    let files = ["one", "two"].map(|name| watched.root.join(name));
    fs::write(&files[0], "x").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    // Three events each, which do not merge.
    for _ in 0..limit / 4 {
        for file in &files {
            fs::write(file, "x").unwrap();
        }
    }
    drop(held);
    while watched.next() != Scope::Everything {}
    assert!(watched.set.report().errors["watch-overflow"] > 0);
    // And it goes on as before.
    watched.write("later/file", "1");
    watched.until("later/file", Some("1"));
}

#[test]
fn a_watch_ends_when_it_is_dropped() {
    let mut watched = watched(|_| {});
    watched.watch = None;
    watched.write("file", "1");
    assert!(watched.due.recv_timeout(Duration::from_secs(20)).is_err(), "the channel is closed");
}

#[test]
fn no_event_of_a_long_queue_is_dropped() {
    let watched = watched(|c| c.scan_interval = Duration::from_secs(3600));
    let held = watched.gate.lock().unwrap();
    // The watching thread comes to stand in its next word.
    watched.write("first", "1");
    std::thread::sleep(Duration::from_secs(1));
    for number in 0..5_005 {
        watched.write(if number % 2 == 0 { "old/one" } else { "old/two" }, "x");
    }
    watched.write("last", "1");
    drop(held);
    watched.until("last", Some("1"));
}
