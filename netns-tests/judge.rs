//! What is looked at on a host, and how far a promise may be measured off.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vipd_agent::lab::outage::Outage;
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::stage::Stage;

/// The two eyes of a room are threads: each stamps an event when it runs, on a busy machine some milliseconds late.
pub(crate) const EYE: Duration = Duration::from_millis(5);
/// How much later than its lifetime a kernel may drop an address.
const KERNEL_LATE: Duration = Duration::from_millis(1300);
/// Longest overlap of a move between two vipd hosts that both run: 200 ms after `applied`, and the way there.
pub(crate) const HANDOVER: Duration = Duration::from_millis(300);
/// When the client's own threads stood still longer than this, the machine was starved: what was lost then is told
/// and not held against the agent, whose kernel had no processor either.
pub(crate) const STARVED: Duration = Duration::from_millis(50);
/// Probes that a failback may cost in plain VRRP, one each millisecond. There a preempted owner lets go when it hears
/// the advert, and the new one adds the address behind it: 1 to 5 ms; nobody tells the other when it has it.
pub(crate) const PLAIN_FAILBACK: usize = 50;
/// After a heal the client must be answered again within this time, at any interval.
pub(crate) const HEAL: Duration = Duration::from_secs(1);

/// Longest time that a dead owner's kernel may keep an address: the lease (the largest whole number of seconds below
/// 3 T - 0.4 s, at least 1) and the kernel's lateness.
pub(crate) fn let_go(plan: &Plan) -> Duration {
    let lease = (plan.interval * 3).saturating_sub(Duration::from_millis(400)).as_secs().max(1);
    Duration::from_secs(lease) + KERNEL_LATE
}

/// What an agent could leave on a host: addresses, devices, routes, rules, neighbour proxies, filters, settings.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// The host as it is now.
    pub(crate) fn of(stage: &Stage, ix: usize) -> Self {
        Self(stage.room().host(ix).ns().unwrap().run(|| Ok(look())).unwrap())
    }

    /// The host when two looks in a row show the same.
    pub(crate) fn settled(stage: &Stage, ix: usize) -> Self {
        let mut seen = Self::of(stage, ix);
        for _ in 0..100 {
            crate::arena::wait(Duration::from_millis(20));
            let again = Self::of(stage, ix);
            if again.differences(&seen).is_empty() {
                return again;
            }
            seen = again;
        }
        panic!("host {ix} does not settle");
    }

    /// What came and what went since.
    pub(crate) fn differences(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|line| format!("gone: {line}"));
        let new = later.0.difference(&self.0).map(|line| format!("new: {line}"));
        gone.chain(new).collect()
    }
}

/// On the host's own thread.
fn look() -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for command in [
        "ip -o -d link",
        "ip -o addr",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip rule",
        "ip maddr",
        "nft list ruleset",
    ] {
        let mut words = command.split_ascii_whitespace();
        // Programs that this machine lacks find nothing; the tests that need them say so.
        let Ok(out) = Command::new(words.next().unwrap()).args(words).output() else { continue };
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            seen.insert(format!("{command}: {}", steady(line)));
        }
    }
    for folder in ["net/ipv4", "net/ipv6"] {
        settings(&Path::new("/proc/sys").join(folder), &mut seen);
    }
    seen
}

/// A line without what differs between two looks at the same thing: indexes, counters, lifetimes, and whether the
/// kernel is still looking for duplicates of a host's own address, as it does just after the room was built.
fn steady(line: &str) -> String {
    let mut words = line.split_ascii_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let index = word.strip_suffix(':').is_some_and(|w| w.parse::<u32>().is_ok());
        match word {
            "expires" | "age" | "users" | "link-netnsid" => drop(words.next()),
            "tentative" => {}
            _ if index => {}
            _ => kept.push(word.split('@').next().unwrap_or_default()),
        }
    }
    kept.join(" ")
}

fn settings(folder: &Path, seen: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            settings(&path, seen);
        } else if let Ok(value) = std::fs::read_to_string(&path) {
            seen.insert(format!("{} = {}", path.display(), value.trim()));
        }
    }
}

/// Lost probes that count: all, unless the machine was starved.
pub(crate) fn lost(seen: &Outage) -> usize {
    if seen.lost > 0 && seen.stalled > STARVED {
        println!(
            "  NOT JUDGED: {} lost while the client stood still for {:?}",
            seen.lost, seen.stalled
        );
        return 0;
    }
    seen.lost
}
