#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::config::model::ChecksumFlavour;
use crate::types::Interval;
use crate::wire::vrrp::Advert;

const WINDOW: Option<Duration> = Some(Duration::from_secs(5));
/// The time of the published vectors: sequence 0x6800000080000000.
const NOW: Utc = Utc(0x6800_0000_8000);
const SECOND: u64 = 1 << 16;

fn v4() -> (IpAddr, IpAddr) {
    ("198.51.100.10".parse().unwrap(), "224.0.0.18".parse().unwrap())
}

fn v6() -> (IpAddr, IpAddr) {
    ("fe80::10".parse().unwrap(), "fe80::20".parse().unwrap())
}

fn ring() -> KeyRing {
    KeyRing::new(vec![(1, (0..32).collect()), (2, vec![7; 64])], 1).unwrap()
}

fn vrid() -> Vrid {
    Vrid::new(51).unwrap()
}

fn message((src, dst): (IpAddr, IpAddr), address: &str) -> Vec<u8> {
    Advert {
        version: Version::V3,
        vrid: vrid(),
        priority: 200,
        interval: Interval::SECOND,
        addresses: vec![address.parse().unwrap()],
        simple_text: None,
    }
    .encode(src, dst, ChecksumFlavour::Rfc9568)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}

/// Signs one advert at `now`.
fn signed(signer: &mut Signer, now: Utc) -> Vec<u8> {
    let mut m = message(v4(), "192.0.2.100");
    signer.sign(now, Version::V3, vrid(), v4().0, v4().1, &mut m);
    m
}

fn verify_from(
    v: &mut Verifier,
    now: Utc,
    src: IpAddr,
    signed: &[u8],
) -> Result<bool, TrailerError> {
    let (message, trailer) = signed.split_last_chunk().unwrap();
    v.verify(now, Version::V3, vrid(), src, message, trailer)
}

fn verify(v: &mut Verifier, now: Utc, signed: &[u8]) -> Result<bool, TrailerError> {
    verify_from(v, now, v4().0, signed)
}

fn verifier(window: Option<Duration>) -> Verifier {
    Verifier::new(ring(), HmacMode::Enforce, window, 4)
}

#[test]
fn the_published_vector_of_ipv4() {
    assert_eq!(
        hex(&signed(&mut Signer::new(ring(), WINDOW), NOW)),
        "3133c80100644402c00002640101000068000000800000001b84bc4e8e43892dc6d98448f8ee2265"
    );
}

#[test]
fn the_published_vector_of_ipv6_whose_checksum_covers_the_trailer() {
    let mut m = message(v6(), "fe80::100");
    Signer::new(ring(), WINDOW).sign(NOW, Version::V3, vrid(), v6().0, v6().1, &mut m);
    assert_eq!(
        hex(&m),
        "3133c8010064a2e9fe8000000000000000000000000001000101000068000000\
         80000000c8c56146ebfd66ee10ec4d8186461b78"
    );
}

#[test]
fn a_good_trailer_is_accepted_once() {
    let advert = signed(&mut Signer::new(ring(), WINDOW), NOW);
    let mut v = verifier(WINDOW);
    assert_eq!(verify(&mut v, NOW, &advert), Ok(false));
    assert_eq!(verify(&mut v, NOW, &advert), Err(TrailerError::Replay));
}

#[test]
fn every_octet_but_the_checksum_is_covered() {
    let advert = signed(&mut Signer::new(ring(), WINDOW), NOW);
    for i in 0..advert.len() {
        let mut bad = advert.clone();
        bad[i] ^= 0x80;
        let result = verify(&mut verifier(WINDOW), NOW, &bad);
        let expected = match i {
            6 | 7 => Ok(false),
            12 | 14 | 15 => Err(TrailerError::Malformed),
            13 => Err(TrailerError::UnknownKey),
            // The high half of the seconds.
            16..=18 => Err(TrailerError::Stale),
            19 => Err(TrailerError::Stale),
            _ => Err(TrailerError::BadTag),
        };
        assert_eq!(result, expected, "octet {i}");
    }
}

#[test]
fn what_is_around_the_message_is_covered_as_well() {
    let advert = signed(&mut Signer::new(ring(), WINDOW), NOW);
    let (m, trailer) = advert.split_last_chunk().unwrap();
    let mut v = verifier(WINDOW);
    let bad = Err(TrailerError::BadTag);
    assert_eq!(v.verify(NOW, Version::V2, vrid(), v4().0, m, trailer), bad);
    assert_eq!(v.verify(NOW, Version::V3, Vrid::new(52).unwrap(), v4().0, m, trailer), bad);
    assert_eq!(v.verify(NOW, Version::V3, vrid(), v4().1, m, trailer), bad);
    assert_eq!(v.verify(NOW, Version::V3, vrid(), v6().0, m, trailer), bad);
    assert_eq!(v.verify(NOW, Version::V3, vrid(), v4().0, m, trailer), Ok(false));
}

