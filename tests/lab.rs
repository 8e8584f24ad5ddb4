//! The rooms of the lab, judged from inside one: does each part do and measure what it says?
//!
//! Brings its own `main`, because a room is entered before the first thread starts. Tests share the
//! room and therefore run one after the other.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use libtest_mimic::{Arguments, Failed, Trial};
use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;
use vipd_agent::lab::agent::Kind;
use vipd_agent::lab::clock::{now, sleep_until};
use vipd_agent::lab::faults::{Loss, Side};
use vipd_agent::lab::netlink::{LinkState, Rtnl};
use vipd_agent::lab::observe::Eyes;
use vipd_agent::lab::outage::Outage;
use vipd_agent::lab::plan::{Families, Plan};
use vipd_agent::lab::play::Player;
use vipd_agent::lab::probe::Prober;
use vipd_agent::lab::room::Room;
use vipd_agent::lab::scene;
use vipd_agent::lab::service::{self, Mood, Service};
use vipd_agent::lab::stage::Stage;
use vipd_agent::lab::topology::{
    Net, ROUTER_V4, SERVICE_LINK, Topology, host_mac, host_v4, host_v6,
};

/// How far a measured time may be off on a busy machine of CI, beyond what the prober admits.
const SLACK: Duration = Duration::from_millis(25);

fn main() -> ExitCode {
    match Room::enter() {
        Ok(Room::Done(code)) => return code,
        Ok(Room::Inside) => {}
        Err(e) => {
            eprintln!("{e:#}");
            return ExitCode::FAILURE;
        }
    }
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok::<_, Failed>(())
        })
    };
    let without = |program: &str| Command::new(program).arg("--version").output().is_err();
    let tests = vec![
        trial("hosts_reach_each_other_on_both_networks", hosts_reach_each_other),
        trial("a_static_address_loses_nothing", a_static_address_loses_nothing),
        trial("a_cut_of_known_length_is_measured", a_cut_is_measured),
        trial("a_pulled_cable_takes_the_carrier", a_pulled_cable_takes_the_carrier),
        trial("eyes_see_an_address_move_with_overlap_and_gap", eyes_see_a_move),
        trial("a_host_without_power_is_silent_and_comes_back", power_off_and_on),
        trial("a_partition_keeps_the_carrier_and_heals", partition_and_heal),
        trial("a_service_dies_hangs_and_comes_back", a_service_dies_and_hangs),
        trial("a_router_is_lost_to_one_and_to_all", a_router_is_lost)
            .with_ignored_flag(without("nft")),
        trial("one_way_losses", one_way_losses).with_ignored_flag(without("nft")),
        trial("keepalived_crash_leaves_two_owners", keepalived_crash)
            .with_ignored_flag(without("keepalived")),
        trial("keepalived_stop_costs_the_skew_in_both_families", keepalived_stop)
            .with_ignored_flag(without("keepalived")),
        trial("an_agent_that_cannot_start_is_named", missing_agent),
    ];
    libtest_mimic::run(&args, tests).exit_code()
}

fn wait(d: Duration) {
    sleep_until(now() + d);
}

fn add(room: &Topology, ix: usize, addr: IpAddr) {
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    let add = move || Ok(Rtnl::open()?.add_address(SERVICE_LINK, addr, bits)?);
    room.host(ix).ns().unwrap().run(add).unwrap();
}

fn delete(room: &Topology, ix: usize, addr: IpAddr) {
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    let delete = move || Ok(Rtnl::open()?.delete_address(SERVICE_LINK, addr, bits)?);
    room.host(ix).ns().unwrap().run(delete).unwrap();
}

fn probe(room: &Topology, target: IpAddr, act: impl FnOnce()) -> Outage {
    let prober = Prober::start(room.client(), target, 1).unwrap();
    assert!(prober.wait_answer(Duration::from_secs(3)), "{target} does not answer");
    let from = now();
    wait(Duration::from_millis(50));
    act();
    prober.outage(from, now())
}

