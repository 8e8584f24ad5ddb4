//! One measurement in a room of its own: which agent, what is measured, and the samples that come back.

use crate::{checks, control, outage, replicate, scale, spacing, takeover};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};
use vipd_agent::lab::agent::Kind;
use vipd_agent::lab::plan::{Heartbeats, Plan};

/// Who is measured.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Who {
    /// vipd as it is meant: heartbeats on two networks.
    Vipd,
    /// vipd without heartbeats: what keepalived does, plus the address lease.
    VipdPlain,
    /// vipd that claims by routes.
    VipdRoute,
    /// keepalived.
    Keepalived,
}

impl Who {
    /// As tables call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Vipd => "vipd",
            Self::VipdPlain => "vipd without heartbeats",
            Self::VipdRoute => "vipd, claim = \"route\"",
            Self::Keepalived => "keepalived",
        }
    }

    /// The agent of a room.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Keepalived => Kind::Keepalived,
            _ => Kind::Vipd(env!("CARGO_BIN_EXE_vipd").into()),
        }
    }

    /// The plan of two hosts with this interval in milliseconds.
    pub(crate) fn plan(self, interval_ms: u64) -> Plan {
        let heartbeats = match self {
            Self::Vipd | Self::VipdRoute => Heartbeats::TwoPaths,
            Self::VipdPlain | Self::Keepalived => Heartbeats::Off,
        };
        let interval = std::time::Duration::from_millis(interval_ms);
        Plan { interval, heartbeats, ..Plan::default() }
    }
}

/// What is measured in one room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Every scene once.
    Outage,
    /// The owner loses its power, and so many addresses move.
    Takeover { addresses: usize },
    /// So many instances for so many seconds.
    Instances { count: usize, seconds: u64 },
    /// One instance with so many addresses.
    Addresses { count: usize, seconds: u64 },
    /// Adverts for so many seconds.
    Spacing { real_time: bool, seconds: u64 },
    /// Adverts for so many seconds beside so many checks.
    Checks { count: usize, seconds: u64 },
    /// Adverts for so many seconds beside so many clients of the control socket.
    Control { clients: usize, seconds: u64 },
    /// State files beside rsync.
    Replicate { quick: bool, long: bool },
}

/// A measurement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Who is measured.
    pub(crate) who: Who,
    /// Advertisement interval.
    pub(crate) interval_ms: u64,
    /// What is measured.
    pub(crate) task: Task,
}

/// One number of a job. Jobs of one kind give the same names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// What.
    pub(crate) name: String,
    /// In the unit that its section knows; mostly milliseconds.
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value }
    }
}

impl Job {
    /// Measures; the process must be in a room.
    ///
    /// # Errors
    /// When the room cannot be made or the agents do not get where the measurement begins.
    pub(crate) fn run(&self) -> anyhow::Result<Vec<Sample>> {
        match self.task {
            Task::Outage => outage::measure(self),
            Task::Takeover { addresses } => takeover::measure(self, addresses),
            Task::Instances { count, seconds } => scale::instances(self, count, seconds),
            Task::Addresses { count, seconds } => scale::addresses(self, count, seconds),
            Task::Checks { count, seconds } => checks::measure(self, count, seconds),
            Task::Control { clients, seconds } => control::measure(self, clients, seconds),
            Task::Replicate { quick, long } => replicate::measure(self, quick, long),
            Task::Spacing { real_time, seconds } => spacing::measure(self, real_time, seconds),
        }
    }

    fn start(&self) -> anyhow::Result<std::process::Child> {
        let job = serde_json::to_string(self)?;
        Command::new(std::env::current_exe()?)
            .args(["job", &job])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a job")
    }
}

/// Runs jobs side by side; the samples of each that came to its end.
///
/// # Errors
/// When this program cannot be started again. A job that fails has said why, and is missing.
pub(crate) fn side_by_side(jobs: &[Job]) -> anyhow::Result<Vec<(Job, Vec<Sample>)>> {
    let started: Vec<_> = jobs.iter().map(Job::start).collect::<anyhow::Result<_>>()?;
    let mut done = Vec::new();
    for (job, child) in jobs.iter().zip(started) {
        let out = child.wait_with_output()?;
        if !out.status.success() {
            eprintln!("missing: {job:?} ended with {}", out.status);
            continue;
        }
        let samples = serde_json::from_slice(&out.stdout).context("a job said no samples")?;
        done.push((job.clone(), samples));
    }
    if done.is_empty() {
        bail!("no job came to its end");
    }
    Ok(done)
}
