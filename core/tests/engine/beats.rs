//! Heartbeats (DESIGN 5.9), the clean stop between vipd hosts (5.5), shared fate (5.11).

use crate::bench::{Bench, Orders, Said, WEB, beating, eth0, ip, mac, ms};
use crate::world::{Cuts, TARGET, World};
use std::net::SocketAddr;
use vipd_core::engine::io::{
    Alarm, Cause, EventKind, HeartbeatIn, HeartbeatOut, Input, LinkState, NeighbourIn,
};
use vipd_core::time::Duration;
use vipd_core::types::{HostIx, LinkIx, State};
use vipd_core::vrrp::Expiry;

/// Active_Down_Interval of lb2.
const M: Duration = Duration::from_nanos(3_609_375_000);

fn link_down(world: &mut World, host: usize) {
    let mut state = eth0(u8::try_from(host + 1).unwrap());
    state.running = false;
    world.give(host, Input::Link { link: LinkIx(0), state });
}

#[test]
fn one_owner_and_everybody_heard_on_both_paths() {
    let world = World::settled(&beating(""), 3);
    for host in &world.hosts {
        let peers = host.snapshot().peers;
        assert_eq!(peers.len(), 2);
        for peer in peers {
            assert!(peer.alive && peer.hears_me.iter().all(|h| *h));
            assert!(peer.heard.iter().all(|h| h.unwrap() <= ms(1000)));
        }
        assert_eq!(host.alarms(), []);
        assert_eq!(host.unit().owner_host, Some(HostIx(0)));
    }
    assert_eq!(world.holders(), [0]);
}

#[test]
fn stop_the_best_successor_claims_at_once_and_the_addresses_overlap() {
    let mut world = World::settled(&beating(""), 3);
    world.run(ms(400));
    world.forget();
    let start = world.now;
    world.give(0, Input::Stop);
    world.run(ms(1));
    assert_eq!(world.hosts[1].causes(), [(State::Active, Cause::Released)]);
    assert_eq!(world.hosts[2].state(), State::Backup);
    assert_eq!(world.holders(), [0, 1], "make before break");
    world.run(ms(5000));
    assert_eq!(world.hosts[0].frees(), [start + ms(200)]);
    assert!(world.hosts[0].engine.stopped());
    assert_eq!(world.holders(), [1]);
    // At the claim, from 20 ms to just before the release and right after it, then 1 s after the claim and so on.
    let told: Vec<_> =
        world.hosts[1].announced().iter().map(|(at, _)| (*at - start).as_millis()).collect();
    assert_eq!(told, [0, 180, 195, 199, 200, 1000, 5000]);
    // No weak advert: a vipd successor knows.
    assert_eq!(world.hosts[0].priorities(), [0]);
}

#[test]
fn stop_with_nobody_left_is_not_for_ever() {
    let mut world = World::settled(&beating(""), 1);
    world.give(0, Input::Stop);
    world.run(ms(1200));
    assert!(world.hosts[0].engine.stopped());
}

#[test]
fn a_link_fault_is_told_and_the_best_backup_does_not_wait() {
    let mut world = World::settled(&beating(""), 3);
    world.run(ms(300));
    world.no_adverts = World::around(0);
    world.no_segment = World::around(0);
    link_down(&mut world, 0);
    world.run(ms(1));
    assert_eq!(world.owners(), [1]);
    assert_eq!(
        world.hosts[1].causes().last(),
        Some(&(State::Active, Cause::PeerUnable(HostIx(0))))
    );
    world.run(ms(10_000));
    assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
}

#[test]
fn p3_a_host_without_power_is_replaced_on_the_microsecond() {
    let mut world = World::settled(&beating(""), 3);
    world.run(ms(300));
    world.forget();
    world.until(ms(2000), |w| !w.hosts[0].adverts().is_empty());
    let last = world.hosts[0].adverts()[0].0;
    world.off.insert(0);
    world.run(ms(5000));
    let claimed = world.hosts[1].adverts()[0].0;
    assert_eq!(claimed - last, M);
    assert_eq!(world.owners(), [1]);
    let gone = |e: &EventKind| matches!(e, EventKind::Peer { host: HostIx(0), alive: false });
    assert!(world.hosts[1].events().iter().any(gone));
}

