//! State files that follow the address, judged by what lies on the hosts' own disks and by what a client was answered.
//!
//! A writer appends numbered records with fsync on whoever owns; what another host has of them later is counted. Of the
//! replicator only what it says it would lose (RPO), its alarms and its process are looked at.

mod untimely;

use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use crate::judge;
use crate::programs::{notes, script, wait_file};
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::replicator::StateFiles;
use vipd_core::time::Instant;

/// Lines of the set in all trials: as quick as it gets.
const QUICK: &str = "debounce = \"20ms\"\nmax-delay = \"200ms\"\n";
/// Time for a change to be everywhere on a machine that does other things, too.
const SOON: Duration = Duration::from_secs(15);
/// The file that the writer appends to.
const RECORDS: &str = "records";

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, fn()); 11] = [
        ("follows", a_file_is_on_the_standby_soon),
        ("moves", moves_lose_nothing),
        ("preempts", a_preemption_loses_nothing),
        ("crashes", a_crash_loses_no_more_than_the_gauge_said),
        ("partition", after_a_partition_nothing_is_lost),
        ("links", a_cut_and_a_slow_link),
        ("strangers", strangers_get_nothing_and_disturb_nothing),
        ("gate", a_stale_host_does_not_claim),
        ("killed", replicators_that_die_at_any_moment),
        ("claims", untimely::a_claim_while_a_tree_is_put_in_place),
        ("reloads", untimely::a_bad_set_changes_nothing),
    ];
    let trial = |(name, play): (&str, fn())| {
        Trial::test(format!("replication/{name}"), move || {
            play();
            Ok(())
        })
    };
    trials.into_iter().map(trial).collect()
}

fn plan(more: &str) -> Plan {
    let state_files = Some(StateFiles::with(&format!("{QUICK}{more}")));
    Plan { interval: Duration::from_millis(100), state_files, ..Plan::default() }
}

/// No files of the trial before.
fn without_files(plan: &Plan) {
    if let Some(sets) = &plan.state_files {
        for ix in 0..plan.hosts {
            let _ = fs::remove_dir_all(sets.store.join(format!("h{}", ix + 1)));
        }
    }
}

/// An elected room.
fn elected(plan: Plan) -> Arena {
    without_files(&plan);
    let arena = Arena::elected(plan);
    arena.wait_sync(FIRST);
    arena
}

impl Arena {
    /// The state files of a host, from outside.
    fn files(&self, ix: usize) -> PathBuf {
        self.stage.replicator(ix).files().to_owned()
    }

    /// What status of a host says of the set.
    fn set(&self, ix: usize) -> Value {
        self.status(ix)["instances"][0]["replicas"][0].clone()
    }

    /// Waits until the owner `ix` says that every other host has everything.
    fn wait_sync(&self, ix: usize) {
        let limit = now() + SOON;
        loop {
            let set = self.set(ix);
            let peers = set["peers"].as_array().cloned().unwrap_or_default();
            let all = self.stage.plan().hosts - 1;
            let in_sync = peers.iter().filter(|peer| peer["in_sync"] == true).count();
            let others = (0..=all).filter(|other| *other != ix);
            let known = || others.clone().all(|other| self.set(other)["age_ms"].is_u64());
            if set["owns"] == true && in_sync == all && set["rpo_ms"] == 0 && known() {
                return;
            }
            assert!(now() < limit, "not in sync: {set:#}\n{}", self.stage.logs(30));
            wait(Duration::from_millis(20));
        }
    }

    /// Waits until `wanted` is true of the set on a host.
    fn wait_set(&self, ix: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let limit = now() + SOON;
        loop {
            let set = self.set(ix);
            if wanted(&set) {
                return set;
            }
            assert!(now() < limit, "h{}: {what}: {set:#}\n{}", ix + 1, self.stage.logs(30));
            wait(Duration::from_millis(20));
        }
    }

