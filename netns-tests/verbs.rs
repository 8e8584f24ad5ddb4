//! Each order that an operator may give, on real hosts: what it does, how it ends, its exit code, and who ordered it in
//! the log, the history and the stream of events.

use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::order::{Told, documents, end};
use libtest_mimic::Trial;
use serde_json::Value;
use std::process::Child;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::{Heartbeats, Plan};

const REFUSED: i32 = 4;
const OUTCOME_UNKNOWN: i32 = 5;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, play: fn()| {
        Trial::test(format!("verbs/{name}"), move || {
            play();
            Ok(())
        })
    };
    vec![
        trial("each_is_carried_out_and_on_record", each),
        trial("ends_are_waited_for", ends),
        trial("a_drain_survives_a_restart", drain_survives),
        trial("a_freeze_holds_on_both_hosts", freeze),
        trial("without_heartbeats_vrrp_chooses", plain),
    ]
}

fn pair() -> Arena {
    Arena::elected(Plan { interval: Duration::from_millis(100), ..Plan::default() })
}

/// Refused with this in the words.
fn refused(arena: &Arena, ix: usize, words: &[&str], because: &str) {
    let Told { code, text } = arena.order(ix, words);
    assert_eq!((code, text.contains(because)), (REFUSED, true), "{words:?}: {text}");
}

/// What a host says of the instance; nothing while its agent does not answer.
fn instance(arena: &Arena, ix: usize) -> Value {
    let Told { text, .. } = arena.order(ix, &["status", "--json"]);
    let status: Value = serde_json::from_str(&text).unwrap_or_default();
    status["instances"][0].clone()
}

/// Waits until the status of a host says so.
fn wait_status(arena: &Arena, ix: usize, what: &str, wanted: impl Fn(&Value) -> bool) {
    let limit = now() + Duration::from_secs(5);
    while !wanted(&instance(arena, ix)) {
        assert!(now() < limit, "{what}: {:#}", instance(arena, ix));
        wait(Duration::from_millis(50));
    }
}

fn each() {
    let arena = pair();
    let stream = arena.begin(FIRST, &["events", "-f", "-n", "0", "--json"]);
    wait(Duration::from_millis(300));

    // Nothing of a dry run comes to pass.
    let would = arena.done(FIRST, &["move", "web", "--dry-run"]);
    assert!(would.starts_with("would happen: web moves to h2"), "{would}");
    refused(&arena, SECOND, &["move", "web"], "web is on h1");
    refused(&arena, FIRST, &["move", "web", "--to", "h1"], "already");
    refused(&arena, FIRST, &["failback", "web"], "nothing was moved");
    refused(&arena, FIRST, &["undrain"], "nothing of this is drained");
    refused(&arena, FIRST, &["thaw"], "not frozen");
    assert_eq!(arena.stage.owner(), Some(FIRST));

    let said = arena.done(FIRST, &["move", "web", "--to", "h2", "--wait", "--reason", "disk"]);
    assert!(said.contains("h2 has claimed") && said.ends_with("web is on h2\n"), "{said}");
    arena.wait_owner(SECOND);
    assert_eq!(instance(&arena, SECOND)["priority"], 254, "pinned");
    arena.done(FIRST, &["failback", "web", "--wait", "--reason", "disk is new"]);
    arena.wait_owner(FIRST);

    arena.done(FIRST, &["release", "web", "--wait", "--reason", "try"]);
    arena.wait_owner(SECOND);
    arena.done(FIRST, &["failback", "web", "--wait"]);
    arena.wait_owner(FIRST);

    arena.done(FIRST, &["set-priority", "web", "90", "--reason", "weak", "--wait"]);
    wait_status(&arena, FIRST, "a priority of 90", |i| i["priority"] == 90);
    arena.done(FIRST, &["set-priority", "web", "--clear", "--wait"]);
    arena.wait_owner(FIRST);
    assert_eq!(instance(&arena, FIRST)["priority"], 150);

    arena.done(FIRST, &["drain", "--wait", "--reason", "kernel"]);
    arena.wait_owner(SECOND);
    assert_eq!(instance(&arena, FIRST)["class"], "drained");
    refused(&arena, SECOND, &["move", "web"], "h1 is drained");
    refused(&arena, SECOND, &["drain"], "--allow-outage");
    arena.done(FIRST, &["undrain", "--wait", "--reason", "kernel is new"]);
    arena.wait_owner(FIRST);

    arena.done(FIRST, &["freeze", "--for", "1h", "--wait", "--reason", "night"]);
    refused(&arena, FIRST, &["move", "web"], "frozen");
    let forced = arena.done(FIRST, &["move", "web", "--force", "--dry-run"]);
    assert!(forced.contains("overriding: moves are frozen"), "{forced}");
    arena.done(FIRST, &["thaw", "--wait", "--reason", "day"]);
    arena.done(FIRST, &["ack", "web", "--wait", "--reason", "seen"]);
    refused(&arena, FIRST, &["promote", "web"], "already");
    arena.done(SECOND, &["promote", "web", "--wait", "--reason", "try"]);
    arena.wait_owner(SECOND);
    // Whatever holds it there ends with the other's order.
    arena.done(SECOND, &["move", "web", "--to", "h1", "--wait"]);
    arena.wait_owner(FIRST);
    on_record(&arena, stream);
    arena.close();
}