#[test]
fn each_claim_has_a_higher_epoch() {
    let mut world = World::settled(&beating(""), 3);
    let mut epochs = vec![world.hosts[0].unit().epoch];
    for host in [0, 1] {
        link_down(&mut world, host);
        world.run(ms(2000));
        let owner = world.owners()[0];
        epochs.push(world.hosts[owner].unit().epoch);
    }
    assert!(epochs.windows(2).all(|e| e[0] < e[1]), "{epochs:?}");
}

#[test]
fn adverts_lost_but_the_owner_reachable_nobody_moves() {
    let mut world = World::settled(&beating(""), 3);
    world.no_adverts = Cuts::from([(0, 1), (0, 2)]);
    world.run(ms(60_000));
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
    assert_eq!(world.hosts[1].alarms(), [Alarm::AdvertPathBroken(HostIx(0))]);
    world.no_adverts.clear();
    world.run(ms(2000));
    assert_eq!(world.hosts[1].alarms(), []);
}

#[test]
fn the_side_that_reaches_the_segment_gets_the_address() {
    let text = beating(&format!("targets = [\"{TARGET}\"]"));
    let mut world = World::settled(&text, 3);
    // lb1 is cut off from the service segment; its heartbeats go another way.
    world.no_adverts = World::around(0);
    world.no_segment = World::around(0);
    world.no_target.insert(0);
    let took = world.until(ms(10_000), |w| w.owners() == [1]);
    assert!(took < ms(8000), "{took:?}");
    assert_eq!(world.holders(), [1]);
    let why = world.hosts[0].causes();
    assert!(
        matches!(why.first(), Some((State::Backup, Cause::Isolated | Cause::Settled(_)))),
        "{why:?}"
    );
    // It does not come back before the winner hears it.
    world.run(ms(60_000));
    assert_eq!((world.owners(), world.holders()), (vec![1], vec![1]));
    world.no_adverts.clear();
    world.no_segment.clear();
    world.no_target.clear();
    world.run(ms(20_000));
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
}

#[test]
fn both_reach_targets_nobody_moves() {
    let text = beating(&format!("targets = [\"{TARGET}\"]"));
    let mut world = World::settled(&text, 2);
    world.no_adverts = World::around(0);
    world.no_segment = World::around(0);
    world.run(ms(30_000));
    assert_eq!(world.owners(), [0]);
    assert_eq!(world.hosts[1].alarms(), [Alarm::AdvertPathBroken(HostIx(0))]);
}

#[test]
fn two_owners_that_hear_each_other_settle_it() {
    let mut world = World::settled(&beating(""), 2);
    world.no_adverts = World::around(0);
    world.no_beats = World::around(0);
    world.no_segment = World::around(0);
    world.run(ms(8000));
    assert_eq!(world.owners(), [0, 1], "a cut network: nobody can tell");
    world.forget();
    world.no_beats.clear();
    world.run(ms(1100));
    assert_eq!(world.owners(), [0]);
    assert_eq!(world.hosts[1].causes(), [(State::Backup, Cause::Settled(HostIx(0)))]);
    let alarm = |e: &EventKind| matches!(e, EventKind::Alarm(Alarm::DualActive(_), true));
    assert!(world.hosts.iter().any(|h| h.events().iter().any(alarm)));
    world.run(ms(4500));
    let rival = |a: &Alarm| matches!(a, Alarm::DualActive(_));
    assert!(!world.hosts.iter().any(|h| h.alarms().iter().any(rival)), "settled, adverts or not");
    world.no_adverts.clear();
    world.no_segment.clear();
    world.run(ms(70_000));
    assert_eq!((world.owners(), world.holders()), (vec![0], vec![0]));
    assert!(world.hosts.iter().all(|h| h.alarms().is_empty()));
}