#[test]
fn each_key_of_the_ring_verifies_and_the_active_one_signs() {
    let second = KeyRing::new(vec![(1, (0..32).collect()), (2, vec![7; 64])], 2).unwrap();
    let advert = signed(&mut Signer::new(second, WINDOW), NOW);
    assert_eq!(advert[13], 2);
    assert_eq!(verify(&mut verifier(WINDOW), NOW, &advert), Ok(false));

    let other = KeyRing::new(vec![(2, vec![8; 32])], 2).unwrap();
    let wrong = signed(&mut Signer::new(other, WINDOW), NOW);
    assert_eq!(verify(&mut verifier(WINDOW), NOW, &wrong), Err(TrailerError::BadTag));
}

#[test]
fn a_stamp_outside_the_window_is_stale_and_one_beyond_half_of_it_a_warning() {
    let advert = signed(&mut Signer::new(ring(), WINDOW), NOW);
    for (offset, expected) in [
        (0, Ok(false)),
        (2 * SECOND, Ok(false)),
        (3 * SECOND, Ok(true)),
        (5 * SECOND, Ok(true)),
        (5 * SECOND + 1, Err(TrailerError::Stale)),
    ] {
        for now in [NOW.0 + offset, NOW.0 - offset] {
            assert_eq!(verify(&mut verifier(WINDOW), Utc(now), &advert), expected, "{offset}");
        }
    }
    // Without a window any time will do.
    assert_eq!(verify(&mut verifier(None), Utc(0), &advert), Ok(false));
}

#[test]
fn an_older_advert_is_a_replay_also_when_it_was_never_seen() {
    let mut signer = Signer::new(ring(), WINDOW);
    let first = signed(&mut signer, NOW);
    let second = signed(&mut signer, NOW);
    let third = signed(&mut signer, Utc(NOW.0 + 1));
    for window in [WINDOW, None] {
        let mut v = verifier(window);
        assert_eq!(verify(&mut v, NOW, &second), Ok(false));
        assert_eq!(verify(&mut v, NOW, &first), Err(TrailerError::Replay));
        assert_eq!(verify(&mut v, NOW, &third), Ok(false));
    }
}

#[test]
fn a_refused_advert_moves_no_mark() {
    let mut signer = Signer::new(ring(), WINDOW);
    let first = signed(&mut signer, NOW);
    let mut forged = signed(&mut signer, NOW);
    *forged.last_mut().unwrap() ^= 1;
    let mut v = verifier(WINDOW);
    assert_eq!(verify(&mut v, NOW, &forged), Err(TrailerError::BadTag));
    assert_eq!(verify(&mut v, NOW, &first), Ok(false));
}

#[test]
fn a_sender_whose_clock_was_set_back_is_heard_again_after_the_window() {
    let mut v = verifier(WINDOW);
    let ahead = signed(&mut Signer::new(ring(), WINDOW), Utc(NOW.0 + 4 * SECOND));
    assert_eq!(verify(&mut v, NOW, &ahead), Ok(true));
    let corrected = |now| signed(&mut Signer::new(ring(), WINDOW), now);
    let soon = Utc(NOW.0 + SECOND);
    assert_eq!(verify(&mut v, soon, &corrected(soon)), Err(TrailerError::Replay));
    let later = Utc(NOW.0 + 6 * SECOND);
    assert_eq!(verify(&mut v, later, &corrected(later)), Ok(false));
}

#[test]
fn marks_are_bounded_and_the_longest_silent_sender_goes() {
    let sources: Vec<IpAddr> = (1..=3).map(|n| IpAddr::from([192, 0, 2, n])).collect();
    let mut v = Verifier::new(ring(), HmacMode::Enforce, None, 2);
    let mut signer = Signer::new(ring(), None);
    let mut from = |src: IpAddr| {
        let mut m = message(v4(), "192.0.2.100");
        signer.sign(NOW, Version::V3, vrid(), src, v4().1, &mut m);
        m
    };
    let first: Vec<Vec<u8>> = sources.iter().map(|&s| from(s)).collect();
    let again = from(sources[0]);
    assert_eq!(verify_from(&mut v, NOW, sources[0], &first[0]), Ok(false));
    assert_eq!(verify_from(&mut v, NOW, sources[1], &first[1]), Ok(false));
    assert_eq!(verify_from(&mut v, NOW, sources[0], &again), Ok(false));
    // Makes room by forgetting the second.
    assert_eq!(verify_from(&mut v, NOW, sources[2], &first[2]), Ok(false));
    assert_eq!(v.marks.len(), 2);
    assert_eq!(verify_from(&mut v, NOW, sources[0], &again), Err(TrailerError::Replay));
    assert_eq!(verify_from(&mut v, NOW, sources[1], &first[1]), Ok(false));
}

