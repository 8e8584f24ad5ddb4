//! `vipd exec` with real programs that behave badly: hang, flood, fork daemons, ignore TERM, belong to somebody else.
//!
//! The executor runs as a process of its own, this very program started again: it is the parent of every orphan below
//! it and would take other tests' children for leftovers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod connection;
mod endings;
mod fifo;
mod guard;
mod stage;
mod told;

use libtest_mimic::{Arguments, Trial};
use nix::unistd::geteuid;
use stage::Stage;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use vipd_agent::exec::server::Executor;
use vipd_core::config::model::{
    Account, Call, Check, Hook, HookRun, Model, Moment, Probe, Program, Severity,
};

/// What the executor serves; its programs are beside it.
const CONFIG: &str = "[cluster]\nname = \"shop\"\n[hosts.lb1]\n[hosts.lb2]\n[instance.web]\nvrid = 51\n\
                      interface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\n";

fn main() -> std::process::ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.get(2).is_some_and(|word| word == "exec") {
        serve(Path::new(&words[1]));
        return std::process::ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let trial = |name: &str, needs_root: bool, test: fn(&Stage)| {
        Trial::test(name, move || {
            test(&Stage::new());
            Ok(())
        })
        .with_ignored_flag(needs_root && !geteuid().is_root())
    };
    let trials = vec![
        trial("a_program_hears_argv_environment_and_json", false, told::told),
        trial("more_addresses_than_a_variable_holds", false, told::many_addresses),
        trial("the_last_line_of_a_flood_is_told", false, told::last_line),
        trial("who_waits_less_long_ends_it_earlier", false, endings::deadline),
        trial("keepalived_notify_hears_four_more_words", false, told::told_as_by_keepalived),
        trial("one_that_hangs_is_ended_with_its_group", false, endings::hangs),
        trial("one_that_ignores_term_is_killed", false, endings::ignores_term),
        trial("a_gibibyte_of_output_ends_and_is_not_kept", false, endings::floods),
        trial("a_daemon_of_a_check_does_not_survive_it", false, endings::daemon),
        trial("what_a_hook_left_in_the_background_has_its_time", false, endings::background),
        trial("a_program_that_others_can_change_is_refused", false, guard::writable),
        trial("what_is_not_configured_is_refused", false, guard::not_configured),
        trial("what_cannot_be_started_is_not_failed", false, guard::not_started),
        trial("nothing_is_inherited", false, told::inherited),
        trial("a_configuration_may_have_a_relative_path", false, told::relative),
        trial("programs_run_as_nobody_or_as_configured", true, guard::users),
        trial("no_process_left_is_not_failed", true, guard::no_process),
        trial("fifo_lines_byte_for_byte", false, fifo::fifo),
        trial("a_fifo_without_reader_blocks_nothing", false, fifo::fifo_unread),
        trial("the_unit_takes_over_from_a_stand_in", false, connection::stand_in),
        trial("executors_that_end_late_are_no_zombies", false, connection::late_executors),
        trial(
            "a_late_stop_runs_after_the_slow_hook_without_the_agent",
            false,
            connection::late_stop,
        ),
        trial("a_killed_executor_is_replaced_and_its_runs_are_unknown", false, connection::killed),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The executor's side: programs as `DIR/programs` lists them.
fn serve(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let at = dir.to_owned();
        let load = move || Ok(model(&at));
        let executor = Executor::new(&dir.join("vipd.toml"), Arc::new(load)).unwrap();
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let stream = std::os::unix::net::UnixStream::from(stdin);
        stream.set_nonblocking(true).unwrap();
        fs::write(dir.join("pid"), std::process::id().to_string()).unwrap();
        executor.inherited(UnixStream::from_std(stream).unwrap()).await;
    });
}

/// `KIND NAME TIMEOUT_MS USER PATH..`, one a line.
fn model(dir: &Path) -> Model {
    let (mut model, _) = vipd_core::config::load(CONFIG, "vipd.toml", "lb1").unwrap();
    for line in fs::read_to_string(dir.join("programs")).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let name: Arc<str> = words[1].into();
        let timeout = Duration::from_millis(words[2].parse().unwrap());
        let program = Program {
            argv: words[4..].iter().map(|word| Arc::from(*word)).collect(),
            account: if words[3] == "-" {
                Account::Default
            } else {
                Account::User(words[3].into())
            },
            env: vec![("COLOUR".into(), "green".into())],
            timeout,
        };
        let hook = |run| Hook {
            name: Arc::clone(&name),
            on: vec![Moment::Active],
            instances: vec![],
            run,
            timeout: Some(timeout),
            interval: None,
            watch: vec![],
            debounce: Duration::from_secs(1),
        };
        match words[0] {
            "hook" => model.hooks.push(hook(HookRun::Program(program, Call::Vipd))),
            "notify" => model.hooks.push(hook(HookRun::Program(program, Call::Keepalived))),
            "fifo" => model.hooks.push(hook(HookRun::Fifo(words[4].into()))),
            _ => model.checks.push(Check {
                name,
                probe: Probe::Script(program),
                interval: timeout,
                timeout,
                fall: 1,
                rise: 1,
                severity: Severity::Fail,
                weight: 0,
            }),
        }
    }
    model
}
