//! Kernels that are busy: one lock guards all network changes of a machine, and others hold it for a while. Moves, drains,
//! stops and starts lose nothing all the same.
//!
//! Rooms share one kernel, so the lock is held against all hosts at once, also against the source. It is held by a machine
//! beside them that takes down bridges, each of which lets the kernel wait with the lock in its hand; no processor is kept
//! from anybody.

use crate::arena::{Arena, is_long};
use crate::judge;
use crate::moves::ACTS;
use libtest_mimic::Trial;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now, sleep_until};
use vipd_agent::lab::netns::Netns;
use vipd_agent::lab::plan::{Families, MacMode, Plan};

/// For so long the lock is held at each act, as far as the machine keeps its pace: longer than an owner at 10 ms used to
/// wait for its successor's kernel before it went, or than the overlap.
const BUSY: Duration = Duration::from_millis(330);
/// An act whose lock was held for longer than this, or hardly, proves nothing: a lease at 10 ms is a second.
const JUDGED: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(200)..=Duration::from_millis(420);
/// Bridges that are taken down to see how long one takes.
const TRIED: u32 = 5;

pub(crate) fn trials() -> Vec<Trial> {
    let variants = [
        ("10ms/v4/virtual", 10, Families::V4, MacMode::Virtual),
        ("10ms/v6/plain", 10, Families::V6, MacMode::Interface),
        ("100ms/v4/plain", 100, Families::V4, MacMode::Interface),
    ];
    let trial = |(name, ms, families, mac)| {
        let interval = Duration::from_millis(ms);
        let plan = Plan { interval, families, mac, ..Plan::default() };
        Trial::test(format!("busy/{name}/lose_nothing"), move || {
            lose_nothing(plan);
            Ok(())
        })
    };
    variants.into_iter().map(trial).collect()
}

fn lose_nothing(plan: Plan) {
    let rounds = if is_long() { 50 } else { 2 };
    let neighbour = Netns::new("beside").unwrap();
    let mut arena = Arena::elected(plan);
    let mut bridges = enough(TRIED, hold(&neighbour, TRIED, Duration::ZERO).join().unwrap());
    println!("\n  {bridges} bridges hold the lock for {:.0} ms", millis(BUSY));
    let (mut bad, mut judged) = (Vec::new(), 0);
    for round in 1..=rounds {
        for (act, on, owner) in ACTS {
            let at = now();
            // An agent that starts needs the lock as well.
            let after = Duration::from_millis(if act == "start" { 30 } else { 0 });
            let busy = hold(&neighbour, bridges, after);
            let words: &[&str] = match act {
                "move" => &["move", "web", "--wait", "--reason", "trial"],
                "failback" => &["failback", "web", "--wait"],
                other => &[other, "--wait"],
            };
            let told = match act {
                "stop" => arena.stage.stop(on).map(|_| None).unwrap(),
                "start" => arena.stage.start(on).map(|_| None).unwrap(),
                _ => Some(arena.order(on, words)).filter(|told| told.code != 0),
            };
            let held = busy.join().unwrap();
            if let Some(told) = told {
                // Where it was held for too long, it stays where it was.
                assert!(!JUDGED.contains(&held), "{act}, held for {held:?}: {}", told.text);
                arena.done(on, words);
            }
            let took = arena.wait_owner(owner).since(at);
            bridges = enough(bridges, held);
            arena.calm();
            let seen = arena.outage(at);
            println!(
                "  {round} {act}: moved in {:.1} ms, the lock was held for {:.0} ms, lost {} of {}",
                millis(took),
                millis(held),
                seen.lost,
                seen.sent
            );
            if !JUDGED.contains(&held) {
                continue;
            }
            judged += 1;
            if judge::lost(&seen) > 0 {
                bad.push(format!("{round} {act}: {seen:?}"));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}\n{}", arena.stage.logs(60));
    if judged * 2 < rounds * ACTS.len() {
        println!(
            "  SKIPPED: the lock is not held here for as long as asked: {judged} acts were judged"
        );
    }
    arena.close();
}

/// So many bridges hold the lock for [`BUSY`], where that many held it for so long.
fn enough(bridges: u32, held: Duration) -> u32 {
    let wanted = u128::from(bridges) * BUSY.as_nanos() / held.as_nanos().max(1);
    u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, 500)
}

/// Holds the lock with so many bridges, `after` so long; how long that was.
fn hold(neighbour: &Netns, bridges: u32, after: Duration) -> JoinHandle<Duration> {
    let holding = move || {
        let words: String =
            (0..bridges).map(|n| format!("link add name b{n} group 7 type bridge\n")).collect();
        let batch = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn();
        let mut batch = batch.unwrap();
        batch.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        assert!(batch.wait().unwrap().success(), "no bridges");
        Ok(std::thread::spawn(move || {
            sleep_until(now() + after);
            let from = now();
            let done = Command::new("ip").args(["link", "del", "group", "7"]).status();
            assert!(done.unwrap().success(), "bridges stay");
            now().since(from)
        }))
    };
    // A thread of that machine, which is where its program runs.
    neighbour.run(holding).unwrap()
}
