//! Pre-promote hooks: asked before an ordered claim, never before another one; what they refuse is not done.

use super::*;
use crate::bench::{ETH0, Said, TOGETHER, ZOO, eth0};
use crate::fit::{activation, stands_by};
use std::sync::Arc;
use vipd_core::config::model::{Account, Call, Hook, HookRun, Moment, Program, Standby};
use vipd_core::engine::io::{Cause, LinkState};
use vipd_core::types::State;

/// Every host has a hook on these moments.
fn hooked(model: &mut Model) {
    let argv = vec!["/usr/local/bin/hook".into()];
    let timeout = secs(30);
    let program = Program { argv, account: Account::Default, env: Vec::new(), timeout };
    model.hooks.push(Hook {
        name: "h".into(),
        on: vec![Moment::PrePromote],
        instances: Vec::new(),
        run: HookRun::Program(program, Call::Vipd),
        timeout: None,
        interval: None,
        watch: Vec::new(),
        debounce: secs(1),
    });
}

/// Number of the order and the source, of each time that the hooks of `host` were asked.
fn asked(world: &World, host: usize) -> Vec<(u64, Option<HostIx>)> {
    asked_of(world, host, WEB)
}

/// The same, of this instance.
fn asked_of(world: &World, host: usize, ix: InstanceIx) -> Vec<(u64, Option<HostIx>)> {
    let said = world.hosts[host].log.iter().filter_map(|(_, said)| match said {
        Said::PrePromote(of, order, from) if *of == ix => Some((*order, *from)),
        _ => None,
    });
    said.collect()
}

/// Orders whose claim did not come, on `host`.
fn undone(world: &World, host: usize) -> Vec<u64> {
    let said = world.hosts[host].log.iter().filter_map(|(_, said)| match said {
        Said::NotPromoted(WEB, order) => Some(*order),
        _ => None,
    });
    said.collect()
}

fn answer(world: &mut World, host: usize, result: Result<(), Arc<str>>) {
    answer_of(world, host, WEB, result);
}

fn answer_of(world: &mut World, host: usize, instance: InstanceIx, result: Result<(), Arc<str>>) {
    let (order, _) = *asked_of(world, host, instance).last().unwrap();
    world.give(host, Input::PrePromoted { instance, order, result });
}

