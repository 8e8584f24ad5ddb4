//! Files that change while the agents run, also among faults (DESIGN 5.16): on one host or on all, one after the other.
//!
//! The edits leave alone what the promises are judged by (addresses in the advert, intervals, priorities): what a reload
//! does to them must not show. Without faults and without an edit that begins anew, nothing may move at all.

use crate::directed::{changes, fault, holders, kept, pair, pair_with_heartbeats};
use crate::engine::{real, secrets};
use crate::host::{Agent, LINK};
use crate::invariants::Fact;
use crate::rng::Rng;
use crate::run::Case;
use crate::scenario::Scenario;
use crate::schedule::{Fault, Schedule, Timed, draw_fault};
use crate::sweep::failures;
use crate::world::World;
use std::sync::Arc;
use vipd_core::config::diff::{Difference, Fate};
use vipd_core::config::model::{Check, Host, Model, Severity};
use vipd_core::engine::io::Input;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{CheckIx, Vip};

/// Schedules of the regular run.
const REGULAR: u64 = 600;

/// What a file has that the scenario's has not.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Other flap control.
    flap: bool,
    /// An address beside those of the advert.
    address: bool,
    /// A check that never says a word.
    check: bool,
    /// A host that never comes.
    host: bool,
    /// Another target.
    target: bool,
    /// Prefix routes: the instance begins anew.
    pub(crate) anew: bool,
}

impl Edit {
    pub(crate) fn draw(rng: &mut Rng, anew: u32) -> Self {
        Self {
            flap: rng.chance(500),
            address: rng.chance(500),
            check: rng.chance(300),
            host: rng.chance(300),
            target: rng.chance(300),
            anew: rng.chance(anew),
        }
    }

    /// The instance begins anew, and nothing else changes.
    pub(crate) fn anew() -> Self {
        Self { anew: true, ..Self::default() }
    }

    fn of(self, mut model: Model) -> Model {
        let web = &mut model.instances[0];
        if self.flap {
            web.flap.stickiness = 7;
            web.flap.priority_hold = Duration::from_secs(7);
        }
        if self.address {
            let addr = match web.addresses[0].addr {
                std::net::IpAddr::V4(_) => "192.0.2.77".parse().unwrap(),
                std::net::IpAddr::V6(_) => "2001:db8::77".parse().unwrap(),
            };
            web.unadvertised.push(Vip { addr, prefix_len: 64 });
        }
        if self.target {
            web.targets.push("192.0.2.1".parse().unwrap());
        }
        web.prefix_route = self.anew;
        if self.check {
            web.checks.push(CheckIx(model.checks.len() as u16));
            // What could fail is awaited by who begins anew, as at a start.
            model.checks.push(Check { severity: Severity::Degrade, ..crate::checks::service() });
        }
        if self.host {
            let paths = match model.heartbeat {
                Some(_) => vec!["192.0.2.99".parse().unwrap(), "10.9.0.99".parse().unwrap()],
                None => Vec::new(),
            };
            model.hosts.push(Host { name: "z".into(), paths });
            model.instances[0].priorities.push(None);
            model.instances[0].standbys.push(None);
        }
        // Peers see that the files differ.
        model.hash ^= self.bits();
        model
    }

    fn bits(self) -> u64 {
        let all = [self.flap, self.address, self.check, self.host, self.target, self.anew];
        all.iter().fold(0, |bits, on| bits << 1 | u64::from(*on))
    }
}

