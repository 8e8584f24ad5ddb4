//! The transition tables of RFC 9568 section 6.4 and RFC 3768 section 6.4, row by row, and operation sequences.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;

const T: u64 = 1000;

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn params(priority: u8) -> Params {
    Params { version: Version::V3, priority, interval: Interval::SECOND, preempt: true }
}

fn heard(priority: u8, src: u8, ms: u64) -> Heard {
    Heard { src: ip(src), priority, interval: Interval::SECOND, at: at(ms) }
}

fn backup(priority: u8) -> VirtualRouter {
    let mut vr = VirtualRouter::new(params(priority));
    vr.listen(at(0));
    vr
}

fn active(priority: u8) -> VirtualRouter {
    let mut vr = backup(priority);
    vr.become_active(at(0));
    vr
}

/// V33: the first takeover is after 3 x interval + skew, never earlier.
#[test]
fn startup_listens_for_active_down_interval() {
    let mut vr = backup(100);
    assert_eq!(vr.deadline().as_nanos(), 3_609_375_000);
    assert_eq!(vr.due(Instant::from_nanos(3_609_374_999)), None);
    assert_eq!(vr.due(vr.deadline()), Some(Due::Claim(Expiry::Silence)));
}

/// V34: adverts and timers in Initialize are ignored.
#[test]
fn initialize_ignores() {
    let mut vr = VirtualRouter::new(params(100));
    assert_eq!(vr.hear(heard(200, 2, 0), ip(1)), Reaction::Ignored);
    assert_eq!((vr.deadline(), vr.due(at(1_000_000))), (Instant::MAX, None));
}

/// V36: a Backup adopts the advertised interval; its own adverts later use its own.
#[test]
fn backup_adopts_interval_active_uses_its_own() {
    let mut vr = backup(100);
    let slow = Interval::from_centis(300).unwrap();
    vr.hear(Heard { interval: slow, ..heard(200, 2, 0) }, ip(1));
    assert_eq!(vr.active_interval(), slow);
    assert_eq!(vr.deadline().as_nanos(), 9_000_000_000 + 3_000_000_000 * 156 / 256);
    vr.become_active(at(20_000));
    assert_eq!(vr.deadline(), at(20_000 + T));
}

/// V37 and V41: priority 0 leaves Skew_Time, with and without preemption.
#[test]
fn priority_zero_leaves_skew_time() {
    for preempt in [true, false] {
        let mut vr = VirtualRouter::new(Params { preempt, ..params(100) });
        vr.listen(at(0));
        assert_eq!(vr.hear(heard(0, 2, 500), ip(1)), Reaction::OwnerLeaves);
        assert_eq!(vr.deadline() - at(500), Duration::from_nanos(609_375_000));
        assert_eq!(vr.due(vr.deadline()), Some(Due::Claim(Expiry::Released)));
    }
}

/// V38, V39, V40: equal restarts, lower runs on with preemption and restarts without.
#[test]
fn backup_and_the_priority_of_the_owner() {
    let mut vr = backup(100);
    let first = vr.deadline();
    assert_eq!(vr.hear(heard(100, 2, 500), ip(1)), Reaction::OwnerAlive);
    assert_eq!(vr.deadline(), first + Duration::from_millis(500));
    assert_eq!(vr.hear(heard(99, 2, 900), ip(1)), Reaction::WeakerOwner);
    assert_eq!(vr.deadline(), first + Duration::from_millis(500));
    assert_eq!(vr.due(vr.deadline()), Some(Due::Claim(Expiry::Preempts(99))));

    let mut vr = VirtualRouter::new(Params { preempt: false, ..params(100) });
    vr.listen(at(0));
    assert_eq!(vr.hear(heard(99, 2, 900), ip(1)), Reaction::OwnerAlive);
    assert_eq!(vr.deadline(), first + Duration::from_millis(900));
    assert_eq!(vr.due(vr.deadline()), Some(Due::Claim(Expiry::Silence)));
}

/// V42, V43, V46, V47: an Active yields to the stronger, ties go to the greater address, its own address
/// is never answered, and preemption does not matter.
#[test]
fn active_yields_by_priority_then_address() {
    for preempt in [true, false] {
        let mut vr = active(100);
        vr.set_params(Params { preempt, ..params(100) });
        assert_eq!(vr.hear(heard(101, 1, 5), ip(9)), Reaction::Yield { tie_break: false });
        assert_eq!(vr.hear(heard(100, 200, 5), ip(9)), Reaction::Yield { tie_break: true });
        assert_eq!(vr.hear(heard(100, 9, 5), ip(9)), Reaction::SameAddress);
        assert_eq!(vr.hear(heard(100, 2, 5), ip(9)), Reaction::Answer { allowed: true });
        vr.step_down(heard(101, 1, 5));
        assert_eq!((vr.state(), vr.deadline() - at(5)), (State::Backup, vr.active_down()));
    }
}

