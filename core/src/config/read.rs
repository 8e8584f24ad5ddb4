//! Parsed document -> [`File`]: sections, hosts, groups, and each instance as each host sees it.
//!
//! Called by `config::load`. It goes on after an error, so that one run reports all of them.

use super::diagnostic::Findings;
use super::keys::{Key, cluster, file, host, instance, sync, telemetry};
use super::schema::{
    CheckDecl, ClusterDecl, File, GroupDecl, HookDecl, HostDecl, InstanceDecl, TelemetryDecl,
};
use super::section::{At, LeftOut, Scope, Section, Span};
use super::{read_check, read_instance, read_pool, read_program, read_replicate, target, value};
use std::collections::BTreeSet;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Reads the whole document.
pub(super) fn read<'d>(table: &'d DeTable<'d>, findings: &mut Findings<'_>) -> File {
    let top = Section::new("the file", 0..0, table);
    top.refuse_unknown(file::ALL, findings);

    let cluster = read_cluster(&top, findings);
    top.demand(&file::HOSTS, findings);
    let hosts: Vec<HostDecl> = named_sections(&top, &file::HOSTS, "hosts", findings)
        .into_iter()
        .map(|(name, section)| read_host(name, &section, findings))
        .collect();

    let pools = named_sections(&top, &file::POOL, "pool", findings);
    if pools.is_empty() {
        top.demand(&file::INSTANCE, findings);
    }
    let instances = named_sections(&top, &file::INSTANCE, "instance", findings);
    let host_names: Vec<Arc<str>> = hosts.iter().map(|h| Arc::clone(&h.name.value)).collect();
    let mut views: Vec<Vec<InstanceDecl>> = hosts.iter().map(|_| Vec::new()).collect();
    for (name, section) in &instances {
        section.refuse_unknown(instance::ALL, findings);
        let taking_part = taking_part(name, section, &host_names, findings);
        for (me, view) in host_names.iter().zip(&mut views) {
            if !taking_part.contains(me) {
                continue;
            }
            let left_out = LeftOut::ByPriority;
            let scope = Scope { hosts: &host_names, taking_part: &taking_part, me, left_out };
            let section = section.per_host(scope);
            let identity = read_instance::read_identity(name.clone(), &section, findings);
            view.extend(read_instance::read(identity, &section, findings));
        }
    }
    let mut instance_names: Vec<_> = instances.into_iter().map(|(name, _)| name).collect();
    for (name, section) in &pools {
        read_pool::read(name, section, &host_names, &mut instance_names, &mut views, findings);
    }
    instance_names.sort_by(|a, b| a.value.cmp(&b.value));
    for view in &mut views {
        view.sort_by(|a, b| a.name.value.cmp(&b.name.value));
    }

    let (check_names, checks) = read_checks(&top, &host_names, &views, findings);
    let (hook_names, hooks) = read_hooks(&top, &host_names, findings);
    let sets = named_sections(&top, &file::REPLICATE, "replicate", findings);
    let set_names = sets.iter().map(|(name, _)| name.clone()).collect();
    let sets = sets
        .into_iter()
        .filter_map(|(name, section)| read_replicate::read(name, &section, findings))
        .collect();
    let telemetry = read_telemetry(&top, &host_names, findings);
    let groups = named_sections(&top, &file::SYNC, "sync", findings)
        .into_iter()
        .filter_map(|(name, section)| read_group(name, &section, findings))
        .collect();
    File {
        cluster,
        hosts,
        hosts_span: top.key_span(&file::HOSTS),
        instance_names,
        instances_span: top.key_span(&file::INSTANCE),
        views,
        groups,
        check_names,
        checks,
        hook_names,
        hooks,
        set_names,
        sets,
        telemetry,
    }
}

/// Sections by name, and each of them as each host sees it.
type ByHost<T> = (Vec<At<Arc<str>>>, Vec<Vec<T>>);

/// The checks: each for the hosts whose instances use it. One that nobody uses is read all the same, for
/// what is wrong in it.
fn read_checks(
    top: &Section<'_>,
    hosts: &[Arc<str>],
    views: &[Vec<InstanceDecl>],
    findings: &mut Findings<'_>,
) -> ByHost<CheckDecl> {
    let mut by_host: Vec<Vec<CheckDecl>> = hosts.iter().map(|_| Vec::new()).collect();
    let mut names = Vec::new();
    let names_of = |view: &Vec<InstanceDecl>| -> BTreeSet<Arc<str>> {
        view.iter().flat_map(InstanceDecl::uses).map(|used| Arc::clone(&used.value)).collect()
    };
    let used: Vec<BTreeSet<Arc<str>>> = views.iter().map(names_of).collect();
    for (name, section) in named_sections(top, &file::CHECK, "check", findings) {
        let users = hosts.iter().zip(&used).filter(|(_, used)| used.contains(&name.value));
        let users: Vec<Arc<str>> = users.map(|(host, _)| Arc::clone(host)).collect();
        let readers = if users.is_empty() { hosts } else { users.as_slice() };
        for (me, list) in hosts.iter().zip(&mut by_host).filter(|(me, _)| readers.contains(me)) {
            let scope = Scope { hosts, taking_part: readers, me, left_out: LeftOut::Unused };
            let check = read_check::read(name.clone(), &section.per_host(scope), findings);
            if !users.is_empty() {
                list.extend(check);
            }
        }
        names.push(name);
    }
    (names, by_host)
}

