//! Backup: V25, V26, V35-V41, V68, V69.

use crate::bench::{Bench, ms, plain};
use vipd_core::engine::io::{Alarm, Cause, Input};
use vipd_core::time::Duration;
use vipd_core::types::{Family, Interval, State};

/// Active_Down_Interval of lb2 (priority 100) at `t`.
fn down(t: Duration) -> Duration {
    t * 3 + t * 156 / 256
}

#[test]
fn v36_backup_adopts_the_interval_active_uses_its_own() {
    let mut lb2 = Bench::up(&plain(""), 2);
    let mut advert = lb2.advert(Family::V4, 150);
    advert.interval = Interval::from_centis(200).unwrap();
    lb2.hear_advert(&advert, "192.0.2.11");
    assert_eq!(lb2.claims_in(), down(ms(2000)));
    lb2.run(down(ms(2000)));
    assert_eq!(lb2.state(), State::Active);
    lb2.run(ms(1000));
    assert_eq!(lb2.adverts().len(), 2);
    assert!(lb2.adverts().iter().all(|(_, a)| a.interval == Interval::SECOND));
}

#[test]
fn v25_another_interval_is_accepted_and_counted() {
    let mut lb2 = Bench::up(&plain(""), 2);
    let mut advert = lb2.advert(Family::V4, 150);
    advert.interval = Interval::from_centis(10).unwrap();
    lb2.hear_advert(&advert, "192.0.2.11");
    assert_eq!(lb2.claims_in(), down(ms(100)));
    let counters = lb2.unit().families[0].2;
    assert_eq!((counters.advertisement_rcvd, counters.interval_errors), (1, 1));
}

#[test]
fn v26_another_list_is_accepted_counted_and_alarmed_its_order_does_not_matter() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"192.0.2.9/24\"]");
    let mut lb2 = Bench::up(&text, 2);
    let mut advert = lb2.advert(Family::V4, 150);
    advert.addresses.reverse();
    lb2.hear_advert(&advert, "192.0.2.11");
    assert_eq!(lb2.alarms(), []);
    lb2.run(ms(500));
    advert.addresses.pop();
    lb2.hear_advert(&advert, "192.0.2.11");
    assert_eq!(lb2.alarms(), [Alarm::DuplicateVrid("192.0.2.11".parse().unwrap())]);
    assert_eq!(lb2.claims_in(), down(ms(1000)));
    assert_eq!(lb2.unit().families[0].2.address_list_errors, 1);
    // It ends when its evidence does.
    lb2.hear(1, 150);
    lb2.run(ms(3000));
    for _ in 0..60 {
        lb2.hear(1, 150);
        lb2.run(ms(1000));
    }
    assert_eq!(lb2.alarms(), []);
}

#[test]
fn v37_priority_0_leaves_skew_time() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.hear(1, 150);
    lb2.run(ms(700));
    lb2.hear(1, 0);
    let skew = ms(1000) * 156 / 256;
    assert_eq!(lb2.claims_in(), skew);
    lb2.run(skew);
    assert_eq!(lb2.causes().last(), Some(&(State::Active, Cause::Released)));
}

#[test]
fn v38_equal_priority_restarts_the_timer() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.run(ms(2000));
    lb2.hear(1, 100);
    assert_eq!(lb2.claims_in(), down(ms(1000)));
}

#[test]
fn v39_a_weaker_owner_does_not_touch_the_timer_of_a_preempting_backup() {
    let mut lb2 = Bench::up(&plain(""), 2);
    let first = lb2.claims_in();
    for _ in 0..3 {
        lb2.run(ms(1000));
        lb2.hear(3, 50);
    }
    assert_eq!(lb2.claims_in(), first - ms(3000));
    lb2.run(lb2.claims_in());
    assert_eq!(lb2.causes().last(), Some(&(State::Active, Cause::Preempts(50))));
}

#[test]
fn v40_without_preemption_a_weaker_owner_restarts_the_timer() {
    let mut lb2 = Bench::up(&plain("preempt = false"), 2);
    for _ in 0..100 {
        lb2.run(ms(1000));
        lb2.hear(3, 50);
        assert_eq!(lb2.claims_in(), down(ms(1000)));
    }
    assert_eq!(lb2.state(), State::Backup);
}

