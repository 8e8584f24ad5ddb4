//! The command line: verbs, options and exit codes. One file per verb.
//!
//! Called by `main`. A verb prints what the operator asked for on standard output, errors on standard
//! error, and ends in one of the codes of [`Exit`]; it never prints through the log.

mod change;
mod check;
mod cleanup;
mod config;
mod create;
mod doctor;
mod events;
mod exec;
mod import;
mod init;
mod keygen;
mod lifecycle;
mod maintenance;
mod measures;
mod moves;
mod replica;
mod run;
mod screen;
mod simulate;
mod status;
mod why;

use crate::lab;
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Virtual-IP high-availability agent: VRRP, address leases, moves without loss.
#[derive(Debug, Parser)]
#[command(name = "vipd", version, about, max_term_width = 100)]
pub struct Args {
    /// Where this agent lives.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The four options by which several hosts on one machine differ.
#[derive(Clone, Debug, ClapArgs)]
pub struct Place {
    /// Configuration file, the same on every host
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/vipd/vipd.toml")]
    pub config: PathBuf,
    /// Which host of the configuration this is [default: the hostname]
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<String>,
    /// Folder of the control socket and the lock
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/vipd")]
    pub runtime_dir: PathBuf,
    /// Folder of what must survive a restart of the machine
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/vipd")]
    pub state_dir: PathBuf,
}

impl Place {
    /// The name of this host: `--host`, else the hostname.
    ///
    /// # Errors
    /// When the kernel's hostname is not UTF-8: then `--host` is needed.
    pub fn host(&self) -> Result<String, Failure> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        let name = nix::unistd::gethostname().map_err(|e| {
            Failure::new(Exit::Usage, format!("cannot read the hostname: {e}; give --host NAME"))
        })?;
        name.into_string()
            .map_err(|_| Failure::new(Exit::Usage, "the hostname is not UTF-8; give --host NAME"))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent in the foreground; SIGTERM stops it cleanly
    Run,
    /// Check a configuration file and say what it means for this host
    Check(check::CheckArgs),
    /// Remove what a dead agent left on this host
    Cleanup,
    /// Make a key for heartbeats and adverts
    Keygen(keygen::KeygenArgs),
    /// Ask five questions and write the first vipd.toml of two hosts
    Init(init::InitArgs),
    /// Make a vipd.toml from the keepalived.conf of each host, with a report of every line
    Import(import::ImportArgs),
    /// Show what the running agent does and why
    Status(status::StatusArgs),
    /// Explain the state: gates, order of the hosts, what would change it
    Why(why::WhyArgs),
    /// Show the health checks of this host
    Checks(measures::TableArgs),
    /// Show the other hosts and the heartbeat paths to them
    Peers(measures::TableArgs),
    /// State files that follow an address: how the replicas stand, versions that were kept
    #[command(subcommand)]
    Replica(replica::ReplicaVerb),
    /// Look for what works against vipd on this host: filters, settings, managers, rights, peers
    Doctor(doctor::DoctorArgs),
    /// Show what happened on this host: transitions, operations, changes, alarms
    History(events::HistoryArgs),
    /// Show events, with -f as they happen
    Events(events::EventsArgs),
    /// Say what would happen if something happened: who owns then, after how long, what clients lose
    Simulate(simulate::SimulateArgs),
    /// Hand an instance to another host without a gap; it stays there until `failback`
    Move(moves::MoveArgs),
    /// End what a move left behind: configuration and checks decide again
    Failback(change::InstanceArgs),
    /// Make this host claim an instance, whatever keeps it from doing so by itself
    Promote(moves::PromoteArgs),
    /// Let go of an instance, whoever takes it
    Release(change::InstanceArgs),
    /// Hand everything to other hosts and claim nothing, restarts and reboots included, until `undrain`
    Drain(maintenance::DrainArgs),
    /// Take part again
    Undrain(change::ChangeArgs),
    /// No preemption and no voluntary move in the group; a dead owner is still replaced
    Freeze(maintenance::FreezeArgs),
    /// End the freeze
    Thaw(change::ChangeArgs),
    /// Another priority than the configured one
    SetPriority(maintenance::PriorityArgs),
    /// Say that the reason for too many moves was looked at: they may go on
    Ack(change::InstanceArgs),
    /// Read the configuration anew; a bad file changes nothing
    Reload(change::ChangeArgs),
    /// Compare configurations
    Config(config::ConfigArgs),
    /// Go on as the program that is installed now, without letting go of anything
    Reexec(change::ChangeArgs),
    /// Run the operator's programs for the agent; started by vipd-exec.service or by `vipd run`
    Exec(exec::ExecArgs),
    /// Play failures in namespaces on this machine and watch what a client sees
    Lab(lab::LabArgs),
}

/// Exit codes; they are part of the interface.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or healthy.
    Done = 0,
    /// Something failed that has no code of its own.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The configuration is missing or invalid.
    Config = 3,
    /// Refused by policy; the reason is on standard error.
    Refused = 4,
    /// The operation goes on, or nobody knows how it ended.
    Unknown = 5,
    /// Nobody answers on the control socket.
    Unreachable = 6,
    /// A capability or a permission is missing.
    Permission = 7,
    /// `status`: works, but without redundancy or with an alarm.
    Degraded = 10,
    /// `status`: an instance has no owner.
    NobodyActive = 11,
    /// `status`: an address has two owners.
    DualActive = 12,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A verb that did not work: what to print and how to end.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// `message` names the place and the fix.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

/// Runs the verb and reports a failure on standard error. To be called before any thread exists: `lab` enters
/// namespaces of its own, which only a process of one thread can.
pub fn dispatch(args: Args) -> ExitCode {
    let Args { place, verb } = args;
    let done = match verb {
        Verb::Lab(args) => {
            return lab::run(&args).unwrap_or_else(|error| {
                eprintln!("vipd: {error:#}");
                Exit::Failed.into()
            });
        }
        Verb::Status(args) => {
            return status::run(&place, &args).unwrap_or_else(|failure| failed(&failure).into());
        }
        Verb::Why(args) => why::run(&place, &args),
        Verb::Checks(args) => measures::checks(&place, &args),
        Verb::Peers(args) => measures::peers(&place, &args),
        Verb::Replica(verb) => replica::run(&place, verb),
        Verb::Doctor(args) => doctor::run(&place, &args),
        Verb::Run => run::run(&place),
        Verb::Check(args) => check::run(&place, &args),
        Verb::Cleanup => cleanup::run(&place),
        Verb::Keygen(args) => keygen::run(&args),
        Verb::Import(args) => import::run(&place, &args),
        Verb::Init(args) => init::run(&place, &args),
        Verb::History(args) => events::history(&place, args),
        Verb::Events(args) => events::events(&place, args),
        Verb::Simulate(args) => simulate::run(&place, args),
        Verb::Move(args) => moves::hand_over(&place, args),
        Verb::Failback(args) => moves::failback(&place, args),
        Verb::Promote(args) => moves::promote(&place, args),
        Verb::Release(args) => moves::release(&place, args),
        Verb::Drain(args) => maintenance::drain(&place, args),
        Verb::Undrain(args) => maintenance::undrain(&place, args),
        Verb::Freeze(args) => maintenance::freeze(&place, args),
        Verb::Thaw(args) => maintenance::thaw(&place, args),
        Verb::SetPriority(args) => maintenance::set_priority(&place, args),
        Verb::Ack(args) => maintenance::ack(&place, args),
        Verb::Reload(args) => lifecycle::reload(&place, args),
        Verb::Config(args) => config::run(&place, &args),
        Verb::Reexec(args) => lifecycle::reexec(&place, args),
        Verb::Exec(args) => exec::run(&place, &args),
    };
    done.unwrap_or_else(|failure| failed(&failure)).into()
}

/// Says on standard error what did not work.
fn failed(failure: &Failure) -> Exit {
    let text = format!("vipd: {}", failure.message);
    let reads = std::io::stderr().is_terminal();
    eprintln!("{}", if reads { screen::broken(&text) } else { text });
    failure.exit
}

/// Prints for the operator. A closed pipe (`vipd status | head`) is not an error of the agent; gives whether anybody
/// still reads, for who has more to say.
fn say(text: impl fmt::Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}
