//! What a session does, step by step, and that it does not matter where it ends.

use crate::pipe::{Run, pusher, run};
use crate::trees::*;
use proptest::prelude::*;
use std::sync::Arc;
use vipd_replicator::manifest::Kind;
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::send::{Ended, Memory};
use vipd_replicator::net::wire::Message;
use vipd_replicator::ports::{Behind, Position, Refusal};

/// Pushes until `count` trees are acknowledged.
fn push(source: &MemSource, target: &MemTarget, count: usize) -> Run {
    let pusher = pusher();
    source.stop_after(count, &pusher.handle);
    run(&pusher, source, &mut Memory::default(), target, None)
}

fn some() -> Tree {
    let mut tree = Tree::of(&[
        ("empty", Vec::new()),
        ("folder/small", b"some text".to_vec()),
        ("folder/middle", octets(1, 300_000)),
        ("large", octets(2, 3 << 20)),
    ]);
    tree.put_entry(entry("folder", Kind::Folder));
    tree.put_entry(entry("link", Kind::Link { target: b"folder/small".to_vec() }));
    let mut with = file("attributes", b"x");
    with.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), vec![0; 500])];
    tree.put_entry(with);
    tree.contents.insert(path("attributes"), b"x".to_vec().into());
    tree
}

#[test]
fn a_tree_goes_over_as_it_is() {
    let source = MemSource::new(some(), at(3, 1));
    let target = MemTarget::default();
    let run = push(&source, &target, 1);
    assert!(matches!(run.sender, Ok(Ended::Stopped)), "{:?}", run.sender);
    assert!(matches!(run.receiver, NetError::Closed), "{:?}", run.receiver);
    let standby = target.lock();
    assert_eq!(standby.tree, some());
    assert_eq!(standby.position, at(3, 1));
    assert_eq!(standby.pendings[0], (5, 10 + 300_000 + (3 << 20)));
    assert_eq!(source.lock().acknowledged, [(at(3, 1), some().manifest().root())]);
}

#[test]
fn many_small_files_go_without_an_answer_in_between() {
    let mut tree = Tree::default();
    for number in 0..5000 {
        tree.put(&format!("f{number}"), octets(number, 100));
    }
    let run = push(&MemSource::new(tree, at(1, 1)), &MemTarget::default(), 1);
    let answers = run.seen.iter().filter(|(from, ..)| *from == 1).count();
    assert_eq!(answers, 3, "{}", run.names());
}

#[test]
fn the_second_tree_is_told_as_a_difference() {
    let mut tree = Tree::default();
    for number in 0..2000 {
        tree.put(&format!("f{number}"), vec![1]);
    }
    let source = MemSource::new(tree, at(1, 1));
    let target = MemTarget::default();
    let pusher = pusher();
    let handle = pusher.handle.clone();
    source.lock().after = Some(Box::new(move |owner| {
        if owner.acknowledged.len() == 2 {
            return handle.stop();
        }
        owner.tree.put("f7", vec![2]);
        owner.tree.entries.remove(&path("f9"));
        owner.tree.contents.remove(&path("f9"));
        owner.position = at(1, 2);
    }));
    let run = run(&pusher, &source, &mut Memory::default(), &target, None);
    assert_eq!(target.lock().tree, source.lock().tree);
    let second = run.seen.iter().rposition(|(_, m, _)| matches!(m, Message::Offer(_))).unwrap();
    let octets: usize = run.seen[second..].iter().map(|(.., octets)| octets).sum();
    assert!(octets < 700, "{octets}");
}

#[test]
fn a_base_that_the_standby_does_not_have_is_told_whole() {
    let source = MemSource::new(some(), at(1, 1));
    let target = MemTarget::default();
    let mut memory = Memory::default();
    let one = pusher();
    source.stop_after(1, &one.handle);
    run(&one, &source, &mut memory, &target, None);
    // Restored from an older copy, or emptied.
    *target.lock() = Standby::default();
    let two = pusher();
    source.stop_after(2, &two.handle);
    run(&two, &source, &mut memory, &target, None);
    assert_eq!(target.lock().tree, some());
}

/// Two files that changed since, the older one 300 ms ago.
const LATE: Behind = Behind { files: 2, ms: 300 };

