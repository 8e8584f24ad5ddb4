#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;

fn key() -> HeartbeatKey {
    HeartbeatKey::derive(&[7; 32], "shop")
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn heard() -> impl Strategy<Value = Heard> {
    any::<(u64, u8, u64, u64, u16)>().prop_map(|(host, path, boot, seq, age_ms)| Heard {
        host,
        path: PathIx(path),
        boot,
        seq,
        age_ms,
    })
}

fn link() -> impl Strategy<Value = LinkRecord> {
    (any::<[u8; 6]>(), any::<bool>(), prop::collection::vec(ip(), 0..=MAX_LINK_ADDRESSES))
        .prop_map(|(mac, running, addrs)| LinkRecord { mac: Mac(mac), running, addrs })
}

fn state() -> impl Strategy<Value = State> {
    prop::sample::select(vec![State::Initialize, State::Backup, State::Active])
}

fn class() -> impl Strategy<Value = Class> {
    use Class::*;
    prop::sample::select(vec![Healthy, Held, Failing, Drained, Unable])
}

fn refusal() -> impl Strategy<Value = Refusal> {
    use Refusal::*;
    prop::sample::select(vec![
        Other, Unable, Failing, Drained, Frozen, Starting, Stopping, Activation, Suppressed, Deaf,
        Vetoed, Stale,
    ])
}

fn orders() -> impl Strategy<Value = Orders> {
    let request = any::<(u64, u64, u32, [bool; 4])>().prop_map(
        |(to, number, left_ms, [force, pin, preempts, hold])| MoveRequest {
            to,
            number,
            left_ms,
            force,
            pin,
            preempts,
            hold,
        },
    );
    let answer = (any::<(u64, u64, u32, bool)>(), prop::option::of(refusal())).prop_map(
        |((to, number, ready_in_ms, ready), refusal)| MoveAnswer {
            to,
            number,
            refusal,
            ready_in_ms,
            ready,
        },
    );
    let freeze = any::<(u32, u32)>().prop_map(|(serial, left_s)| Freeze { serial, left_s });
    let options = (prop::option::of(request), prop::option::of(answer), prop::option::of(freeze));
    (any::<(bool, bool)>(), options).prop_map(|((pinned, failback), (request, answer, freeze))| {
        Orders { pinned, failback, request, answer, freeze }
    })
}

fn instance() -> impl Strategy<Value = InstanceRecord> {
    (
        any::<(u64, u8, u8, u64, u8)>(),
        (state(), class()),
        any::<[bool; 8]>(),
        any::<(Option<u64>, u16, u64, u16, u16, Option<bool>, Option<bool>)>(),
    )
        .prop_map(|((key, link, priority, number, host), (state, class), flags, rest)| {
            let [applied, holds, releasing, leaving, release_request, virtual_mac, stale, plans] =
                flags;
            let (hears, hears_age_ms, adverts_sent, advert_age_ms, lease_left_ms, target, owner) =
                rest;
            InstanceRecord {
                key,
                link,
                state,
                class,
                priority,
                epoch: Epoch { number, host },
                applied,
                holds,
                releasing,
                leaving,
                hears,
                hears_age_ms,
                adverts_sent,
                advert_age_ms,
                lease_left_ms,
                reaches_target: target,
                reaches_owner: owner,
                release_request,
                virtual_mac,
                stale,
                plans_preemption: plans,
                orders: Orders::default(),
            }
        })
}

fn ordered() -> impl Strategy<Value = InstanceRecord> {
    (instance(), orders()).prop_map(|(record, orders)| InstanceRecord { orders, ..record })
}

fn interval() -> impl Strategy<Value = Interval> {
    prop_oneof![
        (1u16..=4095).prop_map(|cs| Interval::from_centis(cs).unwrap()),
        (1u8..=255).prop_map(|s| Interval::from_secs(s).unwrap()),
    ]
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    (
        any::<(u64, u64, u64, u64)>(),
        "[ -~]{0,32}",
        interval(),
        (0u8..255).prop_flat_map(|part| (Just(part), part + 1..=255)),
        prop::collection::vec(heard(), 0..=16),
        prop::collection::vec(link(), 0..=4),
        prop::collection::vec(instance(), 0..=MAX_INSTANCES_PER_DATAGRAM),
    )
        .prop_map(|(ids, version, interval, (part, parts), paths, links, instances)| {
            let (host, boot, seq, config) = ids;
            Heartbeat {
                host,
                boot,
                seq,
                config,
                version,
                interval,
                part,
                parts,
                paths,
                links,
                instances,
            }
        })
}

/// What the record would be to a release that knows nothing of orders.
fn unordered(record: &InstanceRecord) -> InstanceRecord {
    InstanceRecord { orders: Orders::default(), ..*record }
}

proptest! {
    #[test]
    fn orders_are_read_as_sent_and_every_part_fits(
        records in prop::collection::vec(ordered(), 0..40),
        (heards, links) in (0usize..=16, 0usize..=4),
    ) {
        let all = parts(&records, heards, links);
        prop_assert_eq!(all.concat(), records.clone());
        prop_assert!(all.len() == 1 || all.iter().all(|part| !part.is_empty()));
        for part in all {
            let h = Heartbeat {
                version: "v".repeat(MAX_VERSION_LEN),
                paths: vec![small().paths[0]; heards],
                instances: part.to_vec(),
                ..small()
            };
            let datagram = h.encode(&key());
            prop_assert!(datagram.len() <= MAX_DATAGRAM);
            prop_assert_eq!(Heartbeat::decode(&datagram, &key()), Ok(h));
        }
    }

    #[test]
    fn a_release_without_orders_reads_the_rest(record in ordered()) {
        // What it knows ends where a record without orders ends.
        let octets = |record| {
            let h = Heartbeat { instances: vec![record], ..small() };
            let datagram = h.encode(&key());
            datagram[6..datagram.len() - 16].to_vec()
        };
        let (with, without) = (octets(record), octets(unordered(&record)));
        let at = without.len() - usize::from(without[records().len() + 1]);
        // The flags of orders are two bits that it does not look at.
        let flags = at + 21;
        prop_assert_eq!(&with[at..flags], &without[at..flags]);
        prop_assert_eq!(&with[flags + 2..without.len()], &without[flags + 2..]);
        prop_assert_eq!(with[flags] & !0b0001_1000, without[flags]);
    }

    #[test]
    fn what_is_sent_is_what_is_read_and_fits(h in heartbeat()) {
        let datagram = h.encode(&key());
        prop_assert!(datagram.len() <= MAX_DATAGRAM, "{}", datagram.len());
        prop_assert_eq!(Heartbeat::decode(&datagram, &key()), Ok(h));
    }

    #[test]
    fn no_bit_can_be_changed(h in heartbeat(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut datagram = h.encode(&key());
        let at = at.index(datagram.len());
        datagram[at] ^= 1u8 << bit;
        let expected = match at {
            0..=3 => HeartbeatError::NotOurs,
            5 if datagram[at] > codec::FORMAT => HeartbeatError::Version,
            _ => HeartbeatError::BadTag,
        };
        prop_assert_eq!(Heartbeat::decode(&datagram, &key()), Err(expected));
    }

    #[test]
    fn no_octets_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Heartbeat::decode(&bytes, &key());
        let mut ours = b"vipd\x01\x01".to_vec();
        ours.extend(bytes);
        prop_assert!(Heartbeat::decode(&ours, &key()).is_err());
    }

    #[test]
    fn no_authentic_records_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Heartbeat::decode(&sealed(&bytes), &key());
    }

    #[test]
    fn nothing_shorter_is_read(h in heartbeat(), at in any::<prop::sample::Index>()) {
        let datagram = h.encode(&key());
        let cut = &datagram[..at.index(datagram.len())];
        prop_assert!(Heartbeat::decode(cut, &key()).is_err());
    }
}

