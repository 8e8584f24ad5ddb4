//! Services that fail: each host has one check, and flap control runs with its defaults (DESIGN 5.10, P4).

use crate::directed::{changes, fault, holders, kept, pair, pair_with_heartbeats};
use crate::engine::real;
use crate::invariants::Fact;
use crate::run::Case;
use crate::scenario::Scenario;
use crate::schedule::{Fault, Timed};
use crate::sweep::failures;
use crate::world::World;
use vipd_core::config::model::{Check, Probe, Severity};
use vipd_core::engine::io::{Input, Reading, Verdict};
use vipd_core::time::Duration;
use vipd_core::types::CheckIx;

/// Schedules of the regular run.
const REGULAR: u64 = 800;

/// A check that every reading settles: rows of readings are the matter of other tests.
pub(crate) fn service() -> Check {
    Check {
        name: "service".into(),
        probe: Probe::Unit { name: "service".into() },
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        fall: 1,
        rise: 1,
        severity: Severity::Fail,
        weight: 0,
    }
}

impl World {
    /// One more, or one less, failure of the service of a host.
    pub(crate) fn sickens(&mut self, host: usize, by: i32) {
        let sick = &mut self.hosts[host].sick;
        let before = *sick > 0;
        *sick = sick.saturating_add_signed(by);
        let now = *sick > 0;
        if before != now {
            self.note(Fact::Sick(host, now));
            self.check(host);
            self.set_timer(host);
        }
    }

    /// The check of a host runs.
    pub(crate) fn check(&mut self, host: usize) {
        if !self.scenario.checks || !self.hosts[host].agent.runs() {
            return;
        }
        let verdict = if self.hosts[host].sick > 0 { Verdict::Fail } else { Verdict::Pass };
        let reading = Reading { verdict, detail: "".into(), took: Duration::ZERO };
        self.feed(host, Input::Check { check: CheckIx(0), reading });
    }
}

#[test]
fn every_schedule_with_checks_keeps_the_promises() {
    if crate::number("SIM_CHECKS").is_some()
        && let Some(seed) = crate::number("SIM_SEED")
    {
        let case = Case::sick_of_seed(seed, real);
        println!("{}", case.report());
        assert!(case.run().violation.is_none());
        return;
    }
    let from = crate::number("SIM_FROM").unwrap_or(0);
    let to = from + crate::number("SIM_SCHEDULES").unwrap_or(REGULAR);
    let failed = failures(from..to, 3, |seed| Case::sick_of_seed(seed, real));
    let reports: Vec<String> = failed.iter().map(Case::report).collect();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

/// A host that its own claim made second choice is stronger by priority, the owner by class: one of them has to yield,
/// not both.
#[test]
fn who_is_stronger_by_priority_and_worse_by_class_is_not_yielded_to() {
    let case = Case::sick_of_seed(700_130, real);
    assert!(case.run().violation.is_none(), "{}", case.report());
}

fn both() -> [Scenario; 2] {
    [pair(), pair_with_heartbeats()].map(|scenario| Scenario { checks: true, ..scenario })
}

/// Hosts that took the address after `from`, in order.
fn taken(world: &World, from: u64) -> Vec<(usize, u64)> {
    let taken = changes(world, from).into_iter().filter(|(_, taken, _)| *taken);
    taken.map(|(host, _, at)| (host, at)).collect()
}

/// A second sick, a second well, for ten minutes.
fn flapping(host: usize, from: u64) -> Vec<Timed> {
    (0..300).map(|n| fault(from + n * 2000, 1000, Fault::Sick(host))).collect()
}

#[test]
fn a_check_that_flaps_for_ten_minutes_moves_the_address_three_times_at_most() {
    for scenario in both() {
        let world = kept(scenario.clone(), flapping(0, 8000), 640_000);
        let moves = taken(&world, 8000);
        assert!((1..=3).contains(&moves.len()), "{moves:?}");
        assert_eq!(holders(&world).len(), 1);
        // Without any preempt delay it is held after the third move; a dead owner is replaced all the same.
        let owner = holders(&world)[0];
        let mut faults = flapping(0, 8000);
        faults.push(fault(400_000, 300_000, Fault::PowerOff(owner)));
        let world = kept(scenario, faults, 410_000);
        assert_eq!(holders(&world), [1 - owner]);
    }
}

#[test]
fn a_service_that_dies_moves_the_address_once_and_back_after_the_delay() {
    for scenario in both() {
        let scenario = Scenario { preempt_delay: Duration::from_secs(60), ..scenario };
        let world = kept(scenario, vec![fault(100_000, 30_000, Fault::Sick(0))], 250_000);
        let [(1, there), (0, back)] = taken(&world, 90_000)[..] else {
            panic!("{:?}", taken(&world, 90_000))
        };
        assert!(there < 101_000 && (190_000..196_000).contains(&back), "{there} {back}");
    }
}

#[test]
fn both_sick_the_address_stays() {
    for scenario in both() {
        let faults =
            vec![fault(10_000, 600_000, Fault::Sick(1)), fault(12_000, 400_000, Fault::Sick(0))];
        let world = kept(scenario, faults, 300_000);
        assert_eq!((taken(&world, 8000), holders(&world)), (vec![], vec![0]));
    }
}

#[test]
fn a_link_that_flaps_twenty_times_moves_the_address_three_times_at_most() {
    for scenario in both() {
        let faults = (0..20).map(|n| fault(8000 + n * 500, 250, Fault::Carrier(0))).collect();
        let world = kept(scenario, faults, 120_000);
        let to_others = taken(&world, 8000).windows(2).filter(|w| w[0].0 != w[1].0).count();
        assert!(to_others < 3, "{:?}", taken(&world, 8000));
        assert_eq!(holders(&world).len(), 1);
    }
}