fn hosts_reach_each_other() {
    let room = Topology::build(3).unwrap();
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            let targets: [IpAddr; 3] = [
                host_v4(to, Net::Service).into(),
                host_v4(to, Net::Beat).into(),
                host_v6(to).into(),
            ];
            for target in targets {
                let prober = Prober::start(room.host(from).ns().unwrap(), target, 1).unwrap();
                assert!(prober.wait_answer(Duration::from_secs(3)), "h{from} -> {target}");
            }
        }
    }
}

fn a_static_address_loses_nothing() {
    let room = Topology::build(2).unwrap();
    for vip in (Plan { families: Families::Dual, ..Plan::default() }).vips() {
        add(&room, 1, vip);
        let seen = probe(&room, vip, || wait(Duration::from_secs(1)));
        assert_eq!((seen.lost, seen.delayed, seen.duplicates), (0, 0, 0), "{seen:?}");
        assert_eq!(seen.answers.keys().collect::<Vec<_>>(), [&host_mac(1, Net::Service)]);
        assert_eq!(room.host_by_mac(seen.path[0].1), Some(1));
        // One each millisecond, less the slots that a stalled machine skipped.
        let stalled = usize::try_from(seen.stalled.as_millis()).unwrap();
        assert!(seen.sent + 10 * (stalled + 2) >= 1050, "{seen:?}");
    }
}

fn a_cut_is_measured() {
    let mut room = Topology::build(1).unwrap();
    for vip in (Plan { families: Families::Dual, ..Plan::default() }).vips() {
        add(&room, 0, vip);
        let prober = Prober::start(room.client(), vip, 1).unwrap();
        assert!(prober.wait_answer(Duration::from_secs(3)), "{vip} does not answer");
        for length in [Duration::from_millis(30), Duration::from_millis(150)] {
            let from = now();
            room.set_port(0, Net::Service, LinkState::Down).unwrap();
            let cut = now();
            wait(length);
            let mend = now();
            room.set_port(0, Net::Service, LinkState::Up).unwrap();
            // The kernel cuts and mends somewhere within the two calls.
            let (least, most) = (mend.since(cut), now().since(from));
            wait(Duration::from_millis(300));
            let seen = prober.outage(from, now());
            let gap = seen.longest_gap;
            assert!(
                gap + seen.uncertainty + SLACK >= least && gap <= most + SLACK,
                "{least:?} to {most:?}: {seen:?}"
            );
        }
    }
}

fn a_pulled_cable_takes_the_carrier() {
    let mut room = Topology::build(1).unwrap();
    let carrier = |room: &Topology, net: Net| {
        let read = move || Ok(Rtnl::open()?.has_carrier(net.link())?);
        room.host(0).ns().unwrap().run(read).unwrap()
    };
    assert!(carrier(&room, Net::Service) && carrier(&room, Net::Beat));
    room.set_cable(0, Net::Service, LinkState::Down).unwrap();
    assert!(!carrier(&room, Net::Service) && carrier(&room, Net::Beat));
    room.set_cable(0, Net::Service, LinkState::Up).unwrap();
    assert!(carrier(&room, Net::Service));
}

fn eyes_see_a_move() {
    let room = Topology::build(2).unwrap();
    let vip = Plan::default().vips()[0];
    let eyes = Eyes::open(&room, vec![vip]).unwrap();
    let bound = Duration::from_secs(2);
    let from = now();
    add(&room, 0, vip);
    eyes.wait_holders(vip, &[0], bound).unwrap();
    let begin = now();
    add(&room, 1, vip);
    eyes.wait_holders(vip, &[0, 1], bound).unwrap();
    wait(Duration::from_millis(60));
    delete(&room, 0, vip);
    let end = now();
    eyes.wait_holders(vip, &[1], bound).unwrap();
    delete(&room, 1, vip);
    eyes.wait_holders(vip, &[], bound).unwrap();
    wait(Duration::from_millis(40));
    add(&room, 0, vip);
    eyes.wait_holders(vip, &[0], bound).unwrap();
    let seen = eyes.seen();
    let overlap = seen.overlap(vip, from, now());
    assert!(overlap >= Duration::from_millis(55), "{overlap:?}");
    assert!(overlap <= end.since(begin) + SLACK, "{overlap:?} of {:?}", end.since(begin));
    let gaps = seen.gaps(vip, from, now());
    let last = gaps.last().unwrap();
    assert!(last.1.since(last.0) >= Duration::from_millis(35), "{gaps:?}");
    assert_eq!(eyes.wait_holders(vip, &[1], Duration::from_millis(30)), None);
}