#[test]
fn v41_without_preemption_it_still_replaces_who_is_gone() {
    let text = plain("preempt = false");
    let mut silent = Bench::up(&text, 2);
    silent.hear(3, 50);
    silent.run(down(ms(1000)));
    assert_eq!(silent.state(), State::Active);
    let mut released = Bench::up(&text, 2);
    released.hear(3, 50);
    released.hear(3, 0);
    released.run(ms(1000));
    assert_eq!(released.state(), State::Active);
}

#[test]
fn the_preempt_delay_holds_preemption_alone() {
    let text = plain("preempt-delay = \"60s\"");
    let mut lb2 = Bench::up(&text, 2);
    for _ in 0..59 {
        lb2.run(ms(1000));
        lb2.hear(3, 50);
    }
    assert_eq!(lb2.state(), State::Backup);
    let mut dead = Bench::up(&text, 2);
    dead.hear(3, 50);
    dead.run(down(ms(1000)));
    assert_eq!(dead.state(), State::Active, "nobody owns: the delay does not bind");
    for _ in 0..8 {
        lb2.run(ms(1000));
        if lb2.state() == State::Backup {
            lb2.hear(3, 50);
        }
    }
    assert_eq!(lb2.causes().last(), Some(&(State::Active, Cause::Preempts(50))));
}

#[test]
fn the_hold_down_binds_who_lost_the_address_to_a_fault() {
    let mut lb1 = Bench::owner(&plain("hold-down = \"20s\""), 1);
    let mut state = crate::bench::eth0(1);
    state.running = false;
    lb1.give(Input::Link { link: crate::bench::ETH0, state });
    lb1.run(ms(1000));
    lb1.link_up();
    for second in 1..19 {
        lb1.hear(2, 100);
        lb1.run(ms(1000));
        assert_eq!(lb1.state(), State::Backup, "{second} s");
    }
    for _ in 0..6 {
        if lb1.state() == State::Backup {
            lb1.hear(2, 100);
        }
        lb1.run(ms(1000));
    }
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn v69_queued_adverts_count_from_their_arrival_and_before_the_timer() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.hear(1, 150);
    lb2.stand_still(down(ms(1000)) * 2);
    // The owner spoke all the time; what the socket kept is read before the timer is served.
    let advert = lb2.advert(Family::V4, 150);
    for age in (0..7).rev() {
        lb2.hear_late(&advert, "192.0.2.11", ms(age * 1000 + 200));
    }
    lb2.give(Input::Timeout);
    assert_eq!(lb2.state(), State::Backup);
    assert_eq!(lb2.claims_in(), down(ms(1000)) - ms(200));
    assert!(lb2.adverts().is_empty());
}

#[test]
fn woken_late_with_nothing_queued_it_listens_once_more_but_not_for_ever() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.hear(1, 150);
    let mut rounds = 0;
    while lb2.state() == State::Backup {
        lb2.stand_still(ms(6000));
        lb2.give(Input::Timeout);
        rounds += 1;
        assert!(rounds < 5);
    }
    assert_eq!(rounds, 3, "two rounds of grace");
}

#[test]
fn silence_is_judged_by_what_was_read() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.hear(1, 150);
    let heard = lb2.now;
    lb2.run(down(ms(1000)) - ms(1));
    // A flood: what arrived in the last 300 ms waits unread.
    lb2.engine.set_read_until(lb2.now.before(ms(300)));
    lb2.run(ms(200));
    assert_eq!(lb2.state(), State::Backup, "the owner's advert may be in the queue");
    // It was.
    let (advert, age) = (lb2.advert(Family::V4, 150), lb2.now - (heard + ms(3000)));
    lb2.hear_late(&advert, "192.0.2.11", age);
    lb2.run(ms(2000));
    assert_eq!(lb2.state(), State::Backup);
    // A queue that never ends keeps nobody from a claim for longer than it is.
    lb2.engine.set_read_until(heard + ms(3000) + down(ms(1000)));
    lb2.run(lb2.claims_in() + ms(2));
    assert_eq!(lb2.state(), State::Active);
}
