//! Checks: what a verdict means for class, priority and ownership (DESIGN 5.10, 5.14).

use crate::bench::{Bench, ETH0, TOGETHER, ZOO, beating, eth0, ms, plain};
use crate::fit::{CHECK, bench, say, secs, with, with_alone, world};
use Severity::{Degrade, Drain, Fail, Fatal, Info};
use vipd_core::config::model::{FlapControl, Model, Probe, Severity};
use vipd_core::engine::io::{
    Alarm, Cause, EventKind, Input, LinkState, OperatorOrder, StandingReason, Verdict,
};
use vipd_core::policy::Closed;
use vipd_core::types::{Class, HostIx, State};

const FAILED: Cause = Cause::CheckFailed(CHECK);

#[test]
fn heartbeats_a_failing_owner_lets_go_and_the_best_backup_claims_at_once() {
    let mut world = world(&beating(""), 3, with(Fail, 0));
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(ms(1));
    assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
    assert_eq!(world.hosts[0].causes(), [(State::Backup, FAILED)]);
    assert_eq!(world.hosts[1].causes(), [(State::Active, Cause::Offered(HostIx(0)))]);
    // Released first, then priority 0.
    assert_eq!(world.hosts[0].story(), ["free", "release"]);
    world.run(secs(120));
    assert_eq!(world.owners(), [1]);
    assert_eq!(world.hosts[0].unit().gate, Some(Closed::SecondChoice(Class::Failing)));
}

#[test]
fn it_comes_back_only_after_the_preempt_delay_in_health() {
    let text = beating("preempt-delay = \"60s\"\n");
    let mut world = world(&text, 2, with(Fail, 0));
    world.run(secs(100));
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(secs(5));
    assert_eq!(world.owners(), [1]);
    say(&mut world, 0, 0, Verdict::Pass);
    world.run(secs(30));
    // Healthy throughout: one failure in between begins anew.
    say(&mut world, 0, 0, Verdict::Fail);
    say(&mut world, 0, 0, Verdict::Pass);
    world.run(secs(59));
    assert_eq!(world.owners(), [1]);
    world.run(secs(5));
    assert_eq!(world.owners(), [0]);
    assert_eq!(world.hosts[1].causes().len(), 2, "one move there, one back");
}

#[test]
fn both_sick_the_address_stays() {
    for text in [beating(""), plain("")] {
        let mut world = world(&text, 3, with(Fail, 0));
        for host in [1, 2, 0] {
            say(&mut world, host, 0, Verdict::Fail);
        }
        world.run(secs(300));
        assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
        assert!(world.hosts[1..].iter().all(|h| h.causes().is_empty()));
    }
}

#[test]
fn with_heartbeats_nothing_is_offered_while_nobody_is_better() {
    let mut world = world(&beating(""), 2, with(Fail, 0));
    say(&mut world, 1, 0, Verdict::Fail);
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(secs(100));
    assert!(world.hosts[0].priorities().iter().all(|p| *p > 0));
    assert_eq!(world.hosts[0].causes(), []);
    // The peer recovers: its word brings the hand-over.
    say(&mut world, 1, 0, Verdict::Pass);
    world.run(ms(1));
    assert_eq!(world.owners(), [1]);
}

#[test]
fn alone_it_stays_owner_and_a_fatal_check_ends_that() {
    let mut lb1 = bench(&beating(""), 1, |m: &mut Model| {
        with(Fail, 0)(m);
        with(Fatal, 0)(m);
    });
    lb1.reads(Verdict::Pass);
    lb1.become_owner();
    lb1.reads(Verdict::Fail);
    lb1.run(secs(60));
    assert_eq!((lb1.state(), lb1.class()), (State::Active, Class::Failing));
    let fatal = vipd_core::types::CheckIx(1);
    let reading = |verdict| crate::fit::reading(verdict);
    lb1.give(Input::Check { check: fatal, reading: reading(Verdict::Fail) });
    assert_eq!((lb1.state(), lb1.class()), (State::Initialize, Class::Unable));
    assert_eq!(lb1.causes(), [(State::Initialize, Cause::CheckFailed(fatal))]);
    assert_eq!(lb1.priorities().last(), Some(&0));
    lb1.run(secs(60));
    assert_eq!(lb1.state(), State::Initialize);
    lb1.give(Input::Check { check: fatal, reading: reading(Verdict::Pass) });
    assert_eq!(lb1.state(), State::Backup);
    lb1.run(secs(8));
    assert_eq!(lb1.state(), State::Active, "failing, but there is nobody else");
}

