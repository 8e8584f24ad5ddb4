//! Reloads (DESIGN 5.16): what goes on in place notices nothing, what cannot is handed over first, and two hosts that are
//! reloaded one after the other lose nothing.

use crate::bench::{Bench, Orders, TOGETHER, VIP, WEB, ZOO, beating, ip, mac, ms, plain};
use crate::world::World;
use vipd_core::engine::io::{
    Alarm, Applied, Cause, EventKind, Input, OperatorOrder, Reading, Renewed, StandingReason,
    Verdict, Want,
};
use vipd_core::time::Instant;
use vipd_core::types::{CheckIx, HostIx, InstanceIx, State};

/// Everything that status shows, word by word.
fn shown(bench: &Bench) -> String {
    format!("{:?}", bench.snapshot())
}

fn intervals(bench: &Bench) -> Vec<u16> {
    bench.adverts().into_iter().map(|(_, a)| a.interval.centis()).collect()
}

const CHECKED: &str = "checks = [\"app\"]\n[check.app]\ntcp = \"127.0.0.1:80\"\nfall = 2\n";

fn read(bench: &mut Bench, verdict: Verdict) {
    let reading = Reading { verdict, detail: "seen".into(), took: ms(1) };
    bench.give(Input::Check { check: CheckIx(0), reading });
}

#[test]
fn the_same_file_changes_nothing() {
    for text in [
        plain(""),
        beating(""),
        beating(CHECKED),
        plain(&format!("{ZOO}{TOGETHER}")),
        beating("addresses = [\"fe80::99\", \"192.0.2.10/24\"]\n"),
    ] {
        let mut world = World::new(&text, 2);
        world.run(ms(7333));
        for host in [0, 1] {
            let bench = &mut world.hosts[host];
            if bench.model.checks.len() == 1 {
                read(bench, Verdict::Pass);
            }
            let (before, due) = (shown(bench), bench.engine.deadline());
            bench.log.clear();
            bench.reload(&text);
            assert_eq!(shown(bench), before);
            assert_eq!(bench.engine.deadline(), due);
            assert!(bench.log.is_empty(), "{:?}", bench.log);
        }
    }
}

#[test]
fn a_reload_in_the_middle_changes_no_later_advert_heartbeat_or_renewal() {
    let text = beating(&format!("preempt-delay = \"7s\"\n{CHECKED}"));
    let lives = [false, true].map(|reloads| {
        let mut world = World::new(&text, 2);
        for step in 0..200u64 {
            world.run(ms(97));
            if step == 60 {
                world.hung.insert(0);
            }
            if step == 110 {
                world.hung.clear();
            }
            if reloads && step % 7 == 3 {
                for host in [0, 1] {
                    if !world.hung.contains(&host) {
                        world.hosts[host].now = world.now;
                        world.reload(host, &text);
                    }
                }
            }
        }
        let said = world.hosts.into_iter().flat_map(|h| h.log);
        said.map(|said| format!("{said:?}")).collect::<Vec<_>>()
    });
    let [plain, reloaded] = lives;
    let differs = plain.iter().zip(&reloaded).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(plain.len(), reloaded.len());
}

#[test]
fn another_priority_is_told_at_once() {
    let mut lb1 = Bench::owner(&plain("priority = 150\n"), 1);
    lb1.run(ms(300));
    lb1.log.clear();
    lb1.reload(&plain("priority = 120\n"));
    assert_eq!(lb1.priorities(), [120]);
    assert_eq!((lb1.state(), lb1.owns().len()), (State::Active, 0));
    let told = EventKind::Standing {
        class: vipd_core::types::Class::Healthy,
        priority: 120,
        reason: StandingReason::Reload,
    };
    assert!(lb1.events().contains(&told), "{:?}", lb1.events());
}

