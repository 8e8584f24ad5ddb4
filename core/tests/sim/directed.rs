//! Single promises with faults at chosen moments: what the sweep found once, and what must not hold by vacancy.

use crate::engine::real;
use crate::invariants::Violation;
use crate::scenario::{Families, Scenario, mac};
use crate::schedule::{Fault, Schedule, Timed};
use crate::wire::{Kind, Net, Nodes, Trouble};
use crate::world::World;
use std::net::IpAddr;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Interval, Version};

/// The stronger and the weaker host, and the gateway, as nodes.
const A: Nodes = 1;
const B: Nodes = 2;
const GATEWAY: Nodes = 4;

/// Two hosts, one IPv4 address, plain VRRP at one second; `a` is the stronger one and owns from 3.3 s on.
pub(crate) fn pair() -> Scenario {
    Scenario {
        hosts: 2,
        interval: Interval::SECOND,
        heartbeats: false,
        families: Families::V4,
        version: Version::V3,
        priorities: vec![200, 100],
        preempt: true,
        preempt_delay: Duration::ZERO,
        hold_down: Duration::ZERO,
        settle: Duration::ZERO,
        virtual_mac: false,
        stale_holder_wait: false,
        checks: false,
        operators: false,
        slow: false,
        reloads: false,
        replica: None,
    }
}

/// The same with heartbeats over both nets.
pub(crate) fn pair_with_heartbeats() -> Scenario {
    Scenario { heartbeats: true, stale_holder_wait: true, ..pair() }
}

/// A fault at and for so many milliseconds.
pub(crate) fn fault(at: u64, lasts: u64, fault: Fault) -> Timed {
    Timed { at: Instant::from_millis(at), lasts: Duration::from_millis(lasts), fault }
}

/// Hosts whose kernel has the first address.
pub(crate) fn holders(world: &World) -> Vec<usize> {
    let vip = vip(world);
    (0..world.hosts.len()).filter(|h| world.hosts[*h].kernel.holds(vip)).collect()
}

fn vip(world: &World) -> IpAddr {
    world.hosts[0].model.instances[0].addresses[0].addr
}

/// Runs the real engine to `end` ms; every promise is judged meanwhile.
fn run(scenario: Scenario, faults: Vec<Timed>, end: u64) -> (World, Option<Violation>) {
    let mut world = World::new(1, scenario, Schedule(faults), None, real);
    let violation = world.run(Instant::from_millis(end));
    (world, violation)
}

/// Like `run`, and no promise may break.
pub(crate) fn kept(scenario: Scenario, faults: Vec<Timed>, end: u64) -> World {
    let (world, violation) = run(scenario, faults, end);
    assert_eq!(violation, None);
    world
}

/// Changes of hands of the first address after `from` ms: host, taken or let go, ms.
pub(crate) fn changes(world: &World, from: u64) -> Vec<(usize, bool, u64)> {
    let after = world.watch.history.iter().filter(|(at, ..)| *at >= Instant::from_millis(from));
    let of_vip = after.filter(|(_, _, addr, _)| *addr == vip(world));
    of_vip.map(|(at, host, _, taken)| (*host, *taken, at.as_nanos() / 1_000_000)).collect()
}

fn trouble(net: Net, from: Nodes, to: Nodes, kind: Kind) -> Trouble {
    Trouble { net, from, to, kind }
}

/// Both ways between two sets of nodes on the service net.
fn cut(one: Nodes, other: Nodes, kind: Kind) -> Fault {
    Fault::Wire(vec![
        trouble(Net::Service, one, other, kind),
        trouble(Net::Service, other, one, kind),
    ])
}

#[test]
fn a_dead_host_is_replaced_on_time() {
    for centis in [1, 10, 100] {
        for scenario in [pair(), pair_with_heartbeats()] {
            let scenario =
                Scenario { interval: Interval::from_centis(centis).unwrap(), ..scenario };
            let (interval, down) = (scenario.t(), scenario.down(1));
            let world = kept(scenario, vec![fault(8000, 60_000, Fault::PowerOff(0))], 13_000);
            let [(0, false, 8000), (1, true, taken)] = changes(&world, 8000)[..] else {
                panic!("{:?}", changes(&world, 8000))
            };
            // Its last advert left within the last interval; then the timer, the kernel and the wire.
            let late = Instant::from_millis(taken).since(Instant::from_millis(8000));
            assert!(late + interval + Duration::from_millis(1) >= down, "T {interval:?}: {late:?}");
            assert!(late <= down + Duration::from_millis(5), "T {interval:?}: {late:?}");
        }
    }
}