    /// Waits until a file of a host holds `content`.
    fn wait_content(&self, ix: usize, name: &str, content: &str) -> Instant {
        let (limit, path) = (now() + SOON, self.files(ix).join(name));
        loop {
            let found = fs::read_to_string(&path);
            if found.as_ref().is_ok_and(|text| text == content) {
                return now();
            }
            assert!(
                now() < limit,
                "{name} of h{} is {found:?}, not {content:?}\n{}",
                ix + 1,
                self.stage.logs(30)
            );
            wait(Duration::from_millis(2));
        }
    }
}

/// Appends numbered records to a file, each on the disk before the next, until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    /// Records on the disk.
    written: Arc<AtomicU64>,
    /// When each was.
    times: Arc<Mutex<Vec<Instant>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Goes on after record `from`, one each `pause`.
    fn start(folder: &Path, from: u64, pause: Duration) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let written = Arc::new(AtomicU64::new(from));
        let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let mut file =
            OpenOptions::new().create(true).append(true).open(folder.join(RECORDS)).unwrap();
        let thread = std::thread::spawn({
            let (stop, written, times) =
                (Arc::clone(&stop), Arc::clone(&written), Arc::clone(&times));
            move || {
                while !stop.load(Ordering::Acquire) {
                    let number = written.load(Ordering::Acquire) + 1;
                    file.write_all(format!("{number}\n").as_bytes()).unwrap();
                    file.sync_all().unwrap();
                    times.lock().unwrap().push(now());
                    written.store(number, Ordering::Release);
                    wait(pause);
                }
            }
        });
        Self { stop, written, times, thread: Some(thread) }
    }

    /// Quiet from here on; how many records there are.
    fn quiesce(&mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.written.load(Ordering::Acquire)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.quiesce();
    }
}

/// Records of a host; they must be in order and without a gap.
fn records(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join(RECORDS)).unwrap_or_default();
    let mut last = 0;
    for line in text.lines() {
        assert_eq!(line.parse::<u64>().ok(), Some(last + 1), "record after {last}: {line:?}");
        last += 1;
    }
    assert!(text.is_empty() || text.ends_with('\n'), "half a record after {last}");
    last
}

fn a_file_is_on_the_standby_soon() {
    let arena = elected(Plan { hosts: 3, ..plan("") });
    let owner = arena.files(FIRST);
    let mut worst = Duration::ZERO;
    for n in 0..10 {
        let (name, text) = (format!("file{n}"), format!("content {n}\n"));
        let at = now();
        fs::write(owner.join(&name), &text).unwrap();
        for ix in [SECOND, SECOND + 1] {
            worst = worst.max(arena.wait_content(ix, &name, &text).since(at));
        }
    }
    // Folders, links, modes, owners, names that no one expects, empty files; and what goes, goes.
    fs::create_dir_all(owner.join("a/b")).unwrap();
    std::os::unix::fs::symlink("../file1", owner.join("a/link")).unwrap();
    fs::write(owner.join("a/b/with blank\nand newline"), "").unwrap();
    fs::remove_file(owner.join("file0")).unwrap();
    fs::write(owner.join("last"), "last").unwrap();
    arena.wait_content(SECOND, "last", "last");
    arena.wait_sync(FIRST);
    let second = arena.files(SECOND);
    assert!(!second.join("file0").exists(), "what was deleted is deleted there");
    assert_eq!(fs::read_link(second.join("a/link")).unwrap(), Path::new("../file1"));
    assert!(second.join("a/b/with blank\nand newline").exists());
    println!("\n  a small file is on both standbys after {:.0} ms at worst", millis(worst));
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    // What was deleted is kept.
    let root = vipd_agent::lab::replicator::ROOT;
    let text = arena.done(SECOND, &["replica", "restore", "state", &format!("{root}/file0")]);
    assert!(text.contains("trash/"), "{text}");
    let text = arena.done(FIRST, &["replica", "verify"]);
    assert!(text.contains("all as sent"), "{text}");
    let text = arena.done(FIRST, &["replica", "status"]);
    assert!(text.contains("h2: in sync") && text.contains("h3: in sync"), "{text}");
    let text = arena.order(FIRST, &["status"]).text;
    assert!(text.contains("replica state: h2 in sync gen"), "{text}");
    arena.close();
}

