//! Acceptance tests of the agent: real processes on hosts that are namespaces, judged from outside.
//!
//! What counts is what a client is answered, what the kernels of the hosts say about addresses, and what is left
//! behind; of the agent only its exit, its last words and `vipd status` are read. Trials that measure closely run one after
//! the other, the others in four processes at once. `VIPD_LONG=1` plays every combination and a hundred heals; otherwise a fixed sample
//! is played and printed.
//!
//! ```text
//! matrix     every dimension paired with every other     link       interfaces that come, go and change
//! failover   promises of one owner, and their breaking   bad_input  floods, strangers, missing rights
//! heal       partitions healed again and again           load       real-time scheduling under spinners
//! stop       planned moves lose nothing                  repair     addresses that others remove or pile up
//! health     scenes of sick services and gateways        hostile    checks that hang, flood and stay
//! pressure   processors, memory, disks that are full     standby    warm and cold hosts
//! pool       addresses shared out among three hosts      hooks      lines as keepalived's users read them
//! arena      one fresh room for each trial               judge      what is looked at and what is allowed
//! programs   scripts on the hosts, and what they wrote   order      what operators type on a host
//! moves      moves, drains and stops lose nothing        busy       the same while others hold the kernel's lock
//! severed    agents that die in the middle of a move
//! verbs      each order, its end, exit code and record   restart    planned restarts that nobody sees
//! sync_hooks moments around a move, vetoes           sync_rsync files that follow the address by rsync
//! sync_states connections by conntrackd, a service
//! doctor     faults that `vipd doctor` has to find       screens    what the operator reads, as docs/screens.md
//! replication  state files that follow the address
//! simulate   what is predicted, and what then happens    versions   groups and upgrades of two builds
//! parts      which trials run beside each other
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is told where the trial is")]

mod arena;
mod bad_input;
mod busy;
mod doctor;
mod failover;
mod heal;
mod health;
mod hooks;
mod hostile;
mod judge;
mod link;
mod load;
mod matrix;
mod moves;
mod order;
mod parts;
mod pool;
mod pressure;
mod programs;
mod reload;
mod reload_files;
mod repair;
mod replication;
mod restart;
mod screens;
mod severed;
mod simulate;
mod standby;
mod stop;
mod sync_hooks;
mod sync_rsync;
mod sync_states;
mod verbs;
mod versions;

use libtest_mimic::{Arguments, Trial};
use parts::Part;
use std::process::ExitCode;
use vipd_agent::lab::room::Room;

/// Played in the long run alone: variants of what is played anyway, without heartbeats or with another weight.
const LONG_ONLY: [&str; 11] = [
    "health/plain",
    "health/heartbeats/both_die",
    "health/heartbeats/service_hangs",
    "health/links_flap_without",
    "health/weight_60",
    "pool/plain",
    "pressure/cpu/weight_20",
    "pressure/memory/weight_20",
    "pressure/io/weight_20",
    "pressure/disk/no_inodes/info",
    "pressure/disk/read_only/info",
];

/// Rooms that count lost probes or load the machine: nothing else runs beside them.
const ALONE: [fn() -> Vec<Trial>; 15] = [
    failover::trials,
    stop::trials,
    restart::trials,
    versions::trials,
    reload::trials,
    moves::trials,
    busy::trials,
    heal::trials,
    repair::trials,
    load::trials,
    hostile::trials,
    bad_input::floods,
    pressure::trials,
    matrix::trials,
    replication::trials,
];
/// Rooms that mostly wait: four at once.
const PATIENT: [fn() -> Vec<Trial>; 15] = [
    verbs::trials,
    severed::trials,
    link::trials,
    bad_input::trials,
    health::trials,
    standby::trials,
    doctor::trials,
    screens::trials,
    simulate::trials,
    pool::trials,
    hooks::trials,
    sync_hooks::trials,
    sync_rsync::trials,
    sync_states::trials,
    pressure::disks,
];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    let part = Part::ours();
    // The long run repeats what it counts by the hundred: everything alone.
    if part.is_none() && parts::is_whole(&args) && !arena::is_long() {
        return parts::play();
    }
    match Room::enter() {
        Ok(Room::Done(code)) => return code,
        Ok(Room::Inside) => {}
        Err(e) => {
            eprintln!("{e:#}");
            return ExitCode::FAILURE;
        }
    }
    stand_apart();
    // What a trial says is its message, which stands at the end of the run. What was compared stands here as well: of long
    // runs often only the place of the failure is kept.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        println!("  judged at {place}");
        let said = panic.payload();
        let literal = || said.downcast_ref::<&str>().copied();
        let message =
            said.downcast_ref::<String>().map(String::as_str).or_else(literal).unwrap_or_default();
        let compared = |line: &&str| line.starts_with("  left: ") || line.starts_with(" right: ");
        for line in message.lines().take(1).chain(message.lines().filter(compared)) {
            println!("  {line}");
        }
    }));
    args.test_threads = Some(1);
    let (alone, patient) = (wanted(&ALONE), wanted(&PATIENT));
    let trials = match part {
        Some(part) => part.choose(alone, patient),
        None => alone.into_iter().chain(patient).collect(),
    };
    libtest_mimic::run(&args, trials).exit_code()
}

/// The trials of these rooms that this run plays.
fn wanted(rooms: &[fn() -> Vec<Trial>]) -> Vec<Trial> {
    let is_wanted = |trial: &Trial| {
        arena::is_long() || !LONG_ONLY.iter().any(|name| trial.name().starts_with(name))
    };
    rooms.iter().flat_map(|trials| trials()).filter(is_wanted).collect()
}

/// What else this machine computes (a build, another test) must not decide what is measured here: the room is a
/// session of its own, and where the kernel groups by session, and lets us, its group comes first. Load that a
/// trial makes is inside of it.
fn stand_apart() {
    // Refused to a leader of processes, which this one is not.
    let _ = nix::unistd::setsid();
    if let Err(e) = std::fs::write("/proc/self/autogroup", "-20") {
        println!("measured beside everything else on this machine: /proc/self/autogroup: {e}");
    }
}