#[test]
fn a_word_that_crossed_the_claim_is_no_conflict_for_long() {
    let (mut lb1, mut lb2) = (Bench::owner(&beating(""), 1), Bench::owner(&beating(""), 2));
    lb2.log.clear();
    lb2.run(ms(1000));
    let crossed = beats_of(&lb2).into_iter().find(|b| b.to.ip() == ip("192.0.2.11")).unwrap();
    hear_beat(&mut lb1, 2, &crossed);
    let rival = Alarm::DualActive(ip("192.0.2.12"));
    assert!(lb1.alarms().contains(&rival));
    lb1.run(ms(3400));
    assert!(lb1.alarms().contains(&rival), "three heartbeats may be lost");
    lb1.run(ms(200));
    assert_eq!(lb1.state(), State::Active);
    assert!(!lb1.alarms().contains(&rival), "nothing speaks for it");
}

#[test]
fn a_healed_network_has_one_owner_and_it_announces() {
    let mut world = World::settled(&beating(""), 3);
    world.no_adverts = World::around(0);
    world.no_beats = World::around(0);
    world.no_segment = World::around(0);
    world.run(ms(30_000));
    world.forget();
    world.no_adverts.clear();
    world.no_beats.clear();
    world.no_segment.clear();
    world.run(ms(1100));
    let owner = world.owners();
    assert_eq!(owner.len(), 1);
    assert!(!world.hosts[owner[0]].announced().is_empty(), "neighbours have to be told");
    assert_eq!(world.holders(), owner);
}

pub(crate) fn beats_of(bench: &Bench) -> Vec<HeartbeatOut> {
    let beat = |s: &Said| if let Said::Beat(b) = s { Some(b.clone()) } else { None };
    bench.log.iter().filter_map(|(_, s)| beat(s)).collect()
}

pub(crate) fn hear_beat(bench: &mut Bench, from: u8, beat: &HeartbeatOut) {
    let src = SocketAddr::new(ip(&format!("192.0.2.1{from}")), 7112);
    let (path, payload) = (beat.path, &beat.payload[..]);
    bench.give(Input::Heartbeat(HeartbeatIn { path, src, payload, age: Duration::ZERO }));
}

#[test]
fn a_heartbeat_that_was_heard_before_is_not_believed_again() {
    let mut lb1 = Bench::up(&beating(""), 1);
    let mut lb2 = Bench::up(&beating(""), 2);
    lb1.run(ms(10));
    let old: Vec<_> =
        beats_of(&lb1).into_iter().filter(|b| b.to.ip() == ip("192.0.2.12")).collect();
    hear_beat(&mut lb2, 1, &old[0]);
    assert!(lb2.snapshot().peers[0].alive);
    for _ in 0..10 {
        lb2.run(ms(1000));
        hear_beat(&mut lb2, 1, &old[0]);
    }
    assert!(!lb2.snapshot().peers[0].alive);
}

#[test]
fn a_forged_heartbeat_is_refused_and_told_once() {
    let mut lb1 = Bench::up(&beating(""), 1);
    let mut lb2 = Bench::up(&beating(""), 2);
    lb1.run(ms(10));
    let mut beat = beats_of(&lb1)[0].clone();
    let at = beat.payload.len() / 2;
    beat.payload[at] ^= 1;
    for _ in 0..100 {
        hear_beat(&mut lb2, 1, &beat);
    }
    assert!(!lb2.snapshot().peers[0].alive);
    let told = lb2.events().into_iter().filter(|e| matches!(e, EventKind::Refused { .. })).count();
    assert_eq!(told, 1);
}

