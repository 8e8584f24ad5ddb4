//! What the conformance vectors do not cover: unicast, trailers, lenient receivers, any octets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::config::model::HmacMode;
use crate::time::Duration;
use crate::wire::auth::{KeyRing, Signer};
use proptest::prelude::*;

const NOW: Utc = Utc(0x6800_0000_8000);
const WINDOW: Option<Duration> = Some(Duration::from_secs(5));

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vrid() -> Vrid {
    Vrid::new(10).unwrap()
}

fn group(family: Family) -> (IpAddr, IpAddr) {
    let src = match family {
        Family::V4 => "192.0.2.2",
        Family::V6 => "fe80::2",
    };
    (ip(src), family.group())
}

fn own() -> [IpAddr; 3] {
    [ip("192.0.2.9"), ip("fe80::9"), ip("2001:db8::9")]
}

fn addresses(family: Family) -> Vec<IpAddr> {
    match family {
        Family::V4 => vec![ip("192.0.2.1"), ip("192.0.2.5"), ip("192.0.2.4")],
        Family::V6 => vec![ip("fe80::a"), ip("2001:db8::1")],
    }
}

fn advert(version: Version, family: Family) -> Advert {
    Advert {
        version,
        vrid: vrid(),
        priority: 100,
        interval: Interval::SECOND,
        addresses: addresses(family),
        simple_text: None,
    }
}

fn receiver(version: Version, family: Family) -> Receiver {
    Receiver {
        version,
        family,
        vrid: vrid(),
        addresses: addresses(family).into_iter().collect(),
        interval: Interval::SECOND,
        owner: false,
        unicast_peers: None,
        simple_text: None,
        strict: false,
        check_list: true,
        verifier: None,
        counters: RouterCounters::default(),
    }
}

fn ring() -> KeyRing {
    KeyRing::new(vec![(1, (0..32).collect())], 1).unwrap()
}

/// Validates; the counters that moved.
fn run(
    receiver: &mut Receiver,
    (src, dst): (IpAddr, IpAddr),
    payload: &[u8],
) -> (Result<Accepted, Reason>, Vec<&'static str>) {
    let before = receiver.counters;
    let mut global = GlobalCounters::default();
    let datagram = Datagram { family: Family::of(&src), src, dst, ttl: 255, payload };
    let result =
        validate(&datagram, &own(), NOW, &mut global, |v| (v == vrid()).then_some(&mut *receiver));
    let router =
        receiver.counters.iter().zip(before.iter()).map(|((name, n), (_, was))| (name, n - was));
    let moved = global.iter().chain(router).filter(|(_, n)| *n > 0);
    (result, moved.map(|(name, n)| (assert_eq!(n, 1), name).1).collect())
}

fn accepted(receiver: &mut Receiver, ends: (IpAddr, IpAddr), payload: &[u8]) -> Accepted {
    let (result, moved) = run(receiver, ends, payload);
    assert!(moved.contains(&"advertisement-rcvd"));
    result.unwrap()
}

fn refused(receiver: &mut Receiver, ends: (IpAddr, IpAddr), payload: &[u8]) -> Reason {
    let (result, moved) = run(receiver, ends, payload);
    let reason = result.unwrap_err();
    assert_eq!(moved, reason.counter().into_iter().collect::<Vec<_>>());
    reason
}

const FLAVOURS: [ChecksumFlavour; 2] = [ChecksumFlavour::Rfc9568, ChecksumFlavour::Rfc5798];
const FORMS: [(Version, Family); 3] =
    [(Version::V2, Family::V4), (Version::V3, Family::V4), (Version::V3, Family::V6)];

#[test]
fn unicast_is_taken_from_peers_to_us_alone() {
    for (version, family) in FORMS {
        let (peer, _) = group(family);
        let me = own().into_iter().find(|a| Family::of(a) == family).unwrap();
        let mut r = Receiver { unicast_peers: Some(vec![peer]), ..receiver(version, family) };
        for flavour in FLAVOURS {
            let send = |src, dst| advert(version, family).encode(src, dst, flavour);
            accepted(&mut r, (peer, me), &send(peer, me));
            let to_group = send(peer, family.group());
            assert_eq!(refused(&mut r, (peer, family.group()), &to_group), Reason::Destination);
            let stranger = if family == Family::V4 { ip("192.0.2.3") } else { ip("fe80::3") };
            assert_eq!(refused(&mut r, (stranger, me), &send(stranger, me)), Reason::Destination);
        }
    }
}