#[test]
fn a_standby_is_told_each_second_how_far_it_is_behind() {
    let source = MemSource::new(some(), at(1, 1));
    let target = MemTarget::default();
    let pusher = pusher();
    let (handle, owner) = (pusher.handle.clone(), source.clone());
    let watched = std::sync::Arc::clone(&target.0);
    source.lock().after = Some(Box::new(move |_| {
        let (handle, owner, watched) = (handle.clone(), owner.clone(), watched.clone());
        std::thread::spawn(move || {
            let wait = |enough: &dyn Fn(&Standby) -> bool| {
                while !enough(&watched.lock().unwrap()) {
                    std::thread::yield_now();
                }
            };
            wait(&|standby| standby.currents.len() >= 3);
            owner.lock().behind = LATE;
            wait(&|standby| standby.currents.iter().filter(|(_, told)| *told == LATE).count() >= 3);
            handle.stop();
        });
    }));
    run(&pusher, &source, &mut Memory::default(), &target, None);
    let standby = target.lock();
    assert!(standby.currents.iter().all(|(position, _)| *position == at(1, 1)));
    assert!(standby.currents.iter().all(|(_, told)| [Behind::default(), LATE].contains(told)));
}

#[test]
fn a_standby_that_never_catches_up_knows_how_far_it_is_behind() {
    let source = MemSource::new(some(), at(1, 1));
    let target = MemTarget::default();
    let pusher = pusher();
    let handle = pusher.handle.clone();
    // Whenever a tree is taken there is a newer one.
    source.lock().behind = LATE;
    source.lock().after = Some(Box::new(move |owner| {
        if owner.acknowledged.len() == 5 {
            handle.stop();
        }
        owner.position.generation += 1;
    }));
    run(&pusher, &source, &mut Memory::default(), &target, None);
    let told: Vec<_> = [1, 2, 3, 4].map(|generation| (at(1, generation), LATE)).into();
    assert_eq!(target.lock().currents[..4], told);
}

#[test]
fn a_stale_epoch_ends_the_session() {
    let source = MemSource::new(some(), at(3, 1));
    let target = MemTarget::new(Tree::default(), at(4, 9));
    let mut memory = Memory::default();
    let run = run(&pusher(), &source, &mut memory, &target, None);
    assert!(matches!(run.sender, Ok(Ended::Stale)), "{:?}", run.sender);
    assert_eq!(source.lock().refused, [Refusal::StaleEpoch(at(4, 0).epoch)]);
    assert_eq!(target.lock().tree, Tree::default());
}

/// How often is a refusal asked about again, and when? Virtual time tells.
fn offers_with(refusal: &Refusal) -> usize {
    let source = MemSource::new(some(), at(1, 1));
    let target = MemTarget::default();
    target.lock().refuse = vec![refusal.clone(); 3].into();
    let run = push(&source, &target, 1);
    assert_eq!(source.lock().refused, vec![refusal.clone(); 3]);
    assert_eq!(target.lock().tree, some());
    run.seen.iter().filter(|(_, message, _)| matches!(message, Message::Offer(_))).count()
}

#[test]
fn what_was_refused_is_offered_again() {
    for refusal in [
        Refusal::Diverged(Position::default()),
        Refusal::Guard("half of it is gone".into()),
        Refusal::NotHere("not yet".into()),
        Refusal::Disk("full".into()),
    ] {
        assert_eq!(offers_with(&refusal), 4, "{refusal}");
    }
}

#[test]
fn a_file_that_changed_underway_takes_its_tree_back_and_the_next_one_goes() {
    for name in ["folder/middle", "large"] {
        let source = MemSource::new(some(), at(1, 1));
        let target = MemTarget::default();
        if name == "large" {
            let mut before = some();
            before.put("large", octets(3, 3 << 20));
            *target.lock() = Standby { tree: before, position: at(1, 0), ..Standby::default() };
        }
        {
            let mut owner = source.lock();
            let mut now = owner.tree.contents[&path(name)].to_vec();
            now[100_000] ^= 1;
            owner.drifted.insert(path(name), now);
            owner.rescan = Some(Box::new(move |owner| {
                let now = owner.drifted.remove(&path(name)).unwrap();
                owner.tree.put(name, now);
                owner.position = at(1, 2);
            }));
        }
        let run = push(&source, &target, 1);
        assert_eq!(source.lock().changed, [path(name)], "{}", run.names());
        assert!(run.names().contains("abort offer"), "{}", run.names());
        assert_eq!(target.lock().position, at(1, 2));
        assert_eq!(target.lock().tree, source.lock().tree);
        assert_eq!(target.lock().commits, 1);
    }
}

