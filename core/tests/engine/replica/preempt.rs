//! Preemption where state files follow the address: the owner brings them to the stronger host, and then hands over.

use super::barrier::to;
use super::*;
use crate::bench::{ETH0, TOGETHER, eth0};
use crate::fit::{activation, of_web, say, stands_by, with};
use vipd_core::config::model::{FlapControl, Severity, Standby};
use vipd_core::engine::io::{Alarm, Cause, LinkState, OperatorOrder, Verdict};
use vipd_core::engine::snapshot::MoveView;
use vipd_core::policy::Closed;
use vipd_core::types::State;
use vipd_core::wire::heartbeat::{Heartbeat, HeartbeatKey};

/// M of lb1 beside an owner at an interval of a second, and one interval more.
const TAKEN: Duration = Duration::from_millis(4500);
const FREEZE: OperatorOrder = OperatorOrder::Freeze { until: None };

/// `text`, of which `n` hosts play: lb1 has lost the address and is back, with everything.
fn back(text: &str, n: u8, change: impl Fn(&mut Model)) -> World {
    let mut world = World::of((1..=n).map(|n| crate::fit::bench(text, n, &change)).collect());
    let all = |world: &mut World| {
        for host in 0..world.hosts.len() {
            for set in 0..world.hosts[host].model.replicates.len() {
                let set = SetIx(u16::try_from(set).unwrap());
                let state = Some(ReplicaState { age: Some(Duration::ZERO), pending: 0 });
                world.give(host, Input::Replica { set, state });
            }
        }
    };
    all(&mut world);
    confirm(&mut world);
    world.run(secs(6));
    assert_eq!(world.owners(), [0]);
    plug(&mut world, 0, false);
    world.run(secs(6));
    assert_eq!(world.owners(), [1]);
    all(&mut world);
    plug(&mut world, 0, true);
    world.forget();
    world
}

fn plug(world: &mut World, host: usize, running: bool) {
    let state = LinkState { running, ..eth0(u8::try_from(host + 1).unwrap()) };
    world.give(host, Input::Link { link: ETH0, state });
}

fn pair() -> World {
    back(&beating(&set("prefer")), 2, |_| {})
}

/// The barrier that lb2 has asked for last.
fn order(world: &World, host: usize) -> u64 {
    world.hosts[host].barriers().last().expect("a barrier").1
}

fn done(world: &mut World, host: usize, result: Result<(), &str>) {
    let (order, result) = (order(world, host), result.map_err(Into::into));
    world.give(host, Input::BarrierDone { instance: WEB, order, result });
}

fn not_brought(world: &World, host: usize) -> Vec<String> {
    let alarms = world.hosts[host].alarms().into_iter();
    let of = alarms.filter_map(|alarm| match alarm {
        Alarm::NotBrought(HostIx(0), why) => Some(why.to_string()),
        _ => None,
    });
    of.collect()
}

#[test]
fn the_owner_brings_everything_then_hands_over() {
    let mut world = pair();
    world.until(secs(5), |w| !w.hosts[1].barriers().is_empty());
    // As long as the barrier takes, nobody moves; both say what they wait for.
    world.run(secs(15));
    assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
    assert_eq!(world.hosts[1].barriers(), [(WEB, order(&world, 1), HostIx(0))]);
    let (waits, owner) = (world.hosts[0].unit(), world.hosts[1].unit());
    assert_eq!(waits.gate, Some(Closed::OwnerBrings(HostIx(1))));
    assert_eq!(waits.moving, Some(MoveView::From(HostIx(1))));
    assert_eq!(owner.moving, Some(MoveView::To(Some(HostIx(0)))));
    assert_eq!(owner.asked_by.map(|(host, _)| host), Some(HostIx(0)));
    done(&mut world, 1, Ok(()));
    let took = world.until(secs(1), |w| w.owners() == [0]);
    assert!(took <= ms(50), "{took:?}");
    assert_eq!(world.holders(), [0, 1], "make before break");
    world.run(secs(600));
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
    assert_eq!(world.hosts[0].causes().last().unwrap().1, Cause::MovedHere(HostIx(1)));
    assert_eq!(world.hosts[1].causes(), [(State::Backup, Cause::MovedAway(Some(HostIx(0))))]);
    // It is no pin, and nothing keeps the weaker host from anything.
    let (strong, weak) = (world.hosts[0].unit(), world.hosts[1].unit());
    assert_eq!((strong.pinned, strong.priority, weak.away), (false, 150, false));
    assert_eq!(world.hosts[1].over().len(), 1);
}

