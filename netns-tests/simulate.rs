//! `vipd simulate` against what then happens: who owns, after how long, and what a client loses.

use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::judge;
use libtest_mimic::Trial;
use serde_json::Value;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::health::service;
use vipd_agent::lab::netlink::LinkState;
use vipd_agent::lab::plan::{Heartbeats, Plan};
use vipd_agent::lab::service::Mood;
use vipd_agent::lab::topology::Net;
use vipd_core::time::Instant;

/// Between prediction and measurement: threads, kernels and eyes of a busy machine.
const SLACK: Duration = Duration::from_millis(250);

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, play: fn()| {
        Trial::test(format!("simulate/{name}"), move || {
            play();
            Ok(())
        })
    };
    vec![
        trial("with_heartbeats_it_comes_as_predicted", beating),
        trial("without_heartbeats_it_comes_as_predicted", plain),
        trial("a_check_that_fails_moves_as_predicted", checked),
        trial("what_makes_no_sense_is_refused", refused),
    ]
}

/// What a host predicts.
struct Predicted {
    owner: String,
    /// When that host claims, if it has to.
    after: Duration,
    lost: Duration,
    document: Value,
}

fn predict(arena: &Arena, ix: usize, event: &[&str]) -> Predicted {
    let words: Vec<&str> = ["simulate"].into_iter().chain(event.iter().copied()).collect();
    let json = arena.done(ix, &[&words[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&json).unwrap();
    let web = &document["instances"][0];
    let seconds = |value: &Value| Duration::from_secs_f64(value.as_f64().unwrap());
    let owners: Vec<&str> =
        web["after"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let [owner] = owners[..] else { panic!("{event:?}: {document:#}") };
    let claims = |step: &&Value| step["to"] == "active" && step["host"] == owner;
    let claim = web["steps"].as_array().unwrap().iter().find(claims);
    let predicted = Predicted {
        owner: owner.to_owned(),
        after: claim.map_or(Duration::ZERO, |step| seconds(&step["after_s"])),
        lost: seconds(&web["clients"][0]["lost_s"]),
        document: document.clone(),
    };
    assert!(!document["cut_short"].as_bool().unwrap(), "{document:#}");
    // People are told the same.
    let text = arena.done(ix, &words);
    assert!(text.contains(&format!(" to {owner}")) || text.contains(" stays on "), "{text}");
    predicted
}

/// It happened at `at`: the second host owns now. `phase`: by so much sooner than at the worst moment it may have been.
fn came(arena: &Arena, what: &str, predicted: &Predicted, at: Instant, phase: Duration) {
    let took = arena.wait_owner(SECOND).since(at);
    arena.calm();
    let seen = arena.outage(at);
    println!(
        "\n  {what}: {} after {:.1} ms, predicted {:.1}; client lost {} of {}, longest gap {:.1} ms, predicted {:.1}",
        predicted.owner,
        millis(took),
        millis(predicted.after),
        seen.lost,
        seen.sent,
        millis(seen.longest_gap),
        millis(predicted.lost),
    );
    assert_eq!(predicted.owner, "h2", "{:#}", predicted.document);
    if predicted.lost.is_zero() {
        assert_eq!(judge::lost(&seen), 0, "{what}: {seen:?}\n{}", arena.stage.logs(20));
        return;
    }
    let gap = seen.longest_gap;
    assert!(gap <= predicted.lost + SLACK, "{what}: {gap:?}\n{}", arena.stage.logs(20));
    assert!(gap + phase + SLACK >= predicted.lost, "{what}: {gap:?}");
}

/// Back to the first host.
fn back(arena: &Arena) {
    arena.wait_owner(FIRST);
    arena.calm();
    arena.calm();
}

fn beating() {
    let interval = Duration::from_millis(400);
    let mut arena = Arena::elected(Plan { interval, ..Plan::default() });
    let before = arena.history(FIRST).len();
    // Every question first: none of them is heard of by anybody.
    let moved = predict(&arena, FIRST, &["move", "web"]);
    let drained = predict(&arena, FIRST, &["drain"]);
    let stopped = predict(&arena, FIRST, &["stop"]);
    let unplugged = predict(&arena, FIRST, &["link-down", "eth0"]);
    let own = predict(&arena, FIRST, &["power-off"]);
    let dead = predict(&arena, SECOND, &["peer-dead", "h1"]);
    assert_eq!(arena.stage.owner(), Some(FIRST));
    assert_eq!(
        arena.history(FIRST).len(),
        before,
        "nothing is on record, because nothing happened"
    );

    let at = now();
    arena.done(FIRST, &["move", "web", "--wait"]);
    came(&arena, "move", &moved, at, Duration::ZERO);
    arena.done(FIRST, &["failback", "web", "--wait"]);
    back(&arena);

    let at = now();
    arena.done(FIRST, &["drain", "--wait"]);
    came(&arena, "drain", &drained, at, Duration::ZERO);
    arena.done(FIRST, &["undrain", "--wait"]);
    back(&arena);

    let at = arena.stage.stop(FIRST).unwrap();
    came(&arena, "stop", &stopped, at, Duration::ZERO);
    arena.stage.start(FIRST).unwrap();
    back(&arena);

    // Told at once over the other network: no silence is waited for.
    assert!(unplugged.lost < interval, "{:#}", unplugged.document);
    let at = arena.stage.set_cable(FIRST, Net::Service, LinkState::Down).unwrap();
    came(&arena, "link-down", &unplugged, at, Duration::ZERO);
    arena.stage.set_cable(FIRST, Net::Service, LinkState::Up).unwrap();
    back(&arena);

    assert!(own.lost.abs_diff(dead.lost) < SLACK, "both hosts say the same");
    let at = arena.stage.power_off(FIRST).unwrap();
    came(&arena, "peer-dead", &dead, at, interval);
    arena.stage.power_on(FIRST).unwrap();
    back(&arena);
    arena.close();
}

fn plain() {
    let interval = Duration::from_millis(400);
    let heartbeats = Heartbeats::Off;
    let mut arena = Arena::elected(Plan { interval, heartbeats, ..Plan::default() });
    let stopped = predict(&arena, FIRST, &["stop"]);
    let dead = predict(&arena, SECOND, &["peer-dead", "h1"]);
    let said = stopped.document["supposed"].to_string();
    assert!(said.contains("without heartbeats h2 says nothing of itself"), "{said}");
    let said = dead.document["supposed"].to_string();
    assert!(said.contains("the owner that is heard is taken to be h1"), "{said}");

    let at = arena.stage.stop(FIRST).unwrap();
    came(&arena, "stop", &stopped, at, Duration::ZERO);
    arena.stage.start(FIRST).unwrap();
    back(&arena);
    let at = arena.stage.power_off(FIRST).unwrap();
    came(&arena, "peer-dead", &dead, at, interval);
    arena.stage.power_on(FIRST).unwrap();
    back(&arena);
    arena.close();
}

fn checked() {
    let mut arena = Arena::settled(crate::health::with_checks(vec![service()]));
    let fails = predict(&arena, FIRST, &["check", "service", "fail"]);
    assert_eq!(fails.owner, "h2", "{:#}", fails.document);
    let unknown = predict(&arena, FIRST, &["check", "service", "unknown"]);
    assert_eq!((&*unknown.owner, unknown.lost), ("h1", Duration::ZERO), "{:#}", unknown.document);
    let at = arena.stage.set_service(FIRST, Mood::Dead).unwrap();
    let took = arena.wait_owner(SECOND).since(at);
    println!(
        "\n  check fails: h2 after {:.0} ms, predicted {:.0} from the first run that sees it",
        millis(took),
        millis(fails.after)
    );
    // A run may just have been over when the service died, or be about to begin.
    let run = arena.check(FIRST, "service");
    let interval = Duration::from_secs(1);
    assert!(took <= fails.after + interval + SLACK, "{took:?} {run:#}");
    assert!(took + interval + SLACK >= fails.after, "{took:?} {run:#}");
    wait(Duration::from_secs(1));
    let passes = predict(&arena, FIRST, &["check", "service", "pass"]);
    assert_eq!((&*passes.owner, passes.lost), ("h1", Duration::ZERO), "{:#}", passes.document);
    arena.stage.set_service(FIRST, Mood::Serves).unwrap();
    arena.wait_owner(FIRST);
    arena.close();
}

fn refused() {
    let mut arena =
        Arena::elected(Plan { interval: Duration::from_millis(100), ..Plan::default() });
    for (ix, event, because) in [
        (SECOND, &["move", "web"][..], "web is on h1"),
        (FIRST, &["peer-dead", "h1"], "power-off"),
        (FIRST, &["peer-dead", "h9"], "there are: h1, h2"),
        (FIRST, &["check", "nginx", "fail"], "there is no check nginx"),
        (FIRST, &["link-down", "eth7"], "there are: eth0"),
    ] {
        let told = arena.order(ix, &[&["simulate"], event].concat());
        assert_eq!((told.code, told.text.contains(because)), (4, true), "{event:?}: {}", told.text);
    }
    assert_eq!(arena.order(FIRST, &["simulate", "rain"]).code, 2);
    arena.stage.stop(SECOND).unwrap();
    let told = arena.order(SECOND, &["simulate", "power-off"]);
    assert_eq!((told.code, told.text.contains("no agent answers")), (6, true), "{}", told.text);
    arena.stage.start(SECOND).unwrap();
    arena.calm();
    arena.close();
}
