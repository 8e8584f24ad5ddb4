//! Operators who give orders at any time, also among faults: moves, drains, freezes, priorities (DESIGN 5.5, 5.6, 5.10).
//!
//! What must come of them: `invariants/orders.rs`. In the end all is taken back, and the group must be as without them.

use crate::directed::{changes, fault, holders, kept, pair, pair_with_heartbeats};
use crate::engine::real;
use crate::host::Agent;
use crate::invariants::{Fact, Rule};
use crate::rng::Rng;
use crate::run::Case;
use crate::scenario::{Families, Scenario};
use crate::schedule::{Fault, Schedule, Timed, draw_fault};
use crate::sweep::failures;
use crate::world::{Breakage, World};
use vipd_core::config::model::Replicate;
use vipd_core::engine::io::{Alarm, Event, EventKind, Input, OperationStep, OperatorOrder, Want};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{HostIx, InstanceIx, Priority, State};

/// Schedules of the regular run.
const REGULAR: u64 = 800;
/// Seeds in which a broken rule must show.
const BROKEN: u64 = 400;
/// The one instance.
pub(crate) const WEB: InstanceIx = InstanceIx(0);

/// What an operator may have to wait for at the longest, beside promotions: question, answer, readiness, handover; then
/// an offer to others where the first did not take it.
pub(crate) fn patience(scenario: &Scenario) -> Duration {
    let state = if scenario.replica.is_some() { Replicate::BARRIER } else { Duration::ZERO };
    scenario.t() * 14 + Duration::from_secs(8) + state
}

/// One to six orders; in half of the runs with faults, most of them close to an order. All is taken back in the end.
pub(crate) fn draw(rng: &mut Rng, scenario: &Scenario) -> Schedule {
    let t = scenario.t();
    let warm = Instant::ZERO + scenario.longest_down() * 2 + Duration::from_secs(1);
    let warm = warm + scenario.preempt_delay + scenario.settle;
    let faulty = rng.chance(500);
    let mut all = Vec::new();
    let mut at = warm;
    for _ in 0..rng.between(1, 6) {
        at += match rng.below(4) {
            0 => rng.duration(Duration::ZERO, t * 2),
            1 => rng.duration(Duration::ZERO, Duration::from_millis(300)),
            _ => rng.duration(t * 4, t * 12 + Duration::from_secs(2)),
        };
        all.push(Timed { at, lasts: Duration::ZERO, fault: draw_order(rng, scenario, at) });
        if rng.chance(300) {
            let at = at + rng.duration(Duration::ZERO, Duration::from_millis(400));
            all.push(Timed { at, lasts: Duration::ZERO, fault: Fault::Resolve });
        }
        if faulty && rng.chance(600) {
            let near = if rng.chance(500) { Duration::from_millis(400) } else { t * 5 };
            let at = at + rng.duration(Duration::ZERO, near);
            let lasts = match rng.below(3) {
                0 => rng.duration(Duration::ZERO, t * 2),
                1 => rng.duration(t * 2, t * 5),
                _ => rng.duration(t * 5, t * 5 + Duration::from_secs(3)),
            };
            all.push(Timed { at, lasts, fault: draw_fault(rng, scenario) });
        }
    }
    all.sort_by_key(|f| f.at);
    let mut schedule = Schedule(all);
    let at = schedule.end() + patience(scenario) + scenario.settle;
    schedule.0.push(Timed { at, lasts: Duration::ZERO, fault: Fault::Tidy });
    schedule
}

fn draw_order(rng: &mut Rng, scenario: &Scenario, at: Instant) -> Fault {
    let t = scenario.t();
    let host = rng.below(scenario.hosts as u64) as usize;
    let until = match rng.below(3) {
        0 => None,
        _ => Some(at + rng.duration(t, t * 10 + Duration::from_secs(2))),
    };
    let to = rng.chance(700).then(|| HostIx(rng.below(scenario.hosts as u64) as u8));
    let order = match rng.below(20) {
        0..=8 => OperatorOrder::Move { to, force: rng.chance(200) },
        9 | 10 => OperatorOrder::Failback,
        11 => OperatorOrder::Release,
        12 => {
            let priority =
                rng.chance(700).then(|| Priority::new(rng.between(1, 254) as u8).unwrap());
            OperatorOrder::SetPriority { priority, until }
        }
        13 | 14 => OperatorOrder::Drain {
            until,
            last_resort: rng.chance(300),
            allow_outage: rng.chance(200),
        },
        15 => OperatorOrder::Undrain,
        16 | 17 => OperatorOrder::Freeze { until },
        18 => OperatorOrder::Thaw,
        _ => OperatorOrder::Promote { accept_data_loss: false },
    };
    let of_host = matches!(order, OperatorOrder::Drain { .. } | OperatorOrder::Undrain);
    let about = (!(of_host && rng.chance(500))).then_some(WEB);
    let goes = matches!(
        order,
        OperatorOrder::Move { .. } | OperatorOrder::Release | OperatorOrder::Drain { .. }
    );
    let host = (!(goes && rng.chance(750))).then_some(host);
    Fault::Order(host, about, order)
}