#[test]
fn a_barrier_that_fails_leaves_the_owner_with_an_alarm_and_growing_pauses() {
    let mut world = pair();
    let began = world.now;
    let mut times = Vec::new();
    while world.now - began < secs(700) {
        world.run(ms(100));
        world.give(0, copy(Some(Duration::ZERO)));
        if world.hosts[1].barriers().len() > world.hosts[1].over().len() {
            times.push(world.now);
            done(&mut world, 1, Err("disk full on lb1"));
        }
        assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
    }
    let pauses: Vec<u64> = times.windows(2).map(|t| (t[1] - t[0]).as_secs()).collect();
    assert_eq!(pauses.len(), 6, "{pauses:?}");
    for (pause, least) in pauses.iter().zip([10, 20, 40, 80, 160, 320]) {
        assert!((least..=least + 2).contains(pause), "{pauses:?}");
    }
    let why = not_brought(&world, 1);
    assert!(why.len() == 1 && why[0].contains("disk full on lb1"), "{why:?}");
    let told = world.hosts[1].events();
    let raised = told.iter().filter(|e| matches!(e, EventKind::Alarm(Alarm::NotBrought(..), true)));
    assert_eq!(raised.count(), 1, "told once, not at each try");
    assert!(world.hosts[1].unit().asked_by.unwrap().1 > secs(60));
    // Somebody mended it, and does not wait.
    world.give(1, of_web(OperatorOrder::Acknowledge));
    assert_eq!(not_brought(&world, 1), Vec::<String>::new());
    world.run(secs(2));
    done(&mut world, 1, Ok(()));
    world.run(secs(2));
    assert_eq!((world.owners(), not_brought(&world, 1)), (vec![0], vec![]));
}

#[test]
fn a_barrier_that_hangs_is_one_that_fails() {
    let mut world = pair();
    world.run(secs(28));
    assert_eq!((world.owners(), world.hosts[1].over().len()), (vec![1], 1));
    assert!(not_brought(&world, 1)[0].contains("too long"));
}

#[test]
fn an_alarm_ends_when_nobody_waits_any_more() {
    for dies in [false, true] {
        let mut world = pair();
        world.run(secs(5));
        done(&mut world, 1, Err("no"));
        assert_eq!(not_brought(&world, 1).len(), 1);
        if dies {
            world.off.insert(0);
        } else {
            world.give(0, copy(None));
        }
        world.run(secs(5));
        assert_eq!((world.owners(), not_brought(&world, 1)), (vec![1], vec![]));
    }
}

/// The owner dies, or its heartbeats cease, before and at every step: the address is taken as ever.
#[test]
fn an_owner_that_falls_silent_is_replaced_at_once() {
    for step in 0..4 {
        for dies in [true, false] {
            let mut world = pair();
            if step > 0 {
                world.until(secs(5), |w| !w.hosts[1].barriers().is_empty());
            }
            if step > 1 {
                world.run(secs(5));
            }
            if step > 2 {
                done(&mut world, 1, Ok(()));
            }
            if dies {
                world.off.insert(1);
            } else {
                world.no_beats = World::around(0);
            }
            // Without heartbeats two intervals pass before they count as silent.
            let took = world.until(TAKEN + secs(4), |w| w.owners() == [0]);
            let most = if dies { TAKEN } else { TAKEN + secs(3) };
            assert!(took <= most, "{step} {dies}: {took:?}");
            world.run(secs(30));
            assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]), "{step} {dies}");
            let (begun, over) = (world.hosts[1].barriers().len(), world.hosts[1].over().len());
            assert!(begun == over || dies && begun == over + 1, "{step} {dies}: {begun} {over}");
        }
    }
}

