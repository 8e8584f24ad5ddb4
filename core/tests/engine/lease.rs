//! The address lease (DESIGN 5.1): finite, renewed only after adverts that sendmsg accepted.

use crate::bench::{Bench, Orders, VIP, ip, model, ms, plain};
use vipd_core::engine::io::{Cause, Input, KernelFault, Renewed, Want};
use vipd_core::time::Duration;
use vipd_core::types::{Family, InstanceIx, Interval, State, Vrid};

#[test]
fn lengths() {
    let instance = &model(&plain(""), "lb1").instances[0];
    // The largest whole number of seconds below 3T - 0.4 s, at least 1.
    for (centis, secs) in [
        (1, 1),
        (10, 1),
        (46, 1),
        (80, 1),
        (81, 2),
        (100, 2),
        (113, 2),
        (114, 3),
        (200, 5),
        (4095, 122),
    ] {
        assert_eq!(
            instance.lease_secs(Interval::from_centis(centis).unwrap()),
            Some(secs),
            "{centis} cs"
        );
    }
    let off = &model(&plain("lease = \"off\""), "lb1").instances[0];
    assert_eq!(off.lease_secs(Interval::SECOND), None);
}

#[test]
fn a_claim_has_a_lease_and_a_time_after_which_it_must_not_happen() {
    let mut lb1 = Bench::up(&plain(""), 1);
    lb1.run(ms(4000));
    let (at, own) = lb1.owns()[0].clone();
    let Want::Hold { lease_secs, not_after, families } = own.want else { panic!("{own:?}") };
    assert_eq!((lease_secs, families), (Some(2), [true, false]));
    assert_eq!(not_after, at + ms(3000));
}

#[test]
fn renewed_about_every_300_ms_with_an_end() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(20_000));
    let renewals = lb1.renewals();
    assert!((20..=68).contains(&renewals.len()), "{} in 20 s", renewals.len());
    let adverts = lb1.adverts();
    for (at, renew) in &renewals {
        assert_eq!(renew.instances, [(crate::bench::WEB, 2)]);
        // Renewed at that time at the latest, the lease ends before a peer can have claimed.
        let advert = adverts.iter().rev().find(|(sent, _)| sent <= at);
        let sent = advert.map_or(renewals[0].0, |(sent, _)| *sent);
        assert!(renew.not_after <= sent + ms(1000), "{at}: {}", renew.not_after);
    }
    for pair in renewals.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= ms(300));
        assert!(pair[1].0 - pair[0].0 < ms(1000), "half a lease");
    }
}

#[test]
fn large_sets_are_renewed_every_half_lease() {
    let mut lb1 = Bench::owner(&plain("addresses = [\"192.0.2.100-199/24\"]"), 1);
    lb1.run(ms(20_000));
    let n = lb1.renewals().len();
    assert!((18..=21).contains(&n), "{n} in 20 s");
}

/// It may need more time than there is; who has few addresses is not to wait for it.
#[test]
fn who_has_many_addresses_is_renewed_last_and_by_itself() {
    let many = plain("addresses = [\"192.0.2.100-199/24\"]\n");
    let few = "[instance.web2]\nvrid = 61\ninterface = \"eth0\"\naddresses = [\"192.0.2.61/24\"]\n\
               priority = { lb1 = 150, lb2 = 100 }\npreempt-delay = \"0s\"\nsettle = \"off\"\n";
    let mut lb1 = Bench::owner(&(many + few), 1);
    lb1.run(ms(20_000));
    let renewals = lb1.renewals();
    assert!(renewals.iter().all(|(_, r)| r.instances.len() == 1), "{renewals:?}");
    for pair in renewals.chunks(2) {
        let [(first, small), (then, large)] = pair else { panic!("{pair:?}") };
        assert_eq!((first, small.instances[0].0), (then, InstanceIx(1)));
        assert_eq!(large.instances[0].0, crate::bench::WEB);
    }
    assert!(renewals.len() >= 36, "{}", renewals.len());
}

#[test]
fn without_lease_nothing_is_renewed() {
    let mut lb1 = Bench::owner(&plain("lease = \"off\""), 1);
    lb1.run(ms(20_000));
    assert!(lb1.renewals().is_empty());
}

/// P1: a host whose adverts are not sent any more must not keep the address, whatever else works.
#[test]
fn adverts_that_sendmsg_refuses_renew_nothing() {
    for interval in ["100ms", "1s", "5s"] {
        let mut lb1 = Bench::owner(&plain(&format!("advert-interval = \"{interval}\"")), 1);
        let t = lb1.model.instances[0].interval.duration();
        let lease = Duration::from_secs(u64::from(
            lb1.model.instances[0]
                .lease_secs(
                    Interval::from_centis(u16::try_from(t.as_millis() / 10).unwrap()).unwrap(),
                )
                .unwrap(),
        ));
        lb1.run(t * 4);
        lb1.log.clear();
        lb1.sends = false;
        let refused_from = lb1.now;
        lb1.run(t * 30);
        let last_good = refused_from;
        // Renewals and repeated claims alike: their lease must end with the patience of the peers.
        let patience = (t * 3).max(lease + t.min(ms(100)) * 3);
        let renewed = lb1.renewals().into_iter().map(|(at, _)| at);
        let held = lb1.owns().into_iter().filter(|(_, o)| o.want != Want::Free).map(|(at, _)| at);
        for at in renewed.chain(held) {
            assert!(
                at + lease <= last_good + patience,
                "{interval}: the lease is prolonged {:?} after the last advert",
                at - last_good
            );
        }
    }
}