#[test]
fn hosts_with_different_files_are_told() {
    let mut lb1 = Bench::up(&beating(""), 1);
    let mut lb2 = Bench::up(&beating("accept = false"), 2);
    lb1.run(ms(10));
    let beat = beats_of(&lb1).into_iter().find(|b| b.to.ip() == ip("192.0.2.12")).unwrap();
    hear_beat(&mut lb2, 1, &beat);
    assert_eq!(lb2.alarms(), [Alarm::ConfigMismatch(HostIx(0))]);
}

const DUAL: &str = "addresses = [\"192.0.2.10/24\", \"fe80::a/64\"]";

#[test]
fn shared_fate_either_family_is_a_sign_of_the_owner() {
    let mut world = World::settled(&beating(DUAL), 2);
    assert_eq!(world.hosts[1].snapshot().units.len(), 1);
    // The owner's IPv4 adverts are lost; its heartbeats too.
    world.no_adverts.insert((0, 1));
    world.no_beats = World::around(0);
    for _ in 0..20 {
        world.run(ms(1000));
        world.hosts[1].hear6(1, 150);
    }
    assert_eq!(world.hosts[1].state(), State::Backup);
}

#[test]
fn shared_fate_one_claim_brings_both_families() {
    let world = World::settled(&beating(DUAL), 2);
    let lb1 = &world.hosts[0];
    assert_eq!(lb1.unit().addresses.len(), 2);
    let mut world = world;
    world.run(ms(1000));
    let families: Vec<_> = world.hosts[0].sent().iter().map(|t| t.router.family).collect();
    assert_eq!(families.len() % 2, 0);
    assert!(world.hosts[0].owns().iter().all(|(_, o)| o.instance == WEB));
}

#[test]
fn shared_fate_the_other_family_is_degraded_without_its_source() {
    let mut world = World::settled(&beating(DUAL), 2);
    let mut state = eth0(1);
    state.addrs.retain(std::net::IpAddr::is_ipv4);
    world.give(0, Input::Link { link: LinkIx(0), state });
    world.run(ms(10_000));
    assert_eq!(world.owners(), [0]);
    assert!(matches!(world.hosts[0].alarms()[..], [Alarm::FamilyDegraded(_)]));
}

#[test]
fn an_owner_that_cannot_be_told_is_waited_for_whatever_others_say() {
    let text = beating(&format!("targets = [\"{TARGET}\"]"));
    let mut world = World::settled(&text, 3);
    world.no_adverts = World::around(0);
    world.no_segment = World::around(0);
    world.no_target.insert(0);
    // It speaks, and hears nothing.
    world.no_beats = Cuts::from([(1, 0), (2, 0)]);
    let start = world.now;
    world.until(ms(20_000), |w| w.owners().len() > 1);
    // It was heard until now; M, the lease and the lateness of the kernel pass after it was asked.
    let took = world.now - start;
    assert!(took > M + M + ms(2000) + ms(1300) - ms(1000), "{took:?}");
    assert_eq!(world.owners(), [0, 1]);
}

#[test]
fn a_priority_0_of_who_does_not_own_is_no_reason_to_hurry() {
    // lb3 cleans up what an earlier agent left there; lb1 owns and is alive.
    let mut world = World::settled(&beating(""), 3);
    world.run(ms(300));
    world.hosts[1].now = world.now;
    world.hosts[1].hear(3, 0);
    world.run(ms(1));
    assert_eq!(world.owners(), [0]);
    // The skew remains: the owner's answer comes within it.
    assert!(world.hosts[1].claims_in() <= ms(610));
}

#[test]
fn a_weaker_owner_that_dies_before_it_is_preempted_lets_go_first() {
    let mut world = World::settled(&beating("advert-interval = \"100ms\""), 3);
    // lb1 loses the address by a fault and comes back: it preempts after M.
    link_down(&mut world, 0);
    world.run(ms(1000));
    assert_eq!(world.owners(), [1]);
    world.give(0, Input::Link { link: LinkIx(0), state: eth0(1) });
    world.run(ms(150));
    assert!(matches!(world.hosts[0].unit().next_claim, Some((_, Expiry::Preempts(100)))));
    world.hung.insert(1);
    for _ in 0..3000 {
        world.run(ms(1));
        assert!(world.holders().len() <= 1, "two kernels hold it at {}", world.now);
    }
    assert_eq!(world.owners(), [0]);
    assert_eq!(world.holders(), [0]);
}

