//! The agents of a room: started on their machines, watched, signalled, stopped.
//!
//! A closed list of kinds, because benches compare them in the same rooms. The lab knows of an agent
//! its command line, its processes and what it prints; nothing else.

use super::clock::now;
use super::frr;
use super::netns::Netns;
use super::plan::Plan;
use super::processes;
use super::room::{self, FILES};
use super::topology::host_name;
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use vipd_core::time::Instant;

/// How long what an agent started may outlive it: programs that ignore TERM get KILL two seconds later, and what
/// those left behind after them as long again.
const END_BOUND: Duration = Duration::from_secs(10);

/// Which program runs on the hosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// vipd, from this executable.
    Vipd(PathBuf),
    /// keepalived, from the search path.
    Keepalived,
    /// FRR: vrrpd beside zebra, from where Debian has them.
    Frr,
}

impl Kind {
    /// The running executable as vipd.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn this() -> anyhow::Result<Self> {
        Ok(Self::Vipd(std::env::current_exe().context("cannot find this program's file")?))
    }
}

/// What an agent does, as far as the lab made it so.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Not started, stopped or killed.
    Down,
    /// Started.
    Running,
    /// Stopped by SIGSTOP.
    Hung,
}

/// One agent on one host.
#[derive(Debug)]
pub struct Agent {
    kind: Kind,
    host: String,
    dir: PathBuf,
    /// What FRR needs besides its file.
    devices: Vec<frr::Device>,
    pid: Option<i32>,
    condition: Condition,
}

