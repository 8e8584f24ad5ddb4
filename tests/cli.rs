//! The command line from outside: exit codes and what they come with.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn vipd(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
        command
            .arg("--config")
            .arg(self.0.path().join("vipd.toml"))
            .arg("--runtime-dir")
            .arg(self.0.path().join("run"))
            .arg("--state-dir")
            .arg(self.0.path().join("state"))
            .args(["--host", "lb1"]);
        command
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const GOOD: &str = r#"
[cluster]
name = "shop"
[hosts.lb1]
[hosts.lb2]
[instance.web]
vrid = 51
interface = "eth0"
addresses = ["192.0.2.10/24"]
priority = { lb1 = 150, lb2 = 100 }
"#;

#[test]
fn usage_is_2() {
    let dir = Dir::new();
    assert_eq!(code(&dir.vipd().output().unwrap()), 2);
    assert_eq!(code(&dir.vipd().arg("dance").output().unwrap()), 2);
    assert_eq!(code(&dir.vipd().args(["status", "--colour"]).output().unwrap()), 2);
}

#[test]
fn check_says_what_the_file_means_or_3() {
    let dir = Dir::new();
    let good = dir.file("good.toml", GOOD);
    let output = dir.vipd().arg("check").arg(&good).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("web: VRID 51 on eth0, priority 150"), "{}", stdout(&output));

    let bad = dir.file("bad.toml", &GOOD.replace("vrid = 51", "vrid = 300"));
    let output = dir.vipd().arg("check").arg(&bad).output().unwrap();
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("bad.toml:7"), "{}", stderr(&output));

    let output = dir.vipd().arg("check").arg(dir.0.path().join("none.toml")).output().unwrap();
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("none.toml"), "{}", stderr(&output));

    // The file of --config, and a host that it does not have.
    dir.file("vipd.toml", GOOD);
    assert_eq!(code(&dir.vipd().arg("check").output().unwrap()), 0);
    let output = dir.vipd().args(["check", "--host", "lb9"]).output().unwrap();
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("lb9"), "{}", stderr(&output));
}

#[test]
fn check_without_host_answers_for_all_hosts() {
    let dir = Dir::new();
    let good = dir.file("good.toml", GOOD);
    let output = Command::new(env!("CARGO_BIN_EXE_vipd")).arg("check").arg(good).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("lb1:\n  web: VRID 51 on eth0, priority 150"), "{text}");
    assert!(text.contains("lb2:\n  web: VRID 51 on eth0, priority 100"), "{text}");
}

