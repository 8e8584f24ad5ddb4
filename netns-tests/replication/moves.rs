//! The address goes to another host on purpose, by an order or because a stronger host is back: not one record is missing
//! there at that moment.

use super::files::{Writer, find, records};
use super::{SOON, elected, plan};
use crate::arena::{FIRST, SECOND, is_long, wait};
use crate::judge;
use crate::programs::{notes, script, wait_file};
use std::fs;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::Plan;

/// What the operator's hooks do in a move: the writer is told to be quiet, and waits.
pub(super) fn moves_lose_nothing() {
    let arena = elected(plan(""));
    let since = now();
    let mut total = 0;
    let (mut from, mut to) = (FIRST, SECOND);
    let rounds = if is_long() { 100 } else { 5 };
    for round in 1..=rounds {
        let mut writer = Writer::start(&arena.files(from), total, Duration::from_millis(2));
        wait(Duration::from_millis(300));
        // Quiet is what a pre-demote hook makes it; the barrier comes after it.
        let written = writer.quiesce();
        assert!(written > total, "round {round}: nothing was written");
        arena.done(from, &["move", "web", "--wait"]);
        arena.wait_owner(to);
        // On the disk at the moment of the claim, not some time later.
        let there = records(&arena.files(to));
        assert_eq!(there, written, "round {round}: of {written} records\n{}", arena.stage.logs(40));
        total = there;
        (from, to) = (to, from);
        arena.calm();
    }
    let lost = judge::lost(&arena.outage(since));
    println!("\n  {rounds} moves, {total} records, {lost} probes lost");
    assert_eq!(lost, 0);
    arena.close();
}

/// The stronger host comes back while the weaker one writes: the writer is made quiet by a hook, every record is brought,
/// and only then the address goes back.
pub(super) fn a_preemption_loses_nothing() {
    let notes = notes();
    let (asked, quiet) = (notes.join("asked"), notes.join("quiet"));
    let until = format!("until [ -e {} ]; do sleep 0.01; done", quiet.display());
    let hook = script("quiet", &format!("touch {}\n{until}", asked.display()));
    let hook =
        format!("\n[hook.quiet]\non = [\"pre-demote\"]\nrun = [\"{hook}\"]\nuser = \"root\"\n");
    let mut arena = elected(Plan { file_extra: hook, ..plan("") });
    let (mut total, mut lost) = (0, 0);
    let rounds = if is_long() { 30 } else { 3 };
    for round in 1..=rounds {
        arena.stage.power_off(FIRST).unwrap();
        arena.wait_owner(SECOND);
        arena.calm();
        let since = now();
        let mut writer = Writer::start(&arena.files(SECOND), total, Duration::from_millis(2));
        arena.stage.power_on(FIRST).unwrap();
        wait_file(&asked, SOON * 2)
            .unwrap_or_else(|| panic!("round {round}: nobody asks\n{}", arena.stage.logs(30)));
        // While the hook waits the owner owns, and both say why.
        let why = arena.order(FIRST, &["why", "web"]).text;
        assert!(why.contains("h2 hands over when its state is here"), "{why}");
        let status = arena.order(SECOND, &["status"]).text;
        assert!(status.contains("brings its state to h1"), "{status}");
        assert_eq!(arena.stage.owner(), Some(SECOND), "round {round}");
        let written = writer.quiesce();
        assert!(written > total, "round {round}: nothing was written");
        fs::write(&quiet, "").unwrap();
        arena.wait_owner(FIRST);
        let there = records(&arena.files(FIRST));
        assert_eq!(there, written, "round {round}: of {written}\n{}", arena.stage.logs(40));
        arena.calm();
        lost += judge::lost(&arena.outage(since));
        for ix in [FIRST, SECOND] {
            let rescued = find(&arena.files(ix).join(".vipd/rescue"));
            assert!(rescued.is_empty(), "round {round}, h{}: {rescued:?}", ix + 1);
        }
        arena.wait_sync(FIRST);
        total = there;
        [&asked, &quiet].into_iter().for_each(|file| fs::remove_file(file).unwrap());
    }
    println!("\n  {rounds} preemptions, {total} records, {lost} probes lost");
    assert_eq!(lost, 0);
    arena.close();
}
