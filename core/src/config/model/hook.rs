//! The operator's programs as configured: what runs when, as whom, for how long.

use crate::time::Duration;
use crate::types::InstanceIx;
use std::path::PathBuf;
use std::sync::Arc;

/// Something that hears of transitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// `[hook.NAME]`.
    pub name: Arc<str>,
    /// On which moments.
    pub on: Vec<Moment>,
    /// For which instances; empty: all.
    pub instances: Vec<InstanceIx>,
    /// What happens.
    pub run: HookRun,
}

/// What a hook does.
#[derive(Clone, Debug, PartialEq)]
pub enum HookRun {
    /// Starts a program.
    Program(Program, Call),
    /// Writes keepalived's notify lines into this FIFO.
    Fifo(PathBuf),
}

/// A program, started without a shell, in a process group of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Absolute path and arguments.
    pub argv: Vec<Arc<str>>,
    /// As whom.
    pub account: Account,
    /// Beside what vipd sets itself.
    pub env: Vec<(Arc<str>, Arc<str>)>,
    /// Then it gets TERM, and KILL two seconds later, the whole process group.
    pub timeout: Duration,
}

/// As whom a program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// `nobody`, or whom the executor runs as where it may not change that.
    Default,
    /// This user, with its groups.
    User(Arc<str>),
}

/// How a program is called.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `argv.. EVENT INSTANCE`, environment and JSON on standard input.
    Vipd,
    /// `argv.. INSTANCE|GROUP NAME STATE PRIORITY`, as keepalived's `notify`.
    Keepalived,
}

/// When a hook runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The kernel confirmed the addresses here.
    Active,
    /// Became Backup.
    Backup,
    /// Cannot own.
    Fault,
    /// The agent leaves cleanly.
    Stop,
}