/// What the operator's hooks do in a move: the writer is told to be quiet, and waits.
fn moves_lose_nothing() {
    let arena = elected(plan(""));
    let since = now();
    let mut total = 0;
    let (mut from, mut to) = (FIRST, SECOND);
    let rounds = if is_long() { 100 } else { 5 };
    for round in 1..=rounds {
        let mut writer = Writer::start(&arena.files(from), total, Duration::from_millis(2));
        wait(Duration::from_millis(300));
        // Quiet is what a pre-demote hook makes it; the barrier comes after it.
        let written = writer.quiesce();
        assert!(written > total, "round {round}: nothing was written");
        arena.done(from, &["move", "web", "--wait"]);
        arena.wait_owner(to);
        // On the disk at the moment of the claim, not some time later.
        let there = records(&arena.files(to));
        assert_eq!(there, written, "round {round}: of {written} records\n{}", arena.stage.logs(40));
        total = there;
        (from, to) = (to, from);
        arena.calm();
    }
    let lost = judge::lost(&arena.outage(since));
    println!("\n  {rounds} moves, {total} records, {lost} probes lost");
    assert_eq!(lost, 0);
    arena.close();
}

/// The stronger host comes back while the weaker one writes: the writer is made quiet by a hook, every record is brought,
/// and only then the address goes back.
fn a_preemption_loses_nothing() {
    let notes = notes();
    let (asked, quiet) = (notes.join("asked"), notes.join("quiet"));
    let until = format!("until [ -e {} ]; do sleep 0.01; done", quiet.display());
    let hook = script("quiet", &format!("touch {}\n{until}", asked.display()));
    let hook =
        format!("\n[hook.quiet]\non = [\"pre-demote\"]\nrun = [\"{hook}\"]\nuser = \"root\"\n");
    let mut arena = elected(Plan { file_extra: hook, ..plan("") });
    let (mut total, mut lost) = (0, 0);
    let rounds = if is_long() { 30 } else { 3 };
    for round in 1..=rounds {
        arena.stage.power_off(FIRST).unwrap();
        arena.wait_owner(SECOND);
        arena.calm();
        let since = now();
        let mut writer = Writer::start(&arena.files(SECOND), total, Duration::from_millis(2));
        arena.stage.power_on(FIRST).unwrap();
        wait_file(&asked, SOON * 2)
            .unwrap_or_else(|| panic!("round {round}: nobody asks\n{}", arena.stage.logs(30)));
        // While the hook waits the owner owns, and both say why.
        let why = arena.order(FIRST, &["why", "web"]).text;
        assert!(why.contains("h2 hands over when its state is here"), "{why}");
        let status = arena.order(SECOND, &["status"]).text;
        assert!(status.contains("brings its state to h1"), "{status}");
        assert_eq!(arena.stage.owner(), Some(SECOND), "round {round}");
        let written = writer.quiesce();
        assert!(written > total, "round {round}: nothing was written");
        fs::write(&quiet, "").unwrap();
        arena.wait_owner(FIRST);
        let there = records(&arena.files(FIRST));
        assert_eq!(there, written, "round {round}: of {written}\n{}", arena.stage.logs(40));
        arena.calm();
        lost += judge::lost(&arena.outage(since));
        for ix in [FIRST, SECOND] {
            let rescued = find(&arena.files(ix).join(".vipd/rescue"));
            assert!(rescued.is_empty(), "round {round}, h{}: {rescued:?}", ix + 1);
        }
        arena.wait_sync(FIRST);
        total = there;
        [&asked, &quiet].into_iter().for_each(|file| fs::remove_file(file).unwrap());
    }
    println!("\n  {rounds} preemptions, {total} records, {lost} probes lost");
    assert_eq!(lost, 0);
    arena.close();
}

