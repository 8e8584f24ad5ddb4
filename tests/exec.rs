//! `vipd exec` with real programs that behave badly: hang, flood, fork daemons, ignore TERM, belong to somebody else.
//!
//! The executor runs as a process of its own, this very program started again: it is the parent of every orphan below
//! it and would take other tests' children for leftovers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use libtest_mimic::{Arguments, Trial};
use nix::unistd::geteuid;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use vipd_agent::exec::client::{Outcome, Runner, Whereabouts};
use vipd_agent::exec::protocol::{End, Event, Occasion, Subject, Which};
use vipd_agent::exec::server::Executor;
use vipd_agent::sys::clock;
use vipd_core::config::model::{
    Account, Call, Check, Hook, HookRun, Model, Moment, Probe, Program, Severity,
};

const CONFIG: &str = "[cluster]\nname = \"shop\"\n[hosts.lb1]\n[hosts.lb2]\n[instance.web]\nvrid = 51\n\
                      interface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\n";

fn main() -> std::process::ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.get(2).is_some_and(|word| word == "exec") {
        serve(Path::new(&words[1]));
        return std::process::ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let trial = |name: &str, needs_root: bool, test: fn(&Stage)| {
        let stage_name = name.to_owned();
        Trial::test(name, move || {
            let stage = Stage::new(&stage_name);
            test(&stage);
            fs::remove_dir_all(&stage.dir).unwrap();
            Ok(())
        })
        .with_ignored_flag(needs_root && !geteuid().is_root())
    };
    let trials = vec![
        trial("a_program_hears_argv_environment_and_json", false, told),
        trial("more_addresses_than_a_variable_holds", false, many_addresses),
        trial("keepalived_notify_hears_four_more_words", false, told_as_by_keepalived),
        trial("one_that_hangs_is_ended_with_its_group", false, hangs),
        trial("one_that_ignores_term_is_killed", false, ignores_term),
        trial("a_gibibyte_of_output_ends_and_is_not_kept", false, floods),
        trial("a_daemon_of_a_check_does_not_survive_it", false, daemon),
        trial("what_a_hook_left_in_the_background_has_its_time", false, background),
        trial("a_program_that_others_can_change_is_refused", false, writable),
        trial("what_is_not_configured_is_refused", false, not_configured),
        trial("what_cannot_be_started_is_not_failed", false, not_started),
        trial("nothing_is_inherited", false, inherited),
        trial("a_configuration_may_have_a_relative_path", false, relative),
        trial("programs_run_as_nobody_or_as_configured", true, users),
        trial("no_process_left_is_not_failed", true, no_process),
        trial("fifo_lines_byte_for_byte", false, fifo),
        trial("a_fifo_without_reader_blocks_nothing", false, fifo_unread),
        trial("the_unit_takes_over_from_a_stand_in", false, stand_in),
        trial("executors_that_end_late_are_no_zombies", false, late_executors),
        trial("a_late_stop_runs_after_the_slow_hook_without_the_agent", false, late_stop),
        trial("a_killed_executor_is_replaced_and_its_runs_are_unknown", false, killed),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The executor's side: programs as `DIR/programs` lists them.
fn serve(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let at = dir.to_owned();
        let load = move || Ok(model(&at));
        let executor = Executor::new(&dir.join("vipd.toml"), Arc::new(load)).unwrap();
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let stream = std::os::unix::net::UnixStream::from(stdin);
        stream.set_nonblocking(true).unwrap();
        fs::write(dir.join("pid"), std::process::id().to_string()).unwrap();
        executor.inherited(UnixStream::from_std(stream).unwrap()).await;
    });
}

