//! Kernel settings and routes that eat what vipd or its clients send.

use super::{Finding, Patient, interface_of};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// `net.ipv4.conf` as it counts for an interface: the larger of `all` and its own value.
fn effective(patient: &Patient, link: &str, key: &str) -> Option<u32> {
    let of = |scope: &str| {
        patient.read(&format!("proc/sys/net/ipv4/conf/{scope}/{key}"))?.parse::<u32>().ok()
    };
    Some(of("all")?.max(of(link)?))
}

/// Looks at every service interface.
pub(super) fn probe(patient: &Patient) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(model) = patient.model() else { return found };
    for link in patient.links() {
        let plain = model.instances.iter().any(|i| {
            let on = model.links.get(usize::from(i.link.0)).is_some_and(|l| *l.name == *link);
            on && !i.virtual_mac && i.claimed().any(|vip| vip.addr.is_ipv4())
        });
        if let Some(ignore @ (2 | 3 | 8)) = effective(patient, link, "arp_ignore")
            && plain
        {
            let why = match ignore {
                2 => {
                    "only neighbours in the subnet of the address are answered, and a claimed address is a /32"
                }
                3 => "addresses of scope host are not answered",
                _ => "nobody is answered",
            };
            found.push(
                Finding::problem(
                    "settings",
                    format!("{link} does not answer ARP for a claimed address: {why}"),
                )
                .seen(format!("arp_ignore is {ignore} for {link} or for all"))
                .fix(format!(
                    "sysctl -w net.ipv4.conf.{link}.arp_ignore=1 net.ipv4.conf.all.arp_ignore=1"
                )),
            );
        }
        if patient.read(&format!("proc/sys/net/ipv6/conf/{link}/disable_ipv6")).as_deref()
            == Some("1")
        {
            let v6 = model.instances.iter().any(|i| {
                let on = model.links.get(usize::from(i.link.0)).is_some_and(|l| *l.name == *link);
                on && i.claimed().any(|vip| vip.addr.is_ipv6())
            });
            if v6 {
                found.push(
                    Finding::problem("settings", format!("IPv6 is off on {link}"))
                        .seen(format!("net.ipv6.conf.{link}.disable_ipv6 = 1"))
                        .fix(format!("sysctl -w net.ipv6.conf.{link}.disable_ipv6=0")),
                );
            }
        }
    }
    found
}

/// Peers that the kernel would answer by another interface than the one on which they are heard: with a strict
/// `rp_filter` it drops what they send there.
pub(super) fn routes(patient: &Patient) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(model) = patient.model() else { return found };
    for (mine, theirs, host) in super::paths(model) {
        let Some(leaves) = source_to(theirs).filter(|leaves| *leaves != mine) else { continue };
        let strict = interface_of(mine)
            .and_then(|link| effective(patient, &link, "rp_filter").map(|value| (link, value)));
        let (consequence, fix) = match &strict {
            Some((link, 1)) if mine.is_ipv4() => (
                format!("heartbeats of {} over {theirs} are dropped on {link}", host),
                format!("sysctl -w net.ipv4.conf.{link}.rp_filter=2 (and all, if that is 1)"),
            ),
            _ => (
                format!("answers to {} over {theirs} take another way than asked", host),
                format!(
                    "give {mine} and {theirs} a network of their own, or a route by that interface"
                ),
            ),
        };
        found.push(
            Finding::problem("routes", consequence)
                .seen(format!(
                    "the route to {theirs} leaves with {leaves}, not with {mine}{}",
                    strict.map_or_else(String::new, |(link, value)| format!(
                        "; rp_filter of {link} is {value}"
                    ))
                ))
                .fix(fix),
        );
    }
    found
}

/// The source address that the kernel takes towards `to`. Nothing is sent.
fn source_to(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
