//! Claiming, renewing, ending and cleaning up of addresses.

use crate::lab::*;
use std::sync::Arc;
use vipd_agent::kernel::{Claims, Step, Worker, cleanup};
use vipd_agent::sys::clock;
use vipd_core::config::model::Claim;
use vipd_core::engine::io::{KernelFault, Own, Renew, Want};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{InstanceIx, LinkIx, Priority};

pub(crate) fn is_added_renewed_and_ends() {
    let (mut w, _) =
        worker(model(vec![instance("web", 51, &["192.0.2.10/24", "2001:db8::10/64"])]));
    own(&mut w, hold(0, Some(2))).unwrap();
    let v4 = address("v0", "192.0.2.10").unwrap();
    assert_eq!(v4["prefixlen"], 32);
    assert_eq!(v4["valid_life_time"], 2);
    let v6 = address("v0", "2001:db8::10").unwrap();
    assert_eq!(v6["prefixlen"], 128);
    assert_eq!(v6["preferred_life_time"], 0);
    assert_eq!((&v6["nodad"], &v6["noprefixroute"]), (&true.into(), &true.into()));
    assert!(v6["tentative"].is_null());
    for a in w.snapshot(LinkIx(0)).unwrap().iter().filter(|a| a.ours) {
        assert!(a.age.as_millis() < 200, "{a:?}");
        assert!(a.valid_for.is_some(), "{a:?}");
    }
    // Beyond the first lease, by renewal.
    for _ in 0..4 {
        sleep(800);
        let r = renew(&mut w, 2, Instant::MAX);
        assert!(r.failed.is_empty(), "{r:?}");
        let v6 = address("v0", "2001:db8::10").unwrap();
        assert_eq!(v6["nodad"], true);
        assert_eq!(w.snapshot(LinkIx(0)).unwrap().iter().filter(|a| a.ours).count(), 2);
    }
    // Beyond the last, without.
    sleep(2000 + 1300);
    assert!(address("v0", "192.0.2.10").is_none());
    assert!(address("v0", "2001:db8::10").is_none());
    assert!(address("v0", "192.0.2.1").is_some());
}

pub(crate) fn late_orders_do_nothing() {
    let (mut w, _) = worker(model(vec![instance("web", 51, &["192.0.2.10"])]));
    let want = Want::Hold { lease_secs: Some(2), not_after: Instant::ZERO, families: [true, true] };
    let order = Own { instance: InstanceIx(0), order: 1, want };
    assert_eq!(own(&mut w, order), Err(KernelFault::Late));
    assert!(address("v0", "192.0.2.10").is_none());
    own(&mut w, hold(0, Some(2))).unwrap();
    ip("addr del 192.0.2.10/32 dev v0");
    let r = renew(&mut w, 2, Instant::ZERO);
    assert_eq!(r.failed, [(InstanceIx(0), KernelFault::Late)]);
    assert!(address("v0", "192.0.2.10").is_none(), "a late renewal must not put it on again");
    assert_eq!(own(&mut w, free(0)), Ok(()), "what is gone is done");
    let r = renew(&mut w, 2, Instant::MAX);
    assert!(r.failed.is_empty());
    assert!(address("v0", "192.0.2.10").is_none(), "a renewal of what was freed puts nothing on");
}

pub(crate) fn foreign_address_refuses_the_claim() {
    let addresses = ["192.0.2.9", "192.0.2.10", "2001:db8::10"];
    let (mut w, _) = worker(model(vec![instance("web", 51, &addresses)]));
    ip("addr add 192.0.2.10/24 dev v0");
    let foreign = KernelFault::Foreign("192.0.2.10".parse().unwrap());
    assert_eq!(own(&mut w, hold(0, Some(2))), Err(foreign));
    assert!(address("v0", "192.0.2.9").is_none(), "nothing of a refused claim stays");
    assert_eq!(own(&mut w, free(0)), Ok(()));
    assert_eq!(address("v0", "192.0.2.10").unwrap()["prefixlen"], 24);
}

pub(crate) fn owner_keeps_its_own_address() {
    let mut i = instance("web", 51, &["192.0.2.1/24"]);
    i.priority = Priority::OWNER;
    let (mut w, _) = worker(model(vec![i]));
    own(&mut w, hold(0, Some(2))).unwrap();
    assert!(renew(&mut w, 2, Instant::MAX).failed.is_empty());
    own(&mut w, free(0)).unwrap();
    let a = address("v0", "192.0.2.1").unwrap();
    assert!(a["protocol"].is_null(), "{a}");
    assert_eq!(a["valid_life_time"], u32::MAX);
}