#[test]
fn a_peer_that_hears_this_host_again_is_announced_to() {
    let mut world = World::settled(&beating(""), 3);
    world.run(ms(20_000));
    // Cut is the way from lb1 to the others alone: lb1 goes on hearing both.
    world.no_beats = Cuts::from([(0, 1), (0, 2)]);
    world.run(ms(10_000));
    world.forget();
    world.run(ms(5000));
    assert!(world.hosts[0].announced().is_empty());
    world.no_beats = Cuts::new();
    world.run(ms(2001));
    assert!(!world.hosts[0].announced().is_empty());
}

#[test]
fn an_old_owner_that_wakes_up_without_a_link_speaks_for_itself_alone() {
    // lb2 took over from lb1, which hangs, and hangs as well: its kernel serves the address, lb3 waits.
    let mut world = World::settled(&beating("advert-interval = \"100ms\""), 3);
    world.hung.insert(0);
    world.run(ms(3000));
    assert_eq!(world.owners(), [1]);
    world.hung.insert(1);
    world.run(ms(500));
    world.hung.remove(&0);
    link_down(&mut world, 0);
    world.run(ms(50));
    assert_eq!((world.owners(), world.holders()), (vec![], vec![1]));
}

#[test]
fn told_to_release_after_a_pause_the_preempt_delay_begins_anew() {
    let text = beating(&format!("preempt-delay = \"5s\"\ntargets = [\"{TARGET}\"]"));
    let mut world = World::settled(&text, 2);
    world.no_target.insert(0);
    world.run(ms(10_000));
    // lb2 hears lb1 over heartbeats alone and asks it to release; lb1 reads that after a pause.
    world.no_adverts = World::around(0);
    world.no_segment = World::around(0);
    world.no_beats = Cuts::from([(1, 0)]);
    world.run(ms(3000));
    world.forget();
    world.run(ms(2000));
    let asking: Vec<_> =
        beats_of(&world.hosts[1]).into_iter().filter(|b| b.to.ip() == ip("192.0.2.11")).collect();
    let lb1 = &mut world.hosts[0];
    lb1.stand_still(ms(3500));
    for beat in &asking[asking.len() - 2..] {
        hear_beat(lb1, 2, beat);
        assert_eq!(lb1.causes().last(), Some(&(State::Backup, Cause::Isolated)));
    }
    lb1.hear(2, 100);
    let next = lb1.unit().next_claim.unwrap();
    assert_eq!(next.1, Expiry::Silence, "not before it was healthy for 5 s");
}

/// Every heartbeat of `from` to host `to` that was not handed over yet.
pub(crate) fn pass_beats(from: &mut Bench, n: u8, to: &mut Bench, m: u8) {
    let addr = ip(&format!("192.0.2.1{m}"));
    for beat in beats_of(from).iter().filter(|b| b.to.ip() == addr) {
        hear_beat(to, n, beat);
    }
    from.log.clear();
}

#[test]
fn a_question_that_just_went_out_says_nothing_of_the_segment() {
    let text = beating(&format!("targets = [\"{TARGET}\"]"));
    let (mut lb1, mut lb2) = (Bench::up(&text, 1), Bench::owner(&text, 2));
    lb2.run(ms(1000));
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    // Both reach the target; lb1 sleeps, wakes up and preempts; the word of lb2 that it owns crosses the advert.
    lb1.run(ms(500));
    lb1.neighbour(TARGET, mac(99), true);
    lb2.neighbour(TARGET, mac(99), true);
    lb1.stand_still(ms(3000));
    lb1.hear(2, 100);
    lb1.give(Input::Timeout);
    assert_eq!(lb1.causes().last(), Some(&(State::Active, Cause::Preempts(100))));
    assert!(lb1.probes().iter().any(|(_, p)| p.addr == ip(TARGET)));
    lb2.run(ms(1000));
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    assert_eq!(lb1.state(), State::Active, "the answer is on its way");
    // Without an answer for long enough it is the one that is cut off.
    lb1.run(ms(20));
    for _ in 0..200 {
        lb2.neighbour(TARGET, mac(99), true);
        lb2.run(ms(5));
    }
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    assert_eq!(lb1.causes().last(), Some(&(State::Backup, Cause::Settled(HostIx(1)))));
}

