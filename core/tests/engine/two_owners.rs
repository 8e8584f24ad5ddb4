//! Two owners of a group with heartbeats: adverts and heartbeats decide the same, so that never both let go
//! (DESIGN 5.9): who reaches a target, what an operator pinned, class, priority, address.

use crate::beats::{beats_of, hear_beat, pass_beats};
use crate::bench::{Bench, beating, ip, mac, ms};
use crate::fit::{bench, reading, secs, with};
use crate::world::TARGET;
use vipd_core::config::model::{Model, Severity};
use vipd_core::engine::io::{Cause, Input, OperatorOrder, Verdict};
use vipd_core::types::{CheckIx, Class, HostIx, State};

/// lb2 owns and is well; lb1, stronger by priority, is Backup with this verdict. Each has heard the other.
fn rivals(text: &str, change: impl Fn(&mut Model), verdict: Verdict) -> (Bench, Bench) {
    let (mut lb1, mut lb2) = (bench(text, 1, &change), bench(text, 2, &change));
    lb2.reads(Verdict::Pass);
    lb2.become_owner();
    lb2.run(secs(1));
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    lb1.reads(verdict);
    lb1.run(ms(1100));
    assert_eq!(lb1.state(), State::Backup);
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    (lb1, lb2)
}

fn failing() -> (Bench, Bench) {
    rivals(&beating(""), with(Severity::Fail, 0), Verdict::Fail)
}

#[test]
fn who_is_stronger_by_priority_and_worse_by_class_is_answered() {
    let (_, mut lb2) = failing();
    lb2.log.clear();
    lb2.hear(1, 150);
    assert_eq!((lb2.state(), lb2.priorities()), (State::Active, vec![100]));
    assert!(!beats_of(&lb2).is_empty(), "over heartbeats it yields: told at once");
}

#[test]
fn the_answers_to_it_are_limited() {
    let (_, mut lb2) = failing();
    lb2.log.clear();
    for _ in 0..1000 {
        lb2.hear(1, 150);
    }
    assert_eq!((lb2.state(), lb2.adverts().len()), (State::Active, 3));
    assert!(beats_of(&lb2).len() <= 3 * 4, "{} heartbeats", beats_of(&lb2).len());
}

#[test]
fn class_decides_only_if_it_hears_our_heartbeats_and_its_own_are_fresh() {
    let (mut lb1, mut lb2) = (
        bench(&beating(""), 1, with(Severity::Fail, 0)),
        bench(&beating(""), 2, with(Severity::Fail, 0)),
    );
    lb2.reads(Verdict::Pass);
    lb2.become_owner();
    lb1.reads(Verdict::Fail);
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    lb2.hear(1, 150);
    assert_eq!(lb2.state(), State::Backup, "it hears no heartbeat of ours: it would never yield");
    let (_, mut lb2) = failing();
    lb2.run(ms(2500));
    lb2.hear(1, 150);
    assert_eq!(lb2.state(), State::Backup, "its last word is old");
}

#[test]
fn a_pin_and_the_owner_at_255_are_yielded_to_whatever_their_class() {
    for priority in [254, 255] {
        let (_, mut lb2) = failing();
        lb2.hear(1, priority);
        assert_eq!(lb2.causes().last(), Some(&(State::Backup, Cause::Outranked(priority))));
    }
}

/// Its cable is pulled; what its kernel could not send comes when the cable is back, before it has said anything new.
#[test]
fn an_owner_does_not_yield_to_a_word_that_was_on_its_way_for_long() {
    let text = beating("advert-interval = \"100ms\"\n");
    let (mut lb1, mut lb2) = (Bench::up(&text, 1), Bench::up(&text, 2));
    lb1.become_owner();
    for _ in 0..10 {
        lb1.run(ms(50));
        lb2.run(lb1.now.since(lb2.now));
        pass_beats(&mut lb1, 1, &mut lb2, 2);
        pass_beats(&mut lb2, 2, &mut lb1, 1);
    }
    lb1.run(ms(120));
    let late = beats_of(&lb1);
    let late: Vec<_> = late.iter().filter(|b| b.to.ip() == ip("192.0.2.12")).collect();
    assert!(!late.is_empty());
    lb2.run(ms(1000));
    assert_eq!(lb2.state(), State::Active, "took over");
    for beat in &late {
        hear_beat(&mut lb2, 1, beat);
    }
    assert_eq!(lb2.state(), State::Active);
    // What it says now is believed.
    lb1.run(lb2.now.since(lb1.now));
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    lb1.log.clear();
    lb1.run(ms(120));
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    assert_eq!(lb2.state(), State::Backup);
}

#[test]
fn a_host_that_is_not_of_the_group_is_yielded_to() {
    let (_, mut lb2) = failing();
    lb2.hear(7, 150);
    assert_eq!(lb2.state(), State::Backup);
}

