//! Groups of two builds whose versions differ, and upgrades from one to the other.
//!
//! `VIPD_OTHER` names a vipd of another version: an older release, or what `packaging/scripts/another-build` makes of this
//! tree. Without it these trials print SKIPPED.

use crate::arena::{Arena, FIRST, SECOND, is_long, program};
use crate::judge;
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vipd_agent::lab::agent::Kind;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::room::FILES;

const MS_100: Duration = Duration::from_millis(100);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, other_is) in [("other_owns", FIRST), ("other_stands_by", SECOND)] {
        trials.push(Trial::test(format!("versions/mixed/{name}"), move || {
            if let Some(other) = other() {
                mixed(&other, other_is);
            }
            Ok(())
        }));
    }
    for (name, interval) in [("1s", Duration::from_secs(1)), ("100ms", MS_100)] {
        trials.push(Trial::test(format!("versions/upgrade/{name}/nobody_sees_it"), move || {
            if let Some(other) = other() {
                upgrade(&other, interval);
            }
            Ok(())
        }));
    }
    trials
}

/// The other build.
fn other() -> Option<PathBuf> {
    let Some(other) = std::env::var_os("VIPD_OTHER") else {
        println!(
            "SKIPPED: VIPD_OTHER names no other build of vipd (packaging/scripts/another-build)"
        );
        return None;
    };
    let other = PathBuf::from(other);
    let Kind::Vipd(this) = program() else { panic!("the program under test is vipd") };
    assert_ne!(version(&other), version(&this), "VIPD_OTHER is of the same version");
    Some(other)
}

/// What a program says of itself.
fn version(program: &Path) -> String {
    let out = Command::new(program).arg("--version").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().replace("vipd ", "")
}

/// Does that build know the verb?
fn knows(program: &Path, verb: &str) -> bool {
    Command::new(program).args([verb, "--help"]).output().unwrap().status.success()
}

/// One group: who takes over, and what clients lose, is the same as among equals.
fn mixed(other: &Path, other_is: usize) {
    let mut cast = [program(), program()];
    cast[other_is] = Kind::Vipd(other.to_owned());
    let mut arena = Arena::cast(Plan { interval: MS_100, ..Plan::default() }, &cast);
    arena.elect();
    let this_is = FIRST + SECOND - other_is;
    let peer = arena.status(this_is)["peers"][0].clone();
    assert_eq!(peer["version"], version(other), "{peer:#}");
    assert_eq!(peer["alive"], true, "{peer:#}");

    let at = arena.stage.stop(FIRST).unwrap();
    arena.wait_owner(SECOND);
    arena.calm();
    assert_eq!(judge::lost(&arena.outage(at)), 0, "stop\n{}", arena.stage.logs(20));
    let at = arena.stage.start(FIRST).unwrap();
    arena.wait_owner(FIRST);
    arena.calm();
    assert_eq!(judge::lost(&arena.outage(at)), 0, "failback\n{}", arena.stage.logs(20));

    let at = arena.stage.power_off(FIRST).unwrap();
    let took = arena.wait_owner(SECOND).since(at);
    assert_eq!(arena.two_owners(at), Duration::ZERO);
    println!("\n  power cut: taken over after {:.0} ms", millis(took));
    arena.stage.power_on(FIRST).unwrap();
    arena.wait_owner(FIRST);
    arena.calm();

    // What an older release does not know it is not asked for.
    if knows(other, "move") {
        let at = now();
        arena.done(FIRST, &["move", "web", "--wait"]);
        arena.wait_owner(SECOND);
        arena.done(SECOND, &["failback", "web", "--wait"]);
        arena.wait_owner(FIRST);
        arena.calm();
        assert_eq!(judge::lost(&arena.outage(at)), 0, "move and back\n{}", arena.stage.logs(20));
    } else {
        println!("  {} knows no moves", version(other));
    }
    arena.close();
}

/// The owner goes on as the other build, and back.
fn upgrade(other: &Path, interval: Duration) {
    if !knows(other, "reexec") {
        println!("SKIPPED: {} knows no reexec", version(other));
        return;
    }
    let Kind::Vipd(this) = program() else { panic!("the program under test is vipd") };
    let installed = Path::new(FILES).join("installed").join("vipd");
    std::fs::create_dir_all(installed.parent().unwrap()).unwrap();
    let install = |program: &Path| {
        // As a package manager does: the old file lives on in the process that runs it.
        let fresh = installed.with_extension("new");
        std::fs::copy(program, &fresh).unwrap();
        std::fs::rename(&fresh, &installed).unwrap();
    };
    install(&this);
    let cast = [Kind::Vipd(installed.clone()), program()];
    let mut arena = Arena::cast(Plan { interval, ..Plan::default() }, &cast);
    arena.elect();
    let from = now();
    let seen = |arena: &Arena| {
        let instance = arena.status(SECOND)["instances"][0].clone();
        ["state", "owner", "epoch", "cause"].map(|field| instance[field].clone())
    };
    let before = seen(&arena);
    for round in 1..=if is_long() { 200 } else { 4 } {
        let next = if round % 2 == 1 { other } else { &this };
        install(next);
        let at = now();
        let said = arena.stage.ask(FIRST, &["reexec", "--wait=20s"]).unwrap();
        arena.calm();
        let outage = arena.outage(at);
        println!(
            "\n  {round}: lost {} of {}: {}",
            outage.lost,
            outage.sent,
            said.lines().last().unwrap_or_default()
        );
        let logs = || arena.stage.logs(20);
        assert_eq!(arena.status(FIRST)["version"], version(next), "{round}\n{}", logs());
        assert_eq!(judge::lost(&outage), 0, "{round}\n{}", logs());
        assert_eq!(arena.moves(from), 0, "{round}\n{}", logs());
        assert_eq!(seen(&arena), before, "{round}: the other host saw it\n{}", logs());
    }
    arena.stage.stop(FIRST).unwrap();
    arena.wait_owner(SECOND);
    arena.close();
}
