//! Files follow the address by `rsync-push`, the hook that the packages bring, with real rsync daemons on both hosts.
//!
//! A writer on the owner appends numbered records, each synced to the disk, and is stopped and started by the hook
//! `service`, as a service would be.

use crate::arena::{Arena, FIRST, SECOND, wait};
use crate::judge;
use crate::programs::{notes, shipped};
use libtest_mimic::Trial;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::room::FILES;
use vipd_agent::lab::topology::{Net, host_name, host_v4};
use vipd_core::time::Instant;

pub(crate) fn trials() -> Vec<Trial> {
    let missing = Command::new("rsync").arg("--version").output().is_err();
    if missing {
        println!("sync_rsync SKIPPED: no rsync on this machine");
    }
    let trials: [(&str, fn()); 2] = [
        ("sync_rsync/a_planned_move_takes_every_record_along", planned_move),
        ("sync_rsync/a_crash_loses_no_more_than_the_bound_says", crash),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(missing)
    };
    trials.into_iter().map(trial).collect()
}

/// Between two records.
const PACE: Duration = Duration::from_millis(2);

/// Where each host has its files; programs of both see the same disk.
fn folder(ix: usize) -> PathBuf {
    Path::new(FILES).join("data").join(host_name(ix))
}

/// An rsync daemon on each host, and the configuration of its hooks.
struct Files {
    daemons: Vec<Child>,
    notes: PathBuf,
}

impl Files {
    /// Empty folders, secrets, and what goes into the file of the agents.
    fn lay_out() -> (Self, String) {
        let _ = fs::remove_dir_all(Path::new(FILES).join("data"));
        let notes = notes();
        let secret_here = secret("rsync.secret", "sesame\n");
        secret("rsyncd.secrets", "vipd:sesame\n");
        for ix in [FIRST, SECOND] {
            fs::create_dir_all(folder(ix)).unwrap();
        }
        let (push, service) = (shipped("rsync-push"), shipped("service"));
        let env = |ix: usize| {
            format!(
                "{} = {{ RSYNC_SOURCE = \"{}\", RSYNC_TARGET = \"rsync://vipd@%a/app/\", \
                 RSYNC_PASSWORD_FILE = \"{secret_here}\", RSYNC_ADDRESSES = \"h1={} h2={}\" }}",
                host_name(ix),
                folder(ix).display(),
                host_v4(FIRST, Net::Beat),
                host_v4(SECOND, Net::Beat)
            )
        };
        let watch = |ix: usize| format!("{} = [\"{}\"]", host_name(ix), folder(ix).display());
        let here = notes.display();
        let start = format!("rm -f {here}/stopped.$(hostname); touch {here}/run.$(hostname)");
        let stop = format!(
            "rm -f {here}/run.$(hostname); until [ -e {here}/stopped.$(hostname) ]; do sleep 0.01; done"
        );
        let extra = format!(
            "\n[hook.push]\non = [\"sync-interval\", \"sync-change\", \"sync-barrier\"]\nrun = [\"{push}\"]\n\
             user = \"root\"\ninterval = \"1s\"\ndebounce = \"100ms\"\nwatch = {{ {}, {} }}\nenv = {{ {}, {} }}\n\
             \n[hook.writer]\non = [\"post-promote\", \"pre-demote\", \"post-demote\"]\nrun = [\"{service}\"]\n\
             user = \"root\"\nenv = {{ SERVICE_START = \"{start}\", SERVICE_STOP = \"{stop}\" }}\n",
            watch(FIRST),
            watch(SECOND),
            env(FIRST),
            env(SECOND)
        );
        (Self { daemons: Vec::new(), notes }, extra)
    }

