//! Flap control in the engine: penalties, the move budget, what a restart remembers (P4).

use crate::bench::{Bench, ETH0, WEB, beating, eth0, ms, plain};
use crate::fit::{bench, of_web, say, secs, with, world};
use vipd_core::config::model::{FlapControl, Model, Severity};
use vipd_core::engine::io::{
    Alarm, EventKind, FlapRecord, Input, Memory, OperatorOrder, Packet, StandingReason, Verdict,
};
use vipd_core::policy::Closed;
use vipd_core::types::{Class, State};

fn controlled(model: &mut Model) {
    with(Severity::Fail, 0)(model);
    model.instances.iter_mut().for_each(|i| i.flap = FlapControl::default());
}

fn flaps(bench: &mut Bench) {
    let mut state = eth0(1);
    state.running = false;
    bench.give(Input::Link { link: ETH0, state });
    bench.give(Input::Link { link: ETH0, state: eth0(1) });
}

fn remembered(bench: &Bench) -> Memory {
    let events = bench.events().into_iter();
    let told = events.filter_map(|e| match e {
        EventKind::Remember(memory) => Some(memory),
        _ => None,
    });
    told.last().unwrap()
}

/// lb1 lost the address three times and is suppressed.
fn suppressed() -> Bench {
    let mut lb1 = bench(&plain(""), 1, controlled);
    lb1.reads(Verdict::Pass);
    for _ in 0..3 {
        lb1.run(secs(6));
        assert_eq!(lb1.state(), State::Active);
        flaps(&mut lb1);
    }
    lb1
}

#[test]
fn three_losses_suppress_and_a_suppressed_host_still_claims_when_alone() {
    let mut lb1 = suppressed();
    assert_eq!((lb1.class(), lb1.alarms()), (Class::Held, vec![Alarm::Suppressed]));
    let view = lb1.unit().flap;
    assert!(view.penalty.unwrap() > 2900 && view.suppressed.unwrap() > secs(900));
    lb1.log.clear();
    let start = lb1.now;
    lb1.run(secs(6));
    assert_eq!(lb1.state(), State::Active);
    // An interval later than others would.
    let m = ms(3000) + std::time::Duration::from_nanos(1_000_000_000 * 106 / 256);
    assert_eq!(lb1.adverts()[0].0 - start, m + secs(1));
    lb1.run(secs(3600));
    assert_eq!((lb1.class(), lb1.alarms()), (Class::Healthy, vec![]));
    let reused =
        |e: &EventKind| matches!(e, EventKind::Standing { reason: StandingReason::Reused, .. });
    assert!(lb1.events().iter().any(reused));
}