/// `KIND NAME TIMEOUT_MS USER PATH..`, one a line.
fn model(dir: &Path) -> Model {
    let (mut model, _) = vipd_core::config::load(CONFIG, "vipd.toml", "lb1").unwrap();
    for line in fs::read_to_string(dir.join("programs")).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let name: Arc<str> = words[1].into();
        let timeout = Duration::from_millis(words[2].parse().unwrap());
        let program = Program {
            argv: words[4..].iter().map(|word| Arc::from(*word)).collect(),
            account: if words[3] == "-" {
                Account::Default
            } else {
                Account::User(words[3].into())
            },
            env: vec![("COLOUR".into(), "green".into())],
            timeout,
        };
        let hook = |run| Hook {
            name: Arc::clone(&name),
            on: vec![Moment::Active],
            instances: vec![],
            run,
        };
        match words[0] {
            "hook" => model.hooks.push(hook(HookRun::Program(program, Call::Vipd))),
            "notify" => model.hooks.push(hook(HookRun::Program(program, Call::Keepalived))),
            "fifo" => model.hooks.push(hook(HookRun::Fifo(words[4].into()))),
            _ => model.checks.push(Check {
                name,
                probe: Probe::Script(program),
                interval: timeout,
                timeout,
                fall: 1,
                rise: 1,
                severity: Severity::Fail,
                weight: 0,
            }),
        }
    }
    model
}

/// A folder with a configuration, programs and an executor.
struct Stage {
    dir: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vipd-exec-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("vipd.toml"), CONFIG).unwrap();
        fs::set_permissions(dir.join("vipd.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(dir.join("programs"), "").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { dir, runtime }
    }

    /// A script of the operator.
    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn list(&self, kind: &str, name: &str, timeout_ms: u64, user: &str, path: &Path) {
        let mut programs = fs::read_to_string(self.dir.join("programs")).unwrap();
        programs.push_str(&format!("{kind} {name} {timeout_ms} {user} {}\n", path.display()));
        fs::write(self.dir.join("programs"), programs).unwrap();
    }

    fn runner_by(&self, before: &[&str]) -> Runner {
        self.runner_in(&self.dir, before)
    }

    fn runner_in(&self, dir: &Path, before: &[&str]) -> Runner {
        let me = std::env::current_exe().unwrap();
        let mut command: Vec<OsString> = before.iter().map(OsString::from).collect();
        command.extend([me.into_os_string(), dir.into()]);
        let _inside = self.runtime.enter();
        Runner::start(Whereabouts { socket: self.dir.join("none.sock"), command, managed: false })
    }

    fn runner(&self) -> Runner {
        self.runner_by(&[])
    }

    fn run(&self, runner: &Runner, which: Which) -> Outcome {
        let occasion = matches!(which, Which::Hook(_)).then(|| occasion(Event::Active));
        self.runtime.block_on(runner.run(which, occasion, Duration::from_secs(30)))
    }

    /// A hook of this body, run once.
    fn hook(&self, timeout_ms: u64, body: &str) -> Outcome {
        let path = self.script("hook", body);
        self.list("hook", "h", timeout_ms, "-", &path);
        self.run(&self.runner(), Which::Hook("h".into()))
    }

    fn executor(&self) -> i32 {
        fs::read_to_string(self.dir.join("pid")).unwrap().parse().unwrap()
    }
}

fn late_stop(stage: &Stage) {
    let out = stage.dir.join("out");
    fs::write(&out, "").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).unwrap();
    let body =
        format!("echo $1 >> {0}\n[ $1 = active ] && sleep 1\necho $1 ends >> {0}", out.display());
    let path = stage.script("hook", &body);
    stage.list("hook", "h", 10_000, "-", &path);
    let runner = stage.runner();
    let hook = || Which::Hook("h".into());
    stage.runtime.block_on(async {
        let slow = runner.run(hook(), Some(occasion(Event::Active)), Duration::from_millis(400));
        assert!(matches!(slow.await.end, End::Unknown(_)));
        runner.leave(vec![(hook(), occasion(Event::Stop))], Duration::from_secs(5)).await;
    });
    drop(runner);
    // Says goodbye; nothing of the agent is left.
    stage.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    let said = || fs::read_to_string(&out).unwrap();
    let limit = clock::monotonic() + Duration::from_secs(20);
    while !said().contains("stop ends") && clock::monotonic() < limit {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(said(), "active\nactive ends\nstop\nstop ends\n");
}

