//! Planned restarts of the owner: nobody but its log sees them.

use crate::arena::{Arena, FIRST, SECOND, is_long};
use crate::judge;
use libtest_mimic::Trial;
use serde_json::Value;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::{Families, MacMode, Plan};

pub(crate) fn trials() -> Vec<Trial> {
    let ms = Duration::from_millis;
    let cases = [
        ("1s/v4", Plan { interval: ms(1000), families: Families::V4, ..Plan::default() }),
        ("100ms/dual", Plan { interval: ms(100), families: Families::Dual, ..Plan::default() }),
        ("100ms/virtual", Plan { interval: ms(100), mac: MacMode::Virtual, ..Plan::default() }),
    ];
    let mut trials: Vec<_> = cases
        .into_iter()
        .map(|(name, plan)| {
            Trial::test(format!("restart/{name}/nobody_sees_it"), move || {
                nobody_sees_it(plan);
                Ok(())
            })
        })
        .collect();
    trials.push(Trial::test("restart/refused/what_would_not_run_does_not_follow", || {
        refused();
        Ok(())
    }));
    trials
}

/// State, owner, epoch and transitions of every instance, as a host tells them; not for how long.
fn standing(arena: &Arena, ix: usize) -> Vec<Value> {
    let status = arena.status(ix);
    let instances = status["instances"].as_array().cloned().unwrap_or_default();
    let shown = |i: &Value| {
        ["name", "state", "owner", "epoch", "cause", "applied"].map(|field| i[field].clone())
    };
    instances.iter().map(|i| Value::Array(shown(i).to_vec())).collect()
}

/// Lines of its history that tell of a transition.
fn transitions(arena: &Arena, ix: usize) -> usize {
    let history = arena.stage.ask(ix, &["history", "--json"]).unwrap();
    history.lines().filter(|line| line.contains("\"kind\":\"transition\"")).count()
}

fn nobody_sees_it(plan: Plan) {
    let mut arena = Arena::elected(plan);
    let from = now();
    let epoch = |arena: &Arena| standing(arena, FIRST)[0][3].clone();
    let (claim, pid) = (epoch(&arena), arena.stage.agent(FIRST).pid());
    for round in 1..=if is_long() { 200 } else { 10 } {
        // Every third time it is the other host: a Backup that is started anew listens on.
        let (ix, other) = if round % 3 == 0 { (SECOND, FIRST) } else { (FIRST, SECOND) };
        let before = (standing(&arena, other), transitions(&arena, other));
        let at = now();
        let said = arena.stage.ask(ix, &["reexec", "--wait=20s"]).unwrap();
        let took = now().since(at);
        arena.calm();
        let seen = arena.outage(at);
        let said = said.lines().last().unwrap_or_default();
        let lost = seen.lost;
        println!("\n  {round} h{}: took {took:.0?}, lost {lost} of {}: {said}", ix + 1, seen.sent);
        let logs = || arena.stage.logs(20);
        assert_eq!(judge::lost(&seen), 0, "{round}\n{}", logs());
        assert_eq!(arena.moves(from), 0, "{round}\n{}", logs());
        let after = (standing(&arena, other), transitions(&arena, other));
        assert_eq!(after, before, "{round}: the other host saw it\n{}", logs());
        assert_eq!(epoch(&arena), claim, "{round}: it is the same ownership\n{}", logs());
    }
    assert_eq!(arena.stage.agent(FIRST).pid(), pid);
    assert_eq!(arena.two_owners(from), Duration::ZERO);
    // It is still the same group: a clean stop moves the address.
    arena.stage.stop(FIRST).unwrap();
    arena.wait_owner(SECOND);
    arena.close();
}

/// A configuration that the next program would not take keeps the present one running.
fn refused() {
    let plan = Plan { interval: Duration::from_millis(100), ..Plan::default() };
    let arena = Arena::elected(plan);
    let from = now();
    arena.edit_config(FIRST, |text| format!("{text}\nnonsense = true\n"));
    let told = arena.stage.ask(FIRST, &["reexec"]).unwrap_err().to_string();
    assert!(told.contains("nonsense") && told.contains("cannot take over"), "{told}");
    arena.calm();
    assert_eq!(arena.moves(from), 0);
    assert_eq!(arena.outage(from).lost, 0);
    arena.edit_config(FIRST, |text| text.replace("\nnonsense = true\n", ""));
    let would = arena.stage.ask(FIRST, &["reexec", "--dry-run"]).unwrap();
    assert!(would.contains("goes on"), "{would}");
    arena.close();
}