impl World {
    /// An operator speaks to the agent of a host, if it listens.
    pub(crate) fn order(
        &mut self,
        host: Option<usize>,
        id: u64,
        instance: Option<InstanceIx>,
        order: OperatorOrder,
    ) {
        let vip = self.scenario.vips()[0].addr;
        let owner = || (0..self.hosts.len()).find(|h| self.hosts[*h].kernel.holds(vip));
        let listens = |h: &usize| self.hosts[*h].agent == Agent::Running;
        let Some(host) = host.or_else(owner).filter(listens) else { return };
        self.note(Fact::Ordered(host, id, order));
        self.feed(host, Input::Order { id, instance, order });
        self.set_timer(host);
        let goes = matches!(order, OperatorOrder::Move { .. });
        if goes && self.breakage == Some(Breakage::Overlap) {
            for vip in self.scenario.vips() {
                if self.hosts[host].kernel.remove(vip.addr) {
                    self.note(Fact::Drops(host, vip.addr));
                }
            }
        }
    }

    /// All that was ordered is taken back, on every host.
    pub(crate) fn tidy(&mut self) {
        self.note(Fact::Tidied);
        let orders = [
            (None, OperatorOrder::Undrain),
            (Some(WEB), OperatorOrder::SetPriority { priority: None, until: None }),
            (Some(WEB), OperatorOrder::Thaw),
            (Some(WEB), OperatorOrder::Failback),
        ];
        for host in 0..self.hosts.len() {
            for (n, (instance, order)) in orders.into_iter().enumerate() {
                self.order(Some(host), (1000 + host * 10 + n) as u64, instance, order);
            }
        }
    }

    /// An agent tells something: operators read it, and its disk keeps what has to be kept.
    pub(crate) fn told(&mut self, host: usize, event: Event) {
        match event.kind {
            EventKind::Operation { id, step: OperationStep::Started } => {
                self.note(Fact::Accepted(host, id));
            }
            EventKind::Operation { id, step }
                if step.is_end() && self.breakage != Some(Breakage::Ends) =>
            {
                self.note(Fact::Ended(host, id, matches!(step, OperationStep::Done(_))));
            }
            EventKind::Alarm(Alarm::Drained, on) => self.note(Fact::Drained(host, on)),
            EventKind::Alarm(Alarm::Frozen, on) => self.note(Fact::Frozen(host, on)),
            EventKind::Alarm(Alarm::NotBrought(to, _), on) => {
                self.note(Fact::NotBrought(host, usize::from(to.0), on));
            }
            EventKind::Remember(memory) if self.replicates() && event.instance.is_some() => {
                self.store(host, memory);
            }
            EventKind::Role(role) => self.role_told(host, role),
            EventKind::Transition { to, .. } if self.replicates() => {
                self.service_follows(host, to == State::Active);
            }
            EventKind::Remember(memory) if self.breakage != Some(Breakage::Memory) => {
                self.hosts[host].memory[usize::from(event.instance.is_some())] = memory;
            }
            _ => {}
        }
    }

    /// With the breakage of that rule: is this the claim of a frozen host?
    pub(crate) fn frozen_out(&self, host: usize, want: &Want) -> bool {
        self.breakage == Some(Breakage::Freeze)
            && matches!(want, Want::Hold { .. })
            && self.watch.is_frozen(host)
            && self.hosts[host].kernel.held().next().is_none()
    }
}

