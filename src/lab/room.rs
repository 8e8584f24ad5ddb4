//! Four walls: user, process, mount and network namespaces in which the lab may do anything and
//! from which nothing gets out.
//!
//! Called first thing in `main` by whoever plays in a room, before the first thread. The program
//! starts itself again inside: the outer process only waits and passes signals on, the inner one is
//! process 1 of its own process namespace, so that with it everything else ends, however it ends.

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::sync::OnceLock;
use tokio::signal::unix::{SignalKind, signal};

/// Tells the program started again who is waiting for it outside, by process id.
///
/// Whatever is started inside must not inherit it, or it would take itself for the room.
pub const INSIDE: &str = "VIPD_LAB_OUTSIDE";

/// The `/proc` of outside, kept to tell process ids as outside sees them.
static OUTER_PROC: OnceLock<File> = OnceLock::new();

/// Where the room keeps its files: in a memory file system that only the room sees.
pub const FILES: &str = "/run/vipd-lab";

/// On which side of the wall the program is after [`Room::enter`].
#[derive(Debug)]
pub enum Room {
    /// Inside: build and play.
    Inside,
    /// Outside, and the inner program has ended: `main` returns this code.
    Done(ExitCode),
}

impl Room {
    /// Makes a room and starts this program again inside of it with the same arguments.
    ///
    /// Call it first thing in `main`: it must be the only thread of the process.
    ///
    /// # Errors
    /// When this system forbids namespaces; the text says what allows them.
    pub fn enter() -> anyhow::Result<Self> {
        match std::env::var(INSIDE) {
            Ok(outside) => furnish(&outside).map(|()| Self::Inside),
            Err(_) => {
                leave_namespaces()?;
                let mut args = std::env::args_os();
                let child = Command::new("/proc/self/exe")
                    .arg0(args.next().unwrap_or_default())
                    .args(args)
                    .env(INSIDE, std::process::id().to_string())
                    .spawn()
                    .context("cannot start this program again inside the room")?;
                wait(child).map(Self::Done)
            }
        }
    }
}

/// Leaves the process namespace, and the user namespace where that is what it takes.
fn leave_namespaces() -> anyhow::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    match unshare(CloneFlags::CLONE_NEWPID) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(e) => return Err(refused("another process namespace", e)),
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)
        .map_err(|e| refused("a user namespace", e))?;
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|e| anyhow!(e).context(format!("cannot become root inside the room ({file})")))
            .context(HINT)?;
    }
    Ok(())
}

/// What lets an unprivileged user in, and what to do without.
const HINT: &str = "the lab needs namespaces, and this system forbids them to this user. \
    Either run it with sudo, or allow them: \
    `sysctl kernel.unprivileged_userns_clone=1` (Debian), \
    `sysctl user.max_user_namespaces=10000` (where it is 0), \
    `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu). \
    In a container: `--privileged`";

fn refused(what: &str, errno: Errno) -> anyhow::Error {
    anyhow!(errno).context(format!("cannot make {what}")).context(HINT)
}

/// Inside: private mounts, own `/proc` and `/run`, own network, and an end with the outer process.
fn furnish(outside: &str) -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie the room to its caller")?;
    // Seen through the /proc of outside, which is still mounted: a parent that died before the line
    // above has been replaced by another.
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc")?;
    let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap_or_default().trim();
    if parent != outside {
        bail!("the process that made the room is gone");
    }
    let outer = File::open("/proc").context("cannot open /proc")?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(namespaces).map_err(|e| refused("mount and network namespaces", e))?;
    OUTER_PROC.get_or_init(|| outer);
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| refused("private mounts", e))?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("proc"), "/proc", Some("proc"), quiet | MsFlags::MS_NOEXEC, none)
        .map_err(|e| refused("a /proc of its own", e))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), quiet, Some("mode=755,size=256m"))
        .map_err(|e| refused("a /run of its own", e))?;
    std::fs::create_dir_all(FILES).with_context(|| format!("cannot make {FILES}"))?;
    super::netlink::Rtnl::open()?.set_state("lo", super::netlink::LinkState::Up)?;
    end_on_signals()
}

/// Process 1 ignores every signal that it does not handle; these end it, and with it the room.
fn end_on_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut int, mut term, mut hup) = {
        let _context = runtime.enter();
        let kinds = (SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup());
        (signal(kinds.0)?, signal(kinds.1)?, signal(kinds.2)?)
    };
    std::thread::Builder::new().name("lab-signals".into()).spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = int.recv() => 130,
                _ = term.recv() => 143,
                _ = hup.recv() => 129,
            }
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "the end of process 1 is what clears the room"
        )]
        std::process::exit(code);
    })?;
    Ok(())
}

/// Is the room in a user namespace of its own, because its maker is not root?
#[must_use]
pub fn is_unprivileged() -> bool {
    // The initial namespace maps every id to itself: `0 0 4294967295`.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().nth(2) == Some("1")
}

/// The thread called `name` of this process as outside sees it: process id and thread id.
#[must_use]
pub fn seen_from_outside(name: &str) -> Option<(u32, u32)> {
    let outer = PathBuf::from(format!("/proc/self/fd/{}", OUTER_PROC.get()?.as_raw_fd()));
    let tasks = outer.join("self/task");
    let pid = std::fs::read_link(outer.join("self")).ok()?.to_str()?.parse().ok()?;
    let tid = std::fs::read_dir(tasks).ok()?.flatten().find_map(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
        (comm.trim_end() == name).then(|| task.file_name().to_str()?.parse().ok()).flatten()
    })?;
    Some((pid, tid))
}

/// Outside: waits for the room, passing on what asks it to end.
fn wait(mut child: Child) -> anyhow::Result<ExitCode> {
    let pid = Pid::from_raw(i32::try_from(child.id()).context("process id out of range")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let mut ended = signal(SignalKind::child())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut hup = signal(SignalKind::hangup())?;
        // A terminal sends Ctrl-C to both processes; from `kill` only this one gets it.
        let mut int = signal(SignalKind::interrupt())?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok::<_, std::io::Error>(status);
            }
            let asked = tokio::select! {
                _ = ended.recv() => continue,
                _ = term.recv() => Signal::SIGTERM,
                _ = hup.recv() => Signal::SIGHUP,
                _ = int.recv() => Signal::SIGINT,
            };
            // It may have ended in this moment; then the next turn sees it.
            let _ = kill(pid, asked);
        }
    })?;
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
