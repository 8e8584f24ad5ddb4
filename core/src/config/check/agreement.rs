//! What the hosts of one instance must have in common, where per-host tables let it differ.

use crate::config::diagnostic::Findings;
use crate::config::model::HmacMode;
use crate::config::schema::{HostDecl, InstanceDecl};
use crate::config::section::{At, Span};
use crate::types::{Family, Version, Vip};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn check(views: &[(&HostDecl, &InstanceDecl)], findings: &mut Findings<'_>) {
    let Some(((first_host, first), others)) = views.split_first() else { return };
    for (host, decl) in others {
        let pair = (*first_host, *host);
        if first.vrid.value != decl.vrid.value {
            refuse("vrid", &decl.vrid.span, pair, "they would not hear each other", findings);
        }
        if first.version.value != decl.version.value {
            refuse("version", &decl.version.span, pair, "they would not hear each other", findings);
        }
        if values(&first.addresses.value) != values(&decl.addresses.value) {
            let why = "receivers compare the list in the advert with their own";
            refuse("addresses", &decl.addresses.span, pair, why, findings);
        }
        if values(&first.unadvertised) != values(&decl.unadvertised) {
            let span = decl.unadvertised.first().map_or(&decl.name.span, |vip| &vip.span);
            refuse("unadvertised", span, pair, "an address would be lost in a move", findings);
        }
        if first.simple_text.as_ref().map(|p| p.value) != decl.simple_text.as_ref().map(|p| p.value)
        {
            let span = decl.simple_text.as_ref().map_or(&decl.name.span, |p| &p.span);
            refuse("simple-text", span, pair, "they would not hear each other", findings);
        }
        check_interval(pair, first, decl, findings);
    }
    check_sources(views, findings);
    for (at, (host, decl)) in views.iter().enumerate() {
        for (_, (peer, other)) in views.iter().enumerate().filter(|(other, _)| *other != at) {
            check_hmac((host, decl), (peer, other), findings);
            check_peers((host, decl), (peer, other), findings);
        }
    }
}

/// Hosts are told apart by the source of their adverts.
fn check_sources(views: &[(&HostDecl, &InstanceDecl)], findings: &mut Findings<'_>) {
    let mut seen: BTreeMap<IpAddr, &HostDecl> = BTreeMap::new();
    for (host, decl) in views {
        for source in &decl.source {
            let Some(other) = seen.insert(source.value, host) else { continue };
            if other.name.value != host.name.value {
                findings.error(
                    &source.span,
                    format!(
                        "{} and {} have the same source {}",
                        other.name.value, host.name.value, source.value
                    ),
                    format!(
                        "write a table by host: source = {{ {} = \"...\", {} = \"...\" }}",
                        other.name.value, host.name.value
                    ),
                );
            }
        }
    }
}

/// `host` must send to `peer`, and must know which of a common list it is itself.
fn check_peers(
    (host, decl): (&HostDecl, &InstanceDecl),
    (peer, other): (&HostDecl, &InstanceDecl),
    findings: &mut Findings<'_>,
) {
    let (Some(mine), Some(theirs)) = (&decl.unicast_peers, &other.unicast_peers) else { return };
    let names = |addr: IpAddr| mine.value.iter().any(|p| p.value == addr);
    let own = host.paths.value.iter().chain(&decl.source).any(|at| names(at.value));
    if mine.span == theirs.span && !own {
        findings.warning(
            &mine.span,
            format!("nothing tells which of unicast-peers is {} itself", host.name.value),
            "give every host paths or a source, or write unicast-peers as a table by host",
        );
    }
    for source in &other.source {
        let family = Family::of(&source.value);
        if decl.router(family).is_some() && !names(source.value) {
            findings.warning(
                &mine.span,
                format!(
                    "{} does not send to {}, the source of {}",
                    host.name.value, source.value, peer.name.value
                ),
                format!("add \"{}\" to unicast-peers", source.value),
            );
        }
    }
}

/// Reports that `what` differs between two hosts where it must not.
fn refuse(
    what: &str,
    span: &Span,
    (first, second): (&HostDecl, &HostDecl),
    why: &str,
    findings: &mut Findings<'_>,
) {
    findings.error(
        span,
        format!("{what} differs between {} and {}: {why}", first.name.value, second.name.value),
        format!("write one {what} for all hosts"),
    );
}

fn values(list: &[At<Vip>]) -> impl PartialEq + use<'_> {
    list.iter().map(|vip| vip.value).collect::<Vec<_>>()
}

/// Version 2 discards adverts with another interval (RFC 3768 section 7.1), version 3 adopts it.
fn check_interval(
    pair: (&HostDecl, &HostDecl),
    first: &InstanceDecl,
    decl: &InstanceDecl,
    findings: &mut Findings<'_>,
) {
    if first.interval.value == decl.interval.value {
        return;
    }
    match decl.version.value {
        Version::V2 => {
            let why = "version 2 discards adverts with another interval";
            refuse("advert-interval", &decl.interval.span, pair, why, findings);
        }
        Version::V3 => findings.warning(
            &decl.interval.span,
            format!(
                "advert-interval differs between {} and {}: failures are detected at the owner's pace",
                pair.0.name.value, pair.1.name.value
            ),
            "write one advert-interval for all hosts",
        ),
    }
}

/// What `host` sends must be verifiable by `peer`, and what `host` requires must be sent by `peer`.
fn check_hmac(
    (host, decl): (&HostDecl, &InstanceDecl),
    (peer, other): (&HostDecl, &InstanceDecl),
    findings: &mut Findings<'_>,
) {
    let (Some(mine), Some(theirs)) = (&decl.hmac, &other.hmac) else { return };
    if mine.mode == HmacMode::Enforce && theirs.mode == HmacMode::ReceiveOnly {
        findings.error(
            &theirs.span,
            format!(
                "{} requires the trailer (enforce), {} sends none (receive-only)",
                host.name.value, peer.name.value
            ),
            "roll out in steps: every host permissive before the first one enforces",
        );
    }
    let Some(id) = mine.active_key() else { return };
    if mine.mode != HmacMode::ReceiveOnly && !theirs.keys.iter().any(|(k, _)| k.value == id) {
        let span = mine.active_key.as_ref().map_or(&mine.span, |active| &active.span);
        findings.error(
            span,
            format!(
                "{} signs with key {id}, which {} does not have",
                host.name.value, peer.name.value
            ),
            format!("give every host key {id} before one signs with it"),
        );
    }
}
