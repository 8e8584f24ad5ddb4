//! Instances that watch other instances: those exist on the same host, and none watches itself.

use crate::config::diagnostic::Findings;
use crate::config::schema::{CheckDecl, File, HostDecl, InstanceDecl, ProbeDecl};
use crate::config::section::{At, unknown_name};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    for (host, instances, checks) in file.with_checks() {
        for check in checks {
            if let ProbeDecl::Instance { name, .. } = &check.probe.value {
                check_runs(file, host, instances, (check, name), findings);
            }
        }
        check_cycles(instances, checks, findings);
    }
}

/// The instance that is watched runs on the host that watches it.
fn check_runs(
    file: &File,
    host: &HostDecl,
    instances: &[InstanceDecl],
    (check, name): (&CheckDecl, &Arc<str>),
    findings: &mut Findings<'_>,
) {
    let span = check.probe.span.clone();
    let place = format!("check {}", check.name.value);
    if !file.instance_names.iter().any(|n| n.value == *name) {
        let existing: Vec<_> = file.instance_names.iter().map(|n| Arc::clone(&n.value)).collect();
        let name = At { value: name.as_ref(), span };
        unknown_name("instance", name, &place, "[instance.NAME]", &existing, findings);
    } else if !instances.iter().any(|decl| decl.name.value == *name) {
        findings.error(
            &span,
            format!(
                "{place} watches instance {name}, which does not run on host {}",
                host.name.value
            ),
            format!(
                "give {} a priority in {name}, or use the check on other hosts only",
                host.name.value
            ),
        );
    }
}

/// Reports each circle once.
fn check_cycles(instances: &[InstanceDecl], checks: &[CheckDecl], findings: &mut Findings<'_>) {
    let at = |name: &Arc<str>| instances.binary_search_by(|i| i.name.value.cmp(name)).ok();
    // The instances that each one watches, with the check that says so.
    let watches = |decl: &InstanceDecl| -> Vec<(usize, usize)> {
        let watched = |used: &At<Arc<str>>| {
            let check = checks.binary_search_by(|c| c.name.value.cmp(&used.value)).ok()?;
            match &checks[check].probe.value {
                ProbeDecl::Instance { name, .. } => Some((at(name)?, check)),
                _ => None,
            }
        };
        decl.uses().filter_map(watched).collect()
    };
    let mut edges: Vec<Vec<(usize, usize)>> = instances.iter().map(watches).collect();
    // An instance that watches none of those left is in no circle.
    let mut left: BTreeSet<usize> = (0..edges.len()).filter(|n| !edges[*n].is_empty()).collect();
    loop {
        let free = |n: &usize| !edges[*n].iter().any(|(to, _)| left.contains(to));
        let Some(done) = left.iter().copied().find(|n| free(n)) else { break };
        left.remove(&done);
    }
    // Each of those left watches one of them: walking on must come back.
    while let Some(start) = left.first().copied() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        let mut here = start;
        while !path.iter().any(|(node, _)| *node == here) {
            let next = edges[here].iter().position(|(to, _)| left.contains(to));
            let Some(next) = next else { break };
            let (to, check) = edges[here].swap_remove(next);
            path.push((here, check));
            here = to;
        }
        let circle = path.iter().position(|(node, _)| *node == here).map(|from| &path[from..]);
        if let Some(circle @ [(first, check), ..]) = circle {
            let name = |node: usize| instances[node].name.value.as_ref();
            let mut names: Vec<&str> = circle.iter().map(|(node, _)| name(*node)).collect();
            names.push(name(*first));
            findings.error(
                &checks[*check].probe.span,
                format!("instance {} depends on itself: {}", name(*first), names.join(" -> ")),
                "remove one of the checks of kind instance; instances that move together make a sync group",
            );
        }
        for (node, _) in path {
            left.remove(&node);
        }
        left.remove(&start);
    }
}
