//! Planned restarts of the agent (DESIGN 5.7): what peers are told before, and how the next agent goes on.

use crate::bench::{Bench, ETH0, Said, VIP, beating, eth0, ip, ms, plain};
use vipd_core::engine::io::{Cause, EventKind, Handover, HeartbeatIn, Input, KernelAddr};
use vipd_core::time::Duration;
use vipd_core::types::{Interval, State};

const FAST: &str = "advert-interval = \"100ms\"";

fn tagged(age: Duration) -> KernelAddr {
    KernelAddr { addr: ip(VIP), prefix_len: 32, ours: true, age, valid_for: Some(ms(1500)) }
}

/// Prepares until the engine agrees; how long that took.
fn prepared(bench: &mut Bench) -> Duration {
    let since = bench.now;
    bench.give(Input::PrepareRestart);
    while !bench.engine.may_exec() {
        assert!(bench.now - since < ms(2000), "never ready");
        bench.step();
    }
    bench.now - since
}

/// The next agent of host `n`, `gap` after the last word of the one before.
fn next(text: &str, n: u8, left: &Handover, gap: Duration) -> Bench {
    let mut bench = Bench::down_at(text, n, left.at + gap);
    bench.engine.resume(left);
    bench
}

fn intervals(bench: &Bench) -> Vec<u16> {
    let adverts = bench.log.iter().filter_map(|(_, said)| match said {
        Said::Advert(_, advert) => Some(advert.interval.centis()),
        _ => None,
    });
    adverts.collect()
}

#[test]
fn peers_are_told_three_times_then_the_lease_is_stretched() {
    let mut lb1 = Bench::owner(&plain(FAST), 1);
    lb1.run(ms(1000));
    lb1.log.clear();
    let took = prepared(&mut lb1);
    assert!(took <= ms(250), "{took:?}");
    let told = intervals(&lb1);
    assert!(told.len() >= 3 && told.iter().all(|cs| *cs == 100), "{told:?}");
    let leases: Vec<u32> = lb1.renewals().iter().map(|(_, r)| r.instances[0].1).collect();
    assert_eq!(leases.last(), Some(&2), "{leases:?}");
    let third = lb1.log.iter().filter(|(_, s)| matches!(s, Said::Advert(..))).nth(2).unwrap().0;
    let stretched =
        lb1.log.iter().find(|(_, s)| matches!(s, Said::Renew(r) if r.instances[0].1 == 2));
    assert!(stretched.unwrap().0 >= third, "leases outlive only what peers were told");
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn at_a_second_nothing_is_stretched_and_the_lease_is_fresh() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(700));
    lb1.log.clear();
    assert!(prepared(&mut lb1) <= ms(250));
    assert!(intervals(&lb1).len() >= 3);
    assert_eq!(lb1.renewals().last().map(|(_, r)| r.instances[0].1), Some(2));
}

#[test]
fn whole_seconds_of_version_2_stay() {
    let mut lb1 = Bench::owner(&plain("version = 2\nadvert-interval = \"2s\""), 1);
    lb1.run(ms(3000));
    lb1.log.clear();
    prepared(&mut lb1);
    assert!(intervals(&lb1).iter().all(|cs| *cs == 200));
}

