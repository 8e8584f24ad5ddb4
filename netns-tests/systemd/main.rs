//! vipd on hosts that a person would recognise: Debian with a real systemd as process 1, the package installed by dpkg,
//! the agent started by its unit. Judged by the hosts' address tables and by what a client loses.
//!
//! It builds everything itself: the root of the hosts (mmdebstrap, once; kept below `target/tmp`), the package
//! (`packaging/build`), and in namespaces two containers on the switches of the lab. Needs root and the Debian packages
//! that `.ci/run` installs; where that is not to be had it prints SKIPPED and why.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test prints what it measured")]

mod groups;
mod host;
mod kit;
mod pair;
mod trials;

use kit::Kit;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use vipd_agent::lab::room::{INSIDE, Room};

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Two machines at a time are enough for one.
    args.test_threads = Some(1);
    let trials = trials::ALL.iter().map(|(name, trial)| {
        Trial::test(*name, move || {
            trial();
            Ok::<_, Failed>(())
        })
    });
    let trials: Vec<_> = trials.collect();
    if args.list {
        return libtest_mimic::run(&args, trials).exit_code();
    }
    if std::env::var_os(INSIDE).is_none() {
        if let Err(reason) = Kit::furnish() {
            println!("SKIPPED: hosts with systemd: {reason:#}");
            return ExitCode::SUCCESS;
        }
        Kit::pack().unwrap();
        groups::enter().unwrap();
    }
    match Room::enter().unwrap() {
        Room::Done(code) => {
            groups::leave();
            code
        }
        Room::Inside => {
            groups::show().unwrap();
            libtest_mimic::run(&args, trials).exit_code()
        }
    }
}
