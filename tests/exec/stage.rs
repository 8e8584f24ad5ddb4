//! A folder with a configuration and programs, and an executor that is a process of its own.

use crate::CONFIG;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use vipd_agent::exec::client::{Outcome, Runner, Whereabouts};
use vipd_agent::exec::protocol::{Event, Occasion, Peer, Subject, Which};
use vipd_agent::sys::clock;

/// A folder with a configuration, programs and an executor.
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) runtime: tokio::runtime::Runtime,
    /// Goes last, with all that is in it.
    _folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("vipd.toml"), CONFIG).unwrap();
        fs::set_permissions(dir.join("vipd.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(dir.join("programs"), "").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { dir, runtime, _folder: folder }
    }

    /// A script of the operator. Another process writes it: what this one has open for writing, programs that other tests
    /// start inherit for a moment, and what is being written cannot be run.
    pub(crate) fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.join(name);
        let mut command = Command::new("install");
        command.arg("--mode=755").arg("/dev/stdin").arg(&path).stdin(Stdio::piped());
        let mut install = command.spawn().unwrap();
        let mut text = install.stdin.take().unwrap();
        text.write_all(format!("#!/bin/sh\n{body}\n").as_bytes()).unwrap();
        drop(text);
        assert!(install.wait().unwrap().success());
        path
    }

    pub(crate) fn list(&self, kind: &str, name: &str, timeout_ms: u64, user: &str, path: &Path) {
        let mut programs = fs::read_to_string(self.dir.join("programs")).unwrap();
        programs.push_str(&format!("{kind} {name} {timeout_ms} {user} {}\n", path.display()));
        fs::write(self.dir.join("programs"), programs).unwrap();
    }

    pub(crate) fn runner_by(&self, before: &[&str]) -> Runner {
        self.runner_in(&self.dir, before)
    }

    pub(crate) fn runner_in(&self, dir: &Path, before: &[&str]) -> Runner {
        let me = std::env::current_exe().unwrap();
        let mut command: Vec<OsString> = before.iter().map(OsString::from).collect();
        command.extend([me.into_os_string(), dir.into()]);
        let _inside = self.runtime.enter();
        Runner::start(Whereabouts { socket: self.dir.join("none.sock"), command, managed: false })
    }

    pub(crate) fn runner(&self) -> Runner {
        self.runner_by(&[])
    }

    pub(crate) fn run(&self, runner: &Runner, which: Which) -> Outcome {
        let occasion = matches!(which, Which::Hook(_)).then(|| occasion(Event::Active));
        self.runtime.block_on(runner.run(which, occasion, Duration::from_secs(30)))
    }

    /// A hook of this body, run once.
    pub(crate) fn hook(&self, timeout_ms: u64, body: &str) -> Outcome {
        let path = self.script("hook", body);
        self.list("hook", "h", timeout_ms, "-", &path);
        self.run(&self.runner(), Which::Hook("h".into()))
    }

    pub(crate) fn executor(&self) -> i32 {
        fs::read_to_string(self.dir.join("pid")).unwrap().parse().unwrap()
    }
}

pub(crate) fn occasion(event: Event) -> Occasion {
    Occasion {
        subject: Subject::Instance,
        name: "web".into(),
        event,
        role: "active".into(),
        prev_role: "backup".into(),
        reason: "no advert for 3.61 s".into(),
        host: "lb1".into(),
        owner: String::new(),
        epoch: "7.0".into(),
        priority: 150,
        vips: vec!["192.0.2.10/24".into(), "2001:db8::10/64".into()],
        vrid: 51,
        interface: "eth0".into(),
        skipped: 0,
        peers: vec![peer("lb2", &["192.0.2.12", "10.9.0.12"]), peer("lb3", &[])],
        op_id: "9-1".into(),
        deadline_ms: 0,
    }
}

fn peer(host: &str, addresses: &[&str]) -> Peer {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    Peer { host: host.into(), addresses }
}

pub(crate) fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let until = clock::monotonic() + limit;
    while !done() {
        assert!(clock::monotonic() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How long leftovers sleep: nobody else's processes have this word.
pub(crate) fn sleep(number: u32) -> String {
    format!("{number}.{}", std::process::id())
}

/// Is a process alive that was started with this word?
pub(crate) fn alive(word: &str) -> bool {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| line.split(|octet| *octet == 0).any(|part| part == word.as_bytes()))
}
