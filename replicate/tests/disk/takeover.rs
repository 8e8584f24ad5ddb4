//! A tree that is being put in place on a host that becomes the owner: at no step may it replace what the service writes, and
//! what had come of it is kept.

use crate::common::{Host, Tree, assert_same, epoch, push, tree};
use crate::crash::{act, contents, copy_scene, hosts, killed_at, sample, scene};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use vipd_replicator::fail::{self, Action};
use vipd_replicator::ports::Refusal;

/// What the new owner's service writes over: replaced, deleted, adjusted and left alone by the tree that comes.
const WRITTEN: [&str; 5] = ["many/0", "many/1", "big", "same-1", "many/7"];

/// The service of the new owner: as services do, a new file in the place of the old one.
fn serve(root: &Path) {
    for name in WRITTEN {
        let fresh = root.join("new");
        std::fs::write(&fresh, format!("by the service: {name}")).unwrap();
        std::fs::rename(&fresh, root.join(name)).unwrap();
    }
}

fn assert_served(b: &Host, at: u64) {
    for name in WRITTEN {
        assert_eq!(b.read(name), format!("by the service: {name}"), "step {at}");
    }
}

/// Everything on a host: in its tree or kept aside.
fn everything(b: &Host) -> BTreeSet<Vec<u8>> {
    let kept = ["trash", "rescue"].into_iter().flat_map(|kind| b.kept(kind));
    contents(b).into_iter().chain(kept.map(|(_, content)| content)).collect()
}

/// Contents of a tree, but those that the service writes over.
fn others(host: &Host) -> Vec<(String, Vec<u8>)> {
    let tree = host.tree().into_iter();
    let files =
        tree.filter(|(path, what)| what.starts_with("file") && !WRITTEN.contains(&path.as_str()));
    files.map(|(path, _)| (path.clone(), std::fs::read(host.path(&path)).unwrap())).collect()
}

/// The scene with its contents before, and those of the tree that comes.
struct Scene {
    _dir: tempfile::TempDir,
    base: std::path::PathBuf,
    trial: std::path::PathBuf,
    before: Vec<(String, Vec<u8>)>,
    coming: Vec<(String, Vec<u8>)>,
    old: Tree,
    new: Tree,
    steps: u64,
}

impl Scene {
    fn new(atomic: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (base, trial) = (dir.path().join("scene"), dir.path().join("trial"));
        scene(&base, atomic);
        let (a, b) = hosts(&base, atomic);
        let (before, coming) = (others(&b), others(&a));
        drop((a, b));
        let (old, new) = (tree(&base.join("b/root")), tree(&base.join("a/root")));
        copy_scene(&base, &trial);
        let steps = act("receive", &trial, atomic, u64::MAX, Action::Count).len() as u64;
        std::fs::remove_dir_all(&trial).unwrap();
        Self { _dir: dir, base, trial, before, coming, old, new, steps }
    }

    /// Was the tree about to be put in place?
    fn interrupted(&self) -> bool {
        intent(&self.trial).exists()
    }

    /// After the claim of B, whose service wrote: nothing is lost, and the files go on from here.
    fn judge(&self, a: &Host, b: &Host, interrupted: bool, at: u64) -> bool {
        assert_served(b, at);
        assert!(!intent(&self.trial).exists(), "step {at}");
        let there = everything(b);
        for (path, content) in &self.before {
            assert!(there.contains(content), "step {at}: the old {path} is lost");
        }
        for (path, content) in self.coming.iter().filter(|_| interrupted) {
            assert!(there.contains(content), "step {at}: {path}, which had come, is lost");
        }
        let torn = b.set().report().alarms.iter().any(|alarm| alarm.contains("became the owner"));
        let unfinished = b.set().log().unwrap().iter().filter(|line| line.unfinished).count();
        assert!(!torn || unfinished == 1, "step {at}: {unfinished} lines");
        // Whatever is in the rescue folder is listed there.
        let rescued = b.kept("rescue");
        let lists: String = rescued
            .iter()
            .filter(|(path, _)| path.ends_with("manifest.jsonl"))
            .map(|(_, list)| String::from_utf8_lossy(list))
            .collect();
        for path in rescued.iter().filter_map(|(path, _)| path.split_once("/files/")) {
            let path = serde_json::to_string(path.1).unwrap();
            assert!(lists.contains(&path), "step {at}: {path} is in no list");
        }
        b.seal();
        assert_served(b, at);
        // The other host takes what is here now.
        a.set().follow(epoch(2, 2)).unwrap();
        if matches!(push(b, a), Err(Refusal::Guard(_) | Refusal::Diverged(_))) {
            a.set().ack().unwrap();
            push(b, a).unwrap();
        }
        assert_same(b, a);
        torn
    }
}

fn intent(trial: &Path) -> std::path::PathBuf {
    trial.join("b/state/replicate/test/intent")
}

/// The replicator of B is killed at a step, B's agent claims, its service writes, and only then the replicator starts.
fn killed_before_the_claim(atomic: bool) {
    let scene = Scene::new(atomic);
    let mut torn = 0;
    for at in sample(scene.steps) {
        copy_scene(&scene.base, &scene.trial);
        assert!(killed_at("receive", &scene.trial, atomic, at), "step {at}");
        serve(&scene.trial.join("b/root"));
        let interrupted = scene.interrupted();
        let (a, b) = hosts(&scene.trial, atomic);
        assert_served(&b, at);
        let found = b.tree();
        b.set().claim(epoch(2, 2)).unwrap();
        assert_eq!(b.tree(), found, "step {at}: a claim changes no file");
        torn += u64::from(scene.judge(&a, &b, interrupted, at));
        drop((a, b));
        std::fs::remove_dir_all(&scene.trial).unwrap();
    }
    eprintln!("{torn} times in part");
    assert!(atomic || torn > 0);
}

