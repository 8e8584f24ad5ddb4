//! Warm and cold standby, and an operator's promotion.

use crate::bench::{Bench, ETH0, Said, TOGETHER, WEB, ZOO, beating, eth0, ms, plain};
use crate::fit::{CHECK, activation, bench, check, of_web, say, secs, stands_by, with, world};
use vipd_core::config::model::{Activation, Check, Model, Severity, Standby};
use vipd_core::engine::io::{Alarm, Cause, Input, OperatorOrder, Verdict};
use vipd_core::engine::snapshot::ActivationView;
use vipd_core::policy::Closed;
use vipd_core::types::{Class, HostIx, InstanceIx, State};

fn warm(model: &mut Model) {
    with(Severity::Fail, 0)(model);
    stands_by(model, 2, &Standby::Warm(activation()));
}

fn cold(model: &mut Model) {
    with(Severity::Fail, 0)(model);
    stands_by(model, 2, &Standby::Cold(Some(activation())));
}

fn answer(bench: &mut Bench, result: Result<(), &str>) {
    let order = *bench.activations().last().expect("an activation was ordered");
    let result = result.map_err(Into::into);
    bench.give(Input::Activated { instance: WEB, order, result });
}

fn warm_backup() -> Bench {
    let mut lb2 = bench(&plain(""), 2, warm);
    lb2.reads(Verdict::Pass);
    lb2.hear(1, 150);
    lb2.log.clear();
    lb2
}

#[test]
fn a_warm_host_activates_first_then_claims() {
    let mut lb2 = warm_backup();
    lb2.run(secs(10));
    assert_eq!((lb2.activations().len(), lb2.state()), (1, State::Backup));
    assert!(matches!(lb2.unit().activation, ActivationView::Running { .. }));
    answer(&mut lb2, Ok(()));
    lb2.run(ms(1));
    assert_eq!(lb2.state(), State::Active);
    assert_eq!(lb2.unit().activation, ActivationView::Idle);
}

#[test]
fn the_owner_comes_back_while_it_activates() {
    let mut lb2 = warm_backup();
    lb2.run(secs(10));
    lb2.hear(1, 150);
    answer(&mut lb2, Ok(()));
    lb2.run(secs(1));
    assert_eq!(lb2.state(), State::Backup);
    // Silent again soon: what is ready is not started twice.
    lb2.run(secs(4));
    assert_eq!((lb2.state(), lb2.activations().len()), (State::Active, 1));
}

#[test]
fn a_failed_activation_is_told_and_tried_again_later() {
    let mut lb2 = warm_backup();
    lb2.run(secs(4));
    for wait in [10, 20, 40, 80, 160, 300, 300] {
        let tries = lb2.activations().len();
        answer(&mut lb2, Err("exit status 1"));
        assert_eq!(lb2.alarms(), [Alarm::ActivationFailed]);
        lb2.run(secs(wait) - ms(10));
        assert_eq!(lb2.activations().len(), tries);
        lb2.run(ms(20));
        assert_eq!(lb2.activations().len(), tries + 1, "after {wait} s");
    }
    assert_eq!(lb2.state(), State::Backup);
    answer(&mut lb2, Ok(()));
    lb2.run(ms(1));
    assert_eq!((lb2.state(), lb2.alarms()), (State::Active, vec![]));
}

#[test]
fn no_answer_is_a_failure() {
    let mut lb2 = warm_backup();
    lb2.run(secs(3 + 30 + 5 + 1));
    assert!(matches!(lb2.unit().activation, ActivationView::Failed { .. }));
    assert_eq!(lb2.alarms(), [Alarm::ActivationFailed]);
}

#[test]
fn a_failing_owner_waits_until_the_warm_one_is_ready() {
    let mut world = world(&beating(""), 2, warm);
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(secs(3));
    assert_eq!((world.owners(), world.hosts[1].activations().len()), (vec![0], 1));
    let order = world.hosts[1].activations()[0];
    world.give(1, Input::Activated { instance: WEB, order, result: Ok(()) });
    world.run(ms(1));
    assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
    assert_eq!(world.hosts[1].causes(), [(State::Active, Cause::Offered(HostIx(0)))]);
}

