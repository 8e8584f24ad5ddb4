//! Planned moves that wait for the state: the target gets ready, the writer is quieted, everything is brought over, then
//! the target claims.

use super::*;
use crate::bench::{ETH0, eth0};
use crate::fit::{activation, of_web, stands_by, with_alone};
use vipd_core::config::model::{Severity, Standby};
use vipd_core::engine::io::{LinkState, OperationStep, OperatorOrder, Verdict};
use vipd_core::types::State;

pub(super) fn to(host: u8) -> OperatorOrder {
    OperatorOrder::Move { to: Some(HostIx(host)), force: false }
}

/// A barrier is under way at `from`: its order.
fn under_way(world: &mut World, from: usize, order: OperatorOrder) -> u64 {
    world.give(from, of_web(order));
    world.run(ms(100));
    let barriers = world.hosts[from].barriers();
    let [(WEB, order, _)] = barriers[..] else { panic!("{barriers:?}") };
    order
}

fn done(world: &mut World, host: usize, order: u64, result: Result<(), &str>) {
    let result = result.map_err(Into::into);
    world.give(host, Input::BarrierDone { instance: WEB, order, result });
}

/// The address moves, with its state.
pub(super) fn moved(world: &mut World, from: usize, target: u8) {
    let order = under_way(world, from, to(target));
    done(world, from, order, Ok(()));
    world.run(secs(1));
    assert_eq!(world.owners(), [usize::from(target)]);
}

fn ended(world: &World, host: usize) -> Option<Result<String, String>> {
    world.hosts[host].events().into_iter().find_map(|e| match e {
        EventKind::Operation { step: OperationStep::Done(text), .. } => Some(Ok(text.to_string())),
        EventKind::Operation { step: OperationStep::Aborted(text), .. } => {
            Some(Err(text.to_string()))
        }
        _ => None,
    })
}

#[test]
fn the_target_claims_when_everything_is_there_and_not_before() {
    let mut world = stateful("prefer", |_| {});
    let order = under_way(&mut world, 0, to(1));
    world.run(secs(15));
    assert_eq!(
        (world.owners(), world.holders()),
        (vec![0], vec![0]),
        "the writer is quiet, clients are served"
    );
    done(&mut world, 0, order, Ok(()));
    let took = world.until(secs(1), |w| w.owners() == [1]);
    assert!(took <= ms(50), "{took:?}");
    world.run(secs(1));
    assert_eq!(world.holders(), [1]);
    assert!(world.hosts[1].unit().pinned);
    assert_eq!(world.hosts[0].over(), [(order, true)]);
    assert!(ended(&world, 0).unwrap().is_ok());
}

#[test]
fn without_state_nothing_waits() {
    let mut world = crate::fit::world(&beating(""), 3, |_: &mut Model| {});
    world.give(0, of_web(to(1)));
    world.run(secs(1));
    assert_eq!((world.owners(), world.hosts[0].barriers().len()), (vec![1], 0));
}

#[test]
fn a_barrier_that_fails_leaves_everything_as_it_was() {
    let mut world = stateful("prefer", |_| {});
    let order = under_way(&mut world, 0, to(1));
    done(&mut world, 0, order, Err("disk full on lb2"));
    world.run(secs(10));
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
    assert_eq!(world.hosts[0].over(), [(order, false)]);
    let why = ended(&world, 0).unwrap().unwrap_err();
    assert!(why.contains("disk full on lb2") && why.contains("--force"), "{why}");
    // What comes later changes nothing.
    done(&mut world, 0, order, Ok(()));
    world.run(secs(5));
    assert_eq!((world.owners(), world.hosts[0].over().len()), (vec![0], 1));
}

#[test]
fn a_barrier_that_hangs_ends_by_its_time() {
    let mut world = stateful("prefer", |_| {});
    let order = under_way(&mut world, 0, to(1));
    world.run(secs(22));
    assert_eq!((world.owners(), world.hosts[0].over()), (vec![0], vec![(order, false)]));
    let why = ended(&world, 0).unwrap().unwrap_err();
    assert!(why.contains("too long"), "{why}");
}

