//! The stale-holder wait (DESIGN 5.2): the kernel of an agent that hangs goes on serving the address.

use crate::bench::{Bench, VIP, beating, ip, mac, ms};
use crate::world::World;
use vipd_core::engine::io::{Alarm, Cause, EventKind, Probe};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{HostIx, State};

/// Active_Down_Interval and Skew_Time of lb2.
const M: Duration = Duration::from_nanos(3_609_375_000);
const SKEW: Duration = Duration::from_nanos(609_375_000);

/// A settled world; the moment of lb1's last advert, after which `lose` happened to it.
fn lost(text: &str, n: u8, lose: impl Fn(&mut World)) -> (World, Instant) {
    let mut world = World::settled(&beating(text), n);
    world.until(ms(2000), |w| !w.hosts[0].adverts().is_empty());
    let last = world.hosts[0].adverts()[0].0;
    lose(&mut world);
    world.forget();
    (world, last)
}

#[test]
fn the_silent_kernel_is_asked_inside_the_skew_and_costs_no_time() {
    let (mut world, last) = lost("", 3, |w| {
        w.off.insert(0);
    });
    world.run(ms(4000));
    let lb2 = &world.hosts[1];
    let probes: Vec<_> = lb2.probes().into_iter().filter(|(_, p)| p.addr == ip(VIP)).collect();
    let at: Vec<Duration> = probes.iter().map(|(at, _)| *at - last).collect();
    assert_eq!(at, [M - SKEW / 2, M - SKEW / 4, M]);
    for (_, p) in &probes {
        assert_eq!((p.to, p.from, p.source), (Some(mac(1)), mac(2), None), "unicast, sender 0");
    }
    assert_eq!(lb2.adverts()[0].0 - last, M);
}

#[test]
fn at_10_ms_the_question_still_has_2_ms() {
    let mut world = World::settled(&beating("advert-interval = \"10ms\""), 3);
    world.until(ms(20), |w| !w.hosts[0].adverts().is_empty());
    let last = world.hosts[0].adverts()[0].0;
    world.off.insert(0);
    world.forget();
    world.run(ms(40));
    let m = ms(30) + ms(10) * 156 / 256;
    let first = world.hosts[1].probes().into_iter().find(|(_, p)| p.addr == ip(VIP)).unwrap().0;
    assert!(first - last <= m - ms(2), "{:?}", first - last);
    assert_eq!(world.hosts[1].adverts()[0].0 - last, m);
}

#[test]
fn a_hung_agents_kernel_answers_and_the_claim_waits_for_its_silence() {
    // 3T is 300 ms, the lease 1 s: without the wait both would own for 700 ms.
    let (mut world, last) = lost("advert-interval = \"100ms\"", 3, |w| {
        w.hung.insert(0);
    });
    assert_eq!(world.holders(), [0]);
    let m = ms(300) + ms(100) * 156 / 256;
    world.run(m + ms(50));
    assert_eq!(world.hosts[1].state(), State::Backup);
    assert_eq!(world.hosts[1].alarms(), [Alarm::StaleHolder(HostIx(0))]);
    world.until(ms(2000), |w| w.holders().is_empty());
    let free = world.now;
    let took = world.until(ms(100), |w| w.owners() == [1]);
    assert!(took <= ms(30), "two silences, 10 ms apart: {took:?}");
    assert!(free - last <= ms(1400));
    assert_eq!(world.hosts[1].alarms(), []);
    let causes = world.hosts[1].causes();
    assert!(matches!(causes[..], [(State::Active, Cause::Silence(_))]), "{causes:?}");
    let questions: Vec<_> = world.hosts[1]
        .probes()
        .into_iter()
        .filter(|(_, p)| p.addr == ip(VIP))
        .map(|(at, _)| at)
        .collect();
    let steady = questions.windows(2).filter(|w| w[1] - w[0] == ms(10)).count();
    assert!(steady > 50, "asked every 10 ms: {steady}");
}

#[test]
fn a_claim_that_is_served_late_waits_for_the_answers_it_could_not_have_yet() {
    let (mut world, _) = lost("advert-interval = \"100ms\"", 2, |w| {
        w.hung.insert(0);
    });
    // lb2 stands still from before its first question until after its deadline.
    let m = ms(300) + ms(100) * 156 / 256;
    world.hung.insert(1);
    world.run(m + ms(50));
    world.hung.remove(&1);
    world.run(ms(100));
    assert_eq!(world.hosts[1].causes(), [], "the kernel of lb1 answers");
    assert_eq!(world.hosts[1].alarms(), [Alarm::StaleHolder(HostIx(0))]);
    world.until(ms(2000), |w| w.holders().is_empty());
    world.until(ms(100), |w| w.owners() == [1]);
}

#[test]
fn a_pause_in_the_middle_of_the_wait_costs_one_detection_time_and_no_more() {
    let (mut world, _) = lost("advert-interval = \"100ms\"", 2, |w| {
        w.hung.insert(0);
    });
    let m = ms(300) + ms(100) * 156 / 256;
    world.run(m + ms(50));
    assert_eq!(world.hosts[1].alarms(), [Alarm::StaleHolder(HostIx(0))]);
    world.hung.insert(1);
    world.run(ms(1500));
    assert_eq!(world.holders(), [] as [usize; 0]);
    world.hung.remove(&1);
    world.forget();
    let woken = world.now;
    world.run(ms(600));
    assert_eq!(world.hosts[1].adverts()[0].0 - woken, m, "asked inside the skew, not after it");
}

