//! ARP frames: gratuitous ARP of a virtual address, questions to a neighbour, and what neighbours say.
//!
//! Called by the socket edge. Frames carry their Ethernet header.

use crate::types::Mac;
use pnet::packet::Packet as _;
use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::util::MacAddr;
use std::net::Ipv4Addr;

/// Length of every frame made here; shorter than the Ethernet minimum, which the device pads to.
pub const FRAME_LEN: usize = 42;

/// Gratuitous ARP (RFC 9568 section 8.1.2, erratum 7947): a broadcast request with sender and target
/// both `addr` at `mac`. The target hardware address is `mac` too, because some receivers take that as
/// leave to overwrite a fresh entry.
pub fn gratuitous(mac: Mac, addr: Ipv4Addr) -> [u8; FRAME_LEN] {
    request(Mac::BROADCAST, mac, addr, mac, addr)
}

/// Asks the host at `to` alone whether it holds `addr`. The sender address is 0.0.0.0 (an RFC 5227
/// probe): the answer tells, and nobody's neighbour table changes.
pub fn probe(from: Mac, to: Mac, addr: Ipv4Addr) -> [u8; FRAME_LEN] {
    request(to, from, Ipv4Addr::UNSPECIFIED, Mac::default(), addr)
}

/// An ordinary request from `sender`, to one host or to all: is `addr` reachable?
pub fn probe_from(from: Mac, sender: Ipv4Addr, to: Option<Mac>, addr: Ipv4Addr) -> [u8; FRAME_LEN] {
    request(to.unwrap_or(Mac::BROADCAST), from, sender, Mac::default(), addr)
}

fn request(
    eth_dst: Mac,
    sender_mac: Mac,
    sender_addr: Ipv4Addr,
    target_mac: Mac,
    target_addr: Ipv4Addr,
) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    if let Some(mut eth) = MutableEthernetPacket::new(&mut frame) {
        eth.set_destination(MacAddr::from(eth_dst.0));
        eth.set_source(MacAddr::from(sender_mac.0));
        eth.set_ethertype(EtherTypes::Arp);
    }
    // pnet without `std` has address types of its own: they meet as octets.
    if let Some(mut arp) =
        MutableArpPacket::new(&mut frame[EthernetPacket::minimum_packet_size()..])
    {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(MacAddr::from(sender_mac.0));
        arp.set_sender_proto_addr(sender_addr.octets().into());
        arp.set_target_hw_addr(MacAddr::from(target_mac.0));
        arp.set_target_proto_addr(target_addr.octets().into());
    }
    frame
}

/// An ARP frame of somebody.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ArpSeen {
    /// Who speaks.
    pub sender_mac: Mac,
    /// The address that the sender holds; 0.0.0.0 in a probe.
    pub sender_addr: Ipv4Addr,
    /// Meaningless in most requests.
    pub target_mac: Mac,
    /// The address asked for, or the asker.
    pub target_addr: Ipv4Addr,
    /// A request; else a reply.
    pub request: bool,
    /// Ethernet source.
    pub eth_src: Mac,
    /// Ethernet destination.
    pub eth_dst: Mac,
}

/// Reads a frame; `None`: not an ARP request or reply for IPv4 over Ethernet.
pub fn parse(frame: &[u8]) -> Option<ArpSeen> {
    let eth = EthernetPacket::new(frame).filter(|e| e.get_ethertype() == EtherTypes::Arp)?;
    let arp = ArpPacket::new(eth.payload())?;
    let operation = arp.get_operation();
    let ethernet_ipv4 = arp.get_hardware_type() == ArpHardwareTypes::Ethernet
        && arp.get_protocol_type() == EtherTypes::Ipv4
        && arp.get_hw_addr_len() == 6
        && arp.get_proto_addr_len() == 4;
    (ethernet_ipv4 && matches!(operation, ArpOperations::Request | ArpOperations::Reply)).then(
        || ArpSeen {
            sender_mac: Mac(arp.get_sender_hw_addr().octets()),
            sender_addr: arp.get_sender_proto_addr().octets().into(),
            target_mac: Mac(arp.get_target_hw_addr().octets()),
            target_addr: arp.get_target_proto_addr().octets().into(),
            request: operation == ArpOperations::Request,
            eth_src: Mac(eth.get_source().octets()),
            eth_dst: Mac(eth.get_destination().octets()),
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const VMAC: Mac = Mac([0, 0, 0x5e, 0, 1, 10]);
    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const ME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|o| format!("{o:02x}")).collect()
    }

    #[test]
    fn gratuitous_arp_octet_for_octet() {
        assert_eq!(
            hex(&gratuitous(VMAC, VIP)),
            "ffffffffffff00005e00010a0806000108000604000100005e00010ac000020100005e00010ac0000201"
        );
    }

    #[test]
    fn a_probe_names_no_sender_address_and_goes_to_one_host() {
        assert_eq!(
            hex(&probe(US, PEER, VIP)),
            "0200000000020200000000010806000108000604000102000000000100000000000000000000c0000201"
        );
    }

    #[test]
    fn a_request_goes_to_one_host_or_to_all() {
        let all = parse(&probe_from(US, ME, None, VIP)).unwrap();
        let expected = ArpSeen {
            sender_mac: US,
            sender_addr: ME,
            target_mac: Mac::default(),
            target_addr: VIP,
            request: true,
            eth_src: US,
            eth_dst: Mac::BROADCAST,
        };
        assert_eq!(all, expected);
        let one = parse(&probe_from(US, ME, Some(PEER), VIP)).unwrap();
        assert_eq!(one, ArpSeen { eth_dst: PEER, ..expected });
    }

    #[test]
    fn a_padded_reply_is_read() {
        let mut frame = probe_from(PEER, VIP, Some(US), ME).to_vec();
        frame[21] = 2;
        frame.extend([0; 18]);
        let seen = parse(&frame).unwrap();
        assert!(!seen.request);
        assert_eq!((seen.sender_mac, seen.sender_addr), (PEER, VIP));
    }

    #[test]
    fn other_frames_are_not_ours() {
        let good = gratuitous(VMAC, VIP);
        // Ethernet type, hardware type, protocol type, both lengths, operation.
        for (at, octet) in [(13, 0), (15, 6), (16, 0), (18, 8), (19, 16), (21, 3)] {
            let mut frame = good;
            frame[at] = octet;
            assert_eq!(parse(&frame), None, "octet {at}");
        }
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len]), None, "length {len}");
        }
    }
}
