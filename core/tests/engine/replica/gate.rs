//! The promote gate: what an old or unknown copy does to a claim.

use super::*;
use crate::bench::{ETH0, eth0};
use crate::fit::of_web;
use vipd_core::engine::explain::Gate;
use vipd_core::engine::io::{Alarm, LinkState, OperatorOrder, StandingReason};
use vipd_core::policy::Closed;
use vipd_core::types::{Class, State};

const PROMOTE: OperatorOrder = OperatorOrder::Promote { accept_data_loss: false };
const ACCEPT: OperatorOrder = OperatorOrder::Promote { accept_data_loss: true };

fn old() -> Input<'static> {
    copy(Some(secs(61)))
}

#[test]
fn a_returning_host_does_not_preempt_before_it_has_everything() {
    let mut world = stateful("prefer", |_| {});
    world.off.insert(0);
    world.run(secs(6));
    assert_eq!(world.owners(), [1]);
    world.off.clear();
    let agent = started(&world, 1, "prefer", world.hosts[0].stored());
    world.replace(0, agent);
    world.give(0, Input::Link { link: crate::bench::ETH0, state: crate::bench::eth0(1) });
    world.give(0, Input::Addresses { link: crate::bench::ETH0, present: &[] });
    world.run(secs(30));
    assert_eq!((world.owners(), world.hosts[0].unit().gate), (vec![1], Some(Closed::StaleReplica)));
    world.give(0, copy(Some(Duration::ZERO)));
    world.run(secs(5));
    assert_eq!(world.hosts[0].unit().gate, Some(Closed::OwnerBrings(HostIx(1))));
    let order = world.hosts[1].barriers()[0].1;
    world.give(1, Input::BarrierDone { instance: WEB, order, result: Ok(()) });
    world.run(secs(1));
    assert_eq!(world.owners(), [0]);
}

#[test]
fn of_two_that_could_claim_the_one_with_the_better_copy_does() {
    let mut world = stateful("prefer", |_| {});
    world.give(1, old());
    world.run(secs(2));
    assert_eq!(world.hosts[1].class(), Class::Held);
    world.off.insert(0);
    world.run(secs(8));
    assert_eq!(world.owners(), [2], "lb3 has the lower priority and everything");
}

#[test]
fn a_stale_host_is_better_than_none() {
    let mut world = stateful("prefer", |_| {});
    world.give(1, old());
    world.give(2, copy(None));
    world.run(secs(2));
    world.off.insert(0);
    world.run(secs(8));
    assert_eq!(world.owners(), [1]);
    assert_eq!(world.hosts[1].class(), Class::Healthy, "an owner is never stale");
}

