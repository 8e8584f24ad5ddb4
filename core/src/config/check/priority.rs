//! Who is preferred: priorities of one instance over all hosts.

use crate::config::diagnostic::Findings;
use crate::config::schema::{File, HostDecl, InstanceDecl};
use std::collections::BTreeMap;

/// What an owner advertises after a planned move (DESIGN 5.6).
const PIN: u8 = 254;

pub(super) fn check(
    file: &File,
    views: &[(&HostDecl, &InstanceDecl)],
    findings: &mut Findings<'_>,
) {
    if let [(host, decl)] = views
        && file.hosts.len() > 1
    {
        findings.warning(
            &decl.priority.span,
            format!("only host {} takes part in {}", host.name.value, decl.subject),
            "give the other hosts a priority",
        );
    }
    check_ties(views, findings);
    for (_, decl) in views {
        check_one(decl, findings);
    }
}

fn check_ties(views: &[(&HostDecl, &InstanceDecl)], findings: &mut Findings<'_>) {
    let mut seen: BTreeMap<_, &HostDecl> = BTreeMap::new();
    for (host, decl) in views {
        let priority = decl.priority.value;
        let Some(other) = seen.insert(priority, host) else { continue };
        let pair = format!("{} and {}", other.name.value, host.name.value);
        if priority.is_owner() {
            findings.error(
                &decl.priority.span,
                format!("{pair} both have priority 255: each would be the owner of the address"),
                "255 is for the one host that has the address for itself; others get 1 to 254",
            );
        } else {
            findings.warning(
                &decl.priority.span,
                format!("{pair} both have priority {priority}: the higher source address decides"),
                format!(
                    "say who is preferred, for example priority = {{ {} = 150, {} = 100 }}",
                    other.name.value, host.name.value
                ),
            );
        }
    }
}

fn check_one(decl: &InstanceDecl, findings: &mut Findings<'_>) {
    if decl.priority.value.is_owner() && !decl.preempt.value {
        findings.warning(
            &decl.preempt.span,
            "preempt = false has no effect at priority 255: the owner always preempts (RFC 9568 section 6.1)",
            "lower the priority to 253 or less, or remove preempt",
        );
    }
    if decl.priority.value.get() == PIN {
        findings.warning(
            &decl.priority.span,
            "priority 254 is what an owner advertises after a planned move: a tie would end the move",
            "use at most 253",
        );
    }
}