pub(crate) fn newest_order_wins() {
    let (mut w, _) = worker(model(vec![instance("web", 51, &["192.0.2.10"])]));
    w.own(hold(0, Some(2)));
    w.own(free(0));
    let (applied, _) = finish(&mut w);
    assert_eq!(applied.iter().map(|a| a.order).collect::<Vec<_>>(), [2]);
    assert!(address("v0", "192.0.2.10").is_none());
}

pub(crate) fn adopts_what_bears_the_tag() {
    let m = model(vec![instance("web", 51, &["192.0.2.10", "2001:db8::10"])]);
    own(&mut worker(m.clone()).0, hold(0, Some(5))).unwrap();
    let (mut next, _) = worker(m);
    own(&mut next, hold(0, Some(2))).unwrap();
    assert_eq!(address("v0", "192.0.2.10").unwrap()["valid_life_time"], 2);
    own(&mut next, free(0)).unwrap();
    assert!(address("v0", "192.0.2.10").is_none());
    assert!(address("v0", "2001:db8::10").is_none());
}

pub(crate) fn lost_family_is_taken_off() {
    let (mut w, _) = worker(model(vec![instance("web", 51, &["192.0.2.10", "2001:db8::10"])]));
    own(&mut w, hold(0, Some(2))).unwrap();
    let want = Want::Hold { lease_secs: Some(2), not_after: Instant::MAX, families: [false, true] };
    own(&mut w, Own { instance: InstanceIx(0), order: 3, want }).unwrap();
    assert!(address("v0", "192.0.2.10").is_none());
    assert!(address("v0", "2001:db8::10").is_some());
}

pub(crate) fn five_thousand_are_renewed_in_time() {
    let all: Vec<String> =
        (0..5000).map(|n| format!("198.18.{}.{}", n / 250, n % 250 + 1)).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (mut w, _) = worker(model(vec![instance("many", 51, &all)]));
    let took = |what: &str, since: Instant| {
        println!("5000 addresses {what}: {:?}", clock::monotonic() - since)
    };
    let at = clock::monotonic();
    own(&mut w, hold(0, Some(20))).unwrap();
    took("added", at);
    let at = clock::monotonic();
    let r = renew(&mut w, 20, Instant::MAX);
    assert!(r.failed.is_empty());
    took("renewed", at);
    let at = clock::monotonic();
    own(&mut w, free(0)).unwrap();
    took("removed", at);
    assert_eq!(addresses("v0").iter().filter(|a| a["prefixlen"] == 32).count(), 0);
}

/// To renew thousands of addresses may take longer than adverts are apart: what has been renewed is not renewed again before
/// the rest.
pub(crate) fn a_renewal_that_was_too_late_goes_on_where_it_stopped() {
    let all = thousand();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (mut w, _) = worker(model(vec![instance("many", 51, &all)]));
    own(&mut w, hold(0, Some(20))).unwrap();
    let order = |w: &mut Worker, not_after, secs| {
        w.renew(Renew { instances: vec![(InstanceIx(0), secs)], order: 1, not_after });
    };
    let chunks = |w: &mut Worker| {
        let mut chunks = 0;
        loop {
            match w.step() {
                Step::Renewed(renewed) => return (chunks, renewed),
                _ => chunks += 1,
            }
        }
    };
    let begun = clock::monotonic();
    order(&mut w, Instant::MAX, 20);
    let (whole, done) = chunks(&mut w);
    assert!(whole >= 10 && done.failed.is_empty(), "{whole} chunks, {done:?}");
    // Each order leaves time for a part only.
    let (mut orders, mut sent, mut first) = (0, 0, begun);
    loop {
        let at = clock::monotonic();
        if sent == 0 {
            // An order whose time was over before its first chunk began nothing.
            first = at;
        }
        order(&mut w, at + Duration::from_micros(400), 20);
        let (some, renewed) = chunks(&mut w);
        (orders, sent) = (orders + 1, sent + some);
        assert!(renewed.at >= begun && orders < 1000);
        if renewed.failed.is_empty() {
            assert!(
                renewed.at <= first + Duration::from_millis(1),
                "leases run from the first part"
            );
            break;
        }
        assert_eq!(renewed.failed, [(InstanceIx(0), KernelFault::Late)]);
    }
    assert!(
        orders > 1 && sent <= whole + orders,
        "{sent} chunks in {orders} orders, {whole} in one"
    );
    // Another lease is another renewal, and what is held may be another thing after another order.
    order(&mut w, clock::monotonic() + Duration::from_micros(400), 20);
    assert!(!chunks(&mut w).1.failed.is_empty());
    order(&mut w, Instant::MAX, 30);
    assert_eq!(chunks(&mut w).0, whole);
    order(&mut w, clock::monotonic() + Duration::from_micros(400), 30);
    assert!(!chunks(&mut w).1.failed.is_empty());
    own(&mut w, hold(0, Some(30))).unwrap();
    order(&mut w, Instant::MAX, 30);
    assert_eq!(chunks(&mut w).0, whole);
}

