//! Can a check that costs priority ever move the address? Priorities, weights and stickiness are all in the
//! file: it is arithmetic.

use crate::config::diagnostic::Findings;
use crate::config::model::{Severity, StandbyKind};
use crate::config::schema::{CheckDecl, File, HostDecl, InstanceDecl};
use std::collections::BTreeSet;

/// What is wrong with one check, once however many instances it concerns.
type Told = BTreeSet<(usize, &'static str)>;

pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    let mut told = Told::new();
    for (host, instances, checks) in file.with_checks() {
        for decl in instances {
            let used: Vec<&CheckDecl> = decl
                .checks
                .iter()
                .filter_map(|name| checks.binary_search_by(|c| c.name.value.cmp(&name.value)).ok())
                .map(|at| &checks[at])
                .collect();
            let peers = file.views_of(&decl.name.value);
            for check in used.iter().filter(|c| c.severity.value == Severity::Degrade) {
                let subject = Subject { host, decl, check, used: &used };
                subject.judge(&peers, &mut told, findings);
            }
        }
    }
}

/// One check that degrades one instance of one host.
struct Subject<'f> {
    host: &'f HostDecl,
    decl: &'f InstanceDecl,
    check: &'f CheckDecl,
    used: &'f [&'f CheckDecl],
}

impl Subject<'_> {
    fn judge(
        &self,
        peers: &[(&HostDecl, &InstanceDecl)],
        told: &mut Told,
        findings: &mut Findings<'_>,
    ) {
        let (name, decl) = (&self.check.name.value, self.decl);
        let instance = &decl.name.value;
        let priority = decl.priority.value.get();
        let span = &self.check.weight.span;
        if decl.priority.value.is_owner() {
            if told.insert((span.start, "owner")) {
                findings.error(
                    span,
                    format!("check {name} costs priority, and host {} has 255 in instance {instance}: 255 is not degraded (RFC 9568 section 5.2.4)", self.host.name.value),
                    "lower the priority to 253 or less, or use severity = \"fail\"",
                );
            }
            return;
        }
        // Who would take over: the best of those that are weaker now and claim by themselves.
        let best = peers
            .iter()
            .filter(|(_, peer)| peer.priority.value < decl.priority.value)
            .filter(|(_, peer)| peer.standby.value != StandbyKind::Cold)
            .max_by_key(|(_, peer)| peer.priority.value);
        let Some((peer_host, peer)) = best else { return };
        if !peer.preempt.value {
            if told.insert((span.start, "preempt")) {
                findings.warning(
                    span,
                    format!(
                        "check {name} never moves instance {instance} from {} to {}: with preempt = false a host does not take the address from a weaker owner",
                        self.host.name.value, peer_host.name.value
                    ),
                    "use severity = \"fail\", which moves it all the same, or preempt = true",
                );
            }
            return;
        }
        let weight = self.check.weight.value;
        let stickiness = decl.flap.stickiness;
        let best = peer.priority.value.get();
        let all = self.used.iter().filter(|c| weighs(c)).map(|c| u32::from(c.weight.value)).sum();
        let left = degraded(priority, all, stickiness);
        let (host, peer) = (&self.host.name.value, &peer_host.name.value);
        if left >= best {
            if told.insert((span.start, "never")) {
                let (what, sum) = if all > u32::from(weight) {
                    (", even with every other check that costs priority", all)
                } else {
                    ("", u32::from(weight))
                };
                findings.warning(
                    span,
                    format!("check {name} can never move instance {instance} from {host}{what}: {priority} - {sum} + {stickiness} (stickiness) leaves {left}, and {peer} has {best}"),
                    self.remedy(best, all),
                );
            }
        } else if weight <= stickiness && told.insert((span.start, "sticky")) {
            findings.warning(
                span,
                format!("check {name} alone never moves instance {instance}: its weight {weight} is not above the stickiness {stickiness}, which {host} gets back as owner"),
                format!("weight = {} or more, or a lower stickiness", u32::from(stickiness) + 1),
            );
        }
    }

    /// How the check could move the address from a host to a peer of priority `best`, where the weights of all
    /// checks are `all`.
    fn remedy(&self, best: u8, all: u32) -> String {
        let others = all.saturating_sub(u32::from(self.check.weight.value));
        let gap = u32::from(self.decl.priority.value.get().saturating_sub(best));
        let needed = (gap + u32::from(self.decl.flap.stickiness) + 1).saturating_sub(others);
        // An owner keeps its stickiness, and at least 1, whatever it loses.
        if best > self.decl.flap.stickiness.max(1) && needed <= 253 {
            format!(
                "severity = \"fail\", weight = {needed} or more, or priorities that are closer together"
            )
        } else {
            "severity = \"fail\", or a higher priority of the peer".to_owned()
        }
    }
}

/// Does the check cost priority in some state?
fn weighs(check: &CheckDecl) -> bool {
    match check.severity.value {
        Severity::Degrade => true,
        Severity::Info => false,
        Severity::Fail | Severity::Fatal | Severity::Drain => check.probe.value.can_warn(),
    }
}

/// What an owner advertises that has lost `weight`: it gets the stickiness back, up to its priority.
fn degraded(priority: u8, weight: u32, stickiness: u8) -> u8 {
    let lost = u8::try_from(weight).unwrap_or(u8::MAX);
    priority.saturating_sub(lost).saturating_add(stickiness).min(priority).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_reckons_as_the_policy_does() {
        for priority in 1..=254 {
            for weight in [0, 1, 9, 10, 11, 100, 253, 254, 255, 256, 1000] {
                for stickiness in [0, 1, 10, 253] {
                    assert_eq!(
                        degraded(priority, weight, stickiness),
                        crate::policy::health::effective(priority, weight, stickiness),
                        "{priority} - {weight} + {stickiness}"
                    );
                }
            }
        }
    }
}
