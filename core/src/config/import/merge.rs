//! What the hosts became -> one file for all of them.
//!
//! Called by `import`. Instances are the same when they have one VRID in one family; checks and hooks by their names.
//! A value that differs becomes a table by host.

use super::draft::{Instance, Keys, Named, Side};
use super::text;
use std::collections::BTreeMap;

/// A section of the new file.
pub(super) struct Section {
    /// `instance`, `check`, `hook` or `sync`.
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) keys: Keys,
    /// `[[instance.NAME.route]]` and the like.
    pub(super) tables: Vec<(&'static str, Keys)>,
    /// A comment before it.
    pub(super) comment: Option<&'static str>,
}

/// The sections, and what could not be brought together.
pub(super) fn merge(mut sides: Vec<Side>) -> (Vec<Section>, Vec<String>) {
    let mut problems = Vec::new();
    same_names(&mut sides);
    let checks = checks(&mut sides);
    let hooks = hooks(&mut sides);
    let mut sections = instances(&sides, &mut problems);
    sections.extend(groups(&sides, &mut problems));
    sections.extend(checks);
    sections.extend(hooks);
    (sections, problems)
}

/// Gives instances of one VRID and family the name that the first host has for them.
fn same_names(sides: &mut [Side]) {
    let Some((first, others)) = sides.split_first_mut() else { return };
    let mut known: Vec<(String, u8, bool)> =
        first.instances.iter().map(|i| (i.name.clone(), i.vrid, i.is_v4)).collect();
    for side in others {
        let mut renamed: BTreeMap<String, String> = BTreeMap::new();
        for instance in &side.instances {
            let is = |(_, vrid, is_v4): &&(String, u8, bool)| {
                (*vrid, *is_v4) == (instance.vrid, instance.is_v4)
            };
            let same: Vec<_> = known.iter().filter(is).collect();
            let twice = side
                .instances
                .iter()
                .filter(|i| (i.vrid, i.is_v4) == (instance.vrid, instance.is_v4))
                .count()
                > 1;
            match same.as_slice() {
                [(name, ..)] if !twice && *name != instance.name => {
                    renamed.insert(instance.name.clone(), name.clone());
                }
                // Another virtual router that happens to bear the name.
                [] if known.iter().any(|(name, ..)| *name == instance.name) => {
                    let wanted = format!("{}-{}", instance.name, instance.vrid);
                    let name =
                        text::unused(&text::name(&wanted), |n| known.iter().any(|(k, ..)| k == n));
                    renamed.insert(instance.name.clone(), name);
                }
                _ => {}
            }
        }
        rename(side, &renamed);
        for instance in &side.instances {
            if !known.iter().any(|(name, ..)| *name == instance.name) {
                known.push((instance.name.clone(), instance.vrid, instance.is_v4));
            }
        }
    }
}

/// Renames instances wherever they are named.
fn rename(side: &mut Side, renamed: &BTreeMap<String, String>) {
    let new = |name: &mut String| {
        if let Some(to) = renamed.get(name) {
            name.clone_from(to);
        }
    };
    side.instances.iter_mut().for_each(|i| new(&mut i.name));
    side.groups.iter_mut().flat_map(|g| &mut g.members).for_each(new);
    for hook in &mut side.hooks {
        if let Some(list) = hook.keys.get("instances").map(str::to_owned) {
            // Names have no commas, quotes or brackets.
            let inner = list.trim_matches(['[', ']']);
            let names: Vec<String> = inner
                .split(", ")
                .map(|quoted| quoted.trim_matches('"'))
                .map(|name| renamed.get(name).map_or_else(|| name.to_owned(), Clone::clone))
                .collect();
            hook.keys.set("instances", text::strings(names.iter().map(String::as_str)));
        }
    }
}

/// A value for each host, as one where they agree.
fn by_host(values: &[(&str, String)]) -> String {
    match values {
        [] => String::new(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, value)| value == first) => first.clone(),
        _ => table(values),
    }
}

/// A table by host.
fn table(values: &[(&str, String)]) -> String {
    let all: Vec<_> =
        values.iter().map(|(host, value)| format!("{} = {value}", text::key(host))).collect();
    format!("{{ {} }}", all.join(", "))
}

/// What a key means that a host does not write; `None`: it has to be written.
fn default_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "preempt" | "accept" => "true",
        "virtual-mac" => "false",
        "version" => "3",
        "preempt-delay" | "hold-down" => "\"0s\"",
        "stickiness" => "10",
        "priority-hold" => "\"10s\"",
        "checksum" => "\"rfc9568\"",
        "unadvertised" | "checks" | "route" | "rule" => "[]",
        _ => return None,
    })
}