fn thousand() -> Vec<String> {
    (0..1000).map(|n| format!("198.18.{}.{}", n / 250, n % 250 + 1)).collect()
}

pub(crate) fn thousand_addresses_by_route() {
    let all = thousand();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut i = instance("many", 51, &all);
    i.claim = Claim::Route;
    let m = model(vec![i]);
    let (mut w, _) = worker(m.clone());
    let started = clock::monotonic();
    own(&mut w, hold(0, Some(2))).unwrap();
    println!("1000 addresses by route: {:?}", clock::monotonic() - started);
    let routes = || ip("route show table local proto 118").lines().count();
    assert_eq!(routes(), 999);
    assert!(ip("route get 198.18.3.250").contains("local"));
    // A second worker finds its predecessor's routes.
    own(&mut worker(m).0, hold(0, Some(2))).unwrap();
    assert_eq!(routes(), 999);
    let peer = Peer::new("198.18.0.254/22");
    ip("route add 198.18.0.254/32 dev v0 src 192.0.2.1");
    // Rules of others part the tables that the kernel otherwise looks through as one.
    ip("rule add pref 1000 from 10.0.0.1 table 99");
    assert!(peer.reaches("198.18.0.1"), "the anchor");
    assert!(peer.reaches("198.18.3.250"), "a route");
    sleep(2000 + 1300);
    assert_eq!(routes(), 0, "they end with the lease");
    assert!(!peer.reaches("198.18.3.250"));
    own(&mut w, hold(0, Some(2))).unwrap();
    own(&mut w, free(0)).unwrap();
    assert_eq!(routes(), 0);
    assert!(!ip("link").contains("vipdr"));
    set_sysctl("ipv4/conf/v0/arp_ignore", "1");
    let fault = own(&mut w, hold(0, Some(2))).unwrap_err().to_string();
    assert!(fault.contains("arp_ignore"), "{fault}");
}

pub(crate) fn release_overtakes_a_large_claim() {
    let all = thousand();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (mut w, _) =
        worker(model(vec![instance("many", 51, &all), instance("web", 52, &["192.0.2.10"])]));
    own(&mut w, hold(1, Some(5))).unwrap();
    w.own(hold(0, Some(5)));
    assert_eq!(w.step(), Step::Busy);
    w.own(free(1));
    assert!(matches!(w.step(), Step::Applied(a) if a.instance == InstanceIx(1)));
    assert!(address("v0", "192.0.2.10").is_none());
    w.own(free(0));
    let (applied, _) = finish(&mut w);
    assert_eq!(applied.len(), 1, "the claim that was overtaken gives no result");
    assert_eq!(addresses("v0").iter().filter(|a| a["prefixlen"] == 32).count(), 0);
}

pub(crate) fn cleanup_leaves_foreign_things() {
    let (mut w, dir) = worker(model(vec![instance("web", 51, &["192.0.2.10", "2001:db8::10"])]));
    own(&mut w, hold(0, None)).unwrap();
    ip("addr add 192.0.2.20/32 dev v0");
    ip("route add 203.0.113.0/24 via 192.0.2.2 proto static");
    ip("rule add pref 777 from 192.0.2.20 table 99");
    let before = ip("rule show");
    let done = cleanup(&dir).unwrap();
    assert_eq!((done.addresses, done.errors.len()), (2, 0), "{done:?}");
    assert!(address("v0", "192.0.2.10").is_none());
    assert!(address("v0", "192.0.2.20").is_some());
    assert!(ip("route").contains("203.0.113.0/24"));
    assert_eq!(ip("rule show"), before);
    assert!(w.cleanup().is_empty());
}

pub(crate) fn reload_keeps_what_stays() {
    let dir = runtime_dir();
    let claims = Arc::new(Claims::open(&dir));
    let before =
        model(vec![instance("gone", 50, &["192.0.2.9"]), instance("web", 51, &["192.0.2.10"])]);
    let mut w = Worker::new(before, &dir, claims).unwrap();
    own(&mut w, hold(0, Some(5))).unwrap();
    own(&mut w, hold(1, Some(5))).unwrap();
    w.reload(model(vec![instance("web", 51, &["192.0.2.10", "192.0.2.11"])]));
    assert!(address("v0", "192.0.2.9").is_none());
    assert!(address("v0", "192.0.2.10").is_some());
    assert!(renew(&mut w, 2, Instant::MAX).failed.is_empty());
    assert_eq!(address("v0", "192.0.2.10").unwrap()["valid_life_time"], 2);
    own(&mut w, hold(0, Some(5))).unwrap();
    assert!(address("v0", "192.0.2.11").is_some());
}
