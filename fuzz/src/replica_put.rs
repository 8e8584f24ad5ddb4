//! A standby with files on a disk, against an owner that says anything whatever: nothing outside of its root changes.
//!
//! Called by the fuzz target, and with the corpus of `replica_receive` by the tests of `vipd-replicate`.

use super::replica::{Script, large, messages, right_roots};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use vipd_core::types::Epoch;
use vipd_replicator::clock::Clock;
use vipd_replicator::net::receive::{self, Notes};
use vipd_replicator::set::{Scope, Set};
use vipd_replicator::testing;

/// A standby that hears this stream and puts what it takes on its disk.
pub fn replica_put(data: &[u8]) {
    let base = tempfile::tempdir().expect("a folder");
    let root = base.path().join("root");
    furnish(base.path(), &root);
    let before = outside(base.path());
    let config = testing::config(&[&root], |config| config.delete_guard = 100);
    let set = Set::open(config, &base.path().join("state"), Clock::system()).expect("a set");
    let epoch = Epoch { number: 1, host: 1 };
    set.claim(epoch).expect("the first ownership");
    set.seal(&Scope::Everything).expect("a tree");
    set.follow(epoch).expect("a standby");
    let mut heard = messages(data);
    right_roots(&mut heard);
    let mut channel = Script { heard: heard.into(), now: Duration::ZERO };
    let mut target = set.target();
    let end = receive::drive(&mut channel, "a", &mut *target, &Notes::default());
    assert!(end.is_err());
    drop((target, set));
    assert_eq!(outside(base.path()), before, "something outside of the root has changed");
}

/// The tree that the streams speak of, what is not to be touched beside it, and links in the root that lead there.
fn furnish(base: &Path, root: &Path) {
    fs::create_dir_all(root.join("a")).expect("a folder");
    fs::create_dir_all(base.join("outside/below")).expect("a folder");
    fs::write(base.join("outside/secret"), "x").expect("a file");
    fs::write(root.join("a/small"), "x").expect("a file");
    fs::write(root.join("large"), large().as_slice()).expect("a file");
    for name in ["a/small", "large", "a"] {
        let path = root.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        let file = fs::File::open(&path).expect("it is there");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
    }
    // Not of the tree: somebody else put them there.
    symlink("../outside", root.join("b")).expect("a link");
    symlink("../outside/secret", root.join("new")).expect("a link");
}

/// Everything outside of the root and the state: path, and what it is.
fn outside(base: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![base.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path == base.join("root") || path == base.join("state") {
                continue;
            }
            let meta = path.symlink_metadata().expect("it is there");
            let content =
                if meta.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
            if meta.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (meta.mode(), meta.ino(), content));
        }
    }
    found
}
