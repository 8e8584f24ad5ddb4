//! Hosts, trees and what they look like.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tempfile::TempDir;
use vipd_core::config::model::Replicate;
use vipd_core::types::Epoch;
use vipd_replicator::clock::Clock;
use vipd_replicator::path::RelPath;
use vipd_replicator::ports::Refusal;
use vipd_replicator::set::{Scope, Sealed, Set};
use vipd_replicator::testing::{self, Transfer};

/// A clock that stands until it is moved.
#[derive(Clone)]
pub(crate) struct Hands(Arc<AtomicI64>, Arc<AtomicU64>);

impl Hands {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_790_000_000)), Arc::new(AtomicU64::new(1_000_000)))
    }
    pub(crate) fn step_wall(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
    pub(crate) fn pass(&self, ms: u64) {
        self.1.fetch_add(ms, Ordering::Relaxed);
    }
    pub(crate) fn now_ms(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }
    pub(crate) fn clock(&self) -> Clock {
        let (wall, steady) = (self.0.clone(), self.1.clone());
        Clock::new(
            move || wall.load(Ordering::Relaxed) * 1_000_000_000,
            move || steady.load(Ordering::Relaxed),
        )
    }
}

/// A host: one root, one state folder, and the set that is open.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) base: PathBuf,
    _dir: Option<TempDir>,
    pub(crate) config: Arc<Replicate>,
    pub(crate) hands: Hands,
    set: Option<Set>,
}

pub(crate) fn epoch(number: u64, host: u8) -> Epoch {
    Epoch { number, host }
}

pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::new(0, path.as_bytes()).unwrap()
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(crate) fn with(name: &str, change: impl FnOnce(&mut Replicate)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Self::at(name, dir.path(), change);
        host._dir = Some(dir);
        host
    }

    /// In a folder that the caller looks after.
    pub(crate) fn at(name: &str, base: &Path, change: impl FnOnce(&mut Replicate)) -> Self {
        fs::create_dir_all(base.join("root")).unwrap();
        let config = testing::config(&[&base.join("root")], change);
        let (name, base) = (name.to_owned(), base.to_path_buf());
        let mut host = Self { name, base, _dir: None, config, hands: Hands::new(), set: None };
        host.reopen();
        host
    }

    pub(crate) fn set(&self) -> &Set {
        self.set.as_ref().unwrap()
    }

    /// As when the replicator is not there.
    pub(crate) fn close(&mut self) {
        self.set = None;
    }

    /// As after a crash or a restart of the replicator; the agent has said nothing yet.
    pub(crate) fn reopen(&mut self) {
        self.close();
        let state = self.base.join("state");
        self.set = Some(Set::open(self.config.clone(), &state, self.hands.clock()).unwrap());
    }

    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(&mut Replicate)) {
        self.config = testing::config(&[&self.base.join("root")], change);
        self.reopen();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.base.join("root").join(path)
    }

    pub(crate) fn own(&self, path: &str) -> PathBuf {
        let own = if self.config.atomic { ".vipd-root" } else { "root/.vipd" };
        self.base.join(own).join(path)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(crate) fn seal(&self) -> Sealed {
        self.set().seal(&Scope::Everything).unwrap()
    }

    pub(crate) fn claim(&self, number: u64, host: u8) {
        self.set().claim(epoch(number, host)).unwrap();
        self.seal();
    }

    pub(crate) fn tree(&self) -> Tree {
        tree(&self.base.join("root"))
    }

    /// Every file in trash or rescue, by what is in it.
    pub(crate) fn kept(&self, kind: &str) -> Vec<(String, Vec<u8>)> {
        let mut kept = Vec::new();
        walk(&self.own(kind), &self.own(kind), &mut |rel, path| {
            if path.is_file() && !rel.ends_with(".vipd") && !path.is_symlink() {
                kept.push((rel.to_owned(), fs::read(path).unwrap()));
            }
        });
        kept
    }

    /// No stage, no tree that was swapped, no intent, no half-written file.
    pub(crate) fn assert_clean(&self) {
        for name in ["stage", "next"] {
            assert!(!self.own(name).exists(), "{}: {name} is left", self.name);
        }
        let state = self.base.join("state/replicate/test");
        for entry in fs::read_dir(state).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = name == "record" || name == "log" || name.starts_with("tree.");
            assert!(known || name == "record.new", "{}: {name} is left", self.name);
        }
    }
}

/// One transfer from `a` to `b`.
pub(crate) fn push(a: &Host, b: &Host) -> Result<Transfer, Refusal> {
    let (mut source, mut target) = (a.set().source(), b.set().target());
    testing::transfer((&a.name, &mut *source), (&b.name, &mut *target))
}

/// Seals and pushes; both have the same tree then.
pub(crate) fn sync(a: &Host, b: &Host) {
    a.seal();
    assert!(matches!(push(a, b).unwrap(), Transfer::Done));
    assert_same(a, b);
}

pub(crate) fn assert_same(a: &Host, b: &Host) {
    let (left, right) = (a.tree(), b.tree());
    for (path, what) in &left {
        assert_eq!(Some(what), right.get(path), "{path} on {} and {}", a.name, b.name);
    }
    for (path, what) in &right {
        // A folder beside is no content: what is excluded may live in it.
        let beside = what.starts_with("folder ");
        assert!(beside || left.contains_key(path), "{path} is on {} only", b.name);
    }
    assert_eq!(a.set().root(), b.set().root());
}

/// Path, and all that counts of what is there.
pub(crate) type Tree = BTreeMap<String, String>;

pub(crate) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    walk(root, root, &mut |rel, path| {
        let meta = path.symlink_metadata().unwrap();
        let owner = format!("{}:{}", meta.uid(), meta.gid());
        let mode = meta.permissions().mode() & 0o7777;
        let what = if meta.is_symlink() {
            format!("link {:?} {owner}", fs::read_link(path).unwrap())
        } else if meta.is_dir() {
            format!("folder {mode:o} {owner}")
        } else if meta.is_file() {
            let hash = blake3::hash(&fs::read(path).unwrap());
            let time = (meta.mtime(), meta.mtime_nsec());
            format!("file {} {hash} {mode:o} {owner} {time:?}", meta.len())
        } else {
            "other".to_owned()
        };
        tree.insert(rel.to_owned(), what);
    });
    tree
}

fn walk(root: &Path, at: &Path, found: &mut impl FnMut(&str, &Path)) {
    let Ok(entries) = fs::read_dir(at) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let rel = path.strip_prefix(root).unwrap();
        if rel.as_os_str().as_bytes() == b".vipd" {
            continue;
        }
        found(&rel.to_string_lossy(), &path);
        if path.is_dir() && !path.is_symlink() {
            walk(root, &path, found);
        }
    }
}

/// So much later that the next change of a file shows in its times.
pub(crate) fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(70));
}

pub(crate) fn skipped(why: impl std::fmt::Display) {
    eprintln!("SKIPPED: {why}");
}