/// What was ordered of the first host, with its reason.
const ORDERED: [(&str, &str); 8] = [
    ("move", "disk"),
    ("failback", "disk is new"),
    ("release", "try"),
    ("set-priority", "weak"),
    ("drain", "kernel"),
    ("undrain", "kernel is new"),
    ("freeze", "night"),
    ("ack", "seen"),
];

/// Who, what, why and with which end: in the stream, the history and the log.
fn on_record(arena: &Arena, mut stream: Child) {
    wait(Duration::from_millis(300));
    stream.kill().unwrap();
    let (streamed, kept) = (documents(&end(stream).text), arena.history(FIRST));
    let log = std::fs::read_to_string(arena.dir(FIRST).join("agent.log")).unwrap();
    for (verb, reason) in ORDERED {
        for (place, events) in [("stream", &streamed), ("history", &kept)] {
            let change = events
                .iter()
                .find(|e| e["kind"] == "change" && e["verb"] == verb && e["reason"] == reason)
                .unwrap_or_else(|| panic!("{verb} is not in the {place}: {events:#?}"));
            assert_eq!((&change["uid"], &change["user"]), (&0.into(), &"root".into()), "{change}");
            assert!(change["pid"].is_u64() && change["outcome"] == "accepted", "{change}");
            let ended =
                |e: &&Value| e["kind"] == "operation" && e["operation"] == change["operation"];
            let steps: Vec<_> = events.iter().filter(ended).map(|e| e["step"].clone()).collect();
            assert_eq!(steps.last(), Some(&"done".into()), "{verb} in the {place}");
            assert_eq!(place == "stream", steps.first() == Some(&"started".into()), "{steps:?}");
        }
        let who = log.lines().any(|line| {
            line.contains(&format!("{verb} ordered by root (uid 0, process "))
                && line.contains(&format!(", reason: {reason}"))
        });
        assert!(who, "{verb} is not in the log:\n{log}");
    }
    let refusals = kept.iter().filter(|e| e["kind"] == "change" && e["outcome"] == "refused");
    assert!(refusals.count() >= 4, "{kept:#?}");
}

