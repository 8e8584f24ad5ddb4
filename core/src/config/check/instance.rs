//! One instance as one host sees it: versions, authentication, ways of claiming; and VRIDs per interface.

use crate::config::diagnostic::Findings;
use crate::config::model::{Claim, OnConflict};
use crate::config::schema::{HmacDecl, InstanceDecl};
use crate::time::Duration;
use crate::types::{Family, Version};
use std::collections::BTreeMap;

/// Below this interval the agent cannot be back within 3T after a crash (DESIGN 5.7).
const CRASH_PROOF_INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn check(decl: &InstanceDecl, heartbeats: bool, findings: &mut Findings<'_>) {
    check_version(decl, findings);
    check_timing(decl, findings);
    check_claim(decl, findings);
    if let Some(hmac) = &decl.hmac {
        check_hmac(hmac, findings);
    }
    if !heartbeats {
        check_without_heartbeats(decl, findings);
    }
}

fn check_version(decl: &InstanceDecl, findings: &mut Findings<'_>) {
    let is_v2 = decl.version.value == Version::V2;
    if is_v2 && let Some(vip) = decl.claimed().find(|vip| vip.value.family() == Family::V6) {
        findings.error(
            &vip.span,
            format!("{} in an instance of version 2, which knows IPv4 only", vip.value.addr),
            "use version = 3, or put the IPv6 addresses into an instance of their own",
        );
    }
    if let Some(password) = &decl.simple_text {
        if !is_v2 {
            findings.error(
                &password.span,
                "simple-text exists in version 2 only",
                "use [instance.NAME.hmac], which protects; or version = 2 for peers that need the password",
            );
        }
        if decl.hmac.is_some() {
            findings.error(
                &password.span,
                "simple-text and hmac in one instance",
                "keep hmac; simple-text travels readable and protects nothing",
            );
        }
    }
    if let Some(checksum) = &decl.checksum
        && (is_v2 || decl.router(Family::V4).is_none())
    {
        findings.warning(
            &checksum.span,
            "checksum has no effect: it is about version 3 over IPv4",
            "remove checksum",
        );
    }
}

fn check_timing(decl: &InstanceDecl, findings: &mut Findings<'_>) {
    if decl.interval.value.duration() < CRASH_PROOF_INTERVAL {
        findings.warning(
            &decl.interval.span,
            format!(
                "with an interval of {} a crash of the agent moves the address: \"a crash moves nothing\" holds from 250ms up",
                decl.interval.value
            ),
            "advert-interval = \"250ms\" or longer, unless fast detection matters more",
        );
    }
    if let Some(delay) = &decl.preempt_delay
        && !decl.preempt.value
    {
        findings.warning(
            &delay.span,
            "preempt-delay has no effect: preempt is false",
            "remove preempt-delay, or preempt = false",
        );
    }
}

fn check_claim(decl: &InstanceDecl, findings: &mut Findings<'_>) {
    if decl.virtual_mac.value && decl.unicast_peers.is_some() {
        findings.error(
            &decl.virtual_mac.span,
            "virtual-mac with unicast-peers: switches learn the virtual MAC from multicast adverts",
            "remove virtual-mac or unicast-peers",
        );
    }
    if decl.claim.value != Claim::Route {
        return;
    }
    if let Some(vip) = decl.claimed().find(|vip| vip.value.family() == Family::V6) {
        findings.error(
            &decl.claim.span,
            format!("claim = \"route\" is for IPv4, and the instance has {}", vip.value.addr),
            "use claim = \"address\", or put the IPv6 addresses into an instance of their own",
        );
    }
    if decl.virtual_mac.value {
        findings.error(
            &decl.claim.span,
            "claim = \"route\" with virtual-mac: the macvlan answers ARP for its own addresses only (arp_ignore)",
            "use claim = \"address\", or remove virtual-mac",
        );
    }
}

fn check_hmac(hmac: &HmacDecl, findings: &mut Findings<'_>) {
    let ids =
        || hmac.keys.iter().map(|(id, _)| id.value.to_string()).collect::<Vec<_>>().join(", ");
    match &hmac.active_key {
        Some(active) if !hmac.keys.iter().any(|(id, _)| id.value == active.value) => {
            findings.error(
                &active.span,
                format!("active-key {} is not among the keys: {}", active.value, ids()),
                format!(
                    "add \"{}\" = \"/path\" to keys, or choose one of: {}",
                    active.value,
                    ids()
                ),
            );
        }
        None if hmac.keys.is_empty() && !findings.has_errors() => {
            findings.error(&hmac.span, "hmac has no keys", "add keys = { \"1\" = \"/path\" }");
        }
        None if hmac.keys.len() > 1 => findings.error(
            &hmac.span,
            format!("hmac has the keys {}, but no active-key", ids()),
            "say which key signs: active-key = ID",
        ),
        _ => {}
    }
}

/// Settings that live from what heartbeats tell.
fn check_without_heartbeats(decl: &InstanceDecl, findings: &mut Findings<'_>) {
    let help = "add paths to every [hosts.NAME], or remove the setting";
    if let Some(fate) = &decl.shared_fate
        && fate.value
    {
        findings.error(
            &fate.span,
            "fate = \"shared\" needs heartbeats: no host has paths, and plain VRRP runs each family by itself",
            "add paths to every [hosts.NAME], or fate = \"independent\"",
        );
    }
    if let Some(wait) = &decl.stale_holder_wait
        && wait.value
    {
        let message = "stale-holder-wait has no effect: without heartbeats the hardware addresses of peers are not known";
        findings.warning(&wait.span, message, help);
    }
    if let Some(conflict) = &decl.on_conflict
        && conflict.value == OnConflict::Refuse
    {
        let message =
            "on-conflict = \"refuse\" has no effect: the question before a claim needs heartbeats";
        findings.warning(&conflict.span, message, help);
    }
    if let Some(target) = decl.targets.first() {
        findings.warning(
            &target.span,
            "targets have no effect: hosts compare what they reach over heartbeats",
            help,
        );
    }
}

/// A VRID is used once per interface and family of a host (RFC 9568 section 1).
pub(super) fn check_vrids(instances: &[InstanceDecl], findings: &mut Findings<'_>) {
    let mut seen: BTreeMap<_, &InstanceDecl> = BTreeMap::new();
    for decl in instances {
        for family in Family::ALL.into_iter().filter(|f| decl.router(*f).is_some()) {
            let key = (&decl.interface.value, family, decl.vrid.value);
            let Some(other) = seen.insert(key, decl) else { continue };
            findings.error(
                &decl.vrid.span,
                format!(
                    "vrid {} is used twice for {family} on {}: also by instance {} (line {})",
                    decl.vrid.value,
                    decl.interface.value,
                    other.name.value,
                    findings.line_of(other.vrid.span.start)
                ),
                "give every instance on an interface a vrid of its own",
            );
        }
    }
}