/// Keys in the order in which the first host that has them writes them.
fn key_order<'k>(all: impl Iterator<Item = &'k Keys>) -> Vec<&'static str> {
    let mut order: Vec<&'static str> = Vec::new();
    for keys in all {
        let mut at = 0;
        for key in keys.names() {
            match order.iter().position(|k| *k == key) {
                Some(known) => at = known + 1,
                None => {
                    order.insert(at, key);
                    at += 1;
                }
            }
        }
    }
    order
}

fn instances(sides: &[Side], problems: &mut Vec<String>) -> Vec<Section> {
    let mut names: Vec<&str> = Vec::new();
    for instance in sides.iter().flat_map(|side| &side.instances) {
        if !names.contains(&instance.name.as_str()) {
            names.push(&instance.name);
        }
    }
    names.into_iter().map(|name| one_instance(name, sides, problems)).collect()
}

fn one_instance(name: &str, sides: &[Side], problems: &mut Vec<String>) -> Section {
    let views: Vec<(&str, &Instance)> = sides
        .iter()
        .filter_map(|side| {
            Some((side.host.as_str(), side.instances.iter().find(|i| i.name == name)?))
        })
        .collect();
    let mut keys = Keys::default();
    for key in key_order(views.iter().map(|(_, i)| &i.keys)) {
        let values: Vec<(&str, String)> = views
            .iter()
            .filter_map(|(host, i)| {
                let value = i.keys.get(key).or_else(|| default_of(key))?;
                Some((*host, value.to_owned()))
            })
            .collect();
        if values.len() == views.len() {
            keys.set(key, by_host(&values));
        } else {
            let have: Vec<_> = values.iter().map(|(host, _)| *host).collect();
            problems.push(format!(
                "instance {name}: only {} has {key}, so it is left out: write it for every host, {key} = {}",
                have.join(", "),
                table(&values)
            ));
        }
        if key == "addresses" || key == "unadvertised" {
            same_order(key, &views, &mut keys);
        }
    }
    let priorities: Vec<_> =
        views.iter().map(|(host, i)| (*host, i.priority.to_string())).collect();
    let after = keys
        .0
        .iter()
        .position(|(key, _)| *key == "unadvertised" || *key == "addresses")
        .map_or(0, |at| at + 1);
    let after = if keys.0.get(after).is_some_and(|(key, _)| *key == "unadvertised") {
        after + 1
    } else {
        after
    };
    keys.0.insert(after, ("priority", table(&priorities)));
    if views.iter().any(|(_, i)| !i.checks.is_empty()) {
        let lists: Vec<_> = views
            .iter()
            .map(|(host, i)| (*host, text::strings(i.checks.iter().map(String::as_str))))
            .collect();
        keys.set("checks", by_host(&lists));
    }
    let mut tables = Vec::new();
    let routes: Vec<_> = views.iter().map(|(host, i)| (*host, &i.routes)).collect();
    let rules: Vec<_> = views.iter().map(|(host, i)| (*host, &i.rules)).collect();
    add_tables("route", &routes, &mut keys, &mut tables);
    add_tables("rule", &rules, &mut keys, &mut tables);
    let satellite = views.iter().any(|(_, i)| i.is_satellite);
    let comment = satellite.then_some(
        "# keepalived does not advertise these: leave this section and its [sync] out while a host of the group runs it.",
    );
    Section { kind: "instance", name: name.to_owned(), keys, tables, comment }
}

