//! NDP frames: unsolicited neighbour advertisement of a virtual address, questions to a neighbour, and
//! its answers.
//!
//! Called by the socket edge. Frames carry their Ethernet header.

use super::checksum::Sum;
use crate::types::Mac;
use pnet::packet::Packet as _;
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::NeighborAdvertPacket;
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::util::MacAddr;
use std::net::Ipv6Addr;

/// Length of every frame made here.
pub const FRAME_LEN: usize = 86;
const IPV6_AT: usize = 14;
const ICMP_AT: usize = IPV6_AT + 40;
/// A message with one link-layer address option.
const ICMP_LEN: usize = FRAME_LEN - ICMP_AT;
/// A message without options: header, flags or reserved, target.
const FIXED_LEN: usize = 24;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 255;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Unsolicited neighbour advertisement to all nodes (RFC 9568 section 6.4.1): `addr` is at `mac` from
/// now on, override. `router`: say that this host forwards; hosts drop a default router that says no.
pub fn unsolicited_na(mac: Mac, addr: Ipv6Addr, router: bool) -> [u8; FRAME_LEN] {
    let flags = if router { ROUTER | OVERRIDE } else { OVERRIDE };
    let to = (multicast_mac(ALL_NODES), ALL_NODES);
    frame(to, (mac, addr), [ADVERTISEMENT, flags, TARGET_LINK_LAYER], addr)
}

/// Asks who holds `target`: the host at `to` alone, or all that listen to its solicited-node group.
/// `source` is an address of the asking host at `from`, and not the unspecified one: the frame carries
/// the source link-layer address.
pub fn solicitation(
    from: Mac,
    source: Ipv6Addr,
    to: Option<Mac>,
    target: Ipv6Addr,
) -> [u8; FRAME_LEN] {
    let to = match to {
        Some(mac) => (mac, target),
        None => {
            let group = solicited_node(target);
            (multicast_mac(group), group)
        }
    };
    frame(to, (from, source), [SOLICITATION, 0, SOURCE_LINK_LAYER], target)
}

/// Solicited-node group of `addr` (RFC 4291 section 2.7.1).
pub fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let low = addr.to_bits() & 0x00ff_ffff;
    Ipv6Addr::from_bits(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits() | low)
}

/// Ethernet group of an IPv6 group (RFC 2464 section 7).
fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

fn frame(
    (eth_dst, dst): (Mac, Ipv6Addr),
    (mac, src): (Mac, Ipv6Addr),
    [kind, flags, option]: [u8; 3],
    target: Ipv6Addr,
) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    if let Some(mut eth) = MutableEthernetPacket::new(&mut frame) {
        eth.set_destination(MacAddr::from(eth_dst.0));
        eth.set_source(MacAddr::from(mac.0));
        eth.set_ethertype(EtherTypes::Ipv6);
    }
    if let Some(mut ip) = MutableIpv6Packet::new(&mut frame[IPV6_AT..]) {
        ip.set_version(6);
        ip.set_payload_length(ICMP_LEN as u16);
        ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
        ip.set_hop_limit(HOP_LIMIT);
        // pnet without `std` has address types of its own: they meet as octets.
        ip.set_source(src.octets().into());
        ip.set_destination(dst.octets().into());
    }
    // The builders of pnet allocate for options and know no flags of a solicitation: plain octets.
    let icmp = &mut frame[ICMP_AT..];
    icmp[0] = kind;
    icmp[4] = flags;
    icmp[8..FIXED_LEN].copy_from_slice(&target.octets());
    icmp[FIXED_LEN] = option;
    // In units of 8 octets.
    icmp[FIXED_LEN + 1] = 1;
    icmp[FIXED_LEN + 2..].copy_from_slice(&mac.0);
    let checksum = Sum::pseudo_v6(src, dst, ICMPV6, ICMP_LEN as u32).add(icmp).checksum();
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// A neighbour advertisement of somebody.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NaSeen {
    /// The address spoken for.
    pub target: Ipv6Addr,
    /// Who holds it: the target link-layer address, or the Ethernet source where that is left out.
    pub mac: Mac,
    /// Ethernet source.
    pub eth_src: Mac,
    /// An answer to a solicitation.
    pub solicited: bool,
}

/// Reads a frame; `None`: not a neighbour advertisement that is valid by RFC 4861 section 7.1.2 (hop
/// limit 255, checksum, unicast target, no option of length 0, multicast only unsolicited).
pub fn parse(frame: &[u8]) -> Option<NaSeen> {
    let eth = EthernetPacket::new(frame).filter(|e| e.get_ethertype() == EtherTypes::Ipv6)?;
    let ip = Ipv6Packet::new(eth.payload())?;
    if ip.get_version() != 6
        || ip.get_next_header() != IpNextHeaderProtocols::Icmpv6
        || ip.get_hop_limit() != HOP_LIMIT
    {
        return None;
    }
    let src = Ipv6Addr::from(ip.get_source().octets());
    let dst = Ipv6Addr::from(ip.get_destination().octets());
    let len = ip.get_payload_length();
    let icmp = frame.get(ICMP_AT..)?.get(..usize::from(len))?;
    let na = NeighborAdvertPacket::new(icmp)?;
    let target = Ipv6Addr::from(na.get_target_addr().octets());
    let solicited = na.get_flags() & SOLICITED != 0;
    if na.get_icmpv6_type().0 != ADVERTISEMENT
        || na.get_icmpv6_code().0 != 0
        || !Sum::pseudo_v6(src, dst, ICMPV6, u32::from(len)).add(icmp).is_valid()
        || target.is_multicast()
        || (dst.is_multicast() && solicited)
    {
        return None;
    }
    let eth_src = Mac(eth.get_source().octets());
    let mac = target_link_layer(icmp.get(FIXED_LEN..)?)?.unwrap_or(eth_src);
    Some(NaSeen { target, mac, eth_src, solicited })
}

/// The target link-layer address among `options`; outer `None`: an option is malformed.
fn target_link_layer(mut options: &[u8]) -> Option<Option<Mac>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let (option, rest) = options.split_at_checked(usize::from(units) * 8)?;
        let [_, _, a, b, c, d, e, f, ..] = *option else { return None };
        if kind == TARGET_LINK_LAYER && found.is_none() {
            found = Some(Mac([a, b, c, d, e, f]));
        }
        options = rest;
    }
    options.is_empty().then_some(found)
}
