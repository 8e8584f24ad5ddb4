//! The way to the executor: a stand-in until the unit is there, one that ends late, one that is killed.

use crate::stage::{Stage, alive, occasion, sleep, wait};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use vipd_agent::exec::protocol::{End, Event, Which};
use vipd_agent::sys::clock;

pub(crate) fn stand_in(stage: &Stage) {
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

pub(crate) fn late_executors(stage: &Stage) {
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

pub(crate) fn killed(stage: &Stage) {
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

pub(crate) fn late_stop(stage: &Stage) {
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
    wait("the last words", Duration::from_secs(20), || said().contains("stop ends"));
    assert_eq!(said(), "active\nactive ends\nstop\nstop ends\n");
}