#[test]
fn a_copy_ages_while_nobody_speaks_and_pending_octets_count() {
    let mut world = stateful("prefer", |_| {});
    world.run(secs(50));
    assert_eq!(world.hosts[1].class(), Class::Healthy);
    world.run(secs(10));
    assert_eq!(world.hosts[1].class(), Class::Held, "60 s without a word of the owner");
    let reasons = world.hosts[1].events().into_iter().filter_map(|e| match e {
        EventKind::Standing { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reasons.last(), Some(StandingReason::Replica(true)));
    assert!(world.hosts[1].alarms().contains(&Alarm::ReplicaStale));
    assert!(!world.hosts[0].alarms().contains(&Alarm::ReplicaStale), "the owner has what there is");
    world.give(1, copy(Some(Duration::ZERO)));
    assert!(!world.hosts[1].alarms().contains(&Alarm::ReplicaStale));

    let pending = set("prefer") + "max-pending = 1000\n";
    let mut lb2 = Bench::up(&beating(&pending), 2);
    for (pending, class) in [(1000, Class::Healthy), (1001, Class::Held)] {
        let state = Some(ReplicaState { age: Some(Duration::ZERO), pending });
        lb2.give(Input::Replica { set: SetIx(0), state });
        assert_eq!(lb2.class(), class);
    }
}

#[test]
fn who_has_just_started_knows_nothing_and_alarms_later() {
    let mut lb2 = Bench::up(&beating(&set("prefer")), 2);
    assert_eq!(lb2.class(), Class::Held);
    lb2.run(ms(500));
    assert!(!lb2.alarms().contains(&Alarm::ReplicaStale));
    let mut lb3 = Bench::up(&beating(&set("require")), 3);
    lb3.run(secs(11));
    assert!(lb3.alarms().contains(&Alarm::ReplicaStale));
    assert_eq!((lb3.class(), lb3.state()), (Class::Drained, State::Backup));
}

#[test]
fn under_require_a_stale_host_never_claims_but_by_an_operator_who_accepts_the_loss() {
    let mut world = stateful("require", |_| {});
    world.give(1, old());
    world.give(2, copy(None));
    world.off.insert(0);
    world.run(secs(300));
    assert_eq!(world.owners(), [] as [usize; 0]);
    let why = world.hosts[1].engine.judge(Some(WEB), &PROMOTE).unwrap_err();
    assert!(why.contains("--accept-data-loss"), "{why}");
    let gates = world.hosts[1].unit().why.gates;
    assert!(gates.iter().any(|g| matches!(g.gate, Gate::Replica(_)) && !g.passed), "{gates:?}");
    world.give(1, of_web(PROMOTE));
    world.run(secs(10));
    assert_eq!(world.owners(), [] as [usize; 0]);
    world.give(1, of_web(ACCEPT));
    world.run(secs(10));
    assert_eq!(world.owners(), [1]);
}

#[test]
fn under_require_a_fresh_host_claims_at_once() {
    let mut world = stateful("require", |_| {});
    world.give(1, copy(Some(secs(30))));
    world.give(2, old());
    confirm(&mut world);
    world.off.insert(0);
    world.run(secs(4));
    assert_eq!(world.owners(), [1]);
}

#[test]
fn ignore_changes_nothing() {
    let mut world = stateful("ignore", |_| {});
    world.give(1, copy(None));
    world.off.insert(0);
    world.run(secs(4));
    assert_eq!(world.owners(), [1]);
    assert!(!world.hosts[1].alarms().contains(&Alarm::ReplicaStale));
}

#[test]
fn a_stale_host_is_no_target_but_by_force() {
    let mut world = stateful("prefer", |_| {});
    world.give(1, old());
    world.give(2, old());
    world.run(secs(2));
    let to = |force| OperatorOrder::Move { to: Some(HostIx(1)), force };
    let why = world.hosts[0].engine.judge(Some(WEB), &to(false)).unwrap_err();
    assert!(why.contains("old or unknown") && why.contains("--force"), "{why}");
    let would = world.hosts[0].engine.judge(Some(WEB), &to(true)).unwrap();
    assert!(would.contains("overriding: the copy of web's state on lb2"), "{would}");
    let why = world.hosts[1].engine.judge(Some(WEB), &PROMOTE).unwrap_err();
    assert!(why.contains("`vipd move`"), "an owner lives: {why}");
}

#[test]
fn a_target_that_knows_more_refuses() {
    let mut world = stateful("prefer", |_| {});
    // The source has not heard of it yet.
    world.no_beats.extend([(1, 0)]);
    world.give(1, old());
    world.no_beats.clear();
    world.give(0, of_web(super::barrier::to(1)));
    world.run(secs(2));
    assert_eq!(world.owners(), [0]);
    let aborted = world.hosts[0].events().into_iter().any(|e| match e {
        EventKind::Operation {
            step: vipd_core::engine::io::OperationStep::Aborted(why), ..
        } => why.contains("copy of"),
        _ => false,
    });
    assert!(aborted);
    assert_eq!(world.hosts[0].barriers(), []);
}

#[test]
fn who_hands_over_has_what_it_had() {
    let mut world = stateful("prefer", |_| {});
    super::barrier::moved(&mut world, 0, 1);
    world.run(secs(2));
    let unit = world.hosts[0].unit();
    assert_eq!((unit.state, unit.class), (State::Backup, Class::Healthy));
    assert!(unit.replica.is_some_and(|r| !r.stale && r.age.is_some_and(|age| age < secs(3))));
}

#[test]
fn the_alarm_of_a_copy_ends_with_its_set() {
    let mut world = stateful("prefer", |_| {});
    world.run(secs(10));
    world.give(1, copy(None));
    world.run(secs(1));
    assert!(world.hosts[1].alarms().contains(&Alarm::ReplicaStale));
    world.reload(1, &beating(""));
    world.run(secs(1));
    assert!(!world.hosts[1].alarms().contains(&Alarm::ReplicaStale));
}

/// What the replicator says of a copy of which no owner ever spoke: so of one that was written here.
fn of_no_owner() -> Input<'static> {
    Input::Replica { set: SetIx(0), state: Some(ReplicaState { age: None, pending: 0 }) }
}

/// lb1 alone under `require`, which still owns.
fn alone() -> World {
    let mut world = stateful("require", |_| {});
    world.off.extend([1, 2]);
    world.run(secs(6));
    assert_eq!(world.owners(), [0]);
    world
}

#[test]
fn who_let_go_and_was_not_followed_has_everything_whatever_its_replicator_knows() {
    let mut world = alone();
    let anew = format!("prefix-route = true\n{}", set("require"));
    world.reload(0, &beating(&anew));
    world.give(0, of_no_owner());
    assert_eq!((world.owners(), world.holders()), (vec![], vec![]));
    world.run(secs(5));
    assert_eq!(world.owners(), [0], "the instance began anew");

    world.give(0, Input::Link { link: ETH0, state: LinkState { running: false, ..eth0(1) } });
    world.give(0, of_no_owner());
    world.run(secs(2));
    assert_eq!(world.owners(), [] as [usize; 0]);
    world.give(0, Input::Link { link: ETH0, state: eth0(1) });
    world.run(secs(5));
    assert_eq!(world.owners(), [0], "its cable was out");
}

#[test]
fn what_was_let_go_ages_as_any_copy() {
    let mut world = alone();
    world.give(0, Input::Link { link: ETH0, state: LinkState { running: false, ..eth0(1) } });
    world.give(0, of_no_owner());
    world.run(secs(61));
    world.give(0, Input::Link { link: ETH0, state: eth0(1) });
    world.run(secs(30));
    assert_eq!(world.owners(), [] as [usize; 0]);
}

#[test]
fn who_let_go_and_was_followed_does_not_know_what_it_has() {
    let mut world = stateful("require", |_| {});
    world.give(0, Input::Link { link: ETH0, state: LinkState { running: false, ..eth0(1) } });
    world.run(secs(2));
    assert_eq!(world.owners(), [1]);
    world.give(0, of_no_owner());
    world.off.extend([1, 2]);
    world.give(0, Input::Link { link: ETH0, state: eth0(1) });
    world.run(secs(30));
    assert_eq!(world.owners(), [] as [usize; 0]);
}
