//! The control socket of a running agent: orders, the history, who may what, and more clients than it has seats.

use super::{Agent, Host, VIP, code, holds, ip, stderr, wait};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use vipd_agent::sys::clock;

pub(super) fn orders() {
    let host = Host::with_link("orders");
    host.configure("");
    let agent = host.start_active();
    let order = |words: &[&str]| {
        let output = host.vipd(words[0]).args(&words[1..]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let (code, said) = order(&["promote", "web"]);
    assert_eq!((code, said.contains("web is active on this host already")), (4, true), "{said}");
    let (code, said) = order(&["ack", "web", "--dry-run"]);
    assert_eq!((code, said.starts_with("would happen: ")), (0, true), "{said}");
    let (code, said) = order(&["ack", "web", "--reason", "seen it"]);
    assert_eq!((code, said.starts_with("operation 1-")), (0, true), "{said}");
    let (code, said) = order(&["ack", "web", "--wait"]);
    assert_eq!((code, said.lines().count()), (0, 2), "{said}");
    let (code, said) = order(&["promote", "wbe"]);
    assert_eq!((code, said.contains("there are: web")), (4, true), "{said}");
    let (code, said) = order(&["move", "web", "--to", "lb9"]);
    assert_eq!((code, said.contains("there are: lb1, lb2")), (4, true), "{said}");
    let (code, said) = order(&["set-priority", "web", "255"]);
    assert_eq!((code, said.contains("from 1 to 254")), (4, true), "{said}");
    let (code, said) = order(&["reload", "--json"]);
    let told: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((code, &told["outcome"]), (0, &"accepted".into()), "{said}");
    let log = fs::read_to_string(host.dir.join("log")).unwrap();
    assert!(log.contains("web: ack ordered by root (uid 0, process "), "{log}");
    assert!(log.contains(", reason: seen it"), "{log}");
    // Nothing to run is configured: no process was started for it.
    assert!(!log.contains("exec"), "{log}");
    drop(agent);
}

/// The documents that `vipd history --json` prints.
fn history_of(host: &Host) -> Vec<serde_json::Value> {
    let output = host.vipd("history").arg("--json").output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(super) fn history() {
    let host = Host::with_link("history");
    host.configure("");
    let agent = host.start_active();
    let mut follower = host
        .vipd("events")
        .args(["-f", "-n", "500", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = move |kind: &str| loop {
        let event: serde_json::Value =
            serde_json::from_str(&lines.next().expect("an event").unwrap()).unwrap();
        if event["kind"] == kind {
            return event;
        }
    };
    assert_eq!(next("agent")["up"], true);
    assert_eq!(next("transition")["instance"], "web");
    assert_eq!(code(&host.vipd("ack").args(["web", "--reason", "tidy"]).output().unwrap()), 0);
    let change = next("change");
    assert_eq!((&change["verb"], &change["outcome"]), (&"ack".into(), &"accepted".into()));
    assert_eq!((&change["uid"], &change["user"]), (&0.into(), &"root".into()));
    assert_eq!(change["reason"], "tidy");
    assert_eq!(next("operation")["step"], "started");
    let done = next("operation");
    assert_eq!((&done["step"], &done["operation"]), (&"done".into(), &change["operation"]));
    ip("link set eth0 down");
    let fault = next("transition");
    assert_eq!((&fault["to"], &fault["level"]), (&"initialize".into(), &"warning".into()));
    assert!(fault["duration_s"].as_f64().unwrap() > 0.0, "{fault}");
    follower.kill().unwrap();
    follower.wait().unwrap();

    // A crash, and what the next run knows.
    let before = history_of(&host);
    agent.kill();
    let agent = host.start();
    wait("the agent answers", Duration::from_secs(5), || host.states().is_some());
    let after = history_of(&host);
    assert_eq!(
        after[..before.len()].iter().map(|e| &e["seq"]).collect::<Vec<_>>(),
        before.iter().map(|e| &e["seq"]).collect::<Vec<_>>()
    );
    assert!(after[0]["age_s"].as_f64() > before[0]["age_s"].as_f64());
    assert!(after[before.len()..].iter().any(|event| event["kind"] == "agent"));
    let table = host.vipd("history").args(["web", "-n", "1"]).output().unwrap();
    assert_eq!(String::from_utf8(table.stdout).unwrap().lines().count(), 1);
    assert_eq!(agent.stop(), 0);
}

/// The group of administrators as the agent of [`groups`] sees it: no such group has to be on this machine.
const ADMINISTRATORS: u32 = 4242;
/// A user and a group that nobody has.
const STRANGER: u32 = 65_533;

pub(super) fn groups() {
    let host = Host::with_link("groups");
    host.configure("");
    if !is_first_user() {
        eprintln!("SKIPPED: not root of the machine: cannot become another user");
        return;
    }
    let group = host.dir.join("group");
    let known = fs::read_to_string("/etc/group").unwrap();
    fs::write(&group, format!("{known}vipd-admin:x:{ADMINISTRATORS}:\n")).unwrap();
    // Where strangers can start it. Another process copies: what this one has open for writing, programs that other tests
    // start inherit for a moment, and what is being written cannot be run.
    let binary = host.dir.join("vipd");
    let copy = Command::new("cp").arg(env!("CARGO_BIN_EXE_vipd")).arg(&binary).status().unwrap();
    assert!(copy.success());
    let run = host.vipd("run");
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount --bind \"$1\" /etc/group && shift && exec \"$@\"",
        "sh",
    ]);
    command.arg(&group).arg(&binary).args(run.get_args());
    let log = fs::File::create(host.dir.join("log")).unwrap();
    let agent = Agent { child: command.stderr(log).stdout(Stdio::null()).spawn().unwrap() };
    wait("the agent is active", Duration::from_secs(5), || {
        host.states().is_some_and(|states| states == ["active", "active"])
    });
    let socket = host.dir.join("run/control.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);

    let as_member = |of: u32, words: &[&str]| {
        let vipd = host.vipd(words[0]);
        let mut command = Command::new("setpriv");
        // With the group among the others: that is what membership is.
        command.arg(format!("--reuid={STRANGER}")).arg(format!("--regid={STRANGER}"));
        command.arg(format!("--groups={of}"));
        let output = command.arg(&binary).args(vipd.get_args()).args(&words[1..]).output().unwrap();
        (code(&output), stderr(&output))
    };
    // The socket belongs to root's group here, as it does to the group vipd on a host.
    let (reader, admin) = (0, ADMINISTRATORS);
    assert_eq!(as_member(reader, &["status"]).0, 0);
    let (code, said) = as_member(reader, &["ack", "web"]);
    assert_eq!((code, said.contains("vipd-admin")), (7, true), "{said}");
    let (code, said) = as_member(STRANGER, &["status"]);
    assert_eq!((code, said.contains("permission denied")), (7, true), "{said}");
    assert!(host.log().contains("web: ack refused to uid 65533"), "{}", host.log());
    if host.log().contains("reach the control socket only as") {
        eprintln!("SKIPPED: {} has no access lists", host.dir.display());
    } else {
        assert_eq!(as_member(admin, &["status"]).0, 0);
        assert_eq!(as_member(admin, &["ack", "web"]).0, 0);
        assert!(host.log().contains("web: ack ordered by uid 65533"), "{}", host.log());
    }
    // Both are on record.
    let outcomes: Vec<_> = history_of(&host)
        .into_iter()
        .filter(|event| event["kind"] == "change")
        .map(|event| event["outcome"].as_str().unwrap().to_owned())
        .collect();
    assert!(outcomes.starts_with(&["forbidden".to_owned()]), "{outcomes:?}");
    assert_eq!(agent.stop(), 0);
}

/// Not only root of a user namespace that has one user.
fn is_first_user() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().nth(2).is_some_and(|users| users != "1")
}

/// What a client of the crowd does.
const MANNERS: [&[u8]; 5] = [
    b"{\"v\":1,\"verb\":\"status\"}\n",
    b"{\"v\":1,\"verb\":\"subscribe\",\"last\":500}\n",
    b"{\"v\":1,\"ver",
    b"\xff\x00 what?\n",
    b"",
];
const CROWD: usize = 1000;

pub(super) fn crowd() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if setrlimit(Resource::RLIMIT_NOFILE, most.min(8192), most).is_err() || most < 4096 {
        eprintln!("SKIPPED: no right to {CROWD} connections");
        return;
    }
    let host = Host::with_link("crowd");
    host.configure("");
    let agent = host.start_active();
    let sent = |host: &Host| {
        let status = host.status().expect("a status");
        let counters = &status["instances"][0]["families"][0]["counters"];
        (counters["advertisement-sent"].as_u64().unwrap(), clock::monotonic())
    };
    let before = sent(&host);
    let socket = host.dir.join("run/control.sock");
    let clients: Vec<_> = (0..CROWD)
        .map(|n| {
            let socket = socket.clone();
            std::thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn(move || client(&socket, MANNERS[n % MANNERS.len()]))
                .unwrap()
        })
        .collect();
    // Each is answered, told why not, or dropped; none is kept waiting for ever.
    let (mut answered, mut busy) = (0, 0);
    for client in clients {
        match client.join().unwrap() {
            First::Answer => answered += 1,
            First::Busy => busy += 1,
            First::Nothing => {}
        }
    }
    assert!(answered >= 64, "{answered} answered, {busy} turned away");
    assert!(busy > 0, "{answered} answered, {busy} turned away");
    let after = sent(&host);
    let due = (after.1 - before.1).as_secs_f64() / 0.3;
    assert!((after.0 - before.0) as f64 > due - 3.0, "{} adverts of {due}", after.0 - before.0);
    assert_eq!(host.states().unwrap(), ["active", "active"]);
    assert!(holds(VIP));
    let log = host.log();
    assert_eq!(log.matches("-> active").count(), 2, "{log}");
    assert_eq!(agent.stop(), 0);
}

/// What came first.
enum First {
    Answer,
    Busy,
    Nothing,
}

/// Says something, and stays until the agent has had enough of it; subscribers leave by themselves.
fn client(socket: &Path, says: &[u8]) -> First {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    // Whoever is turned away may find it closed.
    let _ = stream.write_all(says);
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return First::Nothing;
    }
    let first = if line.contains("\"busy\"") { First::Busy } else { First::Answer };
    if !says.starts_with(MANNERS[1]) {
        // Idle from here on: cut, or told that it is late and cut.
        let mut rest = Vec::new();
        let end = reader.read_to_end(&mut rest);
        assert!(
            !matches!(end, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
            "not dropped"
        );
    }
    first
}
