//! Each ownership has a number above every one that was used or heard of, over restarts and lost disks too.

use super::*;
use crate::bench::{ETH0, VIP, eth0, ip};
use vipd_core::engine::io::{Alarm, KernelAddr};
use vipd_core::types::{Epoch, State};

/// What a living kernel kept of an agent that died a moment ago.
fn kept() -> KernelAddr {
    KernelAddr { addr: ip(VIP), prefix_len: 32, ours: true, age: ms(100), valid_for: Some(secs(2)) }
}

fn come_up(world: &mut World, n: u8, mut agent: Bench, present: &[KernelAddr]) {
    agent.give(Input::Link { link: ETH0, state: eth0(n) });
    agent.give(Input::Addresses { link: ETH0, present });
    world.replace(usize::from(n) - 1, agent);
}

#[test]
fn numbers_are_reserved_ahead_and_the_claim_waits_for_no_disk() {
    let text = beating(&set("prefer"));
    let mut lb1 = Bench::up(&text, 1);
    let reserved = lb1.stored().epoch.reserved;
    assert!(reserved >= 32, "asked for at the start: {reserved}");
    let result = Err("read-only file system".into());
    lb1.give(Input::Stored { instance: WEB, reserved, result });
    assert!(lb1.alarms().contains(&Alarm::StateUnwritable));
    lb1.become_owner();
    assert!(lb1.unit().epoch.number <= reserved);
    lb1.give(Input::Stored { instance: WEB, reserved, result: Ok(()) });
    assert!(!lb1.alarms().contains(&Alarm::StateUnwritable));
}

#[test]
fn under_require_no_number_is_used_that_is_not_reserved() {
    let mut lb1 = Bench::up(&beating(&set("require")), 1);
    lb1.give(copy(Some(Duration::ZERO)));
    let reserved = lb1.stored().epoch.reserved;
    lb1.give(Input::Stored { instance: WEB, reserved, result: Err("no space left".into()) });
    lb1.run(secs(20));
    assert_eq!(lb1.state(), State::Backup);
    lb1.give(Input::Stored { instance: WEB, reserved, result: Ok(()) });
    lb1.run(secs(2));
    assert_eq!(lb1.state(), State::Active);
}

#[test]
fn a_start_goes_on_above_everything_that_may_have_been_used() {
    let mut world = stateful("prefer", |_| {});
    let (before, memory) =
        (world.hosts[0].unit().epoch, Memory { epoch: record(70, None), ..Memory::default() });
    assert!(before.number < 70);
    world.off.extend([1, 2]);
    let agent = started(&world, 1, "prefer", memory);
    come_up(&mut world, 1, agent, &[]);
    world.run(secs(10));
    assert_eq!(world.hosts[0].unit().epoch.number, 71);
    assert!(world.hosts[0].stored().epoch.reserved > 71 + 32);
}

fn record(reserved: u64, owned: Option<Epoch>) -> vipd_core::engine::io::EpochRecord {
    vipd_core::engine::io::EpochRecord { reserved, owned, ..Default::default() }
}

#[test]
fn adoption_after_a_crash_keeps_the_epoch() {
    let mut world = stateful("prefer", |_| {});
    let epoch = world.hosts[0].unit().epoch;
    // As after a claim: the newest memory has it.
    let memory = Memory { epoch: record(64, Some(epoch)), ..Memory::default() };
    let agent = started(&world, 1, "prefer", memory);
    come_up(&mut world, 1, agent, &[kept()]);
    world.run(secs(5));
    assert_eq!(world.owners(), [0]);
    assert_eq!((world.hosts[0].unit().epoch, world.hosts[1].role().epoch), (epoch, epoch));
    // Without its addresses it is another ownership.
    let agent = started(
        &world,
        1,
        "prefer",
        Memory { epoch: record(64, Some(epoch)), ..Memory::default() },
    );
    come_up(&mut world, 1, agent, &[]);
    world.run(secs(8));
    let owner = world.owners()[0];
    assert!(world.hosts[owner].unit().epoch > epoch);
}

#[test]
fn a_claim_is_stored_with_its_epoch() {
    let mut lb1 = Bench::up(&beating(&set("prefer")), 1);
    lb1.give(copy(Some(Duration::ZERO)));
    lb1.run(secs(6));
    assert_eq!(lb1.stored().epoch.owned, Some(lb1.unit().epoch));
}

/// The address is moved away from lb1 and back, `rounds` times; what lb1 has then claimed under.
fn moved_and_back(rounds: usize) -> (World, Epoch) {
    let mut world = stateful("prefer", |_| {});
    for n in [1, 0].repeat(rounds) {
        let from = world.owners()[0];
        world.give(from, crate::fit::of_web(crate::replica::barrier::to(n)));
        world.run(ms(100));
        let (ix, order, _) = world.hosts[from].barriers()[0];
        world.give(from, Input::BarrierDone { instance: ix, order, result: Ok(()) });
        world.run(secs(2));
        fresh(&mut world);
        world.forget();
    }
    assert_eq!(world.owners(), [0]);
    let epoch = world.hosts[0].unit().epoch;
    (world, epoch)
}

