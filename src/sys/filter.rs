//! Classic BPF programs of the receive sockets: what the kernel drops before it costs us a wake-up.
//!
//! Called by the sockets of this room. A filter never judges a packet that a counter should see
//! (wrong TTL, foreign VRID, bad checksum): those pass.

use socket2::SockFilter;
use std::net::IpAddr;

/// `BPF_LD | BPF_W | BPF_ABS`, and the same for one octet and for two.
const LD_W: u16 = 0x20;
const LD_B: u16 = 0x30;
const LD_H: u16 = 0x28;
/// `BPF_JMP | BPF_JEQ | BPF_K` and `BPF_ALU | BPF_AND | BPF_K`.
const JEQ: u16 = 0x15;
const AND: u16 = 0x54;
/// `BPF_RET | BPF_K`.
const RET: u16 = 0x06;
/// Offset from the network header instead of the start of the socket's data (`SKF_NET_OFF`).
const NET: u32 = 0xfff0_0000;
/// Accept the whole packet.
const ALL: u32 = 0x0004_0000;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> SockFilter {
    SockFilter::new(code, jt, jf, k)
}

/// Drops everything: on a send socket for ever, on a receive socket until it is bound.
pub(super) fn nothing() -> Vec<SockFilter> {
    vec![op(RET, 0, 0, 0)]
}

/// IPv4 raw socket: destination is the VRRP group, or unicast.
pub(super) fn vrrp_v4(multicast: bool, unicast: bool) -> Vec<SockFilter> {
    vec![
        op(LD_W, 0, 0, NET + 16),
        op(JEQ, 2, 0, u32::from(std::net::Ipv4Addr::new(224, 0, 0, 18))),
        // Any other group is not for us, whoever joined it.
        op(AND, 0, 0, 0xf000_0000),
        op(JEQ, 2, 1, 0xe000_0000),
        op(RET, 0, 0, pass(multicast)),
        op(RET, 0, 0, pass(unicast)),
        op(RET, 0, 0, 0),
    ]
}

/// IPv6 raw socket: destination is the VRRP group, or unicast.
pub(super) fn vrrp_v6(multicast: bool, unicast: bool) -> Vec<SockFilter> {
    vec![
        op(LD_B, 0, 0, NET + 24),
        op(JEQ, 0, 8, 0xff),
        op(LD_W, 0, 0, NET + 24),
        op(JEQ, 0, 7, 0xff02_0000),
        op(LD_W, 0, 0, NET + 28),
        op(JEQ, 0, 5, 0),
        op(LD_W, 0, 0, NET + 32),
        op(JEQ, 0, 3, 0),
        op(LD_W, 0, 0, NET + 36),
        op(JEQ, 2, 1, 0x12),
        op(RET, 0, 0, pass(unicast)),
        op(RET, 0, 0, 0),
        op(RET, 0, 0, pass(multicast)),
    ]
}

/// Packet socket bound to IPv6: a neighbour advertisement (ICMPv6 type 136) without extension headers.
pub(super) fn neighbour_advertisement() -> Vec<SockFilter> {
    vec![
        op(LD_B, 0, 0, 20),
        op(JEQ, 0, 3, 58),
        op(LD_B, 0, 0, 54),
        op(JEQ, 0, 1, 136),
        op(RET, 0, 0, ALL),
        op(RET, 0, 0, 0),
    ]
}

/// Packet socket bound to ARP or IPv6: an ARP reply from `addr`, or a neighbour advertisement of it.
pub(super) fn answer_of(addr: IpAddr) -> Vec<SockFilter> {
    // Each pair loads a field, from the Ethernet header on, and gives the frame up unless it has this value.
    let fields = match addr {
        IpAddr::V4(a) => vec![(LD_H, 20, 2), (LD_W, 28, a.to_bits())],
        IpAddr::V6(a) => {
            let mut fields = vec![(LD_B, 20, 58), (LD_B, 54, 136)];
            for (at, word) in [62, 66, 70, 74].into_iter().zip(a.octets().chunks_exact(4)) {
                let word = word.iter().fold(0, |word, octet| word << 8 | u32::from(*octet));
                fields.push((LD_W, at, word));
            }
            fields
        }
    };
    let mut program = Vec::new();
    for (left, (load, at, value)) in (0u8..).step_by(2).zip(fields.into_iter().rev()) {
        // Over the fields that are left and the accepting end, to the refusing one.
        program.splice(..0, [op(load, 0, 0, at), op(JEQ, 0, left + 1, value)]);
    }
    program.extend([op(RET, 0, 0, ALL), op(RET, 0, 0, 0)]);
    program
}

const fn pass(yes: bool) -> u32 {
    if yes { ALL } else { 0 }
}
