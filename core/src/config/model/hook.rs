//! The operator's programs as configured: what runs when, as whom, for how long.

use super::Model;
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
    /// How long one run may take; `None`: as long as its moment allows, [`Moment::time`].
    pub timeout: Option<Duration>,
    /// From one [`Moment::SyncInterval`] or [`Moment::Verify`] to the next; `None`: [`Moment::pace`].
    pub interval: Option<Duration>,
    /// Files and folders whose changes are a [`Moment::SyncChange`], with everything below them.
    pub watch: Vec<PathBuf>,
    /// After a change, wait for this long a quiet, and ten times as long at most.
    pub debounce: Duration,
}

impl Hook {
    /// Does it run for `instance` at that moment?
    pub fn hears(&self, instance: InstanceIx, moment: Moment) -> bool {
        let concerned = self.instances.is_empty() || self.instances.contains(&instance);
        concerned && self.on.contains(&moment)
    }

    /// How long one run may take at that moment.
    pub fn time(&self, moment: Moment) -> Duration {
        self.timeout.unwrap_or_else(|| moment.time())
    }
}

impl Model {
    /// The hooks that run for `instance` at that moment, by name.
    pub fn hooks_at(&self, instance: InstanceIx, moment: Moment) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(move |hook| hook.hears(instance, moment))
    }

    /// How long they may take, one after the other; `None`: there is none.
    pub fn time_at(&self, instance: InstanceIx, moment: Moment) -> Option<Duration> {
        self.hooks_at(instance, moment).map(|hook| hook.time(moment)).reduce(|all, one| all + one)
    }
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
    /// Then it gets TERM, and KILL two seconds later, the whole process group. Of a hook: the longest of its moments.
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
    /// On the owner, again and again.
    SyncInterval,
    /// On the owner, after a change of what is watched.
    SyncChange,
    /// On the owner, in a planned move: everything has to be on the target now.
    SyncBarrier,
    /// On who is about to own.
    PrePromote,
    /// On who owns, once the kernel confirmed it; and on who goes on as owner after a move that was given up.
    PostPromote,
    /// On the owner, before a planned move takes its state along: nothing is written from here on.
    PreDemote,
    /// On who owned, once the addresses are gone.
    PostDemote,
    /// On a standby, again and again: is what it has still whole?
    Verify,
}

impl Moment {
    /// As it is written.
    pub const ALL: [(&'static str, Self); 12] = [
        ("active", Self::Active),
        ("backup", Self::Backup),
        ("fault", Self::Fault),
        ("stop", Self::Stop),
        ("sync-interval", Self::SyncInterval),
        ("sync-change", Self::SyncChange),
        ("sync-barrier", Self::SyncBarrier),
        ("pre-promote", Self::PrePromote),
        ("post-promote", Self::PostPromote),
        ("pre-demote", Self::PreDemote),
        ("post-demote", Self::PostDemote),
        ("verify", Self::Verify),
    ];

    /// Does keepalived know it? Only then can a hook be told in its words.
    pub const fn is_state(self) -> bool {
        matches!(self, Self::Active | Self::Backup | Self::Fault | Self::Stop)
    }

    /// How long a program may take, where nothing is written.
    pub const fn time(self) -> Duration {
        Duration::from_secs(match self {
            Self::SyncInterval | Self::SyncChange | Self::Verify => 60,
            Self::SyncBarrier => 20,
            Self::PreDemote | Self::PostDemote => 10,
            Self::Active | Self::Backup | Self::Fault | Self::Stop => 30,
            Self::PrePromote | Self::PostPromote => 30,
        })
    }

    /// From one run to the next, where nothing is written; `None`: something else makes it run.
    pub const fn pace(self) -> Option<Duration> {
        match self {
            Self::SyncInterval => Some(Duration::from_secs(60)),
            Self::Verify => Some(Duration::from_secs(3600)),
            _ => None,
        }
    }
}
