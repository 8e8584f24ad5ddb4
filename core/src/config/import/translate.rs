//! One host's tree of blocks -> what it becomes.
//!
//! Called by `import`. Says of every line what became of it.

use super::blocks::Node;
use super::complete::{self, Membership};
use super::draft::{Group, Side};
use super::globals::Globals;
use super::hooks::{self, Subject};
use super::instance::{self, Tracked};
use super::keywords::{self, Scope};
use super::report::Notes;
use super::text;
use super::trackers::{Kind, Trackers};
use std::collections::BTreeMap;

/// A `vrrp_sync_group`.
struct Written<'n> {
    node: &'n Node,
    members: Vec<&'n str>,
    tracked: Vec<(&'n Node, Tracked)>,
    weights_count: bool,
    notify: Vec<&'n Node>,
}

/// Translates the blocks of `host`.
pub(super) fn side(host: &str, tree: &[Node], notes: &mut Notes) -> Side {
    let mut side = Side { host: host.to_owned(), ..Side::default() };
    let mut globals = Globals::default();
    for block in tree.iter().filter(|node| node.keyword() == "global_defs") {
        globals.read(block, &mut side.hooks, notes);
    }
    let mut trackers = Trackers::default();
    for block in tree {
        if let Some(kind) = Kind::of_block(block.keyword()) {
            trackers.define(block, kind, globals.script_user.as_deref(), notes);
        }
    }
    let groups: Vec<Written<'_>> = tree
        .iter()
        .filter(|node| node.keyword() == "vrrp_sync_group")
        .map(|block| read_group(block, notes))
        .collect();
    // By the name in the file: the instances that were made of it.
    let mut made: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for block in tree {
        match block.keyword() {
            "global_defs" | "vrrp_sync_group" => {}
            "vrrp_instance" => {
                if made.contains_key(block.arg()) {
                    notes.dropped(block, "the name is used twice: rename one of the two");
                    continue;
                }
                let group = groups.iter().find(|group| group.members.contains(&block.arg()));
                let membership = group.map(|group| Membership {
                    weights_count: group.weights_count,
                    tracked: &group.tracked,
                });
                let written = instance::read(block, notes);
                let names = complete::add(
                    &written,
                    &globals,
                    membership.as_ref(),
                    &mut trackers,
                    &mut side,
                    notes,
                );
                made.insert(block.arg(), names);
            }
            other if Kind::of_block(other).is_some() => {}
            other => {
                if let Some((fate, why)) = keywords::fate(Scope::Top, other) {
                    notes.whole(block, fate, why);
                }
            }
        }
    }
    for group in &groups {
        add_group(group, &made, &globals, &mut side, notes);
    }
    trackers.finish(notes);
    side.checks = trackers.checks;
    notes.sweep(tree);
    side
}

fn read_group<'n>(node: &'n Node, notes: &mut Notes) -> Written<'n> {
    let mut group = Written {
        node,
        members: Vec::new(),
        tracked: Vec::new(),
        weights_count: false,
        notify: Vec::new(),
    };
    for line in &node.children {
        match line.keyword() {
            "group" => {
                notes.exact(line, "instances");
                for member in &line.children {
                    notes.exact(member, "instances");
                    group.members.extend(member.words.iter().map(String::as_str));
                }
            }
            "sync_group_tracking_weight" | "global_tracking" => {
                group.weights_count = true;
                notes.exact(line, "the weights of the members count");
            }
            notify if hooks::is_notify(notify) => group.notify.push(line),
            other => match (instance::tracks(other), keywords::fate(Scope::Group, other)) {
                (Some(what), _) => group.tracked.extend(instance::tracked_lines(line, what, notes)),
                (None, Some((fate, why))) => notes.whole(line, fate, why),
                (None, None) => {}
            },
        }
    }
    group
}

fn add_group(
    group: &Written<'_>,
    made: &BTreeMap<&str, Vec<String>>,
    globals: &Globals,
    side: &mut Side,
    notes: &mut Notes,
) {
    let name =
        text::unused(&text::name(group.node.arg()), |n| side.groups.iter().any(|g| g.name == n));
    let mut members: Vec<String> = Vec::new();
    for member in &group.members {
        let Some(names) = made.get(member).filter(|names| !names.is_empty()) else {
            notes.dropped(group.node, format!("{member} is no instance of vipd.toml"));
            continue;
        };
        let elsewhere = |n: &&String| side.groups.iter().any(|g| g.members.contains(n));
        if names.iter().any(|n| elsewhere(&n)) {
            notes.dropped(group.node, format!("{member} is in another group already"));
            continue;
        }
        let new: Vec<String> = names.iter().filter(|n| !members.contains(n)).cloned().collect();
        members.extend(new);
    }
    for line in &group.notify {
        let subject = Subject::Group(&name, &members);
        if members.is_empty() {
            notes.dropped(line, "the group has no instance");
        } else {
            hooks::notify(line, &subject, globals.script_user.as_deref(), &mut side.hooks, notes);
        }
    }
    match members.len() {
        0 => notes.dropped(group.node, "has no instance"),
        1 => notes.exact(group.node, "nothing: a group of one moves as one"),
        _ => {
            notes.exact(group.node, format!("[sync.{name}]"));
            side.groups.push(Group { name, members });
        }
    }
}
