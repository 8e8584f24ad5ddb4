//! Active hears others: V42-V47, V53, V64, V65, oversleeping (DESIGN 5.3), weaker peers (5.4, 5.12).

use crate::bench::{Bench, Orders, VIP, ip, ms, plain};
use vipd_core::engine::io::{Alarm, Cause, EventKind, Input};
use vipd_core::types::{Family, Interval, State};

#[test]
fn v42_it_yields_with_one_last_advert_and_takes_over_the_winners_interval() {
    let mut lb2 = Bench::owner(&plain(""), 2);
    let mut advert = lb2.advert(Family::V4, 150);
    advert.interval = Interval::from_centis(50).unwrap();
    lb2.hear_advert(&advert, "192.0.2.11");
    assert_eq!(lb2.causes(), [(State::Backup, Cause::Outranked(150))]);
    // Its own priority, which is weaker: the winner answers and announces.
    assert_eq!(lb2.priorities(), [100]);
    assert_eq!(lb2.story(), ["advert", "free"]);
    assert_eq!(lb2.claims_in(), ms(1500) + ms(500) * 156 / 256);
    lb2.run(ms(1000));
    assert_eq!(lb2.adverts().len(), 1);
}

#[test]
fn v43_equal_priority_is_decided_by_the_greater_address() {
    for (n, state) in [(1, State::Active), (3, State::Backup)] {
        let mut lb2 = Bench::owner(&plain(""), 2);
        lb2.hear(n, 100);
        assert_eq!(lb2.state(), state, "from 192.0.2.1{n}");
    }
    let text = plain("addresses = [\"fe80::a/64\"]");
    for (n, state) in [(1, State::Active), (3, State::Backup)] {
        let mut lb2 = Bench::owner(&text, 2);
        lb2.hear6(n, 100);
        assert_eq!(lb2.state(), state, "from fe80::1{n}");
    }
}

#[test]
fn v43_the_last_advert_after_a_tie_is_weaker_than_the_winners() {
    let mut lb2 = Bench::owner(&plain(""), 2);
    lb2.hear(3, 100);
    assert_eq!(lb2.priorities(), [1]);
    assert_eq!(lb2.causes(), [(State::Backup, Cause::TieBreak)]);
}

#[test]
fn v44_a_weaker_advert_is_answered_at_once_but_a_flood_is_not() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(300));
    lb1.log.clear();
    lb1.hear(2, 100);
    assert_eq!(lb1.priorities(), [150]);
    for _ in 0..1000 {
        lb1.hear(2, 100);
    }
    assert!(lb1.adverts().len() <= 3, "{} answers", lb1.adverts().len());
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn after_a_weaker_advert_it_announces_again_rate_limited() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(20_000));
    lb1.log.clear();
    for _ in 0..100 {
        lb1.hear(2, 100);
        lb1.run(ms(1));
    }
    let n = lb1.announced().len();
    assert!((1..=2).contains(&n), "{n} announcements");
}

#[test]
fn version_2_knows_no_immediate_answer() {
    let mut lb1 = Bench::owner(&plain("version = 2"), 1);
    lb1.run(ms(300));
    lb1.log.clear();
    lb1.hear(2, 100);
    assert!(lb1.adverts().is_empty());
}

#[test]
fn v45_priority_0_is_answered_and_restarts_the_advert_timer() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(600));
    lb1.log.clear();
    lb1.hear(2, 0);
    assert_eq!(lb1.priorities(), [150]);
    lb1.run(ms(999));
    assert_eq!(lb1.adverts().len(), 1);
    lb1.run(ms(1));
    assert_eq!(lb1.adverts().len(), 2);
}

#[test]
fn v46_its_own_source_address_is_never_answered() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    for priority in [0, 100, 150, 200, 255] {
        lb1.hear(1, priority);
    }
    assert_eq!(lb1.state(), State::Active);
    assert!(lb1.adverts().is_empty());
    let told = lb1.events();
    let refused =
        |e: &EventKind| matches!(e, EventKind::Refused { reason: "own-source-address", .. });
    assert_eq!(told.iter().filter(|e| refused(e)).count(), 1, "logged once: {told:?}");
}

#[test]
fn v47_preempt_mode_means_nothing_to_an_owner() {
    let mut lb2 = Bench::owner(&plain("preempt = false"), 2);
    lb2.hear(3, 50);
    assert_eq!((lb2.state(), lb2.priorities()), (State::Active, vec![100]));
    lb2.hear(1, 150);
    assert_eq!(lb2.state(), State::Backup);
}

#[test]
fn v53_who_is_not_owner_any_more_announces_nothing() {
    let mut lb2 = Bench::up(&plain(""), 2);
    lb2.become_owner();
    lb2.run(ms(500));
    assert_eq!(lb2.announced().len(), 1);
    lb2.hear(1, 150);
    lb2.log.clear();
    for _ in 0..20 {
        lb2.run(ms(1000));
        lb2.hear(1, 150);
    }
    assert!(lb2.announced().is_empty());
    assert!(lb2.renewals().is_empty());
}

#[test]
fn v64_the_owner_at_255_is_heard_although_its_source_is_the_virtual_address() {
    let mut lb2 = Bench::owner(&plain(""), 2);
    let advert = lb2.advert(Family::V4, 255);
    lb2.hear_advert(&advert, "192.0.2.10");
    assert_eq!(lb2.causes(), [(State::Backup, Cause::Outranked(255))]);
}

