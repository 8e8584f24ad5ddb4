//! Where adverts come from and go to: source addresses and unicast peers.

use super::addresses::{Claims, is_link_local};
use crate::config::diagnostic::Findings;
use crate::config::schema::{HostDecl, InstanceDecl};
use crate::config::section::At;
use crate::types::Family;
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) fn check(
    decl: &InstanceDecl,
    host: &HostDecl,
    claims: &Claims<'_>,
    findings: &mut Findings<'_>,
) {
    check_source(decl, claims, findings);
    if let Some(peers) = &decl.unicast_peers {
        check_peers(decl, host, peers, claims, findings);
    }
}

fn check_source(decl: &InstanceDecl, claims: &Claims<'_>, findings: &mut Findings<'_>) {
    let mut families = BTreeSet::new();
    for source in &decl.source {
        let addr = source.value;
        let family = Family::of(&addr);
        if !families.insert(family) {
            findings.error(
                &source.span,
                format!("source has two {family} addresses"),
                "give one address per family",
            );
        }
        if decl.router(family).is_none() {
            findings.warning(
                &source.span,
                format!("source {addr} has no effect: the instance has no {family} address"),
                "remove it",
            );
        }
        if let Some(owner) = claims.owner(addr, &decl.interface.value)
            && !decl.priority.value.is_owner()
        {
            findings.error(
                &source.span,
                format!("source {addr} is a virtual address of instance {owner}"),
                "adverts come from an address that stays on the host",
            );
        }
        if family == Family::V6 && decl.unicast_peers.is_none() && !is_link_local(addr) {
            findings.error(
                &source.span,
                format!("source {addr} is not link-local (RFC 9568 section 5.1.2.1)"),
                "use the link-local address of the interface, or unicast-peers",
            );
        }
    }
}

fn check_peers(
    decl: &InstanceDecl,
    host: &HostDecl,
    peers: &At<Vec<At<IpAddr>>>,
    claims: &Claims<'_>,
    findings: &mut Findings<'_>,
) {
    let mut seen = BTreeSet::new();
    for peer in &peers.value {
        let addr = peer.value;
        let family = Family::of(&addr);
        if !seen.insert(addr) {
            findings.error(
                &peer.span,
                format!("{addr} is twice in unicast-peers"),
                "remove one of the two",
            );
        }
        if decl.router(family).is_none() {
            findings.error(
                &peer.span,
                format!("peer {addr} is {family}, but the instance has no {family} address"),
                format!("remove the peer, or add {family} addresses"),
            );
        }
        if let Some(owner) = claims.owner(addr, &decl.interface.value) {
            findings.error(
                &peer.span,
                format!("peer {addr} is a virtual address of instance {owner}"),
                "use an address that stays on the peer",
            );
        }
    }
    // An empty list, or one whose elements were refused, is reported already.
    if peers.value.is_empty() {
        return;
    }
    let own = || host.paths.value.iter().chain(&decl.source).map(|at| at.value);
    for family in Family::ALL.into_iter().filter(|f| decl.router(*f).is_some()) {
        let others = peers.value.iter().map(|p| p.value).filter(|p| Family::of(p) == family);
        if others.filter(|p| !own().any(|o| o == *p)).count() == 0 {
            findings.error(
                &peers.span,
                format!(
                    "unicast-peers has no {family} address of another host than {}",
                    host.name.value
                ),
                format!("add the {family} address of each other host"),
            );
        }
    }
}