/// Ownerships under which a host said that it pushes.
fn pushed(agent: &Bench) -> Vec<Epoch> {
    let roles = agent.events().into_iter().filter_map(|e| match e {
        EventKind::Role(role) if role.owns => Some(role.epoch),
        _ => None,
    });
    roles.collect()
}

#[test]
fn an_adopted_ownership_that_the_disk_forgot_is_learnt_from_the_peers() {
    let (mut world, epoch) = moved_and_back(2);
    assert!(epoch.number >= 5, "{epoch}");
    let agent = started(&world, 1, "prefer", Memory::default());
    come_up(&mut world, 1, agent, &[kept()]);
    world.run(secs(5));
    assert_eq!(world.owners(), [0]);
    assert_eq!(world.hosts[0].unit().epoch, epoch, "this very ownership");
    assert!(world.hosts[0].role().owns);
}

/// Killed while its disk stored nothing, an owner finds the ownership there that it had before the last one: nothing is
/// pushed under that.
#[test]
fn an_adopted_ownership_is_not_taken_for_the_one_before() {
    let (mut world, epoch) = moved_and_back(1);
    let before = Epoch { number: epoch.number - 2, host: epoch.host };
    let memory = Memory { epoch: record(64, Some(before)), ..Memory::default() };
    let agent = started(&world, 1, "prefer", memory);
    come_up(&mut world, 1, agent, &[kept()]);
    assert_eq!(world.owners(), [0]);
    world.run(secs(5));
    assert_eq!((world.owners(), pushed(&world.hosts[0])), (vec![0], vec![epoch]));
}

/// With nobody there who knows, it goes on under a number that no ownership can have had.
#[test]
fn an_adopted_ownership_that_nobody_knows_takes_a_number_of_its_own() {
    for gate in ["prefer", "require"] {
        let mut world = stateful("prefer", |_| {});
        let before = world.hosts[0].unit().epoch;
        world.off.extend([1, 2]);
        let memory = Memory { epoch: record(64, Some(before)), ..Memory::default() };
        let agent = started(&world, 1, gate, memory);
        come_up(&mut world, 1, agent, &[kept()]);
        world.run(secs(5));
        let own = Epoch { number: 65, host: before.host };
        // Where numbers have to be reserved it waits for its disk as well.
        let waits = gate == "require";
        assert_eq!(pushed(&world.hosts[0]), if waits { vec![] } else { vec![own] }, "{gate}");
        confirm(&mut world);
        world.run(secs(2));
        assert_eq!((world.owners(), pushed(&world.hosts[0])), (vec![0], vec![own]), "{gate}");
    }
}

#[test]
fn an_owner_whose_disk_forgot_goes_above_what_a_returning_peer_knows() {
    let mut world = stateful("prefer", |_| {});
    world.off.insert(2);
    let memory =
        Memory { epoch: record(164, Some(Epoch { number: 100, host: 1 })), ..Memory::default() };
    let agent = started(&world, 2, "prefer", memory);
    come_up(&mut world, 2, agent, &[]);
    world.run(secs(5));
    assert_eq!(world.owners(), [0]);
    assert_eq!(world.hosts[0].unit().epoch.number, 101);
    let role = world.hosts[1].role();
    assert_eq!((role.owns, role.owner, role.epoch.number), (false, Some(HostIx(0)), 101));
}

#[test]
fn what_a_peer_said_once_counts_though_it_has_forgotten_it() {
    let mut world = stateful("prefer", |_| {});
    world.off.insert(0);
    world.run(secs(6));
    assert_eq!(world.owners(), [1]);
    let second = world.hosts[1].unit().epoch;
    // Killed before its disk took the claim, and gone for good soon after.
    let agent = started(&world, 2, "prefer", Memory::default());
    come_up(&mut world, 2, agent, &[]);
    world.run(ms(1500));
    world.off.insert(1);
    world.run(secs(8));
    assert_eq!(world.owners(), [2]);
    let third = world.hosts[2].unit().epoch;
    assert!(third.number > second.number, "{third} above {second}");
}

#[test]
fn who_starts_passes_on_what_it_heard_before() {
    let mut world = stateful("prefer", |_| {});
    let heard = Epoch { number: 100, host: 1 };
    let epoch = vipd_core::engine::io::EpochRecord { heard, ..record(164, None) };
    // The host that owned then is not there any more.
    world.off.insert(1);
    let agent = started(&world, 3, "prefer", Memory { epoch, ..Memory::default() });
    come_up(&mut world, 3, agent, &[]);
    world.run(secs(5));
    assert_eq!(world.owners(), [0]);
    assert_eq!(world.hosts[0].unit().epoch.number, 101);
    assert_eq!(world.hosts[2].role().epoch, world.hosts[0].unit().epoch);
}

