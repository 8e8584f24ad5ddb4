//! Sync groups: existing members, each in one group, that can move together.

use crate::config::diagnostic::Findings;
use crate::config::model::StandbyKind;
use crate::config::schema::{File, GroupDecl};
use crate::config::section::{At, unknown_name};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    let mut seen: BTreeMap<&Arc<str>, &GroupDecl> = BTreeMap::new();
    for group in &file.groups {
        for member in &group.members.value {
            check_exists(file, group, member, findings);
            let Some(other) = seen.insert(&member.value, group) else { continue };
            findings.error(
                &member.span,
                format!("instance {} is already in sync group {}", member.value, other.name.value),
                "an instance moves with one group: remove it from the other place",
            );
        }
        if let [only] = group.members.value.as_slice() {
            findings.warning(
                &only.span,
                format!("sync group {} has one member: nothing moves together", group.name.value),
                "add the instances that move with it, or remove the group",
            );
        }
        check_members(file, group, findings);
    }
}

fn check_exists(
    file: &File,
    group: &GroupDecl,
    member: &At<Arc<str>>,
    findings: &mut Findings<'_>,
) {
    if file.instance_names.iter().any(|name| name.value == member.value) {
        return;
    }
    let existing: Vec<_> = file.instance_names.iter().map(|n| Arc::clone(&n.value)).collect();
    unknown_name(
        "instance",
        At { value: member.value.as_ref(), span: member.span.clone() },
        &format!("sync group {}", group.name.value),
        "[instance.NAME]",
        &existing,
        findings,
    );
}

/// Members run on the same hosts and prefer them in the same order.
fn check_members(file: &File, group: &GroupDecl, findings: &mut Findings<'_>) {
    // Host names from the most to the least preferred one.
    let ranking = |member: &At<Arc<str>>| {
        let mut views = file.views_of(&member.value);
        views.sort_by_key(|(_, decl)| std::cmp::Reverse(decl.priority.value));
        views.into_iter().map(|(host, _)| Arc::clone(&host.name.value)).collect::<Vec<_>>()
    };
    let preempts = |member: &At<Arc<str>>| {
        file.views_of(&member.value).iter().any(|(_, decl)| decl.preempt.value)
    };
    let mut members =
        group.members.value.iter().map(|m| (m, ranking(m))).filter(|(_, r)| !r.is_empty());
    let Some((first, first_ranking)) = members.next() else { return };
    let sorted = |ranking: &[Arc<str>]| {
        let mut hosts = ranking.to_vec();
        hosts.sort();
        hosts
    };
    for (member, ranking) in members {
        let pair = format!("{} and {}", first.value, member.value);
        check_standby(file, (first, member), &pair, findings);
        if sorted(&ranking) != sorted(&first_ranking) {
            findings.error(
                &member.span,
                format!(
                    "{pair} run on different hosts ({} and {}): they cannot move together",
                    first_ranking.join(", "),
                    ranking.join(", ")
                ),
                "give both instances priorities for the same hosts",
            );
        } else if ranking != first_ranking {
            let prefer =
                format!("{pair} prefer different hosts ({} and {})", first_ranking[0], ranking[0]);
            let fix = "give both instances the same order of priorities";
            if preempts(first) && preempts(member) {
                // Each host takes its instance back, and the other one with it.
                findings.error(&member.span, format!("{prefer}: they would move without end"), fix);
            } else {
                findings.warning(&member.span, prefer, fix);
            }
        }
    }
}

/// A host claims for both or for none.
fn check_standby(
    file: &File,
    (first, member): (&At<Arc<str>>, &At<Arc<str>>),
    pair: &str,
    findings: &mut Findings<'_>,
) {
    let word = |kind| match kind {
        StandbyKind::Hot => "hot",
        StandbyKind::Warm => "warm",
        StandbyKind::Cold => "cold",
    };
    let firsts = file.views_of(&first.value);
    let differs = file.views_of(&member.value).into_iter().find_map(|(host, decl)| {
        let (_, other) = firsts.iter().find(|(h, _)| h.name.value == host.name.value)?;
        let (mine, theirs) = (other.standby.value, decl.standby.value);
        (mine != theirs).then_some((host, mine, theirs))
    });
    if let Some((host, mine, theirs)) = differs {
        findings.error(
            &member.span,
            format!(
                "{pair} stand by differently on {} ({} and {}): they cannot move together",
                host.name.value,
                word(mine),
                word(theirs)
            ),
            "give both instances one standby for each host",
        );
    }
}
