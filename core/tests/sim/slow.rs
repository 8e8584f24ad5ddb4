//! Kernels that are late: somebody else on the host holds the lock of all network changes for a while. Planned moves, drains,
//! stops and starts on a whole wire lose nothing all the same (P2, DESIGN 5.5), as long as it is no longer than a source waits.

use crate::directed::{changes, fault, holders, kept, pair_with_heartbeats};
use crate::engine::real;
use crate::operators::{WEB, patience};
use crate::rng::Rng;
use crate::run::Case;
use crate::scenario::Scenario;
use crate::schedule::{Fault, Schedule, Timed};
use crate::sweep::failures;
use vipd_core::engine::io::OperatorOrder;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{HostIx, Interval};

/// Schedules of the regular run.
const REGULAR: u64 = 150;
/// The longest that a kernel is busy with something else where it may cost nobody anything.
const BUSY: u64 = 350;
/// The longest altogether: longer than is waited for, shorter than what is left of any lease.
const LONGEST: u64 = 620;

impl Case {
    /// The same group with heartbeats, whose operators work while its kernels are busy; now and then a host dies.
    pub(crate) fn slow_of_seed(seed: u64) -> Self {
        let mut case = Self::of_seed(seed, None, real);
        let mut rng = Rng::new(seed).fork(16);
        case.scenario.operators = true;
        case.scenario.slow = true;
        case.scenario.set_heartbeats(true);
        case.schedule = draw(&mut rng, &case.scenario);
        case
    }
}

/// One to six planned acts, most of them while a kernel is busy, some of them when a host dies. All is taken back in the end.
fn draw(rng: &mut Rng, scenario: &Scenario) -> Schedule {
    let t = scenario.t();
    let hosts = scenario.hosts as u64;
    let mut at = Instant::ZERO + scenario.longest_down() * 2 + Duration::from_secs(1);
    at += scenario.preempt_delay + scenario.settle;
    let mut all = Vec::new();
    for _ in 0..rng.between(1, 6) {
        at += rng.duration(t * 8 + Duration::from_secs(2), t * 12 + Duration::from_secs(4));
        let drain = OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
        let act = match rng.below(8) {
            0..=3 => {
                let to = rng.chance(700).then(|| HostIx(rng.below(hosts) as u8));
                Fault::Order(None, Some(WEB), OperatorOrder::Move { to, force: false })
            }
            4 => Fault::Order(None, Some(WEB), OperatorOrder::Failback),
            5 => Fault::Order(None, Some(WEB), drain),
            6 => Fault::Order(Some(rng.below(hosts) as usize), Some(WEB), OperatorOrder::Undrain),
            _ => Fault::Stop(rng.below(hosts) as usize),
        };
        let lasts = match act {
            Fault::Stop(_) => rng.duration(t * 5, t * 8 + Duration::from_secs(2)),
            _ => Duration::ZERO,
        };
        if rng.chance(800) {
            let most = if rng.chance(800) { BUSY } else { LONGEST };
            let busy = rng.duration(Duration::ZERO, Duration::from_millis(most));
            let from = at.before(rng.duration(Duration::ZERO, busy));
            let host = rng.below(hosts) as usize;
            all.push(Timed { at: from, lasts: busy, fault: Fault::KernelSlow(host) });
        }
        all.push(Timed { at, lasts, fault: act });
        if rng.chance(150) {
            let at = at + rng.duration(Duration::ZERO, Duration::from_millis(700));
            let lasts = rng.duration(t * 3, t * 6 + Duration::from_secs(1));
            let host = rng.below(hosts) as usize;
            let fault = if rng.chance(500) { Fault::Kill(host) } else { Fault::PowerOff(host) };
            all.push(Timed { at, lasts, fault });
        }
    }
    all.sort_by_key(|f| f.at);
    let mut schedule = Schedule(all);
    let at = schedule.end() + patience(scenario) + scenario.settle;
    schedule.0.push(Timed { at, lasts: Duration::ZERO, fault: Fault::Tidy });
    schedule
}

#[test]
fn every_schedule_with_slow_kernels_keeps_the_promises() {
    if crate::number("SIM_SLOW").is_some()
        && let Some(seed) = crate::number("SIM_SEED")
    {
        let case = Case::slow_of_seed(seed);
        println!("{}", case.report());
        assert!(case.run().violation.is_none());
        return;
    }
    let from = crate::number("SIM_FROM").unwrap_or(0);
    let to = from + crate::number("SIM_SCHEDULES").unwrap_or(REGULAR);
    let failed = failures(from..to, 3, Case::slow_of_seed);
    let reports: Vec<String> = failed.iter().map(Case::report).collect();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

fn fast() -> Scenario {
    let interval = Interval::from_centis(1).unwrap();
    Scenario { interval, operators: true, ..pair_with_heartbeats() }
}

/// Is the address on a host at any moment after `from`?
fn never_nowhere(changes: &[(usize, bool, u64)]) -> bool {
    let mut holders = 1;
    changes.iter().all(|(_, taken, _)| {
        holders += if *taken { 1 } else { -1 };
        holders > 0
    })
}

/// The successor's kernel is busy for longer than three intervals, the overlap, or both: the address is never nowhere, and
/// moves in the end.
#[test]
fn a_successor_with_a_slow_kernel_is_waited_for() {
    let drain = OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
    let goes = OperatorOrder::Move { to: Some(HostIx(1)), force: false };
    let acts = [
        Fault::Order(Some(0), Some(WEB), goes),
        Fault::Order(Some(0), Some(WEB), drain),
        Fault::Stop(0),
    ];
    for act in acts {
        for busy in (20..=400).step_by(20) {
            let slow = fault(3995, busy, Fault::KernelSlow(1));
            let world = kept(fast(), vec![slow, fault(4000, 4000, act.clone())], 7500);
            let moved = changes(&world, 4000);
            assert!(never_nowhere(&moved), "{act}, busy for {busy} ms: {moved:?}");
            assert_eq!(holders(&world), [1], "{act}, busy for {busy} ms");
        }
    }
}

/// The stronger host comes back, and its kernel is busy when it takes over.
#[test]
fn who_yields_keeps_the_address_while_the_winner_has_a_slow_kernel() {
    for busy in (20..=400).step_by(20) {
        let stop = fault(3000, 2000, Fault::Stop(0));
        let mut faults = vec![stop];
        faults.push(fault(5030, busy, Fault::KernelSlow(0)));
        let world = kept(fast(), faults, 9000);
        let moved = changes(&world, 5000);
        assert!(never_nowhere(&moved), "busy for {busy} ms: {moved:?}");
        assert_eq!(holders(&world), [0], "busy for {busy} ms: {moved:?}");
        let taken = moved.iter().find(|(host, taken, _)| *host == 0 && *taken);
        assert!(
            taken.is_some_and(|(.., at)| *at >= 5030 + busy),
            "not while it was busy: {moved:?}"
        );
    }
}
