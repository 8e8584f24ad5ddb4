//! The group: hosts, heartbeat paths, keys, and how many there may be of everything.

use crate::config::diagnostic::Findings;
use crate::config::hash::stable_hash;
use crate::config::schema::{File, HostDecl};
use crate::config::section::At;
use crate::types::Family;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Most hosts of a group.
const HOSTS_MAX: usize = 32;
/// Most instances of a file.
const INSTANCES_MAX: usize = 4000;
/// Most checks of a file.
const CHECKS_MAX: usize = 1000;
/// Most hooks of a file.
const HOOKS_MAX: usize = 100;
/// Most heartbeat paths of a host.
const PATHS_MAX: usize = 8;

pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    check_counts(file, findings);
    check_paths(file, findings);
    check_keys(file, findings);
    let hosts: Vec<_> = file.hosts.iter().map(|h| h.name.clone()).collect();
    refuse_collisions("host", &hosts, stable_hash, findings);
    refuse_collisions("instance", &file.instance_names, stable_hash, findings);
}

fn check_counts(file: &File, findings: &mut Findings<'_>) {
    match file.hosts.as_slice() {
        [] if !findings.has_errors() => {
            findings.error(
                &file.hosts_span,
                "the file has no host",
                "add a section [hosts.NAME] for each host",
            );
        }
        [host] => findings.warning(
            &host.name.span,
            format!("{} is the only host: nobody takes over from it", host.name.value),
            "add a section [hosts.NAME] for each other host of the group",
        ),
        _ => {}
    }
    if let Some(host) = file.hosts.get(HOSTS_MAX) {
        findings.error(
            &host.name.span,
            format!("{} hosts; a group has at most {HOSTS_MAX}", file.hosts.len()),
            "split the group: each has a file of its own",
        );
    }
    if file.instance_names.is_empty() && !findings.has_errors() {
        findings.error(
            &file.instances_span,
            "the file has no instance",
            "add a section [instance.NAME] for each set of addresses that moves",
        );
    }
    for (names, what, most) in
        [(&file.check_names, "checks", CHECKS_MAX), (&file.hook_names, "hooks", HOOKS_MAX)]
    {
        if let Some(name) = names.get(most) {
            findings.error(
                &name.span,
                format!("{} {what}; a file has at most {most}", names.len()),
                "several instances can share one",
            );
        }
    }
    if let Some(name) = file.instance_names.get(INSTANCES_MAX) {
        findings.error(
            &name.span,
            format!("{} instances; a file has at most {INSTANCES_MAX}", file.instance_names.len()),
            "put addresses that move together into one instance, or run one agent per network namespace",
        );
    }
}

/// The n-th path of every host is on one network: as many everywhere, of one family, each address once.
fn check_paths(file: &File, findings: &mut Findings<'_>) {
    // Of several with as many, the first one.
    let by_count = file.hosts.iter().rev().max_by_key(|host| host.paths.value.len());
    let Some(longest) = by_count else { return };
    let mut seen: BTreeMap<IpAddr, &HostDecl> = BTreeMap::new();
    for host in &file.hosts {
        let paths = &host.paths.value;
        if paths.len() > PATHS_MAX {
            findings.error(
                &host.paths.span,
                format!("{} paths; a host has at most {PATHS_MAX}", paths.len()),
                "two or three networks that do not fail together are enough",
            );
        }
        if paths.len() != longest.paths.value.len() {
            findings.error(
                &host.paths.span,
                format!(
                    "host {} has {} paths, host {} has {}",
                    host.name.value,
                    paths.len(),
                    longest.name.value,
                    longest.paths.value.len()
                ),
                "give every host one address per heartbeat network, in the same order",
            );
        }
        for (path, other) in paths.iter().zip(&longest.paths.value) {
            let (mine, theirs) = (Family::of(&path.value), Family::of(&other.value));
            if mine != theirs {
                findings.error(
                    &path.span,
                    format!("path {} is {mine}, its counterpart on {} {} is {theirs}", path.value, longest.name.value, other.value),
                    "the n-th path of every host is on the same network: list them in the same order",
                );
            }
        }
        for path in paths {
            if let IpAddr::V6(v6) = path.value
                && v6.is_unicast_link_local()
            {
                findings.error(
                    &path.span,
                    format!("path {v6} is link-local, which says nothing without an interface"),
                    "use a global or unique local address of that network (fd00::/8)",
                );
            }
            if let Some(other) = seen.insert(path.value, host) {
                findings.error(
                    &path.span,
                    format!("path {} is also a path of host {}", path.value, other.name.value),
                    "every path is an address of its host's own",
                );
            }
        }
    }
}

fn check_keys(file: &File, findings: &mut Findings<'_>) {
    let cluster = &file.cluster;
    if file.has_heartbeats() {
        if cluster.key_file.is_none() && !findings.has_errors() {
            findings.error(
                &cluster.span,
                "hosts have heartbeat paths, but [cluster] has no key-file: heartbeats are always signed",
                "make a key with `vipd keygen`, copy it to every host, add key-file = \"/etc/vipd/cluster.key\"",
            );
        }
        if cluster.name.is_none() && !findings.has_errors() {
            findings.error(
                &cluster.span,
                "hosts have heartbeat paths, but [cluster] has no name, which keeps groups with one key apart",
                "add name = \"...\" to [cluster]",
            );
        }
        return;
    }
    let unused = [
        cluster.key_file.as_ref().map(|at| (&at.span, "key-file")),
        cluster.heartbeat_port.as_ref().map(|at| (&at.span, "heartbeat-port")),
    ];
    for (span, key) in unused.into_iter().flatten() {
        findings.warning(
            span,
            format!("{key} has no effect: no host has heartbeat paths"),
            format!("add paths to every [hosts.NAME], or remove {key}"),
        );
    }
}

/// Heartbeats name hosts and instances by hash: two names with one hash cannot be told apart.
fn refuse_collisions(
    what: &str,
    names: &[At<Arc<str>>],
    hash: impl Fn(&[u8]) -> u64,
    findings: &mut Findings<'_>,
) {
    let mut seen: BTreeMap<u64, &Arc<str>> = BTreeMap::new();
    for name in names {
        if let Some(other) = seen.insert(hash(name.value.as_bytes()), &name.value) {
            findings.error(
                &name.span,
                format!("{what}s {} and {other} have the same hash in heartbeats", name.value),
                format!("rename one of the {what}s"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_one_hash_are_refused() {
        let names = ["web", "dns"].map(|n| At { value: Arc::from(n), span: 0..3 });
        let mut findings = Findings::new("web dns");
        refuse_collisions("instance", &names, |_| 7, &mut findings);
        let found = findings.into_sorted();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].message, "instances dns and web have the same hash in heartbeats");
    }
}