#[test]
fn a_stronger_host_of_the_group_takes_the_address_back_without_a_gap() {
    let faults = vec![fault(8000, 6000, Fault::PowerOff(0))];
    let world = kept(pair_with_heartbeats(), faults, 30_000);
    let [(0, true, taken), (1, false, gone)] = changes(&world, 14_000)[..] else {
        panic!("{:?}", changes(&world, 14_000))
    };
    assert!(taken <= gone && gone <= taken + 210, "taken at {taken}, let go at {gone}");
}

#[test]
fn without_heartbeats_preemption_costs_a_kernel_order_at_most() {
    let world = kept(pair(), vec![fault(8000, 6000, Fault::PowerOff(0))], 30_000);
    let times: Vec<u64> = changes(&world, 14_000).iter().map(|(.., at)| *at).collect();
    assert!(times.len() == 2 && times[1] - times[0] <= 4, "{times:?}");
    assert_eq!(holders(&world), [0]);
}

#[test]
fn a_crash_moves_nothing() {
    for scenario in [pair(), pair_with_heartbeats()] {
        let world = kept(scenario, vec![fault(6000, 30, Fault::Kill(0))], 15_000);
        assert_eq!(changes(&world, 6000), []);
        assert_eq!(world.hosts[0].boot, 2);
    }
}

#[test]
fn a_planned_stop_never_leaves_the_address_alone() {
    for scenario in [pair(), pair_with_heartbeats()] {
        let world = kept(scenario, vec![fault(8000, 60_000, Fault::Stop(0))], 20_000);
        let [(1, true, taken), (0, false, gone)] = changes(&world, 8000)[..] else {
            panic!("{:?}", changes(&world, 8000))
        };
        assert!(taken < gone && gone <= 9400, "taken at {taken}, let go at {gone}");
    }
}

#[test]
fn a_link_fault_is_told_over_the_second_path() {
    let faults = vec![fault(8500, 60_000, Fault::Carrier(0))];
    let world = kept(pair_with_heartbeats(), faults, 12_000);
    let taken = changes(&world, 8500).into_iter().find(|(host, taken, _)| *host == 1 && *taken);
    assert!(taken.is_some_and(|(_, _, at)| at <= 8510), "{:?}", changes(&world, 8500));
}

#[test]
fn filtered_adverts_move_nothing_where_heartbeats_run() {
    let faults = vec![fault(8000, 60_000, cut(A, B, Kind::NoAdverts))];
    let world = kept(pair_with_heartbeats(), faults, 40_000);
    assert_eq!(changes(&world, 8000), []);
}

#[test]
fn filtered_adverts_make_two_owners_without_heartbeats_and_one_after_the_heal() {
    let faults = vec![fault(8000, 10_000, cut(A, B, Kind::NoAdverts))];
    let world = kept(pair(), faults, 30_000);
    let [(1, true, _), (1, false, healed)] = changes(&world, 8000)[..] else {
        panic!("{:?}", changes(&world, 8000))
    };
    assert!((18_000..=19_010).contains(&healed), "{healed}");
}

#[test]
fn a_cut_off_owner_lets_go_before_its_peer_claims() {
    // Only the backup reaches the gateway; the second path is whole: the owner is told to release.
    let faults = vec![fault(8000, 60_000, cut(A, B | GATEWAY, Kind::Cut))];
    let world = kept(pair_with_heartbeats(), faults, 40_000);
    let [(0, false, gone), (1, true, taken)] = changes(&world, 8000)[..] else {
        panic!("{:?}", changes(&world, 8000))
    };
    assert!(gone <= taken && taken < 8000 + 3700 + 2000 + 1300, "let go {gone}, taken {taken}");
}

#[test]
fn a_hung_owner_keeps_the_address_until_its_kernel_lets_go() {
    let scenario =
        Scenario { interval: Interval::from_centis(10).unwrap(), ..pair_with_heartbeats() };
    let world = kept(scenario, vec![fault(4000, 10_000, Fault::Pause(0))], 13_000);
    let [(0, false, gone), (1, true, taken)] = changes(&world, 4000)[..] else {
        panic!("{:?}", changes(&world, 4000))
    };
    assert!(gone <= taken && taken <= gone + 40, "let go {gone}, taken {taken}");
}

#[test]
fn a_fresh_start_asks_for_holders_it_never_heard() {
    // The owner dies while the other one is down: nobody told it where to ask.
    let scenario =
        Scenario { interval: Interval::from_centis(10).unwrap(), ..pair_with_heartbeats() };
    let faults = vec![fault(3900, 300, Fault::PowerOff(1)), fault(4000, 60_000, Fault::Kill(0))];
    let world = kept(scenario, faults, 12_000);
    let [(0, false, gone), (1, true, taken)] = changes(&world, 4000)[..] else {
        panic!("{:?}", changes(&world, 4000))
    };
    assert!(gone <= taken && taken <= gone + 40, "let go {gone}, taken {taken}");
}

