//! Hooks around a planned move, a promotion and a crash: which host hears what, in which order, and who may say no.

use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::judge;
use crate::programs::{lines, notes, script};
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::Plan;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("sync_hooks/each_host_hears_its_part_in_order", || {
            parts_in_order();
            Ok(())
        }),
        Trial::test("sync_hooks/a_veto_leaves_the_owner_and_names_the_reason", || {
            veto();
            Ok(())
        }),
        Trial::test("sync_hooks/a_hook_that_hangs_holds_up_no_failover", || {
            hangs();
            Ok(())
        }),
    ]
}

/// Every moment that is no state.
const ON: &str = "on = [\"sync-interval\", \"sync-barrier\", \"pre-promote\", \"post-promote\", \
                  \"pre-demote\", \"post-demote\", \"verify\"]";

/// A hook that notes on `HOST.lines` what it hears, and then does `body`.
fn plan(body: &str) -> (Plan, PathBuf) {
    let notes = notes();
    let here = notes.display();
    let run = script(
        "note",
        &format!(
            "echo \"$1 $2 $VIPD_ROLE $VIPD_PEER $VIPD_PEER_ADDR\" >> {here}/$(hostname).lines\n{body}"
        ),
    );
    let extra =
        format!("\n[hook.note]\n{ON}\nrun = [\"{run}\"]\nuser = \"root\"\ninterval = \"1s\"\n");
    (Plan { file_extra: extra, ..Plan::default() }, notes)
}

/// What a host heard, without the ticks.
fn heard(notes: &Path, host: &str) -> Vec<String> {
    let ticks =
        |line: &String| ["sync-interval ", "verify "].iter().any(|tick| line.starts_with(tick));
    lines(&notes.join(format!("{host}.lines"))).into_iter().filter(|line| !ticks(line)).collect()
}

/// The first words of what a host heard.
fn words(notes: &Path, host: &str) -> Vec<String> {
    let word = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
    heard(notes, host).into_iter().map(word).collect()
}

/// Waits until a host heard so many lines.
fn wait_heard(notes: &Path, host: &str, count: usize) {
    let limit = now() + Duration::from_secs(20);
    while heard(notes, host).len() < count {
        assert!(now() < limit, "{host} heard only {:?}", heard(notes, host));
        wait(Duration::from_millis(20));
    }
}

fn parts_in_order() {
    let (plan, notes) = plan("");
    let mut arena = Arena::elected(plan);
    wait_heard(&notes, "h1", 2);
    assert_eq!(words(&notes, "h1"), ["pre-promote", "post-promote"]);
    wait(Duration::from_secs(2));
    // What h1 heard before it was owner is no part of this.
    let ticks = |host: &str, tick: &str| {
        let all = lines(&notes.join(format!("{host}.lines")));
        let owner = all.iter().position(|line| line.starts_with("post-promote ")).unwrap_or(0);
        all.iter().skip(owner).filter(|line| line.starts_with(tick)).count()
    };
    assert!(ticks("h1", "sync-interval web active h2 192.0.2.12") >= 2);
    assert!(ticks("h2", "verify web backup h1 192.0.2.11") >= 1);
    assert_eq!((ticks("h1", "verify"), ticks("h2", "sync-")), (0, 0));

    let at = now();
    arena.done(FIRST, &["move", "web", "--wait", "--reason", "trial"]);
    arena.wait_owner(SECOND);
    arena.calm();
    assert_eq!(judge::lost(&arena.outage(at)), 0, "{}", arena.stage.logs(30));
    wait_heard(&notes, "h2", 2);
    assert_eq!(
        heard(&notes, "h2"),
        ["pre-promote web backup h1 192.0.2.11", "post-promote web active h1 192.0.2.11"],
        "{}",
        arena.stage.logs(40)
    );
    let mut first =
        vec!["pre-promote", "post-promote", "pre-demote", "sync-barrier", "post-demote"];
    wait_heard(&notes, "h1", first.len());
    assert_eq!(words(&notes, "h1"), first);

    arena.stage.crash(SECOND).unwrap();
    arena.wait_owner(FIRST);
    wait_heard(&notes, "h1", first.len() + 2);
    first.extend(["pre-promote", "post-promote"]);
    assert_eq!(words(&notes, "h1"), first);
    arena.close();
}

fn veto() {
    let body = "if [ $1 = pre-promote ] && [ $(hostname) = h2 ]; then echo no licence; exit 10; fi";
    let (plan, notes) = plan(body);
    let mut arena = Arena::elected(plan);
    let at = now();
    let told = arena.order(FIRST, &["move", "web", "--wait"]);
    assert_ne!(told.code, 0, "{told:?}");
    assert!(told.text.contains("pre-promote"), "{told:?}");
    let told = arena.order(SECOND, &["promote", "web", "--wait"]);
    assert_ne!(told.code, 0, "{told:?}");
    assert!(told.text.contains("no licence"), "{told:?}");
    wait(Duration::from_secs(3));
    assert_eq!((arena.stage.owner(), arena.moves(at)), (Some(FIRST), 0));
    assert_eq!(judge::lost(&arena.outage(at)), 0);
    // Asked twice, and told each time that nothing came of it.
    wait_heard(&notes, "h2", 4);
    assert_eq!(words(&notes, "h2"), ["pre-promote", "post-demote"].repeat(2));
    // A dead owner is replaced all the same.
    arena.stage.crash(FIRST).unwrap();
    arena.wait_owner(SECOND);
    arena.close();
}

fn hangs() {
    let (mut plan, notes) = plan("[ $1 != pre-promote ] || exec sleep 1000");
    plan.file_extra.push_str("timeout = \"3s\"\n");
    let mut arena = Arena::elected(plan);
    let at = arena.stage.crash(FIRST).unwrap();
    let took = arena.wait_owner(SECOND).since(at);
    let bound = arena.stage.plan().detection() + judge::let_go(arena.stage.plan());
    println!("\n  owner {took:?} after the crash, with hooks that hang");
    assert!(took < bound * 2, "{took:?}");
    wait_heard(&notes, "h2", 1);
    // What hangs is ended in its time, and the next one follows.
    wait_heard(&notes, "h2", 2);
    assert_eq!(words(&notes, "h2")[..2], ["pre-promote", "post-promote"]);
    arena.close();
}