#[test]
fn a_cold_host_does_nothing_by_itself() {
    let mut world = world(&beating(""), 2, cold);
    assert_eq!(world.hosts[0].alarms(), [Alarm::NoStandby]);
    assert_eq!(world.hosts[1].unit().gate, Some(Closed::Cold));
    // A failing owner keeps the address ...
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(secs(60));
    assert_eq!(world.owners(), [0]);
    // ... and nobody replaces a dead one.
    world.off.insert(0);
    world.run(secs(600));
    assert_eq!((world.owners(), world.hosts[1].activations().len()), (vec![], 0));
    world.give(1, of_web(OperatorOrder::Promote { accept_data_loss: false }));
    world.run(ms(100));
    let order = world.hosts[1].activations()[0];
    world.give(1, Input::Activated { instance: WEB, order, result: Ok(()) });
    world.run(ms(100));
    assert_eq!(world.owners(), [1]);
    assert_eq!(world.hosts[1].causes(), [(State::Active, Cause::Promoted)]);
}

#[test]
fn a_promoted_cold_host_takes_the_address_from_a_living_owner_and_keeps_it() {
    for text in [beating(""), plain("")] {
        let mut world = world(&text, 2, cold);
        world.give(1, of_web(OperatorOrder::Promote { accept_data_loss: false }));
        world.run(secs(2));
        assert_eq!(world.owners(), [0], "not before it is ready");
        assert!(world.hosts[1].unit().ordered);
        let order = world.hosts[1].activations()[0];
        world.give(1, Input::Activated { instance: WEB, order, result: Ok(()) });
        for _ in 0..100 {
            world.run(ms(1));
            assert!(!world.holders().is_empty());
        }
        assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
        assert_eq!((world.hosts[1].unit().priority, world.hosts[1].unit().pinned), (254, true));
        world.run(secs(300));
        assert_eq!(world.owners(), [1]);
        // Lost, the pin is gone.
        world.off.insert(1);
        world.run(secs(10));
        assert_eq!(world.owners(), [0]);
    }
}

#[test]
fn a_hot_host_can_be_promoted_as_well() {
    let mut world = world(&beating(""), 3, with(Severity::Fail, 0));
    world.give(2, of_web(OperatorOrder::Promote { accept_data_loss: false }));
    world.run(secs(3));
    assert_eq!((world.owners(), world.holders()), (vec![2], vec![2]));
    assert_eq!(world.hosts[2].causes(), [(State::Active, Cause::Promoted)]);
}

#[test]
fn a_cold_owner_at_255_waits_as_well() {
    let text = plain("priority = { lb1 = 255, lb2 = 100 }\n");
    let mut lb1 = bench(&text, 1, |m| stands_by(m, 1, &Standby::Cold(None)));
    lb1.run(secs(60));
    assert_eq!(lb1.state(), State::Backup);
    lb1.order(OperatorOrder::Promote { accept_data_loss: false });
    lb1.run(ms(10));
    assert_eq!((lb1.state(), lb1.unit().priority), (State::Active, 255));
}

#[test]
fn a_promotion_means_both_families() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"fe80::10/64\"]\n");
    let mut lb2 = bench(&text, 2, |m| stands_by(m, 2, &Standby::Cold(None)));
    lb2.hear(1, 150);
    lb2.hear6(1, 150);
    lb2.order(OperatorOrder::Promote { accept_data_loss: false });
    lb2.run(ms(1));
    let units = lb2.snapshot().units;
    assert_eq!(units.len(), 2);
    assert!(units.iter().all(|u| u.state == State::Active && u.priority == 254), "{units:?}");
}