#[test]
fn force_moves_without_and_names_what_is_missing() {
    for hangs in [false, true] {
        let mut world = stateful("prefer", |_| {});
        let forced = OperatorOrder::Move { to: Some(HostIx(1)), force: true };
        let order = under_way(&mut world, 0, forced);
        if hangs {
            world.run(secs(22));
        } else {
            done(&mut world, 0, order, Err("lb2 refused"));
        }
        world.run(secs(2));
        assert_eq!(world.owners(), [1]);
        let said = ended(&world, 0).unwrap().unwrap();
        assert!(said.contains(if hangs { "too long" } else { "lb2 refused" }), "{said}");
        assert_eq!(world.hosts[0].over(), [(order, true)]);
    }
}

#[test]
fn the_writer_is_quieted_when_a_warm_target_is_ready() {
    let mut world = stateful("prefer", |m| stands_by(m, 2, &Standby::Warm(activation())));
    world.give(0, of_web(to(1)));
    world.run(secs(10));
    assert_eq!(world.hosts[0].barriers(), [], "it gets ready while the writer writes");
    let order = world.hosts[1].activations()[0];
    world.give(1, Input::Activated { instance: WEB, order, result: Ok(()) });
    world.run(ms(100));
    let order = world.hosts[0].barriers()[0].1;
    world.run(secs(18));
    assert_eq!(world.owners(), [0]);
    done(&mut world, 0, order, Ok(()));
    world.run(secs(1));
    assert_eq!((world.owners(), world.hosts[1].activations().len()), (vec![1], 1));
}

#[test]
fn an_activation_that_fails_ends_the_move_before_its_barrier() {
    let mut world = stateful("prefer", |m| stands_by(m, 2, &Standby::Warm(activation())));
    world.give(0, of_web(to(1)));
    world.run(ms(100));
    let order = world.hosts[1].activations()[0];
    world.give(1, Input::Activated { instance: WEB, order, result: Err("exit 1".into()) });
    world.run(secs(2));
    assert_eq!(
        (world.owners(), world.hosts[0].barriers(), world.hosts[0].over()),
        (vec![0], vec![], vec![])
    );
    assert!(ended(&world, 0).unwrap().is_err());
}

/// What goes wrong, at every step of a move with its state: there is one owner in the end, the operation has ended, and
/// the writer goes on where the owner is.
#[test]
fn any_end_at_any_step_resumes_the_writer_on_the_owner() {
    for step in 0..4 {
        for ill in 0..5 {
            let mut world = stateful("prefer", |_| {});
            world.give(0, of_web(to(1)));
            if step > 0 {
                world.run(ms(100));
            }
            if step > 1 {
                let order = world.hosts[0].barriers()[0].1;
                done(&mut world, 0, order, Ok(()));
            }
            if step > 2 {
                world.run(ms(50));
            }
            match ill {
                0 => drop(world.off.insert(1)),
                1 => drop(world.hung.insert(1)),
                2 => {
                    let state = LinkState { running: false, ..eth0(1) };
                    world.give(0, Input::Link { link: ETH0, state });
                }
                3 => {
                    let cut = World::around(0);
                    (world.no_adverts, world.no_beats, world.no_segment) =
                        (cut.clone(), cut.clone(), cut);
                    world.run(secs(10));
                    (world.no_adverts, world.no_beats, world.no_segment) = Default::default();
                }
                _ => {
                    let state = LinkState { running: false, ..eth0(2) };
                    world.give(1, Input::Link { link: ETH0, state });
                }
            }
            world.run(secs(40));
            let what = format!("step {step}, ill {ill}: {:?}", world.hosts[0].events());
            assert_eq!((world.owners().len(), world.holders().len()), (1, 1), "{what}");
            assert!(ended(&world, 0).is_some(), "{what}");
            let (begun, over) = (world.hosts[0].barriers(), world.hosts[0].over());
            assert_eq!(begun.len(), over.len(), "{what}");
            // Who lost the address may have it again by now, as any other would.
            let left = world.hosts[0].causes().iter().any(|(state, _)| *state != State::Active);
            let owns = world.owners() == [0];
            assert!(
                over.iter().all(|(_, moved)| if *moved { left } else { left || owns }),
                "{what}"
            );
        }
    }
}

