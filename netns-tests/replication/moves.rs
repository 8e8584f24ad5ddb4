//! The address goes to another host on purpose, by an order or because a stronger host is back: not one record is missing
//! there at that moment.

use super::files::{Writer, find, records};
use super::{SOON, elected, plan};
use crate::arena::{FIRST, SECOND, is_long, wait};
use crate::judge;
use crate::programs::{notes, script, wait_file};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::Plan;

/// The operator's `pre-demote` hook: tells the writer to be quiet, and waits until it is.
struct Hush {
    asked: PathBuf,
    quiet: PathBuf,
    /// For the configuration.
    lines: String,
}

impl Hush {
    fn new() -> Self {
        let notes = notes();
        let (asked, quiet) = (notes.join("asked"), notes.join("quiet"));
        let until = format!("until [ -e {} ]; do sleep 0.01; done", quiet.display());
        let hook = script("quiet", &format!("touch {}\n{until}", asked.display()));
        let lines =
            format!("\n[hook.quiet]\non = [\"pre-demote\"]\nrun = [\"{hook}\"]\nuser = \"root\"\n");
        Self { asked, quiet, lines }
    }

    /// Does the hook wait?
    fn is_asked(&self) -> bool {
        wait_file(&self.asked, SOON * 2).is_some()
    }

    /// The writer is quiet: the hook ends.
    fn is_quiet(&self) {
        fs::write(&self.quiet, "").unwrap();
    }

    /// For the next move.
    fn again(&self) {
        [&self.asked, &self.quiet].into_iter().for_each(|file| fs::remove_file(file).unwrap());
    }
}

/// The writer goes on until the hook makes it quiet; the barrier comes after that.
pub(super) fn moves_lose_nothing() {
    let hush = Hush::new();
    let arena = elected(Plan { file_extra: hush.lines.clone(), ..plan("") });
    let since = now();
    let (mut total, mut behind) = (0, 0);
    let (mut from, mut to) = (FIRST, SECOND);
    let rounds = if is_long() { 100 } else { 5 };
    for round in 1..=rounds {
        let mut writer = Writer::start(&arena.files(from), total, Duration::from_millis(2));
        wait(Duration::from_millis(300));
        let (before, written) = std::thread::scope(|scope| {
            let quiet = scope.spawn(|| {
                assert!(hush.is_asked(), "round {round}: the hook does not run");
                let before = records(&arena.files(to));
                let written = writer.quiesce();
                hush.is_quiet();
                (before, written)
            });
            arena.done(from, &["move", "web", "--wait"]);
            quiet.join().unwrap()
        });
        assert!(written > total, "round {round}: nothing was written");
        behind += written - before;
        arena.wait_owner(to);
        // On the disk at the moment of the claim, not some time later.
        let there = records(&arena.files(to));
        assert_eq!(there, written, "round {round}: of {written} records\n{}", arena.stage.logs(40));
        total = there;
        (from, to) = (to, from);
        arena.calm();
        hush.again();
    }
    let lost = judge::lost(&arena.outage(since));
    println!(
        "\n  {rounds} moves, {total} records, of which the target lacked {behind} when the writer became quiet; {lost} probes lost"
    );
    assert_eq!(lost, 0);
    assert!(behind > 0, "the barrier had nothing to bring");
    arena.close();
}

/// The stronger host comes back while the weaker one writes: the writer is made quiet by a hook, every record is brought,
/// and only then the address goes back.
pub(super) fn a_preemption_loses_nothing() {
    let hush = Hush::new();
    let mut arena = elected(Plan { file_extra: hush.lines.clone(), ..plan("") });
    let (mut total, mut lost) = (0, 0);
    let rounds = if is_long() { 30 } else { 3 };
    for round in 1..=rounds {
        arena.stage.power_off(FIRST).unwrap();
        arena.wait_owner(SECOND);
        arena.calm();
        let since = now();
        let mut writer = Writer::start(&arena.files(SECOND), total, Duration::from_millis(2));
        arena.stage.power_on(FIRST).unwrap();
        assert!(hush.is_asked(), "round {round}: nobody asks\n{}", arena.stage.logs(30));
        // While the hook waits the owner owns, and both say why.
        let why = arena.order(FIRST, &["why", "web"]).text;
        assert!(why.contains("h2 hands over when its state is here"), "{why}");
        let status = arena.order(SECOND, &["status"]).text;
        assert!(status.contains("brings its state to h1"), "{status}");
        assert_eq!(arena.stage.owner(), Some(SECOND), "round {round}");
        let written = writer.quiesce();
        assert!(written > total, "round {round}: nothing was written");
        hush.is_quiet();
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
        hush.again();
    }
    println!("\n  {rounds} preemptions, {total} records, {lost} probes lost");
    assert_eq!(lost, 0);
    arena.close();
}
