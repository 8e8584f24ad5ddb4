//! Devices of the virtual MAC, kernel settings, routes, rules and the packet filter.

use crate::lab::*;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read as _;
use vipd_agent::kernel::{Step, cleanup};
use vipd_core::config::model::{VirtualRoute, VirtualRule};
use vipd_core::engine::io::{Own, Want};
use vipd_core::time::Instant;
use vipd_core::types::{Family, InstanceIx};

const PARENT: [&str; 3] =
    ["ipv4/conf/v0/arp_ignore", "ipv4/conf/v0/arp_announce", "ipv4/conf/all/rp_filter"];

fn links() -> Vec<Json> {
    let all: Json = serde_json::from_str(&ip("-j -d link show")).unwrap();
    let named = |l: &Json| l["ifname"].as_str().is_some_and(|n| n.starts_with("vipd"));
    all.as_array().unwrap().iter().filter(|l| named(l)).cloned().collect()
}

pub(crate) fn virtual_mac_comes_and_goes() {
    let mut i = instance("web", 51, &["192.0.2.10", "2001:db8::10"]);
    i.virtual_mac = true;
    set_sysctl("ipv4/conf/all/rp_filter", "1");
    set_sysctl("ipv4/conf/v1/rp_filter", "0");
    let before = PARENT.map(sysctl);
    let (mut w, dir) = worker(model(vec![i]));
    own(&mut w, hold(0, Some(2))).unwrap();
    let made = links();
    assert_eq!(made.len(), 2);
    for (link, mac) in made.iter().zip(["00:00:5e:00:01:33", "00:00:5e:00:02:33"]) {
        assert_eq!(link["address"], mac);
        assert_eq!(link["linkinfo"]["info_data"]["mode"], "bridge");
        assert_eq!(link["inet6_addr_gen_mode"], "none");
        let name = link["ifname"].as_str().unwrap();
        assert_eq!(addresses(name).len(), 1, "no address but the virtual one: {name}");
    }
    let v4 = made[0]["ifname"].as_str().unwrap();
    assert!(address(v4, "192.0.2.10").is_some());
    assert_eq!(sysctl(&format!("ipv4/conf/{v4}/rp_filter")), "0");
    assert_eq!(PARENT.map(sysctl), ["1", "2", "0"]);
    assert_eq!(sysctl("ipv4/conf/v1/rp_filter"), "1", "others stay as strict as they were");
    assert!(address("v0", "192.0.2.10").is_none());
    let ours = w.snapshot(vipd_core::types::LinkIx(0)).unwrap();
    assert_eq!(ours.iter().filter(|a| a.ours).count(), 2);

    own(&mut w, free(0)).unwrap();
    assert!(links().is_empty());
    assert_eq!(PARENT.map(sysctl), before);
    assert_eq!(sysctl("ipv4/conf/v1/rp_filter"), "0");
    assert!(!dir.join("sysctl.saved").exists());
    // A claim that is refused leaves nothing behind.
    ip("addr add 192.0.2.10/24 dev v0");
    assert!(own(&mut w, hold(0, Some(2))).is_err());
    assert!(links().is_empty());
    assert_eq!(PARENT.map(sysctl), before);
    ip("addr del 192.0.2.10/24 dev v0");

    own(&mut w, hold(0, Some(2))).unwrap();
    let want = Want::Hold { lease_secs: Some(2), not_after: Instant::MAX, families: [false, true] };
    own(&mut w, Own { instance: InstanceIx(0), order: 3, want }).unwrap();
    assert_eq!(links().len(), 1, "an inactive router has no device");
    w.own(free(0));
    w.own(hold(0, Some(2)));
    assert!(finish(&mut w).0[0].result.is_ok());
    assert_eq!(links().len(), 2);
}

pub(crate) fn virtual_mac_answers_a_peer() {
    let mut i = instance("web", 51, &["192.0.2.10", "2001:db8::10"]);
    i.virtual_mac = true;
    let (mut w, _) = worker(model(vec![i]));
    let peer = Peer::new("192.0.2.2/24");
    peer.run(|| ip("addr add 2001:db8::2/64 dev v1 nodad"));
    own(&mut w, hold(0, Some(5))).unwrap();
    for (addr, mac) in [("192.0.2.10", "00:00:5e:00:01:33"), ("2001:db8::10", "00:00:5e:00:02:33")]
    {
        assert!(peer.reaches(addr), "{addr}");
        let neighbours = peer.run(move || ip(&format!("neigh show to {addr}")));
        assert!(neighbours.contains(mac), "{neighbours}");
    }
    assert!(peer.reaches("192.0.2.1"));
    let neighbours = peer.run(|| ip("neigh show to 192.0.2.1"));
    assert!(!neighbours.contains("00:00:5e"), "the own address keeps its own MAC: {neighbours}");
}

/// How many IPv6 frames from the virtual MAC came out of the wire since this was last asked.
fn frames_of_virtual_mac(ears: &Socket) -> usize {
    let mut frame = [0; 2048];
    let mut ears = ears;
    let mut heard = 0;
    while let Ok(length) = ears.read(&mut frame) {
        heard += usize::from(length > 12 && frame[6..12] == [0, 0, 0x5e, 0, 2, 51]);
    }
    heard
}

