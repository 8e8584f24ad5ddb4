//! A host: a container with a systemd of its own, on the network of a machine of the lab.
//!
//! The lab's machine is the network alone; its power, its cables and its addresses are the lab's. So a power cut takes
//! the cables first, then every process, then the network, and nothing of the host answers any more.

use super::groups;
use super::kit::Kit;
use crate::pair::wait_until;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use vipd_agent::lab::netns::Netns;
use vipd_agent::lab::room::FILES;

/// Longest time for a boot; it takes half a second.
const BOOT: Duration = Duration::from_secs(60);

/// A container that runs, or the disk of one that has no power.
pub(crate) struct Host {
    name: String,
    disk: PathBuf,
    /// The process that made the container and ends with it.
    supervisor: Option<Child>,
}

impl Host {
    /// A host with a fresh disk.
    pub(crate) fn new(name: &str) -> Self {
        let disk = Path::new(FILES).join(name);
        let layer = |what: &str| {
            let folder = disk.join(what);
            fs::create_dir_all(&folder).unwrap();
            folder.display().to_string()
        };
        let (upper, work, root) = (layer("upper"), layer("work"), layer("root"));
        let layers = format!("lowerdir={},upperdir={upper},workdir={work}", Kit::root().display());
        mount(
            Some("overlay"),
            root.as_str(),
            Some("overlay"),
            MsFlags::empty(),
            Some(layers.as_str()),
        )
        .unwrap();
        let host = Self { name: name.into(), disk, supervisor: None };
        host.write("/etc/hostname", &format!("{name}\n"));
        // An id that is set: not a first boot, so no presets are applied.
        let id = name.bytes().fold(0_u128, |id, byte| (id << 8) | u128::from(byte));
        host.write("/etc/machine-id", &format!("{id:032x}\n"));
        host
    }

    /// Where a file of the host is, as the room sees it.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.disk.join("root").join(file.trim_start_matches('/'))
    }

    /// Writes a file, with its folders.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Not through a link that another root could mean.
        let _ = fs::remove_file(&path);
        fs::write(path, text).unwrap();
    }

    /// Boots on the network of `machine`; returns when systemd says that the boot is over, and well.
    pub(crate) fn boot(&mut self, machine: &Netns) {
        self.switch_on(machine);
        self.ready();
    }

    /// Begins to boot.
    pub(crate) fn switch_on(&mut self, machine: &Netns) {
        let group = groups::of(&self.name);
        groups::remove(&group);
        fs::create_dir(&group).unwrap();
        let console = fs::File::create(self.disk.join("console")).unwrap();
        // The shell enters the group of the host and becomes the supervisor.
        let enter = "echo 0 >\"$1/cgroup.procs\"; shift; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-ec", enter, "sh"]).arg(&group).arg("systemd-nspawn");
        command.args(["--quiet", "--boot", "--keep-unit", "--register=no", "--link-journal=no"]);
        command.args(["--resolv-conf=off", "--timezone=off"]);
        // By default it would drop capabilities and the call by which some sandboxing of units works.
        command.args(["--capability=all", "--system-call-filter=bpf"]);
        command.arg(format!("--machine={}", self.name));
        command.arg(format!("--directory={}", self.path("").display()));
        let network = machine.as_fd().as_raw_fd();
        command.arg(format!("--network-namespace-path=/proc/{}/fd/{network}", std::process::id()));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        self.supervisor = Some(command.spawn().unwrap());
    }

    /// Waits for the end of the boot.
    pub(crate) fn ready(&self) {
        wait_until(BOOT, || self.first_process().is_some(), || self.console());
        let mut state = String::new();
        let running = || {
            let out = self.try_run("systemctl is-system-running --wait");
            state = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            matches!(state.as_str(), "running" | "degraded")
        };
        wait_until(BOOT, running, || self.console());
        if state == "degraded" {
            let failed = self.try_run("systemctl --failed --no-legend --plain");
            panic!("{} is degraded: {}", self.name, String::from_utf8_lossy(&failed.stdout));
        }
    }

    fn console(&self) -> String {
        let text = fs::read(self.disk.join("console")).unwrap_or_default();
        format!("{} does not boot: {}", self.name, String::from_utf8_lossy(&text))
    }

    /// Its process 1, as the room numbers it.
    fn first_process(&self) -> Option<String> {
        let group = groups::of(&self.name).join("payload/init.scope/cgroup.procs");
        let first = fs::read_to_string(group).ok()?.lines().next()?.to_owned();
        let program = fs::read_link(format!("/proc/{first}/exe")).ok()?;
        program.ends_with("systemd").then_some(first)
    }

    /// Runs a line of shell on the host.
    pub(crate) fn try_run(&self, line: &str) -> Output {
        let first = self.first_process().unwrap_or_else(|| panic!("{} has no power", self.name));
        Command::new("nsenter")
            .args(["--target", &first, "--all", "--wd=/", "sh", "-c", line])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a line of shell that must succeed; what it printed.
    pub(crate) fn run(&self, line: &str) -> String {
        let out = self.try_run(line);
        let (said, error) =
            (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if !out.status.success() {
            let journal = self.try_run("journalctl --no-pager --lines=40 --unit='vipd*'").stdout;
            let journal = String::from_utf8_lossy(&journal);
            panic!("{}: {line}: {}\n{said}\n{error}\n{journal}", self.name, out.status);
        }
        said.trim_end().to_owned()
    }

    /// Waits until the container has ended, by itself or by a power cut.
    pub(crate) fn wait_off(&mut self) {
        let Some(mut supervisor) = self.supervisor.take() else { return };
        let group = groups::of(&self.name);
        let over = || matches!(supervisor.try_wait(), Ok(Some(_))) && !groups::populated(&group);
        wait_until(BOOT, over, || format!("{} does not end", self.name));
        groups::remove(&group);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Everything of it, also when a trial failed in the middle.
        let _ = fs::write(groups::of(&self.name).join("cgroup.kill"), "1");
        if let Some(mut supervisor) = self.supervisor.take() {
            let _ = supervisor.wait();
        }
        for _ in 0..100 {
            if !groups::populated(&groups::of(&self.name)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        groups::remove(&groups::of(&self.name));
        let _ = umount2(&self.path(""), MntFlags::MNT_DETACH);
        let _ = fs::remove_dir_all(&self.disk);
    }
}