#[test]
fn after_a_dual_active_the_winner_goes_above_both_and_the_loser_knows() {
    let mut world = stateful("prefer", |_| {});
    let first = world.hosts[0].unit().epoch;
    let cut = World::around(0);
    (world.no_adverts, world.no_beats, world.no_segment) = (cut.clone(), cut.clone(), cut);
    world.run(secs(10));
    assert_eq!(world.owners(), [0, 1]);
    let second = world.hosts[1].unit().epoch;
    assert!(second > first);
    assert!(world.hosts[0].role().owns && world.hosts[1].role().owns, "neither can know");
    world.forget();
    (world.no_adverts, world.no_beats, world.no_segment) = Default::default();
    world.run(secs(5));
    let owner = world.owners()[0];
    assert_eq!(world.owners().len(), 1);
    let epoch = world.hosts[owner].unit().epoch;
    assert!(epoch > first.max(second), "{epoch} above {first} and {second}");
    for host in &world.hosts {
        let role = host.role();
        assert_eq!((role.owner, role.epoch), (Some(HostIx(owner as u8)), epoch));
    }
    // From the moment at which both knew of each other nobody pushed under one of the old numbers.
    for host in &world.hosts {
        let pushes = host.events().into_iter().filter_map(|e| match e {
            EventKind::Role(role) if role.owns => Some(role.epoch),
            _ => None,
        });
        assert!(pushes.into_iter().all(|pushed| pushed > first), "{}", host.now);
    }
}

#[test]
fn who_knows_of_a_living_owner_with_a_newer_epoch_does_not_push() {
    let mut world = stateful("prefer", |_| {});
    let cut = World::around(0);
    (world.no_adverts, world.no_beats, world.no_segment) = (cut.clone(), cut.clone(), cut);
    world.run(secs(10));
    assert_eq!(world.owners(), [0, 1]);
    // Heartbeats of the newer owner arrive, but nothing is settled by them yet: its word alone takes the role away.
    world.no_beats.clear();
    world.forget();
    world.run(ms(1500));
    let roles: Vec<bool> = world.hosts.iter().map(|host| host.role().owns).collect();
    assert!(roles.iter().filter(|owns| **owns).count() <= 1, "{roles:?}");
}

#[test]
fn roles_are_told_when_they_change_and_only_then() {
    let mut world = stateful("prefer", |_| {});
    world.run(secs(20));
    let told = |world: &World, host: usize| {
        let events = world.hosts[host].events().into_iter();
        events
            .filter_map(|e| if let EventKind::Role(role) = e { Some(role) } else { None })
            .collect::<Vec<_>>()
    };
    assert!((0..3).all(|host| told(&world, host).is_empty()));
    world.off.insert(0);
    world.run(secs(6));
    let mine = told(&world, 1);
    let last = mine.last().expect("it owns now");
    assert_eq!(
        (last.owns, last.owner, last.epoch),
        (true, Some(HostIx(1)), world.hosts[1].unit().epoch)
    );
    let theirs = told(&world, 2);
    assert_eq!(theirs.last().map(|r| (r.owns, r.owner)), Some((false, Some(HostIx(1)))));
}

/// A reload, or a start with another file, shifts the positions of hosts: an ownership is still that of the same host.
#[test]
fn hosts_that_come_before_this_one_in_the_file_do_not_change_whose_an_epoch_is() {
    let mut world = stateful("prefer", |_| {});
    let (epoch, before) = (world.hosts[0].unit().epoch, world.hosts[0].model.clone());
    let host = "[hosts.aaa]\npaths = [\"192.0.2.19\", \"10.9.0.19\"]\n";
    let more = beating(&set("prefer")).replacen("[hosts.lb1]", &format!("{host}[hosts.lb1]"), 1);
    for host in 0..3 {
        world.reload(host, &more);
    }
    world.run(secs(5));
    let model = world.hosts[0].model.clone();
    assert_eq!((before.host, model.host), (HostIx(0), HostIx(1)));
    for n in 0..3 {
        assert_eq!(model.epoch_host(HostIx(n + 1)), before.epoch_host(HostIx(n)));
    }
    assert_eq!((world.owners(), world.hosts[0].unit().epoch), (vec![0], epoch));
    assert!(world.hosts[0].role().owns);
    // Killed now, its next start goes on with what it was, by the number on its disk.
    let memory = Memory { epoch: record(64, Some(epoch)), ..Memory::default() };
    let mut agent = Bench::of(crate::bench::model(&more, "lb1"), 1, vec![]);
    agent.restart_at(world.now, world.now.as_nanos() / 1_000_000);
    agent.engine.recall(Some(WEB), memory);
    come_up(&mut world, 1, agent, &[kept()]);
    world.run(secs(5));
    assert_eq!((world.owners(), world.hosts[0].unit().epoch), (vec![0], epoch));
}