/// Each frame from the virtual MAC moves the switches' tables: none of a host that let go, whoever made it let go. The
/// kernel's first report of a change of groups comes after 10 ms, repeats used to come within a second.
pub(crate) fn released_virtual_mac_is_silent() {
    let ears =
        Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(0x86dd_u16.to_be()))));
    let ears = ears.unwrap();
    ears.set_nonblocking(true).unwrap();
    let mut i = instance("web", 51, &["2001:db8::10"]);
    i.virtual_mac = true;
    let shared = model(vec![i]);
    let hold_v6 = |secs| {
        let families = [false, true];
        let want = Want::Hold { lease_secs: Some(secs), not_after: Instant::MAX, families };
        Own { instance: InstanceIx(0), order: 1, want }
    };
    let (mut w, _) = worker(shared.clone());

    own(&mut w, hold_v6(5)).unwrap();
    sleep(100);
    assert_ne!(frames_of_virtual_mac(&ears), 0, "an owner reports its group");
    w.own(free(0));
    while !matches!(w.step(), Step::Applied(_)) {}
    // Its device is still there.
    assert_eq!(links().len(), 1);
    sleep(1200);
    assert_eq!(frames_of_virtual_mac(&ears), 0, "after a release");
    own(&mut w, hold_v6(1)).unwrap();
    let device = links()[0]["ifname"].as_str().unwrap().to_owned();
    assert!(address(&device, "2001:db8::10").is_some(), "a silenced device is used again");

    // Killed or hung: the kernel alone ends it.
    while address(&device, "2001:db8::10").is_some() {
        sleep(5);
    }
    sleep(100);
    frames_of_virtual_mac(&ears);
    sleep(1200);
    assert_eq!(frames_of_virtual_mac(&ears), 0, "after the end of its lease");
    drop(w);

    let (mut w, dir) = worker(shared);
    own(&mut w, hold_v6(5)).unwrap();
    drop(w);
    sleep(100);
    frames_of_virtual_mac(&ears);
    let done = cleanup(&dir).unwrap();
    assert_eq!((done.addresses, done.devices), (1, 1), "{done:?}");
    sleep(1200);
    assert_eq!(frames_of_virtual_mac(&ears), 0, "after a clean-up");
}

pub(crate) fn settings_survive_a_crash() {
    let mut i = instance("web", 51, &["192.0.2.10", "2001:db8::10"]);
    i.virtual_mac = true;
    set_sysctl("ipv4/conf/all/rp_filter", "2");
    let before = PARENT.map(sysctl);
    let (mut w, dir) = worker(model(vec![i]));
    own(&mut w, hold(0, Some(5))).unwrap();
    drop(w);
    assert_ne!(PARENT.map(sysctl), before);
    let done = cleanup(&dir).unwrap();
    assert_eq!((done.addresses, done.devices), (2, 2), "{done:?}");
    assert!(done.errors.is_empty(), "{done:?}");
    assert_eq!(PARENT.map(sysctl), before);
    assert!(links().is_empty());
}

pub(crate) fn routes_and_rules_come_and_go() {
    let mut i = instance("gw", 51, &["192.0.2.10", "2001:db8::10"]);
    let route = |to: &str, via: Option<&str>, table, metric| VirtualRoute {
        to: to.parse().unwrap(),
        via: via.map(|v| v.parse().unwrap()),
        src: None,
        table,
        metric,
    };
    i.routes = vec![
        route("0.0.0.0/0", Some("192.0.2.254"), 254, 50),
        route("203.0.113.0/24", None, 1000, 0),
        route("2001:db8:1::/48", Some("2001:db8::fe"), 254, 0),
    ];
    i.rules = vec![VirtualRule {
        family: Family::V4,
        from: Some("192.0.2.10/32".parse().unwrap()),
        to: None,
        table: 1000,
        preference: 500,
    }];
    let m = model(vec![i]);
    let (mut w, dir) = worker(m.clone());
    own(&mut w, hold(0, Some(3))).unwrap();
    let default = ip("route show default");
    assert!(default.contains("via 192.0.2.254") && default.contains("src 192.0.2.10"), "{default}");
    assert!(ip("route show table 1000").contains("203.0.113.0/24"));
    assert!(ip("-6 route show 2001:db8:1::/48").contains("expires"));
    assert!(ip("rule show").contains("500:\tfrom 192.0.2.10 lookup 1000 proto 118"));
    sleep(1500);
    assert!(renew(&mut w, 3, vipd_core::time::Instant::MAX).failed.is_empty());
    let v6 = ip("-6 route show 2001:db8:1::/48");
    assert!(v6.contains("expires 2sec") || v6.contains("expires 3sec"), "{v6}");
    // Again, as after a restart.
    own(&mut worker(m).0, hold(0, Some(3))).unwrap();
    own(&mut w, free(0)).unwrap();
    assert_eq!(ip("route show default"), "");
    assert_eq!(ip("-6 route show 2001:db8:1::/48"), "");
    assert!(!ip("rule show").contains("proto 118"));

    own(&mut w, hold(0, Some(3))).unwrap();
    let done = cleanup(&dir).unwrap();
    assert_eq!((done.routes, done.rules, done.addresses), (3, 1, 2), "{done:?}");
    assert!(done.errors.is_empty(), "{done:?}");
}

pub(crate) fn filter_refuses_packets() {
    if std::process::Command::new("nft").arg("-v").output().is_err() {
        eprintln!("SKIPPED: filter_refuses_packets: the `nft` program is missing");
        return;
    }
    let mut i = instance("web", 51, &["192.0.2.10", "2001:db8::10"]);
    i.accept = false;
    let (mut w, _) = worker(model(vec![i]));
    own(&mut w, hold(0, Some(5))).unwrap();
    let table =
        std::process::Command::new("nft").args(["list", "table", "inet", "vipd"]).output().unwrap();
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("192.0.2.10") && text.contains("2001:db8::10"), "{text}");
    assert!(w.cleanup().filter);
}
