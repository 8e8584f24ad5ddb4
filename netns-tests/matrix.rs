//! Every way to lose an owner at every interval, family, MAC, advert kind and set of heartbeat paths.
//!
//! The whole product in the long run. Otherwise a fixed sample in which any two values of two dimensions meet at
//! least once: most faults need no more than two particular values to show.

use crate::arena::{Arena, FIRST, SECOND, is_long};
use crate::judge::{self, EYE, HEAL};
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};
use vipd_agent::lab::netlink::LinkState;
use vipd_agent::lab::plan::{Adverts, Families, Heartbeats, MacMode, Plan};
use vipd_agent::lab::topology::Net;
use vipd_core::time::Instant;

/// Most cases of the sample: each takes up to a quarter of a minute.
const SAMPLE: usize = 24;

/// How an owner is lost, and comes back.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Event {
    /// Killed; started again later.
    Crash,
    /// Killed and started again at once.
    CrashRestart,
    /// Stopped in its tracks; goes on later.
    Hang,
    /// Power lost; boots later.
    PowerOff,
    /// Service cable pulled; plugged in later.
    LinkLoss,
    /// Cut off on the service network with its carrier left; healed later.
    Partition,
    /// Stopped cleanly; started again later, and takes the address back.
    Stop,
}

const EVENTS: [Event; 7] = [
    Event::Crash,
    Event::CrashRestart,
    Event::Hang,
    Event::PowerOff,
    Event::LinkLoss,
    Event::Partition,
    Event::Stop,
];
const INTERVALS: [u64; 3] = [10, 100, 1000];
const FAMILIES: [Families; 3] = [Families::V4, Families::V6, Families::Dual];
const HEARTBEATS: [Heartbeats; 3] = [Heartbeats::TwoPaths, Heartbeats::OnePath, Heartbeats::Off];
/// A virtual MAC with unicast is refused by the configuration: switches learn it from multicast.
const MEDIA: [(MacMode, Adverts); 3] = [
    (MacMode::Interface, Adverts::Multicast),
    (MacMode::Virtual, Adverts::Multicast),
    (MacMode::Interface, Adverts::Unicast),
];

/// How many values each dimension has.
const SIZES: [usize; 5] =
    [EVENTS.len(), INTERVALS.len(), FAMILIES.len(), HEARTBEATS.len(), MEDIA.len()];

/// A value of each dimension, by position.
type Choice = [usize; 5];

/// One case.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Case(Choice);

impl Case {
    fn event(self) -> Event {
        EVENTS[self.0[0]]
    }

    fn plan(self) -> Plan {
        let Self([_, interval, family, heartbeats, medium]) = self;
        let (mac, adverts) = MEDIA[medium];
        Plan {
            interval: Duration::from_millis(INTERVALS[interval]),
            families: FAMILIES[family],
            heartbeats: HEARTBEATS[heartbeats],
            mac,
            adverts,
            ..Plan::default()
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan();
        write!(
            f,
            "{:?}/{}ms/{:?}/{:?}/{:?}/{:?}",
            self.event(),
            plan.interval.as_millis(),
            plan.families,
            plan.heartbeats,
            plan.mac,
            plan.adverts
        )
    }
}

/// One trial for each case.
pub(crate) fn trials() -> Vec<Trial> {
    let all = product();
    let chosen = if is_long() { all } else { pairwise(&all) };
    assert!(is_long() || chosen.len() <= SAMPLE, "the sample has {} cases", chosen.len());
    let trial = |case: Case| {
        Trial::test(format!("matrix/{case}"), move || {
            let wrong = play(case);
            if wrong.is_empty() { Ok(()) } else { Err(Failed::from(wrong.join("\n"))) }
        })
    };
    chosen.into_iter().map(trial).collect()
}

/// Every combination, in a fixed order.
fn product() -> Vec<Case> {
    let count: usize = SIZES.iter().product();
    let nth = |mut n: usize| {
        let mut choice = Choice::default();
        for (value, size) in choice.iter_mut().zip(SIZES) {
            *value = n % size;
            n /= size;
        }
        Case(choice)
    };
    (0..count).map(nth).collect()
}

/// Greedy covering array: always the first case that meets most pairs not met before.
fn pairwise(all: &[Case]) -> Vec<Case> {
    let pairs = |case: &Case| -> Vec<(usize, usize, usize, usize)> {
        let d = 0..SIZES.len();
        d.clone()
            .flat_map(|a| d.clone().filter(move |b| *b > a).map(move |b| (a, b)))
            .map(|(a, b)| (a, case.0[a], b, case.0[b]))
            .collect()
    };
    let mut open: BTreeSet<_> = all.iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let new = |case: &Case| pairs(case).iter().filter(|p| open.contains(p)).count();
        let most = all.iter().map(new).max().unwrap();
        let best = *all.iter().find(|case| new(case) == most).unwrap();
        for pair in pairs(&best) {
            open.remove(&pair);
        }
        chosen.push(best);
    }
    chosen
}

/// What one act came to.
struct Measured {
    reached: Duration,
    two_owners: Duration,
    lost: usize,
    gap: Duration,
}

/// A case being played: its room, and what was wrong so far.
struct Play {
    case: Case,
    arena: Arena,
    wrong: Vec<String>,
}