#[test]
fn a_unicast_peer_may_have_a_global_ipv6_address() {
    let ends = (ip("2001:db8::2"), ip("2001:db8::9"));
    let payload = advert(Version::V3, Family::V6).encode(ends.0, ends.1, ChecksumFlavour::Rfc9568);
    let mut r = Receiver { unicast_peers: Some(vec![ends.0]), ..receiver(Version::V3, Family::V6) };
    accepted(&mut r, ends, &payload);
}

#[test]
fn a_legacy_checksum_over_the_group_is_taken_in_unicast_too() {
    let ends = (ip("192.0.2.2"), ip("192.0.2.9"));
    let mut r = Receiver { unicast_peers: Some(vec![ends.0]), ..receiver(Version::V3, Family::V4) };
    for (dst, flavour) in [
        (ends.1, ChecksumFlavour::Rfc9568),
        (ends.1, ChecksumFlavour::Rfc5798),
        (Family::V4.group(), ChecksumFlavour::Rfc5798),
    ] {
        let payload = advert(Version::V3, Family::V4).encode(ends.0, dst, flavour);
        assert_eq!(accepted(&mut r, ends, &payload).flavour, Some(flavour));
    }
    let other =
        advert(Version::V3, Family::V4).encode(ends.0, ip("192.0.2.77"), ChecksumFlavour::Rfc5798);
    assert_eq!(refused(&mut r, ends, &other), Reason::Checksum);
}

#[test]
fn trailers_of_every_form_are_checked_after_the_checksum() {
    for (version, family) in FORMS {
        let ends = group(family);
        let mut signer = Signer::new(ring(), WINDOW);
        let plain = advert(version, family).encode(ends.0, ends.1, ChecksumFlavour::Rfc9568);
        let mut sign = |now| {
            let mut m = plain.clone();
            signer.sign(now, version, vrid(), ends.0, ends.1, &mut m);
            m
        };
        let with = |mode| Receiver {
            verifier: Some(Verifier::new(ring(), mode, WINDOW, 4)),
            ..receiver(version, family)
        };
        let (first, second) = (sign(NOW), sign(NOW));

        let mut r = with(HmacMode::Enforce);
        let a = accepted(&mut r, ends, &first);
        assert!(a.authenticated && !a.stale_warning);
        assert_eq!(a.advert, advert(version, family));
        let refuse = |e| Reason::Trailer(e);
        assert_eq!(refused(&mut r, ends, &first), refuse(TrailerError::Replay));
        assert_eq!(refused(&mut r, ends, &plain), refuse(TrailerError::Missing));
        accepted(&mut r, ends, &second);
        let late = sign(Utc(NOW.0 + (4 << 16)));
        assert!(accepted(&mut r, ends, &late).stale_warning);
        let stale = sign(Utc(NOW.0 + (6 << 16)));
        assert_eq!(refused(&mut r, ends, &stale), refuse(TrailerError::Stale));

        let mut long = first.clone();
        long.push(0);
        assert_eq!(refused(&mut r, ends, &long), Reason::Length);
        assert_eq!(refused(&mut r, ends, &first[..first.len() - 1]), Reason::Length);
        let mut bad = first.clone();
        bad[7] ^= 1;
        assert_eq!(refused(&mut r, ends, &bad), Reason::Checksum);

        for mode in [HmacMode::Permissive, HmacMode::ReceiveOnly] {
            let mut r = with(mode);
            assert!(!accepted(&mut r, ends, &plain).authenticated);
            assert!(accepted(&mut r, ends, &first).authenticated);
            assert_eq!(refused(&mut r, ends, &first), refuse(TrailerError::Replay));
        }
        // Who has no key takes no trailer.
        assert_eq!(refused(&mut receiver(version, family), ends, &first), Reason::Length);
    }
}