fn occasion(event: Event) -> Occasion {
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
    }
}

fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let until = clock::monotonic() + limit;
    while !done() {
        assert!(clock::monotonic() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How long leftovers sleep: nobody else's processes have this word.
fn sleep(number: u32) -> String {
    format!("{number}.{}", std::process::id())
}

/// Is a process alive that was started with this word?
fn alive(word: &str) -> bool {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| line.split(|octet| *octet == 0).any(|part| part == word.as_bytes()))
}

fn told(stage: &Stage) {
    let done = stage.hook(5000, "pwd; echo \"$@\"; env | sort; cat");
    assert_eq!(done.end, End::Exited(0), "{done:?}");
    let lines: Vec<&str> = done.output.lines().collect();
    assert_eq!(lines[..2], ["/", "active web"]);
    for line in [
        "COLOUR=green",
        "VIPD_EPOCH=7.0",
        "VIPD_EVENT=active",
        "VIPD_HOST=lb1",
        "VIPD_INSTANCE=web",
        "VIPD_INTERFACE=eth0",
        "VIPD_OWNER=",
        "VIPD_PREV_ROLE=backup",
        "VIPD_PRIORITY=150",
        "VIPD_REASON=no advert for 3.61 s",
        "VIPD_ROLE=active",
        "VIPD_SKIPPED=0",
        "VIPD_VIPS=192.0.2.10/24 2001:db8::10/64",
        "VIPD_VRID=51",
    ] {
        assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    }
    for line in &lines {
        assert!(!line.starts_with("CARGO"), "inherited: {line}");
    }
    let json: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(json["name"], "web");
    assert_eq!(json["event"], "active");
    assert_eq!(json["vips"][1], "2001:db8::10/64");
}

fn many_addresses(stage: &Stage) {
    let path = stage.script("hook", "echo ${VIPD_VIPS-none}; grep -o 2001:db8:: | wc -l");
    stage.list("hook", "h", 5000, "-", &path);
    let vips = (0..16_384).map(|n| format!("2001:db8::1234:5678:{n:x}/128")).collect();
    let many = Occasion { vips, ..occasion(Event::Active) };
    let runner = stage.runner();
    let asked = runner.run(Which::Hook("h".into()), Some(many), Duration::from_secs(30));
    let done = stage.runtime.block_on(asked);
    assert_eq!((done.end, &*done.output), (End::Exited(0), "none\n16384\n"));
}

fn told_as_by_keepalived(stage: &Stage) {
    let path = stage.script("notify", "echo \"$#:$1:$2:$3:$4\"");
    stage.list("notify", "n", 5000, "-", &path);
    let done = stage.run(&stage.runner(), Which::Hook("n".into()));
    assert_eq!(done.output, "4:INSTANCE:web:MASTER:150\n");
}

fn hangs(stage: &Stage) {
    let done = stage.hook(300, &format!("sleep {} & sleep {}", sleep(4001), sleep(4002)));
    assert_eq!(done.end, End::TimedOut);
    assert!(done.took < Duration::from_secs(2), "{:?}", done.took);
    wait("the group to end", Duration::from_secs(4), || {
        !alive(&sleep(4001)) && !alive(&sleep(4002))
    });
}

fn ignores_term(stage: &Stage) {
    let done = stage.hook(300, "trap '' TERM; while :; do sleep 0.1; done");
    assert_eq!(done.end, End::TimedOut);
    assert!(done.took >= Duration::from_millis(2300), "{:?}", done.took);
    assert!(done.took < Duration::from_secs(5), "{:?}", done.took);
}

fn floods(stage: &Stage) {
    let path = stage.script("flood", "head -c 1073741824 /dev/zero");
    stage.list("check", "c", 120_000, "-", &path);
    let runner = stage.runner();
    let run = runner.run(Which::Check("c".into()), None, Duration::from_secs(150));
    let done = stage.runtime.block_on(run);
    assert_eq!(done.end, End::Exited(0));
    assert_eq!(done.output.len(), 4096);
    let status = fs::read_to_string(format!("/proc/{}/status", stage.executor())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "{kib} KiB");
}

fn daemon(stage: &Stage) {
    let body = format!(
        "setsid sh -c 'sleep {} & exec sleep {}' </dev/null >/dev/null 2>&1 &\nsleep 0.2; exit 2",
        sleep(4003),
        sleep(4004)
    );
    let path = stage.script("check", &body);
    stage.list("check", "c", 60_000, "-", &path);
    let runner = stage.runner();
    let done = stage.run(&runner, Which::Check("c".into()));
    assert_eq!(done.end, End::Exited(2));
    assert!(done.took < Duration::from_secs(3), "waits for the daemon: {:?}", done.took);
    wait("the daemon to end", Duration::from_secs(6), || {
        !alive(&sleep(4003)) && !alive(&sleep(4004))
    });
}

fn background(stage: &Stage) {
    let path = stage.script("hook", &format!("sleep {} &\necho started", sleep(4005)));
    stage.list("hook", "h", 1500, "-", &path);
    let runner = stage.runner();
    let done = stage.run(&runner, Which::Hook("h".into()));
    assert_eq!((done.end, done.output.as_str()), (End::Exited(0), "started\n"));
    assert!(alive(&sleep(4005)), "ended at once");
    wait("the leftover to end", Duration::from_secs(5), || !alive(&sleep(4005)));
}

fn writable(stage: &Stage) {
    let folder = stage.dir.join("open");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let path = stage.script("open/hook", "echo pwned");
    stage.list("hook", "h", 1000, "-", &path);
    let done = stage.run(&stage.runner(), Which::Hook("h".into()));
    let End::Refused(reason) = &done.end else { panic!("{done:?}") };
    assert!(reason.contains(&format!("chmod go-w {}", folder.display())), "{reason}");
    assert_eq!(done.output, "");
}

fn not_configured(stage: &Stage) {
    let path = stage.script("hook", "echo hello");
    stage.list("hook", "h", 1000, "-", &path);
    let runner = stage.runner();
    for which in [
        Which::Hook("/bin/sh".into()),
        Which::Check("h".into()),
        Which::Activation("web".into()),
        Which::Activation("h".into()),
    ] {
        let done = stage.run(&runner, which);
        assert!(matches!(done.end, End::Refused(_)), "{done:?}");
    }
}

fn not_started(stage: &Stage) {
    let plain = stage.script("plain", "exit 0");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let rubbish = stage.dir.join("rubbish");
    fs::write(&rubbish, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&rubbish, fs::Permissions::from_mode(0o755)).unwrap();
    stage.list("check", "plain", 1000, "-", &plain);
    stage.list("check", "rubbish", 1000, "-", &rubbish);
    let runner = stage.runner();
    for name in ["plain", "rubbish"] {
        let done = stage.run(&runner, Which::Check(name.into()));
        assert!(matches!(done.end, End::NotStarted(_)), "{done:?}");
    }
}

fn inherited(stage: &Stage) {
    let path =
        stage.script("hook", "ls /proc/$$/fd; grep -E '^(Cap|SigBlk)' /proc/self/status; umask");
    stage.list("hook", "h", 5000, "-", &path);
    let runner = stage.runner();
    let fds = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let mut before = 0;
    for turn in 0..60 {
        let done = stage.run(&runner, Which::Hook("h".into()));
        let lines: Vec<&str> = done.output.lines().collect();
        // The shell keeps the script itself open as 10 or 255.
        let odd: Vec<&&str> = lines
            .iter()
            .take_while(|line| line.parse::<u32>().is_ok())
            .filter(|fd| !["0", "1", "2", "10", "255"].contains(fd))
            .collect();
        assert!(odd.is_empty(), "{odd:?}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb", "SigBlk"] {
            assert!(
                lines.contains(&format!("{set}:\t0000000000000000").as_str()),
                "{set} {lines:?}"
            );
        }
        assert_eq!(lines.last(), Some(&"0022"));
        if turn == 5 {
            before = fds(stage.executor());
        }
    }
    assert!(fds(stage.executor()) <= before, "descriptors pile up");
}

fn relative(stage: &Stage) {
    let path = stage.script("hook", "exit 0");
    stage.list("hook", "h", 5000, "-", &path);
    let parent = stage.dir.parent().unwrap().to_str().unwrap();
    let name = Path::new(stage.dir.file_name().unwrap());
    let runner = stage.runner_in(name, &["/usr/bin/env", "-C", parent]);
    assert_eq!(stage.run(&runner, Which::Hook("h".into())).end, End::Exited(0));
}

fn users(stage: &Stage) {
    let path = stage.script("who", "id -u; id -g; id -G; echo $USER $HOME");
    stage.list("hook", "default", 5000, "-", &path);
    stage.list("hook", "daemon", 5000, "daemon", &path);
    stage.list("hook", "root", 5000, "root", &path);
    stage.list("hook", "none", 5000, "no-such-user", &path);
    let runner = stage.runner();
    let said = |name: &str| stage.run(&runner, Which::Hook(name.into()));
    assert!(said("default").output.starts_with("65534\n"), "{:?}", said("default"));
    assert!(said("daemon").output.starts_with("1\n1\n1"), "{:?}", said("daemon"));
    assert!(said("daemon").output.contains("daemon /usr/sbin"));
    assert!(said("root").output.starts_with("0\n0\n"));
    let End::Refused(reason) = said("none").end else { panic!("{:?}", said("none")) };
    assert!(reason.contains("no-such-user"), "{reason}");
}

fn no_process(stage: &Stage) {
    let path = stage.script("check", "exit 2");
    stage.list("check", "c", 1000, "-", &path);
    // A user of its own, so that the limit counts nobody else's processes.
    std::os::unix::fs::chown(&stage.dir, Some(54_321), None).unwrap();
    std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
    let limit =
        ["/usr/bin/setpriv", "--reuid=54321", "--clear-groups", "/usr/bin/prlimit", "--nproc=1"];
    let done = stage.run(&stage.runner_by(&limit), Which::Check("c".into()));
    let End::NotStarted(reason) = &done.end else { panic!("{done:?}") };
    assert!(reason.contains("temporarily unavailable"), "{reason}");
}

fn fifo(stage: &Stage) {
    let path = stage.dir.join("notify.fifo");
    stage.list("fifo", "f", 0, "-", &path);
    let runner = stage.runner();
    let group = Occasion {
        subject: Subject::Group,
        name: "G 1".into(),
        priority: 0,
        ..occasion(Event::Backup)
    };
    let lines = [
        group.clone(),
        occasion(Event::Backup),
        occasion(Event::Active),
        Occasion { event: Event::Active, ..group },
        Occasion { priority: 1, ..occasion(Event::Fault) },
        occasion(Event::Stop),
    ];
    for line in lines {
        assert!(runner.line("f", line));
    }
    stage.runtime.block_on(runner.leave(Vec::new(), Duration::from_secs(5)));
    wait("the FIFO", Duration::from_secs(5), || path.exists());
    let want = "GROUP \"G 1\" BACKUP 0\nINSTANCE \"web\" BACKUP 150\nINSTANCE \"web\" MASTER 150\n\
                GROUP \"G 1\" MASTER 0\nINSTANCE \"web\" FAULT 1\nINSTANCE \"web\" STOP 150\n";
    let mut reader =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut got = Vec::new();
    wait("the lines", Duration::from_secs(5), || {
        let mut buffer = [0; 4096];
        if let Ok(read) = reader.read(&mut buffer) {
            got.extend_from_slice(&buffer[..read]);
        }
        got.len() >= want.len()
    });
    assert_eq!(String::from_utf8(got).unwrap(), want);
}

fn fifo_unread(stage: &Stage) {
    let path = stage.dir.join("notify.fifo");
    stage.list("fifo", "f", 0, "-", &path);
    let hook = stage.script("hook", "exit 0");
    stage.list("hook", "h", 5000, "-", &hook);
    let runner = stage.runner();
    // 64 KiB of pipe and 1024 lines of backlog, and as much again.
    for _ in 0..60 {
        for _ in 0..100 {
            assert!(runner.line("f", occasion(Event::Active)));
        }
        stage.runtime.block_on(runner.leave(Vec::new(), Duration::from_secs(5)));
    }
    assert_eq!(stage.run(&runner, Which::Hook("h".into())).end, End::Exited(0));
    let mut reader =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut got = String::new();
    wait("the backlog", Duration::from_secs(5), || {
        let mut buffer = [0; 65536];
        if let Ok(read) = reader.read(&mut buffer) {
            got.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        got.lines().count() > 3000
    });
    assert!(got.lines().all(|line| line == "INSTANCE \"web\" MASTER 150"));
}

fn stand_in(stage: &Stage) {
    let path = stage.script("hook", "sleep 2");
    stage.list("hook", "h", 5000, "-", &path);
    let runner = stage.runner();
    let first = runner.clone();
    let began = stage.runtime.spawn(async move {
        first
            .run(Which::Hook("h".into()), Some(occasion(Event::Active)), Duration::from_secs(30))
            .await
    });
    let stays = stage.runtime.block_on(async {
        while !stage.dir.join("pid").exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The unit is back while the hook runs, which is left to its end.
        let unit = tokio::net::UnixListener::bind(stage.dir.join("none.sock")).unwrap();
        let ended = began.await.unwrap();
        let came = tokio::time::timeout(Duration::from_secs(10), unit.accept()).await;
        assert!(came.is_ok(), "nobody asks the unit");
        ended
    });
    assert_eq!(stays.end, End::Exited(0));
}

fn late_executors(stage: &Stage) {
    // Hangs up at once and goes on for a while, as one does whose programs still run.
    let late = stage.script("late", "exec 0</dev/null; echo >>$0.started; sleep 0.4");
    let runner = stage.runner_by(&[late.to_str().unwrap()]);
    let started = stage.dir.join("late.started");
    stage.runtime.block_on(async {
        let until = clock::monotonic() + Duration::from_secs(20);
        while fs::read(&started).map_or(0, |lines| lines.len()) < 6 {
            assert!(clock::monotonic() < until, "in vain: six executors");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let me = std::process::id().to_string();
    let zombie = |stat: &str| {
        let Some((_, late)) = stat.split_once(" (late) ") else { return false };
        late.split(' ').take(2).eq(["Z", me.as_str()])
    };
    let zombies = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
            .filter(|stat| zombie(stat))
            .count()
    };
    stage.runtime.block_on(async {
        let until = clock::monotonic() + Duration::from_secs(20);
        while zombies() > 0 {
            assert!(clock::monotonic() < until, "{} zombies", zombies());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    drop(runner);
}

fn killed(stage: &Stage) {
    let path = stage.script(
        "hook",
        &format!("test -e $0.again && exit 0; touch $0.again; exec sleep {}", sleep(4006)),
    );
    stage.list("hook", "h", 20_000, "-", &path);
    fs::set_permissions(&stage.dir, fs::Permissions::from_mode(0o1777)).unwrap();
    let runner = stage.runner();
    let again = stage.dir.join("hook.again");
    let pending = runner.clone();
    let started = stage.runtime.spawn(async move {
        pending
            .run(Which::Hook("h".into()), Some(occasion(Event::Active)), Duration::from_secs(30))
            .await
    });
    let done = stage.runtime.block_on(async {
        while !again.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let pid = nix::unistd::Pid::from_raw(stage.executor());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        started.await.unwrap()
    });
    assert!(matches!(done.end, End::Unknown(_)), "{done:?}");
    assert_eq!(stage.run(&runner, Which::Hook("h".into())).end, End::Exited(0));
    wait("the program of the dead executor to end", Duration::from_secs(3), || {
        !alive(&sleep(4006))
    });
}