#[test]
fn the_last_word_of_a_yielding_host_ends_no_wait() {
    let (mut world, _) = lost("advert-interval = \"100ms\"", 3, |w| {
        w.hung.insert(0);
    });
    let m = ms(300) + ms(100) * 156 / 256;
    world.run(m + ms(50));
    world.hosts[1].now = world.now;
    world.hosts[1].hear(3, 1);
    world.run(ms(100));
    assert_eq!((world.owners(), world.holders()), (vec![], vec![0]));
}

#[test]
fn it_never_ends_in_nobody_owning() {
    let (mut world, last) = lost("advert-interval = \"100ms\"", 3, |w| {
        w.hung.insert(0);
        w.leaseless.insert(0);
    });
    let m = ms(300) + ms(100) * 156 / 256;
    world.until(ms(5000), |w| w.owners() == [1]);
    // The lease and the lateness of the kernel after M.
    let took = world.now - last;
    let limit = m + ms(1000) + ms(1300);
    assert!(took >= limit && took <= limit + ms(15), "{took:?}");
    let alarmed = |e: &EventKind| matches!(e, EventKind::Alarm(Alarm::StaleHolder(_), true));
    assert!(world.hosts[1].events().iter().any(alarmed));
}

#[test]
fn switched_off_it_claims_at_once() {
    let text = "advert-interval = \"100ms\"\nstale-holder-wait = \"off\"";
    let (mut world, last) = lost(text, 3, |w| {
        w.hung.insert(0);
    });
    let m = ms(300) + ms(100) * 156 / 256;
    world.run(ms(1000));
    assert_eq!(world.hosts[1].adverts()[0].0 - last, m);
}

#[test]
fn an_owner_that_wakes_up_ends_the_wait() {
    let (mut world, _) = lost("advert-interval = \"100ms\"", 3, |w| {
        w.hung.insert(0);
    });
    world.run(ms(600));
    assert_eq!(world.hosts[1].alarms(), [Alarm::StaleHolder(HostIx(0))]);
    world.hung.clear();
    // Read before write: it knows that it slept; nobody else owns and its lease holds.
    world.run(ms(2000));
    assert_eq!(world.owners().len(), 1);
    assert_eq!(world.holders(), world.owners());
    assert_eq!(world.hosts[1].alarms(), []);
}

#[test]
fn a_stranger_that_answers_is_an_alarm_and_a_veto_only_where_asked_for() {
    for (conflict, state) in [("alarm", State::Active), ("refuse", State::Backup)] {
        let (mut world, _) = lost(&format!("on-conflict = \"{conflict}\""), 3, |w| {
            w.off.insert(0);
        });
        world.run(ms(1000));
        for _ in 0..30 {
            for host in [1, 2] {
                world.hosts[host].now = world.now;
                world.hosts[host].neighbour(VIP, mac(77), true);
            }
            world.run(ms(100));
        }
        world.run(ms(2000));
        assert_eq!(world.hosts[1].state(), state, "{conflict}");
        assert!(world.hosts[1].alarms().contains(&Alarm::Conflict(ip(VIP), mac(77))));
        world.run(ms(20_000));
        assert_eq!(
            world.hosts[1].state(),
            State::Active,
            "{conflict}: the veto ends with its evidence"
        );
    }
}

#[test]
fn a_peer_that_was_seen_before_it_was_heard_is_no_stranger() {
    for conflict in ["alarm", "refuse"] {
        let text = beating(&format!("on-conflict = \"{conflict}\""));
        let mut hosts: Vec<Bench> = (1..=2).map(|n| Bench::up(&text, n)).collect();
        // An owner announces itself; its next heartbeat is yet to come.
        hosts[0].neighbour(VIP, mac(2), false);
        let raised = hosts[0].alarms().contains(&Alarm::Conflict(ip(VIP), mac(2)));
        assert_eq!(raised, conflict == "refuse", "{conflict}: a veto is better given for nothing");
        let mut world = World::of(hosts);
        world.run(ms(1000));
        assert_eq!(world.hosts[0].alarms(), [], "{conflict}");
    }
}

#[test]
fn the_kernel_of_a_peer_that_never_spoke_is_asked_too() {
    let mut world = World::new(&beating("advert-interval = \"100ms\""), 2);
    // lb3 hangs since before the others started; its kernel serves the address.
    world.hosts[0].run(ms(10));
    for _ in 0..60 {
        for host in 0..2 {
            world.hosts[host].now = world.now;
            world.hosts[host].neighbour(VIP, mac(3), true);
        }
        world.run(ms(10));
    }
    assert_eq!(world.owners(), [] as [usize; 0], "somebody answers");
    let asked = world.hosts[0].probes();
    assert!(asked.iter().any(|(_, p)| p.addr == ip(VIP) && p.to.is_none()));
    let took = world.until(ms(100), |w| !w.owners().is_empty());
    assert!(took <= ms(70), "{took:?}");
}

#[test]
fn a_veto_asks_strangers_even_where_nobody_waits_for_holders() {
    let text = "on-conflict = \"refuse\"\nstale-holder-wait = \"off\"";
    let (mut world, _) = lost(text, 2, |w| {
        w.off.insert(0);
    });
    world.run(ms(4000));
    let asked = |(_, p): &(_, Probe)| p.addr == ip(VIP) && p.to.is_none();
    assert!(world.hosts[1].probes().iter().any(asked), "nobody else would answer");
}
