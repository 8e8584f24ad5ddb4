//! Conformance vectors of adverts: verdict, reason, counter and fields of each, and the octets that we
//! would send for it. What the state machine makes of an accepted advert is tested with the engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::net::IpAddr;
use vipd_core::config::model::ChecksumFlavour;
use vipd_core::time::Utc;
use vipd_core::types::{Family, Interval, Version, Vrid};
use vipd_core::wire::ip::{self, Ipv4Error};
use vipd_core::wire::receive::{
    Accepted, Datagram, GlobalCounters, Reason, Receiver, RouterCounters, validate,
};
use vipd_core::wire::vrrp::PROTOCOL;

const VECTORS: &str = include_str!("vectors/vrrp-vectors.json");

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap()
}

fn octet(v: &Value, key: &str) -> u8 {
    u8::try_from(v[key].as_u64().unwrap()).unwrap()
}

fn addresses(v: &Value) -> Vec<IpAddr> {
    v.as_array().unwrap().iter().map(|a| a.as_str().unwrap().parse().unwrap()).collect()
}

fn padded(password: &str) -> [u8; 8] {
    let mut octets = [0; 8];
    octets[..password.len()].copy_from_slice(password.as_bytes());
    octets
}

fn receiver(v: &Value) -> Receiver {
    let r = &v["receiver"];
    let (version, interval) = match r["version"].as_u64().unwrap() {
        2 => (Version::V2, Interval::from_secs(octet(r, "advertisement_interval_s"))),
        _ => {
            let centis = r["advertisement_interval_cs"].as_u64().unwrap();
            (Version::V3, Interval::from_centis(u16::try_from(centis).unwrap()))
        }
    };
    Receiver {
        version,
        family: if text(r, "family") == "ipv4" { Family::V4 } else { Family::V6 },
        vrid: Vrid::new(octet(r, "vrid")).unwrap(),
        addresses: addresses(&r["addresses"]).into_iter().collect(),
        interval: interval.unwrap(),
        owner: r["owner"].as_bool().unwrap(),
        unicast_peers: None,
        simple_text: r["auth_text"].as_str().map(padded),
        strict: true,
        check_list: true,
        verifier: None,
        counters: RouterCounters::default(),
    }
}