fn ends() {
    let mut arena = pair();
    // It cannot be over so soon, and goes on.
    let Told { code, text } = arena.order(FIRST, &["move", "web", "--wait", "20ms"]);
    assert_eq!((code, text.contains("goes on")), (OUTCOME_UNKNOWN, true), "{text}");
    arena.wait_owner(SECOND);
    arena.calm();
    arena.done(SECOND, &["failback", "web", "--wait"]);
    arena.wait_owner(FIRST);
    // Nobody takes it.
    arena.stage.hang(SECOND).unwrap();
    let Told { code, text } =
        arena.order(FIRST, &["move", "web", "--to", "h2", "--wait", "--json"]);
    assert_eq!(code, REFUSED, "{text}");
    let outcome: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert!(outcome["message"].as_str().unwrap().contains("web stays here"), "{outcome}");
    assert_eq!((&outcome["outcome"], outcome["operation"].is_string()), (&"aborted".into(), true));
    assert_eq!(arena.stage.owner(), Some(FIRST));
    arena.stage.resume(SECOND).unwrap();
    wait_status(&arena, SECOND, "a backup again", |i| i["state"] == "backup");
    // An agent that ends in between.
    let order = arena.begin(FIRST, &["move", "web", "--wait"]);
    let seen = arena.stage.wait(arena.bound(), |holders| holders == [FIRST, SECOND]);
    assert!(seen.is_some(), "{}", arena.stage.logs(20));
    arena.stage.crash(FIRST).unwrap();
    let Told { code, text } = end(order);
    assert_eq!((code, text.contains("vipd history")), (OUTCOME_UNKNOWN, true), "{text}");
    arena.wait_owner(SECOND);
    arena.close();
}

fn drain_survives() {
    let mut arena = pair();
    arena.done(FIRST, &["drain", "--wait"]);
    arena.wait_owner(SECOND);
    arena.stage.crash(FIRST).unwrap();
    arena.stage.start(FIRST).unwrap();
    wait_status(&arena, FIRST, "drained", |i| i["class"] == "drained");
    wait(arena.stage.plan().detection() * 2);
    assert_eq!(arena.stage.owner(), Some(SECOND), "{}", arena.stage.logs(20));
    let at = now();
    arena.done(FIRST, &["undrain", "--wait"]);
    arena.wait_owner(FIRST);
    arena.calm();
    let seen = arena.outage(at);
    assert_eq!(crate::judge::lost(&seen), 0, "{seen:?}");
    // One that ends by itself.
    arena.done(FIRST, &["drain", "--for", "2s", "--wait"]);
    arena.wait_owner(SECOND);
    arena.wait_owner(FIRST);
    arena.close();
}

fn freeze() {
    let mut arena = pair();
    arena.done(SECOND, &["freeze", "--wait"]);
    wait(Duration::from_secs(1));
    refused(&arena, FIRST, &["move", "web"], "frozen");
    // A dead owner is replaced, and the stronger one does not take it back.
    arena.stage.crash(FIRST).unwrap();
    arena.wait_owner(SECOND);
    arena.stage.start(FIRST).unwrap();
    wait_status(&arena, FIRST, "a backup", |i| i["state"] == "backup");
    wait(arena.stage.plan().detection() * 3);
    assert_eq!(arena.stage.owner(), Some(SECOND), "{}", arena.stage.logs(20));
    arena.done(FIRST, &["thaw", "--wait"]);
    arena.wait_owner(FIRST);
    arena.close();
}

fn plain() {
    let plan = Plan {
        heartbeats: Heartbeats::Off,
        interval: Duration::from_millis(100),
        ..Plan::default()
    };
    let arena = Arena::elected(plan);
    let at = now();
    let said = arena.done(FIRST, &["move", "web", "--wait"]);
    assert!(said.contains("offered to whoever comes"), "{said}");
    arena.wait_owner(SECOND);
    wait(arena.stage.plan().detection() * 2);
    assert_eq!(arena.stage.owner(), Some(SECOND), "it stays there: {}", arena.stage.logs(20));
    let seen = arena.outage(at);
    assert_eq!(crate::judge::lost(&seen), 0, "{seen:?}");
    arena.done(FIRST, &["failback", "web", "--wait"]);
    arena.wait_owner(FIRST);
    arena.close();
}
