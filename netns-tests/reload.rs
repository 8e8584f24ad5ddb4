//! Reloads while a client probes: what a change does not touch notices nothing, a bad file changes nothing, and what has
//! to begin anew is handed over first. Judged by the kernels' address events and by the client.

use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use crate::judge;
use crate::reload_files::{Draw, INVALID};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vipd_agent::lab::agent::Condition;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::plan::{Heartbeats, Plan};

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("reload/{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("random_edits_lose_nothing", random_edits),
        trial("an_invalid_file_changes_nothing", invalid_files),
        trial("an_address_between_two_instances_is_never_off", address_moves),
        trial("another_vrid_is_handed_over_first/heartbeats", || {
            another_vrid(Heartbeats::TwoPaths)
        }),
        trial("a_restart_with_a_bad_file_runs_on_the_last_good_one", bad_restart),
        trial("a_signal_reloads_and_what_it_says_is_seen", signal),
    ]
}

/// What a kernel says of its addresses while it is dropped at the end.
struct Monitor {
    child: Child,
    file: std::path::PathBuf,
}

impl Monitor {
    fn start(arena: &Arena, ix: usize) -> Self {
        let file = arena.dir(ix).join("monitor.log");
        let out = File::create(&file).unwrap();
        let mut command = Command::new("ip");
        command.args(["-o", "monitor", "address"]).stdin(Stdio::null()).stdout(out);
        let started = arena.stage.room().host(ix).ns().unwrap().run(move || Ok(command.spawn()?));
        // Its socket is open when the renewals appear.
        let monitor = Self { child: started.unwrap(), file };
        wait(Duration::from_millis(300));
        monitor
    }

