//! SIGKILL at every step that touches the disk, of receiver and of owner: after that the tree is the old or the new one, nothing
//! is lost, and the next transfer leaves no litter.
//!
//! The process that is killed is this program, started again for one test. A sample of all steps is run; all of them with
//! `VIPD_LONG=1`.

use crate::common::{Host, Tree, assert_same, push, settle, tree};
use crate::transfer::{change, varied};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use vipd_replicator::fail::{self, Action};
use vipd_replicator::set::Scope;
use vipd_replicator::testing::Transfer;

/// Steps of a sample.
const SAMPLE: u64 = 60;

/// Which side is killed.
const SIDE: &str = "VIPD_TEST_CRASH";

pub(crate) fn hosts(base: &Path, atomic: bool) -> (Host, Host) {
    let a = Host::at("a", &base.join("a"), |c| c.atomic = atomic);
    (a, Host::at("b", &base.join("b"), |c| c.atomic = atomic))
}

/// The scene: B has the first tree of A, A has the second one on its disk.
pub(crate) fn scene(base: &Path, atomic: bool) {
    let (a, b) = hosts(base, atomic);
    varied(&a);
    a.claim(1, 1);
    push(&a, &b).unwrap();
    // Something that only B has, and is in the way of the second tree.
    settle();
    b.write("many/0", "by hand on b");
    change(&a);
    a.seal();
}

/// What a child does: `receive` takes the second tree, `seal` makes a third one.
pub(crate) fn act(
    side: &str,
    base: &Path,
    atomic: bool,
    at: u64,
    action: Action,
) -> Vec<&'static str> {
    let (a, b) = hosts(base, atomic);
    a.set().claim(crate::common::epoch(1, 1)).unwrap();
    if side == "seal" {
        a.write("third", "3");
        fail::arm(at, action);
        // The error of a failed step is not what is judged here.
        let _ = a.set().seal(&Scope::Everything);
    } else {
        fail::arm(at, action);
        let _ = push(&a, &b);
    }
    fail::disarm()
}

/// Not a test of its own: what [`killed_at`] starts.
#[test]
fn child() {
    let Ok(plan) = std::env::var(SIDE) else { return };
    let words: Vec<_> = plan.split(' ').collect();
    let [side, base, atomic, at] = words.as_slice() else { panic!("{plan}") };
    act(side, Path::new(base), *atomic == "true", at.parse().unwrap(), Action::Kill);
}

/// Ends a child at step `at`; true: it came so far.
pub(crate) fn killed_at(side: &str, base: &Path, atomic: bool, at: u64) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--test-threads=1"])
        .env(SIDE, format!("{side} {} {atomic} {at}", base.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() || status.signal() == Some(9), "{side} {at}: {status}");
    !status.success()
}

