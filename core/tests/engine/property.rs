//! Properties over many drawn lives of a group: whatever damping, hold-down, budget, classes and delays say, a group
//! with a usable host has an owner; priorities stay in range; the address does not move for nothing. Where state follows
//! the address: epochs are unique and grow, a copy that the gate forbids is not served, every barrier ends.

use crate::bench::{Bench, ETH0, Said, WEB, beating, eth0, ms, plain};
use crate::fit::{bench, of_web, reading, secs};
use crate::replica::{copy, set, started};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use vipd_core::config::model::{Budget, Damping, FlapControl, Model, Severity};
use vipd_core::engine::io::{Input, Memory, OperatorOrder, Verdict};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{CheckIx, Epoch, HostIx};

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

/// One host of a life with state, as an observer keeps its books.
#[derive(Default)]
struct Books {
    /// Its copy was complete then, as it was told.
    complete: Option<Instant>,
    /// An operator accepted what it lacks, or a barrier towards it was reached.
    allowed: Option<Instant>,
    /// It pushes now, and the newest ownership under which it ever did.
    owning: Option<Epoch>,
    last: Epoch,
    /// What its disk has taken.
    disk: Memory,
    /// Orders of barriers that were answered.
    answered: BTreeSet<u64>,
}

/// A life with a set of state files.
struct Stateful {
    seed: u64,
    dice: Dice,
    gate: &'static str,
    world: World,
    books: [Books; 3],
    /// Which host epochs mean by a number.
    numbers: BTreeMap<u8, usize>,
    /// An agent came or went.
    changed: Instant,
    vacant_since: Option<Instant>,
}

