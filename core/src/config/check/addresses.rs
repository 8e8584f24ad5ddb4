//! Virtual addresses: each in one instance, none of them a host's own, and the advert that holds them.

use crate::config::diagnostic::Findings;
use crate::config::schema::{File, InstanceDecl};
use crate::config::section::{At, Span};
use crate::types::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Frame size that every network carries.
const MTU: usize = 1500;
/// Largest count of addresses in an advert (RFC 9568 section 5.2.5).
const COUNT_MAX: usize = 255;
/// Octets of the HMAC trailer (draft-cassen-vrrp-auth-hmac).
const TRAILER: usize = 28;

/// Where an address lives: link-local ones on their interface, others everywhere.
type Place<'f> = (IpAddr, Option<&'f str>);

/// Every virtual address of the file.
pub(super) struct Claims<'f>(BTreeMap<Place<'f>, (&'f Arc<str>, &'f Span)>);

impl<'f> Claims<'f> {
    /// Collects them; reports those that are there twice.
    pub(super) fn collect(file: &'f File, findings: &mut Findings<'_>) -> Self {
        let mut claims = Self(BTreeMap::new());
        // One finding per range and instance, not one per address of the range.
        let mut told: BTreeSet<(usize, &str)> = BTreeSet::new();
        for (_, instances) in file.by_host() {
            for decl in instances {
                let name = &decl.name.value;
                let mut own = BTreeSet::new();
                for vip in decl.claimed() {
                    let addr = vip.value.addr;
                    if !own.insert(addr) {
                        if told.insert((vip.span.start, name)) {
                            findings.error(
                                &vip.span,
                                format!("{addr} is twice in instance {name}"),
                                "remove one of the two",
                            );
                        }
                        continue;
                    }
                    let place = place(addr, &decl.interface.value);
                    let (other, span) = *claims.0.entry(place).or_insert((name, &vip.span));
                    if other != name && told.insert((vip.span.start, other)) {
                        findings.error(
                            &vip.span,
                            format!(
                                "{addr} is also in instance {other} (line {})",
                                findings.line_of(span.start)
                            ),
                            "an address moves with one instance: remove it from one of the two",
                        );
                    }
                }
            }
        }
        claims
    }

    /// The instance that claims `addr`, as seen on `interface`.
    pub(super) fn owner(&self, addr: IpAddr, interface: &str) -> Option<&Arc<str>> {
        self.0.get(&place(addr, interface)).map(|(name, _)| *name)
    }
}

fn place(addr: IpAddr, interface: &str) -> Place<'_> {
    (addr, is_link_local(addr).then_some(interface))
}

/// True for fe80::/10: an address that means something on one interface only.
pub(super) fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The addresses of one instance as one host sees it.
pub(super) fn check(
    decl: &InstanceDecl,
    claims: &Claims<'_>,
    file: &File,
    findings: &mut Findings<'_>,
) {
    refuse_host_addresses(decl, file, findings);
    for family in Family::ALL {
        check_size(decl, family, findings);
    }
    check_unadvertised(decl, findings);
    check_first_ipv6(decl, findings);
    check_targets(decl, claims, file, findings);
}

fn refuse_host_addresses(decl: &InstanceDecl, file: &File, findings: &mut Findings<'_>) {
    for host in &file.hosts {
        for path in &host.paths.value {
            if let Some(vip) = decl.claimed().find(|vip| vip.value.addr == path.value) {
                findings.error(
                    &vip.span,
                    format!(
                        "{} is a heartbeat path of host {}: that address stays, a virtual one moves",
                        path.value, host.name.value
                    ),
                    "use an address that no host has for itself",
                );
            }
        }
    }
}

/// The advert must fit its count field and one frame: fragments are refused (RFC 9568 knows none).
fn check_size(decl: &InstanceDecl, family: Family, findings: &mut Findings<'_>) {
    let count = decl.addresses.value.iter().filter(|vip| vip.value.family() == family).count();
    let trailer = if decl.hmac.is_some() { TRAILER } else { 0 };
    let (ip_header, header, each) = match family {
        // Version 2 ends with eight octets of authentication data.
        Family::V4 if decl.version.value.get() == 2 => (20, 16, 4),
        Family::V4 => (20, 8, 4),
        Family::V6 => (40, 8, 16),
    };
    let limit = COUNT_MAX.min((MTU - ip_header - header - trailer) / each);
    if count > limit {
        findings.error(
            &decl.addresses.span,
            format!("{count} {family} addresses; one advert holds {limit} (MTU {MTU})"),
            format!("move {} of them to unadvertised, or into another instance", count - limit),
        );
    }
}

fn check_unadvertised(decl: &InstanceDecl, findings: &mut Findings<'_>) {
    for family in Family::ALL {
        if decl.router(family).is_some() {
            continue;
        }
        let orphan = decl.unadvertised.iter().find(|vip| vip.value.family() == family);
        if let Some(vip) = orphan {
            findings.error(
                &vip.span,
                format!(
                    "{} is {family}, but addresses has no {family} one: there is no virtual router that would hold it",
                    vip.value.addr
                ),
                format!("put at least one {family} address into addresses"),
            );
        }
    }
}

/// RFC 9568 section 5.2.9; peers that are not strict accept other lists, and keepalived sends them.
fn check_first_ipv6(decl: &InstanceDecl, findings: &mut Findings<'_>) {
    let Some(first) = decl.router(Family::V6) else { return };
    if is_link_local(first.value.addr) {
        return;
    }
    let message = format!(
        "the first IPv6 address, {}, is not link-local (RFC 9568 section 5.2.9)",
        first.value.addr
    );
    let help = "begin the IPv6 addresses with a link-local one, for example \"fe80::10/64\"";
    if decl.strict.value {
        findings.error(&first.span, message + ": strict hosts refuse such adverts", help);
    } else {
        findings.warning(&first.span, message + ": strict peers refuse such adverts", help);
    }
}

/// A gate on an address of its own proves nothing.
fn check_targets(
    decl: &InstanceDecl,
    claims: &Claims<'_>,
    file: &File,
    findings: &mut Findings<'_>,
) {
    let is_path = |target: &At<IpAddr>| {
        file.hosts.iter().find(|h| h.paths.value.iter().any(|p| p.value == target.value))
    };
    for target in &decl.targets {
        if let Some(owner) = claims.owner(target.value, &decl.interface.value) {
            findings.error(
                &target.span,
                format!("target {} is a virtual address of instance {owner}: a gate on an address of its own", target.value),
                "use the address of a gateway, switch or server that does not move with vipd",
            );
        } else if let Some(host) = is_path(target) {
            findings.warning(
                &target.span,
                format!(
                    "target {} is host {} itself: it says nothing about the segment",
                    target.value, host.name.value
                ),
                "use the address of a gateway, switch or server outside the group",
            );
        }
    }
}