impl Agent {
    /// An agent of a plan, with its files written and not started.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare(kind: Kind, plan: &Plan, ix: usize) -> anyhow::Result<Self> {
        let host = host_name(ix);
        let dir = Path::new(FILES).join(&host);
        // An earlier stage of the same room may have left its files.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let devices = frr::devices(plan, ix);
        let agent = Self { kind, host, dir, devices, pid: None, condition: Condition::Down };
        agent.configure(plan, ix)?;
        Ok(agent)
    }

    /// Writes the configuration of `plan` anew; a running agent reads it when told to.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn configure(&self, plan: &Plan, ix: usize) -> anyhow::Result<()> {
        let (file, text) = match &self.kind {
            Kind::Vipd(_) => (self.config(), plan.vipd_toml(&cluster_key()?)),
            Kind::Keepalived => (self.config(), plan.keepalived_conf(ix)),
            Kind::Frr => (self.config(), frr::conf(plan, ix)),
        };
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        match self.kind {
            Kind::Vipd(_) => self.dir.join("vipd.toml"),
            Kind::Keepalived => self.dir.join("keepalived.conf"),
            Kind::Frr => self.dir.join("vrrpd.conf"),
        }
    }

    /// Its folder: configuration, `run`, `state`, `agent.log`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the lab made of it.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        self.condition
    }

    /// Process id of its main process while it is up.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// A command of vipd (`status`, `move` ...) that talks to this agent; `None` for other kinds.
    #[must_use]
    pub fn vipd(&self, verb: &[&str]) -> Option<Command> {
        let Kind::Vipd(program) = &self.kind else { return None };
        Some(self.command(program, verb))
    }

    fn command(&self, program: &Path, verb: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config()).args(["--host", &self.host]);
        command.arg("--runtime-dir").arg(self.dir.join("run"));
        command.arg("--state-dir").arg(self.dir.join("state")).args(verb);
        command
    }

    /// Starts it on its machine.
    ///
    /// # Errors
    /// When it is up already or its program cannot be started.
    pub fn start(&mut self, ns: &Netns) -> anyhow::Result<()> {
        if self.condition != Condition::Down {
            bail!("the agent of {} is up already", self.host);
        }
        let mut command = match &self.kind {
            Kind::Vipd(program) => self.command(program, &["run"]),
            Kind::Keepalived => self.keepalived(),
            Kind::Frr => {
                frr::prepare(ns, &self.dir, &self.devices)?;
                frr::vrrpd(&self.dir)
            }
        };
        for sub in ["run", "state"] {
            fs::create_dir_all(self.dir.join(sub))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C in the terminal is for the lab; it ends its agents itself.
        command.process_group(0).env_remove(room::INSIDE);
        let program = command.get_program().to_owned();
        let child = ns.run(move || Ok(command.spawn()?));
        let child = child
            .with_context(|| format!("cannot start {} on {}", program.display(), self.host))?;
        // Not waited for through `Child`: see `processes`.
        self.pid = Some(i32::try_from(child.id()).context("process id out of range")?);
        self.condition = Condition::Running;
        Ok(())
    }

    /// Kills it with everything that it started; returns the moment.
    ///
    /// # Errors
    /// When it is not up or survives.
    pub fn crash(&mut self, ns: &Netns) -> anyhow::Result<Instant> {
        let mut members = self.tree(ns)?;
        let at = now();
        for pid in &members {
            processes::signal(*pid, Signal::SIGKILL)?;
        }
        // What they started between the look and the kill.
        let late = self.tree(ns)?;
        for pid in &late {
            processes::signal(*pid, Signal::SIGKILL)?;
        }
        members.extend(late);
        self.collect(&members)?;
        Ok(at)
    }

    /// Stops it in its tracks (SIGSTOP), with everything that it started; returns the moment.
    ///
    /// # Errors
    /// When it is not up.
    pub fn hang(&mut self, ns: &Netns) -> anyhow::Result<Instant> {
        let at = now();
        self.signal_tree(ns, Signal::SIGSTOP)?;
        self.condition = Condition::Hung;
        Ok(at)
    }

    /// Lets it go on (SIGCONT); returns the moment.
    ///
    /// # Errors
    /// When it is not up.
    pub fn resume(&mut self, ns: &Netns) -> anyhow::Result<Instant> {
        let at = now();
        self.signal_tree(ns, Signal::SIGCONT)?;
        self.condition = Condition::Running;
        Ok(at)
    }

    /// Stops it cleanly (SIGTERM) and waits for its end; returns when it was told.
    ///
    /// # Errors
    /// When it is not up or does not end within `bound`.
    pub fn stop(&mut self, ns: &Netns, bound: Duration) -> anyhow::Result<Instant> {
        let (pid, members) = (self.up()?, self.tree(ns)?);
        let at = now();
        processes::signal(pid, Signal::SIGTERM)?;
        if !processes::wait_gone(&[pid], bound) {
            bail!("the agent of {} does not end within {bound:?} after SIGTERM", self.host);
        }
        self.collect(&members)?;
        Ok(at)
    }

    /// Sends a signal to its main process.
    ///
    /// # Errors
    /// When it is not up.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        processes::signal(self.up()?, signal)
    }

    /// Its machine lost its power, and the processes with it.
    pub const fn lost(&mut self) {
        self.pid = None;
        self.condition = Condition::Down;
    }

    /// Has it ended by itself? Then it is down from now on.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.pid.is_some_and(processes::reap);
        if ended {
            self.lost();
        }
        ended
    }

    /// The last `lines` lines that it printed.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let mut text = String::new();
        let read = File::open(self.log_file()).and_then(|mut f| f.read_to_string(&mut text));
        if let Err(e) = read {
            return format!("{}: {e}", self.log_file().display());
        }
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    fn keepalived(&self) -> Command {
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp"]);
        command.arg("--use-file").arg(self.config());
        // A crash leaves these behind; the program is then looked for under the old numbers.
        for (option, file) in [("--pid", "main.pid"), ("--vrrp_pid", "vrrp.pid")] {
            let path = self.dir.join(file);
            let _ = fs::remove_file(&path);
            command.arg(option).arg(path);
        }
        command
    }

    fn up(&self) -> anyhow::Result<i32> {
        self.pid.with_context(|| format!("the agent of {} is not up", self.host))
    }

    fn tree(&self, ns: &Netns) -> anyhow::Result<Vec<i32>> {
        Ok(processes::tree(&ns.processes()?, self.up()?))
    }

    fn signal_tree(&self, ns: &Netns, signal: Signal) -> anyhow::Result<()> {
        self.tree(ns)?.into_iter().try_for_each(|pid| processes::signal(pid, signal))
    }

    /// After its end: takes the exit statuses of it and of what it left behind.
    fn collect(&mut self, members: &[i32]) -> anyhow::Result<()> {
        if !processes::wait_gone(members, END_BOUND) {
            let left: Vec<_> = members.iter().filter_map(|pid| processes::describe(*pid)).collect();
            bail!("of the agent of {} these go on: {}", self.host, left.join(", "));
        }
        self.lost();
        Ok(())
    }
}

/// The cluster key of the room, made at the first call: 32 octets in hex, readable by its owner alone.
fn cluster_key() -> anyhow::Result<PathBuf> {
    let path = Path::new(FILES).join("cluster.key");
    if !path.exists() {
        let mut octets = [0_u8; 32];
        File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut octets))?;
        let hex: String = octets.iter().map(|o| format!("{o:02x}")).collect();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{hex}")?;
    }
    Ok(path)
}