#[test]
fn a_version_that_misleads_is_not_copied_from_twice() {
    let mut before = some();
    before.put("large", [octets(9, 100), octets(2, 3 << 20)].concat());
    let target = MemTarget::new(before, at(1, 1));
    target.lock().false_bases = vec![path("large")];
    let source = MemSource::new(some(), at(1, 2));
    let run = push(&source, &target, 1);
    assert_eq!(target.lock().tree, some());
    assert_eq!(run.names().matches("<needs").count(), 2, "{}", run.names());
}

#[test]
fn a_full_disk_refuses_and_the_old_tree_stays() {
    let before = Tree::of(&[("old", b"x".to_vec())]);
    let target = MemTarget::new(before.clone(), at(1, 1));
    target.lock().room = Some(200_000);
    let source = MemSource::new(some(), at(1, 2));
    let (pusher, owner) = (pusher(), target.clone());
    let handle = pusher.handle.clone();
    std::thread::spawn(move || {
        while owner.lock().written < 200_000 {
            std::thread::yield_now();
        }
        while handle.progress().refused.is_none() {
            std::thread::yield_now();
        }
        handle.stop();
    });
    run(&pusher, &source, &mut Memory::default(), &target, None);
    assert!(
        matches!(&source.lock().refused[0], Refusal::Disk(text) if text.contains("no storage space"))
    );
    assert_eq!(target.lock().tree, before);
}

/// From `before` to `after`, the connection cut in place of every message in turn; then on over a new one.
fn cut_everywhere(before: &Tree, after: &Tree) -> usize {
    let large_is_whole = before.entries.is_empty();
    let whole = {
        let source = MemSource::new(after.clone(), at(1, 2));
        push(&source, &MemTarget::new(before.clone(), at(1, 1)), 1)
    };
    assert!(whole.names().ends_with("<taken current"), "{}", whole.names());
    // Behind `taken` nothing is lost.
    for cut in 0..whole.seen.len() - 1 {
        let source = MemSource::new(after.clone(), at(1, 2));
        let target = MemTarget::new(before.clone(), at(1, 1));
        let mut memory = Memory::default();
        let pusher = pusher();
        source.stop_after(1, &pusher.handle);
        let first = run(&pusher, &source, &mut memory, &target, Some(cut));
        assert!(first.sender.is_err(), "cut {cut}: {:?}", first.sender);
        assert!(source.lock().acknowledged.is_empty());
        let complete = {
            let standby = target.lock();
            let there = if standby.commits == 0 { before } else { after };
            assert_eq!(standby.tree, *there, "cut {cut}");
            let incompressible = |content: &&Arc<Vec<u8>>| content.len() > 100_000;
            let staged = standby.staged.values().filter(incompressible);
            if large_is_whole { staged.map(|content| content.len()).sum() } else { 0 }
        };
        let second = run(&pusher, &source, &mut memory, &target, None);
        assert!(matches!(second.sender, Ok(Ended::Stopped)), "cut {cut}: {:?}", second.sender);
        assert_eq!(target.lock().tree, *after, "cut {cut}");
        // What was complete is not sent again.
        let sent = second.octets(0);
        assert!(sent + complete <= whole.octets(0) + 2000, "cut {cut}: {sent} {complete}");
    }
    whole.seen.len()
}

#[test]
fn a_cut_at_any_message_is_made_good_by_the_next_session() {
    let mut after = some();
    after.put("large", [octets(2, 1 << 20), octets(5, 200_000), octets(2, 3 << 20)].concat());
    after.entries.remove(&path("empty"));
    after.contents.remove(&path("empty"));
    assert!(cut_everywhere(&Tree::default(), &some()) >= 15);
    assert!(cut_everywhere(&some(), &after) >= 10);
}