/// `records` as a datagram made with our key.
fn sealed(records: &[u8]) -> Vec<u8> {
    use hmac::Mac as _;
    let mut out = b"vipd\x01\x01".to_vec();
    out.extend(records);
    let mut mac = crate::wire::auth::hmac(&*key().0);
    mac.update(&out);
    out.extend(&mac.finalize().into_bytes()[..16]);
    out
}

fn small() -> Heartbeat {
    Heartbeat {
        host: 1,
        boot: 2,
        seq: 3,
        config: 4,
        version: "0.1.0".into(),
        interval: Interval::SECOND,
        part: 0,
        parts: 1,
        paths: vec![Heard { host: 9, path: PathIx(1), boot: 8, seq: 7, age_ms: 6 }],
        links: Vec::new(),
        instances: Vec::new(),
    }
}

/// The records of `small`.
fn records() -> Vec<u8> {
    let datagram = small().encode(&key());
    datagram[6..datagram.len() - 16].to_vec()
}

#[test]
fn the_octets_of_a_small_heartbeat() {
    let expected: &[u8] = &[
        1, 42, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0,
        0, 0, 0, 4, 0, 100, 0, 1, 5, b'0', b'.', b'1', b'.', b'0', 2, 27, 0, 0, 0, 0, 0, 0, 0, 9,
        1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 6,
    ];
    assert_eq!(records(), expected);
}