#[test]
fn a_warm_group_is_made_ready_as_a_whole() {
    let text = plain(&(ZOO.to_owned() + TOGETHER));
    let mut lb2 = bench(&text, 2, |m| stands_by(m, 2, &Standby::Warm(activation())));
    lb2.run(secs(5));
    let orders: Vec<_> = lb2
        .log
        .iter()
        .filter_map(|(_, said)| match said {
            Said::Activate(instance, order) => Some((*instance, *order)),
            _ => None,
        })
        .collect();
    assert_eq!(orders.len(), 2);
    for (n, (instance, order)) in orders.into_iter().enumerate() {
        assert!(lb2.snapshot().units.iter().all(|u| u.state == State::Backup), "{n}");
        lb2.give(Input::Activated { instance, order, result: Ok(()) });
        lb2.run(ms(20));
    }
    assert!(lb2.snapshot().units.iter().all(|u| u.state == State::Active));
}

#[test]
fn the_newer_of_two_promotions_counts_whichever_address_is_higher() {
    for text in [beating(""), plain("")] {
        let mut world = world(&text, 3, with(Severity::Fail, 0));
        for host in [2, 1, 0, 1, 2, 0] {
            world.give(host, of_web(OperatorOrder::Promote { accept_data_loss: false }));
            world.run(secs(5));
            assert_eq!((world.owners(), world.holders()), (vec![host], vec![host]));
            assert!(world.hosts[host].unit().pinned);
        }
    }
}

#[test]
fn a_weight_that_changes_meanwhile_does_not_delay_the_claim() {
    let mut lb2 = bench(&plain(""), 2, |model| {
        with(Severity::Degrade, 20)(model);
        stands_by(model, 2, &Standby::Warm(activation()));
    });
    lb2.reads(Verdict::Pass);
    lb2.hear(1, 150);
    lb2.run(secs(10));
    lb2.reads(Verdict::Fail);
    lb2.run(ms(5));
    answer(&mut lb2, Ok(()));
    lb2.run(ms(1));
    assert_eq!((lb2.state(), lb2.unit().priority), (State::Active, 90));
}

/// The IPv6 router of lb2, whose families run by themselves, loses its source address.
fn loses_ipv6(lb2: &mut Bench) {
    let mut state = eth0(2);
    state.addrs.pop();
    lb2.give(Input::Link { link: ETH0, state });
    assert_eq!(lb2.snapshot().units[1].state, State::Initialize);
}

#[test]
fn a_fault_of_one_family_ends_neither_the_activation_nor_the_order_of_the_other() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"fe80::10/64\"]\n");
    for standby in [Standby::Warm(activation()), Standby::Cold(Some(activation()))] {
        let mut lb2 = bench(&text, 2, |model| stands_by(model, 2, &standby));
        lb2.hear(1, 150);
        lb2.hear6(1, 150);
        match standby {
            Standby::Cold(_) => lb2.order(OperatorOrder::Promote { accept_data_loss: false }),
            _ => lb2.run(secs(5)),
        }
        lb2.run(ms(5));
        loses_ipv6(&mut lb2);
        answer(&mut lb2, Ok(()));
        lb2.run(ms(1));
        assert_eq!(lb2.snapshot().units[0].state, State::Active, "{standby:?}");
        assert_eq!(lb2.activations().len(), 1);
    }
}

#[test]
fn the_readiness_of_one_instance_does_not_unsettle_another_that_owns() {
    let text = plain(ZOO);
    let mut lb2 = bench(&text, 2, |model| {
        model.checks.push(Check { fall: 3, ..check(Severity::Fail, 0) });
        model.instances[0].checks.push(CHECK);
        let shared = Activation { ready: Some(CHECK), ..activation() };
        model.instances[1].standby = Standby::Warm(shared);
    });
    lb2.reads(Verdict::Pass);
    lb2.run(secs(6));
    assert_eq!(lb2.state(), State::Active);
    let order = lb2.log.iter().find_map(|(_, said)| match said {
        Said::Activate(InstanceIx(1), order) => Some(*order),
        _ => None,
    });
    let (instance, order) = (InstanceIx(1), order.unwrap());
    lb2.give(Input::Activated { instance, order, result: Ok(()) });
    lb2.reads(Verdict::Fail);
    assert_eq!((lb2.state(), lb2.class()), (State::Active, Class::Healthy), "one of three");
}