pub(crate) fn copy_scene(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// The steps of the sample, evenly spread; all of them in the long run.
pub(crate) fn sample(steps: u64) -> Vec<u64> {
    if std::env::var_os("VIPD_LONG").is_some_and(|long| long == "1") {
        return (1..=steps).collect();
    }
    let chosen: BTreeSet<_> = (0..SAMPLE).map(|k| 1 + k * (steps - 1) / (SAMPLE - 1)).collect();
    chosen.into_iter().collect()
}

/// Every content that was there is in the tree or kept aside.
fn assert_nothing_lost(before: &[Vec<u8>], b: &Host, at: u64) {
    let mut there: BTreeSet<Vec<u8>> = BTreeSet::new();
    for kind in ["trash", "rescue"] {
        there.extend(b.kept(kind).into_iter().map(|(_, content)| content));
    }
    there.extend(contents(b));
    for content in before {
        let head = String::from_utf8_lossy(&content[..content.len().min(40)]).into_owned();
        assert!(there.contains(content), "step {at}: {head:?} is lost");
    }
}

pub(crate) fn contents(host: &Host) -> Vec<Vec<u8>> {
    let files = host.tree().into_iter().filter(|(_, what)| what.starts_with("file"));
    files.map(|(path, _)| std::fs::read(host.path(&path)).unwrap()).collect()
}

/// Without the times of files that only B has.
fn receiver(atomic: bool, action: Action) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("scene");
    scene(&base, atomic);
    let (old, new): (Tree, Tree) = (tree(&base.join("b/root")), tree(&base.join("a/root")));
    let (_, b) = hosts(&base, atomic);
    let before = contents(&b);
    drop(b);
    let trial = dir.path().join("trial");
    copy_scene(&base, &trial);
    let names = act("receive", &trial, atomic, u64::MAX, Action::Count);
    let steps = names.len() as u64;
    eprintln!("{steps} steps, of {} kinds", names.iter().collect::<BTreeSet<_>>().len());
    assert!(steps >= 200, "{steps} steps");
    std::fs::remove_dir_all(&trial).unwrap();
    let (mut olds, mut news) = (0, 0);
    for at in sample(steps) {
        copy_scene(&base, &trial);
        if action == Action::Kill {
            assert!(
                killed_at("receive", &trial, atomic, at),
                "step {at} of {steps} was not reached"
            );
        } else {
            act("receive", &trial, atomic, at, action);
        }
        // A standby finishes or drops what was interrupted: the one or the other, nothing in between.
        let (a, b) = hosts(&trial, atomic);
        b.set().follow(crate::common::epoch(1, 1)).unwrap();
        let found = b.tree();
        let position = b.set().position().generation;
        if found == old {
            assert_eq!(position, 1, "step {at}");
            olds += 1;
        } else {
            for (path, what) in &new {
                assert_eq!(found.get(path), Some(what), "step {at} of {steps}: {path}");
            }
            assert_eq!(found.len(), new.len(), "step {at}");
            assert_eq!(position, 2, "step {at}");
            news += 1;
        }
        assert_nothing_lost(&before, &b, at);
        // And it goes on, and cleans up.
        a.set().claim(crate::common::epoch(1, 1)).unwrap();
        a.write("later", "x");
        a.seal();
        assert!(matches!(push(&a, &b), Ok(Transfer::Done)), "step {at}");
        assert_same(&a, &b);
        b.assert_clean();
        assert_nothing_lost(&before, &b, at);
        assert_eq!(b.kept("rescue").iter().filter(|(_, c)| c == b"by hand on b").count(), 1);
        drop((a, b));
        std::fs::remove_dir_all(&trial).unwrap();
    }
    eprintln!("after the crash: {olds} times the old tree, {news} times the new one");
    assert!(olds > 0 && news > 0);
}

#[test]
fn a_receiver_that_is_killed_at_any_step_has_the_old_or_the_new_tree() {
    receiver(false, Action::Kill);
}

#[test]
fn a_receiver_that_swaps_whole_trees_and_is_killed_has_the_old_or_the_new_one() {
    receiver(true, Action::Kill);
}

#[test]
fn a_receiver_whose_disk_fails_at_any_step_has_the_old_or_the_new_tree() {
    receiver(false, Action::Error);
}

#[test]
fn an_owner_that_is_killed_at_any_step_goes_on_with_what_it_had_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("scene");
    scene(&base, false);
    let trial = dir.path().join("trial");
    copy_scene(&base, &trial);
    let steps = act("seal", &trial, false, u64::MAX, Action::Count).len() as u64;
    assert!(steps >= 8, "{steps} steps");
    std::fs::remove_dir_all(&trial).unwrap();
    for at in 1..=steps {
        copy_scene(&base, &trial);
        assert!(killed_at("seal", &trial, false, at));
        let (a, b) = hosts(&trial, false);
        assert!([2, 3].contains(&a.set().position().generation), "step {at}");
        a.set().claim(crate::common::epoch(1, 1)).unwrap();
        assert!(a.set().source().offer().is_some(), "what was sealed is offered at once");
        a.seal();
        assert_eq!(a.set().position().generation, 3, "step {at}");
        assert!(matches!(push(&a, &b), Ok(Transfer::Done)), "step {at}");
        assert_same(&a, &b);
        a.assert_clean();
        b.assert_clean();
        drop((a, b));
        std::fs::remove_dir_all(&trial).unwrap();
    }
}
