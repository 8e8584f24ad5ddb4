//! Checks, hooks and standby of one host -> model: names become positions.
//!
//! Called by `resolve`. What is referred to exists: the checks saw to it.

use super::model::{Activation, Check, Hook, HookRun, Link, Probe, Standby, StandbyKind};
use super::schema::{ActivationDecl, CheckDecl, HookDecl, HookRunDecl, InstanceDecl, ProbeDecl};
use crate::types::{CheckIx, InstanceIx, LinkIx};
use std::sync::Arc;

/// The checks of a host; `declared` are those that its instances use, sorted by name.
pub(super) fn checks(
    declared: &[CheckDecl],
    instances: &[InstanceDecl],
    links: &[Link],
) -> Vec<Check> {
    let check = |decl: &CheckDecl| Check {
        name: Arc::clone(&decl.name.value),
        probe: probe(decl, instances, links),
        interval: decl.interval,
        timeout: decl.timeout,
        fall: decl.fall,
        rise: decl.rise,
        severity: decl.severity.value,
        weight: decl.weight.value,
    };
    declared.iter().map(check).collect()
}

fn probe(decl: &CheckDecl, instances: &[InstanceDecl], links: &[Link]) -> Probe {
    match &decl.probe.value {
        ProbeDecl::Whole(probe) => probe.clone(),
        ProbeDecl::Instance { name, active } => {
            // The checks saw that it runs on this host.
            let instance = instance_ix(instances, name).unwrap_or(InstanceIx(0));
            Probe::Instance { instance, active: *active }
        }
        ProbeDecl::Gateway { addr, interface } => {
            let user =
                instances.iter().find(|i| i.uses().any(|used| used.value == decl.name.value));
            let name =
                interface.as_ref().or_else(|| user.map(|i| &i.interface)).map(|at| &at.value);
            let at = links.iter().position(|link| Some(&link.name) == name).unwrap_or_default();
            Probe::Gateway { addr: *addr, link: LinkIx(u16::try_from(at).unwrap_or(u16::MAX)) }
        }
    }
}

/// The hooks of a host: those for all instances, and those for one that it runs.
pub(super) fn hooks(declared: &[HookDecl], instances: &[InstanceDecl]) -> Vec<Hook> {
    let hook = |decl: &HookDecl| {
        let here = decl.instances.iter().filter_map(|i| instance_ix(instances, &i.value));
        let mut here: Vec<InstanceIx> = here.collect();
        here.sort_unstable();
        here.dedup();
        let run = match &decl.run {
            HookRunDecl::Program(program, call) => HookRun::Program(program.clone().into(), *call),
            HookRunDecl::Fifo(path) => HookRun::Fifo(path.clone()),
        };
        // None of those it is for runs here; an empty list in the model would mean all.
        let concerned = decl.instances.is_empty() || !here.is_empty();
        concerned.then(|| Hook {
            name: Arc::clone(&decl.name.value),
            on: decl.on.clone(),
            instances: here,
            run,
            timeout: decl.timeout,
            interval: decl.interval,
            watch: decl.watch.clone(),
            debounce: decl.debounce,
        })
    };
    declared.iter().filter_map(hook).collect()
}

/// The checks that `decl` uses, by position among `checks`.
pub(super) fn used(decl: &InstanceDecl, checks: &[CheckDecl]) -> Vec<CheckIx> {
    let mut used: Vec<CheckIx> =
        decl.checks.iter().filter_map(|name| check_ix(checks, &name.value)).collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// How the host of `decl` stands by.
pub(super) fn standby(decl: &InstanceDecl, checks: &[CheckDecl]) -> Standby {
    let activation = decl.activation.as_ref().map(|a| activation(a, checks));
    match (decl.standby.value, activation) {
        (StandbyKind::Hot, _) => Standby::Hot,
        (StandbyKind::Warm, Some(activation)) => Standby::Warm(activation),
        // Warm without an activation is refused; to claim nothing by itself is the safe side.
        (StandbyKind::Warm, None) => Standby::Cold(None),
        (StandbyKind::Cold, activation) => Standby::Cold(activation),
    }
}

fn activation(decl: &ActivationDecl, checks: &[CheckDecl]) -> Activation {
    Activation {
        program: decl.program.clone().into(),
        ready: decl.ready.as_ref().and_then(|name| check_ix(checks, &name.value)),
    }
}

fn check_ix(checks: &[CheckDecl], name: &Arc<str>) -> Option<CheckIx> {
    let at = checks.binary_search_by(|c| c.name.value.cmp(name)).ok()?;
    u16::try_from(at).ok().map(CheckIx)
}

fn instance_ix(instances: &[InstanceDecl], name: &Arc<str>) -> Option<InstanceIx> {
    let at = instances.binary_search_by(|i| i.name.value.cmp(name)).ok()?;
    u16::try_from(at).ok().map(InstanceIx)
}