/// Adds the tables of all hosts: to `tables` where they agree, else as a table by host to `keys`.
fn add_tables(
    kind: &'static str,
    lists: &[(&str, &Vec<Keys>)],
    keys: &mut Keys,
    tables: &mut Vec<(&'static str, Keys)>,
) {
    let Some((_, first)) = lists.first() else { return };
    if lists.iter().all(|(_, list)| list == first) {
        tables.extend(first.iter().map(|keys| (kind, keys.clone())));
        return;
    }
    let inline = |list: &[Keys]| {
        let all: Vec<_> = list.iter().map(Keys::inline).collect();
        format!("[{}]", all.join(", "))
    };
    let lists: Vec<_> = lists.iter().map(|(host, list)| (*host, inline(list))).collect();
    keys.set(kind, table(&lists));
}

/// The order of addresses means nothing to keepalived; here it must be the same on every host.
fn same_order(key: &'static str, views: &[(&str, &Instance)], keys: &mut Keys) {
    let sorted = |i: &Instance| {
        let list = i.keys.get(key).unwrap_or("[]");
        let mut all: Vec<String> =
            list.trim_matches(['[', ']']).split(", ").map(str::to_owned).collect();
        all.sort();
        all
    };
    if let Some((_, first)) = views.first()
        && views.iter().all(|(_, i)| sorted(i) == sorted(first))
        && let Some(value) = first.keys.get(key)
    {
        keys.set(key, value);
    }
}

fn groups(sides: &[Side], problems: &mut Vec<String>) -> Vec<Section> {
    let mut seen: Vec<(String, Vec<String>)> = Vec::new();
    for group in sides.iter().flat_map(|side| &side.groups) {
        match seen.iter_mut().find(|(name, members)| {
            *name == group.name || members.iter().any(|m| group.members.contains(m))
        }) {
            None => seen.push((group.name.clone(), group.members.clone())),
            Some((name, members)) => {
                let missing: Vec<_> =
                    group.members.iter().filter(|m| !members.contains(m)).cloned().collect();
                if !missing.is_empty() {
                    problems.push(format!(
                        "sync group {name} has other instances on each host: all of them are in it now"
                    ));
                    members.extend(missing);
                }
            }
        }
    }
    let section = |(name, members): (String, Vec<String>)| {
        let mut keys = Keys::default();
        keys.set("instances", text::strings(members.iter().map(String::as_str)));
        Section { kind: "sync", name, keys, tables: Vec::new(), comment: None }
    };
    seen.into_iter().map(section).collect()
}

/// The checks: one section where hosts have the same keys, else one for each of them under its own name.
fn checks(sides: &mut [Side]) -> Vec<Section> {
    let mut sections: Vec<(String, Vec<(String, Keys)>)> = Vec::new();
    for side in sides.iter_mut() {
        let checks = std::mem::take(&mut side.checks);
        for Named { name, keys } in checks {
            let fits = |(n, views): &&mut (String, Vec<(String, Keys)>)| {
                *n == name && views.first().is_some_and(|(_, first)| first.names().eq(keys.names()))
            };
            if let Some((_, views)) = sections.iter_mut().find(fits) {
                views.push((side.host.clone(), keys));
                continue;
            }
            let wanted = if sections.iter().any(|(n, _)| *n == name) {
                text::name(&format!("{name}-{}", side.host))
            } else {
                name.clone()
            };
            let new = text::unused(&wanted, |n| sections.iter().any(|(other, _)| other == n));
            if new != name {
                let used = side.instances.iter_mut().flat_map(|i| &mut i.checks);
                used.filter(|check| **check == name).for_each(|check| check.clone_from(&new));
            }
            sections.push((new, vec![(side.host.clone(), keys)]));
        }
    }
    sections.into_iter().map(|(name, views)| section_of("check", name, &views)).collect()
}

fn section_of(kind: &'static str, name: String, views: &[(String, Keys)]) -> Section {
    let mut keys = Keys::default();
    for key in key_order(views.iter().map(|(_, keys)| keys)) {
        let values: Vec<(&str, String)> = views
            .iter()
            .filter_map(|(host, keys)| Some((host.as_str(), keys.get(key)?.to_owned())))
            .collect();
        keys.set(key, by_host(&values));
    }
    Section { kind, name, keys, tables: Vec::new(), comment: None }
}

/// The hooks. Every host runs every hook: where one has none of that name, it runs a program that does nothing.
fn hooks(sides: &mut [Side]) -> Vec<Section> {
    let mut names: Vec<String> = Vec::new();
    for hook in sides.iter().flat_map(|side| &side.hooks) {
        if !names.contains(&hook.name) {
            names.push(hook.name.clone());
        }
    }
    let find = |side: &Side, name: &str| {
        side.hooks.iter().find(|h| h.name == name).map(|h| h.keys.clone())
    };
    let mut sections = Vec::new();
    for name in names {
        let mut views: Vec<(String, Keys)> = Vec::new();
        let model = sides.iter().find_map(|side| find(side, &name));
        for side in sides.iter() {
            let keys = find(side, &name).or_else(|| {
                let mut keys = model.clone()?;
                if keys.get("run").is_some() {
                    keys.set("run", text::strings(["/bin/true"]));
                    keys.set("user", text::string("nobody"));
                }
                Some(keys)
            });
            views.extend(keys.map(|keys| (side.host.clone(), keys)));
        }
        sections.push(section_of("hook", name, &views));
    }
    sections
}