#[test]
fn an_address_that_ended_by_its_own_lifetime_is_not_repaired() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(2500));
    lb1.sends = false;
    lb1.run(ms(4000));
    lb1.log.clear();
    let state = lb1.state();
    if state == State::Active {
        lb1.removed(VIP);
        assert_eq!(lb1.causes(), [(State::Backup, Cause::LeaseEnded)]);
    }
    assert_eq!(lb1.holds(), 0);
    assert_eq!(lb1.state(), State::Backup);
}

#[test]
fn a_renewal_that_the_kernel_refuses_is_a_fault() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(1000));
    lb1.log.clear();
    let refused = KernelFault::Refused { what: "renew".into(), error: "ENOMEM".into() };
    lb1.orders = Orders::Failed(refused);
    lb1.run(ms(1000));
    assert_eq!(lb1.causes(), [(State::Initialize, Cause::KernelFault)]);
    assert_eq!(*lb1.priorities().last().unwrap(), 0);
    assert_eq!(lb1.frees().len(), 1);
}

#[test]
fn a_lease_not_confirmed_for_half_its_life_is_asked_for_again() {
    let mut lb1 = Bench::owner(&plain("advert-interval = \"5s\""), 1);
    lb1.run(ms(6000));
    let confirmed = lb1.renewals().last().unwrap().0;
    lb1.log.clear();
    // 14 s of lease; the kernel thread answers nothing any more.
    lb1.orders = Orders::Pending;
    lb1.run(ms(12_000));
    let asked = lb1.owns()[0].0 - confirmed;
    assert!((ms(7000)..ms(11_000)).contains(&asked), "{asked:?}");
}

/// Forty more instances on the same link, each with an interval of 100 ms and in a phase of its own: they were claimed
/// one after the other.
fn out_of_step() -> Bench {
    let mut text = plain("advert-interval = \"100ms\"\n");
    for n in 0..40 {
        text += &format!(
            "[instance.i{n}]\nvrid = {}\ninterface = \"eth0\"\naddresses = [\"192.0.2.{}/24\", \"192.0.2.{}/24\"]\n\
             priority = {{ lb1 = 150, lb2 = 100 }}\nadvert-interval = \"100ms\"\npreempt-delay = \"0s\"\nsettle = \"off\"\n",
            100 + n,
            60 + 2 * n,
            61 + 2 * n
        );
    }
    let mut lb1 = Bench::up(&text, 1);
    let advert = |lb1: &Bench, n: u8, priority| {
        let mut advert = lb1.advert(Family::V4, priority);
        advert.vrid = Vrid::new(100 + n).unwrap();
        advert.addresses =
            vec![ip(&format!("192.0.2.{}", 60 + 2 * n)), ip(&format!("192.0.2.{}", 61 + 2 * n))];
        advert
    };
    for n in 0..40 {
        let theirs = advert(&lb1, n, 200);
        lb1.hear_advert(&theirs, "192.0.2.13");
    }
    for n in 0..40 {
        let last = advert(&lb1, n, 0);
        lb1.hear_advert(&last, "192.0.2.13");
        lb1.run(Duration::from_micros(2470));
    }
    lb1.run(ms(1000));
    assert_eq!(lb1.holds(), 41);
    lb1.log.clear();
    lb1
}

#[test]
fn each_order_leaves_the_kernel_time_and_each_lease_is_renewed_before_it_ends() {
    let mut lb1 = out_of_step();
    let start = lb1.now;
    lb1.run(ms(10_000));
    let renewals = lb1.renewals();
    for (at, renew) in &renewals {
        assert!(renew.not_after >= *at + ms(25), "{at}: until {}", renew.not_after);
    }
    for n in 0..41 {
        let of = renewals.iter().filter(|(_, r)| r.instances.iter().any(|(ix, _)| ix.0 == n));
        let mut last = start;
        for (at, _) in of {
            assert!(at.since(last) <= ms(700), "instance {n}: {:?} at {at}", at.since(last));
            last = *at;
        }
        assert!(lb1.now.since(last) <= ms(700), "instance {n}");
    }
    // Two bursts a second, and after each what was not ready.
    assert!(renewals.len() <= 20 * 3, "{} orders in 10 s", renewals.len());
}

