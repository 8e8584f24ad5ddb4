//! Interfaces: name to index, and the macvlan devices of the virtual MAC and of anchors.
//!
//! Called by the worker and by clean-up. A device exists only while its router is active: a Backup's
//! device would forward what is flooded to the virtual MAC and teach switches the wrong port
//! (protocol.md 4.3). Bridge mode: adverts of the peer still reach the service interface.

use super::netlink::{Netlink, Refusal};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoMacVlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use nix::errno::Errno;
use vipd_core::types::{Family, Mac, Vrid};

/// Index of the interface called `name`; `None` when there is none.
pub(super) fn index_of(net: &mut Netlink, name: &str) -> Result<Option<u32>, Refusal> {
    let mut m = LinkMessage::default();
    m.attributes.push(LinkAttribute::IfName(name.to_owned()));
    match net.get(&RouteNetlinkMessage::GetLink(m)) {
        Ok(Some(RouteNetlinkMessage::NewLink(l))) => Ok(Some(l.header.index)),
        Ok(_) => Ok(None),
        Err(e) if e.errno == Errno::ENODEV => Ok(None),
        Err(e) => Err(e),
    }
}

/// Name of the device of one router: unique on the host, recognisable, at most 15 characters.
pub(super) fn macvlan_name(family: Family, vrid: Vrid, parent: u32) -> String {
    let digit = match family {
        Family::V4 => '4',
        Family::V6 => '6',
    };
    format!("vipd{digit}.{vrid}.{parent}")
}

/// Start of the locally administered addresses of anchors' devices, to which no host on the segment sends.
const ANCHOR_MAC: [u8; 5] = [2, b'v', b'i', b'p', b'r'];

/// Name of the device that holds the anchor of `claim = "route"`.
pub(super) fn anchor_name(vrid: Vrid, parent: u32) -> String {
    format!("vipdr.{vrid}.{parent}")
}

/// Hardware address of that device. Two devices on one parent must not share one.
pub(super) fn anchor_mac(vrid: Vrid) -> Mac {
    let [a, b, c, d, e] = ANCHOR_MAC;
    Mac([a, b, c, d, e, vrid.get()])
}

/// Is this a device that [`create_macvlan`] made?
pub(super) fn is_ours(name: &str, mac: &[u8]) -> bool {
    match name.split('.').next() {
        Some("vipdr") => mac.starts_with(&ANCHOR_MAC),
        Some("vipd4") => mac.starts_with(&[0, 0, 0x5e, 0, 1]),
        Some("vipd6") => mac.starts_with(&[0, 0, 0x5e, 0, 2]),
        _ => false,
    }
}

/// Makes the device, still down; its index. One that is there already is used.
pub(super) fn create_macvlan(
    net: &mut Netlink,
    name: &str,
    parent: u32,
    mac: Mac,
) -> Result<u32, Refusal> {
    let mut m = LinkMessage::default();
    m.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Link(parent),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
        ]),
    ];
    let there = match net.request(RouteNetlinkMessage::NewLink(m), NLM_F_CREATE | NLM_F_EXCL) {
        Err(e) if e.errno == Errno::EEXIST => true,
        other => other.map(|()| false)?,
    };
    let gone = || Refusal { errno: Errno::ENODEV, text: String::new() };
    let index = index_of(net, name)?.ok_or_else(gone)?;
    if there {
        set_mac(net, index, mac)?;
    }
    // In a message of its own, before "up": otherwise the kernel makes a link-local address from the
    // virtual MAC, the same one on every router.
    let mut m = LinkMessage::default();
    m.header.index = index;
    m.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![
        AfSpecInet6::AddrGenMode(In6AddrGenMode::None),
    ])])];
    match net.request(RouteNetlinkMessage::NewLink(m), 0) {
        // A host without IPv6 makes no link-local addresses either.
        Err(e) if e.errno != Errno::EAFNOSUPPORT => Err(e),
        _ => Ok(index),
    }
}

/// Changes the hardware address of a device.
fn set_mac(net: &mut Netlink, index: u32, mac: Mac) -> Result<(), Refusal> {
    let mut m = LinkMessage::default();
    m.header.index = index;
    m.attributes = vec![LinkAttribute::Address(mac.0.to_vec())];
    net.request(RouteNetlinkMessage::NewLink(m), 0)
}

/// Administratively up.
pub(super) fn set_up(net: &mut Netlink, index: u32) -> Result<(), Refusal> {
    set_flags(net, index, LinkFlags::Up)
}

/// Administratively up, and deaf to ARP.
pub(super) fn set_up_without_arp(net: &mut Netlink, index: u32) -> Result<(), Refusal> {
    set_flags(net, index, LinkFlags::Up | LinkFlags::Noarp)
}

fn set_flags(net: &mut Netlink, index: u32, flags: LinkFlags) -> Result<(), Refusal> {
    let mut m = LinkMessage::default();
    m.header.index = index;
    m.header.flags = flags;
    m.header.change_mask = flags;
    net.request(RouteNetlinkMessage::NewLink(m), 0)
}

/// Removes the device; one that is gone is removed.
pub(super) fn delete(net: &mut Netlink, index: u32) -> Result<(), Refusal> {
    let mut m = LinkMessage::default();
    m.header.index = index;
    match net.request(RouteNetlinkMessage::DelLink(m), 0) {
        Err(e) if e.errno != Errno::ENODEV => Err(e),
        _ => Ok(()),
    }
}

/// Index, name and hardware address of every interface.
pub(super) fn all(net: &mut Netlink) -> Result<Vec<(u32, String, Vec<u8>)>, Refusal> {
    let found = net.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(found
        .into_iter()
        .filter_map(|m| match m {
            RouteNetlinkMessage::NewLink(l) => Some(l),
            _ => None,
        })
        .map(|l| {
            let (mut name, mut mac) = (String::new(), Vec::new());
            for a in l.attributes {
                match a {
                    LinkAttribute::IfName(n) => name = n,
                    LinkAttribute::Address(m) => mac = m,
                    _ => {}
                }
            }
            (l.header.index, name, mac)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn names_fit_and_are_recognised_with_their_mac_only() {
        let vrid = Vrid::new(255).unwrap();
        let name = macvlan_name(Family::V6, vrid, 99_999);
        assert!(name.len() <= 15, "{name}");
        assert!(is_ours(&name, &Mac::virtual_router(Family::V6, vrid).0));
        assert!(!is_ours(&name, &[2, 0, 0, 0, 0, 1]));
        assert!(!is_ours("eth0", &Mac::virtual_router(Family::V6, vrid).0));
    }
}