impl Stateful {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        let gate = ["prefer", "require", "ignore"][usize::try_from(dice.below(3)).unwrap()];
        let text = beating(&set(gate));
        let world = World::of((1..=3).map(|n| Bench::up(&text, n)).collect());
        let (changed, books) = (world.now, Default::default());
        let numbers = BTreeMap::new();
        let vacant_since = None;
        let mut life = Self { seed, dice, gate, world, books, numbers, changed, vacant_since };
        for host in 0..3 {
            life.store(host, true);
            life.tell(host, Some(Duration::ZERO));
        }
        life
    }

    fn runs(&self, host: usize) -> bool {
        !self.world.off.contains(&host)
    }

    fn tell(&mut self, host: usize, age: Option<Duration>) {
        self.books[host].complete = age.map(|age| self.world.now.before(age));
        self.world.give(host, copy(age));
    }

    fn store(&mut self, host: usize, works: bool) {
        let memory = self.world.hosts[host].stored();
        let reserved = memory.epoch.reserved;
        let result = if works { Ok(()) } else { Err("no space left on device".into()) };
        if works {
            self.books[host].disk = memory;
        }
        self.world.give(host, Input::Stored { instance: WEB, reserved, result });
    }

    /// With what its disk took; a disk that nobody waits for took everything.
    fn restart(&mut self, host: usize) {
        let n = u8::try_from(host + 1).unwrap();
        let memory = match self.gate {
            "require" => self.books[host].disk.clone(),
            _ => self.world.hosts[host].stored(),
        };
        let mut agent = started(&self.world, n, self.gate, memory);
        agent.give(Input::Link { link: ETH0, state: eth0(n) });
        agent.give(Input::Addresses { link: ETH0, present: &[] });
        self.world.off.remove(&host);
        self.world.replace(host, agent);
        let books = &mut self.books[host];
        (books.complete, books.owning, books.allowed) = (None, None, None);
        books.answered.clear();
        self.changed = self.world.now;
    }

    /// The newest barrier of that host ends in some way, or somebody answers another one.
    fn answer(&mut self, host: usize) {
        let barriers = self.world.hosts[host].barriers();
        let Some((instance, order, to)) = barriers.last().copied() else { return };
        let (order, result) = match self.dice.below(4) {
            0 => (order + 1, Ok(())),
            1 => (order, Err("the link is slow".into())),
            _ => (order, Ok(())),
        };
        if result.is_ok() && self.books[host].answered.insert(order) {
            self.books[usize::from(to.0)].allowed = Some(self.world.now);
        }
        self.world.give(host, Input::BarrierDone { instance, order, result });
    }

    fn act(&mut self) {
        let host = usize::try_from(self.dice.below(3)).unwrap();
        let what = self.dice.below(16);
        if !self.runs(host) {
            if what < 8 {
                self.restart(host);
            }
            return;
        }
        match what {
            0 if self.world.off.len() < 2 => {
                self.world.off.insert(host);
                self.books[host].owning = None;
                self.changed = self.world.now;
            }
            1 => self.tell(host, None),
            2 => self.tell(host, Some(secs(90))),
            3 => self.tell(host, Some(secs(30))),
            4 | 5 => self.tell(host, Some(Duration::ZERO)),
            6 => self.store(host, false),
            7 | 8 => self.store(host, true),
            9 => {
                let accept_data_loss = self.dice.below(2) == 0;
                if accept_data_loss {
                    self.books[host].allowed = Some(self.world.now);
                }
                self.world.give(host, of_web(OperatorOrder::Promote { accept_data_loss }));
            }
            10 => self.world.give(host, of_web(OperatorOrder::Failback)),
            11..=13 => {
                let to = Some(HostIx(u8::try_from(self.dice.below(3)).unwrap()));
                let order = OperatorOrder::Move { to, force: false };
                for owner in self.world.owners() {
                    self.world.give(owner, of_web(order));
                }
            }
            _ => self.answer(host),
        }
    }

    fn judge(&mut self) {
        let (seed, now) = (self.seed, self.world.now);
        let mut pushing = BTreeSet::new();
        for host in 0..3 {
            if !self.runs(host) {
                continue;
            }
            let role = self.world.hosts[host].role();
            let books = &mut self.books[host];
            if !role.owns {
                books.owning = None;
                continue;
            }
            let (epoch, begins) = (role.epoch, books.owning != Some(role.epoch));
            let named = self.numbers.get(&epoch.host).copied().unwrap_or(host);
            assert_eq!(named, host, "seed {seed}: {epoch} at {now}");
            self.numbers.insert(epoch.host, host);
            assert!(pushing.insert(epoch), "seed {seed}: two push under {epoch} at {now}");
            let grows = epoch > books.last || epoch == books.last && !begins;
            assert!(grows, "seed {seed}: {epoch} after {} at {now}", books.last);
            let fresh = books.complete.is_some_and(|at| now - at <= secs(60) + ms(50));
            let allowed = books.allowed.is_some_and(|at| now - at < secs(70));
            let served = self.gate != "require" || fresh || allowed || !begins;
            assert!(served, "seed {seed}: host {host} serves what is old at {now}");
            // Who owns has what there is.
            (books.owning, books.last, books.complete) = (Some(epoch), epoch, Some(now));
        }
        let held = !self.world.holders().is_empty();
        self.vacant_since = (!held).then(|| self.vacant_since.unwrap_or(now));
        let vacancy = self.vacant_since.map(|since| now - since.max(self.changed));
        // The longest M, an interval, and one more of second choice.
        let bound = secs(6) + ms(150);
        let binds = self.gate != "require";
        assert!(
            !binds || vacancy.unwrap_or_default() <= bound,
            "seed {seed}: nobody owns at {now}: {:#?}",
            self.world.hosts.iter().map(Bench::unit).collect::<Vec<_>>()
        );
    }

    fn pass(&mut self, steps: u64) {
        for _ in 0..steps {
            self.world.run(ms(50));
            self.judge();
        }
    }
}

fn live_with_state(seed: u64) {
    let mut life = Stateful::new(seed);
    for _ in 0..60 {
        life.act();
        let longest = 1 << life.dice.below(9);
        let steps = 1 + life.dice.below(longest);
        life.pass(steps);
    }
    // Nothing that moves takes longer than its barrier, and what begins ends once. What a stronger host waits for is
    // tried again and again.
    life.pass(60 * 20);
    for host in 0..3 {
        let bench = &life.world.hosts[host];
        if life.runs(host) {
            let begun = bench.log.iter().filter(|(_, said)| matches!(said, Said::Barrier(..)));
            let due = begun.clone().filter(|(at, _)| *at + secs(22) <= life.world.now).count();
            let over = bench.over().len();
            assert!(due <= over && over <= begun.count(), "seed {seed}: host {host}");
        }
    }
}

#[test]
fn state_follows_one_owner_at_a_time_whatever_is_told_of_it() {
    (0..60).for_each(live_with_state);
}
