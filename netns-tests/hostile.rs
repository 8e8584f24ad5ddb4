//! Checks that do what no check should: hang, ignore TERM, print 1 GiB, leave children behind. Beside them adverts of
//! 10 ms keep going.

use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::health::with_checks;
use crate::programs::script;
use libtest_mimic::Trial;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::health::Check;
use vipd_agent::lab::plan::Plan;

/// Name and script.
const HOSTILE: [(&str, &str); 5] = [
    ("hangs", "exec sleep 1000"),
    ("deaf", "trap '' TERM\nwhile :; do sleep 1000; done"),
    ("flood", "exec head -c 1073741824 /dev/zero"),
    ("children", "sleep 1000 &\nsleep 1000 &\nwait"),
    ("orphan", "setsid sleep 1000 </dev/null >/dev/null 2>&1 &\nexit 0"),
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("hostile/10ms_adverts_beside_hostile_checks", || {
            beside_adverts();
            Ok(())
        }),
        Trial::test("hostile/a_check_that_hangs_has_failed", || {
            hanging_fails();
            Ok(())
        }),
    ]
}

fn hostile() -> Vec<Check> {
    let check = |(name, body): &(&str, &str)| {
        let file = script(name, body);
        let lines = format!("script = [\"{file}\"]\nseverity = \"info\"\ntimeout = \"400ms\"");
        Check::new(name, &lines)
    };
    HOSTILE.iter().map(check).collect()
}

fn beside_adverts() {
    let interval = Duration::from_millis(10);
    let arena = Arena::settled(Plan { interval, ..with_checks(hostile()) });
    for ix in [FIRST, SECOND] {
        for name in ["hangs", "deaf", "children"] {
            arena.wait_check(ix, name, "fail", Duration::from_secs(15));
        }
    }
    let from = now();
    wait(Duration::from_secs(10));
    let (moves, owner, seen) = (arena.moves(from), arena.stage.owner(), arena.outage(from));
    let left = processes(&arena);
    println!(
        "\n  moves {moves}, owner {owner:?}, longest outage {:?}, processes on h1 {left}",
        seen.longest_gap
    );
    assert_eq!((moves, owner), (0, Some(FIRST)), "{}", arena.stage.logs(30));
    // One agent, one executor, and of every hostile check the run of the moment; what is killed is waited for.
    let most = 2 + 4 * HOSTILE.len();
    assert!(left <= most, "{left} processes on h1: runs pile up");
    arena.close();
}

/// Processes on the first host that are not ended by leaving their group.
fn processes(arena: &Arena) -> usize {
    let ns = arena.stage.room().host(FIRST).ns().unwrap();
    let all = ns.processes().unwrap();
    let is_orphan = |pid: &&i32| {
        let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(**pid)));
        session.is_ok_and(|sid| sid.as_raw() == **pid)
            && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "sleep\n")
    };
    let orphans = all.iter().filter(is_orphan).count();
    println!("\n  children that left their group and session: {orphans}");
    all.len() - orphans
}

fn hanging_fails() {
    let file = script("hangs", "exec sleep 1000");
    let lines = format!("script = [\"{file}\"]\nseverity = \"fail\"");
    let mut arena = Arena::furnish(with_checks(vec![Check::new("hangs", &lines).only(FIRST)]));
    arena.stage.start_all().unwrap();
    // The first host has no word of its check at first, and is no candidate once it has.
    arena.wait_owner(SECOND);
    arena.wait_check(FIRST, "hangs", "fail", Duration::from_secs(15));
    let from = now();
    wait(Duration::from_secs(10));
    assert_eq!(arena.moves(from), 0, "{}", arena.stage.logs(30));
    arena.close();
}
