//! Two owners for a while, each with changes of its own: one tree is everywhere afterwards, and the other is kept.

use super::files::find;
use super::{elected, plan};
use crate::arena::{Arena, FIRST, SECOND, wait};
use std::fs;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};

pub(super) fn after_a_partition_nothing_is_lost() {
    let mut arena = elected(plan(""));
    let [first, second] = [FIRST, SECOND].map(|ix| arena.files(ix));
    fs::write(first.join("shared"), "before\n").unwrap();
    arena.wait_content(SECOND, "shared", "before\n");
    arena.wait_sync(FIRST);
    use vipd_agent::lab::topology::Net;
    arena.stage.partition(&[FIRST], &[Net::Service, Net::Beat]).unwrap();
    let both = arena.stage.wait(arena.bound(), |holders| holders == [FIRST, SECOND]);
    assert!(both.is_some(), "both own\n{}", arena.stage.logs(20));
    arena.wait_set(SECOND, "pushes", |set| set["owns"] == true);
    for (folder, name) in [(&first, "one"), (&second, "two")] {
        fs::write(folder.join("shared"), format!("written by {name}\n")).unwrap();
        fs::write(folder.join(name), format!("only {name}\n")).unwrap();
    }
    wait(Duration::from_millis(700));
    let epoch = |arena: &Arena, ix| arena.set(ix)["epoch"]["number"].as_u64().unwrap();
    let apart = [FIRST, SECOND].map(|ix| epoch(&arena, ix));
    let healed = now();
    arena.stage.heal().unwrap();
    let owner = arena.stage.wait_owner(arena.bound()).unwrap();
    let loser = FIRST + SECOND - owner;
    let (won, lost) = if owner == FIRST { ("one", "two") } else { ("two", "one") };
    arena.wait_content(loser, "shared", &format!("written by {won}\n"));
    arena.wait_content(loser, won, &format!("only {won}\n"));
    arena.wait_sync(owner);
    let took = now().since(healed);
    assert!(!arena.files(loser).join(lost).exists(), "the winner's tree is everywhere");
    // Every octet of the other side is kept, and listed.
    let kept = find(&arena.files(loser).join(".vipd"));
    let has = |text: &str| kept.iter().any(|(_, content)| content == text);
    assert!(has(&format!("only {lost}\n")) && has(&format!("written by {lost}\n")), "{kept:#?}");
    let set = arena.wait_set(loser, "counts what was rescued", |set| set["rescued_files"] == 2);
    assert!(!set["alarms"].as_array().unwrap().is_empty(), "{set:#}");
    let root = vipd_agent::lab::replicator::ROOT;
    let text = arena.done(loser, &["replica", "restore", "state", &format!("{root}/shared")]);
    assert!(text.contains("rescue/"), "{text}");
    // Under a higher epoch than both had, and no quarrel goes on.
    let epochs = [owner, loser].map(|ix| epoch(&arena, ix));
    assert_eq!(epochs[0], epochs[1]);
    assert!(apart.iter().all(|apart| *apart < epochs[0]), "{apart:?} apart, then {epochs:?}");
    let before = arena.set(owner);
    wait(Duration::from_secs(2));
    let after = arena.set(owner);
    assert_eq!(before["errors"], after["errors"], "no refusal loop: {after:#}");
    println!("\n  h{} wins; its files everywhere {:.0} ms after the heal", owner + 1, millis(took));
    arena.close();
}
