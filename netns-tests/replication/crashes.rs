//! Hosts that lose their power, and replicators that are killed: what is lost is what the gauge said, a tree is whole or it
//! is not there, and a host whose copy is too old does not claim.

use super::files::{Writer, find, records, snapshot};
use super::{SOON, elected, plan, without_files};
use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use std::fs;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};

/// What the standby lacks counts on while nobody asks. Where it lacked nothing the replicator tells of a change with its
/// next look, 50 ms later at most; and twice as much for the way on a slow machine.
const REPORTED: Duration = Duration::from_millis(150);

pub(super) fn a_crash_loses_no_more_than_the_gauge_said() {
    let rounds = if is_long() { 100 } else { 5 };
    let mut worst = Duration::ZERO;
    let mut arena = elected(plan(""));
    let (mut total, mut unknown) = (0, 0);
    for round in 1..=rounds {
        let mut writer = Writer::start(&arena.files(FIRST), total, Duration::from_millis(2));
        wait(Duration::from_millis(500 + 37 * (round % 20)));
        // The last word before the crash, and what was acknowledged by then.
        let set = arena.set(FIRST);
        let asked = now();
        let rpo = set["rpo_ms"].as_u64().map(Duration::from_millis);
        unknown += u32::from(rpo.is_none());
        let there = records(&arena.files(SECOND));
        let at = arena.stage.power_off(FIRST).unwrap();
        writer.quiesce();
        let times = writer.times.lock().unwrap().clone();
        arena.wait_owner(SECOND);
        wait(Duration::from_millis(300));
        let found = records(&arena.files(SECOND));
        assert!(found >= there, "round {round}: {found} of {there} records that were there");
        // The first record that is missing was written at ...
        let first = usize::try_from(found - total).unwrap();
        let missing = times.get(first).filter(|written| **written <= at);
        let age = missing.map_or(Duration::ZERO, |written| at.since(*written));
        worst = worst.max(age);
        // ... and the gauge, asked at `asked`, spoke of what was then missing.
        let said = rpo.map(|rpo| rpo + at.since(asked) + REPORTED);
        assert!(
            said.is_none_or(|said| age <= said),
            "round {round}: {age:?} are missing, the gauge said {rpo:?}\n{}",
            arena.stage.logs(30)
        );
        arena.stage.power_on(FIRST).unwrap();
        // The stronger one takes the address back when it has what the other has; what it had alone is kept.
        arena.wait_owner(FIRST);
        arena.wait_sync(FIRST);
        total = records(&arena.files(FIRST));
        assert_eq!(total, found, "round {round}: the new owner's records are everywhere");
    }
    println!("\n  {rounds} crashes: at most {:.0} ms of records were missing", millis(worst));
    assert_eq!(unknown, 0, "rounds in which the gauge said nothing");
    arena.close();
}

pub(super) fn a_stale_host_does_not_claim() {
    let more = "promote-gate = \"require\"\nmax-age = \"3s\"\n";
    let plan = plan(more);
    without_files(&plan);
    let mut arena = Arena::open(plan);
    for ix in [FIRST, SECOND] {
        arena.stage.start(ix).unwrap();
    }
    // Nobody has a copy of anything yet: an operator says who begins.
    let limit = now() + SOON;
    while arena.order(FIRST, &["promote", "web", "--accept-data-loss", "--wait", "5s"]).code != 0 {
        assert!(now() < limit, "nobody begins\n{}", arena.stage.logs(20));
        wait(Duration::from_millis(200));
    }
    arena.wait_owner(FIRST);
    arena.wait_sync(FIRST);
    arena.stage.replicator_mut(SECOND).stop().unwrap();
    wait(Duration::from_secs(5));
    arena.stage.power_off(FIRST).unwrap();
    wait(arena.bound());
    let vip = arena.stage.plan().vips()[0];
    let holders = arena.stage.eyes().holders(vip);
    assert!(holders.is_empty(), "a stale host claims: {holders:?}\n{}", arena.stage.logs(20));
    let why = arena.order(SECOND, &["why", "web"]).text;
    assert!(why.contains("replica"), "{why}");
    // An operator may.
    let text = arena.order(SECOND, &["promote", "web", "--accept-data-loss", "--wait"]).text;
    arena.stage.wait(arena.bound(), |holders| holders == [SECOND]).unwrap_or_else(|| {
        panic!("{text}\n{}", arena.stage.logs(30));
    });
    arena.stage.power_on(FIRST).unwrap();
    arena.close();
}

pub(super) fn replicators_that_die_at_any_moment() {
    let mut arena = elected(plan(""));
    let rounds = if is_long() { 100 } else { 8 };
    let mut writer = Writer::start(&arena.files(FIRST), 0, Duration::from_millis(5));
    let noise: Vec<u8> =
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let mut random = 0x9e37_79b9_u64;
    for round in 0..rounds {
        let mut large = noise.clone();
        large.rotate_left(round * 1000 + 1);
        fs::write(arena.files(FIRST).join("large"), large).unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        wait(Duration::from_millis((random >> 33) % 400));
        let victim = if round % 2 == 0 { FIRST } else { SECOND };
        arena.stage.replicator_mut(victim).kill().unwrap();
        // What is there is a tree, whole: records without a gap.
        records(&arena.files(SECOND));
        wait(Duration::from_millis((random >> 40) % 300));
        arena.stage.start_replicator(victim).unwrap();
    }
    let written = writer.quiesce();
    let limit = now() + SOON * 2;
    while records(&arena.files(SECOND)) < written {
        assert!(now() < limit, "records are missing\n{}", arena.stage.logs(30));
        wait(Duration::from_millis(20));
    }
    arena.wait_sync(FIRST);
    assert_eq!(snapshot(&arena.files(FIRST)), snapshot(&arena.files(SECOND)));
    let left = arena.files(SECOND).join(".vipd/stage");
    let staged = find(&left);
    assert!(staged.is_empty(), "left in the stage: {staged:?}");
    println!("\n  {rounds} kills, {written} records, both hosts alike");
    arena.close();
}