#[test]
fn every_schedule_with_operators_keeps_the_promises() {
    if crate::number("SIM_ORDERS").is_some()
        && let Some(seed) = crate::number("SIM_SEED")
    {
        let case = Case::ordered_of_seed(seed, None, real);
        println!("{}", case.report());
        assert!(case.run().violation.is_none());
        return;
    }
    let from = crate::number("SIM_FROM").unwrap_or(0);
    let to = from + crate::number("SIM_SCHEDULES").unwrap_or(REGULAR);
    let failed = failures(from..to, 3, |seed| Case::ordered_of_seed(seed, None, real));
    let reports: Vec<String> = failed.iter().map(Case::report).collect();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

/// Does the broken rule show?
fn found(rule: Rule, breakage: Breakage) -> bool {
    let shows = |seed| {
        let case = Case::ordered_of_seed(seed, Some(breakage), real);
        case.run().violation.is_some_and(|v| v.rule == rule)
    };
    (0..BROKEN).any(shows)
}

#[test]
fn a_source_that_lets_go_before_the_target_holds_is_found() {
    assert!(found(Rule::Gap, Breakage::Overlap));
}

#[test]
fn a_move_that_is_not_announced_is_found() {
    assert!(found(Rule::MoveLost, Breakage::Announcements));
}

/// Planned restarts carry what orders left (DESIGN 5.7), so that drawn schedules rarely depend on the stored memory: here
/// the source is killed.
#[test]
fn a_source_that_forgets_where_it_moved_the_address_is_found() {
    let broken = |breakage| {
        let scenario = Scenario { operators: true, ..pair() };
        let faults = Schedule(vec![fault(7000, 0, to(1)), fault(15_000, 500, Fault::Kill(0))]);
        let mut world = World::new(1, scenario, faults, breakage, real);
        world.run(Instant::from_millis(40_000)).map(|v| v.rule)
    };
    assert_eq!(broken(None), None);
    assert_eq!(broken(Some(Breakage::Memory)), Some(Rule::MovedBack));
}

#[test]
fn a_freeze_that_keeps_a_dead_owner_from_being_replaced_is_found() {
    assert!(found(Rule::NoOwner, Breakage::Freeze));
}

#[test]
fn an_operation_without_an_end_is_found() {
    assert!(found(Rule::Unended, Breakage::Ends));
}

/// Moves are not rare: most orders to the owner of a whole group are carried out, so that their rules are tried.
#[test]
fn moves_happen() {
    let mut moved = 0;
    for seed in 0..60 {
        let case = Case::ordered_of_seed(seed, None, real);
        let mut world = World::new(seed, case.scenario, case.schedule, None, real);
        let _ = world.run(Instant::from_millis(120_000));
        moved += world.watch.moves_done;
    }
    assert!(moved >= 20, "{moved}");
}

fn to(host: u8) -> Fault {
    Fault::Order(Some(0), Some(WEB), OperatorOrder::Move { to: Some(HostIx(host)), force: false })
}

/// The client resolves the addresses in the middle of every overlap, and never sends to a host that has let go.
#[test]
fn moves_to_and_fro_under_a_resolving_client() {
    for families in [Families::V4, Families::Dual] {
        for scenario in [pair(), pair_with_heartbeats()] {
            let scenario = Scenario { operators: true, families, ..scenario };
            let mut faults = vec![fault(7000, 1, Fault::Resolve)];
            for n in 0..8 {
                let at = 8000 + n * 6000;
                faults.push(fault(at, 0, to(1)));
                faults.push(fault(at + 90, 0, Fault::Resolve));
                let back = Fault::Order(
                    Some(1),
                    Some(WEB),
                    OperatorOrder::Move { to: None, force: false },
                );
                faults.push(fault(at + 3000, 0, back));
            }
            let world = kept(scenario, faults, 60_000);
            assert_eq!(world.watch.moves_done, 16);
            assert_eq!((holders(&world).len(), changes(&world, 7000).len()), (1, 32));
        }
    }
}

/// Seed 1939: the host that took over from a drained one is told to hand on while that still holds the addresses. Its
/// last advert is no successor's.
#[test]
fn the_last_advert_of_a_drained_host_is_no_successor() {
    let drain = OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
    let anywhere = OperatorOrder::Move { to: None, force: false };
    for at in [8650, 8700, 8750, 8790, 8805] {
        let faults = vec![
            fault(8000, 0, Fault::Order(Some(0), Some(WEB), drain)),
            fault(at, 0, Fault::Order(Some(1), Some(WEB), anywhere)),
        ];
        let scenario = Scenario { operators: true, ..pair() };
        let world = kept(scenario, faults, 20_000);
        assert_eq!(holders(&world), [1], "moved at {at}");
        let [(1, true, _), (0, false, gone)] = changes(&world, 8000)[..] else {
            panic!("moved at {at}: {:?}", changes(&world, 8000))
        };
        assert!(gone > at, "moved at {at}, in the overlap that ended at {gone}");
    }
}

/// Seed 1958: in the overlap of a move a third host is promoted. The target yields to that, and the source, which was
/// pinned as well, may not come back as if its own pin was the newer one: both would yield to each other.
#[test]
fn a_promotion_in_the_overlap_of_a_move_leaves_one_owner() {
    let interval = vipd_core::types::Interval::from_centis(10).unwrap();
    let to = |host| OperatorOrder::Move { to: Some(HostIx(host)), force: false };
    let promote = OperatorOrder::Promote { accept_data_loss: false };
    for late in (0..260).step_by(10) {
        let faults = vec![
            fault(5000, 0, Fault::Order(Some(0), Some(WEB), to(2))),
            fault(8000, 0, Fault::Order(Some(2), Some(WEB), to(0))),
            fault(8001 + late, 0, Fault::Order(Some(1), Some(WEB), promote)),
        ];
        let scenario = Scenario {
            hosts: 3,
            priorities: vec![210, 10, 20],
            preempt: false,
            operators: true,
            interval,
            ..pair_with_heartbeats()
        };
        let world = kept(scenario, faults, 12_000);
        assert_eq!(holders(&world), [1], "promoted {late} ms after the move");
    }
}
