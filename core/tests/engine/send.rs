//! What adverts look like when they leave the engine: V1, V2, V4, V6-V8, V14.

use crate::bench::{Bench, ETH0, eth0, ip, ms, plain};
use vipd_core::engine::io::Input;
use vipd_core::types::{Family, State};

const DUAL: &str = "addresses = [\"192.0.2.10/24\", \"fe80::a/64\", \"2001:db8::10/64\"]";

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}

#[test]
fn v1_version_3_octet_for_octet() {
    let mut lb1 = Bench::up(&plain(DUAL), 1);
    lb1.run(ms(4000));
    let sent = lb1.sent();
    let of = |family| sent.iter().find(|t| t.router.family == family).unwrap();
    // Version 3, type 1; VRID 51; priority 150; count; reserved 0, 100 cs; checksum; addresses.
    assert_eq!(hex(&of(Family::V4).payload[0]), "313396010064765cc000020a");
    let v6 = hex(&of(Family::V6).payload[0]);
    assert_eq!(v6[..12], *"313396020064");
    assert_eq!(v6[16..], *"fe80000000000000000000000000000a20010db8000000000000000000000010");
}

#[test]
fn v2_version_2_ends_with_eight_octets_of_authentication() {
    let mut none = Bench::up(&plain("version = 2\nadvert-interval = \"3s\""), 1);
    none.run(ms(11_000));
    let message = &none.sent()[0].payload[0];
    assert_eq!(message.len(), 8 + 4 + 8);
    assert_eq!((message[0], message[4], message[5]), (0x21, 0, 3));
    assert_eq!(message[12..], [0; 8]);
    let mut text = Bench::up(&plain("version = 2\nsimple-text = \"secret\""), 1);
    text.run(ms(4000));
    let message = &text.sent()[0].payload[0];
    assert_eq!((message[4], &message[12..]), (1, &b"secret\0\0"[..]));
}

#[test]
fn v4_destination_is_the_group_or_each_peer() {
    let mut lb1 = Bench::up(&plain(DUAL), 1);
    lb1.run(ms(4000));
    for t in lb1.sent() {
        let group = if t.src.is_ipv4() { "224.0.0.18" } else { "ff02::12" };
        assert_eq!((t.dst, t.link), (vec![ip(group)], ETH0));
    }
    let peers = "unicast-peers = [\"192.0.2.12\", \"192.0.2.13\"]";
    let mut lb1 = Bench::up(&plain(peers), 1);
    lb1.run(ms(4000));
    let t = &lb1.sent()[0];
    assert_eq!(t.dst, [ip("192.0.2.12"), ip("192.0.2.13")]);
    assert_eq!(t.payload.len(), 2);
}

#[test]
fn v6_the_ipv4_source_is_no_virtual_address_unless_its_owner() {
    let mut state = eth0(1);
    state.addrs = [ip("192.0.2.10"), ip("192.0.2.11"), ip("192.0.2.99")].into();
    let source = |text: &str| {
        let mut lb1 = Bench::down(text, 1);
        lb1.give(Input::Link { link: ETH0, state: state.clone() });
        lb1.run(ms(4000));
        lb1.sent()[0].src
    };
    assert_eq!(source(&plain("")), ip("192.0.2.11"));
    assert_eq!(
        source(&plain(
            "source = { lb1 = \"192.0.2.99\", lb2 = \"192.0.2.12\", lb3 = \"192.0.2.13\" }"
        )),
        ip("192.0.2.99")
    );
    assert_eq!(source(&plain("priority = { lb1 = 255, lb2 = 2, lb3 = 1 }")), ip("192.0.2.10"));
}

#[test]
fn v6_a_configured_source_that_is_not_there_is_not_replaced() {
    let text =
        plain("source = { lb1 = \"192.0.2.99\", lb2 = \"192.0.2.12\", lb3 = \"192.0.2.13\" }");
    let mut lb1 = Bench::up(&text, 1);
    lb1.run(ms(10_000));
    assert_eq!(lb1.state(), State::Initialize);
    assert!(lb1.adverts().is_empty());
}

#[test]
fn v7_the_ipv6_source_is_link_local() {
    let mut state = eth0(1);
    state.addrs = [ip("2001:db8::11"), ip("fe80::11")].into();
    for more in ["addresses = [\"fe80::a/64\"]", "addresses = [\"fe80::a/64\"]\nvirtual-mac = true"]
    {
        let mut lb1 = Bench::down(&plain(more), 1);
        lb1.give(Input::Link { link: ETH0, state: state.clone() });
        lb1.run(ms(4000));
        assert_eq!(lb1.sent()[0].src, ip("fe80::11"));
    }
}

/// Peers accept only what comes from an address in their own list: it is of the kind that they are listed by.
#[test]
fn v7_unicast_leaves_from_an_address_of_the_kind_that_peers_are_named_by() {
    let mut state = eth0(1);
    state.addrs = [ip("fe80::11"), ip("2001:db8::11")].into();
    for (peer, source) in [("2001:db8::12", "2001:db8::11"), ("fe80::12", "fe80::11")] {
        let more = format!(
            "addresses = [\"fe80::a/64\"]\nunicast-peers = {{ lb1 = [\"{peer}\"], lb2 = [\"{peer}\"], lb3 = [\"{peer}\"] }}"
        );
        let mut lb1 = Bench::down(&plain(&more), 1);
        lb1.give(Input::Link { link: ETH0, state: state.clone() });
        lb1.run(ms(4000));
        assert_eq!(lb1.sent()[0].src, ip(source), "{peer}");
    }
}

#[test]
fn v8_checksums_of_all_four_kinds_verify_at_a_receiver() {
    for more in [
        "version = 2",
        "checksum = \"rfc9568\"",
        "checksum = \"rfc5798\"",
        "addresses = [\"fe80::a/64\"]",
    ] {
        let text = plain(more);
        let mut lb1 = Bench::up(&text, 1);
        lb1.run(ms(4000));
        let t = lb1.sent()[0].clone();
        let mut lb2 = Bench::up(&text, 2);
        lb2.hear_bytes(t.src, t.dst[0], 255, &t.payload[0], ms(0));
        assert_eq!(lb2.unit().owner, Some(t.src), "{more}");
        let mut broken = t.payload[0].clone();
        broken[6] ^= 1;
        lb2.hear_bytes(t.src, t.dst[0], 255, &broken, ms(0));
        assert_eq!(lb2.snapshot().counters.checksum_errors, 1, "{more}");
    }
}

#[test]
fn v8_the_two_flavours_differ() {
    let payload = |more: &str| {
        let mut lb1 = Bench::up(&plain(more), 1);
        lb1.run(ms(4000));
        lb1.sent()[0].payload[0].clone()
    };
    let (plain, legacy) = (payload(""), payload("checksum = \"rfc5798\""));
    assert_eq!(plain[..6], legacy[..6]);
    assert_ne!(plain[6..8], legacy[6..8]);
}

#[test]
fn v14_both_families_of_one_vrid_are_two_virtual_routers_without_heartbeats() {
    let mut lb2 = Bench::up(&plain(DUAL), 2);
    for _ in 0..5 {
        lb2.run(ms(1000));
        lb2.hear(1, 150);
    }
    let states: Vec<_> = lb2.snapshot().units.iter().map(|u| (u.families[0].0, u.state)).collect();
    assert_eq!(states, [(Family::V4, State::Backup), (Family::V6, State::Active)]);
    assert!(lb2.sent().iter().all(|t| t.router.family == Family::V6));
    lb2.hear6(1, 150);
    assert_eq!(lb2.snapshot().units[1].state, State::Backup);
}
