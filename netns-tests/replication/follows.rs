//! A small file, and everything else that a folder can hold, on every standby soon; and what an operator asks of it.

use super::{elected, plan};
use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
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

/// KiB for a hundred thousand files, in each round, and what of it is for whatever their number. Where all of them become others at
/// once, both trees are in memory, and the names of what is in the trash.
const ALLOWED_KIB: [u64; 3] = [64 * 1024, 64 * 1024, 80 * 1024];
const FOR_ANY_KIB: u64 = 20 * 1024;

pub(super) fn many_small_files_take_little_memory() {
    // As many as the memory of the room holds, twice and with old versions.
    let files: u64 = if is_long() { 100_000 } else { 5_000 };
    let mut plan = plan("trash-versions = 1\n");
    let disk = tempfile::tempdir().unwrap();
    if is_long() {
        // More than the room has memory for.
        plan.state_files.as_mut().unwrap().store = disk.path().to_owned();
    }
    let arena = elected(plan);
    let (owner, second) = (arena.files(FIRST), arena.files(SECOND));
    let write = |folder: &Path, round: u64, step: usize| {
        for n in (0..files).step_by(step) {
            let folder = folder.join(format!("folder{}", n / 1000));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("file{n}")), format!("{round} {n}\n")).unwrap();
        }
    };
    let since = now();
    // All at once, each with another content; then some of them, then all.
    write(&owner.join(".vipd/aside"), 1, 1);
    fs::rename(owner.join(".vipd/aside"), owner.join("tree")).unwrap();
    for ((round, step), allowed) in [(1, 1), (2, 100), (3, 1)].into_iter().zip(ALLOWED_KIB) {
        if round > 1 {
            write(&owner.join("tree"), round, step);
        }
        let name = format!("~{round}");
        fs::write(owner.join(&name), "last").unwrap();
        let limit = now() + Duration::from_secs(300);
        while !second.join(&name).exists() {
            assert!(now() < limit, "not there\n{}", arena.stage.logs(30));
            wait(Duration::from_millis(50));
        }
        arena.wait_sync(FIRST);
        let peak = [FIRST, SECOND].map(|ix| peak_kib(&arena, ix));
        let seconds = millis(now().since(since)) / 1e3;
        println!(
            "\n  {} of {files} files: peak {} and {} MiB, {seconds:.1} s since the start",
            files / step as u64,
            peak[0] / 1024,
            peak[1] / 1024
        );
        let limit = FOR_ANY_KIB + (allowed - FOR_ANY_KIB) * files / 100_000;
        assert!(peak.iter().all(|peak| *peak < limit), "{peak:?} KiB, {limit} are allowed");
    }
    for n in [0, files / 2, files - 1] {
        let name = format!("tree/folder{}/file{n}", n / 1000);
        assert_eq!(fs::read_to_string(second.join(name)).unwrap(), format!("3 {n}\n"));
    }
    assert_eq!(arena.moves(since), 0, "the address stays where it is");
    arena.close();
}

/// The most memory that the replicator of a host had.
fn peak_kib(arena: &Arena, ix: usize) -> u64 {
    let pid = arena.stage.replicator(ix).pid().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}