/// The hooks as each host sees them.
fn read_hooks(
    top: &Section<'_>,
    hosts: &[Arc<str>],
    findings: &mut Findings<'_>,
) -> ByHost<HookDecl> {
    let mut by_host: Vec<Vec<HookDecl>> = hosts.iter().map(|_| Vec::new()).collect();
    let mut names = Vec::new();
    for (name, section) in named_sections(top, &file::HOOK, "hook", findings) {
        for (me, list) in hosts.iter().zip(&mut by_host) {
            let scope = Scope { hosts, taking_part: hosts, me, left_out: LeftOut::Unused };
            list.extend(read_program::read_hook(name.clone(), &section.per_host(scope), findings));
        }
        names.push(name);
    }
    (names, by_host)
}

/// What each host serves about itself.
fn read_telemetry(
    top: &Section<'_>,
    hosts: &[Arc<str>],
    findings: &mut Findings<'_>,
) -> Vec<TelemetryDecl> {
    let Some(section) = top.table(&file::TELEMETRY, findings) else {
        return hosts.iter().map(|_| TelemetryDecl::default()).collect();
    };
    section.refuse_unknown(telemetry::ALL, findings);
    let of_host = |me: &Arc<str>| {
        let scope = Scope { hosts, taking_part: hosts, me, left_out: LeftOut::Unused };
        let listen = section.per_host(scope).optional(&telemetry::LISTEN, findings, target::listen);
        TelemetryDecl { listen }
    };
    hosts.iter().map(of_host).collect()
}

/// The hosts that take part in an instance: all of them, unless its priorities are a table by host.
fn taking_part(
    name: &At<Arc<str>>,
    section: &Section<'_>,
    hosts: &[Arc<str>],
    findings: &mut Findings<'_>,
) -> Vec<Arc<str>> {
    let table = match section.raw(&instance::PRIORITY).map(|node| node.get_ref()) {
        Some(DeValue::Table(table)) if !hosts.is_empty() => table,
        _ => return hosts.to_vec(),
    };
    let named = |host: &&Arc<str>| table.contains_key(host.as_ref());
    let taking_part: Vec<_> = hosts.iter().filter(named).cloned().collect();
    if taking_part.is_empty() {
        let left_out = LeftOut::ByPriority;
        let scope = Scope { hosts, taking_part: &taking_part, me: "", left_out };
        section.check_hosts(&instance::PRIORITY, table, scope, findings);
        findings.error(
            &section.key_span(&instance::PRIORITY),
            format!("no host takes part in instance {}", name.value),
            format!("give hosts a priority: {}", hosts.join(", ")),
        );
    }
    taking_part
}

/// The tables of a table of names, sorted by name: `[instance.web]`, `[instance.dns]`.
fn named_sections<'d>(
    top: &Section<'d>,
    key: &Key,
    kind: &str,
    findings: &mut Findings<'_>,
) -> Vec<(At<Arc<str>>, Section<'d>)> {
    let Some(outer) = top.table(key, findings) else { return Vec::new() };
    let mut sections: Vec<(At<Arc<str>>, Section<'d>)> = Vec::new();
    for (name, node) in outer.entries() {
        let title = format!("[{kind}.{}]", name.value);
        if !value::is_name(name.value) {
            findings.error(
                &name.span,
                format!("\"{}\" is not a name for {title}", name.value.escape_debug()),
                "a name has 1 to 64 letters, digits, '-', '_' or '.' and begins with a letter or digit",
            );
        }
        let DeValue::Table(table) = node.get_ref() else {
            findings.error(
                &node.span(),
                format!(
                    "{kind}.{} must be a table, not {}",
                    name.value,
                    value::describe(node.get_ref())
                ),
                format!("begin a section with {title}"),
            );
            continue;
        };
        let section = Section::new(title, name.span.clone(), table);
        sections.push((At { value: Arc::from(name.value), span: name.span }, section));
    }
    sections.sort_by(|(a, _), (b, _)| a.value.cmp(&b.value));
    sections
}

fn read_cluster(top: &Section<'_>, findings: &mut Findings<'_>) -> ClusterDecl {
    let Some(section) = top.table(&file::CLUSTER, findings) else {
        return ClusterDecl {
            span: Span::default(),
            name: None,
            key_file: None,
            heartbeat_port: None,
            replicate_port: None,
        };
    };
    section.refuse_unknown(cluster::ALL, findings);
    ClusterDecl {
        span: section.span.clone(),
        name: section.optional(&cluster::NAME, findings, value::name),
        key_file: section.optional(&cluster::KEY_FILE, findings, value::path),
        heartbeat_port: section
            .optional(&cluster::HEARTBEAT_PORT, findings, |v| value::integer(v, 1..=65535)),
        replicate_port: section
            .optional(&cluster::REPLICATE_PORT, findings, |v| value::integer(v, 1..=65535)),
    }
}

fn read_host(name: At<Arc<str>>, section: &Section<'_>, findings: &mut Findings<'_>) -> HostDecl {
    section.refuse_unknown(host::ALL, findings);
    let paths = section
        .list(&host::PATHS, findings, value::unicast_address)
        .unwrap_or_else(|| section.at(Vec::new()));
    let capacity =
        section.optional(&host::CAPACITY, findings, |v| value::integer(v, 1..=1_000_000));
    HostDecl { name, paths, capacity }
}

fn read_group(
    name: At<Arc<str>>,
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Option<GroupDecl> {
    section.refuse_unknown(sync::ALL, findings);
    section.demand(&sync::INSTANCES, findings);
    let members = section.nonempty_list(&sync::INSTANCES, findings, value::name)?;
    Some(GroupDecl { name, members })
}