/// What ends a move that was ordered ends this one: there is one owner in the end, and what began is over.
#[test]
fn any_end_at_any_step_leaves_one_owner() {
    for step in 0..4 {
        for ill in 0..6 {
            let mut world = pair();
            if step > 0 {
                world.run(secs(5));
            }
            if step > 1 {
                done(&mut world, 1, Ok(()));
            }
            if step > 2 {
                world.run(ms(50));
            }
            match ill {
                0 => drop(world.off.insert(0)),
                1 => drop(world.hung.insert(0)),
                2 => plug(&mut world, 0, false),
                3 => plug(&mut world, 1, false),
                4 => world.give(1, Input::Stop),
                _ => {
                    let cut = World::around(0);
                    (world.no_adverts, world.no_beats, world.no_segment) =
                        (cut.clone(), cut.clone(), cut);
                    world.run(secs(10));
                    (world.no_adverts, world.no_beats, world.no_segment) = Default::default();
                }
            }
            world.run(secs(45));
            let what = format!("step {step}, ill {ill}: {:?}", world.hosts[1].events());
            assert_eq!((world.owners().len(), world.holders().len()), (1, 1), "{what}");
            let (begun, over) = (world.hosts[1].barriers().len(), world.hosts[1].over().len());
            assert!(begun <= over + 1, "{what}");
        }
    }
}

/// An owner without sets, and one of a release that says nothing of it, are preempted as VRRP has it; so is one by a
/// host that knows of no sets.
#[test]
fn who_knows_nothing_of_it_is_preempted_as_ever() {
    let (with, without) = (beating(&set("prefer")), beating(""));
    for texts in [[&with, &without], [&without, &with]] {
        let hosts = (1..=2).zip(texts).map(|(n, text)| Bench::up(text, n)).collect();
        let mut world = World::of(hosts);
        for host in 0..2 {
            if !world.hosts[host].model.replicates.is_empty() {
                world.give(host, copy(Some(Duration::ZERO)));
            }
        }
        world.run(secs(6));
        assert_eq!(world.owners(), [0]);
        plug(&mut world, 0, false);
        world.run(secs(6));
        assert_eq!(world.owners(), [1]);
        if texts[0] == &with {
            world.give(0, copy(Some(Duration::ZERO)));
        }
        plug(&mut world, 0, true);
        world.until(TAKEN, |w| w.owners() == [0]);
        assert!(world.hosts.iter().all(|host| host.barriers().is_empty()));
    }
    let mut world = pair();
    world.strips = Some(strip);
    world.until(TAKEN + secs(2), |w| w.owners() == [0]);
    assert!(world.hosts[1].barriers().is_empty());
}

/// The heartbeat as a release before this says it.
fn strip(payload: &[u8]) -> Vec<u8> {
    let key = HeartbeatKey::derive(&[0x5a; 32], "shop");
    let mut beat = Heartbeat::decode(payload, &key).unwrap();
    beat.instances.iter_mut().for_each(|record| record.plans_preemption = false);
    beat.encode(&key)
}

#[test]
fn gates_of_preemption_hold_as_ever() {
    // `preempt = false`; a delay; a hold-down.
    let never = back(&beating(&("preempt = false\n".to_owned() + &set("prefer"))), 2, |_| {});
    let delay =
        back(&beating(&("preempt-delay = \"30s\"\n".to_owned() + &set("prefer"))), 2, |_| {});
    let hold = back(&beating(&("hold-down = \"40s\"\n".to_owned() + &set("prefer"))), 2, |_| {});
    for (mut world, after) in [(never, None), (delay, Some(30)), (hold, Some(34))] {
        let back = world.now;
        world.run(secs(28));
        assert!(world.hosts[1].barriers().is_empty());
        match after {
            None => world.run(secs(600)),
            Some(after) => {
                world.until(secs(20), |w| !w.hosts[1].barriers().is_empty());
                let waited = world.now - back;
                assert!((secs(after)..=secs(after + 4)).contains(&waited), "{waited:?}");
            }
        }
        assert_eq!(
            (world.owners(), world.hosts[1].barriers().len()),
            (vec![1], usize::from(after.is_some()))
        );
    }
    // Frozen, also in the middle: nothing moves, the writer goes on, and nothing has failed.
    let mut world = pair();
    world.run(secs(5));
    world.give(0, of_web(FREEZE));
    world.run(secs(60));
    assert_eq!((world.owners(), world.hosts[1].over().len()), (vec![1], 1));
    assert_eq!((world.hosts[1].barriers().len(), not_brought(&world, 1)), (1, vec![]));
    fresh(&mut world);
    world.give(1, of_web(OperatorOrder::Thaw));
    world.run(secs(5));
    done(&mut world, 1, Ok(()));
    world.run(secs(1));
    assert_eq!(world.owners(), [0]);
    // Drained it asks for nothing.
    let mut world = pair();
    let drain = OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
    world.give(0, of_web(drain));
    world.run(secs(60));
    assert_eq!((world.owners(), world.hosts[1].barriers().len()), (vec![1], 0));
}

