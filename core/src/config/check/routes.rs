//! Virtual routes and policy rules: they live and die with the addresses of their instance.

use super::addresses::Claims;
use crate::config::diagnostic::Findings;
use crate::config::schema::{InstanceDecl, RouteDecl, RuleDecl};
use crate::config::section::At;
use crate::types::Family;
use ipnet::IpNet;
use std::collections::BTreeMap;

pub(super) fn check(decl: &InstanceDecl, claims: &Claims<'_>, findings: &mut Findings<'_>) {
    for route in &decl.routes {
        check_route(decl, route, claims, findings);
    }
    for rule in &decl.rules {
        check_rule(decl, rule, findings);
    }
}

fn family_of(prefix: &At<IpNet>) -> Family {
    Family::of(&prefix.value.addr())
}

/// A route or rule of a family goes with the virtual router of that family.
fn demand_router(decl: &InstanceDecl, prefix: &At<IpNet>, what: &str, findings: &mut Findings<'_>) {
    let family = family_of(prefix);
    if decl.router(family).is_none() {
        findings.error(
            &prefix.span,
            format!(
                "{what} {} is {family}, but the instance has no {family} address",
                prefix.value
            ),
            format!("move the {what} to an instance with {family} addresses, or add one here"),
        );
    }
}

fn check_route(
    decl: &InstanceDecl,
    route: &RouteDecl,
    claims: &Claims<'_>,
    findings: &mut Findings<'_>,
) {
    let family = family_of(&route.to);
    demand_router(decl, &route.to, "route", findings);
    for (what, at) in [("via", &route.via), ("src", &route.src)] {
        if let Some(at) = at
            && Family::of(&at.value) != family
        {
            findings.error(
                &at.span,
                format!(
                    "{what} {} of the {family} route {} is of the other family",
                    at.value, route.to.value
                ),
                format!("use an {family} address"),
            );
        }
    }
    if let Some(via) = &route.via
        && let Some(owner) = claims.owner(via.value, &decl.interface.value)
    {
        findings.error(
            &via.span,
            format!("via {} is a virtual address of instance {owner}", via.value),
            "use the address of a router outside the group",
        );
    }
    if let Some(src) = &route.src
        && family == Family::V4
        && src.value.is_ipv4()
        && !decl.claims(src.value)
    {
        findings.error(
            &src.span,
            format!(
                "src {} is not an address of instance {}: the route would outlive the lease",
                src.value, decl.name.value
            ),
            "use one of the addresses of the instance, or leave src out for the first of them",
        );
    }
}

fn check_rule(decl: &InstanceDecl, rule: &RuleDecl, findings: &mut Findings<'_>) {
    match (&rule.from, &rule.to) {
        (None, None) => findings.error(
            &rule.span,
            "a rule needs from or to: it would match every packet of the host",
            "add from = \"PREFIX\", for example a virtual address",
        ),
        (Some(from), Some(to)) if family_of(from) != family_of(to) => findings.error(
            &to.span,
            format!("rule from {} to {} mixes families", from.value, to.value),
            "write one rule per family",
        ),
        (Some(prefix), _) | (None, Some(prefix)) => {
            demand_router(decl, prefix, "rule", findings);
        }
    }
}

/// Two instances must not fight for one slot of the kernel.
pub(super) fn check_unique(instances: &[InstanceDecl], findings: &mut Findings<'_>) {
    let mut routes = BTreeMap::new();
    let mut rules = BTreeMap::new();
    for decl in instances {
        for route in &decl.routes {
            let key = (route.to.value, route.table, route.metric);
            if let Some(other) = routes.insert(key, &decl.name.value) {
                findings.error(
                    &route.to.span,
                    format!(
                        "route {} of table {} and metric {} exists twice: also in instance {other}",
                        key.0, key.1, key.2
                    ),
                    "give the routes different metrics or tables",
                );
            }
        }
        for rule in &decl.rules {
            let family = rule.from.as_ref().or(rule.to.as_ref()).map(family_of);
            if let Some(other) = rules.insert((family, rule.preference.value), &decl.name.value) {
                findings.error(
                    &rule.preference.span,
                    format!(
                        "preference {} is used twice: also in instance {other}",
                        rule.preference.value
                    ),
                    "give every rule of a family a preference of its own",
                );
            }
        }
    }
}
