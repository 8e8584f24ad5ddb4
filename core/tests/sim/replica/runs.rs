//! The runs with sets, and that each rule of theirs finds what breaks it.

use crate::directed::{changes, fault, holders, pair_with_heartbeats};
use crate::engine::real;
use crate::host::Agent;
use crate::invariants::{Fact, Rule, Watch};
use crate::reloads::Edit;
use crate::replica::Setup;
use crate::run::Case;
use crate::scenario::Scenario;
use crate::schedule::{Fault, Schedule, Timed};
use crate::sweep::failures;
use crate::wire::{Kind, Net, Trouble};
use crate::world::{Breakage, World};
use vipd_core::config::model::Gate;
use vipd_core::engine::io::OperatorOrder;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{HostIx, InstanceIx};

/// Schedules of the regular run.
const REGULAR: u64 = 300;
/// Seeds in which a broken rule must show.
const BROKEN: u64 = 400;

#[test]
fn every_schedule_with_sets_keeps_the_promises() {
    if crate::number("SIM_SETS").is_some()
        && let Some(seed) = crate::number("SIM_SEED")
    {
        let case = Case::with_set_of_seed(seed, None, real);
        println!("{}", case.report());
        assert!(case.run().violation.is_none());
        return;
    }
    let from = crate::number("SIM_FROM").unwrap_or(0);
    let to = from + crate::number("SIM_SCHEDULES").unwrap_or(REGULAR);
    let failed = failures(from..to, 3, |seed| Case::with_set_of_seed(seed, None, real));
    let reports: Vec<String> = failed.iter().map(Case::report).collect();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

#[test]
fn one_seed_with_a_set_is_one_run() {
    for seed in 0..30 {
        let case = Case::with_set_of_seed(seed, None, real);
        let (first, second) = (case.run(), case.run());
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert!(first.digest.1 > 50, "seed {seed}: nothing happened");
    }
}

/// Does the broken rule show?
fn found(rule: Rule, breakage: Breakage) -> bool {
    let shows = |seed| {
        let case = Case::with_set_of_seed(seed, Some(breakage), real);
        case.run().violation.is_some_and(|v| v.rule == rule)
    };
    (0..BROKEN).any(shows)
}

#[test]
fn an_agent_that_forgets_which_epochs_it_reserved_is_found() {
    assert!(found(Rule::EpochReused, Breakage::Reservation));
}

#[test]
fn a_receiver_that_takes_what_comes_under_a_lower_epoch_is_found() {
    assert!(found(Rule::EpochBack, Breakage::Refusal));
}

#[test]
fn a_barrier_that_waits_for_no_acknowledgement_is_found() {
    assert!(found(Rule::StateMissing, Breakage::Barrier));
}

#[test]
fn a_target_that_does_not_wait_for_the_barrier_is_found() {
    assert!(found(Rule::BarrierIgnored, Breakage::Hasty));
}

#[test]
fn a_gate_that_believes_every_copy_is_found() {
    assert!(found(Rule::StalePromoted, Breakage::Gate));
}

#[test]
fn a_receiver_that_rescues_nothing_is_found() {
    assert!(found(Rule::RecordLost, Breakage::Rescue));
}

#[test]
fn a_preemption_that_waits_for_no_state_is_found() {
    assert!(found(Rule::LeftBehind, Breakage::Preemption));
}

fn pair(gate: Gate) -> Scenario {
    let set = Setup {
        gate,
        max_age: Duration::from_secs(8),
        debounce: Duration::from_millis(200),
        pace: Duration::from_millis(300),
    };
    Scenario { replica: Some(set), ..pair_with_heartbeats() }
}

/// Runs to `end` ms, and no promise may break.
fn kept(scenario: Scenario, faults: Vec<Timed>, end: u64) -> World {
    let mut world = World::new(1, scenario, Schedule(faults), None, real);
    assert_eq!(world.run(Instant::from_millis(end)), None);
    world
}

fn to(host: u8) -> Fault {
    let order = OperatorOrder::Move { to: Some(HostIx(host)), force: false };
    Fault::Order(None, Some(InstanceIx(0)), order)
}

/// Both ways, on both nets, between the two hosts; both reach the gateway.
fn severed() -> Fault {
    let way = |net, from, to| Trouble { net, from, to, kind: Kind::Cut };
    Fault::Wire(
        [Net::Service, Net::Second]
            .into_iter()
            .flat_map(|net| [way(net, 1, 2), way(net, 2, 1)])
            .collect(),
    )
}

/// What the rules are about happens: barriers are reached and are not, trees are refused, records lose a dispute.
#[test]
fn the_runs_are_not_empty() {
    let (mut barriers, mut refusals, mut rescued) = ([0; 2], 0, 0);
    for seed in 0..60 {
        let case = Case::with_set_of_seed(seed, None, real);
        let mut world = World::new(seed, case.scenario, case.schedule, None, real);
        let _ = world.run(Instant::from_millis(120_000));
        for (sum, one) in barriers.iter_mut().zip(world.watch.barriers) {
            *sum += one;
        }
        refusals += world.watch.refusals;
        rescued += world.replicas.iter().filter(|r| !r.disk.rescue.is_empty()).count();
    }
    assert!(barriers[0] >= 1 && barriers[1] >= 10, "{barriers:?}");
    assert!(refusals >= 10 && rescued >= 10, "{refusals} {rescued}");
}

#[test]
fn a_planned_move_brings_every_record_in_order() {
    let scenario = Scenario { operators: true, ..pair(Gate::Require) };
    let accept = OperatorOrder::Promote { accept_data_loss: true };
    let mut faults = vec![fault(6000, 0, Fault::Order(Some(0), Some(InstanceIx(0)), accept))];
    faults.extend((1..=6).map(|n| fault(10_000 + n * 6000, 0, to((n % 2) as u8))));
    let world = kept(scenario, faults, 60_000);
    assert_eq!((world.watch.moves_done, holders(&world)), (6, vec![0]));
    let written: u32 = world.replicas.iter().map(|r| r.service.written).sum();
    assert!(written > 100, "{written}");
    for replica in &world.replicas {
        assert_eq!((replica.disk.rescue.len(), replica.disk.trash.len()), (0, 0));
    }
}

#[test]
fn after_a_partition_the_losers_records_are_in_its_rescue() {
    let world = kept(pair(Gate::Prefer), vec![fault(10_000, 10_000, severed())], 60_000);
    assert_eq!(holders(&world), [0]);
    let written = world.replicas[1].service.written as usize;
    assert!(written > 10, "{written}");
    assert_eq!(world.replicas[1].disk.rescue.len(), written);
    let owner: Vec<_> = world.replicas[0].disk.records().collect();
    assert!(owner.iter().all(|record| record.host == 0));
    let epochs = world.replicas.iter().map(|r| r.disk.position.epoch);
    assert!(epochs.into_iter().all(|epoch| epoch == world.replicas[0].disk.known));
}

/// Of two that could take over the one with everything does, though the other one is stronger; with a gate that believes
/// every copy it does not, and that is found.
#[test]
fn of_two_heirs_the_one_with_everything_claims() {
    for breakage in [None, Some(Breakage::Gate)] {
        let priorities = vec![200, 150, 100];
        let mut scenario = Scenario { hosts: 3, priorities, ..pair(Gate::Prefer) };
        if let Some(set) = &mut scenario.replica {
            set.max_age = Duration::from_secs(16);
        }
        let faults = vec![
            fault(10_000, 60_000, Fault::ReplicatorDown(1)),
            fault(20_000, 60_000, Fault::PowerOff(0)),
        ];
        let mut world = World::new(1, scenario, Schedule(faults), breakage, real);
        let violation = world.run(Instant::from_millis(30_000));
        match breakage {
            None => assert_eq!((violation, holders(&world)), (None, vec![2])),
            Some(_) => assert_eq!(violation.map(|v| v.rule), Some(Rule::StaleChosen)),
        }
    }
}

/// A stronger host that comes back is brought all that the owner wrote, and only then takes the address. Where the owner
/// knows nothing of that, as an older release, it is taken from it, and what it had not sent is put aside there.
#[test]
fn a_stronger_host_that_comes_back_is_brought_everything() {
    let mut rescued = 0;
    for n in 0..8 {
        let off = fault(10_000 + n * 90, 6000, Fault::PowerOff(0));
        let world = kept(pair(Gate::Prefer), vec![off.clone()], 60_000);
        assert_eq!(holders(&world), [0]);
        assert_eq!((world.replicas[1].disk.rescue.len(), world.watch.barriers), (0, [0, 1]));
        let older = Some(Breakage::Preemption);
        let mut world = World::new(1, pair(Gate::Prefer), Schedule(vec![off]), older, real);
        let violation = world.run(Instant::from_millis(60_000));
        assert!(violation.as_ref().is_none_or(|v| v.rule == Rule::LeftBehind), "{violation:?}");
        rescued += world.replicas[1].disk.rescue.len() + usize::from(violation.is_some());
    }
    assert!((1..=8 * 4).contains(&rescued), "{rescued}");
}

/// The owner's replicator is away when the stronger host comes back: the owner stays, tries less and less often, and
/// hands over with everything when it is there again.
#[test]
fn what_cannot_be_brought_stays_and_is_tried_less_and_less_often() {
    let faults = vec![
        fault(10_000, 6000, Fault::PowerOff(0)),
        fault(12_000, 60_000, Fault::ReplicatorDown(1)),
    ];
    let mut world = World::new(1, pair(Gate::Ignore), Schedule(faults), None, real);
    assert_eq!(world.run(Instant::from_millis(72_000)), None);
    assert_eq!((holders(&world), changes(&world, 17_000)), (vec![1], vec![]));
    assert!((2..=4).contains(&world.watch.barriers[0]), "{:?}", world.watch.barriers);
    assert_eq!(world.run(Instant::from_millis(180_000)), None);
    assert_eq!((holders(&world), world.watch.barriers[1]), (vec![0], 1));
    assert_eq!(world.replicas[1].disk.rescue.len(), 0);
}

#[test]
fn without_its_replicator_a_move_is_given_up_and_the_owner_stays() {
    let scenario = Scenario { operators: true, ..pair(Gate::Prefer) };
    let faults = vec![fault(12_000, 9000, Fault::ReplicatorDown(0)), fault(13_000, 0, to(1))];
    let world = kept(scenario, faults, 60_000);
    assert_eq!((holders(&world), changes(&world, 12_000)), (vec![0], vec![]));
}

/// Three of the kind.
fn three(gate: Gate) -> Scenario {
    Scenario { hosts: 3, priorities: vec![200, 150, 100], ..pair(gate) }
}

/// What the rules say of these facts, each at its ms, after all agents have run and the first host has owned for long.
fn judged(scenario: &Scenario, facts: Vec<(u64, Fact)>) -> Option<Rule> {
    let mut watch = Watch::new(scenario);
    let starts = (0..scenario.hosts).map(|host| (0, Fact::Agent(host, Agent::Running)));
    let claims = Fact::Holds(0, scenario.vips()[0].addr);
    for (at, fact) in starts.chain([(1000, claims)]).chain(facts) {
        watch.note(Instant::from_millis(at), &fact);
    }
    watch.violations.first().map(|violation| violation.rule)
}

/// Seed 4558: the successor of a stop has it, and its power goes before the overlap is over.
#[test]
fn a_successor_that_dies_in_the_overlap_of_a_stop_is_missed_by_nobody_yet() {
    let scenario = three(Gate::Ignore);
    let stop = fault(20_000, 20_000, Fault::Stop(0));
    let mut world = World::new(1, scenario, Schedule(vec![stop.clone()]), None, real);
    assert_eq!(world.run(Instant::from_millis(25_000)), None);
    let [(1, true, taken), (0, false, let_go)] = changes(&world, 20_000)[..] else {
        panic!("{:?}", changes(&world, 20_000))
    };
    for at in [taken + 20, let_go - 20] {
        kept(
            three(Gate::Ignore),
            vec![stop.clone(), fault(at, 60_000, Fault::PowerOff(1))],
            70_000,
        );
    }
}

/// Who lets go long after that is found.
#[test]
fn a_stop_that_lets_go_after_its_successor_has_died_is_found() {
    let scenario = three(Gate::Ignore);
    let addr = scenario.vips()[0].addr;
    let let_go = |after: u64| {
        let facts = vec![
            (30_000, Fact::Agent(0, Agent::Leaving)),
            (32_000, Fact::Holds(1, addr)),
            (32_100, Fact::Agent(1, Agent::Off)),
            (32_100, Fact::Drops(1, addr)),
            (32_100 + after, Fact::Drops(0, addr)),
        ];
        judged(&scenario, facts)
    };
    assert_eq!((let_go(110), let_go(300)), (None, Some(Rule::Gap)));
}

/// Seed 5188: a hard reload waits until its state can be brought to the other host, whose replicator is away.
#[test]
fn what_a_reload_hands_over_moves_when_its_state_is_there() {
    let faults = vec![
        fault(10_000, 18_000, Fault::ReplicatorDown(1)),
        fault(10_500, 0, Fault::Reload(0, Edit::anew())),
    ];
    let world = kept(pair(Gate::Ignore), faults, 90_000);
    let moved = changes(&world, 10_000);
    let [(1, true, at), (0, false, _), ..] = moved[..] else { panic!("{moved:?}") };
    assert!((28_000..31_000).contains(&at), "{moved:?}");
}

/// The same claim is found without a reload, and without the state.
#[test]
fn what_no_reload_hands_over_moves_needlessly() {
    let scenario = pair(Gate::Ignore);
    let addr = scenario.vips()[0].addr;
    let claims = |leaves: bool, brings: bool| {
        let leaving = leaves.then_some((30_000, Fact::Agent(0, Agent::Leaving)));
        let barrier = brings.then_some((48_000, Fact::Barrier(0, 1, true)));
        let claim = (48_000, Fact::Holds(1, addr));
        judged(&scenario, leaving.into_iter().chain(barrier).chain([claim]).collect())
    };
    assert_eq!(claims(true, true), None);
    for (leaves, brings) in [(true, false), (false, true), (false, false)] {
        assert_eq!(claims(leaves, brings), Some(Rule::NeedlessMove), "{leaves} {brings}");
    }
}

/// Seed 5078: the only standby dies while a hard reload brings it the state. Who let go has everything, and nobody else
/// owned: it claims again, also where a copy that is unknown keeps it from that.
#[test]
fn who_begins_anew_without_a_successor_claims_again() {
    let accept = OperatorOrder::Promote { accept_data_loss: true };
    let faults = vec![
        fault(6000, 0, Fault::Order(Some(0), Some(InstanceIx(0)), accept)),
        fault(12_000, 0, Fault::Reload(0, Edit::anew())),
        fault(12_002, 60_000, Fault::PowerOff(1)),
    ];
    let scenario = Scenario { operators: true, ..pair(Gate::Require) };
    let world = kept(scenario, faults, 40_000);
    let moved = changes(&world, 12_000);
    assert!(matches!(moved[..], [(0, false, _), (0, true, _)]), "{moved:?}");
}
