//! Service interfaces that come late, go, return, and change their name, addresses or MAC.

use crate::arena::{Arena, FIRST, SECOND, wait};
use libtest_mimic::Trial;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::plan::{Heartbeats, Plan};

/// What the first host is called after it was moved.
const READDRESSED: &str = "192.0.2.31/24";

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("link/{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("an_interface_that_appears_later_is_used", appears_later),
        trial("a_deleted_and_recreated_interface", deleted_and_recreated),
        trial("a_renamed_interface", renamed),
        trial("a_readdressed_interface", readdressed),
        trial("a_changed_mac_is_announced", mac_changed),
    ]
}

fn plan() -> Plan {
    Plan { interval: Duration::from_millis(100), ..Plan::default() }
}

fn rename(arena: &Arena, from: &str, to: &str) {
    arena.run(FIRST, &format!("ip link set {from} down"));
    arena.run(FIRST, &format!("ip link set {from} name {to}"));
    arena.run(FIRST, &format!("ip link set {to} up"));
}

/// Adds what an interface loses when it is set down or readdressed: its addresses of IPv6, and routes.
fn furnish(arena: &Arena) {
    for part in [
        "ip addr add 192.0.2.11/24 dev eth0",
        "ip addr add 2001:db8::11/64 dev eth0 nodad",
        "ip -4 route add default via 192.0.2.200 dev eth0",
        "ip -6 route add default via 2001:db8::200 dev eth0",
    ] {
        // What is still there need not be added.
        let _ = arena.try_run(FIRST, part);
    }
}

fn appears_later() {
    let mut arena = Arena::open(plan());
    rename(&arena, "eth0", "later");
    arena.stage.start_all().unwrap();
    arena.wait_owner(SECOND);
    let status = arena.status(FIRST);
    assert_eq!(status["interfaces"][0]["exists"], false, "{status:#}");
    assert_eq!(status["instances"][0]["condition"], "fault", "{status:#}");
    rename(&arena, "later", "eth0");
    furnish(&arena);
    arena.wait_owner(FIRST);
    arena.close();
}

/// The service interface is a device of its own on the cable, because deleting the cable would take the switch port.
fn deleted_and_recreated() {
    let mut arena = Arena::open(Plan { heartbeats: Heartbeats::Off, ..plan() });
    arena.edit_config(FIRST, |text| text.replace("interface = \"eth0\"", "interface = \"svc0\""));
    let make = |arena: &Arena| {
        arena.run(FIRST, "ip link add svc0 link eth0 type macvlan mode bridge");
        arena.run(FIRST, "ip addr add 192.0.2.21/24 dev svc0");
        arena.run(FIRST, "ip link set svc0 up");
    };
    make(&arena);
    arena.elect();
    for round in 1..=3 {
        let at = now();
        arena.run(FIRST, "ip link del svc0");
        let took = arena.wait_owner(SECOND).since(at);
        assert_eq!(arena.status(FIRST)["instances"][0]["condition"], "fault");
        make(&arena);
        let at = now();
        let back = arena.wait_owner(FIRST).since(at);
        println!(
            "\n  {round}: taken over in {:.1} ms, back in {:.1} ms",
            millis(took),
            millis(back)
        );
    }
    arena.stage.stop(SECOND).unwrap();
    arena.stage.stop(FIRST).unwrap();
    arena.run(FIRST, "ip link del svc0");
    arena.close();
}

fn renamed() {
    let arena = Arena::elected(plan());
    rename(&arena, "eth0", "other");
    arena.wait_owner(SECOND);
    let held = arena.run(FIRST, "ip -o addr show");
    assert!(!held.contains("192.0.2.100"), "claimed on another interface: {held}");
    rename(&arena, "other", "eth0");
    furnish(&arena);
    arena.wait_owner(FIRST);
    arena.close();
}

fn readdressed() {
    let arena = Arena::elected(plan());
    let at = now();
    arena.run(FIRST, "ip addr del 192.0.2.11/24 dev eth0");
    arena.run(FIRST, &format!("ip addr add {READDRESSED} dev eth0"));
    wait(Duration::from_secs(1));
    let (owner, two) = (arena.stage.owner(), arena.two_owners(at));
    println!("\n  owner {owner:?}, two owners {:.1} ms", millis(two));
    assert!(owner.is_some() && two <= crate::judge::HANDOVER, "{two:?}\n{}", arena.stage.logs(20));
    arena.run(FIRST, &format!("ip addr del {READDRESSED} dev eth0"));
    furnish(&arena);
    arena.wait_owner(FIRST);
    arena.close();
}

fn mac_changed() {
    let arena = Arena::elected(plan());
    let at = now();
    arena.run(FIRST, "ip link set eth0 address 02:00:00:00:01:77");
    let prober = &arena.stage.probers()[0];
    assert!(prober.wait_answer(Duration::from_secs(1)), "nobody told the client the new MAC");
    println!("\n  answered {:.1} ms after the change", millis(now().since(at)));
    wait(Duration::from_secs(1));
    assert_eq!(arena.stage.owner(), Some(FIRST), "{}", arena.stage.logs(20));
    arena.run(FIRST, "ip link set eth0 address 02:00:00:00:01:0b");
    assert!(prober.wait_answer(Duration::from_secs(1)), "nobody told the client the old MAC");
    arena.close();
}
