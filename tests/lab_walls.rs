//! The walls of the lab, judged from outside: a room leaves nothing behind, however it ends, and an
//! unprivileged user gets in.
//!
//! The program plays two parts: as a test it stays outside and starts itself again as the guest, which
//! enters a room, fills it with processes and waits.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::io::{BufRead as _, BufReader};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::probe::Prober;
use vipd_agent::lab::room::Room;
use vipd_agent::lab::topology::{Net, Topology, host_v4};

const GUEST: &str = "--stay-in-a-room";
/// Kernel id of `nobody` everywhere.
const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(GUEST) {
        return guest();
    }
    let args = Arguments::from_args();
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok::<_, Failed>(())
        })
    };
    let tests = vec![
        trial("sigint_leaves_nothing", || leaves_nothing(Signal::SIGINT, Some(130))),
        trial("sigterm_leaves_nothing", || leaves_nothing(Signal::SIGTERM, Some(143))),
        trial("sigkill_leaves_nothing", || leaves_nothing(Signal::SIGKILL, None)),
        trial("an_unprivileged_user_gets_in", unprivileged).with_ignored_flag(!geteuid().is_root()),
        trial("the_command_plays_and_reports", plays_and_reports),
        trial("a_refusal_says_what_allows_it", refusal).with_ignored_flag(!geteuid().is_root()),
    ];
    libtest_mimic::run(&args, tests).exit_code()
}

/// Enters, builds, fills, says so, waits to be ended.
fn guest() -> ExitCode {
    match Room::enter() {
        Ok(Room::Done(code)) => return code,
        Ok(Room::Inside) => {}
        Err(e) => {
            eprintln!("{e:#}");
            return ExitCode::FAILURE;
        }
    }
    let room = Topology::build(2).unwrap();
    std::fs::write("/run/left-behind", "x").unwrap();
    for host in room.hosts() {
        let sleep = || Ok(Command::new("sleep").arg("600").process_group(0).spawn()?.id());
        host.ns().unwrap().run(sleep).unwrap();
    }
    let prober = Prober::start(room.client(), host_v4(1, Net::Service).into(), 1).unwrap();
    assert!(prober.wait_answer(Duration::from_secs(4)));
    eprintln!("guest: ready");
    std::thread::sleep(Duration::from_secs(60));
    ExitCode::SUCCESS
}

/// A guest that is ready.
struct Guest {
    child: Child,
    /// Process namespaces of what runs below it.
    spaces: Vec<u64>,
}

fn start(mut command: Command) -> Guest {
    let mut child = command.arg(GUEST).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let said: Vec<_> = lines.take_while(|line| line != "guest: ready").collect();
    let space = std::fs::metadata(format!("/proc/{}/ns/pid_for_children", child.id()));
    assert!(space.is_ok(), "the guest did not get ready: {said:?}");
    Guest { child, spaces: vec![space.unwrap().st_ino()] }
}

/// Processes of this machine that live in one of these process namespaces.
fn alive(spaces: &[u64]) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
    all.filter(|p| std::fs::metadata(p.join("ns/pid")).is_ok_and(|m| spaces.contains(&m.st_ino())))
        .collect()
}

/// What a room could leave on the machine: mounts, files in /run, network interfaces.
fn machine() -> (String, Vec<PathBuf>, String) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut run: Vec<_> = std::fs::read_dir("/run").unwrap().flatten().map(|e| e.path()).collect();
    run.sort();
    let links = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let links = links.lines().skip(2).filter_map(|l| l.split(':').next()).collect();
    (mounts, run, links)
}

fn leaves_nothing(signal: Signal, code: Option<i32>) {
    let before = machine();
    let mut guest = start(Command::new(std::env::current_exe().unwrap()));
    assert!(alive(&guest.spaces).len() >= 3, "process 1 and a process on each host");
    assert_eq!(machine(), before, "the room reaches out");
    kill(Pid::from_raw(guest.child.id().try_into().unwrap()), signal).unwrap();
    assert_eq!(guest.child.wait().unwrap().code(), code);
    gone(&guest);
    assert_eq!(machine(), before, "something was left behind");
}

fn gone(guest: &Guest) {
    let limit = now() + Duration::from_secs(5);
    while !alive(&guest.spaces).is_empty() {
        assert!(now() < limit, "{:?} live on", alive(&guest.spaces));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// This program where `nobody` can read it, as long as its folder is held; the folder of the build may be closed to others.
fn for_everybody() -> (PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("guest");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    (copy, dir)
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

fn unprivileged() {
    let (program, _folder) = for_everybody();
    let mut guest = start(as_nobody(&program));
    kill(Pid::from_raw(guest.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(guest.child.wait().unwrap().code(), Some(143));
    gone(&guest);
}

/// `vipd lab` with vipd itself as the agent.
fn plays_and_reports() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
    command.args(["lab", "--json", "--interval", "250ms", "--scenario", "stop,failback,power-off"]);
    let out = command.args(["--family", "dual"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stdout));
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let rows = document["scenarios"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|r| r["scenario"].as_str().unwrap()).collect();
    assert_eq!(names, ["elect", "stop", "failback", "power-off"]);
    assert!(rows.iter().all(|r| r["reached"] == true), "{rows:#?}");
    assert_eq!((&rows[3]["before"][0], &rows[3]["after"][0]), (&"h1".into(), &"h2".into()));
    assert!(document["events"].as_array().unwrap().len() > 10);
}

/// In a user namespace that allows no further ones, root without rights is refused.
fn refusal() {
    let (program, _folder) = for_everybody();
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all \
         --inh-caps=-all --reuid=0 --no-new-privs {} {GUEST}",
        program.display()
    );
    let out =
        Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", &script]).output();
    let out = out.unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    for hint in ["sudo", "kernel.unprivileged_userns_clone", "user.max_user_namespaces", "apparmor"]
    {
        assert!(said.contains(hint), "no word of {hint}: {said}");
    }
}