#[test]
fn without_heartbeats_a_failing_owner_offers_and_a_healthy_backup_comes() {
    let mut world = world(&plain(""), 3, with(Fail, 0));
    let start = world.now;
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(ms(1));
    assert_eq!((world.owners(), world.holders()), (vec![], vec![0]), "the addresses stay");
    world.run(ms(3000));
    assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
    let claimed = world.hosts[1].adverts()[0].0 - start;
    assert_eq!(claimed.as_micros(), 609_375, "its skew");
    assert_eq!(world.hosts[0].causes(), [(State::Backup, FAILED)]);
    world.run(secs(100));
    assert_eq!(world.owners(), [1]);
}

#[test]
fn nobody_came_it_goes_on_and_tries_less_and_less_often() {
    let mut lb1 = bench(&plain(""), 1, with(Fail, 0));
    lb1.reads(Verdict::Pass);
    lb1.become_owner();
    let start = lb1.now;
    lb1.reads(Verdict::Fail);
    lb1.run(secs(400));
    let offers: Vec<u64> = lb1
        .adverts()
        .iter()
        .filter(|(_, a)| a.priority == 0)
        .map(|(at, _)| (*at - start).as_secs())
        .collect();
    // Priority 0 is said once more before the end of each offer.
    assert_eq!(offers, [0, 1, 10, 11, 30, 31, 70, 71, 150, 151, 310, 311]);
    assert_eq!(lb1.frees(), [], "the addresses stay throughout");
    assert!(lb1.causes().iter().all(|c| *c == (State::Active, Cause::NobodyCame)));
    assert_eq!(lb1.state(), State::Active);
    // Well in between: the next failure is offered at once.
    lb1.reads(Verdict::Pass);
    lb1.run(secs(5));
    lb1.log.clear();
    lb1.reads(Verdict::Fail);
    assert_eq!(lb1.priorities(), [0]);
}

#[test]
fn who_claimed_while_failing_does_not_offer_before_it_was_well() {
    let mut lb2 = bench(&plain(""), 2, with(Fail, 0));
    lb2.reads(Verdict::Fail);
    lb2.hear(1, 150);
    lb2.log.clear();
    let start = lb2.now;
    lb2.run(secs(5));
    // M, and an interval for somebody better.
    assert_eq!((lb2.adverts()[0].0 - start).as_micros(), 4_609_375);
    lb2.run(secs(1000));
    assert!(lb2.priorities().iter().all(|p| *p == 100));
    lb2.reads(Verdict::Pass);
    lb2.reads(Verdict::Fail);
    assert_eq!(lb2.priorities().last(), Some(&0));
}

#[test]
fn weights_move_the_priority_and_the_address() {
    let mut world = world(&beating(""), 2, with_alone(Degrade, 80));
    say(&mut world, 0, 0, Verdict::Fail);
    assert_eq!(world.hosts[0].unit().priority, 70);
    assert_eq!(world.hosts[0].standings(), [(Class::Healthy, 70)]);
    assert_eq!(world.hosts[0].priorities(), [70], "told at once");
    world.run(secs(5));
    assert_eq!(world.owners(), [1]);
    say(&mut world, 0, 0, Verdict::Pass);
    world.run(secs(5));
    assert_eq!(world.owners(), [0]);
}

