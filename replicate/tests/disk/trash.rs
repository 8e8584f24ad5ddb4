//! Many small trees: what the trash costs whoever waits for an acknowledgement, and afterwards.

use crate::common::{Host, push, rel};
use std::time::{Duration, SystemTime};
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
