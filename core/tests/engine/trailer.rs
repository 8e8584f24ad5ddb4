//! The advert trailer between engines: V75.

use crate::bench::{Bench, eth0, model, ms, plain};
use vipd_core::engine::io::{EventKind, Input};
use vipd_core::types::{Family, LinkIx, State};
use vipd_core::wire::auth::KeyRing;

fn hmac(mode: &str) -> String {
    plain(&format!(
        "addresses = [\"192.0.2.10/24\", \"fe80::a/64\"]\nhmac = {{ mode = \"{mode}\", keys = {{ \"1\" = \"/k1\" }}, active-key = 1, window = \"5s\" }}"
    ))
}

fn host(mode: &str, n: u8, key: u8) -> Bench {
    let ring = KeyRing::new(vec![(1, vec![key; 32])], 1).unwrap();
    let mut bench = Bench::of(model(&hmac(mode), &format!("lb{n}")), n, vec![Some(ring)]);
    bench.give(Input::Link { link: LinkIx(0), state: eth0(n) });
    bench
}

/// Hands what `from` has sent to `to`.
fn carry(from: &Bench, to: &mut Bench) {
    for t in from.sent() {
        to.hear_bytes(t.src, t.dst[0], 255, &t.payload[0], ms(0));
    }
}

/// lb2 in `mode` after it heard lb1, both families; the clocks are the same.
fn heard(sender: &str, receiver: &str, sender_key: u8) -> Bench {
    let mut lb1 = host(sender, 1, sender_key);
    let mut lb2 = host(receiver, 2, 7);
    let end = ms(3420);
    lb1.run(end);
    lb2.run(end);
    carry(&lb1, &mut lb2);
    lb2
}

fn accepted(bench: &Bench) -> bool {
    bench.snapshot().units.iter().all(|u| u.owner.is_some())
}

#[test]
fn v75_signed_adverts_are_accepted_in_every_mode() {
    for receiver in ["receive-only", "permissive", "enforce"] {
        let lb2 = heard("enforce", receiver, 7);
        assert!(accepted(&lb2), "{receiver}");
    }
}

#[test]
fn v75_the_trailer_is_28_octets_after_the_message() {
    let mut lb1 = host("enforce", 1, 7);
    lb1.run(ms(3420));
    let lens: Vec<_> = lb1.sent().iter().map(|t| (t.router.family, t.payload[0].len())).collect();
    assert_eq!(lens, [(Family::V4, 8 + 4 + 28), (Family::V6, 8 + 16 + 28)]);
}

#[test]
fn v75_unsigned_adverts_are_refused_by_enforce_alone() {
    for (receiver, ok) in [("receive-only", true), ("permissive", true), ("enforce", false)] {
        let lb2 = heard("receive-only", receiver, 7);
        assert_eq!(accepted(&lb2), ok, "{receiver}");
        let missing = lb2.unit().families[0].2.trailer_missing;
        assert_eq!(missing, u64::from(!ok));
    }
}

#[test]
fn v75_a_wrong_key_is_refused_even_in_permissive() {
    for receiver in ["receive-only", "permissive", "enforce"] {
        let lb2 = heard("enforce", receiver, 8);
        assert!(!accepted(&lb2), "{receiver}");
        assert_eq!(lb2.unit().families[0].2.trailer_bad_tag, 1);
        assert!(
            lb2.events()
                .iter()
                .any(|e| matches!(e, EventKind::Refused { reason: "trailer-bad-tag", .. }))
        );
    }
}

#[test]
fn v75_a_replay_and_a_stale_advert_are_refused() {
    let mut lb1 = host("enforce", 1, 7);
    let mut lb2 = host("enforce", 2, 7);
    lb1.run(ms(3420));
    lb2.run(ms(3420));
    carry(&lb1, &mut lb2);
    let until = lb2.claims_in();
    lb2.run(ms(1000));
    carry(&lb1, &mut lb2);
    let counters = |b: &Bench| b.unit().families[0].2;
    assert_eq!((counters(&lb2).trailer_replay, counters(&lb2).advertisement_rcvd), (1, 1));
    // It did not feed the timer.
    assert_eq!(lb2.claims_in(), until - ms(1000));
    lb2.run(ms(20_000));
    carry(&lb1, &mut lb2);
    assert_eq!(counters(&lb2).trailer_stale, 1);
    assert_eq!(lb2.state(), State::Active);
}

#[test]
fn v75_peers_without_trailer_refuse_signed_adverts_but_not_those_of_receive_only() {
    let text = plain("addresses = [\"192.0.2.10/24\", \"fe80::a/64\"]");
    for (mode, ok) in [("enforce", false), ("receive-only", true)] {
        let mut lb1 = host(mode, 1, 7);
        lb1.run(ms(3420));
        let mut lb2 = Bench::up(&text, 2);
        carry(&lb1, &mut lb2);
        assert_eq!(accepted(&lb2), ok, "{mode}");
    }
}
