//! Moves, drains and stops in a row: nobody who asks at the address goes without an answer, not even who resolves it
//! while both hosts have it.

use crate::arena::{Arena, FIRST, SECOND, is_long, wait};
use crate::judge::{self, EYE, STARVED};
use libtest_mimic::Trial;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now, sleep_until};
use vipd_agent::lab::observe::Sight;
use vipd_agent::lab::plan::{Families, MacMode, Plan};
use vipd_agent::lab::probe::Prober;
use vipd_core::time::Instant;

/// Played outside of the long run, too: each interval, family and kind of MAC at least twice.
const SAMPLE: [&str; 6] = [
    "1s/v4/plain",
    "1s/v6/virtual",
    "100ms/v4/virtual",
    "100ms/v6/plain",
    "10ms/v4/plain",
    "10ms/v6/virtual",
];
/// From the beginning of an overlap to the moment at which the second client asks who has the address: the middle of
/// the 200 ms that an old owner stays.
const MIDDLE: Duration = Duration::from_millis(100);

/// What is done, where, and who owns then.
pub(crate) const ACTS: [(&str, usize, usize); 6] = [
    ("move", FIRST, SECOND),
    ("failback", FIRST, FIRST),
    ("drain", FIRST, SECOND),
    ("undrain", FIRST, FIRST),
    ("stop", FIRST, SECOND),
    ("start", FIRST, FIRST),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (interval, ms) in [("1s", 1000), ("100ms", 100), ("10ms", 10)] {
        for (family, families) in [("v4", Families::V4), ("v6", Families::V6)] {
            for (mac, mac_mode) in [("plain", MacMode::Interface), ("virtual", MacMode::Virtual)] {
                let name = format!("{interval}/{family}/{mac}");
                if !is_long() && !SAMPLE.contains(&name.as_str()) {
                    continue;
                }
                let interval = Duration::from_millis(ms);
                let plan = Plan { interval, families, mac: mac_mode, ..Plan::default() };
                trials.push(Trial::test(format!("moves/{name}/lose_nothing"), move || {
                    lose_nothing(plan);
                    Ok(())
                }));
            }
        }
    }
    trials
}

fn lose_nothing(plan: Plan) {
    let rounds = match (is_long(), plan.interval.as_secs()) {
        (true, _) => 100,
        (false, 1..) => 1,
        (false, 0) => 2,
    };
    let mut arena = Arena::open(plan);
    arena.stage.room_mut().add_router().unwrap();
    arena.elect();
    let second = Second::start(&arena);
    let (mut bad, mut unasked) = (Vec::new(), 0);
    for round in 1..=rounds {
        for (act, on, owner) in ACTS {
            let at = now();
            match act {
                "stop" => drop(arena.stage.stop(on).unwrap()),
                "start" => drop(arena.stage.start(on).unwrap()),
                "move" => drop(arena.done(on, &["move", "web", "--wait", "--reason", "trial"])),
                "failback" => drop(arena.done(on, &["failback", "web", "--wait"])),
                _ => drop(arena.done(on, &[act, "--wait"])),
            }
            let took = arena.wait_owner(owner).since(at);
            if act == "move" && round == 1 {
                // The stronger host would have taken it back by now.
                wait(arena.stage.plan().detection());
                assert_eq!(arena.stage.owner(), Some(SECOND), "{}", arena.stage.logs(20));
            }
            arena.calm();
            let (seen, other, resolved) =
                (arena.outage(at), second.outage(at), second.resolved(at));
            println!(
                "\n  {round} {act}: moved in {:.1} ms, lost {} of {} and {} of {}, resolved in the overlap: {resolved}",
                millis(took),
                seen.lost,
                seen.sent,
                other.lost,
                other.sent,
            );
            let lost = judge::lost(&seen) + judge::lost(&other);
            let late = second.answered_after_release(&arena, at);
            if lost > 0 || !late.is_empty() {
                bad.push(format!("{round} {act}: {lost} lost, answered after a release: {late:#?}: {seen:?} {other:?}"));
            }
            // The stronger host takes the address from an owner that lets go as soon as it hears of it.
            unasked += usize::from(owner == SECOND && resolved == 0);
        }
    }
    assert!(bad.is_empty(), "{bad:#?}\n{}", arena.stage.logs(40));
    // Of hundreds of acts a thread of this trial may sleep through one.
    assert!(unasked <= rounds / 50, "{unasked} overlaps in which the second client did not ask");
    drop(second);
    arena.close();
}