fn power_off_and_on() {
    let mut room = Topology::build(2).unwrap();
    let target = host_v4(0, Net::Service).into();
    let prober = Prober::start(room.client(), target, 1).unwrap();
    assert!(prober.wait_answer(Duration::from_secs(3)));
    let victim = room.host(0).ns().unwrap().run(|| Ok(Command::new("sleep").arg("600").spawn()?));
    let pid = victim.unwrap().id();
    let at = now();
    room.power_off(0).unwrap();
    let done = now();
    wait(Duration::from_millis(50));
    let seen = prober.outage(at, now());
    // While the kernel of this machine, which every room shares, takes the cable out, the host answers.
    let last = seen.sent - seen.lost;
    let took = usize::try_from(done.since(at).as_millis()).unwrap();
    assert!(last <= took, "{last} answers within {took} ms: {seen:?}");
    let after = prober.outage(done, now());
    assert_eq!(after.sent, after.lost, "answers from a host without power: {after:?}");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "its processes live on");
    assert!(room.host(0).ns().is_err() && room.power_off(0).is_err());
    room.power_on(0).unwrap();
    assert!(prober.wait_answer(Duration::from_secs(3)), "it does not come back");
}

fn partition_and_heal() {
    let mut room = Topology::build(3).unwrap();
    let answers = |room: &Topology, from: Option<usize>, to: usize, net: Net, bound| {
        let ns = from.map_or_else(|| room.client(), |ix| room.host(ix).ns().unwrap());
        let prober = Prober::start(ns, host_v4(to, net).into(), 1).unwrap();
        prober.wait_answer(bound)
    };
    let reached = |room: &_, from, to, net| answers(room, from, to, net, Duration::from_secs(4));
    let cut =
        |room: &_, from, to| !answers(room, from, to, Net::Service, Duration::from_millis(200));
    room.partition(&[0, 1], Net::Service).unwrap();
    assert!(cut(&room, None, 0), "the client reaches the island");
    assert!(reached(&room, None, 2, Net::Service), "the client lost its own side");
    assert!(reached(&room, Some(0), 1, Net::Service), "the island is split");
    assert!(reached(&room, Some(0), 2, Net::Beat), "the second network is split as well");
    room.set_client_side(Side::Island).unwrap();
    assert!(reached(&room, None, 0, Net::Service));
    room.heal(Net::Service).unwrap();
    for ix in 0..3 {
        assert!(reached(&room, None, ix, Net::Service), "h{} is not back", ix + 1);
    }
}

fn a_service_dies_and_hangs() {
    let room = Topology::build(1).unwrap();
    let (ns, at) = (room.host(0).ns().unwrap(), host_v4(0, Net::Service).into());
    let mut service = Service::new("h1");
    assert_eq!(service::ask(room.client(), at), None, "nothing listens yet");
    for _ in 0..2 {
        service.set(ns, Mood::Serves).unwrap();
        assert_eq!(service::ask(room.client(), at).as_deref(), Some("h1"));
        service.set(ns, Mood::Hangs).unwrap();
        // One request may have been taken before it was told.
        let _ = service::ask(room.client(), at);
        assert_eq!(service::ask(room.client(), at), None, "it hangs");
        service.set(ns, Mood::Dead).unwrap();
        assert_eq!(service::ask(room.client(), at), None, "it is dead");
    }
}

