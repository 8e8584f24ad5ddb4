//! How the hosts of one instance stand by: what a warm one needs, and whether anybody claims by itself.

use crate::config::diagnostic::Findings;
use crate::config::model::StandbyKind;
use crate::config::schema::{HostDecl, InstanceDecl};

pub(super) fn check(views: &[(&HostDecl, &InstanceDecl)], findings: &mut Findings<'_>) {
    for (host, decl) in views {
        if decl.standby.value == StandbyKind::Warm
            && decl.activation.is_none()
            && !findings.has_errors()
        {
            findings.error(
                &decl.standby.span,
                format!("host {} is warm, and nothing says how it is activated", host.name.value),
                "add a subsection activation with run = [\"/path\"]; a service that always runs is \"hot\"",
            );
        }
    }
    let Some((_, first)) = views.first() else { return };
    let all = |kind| views.iter().all(|(_, decl)| decl.standby.value == kind);
    if let Some(activation) = &first.activation
        && all(StandbyKind::Hot)
    {
        findings.error(
            &activation.span,
            "activation is for warm and cold hosts, and all hosts of the instance are hot",
            "write standby = \"warm\" for the hosts that have to be activated, or remove it",
        );
    }
    if all(StandbyKind::Cold) {
        findings.warning(
            &first.standby.span,
            format!("{} has no automatic standby: every host is cold", first.subject),
            "nobody owns the address before `vipd promote`: make the preferred host hot",
        );
    }
}
