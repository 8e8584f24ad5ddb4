//! One seed, one run: draws scenario and schedule, runs the world, shrinks what fails, says what happened.

use crate::invariants::Violation;
use crate::operators;
use crate::reloads;
use crate::replica;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::world::{Breakage, Maker, World};
use vipd_core::time::{Duration, Instant};

/// Everything that decides what happens in a run.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) scenario: Scenario,
    pub(crate) schedule: Schedule,
    pub(crate) breakage: Option<Breakage>,
    pub(crate) maker: Maker,
}

/// What became of it.
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    /// Hash and number of the facts.
    pub(crate) digest: (u64, u64),
    pub(crate) lines: Vec<String>,
}

/// Lines of the trace in a report, unless `SIM_LINES` says otherwise.
const LINES: usize = 60;

impl Case {
    pub(crate) fn of_seed(seed: u64, breakage: Option<Breakage>, maker: Maker) -> Self {
        let rng = Rng::new(seed);
        let scenario = Scenario::draw(&mut rng.fork(10));
        let schedule = Schedule::draw(&mut rng.fork(11), &scenario);
        Self { seed, scenario, schedule, breakage, maker }
    }

    /// The same group with checks and flap control, whose services fail as well.
    pub(crate) fn sick_of_seed(seed: u64, maker: Maker) -> Self {
        let mut case = Self::of_seed(seed, None, maker);
        case.scenario.checks = true;
        let mut rng = Rng::new(seed).fork(12);
        case.schedule.add_sickness(&mut rng, &case.scenario);
        case
    }

    /// The same group, with operators. Half of the runs are without any fault beside the orders.
    pub(crate) fn ordered_of_seed(seed: u64, breakage: Option<Breakage>, maker: Maker) -> Self {
        let mut case = Self::of_seed(seed, breakage, maker);
        let mut rng = Rng::new(seed).fork(13);
        case.scenario.operators = true;
        case.scenario.set_heartbeats(rng.chance(750));
        case.schedule = operators::draw(&mut rng, &case.scenario);
        case
    }

    /// The same group, whose files change. Half of the runs are without any fault beside the reloads.
    pub(crate) fn reloaded_of_seed(seed: u64, maker: Maker) -> Self {
        let mut case = Self::of_seed(seed, None, maker);
        let mut rng = Rng::new(seed).fork(14);
        case.scenario.reloads = true;
        case.scenario.set_heartbeats(rng.chance(600));
        case.schedule = reloads::draw(&mut rng, &case.scenario);
        case
    }

    /// A group with a set of state files, and all that may go wrong with it. Its faults are its own.
    pub(crate) fn with_set_of_seed(seed: u64, breakage: Option<Breakage>, maker: Maker) -> Self {
        let mut case = Self::of_seed(seed, breakage, maker);
        let mut rng = Rng::new(seed).fork(15);
        replica::with_set(&mut rng, &mut case.scenario);
        case.schedule = replica::draw(&mut rng, &case.scenario);
        case
    }

    /// The end of the run: the last fault, and the time after which every promise must hold again.
    fn end(&self) -> Instant {
        let settle = self.scenario.to_settle().max(Duration::from_secs(5));
        let state = if self.scenario.replica.is_some() { 25 } else { 0 };
        self.schedule.end()
            + Duration::from_secs(state)
            + settle
            + self.scenario.longest_down()
            + Duration::from_millis(500)
    }

    pub(crate) fn run(&self) -> Outcome {
        self.play(None)
    }

    fn play(&self, keep: Option<usize>) -> Outcome {
        let (scenario, schedule) = (self.scenario.clone(), self.schedule.clone());
        let mut world = World::new(self.seed, scenario, schedule, self.breakage, self.maker);
        if keep.is_some() {
            world.trace.keep();
        }
        let violation = world.run(self.end());
        let lines = world.trace.tail(keep.unwrap_or(0));
        Outcome { violation, digest: world.trace.digest(), lines }
    }

    /// Leaves out faults for as long as the same promise stays broken.
    pub(crate) fn shrink(mut self) -> Self {
        let Some(broken) = self.run().violation else { return self };
        let mut ix = 0;
        while ix < self.schedule.0.len() {
            let fewer = Self { schedule: self.schedule.without(ix), ..self.clone() };
            match fewer.run().violation {
                Some(v) if v.rule == broken.rule => self = fewer,
                _ => ix += 1,
            }
        }
        self
    }

    /// What a person needs to see of a failure.
    pub(crate) fn report(&self) -> String {
        let small = self.clone().shrink();
        let outcome = small.play(Some(crate::number("SIM_LINES").map_or(LINES, |n| n as usize)));
        let violation = outcome.violation.map_or_else(|| "nothing".to_string(), |v| v.to_string());
        format!(
            "seed {} breaks a promise (replay: SIM_SEED={}{} cargo test -p vipd-core --test sim)\n{violation}\n\
             scenario: {}\nfaults left of {}:\n{}trace:\n  {}\n",
            self.seed,
            self.seed,
            match (self.scenario.checks, self.scenario.operators, self.scenario.reloads) {
                _ if self.scenario.replica.is_some() => " SIM_SETS=1",
                _ if self.scenario.slow => " SIM_SLOW=1",
                (true, ..) => " SIM_CHECKS=1",
                (_, true, _) => " SIM_ORDERS=1",
                (.., true) => " SIM_RELOADS=1",
                _ => "",
            },
            self.scenario,
            self.schedule.0.len(),
            small.schedule,
            outcome.lines.join("\n  "),
        )
    }
}