#[test]
fn each_trailer_error_has_its_counter() {
    let ends = group(Family::V4);
    let signed = |ring: KeyRing| {
        let mut m = advert(Version::V3, Family::V4).encode(ends.0, ends.1, FLAVOURS[0]);
        Signer::new(ring, WINDOW).sign(NOW, Version::V3, vrid(), ends.0, ends.1, &mut m);
        m
    };
    let mut r = receiver(Version::V3, Family::V4);
    r.verifier = Some(Verifier::new(ring(), HmacMode::Enforce, WINDOW, 4));
    let mut malformed = signed(ring());
    let at = malformed.len() - TRAILER_LEN;
    malformed[at] = 2;
    let refuse = |e| Reason::Trailer(e);
    assert_eq!(refused(&mut r, ends, &malformed), refuse(TrailerError::Malformed));
    let unknown = signed(KeyRing::new(vec![(9, vec![1; 32])], 9).unwrap());
    assert_eq!(refused(&mut r, ends, &unknown), refuse(TrailerError::UnknownKey));
    let wrong = signed(KeyRing::new(vec![(1, vec![1; 32])], 1).unwrap());
    assert_eq!(refused(&mut r, ends, &wrong), refuse(TrailerError::BadTag));
    let c = r.counters;
    assert_eq!((c.trailer_malformed, c.trailer_unknown_key, c.trailer_bad_tag), (1, 1, 1));
}

#[test]
fn a_first_ipv6_address_that_is_not_link_local_is_counted_once_and_refused_if_strict() {
    let ends = group(Family::V6);
    let mut a = advert(Version::V3, Family::V6);
    a.addresses.reverse();
    let payload = a.encode(ends.0, ends.1, ChecksumFlavour::Rfc9568);
    let mut r = receiver(Version::V3, Family::V6);
    let got = accepted(&mut r, ends, &payload);
    assert!(got.first_address_not_link_local && !got.list_mismatch);
    assert_eq!(r.counters.address_list_errors, 1);
    // With another list on top of it, one packet is still one error.
    r.addresses.clear();
    let got = accepted(&mut r, ends, &payload);
    assert!(got.first_address_not_link_local && got.list_mismatch);
    assert_eq!(r.counters.address_list_errors, 2);
    r.strict = true;
    assert_eq!(refused(&mut r, ends, &payload), Reason::FirstAddressNotLinkLocal);
}

#[test]
fn lists_are_compared_as_sets_where_asked_to() {
    let ends = group(Family::V4);
    let mut r = receiver(Version::V3, Family::V4);
    let mut mismatch = |list: &[&str], check_list| {
        r.check_list = check_list;
        let addresses = list.iter().map(|a| ip(a)).collect();
        let a = Advert { addresses, ..advert(Version::V3, Family::V4) };
        let payload = a.encode(ends.0, ends.1, ChecksumFlavour::Rfc9568);
        accepted(&mut r, ends, &payload).list_mismatch
    };
    assert!(!mismatch(&["192.0.2.1", "192.0.2.4", "192.0.2.5"], true));
    assert!(!mismatch(&["192.0.2.5", "192.0.2.4", "192.0.2.1"], true));
    assert!(!mismatch(&["192.0.2.5", "192.0.2.4", "192.0.2.1", "192.0.2.1"], true));
    assert!(mismatch(&["192.0.2.5", "192.0.2.4"], true));
    assert!(mismatch(&["192.0.2.5", "192.0.2.5", "192.0.2.4"], true));
    assert!(mismatch(&["192.0.2.1", "192.0.2.4", "192.0.2.5", "192.0.2.6"], true));
    assert!(!mismatch(&["192.0.2.6"], false));
}

#[test]
fn an_unknown_vrid_is_a_vrid_error_in_every_version_of_the_family() {
    for (version, family) in FORMS {
        let ends = group(family);
        let a = Advert { vrid: Vrid::new(11).unwrap(), ..advert(version, family) };
        let payload = a.encode(ends.0, ends.1, ChecksumFlavour::Rfc9568);
        assert_eq!(refused(&mut receiver(version, family), ends, &payload), Reason::Vrid);
        let mut four = payload.clone();
        four[0] = 0x41;
        assert_eq!(refused(&mut receiver(version, family), ends, &four), Reason::Version);
    }
}

