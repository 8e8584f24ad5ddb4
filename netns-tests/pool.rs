//! Twelve addresses on three hosts: an even share each, on two when one is gone, and no address moves for nothing.

use crate::arena::Arena;
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::{Heartbeats, Plan, Pool, Preempt};
use vipd_core::time::Instant;

const ADDRESSES: u8 = 12;
const HOSTS: usize = 3;

pub(crate) fn trials() -> Vec<Trial> {
    let each = [("heartbeats", Heartbeats::TwoPaths), ("plain", Heartbeats::Off)];
    each.into_iter()
        .map(|(word, heartbeats)| {
            Trial::test(format!("pool/{word}/12_addresses_on_3_hosts"), move || {
                shared_out(heartbeats);
                Ok(())
            })
        })
        .collect()
}

fn shared_out(heartbeats: Heartbeats) {
    let mut arena = Arena::open(Plan {
        hosts: HOSTS,
        vrid: 100,
        pool: Some(Pool { addresses: ADDRESSES }),
        preempt: Preempt::After(Duration::from_secs(1)),
        heartbeats,
        ..Plan::default()
    });
    arena.stage.start_all().unwrap();
    wait_shares(&arena, [4, 4, 4], Duration::from_secs(60));
    for gone in 0..HOSTS {
        let before = owners(&arena);
        let at = arena.stage.power_off(gone).unwrap();
        let mut shares = [6; HOSTS];
        shares[gone] = 0;
        wait_shares(&arena, shares, arena.bound());
        arena.calm();
        judge(&arena, at, &before, |owner| owner == gone);
        let before = owners(&arena);
        let at = arena.stage.power_on(gone).unwrap();
        wait_shares(&arena, [4, 4, 4], Duration::from_secs(60));
        arena.calm();
        let after = owners(&arena);
        judge(&arena, at, &before, |_| true);
        let home = after.values().filter(|owner| **owner == gone).count();
        assert_eq!(home, 4, "{after:?}");
    }
    arena.close();
}

/// Each address moved at most once, and only those whose owner `may_lose` it.
fn judge(
    arena: &Arena,
    at: Instant,
    before: &BTreeMap<std::net::IpAddr, usize>,
    may_lose: impl Fn(usize) -> bool,
) {
    let seen = arena.stage.eyes().seen();
    let moves: BTreeMap<_, _> =
        before.keys().map(|vip| (*vip, seen.moves(*vip, at, now()))).collect();
    println!("\n  {} addresses moved", moves.values().filter(|n| **n > 0).count());
    for (vip, moved) in &moves {
        let most = usize::from(may_lose(before[vip]));
        assert!(*moved <= most, "{vip} moved {moved} times\n{}", arena.stage.logs(20));
    }
    assert_eq!(moves.values().sum::<usize>(), 4, "{moves:?}");
}

fn owners(arena: &Arena) -> BTreeMap<std::net::IpAddr, usize> {
    let vips = arena.stage.plan().vips().into_iter();
    vips.filter_map(|vip| Some((vip, *arena.stage.eyes().holders(vip).first()?))).collect()
}

fn wait_shares(arena: &Arena, wanted: [usize; HOSTS], bound: Duration) {
    let vips = arena.stage.plan().vips();
    let reached = arena.stage.eyes().wait(bound, |seen| {
        let mut shares = [0; HOSTS];
        vips.iter().all(|vip| match seen.holders(*vip)[..] {
            [owner] => {
                shares[owner] += 1;
                true
            }
            _ => false,
        }) && shares == wanted
    });
    assert!(reached.is_some(), "no {wanted:?}: {:?}\n{}", owners(arena), arena.stage.logs(20));
}