#[test]
fn a_replicator_that_was_killed_replaces_nothing_on_the_host_that_claimed() {
    killed_before_the_claim(false);
}

#[test]
fn nor_does_one_that_swaps_whole_trees() {
    killed_before_the_claim(true);
}

/// The claim is told in the middle of a step.
fn claimed_underway(atomic: bool) {
    let scene = Scene::new(atomic);
    let (mut torn, mut stopped) = (0, 0);
    for at in sample(scene.steps) {
        copy_scene(&scene.base, &scene.trial);
        let (a, b) = hosts(&scene.trial, atomic);
        a.set().claim(epoch(1, 1)).unwrap();
        b.set().follow(epoch(1, 1)).unwrap();
        let seen: Rc<RefCell<Option<Tree>>> = Rc::default();
        let (set, root, into) = (b.set().clone(), b.base.join("root"), Rc::clone(&seen));
        fail::arm_call(at, move || {
            set.announce(true);
            *into.borrow_mut() = Some(tree(&root));
        });
        let pushed = push(&a, &b);
        fail::disarm();
        let then = seen.take().expect("the step was reached");
        let now = b.tree();
        let changed: BTreeSet<_> = then
            .iter()
            .filter(|(path, what)| now.get(*path) != Some(*what))
            .map(|(path, _)| path)
            .chain(now.keys().filter(|path| !then.contains_key(*path)))
            .collect();
        if atomic {
            assert!(now == scene.old || whole(&now, &scene.new), "step {at}: {changed:?}");
        } else {
            // The one that was under way.
            assert!(changed.len() <= 1, "step {at}: {changed:?} changed after the claim");
        }
        if let Err(refusal) = &pushed {
            assert!(matches!(refusal, Refusal::NotHere(_)), "step {at}: {refusal}");
            stopped += 1;
        }
        serve(&scene.trial.join("b/root"));
        let interrupted = scene.interrupted();
        b.set().claim(epoch(2, 2)).unwrap();
        torn += u64::from(scene.judge(&a, &b, interrupted, at));
        drop((a, b));
        std::fs::remove_dir_all(&scene.trial).unwrap();
    }
    eprintln!("stopped {stopped} times, {torn} times in part");
    assert!(stopped > 0 && (atomic || torn > 0));
}

/// All of `new` is there.
fn whole(now: &Tree, new: &Tree) -> bool {
    new.iter().all(|(path, what)| now.get(path) == Some(what))
}

#[test]
fn a_tree_that_is_being_put_in_place_stops_when_its_host_claims() {
    claimed_underway(false);
}

#[test]
fn a_tree_that_is_being_swapped_is_in_place_or_not_when_its_host_claims() {
    claimed_underway(true);
}

/// B has a part of the second tree of A, because its agent claimed.
fn torn() -> (Host, Host) {
    for at in (5..).step_by(5) {
        let (a, b) = (Host::new("a"), Host::new("b"));
        (0..9).for_each(|number| a.write(&number.to_string(), "old"));
        a.claim(1, 1);
        crate::common::sync(&a, &b);
        (0..9).for_each(|number| a.write(&number.to_string(), format!("new {number}")));
        a.seal();
        let set = b.set().clone();
        fail::arm_call(at, move || set.announce(true));
        let pushed = push(&a, &b);
        fail::disarm();
        let placed = (0..9).filter(|number| b.read(&number.to_string()) != "old").count();
        if (1..9).contains(&placed) {
            return (a, b);
        }
        assert!(pushed.is_err(), "in place as a whole at step {at}, never in part");
    }
    unreachable!()
}

#[test]
fn that_files_are_of_two_trees_is_said_until_an_operator_saw_it_or_a_whole_tree_came() {
    for seen in [true, false] {
        let (a, mut b) = torn();
        b.set().claim(epoch(2, 2)).unwrap();
        b.seal();
        let said = |b: &Host| {
            let alarms = b.set().report().alarms;
            alarms
                .iter()
                .any(|alarm| alarm.contains("while tree 1.1.2 of a was being put in place"))
        };
        assert!(said(&b), "{:?}", b.set().report().alarms);
        b.reopen();
        assert!(said(&b), "after a restart, too");
        if seen {
            b.set().claim(epoch(2, 2)).unwrap();
            assert!(b.set().ack().unwrap().contains("became the owner"));
        } else {
            b.set().follow(epoch(3, 1)).unwrap();
            a.claim(3, 1);
            if push(&a, &b).is_err() {
                b.set().ack().unwrap();
                push(&a, &b).unwrap();
            }
        }
        assert!(!said(&b));
        b.reopen();
        assert!(!said(&b));
    }
}

#[test]
fn whoever_fills_the_stage_sees_a_claim_and_a_stop() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "content");
    a.claim(1, 1);
    b.set().follow(epoch(1, 1)).unwrap();
    let offer = a.set().source().offer().unwrap();
    let stage = b.set().target().take("a", &offer).unwrap();
    assert_eq!(stage.look(), Ok(()));
    b.set().announce(true);
    assert!(matches!(stage.look(), Err(Refusal::NotHere(_))));
    b.set().announce(false);
    assert_eq!(stage.look(), Ok(()));
    b.set().stop();
    assert!(matches!(stage.look(), Err(Refusal::NotHere(_))));
}
