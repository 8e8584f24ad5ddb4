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
    let checksum = Sum::pseudo_v6(src, dst, ICMPV6, ICMP_LEN as u32).with(icmp).checksum();
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
        || !Sum::pseudo_v6(src, dst, ICMPV6, u32::from(len)).with(icmp).is_valid()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const VMAC: Mac = Mac([0, 0, 0x5e, 0, 2, 10]);
    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const ME: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|o| format!("{o:02x}")).collect()
    }

    /// `frame` with its ICMPv6 checksum made right again.
    fn resummed(mut frame: Vec<u8>) -> Vec<u8> {
        let address = |at: usize| Ipv6Addr::from(*frame[at..].first_chunk::<16>().unwrap());
        let pseudo = Sum::pseudo_v6(address(22), address(38), ICMPV6, ICMP_LEN as u32);
        frame[ICMP_AT + 2..ICMP_AT + 4].fill(0);
        let sum = pseudo.with(&frame[ICMP_AT..FRAME_LEN]).checksum();
        frame[ICMP_AT + 2..ICMP_AT + 4].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// An answer of `PEER` to a question of ours.
    fn answer() -> Vec<u8> {
        let to = (US, ME);
        let flags = SOLICITED | OVERRIDE;
        frame(to, (PEER, VIP), [ADVERTISEMENT, flags, TARGET_LINK_LAYER], VIP).to_vec()
    }

    #[test]
    fn unsolicited_na_octet_for_octet() {
        assert_eq!(
            hex(&unsolicited_na(VMAC, VIP, true)),
            "33330000000100005e00020a86dd6000000000203aff\
             20010db8000000000000000000000001ff020000000000000000000000000001\
             88001b21a000000020010db8000000000000000000000001020100005e00020a"
        );
        let host = unsolicited_na(VMAC, VIP, false);
        assert_eq!(host[58], OVERRIDE);
        assert!(parse(&host).is_some());
    }

    #[test]
    fn a_solicitation_goes_to_one_host_or_to_the_solicited_node_group() {
        let one = solicitation(US, ME, Some(PEER), VIP);
        assert_eq!(one[..6], PEER.0);
        assert_eq!(one[38..54], VIP.octets());
        let all = solicitation(US, ME, None, VIP);
        assert_eq!(all[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
        let group: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
        assert_eq!(all[38..54], group.octets());
        for frame in [one, all] {
            assert_eq!(frame[6..12], US.0);
            assert_eq!(frame[22..38], ME.octets());
            assert_eq!((frame[21], frame[54], frame[58]), (255, 135, 0));
            assert_eq!(frame[62..78], VIP.octets());
            assert_eq!(frame[78..], [1, 1, 2, 0, 0, 0, 0, 1]);
            assert_eq!(resummed(frame.to_vec()), frame, "checksum");
            assert_eq!(parse(&frame), None, "no advertisement");
        }
    }

    #[test]
    fn advertisements_are_read() {
        let seen = NaSeen { target: VIP, mac: PEER, eth_src: PEER, solicited: true };
        assert_eq!(parse(&answer()), Some(seen));
        let mut padded = answer();
        padded.extend([0; 4]);
        assert_eq!(parse(&padded), Some(seen));
        let announced = NaSeen { target: VIP, mac: VMAC, eth_src: VMAC, solicited: false };
        assert_eq!(parse(&unsolicited_na(VMAC, VIP, true)), Some(announced));
    }

    #[test]
    fn without_the_option_the_ethernet_source_speaks() {
        let mut other = answer();
        // An option of another kind.
        other[78] = 14;
        other[80..].copy_from_slice(&[9; 6]);
        let seen = parse(&resummed(other)).unwrap();
        assert_eq!(seen.mac, PEER);
    }

    #[test]
    fn what_rfc_4861_forbids_is_not_read() {
        // Ethernet type, version, next header, hop limit, type, code, target, option length.
        for (at, octet) in [
            (13, 0),
            (14, 0x40),
            (20, 17),
            (21, 254),
            (54, 135),
            (55, 1),
            (62, 0xff),
            (79, 0),
            (79, 2),
        ] {
            let mut frame = answer();
            frame[at] = octet;
            assert_eq!(parse(&resummed(frame)), None, "octet {at}");
        }
        let mut sum = answer();
        sum[57] ^= 1;
        assert_eq!(parse(&sum), None);
        // Solicited, to a group.
        let mut group = unsolicited_na(VMAC, VIP, true).to_vec();
        group[58] |= SOLICITED;
        assert_eq!(parse(&resummed(group)), None);
        let good = answer();
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len]), None, "length {len}");
        }
    }
}
