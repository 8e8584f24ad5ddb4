//! What this machine has: its way to the world, and its addresses. Reads only.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};

/// The interface of the IPv4 default route, if there is one.
pub(super) fn default_interface() -> Option<String> {
    let table = fs::read_to_string("/proc/net/route").ok()?;
    // Interface, destination, gateway, flags ...
    let is_default = |line: &&str| line.split_whitespace().nth(1) == Some("00000000");
    let line = table.lines().skip(1).find(is_default)?;
    line.split_whitespace().next().map(str::to_owned)
}

/// The addresses of an interface that are no link-local ones, with their prefix lengths, IPv4 first.
pub(super) fn addresses_of(interface: &str) -> Vec<(IpAddr, u8)> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in all.filter(|entry| entry.interface_name == interface) {
        let (Some(address), Some(mask)) = (entry.address, entry.netmask) else { continue };
        if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            let length = u32::from(mask.ip()).count_ones();
            found.push((IpAddr::V4(address.ip()), length));
        } else if let (Some(address), Some(mask)) =
            (address.as_sockaddr_in6(), mask.as_sockaddr_in6())
        {
            let ip: Ipv6Addr = address.ip();
            if !ip.is_unicast_link_local() {
                found.push((IpAddr::V6(ip), u128::from(mask.ip()).count_ones()));
            }
        }
    }
    found.sort_by_key(|(ip, _)| ip.is_ipv6());
    found.into_iter().filter_map(|(ip, length)| Some((ip, u8::try_from(length).ok()?))).collect()
}