#[test]
fn a_source_that_dies_is_replaced_at_every_step() {
    for step in 0..3 {
        let mut world = stateful("prefer", |_| {});
        world.give(0, of_web(to(1)));
        if step > 0 {
            world.run(ms(100));
        }
        if step > 1 {
            let order = world.hosts[0].barriers()[0].1;
            done(&mut world, 0, order, Ok(()));
        }
        world.off.insert(0);
        world.run(secs(8));
        assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]), "step {step}");
        assert!(!world.hosts[1].unit().ordered);
    }
}

#[test]
fn a_drain_a_failback_and_a_check_that_drains_bring_the_state_too() {
    let mut world = stateful("prefer", |_| {});
    let drain = OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
    let order = under_way(&mut world, 0, drain);
    done(&mut world, 0, order, Ok(()));
    world.run(secs(1));
    assert_eq!(world.owners(), [1]);

    let mut world = stateful("prefer", |_| {});
    moved(&mut world, 0, 1);
    fresh(&mut world);
    world.run(secs(1));
    world.forget();
    let order = under_way(&mut world, 1, OperatorOrder::Failback);
    world.run(secs(10));
    assert_eq!((world.owners(), world.hosts[1].unit().pinned), (vec![1], true));
    done(&mut world, 1, order, Ok(()));
    world.run(secs(1));
    assert_eq!((world.owners(), world.hosts[0].unit().pinned), (vec![0], false));
    assert_eq!(ended(&world, 1).map(|e| e.is_ok()), Some(true));

    let mut world = stateful("prefer", with_alone(Severity::Drain, 0));
    for host in 0..3 {
        crate::fit::say(&mut world, host, 0, Verdict::Pass);
    }
    world.run(secs(1));
    crate::fit::say(&mut world, 0, 0, Verdict::Fail);
    world.run(secs(1));
    let order = world.hosts[0].barriers()[0].1;
    assert_eq!(world.owners(), [0]);
    done(&mut world, 0, order, Ok(()));
    world.run(secs(1));
    assert_eq!((world.owners(), world.hosts[0].over()), (vec![1], vec![(order, true)]));
}

#[test]
fn a_stop_brings_the_state_first_and_leaves_in_any_case() {
    for fails in [false, true] {
        let mut world = stateful("prefer", |_| {});
        world.give(0, Input::Stop);
        world.run(ms(100));
        let order = world.hosts[0].barriers()[0].1;
        assert_eq!(world.owners(), [0]);
        let why = world.hosts[0].engine.judge(Some(WEB), &to(1)).unwrap_err();
        assert!(why.contains("stopping"), "{why}");
        done(&mut world, 0, order, if fails { Err("lb2 is full") } else { Ok(()) });
        world.run(secs(3));
        assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
        assert!(world.hosts[0].engine.stopped());
        let unsynced = world.hosts[0].events().into_iter().find_map(|e| match e {
            EventKind::Unsynced(why) => Some(why),
            _ => None,
        });
        assert_eq!(unsynced.is_some(), fails);
        assert!(!fails || unsynced.unwrap().contains("lb2 is full"));
    }
    // A barrier that hangs delays the stop for its time; told again, it waits no longer.
    for again in [false, true] {
        let mut world = stateful("prefer", |_| {});
        world.give(0, Input::Stop);
        world.run(secs(1));
        if again {
            world.give(0, Input::Stop);
        }
        world.run(secs(if again { 3 } else { 26 }));
        assert_eq!((world.owners(), world.hosts[0].over().len()), (vec![1], 1));
        assert!(world.hosts[0].engine.stopped());
    }
    // Nobody is there: it leaves at once.
    let mut lb1 = Bench::owner(&beating(&set("prefer")), 1);
    lb1.give(Input::Stop);
    lb1.run(secs(3));
    assert!(lb1.engine.stopped());
    assert_eq!(lb1.state(), State::Initialize);
}

/// What a stop left behind, and why.
fn left_behind(world: &World) -> Vec<String> {
    let told = world.hosts[0].events().into_iter();
    told.filter_map(|e| if let EventKind::Unsynced(why) = e { Some(why.to_string()) } else { None })
        .collect()
}

