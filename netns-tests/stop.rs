//! Planned moves: a clean stop and the way back lose nothing, towards vipd and towards keepalived.

use crate::arena::{Arena, FIRST, SECOND, is_long};
use crate::judge;
use libtest_mimic::Trial;
use std::process::Command;
use std::time::Duration;
use vipd_agent::lab::agent::{Agent, Kind};
use vipd_agent::lab::clock::millis;
use vipd_agent::lab::plan::{Families, Heartbeats, MacMode, Plan};
use vipd_core::time::Instant;

pub(crate) fn trials() -> Vec<Trial> {
    let ms = Duration::from_millis;
    let cases = [
        ("100ms/dual", Plan { interval: ms(100), families: Families::Dual, ..Plan::default() }),
        ("100ms/virtual", Plan { interval: ms(100), mac: MacMode::Virtual, ..Plan::default() }),
        ("10ms/v6", Plan { interval: ms(10), families: Families::V6, ..Plan::default() }),
    ];
    let mut trials: Vec<_> = cases
        .into_iter()
        .map(|(name, plan)| {
            Trial::test(format!("stop/{name}/stop_and_failback_lose_nothing"), move || {
                stop_and_failback(plan);
                Ok(())
            })
        })
        .collect();
    let missing = Command::new("keepalived").arg("--version").output().is_err();
    for (name, families, interval) in [
        ("1s/v4", Families::V4, Duration::from_secs(1)),
        ("100ms/v4", Families::V4, ms(100)),
        ("100ms/v6", Families::V6, ms(100)),
    ] {
        let trial =
            Trial::test(format!("stop/{name}/towards_keepalived_loses_nothing"), move || {
                towards_keepalived(families, interval);
                Ok(())
            });
        trials.push(trial.with_ignored_flag(missing));
    }
    trials
}

fn stop_and_failback(plan: Plan) {
    let mut arena = Arena::elected(plan);
    let mut bad = Vec::new();
    for round in 1..=if is_long() { 100 } else { 5 } {
        for (what, owner) in [("stop", SECOND), ("failback", FIRST)] {
            let at = match owner {
                SECOND => arena.stage.stop(FIRST).unwrap(),
                _ => arena.stage.start(FIRST).unwrap(),
            };
            let took = arena.wait_owner(owner).since(at);
            arena.calm();
            let seen = arena.outage(at);
            println!(
                "\n  {round} {what}: moved in {:.1} ms, lost {} of {}, slowest answer {:.1} ms",
                millis(took),
                seen.lost,
                seen.sent,
                millis(seen.slowest)
            );
            if judge::lost(&seen) > 0 {
                bad.push(format!("{round} {what}: {} lost", seen.lost));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:?}\n{}", arena.stage.logs(20));
    arena.close();
}

/// An unmodified keepalived is told by a last advert of priority 1 and announces once more itself.
fn towards_keepalived(families: Families, interval: Duration) {
    let plan = Plan { families, interval, heartbeats: Heartbeats::Off, ..Plan::default() };
    // Its checksum of version 3 over IPv4 covers a pseudo-header.
    let told = Plan { instance_extra: "checksum = \"rfc5798\"".into(), ..plan.clone() };
    let mut arena = Arena::open(told);
    let foreign = Agent::prepare(Kind::Keepalived, &plan, SECOND).unwrap();
    *arena.stage.agent_mut(SECOND) = foreign;
    arena.elect();
    // keepalived needs a moment from its start to its first look at the network.
    crate::arena::wait(Duration::from_secs(1));
    let at = arena.stage.stop(FIRST).unwrap();
    arena.wait_owner(SECOND);
    arena.calm();
    let seen = arena.outage(at);
    let after = |then: Instant| format!("{:.1}", millis(then.since(at)));
    let path: Vec<_> = seen.path.iter().map(|(then, mac)| (after(*then), *mac)).collect();
    println!(
        "\n  lost {} of {} from {:?}, answered {path:?}",
        seen.lost,
        seen.sent,
        seen.start.map(after)
    );
    // keepalived announces an IPv6 address about a millisecond before its kernel serves it: that moment is its own.
    let allowed = if families == Families::V4 { 0 } else { 20 };
    assert!(judge::lost(&seen) <= allowed, "{seen:?}\n{}", arena.stage.logs(20));
    arena.stage.stop(SECOND).unwrap();
    arena.close();
}