#[test]
fn an_added_address_is_ordered_once_and_leases_go_on() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(1300));
    lb1.orders = Orders::Pending;
    lb1.log.clear();
    lb1.reload(&plain("addresses = [\"192.0.2.10/24\", \"192.0.2.20/24\"]\n"));
    let [(_, own)] = &lb1.owns()[..] else { panic!("{:?}", lb1.owns()) };
    assert!(matches!(own.want, Want::Hold { lease_secs: Some(2), .. }));
    // The monitor reads everything anew: the new one is not there yet, and that is no theft.
    lb1.dump(&[kernel_addr(VIP)]);
    assert_eq!(lb1.owns().len(), 1);
    assert!(lb1.unit().applied, "what was held is held");
    lb1.log.clear();
    lb1.applied_order(own.order);
    // It was looked at while the order ran: once more, to be sure.
    assert_eq!(lb1.owns().len(), 1);
    lb1.orders = Orders::Done;
    let again = lb1.owns()[0].1.order;
    lb1.applied_order(again);
    lb1.run(ms(3000));
    assert!(!lb1.events().iter().any(|e| matches!(e, EventKind::Repaired(_))));
    assert!(lb1.announced().iter().any(|(_, a)| a.addr == ip("192.0.2.20")));
    assert_eq!(lb1.adverts().last().unwrap().1.addresses.len(), 2);
    assert_eq!(lb1.state(), State::Active);
}

fn kernel_addr(addr: &str) -> vipd_core::engine::io::KernelAddr {
    vipd_core::engine::io::KernelAddr {
        addr: ip(addr),
        prefix_len: 32,
        ours: true,
        age: ms(10),
        valid_for: Some(ms(1990)),
    }
}

#[test]
fn orders_that_the_reload_made_void_are_given_again() {
    // zoo sorts behind web, abc before it: numbers shift.
    let abc =
        ZOO.replace("zoo", "abc").replace("52", "53").replace("198.51.100.10", "198.51.100.20");
    let mut lb1 = Bench::up(&plain(""), 1);
    lb1.orders = Orders::Pending;
    lb1.run(ms(4000));
    assert_eq!(lb1.state(), State::Active);
    let claim = lb1.owns().last().unwrap().1.order;
    lb1.log.clear();
    lb1.reload(&plain(&abc));
    let web = InstanceIx(1);
    let again: Vec<_> = lb1.owns().into_iter().filter(|(_, o)| o.instance == web).collect();
    assert_eq!(again.len(), 1, "the kernel thread has dropped the first one");
    // What the kernel thread said before the change is about nobody now.
    let late = Applied { instance: WEB, order: claim, at: lb1.now, result: Ok(()) };
    lb1.give(Input::Applied(late));
    let unit = |b: &Bench| b.snapshot().units.into_iter().find(|u| u.instance == web).unwrap();
    assert!(!unit(&lb1).applied);
    let order = again[0].1.order;
    lb1.give(Input::Applied(Applied { instance: web, order, at: lb1.now, result: Ok(()) }));
    assert!(unit(&lb1).applied);
}

#[test]
fn an_answer_for_an_instance_that_is_gone_is_nobodys() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    let gone = Applied { instance: InstanceIx(7), order: 1, at: lb1.now, result: Ok(()) };
    lb1.give(Input::Applied(gone));
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn a_renewal_that_the_reload_made_void_is_ordered_at_once_and_its_answer_not_believed() {
    let mut lb1 = Bench::owner(&plain(""), 1);
    lb1.run(ms(900));
    lb1.orders = Orders::Pending;
    lb1.run(ms(500));
    let void = lb1.renewals().last().unwrap().1.order;
    lb1.log.clear();
    let left = lb1.unit().lease_left;
    lb1.reload(&plain("hold-down = \"3s\"\n"));
    let at = lb1.now;
    lb1.give(Input::Renewed(Renewed { order: void, at, failed: vec![] }));
    assert_eq!(lb1.unit().lease_left, left);
    lb1.orders = Orders::Done;
    lb1.step();
    assert_eq!((lb1.renewals().len(), lb1.now), (1, at));
    assert!(lb1.unit().lease_left > left);
}