#[test]
fn priority_changes_keep_their_distance_and_the_holder_is_sticky() {
    let mut lb1 = bench(&plain(""), 1, |m| {
        with(Degrade, 30)(m);
        m.instances[0].flap = FlapControl::default();
    });
    lb1.reads(Verdict::Pass);
    lb1.become_owner();
    lb1.reads(Verdict::Fail);
    assert_eq!(lb1.unit().priority, 130, "30 less, 10 back for the holder");
    lb1.run(secs(2));
    lb1.reads(Verdict::Pass);
    assert_eq!(lb1.unit().priority, 130);
    assert_eq!(lb1.unit().priority_change, Some(secs(8)));
    lb1.run(secs(8));
    assert_eq!(lb1.unit().priority, 150);
    let told: Vec<_> =
        lb1.events().into_iter().filter(|e| matches!(e, EventKind::Standing { .. })).collect();
    assert_eq!(told.len(), 2);
}

#[test]
fn nothing_takes_255_down_and_nothing_goes_below_1() {
    let mut lb1 = bench(&plain("priority = { lb1 = 255, lb2 = 5 }\n"), 1, with(Degrade, 200));
    lb1.reads(Verdict::Fail);
    assert_eq!(lb1.unit().priority, 255);
    let mut lb2 = bench(&plain("priority = { lb1 = 255, lb2 = 5 }\n"), 2, with(Degrade, 200));
    lb2.reads(Verdict::Fail);
    assert_eq!(lb2.unit().priority, 1);
}

#[test]
fn info_is_shown_only() {
    let mut lb1 = bench(&plain(""), 1, with(Info, 90));
    lb1.reads(Verdict::Fail);
    lb1.become_owner();
    assert_eq!((lb1.class(), lb1.unit().priority), (Class::Healthy, 150));
    let view = lb1.snapshot().checks[0].clone();
    assert_eq!((view.settled, &*view.detail), (Some(Verdict::Fail), "status 503"));
}

#[test]
fn unknown_is_told_and_costs_the_weight_only() {
    let mut lb1 = bench(&plain(""), 1, with_alone(Fail, 20));
    lb1.reads(Verdict::Pass);
    lb1.become_owner();
    (0..2).for_each(|_| lb1.reads(Verdict::Unknown));
    assert_eq!((lb1.alarms(), lb1.unit().priority), (vec![], 150));
    lb1.reads(Verdict::Unknown);
    assert_eq!(lb1.alarms(), [Alarm::CheckUnknown(CHECK)]);
    assert_eq!((lb1.class(), lb1.unit().priority), (Class::Healthy, 130));
    lb1.reads(Verdict::Pass);
    assert_eq!((lb1.alarms(), lb1.unit().priority), (vec![], 150));
}

#[test]
fn before_the_first_word_it_is_second_choice_for_a_bounded_time() {
    let mut lb1 = bench(&plain(""), 1, with(Fail, 0));
    assert_eq!(lb1.class(), Class::Held);
    lb1.run(ms(3000));
    assert_eq!(lb1.class(), Class::Healthy, "interval and timeout are over");
    let mut other = bench(&plain(""), 1, with(Fail, 0));
    other.log.clear();
    other.reads(Verdict::Pass);
    assert_eq!(other.class(), Class::Healthy);
    let settled =
        |e: &EventKind| matches!(e, EventKind::Standing { reason: StandingReason::Settled, .. });
    assert!(other.events().iter().any(settled));
}