#[test]
fn news_read_late_is_no_reason_to_claim() {
    // The third host sleeps while the first loses its link and the second takes over; then it reads both.
    let scenario = Scenario { hosts: 3, priorities: vec![250, 240, 180], ..pair_with_heartbeats() };
    let faults = vec![fault(8000, 3400, Fault::Pause(2)), fault(9200, 60_000, Fault::Carrier(0))];
    let world = kept(scenario, faults, 20_000);
    assert!(
        changes(&world, 8000).iter().all(|(host, ..)| *host != 2),
        "{:?}",
        changes(&world, 8000)
    );
    assert_eq!(holders(&world), [1]);
}

#[test]
fn a_hang_restarts_the_preempt_delay() {
    let interval = Interval::from_centis(10).unwrap();
    let preempt_delay = Duration::from_secs(5);
    let scenario = Scenario { interval, preempt_delay, ..pair() };
    let world = kept(scenario, vec![fault(6000, 3000, Fault::Pause(0))], 20_000);
    let back = changes(&world, 9000).into_iter().find(|(host, taken, _)| *host == 0 && *taken);
    assert!(back.is_some_and(|(_, _, at)| (14_000..15_000).contains(&at)), "{back:?}");
}

#[test]
fn one_flush_of_addresses_is_one_occasion_to_repair() {
    for scenario in [pair(), pair_with_heartbeats()] {
        let scenario = Scenario { families: Families::Dual, ..scenario };
        let faults = (0..4).map(|n| fault(8000 + n * 2000, 1, Fault::Remove(0))).collect();
        let world = kept(scenario, faults, 20_000);
        assert_eq!(holders(&world), [0]);
        let gaps = changes(&world, 8000);
        let repaired = |pair: &[(usize, bool, u64)]| pair[1].2 - pair[0].2 <= 4;
        assert!(gaps.len() == 8 && gaps.chunks(2).all(repaired), "{gaps:?}");
    }
}

#[test]
fn the_winner_of_a_settlement_announces_to_whoever_believed_the_loser() {
    // Cut off from the owner on both nets the backup owns too, and the client, which both reach, believes the one
    // that announced last. The second net heals first: the backup yields there, unheard on the service net.
    let both =
        |net| Fault::Wire(vec![trouble(net, A, B, Kind::Cut), trouble(net, B, A, Kind::Cut)]);
    let faults = vec![
        fault(7000, 1, Fault::Resolve),
        fault(8000, 16_000, both(Net::Service)),
        fault(8000, 8000, both(Net::Second)),
    ];
    let (world, violation) = run(pair_with_heartbeats(), faults.clone(), 15_900);
    assert_eq!((violation, world.client.entry(vip(&world))), (None, Some(mac(1))));
    let world = kept(pair_with_heartbeats(), faults, 20_000);
    assert_eq!((holders(&world), world.client.entry(vip(&world))), (vec![0], Some(mac(0))));
}

#[test]
fn of_two_owners_the_one_that_reaches_the_service_segment_stays() {
    let far = B | GATEWAY;
    let both =
        |net| Fault::Wire(vec![trouble(net, A, far, Kind::Cut), trouble(net, far, A, Kind::Cut)]);
    let faults =
        vec![fault(8000, 16_000, both(Net::Service)), fault(8000, 8000, both(Net::Second))];
    let world = kept(pair_with_heartbeats(), faults, 20_000);
    assert_eq!(holders(&world), [1]);
}

#[test]
fn the_client_follows_every_kind_of_move() {
    let resolve = || fault(7000, 1, Fault::Resolve);
    let moves =
        [Fault::Stop(0), Fault::PowerOff(0), Fault::Kill(0), Fault::Pause(0), Fault::Carrier(0)];
    for moved in moves {
        for scenario in [pair(), pair_with_heartbeats()] {
            let faults = vec![resolve(), fault(8000, 12_000, moved.clone())];
            let mut world = World::new(1, scenario, Schedule(faults), None, real);
            assert_eq!(world.run(Instant::from_millis(18_000)), None, "{moved}");
            assert_eq!(world.client.entry(vip(&world)), Some(mac(1)), "{moved}");
            assert_eq!(world.run(Instant::from_millis(40_000)), None, "{moved}");
            assert_eq!(world.client.entry(vip(&world)), Some(mac(0)), "{moved}: back");
        }
    }
}