/// V43 in IPv6: 128 bits, unsigned.
#[test]
fn tie_break_of_ipv6_is_unsigned() {
    let mut vr = active(100);
    let (small, great): (IpAddr, IpAddr) =
        ("fe80::1".parse().unwrap(), "fe80::8000:0:0:1".parse().unwrap());
    let from = |src| Heard { src, ..heard(100, 1, 0) };
    assert_eq!(vr.hear(from(great), small), Reaction::Yield { tie_break: true });
    assert_eq!(vr.hear(from(small), great), Reaction::Answer { allowed: true });
}

/// V44: the immediate answer is limited; the Adver_Timer runs on.
#[test]
fn answers_are_rate_limited() {
    let mut vr = active(100);
    let due = vr.deadline();
    let answered = (0..50)
        .filter(|n| vr.hear(heard(1, 2, *n), ip(9)) == Reaction::Answer { allowed: true })
        .count();
    assert_eq!((answered, vr.deadline()), (3, due));
}

/// RFC 3768 knows no immediate answer.
#[test]
fn version_2_does_not_answer_weaker_adverts() {
    let mut vr = VirtualRouter::new(Params { version: Version::V2, ..params(100) });
    vr.listen(at(0));
    vr.become_active(at(0));
    assert_eq!(vr.hear(heard(1, 2, 0), ip(9)), Reaction::Answer { allowed: false });
    assert_eq!(vr.hear(heard(0, 2, 0), ip(9)), Reaction::Answer { allowed: true });
}

/// V45: priority 0 is answered and restarts the Adver_Timer.
#[test]
fn active_answers_priority_zero() {
    let mut vr = active(100);
    assert_eq!(vr.hear(heard(0, 2, 400), ip(9)), Reaction::Answer { allowed: true });
    assert_eq!(vr.deadline(), at(400 + T));
}

/// The grid is absolute: lateness does not add up, missed points are left out.
#[test]
fn adverts_stay_on_their_grid() {
    let mut vr = active(100);
    assert_eq!(vr.due(at(1003)), Some(Due::Advert));
    assert_eq!(vr.deadline(), at(2000));
    assert_eq!(vr.due(at(7777)), Some(Due::Advert));
    assert_eq!(vr.due(at(7777)), None);
}

/// V68: a new priority recomputes the skew on the old anchor.
#[test]
fn priority_change_in_backup_keeps_the_anchor() {
    let mut vr = backup(100);
    vr.hear(heard(200, 2, 500), ip(1));
    assert!(!vr.set_params(params(200)));
    assert_eq!(vr.deadline() - at(500), timing::active_down(Version::V3, 200, Interval::SECOND));
    assert!(active(100).set_params(params(50)));
}

#[derive(Clone, Debug)]
enum Op {
    Hear { priority: u8, src: u8, centis: u16 },
    Wait(u32),
    Claim,
    ShutDown,
    Listen,
    Params { priority: u8, preempt: bool },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (any::<u8>(), 1u8..5, 1u16..4095).prop_map(|(priority, src, centis)| Op::Hear {
            priority,
            src,
            centis
        }),
        (0u32..10_000).prop_map(Op::Wait),
        Just(Op::Claim),
        Just(Op::ShutDown),
        Just(Op::Listen),
        (1u8..=255, any::<bool>()).prop_map(|(priority, preempt)| Op::Params { priority, preempt }),
    ]
}

proptest! {
    /// Whatever comes: a timer runs exactly outside Initialize, and is of the state's kind.
    #[test]
    fn any_sequence_keeps_the_timers(ops in proptest::collection::vec(op(), 1..60)) {
        let mut vr = backup(100);
        let mut now = 0u64;
        for op in ops {
            match op {
                Op::Hear { priority, src, centis } => {
                    let interval = Interval::from_centis(centis).unwrap();
                    let h = Heard { interval, ..heard(priority, src, now) };
                    if let Reaction::Yield { .. } = vr.hear(h, ip(3)) {
                        vr.step_down(h);
                    }
                }
                Op::Wait(ms) => {
                    now += u64::from(ms);
                    if let Some(Due::Claim(_)) = vr.due(at(now)) {
                        vr.become_active(at(now));
                    }
                }
                Op::Claim if vr.state() == State::Backup => vr.become_active(at(now)),
                Op::Claim => {}
                Op::ShutDown => vr.shut_down(),
                Op::Listen => vr.listen(at(now)),
                Op::Params { priority, preempt } => {
                    vr.set_params(Params { priority, preempt, ..params(1) });
                }
            }
            prop_assert_eq!(vr.state() == State::Initialize, vr.deadline() == Instant::MAX);
            if vr.state() == State::Active {
                prop_assert!(vr.deadline() <= at(now + T));
            }
        }
    }
}
