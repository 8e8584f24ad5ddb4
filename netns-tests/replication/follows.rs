//! A small file, and everything else that a folder can hold, on every standby soon; and what an operator asks of it.

use super::{elected, plan};
use crate::arena::{FIRST, SECOND};
use std::fs;
use std::path::Path;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::plan::Plan;

pub(super) fn a_file_is_on_the_standby_soon() {
    let arena = elected(Plan { hosts: 3, ..plan("") });
    let owner = arena.files(FIRST);
    let mut worst = Duration::ZERO;
    for n in 0..10 {
        let (name, text) = (format!("file{n}"), format!("content {n}\n"));
        let at = now();
        fs::write(owner.join(&name), &text).unwrap();
        for ix in [SECOND, SECOND + 1] {
            worst = worst.max(arena.wait_content(ix, &name, &text).since(at));
        }
    }
    // Folders, links, modes, owners, names that no one expects, empty files; and what goes, goes.
    fs::create_dir_all(owner.join("a/b")).unwrap();
    std::os::unix::fs::symlink("../file1", owner.join("a/link")).unwrap();
    fs::write(owner.join("a/b/with blank\nand newline"), "").unwrap();
    fs::remove_file(owner.join("file0")).unwrap();
    fs::write(owner.join("last"), "last").unwrap();
    arena.wait_content(SECOND, "last", "last");
    arena.wait_sync(FIRST);
    let second = arena.files(SECOND);
    assert!(!second.join("file0").exists(), "what was deleted is deleted there");
    assert_eq!(fs::read_link(second.join("a/link")).unwrap(), Path::new("../file1"));
    assert!(second.join("a/b/with blank\nand newline").exists());
    println!("\n  a small file is on both standbys after {:.0} ms at worst", millis(worst));
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    // What was deleted is kept.
    let root = vipd_agent::lab::replicator::ROOT;
    let text = arena.done(SECOND, &["replica", "restore", "state", &format!("{root}/file0")]);
    assert!(text.contains("trash/"), "{text}");
    let text = arena.done(FIRST, &["replica", "verify"]);
    assert!(text.contains("all as sent"), "{text}");
    let text = arena.done(FIRST, &["replica", "status"]);
    assert!(text.contains("h2: in sync") && text.contains("h3: in sync"), "{text}");
    let text = arena.order(FIRST, &["status"]).text;
    assert!(text.contains("replica state: h2 in sync gen"), "{text}");
    arena.close();
}
