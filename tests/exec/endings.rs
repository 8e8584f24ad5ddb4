//! How programs end that would rather not, or print without end, and what they leave behind.

use crate::stage::{Stage, alive, occasion, sleep, wait};
use std::fs;
use std::time::Duration;
use vipd_agent::exec::protocol::{End, Event, Occasion, Which};
use vipd_agent::sys::clock;

pub(crate) fn hangs(stage: &Stage) {
    let done = stage.hook(300, &format!("sleep {} & sleep {}", sleep(4001), sleep(4002)));
    assert_eq!(done.end, End::TimedOut);
    assert!(done.took < Duration::from_secs(2), "{:?}", done.took);
    wait("the group to end", Duration::from_secs(4), || {
        !alive(&sleep(4001)) && !alive(&sleep(4002))
    });
}

pub(crate) fn ignores_term(stage: &Stage) {
    let done = stage.hook(300, "trap '' TERM; while :; do sleep 0.1; done");
    assert_eq!(done.end, End::TimedOut);
    assert!(done.took >= Duration::from_millis(2300), "{:?}", done.took);
    assert!(done.took < Duration::from_secs(5), "{:?}", done.took);
}

pub(crate) fn floods(stage: &Stage) {
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

pub(crate) fn daemon(stage: &Stage) {
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

pub(crate) fn background(stage: &Stage) {
    let path = stage.script("hook", &format!("sleep {} &\necho started", sleep(4005)));
    stage.list("hook", "h", 1500, "-", &path);
    let runner = stage.runner();
    let done = stage.run(&runner, Which::Hook("h".into()));
    assert_eq!((done.end, done.output.as_str()), (End::Exited(0), "started\n"));
    assert!(alive(&sleep(4005)), "ended at once");
    wait("the leftover to end", Duration::from_secs(5), || !alive(&sleep(4005)));
}

pub(crate) fn deadline(stage: &Stage) {
    let path = stage.script("hook", &format!("echo $VIPD_DEADLINE_MS; exec sleep {}", sleep(300)));
    stage.list("hook", "h", 60_000, "-", &path);
    let told = Occasion { deadline_ms: 500, ..occasion(Event::Active) };
    let runner = stage.runner();
    let began = clock::monotonic();
    let asked = runner.run(Which::Hook("h".into()), Some(told), Duration::from_secs(30));
    let done = stage.runtime.block_on(asked);
    assert_eq!((done.end, &*done.output), (End::TimedOut, "500\n"));
    let took = clock::monotonic().since(began);
    assert!(took < Duration::from_secs(10), "{took:?}");
}
