//! The state machine's part of the conformance vectors: each through a whole engine that is in the state which the
//! vector describes. The receive checks' part: `tests/vectors.rs`.

use crate::bench::{Bench, ETH0, ip, model, ms, plain};
use serde_json::Value;
use vipd_core::config::model::{Auth, Model};
use vipd_core::engine::io::Input;
use vipd_core::types::{Family, Interval, Priority, State, Version, Vip, Vrid};
use vipd_core::wire::ip;

const VECTORS: &str = include_str!("../vectors/vrrp-vectors.json");

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap()
}

fn octet(v: &Value, key: &str) -> u8 {
    u8::try_from(v[key].as_u64().unwrap()).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// The configuration of the vector's receiver.
fn receiver(v: &Value) -> Model {
    let r = &v["receiver"];
    let mut model = model(&plain(""), "lb2");
    let instance = &mut model.instances[0];
    instance.vrid = Vrid::new(octet(r, "vrid")).unwrap();
    instance.priority = Priority::new(octet(r, "priority")).unwrap();
    instance.preempt = r["preempt"].as_bool().unwrap();
    (instance.version, instance.interval) = match r["version"].as_u64().unwrap() {
        2 => (Version::V2, Interval::from_secs(octet(r, "advertisement_interval_s")).unwrap()),
        _ => {
            let centis = u16::try_from(r["advertisement_interval_cs"].as_u64().unwrap()).unwrap();
            (Version::V3, Interval::from_centis(centis).unwrap())
        }
    };
    let list = r["addresses"].as_array().unwrap().iter();
    instance.addresses = list
        .map(|a| {
            let addr = ip_of(a.as_str().unwrap());
            Vip { addr, prefix_len: Family::of(&addr).host_prefix() }
        })
        .collect();
    if let Some(password) = r["auth_text"].as_str() {
        let mut octets = [0; 8];
        octets[..password.len()].copy_from_slice(password.as_bytes());
        instance.auth = Auth::SimpleText(octets);
    }
    instance.strict = true;
    model
}

fn ip_of(text: &str) -> std::net::IpAddr {
    ip(text)
}

/// An engine in the vector's state, in the middle of it.
fn prepared(v: &Value) -> Bench {
    let mut bench = Bench::of(receiver(v), 2, vec![]);
    let mut state = crate::bench::eth0(2);
    let mut primary = ip(text(&v["receiver"], "primary_address"));
    if !v["receiver"]["owner"].as_bool().unwrap() && primary == ip("192.0.2.1") {
        // A virtual address is no source of ours unless we own it; the next smaller one compares alike.
        primary = ip("192.0.2.0");
    }
    state.addrs = vec![primary];
    if text(&v["receiver"], "state") != "initialize" {
        bench.give(Input::Link { link: ETH0, state });
    }
    match text(&v["receiver"], "state") {
        "active" => {
            bench.become_owner();
            let t = bench.model.instances[0].interval.duration();
            bench.run(t / 3);
        }
        _ => bench.run(ms(1)),
    }
    bench.log.clear();
    bench
}

/// Microseconds, rounded as the vectors are.
fn us(d: std::time::Duration) -> u64 {
    u64::try_from((d.as_nanos() + 500) / 1000).unwrap()
}

fn check_effect(name: &str, bench: &mut Bench, effect: &Value, before: Option<u64>) {
    let micros = |key: &str| effect[key].as_u64();
    if let Some(down) = micros("active_down_timer_us") {
        assert_eq!(us(bench.claims_in()), down, "{name}: active_down_timer");
        if let Some(skew) = micros("skew_us") {
            let interval = match micros("active_adver_interval_cs") {
                Some(centis) => ms(10) * u32::try_from(centis).unwrap(),
                None => bench.model.instances[0].interval.duration(),
            };
            assert_eq!(us(bench.claims_in() - interval * 3), skew, "{name}: skew");
        }
    }
    if effect["active_down_timer_us"] == "unchanged" {
        assert_eq!(bench.unit().next_claim.map(|(d, _)| us(d)), before, "{name}: timer");
    }
    if let Some(next) = effect["next_state"].as_str() {
        assert_eq!(bench.state().to_string(), next, "{name}: state");
    }
    if let Some(now) = effect["send_advertisement_now"].as_bool() {
        assert_eq!(bench.adverts().len(), usize::from(now), "{name}: advert");
    }
    if let Some(adver) = micros("adver_timer_us") {
        let asked = bench.now;
        let sent = bench.adverts().len();
        while bench.adverts().len() == sent {
            bench.step();
        }
        assert_eq!(us(bench.now - asked), adver, "{name}: adver_timer");
    }
}

#[test]
fn every_vector_has_its_effect_on_the_state_machine() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let (mut effects, mut refused) = (0, 0);
    for v in file["vectors"].as_array().unwrap() {
        let name = text(v, "name");
        let packet = hex(text(v, "ip_hex"));
        let mut payload = hex(text(v, "payload_hex"));
        if text(v, "family") == "ipv4" {
            match ip::ipv4(&packet) {
                Ok(view) => payload = view.payload.to_vec(),
                Err(ip::Ipv4Error::Length(view)) => payload = view.payload.to_vec(),
                Err(e) => panic!("{name}: {e}"),
            }
        }
        if v["protocol"].as_u64() != Some(112) {
            // Never comes to a socket of protocol 112.
            continue;
        }
        // The receivers of these two take one flavour of checksum, the engine takes both.
        let both = ["bad-checksum-legacy-flavor-on-strict", "bad-checksum-plain-on-legacy"]
            .contains(&name);
        let mut bench = prepared(v);
        let before = bench.unit().next_claim.map(|(d, _)| us(d));
        let state = bench.state();
        let (src, dst) = (ip(text(v, "src")), ip(text(v, "dst")));
        bench.hear_bytes(src, dst, octet(v, "ttl"), &payload, ms(0));
        let effect = &v["expect"]["effect"];
        if effect.is_object() {
            effects += 1;
            check_effect(name, &mut bench, effect, before);
        } else if both {
            assert!(bench.unit().owner.is_some(), "{name}");
        } else if text(&v["expect"], "verdict") == "discard" {
            refused += 1;
            let after = bench.unit().next_claim.map(|(d, _)| us(d));
            assert_eq!((bench.state(), after), (state, before), "{name}: discarded, but felt");
            assert!(bench.adverts().is_empty(), "{name}: answered");
        }
        if text(&v["receiver"], "state") == "initialize" {
            assert_eq!(bench.state(), State::Initialize);
        }
    }
    assert_eq!(effects, 36);
    assert!(refused >= 35, "{refused}");
}