#[test]
fn a_stop_waits_for_a_successor_that_gets_ready_within_its_limit() {
    let slow = || {
        let mut activation = activation();
        activation.program.timeout = secs(120);
        Standby::Warm(activation)
    };
    // Longer than a barrier may take, and longer than a stop.
    for (ready, in_time) in [(30, true), (46, false)] {
        let mut world = stateful("prefer", |m| stands_by(m, 2, &slow()));
        world.give(0, Input::Stop);
        world.run(secs(ready));
        assert_eq!((world.owners() == [0], left_behind(&world).is_empty()), (in_time, in_time));
        if !in_time {
            assert!(left_behind(&world)[0].contains("too long"), "{:?}", left_behind(&world));
            continue;
        }
        let order = world.hosts[1].activations()[0];
        world.give(1, Input::Activated { instance: WEB, order, result: Ok(()) });
        world.run(ms(100));
        let order = world.hosts[0].barriers()[0].1;
        done(&mut world, 0, order, Ok(()));
        world.run(secs(3));
        assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
        assert!(world.hosts[0].engine.stopped());
        assert_eq!(left_behind(&world), [] as [String; 0]);
    }
}

#[test]
fn a_stop_waits_for_a_copy_that_is_about_to_be_complete() {
    let old = || copy(Some(secs(1000)));
    let stale = || {
        let mut world = stateful("prefer", |_| {});
        world.give(1, old());
        world.give(2, old());
        world.run(ms(500));
        world
    };
    // It becomes complete after a while, or never.
    for comes in [true, false] {
        let mut world = stale();
        world.give(0, Input::Stop);
        world.run(secs(10));
        assert_eq!((world.owners(), world.hosts[0].barriers().len()), (vec![0], 0));
        if comes {
            world.give(1, copy(Some(Duration::ZERO)));
            world.run(ms(1500));
            let order = world.hosts[0].barriers()[0].1;
            done(&mut world, 0, order, Ok(()));
            world.run(secs(3));
            assert_eq!((world.owners(), left_behind(&world)), (vec![1], vec![]));
        } else {
            world.run(secs(16));
            assert_eq!(world.hosts[0].barriers(), []);
            assert!(left_behind(&world)[0].contains("is old or unknown"));
        }
        assert!(world.hosts[0].engine.stopped());
    }
    // Told again it waits no longer; and it waits for nobody where its own replicator says nothing, or none is there.
    for ill in 0..3 {
        let mut world = stale();
        match ill {
            0 => world.give(0, Input::Stop),
            1 => world.give(0, copy(None)),
            _ => world.off.extend([1, 2]),
        }
        world.run(secs(1));
        world.give(0, Input::Stop);
        world.run(secs(6));
        assert!(world.hosts[0].engine.stopped(), "{ill}");
    }
}

#[test]
fn a_stop_whose_successor_has_just_started_asks_again() {
    let mut world = stateful("prefer", |_| {});
    // Nobody knows of it yet; lb2 is asked, says no for now, and lb3 is the next.
    let started = world.now + secs(60);
    world.hosts[1].engine.start_as_backup(started);
    world.give(0, Input::Stop);
    world.run(secs(3));
    let barriers = world.hosts[0].barriers();
    let [(WEB, order, HostIx(2))] = barriers[..] else { panic!("{barriers:?}") };
    done(&mut world, 0, order, Ok(()));
    world.run(secs(3));
    assert_eq!((world.owners(), left_behind(&world)), (vec![2], vec![]));
    assert!(world.hosts[0].engine.stopped());
}