#[test]
fn a_newer_sender_is_read_without_what_it_added() {
    let mut newer = records();
    // Two octets more at the end of the header and of the heard, and a record of a new kind.
    newer.splice(44..44, [0xaa, 0xbb]);
    newer[1] += 2;
    newer[47] += 2;
    newer.extend([0xaa, 0xbb, 200, 3, 1, 2, 3]);
    let mut datagram = sealed(&newer);
    assert_eq!(Heartbeat::decode(&datagram, &key()), Ok(small()));
    // One that we cannot read says so before its tag is looked at.
    datagram[5] = codec::FORMAT + 1;
    assert_eq!(Heartbeat::decode(&datagram, &key()), Err(HeartbeatError::Version));
}

#[test]
fn another_key_or_cluster_name_is_a_bad_tag() {
    let datagram = small().encode(&key());
    for other in [HeartbeatKey::derive(&[8; 32], "shop"), HeartbeatKey::derive(&[7; 32], "stage")] {
        assert_eq!(Heartbeat::decode(&datagram, &other), Err(HeartbeatError::BadTag));
    }
}

#[test]
fn lengths_are_told_apart() {
    assert_eq!(Heartbeat::decode(b"", &key()), Err(HeartbeatError::NotOurs));
    assert_eq!(Heartbeat::decode(b"vip", &key()), Err(HeartbeatError::NotOurs));
    assert_eq!(Heartbeat::decode(b"vipd\x01", &key()), Err(HeartbeatError::Truncated));
    assert_eq!(Heartbeat::decode(b"vipd\x01\x01tag", &key()), Err(HeartbeatError::Truncated));
}

#[test]
fn authentic_nonsense_is_malformed() {
    let malformed = |records: &[u8]| match Heartbeat::decode(&sealed(records), &key()) {
        Err(HeartbeatError::Malformed(what)) => what,
        other => panic!("{other:?}"),
    };
    let early = "a record ends too early";
    assert_eq!(malformed(&[]), early);
    assert_eq!(malformed(&records()[..43]), early);
    assert_eq!(malformed(&records()[44..]), "the header is not the first record");
    let twice = [records(), records()].concat();
    assert_eq!(malformed(&twice), "a second header");
    let with = |at: usize, octet| {
        let mut r = records();
        r[at] = octet;
        r
    };
    assert_eq!(malformed(&with(35, 0)), "the interval is out of range");
    assert_eq!(malformed(&with(34, 0x40)), "the interval is out of range");
    assert_eq!(malformed(&with(36, 1)), "the part is not among the parts");
    assert_eq!(malformed(&with(39, 0xff)), "the version text is not UTF-8");
    assert_eq!(malformed(&with(38, 6)), early);
}

#[test]
fn what_is_too_long_is_cut() {
    let long = Heartbeat {
        version: "x".repeat(31) + "ö",
        links: vec![LinkRecord {
            mac: Mac::BROADCAST,
            running: true,
            addrs: vec![IpAddr::from([1, 2, 3, 4]); 5],
        }],
        ..small()
    };
    let read = Heartbeat::decode(&long.encode(&key()), &key()).unwrap();
    assert_eq!(read.version, "x".repeat(31));
    assert_eq!(read.links[0].addrs.len(), MAX_LINK_ADDRESSES);
}

#[test]
fn a_datagram_is_filled_and_not_overfilled() {
    assert_eq!(MAX_INSTANCES_PER_DATAGRAM, 11);
    assert_eq!(instances_per_datagram(2, 1), 24);
    assert_eq!(instances_per_datagram(100, 100), 1);
    let instance = InstanceRecord {
        key: 1,
        link: 0,
        state: State::Active,
        class: Class::Healthy,
        priority: 100,
        epoch: Epoch::default(),
        applied: true,
        holds: true,
        releasing: false,
        leaving: false,
        hears: None,
        hears_age_ms: u16::MAX,
        adverts_sent: 0,
        advert_age_ms: u16::MAX,
        lease_left_ms: 0,
        reaches_target: None,
        reaches_owner: None,
        release_request: false,
        virtual_mac: false,
        stale: false,
        plans_preemption: false,
        orders: Orders::default(),
    };
    let link = LinkRecord {
        mac: Mac::BROADCAST,
        running: true,
        addrs: vec!["fe80::1".parse().unwrap(); MAX_LINK_ADDRESSES],
    };
    for (heards, links) in [(0, 0), (2, 1), (16, 4), (31, 1)] {
        let count = instances_per_datagram(heards, links);
        let len = |count| {
            let full = Heartbeat {
                version: "v".repeat(MAX_VERSION_LEN),
                paths: vec![small().paths[0]; heards],
                links: vec![link.clone(); links],
                instances: vec![instance; count],
                ..small()
            };
            full.encode(&key()).len()
        };
        assert!(len(count) <= MAX_DATAGRAM && len(count + 1) > MAX_DATAGRAM, "{heards} {links}");
    }
}

#[test]
fn a_key_is_never_printed() {
    assert_eq!(format!("{:?}", key()), "HeartbeatKey(..)");
}