#[test]
fn what_the_kernel_was_too_late_for_is_renewed_after_the_next_advert() {
    let mut lb1 = out_of_step();
    while lb1.renewals().is_empty() {
        lb1.orders = Orders::Failed(KernelFault::Late);
        lb1.run(ms(5));
    }
    lb1.orders = Orders::Done;
    let (late_at, late) = lb1.renewals()[0].clone();
    lb1.run(ms(300));
    let again = lb1.renewals();
    for (ix, _) in &late.instances {
        let next = again.iter().skip(1).find(|(_, r)| r.instances.iter().any(|(i, _)| i == ix));
        let (at, renew) = next.unwrap_or_else(|| panic!("instance {} waits", ix.0));
        assert!(at.since(late_at) <= ms(250));
        assert!(renew.not_after >= *at + ms(50), "with half of the time that there is");
    }
    assert!(lb1.causes().is_empty());
}

/// A burst renews whom it names. To believe more would let a host serve on a lease that has ended (P1).
#[test]
fn an_answer_says_nothing_of_an_instance_that_the_order_did_not_name() {
    let mut lb1 = out_of_step();
    while !lb1.renewals().iter().any(|(_, r)| r.instances.len() > 20) {
        lb1.run(ms(1));
    }
    // From that burst on the kernel thread says nothing.
    lb1.orders = Orders::Pending;
    lb1.log.clear();
    lb1.run(ms(60));
    let (_, one) = lb1.renewals().into_iter().min_by_key(|(_, r)| r.instances.len()).unwrap();
    assert!(one.instances.len() < 20, "there is an order that names a few");
    let left = |lb1: &Bench| -> Vec<_> {
        let units = lb1.snapshot().units.into_iter();
        units.map(|unit| (unit.instance, unit.lease_left.unwrap())).collect()
    };
    let before = left(&lb1);
    let (order, at) = (one.order, lb1.now);
    lb1.give(Input::Renewed(Renewed { order, at, failed: Vec::new() }));
    let named = |ix: InstanceIx| one.instances.iter().any(|(named, _)| *named == ix);
    for ((ix, before), (_, after)) in before.into_iter().zip(left(&lb1)) {
        assert_eq!(after > before, named(ix), "instance {}: {before:?} to {after:?}", ix.0);
    }
}

/// A wheel of the machine is always a little late, and a look may come with the very advert that it waits for.
#[test]
fn late_timers_lose_no_lease() {
    for interval in [100, 460, 810, 900, 1000, 1140, 2000] {
        for phase in 0..40 {
            let instance = |name: &str, vrid: u8, from: u8| {
                let all: Vec<_> =
                    (from..from + 40).map(|n| format!("\"192.0.2.{n}/24\"")).collect();
                format!(
                    "[instance.{name}]\nvrid = {vrid}\ninterface = \"eth0\"\naddresses = [{}]\n\
                     priority = {{ lb1 = 150, lb2 = 100 }}\nadvert-interval = \"{interval}ms\"\n\
                     preempt-delay = \"0s\"\nhold-down = \"0s\"\nsettle = \"off\"\n",
                    all.join(", ")
                )
            };
            let text = format!(
                "[hosts.lb1]\n[hosts.lb2]\n{}{}",
                instance("web", 51, 100),
                instance("zoo", 52, 150)
            );
            let mut lb1 = Bench::up(&text, 1);
            // The second one is held off, and claims in another phase.
            let mut theirs = lb1.advert(Family::V4, 200);
            (theirs.vrid, theirs.addresses) = (Vrid::new(52).unwrap(), vec![ip("192.0.2.150")]);
            lb1.hear_advert(&theirs, "192.0.2.13");
            let step = Duration::from_micros(interval * 25 + 7);
            lb1.run(step * phase);
            theirs.priority = 0;
            lb1.hear_advert(&theirs, "192.0.2.13");
            let end = lb1.now + ms(interval * 60);
            while lb1.now < end {
                lb1.now = lb1.engine.deadline().max(lb1.now) + Duration::from_micros(50);
                lb1.give(Input::Timeout);
                for unit in lb1.snapshot().units.iter().filter(|u| u.state == State::Active) {
                    let left = unit.lease_left;
                    assert!(
                        left.is_none_or(|left| left > ms(50)),
                        "{interval} ms, phase {phase}: {left:?}"
                    );
                }
            }
            // Claimed once, and never looked into.
            assert_eq!(lb1.holds(), 2, "{interval} ms, phase {phase}");
        }
    }
}

/// P1: with many addresses too, whose leases are renewed every half lease.
#[test]
fn a_shorter_interval_shortens_the_leases_of_many_addresses_at_once() {
    let text = |interval| {
        plain(&format!("addresses = [\"192.0.2.100-199/24\"]\nadvert-interval = \"{interval}\""))
    };
    let mut lb1 = Bench::owner(&text("40s"), 1);
    lb1.run(ms(130_000));
    lb1.log.clear();
    let next = lb1.retire(&text("1s"));
    lb1.put_in_force(next);
    lb1.run(ms(1000));
    let renewals = lb1.renewals();
    assert_eq!(
        renewals.last().map(|(_, r)| r.instances.clone()),
        Some(vec![(crate::bench::WEB, 2)])
    );
}