fn a_crash_loses_no_more_than_the_gauge_said() {
    let rounds = if is_long() { 100 } else { 5 };
    let mut worst = Duration::ZERO;
    let mut arena = elected(plan(""));
    let mut total = 0;
    for round in 1..=rounds {
        let mut writer = Writer::start(&arena.files(FIRST), total, Duration::from_millis(2));
        wait(Duration::from_millis(500 + 37 * (round % 20)));
        // The last word before the crash, and what was acknowledged by then.
        let set = arena.set(FIRST);
        let asked = now();
        let rpo = set["rpo_ms"].as_u64().map(Duration::from_millis);
        let there = records(&arena.files(SECOND));
        let at = arena.stage.power_off(FIRST).unwrap();
        writer.quiesce();
        let times = writer.times.lock().unwrap().clone();
        arena.wait_owner(SECOND);
        wait(Duration::from_millis(300));
        let found = records(&arena.files(SECOND));
        assert!(found >= there, "round {round}: {found} of {there} records that were there");
        // The first record that is missing was written at ...
        let first = usize::try_from(found - total).unwrap();
        let missing = times.get(first).filter(|written| **written <= at);
        let age = missing.map_or(Duration::ZERO, |written| at.since(*written));
        worst = worst.max(age);
        // ... and the gauge, asked at `asked`, spoke of what was then missing.
        let said = rpo.map(|rpo| rpo + at.since(asked) + Duration::from_millis(500));
        assert!(
            said.is_none_or(|said| age <= said),
            "round {round}: {age:?} are missing, the gauge said {rpo:?}\n{}",
            arena.stage.logs(30)
        );
        arena.stage.power_on(FIRST).unwrap();
        // The stronger one takes the address back when it has what the other has; what it had alone is kept.
        arena.wait_owner(FIRST);
        arena.wait_sync(FIRST);
        total = records(&arena.files(FIRST));
        assert_eq!(total, found, "round {round}: the new owner's records are everywhere");
    }
    println!("\n  {rounds} crashes: at most {:.0} ms of records were missing", millis(worst));
    arena.close();
}

fn after_a_partition_nothing_is_lost() {
    let mut arena = elected(plan(""));
    let [first, second] = [FIRST, SECOND].map(|ix| arena.files(ix));
    fs::write(first.join("shared"), "before\n").unwrap();
    arena.wait_content(SECOND, "shared", "before\n");
    arena.wait_sync(FIRST);
    use vipd_agent::lab::topology::Net;
    arena.stage.partition(&[FIRST], &[Net::Service, Net::Beat]).unwrap();
    let both = arena.stage.wait(arena.bound(), |holders| holders == [FIRST, SECOND]);
    assert!(both.is_some(), "both own\n{}", arena.stage.logs(20));
    arena.wait_set(SECOND, "pushes", |set| set["owns"] == true);
    for (folder, name) in [(&first, "one"), (&second, "two")] {
        fs::write(folder.join("shared"), format!("written by {name}\n")).unwrap();
        fs::write(folder.join(name), format!("only {name}\n")).unwrap();
    }
    wait(Duration::from_millis(700));
    let healed = now();
    arena.stage.heal().unwrap();
    let owner = arena.stage.wait_owner(arena.bound()).unwrap();
    let loser = FIRST + SECOND - owner;
    let (won, lost) = if owner == FIRST { ("one", "two") } else { ("two", "one") };
    arena.wait_content(loser, "shared", &format!("written by {won}\n"));
    arena.wait_content(loser, won, &format!("only {won}\n"));
    arena.wait_sync(owner);
    let took = now().since(healed);
    assert!(!arena.files(loser).join(lost).exists(), "the winner's tree is everywhere");
    // Every octet of the other side is kept, and listed.
    let kept = find(&arena.files(loser).join(".vipd"));
    let has = |text: &str| kept.iter().any(|(_, content)| content == text);
    assert!(has(&format!("only {lost}\n")) && has(&format!("written by {lost}\n")), "{kept:#?}");
    let set = arena.wait_set(loser, "counts what was rescued", |set| set["rescued_files"] == 2);
    assert!(!set["alarms"].as_array().unwrap().is_empty(), "{set:#}");
    let root = vipd_agent::lab::replicator::ROOT;
    let text = arena.done(loser, &["replica", "restore", "state", &format!("{root}/shared")]);
    assert!(text.contains("rescue/"), "{text}");
    // Under a higher epoch than both had, and no quarrel goes on.
    let epochs = [owner, loser].map(|ix| arena.set(ix)["epoch"]["number"].as_u64().unwrap());
    assert_eq!(epochs[0], epochs[1]);
    let before = arena.set(owner);
    wait(Duration::from_secs(2));
    let after = arena.set(owner);
    assert_eq!(before["errors"], after["errors"], "no refusal loop: {after:#}");
    println!("\n  h{} wins; its files everywhere {:.0} ms after the heal", owner + 1, millis(took));
    arena.close();
}

