//! Hosts that stand by warm or cold: what runs before a claim, and what waits for an operator.

use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::health::with_checks;
use crate::judge;
use crate::programs::{notes, script, wait_file};
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::health::{Check, service};
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::service::Mood;
use vipd_core::time::Instant;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("standby/warm_is_ready_before_it_claims", || {
            warm_takes_over(Loss::Service);
            Ok(())
        }),
        Trial::test("standby/warm_replaces_a_dead_owner", || {
            warm_takes_over(Loss::Agent);
            Ok(())
        }),
        Trial::test("standby/failed_activation_leaves_the_owner", || {
            failed_activation("exit 1");
            Ok(())
        }),
        Trial::test("standby/activation_that_hangs_leaves_the_owner", || {
            failed_activation("exec sleep 1000");
            Ok(())
        }),
        Trial::test("standby/cold_waits_for_promote", || {
            cold_waits();
            Ok(())
        }),
    ]
}

/// Probes that a host may cost that is no more fit: it lets go, and the other claims when it hears so.
const HANDOVER: usize = 20;

/// How the first host is lost.
#[derive(Copy, Clone)]
enum Loss {
    /// Its service dies.
    Service,
    /// Its agent is killed.
    Agent,
}

/// The second host stands by like this, and is activated by this script.
fn plan(kind: &str, body: &str) -> (Plan, PathBuf) {
    let notes = notes();
    let run = script("activate", body);
    let ready = notes.join("ready");
    let check = Check::new(
        "ready",
        &format!(
            "file = \"{}\"\nseverity = \"info\"\ninterval = \"100ms\"\ntimeout = \"50ms\"",
            ready.display()
        ),
    );
    let mut plan = with_checks(vec![service().only(FIRST), check.only(SECOND)]);
    plan.instance_extra.push_str(&format!(
        "\nstandby = {{ h1 = \"hot\", h2 = \"{kind}\" }}\n\
         activation = {{ run = [\"{run}\"], ready = \"ready\", timeout = \"4s\" }}\n"
    ));
    (plan, notes)
}

/// Begins, works for a while, and is ready.
fn activation(notes: &Path) -> String {
    let notes = notes.display();
    format!("touch {notes}/began\nsleep 0.7\ntouch {notes}/done\necho 0 > {notes}/ready")
}

fn warm_takes_over(loss: Loss) {
    let (plan, notes) = plan("warm", &activation(&notes()));
    let mut arena = Arena::settled(plan);
    assert!(!notes.join("began").exists(), "activated before it was needed");
    let at = match loss {
        Loss::Service => arena.stage.set_service(FIRST, Mood::Dead).unwrap(),
        Loss::Agent => arena.stage.crash(FIRST).unwrap(),
    };
    let bound = arena.bound();
    let done = wait_file(&notes.join("ready"), bound);
    let done = done.unwrap_or_else(|| panic!("never activated\n{}", arena.stage.logs(30)));
    arena.wait_owner(SECOND);
    arena.calm();
    let claimed = claim_of_second(&arena, at);
    println!("\n  ready {:?}, claimed {:?} after the loss", done.since(at), claimed.since(at));
    // The file is looked for every 5 ms.
    assert!(claimed + Duration::from_millis(20) >= done, "claimed before it was ready");
    assert_eq!(arena.moves(at), 1, "{}", arena.stage.logs(30));
    if let Loss::Service = loss {
        let seen = arena.outage(at);
        assert!(judge::lost(&seen) <= HANDOVER, "the owner let go too early: {seen:?}");
    }
    arena.close();
}

fn failed_activation(body: &str) {
    let (plan, _) = plan("warm", body);
    let mut arena = Arena::settled(plan);
    let at = arena.stage.set_service(FIRST, Mood::Dead).unwrap();
    arena.wait_check(FIRST, "service", "fail", Duration::from_secs(10));
    wait(Duration::from_secs(12));
    let seen = arena.outage(at);
    assert_eq!(
        (arena.moves(at), arena.stage.owner()),
        (0, Some(FIRST)),
        "{}",
        arena.stage.logs(30)
    );
    assert_eq!(judge::lost(&seen), 0, "{seen:?}");
    let status = arena.status(SECOND).to_string();
    assert!(status.contains("activation-failed"), "status is silent about it: {status}");
    arena.close();
}

fn cold_waits() {
    let (plan, notes) = plan("cold", &activation(&notes()));
    let mut arena = Arena::settled(plan);
    let status = arena.status(FIRST).to_string();
    assert!(status.contains("no-standby"), "nobody is told that none would take over: {status}");
    let at = arena.stage.crash(FIRST).unwrap();
    wait(judge::let_go(arena.stage.plan()) + arena.stage.plan().detection() * 2);
    let vip = arena.stage.plan().vips()[0];
    assert!(arena.stage.eyes().holders(vip).is_empty(), "{}", arena.stage.logs(30));
    assert!(!notes.join("began").exists(), "activated without an order");
    let promoted = now();
    println!("\n  promote: {}", arena.stage.ask(SECOND, &["promote", "web"]).unwrap().trim());
    arena.wait_owner(SECOND);
    let claimed = claim_of_second(&arena, promoted);
    assert!(notes.join("done").exists(), "claimed without its activation");
    println!(
        "  nobody for {:?}, then claimed {:?} after promote",
        promoted.since(at),
        claimed.since(promoted)
    );
    assert_eq!(arena.moves(at), 1, "{}", arena.stage.logs(30));
    arena.close();
}

fn claim_of_second(arena: &Arena, from: Instant) -> Instant {
    let vip = arena.stage.plan().vips()[0];
    let seen = arena.stage.eyes().seen();
    let first =
        seen.holdings().iter().find(|h| h.addr == vip && h.host == SECOND && h.from >= from);
    first.unwrap().from
}