/// Plays a case; returns what was wrong.
fn play(case: Case) -> Vec<String> {
    let mut play = Play { case, arena: Arena::elected(case.plan()), wrong: Vec::new() };
    let stage = &mut play.arena.stage;
    let at = match case.event() {
        Event::Crash => stage.crash(FIRST).unwrap(),
        Event::CrashRestart => {
            let at = stage.crash(FIRST).unwrap();
            stage.start(FIRST).unwrap();
            at
        }
        Event::Hang => stage.hang(FIRST).unwrap(),
        Event::PowerOff => stage.power_off(FIRST).unwrap(),
        Event::LinkLoss => stage.set_cable(FIRST, Net::Service, LinkState::Down).unwrap(),
        Event::Partition => stage.partition(&[FIRST], &[Net::Service]).unwrap(),
        Event::Stop => stage.stop(FIRST).unwrap(),
    };
    play.judge_loss(at);
    if case.event() != Event::CrashRestart {
        play.come_back();
    }
    if !play.wrong.is_empty() {
        play.wrong.push(play.arena.stage.logs(25));
        return play.wrong;
    }
    play.arena.close();
    Vec::new()
}

impl Play {
    /// The owner was lost at `at`.
    fn judge_loss(&mut self, at: Instant) {
        let event = self.case.event();
        let plan = self.case.plan();
        let heartbeats = plan.heartbeats;
        let split = event == Event::Partition && heartbeats != Heartbeats::TwoPaths;
        let seen = match event {
            // Whoever owns in the end: nobody can tell before how fast the new process is.
            Event::CrashRestart => {
                crate::arena::wait(judge::let_go(&plan));
                self.measure("loss", at, |holders| holders.len() == 1)
            }
            // Two hosts and one network cannot tell a dead peer from a cut: both own, each for its side.
            _ if split => self.measure("loss", at, |holders| holders.contains(&SECOND)),
            _ => self.measure("loss", at, |holders| holders == [SECOND]),
        };
        let dies = matches!(event, Event::Crash | Event::CrashRestart | Event::Hang);
        let blind = heartbeats == Heartbeats::Off;
        let allowed = match event {
            _ if split => Duration::MAX,
            // Make before break: the overlap is meant.
            Event::Stop => plan.interval + Duration::from_millis(300),
            // Without heartbeats nobody asks the kernel of the dead; its lease ends the overlap.
            _ if dies && blind && plan.interval < Duration::from_secs(1) => judge::let_go(&plan),
            _ => EYE,
        };
        self.check(seen.two_owners <= allowed, || {
            format!("two owners for {:?}, allowed {allowed:?}", seen.two_owners)
        });
        let allowed = match event {
            // Without heartbeats nobody tells the successor that the release is near: a probe may be on its way to the
            // old owner when the switch learns the new one.
            Event::Stop if blind && plan.mac == MacMode::Virtual => 5,
            Event::Stop => 0,
            // Adverts pause for less than a peer waits, and the address stays.
            Event::CrashRestart if plan.interval >= Duration::from_millis(250) => 0,
            _ => usize::MAX,
        };
        self.check(seen.lost <= allowed, || {
            format!("{} probes lost, allowed {allowed}", seen.lost)
        });
    }

    /// What was broken is mended, and the first host comes back where nothing forbids it.
    fn come_back(&mut self) {
        let stage = &mut self.arena.stage;
        let at = match self.case.event() {
            Event::Crash | Event::Stop => stage.start(FIRST).unwrap(),
            Event::CrashRestart => return,
            Event::Hang => stage.resume(FIRST).unwrap(),
            Event::PowerOff => stage.power_on(FIRST).unwrap(),
            Event::LinkLoss => stage.set_cable(FIRST, Net::Service, LinkState::Up).unwrap(),
            Event::Partition => stage.heal().unwrap(),
        };
        match self.case.event() {
            Event::LinkLoss => {
                let seen = self.measure("back", at, |holders| holders == [SECOND]);
                // At the shortest interval the failback is seen as well.
                let allowed = self.allowed_in_failback();
                self.check(seen.lost <= allowed, || {
                    format!("{} probes lost at plugging in, allowed {allowed}", seen.lost)
                });
            }
            Event::Partition => {
                let seen = self.measure("heal", at, |holders| holders.len() == 1);
                self.check(seen.gap <= HEAL, || format!("black hole for {:?}", seen.gap));
            }
            _ => {
                let seen = self.measure("failback", at, |holders| holders == [FIRST]);
                let allowed = self.allowed_in_failback();
                self.check(seen.lost <= allowed, || {
                    format!("{} probes lost in failback, allowed {allowed}", seen.lost)
                });
            }
        }
    }

    fn allowed_in_failback(&self) -> usize {
        match self.case.plan().heartbeats {
            Heartbeats::Off => judge::PLAIN_FAILBACK,
            Heartbeats::OnePath | Heartbeats::TwoPaths => 0,
        }
    }

    fn measure(&mut self, what: &str, at: Instant, wanted: fn(&[usize]) -> bool) -> Measured {
        let bound = self.arena.bound();
        let reached = self.arena.stage.wait(bound, wanted);
        self.check(reached.is_some(), || format!("{what}: not reached within {bound:?}"));
        self.arena.calm();
        let seen = self.arena.outage(at);
        let measured = Measured {
            reached: reached.unwrap_or_else(now).since(at),
            two_owners: self.arena.two_owners(at),
            lost: judge::lost(&seen),
            gap: seen.longest_gap,
        };
        println!(
            "\n  {what:8} reached {:7.1} ms, two owners {:6.1} ms, outage {:7.1} ms, lost {:5}, prober late {:.1} ms",
            millis(measured.reached),
            millis(measured.two_owners),
            millis(measured.gap),
            seen.lost,
            millis(seen.stalled)
        );
        measured
    }

    fn check(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(why());
        }
    }
}
