//! Drains: everything moves away, nothing is claimed, and what the configuration says goes on afterwards.

use super::*;
use crate::bench::{ms, plain};
use crate::fit::{say, with};
use vipd_core::config::model::Severity;
use vipd_core::engine::io::{Alarm, Cause, Verdict};
use vipd_core::types::{Class, State};

#[test]
fn a_drained_host_hands_over_without_a_pin_and_comes_back_when_undrained() {
    let mut world = three();
    assert!(world.carried_out(0, DRAIN).is_ok());
    world.only(1);
    assert_eq!((world.hosts[1].unit().priority, world.hosts[1].unit().pinned), (100, false));
    assert_eq!(
        (world.hosts[0].class(), world.hosts[0].alarms()),
        (Class::Drained, vec![Alarm::Drained])
    );
    world.run(secs(600));
    world.only(1);
    assert!(world.carried_out(0, OperatorOrder::Undrain).is_ok());
    world.run(secs(5));
    world.only(0);
    assert!(world.hosts[0].alarms().is_empty());
}

#[test]
fn a_whole_host_is_drained_and_one_instance_cannot_be_undrained_alone() {
    let mut world = three();
    world.order(0, 1, None, DRAIN);
    world.run(secs(2));
    assert!(world.hosts[0].end(1).unwrap().is_ok());
    world.only(1);
    let why = world.hosts[0].engine.judge(Some(WEB), &OperatorOrder::Undrain).unwrap_err();
    assert!(why.contains("the whole of lb1"), "{why}");
    world.order(0, 2, None, OperatorOrder::Undrain);
    world.run(secs(5));
    world.only(0);
}

#[test]
fn an_owner_at_255_can_be_drained() {
    let text = "priority = { lb1 = 255, lb2 = 100, lb3 = 50 }\n";
    let mut world = world(&beating(text), 3, |_: &mut Model| {});
    assert!(world.carried_out(0, DRAIN).is_ok());
    world.run(secs(60));
    world.only(1);
}

#[test]
fn a_drain_ends_by_itself() {
    let mut world = three();
    let until = Some(world.now + secs(30));
    let order = OperatorOrder::Drain { until, last_resort: false, allow_outage: false };
    assert!(world.carried_out(0, order).is_ok());
    world.run(secs(28));
    world.only(1);
    world.run(secs(8));
    world.only(0);
}

#[test]
fn nobody_else_is_there_and_the_drain_is_refused_or_named_an_outage() {
    let mut world = three();
    world.off.extend([1, 2]);
    world.run(secs(10));
    let why = world.hosts[0].engine.judge(Some(WEB), &DRAIN).unwrap_err();
    assert!(why.contains("--allow-outage") && why.contains("--last-resort"), "{why}");
    world.order(0, 1, Some(WEB), DRAIN);
    assert!(world.hosts[0].end(1).unwrap().is_err());
    assert_eq!(world.hosts[0].class(), Class::Healthy);
    let outage = OperatorOrder::Drain { until: None, last_resort: false, allow_outage: true };
    world.order(0, 2, Some(WEB), outage);
    world.run(secs(60));
    assert_eq!((world.owners(), world.holders()), (vec![], vec![]));
    assert!(world.hosts[0].end(2).unwrap().is_ok(), "{:?}", world.hosts[0].steps(2));
    world.order(0, 3, Some(WEB), OperatorOrder::Undrain);
    world.run(secs(10));
    world.only(0);
}

#[test]
fn the_last_resort_serves_when_nobody_else_does() {
    let last = OperatorOrder::Drain { until: None, last_resort: true, allow_outage: false };
    let mut world = three();
    assert!(world.carried_out(0, last).is_ok());
    world.only(1);
    world.off.extend([1, 2]);
    world.run(secs(10));
    world.only(0);
    // Somebody better is back.
    world.off.remove(&2);
    world.run(secs(30));
    world.only(2);
    // Without that word a drained host does not claim.
    let mut world = three();
    assert!(world.carried_out(0, DRAIN).is_ok());
    world.off.extend([1, 2]);
    world.run(secs(60));
    assert!(world.owners().is_empty());
}

#[test]
fn without_heartbeats_a_drain_is_an_offer_that_may_come_to_nothing() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.give(Input::Order { id: 1, instance: Some(WEB), order: DRAIN });
    lb1.run(secs(3));
    let why = lb1.end(1).unwrap().unwrap_err();
    assert!(why.contains("nothing has changed"), "{why}");
    assert_eq!((lb1.state(), lb1.class(), lb1.frees().len()), (State::Active, Class::Healthy, 0));
    lb1.give(Input::Order { id: 2, instance: Some(WEB), order: DRAIN });
    lb1.run(ms(100));
    lb1.hear(2, 100);
    lb1.run(ms(300));
    assert!(lb1.end(2).unwrap().is_ok());
    for _ in 0..30 {
        lb1.run(ms(1000));
        lb1.hear(2, 100);
    }
    assert_eq!((lb1.state(), lb1.class()), (State::Backup, Class::Drained));
    assert_eq!(lb1.causes().last(), Some(&(State::Backup, Cause::Drained)));
}

#[test]
fn a_drain_does_not_hide_a_fault() {
    let mut world = world(&beating(""), 2, with(Severity::Fatal, 0));
    assert!(world.carried_out(0, DRAIN).is_ok());
    say(&mut world, 0, 0, Verdict::Fail);
    assert_eq!(world.hosts[0].unit().state, State::Initialize);
    say(&mut world, 0, 0, Verdict::Pass);
    world.run(secs(10));
    assert_eq!((world.hosts[0].class(), world.owners()), (Class::Drained, vec![1]));
}