fn a_cut_and_a_slow_link() {
    // As slow as the limit makes it; a link with delay and loss where the kernel can play one.
    let arena = elected(plan("bandwidth = \"1MB/s\"\n"));
    let owner = arena.files(FIRST);
    let netem =
        arena.try_run(FIRST, "tc qdisc add dev eth1 root netem delay 50ms").status.success();
    if !netem {
        println!("\n  SKIPPED: no delay on the link: this kernel has no netem");
    }
    let since = now();
    // Nothing that compression could make smaller.
    let noise = |seed: u64, length: usize| -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            Some((state >> 32) as u8)
        };
        std::iter::from_fn(next).take(length).collect()
    };
    let (small, larger) = (noise(1, 2_000_000), noise(2, 8_000_000));
    let there =
        |content: &[u8]| fs::read(arena.files(SECOND).join("large")).is_ok_and(|c| c == content);
    let wait_there = |content: &[u8], what: &str| {
        let limit = now() + SOON * 4;
        while !there(content) {
            assert!(now() < limit, "{what}\n{}", arena.stage.logs(30));
            wait(Duration::from_millis(50));
        }
    };
    fs::write(owner.join("large"), &small).unwrap();
    arena.wait_set(FIRST, "is behind", |set| set["rpo_ms"].as_u64().is_some_and(|ms| ms > 100));
    wait_there(&small, "a slow link");
    println!("\n  2 MB at 1 MB/s: {:.1} s", millis(now().since(since)) / 1e3);
    assert_eq!(arena.moves(since), 0, "the address stays where it is");
    // The link goes in the middle of a transfer: the old tree stays, and the new one comes when the link is back.
    fs::write(owner.join("large"), &larger).unwrap();
    wait(Duration::from_millis(1500));
    arena.run(FIRST, "nft add table ip cut");
    arena.run(FIRST, "nft add chain ip cut out { type filter hook output priority 0 ; }");
    arena.run(FIRST, "nft add rule ip cut out tcp dport 7113 drop");
    wait(Duration::from_secs(2));
    assert!(there(&small), "the old tree is there");
    arena.run(FIRST, "nft delete table ip cut");
    wait_there(&larger, "after the cut");
    if netem {
        arena.run(FIRST, "tc qdisc del dev eth1 root");
    }
    arena.wait_sync(FIRST);
    arena.close();
}

