//! The replicator of a host, where a room has state files: started beside the agent, killed, stopped.
//!
//! Every host sees its own files at one and the same path ([`ROOT`]): the replicator gets mounts of its own. From outside
//! they are below [`Replicator::files`].

use super::agent::Agent;
use super::clock::now;
use super::netns::Netns;
use super::processes;
use super::room::{self, FILES};
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use vipd_core::time::Instant;

/// Where every host has its state files, as its configuration says.
pub const ROOT: &str = "/run/vipd-state";
/// The program, beside that of the agent.
const PROGRAM: &str = "vipd-replicate";
/// How long it may take to end.
const END_BOUND: Duration = Duration::from_secs(10);

/// Which state files follow the address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateFiles {
    /// Lines of `[replicate.state]` beside instance and paths.
    pub lines: String,
    /// Below this folder each host has one with its files.
    pub store: PathBuf,
}

impl StateFiles {
    /// In memory, with these lines.
    #[must_use]
    pub fn with(lines: &str) -> Self {
        Self { lines: lines.to_owned(), store: FILES.into() }
    }

    /// The section of the configuration.
    #[must_use]
    pub fn section(&self) -> String {
        format!("\n[replicate.state]\ninstance = \"web\"\npaths = [\"{ROOT}\"]\n{}\n", self.lines)
    }
}

/// The replicator of one host.
#[derive(Debug)]
pub struct Replicator {
    program: PathBuf,
    options: Vec<std::ffi::OsString>,
    log: PathBuf,
    files: PathBuf,
    pid: Option<i32>,
}

impl Replicator {
    /// For the host of `agent`, which is vipd from `vipd`; not started.
    ///
    /// # Errors
    /// When the program is not beside that of the agent, or a folder cannot be made.
    pub fn prepare(
        agent: &Agent,
        vipd: &Path,
        host: &str,
        sets: &StateFiles,
    ) -> anyhow::Result<Self> {
        let program = vipd.with_file_name(PROGRAM);
        if !program.exists() {
            bail!(
                "{} is not there; build it: cargo build --package vipd-replicate (--release for benches)",
                program.display()
            );
        }
        let files = sets.store.join(host).join("files");
        for folder in [Path::new(ROOT), &files] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let dir = agent.dir();
        let mut options = Vec::new();
        for (name, value) in [
            ("--config", agent.config().into_os_string()),
            ("--host", host.into()),
            ("--runtime-dir", dir.join("run").into_os_string()),
            ("--state-dir", dir.join("state").into_os_string()),
        ] {
            options.extend([name.into(), value]);
        }
        Ok(Self { program, options, log: dir.join("replicator.log"), files, pid: None })
    }

    /// What the host has: the files at [`ROOT`], as they are seen from outside.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// Process id while it is up.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Starts it on its machine; does nothing when it is up.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, ns: &Netns) -> anyhow::Result<()> {
        if self.pid.is_some_and(|pid| !processes::reap(pid)) {
            return Ok(());
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"").arg("sh");
        command.arg(&self.files).arg(ROOT).arg(&self.program).args(&self.options);
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.process_group(0).env_remove(room::INSIDE);
        // As the unit does.
        command.env("MALLOC_ARENA_MAX", "1");
        let child = ns.run(move || Ok(command.spawn()?)).context("cannot start a replicator")?;
        self.pid = Some(i32::try_from(child.id()).context("process id out of range")?);
        Ok(())
    }

    /// Kills it; returns the moment.
    ///
    /// # Errors
    /// When it is not up or survives.
    pub fn kill(&mut self) -> anyhow::Result<Instant> {
        self.end(Signal::SIGKILL)
    }

    /// Stops it cleanly; returns when it was told.
    ///
    /// # Errors
    /// When it is not up or does not end.
    pub fn stop(&mut self) -> anyhow::Result<Instant> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> anyhow::Result<Instant> {
        let pid = self.pid.take().context("the replicator is not up")?;
        let at = now();
        processes::signal(pid, signal)?;
        if !processes::wait_gone(&[pid], END_BOUND) {
            self.pid = Some(pid);
            bail!("the replicator does not end within {END_BOUND:?} after {signal}");
        }
        Ok(at)
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// When it is not up.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        processes::signal(self.pid.context("the replicator is not up")?, signal)
    }

    /// Its machine lost its power.
    pub const fn lost(&mut self) {
        self.pid = None;
    }

    /// The last `lines` lines that it printed.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let mut text = String::new();
        let read = File::open(&self.log).and_then(|mut f| f.read_to_string(&mut text));
        if let Err(e) = read {
            return format!("{}: {e}", self.log.display());
        }
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        if self.pid.is_some() {
            // What survives ends with the room.
            let _ = self.kill();
        }
    }
}