#[test]
fn a_promoted_host_that_fails_is_not_outdone_by_a_heartbeat_that_crossed() {
    let (mut lb1, mut lb2) = failing();
    lb2.run(ms(1000));
    lb1.order(OperatorOrder::Promote { accept_data_loss: false });
    lb1.run(ms(1));
    assert_eq!((lb1.state(), lb1.class()), (State::Active, Class::Failing));
    // The owner said that it owns before it heard the advert of the new one.
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    assert_eq!(lb1.state(), State::Active);
    lb2.hear(1, 254);
    assert_eq!(lb2.state(), State::Backup);
}

#[test]
fn of_two_pins_the_newer_one_stays_whatever_crosses() {
    let (mut lb1, mut lb2) = rivals(&beating(""), with(Severity::Fail, 0), Verdict::Pass);
    lb2.hear(1, 150);
    lb2.order(OperatorOrder::Promote { accept_data_loss: false });
    lb2.run(ms(1500));
    assert!(lb2.unit().pinned);
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    lb2.run(ms(1000));
    lb1.order(OperatorOrder::Promote { accept_data_loss: false });
    lb1.run(ms(1));
    assert!(lb1.unit().pinned && lb1.unit().epoch > lb2.unit().epoch);
    // lb2 has the higher address, and said that it owns before it heard of lb1.
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    assert_eq!(lb1.state(), State::Active);
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    assert_eq!(lb2.state(), State::Backup);
}

/// The same where both have a target; the one that `reaches` it.
fn with_a_target(reaches: u8, verdict: Verdict) -> Bench {
    let text = beating(&format!("targets = [\"{TARGET}\"]"));
    let change = with(Severity::Fail, 0);
    let (mut lb1, mut lb2) = (bench(&text, 1, &change), bench(&text, 2, &change));
    lb2.reads(Verdict::Pass);
    lb2.become_owner();
    lb1.reads(verdict);
    let answer = |host: &mut Bench| host.neighbour(TARGET, mac(99), true);
    if reaches == 2 {
        // Without an advert for nearly as long as it waits it asks.
        lb1.run(ms(3300));
    }
    for _ in 0..12 {
        lb1.run(ms(100));
        lb2.run(ms(100));
        if reaches == 1 {
            answer(&mut lb1)
        } else {
            answer(&mut lb2)
        }
        pass_beats(&mut lb2, 2, &mut lb1, 1);
        pass_beats(&mut lb1, 1, &mut lb2, 2);
    }
    assert_eq!((lb1.state(), lb2.state()), (State::Backup, State::Active));
    lb2
}

#[test]
fn reach_counts_before_class() {
    let mut cut_off = with_a_target(1, Verdict::Fail);
    cut_off.hear(1, 150);
    assert_eq!(
        cut_off.state(),
        State::Backup,
        "it reaches nothing: the failing one is the better owner"
    );
    let mut lb2 = with_a_target(2, Verdict::Pass);
    lb2.hear(1, 150);
    assert_eq!(lb2.state(), State::Active, "the stronger one reaches nothing and will yield");
}

/// Both own after a cut of everything in which neither reached the target.
fn after_a_whole_cut() -> (Bench, Bench) {
    let text = beating(&format!("targets = [\"{TARGET}\"]"));
    let (mut lb1, mut lb2) = (Bench::up(&text, 1), Bench::up(&text, 2));
    for host in [&mut lb1, &mut lb2] {
        host.become_owner();
        host.neighbour(TARGET, mac(99), true);
        host.run(ms(6000));
    }
    lb2.run(lb1.now.since(lb2.now));
    lb1.run(lb2.now.since(lb1.now));
    // What was sent during the cut arrives nowhere.
    lb1.log.clear();
    lb2.log.clear();
    (lb1, lb2)
}

#[test]
fn an_owner_that_reaches_a_target_again_tells_the_other_owner_at_once() {
    let (mut lb1, mut lb2) = after_a_whole_cut();
    // The weaker one speaks first; the stronger one stays, and asks its target at once.
    lb2.run(ms(1000));
    lb1.run(ms(900));
    lb1.log.clear();
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    assert_eq!(lb1.state(), State::Active);
    lb1.run(ms(11));
    assert!(lb1.probes().iter().any(|(_, p)| p.addr == ip(TARGET)), "asked without delay");
    // The weaker one reaches its target already, and the word of the other one is that of during the cut.
    lb2.neighbour(TARGET, mac(99), true);
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    assert_eq!(lb2.state(), State::Active);
    lb1.neighbour(TARGET, mac(99), true);
    lb1.run(ms(1));
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    assert_eq!(lb2.causes().last(), Some(&(State::Backup, Cause::Settled(HostIx(0)))));
}