    /// Starts the daemons with the configuration that the packages bring.
    fn serve(&mut self, arena: &Arena) {
        let vip = arena.stage.plan().vips()[0];
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/hooks/rsyncd.conf");
        let shipped = fs::read_to_string(shipped).unwrap();
        for ix in [FIRST, SECOND] {
            let secrets = Path::new(FILES).join("programs/rsyncd.secrets");
            let mut text = shipped.clone();
            for (from, to) in [
                ("10.9.0.11", host_v4(ix, Net::Beat).to_string()),
                ("/var/lib/app", folder(ix).display().to_string()),
                ("/etc/vipd/rsyncd.secrets", secrets.display().to_string()),
                ("192.0.2.10", vip.to_string()),
            ] {
                assert!(text.contains(from), "{from}");
                text = text.replace(from, &to);
            }
            let file = Path::new(FILES).join(format!("programs/rsyncd.{}", host_name(ix)));
            // Where this host runs, there is no file of another one.
            text = format!("pid file = {}.pid\nlock file = {0}.lock\n{text}", file.display());
            fs::write(&file, text).unwrap();
            let mut daemon = Command::new("rsync");
            daemon
                .args(["--daemon", "--no-detach", "--config", file.to_str().unwrap()])
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            let ns = arena.stage.room().host(ix).ns().unwrap();
            self.daemons.push(ns.run(move || Ok(daemon.spawn()?)).unwrap());
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            // One that has ended needs no end.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn secret(name: &str, text: &str) -> String {
    let file = Path::new(FILES).join("programs").join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A record that was written and synced: its number, where, and when that was over.
#[derive(Copy, Clone, Debug)]
struct Record {
    number: u64,
    host: usize,
    at: Instant,
}

/// Appends records wherever it is told to run.
struct Writer {
    written: Arc<Mutex<Vec<Record>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(notes: &Path) -> Self {
        let (written, stop) = (Arc::default(), Arc::default());
        let (told, ended) = (Arc::clone(&written), Arc::clone(&stop));
        let notes = notes.to_owned();
        let thread = std::thread::spawn(move || write(&notes, &told, &ended));
        Self { written, stop, thread: Some(thread) }
    }

    /// The host is dead, and with it what ran there.
    fn dies(&mut self) -> Instant {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        now()
    }

    fn written(&self) -> Vec<Record> {
        self.written.lock().unwrap().clone()
    }

    /// Waits until `host` has written so many records.
    fn wait(&self, host: usize, count: usize) {
        let limit = now() + Duration::from_secs(30);
        while self.written().iter().filter(|record| record.host == host).count() < count {
            assert!(now() < limit, "the writer does not run on h{}", host + 1);
            wait(Duration::from_millis(10));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.dies();
    }
}

fn write(notes: &Path, written: &Mutex<Vec<Record>>, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for host in [FIRST, SECOND] {
            let name = host_name(host);
            let stopped = notes.join(format!("stopped.{name}"));
            if !notes.join(format!("run.{name}")).exists() {
                if !stopped.exists() {
                    fs::write(&stopped, "").unwrap();
                }
                continue;
            }
            number += 1;
            let mut file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(folder(host).join("records"))
                .unwrap();
            writeln!(file, "{number}").unwrap();
            file.sync_all().unwrap();
            written.lock().unwrap().push(Record { number, host, at: now() });
        }
        wait(PACE);
    }
}

/// The numbers in the file of a host.
fn records(ix: usize) -> Vec<u64> {
    let text = fs::read_to_string(folder(ix).join("records")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// A room in which files follow the address, and a writer runs on the first host.
fn furnished() -> (Arena, Files, Writer) {
    let (mut files, extra) = Files::lay_out();
    let plan = Plan { file_extra: extra, ..Plan::default() };
    let mut arena = Arena::open(plan);
    files.serve(&arena);
    let writer = Writer::start(&files.notes);
    arena.elect();
    writer.wait(FIRST, 100);
    (arena, files, writer)
}

/// What status of a host says of the hook that pushes; waits for its first bound.
fn bound(arena: &Arena, ix: usize) -> Duration {
    let limit = now() + Duration::from_secs(20);
    loop {
        let status = arena.status(ix);
        let hooks = status["hooks"].as_array().cloned().unwrap_or_default();
        let push = hooks.iter().find(|hook| hook["name"] == "push");
        if let Some(rpo) = push.and_then(|push| push["rpo_s"].as_f64()) {
            return Duration::from_secs_f64(rpo);
        }
        assert!(now() < limit, "no push said how far behind it is: {:#}", status["hooks"]);
        wait(Duration::from_millis(50));
    }
}

fn planned_move() {
    let (arena, files, mut writer) = furnished();
    bound(&arena, FIRST);
    let at = now();
    arena.done(FIRST, &["move", "web", "--wait", "--reason", "trial"]);
    arena.wait_owner(SECOND);
    arena.calm();
    let seen = arena.outage(at);
    assert_eq!(judge::lost(&seen), 0, "{seen:?}\n{}", arena.stage.logs(30));
    writer.wait(SECOND, 100);
    writer.dies();
    let written = writer.written();
    let numbers: Vec<u64> = written.iter().map(|record| record.number).collect();
    let before = written.iter().filter(|record| record.host == FIRST).count();
    println!(
        "\n  {before} records on h1 before, {} on h2 after, none lost",
        numbers.len() - before
    );
    assert_eq!(records(SECOND), numbers, "in order, each once");
    drop(files);
    arena.close();
}

fn crash() {
    let (mut arena, files, mut writer) = furnished();
    // Some pushes later, in the middle of writing.
    wait(Duration::from_millis(2500));
    let told = now();
    let said = bound(&arena, FIRST);
    let died = writer.dies();
    arena.stage.crash(FIRST).unwrap();
    let bound = said + died.since(told);
    arena.wait_owner(SECOND);
    arena.calm();
    let (written, kept) = (writer.written(), records(SECOND));
    let numbers: Vec<u64> = written.iter().map(|record| record.number).collect();
    assert_eq!(kept, numbers[..kept.len()], "a beginning of what was written, in order");
    let missing = &written[kept.len()..];
    let oldest = missing.first().map_or(Duration::ZERO, |record| died.since(record.at));
    println!(
        "\n  {} of {} records missing, the oldest {oldest:?} old; at most {bound:?} was said",
        missing.len(),
        written.len()
    );
    assert!(oldest <= bound, "{oldest:?} is more than {bound:?}");
    assert!(
        bound < Duration::from_secs(10),
        "the bound says nothing: {bound:?}\n{}",
        arena.stage.logs(30)
    );
    drop(files);
    arena.close();
}
