//! vipd beside unmodified keepalived and FRR, in every mode and in both roles.
//!
//! Each mode is played on two hosts: election, clean stop (priority 0), preemption, power cut, equal
//! priorities; and keepalived in moves that an operator orders. Judged by the address tables of the kernels, by a client that probes each millisecond
//! and by what tcpdump and tshark read at the switch, never by what vipd says of itself.
//!
//! `VIPD_LONG=1` plays five rounds instead of one; each trial prints its figures to standard error.

mod figures;
mod imported;
mod mode;
mod moves;
#[path = "../parts.rs"]
mod parts;
mod play;
mod refusal;
mod trailer;
mod wire;

use libtest_mimic::{Arguments, Failed, Trial};
use mode::{MODES, Role};
use parts::Part;
use std::process::ExitCode;
use vipd_agent::lab::room::Room;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let part = Part::ours();
    if part.is_none() && parts::is_whole(&arguments) {
        return parts::play();
    }
    let entered = match Room::enter() {
        Ok(Room::Inside) => None,
        Ok(Room::Done(code)) => Some(code),
        Err(e) => {
            eprintln!("the interop tests cannot run: {e:#}");
            Some(ExitCode::FAILURE)
        }
    };
    if let Some(code) = entered {
        return code;
    }
    // Within a process one room after the other: they have the same switches.
    arguments.test_threads = Some(1);
    let (alone, patient) = (moves::trials(), trials());
    let ours = match part {
        Some(part) => part.choose(alone, patient),
        None => alone.into_iter().chain(patient).collect(),
    };
    libtest_mimic::run(&arguments, ours).exit_code()
}

/// All but those that count lost probes.
fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for mode in MODES {
        for role in Role::BOTH {
            let name = format!("{}/{}", mode.name, role.name());
            trials.push(Trial::test(name, move || told(play::matrix(mode, role))));
        }
        for role in Role::BOTH {
            let name = format!("{}/equal-priority-{}", mode.name, role.higher_address());
            trials.push(Trial::test(name, move || told(play::equal_priority(mode, role))));
        }
    }
    trials.extend(refusal::trials());
    trials.extend(trailer::trials());
    trials.extend(imported::trials());
    trials
}

/// Plays everything that CI only samples?
fn long() -> bool {
    std::env::var_os("VIPD_LONG").is_some()
}

/// An error with its causes, as the harness prints it.
fn told(outcome: anyhow::Result<()>) -> Result<(), Failed> {
    outcome.map_err(|e| Failed::from(format!("{e:#}")))
}