fn strangers_get_nothing_and_disturb_nothing() {
    let mut arena = elected(plan(""));
    let (owner, since) = (arena.files(FIRST), now());
    let before = snapshot(&arena.files(SECOND));
    let target = "192.0.2.12:7113";
    // Callers that speak the protocol: one whose key is another (a call is a fresh public key, and a tag that only the
    // right key makes), releases from before the first format and from after ours, a call that ends in the middle.
    let call = |format: [u8; 2]| {
        let key_and_tag = (0..48_u8).map(|n| n.wrapping_mul(37) ^ 0x5a);
        [b"vipr".as_slice(), &format, &[0, 48]].concat().into_iter().chain(key_and_tag).collect()
    };
    let calls: [(Vec<u8>, &str); 4] = [
        (call([2, 2]), "key"),
        (call([2, 2])[..20].to_vec(), "key"),
        // No more than is read before it is refused: what is left unread would reset the connection.
        (call([0, 0])[..6].to_vec(), "format"),
        (call([9, 9])[..6].to_vec(), "format"),
    ];
    for (octets, kind) in calls {
        let client = arena.stage.room().client();
        let said = client.run(move || {
            let mut stream = std::net::TcpStream::connect(target)?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(&octets)?;
            let mut said = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut said)?;
            Ok(said)
        });
        // Only that it is another format, so that an operator can be told; and nothing else.
        let wanted: &[u8] = if kind == "format" { b"vipr\x02\x02" } else { b"" };
        assert_eq!(said.unwrap(), wanted, "{kind}");
        // The same from the same address is counted once a minute.
        let counted = |set: &Value| set["errors"][kind].as_u64().is_some_and(|count| count > 0);
        arena.wait_set(SECOND, "counts the stranger", counted);
    }
    // At the same port of the standby: garbage, silence, a flood.
    arena
        .stage
        .room()
        .client()
        .run(move || {
            let mut quiet = Vec::new();
            for n in 0..400_usize {
                let Ok(mut stream) = std::net::TcpStream::connect(target) else { continue };
                let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
                let octets: Vec<u8> = (0..n * 7).map(|k| (k * n) as u8).collect();
                let _ = stream.write_all(&octets);
                if n % 3 == 0 {
                    quiet.push(stream);
                }
            }
            Ok(())
        })
        .unwrap();
    let alarms = arena.set(SECOND)["alarms"].clone();
    fs::write(owner.join("after"), "the flood\n").unwrap();
    let took = arena.wait_content(SECOND, "after", "the flood\n").since(since);
    assert!(alarms.is_null(), "strangers are no alarm: {alarms}");
    let after = snapshot(&arena.files(SECOND));
    let news: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert_eq!(news.len(), 1, "nothing but what the owner sent: {news:?}");
    let errors = arena.set(SECOND)["errors"].clone();
    println!("\n  flooded for {:.0} ms; the standby counts {errors}", millis(took));
    // A replicator with another key, as after a change of keys that one host missed.
    let config = arena.stage.agent(SECOND).config();
    let right = fs::read_to_string(&config).unwrap();
    let key = right.lines().find_map(|line| line.strip_prefix("key-file = \"")?.strip_suffix('"'));
    let wrong = config.with_file_name("wrong.key");
    fs::write(&wrong, format!("{}\n", "5a".repeat(32))).unwrap();
    fs::set_permissions(&wrong, PermissionsExt::from_mode(0o600)).unwrap();
    let restart = |arena: &mut Arena, text: &str| {
        fs::write(&config, text).unwrap();
        arena.stage.replicator_mut(SECOND).stop().unwrap();
        arena.stage.start_replicator(SECOND).unwrap();
    };
    restart(&mut arena, &right.replace(key.unwrap(), wrong.to_str().unwrap()));
    fs::write(owner.join("secret"), "for members\n").unwrap();
    for ix in [FIRST, SECOND] {
        let counted = |set: &Value| set["errors"]["key"].as_u64().is_some_and(|count| count > 0);
        arena.wait_set(ix, "counts the wrong key", counted);
    }
    wait(Duration::from_secs(2));
    assert!(!arena.files(SECOND).join("secret").exists(), "without the key nothing comes");
    let set = arena.wait_set(FIRST, "says so", |set| set["peers"][0]["connected"] == false);
    assert_eq!(set["peers"][0]["in_sync"], false, "{set:#}");
    restart(&mut arena, &right);
    arena.wait_content(SECOND, "secret", "for members\n");
    assert_eq!(arena.moves(since), 0);
    arena.wait_sync(FIRST);
    arena.close();
}