fn a_router_is_lost() {
    let mut room = Topology::build(2).unwrap();
    room.add_router().unwrap();
    let pings = |room: &Topology, ix: usize| {
        let prober = Prober::start(room.host(ix).ns().unwrap(), ROUTER_V4.into(), 9).unwrap();
        prober.wait_answer(Duration::from_secs(2))
    };
    let all = |room: &Topology| [pings(room, 0), pings(room, 1)];
    assert_eq!(all(&room), [true, true]);
    room.lose(0, Loss::NoRouter).unwrap();
    assert_eq!(all(&room), [false, true], "one host alone loses it");
    room.lose_no_more(0, Loss::NoRouter).unwrap();
    room.set_router(LinkState::Down).unwrap();
    assert_eq!(all(&room), [false, false], "both lose it");
    let client = Prober::start(room.client(), host_v4(0, Net::Service).into(), 9).unwrap();
    assert!(client.wait_answer(Duration::from_secs(4)), "clients do not");
    room.set_router(LinkState::Up).unwrap();
    assert_eq!(all(&room), [true, true]);
}

fn one_way_losses() {
    let mut room = Topology::build(2).unwrap();
    let target = host_v4(0, Net::Service).into();
    let prober = Prober::start(room.client(), target, 1).unwrap();
    assert!(prober.wait_answer(Duration::from_secs(3)));
    for loss in [Loss::Deaf, Loss::Mute] {
        room.lose(0, loss).unwrap();
        assert!(!prober.wait_answer(Duration::from_millis(100)), "{loss}");
        room.lose_no_more(0, loss).unwrap();
        assert!(prober.wait_answer(Duration::from_secs(3)), "{loss} does not end");
    }
    room.lose(0, Loss::NoAdverts).unwrap();
    assert!(prober.wait_answer(Duration::from_millis(300)), "more than adverts is lost");
}

fn fast(families: Families) -> Plan {
    Plan { interval: Duration::from_millis(100), families, ..Plan::default() }
}

fn keepalived_crash() {
    let mut stage = Stage::set(fast(Families::V4), &Kind::Keepalived).unwrap();
    let mut player = Player::default();
    let mut play =
        |stage: &mut Stage, name| player.play(stage, scene::named(name).unwrap()).unwrap();
    let elected = play(&mut stage, "elect");
    assert_eq!((elected.reached, elected.after), (true, vec!["h1".to_owned()]));
    let crashed = play(&mut stage, "crash");
    // Known of keepalived: what it put on the host stays there when it is killed.
    assert!(crashed.reached && crashed.two_owners_ms > 500.0, "{crashed:?}");
    assert_eq!(crashed.after, ["h1", "h2"]);
    assert_eq!(stage.room().host(0).ns().unwrap().processes().unwrap(), Vec::<i32>::new());
    let returned = play(&mut stage, "return");
    assert_eq!((returned.reached, returned.after), (true, vec!["h1".to_owned()]));
    let off = play(&mut stage, "power-off");
    assert!(off.reached && off.after == ["h2"], "{off:?}");
    assert!(off.client.outage_ms > 150.0 && off.client.outage_ms < 1000.0, "{off:?}");
}

fn keepalived_stop() {
    let mut stage = Stage::set(fast(Families::Dual), &Kind::Keepalived).unwrap();
    stage.start_all().unwrap();
    assert_eq!(stage.wait_owner(Duration::from_secs(10)).unwrap(), 0);
    let from = stage.stop(0).unwrap();
    assert_eq!(stage.wait_owner(Duration::from_secs(10)).unwrap(), 1);
    wait(Duration::from_millis(200));
    for seen in stage.outages(from, now()) {
        // The skew of priority 100 at 100 ms is 61 ms.
        let gap = seen.longest_gap + seen.uncertainty;
        assert!(gap > Duration::from_millis(40) && gap < Duration::from_millis(200), "{seen:?}");
    }
    assert!(stage.stop(0).is_err(), "it was stopped already");
}

fn missing_agent() {
    let kind = Kind::Vipd("/nonexistent/vipd".into());
    let mut stage = Stage::set(fast(Families::V4), &kind).unwrap();
    let said = format!("{:#}", stage.start(0).unwrap_err());
    assert!(said.contains("/nonexistent/vipd") && said.contains("h1"), "{said}");
}