/// What hooks on `host` refused, as its history has it.
fn vetoes(world: &World, host: usize) -> Vec<String> {
    let told = world.hosts[host].events().into_iter().filter_map(|e| match e {
        EventKind::Vetoed(why) => Some(why.to_string()),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_target_claims_when_its_hooks_agree() {
    let mut world = world(&beating(""), 3, hooked);
    world.order(0, 1, Some(WEB), to(1));
    world.run(secs(20));
    world.only(0);
    assert_eq!(asked(&world, 1).len(), 1, "asked once");
    assert_eq!(asked(&world, 1)[0].1, Some(HostIx(0)));
    assert!(asked(&world, 0).is_empty() && asked(&world, 2).is_empty());
    answer(&mut world, 1, Ok(()));
    world.run(secs(1));
    world.only(1);
    assert!(world.hosts[0].end(1).unwrap().is_ok());
    assert_eq!(world.hosts[1].causes(), [(State::Active, Cause::MovedHere(HostIx(0)))]);
    assert!(undone(&world, 1).is_empty());
}

#[test]
fn a_target_that_got_ready_before_the_barrier_is_not_asked_again() {
    let mut world = world(&beating(""), 3, |m| {
        hooked(m);
        m.hooks[0].on.push(Moment::PreDemote);
    });
    world.order(0, 1, Some(WEB), to(1));
    world.run(secs(1));
    answer(&mut world, 1, Ok(()));
    world.run(secs(1));
    world.only(0);
    let barrier = world.hosts[0].log.iter().find_map(|(_, said)| match said {
        Said::Barrier(WEB, order, HostIx(1)) => Some(*order),
        _ => None,
    });
    let done = Input::BarrierDone { instance: WEB, order: barrier.unwrap(), result: Ok(()) };
    world.give(0, done);
    world.run(secs(1));
    world.only(1);
    // The writer is quiet meanwhile: nothing may be done twice.
    assert_eq!(asked(&world, 1).len(), 1);
    assert!(undone(&world, 1).is_empty());
}

#[test]
fn what_agreed_to_a_move_that_does_not_come_is_told_so() {
    let mut world = world(&beating(""), 3, |m| {
        hooked(m);
        stands_by(m, 2, &Standby::Warm(activation()));
    });
    world.order(0, 1, Some(WEB), to(1));
    world.run(secs(1));
    answer(&mut world, 1, Ok(()));
    world.run(secs(1));
    let order = world.hosts[1].activations()[0];
    world.give(1, Input::Activated { instance: WEB, order, result: Err("disk full".into()) });
    world.run(secs(5));
    world.only(0);
    assert_eq!(undone(&world, 1), [asked(&world, 1)[0].0]);
}

#[test]
fn a_veto_leaves_the_owner_and_is_not_asked_again() {
    let mut world = world(&beating(""), 3, hooked);
    world.order(0, 1, Some(WEB), to(1));
    world.run(secs(1));
    answer(&mut world, 1, Err("hook h vetoed: no licence".into()));
    world.run(secs(3));
    let why = world.hosts[0].end(1).unwrap().unwrap_err();
    assert!(why.contains("pre-promote") && why.contains("vipd history"), "{why}");
    assert_eq!(vetoes(&world, 1), ["hook h vetoed: no licence"], "where the source says it is");
    assert_eq!(undone(&world, 1), [asked(&world, 1)[0].0]);
    world.run(secs(300));
    world.only(0);
    assert_eq!(asked(&world, 1).len(), 1);
    // Ordered again, asked again.
    world.order(0, 2, Some(WEB), to(1));
    world.run(secs(1));
    assert_eq!(asked(&world, 1).len(), 2);
    answer(&mut world, 1, Ok(()));
    world.run(secs(1));
    world.only(1);
}

#[test]
fn hooks_that_say_nothing_refuse() {
    let mut world = world(&beating(""), 3, hooked);
    world.order(0, 1, Some(WEB), to(1));
    world.run(secs(60));
    world.only(0);
    assert!(world.hosts[0].end(1).unwrap().is_err());
    // Its answer is too late.
    answer(&mut world, 1, Ok(()));
    world.run(secs(60));
    world.only(0);
}

#[test]
fn a_promotion_asks_and_ends_with_the_reason_of_the_veto() {
    let mut world = world(&beating(""), 3, hooked);
    world.order(2, 1, Some(WEB), OperatorOrder::Promote { accept_data_loss: false });
    world.run(secs(5));
    world.only(0);
    assert_eq!(asked(&world, 2).len(), 1);
    assert_eq!(asked(&world, 2)[0].1, None);
    answer(&mut world, 2, Err("hook h vetoed: no licence".into()));
    let why = world.hosts[2].end(1).unwrap().unwrap_err();
    assert!(why.contains("no licence"), "{why}");
    world.run(secs(120));
    world.only(0);
    world.order(2, 2, Some(WEB), OperatorOrder::Promote { accept_data_loss: false });
    world.run(secs(1));
    answer(&mut world, 2, Ok(()));
    world.run(secs(1));
    world.only(2);
    assert!(world.hosts[2].end(2).unwrap().is_ok());
}

#[test]
fn a_dead_owner_is_replaced_without_asking_even_while_hooks_run() {
    let mut world = world(&beating(""), 3, hooked);
    world.off.insert(0);
    world.run(secs(10));
    assert_eq!(world.owners(), [1]);
    assert!(asked(&world, 1).is_empty());

    let mut world = crate::fit::world(&beating(""), 3, hooked);
    world.order(0, 1, Some(WEB), to(1));
    world.run(secs(1));
    world.off.insert(0);
    world.run(secs(10));
    assert_eq!(world.owners(), [1], "its hooks still run");
    assert_eq!(asked(&world, 1).len(), 1);
}

#[test]
fn a_fault_or_a_stop_ends_what_hooks_were_asked_for() {
    for stops in [false, true] {
        let mut world = world(&beating(""), 3, hooked);
        world.order(2, 1, Some(WEB), OperatorOrder::Promote { accept_data_loss: false });
        world.run(secs(1));
        if stops {
            world.give(2, Input::Stop);
        } else {
            let state = LinkState { running: false, ..eth0(3) };
            world.give(2, Input::Link { link: ETH0, state });
        }
        assert_eq!(undone(&world, 2), [asked(&world, 2)[0].0], "stops: {stops}");
        world.run(secs(5));
        world.only(0);
    }
}

#[test]
fn a_warm_target_asks_first_and_is_activated_then() {
    let mut world = world(&beating(""), 3, |m| {
        hooked(m);
        stands_by(m, 2, &Standby::Warm(activation()));
    });
    world.order(0, 1, Some(WEB), to(1));
    world.run(secs(5));
    assert!(world.hosts[1].activations().is_empty());
    answer(&mut world, 1, Ok(()));
    world.run(secs(10));
    world.only(0);
    let order = world.hosts[1].activations()[0];
    world.give(1, Input::Activated { instance: WEB, order, result: Ok(()) });
    world.run(secs(1));
    world.only(1);
    assert_eq!(asked(&world, 1).len(), 1);
}

/// A move and a promotion of instances that move together, where the hooks of the second say no.
#[test]
fn one_veto_is_the_veto_of_all_that_moves_together() {
    const THE_ZOO: InstanceIx = InstanceIx(1);
    let zoo = ZOO.replace("eth1", "eth0").replace("198.51.100.10", "192.0.2.20");
    let text = beating(&(zoo + TOGETHER));
    for promotes in [false, true] {
        for all_are_asked in [false, true] {
            let mut world = world(&text, 3, |m| {
                hooked(m);
                if !all_are_asked {
                    m.hooks[0].instances = vec![THE_ZOO];
                }
            });
            let order = match promotes {
                true => OperatorOrder::Promote { accept_data_loss: false },
                false => to(1),
            };
            let ordered_at = if promotes { 1 } else { 0 };
            world.order(ordered_at, 1, Some(WEB), order);
            world.run(secs(1));
            if all_are_asked {
                answer(&mut world, 1, Ok(()));
            }
            answer_of(&mut world, 1, THE_ZOO, Err("hook h vetoed: no licence".into()));
            world.run(secs(120));
            let what = format!("promotes {promotes}, all are asked {all_are_asked}");
            assert_eq!(world.owners(), [0], "{what}");
            assert_eq!(asked_of(&world, 1, THE_ZOO).len(), 1, "{what}: not again by itself");
            assert_eq!(asked(&world, 1).len(), usize::from(all_are_asked), "{what}");
            assert_eq!(undone(&world, 1).len(), usize::from(all_are_asked), "{what}");
            assert_eq!(vetoes(&world, 1), ["hook h vetoed: no licence"], "{what}");
            let why = world.hosts[ordered_at].end(1).unwrap().unwrap_err();
            let says = if promotes { "zoo moves with it" } else { "pre-promote" };
            assert!(why.contains(says), "{what}: {why}");
            // Ordered again, asked again.
            world.order(ordered_at, 2, Some(WEB), order);
            world.run(secs(1));
            assert_eq!(asked_of(&world, 1, THE_ZOO).len(), 2, "{what}");
            if all_are_asked {
                answer(&mut world, 1, Ok(()));
            }
            answer_of(&mut world, 1, THE_ZOO, Ok(()));
            world.run(secs(1));
            assert_eq!(world.owners(), [1], "{what}");
        }
    }
}
