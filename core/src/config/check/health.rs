//! Checks and hooks: what they name exists, what is defined is used, and no gate is on an address that moves.

use super::addresses::Claims;
use crate::config::diagnostic::Findings;
use crate::config::model::Probe;
use crate::config::schema::{CheckDecl, File, HostDecl, InstanceDecl, ProbeDecl};
use crate::config::section::{At, unknown_name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) fn check(file: &File, claims: &Claims<'_>, findings: &mut Findings<'_>) {
    let mut used = BTreeSet::new();
    for decl in file.views.iter().flatten() {
        check_names(file, decl, findings);
        used.extend(decl.uses().map(|name| &name.value));
    }
    for name in &file.check_names {
        if !used.contains(&name.value) {
            findings.warning(
                &name.span,
                format!("check {} is not used", name.value),
                "add it to the checks of an instance, or remove it",
            );
        }
    }
    for (host, instances, checks) in file.with_checks() {
        let mut users: BTreeMap<&str, Vec<&InstanceDecl>> = BTreeMap::new();
        for decl in instances {
            for name in decl.uses() {
                users.entry(&name.value).or_default().push(decl);
            }
        }
        for check in checks {
            let users = users.get(check.name.value.as_ref()).map_or(&[][..], Vec::as_slice);
            check_gateway(check, host, instances, users, findings);
            check_target(check, users, claims, findings);
        }
    }
    for hook in file.hooks.iter().flatten() {
        for name in &hook.instances {
            exists(
                "instance",
                name,
                &format!("hook {}", hook.name.value),
                &file.instance_names,
                findings,
            );
        }
    }
}

/// The names that an instance uses.
fn check_names(file: &File, decl: &InstanceDecl, findings: &mut Findings<'_>) {
    let place = &decl.subject;
    for name in decl.uses() {
        exists("check", name, place, &file.check_names, findings);
    }
    let mut seen = BTreeSet::new();
    for name in &decl.checks {
        if !seen.insert(&name.value) {
            findings.error(
                &name.span,
                format!("check {} is twice in {place}", name.value),
                "remove one of the two",
            );
        }
    }
}

/// Reports a name that is not among `all`, which are sorted.
fn exists(
    what: &str,
    name: &At<Arc<str>>,
    place: &str,
    all: &[At<Arc<str>>],
    findings: &mut Findings<'_>,
) {
    if all.binary_search_by(|other| other.value.cmp(&name.value)).is_ok() {
        return;
    }
    let existing: Vec<_> = all.iter().map(|n| Arc::clone(&n.value)).collect();
    unknown_name(
        what,
        At { value: name.value.as_ref(), span: name.span.clone() },
        place,
        &format!("[{what}.NAME]"),
        &existing,
        findings,
    );
}

/// A neighbour is asked on a service interface; which one must be clear.
fn check_gateway(
    check: &CheckDecl,
    host: &HostDecl,
    instances: &[InstanceDecl],
    users: &[&InstanceDecl],
    findings: &mut Findings<'_>,
) {
    let ProbeDecl::Gateway { addr, interface } = &check.probe.value else { return };
    let names = |instances: &mut dyn Iterator<Item = &InstanceDecl>| {
        instances.map(|decl| Arc::clone(&decl.interface.value)).collect::<BTreeSet<_>>()
    };
    let listed =
        |names: &BTreeSet<Arc<str>>| names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match interface {
        Some(interface) => {
            let service = names(&mut instances.iter());
            if !service.contains(&interface.value) {
                findings.error(
                    &interface.span,
                    format!(
                        "{} is not a service interface of host {}",
                        interface.value, host.name.value
                    ),
                    format!(
                        "use one that an instance runs on: {}; or ping {addr}",
                        listed(&service)
                    ),
                );
            }
        }
        None => {
            let candidates = names(&mut users.iter().copied());
            if candidates.len() > 1 {
                findings.error(
                    &check.probe.span,
                    format!(
                        "check {} is used by instances on {}: where should {addr} be asked?",
                        check.name.value,
                        listed(&candidates)
                    ),
                    "add interface, or make a check for each",
                );
            }
        }
    }
}

/// A gate on an address of its own: of the standby it says what the owner does.
fn check_target(
    check: &CheckDecl,
    users: &[&InstanceDecl],
    claims: &Claims<'_>,
    findings: &mut Findings<'_>,
) {
    let targets = check.probe.value.targets();
    for (user, target) in users.iter().flat_map(|user| targets.iter().map(move |t| (user, *t))) {
        let Some(owner) = claims.owner(target, &user.interface.value) else { continue };
        let name = &check.name.value;
        let segment = matches!(
            check.probe.value,
            ProbeDecl::Gateway { .. } | ProbeDecl::Whole(Probe::Ping { .. })
        );
        if *owner == user.name.value || segment {
            findings.error(
                &check.probe.span,
                format!("check {name} asks {target}, a virtual address of instance {owner}: a gate on an address of its own"),
                "ask what does not move with vipd: a router, or the service at 127.0.0.1 or the host's own address",
            );
        } else {
            findings.warning(
                &check.probe.span,
                format!("check {name} asks {target}, a virtual address of instance {owner}: wherever that one is, all hosts see the same"),
                "ask the service at 127.0.0.1 or the host's own address, or use a check of kind instance",
            );
        }
    }
}