fn trees() -> impl Strategy<Value = Tree> {
    let name = "[ab]{1,2}(/[ab]{1,2}){0,2}";
    // Sizes around every limit: batches, pieces, large files.
    let size = prop_oneof![
        5 => 0..300usize,
        1 => 130_000..135_000usize,
        1 => 1_048_570..1_048_580usize,
        1 => 1_500_000..2_500_000usize
    ];
    let files = proptest::collection::btree_map(name, (0..4u64, size, 0..3u8), 0..12);
    files.prop_map(|files| {
        let mut tree = Tree::default();
        for (name, (seed, size, kind)) in files {
            // Nothing lies below a file.
            let parents: Vec<_> = name.match_indices('/').map(|(at, _)| &name[..at]).collect();
            let blocked = |parent: &&str| {
                tree.entries.get(&path(parent)).is_some_and(|entry| entry.kind != Kind::Folder)
            };
            if parents.iter().any(blocked) {
                continue;
            }
            for parent in parents {
                tree.put_entry(entry(parent, Kind::Folder));
            }
            if tree.entries.contains_key(&path(&name)) {
                continue;
            }
            match kind {
                0 => tree.put_entry(entry(&name, Kind::Folder)),
                1 => tree.put_entry(entry(&name, Kind::Link { target: b"x".to_vec() })),
                _ => tree.put(&name, octets(seed, size)),
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..Default::default() })]

    #[test]
    fn any_tree_becomes_any_other(before in trees(), after in trees()) {
        let source = MemSource::new(after.clone(), at(2, 1));
        let target = MemTarget::new(before, at(1, 1));
        let run = push(&source, &target, 1);
        prop_assert!(run.sender.is_ok(), "{:?} {} {}", run.sender, run.receiver, run.names());
        prop_assert!(target.lock().tree == after);
    }
}

#[test]
fn what_is_acknowledged_is_offered_again_when_somebody_asks_and_only_that_is_confirmed() {
    let source = MemSource::new(some(), at(1, 1));
    let pusher = pusher();
    let handle = pusher.handle.clone();
    source.lock().after = Some(Box::new(move |owner| {
        if owner.acknowledged.len() > 1 {
            return;
        }
        // Before the handle knows of the first acknowledgement: that one must not count.
        handle.ask_again();
        let handle = handle.clone();
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_secs(2));
            handle.stop();
        });
    }));
    run(&pusher, &source, &mut Memory::default(), &MemTarget::default(), None);
    assert_eq!(source.lock().acknowledged.len(), 2);
    assert_eq!(pusher.handle.progress().confirmed, Some(at(1, 1)));
}

#[test]
fn what_the_owner_has_lost_is_not_waited_for_and_everything_else_comes() {
    let mut tree = some();
    tree.put("rotten", octets(9, 200_000));
    let source = MemSource::new(tree.clone(), at(3, 1));
    source.lock().withheld = vec![path("rotten"), path("folder/small")];
    let target = MemTarget::default();
    let pusher = pusher();
    source.stop_after(1, &pusher.handle);
    let run = run(&pusher, &source, &mut Memory::default(), &target, None);
    assert!(matches!(run.sender, Ok(Ended::Stopped)), "{:?}", run.sender);
    let progress = pusher.handle.progress();
    assert_eq!((progress.acknowledged, progress.confirmed), (Some(at(3, 1)), None), "no barrier");
    let refused = progress.refused.unwrap().to_string();
    assert!(refused.contains("lacks 2 files") && refused.contains("rotten"), "{refused}");
    let standby = target.lock();
    let contents: Vec<_> = standby.tree.contents.keys().map(ToString::to_string).collect();
    assert!(contents.iter().any(|name| name.ends_with("large")), "{contents:?}");
    assert!(!contents.iter().any(|name| name.ends_with("rotten")), "{contents:?}");
    let lacks: Vec<_> = source.lock().lacks.iter().map(ToString::to_string).collect();
    assert_eq!(lacks.len(), 2, "{lacks:?}");
    assert_eq!(source.lock().changed, [], "nobody tried to read them");
}
