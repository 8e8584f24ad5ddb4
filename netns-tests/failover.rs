//! One owner, whatever happened to the process; and what finds the second one when the promise is switched off.

use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use crate::judge::{self, EYE};
use libtest_mimic::Trial;
use std::time::Duration;
use vipd_agent::lab::clock::millis;
use vipd_agent::lab::plan::{Heartbeats, Plan};
use vipd_core::time::Instant;

/// How the owner's process is lost.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Loss {
    Killed,
    Hung,
}

impl Loss {
    fn on(self, arena: &mut Arena) -> Instant {
        match self {
            Self::Killed => arena.stage.crash(FIRST).unwrap(),
            Self::Hung => arena.stage.hang(FIRST).unwrap(),
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for loss in [Loss::Killed, Loss::Hung] {
        for ms in [10, 100] {
            trials.push(Trial::test(
                format!("failover/{loss:?}/{ms}ms/never_two_owners"),
                move || {
                    never_two_owners(loss, Duration::from_millis(ms));
                    Ok(())
                },
            ));
        }
        trials.push(Trial::test(
            format!("failover/{loss:?}/1s/plain_vrrp_has_one_owner"),
            move || {
                plain_vrrp(loss);
                Ok(())
            },
        ));
    }
    trials.push(Trial::test("failover/without_lease_and_wait_the_eyes_find_two_owners", || {
        without_promises();
        Ok(())
    }));
    trials
}

/// With heartbeats the successor asks the dead owner's kernel: again and again, never two.
fn never_two_owners(loss: Loss, interval: Duration) {
    let mut arena = Arena::elected(Plan { interval, ..Plan::default() });
    for round in 1..=if is_long() { 100 } else { 3 } {
        let at = loss.on(&mut arena);
        let took = arena.wait_owner(SECOND).since(at);
        arena.calm();
        let two = arena.two_owners(at);
        println!("\n  {round}: moved in {:.1} ms, two owners {:.2} ms", millis(took), millis(two));
        assert!(two <= EYE, "two owners for {two:?}\n{}", arena.stage.logs(20));
        match loss {
            // Each round is the first crash in a long time: the wait after the third in a row is not meant here.
            Loss::Killed => {
                let runtime = arena.stage.agent(FIRST).dir().join("run");
                std::fs::remove_file(runtime.join("run")).unwrap();
                arena.stage.start(FIRST).unwrap()
            }
            Loss::Hung => arena.stage.resume(FIRST).unwrap(),
        };
        arena.wait_owner(FIRST);
        arena.calm();
    }
    arena.close();
}

/// Without heartbeats the lease alone ends the old owner, at 1 s before anybody claims.
fn plain_vrrp(loss: Loss) {
    let mut arena = Arena::elected(Plan { heartbeats: Heartbeats::Off, ..Plan::default() });
    let at = loss.on(&mut arena);
    arena.wait_owner(SECOND);
    wait(Duration::from_secs(2));
    let two = arena.two_owners(at);
    assert!(two <= EYE, "two owners for {two:?}\n{}", arena.stage.logs(20));
    if loss == Loss::Hung {
        let at = arena.stage.resume(FIRST).unwrap();
        arena.wait_owner(FIRST);
        let two = arena.two_owners(at);
        assert!(two <= judge::HANDOVER, "two owners for {two:?} after it went on");
    }
    arena.close();
}

/// What keeps the promise, switched off: the hung owner keeps its address beside the new one, and this is seen. A
/// check that cannot fail proves nothing.
fn without_promises() {
    let plan = Plan {
        interval: Duration::from_millis(100),
        instance_extra: "lease = \"off\"\nstale-holder-wait = \"off\"".into(),
        ..Plan::default()
    };
    let mut arena = Arena::elected(plan);
    let at = arena.stage.hang(FIRST).unwrap();
    let claimed = arena.stage.wait(arena.bound(), |holders| holders.contains(&SECOND));
    assert!(claimed.is_some(), "nobody took over\n{}", arena.stage.logs(20));
    wait(Duration::from_secs(3));
    let two = arena.two_owners(at);
    println!("\n  two owners for {:.0} ms", millis(two));
    assert!(
        two > Duration::from_secs(2),
        "two owners for {two:?} alone: something else ended them"
    );
    arena.stage.resume(FIRST).unwrap();
    arena.stage.wait(arena.bound(), |holders| holders.len() == 1).unwrap();
    arena.calm();
    arena.close();
}
