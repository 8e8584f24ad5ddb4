//! The clean stop: V48, V49, make before break (DESIGN 5.5).

use crate::bench::{Bench, VIP, ms, plain};
use vipd_core::engine::io::{Cause, Input};
use vipd_core::types::State;

#[test]
fn v49_a_backup_leaves_without_a_word() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.hear(1, 150);
    lb2.log.clear();
    lb2.give(Input::Stop);
    lb2.run(ms(10_000));
    assert!(lb2.story().is_empty());
    assert!(lb2.engine.stopped());
}

#[test]
fn v48_priority_0_with_the_full_list_before_the_addresses_go() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"192.0.2.20/24\"]");
    let mut lb1 = Bench::owner(&text, 1);
    let start = lb1.now;
    lb1.give(Input::Stop);
    assert_eq!(lb1.priorities(), [0]);
    assert_eq!(lb1.adverts()[0].1.addresses.len(), 2);
    assert_eq!(lb1.frees(), []);
    assert!(!lb1.engine.stopped());
    assert_eq!(lb1.causes(), [(State::Initialize, Cause::Stop)]);
    lb1.run(ms(5000));
    // Nobody came: once more, in case the first was lost, then the addresses go.
    assert_eq!(lb1.story(), ["release", "release", "free"]);
    let patience = ms(1000) * 255 / 256 + ms(100);
    assert_eq!(lb1.frees(), [start + patience]);
    assert_eq!(lb1.adverts()[1].0, (start + patience).before(ms(20)));
    assert!(lb1.adverts().iter().all(|(_, a)| a.addresses.len() == 2));
    assert!(lb1.engine.stopped());
}

#[test]
fn a_foreign_successor_gets_an_overlap_and_is_made_to_announce() {
    let text = plain("addresses = [\"192.0.2.100-149/24\"]");
    let mut lb1 = Bench::owner(&text, 1);
    lb1.give(Input::Stop);
    lb1.run(ms(610));
    let came = lb1.now;
    lb1.hear(2, 100);
    lb1.run(ms(3000));
    // 200 ms, and 0.2 ms for each of 50 addresses.
    assert_eq!(lb1.frees(), [came + ms(210)]);
    // Priority 1 right after the release: its Active answers with announcements.
    assert_eq!(lb1.story(), ["release", "free", "advert"]);
    assert_eq!(lb1.priorities(), [0, 1]);
    assert!(lb1.engine.stopped());
}

#[test]
fn what_somebody_removes_during_the_overlap_is_put_back_without_a_word() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(500));
    lb1.give(Input::Stop);
    lb1.run(ms(100));
    lb1.log.clear();
    lb1.removed(VIP);
    assert_eq!(lb1.story(), ["hold"]);
    lb1.run(ms(5000));
    assert_eq!(lb1.story(), ["hold", "release", "free"]);
    lb1.removed(VIP);
    assert_eq!(lb1.holds(), 1, "not after the release");
}

#[test]
fn leases_are_renewed_to_the_end_of_the_overlap_and_not_after() {
    let mut lb1 = Bench::owner(&plain("advert-interval = \"10s\""), 1);
    lb1.run(ms(5000));
    lb1.give(Input::Stop);
    lb1.log.clear();
    lb1.run(ms(60_000));
    let freed = lb1.frees()[0];
    let last = lb1.renewals().last().expect("renewed during the overlap").0;
    assert!(last <= freed && freed - last < ms(8000));
}

#[test]
fn a_stop_while_stopping_changes_nothing() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.give(Input::Stop);
    lb1.run(ms(100));
    lb1.give(Input::Stop);
    assert_eq!(lb1.priorities(), [0]);
}

#[test]
fn an_instance_that_stops_does_not_start_again() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.give(Input::Stop);
    lb1.run(ms(3000));
    lb1.log.clear();
    lb1.link_up();
    lb1.hear(2, 0);
    lb1.run(ms(30_000));
    assert!(lb1.story().is_empty());
    assert!(lb1.engine.stopped());
}