/// One to eight reloads; in half of the runs with faults, most of them close to a reload.
pub(crate) fn draw(rng: &mut Rng, scenario: &Scenario) -> Schedule {
    let t = scenario.t();
    let mut at = Instant::ZERO + scenario.longest_down() * 2 + Duration::from_millis(200);
    let faulty = rng.chance(500);
    let anew = if rng.chance(500) { 250 } else { 0 };
    let mut all = Vec::new();
    for _ in 0..rng.between(1, 8) {
        at += match rng.below(3) {
            0 => rng.duration(Duration::ZERO, t),
            _ => rng.duration(t, t * 8 + Duration::from_secs(1)),
        };
        let edit = Edit::draw(rng, anew);
        let hosts = scenario.hosts as u64;
        let on = if rng.chance(500) { 0..hosts } else { 0..1 };
        let first = rng.below(hosts);
        let apart = rng.duration(Duration::ZERO, t * 3);
        for n in on {
            let host = ((first + n) % hosts) as usize;
            let at = at + apart * n as u32;
            all.push(Timed { at, lasts: Duration::ZERO, fault: Fault::Reload(host, edit) });
        }
        if faulty && rng.chance(700) {
            let near = if rng.chance(500) { Duration::from_millis(5) } else { t * 5 };
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
    Schedule(all)
}

impl World {
    /// Another file on `host`; an agent that runs is told.
    pub(crate) fn reload(&mut self, host: usize, edit: Edit) {
        let model = Arc::new(edit.of(self.scenario.model(host)));
        let h = &mut self.hosts[host];
        match h.agent {
            Agent::Running if h.coming.is_none() => {
                h.coming = Some(Arc::clone(&model));
                let difference = Difference::between(&h.model, &model);
                h.retires = difference.fate("web") == Fate::Anew;
                if h.retires {
                    // As a clean stop, and a start as Backup.
                    self.note(Fact::Agent(host, Agent::Leaving));
                }
                self.feed(host, Input::Retire(model));
                self.set_timer(host);
            }
            // Reads it at its next start.
            Agent::Dead | Agent::Off => h.model = model,
            Agent::Running | Agent::Leaving | Agent::Hung => {}
        }
    }

    /// What had to leave has left.
    pub(crate) fn put_in_force(&mut self, host: usize) {
        let Some(model) = self.hosts[host].coming.take() else { return };
        let secrets = secrets(&model);
        if std::mem::take(&mut self.hosts[host].retires) {
            self.note(Fact::Agent(host, Agent::Running));
        }
        self.feed(host, Input::Reload(model, secrets));
        // The monitor reads everything anew.
        let (state, present) = (self.link_state(host), self.hosts[host].kernel.dump(self.now));
        self.feed(host, Input::Link { link: LINK, state });
        self.feed(host, Input::Addresses { link: LINK, present: &present });
    }
}

#[test]
fn every_schedule_with_reloads_keeps_the_promises() {
    if crate::number("SIM_RELOADS").is_some()
        && let Some(seed) = crate::number("SIM_SEED")
    {
        let case = Case::reloaded_of_seed(seed, real);
        println!("{}", case.report());
        assert!(case.run().violation.is_none());
        return;
    }
    let from = crate::number("SIM_FROM").unwrap_or(0);
    let to = from + crate::number("SIM_SCHEDULES").unwrap_or(REGULAR);
    let failed = failures(from..to, 3, |seed| Case::reloaded_of_seed(seed, real));
    let reports: Vec<String> = failed.iter().map(Case::report).collect();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

/// Reloads at any moment, on either host, and nothing moves.
#[test]
fn in_place_nothing_moves() {
    for (n, scenario) in [pair(), pair_with_heartbeats()].into_iter().enumerate() {
        for seed in 0..100 {
            let mut rng = Rng::new(seed).fork(n as u64);
            let faults: Vec<Timed> = (0..20)
                .map(|_| {
                    let (at, host) = (rng.between(6000, 30_000), rng.below(2) as usize);
                    fault(at, 0, Fault::Reload(host, Edit::draw(&mut rng, 0)))
                })
                .collect();
            let world = kept(scenario.clone(), faults, 40_000);
            assert_eq!((changes(&world, 6000), holders(&world)), (vec![], vec![0]), "seed {seed}");
        }
    }
}

/// An instance that begins anew is handed over; the stronger host takes it back, and nobody is ever without it.
#[test]
fn what_begins_anew_is_handed_over() {
    let edit = Edit::anew();
    for scenario in [pair(), pair_with_heartbeats()] {
        let world = kept(scenario, vec![fault(8000, 0, Fault::Reload(0, edit))], 30_000);
        let moved = changes(&world, 8000);
        assert!(matches!(moved[..], [(1, true, _), (0, false, _), ..]), "{moved:?}");
        assert_eq!(holders(&world), [0]);
    }
}
