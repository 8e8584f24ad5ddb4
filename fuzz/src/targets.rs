//! One function for each decoder: what it reads must not panic, and what it accepts must hold together.
//!
//! Called by the fuzz targets, and with the committed corpus by the tests of `vipd-core`.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::IpAddr;
use vipd_core::config::model::{ChecksumFlavour, HmacMode};
use vipd_core::time::{Duration, Utc};
use vipd_core::types::{Family, Interval, Version, Vrid};
use vipd_core::wire::auth::{KeyRing, TRAILER_LEN, Verifier};
use vipd_core::wire::checksum::Sum;
use vipd_core::wire::heartbeat::{Heartbeat, HeartbeatKey};
use vipd_core::wire::receive::{Datagram, GlobalCounters, Receiver, RouterCounters, validate};
use vipd_core::wire::vrrp::PROTOCOL;

/// What the first octet of the input of [`vrrp`] switches on.
const IPV6: u8 = 1;
const VERSION_2: u8 = 2;
const STRICT: u8 = 4;
const TRAILER: u8 = 8;
const UNICAST: u8 = 16;
const SIMPLE_TEXT: u8 = 32;
/// Put the right checksum in: no fuzzer finds it.
const SUM: u8 = 64;

/// A datagram: an octet of switches, then the VRRP message.
pub fn vrrp(data: &[u8]) {
    let Some((&switches, payload)) = data.split_first() else { return };
    let on = |switch| switches & switch != 0;
    let (family, src, own) = if on(IPV6) {
        (Family::V6, "fe80::2", "fe80::9")
    } else {
        (Family::V4, "192.0.2.2", "192.0.2.9")
    };
    let version = if on(VERSION_2) && family == Family::V4 { Version::V2 } else { Version::V3 };
    let src: IpAddr = src.parse().expect("an address");
    let own: IpAddr = own.parse().expect("an address");
    let dst = if on(UNICAST) { own } else { family.group() };
    let ring = KeyRing::new(vec![(1, vec![7; 32])], 1).expect("a legal key");
    let mut receiver = Receiver {
        version,
        family,
        vrid: Vrid::new(10).expect("a VRID"),
        addresses: ["192.0.2.1", "fe80::a"].map(|a| a.parse().expect("an address")).into(),
        interval: Interval::SECOND,
        owner: false,
        unicast_peers: on(UNICAST).then(|| vec![src]),
        simple_text: on(SIMPLE_TEXT).then_some(*b"secret\0\0"),
        strict: on(STRICT),
        check_list: true,
        verifier: on(TRAILER)
            .then(|| Verifier::new(ring, HmacMode::Permissive, Some(Duration::from_secs(5)), 4)),
        counters: RouterCounters::default(),
    };
    let mut payload = payload.to_vec();
    if on(SUM) && payload.len() >= 8 {
        payload[6..8].fill(0);
        let covered = if on(TRAILER) && !on(IPV6) {
            payload.len().saturating_sub(TRAILER_LEN).max(8)
        } else {
            payload.len()
        };
        let pseudo = match (src, dst) {
            (IpAddr::V6(s), IpAddr::V6(d)) => Sum::pseudo_v6(s, d, PROTOCOL, covered as u32),
            _ => Sum::new(),
        };
        let sum = pseudo.with(&payload[..covered]).checksum();
        payload[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    let datagram = Datagram { family, src, dst, ttl: 255, payload: &payload };
    let mut global = GlobalCounters::default();
    let vrid = receiver.vrid;
    let result = validate(&datagram, &[own], Utc(0x6800_0000_8000), &mut global, |v| {
        (v == vrid).then_some(&mut receiver)
    });
    let moved: Vec<_> =
        global.iter().chain(receiver.counters.iter()).filter(|(_, n)| *n > 0).collect();
    match result {
        Err(reason) => {
            let expected: Vec<_> = reason.counter().map(|name| (name, 1)).into_iter().collect();
            assert_eq!(moved, expected);
        }
        Ok(accepted) => {
            assert!(moved.contains(&("advertisement-rcvd", 1)));
            // What was accepted is what we would send, but for reserved bits and ignored fields.
            let again = accepted.advert.encode(src, dst, ChecksumFlavour::Rfc9568);
            assert_eq!(&again[1..4], &payload[1..4]);
            let trailer = if accepted.authenticated { TRAILER_LEN } else { 0 };
            assert_eq!(again.len() + trailer, payload.len());
        }
    }
}

/// A heartbeat: an octet, then a datagram (0) or records to be sealed with the right key (else).
pub fn heartbeat(data: &[u8]) {
    let Some((&sealed, rest)) = data.split_first() else { return };
    let key = HeartbeatKey::derive(&[7; 32], "fuzz");
    let bytes = if sealed == 0 { rest.to_vec() } else { seal(rest) };
    if let Ok(read) = Heartbeat::decode(&bytes, &key) {
        assert_eq!(Heartbeat::decode(&read.encode(&key), &key), Ok(read));
    }
}

/// `records` as an authentic datagram, made from the documented format alone.
fn seal(records: &[u8]) -> Vec<u8> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(b"fuzz"), &[7; 32])
        .expand(b"vipd heartbeat 1", &mut key)
        .expect("a legal length");
    let mut out = b"vipd\x01\x01".to_vec();
    out.extend(records);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes any key");
    mac.update(&out);
    out.extend(&mac.finalize().into_bytes()[..16]);
    out
}

/// An Ethernet frame with ARP.
pub fn arp(data: &[u8]) {
    if let Some(seen) = vipd_core::wire::arp::parse(data) {
        assert_eq!(data[..6], seen.eth_dst.0);
        assert_eq!(data[22..28], seen.sender_mac.0);
    }
}

/// An Ethernet frame with a neighbour advertisement; its checksum is put right first.
pub fn ndp(data: &[u8]) {
    let mut frame = data.to_vec();
    if let Some((ip, icmp)) = frame.get_mut(14..).and_then(|p| p.split_at_mut_checked(40)) {
        let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        if let Some(icmp) = icmp.get_mut(..len).filter(|i| i.len() >= 4) {
            let address =
                |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).expect("16 octets").into();
            icmp[2..4].fill(0);
            let sum = Sum::pseudo_v6(address(8), address(24), 58, len as u32).with(icmp).checksum();
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        }
    }
    let _ = vipd_core::wire::ndp::parse(data);
    if let Some(seen) = vipd_core::wire::ndp::parse(&frame) {
        assert!(!seen.target.is_multicast());
    }
}

/// An IPv4 packet.
pub fn ip(data: &[u8]) {
    if let Ok(view) = vipd_core::wire::ip::ipv4(data) {
        assert!(view.payload.len() + 20 <= data.len());
    }
}

/// A key file.
pub fn key(data: &[u8]) {
    if let Ok(key) = vipd_core::wire::auth::parse_key(data) {
        assert!((32..=64).contains(&key.len()));
    }
}

/// A keepalived.conf, of two hosts: what comes out is TOML, and its findings are in the report.
pub fn import(data: &[u8]) {
    use vipd_core::config::import::{Source, import};
    let text = String::from_utf8_lossy(data);
    let sources = [Source::new("lb1", "a", &text), Source::new("lb2", "b", &text)];
    if let Ok(made) = import(&sources) {
        let findings = match vipd_core::config::load_all_hosts(&made.toml, "vipd.toml") {
            Ok((_, warnings)) => warnings,
            Err(errors) => errors,
        };
        assert!(!findings.iter().any(|f| f.message.contains("is not TOML")), "{}", made.toml);
        assert!(made.report.check.len() >= findings.len());
    }
}
