//! Networks that break and join again, many times: no client is left without an owner.

use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use crate::judge::{EYE, HEAL};
use libtest_mimic::Trial;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::faults::Side;
use vipd_agent::lab::plan::{Families, Heartbeats, MacMode, Plan};
use vipd_agent::lab::topology::Net;

/// Probes that leave later than this after a heal must all be answered.
const WATCH: Duration = Duration::from_millis(500);

pub(crate) fn trials() -> Vec<Trial> {
    let ms = Duration::from_millis;
    let cases = [
        ("10ms", Plan { interval: ms(10), ..Plan::default() }),
        ("100ms/dual", Plan { interval: ms(100), families: Families::Dual, ..Plan::default() }),
        ("100ms/virtual", Plan { interval: ms(100), mac: MacMode::Virtual, ..Plan::default() }),
        ("100ms/plain", Plan { interval: ms(100), heartbeats: Heartbeats::Off, ..Plan::default() }),
    ];
    cases
        .into_iter()
        .map(|(name, plan)| {
            Trial::test(format!("heal/{name}/no_black_hole"), move || {
                no_black_hole(plan);
                Ok(())
            })
        })
        .collect()
}

/// Cut off on every network, both hosts own; joined, one yields, and the client reaches the other within a second,
/// whichever side it was on and however late its neighbour entry was.
fn no_black_hole(plan: Plan) {
    let mut arena = Arena::elected(plan);
    let mut worst = Duration::ZERO;
    for round in 1..=if is_long() { 100 } else { 5 } {
        arena.stage.partition(&[FIRST], &Net::ALL).unwrap();
        if round % 2 == 0 {
            arena.stage.room_mut().set_client_side(Side::Island).unwrap();
        }
        let both = arena.stage.eyes().wait(arena.bound(), |seen| {
            arena.stage.plan().vips().iter().all(|vip| seen.holders(*vip) == [FIRST, SECOND])
        });
        assert!(both.is_some(), "{round}: nobody claims behind the cut\n{}", arena.stage.logs(20));
        // Both have told their side; the client knows one of them.
        wait(Duration::from_millis(100 * (round % 4)));
        let healed = arena.stage.heal().unwrap();
        let one = arena.stage.wait(arena.bound(), |holders| holders.len() == 1);
        let one = one.unwrap_or_else(|| panic!("{round}: two stay\n{}", arena.stage.logs(20)));
        wait(HEAL.saturating_sub(now().since(healed)));
        let judged = now();
        wait(WATCH);
        let late = arena.outage(judged);
        assert_eq!(late.lost, 0, "{round}: black hole after a heal\n{}", arena.stage.logs(20));
        assert!(arena.stage.owner().is_some(), "{round}: {}", arena.stage.logs(20));
        let hole = arena.stage.outages(healed, judged).iter().map(|o| o.longest_gap).max();
        worst = worst.max(hole.unwrap_or_default());
        println!(
            "\n  {round}: one owner after {:.1} ms, outage {:.1} ms",
            millis(one.since(healed)),
            millis(hole.unwrap_or_default())
        );
        let after = arena.two_owners(one);
        assert!(
            after <= EYE.max(crate::judge::HANDOVER),
            "{round}: two owners again for {after:?}"
        );
        // The next cut begins like the first one.
        arena.wait_owner(FIRST);
        arena.calm();
    }
    println!("\n  longest outage after a heal {:.1} ms", millis(worst));
    arena.close();
}
