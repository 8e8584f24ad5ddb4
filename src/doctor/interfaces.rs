//! Service interfaces: there, up, wide enough for an advert.

use super::{Finding, Patient};
use vipd_core::config::model::{Auth, Instance};
use vipd_core::types::Family;
use vipd_core::wire::{auth, ip, vrrp};

/// Octets of an IPv6 header.
const IPV6_HEADER: usize = 40;

/// Looks at every service interface.
pub(super) fn probe(patient: &Patient) -> Vec<Finding> {
    let Some(model) = patient.model() else { return Vec::new() };
    let mut found = Vec::new();
    for instance in &model.instances {
        let Some(link) = model.links.get(usize::from(instance.link.0)) else { continue };
        let name = &link.name;
        let of = |file: &str| patient.read(&format!("sys/class/net/{name}/{file}"));
        let Some(mtu) = of("mtu").and_then(|text| text.parse::<usize>().ok()) else {
            found.push(
                Finding::problem("interfaces", format!("{name} does not exist"))
                    .seen(format!("instance {} wants it", instance.name))
                    .fix("make the interface, or name another one in the configuration"),
            );
            continue;
        };
        if of("carrier").as_deref() != Some("1") {
            found.push(
                Finding::problem("interfaces", format!("{name} is down or without carrier"))
                    .seen(format!("/sys/class/net/{name}/carrier"))
                    .fix(format!("ip link set {name} up; then cable, switch port, bond")),
            );
        }
        for family in instance.families() {
            let needs = advert_len(instance, family);
            if needs > mtu {
                found.push(
                    Finding::problem(
                        "interfaces",
                        format!("an advert of {} does not fit {name}", instance.name),
                    )
                    .seen(format!("{needs} octets, the MTU is {mtu}"))
                    .fix(
                        "raise the MTU, or move addresses to `unadvertised` or to another instance",
                    ),
                );
            }
        }
    }
    found
}

/// Octets of an advert with its IP header.
fn advert_len(instance: &Instance, family: Family) -> usize {
    let count = instance.advertised(family).count();
    let trailer = if matches!(instance.auth, Auth::Hmac(_)) { auth::TRAILER_LEN } else { 0 };
    let header = match family {
        Family::V4 => ip::HEADER_LEN,
        Family::V6 => IPV6_HEADER,
    };
    header + vrrp::message_len(instance.version_in(family), family, count) + trailer
}
