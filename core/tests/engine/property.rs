//! Properties over many drawn lives of a group: whatever damping, hold-down, budget, classes and delays say, a group
//! with a usable host has an owner; priorities stay in range; the address does not move for nothing.

use crate::bench::{Bench, ETH0, beating, eth0, ms, plain};
use crate::fit::{bench, reading, secs};
use crate::world::World;
use vipd_core::config::model::{Budget, Damping, FlapControl, Model, Severity};
use vipd_core::engine::io::{Input, Verdict};
use vipd_core::time::Duration;
use vipd_core::types::CheckIx;

/// Numbers from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n
    }
}

/// `fail`, `degrade`, `fatal`.
const CHECKS: [Severity; 3] = [Severity::Fail, Severity::Degrade, Severity::Fatal];

/// Three hosts under the harshest and the mildest flap control, drawn.
fn group(dice: &mut Dice) -> World {
    let more = format!(
        "preempt = {}\npreempt-delay = \"{}s\"\nhold-down = \"{}s\"\n",
        dice.below(3) > 0,
        dice.below(2) * dice.below(60),
        dice.below(2) * dice.below(60)
    );
    let text = if dice.below(2) == 0 { beating(&more) } else { plain(&more) };
    let mut control = FlapControl::default();
    if dice.below(2) == 0 {
        let half_life = secs(600);
        control.damping = Some(Damping {
            half_life,
            suppress: 500,
            reuse: 400,
            ceiling: 10_000,
            max_suppress: secs(3600),
        });
        control.budget = Some(Budget { limits: vec![(1, secs(600))], quiet: secs(3600) });
    }
    control.stickiness = u8::try_from(dice.below(255)).unwrap();
    let weight = u8::try_from(dice.below(254)).unwrap();
    let change = |model: &mut Model| {
        for severity in CHECKS {
            model.instances[0].checks.push(CheckIx(u16::try_from(model.checks.len()).unwrap()));
            model.checks.push(crate::fit::check(severity, weight));
        }
        model.instances[0].flap = control.clone();
    };
    World::of((1..=3).map(|n| bench(&text, n, change)).collect())
}

/// What keeps a host from being usable.
#[derive(Default)]
struct Ills {
    link: bool,
    fatal: bool,
}

fn live(seed: u64) {
    let mut dice = Dice::of(seed);
    let mut world = group(&mut dice);
    let mut ills: Vec<Ills> = (0..3).map(|_| Ills::default()).collect();
    let mut usable_since = Some(world.now);
    let mut vacant_since = Some(world.now);
    // The longest M of all, one interval, and what an owner waits for takers beside the longest skew.
    let bound = secs(5) + ms(150);
    for _ in 0..60 {
        let host = usize::try_from(dice.below(3)).unwrap();
        match dice.below(10) {
            0 if world.off.len() < 2 => {
                world.off.insert(host);
            }
            1 | 2 => {
                ills[host].link = !ills[host].link;
                let mut state = eth0(u8::try_from(host + 1).unwrap());
                state.running = !ills[host].link;
                if !world.off.contains(&host) {
                    world.give(host, Input::Link { link: ETH0, state });
                }
            }
            n => {
                let check = if n == 3 { 2 } else { u16::try_from(dice.below(2)).unwrap() };
                let verdict = [Verdict::Pass, Verdict::Fail, Verdict::Warn, Verdict::Unknown]
                    [usize::try_from(dice.below(4)).unwrap()];
                if !world.off.contains(&host) {
                    let check = CheckIx(check);
                    world.give(host, Input::Check { check, reading: reading(verdict) });
                    let settled = world.hosts[host].snapshot().checks[2].settled;
                    ills[host].fatal = settled == Some(Verdict::Fail);
                }
            }
        }
        let longest = 1 << dice.below(9);
        for _ in 0..=dice.below(longest) {
            world.run(ms(50));
            let usable = (0..3).any(|h| !world.off.contains(&h) && !ills[h].link && !ills[h].fatal);
            let held = !world.holders().is_empty();
            usable_since = usable.then(|| usable_since.unwrap_or(world.now));
            vacant_since = (!held).then(|| vacant_since.unwrap_or(world.now));
            let vacancy = match (usable_since, vacant_since) {
                (Some(usable), Some(vacant)) => world.now - usable.max(vacant),
                _ => Duration::ZERO,
            };
            let views = || world.hosts.iter().map(Bench::unit).collect::<Vec<_>>();
            assert!(vacancy <= bound, "seed {seed}: nobody owns for {vacancy:?}: {:#?}", views());
            for host in &world.hosts {
                let priority = host.unit().priority;
                assert!((1..=254).contains(&priority), "seed {seed}: priority {priority}");
            }
        }
    }
}

#[test]
fn a_group_with_a_usable_host_has_an_owner() {
    (0..80).for_each(live);
}
