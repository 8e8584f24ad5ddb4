//! Groups with checks, flap control and standby modes: models changed by hand, readings given by hand.

use crate::bench::{Bench, WEB, model, ms};
use crate::world::World;
use vipd_core::config::model::{
    Account, Activation, Check, FlapControl, Model, Probe, Program, Severity, Standby,
};
use vipd_core::engine::io::{EventKind, Input, OperatorOrder, Reading, Verdict};
use vipd_core::time::Duration;
use vipd_core::types::{CheckIx, Class};

/// The first check of a model.
pub(crate) const CHECK: CheckIx = CheckIx(0);

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn check(severity: Severity, weight: u8) -> Check {
    Check {
        name: "nginx".into(),
        probe: Probe::Unit { name: "nginx.service".into() },
        interval: secs(2),
        timeout: secs(1),
        fall: 1,
        rise: 1,
        severity,
        weight,
    }
}

/// Adds a check that every instance uses.
pub(crate) fn with(severity: Severity, weight: u8) -> impl Fn(&mut Model) {
    move |model| {
        let ix = CheckIx(u16::try_from(model.checks.len()).unwrap());
        model.checks.push(check(severity, weight));
        model.instances.iter_mut().for_each(|i| i.checks.push(ix));
    }
}

/// Adds a check that every instance uses, and switches flap control off: every change counts at once.
pub(crate) fn with_alone(severity: Severity, weight: u8) -> impl Fn(&mut Model) {
    move |model| {
        with(severity, weight)(model);
        model.instances.iter_mut().for_each(|i| i.flap = FlapControl::OFF);
    }
}

pub(crate) fn activation() -> Activation {
    let program = Program {
        argv: vec!["/usr/local/bin/start".into()],
        account: Account::Default,
        env: Vec::new(),
        timeout: secs(30),
    };
    Activation { program, ready: None }
}

/// Host `n` stands by like this, and everybody knows.
pub(crate) fn stands_by(model: &mut Model, n: u8, standby: &Standby) {
    for instance in &mut model.instances {
        instance.standbys[usize::from(n) - 1] = Some(standby.kind());
        if model.host.0 + 1 == n {
            instance.standby = standby.clone();
        }
    }
}

/// Host `n` of the group in `text`, changed.
pub(crate) fn bench(text: &str, n: u8, change: impl Fn(&mut Model)) -> Bench {
    let mut model = model(text, &format!("lb{n}"));
    change(&mut model);
    let mut bench = Bench::of(model, n, vec![]);
    bench.link_up();
    bench
}

/// `n` hosts, whose checks pass; lb1 owns.
pub(crate) fn world(text: &str, n: u8, change: impl Fn(&mut Model)) -> World {
    let mut world = World::of((1..=n).map(|n| bench(text, n, &change)).collect());
    for host in 0..usize::from(n) {
        for check in 0..world.hosts[host].model.checks.len() {
            say(&mut world, host, u16::try_from(check).unwrap(), Verdict::Pass);
        }
    }
    world.run(ms(6000));
    assert_eq!(world.owners(), [0]);
    world.forget();
    world
}

pub(crate) fn reading(verdict: Verdict) -> Reading {
    Reading { verdict, detail: "status 503".into(), took: ms(3) }
}

pub(crate) fn say(world: &mut World, host: usize, check: u16, verdict: Verdict) {
    world.give(host, Input::Check { check: CheckIx(check), reading: reading(verdict) });
}

/// An order about `WEB`.
pub(crate) fn of_web(order: OperatorOrder) -> Input<'static> {
    Input::Order { id: 1, instance: Some(WEB), order }
}

impl Bench {
    pub(crate) fn reads(&mut self, verdict: Verdict) {
        self.give(Input::Check { check: CHECK, reading: reading(verdict) });
    }

    pub(crate) fn order(&mut self, order: OperatorOrder) {
        self.give(of_web(order));
    }

    pub(crate) fn class(&self) -> Class {
        self.unit().class
    }

    /// Class and priority as told, newest last.
    pub(crate) fn standings(&self) -> Vec<(Class, u8)> {
        let told = self.events().into_iter().filter_map(|e| match e {
            EventKind::Standing { class, priority, .. } => Some((class, priority)),
            _ => None,
        });
        told.collect()
    }

    /// Orders of activation that were given.
    pub(crate) fn activations(&self) -> Vec<u64> {
        let said = self.log.iter().filter_map(|(_, said)| match said {
            crate::bench::Said::Activate(WEB, order) => Some(*order),
            _ => None,
        });
        said.collect()
    }
}
