//! What goes wrong where state follows the address: everything that goes wrong elsewhere, replicators that die or crawl,
//! disks that take nothing, orders, reloads.

use super::Setup;
use crate::operators::{WEB, patience};
use crate::reloads::Edit;
use crate::rng::Rng;
use crate::scenario::{Families, Scenario};
use crate::schedule::{Fault, Schedule, Timed, draw_fault};
use vipd_core::config::model::Gate;
use vipd_core::engine::io::OperatorOrder;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{HostIx, Interval, Version};

/// The scenario with a set: heartbeats, which it needs, and few packets, because a run is long.
pub(crate) fn with_set(rng: &mut Rng, scenario: &mut Scenario) {
    let second = rng.chance(800);
    scenario.interval = Interval::from_centis(if second { 100 } else { 10 }).unwrap();
    scenario.hosts = scenario.hosts.min(if second { 4 } else { 3 });
    scenario.priorities.truncate(scenario.hosts);
    scenario.families = Families::V4;
    if !second {
        scenario.version = Version::V3;
    }
    scenario.settle = Duration::ZERO;
    scenario.preempt_delay = scenario.preempt_delay.min(scenario.t() * 4);
    scenario.hold_down = scenario.hold_down.min(scenario.t() * 4);
    scenario.set_heartbeats(true);
    let set = Setup::draw(rng);
    // Where the gate is strict, somebody has to say who begins.
    scenario.operators = rng.chance(500) || set.gate == Gate::Require;
    scenario.replica = Some(set);
}

/// Two to nine things that happen; what operators ordered is taken back in the end, and waiting trees are accepted.
pub(crate) fn draw(rng: &mut Rng, scenario: &Scenario) -> Schedule {
    let t = scenario.t();
    let mut at = Instant::ZERO + scenario.longest_down() * 2 + Duration::from_secs(1);
    let mut all = Vec::new();
    let now = |at, fault| Timed { at, lasts: Duration::ZERO, fault };
    let gate = scenario.replica.as_ref().map_or(Gate::Ignore, |set| set.gate);
    if gate == Gate::Require {
        // Nobody can know that it has the newest state: an operator says who begins.
        all.push(now(at, Fault::Order(Some(0), Some(WEB), ACCEPT)));
        at += t * 4;
    }
    for _ in 0..rng.between(2, 9) {
        at += match rng.below(4) {
            0 => rng.duration(Duration::ZERO, t),
            1 => rng.duration(Duration::ZERO, Duration::from_millis(400)),
            _ => rng.duration(t * 2, t * 6 + Duration::from_secs(2)),
        };
        let (lasts, fault) = draw_one(rng, scenario, gate);
        all.push(Timed { at, lasts, fault });
    }
    let mut schedule = Schedule(all);
    let last = schedule.end() + Duration::from_secs(1);
    if scenario.operators {
        // A tree that waits would keep the state, and with it the address, from going back.
        schedule.0.push(now(last, Fault::Accept));
        schedule.0.push(now(last + patience(scenario), Fault::Tidy));
    }
    let last = schedule.end() + t * 8 + Duration::from_secs(8);
    schedule.0.push(now(last, Fault::Accept));
    schedule
}

const ACCEPT: OperatorOrder = OperatorOrder::Promote { accept_data_loss: true };

fn draw_one(rng: &mut Rng, scenario: &Scenario, gate: Gate) -> (Duration, Fault) {
    let t = scenario.t();
    let host = rng.below(scenario.hosts as u64) as usize;
    let lasts = match rng.below(4) {
        0 => rng.duration(Duration::ZERO, t * 2),
        1 => rng.duration(t * 2, t * 5),
        2 => rng.duration(t * 5, t * 5 + Duration::from_secs(6)),
        _ => rng.duration(Duration::from_secs(5), Duration::from_secs(14)),
    };
    let fault = match rng.below(20) {
        0..=2 => Fault::ReplicatorDown(host),
        3 => Fault::ReplicatorSlow(host),
        4 => Fault::DiskFull(host),
        5 => Fault::Accept,
        6 => Fault::Reload(host, Edit::draw(rng, 250)),
        7 if gate == Gate::Require => Fault::Order(Some(host), Some(WEB), ACCEPT),
        7..=11 if scenario.operators => draw_order(rng, scenario, host),
        _ => draw_fault(rng, scenario),
    };
    (lasts, fault)
}

fn draw_order(rng: &mut Rng, scenario: &Scenario, host: usize) -> Fault {
    let to = rng.chance(600).then(|| HostIx(rng.below(scenario.hosts as u64) as u8));
    let order = match rng.below(10) {
        0..=5 => OperatorOrder::Move { to, force: rng.chance(150) },
        6 => OperatorOrder::Failback,
        7 => OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false },
        8 => OperatorOrder::Undrain,
        _ => OperatorOrder::Promote { accept_data_loss: rng.chance(500) },
    };
    let goes = matches!(order, OperatorOrder::Move { .. } | OperatorOrder::Drain { .. });
    let host = (!(goes && rng.chance(800))).then_some(host);
    Fault::Order(host, Some(WEB), order)
}