/// Another VRID: the instance leaves with its state, and in any case.
#[test]
fn a_hard_reload_brings_the_state_first_and_hands_over_in_any_case() {
    #[derive(PartialEq, Debug)]
    enum Barrier {
        Passes,
        Fails,
        Hangs,
    }
    let text = beating(&set("prefer")).replace("vrid = 51", "vrid = 53");
    for barrier in [Barrier::Passes, Barrier::Fails, Barrier::Hangs] {
        let mut world = stateful("prefer", |_| {});
        let next = world.retire(0, &text);
        world.run(ms(100));
        let order = world.hosts[0].barriers()[0].1;
        assert_eq!((world.owners(), world.hosts[0].engine.retired()), (vec![0], false));
        match barrier {
            Barrier::Passes => done(&mut world, 0, order, Ok(())),
            Barrier::Fails => done(&mut world, 0, order, Err("lb2 is full")),
            Barrier::Hangs => world.run(secs(24)),
        }
        world.run(secs(3));
        assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]), "{barrier:?}");
        assert_eq!(world.hosts[0].over(), [(order, barrier == Barrier::Passes)]);
        let unsynced: Vec<_> = world.hosts[0]
            .events()
            .into_iter()
            .filter_map(|e| if let EventKind::Unsynced(why) = e { Some(why) } else { None })
            .collect();
        match barrier {
            Barrier::Passes => assert!(unsynced.is_empty()),
            Barrier::Fails => assert!(unsynced[0].contains("lb2 is full"), "{unsynced:?}"),
            Barrier::Hangs => assert!(unsynced[0].contains("too long"), "{unsynced:?}"),
        }
        assert!(unsynced.len() <= 1, "{unsynced:?}");
        assert!(world.hosts[0].engine.retired());
        world.hosts[0].put_in_force(next);
        assert_eq!(world.hosts[0].state(), State::Backup);
    }
    // Told to stop meanwhile: the stop brings it.
    let mut world = stateful("prefer", |_| {});
    drop(world.retire(0, &text));
    world.run(ms(100));
    world.give(0, Input::Stop);
    world.run(ms(100));
    let order = world.hosts[0].barriers()[1].1;
    assert_eq!(world.owners(), [0]);
    done(&mut world, 0, order, Ok(()));
    world.run(secs(3));
    assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
    assert!(world.hosts[0].engine.stopped());
    // Nobody is there: it leaves at once.
    let mut lb1 = Bench::owner(&beating(&set("prefer")), 1);
    drop(lb1.retire(&text));
    lb1.run(secs(3));
    assert!(lb1.engine.retired() && lb1.barriers().is_empty());
}

/// The target has claimed and both hold the address: what ends the move here does not make the writer go on.
#[test]
fn a_stop_or_a_retirement_in_the_overlap_does_not_resume_the_writer() {
    for retires in [false, true] {
        let mut world = stateful("prefer", |_| {});
        let order = under_way(&mut world, 0, to(1));
        done(&mut world, 0, order, Ok(()));
        world.until(secs(1), |w| w.hosts[1].state() == State::Active);
        world.until(secs(1), |w| w.hosts[0].state() != State::Active);
        assert_eq!((world.holders(), world.hosts[0].over().len()), (vec![0, 1], 0));
        if retires {
            let text = beating(&set("prefer")).replace("vrid = 51", "vrid = 53");
            drop(world.retire(0, &text));
        } else {
            world.give(0, Input::Stop);
        }
        assert_eq!(world.hosts[0].over(), [(order, true)]);
        world.run(secs(3));
        assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
        assert_eq!(world.hosts[0].barriers().len(), 1, "nothing is brought a second time");
    }
}

#[test]
fn instances_that_move_together_wait_for_the_state_of_each() {
    let zoo = "[instance.zoo]\nvrid = 52\ninterface = \"eth0\"\naddresses = [\"192.0.2.20/24\"]\n\
        priority = { lb1 = 150, lb2 = 100, lb3 = 50 }\npreempt-delay = \"0s\"\nhold-down = \"0s\"\nsettle = \"off\"\n\
        [sync.all]\ninstances = [\"web\", \"zoo\"]\n";
    let text = beating(&(zoo.to_owned() + &set("prefer")));
    for fails in [false, true] {
        let mut world = World::of((1..=3).map(|n| Bench::up(&text, n)).collect());
        fresh(&mut world);
        world.run(secs(6));
        world.forget();
        let order = under_way(&mut world, 0, to(1));
        world.run(secs(5));
        let states = |world: &World, host: usize| -> Vec<State> {
            world.hosts[host].snapshot().units.iter().map(|u| u.state).collect()
        };
        assert_eq!(states(&world, 0), [State::Active; 2]);
        done(&mut world, 0, order, if fails { Err("no") } else { Ok(()) });
        world.run(secs(2));
        let owner = if fails { 0 } else { 1 };
        assert_eq!(states(&world, owner), [State::Active; 2]);
        assert_eq!(world.hosts[0].over(), [(order, !fails)]);
        assert_eq!(ended(&world, 0).map(|e| e.is_err()), Some(fails));
    }
}
