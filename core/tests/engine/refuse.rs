//! What is refused, how it is counted and told: V15-V21, V24, V27-V30, V71, through the engine. The exact verdicts
//! and counters of all vectors: `tests/vectors.rs`.

use crate::bench::{Bench, ip, ms, plain};
use vipd_core::engine::io::EventKind;
use vipd_core::types::{Family, Interval, State, Vrid};
use vipd_core::wire::vrrp::Advert;

/// What lb2 makes of an advert of lb1 that `change` spoils.
fn heard(more: &str, change: impl Fn(&mut Advert)) -> Bench {
    let mut lb2 = Bench::up(&plain(more), 2);
    let mut advert = lb2.advert(Family::V4, 150);
    change(&mut advert);
    lb2.run(ms(1000));
    lb2.hear_advert(&advert, "192.0.2.11");
    lb2
}

/// The advert left no trace but counters.
fn ignored(bench: &Bench) -> bool {
    bench.unit().owner.is_none()
        && bench.claims_in() == ms(2000) + ms(1000) * 156 / 256
        && bench.state() == State::Backup
}

#[test]
fn v27_version_2_discards_another_interval() {
    let lb2 = heard("version = 2", |a| a.interval = Interval::from_secs(2).unwrap());
    assert!(ignored(&lb2));
    assert_eq!(lb2.unit().families[0].2.interval_errors, 1);
}

#[test]
fn v28_version_2_discards_another_list_unless_from_its_owner() {
    let lb2 = heard("version = 2", |a| a.addresses = vec![ip("192.0.2.66")]);
    assert!(ignored(&lb2));
    assert_eq!(lb2.unit().families[0].2.address_list_errors, 1);
    let lb2 = heard("version = 2", |a| {
        a.addresses = vec![ip("192.0.2.66")];
        a.priority = 255;
    });
    assert!(!ignored(&lb2));
}

#[test]
fn v29_v30_version_2_passwords() {
    let secured = "version = 2\nsimple-text = \"secret\"";
    let counters = |b: &Bench| {
        let c = b.unit().families[0].2;
        (c.auth_type_errors, c.auth_failures)
    };
    let good = heard(secured, |a| a.simple_text = Some(*b"secret\0\0"));
    assert!(!ignored(&good));
    for wrong in [*b"secret\0x", *b"Secret\0\0", *b"secre\0\0\0", [0; 8]] {
        let bad = heard(secured, |a| a.simple_text = Some(wrong));
        assert!(ignored(&bad));
        assert_eq!(counters(&bad), (0, 1));
    }
    let none = heard(secured, |_| ());
    assert!(ignored(&none));
    assert_eq!(counters(&none), (1, 0));
    let unasked = heard("version = 2", |a| a.simple_text = Some(*b"secret\0\0"));
    assert!(ignored(&unasked));
    assert_eq!(counters(&unasked), (1, 0));
}

#[test]
fn v29_an_unknown_authentication_type() {
    let mut lb2 = Bench::up(&plain("version = 2"), 2);
    let group = Family::V4.group();
    let advert = lb2.advert(Family::V4, 150);
    let mut bytes = advert.encode(ip("192.0.2.11"), group, lb2.model.instances[0].checksum);
    // Type 7; the checksum is made right by taking the same from the reserved authentication data.
    bytes[4] = 7;
    let sum = u16::from_be_bytes([bytes[6], bytes[7]]);
    let sum = if sum >= 0x700 { sum - 0x700 } else { sum.wrapping_sub(0x701) };
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    lb2.hear_bytes(ip("192.0.2.11"), group, 255, &bytes, ms(0));
    assert_eq!(lb2.unit().owner, None);
    assert_eq!(lb2.unit().families[0].2.auth_type_errors, 1);
}

#[test]
fn v15_ttl_and_v21_vrid_and_destination() {
    let mut lb2 = Bench::up(&plain(""), 2);
    let (src, group) = (ip("192.0.2.11"), Family::V4.group());
    let mut advert = lb2.advert(Family::V4, 150);
    let flavour = lb2.model.instances[0].checksum;
    let bytes = advert.encode(src, group, flavour);
    lb2.hear_bytes(src, group, 254, &bytes, ms(0));
    lb2.hear_bytes(src, ip("192.0.2.12"), 255, &bytes, ms(0));
    advert.vrid = Vrid::new(52).unwrap();
    lb2.hear_bytes(src, group, 255, &advert.encode(src, group, flavour), ms(0));
    assert_eq!(lb2.unit().owner, None);
    let counters = lb2.snapshot().counters;
    assert_eq!((counters.ip_ttl_errors, counters.vrid_errors), (1, 1));
    // Other groups are normal on a segment: no line for them.
    let told: Vec<_> =
        lb2.events().into_iter().filter(|e| matches!(e, EventKind::Refused { .. })).collect();
    assert!(matches!(told[..], [EventKind::Refused { reason: "ip-ttl", .. }]), "{told:?}");
}

#[test]
fn v71_refusals_are_told_once_a_minute_with_their_number() {
    let mut lb2 = Bench::up(&plain(""), 2);
    let (src, group) = (ip("192.0.2.11"), Family::V4.group());
    for _ in 0..130 {
        lb2.hear_bytes(src, group, 255, &[0x31, 51, 150, 0, 0, 100, 0, 0], ms(0));
        lb2.hear(1, 150);
        lb2.run(ms(500));
    }
    let told: Vec<_> = lb2
        .events()
        .into_iter()
        .filter_map(|e| match e {
            EventKind::Refused { reason, suppressed, .. } => Some((reason, suppressed)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [("addr-count-zero", 0), ("addr-count-zero", 119)]);
    assert_eq!(lb2.unit().families[0].2.packet_length_errors, 130);
}

#[test]
fn a_flood_of_senders_does_not_fill_the_memory() {
    let mut lb2 = Bench::up(&plain(""), 2);
    for a in 0..=255u8 {
        for b in 0..20u8 {
            lb2.hear_bytes([10, 0, a, b].into(), Family::V4.group(), 1, &[], ms(0));
        }
    }
    // Every line is a first one of its source; nothing else grows with them.
    assert_eq!(lb2.snapshot().counters.ip_ttl_errors, 256 * 20);
    assert_eq!(lb2.alarms(), []);
}