#[test]
fn keygen_makes_a_private_key_once() {
    let dir = Dir::new();
    let path = dir.0.path().join("cluster.key");
    let output = dir.vipd().arg("keygen").arg(&path).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let key = fs::read_to_string(&path).unwrap();
    assert_eq!(key.trim().len(), 64);
    assert!(key.trim().bytes().all(|c| c.is_ascii_hexdigit()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(!stdout(&output).contains(key.trim()), "a key is never printed");

    let output = dir.vipd().arg("keygen").arg(&path).output().unwrap();
    assert_eq!(code(&output), 4);
    assert_eq!(fs::read_to_string(&path).unwrap(), key);

    std::os::unix::fs::symlink(dir.0.path().join("elsewhere"), dir.0.path().join("link")).unwrap();
    let output = dir.vipd().arg("keygen").arg(dir.0.path().join("link")).output().unwrap();
    assert_eq!(code(&output), 4, "a symbolic link is not followed");
    assert!(!dir.0.path().join("elsewhere").exists());
}

#[test]
fn status_without_agent_is_6() {
    let dir = Dir::new();
    let output = dir.vipd().arg("status").output().unwrap();
    assert_eq!(code(&output), 6);
    assert!(stderr(&output).contains("control.sock"), "{}", stderr(&output));

    // A socket file that a dead agent left.
    fs::create_dir_all(dir.0.path().join("run")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.0.path().join("run/control.sock")).unwrap());
    assert_eq!(code(&dir.vipd().arg("status").output().unwrap()), 6);
}

#[test]
fn status_of_an_agent_that_talks_nonsense_or_not_at_all_is_6() {
    use std::io::Write;
    let dir = Dir::new();
    fs::create_dir_all(dir.0.path().join("run")).unwrap();
    let listener =
        std::os::unix::net::UnixListener::bind(dir.0.path().join("run/control.sock")).unwrap();
    let answers = std::thread::spawn(move || {
        for answer in
            ["what?\n", "", "{\"v\":1,\"error\":{\"code\":\"busy\",\"message\":\"try again\"}}\n"]
        {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    for _ in 0..3 {
        assert_eq!(code(&dir.vipd().arg("status").output().unwrap()), 6);
    }
    answers.join().unwrap();
}

#[test]
fn run_without_rights_is_7_and_says_which() {
    let dir = Dir::new();
    dir.file("vipd.toml", GOOD);
    if !nix::unistd::geteuid().is_root() {
        let output = dir.vipd().arg("run").output().unwrap();
        assert_eq!(code(&output), 7);
        return;
    }
    let output = without_rights(dir.0.path(), dir.vipd().arg("run"));
    assert_eq!(code(&output), 7, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("CAP_NET_ADMIN and CAP_NET_RAW are missing"),
        "{}",
        stderr(&output)
    );
}

/// As a user without rights; the binary is copied to where such a user can reach it. By another process: while this one
/// writes, a program that another test starts here inherits the open file for a moment, and what is being written cannot be run.
fn without_rights(dir: &Path, command: &Command) -> Output {
    use std::os::unix::process::CommandExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.join("vipd");
    let copied = Command::new("cp").arg(command.get_program()).arg(&binary).status().unwrap();
    assert!(copied.success());
    Command::new(binary).args(command.get_args()).uid(65534).gid(65534).output().unwrap()
}

#[test]
fn orders_need_what_they_are_about_and_an_agent() {
    let dir = Dir::new();
    for words in [
        "promote",
        "ack",
        "move",
        "release",
        "failback",
        "set-priority web",
        "set-priority web 256",
        "set-priority web 100 --clear",
        "drain web",
        "drain --for 2hours",
        "freeze --for 0s",
        "undrain --for 1h",
        "move --wait web",
        "history -n many",
        "events --lst 5",
    ] {
        let output = dir.vipd().args(words.split(' ')).output().unwrap();
        assert_eq!(code(&output), 2, "{words}: {}", stderr(&output));
    }
    for words in [
        "promote web",
        "ack web",
        "move web",
        "move web --to lb2 --force --wait 30s --reason kernel",
        "release web --dry-run",
        "failback web --wait",
        "set-priority web 90 --for 1h",
        "set-priority web --clear",
        "drain --for 2h --last-resort --allow-outage",
        "undrain",
        "freeze --for 30m",
        "thaw --json",
        "reload",
        "reload --dry-run",
        "reexec",
        "history web -n 5",
        "events",
        "events -f --json",
    ] {
        let output = dir.vipd().args(words.split(' ')).output().unwrap();
        assert_eq!(code(&output), 6, "{words}: {}", stderr(&output));
        assert!(stderr(&output).contains("vipd run"), "{words}: {}", stderr(&output));
    }
}

#[test]
fn an_order_ends_as_the_agent_says() {
    use std::io::{BufRead, Write};
    let dir = Dir::new();
    fs::create_dir_all(dir.0.path().join("run")).unwrap();
    let listener =
        std::os::unix::net::UnixListener::bind(dir.0.path().join("run/control.sock")).unwrap();
    const BEGUN: &str = r#"{"v":1,"accepted":{"operation":"9-1","message":"web moves"}}"#;
    let error = |code: &str| {
        format!(r#"{{"v":1,"error":{{"code":"{code}","message":"because","operation":"9-1"}}}}"#)
    };
    let cases = [
        (vec![BEGUN.to_owned()], "--reason why", 0),
        (vec![r#"{"v":1,"would":{"message":"web moves"}}"#.to_owned()], "--dry-run", 0),
        (vec![error("refused")], "--wait", 4),
        (vec![BEGUN.to_owned(), error("aborted")], "--wait", 4),
        (vec![BEGUN.to_owned(), error("outcome-unknown")], "--wait 1s", 5),
        // It ended before it could say.
        (vec![BEGUN.to_owned()], "--wait", 5),
        (vec![error("forbidden")], "--force", 7),
        (vec![error("busy")], "--force", 6),
        (vec![r#"{"v":1,"later":{}}"#.to_owned()], "--force", 6),
        (
            vec![
                BEGUN.to_owned(),
                r#"{"v":1,"progress":{"operation":"9-1","message":"lb2 is ready"}}"#.to_owned(),
                r#"{"v":1,"done":{"operation":"9-1","message":"lb2 owns web"}}"#.to_owned(),
            ],
            "--wait",
            0,
        ),
    ];
    let answers: Vec<_> = cases.iter().map(|(answers, ..)| answers.join("\n") + "\n").collect();
    let agent = std::thread::spawn(move || {
        for answer in answers.into_iter().flat_map(|answer| [answer.clone(), answer]) {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            std::io::BufReader::new(&stream).read_line(&mut request).unwrap();
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    for (answers, options, want) in &cases {
        let mut command = dir.vipd();
        command.args(["move", "web"]).args(options.split(' '));
        let output = command.output().unwrap();
        assert_eq!(code(&output), *want, "{answers:?}: {}", stderr(&output));
        let output = command.arg("--json").output().unwrap();
        assert_eq!(code(&output), *want, "{answers:?}: {}", stderr(&output));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["schema"], 1, "{document}");
        let outcome = document["outcome"].as_str().unwrap();
        assert!(
            match want {
                0 => ["accepted", "would", "done"].contains(&outcome),
                4 => ["refused", "aborted"].contains(&outcome),
                5 => outcome == "outcome-unknown" && document["operation"] == "9-1",
                7 => outcome == "forbidden",
                _ => ["busy", "unreachable"].contains(&outcome),
            },
            "{document}"
        );
        assert_eq!(stderr(&output).is_empty(), *want == 0, "{}", stderr(&output));
    }
    agent.join().unwrap();
}

#[test]
fn the_commands_of_the_examples_are_understood() {
    let dir = Dir::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut found = 0;
    for example in fs::read_dir(examples).unwrap() {
        let text = fs::read_to_string(example.unwrap().path()).unwrap();
        for line in text.lines() {
            let Some(command) = line.strip_prefix("#   vipd ") else { continue };
            // What follows two spaces is a remark.
            let command = command.split("  ").next().unwrap();
            let output = dir.vipd().args(command.split(' ')).output().unwrap();
            assert_eq!(code(&output), 6, "{line}: {}", stderr(&output));
            found += 1;
        }
    }
    assert!(found > 0);
}

fn import(dir: &Dir, arguments: &[&str]) -> Output {
    dir.vipd().current_dir(&dir.0).arg("import").args(arguments).output().unwrap()
}

#[test]
fn import_makes_one_file_of_two_and_tells_every_line() {
    let dir = Dir::new();
    fs::create_dir(dir.0.path().join("conf.d")).unwrap();
    dir.file("1.conf", "include conf.d/*.conf\n");
    let body = "vrrp_instance web {\ninterface eth0\nvirtual_router_id 51\n@lb1 priority 150\n@lb2 priority 100\n\
        virtual_ipaddress {\n192.0.2.10/24\n}\n}\n";
    dir.file("conf.d/web.conf", body);
    dir.file("2.conf", body);
    let output = import(&dir, &["lb1=1.conf", "lb2=2.conf", "-o", "new.toml"]);
    assert_eq!(code(&output), 0, "{}{}", stderr(&output), stdout(&output));
    assert!(stdout(&output).starts_with("0 dropped, 0 approximated, "), "{}", stdout(&output));
    assert!(stdout(&output).contains("conf.d/web.conf:4"), "{}", stdout(&output));
    let toml = fs::read_to_string(dir.0.path().join("new.toml")).unwrap();
    assert!(toml.contains("priority = { lb1 = 150, lb2 = 100 }"), "{toml}");
    let output = dir.vipd().current_dir(&dir.0).args(["check", "new.toml"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    // Never overwritten.
    let output = import(&dir, &["lb1=1.conf", "-o", "new.toml"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    assert_eq!(fs::read_to_string(dir.0.path().join("new.toml")).unwrap(), toml);

    // Something is lost: 1. The file alone is of this host, and on standard output.
    dir.file("conf.d/x.conf", "vrrp_frobnicate 1\n");
    let output = import(&dir, &["1.conf", "--report", "report"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("[hosts.lb1]") && stderr(&output).is_empty(),
        "{}",
        stderr(&output)
    );
    assert!(fs::read_to_string(dir.0.path().join("report")).unwrap().contains("conf.d/x.conf:1"));
}

#[test]
fn import_of_what_cannot_be_read_is_3_with_place_and_fix() {
    let dir = Dir::new();
    dir.file("1.conf", "vrrp_instance web {\n");
    dir.file("loop.conf", "include loop.conf\n");
    dir.file("lvs.conf", "virtual_server 192.0.2.1 80 {\n}\n");
    for (file, told) in [
        ("1.conf", "1.conf:1: error: "),
        ("none.conf", "none.conf"),
        ("loop.conf", "loop.conf:1"),
        ("lvs.conf", "lvs.conf:1"),
    ] {
        let output = import(&dir, &[file]);
        assert_eq!(code(&output), 3, "{file}");
        assert!(stderr(&output).contains(told), "{file}: {}", stderr(&output));
    }
    assert_eq!(code(&import(&dir, &["lb1=1.conf", "lb1=1.conf"])), 2);
    assert_eq!(code(&import(&dir, &[])), 2);
}

const ANSWERED: [&str; 8] = [
    "--interface",
    "vipd-none",
    "--address",
    "192.0.2.10/24",
    "--this-host",
    "lb1=192.0.2.11,10.9.0.11",
    "--peer",
    "lb2=192.0.2.12,10.9.0.12",
];

#[test]
fn init_writes_a_file_that_check_takes_and_never_over_another() {
    let dir = Dir::new();
    let init = |more: &[&str]| {
        let mut command = dir.vipd();
        command
            .current_dir(&dir.0)
            .args(["init", "--yes", "--scan", "1"])
            .args(ANSWERED)
            .args(more);
        command.output().unwrap()
    };
    let output = init(&["-o", "new.toml", "--unit", "nginx"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("vipd-none is not an interface"), "{}", stdout(&output));
    assert!(stdout(&output).contains("Next:\n  1. vipd keygen"), "{}", stdout(&output));
    let drop_in = fs::read_to_string(dir.0.path().join("fronts.conf")).unwrap();
    assert!(drop_in.ends_with("After=nginx.service\n"), "{drop_in}");
    let checked = dir.vipd().current_dir(&dir.0).args(["check", "new.toml"]).output().unwrap();
    assert_eq!(code(&checked), 0, "{}", stderr(&checked));

    let before = fs::read_to_string(dir.0.path().join("new.toml")).unwrap();
    let output = init(&["-o", "new.toml"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    assert_eq!(fs::read_to_string(dir.0.path().join("new.toml")).unwrap(), before);

    // Without what has no default there is nothing to write.
    let output = dir.vipd().args(["init", "--yes", "--interface", "eth0"]).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--address"), "{}", stderr(&output));
}

#[test]
fn init_asks_five_questions() {
    use std::io::Write as _;
    let dir = Dir::new();
    let mut command = dir.vipd();
    command.current_dir(&dir.0).args(["init", "--scan", "0", "-o", "asked.toml"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let answers = "eth0\n192.0.2.10/24\nlb1=192.0.2.11\nlb2\nlb2=192.0.2.12\n\n";
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert!(stdout(&output).contains("\"lb2\" is no host"), "{}", stdout(&output));
    let toml = fs::read_to_string(dir.0.path().join("asked.toml")).unwrap();
    assert!(toml.contains("priority = { lb1 = 150, lb2 = 100 }"), "{toml}");
}
