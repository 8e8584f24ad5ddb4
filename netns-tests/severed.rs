//! Agents that die in the middle of a move, on either side: one owner, the operation at its end, nothing stuck.

use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use crate::order::end;
use libtest_mimic::Trial;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::plan::Plan;

/// Where a move is, as far as it shows outside.
#[derive(Copy, Clone, Debug)]
enum Step {
    /// The order was taken.
    Ordered,
    /// The target has the address, too.
    Claimed,
    /// In the middle of the overlap.
    Overlap,
    /// Just before the source lets go: it stays 200 ms after the target has it.
    Late,
    /// The source has let go.
    Released,
}

/// So long an agent claims nothing that died often (DESIGN 5.7), which its peer tells as an alarm.
const HELD: Duration = Duration::from_secs(30);

const STEPS: [Step; 5] = [Step::Ordered, Step::Claimed, Step::Overlap, Step::Late, Step::Released];

/// How it dies.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Death {
    Kill,
    PowerCut,
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![("sigkill", Death::Kill)];
    if is_long() {
        trials.push(("power_cut", Death::PowerCut));
    }
    let trial = |(name, death)| {
        Trial::test(format!("severed/{name}/at_each_step_of_a_move"), move || {
            at_each_step(death);
            Ok(())
        })
    };
    trials.into_iter().map(trial).collect()
}

fn at_each_step(death: Death) {
    let interval = Duration::from_millis(100);
    let mut arena = Arena::elected(Plan { interval, ..Plan::default() });
    for round in 1..=if is_long() { 5 } else { 1 } {
        for step in STEPS {
            // In turn: an agent that dies often is kept from claiming for a while.
            for victim in [FIRST, SECOND] {
                sever(&mut arena, round, step, victim, death);
            }
        }
    }
    // All that was left is a host that works.
    arena.done(FIRST, &["move", "web", "--wait"]);
    arena.wait_owner(SECOND);
    arena.done(SECOND, &["failback", "web", "--wait"]);
    arena.wait_owner(FIRST);
    arena.close();
}

fn sever(arena: &mut Arena, round: usize, step: Step, victim: usize, death: Death) {
    let before = arena.history(FIRST).len();
    let mut order = arena.begin(FIRST, &["move", "web", "--wait", "30s"]);
    let mut said = BufReader::new(order.stdout.take().unwrap());
    let mut first = String::new();
    said.read_line(&mut first).unwrap();
    assert!(first.starts_with("operation "), "{first}");
    let holds = |wanted: &[usize]| {
        let seen = arena.stage.wait(arena.bound(), |holders| holders == wanted);
        assert!(seen.is_some(), "{step:?}: not {wanted:?}\n{}", arena.stage.logs(20));
    };
    match step {
        Step::Ordered => {}
        Step::Claimed => holds(&[FIRST, SECOND]),
        Step::Overlap | Step::Late => {
            holds(&[FIRST, SECOND]);
            wait(Duration::from_millis(if matches!(step, Step::Late) { 190 } else { 100 }));
        }
        Step::Released => holds(&[SECOND]),
    }
    let at = match death {
        Death::Kill => arena.stage.crash(victim).unwrap(),
        Death::PowerCut => arena.stage.power_off(victim).unwrap(),
    };
    let survivor = FIRST + SECOND - victim;
    let took = arena.wait_owner(survivor).since(at);
    wait(arena.stage.plan().detection());
    assert_eq!(arena.stage.owner(), Some(survivor), "{step:?}\n{}", arena.stage.logs(20));
    // Whoever waits is told an end, that it cannot be known, or has lost its machine.
    let told = end(order).code;
    let allowed: &[i32] = match (victim, death) {
        (FIRST, Death::PowerCut) => &[0, 5, -1],
        (FIRST, Death::Kill) => &[0, 5],
        _ => &[0, 4],
    };
    assert!(allowed.contains(&told), "{step:?}, h{}: exit {told}", victim + 1);
    match death {
        Death::Kill => drop(arena.stage.start(victim).unwrap()),
        Death::PowerCut => drop(arena.stage.power_on(victim).unwrap()),
    }
    let both = |arena: &Arena| [FIRST, SECOND].map(|ix| arena.order(ix, &["status"]).code);
    let limit = now() + HELD + arena.bound();
    // Back when each of them says that all is well.
    while both(arena) != [0, 0] {
        assert!(now() < limit, "{:?}\n{}", both(arena), arena.stage.logs(20));
        wait(Duration::from_millis(50));
    }
    let outcome = outcome(&arena.history(FIRST)[before..]);
    println!(
        "\n  {round} {step:?}, h{} dies: h{} alone owns after {:.0} ms; {outcome}, exit {told}",
        victim + 1,
        survivor + 1,
        millis(took)
    );
    // The stronger one takes it back, now or when it is told to.
    let back = arena.order(FIRST, &["failback", "web", "--wait"]);
    assert!([0, 4].contains(&back.code), "{step:?}: {}", back.text);
    arena.wait_owner(FIRST);
    arena.calm();
}

/// How the one operation of `history` ended.
fn outcome(history: &[Value]) -> String {
    let change = history.iter().find(|e| e["kind"] == "change").expect("the order is on record");
    let ends: Vec<&Value> = history
        .iter()
        .filter(|e| e["kind"] == "operation" && e["operation"] == change["operation"])
        .collect();
    assert_eq!(ends.len(), 1, "{history:#?}");
    let step = ends[0]["step"].as_str().unwrap().to_owned();
    assert!(["done", "aborted"].contains(&step.as_str()), "{step}");
    step
}
