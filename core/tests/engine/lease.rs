//! The address lease (DESIGN 5.1): finite, renewed only after adverts that sendmsg accepted.

use crate::bench::{Bench, Orders, VIP, model, ms, plain};
use vipd_core::engine::io::{Cause, KernelFault, Want};
use vipd_core::time::Duration;
use vipd_core::types::{Interval, State};

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