#[test]
fn a_suppressed_host_does_not_preempt_until_acknowledged() {
    let mut lb1 = suppressed();
    for _ in 0..10 {
        lb1.hear(2, 100);
        lb1.run(secs(1));
    }
    assert_eq!(
        (lb1.state(), lb1.unit().gate),
        (State::Backup, Some(Closed::SecondChoice(Class::Held)))
    );
    lb1.order(OperatorOrder::Acknowledge);
    assert_eq!((lb1.class(), lb1.alarms()), (Class::Healthy, vec![]));
    for _ in 0..6 {
        lb1.hear(2, 100);
        lb1.run(secs(1));
    }
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn penalties_outlive_a_restart() {
    let lb1 = suppressed();
    let record = remembered(&lb1);
    assert!(record.flap.penalty > 2900 && record.flap.suppressed_ms.is_some());
    let mut model = crate::bench::model(&plain(""), "lb1");
    controlled(&mut model);
    let mut again = Bench::of(model, 1, vec![]);
    again.engine.recall(Some(WEB), record);
    again.link_up();
    again.reads(Verdict::Pass);
    assert_eq!((again.class(), again.alarms()), (Class::Held, vec![Alarm::Suppressed]));
    again.run(secs(3600));
    assert_eq!(again.class(), Class::Healthy);
}

#[test]
fn a_flapping_check_moves_the_address_three_times_then_it_is_held() {
    for text in [beating(""), plain("")] {
        let mut world = world(&text, 3, controlled);
        world.run(secs(30));
        world.forget();
        // 0.5 Hz for ten minutes: a second bad, a second good.
        for _ in 0..300 {
            say(&mut world, 0, 0, Verdict::Fail);
            world.run(secs(1));
            say(&mut world, 0, 0, Verdict::Pass);
            world.run(secs(1));
        }
        let claims = |b: &Bench| {
            let active = |e: &EventKind| matches!(e, EventKind::Transition { from, to: State::Active, .. } if *from != State::Active);
            b.events().iter().filter(|e| active(e)).count()
        };
        let moves: usize = world.hosts.iter().map(claims).sum();
        assert!(moves <= 3, "{moves} moves");
        assert_eq!(world.owners().len(), 1);
    }
}

/// All hosts flap in turn until the budget is spent.
fn held(text: &str) -> crate::world::World {
    let mut world = world(text, 3, controlled);
    for host in [0, 1, 0] {
        assert_eq!(world.owners(), [host]);
        say(&mut world, host, 0, Verdict::Fail);
        world.run(secs(5));
        say(&mut world, host, 0, Verdict::Pass);
        world.run(secs(5));
    }
    world
}

#[test]
fn held_group_wide_a_dead_owner_is_replaced_all_the_same() {
    for text in [beating("preempt = false\n"), plain("preempt = false\n")] {
        let mut world = held(&text);
        let owner = world.owners()[0];
        for host in &world.hosts {
            assert_eq!(host.class(), Class::Held, "{:?}", host.unit());
            assert!(host.alarms().contains(&Alarm::Held));
            assert_eq!(host.unit().flap.moves[0].0, 3);
            assert!(host.unit().flap.held.unwrap() > secs(3000));
        }
        // A failure moves nothing now ...
        say(&mut world, owner, 0, Verdict::Fail);
        world.run(secs(60));
        assert_eq!(world.owners(), [owner]);
        say(&mut world, owner, 0, Verdict::Pass);
        // ... a dead owner is replaced on time.
        world.off.insert(owner);
        world.run(secs(6));
        let next = world.owners();
        assert!(next.len() == 1 && next[0] != owner);
    }
}

#[test]
fn held_a_failure_moves_once_in_ten_minutes() {
    let mut world = held(&beating("preempt = false\n"));
    let owner = world.owners()[0];
    say(&mut world, owner, 0, Verdict::Fail);
    assert!(world.hosts[owner].unit().next_offer.unwrap() > secs(500));
    world.run(secs(601));
    let next = world.owners()[0];
    assert_ne!(next, owner);
    say(&mut world, next, 0, Verdict::Fail);
    world.run(secs(580));
    assert_eq!(world.owners(), [next]);
    world.run(secs(30));
    assert_ne!(world.owners(), [next]);
}

#[test]
fn a_hold_ends_by_quiet_or_by_a_word() {
    let mut world = held(&beating("preempt = false\n"));
    for host in 0..3 {
        world.give(host, of_web(OperatorOrder::Acknowledge));
    }
    assert!(world.hosts.iter().all(|h| h.class() == Class::Healthy && h.alarms().is_empty()));
    let mut quiet = held(&beating("preempt = false\n"));
    quiet.run(secs(3700));
    assert!(quiet.hosts.iter().all(|h| h.class() == Class::Healthy && h.alarms().is_empty()));
}

#[test]
fn clean_stops_are_no_flaps_where_heartbeats_tell() {
    let mut world = world(&beating(""), 2, controlled);
    world.give(0, Input::Stop);
    world.run(secs(10));
    assert_eq!(world.owners(), [1]);
    assert_eq!(world.hosts[1].unit().flap.moves[0].0, 0);
}

#[test]
fn what_an_operator_moves_is_no_move_that_counts() {
    for text in [beating(""), plain("")] {
        let mut world = world(&text, 3, controlled);
        for host in [2, 1, 0, 1] {
            world.give(host, of_web(OperatorOrder::Promote { accept_data_loss: false }));
            world.run(secs(5));
            assert_eq!(world.owners(), [host]);
        }
        for host in &world.hosts {
            assert_eq!((host.unit().flap.moves[0].0, host.alarms()), (0, vec![]), "{text}");
        }
    }
}

#[test]
fn nor_is_what_moves_with_the_instance_that_he_promoted() {
    let text = plain(
        "[instance.zoo]\nvrid = 52\ninterface = \"eth1\"\naddresses = [\"198.51.100.10/24\"]\n\
         priority = { lb1 = 150, lb2 = 100, lb3 = 50 }\npreempt-delay = \"0s\"\nhold-down = \"0s\"\nsettle = \"off\"\n\
         [sync.all]\ninstances = [\"web\", \"zoo\"]\n",
    );
    let mut lb2 = bench(&text, 2, controlled);
    lb2.reads(Verdict::Pass);
    // `zoo` was owned by lb1 as well.
    let mut advert = lb2.advert(vipd_core::types::Family::V4, 150);
    advert.vrid = lb2.model.instances[1].vrid;
    advert.addresses = lb2.model.instances[1].addresses.iter().map(|v| v.addr).collect();
    let (src, dst) = (crate::bench::ip("192.0.2.11"), crate::bench::ip("224.0.0.18"));
    let payload = &advert.encode(src, dst, lb2.model.instances[1].checksum)[..];
    let link = vipd_core::types::LinkIx(1);
    lb2.hear(1, 150);
    let age = ms(0);
    lb2.give(Input::Packet(Packet { link, src, dst, ttl: 255, payload, age }));
    lb2.order(OperatorOrder::Promote { accept_data_loss: false });
    lb2.run(ms(1));
    let units = lb2.snapshot().units;
    assert!(units.iter().all(|u| u.state == State::Active), "{units:?}");
    assert!(units.iter().all(|u| u.flap.moves[0].0 == 0));
}

#[test]
fn who_slept_counts_moves_when_they_happened() {
    let mut lb3 = bench(&plain(""), 3, controlled);
    lb3.reads(Verdict::Pass);
    lb3.hear(1, 150);
    // Three moves while it slept, the first of them long ago.
    lb3.stand_still(secs(1200));
    for (n, priority, ago) in [(2, 100, 1100), (1, 150, 30), (2, 100, 5)] {
        let advert = lb3.advert(vipd_core::types::Family::V4, priority);
        lb3.hear_late(&advert, &format!("192.0.2.1{n}"), secs(ago));
    }
    lb3.give(Input::Timeout);
    assert_eq!((lb3.unit().flap.moves[0].0, lb3.alarms()), (2, vec![]));
    assert_eq!(lb3.unit().flap.moves[1].0, 3, "within the hour");
}

#[test]
fn what_was_forgiven_stays_so_after_a_restart() {
    let mut lb1 = bench(&plain(""), 1, controlled);
    lb1.reads(Verdict::Pass);
    for _ in 0..2 {
        lb1.run(secs(6));
        flaps(&mut lb1);
    }
    assert!(remembered(&lb1).flap.penalty > 1900 && lb1.alarms().is_empty(), "below the limit");
    lb1.order(OperatorOrder::Acknowledge);
    assert_eq!(lb1.unit().flap.penalty, Some(1000));
    assert_eq!(remembered(&lb1).flap.penalty, 1000);
}

#[test]
fn a_record_that_cannot_be_true_neither_bars_nor_breaks() {
    let times = [0, 1, 1_700_000_000_000, 1_700_000_100_000, 1_800_000_000_000, u64::MAX];
    for (at_ms, other) in times.iter().flat_map(|a| times.map(|b| (*a, b))) {
        for penalty in [0, 1, 2500, u32::MAX] {
            let mut model = crate::bench::model(&plain(""), "lb1");
            controlled(&mut model);
            let mut lb1 = Bench::of(model, 1, vec![]);
            let moves_ms = [vec![at_ms, other, 5], vec![other; 1000]].concat();
            let (suppressed_ms, held_ms) = (Some(other), Some(at_ms));
            let record = FlapRecord { penalty, at_ms, suppressed_ms, moves_ms, held_ms };
            let memory = Memory { flap: record.clone(), ..Memory::default() };
            lb1.engine.recall(Some(WEB), memory);
            lb1.link_up();
            lb1.reads(Verdict::Pass);
            assert!(lb1.unit().flap.penalty.unwrap() <= 10_000, "{record:?}");
            lb1.run(secs(6));
            assert_eq!(lb1.state(), State::Active, "{record:?}");
            lb1.run(secs(3700));
            assert_eq!((lb1.class(), lb1.alarms()), (Class::Healthy, vec![]), "{record:?}");
        }
    }
}
