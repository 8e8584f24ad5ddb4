//! What an owner says of the age of a copy, and what a standby believes: never younger than it is.

use crate::common::{Host, epoch, push, rel, sync};
use vipd_replicator::ports::Behind;
use vipd_replicator::set::{Place, Scope};

/// The owner lacks nothing, and its standby neither.
fn pair() -> (Host, Host) {
    let (a, b) = (Host::new("a"), Host::new("b"));
    for number in 0..100 {
        a.write(&format!("{number:02}"), "x");
    }
    a.claim(1, 1);
    sync(&a, &b);
    (a, b)
}

/// What the owner says of the tree that the standby has.
fn behind(a: &Host, b: &Host) -> Behind {
    a.set().source().behind(b.set().position())
}

const UNKNOWN: Behind = Behind { files: 1, ms: 0 };

#[test]
fn an_age_that_is_longer_than_the_standby_runs_is_none() {
    let (a, mut b) = pair();
    // What it was told before is forgotten.
    b.reopen();
    let tell = |ms| {
        b.set().target().current("a", a.set().position(), Behind { files: 1, ms });
        b.set().report().age_ms
    };
    assert_eq!(tell(b.hands.now_ms() + 1), None);
    assert_eq!(tell(u64::MAX), None);
    assert_eq!(tell(b.hands.now_ms()), Some(b.hands.now_ms()));
}

#[test]
fn an_owner_that_was_started_again_knows_no_age_before_it_has_looked() {
    let (mut a, b) = pair();
    a.set().dirty(a.hands.now_ms());
    a.hands.pass(3_600_000);
    for number in 0..30 {
        a.remove(&format!("{number:02}"));
    }
    a.reopen();
    a.set().claim(epoch(1, 1)).unwrap();
    assert_eq!(behind(&a, &b), UNKNOWN);
    // What its guard holds back is as old as it was.
    a.set().seal(&Scope::Everything).unwrap_err();
    a.hands.pass(1000);
    assert_eq!(behind(&a, &b), UNKNOWN);
    a.set().ack().unwrap();
    a.seal();
    assert_eq!(behind(&a, &b), UNKNOWN, "sealed, but not there");
    assert_eq!(a.set().report().peers.len(), 0);
    b.set().follow(epoch(1, 1)).unwrap();
    push(&a, &b).unwrap_err();
    b.set().ack().unwrap();
    push(&a, &b).unwrap();
    assert_eq!(behind(&a, &b), Behind::default());
    // Whoever followed until it claimed has seen everything.
    b.set().claim(epoch(2, 2)).unwrap();
    b.hands.pass(5);
    let has = b.set().position();
    assert_eq!(b.set().source().behind(has), Behind { files: 1, ms: 5 });
}

#[test]
fn an_owner_that_let_go_for_a_moment_knows_no_age_before_it_has_looked() {
    let (a, b) = pair();
    a.hands.pass(3_600_000);
    a.set().follow(epoch(1, 1)).unwrap();
    a.set().claim(epoch(1, 1)).unwrap();
    assert_eq!(behind(&a, &b), UNKNOWN);
    a.seal();
    assert_eq!(behind(&a, &b), Behind::default());
}

#[test]
fn a_seal_that_failed_is_not_forgotten_by_one_of_another_place() {
    let (a, b) = pair();
    let place = |name: &str| Place { path: rel(name), deep: false };
    a.set().dirty(a.hands.now_ms());
    a.hands.pass(10);
    for number in 0..30 {
        a.remove(&format!("{number:02}"));
    }
    a.write("50", "edited");
    let mut places: Vec<_> = (0..30).map(|number| place(&format!("{number:02}"))).collect();
    places.push(place("50"));
    a.set().seal(&Scope::Places(places)).unwrap_err();
    a.write("99", "a line");
    a.set().seal(&Scope::Places(vec![place("99")])).unwrap_err();
    assert_eq!(behind(&a, &b), Behind { files: 1, ms: 10 });
    assert!(a.set().report().alarms.iter().any(|alarm| alarm.contains("30 of 100 files are gone")));
    // Once the files are back, one place that was told is enough to see it.
    for number in 0..30 {
        a.write(&format!("{number:02}"), "x");
    }
    a.set().seal(&Scope::Places(vec![place("99")])).unwrap();
    assert_eq!(a.set().report().alarms, [] as [String; 0]);
    push(&a, &b).unwrap();
    assert_eq!(b.read("50"), "edited");
    assert_eq!(behind(&a, &b), Behind::default());
}

#[test]
fn a_later_tree_may_hold_the_older_change() {
    let (a, b) = pair();
    a.hands.pass(100);
    a.set().dirty(a.hands.now_ms());
    a.write("50", "second");
    a.seal();
    // Nobody heard of it when it was made.
    a.set().dirty(a.hands.now_ms() - 60);
    a.write("51", "first");
    a.seal();
    assert_eq!(behind(&a, &b), Behind { files: 1, ms: 60 });
}

#[test]
fn who_was_complete_under_another_owner_is_as_old_as_the_new_one_says() {
    let (a, b) = pair();
    let c = Host::new("c");
    sync(&a, &c);
    let age = || c.set().report().age_ms;
    c.set().target().current("a", a.set().position(), Behind::default());
    assert_eq!(age(), Some(0));
    b.set().follow(epoch(1, 1)).unwrap();
    b.hands.pass(300);
    b.claim(2, 2);
    b.set().dirty(b.hands.now_ms() - 300);
    push(&b, &c).unwrap();
    assert_eq!(age(), Some(300));
    // Within one ownership it gets no older by what is said.
    c.set().target().current("b", b.set().position(), Behind { files: 1, ms: 900 });
    assert_eq!(age(), Some(300));
}

#[test]
fn a_former_owner_that_comes_back_is_not_believed() {
    let (a, b) = pair();
    b.set().follow(epoch(1, 1)).unwrap();
    b.set().target().current("a", a.set().position(), Behind::default());
    b.hands.pass(700);
    b.set().follow(epoch(2, 3)).unwrap();
    b.set().target().current("a", a.set().position(), Behind::default());
    assert_eq!(b.set().report().age_ms, Some(700));
}

#[test]
fn what_is_left_of_a_tree_that_was_not_taken_is_still_to_come() {
    let (a, b) = pair();
    let tell = |behind| {
        b.set().target().current("a", a.set().position(), behind);
        let report = b.set().report();
        (report.pending_files, report.pending_bytes)
    };
    b.set().target().pending("a", 3, 300);
    assert_eq!(tell(Behind { files: 1, ms: 20 }), (1, 300));
    assert_eq!(tell(Behind::default()), (0, 0));
}