    /// Removals of `addr` so far.
    fn removals(&self, addr: &str) -> Vec<String> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let of = format!(" {addr}/");
        let gone = |line: &&str| line.starts_with("Deleted") && line.contains(&of);
        text.lines().filter(gone).map(str::to_owned).collect()
    }

    /// Everything it said of `addr`.
    fn said(&self, addr: &str) -> usize {
        let text = std::fs::read_to_string(&self.file).unwrap();
        text.lines().filter(|line| line.contains(&format!(" {addr}/"))).count()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of the newest transition of an instance that a host remembers, which forgets what is 500 entries old.
fn last_transition(arena: &Arena, ix: usize, instance: &str) -> Option<u64> {
    let all = arena.history(ix);
    let of = all.iter().filter(|e| e["kind"] == "transition" && e["instance"] == instance);
    of.filter_map(|e| e["seq"].as_u64()).max()
}

/// What status says of an instance, but for how long.
fn standing(arena: &Arena, ix: usize, instance: &str) -> Vec<Value> {
    let status = arena.status(ix);
    let all = status["instances"].as_array().cloned().unwrap_or_default();
    let shown =
        |i: &Value| ["state", "owner", "epoch", "cause", "applied"].map(|f| i[f].clone()).to_vec();
    all.iter().filter(|i| i["name"] == instance).flat_map(shown).collect()
}

fn alarm(arena: &Arena, ix: usize) -> Option<String> {
    let status = arena.status(ix);
    let alarms = status["alarms"].as_array().cloned().unwrap_or_default();
    alarms.iter().find(|a| a["code"] == "config-not-used").map(|a| a["message"].to_string())
}

fn write(arena: &Arena, ix: usize, text: &str) {
    arena.edit_config(ix, |_| text.to_owned());
}

fn random_edits() {
    let rounds: u32 = if is_long() { 200 } else { 20 };
    let plan = Plan { interval: Duration::from_millis(200), ..Plan::default() };
    let arena = Arena::elected(plan);
    let base = std::fs::read_to_string(arena.stage.agent(FIRST).config()).unwrap();
    let vip = arena.stage.plan().vip4.to_string();
    let monitors = [FIRST, SECOND].map(|ix| Monitor::start(&arena, ix));
    let before = [FIRST, SECOND].map(|ix| standing(&arena, ix, "web"));
    let told = [FIRST, SECOND].map(|ix| last_transition(&arena, ix, "web"));
    assert!(told.iter().all(Option::is_some), "{told:?}");
    let from = now();
    let mut draw = Draw::of(51);
    let mut bad = Vec::new();
    for round in 1..=rounds {
        let text = draw.edit(&base);
        let mut order = [FIRST, SECOND];
        if draw.below(2) == 0 {
            order.reverse();
        }
        let at = now();
        for ix in order {
            write(&arena, ix, &text);
            let would = arena.order(ix, &["reload", "--dry-run"]);
            let done = arena.order(ix, &["reload", "--wait=30s"]);
            if would.code != 0 || done.code != 0 {
                bad.push(format!("{round} h{}: {would:?} {done:?}\n{text}", ix + 1));
            }
            // Peers differ for a moment: nobody fights.
            wait(Duration::from_millis(draw.below(400)));
        }
        let seen = arena.outage(at);
        let lost = judge::lost(&seen);
        println!("\n  {round}: lost {lost} of {}: {}", seen.sent, draw.said());
        if lost > 0 {
            bad.push(format!("{round}: {seen:?}\n{text}\n{}", arena.stage.logs(20)));
        }
    }
    arena.calm();
    assert!(bad.is_empty(), "{bad:#?}");
    for ix in [FIRST, SECOND] {
        assert_eq!(standing(&arena, ix, "web"), before[ix]);
        let last = last_transition(&arena, ix, "web");
        assert!(last.is_none() || last == told[ix], "{}", arena.stage.logs(60));
        assert_eq!(monitors[ix].removals(&vip), Vec::<String>::new());
    }
    assert!(monitors[FIRST].said(&vip) > 0, "the monitor saw the renewals");
    assert_eq!(arena.moves(from), 0);
    drop(monitors);
    arena.close();
}

fn invalid_files() {
    let plan = Plan { interval: Duration::from_millis(200), ..Plan::default() };
    let arena = Arena::elected(plan);
    let base = std::fs::read_to_string(arena.stage.agent(FIRST).config()).unwrap();
    let told = last_transition(&arena, FIRST, "web");
    let hash = |arena: &Arena| arena.status(FIRST)["config_hash"].clone();
    let (before, monitor, from) = (hash(&arena), Monitor::start(&arena, FIRST), now());
    for (n, case) in INVALID.iter().enumerate() {
        let (text, line) = case.apply(&base);
        write(&arena, FIRST, &text);
        let said = arena.order(FIRST, &["reload", "--wait=20s"]);
        let place = format!("vipd.toml:{line}:");
        let whole = said.code == 3 && said.text.contains(&place) && said.text.contains("fix: ");
        assert!(whole, "{n} {case:?}: wanted {place}, got {said:?}\n{text}");
        let alarm = alarm(&arena, FIRST).unwrap_or_default();
        assert!(alarm.contains("vipd.toml:") && alarm.contains("fix: "), "{n}: {alarm}");
    }
    assert!(INVALID.len() >= 50);
    assert_eq!(hash(&arena), before);
    assert_eq!(last_transition(&arena, FIRST, "web"), told);
    assert_eq!(monitor.removals(&arena.stage.plan().vip4.to_string()), Vec::<String>::new());
    assert_eq!((arena.moves(from), judge::lost(&arena.outage(from))), (0, 0));
    // The file is whole again: the alarm ends, and what it changes is said.
    write(&arena, FIRST, &base.replace("hold-down = \"0s\"", "hold-down = \"1s\""));
    let diff = arena.done(FIRST, &["config", "diff"]);
    assert!(diff.contains("web: hold-down: 0ns -> 1s (hot)"), "{diff}");
    arena.done(FIRST, &["reload", "--wait=20s"]);
    assert_eq!(alarm(&arena, FIRST), None);
    assert_ne!(hash(&arena), before);
    write(&arena, FIRST, &base);
    arena.done(FIRST, &["reload", "--wait=20s"]);
    drop(monitor);
    arena.close();
}

fn address_moves() {
    let moving = "192.0.2.120";
    let mut plan = Plan { interval: Duration::from_millis(200), ..Plan::default() };
    plan.file_extra = format!(
        "\n[instance.dns]\nvrid = 60\ninterface = \"eth0\"\naddresses = [\"192.0.2.119/24\", \"{moving}/24\"]\n\
         priority = {{ h1 = 150, h2 = 100 }}\nadvert-interval = \"200ms\"\npreempt-delay = \"0s\"\n"
    );
    let arena = Arena::elected(plan);
    let with_dns = std::fs::read_to_string(arena.stage.agent(FIRST).config()).unwrap();
    let vip = arena.stage.plan().vip4.to_string();
    let with_web = with_dns
        .replace(&format!(", \"{moving}/24\""), "")
        .replace(&format!("[\"{vip}/24\"]"), &format!("[\"{vip}/24\", \"{moving}/24\"]"));
    assert_ne!(with_dns, with_web);
    let is_on = || arena.run(FIRST, "ip -o addr show to 192.0.2.120").contains(moving);
    let limit = now() + arena.bound();
    while !is_on() {
        assert!(now() < limit, "dns does not own\n{}", arena.stage.logs(20));
        wait(Duration::from_millis(20));
    }
    let monitor = Monitor::start(&arena, FIRST);
    let from = now();
    for round in 0..if is_long() { 40 } else { 6 } {
        let text = if round % 2 == 0 { &with_web } else { &with_dns };
        for ix in [FIRST, SECOND] {
            write(&arena, ix, text);
            arena.done(ix, &["reload", "--wait=20s"]);
        }
        // Longer than its lease: it is renewed by whom it belongs to.
        wait(Duration::from_millis(if round % 2 == 0 { 2700 } else { 300 }));
        assert!(is_on(), "{round}\n{}", arena.stage.logs(20));
    }
    assert!(monitor.said(moving) > 0);
    assert_eq!(monitor.removals(moving), Vec::<String>::new());
    assert_eq!(monitor.removals(&vip), Vec::<String>::new());
    assert_eq!((arena.moves(from), judge::lost(&arena.outage(from))), (0, 0));
    drop(monitor);
    arena.close();
}

fn another_vrid(heartbeats: Heartbeats) {
    let plan = Plan { interval: Duration::from_millis(200), heartbeats, ..Plan::default() };
    let arena = Arena::elected(plan);
    let mut from = FIRST;
    for round in 0..if is_long() { 20 } else { 3 } {
        let at = now();
        let vrid = |n: u32| format!("vrid = {}\n", 51 + n);
        let change =
            |ix: usize| arena.edit_config(ix, |t| t.replace(&vrid(round), &vrid(round + 1)));
        let other = 1 - from;
        // The owner first: it hands over, and waits for the other one to follow.
        change(from);
        let would = arena.done(from, &["config", "diff"]);
        assert!(would.contains("vrid") && would.contains("(hard)"), "{would}");
        arena.done(from, &["reload", "--wait=20s"]);
        arena.wait_owner(other);
        wait(arena.stage.plan().detection() * 2);
        assert_eq!(arena.stage.owner(), Some(other), "{}", arena.stage.logs(30));
        change(other);
        arena.done(other, &["reload", "--wait=20s"]);
        arena.wait_owner(FIRST);
        arena.calm();
        let seen = arena.outage(at);
        println!("\n  {round}: lost {} of {}", seen.lost, seen.sent);
        assert_eq!(judge::lost(&seen), 0, "{seen:?}\n{}", arena.stage.logs(40));
        from = FIRST;
    }
    arena.close();
}

fn bad_restart() {
    let plan = Plan { interval: Duration::from_millis(200), ..Plan::default() };
    let mut arena = Arena::elected(plan);
    let base = std::fs::read_to_string(arena.stage.agent(FIRST).config()).unwrap();
    arena.stage.stop(FIRST).unwrap();
    arena.wait_owner(SECOND);
    let broken = base.replace("vrid = 51", "vrid = 51\nvrdi = 51");
    write(&arena, FIRST, &broken);
    arena.stage.start(FIRST).unwrap();
    arena.wait_owner(FIRST);
    let said = alarm(&arena, FIRST).expect("an alarm");
    assert!(said.contains("vrdi") && said.contains("last good"), "{said}");
    assert_eq!(arena.order(FIRST, &["check"]).code, 3);
    let doctor = arena.order(FIRST, &["doctor"]).text;
    assert!(doctor.contains("last good"), "{doctor}");
    let events = arena.history(FIRST);
    assert!(events.iter().any(|e| e["kind"] == "alarm" && e["code"] == "config-not-used"));
    // Without a copy there is nothing to run on.
    write(&arena, SECOND, &broken);
    arena.stage.stop(SECOND).unwrap();
    std::fs::remove_file(arena.dir(SECOND).join("state/last-good.toml")).unwrap();
    arena.stage.start(SECOND).unwrap();
    let limit = now() + arena.bound();
    while !arena.stage.agent_mut(SECOND).has_ended() {
        assert!(now() < limit, "it runs: {}", arena.stage.logs(20));
        wait(Duration::from_millis(50));
    }
    assert_eq!(arena.stage.agent(SECOND).condition(), Condition::Down);
    let log = arena.stage.agent(SECOND).log_tail(60);
    assert!(log.contains("vrdi"), "{log}");
    for ix in [FIRST, SECOND] {
        write(&arena, ix, &base);
    }
    arena.stage.start(SECOND).unwrap();
    arena.done(FIRST, &["reload", "--wait=20s"]);
    assert_eq!(alarm(&arena, FIRST), None);
    arena.calm();
    arena.close();
}

fn signal() {
    let plan = Plan { interval: Duration::from_millis(200), ..Plan::default() };
    let arena = Arena::elected(plan);
    let base = std::fs::read_to_string(arena.stage.agent(FIRST).config()).unwrap();
    let (from, told) = (now(), last_transition(&arena, FIRST, "web"));
    let hash = |arena: &Arena| arena.status(FIRST)["config_hash"].clone();
    let listens = format!("{base}\n[telemetry]\nlisten = \"127.0.0.1:9650\"\n");
    let scrape = || arena.try_run(FIRST, "curl -sf http://127.0.0.1:9650/metrics");
    for (text, success) in
        [(listens.clone(), "1"), (format!("{listens}nonsense = 1\n"), "0"), (listens, "1")]
    {
        write(&arena, FIRST, &text);
        arena.stage.agent(FIRST).signal(Signal::SIGHUP).unwrap();
        let wanted = format!("vipd_config_reload_success{{vipd_cluster=\"lab\"}} {success}\n");
        let limit = now() + arena.bound();
        loop {
            let text = String::from_utf8_lossy(&scrape().stdout).into_owned();
            if text.contains(&wanted) && text.contains("vipd_up{vipd_cluster=\"lab\"} 1\n") {
                break;
            }
            assert!(now() < limit, "no {wanted} in {text}\n{}", arena.stage.logs(20));
            wait(Duration::from_millis(100));
        }
    }
    let before = hash(&arena);
    write(&arena, FIRST, &base);
    arena.stage.agent(FIRST).signal(Signal::SIGHUP).unwrap();
    let limit = now() + arena.bound();
    while hash(&arena) == before || scrape().status.success() {
        assert!(now() < limit, "{}", arena.stage.logs(20));
        wait(Duration::from_millis(50));
    }
    assert_eq!(last_transition(&arena, FIRST, "web"), told);
    assert_eq!((arena.moves(from), judge::lost(&arena.outage(from))), (0, 0));
    arena.close();
}