#[test]
fn groups_the_worst_member_counts() {
    let text = beating(
        "[instance.zoo]\nvrid = 52\ninterface = \"eth0\"\naddresses = [\"192.0.2.20/24\"]\n\
         priority = { lb1 = 150, lb2 = 100, lb3 = 50 }\npreempt-delay = \"0s\"\nhold-down = \"0s\"\nsettle = \"off\"\n\
         [sync.all]\ninstances = [\"web\", \"zoo\"]\n",
    );
    // A check of `web`, and one of `zoo` that fails on lb1.
    let change = |m: &mut Model| {
        m.checks = vec![crate::fit::check(Severity::Fail, 0); 2];
        m.instances[0].checks.push(CheckIx(0));
        m.instances[1].checks.push(CheckIx(1));
    };
    let (mut lb1, mut lb2) = (bench(&text, 1, change), bench(&text, 2, change));
    for check in [0, 1] {
        lb2.give(Input::Check { check: CheckIx(check), reading: reading(Verdict::Pass) });
    }
    lb2.become_owner();
    lb2.run(secs(1));
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    for (check, verdict) in [(0, Verdict::Pass), (1, Verdict::Fail)] {
        lb1.give(Input::Check { check: CheckIx(check), reading: reading(verdict) });
    }
    lb1.run(ms(1100));
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    // An advert of `web`, which is well there.
    lb2.hear(1, 150);
    assert!(lb2.snapshot().units.iter().all(|u| u.state == State::Active));
}

#[test]
fn dual_stack_either_family_speaks_for_the_host() {
    let text = beating("addresses = [\"192.0.2.10/24\", \"fe80::a/64\"]");
    let (_, mut lb2) = rivals(&text, with(Severity::Fail, 0), Verdict::Fail);
    assert_eq!(lb2.snapshot().units.len(), 1);
    lb2.log.clear();
    lb2.hear6(1, 150);
    lb2.hear(1, 150);
    assert_eq!(lb2.state(), State::Active);
    assert_eq!(lb2.priorities(), [100; 4], "two answers, each in both families");
}

#[test]
fn who_left_is_not_the_owner_that_lives_on() {
    // The adverts of lb1, which owns, do not arrive; its heartbeats do. lb3 cleans up and says priority 0.
    let mut world = crate::world::World::settled(&beating(""), 3);
    world.no_adverts = crate::world::Cuts::from([(0, 1), (0, 2)]);
    world.run(ms(1500));
    world.hosts[1].now = world.now;
    world.hosts[1].hear(3, 0);
    world.run(secs(30));
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
    assert_eq!(world.hosts[1].causes(), []);
    // Read after a pause as well.
    let lb2 = &mut world.hosts[1];
    lb2.stand_still(ms(700));
    lb2.hear_late(&lb2.advert(vipd_core::types::Family::V4, 0), "192.0.2.13", ms(690));
    lb2.give(Input::Timeout);
    assert_eq!(lb2.state(), State::Backup);
}

#[test]
fn an_owner_that_leaves_while_its_heartbeats_are_lost_is_believed() {
    let mut world = crate::world::World::settled(&beating(""), 2);
    world.run(ms(300));
    world.no_beats = crate::world::World::all().into_iter().collect();
    world.give(0, Input::Stop);
    let took = world.until(ms(2000), |w| w.owners() == [1]);
    assert!(took <= ms(610), "its skew: {took:?}");
    assert_eq!(world.hosts[1].unit().owner, Some(ip("192.0.2.12")));
}

#[test]
fn the_highest_numbers_that_a_peer_can_say_are_no_end() {
    use vipd_core::types::{Epoch, HostIx};
    use vipd_core::wire::heartbeat::{Heartbeat, HeartbeatKey};
    let (mut lb1, mut lb2) = (Bench::up(&beating(""), 1), Bench::up(&beating(""), 2));
    lb1.run(ms(10));
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    lb2.log.clear();
    lb2.run(ms(1100));
    let key = HeartbeatKey::derive(&[0x5a; 32], "shop");
    let mut said = beats_of(&lb2).into_iter().find(|b| b.to.ip() == ip("192.0.2.11")).unwrap();
    let mut beat = Heartbeat::decode(&said.payload, &key).unwrap();
    beat.instances[0].epoch = Epoch { number: u64::MAX, host: lb2.model.epoch_host(HostIx(1)) };
    beat.paths.iter_mut().for_each(|p| p.boot = u64::MAX);
    said.payload = beat.encode(&key);
    lb1.log.clear();
    hear_beat(&mut lb1, 2, &said);
    let boot = |e: &vipd_core::engine::io::EventKind| {
        matches!(
            e,
            vipd_core::engine::io::EventKind::Boot { counter: u64::MAX, told_by: HostIx(1) }
        )
    };
    assert!(lb1.events().iter().any(boot));
    lb1.become_owner();
    let host = lb1.model.epoch_host(HostIx(0));
    assert_eq!(lb1.unit().epoch, Epoch { number: u64::MAX, host });
}