#[test]
fn a_failing_backup_never_preempts() {
    let mut lb1 = bench(&plain(""), 1, with(Fail, 0));
    lb1.reads(Verdict::Fail);
    for _ in 0..20 {
        lb1.hear(2, 100);
        lb1.run(secs(1));
    }
    assert_eq!(lb1.state(), State::Backup);
    assert_eq!(lb1.unit().gate, Some(Closed::SecondChoice(Class::Failing)));
    lb1.reads(Verdict::Pass);
    for _ in 0..5 {
        lb1.hear(2, 100);
        lb1.run(secs(1));
    }
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn a_timer_towards_preemption_ends_with_the_health() {
    let mut lb1 = bench(&plain(""), 1, with(Fail, 0));
    lb1.reads(Verdict::Pass);
    lb1.hear(2, 100);
    lb1.run(ms(3000));
    lb1.hear(2, 100);
    lb1.reads(Verdict::Fail);
    lb1.run(ms(500));
    assert_eq!(lb1.state(), State::Backup);
    assert!(lb1.claims_in() > ms(2500));
}

#[test]
fn drained_hands_over_without_a_gap_and_never_claims() {
    for text in [beating(""), plain("")] {
        let mut world = world(&text, 2, with(Drain, 0));
        say(&mut world, 0, 0, Verdict::Fail);
        for _ in 0..4000 {
            world.run(ms(1));
            assert!(!world.holders().is_empty());
        }
        assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
        world.off.insert(1);
        world.run(secs(60));
        assert!(world.owners().is_empty(), "a drained host does not claim");
        say(&mut world, 0, 0, Verdict::Pass);
        world.run(secs(5));
        assert_eq!(world.owners(), [0]);
    }
}

#[test]
fn drained_alone_it_keeps_the_address() {
    for text in [beating(""), plain("")] {
        let mut lb1 = bench(&text, 1, with(Drain, 0));
        lb1.reads(Verdict::Pass);
        lb1.become_owner();
        lb1.reads(Verdict::Fail);
        lb1.run(secs(100));
        assert_eq!((lb1.state(), lb1.frees()), (State::Active, vec![]));
    }
}

#[test]
fn a_stop_while_it_is_offered_is_a_stop() {
    let mut lb1 = bench(&plain(""), 1, with(Fail, 0));
    lb1.reads(Verdict::Pass);
    lb1.become_owner();
    lb1.reads(Verdict::Fail);
    lb1.run(ms(300));
    lb1.give(Input::Stop);
    lb1.run(secs(2));
    assert!(lb1.engine.stopped());
    assert_eq!(lb1.frees().len(), 1);
}

#[test]
fn a_link_that_goes_while_it_is_offered_is_a_fault() {
    let mut lb1 = bench(&plain(""), 1, with(Fail, 0));
    lb1.reads(Verdict::Pass);
    lb1.become_owner();
    lb1.reads(Verdict::Fail);
    lb1.run(ms(300));
    let mut state = crate::bench::eth0(1);
    state.running = false;
    lb1.give(Input::Link { link: crate::bench::ETH0, state });
    lb1.run(secs(3));
    assert_eq!(lb1.state(), State::Initialize);
    assert_eq!(lb1.frees().len(), 1);
}

#[test]
fn two_owners_the_healthy_one_stays() {
    let mut world = world(&beating(""), 2, with(Fail, 0));
    let all = crate::world::World::all();
    world.no_adverts = all.iter().copied().collect();
    world.no_beats = all.iter().copied().collect();
    world.no_segment = all.iter().copied().collect();
    world.run(secs(20));
    assert_eq!(world.owners(), [0, 1]);
    say(&mut world, 0, 0, Verdict::Fail);
    world.no_beats.clear();
    world.run(secs(3));
    assert_eq!(world.owners(), [1]);
}

fn of(bench: &Bench, check: u16) -> Option<Verdict> {
    bench.snapshot().checks[usize::from(check)].settled
}

#[test]
fn an_instance_is_a_check_of_another() {
    use vipd_core::types::{InstanceIx, LinkIx};
    let text = plain(ZOO);
    let mut lb1 = bench(&text, 1, |m| {
        let mut check = crate::fit::check(Fatal, 0);
        check.probe = Probe::Instance { instance: InstanceIx(1), active: false };
        m.checks.push(check);
        m.instances[0].checks.push(CHECK);
    });
    assert_eq!(of(&lb1, 0), Some(Verdict::Pass));
    lb1.become_owner();
    let mut state = crate::bench::eth0(1);
    state.running = false;
    lb1.give(Input::Link { link: LinkIx(1), state });
    assert_eq!((of(&lb1, 0), lb1.state()), (Some(Verdict::Fail), State::Initialize));
    lb1.give(Input::Link { link: LinkIx(1), state: crate::bench::eth0(1) });
    assert_eq!((of(&lb1, 0), lb1.state()), (Some(Verdict::Pass), State::Backup));
}

#[test]
fn groups_complementary_faults_bounce_nothing() {
    let text =
        beating(&(ZOO.replace("eth1", "eth0").replace("198.51.100.10", "192.0.2.20") + TOGETHER));
    let change = |m: &mut Model| {
        for (ix, instance) in m.instances.iter_mut().enumerate() {
            instance.checks.push(vipd_core::types::CheckIx(u16::try_from(ix).unwrap()));
        }
        m.checks = vec![crate::fit::check(Fail, 0); 2];
    };
    let mut world = world(&text, 2, change);
    let both = |w: &crate::world::World, host: usize| {
        w.hosts[host].snapshot().units.iter().all(|u| u.state == State::Active)
    };
    // `web` fails on lb1: the whole group goes to lb2.
    say(&mut world, 0, 0, Verdict::Fail);
    world.run(secs(5));
    assert!(both(&world, 1));
    assert_eq!(world.owners(), [1]);
    // `zoo` fails on lb2: each host has one fault, nothing moves.
    world.forget();
    say(&mut world, 1, 1, Verdict::Fail);
    world.run(secs(100));
    assert!(both(&world, 1));
    assert_eq!(world.hosts[1].causes(), []);
    // lb1 is well again: its worst member is better.
    say(&mut world, 0, 0, Verdict::Pass);
    world.run(secs(5));
    assert!(both(&world, 0));
}

#[test]
fn a_link_that_goes_while_the_address_is_offered_ends_the_promotion() {
    let mut lb2 = bench(&plain(""), 2, with(Drain, 0));
    lb2.reads(Verdict::Pass);
    lb2.hear(1, 150);
    lb2.order(OperatorOrder::Promote { accept_data_loss: false });
    lb2.run(ms(10));
    assert!(lb2.unit().pinned);
    lb2.reads(Verdict::Fail);
    lb2.run(ms(10));
    assert_eq!(lb2.state(), State::Initialize, "offered");
    lb2.give(Input::Link { link: ETH0, state: LinkState { running: false, ..eth0(2) } });
    lb2.run(secs(5));
    lb2.give(Input::Link { link: ETH0, state: eth0(2) });
    lb2.reads(Verdict::Pass);
    lb2.run(ms(10));
    assert_eq!((lb2.unit().pinned, lb2.unit().priority, lb2.state()), (false, 100, State::Backup));
}

#[test]
fn a_group_is_not_left_half_taken_back() {
    let text = plain(&format!("{ZOO}advert-interval = \"100ms\"\n{TOGETHER}"));
    let mut lb1 = bench(&text, 1, with(Drain, 0));
    lb1.reads(Verdict::Pass);
    lb1.run(secs(5));
    let states = |b: &Bench| b.snapshot().units.iter().map(|u| u.state).collect::<Vec<_>>();
    assert_eq!(states(&lb1), [State::Active, State::Active]);
    lb1.reads(Verdict::Fail);
    lb1.run(ms(500));
    assert_eq!(states(&lb1), [State::Initialize, State::Active], "zoo goes on sooner");
    lb1.give(Input::Link { link: ETH0, state: LinkState { running: false, ..eth0(1) } });
    lb1.run(secs(1));
    assert_eq!(states(&lb1), [State::Initialize, State::Backup]);
}