#[test]
fn a_longer_interval_is_named_three_times_at_the_old_pace() {
    let mut lb1 = Bench::owner(&plain("advert-interval = \"100ms\"\n"), 1);
    lb1.run(ms(1000));
    lb1.log.clear();
    lb1.reload(&plain("advert-interval = \"2s\"\n"));
    lb1.run(ms(250));
    assert_eq!(intervals(&lb1), [200, 200, 200], "one or two may be lost");
    assert_eq!(lb1.renewals().last().map(|(_, r)| r.instances[0].1), Some(5));
    lb1.log.clear();
    lb1.run(ms(8000));
    assert_eq!(intervals(&lb1), [200; 4]);
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn a_shorter_interval_counts_at_once() {
    let mut lb1 = Bench::owner(&plain("advert-interval = \"10s\"\n"), 1);
    lb1.run(ms(1000));
    lb1.log.clear();
    lb1.reload(&plain("advert-interval = \"1s\"\n"));
    lb1.run(ms(3500));
    assert_eq!(intervals(&lb1), [100; 4]);
    assert_eq!(lb1.renewals().last().map(|(_, r)| r.instances[0].1), Some(2));
}

/// Until when the newest order to hold may be carried out.
fn not_after(bench: &Bench) -> Instant {
    let all = bench.owns();
    let hold = all.iter().rev().find_map(|(_, o)| match o.want {
        Want::Hold { not_after, .. } => Some(not_after),
        Want::Free => None,
    });
    hold.expect("an order to hold")
}

#[test]
fn an_order_beside_another_interval_waits_as_long_as_peers_do() {
    let addresses = "addresses = [\"192.0.2.10/24\", \"192.0.2.110/24\"]";
    let more = |interval: &str| plain(&format!("{addresses}\nadvert-interval = \"{interval}\"\n"));
    let wait = |from: &str, to: &str| {
        let mut lb1 = Bench::owner(&plain(&format!("advert-interval = \"{from}\"\n")), 1);
        lb1.run(ms(1500));
        let last = lb1.adverts().last().expect("an owner").0;
        lb1.run((last + ms(990)).since(lb1.now));
        let last = lb1.adverts().last().expect("an owner").0;
        lb1.log.clear();
        lb1.reload(&more(to));
        assert_eq!(lb1.state(), State::Active);
        (not_after(&lb1), last, lb1.now)
    };
    // The last advert named a second and is almost as old: peers that missed the newest one wait for three of those.
    let (until, _, now) = wait("1s", "200ms");
    assert_eq!(until, now + ms(600));
    // Who did not hear of the longer interval yet waits for three of the old ones.
    let (until, last, _) = wait("200ms", "2s");
    assert_eq!(until, last + ms(600));
}

#[test]
fn a_backup_keeps_its_timer_and_its_delay() {
    let text = beating("preempt-delay = \"60s\"\n");
    let mut lb1 = Bench::up(&text, 1);
    lb1.run(ms(500));
    lb1.hear(2, 100);
    lb1.run(ms(700));
    let (claims, gate) = (lb1.claims_in(), lb1.unit().gate);
    lb1.reload(&beating("preempt-delay = \"60s\"\nstickiness = 3\n"));
    assert_eq!((lb1.claims_in(), lb1.unit().gate), (claims, gate));
    lb1.reload(&beating("preempt-delay = \"90s\"\n"));
    assert_ne!(lb1.unit().gate, gate, "30 s more");
    assert_eq!(lb1.claims_in(), claims);
}

#[test]
fn what_operators_ordered_stays() {
    let mut world = World::settled(&beating(""), 2);
    let until = None;
    let order = OperatorOrder::Freeze { until };
    world.give(0, Input::Order { id: 1, instance: None, order });
    let order =
        OperatorOrder::SetPriority { priority: vipd_core::types::Priority::new(140).ok(), until };
    world.give(0, Input::Order { id: 2, instance: Some(WEB), order });
    world.run(ms(10));
    let before = world.hosts[0].unit();
    world.forget();
    world.reload(0, &beating("hold-down = \"4s\"\n"));
    let after = world.hosts[0].unit();
    assert_eq!(after.frozen, before.frozen);
    assert_eq!(after.ordered_priority, before.ordered_priority);
    assert_eq!(after.epoch, before.epoch);
    let remembered = |e: &EventKind| matches!(e, EventKind::Remember(_));
    assert!(!world.hosts[0].events().iter().any(remembered), "nothing to store: nothing changed");
}

#[test]
fn a_drained_host_drains_what_is_new() {
    let mut world = World::settled(&beating(""), 2);
    let order = OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
    world.give(0, Input::Order { id: 1, instance: None, order });
    world.run(ms(3000));
    assert_eq!(world.owners(), [1]);
    world.reload(0, &beating(ZOO));
    let all = world.hosts[0].snapshot().units;
    assert!(all.iter().all(|u| u.drained.is_some()));
}

#[test]
fn a_new_check_is_not_awaited_by_who_runs_and_a_changed_one_goes_on() {
    let mut world = World::settled(&beating(""), 2);
    world.reload(0, &beating(CHECKED));
    world.run(ms(3000));
    assert_eq!(world.owners(), [0]);
    assert!(world.hosts[0].unit().awaits_checks.is_none());
    let lb1 = &mut world.hosts[0];
    read(lb1, Verdict::Pass);
    read(lb1, Verdict::Fail);
    lb1.reload(&beating(&CHECKED.replace(":80", ":81")));
    assert_eq!(lb1.snapshot().checks[0].settled, Some(Verdict::Pass));
    read(lb1, Verdict::Fail);
    assert_eq!(lb1.snapshot().checks[0].settled, Some(Verdict::Fail), "the second in a row");
}

#[test]
fn a_check_that_is_gone_holds_nothing_back() {
    let text = beating(&CHECKED.replace("fall = 2", "fall = 1\nseverity = \"fatal\""));
    let mut world = World::settled(&text, 2);
    read(&mut world.hosts[0], Verdict::Pass);
    world.run(ms(100));
    read(&mut world.hosts[0], Verdict::Fail);
    world.run(ms(2000));
    assert_eq!(world.owners(), [1]);
    assert_eq!(world.hosts[0].state(), State::Initialize);
    world.reload(0, &beating("preempt-delay = \"60s\"\n"));
    assert_eq!(world.hosts[0].state(), State::Backup);
    assert_eq!(world.hosts[0].unit().class, vipd_core::types::Class::Healthy);
}

#[test]
fn instances_that_come_and_go_leave_the_others_alone() {
    let both = beating(ZOO);
    let mut world = World::settled(&beating(""), 2);
    let quiet = |w: &World| w.hosts[0].causes().is_empty();
    for host in [0, 1] {
        world.reload(host, &both);
        let new = world.hosts[host].snapshot().units[1].clone();
        assert_eq!(new.state, State::Initialize, "its interface was not reported yet");
    }
    for host in [0, 1] {
        world.hosts[host].now = world.now;
        world.hosts[host].link_up();
    }
    world.run(ms(8000));
    let told = world.hosts[0].told();
    let of_zoo: Vec<_> = told
        .iter()
        .filter(|e| e.instance == Some(InstanceIx(1)))
        .filter_map(|e| match &e.kind {
            EventKind::Transition { to, cause, .. } => Some((*to, cause.clone())),
            _ => None,
        })
        .collect();
    assert!(
        matches!(of_zoo[..], [.., (State::Backup, _), (State::Active, Cause::Silence(_))]),
        "{of_zoo:?}"
    );
    let of_web = told
        .iter()
        .any(|e| e.instance == Some(WEB) && matches!(e.kind, EventKind::Transition { .. }));
    assert!(!of_web && world.owners() == [0]);
    world.forget();
    world.no_segment = World::all().into_iter().collect();
    world.reload(0, &beating(""));
    assert_eq!(world.hosts[0].causes(), [(State::Initialize, Cause::Reload)]);
    let zeros = world.hosts[0].priorities().into_iter().filter(|p| *p == 0);
    assert_eq!(zeros.count(), 1, "lb2 came");
    world.forget();
    world.run(ms(5000));
    assert!(quiet(&world) && world.owners() == [0]);
}

#[test]
fn another_vrid_is_handed_over_first_and_the_hosts_do_not_fight() {
    let (old, new) = (beating(""), beating("").replace("vrid = 51", "vrid = 61"));
    let mut world = World::settled(&old, 2);
    // The owner first.
    let began = world.now;
    world.reload(0, &new);
    assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
    assert!(world.now - began < ms(400), "overlap, no more: {:?}", world.now - began);
    for _ in 0..30 {
        world.run(ms(1000));
        assert_eq!(
            (world.owners(), world.holders()),
            (vec![1], vec![1]),
            "lb1 hears it by heartbeat"
        );
    }
    assert!(world.hosts[0].alarms().contains(&Alarm::AdvertPathBroken(HostIx(1))));
    // Then the other one: it hands over to the host that hears its heartbeats.
    world.reload(1, &new);
    world.run(ms(10));
    assert_eq!(world.owners(), [0]);
    world.run(ms(20_000));
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
    assert!(world.hosts.iter().all(|h| h.alarms().is_empty()), "{:?}", world.hosts[0].alarms());
}

#[test]
fn two_hosts_with_other_address_lists_do_not_fight() {
    let new = "addresses = [\"192.0.2.10/24\", \"192.0.2.20/24\"]\n";
    for (first, second) in [(0, 1), (1, 0)] {
        for group in [plain as fn(&str) -> String, beating] {
            let mut world = World::settled(&group(""), 2);
            world.reload(first, &group(new));
            world.run(ms(10_000));
            let alarms = world.hosts[0].alarms();
            let duplicate = |a: &Alarm| matches!(a, Alarm::DuplicateVrid(_));
            assert!(world.hosts[0].model.heartbeat.is_none() || !alarms.iter().any(duplicate));
            world.reload(second, &group(new));
            world.run(ms(10_000));
            assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
            assert!(world.hosts.iter().all(|h| h.causes().is_empty()));
        }
    }
}

#[test]
fn a_sync_group_begins_anew_together() {
    let text = beating(&format!("{ZOO}{TOGETHER}"));
    let mut lb1 = Bench::up(&text, 1);
    lb1.run(ms(6000));
    assert!(lb1.snapshot().units.iter().all(|u| u.state == State::Active));
    lb1.log.clear();
    let next = lb1.retire(&text.replace("vrid = 52", "vrid = 62"));
    assert_eq!(
        lb1.causes(),
        [(State::Initialize, Cause::Reload), (State::Initialize, Cause::Reload)]
    );
    while !lb1.engine.retired() {
        lb1.step();
    }
    lb1.put_in_force(next);
    assert!(lb1.snapshot().units.iter().all(|u| u.state == State::Backup));
}

#[test]
fn a_retired_instance_does_not_begin_again_before_the_reload() {
    let old = plain("");
    let mut lb1 = Bench::owner(&old, 1);
    let next = lb1.retire(&old.replace("vrid = 51", "vrid = 61"));
    assert!(!lb1.engine.retired());
    lb1.run(ms(20_000));
    assert!(lb1.engine.retired());
    assert_eq!((lb1.state(), lb1.frees().len()), (State::Initialize, 1));
    lb1.put_in_force(next);
    assert_eq!(lb1.state(), State::Backup);
    lb1.run(ms(4000));
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn a_stop_during_a_reload_is_a_stop() {
    let old = plain(ZOO);
    let mut lb1 = Bench::owner(&old, 1);
    let next = lb1.retire(&old.replace("vrid = 51", "vrid = 61"));
    lb1.give(Input::Stop);
    lb1.run(ms(3000));
    assert!(lb1.engine.stopped());
    lb1.put_in_force(next);
    assert!(lb1.engine.stopped());
}

#[test]
fn hosts_that_come_and_go_keep_what_is_known_of_the_others() {
    let text = beating("");
    let mut world = World::settled(&text, 2);
    let more = text.replace(
        "[hosts.lb1]",
        "[hosts.aaa]\npaths = [\"192.0.2.19\", \"10.9.0.19\"]\n[hosts.lb1]",
    );
    world.forget();
    world.reload(0, &more);
    let peers = world.hosts[0].snapshot().peers;
    assert_eq!(
        peers.iter().map(|p| (p.host, p.alive)).collect::<Vec<_>>(),
        [(HostIx(0), false), (HostIx(2), true), (HostIx(3), false)]
    );
    world.run(ms(5000));
    assert!(world.hosts[0].causes().is_empty() && world.owners() == [0]);
    world.reload(0, &text);
    let peers = world.hosts[0].snapshot().peers;
    assert_eq!(peers[0].host, HostIx(1));
    assert!(peers[0].alive);
}

#[test]
fn a_move_goes_on_over_a_reload() {
    let mut world = World::settled(&beating(""), 2);
    let order = OperatorOrder::Move { to: Some(HostIx(1)), force: false };
    world.no_beats = World::all().into_iter().collect();
    world.give(0, Input::Order { id: 9, instance: Some(WEB), order });
    world.reload(0, &beating("hold-down = \"5s\"\n"));
    world.no_beats.clear();
    world.run(ms(3000));
    assert_eq!(world.owners(), [1]);
    assert!(world.hosts[1].unit().pinned);
    let done = |e: &EventKind| matches!(e, EventKind::Operation { id: 9, step } if step.is_end());
    assert!(world.hosts[0].events().iter().any(done));
}

#[test]
fn flap_control_that_is_switched_off_holds_nothing() {
    let text = beating(CHECKED);
    let mut lb1 = Bench::owner(&text.replace("fall = 2", "fall = 1\nrise = 1"), 1);
    read(&mut lb1, Verdict::Pass);
    for _ in 0..8 {
        read(&mut lb1, Verdict::Fail);
        read(&mut lb1, Verdict::Pass);
    }
    assert!(lb1.alarms().contains(&Alarm::Suppressed), "{:?}", lb1.alarms());
    lb1.reload(&beating(&format!("damping = \"off\"\n{CHECKED}")));
    assert!(!lb1.alarms().contains(&Alarm::Suppressed));
    assert!(lb1.told().iter().any(|e| e.kind == EventKind::Alarm(Alarm::Suppressed, false)));
}

#[test]
fn a_stranger_is_told_from_a_peer_after_a_reload() {
    let mut world = World::settled(&beating(""), 2);
    world.reload(0, &beating("hold-down = \"5s\"\n"));
    world.hosts[0].neighbour(VIP, mac(2), false);
    assert!(world.hosts[0].alarms().iter().all(|a| !matches!(a, Alarm::Conflict(..))));
}

#[test]
fn heartbeats_that_come_again_by_a_reload_are_heard_by_who_was_not_reloaded() {
    let mut world = World::settled(&beating(""), 3);
    world.run(ms(60_000));
    let without = beating("")
        .replace("[cluster]\nname = \"shop\"\nkey-file = \"/k\"\n", "")
        .lines()
        .filter(|line| !line.starts_with("paths"))
        .collect::<Vec<_>>()
        .join("\n");
    world.reload(1, &without);
    world.run(ms(5000));
    world.reload(1, &without.replace("vrid = 51", "vrid = 51\n# the same"));
    world.reload(1, &beating(""));
    world.run(ms(3000));
    let peers = world.hosts[0].snapshot().peers;
    let lb2 = peers.iter().find(|p| p.host == HostIx(1)).unwrap();
    assert!(lb2.alive, "{peers:?}");
}