/// What an operator pinned stays where it is; `failback` brings it back, once.
#[test]
fn a_pin_is_not_preempted() {
    let mut world = stateful("prefer", |_| {});
    super::barrier::moved(&mut world, 0, 1);
    fresh(&mut world);
    world.forget();
    world.run(secs(40));
    assert_eq!((world.owners(), world.hosts[1].barriers()), (vec![1], vec![]));
    world.give(1, of_web(OperatorOrder::Failback));
    world.run(secs(1));
    done(&mut world, 1, Ok(()));
    world.run(secs(40));
    assert_eq!((world.owners(), world.hosts[1].barriers().len()), (vec![0], 1));
}

/// A check that fails on the target meanwhile ends it, and one that fails on the owner is the end of all waiting.
#[test]
fn a_service_that_fails_is_no_place_and_no_reason_to_wait() {
    let well = |world: &mut World| (0..2).for_each(|host| say(world, host, 0, Verdict::Pass));
    let text = beating(&set("prefer"));
    let change = |m: &mut Model| {
        with(Severity::Fail, 0)(m);
        m.instances.iter_mut().for_each(|i| i.flap = FlapControl::OFF);
    };
    let mut world = World::of((1..=2).map(|n| crate::fit::bench(&text, n, change)).collect());
    well(&mut world);
    fresh(&mut world);
    world.run(secs(6));
    plug(&mut world, 0, false);
    world.run(secs(6));
    fresh(&mut world);
    plug(&mut world, 0, true);
    world.run(secs(5));
    assert_eq!((world.owners(), world.hosts[1].barriers().len()), (vec![1], 1));
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(ms(100));
    assert_eq!((world.owners(), world.hosts[1].over().len()), (vec![1], 1));
    world.run(secs(60));
    assert_eq!((world.owners(), world.hosts[1].barriers().len()), (vec![1], 1));
    fresh(&mut world);
    well(&mut world);
    world.run(secs(12));
    assert_eq!(world.hosts[1].barriers().len(), 2);
    say(&mut world, 1, 0, Verdict::Fail);
    world.run(TAKEN);
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
}

#[test]
fn of_three_the_best_gets_it_and_one_that_cannot_stands_back() {
    let text = beating(&set("prefer"));
    for best_fails in [false, true] {
        let mut world = back(&text, 3, |_| {});
        // lb3 owns, lb1 and lb2 are back.
        (0..2).for_each(|host| plug(&mut world, host, false));
        world.run(secs(6));
        assert_eq!(world.owners(), [2]);
        fresh(&mut world);
        (0..2).for_each(|host| plug(&mut world, host, true));
        world.forget();
        world.run(secs(5));
        assert_eq!(world.hosts[2].barriers()[0].2, HostIx(0));
        if !best_fails {
            done(&mut world, 2, Ok(()));
            world.run(secs(60));
            assert_eq!((world.owners(), world.hosts[0].barriers()), (vec![0], vec![]));
            continue;
        }
        done(&mut world, 2, Err("no route"));
        world.run(secs(2));
        assert_eq!(world.hosts[2].barriers()[1].2, HostIx(1), "it does not wait for lb1");
        done(&mut world, 2, Ok(()));
        world.run(secs(5));
        assert_eq!((world.owners(), world.hosts[1].barriers()[0].2), (vec![1], HostIx(0)));
        done(&mut world, 1, Ok(()));
        world.run(secs(60));
        assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
    }
}

