//! What a program hears: words, environment, JSON; and what it inherits: nothing.

use crate::stage::{Stage, occasion};
use std::fs;
use std::path::Path;
use std::time::Duration;
use vipd_agent::exec::protocol::{End, Event, Occasion, Which};

pub(crate) fn told(stage: &Stage) {
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
        "VIPD_OP_ID=9-1",
        "VIPD_PEER=lb2 lb3",
        "VIPD_PEER_ADDR=192.0.2.12 -",
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
    assert_eq!(json["peers"][0]["addresses"][1], "10.9.0.12");
}

pub(crate) fn last_line(stage: &Stage) {
    let done = stage.hook(
        5000,
        "seq 200000; echo 'rpo_ms=7 generation=g1'; echo trouble >&2; head -c 100000 /dev/zero | tr '\\0' x >&2",
    );
    assert_eq!((done.end, &*done.last), (End::Exited(0), "rpo_ms=7 generation=g1"));
    assert_eq!(stage.hook(5000, "exit 3").last, "");
}

pub(crate) fn many_addresses(stage: &Stage) {
    let path = stage.script("hook", "echo ${VIPD_VIPS-none}; grep -o 2001:db8:: | wc -l");
    stage.list("hook", "h", 5000, "-", &path);
    let vips = (0..16_384).map(|n| format!("2001:db8::1234:5678:{n:x}/128")).collect();
    let many = Occasion { vips, ..occasion(Event::Active) };
    let runner = stage.runner();
    let asked = runner.run(Which::Hook("h".into()), Some(many), Duration::from_secs(30));
    let done = stage.runtime.block_on(asked);
    assert_eq!((done.end, &*done.output), (End::Exited(0), "none\n16384\n"));
}

pub(crate) fn told_as_by_keepalived(stage: &Stage) {
    let path = stage.script("notify", "echo \"$#:$1:$2:$3:$4\"");
    stage.list("notify", "n", 5000, "-", &path);
    let done = stage.run(&stage.runner(), Which::Hook("n".into()));
    assert_eq!(done.output, "4:INSTANCE:web:MASTER:150\n");
}

pub(crate) fn inherited(stage: &Stage) {
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
    // The last run may be told a moment before its descriptors are closed.
    let settled = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        fds(stage.executor()) <= before
    });
    assert!(settled, "descriptors pile up");
}

pub(crate) fn relative(stage: &Stage) {
    let path = stage.script("hook", "exit 0");
    stage.list("hook", "h", 5000, "-", &path);
    let parent = stage.dir.parent().unwrap().to_str().unwrap();
    let name = Path::new(stage.dir.file_name().unwrap());
    let runner = stage.runner_in(name, &["/usr/bin/env", "-C", parent]);
    assert_eq!(stage.run(&runner, Which::Hook("h".into())).end, End::Exited(0));
}