#[test]
fn a_router_of_the_other_family_is_not_asked() {
    let ends = group(Family::V6);
    let payload = advert(Version::V3, Family::V6).encode(ends.0, ends.1, FLAVOURS[0]);
    assert_eq!(refused(&mut receiver(Version::V3, Family::V4), ends, &payload), Reason::Vrid);
}

#[test]
fn errors_before_the_vrid_is_known_go_to_the_host() {
    let ends = group(Family::V4);
    let mut r = receiver(Version::V3, Family::V4);
    assert_eq!(refused(&mut r, ends, &[0x31]), Reason::Length);
    assert_eq!(r.counters.packet_length_errors, 0);
    assert_eq!(refused(&mut r, ends, &[0x31, 10]), Reason::Length);
    assert_eq!(r.counters.packet_length_errors, 1);
    assert_eq!(refused(&mut r, ends, &[0x32, 11, 0, 0, 0, 0, 0, 0]), Reason::Type);
    assert_eq!(r.counters.invalid_type_pkts_rcvd, 0);
}

fn any_family() -> impl Strategy<Value = (Version, Family)> {
    prop::sample::select(FORMS.to_vec())
}

fn any_advert() -> impl Strategy<Value = (Advert, Family)> {
    any_family().prop_flat_map(|(version, family)| {
        let address = match family {
            Family::V4 => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
            Family::V6 => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
        };
        let interval = match version {
            Version::V2 => (1u8..=255).prop_map(|s| Interval::from_secs(s).unwrap()).boxed(),
            Version::V3 => (1u16..=4095).prop_map(|c| Interval::from_centis(c).unwrap()).boxed(),
        };
        let password = any::<Option<[u8; 8]>>();
        (prop::collection::vec(address, 1..=255), interval, any::<u8>(), 1u8..=255, password)
            .prop_map(move |(addresses, interval, priority, vrid, password)| {
                let vrid = Vrid::new(vrid).unwrap();
                let simple_text = password.filter(|_| version == Version::V2);
                (Advert { version, vrid, priority, interval, addresses, simple_text }, family)
            })
    })
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_read((a, family) in any_advert(), legacy in any::<bool>()) {
        let (src, dst) = group(family);
        let payload = a.encode(src, dst, FLAVOURS[usize::from(legacy)]);
        prop_assert_eq!(Advert::decode(a.version, family, &payload), Some(a.clone()));
        // A receiver configured like the sender takes it without a remark.
        let mut r = Receiver {
            vrid: a.vrid,
            addresses: a.addresses.iter().copied().collect(),
            interval: a.interval,
            simple_text: a.simple_text,
            ..receiver(a.version, family)
        };
        let mut global = GlobalCounters::default();
        let datagram = Datagram { family, src, dst, ttl: 255, payload: &payload };
        let got = validate(&datagram, &own(), NOW, &mut global, |_| Some(&mut r)).unwrap();
        prop_assert!(!got.interval_mismatch && !got.list_mismatch);
        prop_assert_eq!(got.advert, a);
    }

    #[test]
    fn no_octets_panic_and_each_refusal_moves_its_counter_alone(
        mut payload in prop::collection::vec(any::<u8>(), 0..120),
        (version, family) in any_family(),
        shaped in any::<bool>(),
        trailer in any::<bool>(),
    ) {
        if let (true, Some(header)) = (shaped, payload.first_chunk_mut::<4>()) {
            *header = [version.get() << 4 | 1, 10, header[2], header[3] % 8];
        }
        let mut r = receiver(version, family);
        r.verifier = trailer.then(|| Verifier::new(ring(), HmacMode::Permissive, WINDOW, 4));
        let (result, moved) = run(&mut r, group(family), &payload);
        if let Err(reason) = result {
            prop_assert_eq!(moved, reason.counter().into_iter().collect::<Vec<_>>());
        }
        for version in [Version::V2, Version::V3] {
            for family in Family::ALL {
                let _ = Advert::decode(version, family, &payload);
            }
        }
    }

    #[test]
    fn no_frame_or_packet_panics(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
        let _ = crate::wire::arp::parse(&bytes);
        let _ = crate::wire::ndp::parse(&bytes);
        let _ = crate::wire::ip::ipv4(&bytes);
        let _ = crate::wire::auth::parse_key(&bytes);
    }
}