/// What happened to a packet.
struct Outcome {
    result: Result<Accepted, &'static str>,
    /// Counters that moved, with how far.
    moved: Vec<(&'static str, u64)>,
}

/// From the IP packet on, as the socket edge does it.
fn run(v: &Value) -> Outcome {
    let packet = hex(text(v, "ip_hex"));
    let payload = hex(text(v, "payload_hex"));
    let family = if text(v, "family") == "ipv4" { Family::V4 } else { Family::V6 };
    let mut datagram = Datagram {
        family,
        src: text(v, "src").parse().unwrap(),
        dst: text(v, "dst").parse().unwrap(),
        ttl: octet(v, "ttl"),
        payload: &payload,
    };
    if family == Family::V4 {
        let view = match ip::ipv4(&packet) {
            Ok(view) => {
                assert_eq!(view.payload, payload);
                view
            }
            Err(Ipv4Error::Length(view)) => view,
            Err(e) => panic!("{e}"),
        };
        assert_eq!((IpAddr::V4(view.src), IpAddr::V4(view.dst)), (datagram.src, datagram.dst));
        assert_eq!(view.ttl, datagram.ttl);
        if view.protocol != PROTOCOL {
            return Outcome { result: Err("protocol"), moved: Vec::new() };
        }
        datagram.payload = view.payload;
    }
    let own = [text(&v["receiver"], "primary_address").parse().unwrap()];
    let mut receiver = receiver(v);
    let mut global = GlobalCounters::default();
    let result = validate(&datagram, &own, Utc(0), &mut global, |vrid| {
        (vrid == receiver.vrid).then_some(&mut receiver)
    });
    if let Err(reason) = result {
        let belongs_to_host =
            matches!(reason, Reason::IpTtl | Reason::Version | Reason::Vrid | Reason::Checksum)
                || datagram.payload.len() < 2;
        assert_eq!(
            global == GlobalCounters::default(),
            !belongs_to_host || reason.counter().is_none()
        );
    }
    let moved = global.iter().chain(receiver.counters.iter()).filter(|(_, n)| *n > 0).collect();
    Outcome { result: result.map_err(Reason::name), moved }
}

/// The vectors describe receivers that take one flavour of checksum; ours takes both and says which.
/// A receiver of one flavour discards what it says to be the other one.
fn restricted_to_mode(v: &Value, outcome: Outcome) -> Outcome {
    let mode = match v["receiver"]["checksum_mode"].as_str() {
        Some("pseudo") => ChecksumFlavour::Rfc5798,
        _ => ChecksumFlavour::Rfc9568,
    };
    match &outcome.result {
        Ok(accepted) if accepted.flavour.is_some_and(|f| f != mode) => {
            Outcome { result: Err("checksum"), moved: vec![("checksum-errors", 1)] }
        }
        _ => outcome,
    }
}

fn check_fields(v: &Value, accepted: &Accepted) {
    let fields = &v["expect"]["fields"];
    if fields.is_null() {
        return;
    }
    let advert = &accepted.advert;
    assert_eq!(u64::from(advert.version.get()), fields["version"].as_u64().unwrap());
    assert_eq!(advert.vrid.get(), octet(fields, "vrid"));
    assert_eq!(advert.priority, octet(fields, "priority"));
    assert_eq!(advert.addresses.len(), usize::from(octet(fields, "addr_count")));
    assert_eq!(advert.addresses, addresses(&fields["addresses"]));
    match advert.version {
        Version::V2 => {
            assert_eq!(advert.interval.whole_secs(), octet(fields, "adver_int_s"));
            let data = hex(text(fields, "auth_data_hex"));
            assert_eq!(advert.simple_text.unwrap_or_default(), *data);
            assert_eq!(u8::from(advert.simple_text.is_some()), octet(fields, "auth_type"));
        }
        Version::V3 => {
            let centis = fields["max_advertise_interval_cs"].as_u64().unwrap();
            assert_eq!(u64::from(advert.interval.centis()), centis);
        }
    }
    // What we send for these values are the octets of the vector, unless its reserved bits are set.
    if fields["reserve"].as_u64().unwrap_or(0) == 0 {
        let flavour = accepted.flavour.unwrap_or(ChecksumFlavour::Rfc9568);
        let (src, dst) = (text(v, "src").parse().unwrap(), text(v, "dst").parse().unwrap());
        assert_eq!(advert.encode(src, dst, flavour), hex(text(v, "payload_hex")));
    }
}

#[test]
fn every_vector_gives_its_verdict_and_moves_its_counter_alone() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 78);
    for v in vectors {
        let name = text(v, "name");
        let expect = &v["expect"];
        let reason = text(expect, "reason");
        let outcome = restricted_to_mode(v, run(v));
        let mut moved: Vec<(&str, u64)> =
            expect["counter"].as_str().map(|c| (c, 1)).into_iter().collect();
        match text(expect, "verdict") {
            "discard" => assert_eq!(outcome.result.as_ref().err(), Some(&reason), "{name}"),
            // The state machine ignores it later; for the receive checks it is a good advert.
            verdict @ ("accept" | "accept-log" | "fsm-discard") => {
                let accepted = outcome.result.as_ref().unwrap_or_else(|e| panic!("{name}: {e}"));
                let logged = [
                    (accepted.interval_mismatch, "interval-mismatch"),
                    (accepted.list_mismatch, "address-list-mismatch"),
                    (accepted.duplicate_owner, "duplicate-owner"),
                ]
                .into_iter()
                .filter_map(|(is, what)| is.then_some(what))
                .collect::<Vec<_>>();
                let expected = if verdict == "accept-log" { vec![reason] } else { vec![] };
                assert_eq!(logged, expected, "{name}");
                check_fields(v, accepted);
                moved.push(("advertisement-rcvd", 1));
            }
            other => panic!("{name}: verdict {other}"),
        }
        let mut actual = outcome.moved;
        actual.sort_unstable();
        moved.sort_unstable();
        assert_eq!(actual, moved, "{name}");
    }
}
