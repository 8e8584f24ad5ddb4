//! Many small trees: what the trash costs whoever waits for an acknowledgement, and afterwards.

use crate::common::{Host, epoch, push, rel};
use std::fs;
use std::time::{Duration, SystemTime};
use vipd_replicator::error::Error;
use vipd_replicator::fail;
use vipd_replicator::set::Thinned;
use vipd_replicator::testing::Transfer;

/// Trees, each of which deletes a file and replaces another.
const TREES: u64 = 400;

#[test]
fn what_the_trash_holds_costs_the_next_tree_nothing() {
    let (a, mut b) = (Host::new("a"), Host::with("b", |c| c.trash_versions = 3));
    for number in 0..TREES {
        a.write(&format!("gone/{number}"), "x");
    }
    a.write("often", "0");
    a.claim(1, 1);
    push(&a, &b).unwrap();
    let (mut took, mut thinned) = (Vec::new(), Vec::new());
    for number in 0..TREES {
        a.remove(&format!("gone/{number}"));
        a.write("often", number.to_string().repeat(7));
        a.seal();
        let begun = SystemTime::now();
        assert!(matches!(push(&a, &b).unwrap(), Transfer::Done));
        took.push(begun.elapsed().unwrap());
        let versions = b.set().versions(&rel("often")).unwrap().len() as u64;
        assert_eq!(versions, (number + 1).min(4), "nothing is removed before the acknowledgement");
        let begun = SystemTime::now();
        let done = b.set().thin().unwrap();
        thinned.push(begun.elapsed().unwrap());
        match number {
            // The trash is read once.
            0 => assert_eq!(done, Thinned { looked: 3, removed: 0 }),
            1 | 2 => assert_eq!(done, Thinned::default()),
            // However many folders there are: the one version that goes.
            _ => assert_eq!(done, Thinned { looked: 1, removed: 1 }, "tree {number}"),
        }
        b.hands.step_wall(1);
    }
    assert_eq!(b.set().thin().unwrap(), Thinned::default(), "nothing new");
    assert_eq!(b.kept("trash").len() as u64, TREES + 3);
    let mean = |all: &[Duration]| all.iter().sum::<Duration>() / all.len() as u32;
    let (first, last) = (&took[..50], &took[took.len() - 50..]);
    println!(
        "{TREES} trees: {:?} each at first, {:?} in the end; thinning {:?}",
        mean(first),
        mean(last),
        mean(&thinned)
    );
    // After a restart it is read once more, and nothing is forgotten.
    b.reopen();
    a.write("often", "the last");
    a.seal();
    push(&a, &b).unwrap();
    let done = b.set().thin().unwrap();
    assert_eq!(done.removed, 1);
    assert!(done.looked > TREES, "{done:?}");
    assert_eq!(b.set().versions(&rel("often")).unwrap().len(), 3);
}

#[test]
fn thinning_gives_way_to_a_claim() {
    let (a, b) = (Host::new("a"), Host::with("b", |c| c.trash_versions = 2));
    a.write("often", "0");
    a.claim(1, 1);
    push(&a, &b).unwrap();
    let change = |number: usize| {
        a.write("often", "x".repeat(number));
        a.seal();
        push(&a, &b).unwrap();
    };
    (2..7).for_each(change);
    let versions = || b.set().versions(&rel("often")).unwrap().len();
    assert_eq!(versions(), 5);
    b.set().announce(true);
    assert!(matches!(b.set().thin(), Err(Error::Interrupted)));
    assert_eq!(versions(), 5);
    // It did not claim after all; the next tree has it done.
    b.set().announce(false);
    change(7);
    b.set().thin().unwrap();
    assert_eq!(versions(), 2);
}

/// More than one part of what is removed at once.
const MANY: usize = 2500;

#[test]
fn what_is_too_old_goes_in_parts_and_gives_way_to_a_claim() {
    let [a, mut b] = ["a", "b"].map(|name| Host::with(name, |c| c.delete_guard = 100));
    for number in 0..MANY {
        a.write(&format!("gone/{number}"), "x");
    }
    a.write("stays", "1");
    a.claim(1, 1);
    push(&a, &b).unwrap();
    a.remove("gone");
    a.seal();
    push(&a, &b).unwrap();
    let kept = |b: &Host| b.kept("trash").len();
    b.hands.step_wall(8 * 86_400);
    // As thinning does: nothing of it waits behind what nobody needs.
    b.set().announce(true);
    assert!(matches!(b.set().prune(), Err(Error::Interrupted)));
    assert_eq!(kept(&b), MANY);
    b.set().announce(false);
    // It comes in the middle of it.
    let set = b.set().clone();
    fail::arm_call(20, move || set.announce(true));
    let done = b.set().prune();
    fail::disarm();
    assert!(matches!(done, Err(Error::Interrupted)), "{done:?}");
    assert_eq!(kept(&b), MANY - 10, "a step before and one behind each removal");
    b.set().announce(false);
    assert!(b.set().prune().unwrap(), "there is more");
    let left = kept(&b);
    assert!(left > 0 && left < MANY - 10, "{left}");
    // What is left is as old as it was, also for the owner that this host becomes meanwhile, and after a restart.
    b.reopen();
    b.set().announce(true);
    b.claim(2, 2);
    assert!(!b.set().prune().unwrap());
    assert_eq!(kept(&b), 0);
}

#[test]
fn what_a_claim_left_of_a_cleaning_goes_on_the_owner_and_a_standby_keeps_its_stage() {
    let [a, b] = ["a", "b"].map(Host::new);
    a.write("file", "1");
    a.claim(1, 1);
    push(&a, &b).unwrap();
    for name in ["stage/c", "next/folder"] {
        fs::create_dir_all(b.own(name)).unwrap();
        fs::write(b.own(name).join("file"), "left").unwrap();
    }
    assert!(!b.set().prune().unwrap());
    assert!(b.own("stage/c/file").exists(), "a session may be at it");
    b.set().claim(epoch(2, 2)).unwrap();
    assert!(!b.set().prune().unwrap());
    b.assert_clean();
}