#[test]
fn an_aborted_preparation_goes_back_at_once() {
    let mut lb1 = Bench::owner(&plain(FAST), 1);
    lb1.run(ms(1000));
    prepared(&mut lb1);
    lb1.log.clear();
    lb1.give(Input::AbortRestart);
    assert!(!lb1.engine.may_exec());
    assert_eq!(intervals(&lb1), [10], "peers adopt it again");
    lb1.run(ms(1000));
    assert!(intervals(&lb1).iter().all(|cs| *cs == 10));
    assert_eq!(lb1.renewals().last().map(|(_, r)| r.instances[0].1), Some(1));
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn nothing_that_is_on_its_way_is_cut() {
    let mut lb1 = Bench::owner(&plain(FAST), 1);
    lb1.sends = false;
    lb1.give(Input::PrepareRestart);
    lb1.run(ms(250));
    assert!(!lb1.engine.may_exec(), "no advert was accepted");
    lb1.sends = true;
    lb1.run(ms(400));
    assert!(lb1.engine.may_exec());
    lb1.give(Input::Stop);
    assert!(!lb1.engine.may_exec(), "it hands over");
}

#[test]
fn the_next_agent_goes_on_as_owner() {
    let text = beating(FAST);
    let mut lb1 = Bench::owner(&text, 1);
    lb1.run(ms(5000));
    prepared(&mut lb1);
    let left = lb1.engine.handover();
    let since = lb1.engine.handover().instances[0].units[0].since;
    // Longer than M at 100 ms.
    let mut next = next(&text, 1, &left, ms(900));
    next.give(Input::Link { link: ETH0, state: eth0(1) });
    next.dump(&[tagged(ms(950))]);
    assert_eq!(next.causes().last(), Some(&(State::Active, Cause::Adopted)));
    assert_eq!(intervals(&next).last(), Some(&10), "peers adopt it again");
    let after = next.engine.handover();
    assert_eq!(after.instances[0].epoch, left.instances[0].epoch, "no claim, no epoch");
    assert_eq!(next.engine.handover().instances[0].units[0].since, since);
    next.run(ms(1000));
    assert_eq!(next.state(), State::Active);
    assert!(next.engine.handover().seq > left.seq, "heartbeats go on");
    assert_eq!(after.boot, left.boot);
}

#[test]
fn not_as_owner_when_it_is_too_late() {
    let text = plain(FAST);
    let mut lb1 = Bench::owner(&text, 1);
    prepared(&mut lb1);
    let left = lb1.engine.handover();
    for (gap, age) in [(ms(3100), ms(3150)), (ms(900), ms(3000))] {
        let mut next = next(&text, 1, &left, gap);
        next.give(Input::Link { link: ETH0, state: eth0(1) });
        next.dump(&[tagged(age)]);
        assert_eq!((next.state(), next.frees().len()), (State::Backup, 1), "{gap:?} {age:?}");
    }
}

#[test]
fn not_as_owner_without_the_addresses_or_with_another_one() {
    let text = plain(FAST);
    let mut lb1 = Bench::owner(&text, 1);
    prepared(&mut lb1);
    let left = lb1.engine.handover();
    let mut gone = next(&text, 1, &left, ms(200));
    gone.give(Input::Link { link: ETH0, state: eth0(1) });
    gone.dump(&[]);
    assert_eq!(gone.state(), State::Backup);
    gone.run(ms(2000));
    assert_eq!(gone.state(), State::Active, "nobody else came");
    assert!(gone.engine.handover().instances[0].epoch > left.instances[0].epoch, "a new claim");
    let mut other = next(&text, 1, &left, ms(200));
    other.give(Input::Link { link: ETH0, state: eth0(1) });
    other.hear(2, 100);
    other.dump(&[tagged(ms(250))]);
    assert_eq!((other.state(), other.frees().len()), (State::Backup, 1));
}

#[test]
fn a_backup_goes_on_listening_to_whom_it_heard() {
    let text = plain(FAST);
    let mut lb2 = Bench::up(&text, 2);
    // The owner is about to be started anew as well: its interval is the longer one.
    let mut advert = lb2.advert(vipd_core::types::Family::V4, 150);
    advert.interval = Interval::SECOND;
    lb2.hear_advert(&advert, "192.0.2.11");
    prepared(&mut lb2);
    assert_eq!(intervals(&lb2), [] as [u16; 0], "a Backup says nothing");
    let left = lb2.engine.handover();
    let mut next = next(&text, 2, &left, ms(100));
    next.link_up();
    next.run(ms(2900));
    assert_eq!(next.state(), State::Backup, "three of its intervals have not passed");
    next.run(ms(1000));
    assert_eq!(next.state(), State::Active);
}

#[test]
fn a_left_over_address_of_a_backup_is_no_reason_to_own() {
    let text = plain("");
    let mut lb2 = Bench::up(&text, 2);
    lb2.hear(1, 150);
    prepared(&mut lb2);
    let left = lb2.engine.handover();
    let mut next = next(&text, 2, &left, ms(100));
    next.give(Input::Link { link: ETH0, state: eth0(2) });
    next.dump(&[tagged(ms(150))]);
    assert_eq!((next.state(), next.frees().len()), (State::Backup, 1));
}

#[test]
fn heartbeats_announce_a_longer_pause() {
    let text = beating(FAST);
    let mut lb1 = Bench::owner(&text, 1);
    let mut lb2 = Bench::up(&text, 2);
    lb1.log.clear();
    prepared(&mut lb1);
    for (_, said) in &lb1.log {
        if let Said::Beat(beat) = said {
            lb2.give(Input::Heartbeat(HeartbeatIn {
                path: beat.path,
                src: "192.0.2.11:4242".parse().unwrap(),
                payload: &beat.payload,
                age: Duration::ZERO,
            }));
        }
        if let Said::Advert(_, advert) = said {
            lb2.hear_advert(&advert.clone(), "192.0.2.11");
        }
    }
    lb2.log.clear();
    lb2.run(ms(2500));
    assert_eq!(lb2.state(), State::Backup);
    assert!(lb2.causes().is_empty(), "nothing happened here");
    let gone = |s: &Said| matches!(s, Said::Event(e) if matches!(e.kind, EventKind::Peer { alive: false, .. }));
    assert!(!lb2.log.iter().any(|(_, s)| gone(s)), "nor is it taken for dead");
}

#[test]
fn an_agent_of_another_release_is_understood() {
    let mut lb1 = Bench::owner(&plain(FAST), 1);
    prepared(&mut lb1);
    let left = lb1.engine.handover();
    let mut text = serde_json::to_value(&left).unwrap();
    assert_eq!(serde_json::from_value::<Handover>(text.clone()).unwrap(), left);
    // A newer one says more, an older one less.
    text["instances"][0]["units"][0]["mood"] = "calm".into();
    text.as_object_mut().unwrap().remove("peers");
    text["instances"][0]["units"][0].as_object_mut().unwrap().remove("pinned");
    let read: Handover = serde_json::from_value(text).unwrap();
    assert_eq!(read.instances, left.instances);
    assert_eq!(serde_json::from_str::<Handover>("{}").unwrap(), Handover::default());
    assert!(!Handover::default().is_fresh(lb1.now));
}