fn a_stale_host_does_not_claim() {
    let more = "promote-gate = \"require\"\nmax-age = \"3s\"\n";
    let plan = plan(more);
    without_files(&plan);
    let mut arena = Arena::open(plan);
    for ix in [FIRST, SECOND] {
        arena.stage.start(ix).unwrap();
    }
    // Nobody has a copy of anything yet: an operator says who begins.
    let limit = now() + SOON;
    while arena.order(FIRST, &["promote", "web", "--accept-data-loss", "--wait", "5s"]).code != 0 {
        assert!(now() < limit, "nobody begins\n{}", arena.stage.logs(20));
        wait(Duration::from_millis(200));
    }
    arena.wait_owner(FIRST);
    arena.wait_sync(FIRST);
    arena.stage.replicator_mut(SECOND).stop().unwrap();
    wait(Duration::from_secs(5));
    arena.stage.power_off(FIRST).unwrap();
    wait(arena.bound());
    let vip = arena.stage.plan().vips()[0];
    let holders = arena.stage.eyes().holders(vip);
    assert!(holders.is_empty(), "a stale host claims: {holders:?}\n{}", arena.stage.logs(20));
    let why = arena.order(SECOND, &["why", "web"]).text;
    assert!(why.contains("replica"), "{why}");
    // An operator may.
    let text = arena.order(SECOND, &["promote", "web", "--accept-data-loss", "--wait"]).text;
    arena.stage.wait(arena.bound(), |holders| holders == [SECOND]).unwrap_or_else(|| {
        panic!("{text}\n{}", arena.stage.logs(30));
    });
    arena.stage.power_on(FIRST).unwrap();
    arena.close();
}

fn replicators_that_die_at_any_moment() {
    let mut arena = elected(plan(""));
    let rounds = if is_long() { 100 } else { 8 };
    let mut writer = Writer::start(&arena.files(FIRST), 0, Duration::from_millis(5));
    let noise: Vec<u8> =
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let mut random = 0x9e37_79b9_u64;
    for round in 0..rounds {
        let mut large = noise.clone();
        large.rotate_left(round * 1000 + 1);
        fs::write(arena.files(FIRST).join("large"), large).unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        wait(Duration::from_millis((random >> 33) % 400));
        let victim = if round % 2 == 0 { FIRST } else { SECOND };
        arena.stage.replicator_mut(victim).kill().unwrap();
        // What is there is a tree, whole: records without a gap.
        records(&arena.files(SECOND));
        wait(Duration::from_millis((random >> 40) % 300));
        arena.stage.start_replicator(victim).unwrap();
    }
    let written = writer.quiesce();
    let limit = now() + SOON * 2;
    while records(&arena.files(SECOND)) < written {
        assert!(now() < limit, "records are missing\n{}", arena.stage.logs(30));
        wait(Duration::from_millis(20));
    }
    arena.wait_sync(FIRST);
    assert_eq!(snapshot(&arena.files(FIRST)), snapshot(&arena.files(SECOND)));
    let left = arena.files(SECOND).join(".vipd/stage");
    let staged = find(&left);
    assert!(staged.is_empty(), "left in the stage: {staged:?}");
    println!("\n  {rounds} kills, {written} records, both hosts alike");
    arena.close();
}

/// Every file below `folder` with its content.
fn find(folder: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(find(&path));
        } else if let Ok(octets) = fs::read(&path) {
            found.push((path, String::from_utf8_lossy(&octets).into_owned()));
        }
    }
    found
}

/// What is below `folder`, but the replicator's own: names with the hash of their contents.
fn snapshot(folder: &Path) -> Vec<String> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut lines: Vec<String> = find(folder)
        .into_iter()
        .filter_map(|(path, content)| {
            let name = path.strip_prefix(folder).ok()?.to_owned();
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            let own = name.starts_with(".vipd");
            (!own).then(|| format!("{} {:016x}", name.display(), hasher.finish()))
        })
        .collect();
    lines.sort();
    lines
}
