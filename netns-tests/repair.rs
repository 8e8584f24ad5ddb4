//! Addresses that others remove, or pile up by the thousands.

use crate::arena::{Arena, FIRST, wait};
use libtest_mimic::Trial;
use std::fmt::Write as _;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::plan::{Families, Plan};
use vipd_core::time::Instant;

/// Ten times what a repair is expected to take.
const REPAIR: Duration = Duration::from_millis(500);
/// Foreign addresses of the storm: half of the changes add them, half remove them.
const STORM: usize = 10_000;

/// Of addresses that are advertised every 2 s: the largest whole number of seconds below 3 T - 0.4 s.
const LEASE: Duration = Duration::from_secs(5);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("repair/a_removed_address_comes_back_and_is_announced", || {
            removed();
            Ok(())
        }),
        Trial::test("repair/a_storm_of_foreign_changes_leaves_ours_and_theirs", || {
            storm();
            Ok(())
        }),
        Trial::test("repair/an_overrun_is_repaired_by_looking_again", || {
            overrun();
            Ok(())
        }),
    ]
}

fn dual(ms: u64) -> Plan {
    let interval = Duration::from_millis(ms);
    Plan { interval, families: Families::Dual, ..Plan::default() }
}

fn removed() {
    let arena = Arena::elected(dual(1000));
    // More of it would be a quarrel: the agent's budget is five in a minute.
    for round in 1..=2 {
        for vip in arena.stage.plan().vips() {
            let (bits, family) = if vip.is_ipv4() { (32, "-4") } else { (128, "-6") };
            // A client that believes something wrong is corrected by an announcement alone: an entry in this state
            // is used for seconds before anybody asks.
            let wrong = format!(
                "ip {family} neigh replace {vip} lladdr 02:00:00:00:01:63 dev eth0 nud stale"
            );
            let words: Vec<String> = wrong.split(' ').map(str::to_owned).collect();
            let poison =
                move || Ok(std::process::Command::new(&words[0]).args(&words[1..]).status()?);
            assert!(arena.stage.room().client().run(poison).unwrap().success());
            let at = now();
            arena.run(FIRST, &format!("ip {family} addr del {vip}/{bits} dev eth0"));
            let back = arena.stage.eyes().wait(REPAIR, |seen| {
                seen.holders(vip) == [FIRST]
                    && seen.holdings().iter().any(|h| h.addr == vip && h.from > at)
            });
            let back = back.unwrap_or_else(|| panic!("{vip} stays away\n{}", arena.stage.logs(20)));
            let prober = arena.stage.probers().iter().find(|p| p.target() == vip).unwrap();
            assert!(prober.wait_answer(Duration::from_secs(1)), "{vip} is back and not announced");
            println!(
                "\n  {round}: {vip} back after {:.1} ms, answered after {:.1} ms",
                millis(back.since(at)),
                millis(now().since(at))
            );
        }
        wait(Duration::from_secs(1));
    }
    assert_eq!(arena.stage.owner(), Some(FIRST));
    arena.close();
}

/// `count` foreign addresses as lines for `ip -batch`.
fn batch(verb: &str, count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        // Writing to a String does not fail.
        let _ = writeln!(text, "addr {verb} 10.77.{}.{}/32 dev eth0", n / 250, n % 250 + 1);
    }
    text
}

fn play_batch(arena: &Arena, verb: &str, count: usize) {
    let file = arena.dir(FIRST).join("batch");
    std::fs::write(&file, batch(verb, count)).unwrap();
    arena.run(FIRST, &format!("ip -batch {}", file.display()));
}

fn foreign(arena: &Arena) -> usize {
    arena.run(FIRST, "ip -4 -o addr show dev eth0").matches(" 10.77.").count()
}

fn storm() {
    let arena = Arena::elected(dual(1000));
    let at = now();
    play_batch(&arena, "add", STORM);
    assert_eq!(foreign(&arena), STORM, "somebody removed foreign addresses");
    play_batch(&arena, "del", STORM - 7);
    let took = now().since(at);
    wait(Duration::from_secs(2));
    assert_eq!(foreign(&arena), 7, "{}", arena.stage.logs(20));
    assert_eq!(arena.stage.owner(), Some(FIRST), "{}", arena.stage.logs(20));
    let seen = arena.outage(at);
    println!("\n  {} changes in {:.0} ms, lost {}", 2 * STORM - 7, millis(took), seen.lost);
    assert_eq!(arena.two_owners(at), Duration::ZERO);
    assert_eq!(seen.lost, 0, "{seen:?}\n{}", arena.stage.logs(20));
    // What is left goes by its prefix: the agent must not be blamed for it in the end.
    play_batch_rest(&arena);
    arena.close();
}

fn play_batch_rest(arena: &Arena) {
    let file = arena.dir(FIRST).join("batch");
    let all = batch("del", STORM);
    let rest: Vec<_> = all.lines().skip(STORM - 7).collect();
    std::fs::write(&file, rest.join("\n") + "\n").unwrap();
    arena.run(FIRST, &format!("ip -batch {}", file.display()));
}

/// Adds and removes foreign addresses until a netlink socket of the agent has dropped events; how many. The agent's
/// queue holds some ten thousand.
fn drown(arena: &Arena, until: Instant) -> u64 {
    let pid = arena.stage.agent(FIRST).pid().unwrap();
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let sockets: Vec<_> = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    while now() < until {
        play_batch(arena, "add", 1000);
        play_batch(arena, "del", 1000);
        let table = arena.run(FIRST, "cat /proc/thread-self/net/netlink");
        // The last columns are drops and inode.
        let drops = table.lines().skip(1).filter_map(|line| {
            let mut words = line.split_ascii_whitespace().rev();
            let socket = format!("socket:[{}]", words.next()?);
            let drops = words.next()?.parse::<u64>().ok()?;
            sockets.iter().any(|s| s.as_os_str() == socket.as_str()).then_some(drops)
        });
        let dropped = drops.sum();
        if dropped > 0 {
            return dropped;
        }
    }
    0
}

/// Nobody reads while more events come than a socket holds; among what is lost is the removal of our own address.
fn overrun() {
    let mut arena = Arena::elected(dual(2000));
    let vips = arena.stage.plan().vips();
    let at = arena.stage.hang(FIRST).unwrap();
    let seen = drown(&arena, at + (LEASE - Duration::from_secs(3)));
    arena.run(FIRST, &format!("ip addr del {}/32 dev eth0", vips[0]));
    let hung = arena.stage.resume(FIRST).unwrap().since(at);
    println!("\n  nobody read for {:.0} ms, {seen} events dropped", millis(hung));
    assert!(seen > 0, "the socket held it all: nothing was overrun");
    assert!(hung < LEASE, "the lease ended first: this machine is too slow");
    arena.wait_owner(FIRST);
    let two = arena.two_owners(at);
    assert_eq!(two, Duration::ZERO, "{}", arena.stage.logs(20));
    assert_eq!(foreign(&arena), 0);
    // Whoever owns now owns everything, alone, and is answered.
    arena.calm();
    let from = now();
    wait(Duration::from_secs(1));
    assert_eq!(arena.outage(from).lost, 0, "{}", arena.stage.logs(20));
    arena.close();
}