#[test]
fn v65_two_owners_at_255_are_settled_by_address_and_alarmed() {
    let text = plain("priority = { lb1 = 255, lb2 = 100, lb3 = 50 }");
    for (other, state) in [("192.0.2.9", State::Active), ("192.0.2.12", State::Backup)] {
        let mut lb1 = Bench::up(&text, 1);
        assert_eq!(lb1.state(), State::Active);
        let advert = lb1.advert(Family::V4, 255);
        lb1.hear_advert(&advert, other);
        assert_eq!(lb1.state(), state, "against {other}");
        assert!(lb1.alarms().contains(&Alarm::DuplicateOwner(ip(other))));
    }
}

#[test]
fn overslept_an_owner_among_what_was_queued_wins_whatever_its_priority() {
    let mut lb1 = Bench::owner(&plain("lease = \"off\""), 1);
    lb1.run(ms(100));
    lb1.log.clear();
    lb1.stand_still(ms(5000));
    let advert = lb1.advert(Family::V4, 100);
    lb1.hear_late(&advert, "192.0.2.12", ms(400));
    lb1.give(Input::Timeout);
    assert_eq!(lb1.state(), State::Backup);
    assert!(matches!(lb1.causes()[..], [(State::Backup, Cause::Overslept(_))]));
    // The peer owns; one last advert, weaker than the peer's, makes it announce after the release (DESIGN 5.4).
    assert_eq!(lb1.priorities(), [1]);
    assert_eq!(lb1.story(), ["free", "advert"]);
}

#[test]
fn overslept_a_release_among_what_was_queued_is_not_answered_before_the_rest_is_read() {
    let mut lb1 = Bench::owner(&plain("lease = \"off\""), 1);
    lb1.run(ms(100));
    for then_an_owner in [true, false] {
        lb1.log.clear();
        lb1.stand_still(ms(9000));
        // One that cleaned up, then the one that owns now.
        lb1.hear_late(&lb1.advert(Family::V4, 0), "192.0.2.13", ms(5000));
        assert!(lb1.adverts().is_empty(), "the next one in the queue may own");
        if then_an_owner {
            lb1.hear_late(&lb1.advert(Family::V4, 100), "192.0.2.12", ms(400));
            assert_eq!((lb1.state(), lb1.priorities()), (State::Backup, vec![1]));
            lb1.hear(2, 0);
            lb1.become_owner();
        } else {
            lb1.give(Input::Timeout);
            assert_eq!((lb1.state(), lb1.priorities()), (State::Active, vec![150]));
        }
    }
}

#[test]
fn overslept_its_last_word_outranks_nobody_who_may_own_by_now() {
    let mut lb2 = Bench::owner(&plain("lease = \"off\""), 2);
    lb2.run(ms(100));
    lb2.log.clear();
    lb2.stand_still(ms(9000));
    // lb1 owned first; lb3, which is weaker than lb2, owns now.
    lb2.hear_late(&lb2.advert(Family::V4, 150), "192.0.2.11", ms(5000));
    lb2.hear_late(&lb2.advert(Family::V4, 50), "192.0.2.13", ms(400));
    assert_eq!((lb2.state(), lb2.priorities()), (State::Backup, vec![1]));
}

#[test]
fn overslept_a_lost_link_is_left_without_a_word() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(100));
    lb1.log.clear();
    lb1.stand_still(ms(9000));
    // The link went and came while it slept: a priority 0 would leave, in the name of whoever owns by now.
    let mut state = crate::bench::eth0(1);
    state.running = false;
    lb1.give(Input::Link { link: crate::bench::ETH0, state });
    assert_eq!((lb1.state(), lb1.story()), (State::Initialize, vec!["free"]));
}

#[test]
fn overslept_with_nobody_heard_it_goes_on_and_announces() {
    let mut lb1 = Bench::owner(&plain("advert-interval = \"100ms\""), 1);
    lb1.run(ms(20_000));
    lb1.log.clear();
    // 3T is 300 ms, the lease 1 s: it still holds.
    lb1.stand_still(ms(350));
    lb1.give(Input::Timeout);
    assert_eq!(lb1.state(), State::Active);
    assert_eq!(lb1.priorities(), [150]);
    assert_eq!(lb1.announced().len(), 1);
}

#[test]
fn overslept_and_the_lease_may_have_ended_it_owns_no_more() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(2500));
    lb1.log.clear();
    lb1.stand_still(ms(4000));
    lb1.give(Input::Timeout);
    assert_eq!(lb1.state(), State::Backup);
    assert_eq!(lb1.story(), ["free"]);
}

#[test]
fn a_resolved_conflict_is_announced() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(20_000));
    for _ in 0..5 {
        lb1.hear(2, 100);
        lb1.run(ms(1000));
    }
    assert!(lb1.alarms().contains(&Alarm::DualActive(ip("192.0.2.12"))));
    lb1.log.clear();
    lb1.run(ms(4100));
    assert_eq!(lb1.alarms(), []);
    assert!(!lb1.announced().is_empty());
}

#[test]
fn waking_up_announces_nothing_that_is_still_being_put_back() {
    let mut bench = Bench::owner(&plain("advert-interval = \"100ms\""), 1);
    bench.run(ms(3000));
    bench.orders = Orders::Pending;
    bench.stand_still(ms(350));
    bench.log.clear();
    bench.removed(VIP);
    bench.give(Input::Timeout);
    assert_eq!((bench.state(), bench.holds()), (State::Active, 1));
    assert!(bench.announced().is_empty(), "the kernel does not have it yet");
    bench.applied(Ok(()));
    bench.run(ms(1));
    assert!(!bench.announced().is_empty());
}