#[test]
fn instances_that_move_together_are_brought_together() {
    let zoo = "[instance.zoo]\nvrid = 52\ninterface = \"eth0\"\naddresses = [\"192.0.2.20/24\"]\n\
        priority = { lb1 = 150, lb2 = 100, lb3 = 50 }\npreempt-delay = \"0s\"\nhold-down = \"0s\"\nsettle = \"off\"\n";
    let text = beating(&(zoo.to_owned() + TOGETHER + &set("prefer")));
    let mut world = back(&text, 2, |_| {});
    let states = |world: &World, host: usize| -> Vec<State> {
        world.hosts[host].snapshot().units.iter().map(|u| u.state).collect()
    };
    world.run(secs(12));
    assert_eq!((states(&world, 1), world.hosts[1].barriers().len()), (vec![State::Active; 2], 1));
    done(&mut world, 1, Err("no"));
    world.run(secs(8));
    assert_eq!((states(&world, 1), world.hosts[1].barriers().len()), (vec![State::Active; 2], 1));
    world.run(secs(5));
    assert_eq!(world.hosts[1].barriers().len(), 2);
    // Frozen in the middle, none of them has failed once more: thawed it begins at once.
    world.give(1, of_web(FREEZE));
    world.run(secs(5));
    world.give(1, of_web(OperatorOrder::Thaw));
    world.run(secs(4));
    assert_eq!((states(&world, 1), world.hosts[1].barriers().len()), (vec![State::Active; 2], 3));
    done(&mut world, 1, Ok(()));
    world.run(secs(2));
    assert_eq!(
        (states(&world, 0), states(&world, 1)),
        (vec![State::Active; 2], vec![State::Backup; 2])
    );
}

#[test]
fn an_owner_of_the_address_and_a_warm_host_are_brought_it_as_well() {
    let text = "priority = { lb1 = 255, lb2 = 100, lb3 = 50 }\n".to_owned() + &set("prefer");
    let mut world = back(&beating(&text), 2, |_| {});
    world.run(secs(12));
    assert_eq!((world.owners(), world.hosts[1].barriers().len()), (vec![1], 1));
    done(&mut world, 1, Ok(()));
    world.run(secs(2));
    assert_eq!(world.owners(), [0]);

    // lb1 is made ready while the writer writes.
    let warm = |m: &mut Model| stands_by(m, 1, &Standby::Warm(activation()));
    let text = beating(&set("prefer"));
    let mut world = World::of((1..=2).map(|n| crate::fit::bench(&text, n, warm)).collect());
    world.give(1, copy(Some(Duration::ZERO)));
    world.run(secs(6));
    assert_eq!(world.owners(), [1]);
    world.give(0, copy(Some(Duration::ZERO)));
    world.run(secs(4));
    assert_eq!(world.hosts[1].barriers(), []);
    let order = *world.hosts[0].activations().last().expect("asked to activate");
    world.give(0, Input::Activated { instance: WEB, order, result: Ok(()) });
    world.run(secs(1));
    assert_eq!((world.owners(), world.hosts[1].barriers().len()), (vec![1], 1));
    done(&mut world, 1, Ok(()));
    world.run(secs(1));
    assert_eq!(world.owners(), [0]);
}

/// It is a move that nobody ordered: the budget counts it on every host.
#[test]
fn it_counts_against_the_move_budget() {
    let mut world = back(&beating(&set("prefer")), 3, |m| {
        m.instances.iter_mut().for_each(|i| i.flap = FlapControl::default());
    });
    let counts = |world: &World| -> Vec<u32> {
        world.hosts.iter().map(|host| host.unit().flap.moves[0].0).collect()
    };
    world.run(secs(5));
    let before = counts(&world);
    done(&mut world, 1, Ok(()));
    world.run(secs(5));
    assert_eq!(world.owners(), [0]);
    let expected: Vec<u32> = before.iter().map(|n| n + 1).collect();
    assert_eq!(counts(&world), expected);
}

/// An operator's order is not disturbed: while lb1 waits, the address goes to lb3 and stays there.
#[test]
fn an_order_goes_before() {
    let mut world = back(&beating(&set("prefer")), 3, |_| {});
    world.run(secs(5));
    done(&mut world, 1, Err("no"));
    world.give(1, of_web(to(2)));
    world.run(ms(200));
    assert_eq!(world.hosts[1].barriers().last().unwrap().2, HostIx(2));
    world.run(secs(15));
    assert_eq!(world.owners(), [1], "lb1 waits meanwhile");
    done(&mut world, 1, Ok(()));
    world.run(secs(60));
    assert_eq!((world.owners(), world.holders()), (vec![2], vec![2]));
}