/// A client that forgets who has the address in the middle of each overlap, and goes on asking.
struct Second {
    prober: Prober,
    resolved: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Second {
    /// On the router, which knows none of it.
    fn start(arena: &Arena) -> Self {
        let (router, vip) = (arena.stage.room().router().unwrap(), arena.stage.plan().vips()[0]);
        let prober = Prober::start(router, vip, 77).unwrap();
        let (resolved, stop) = (Arc::default(), Arc::default());
        let (sight, told, ended) =
            (arena.stage.eyes().sight(), Arc::clone(&resolved), Arc::clone(&stop));
        // A thread of that machine, which is where its program runs.
        let thread =
            router.run(move || Ok(std::thread::spawn(move || forget(&sight, vip, &told, &ended))));
        Self { prober, resolved, stop, thread: Some(thread.unwrap()) }
    }

    fn outage(&self, from: Instant) -> vipd_agent::lab::outage::Outage {
        self.prober.outage(from, now())
    }

    /// How often since `from` it asked while two hosts had the address.
    fn resolved(&self, from: Instant) -> usize {
        self.resolved.lock().unwrap().iter().filter(|at| **at >= from).count()
    }

    /// Answers since `from` to this client or the first, of a host that had released the address: when, after that.
    /// What comes just before the next claim is the claim, which a busy machine let the eye see late.
    fn answered_after_release(&self, arena: &Arena, from: Instant) -> Vec<String> {
        let (vip, seen) = (self.prober.target(), arena.stage.eyes().seen());
        let probers = arena.stage.probers().iter().chain([&self.prober]);
        let probes = probers.flat_map(|p| p.log().read(0, now()));
        let late = probes.filter(|probe| probe.sent >= from).filter_map(|probe| {
            let answer = probe.answer?;
            let host = arena.stage.room().host_by_mac(answer.mac)?;
            let answered = probe.sent + answer.round_trip;
            let had: Vec<_> =
                seen.holdings().iter().filter(|h| h.addr == vip && h.host == host).collect();
            let has = had
                .iter()
                .any(|h| h.from <= answered + EYE && h.to.is_none_or(|to| to + EYE >= probe.sent));
            let released = had.iter().filter_map(|h| h.to).filter(|to| *to < probe.sent).max();
            let claim = had.iter().map(|h| h.from).filter(|from| *from > answered).min();
            let after = released.map(|to| probe.sent.since(to));
            let before = claim.map(|from| from.since(answered));
            let early = before.is_some_and(|before| before < STARVED);
            let text = || {
                format!(
                    "host {host}: {after:?} after its release, {before:?} before its next claim"
                )
            };
            (!has && !early).then(text)
        });
        late.collect()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn forget(sight: &Sight, vip: IpAddr, resolved: &Mutex<Vec<Instant>>, stop: &AtomicBool) {
    let family = if vip.is_ipv4() { "-4" } else { "-6" };
    let both = || sight.seen().holders(vip).len() == 2;
    while !stop.load(Ordering::Relaxed) {
        sleep_until(now() + Duration::from_millis(5));
        if !both() {
            continue;
        }
        sleep_until(now() + MIDDLE);
        // What is failed asks anew and queues what is sent meanwhile. A flush would drop it: the kernel deletes the entry,
        // and with it the probe that came in that moment (1 of some 1000 flushes beside a probe each millisecond).
        let words = [family, "neigh", "change", &vip.to_string(), "dev", "eth0", "nud", "failed"];
        let forgotten = Command::new("ip").args(words).output();
        if forgotten.is_ok_and(|out| out.status.success()) && both() {
            resolved.lock().unwrap().push(now());
        }
        while both() && !stop.load(Ordering::Relaxed) {
            sleep_until(now() + Duration::from_millis(5));
        }
    }
}