#[test]
fn the_sequence_grows_whatever_the_clock_does() {
    let sequence = |m: &[u8]| u64::from_be_bytes(*m[16..24].first_chunk().unwrap());
    let mut signer = Signer::new(ring(), WINDOW);
    let stands: Vec<u64> = (0..3).map(|_| sequence(&signed(&mut signer, NOW))).collect();
    assert_eq!(stands, [NOW.0 << 16, (NOW.0 << 16) + 1, (NOW.0 << 16) + 2]);
    // Back by less than the window: goes on counting.
    let back = Utc(NOW.0 - 5 * SECOND);
    assert_eq!(sequence(&signed(&mut signer, back)), stands[2] + 1);
    // Back by more: peers would call the old sequence stale for ever.
    let far = Utc(NOW.0 - 6 * SECOND);
    assert_eq!(sequence(&signed(&mut signer, far)), far.0 << 16);

    let mut monotonic = Signer::new(ring(), None);
    signed(&mut monotonic, NOW);
    assert_eq!(sequence(&signed(&mut monotonic, Utc(0))), (NOW.0 << 16) + 1);
}

#[test]
fn seconds_wrap_in_2106_without_a_gap() {
    let before = Utc((1 << 48) - 1);
    let after = Utc((1 << 48) + 1);
    let mut signer = Signer::new(ring(), WINDOW);
    let mut v = verifier(WINDOW);
    assert_eq!(verify(&mut v, before, &signed(&mut signer, before)), Ok(false));
    assert_eq!(verify(&mut v, after, &signed(&mut signer, after)), Ok(false));
}

#[test]
fn only_enforce_requires_a_trailer() {
    for (mode, expected) in [
        (HmacMode::ReceiveOnly, Ok(())),
        (HmacMode::Permissive, Ok(())),
        (HmacMode::Enforce, Err(TrailerError::Missing)),
    ] {
        assert_eq!(Verifier::new(ring(), mode, WINDOW, 1).absent(), expected);
    }
}

#[test]
fn a_ring_without_legal_keys_is_refused() {
    let key = || vec![1; 32];
    for (keys, active, expected) in [
        (vec![(1, vec![1; 31])], 1, KeyError::Length(31)),
        (vec![(1, vec![1; 65])], 1, KeyError::Length(65)),
        (vec![(0, key())], 0, KeyError::ZeroId),
        (vec![(1, key()), (1, key())], 1, KeyError::DuplicateId(1)),
        (vec![(1, key())], 2, KeyError::NoActive(2)),
        (vec![], 1, KeyError::NoActive(1)),
    ] {
        assert_eq!(KeyRing::new(keys, active).map(|_| ()), Err(expected));
    }
}

#[test]
fn a_key_is_never_printed() {
    let printed = format!("{:?}", ring());
    assert_eq!(printed, "KeyRing { ids: [1, 2], active: 1, .. }");
    assert!(format!("{:?}", Signer::new(ring(), WINDOW)).contains(&printed));
}

#[test]
fn key_files_are_hex_with_white_space_or_raw() {
    let hex = b" 000102030405060708090a0b0c0d0e0F101112131415161718191A1b1c1d1e1f\n";
    assert_eq!(parse_key(hex), Ok((0..32).collect()));
    let raw: Vec<u8> = (200..=255).collect();
    assert_eq!(parse_key(&raw), Ok(raw));
    // Raw keys keep every octet, white space at their ends included.
    let spaced = [b' '; 40];
    assert_eq!(parse_key(&spaced), Ok(spaced.to_vec()));

    assert_eq!(parse_key(&[b'a'; 62]), Err(KeyError::Length(31)));
    assert_eq!(parse_key(&[b'a'; 65]), Err(KeyError::OddHex(65)));
    assert_eq!(parse_key(b""), Err(KeyError::Length(0)));
    assert_eq!(parse_key(&[0; 31]), Err(KeyError::Length(31)));
    assert_eq!(parse_key(&[0; 65]), Err(KeyError::Length(65)));
}