#[test]
fn addresses_that_a_winner_gives_back_during_the_overlap_never_go() {
    let (mut lb1, mut lb2) = (Bench::up(&beating(""), 1), Bench::owner(&beating(""), 2));
    lb1.orders = Orders::Pending;
    lb1.become_owner();
    lb1.run(ms(1000));
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    assert_eq!((lb2.state(), lb2.frees()), (State::Backup, vec![]), "until lb1 has them");
    // lb1 yields before its kernel has them.
    lb1.hear(3, 254);
    assert_eq!(lb1.state(), State::Backup);
    pass_beats(&mut lb1, 1, &mut lb2, 2);
    lb2.run(ms(1000));
    assert_eq!((lb2.state(), lb2.frees()), (State::Active, vec![]));
}

#[test]
fn who_stood_still_tells_its_peers_nothing_before_it_has_read() {
    let (mut lb1, mut lb2) = (Bench::owner(&beating(""), 1), Bench::up(&beating(""), 2));
    // Its heartbeat is due before its advert.
    lb1.run(ms(100));
    lb1.log.clear();
    lb1.stand_still(ms(10_000));
    lb2.run(ms(10));
    pass_beats(&mut lb2, 2, &mut lb1, 1);
    assert!(lb1.snapshot().peers[0].alive);
    assert!(beats_of(&lb1).is_empty(), "it would say that it owns");
    lb1.give(Input::Timeout);
    assert_eq!(lb1.state(), State::Backup);
    assert!(!beats_of(&lb1).is_empty());
    for beat in beats_of(&lb1).iter().filter(|b| b.to.ip() == ip("192.0.2.12")) {
        hear_beat(&mut lb2, 1, beat);
        assert_eq!(lb2.unit().owner_host, None, "not even for a moment");
    }
}

#[test]
fn an_interface_that_carries_again_asks_where_the_heartbeat_paths_lead() {
    let text =
        beating("").replace("192.0.2.1", "2001:db8::1").replace("2001:db8::10/24", "192.0.2.10/24");
    let six = |n: u8| LinkState {
        addrs: [eth0(n).addrs, vec![ip(&format!("2001:db8::1{n}"))]].concat(),
        ..eth0(n)
    };
    let mut lb1 = Bench::up(&text, 1);
    lb1.give(Input::Link { link: LinkIx(0), state: LinkState { running: false, ..six(1) } });
    lb1.log.clear();
    lb1.give(Input::Link { link: LinkIx(0), state: six(1) });
    let asked: Vec<_> = lb1.probes().into_iter().map(|(_, p)| (p.addr, p.to, p.source)).collect();
    let of = |peer: &str| (ip(peer), None, Some(ip("fe80::11")));
    assert_eq!(asked, [of("2001:db8::12"), of("2001:db8::13")], "not those of other networks");
    // Their answers are those of hosts of the group: no target, by which anybody would know which side is cut off.
    lb1.give(Input::Neighbour(NeighbourIn {
        link: LinkIx(0),
        addr: ip("2001:db8::12"),
        mac: mac(2),
        reply: true,
    }));
    lb1.log.clear();
    lb1.run(ms(1500));
    assert!(lb1.probes().iter().all(|(_, p)| p.addr != ip("2001:db8::12")), "asked as a target");
}
