//! The packets of the prober: ICMP and ICMPv6 echo with a sequence number of 64 bits.
//!
//! Pure: bytes in, bytes out. Used by `probe` alone.

use std::net::IpAddr;
use vipd_core::types::Mac;

/// IPv4 in Ethernet.
pub(super) const ETHERTYPE_V4: u16 = 0x0800;
/// IPv6 in Ethernet.
pub(super) const ETHERTYPE_V6: u16 = 0x86dd;

const ETHERNET: usize = 14;
const MAGIC: [u8; 8] = *b"vipd-lab";
const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// An echo request (RFC 792, RFC 4443 section 4.1). The checksum of ICMPv6 is the kernel's.
pub(super) fn request(to: Option<IpAddr>, ident: u16, seq: u64) -> [u8; 24] {
    let v6 = matches!(to, Some(IpAddr::V6(_)));
    let mut packet = [0; 24];
    packet[0] = if v6 { REQUEST_V6 } else { REQUEST_V4 };
    packet[4..6].copy_from_slice(&ident.to_be_bytes());
    // The field of 16 bits wraps after a minute; the payload has the whole number.
    packet[6..8].copy_from_slice(&seq.to_be_bytes()[6..]);
    packet[8..16].copy_from_slice(&MAGIC);
    packet[16..].copy_from_slice(&seq.to_be_bytes());
    if !v6 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Who answered which request, when `frame` is an answer from `from` to the prober `ident`.
pub(super) fn reply(frame: &[u8], from: IpAddr, ident: u16) -> Option<(Mac, u64)> {
    let mac: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
    let ip = frame.get(ETHERNET..)?;
    let icmp = match from {
        IpAddr::V4(a) => {
            let header = usize::from(ip.first()? & 0x0f) * 4;
            (ip.get(9) == Some(&ICMP) && ip.get(12..16)? == a.octets()).then(|| ip.get(header..))?
        }
        IpAddr::V6(a) => {
            (ip.get(6) == Some(&ICMP6) && ip.get(8..24)? == a.octets()).then(|| ip.get(40..))?
        }
    }?;
    let wanted = if from.is_ipv6() { REPLY_V6 } else { REPLY_V4 };
    let ours = icmp.first() == Some(&wanted)
        && icmp.get(4..6)? == ident.to_be_bytes()
        && icmp.get(8..16)? == MAGIC;
    let seq: [u8; 8] = icmp.get(16..24)?.try_into().ok()?;
    ours.then(|| (Mac(mac), u64::from_be_bytes(seq)))
}

/// Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 =
        bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_reply_is_the_request_with_another_type() {
        let from: IpAddr = "192.0.2.100".parse().unwrap();
        let mut frame = vec![0_u8; ETHERNET + 20];
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 11]);
        frame[ETHERNET] = 0x45;
        frame[ETHERNET + 9] = ICMP;
        frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&[192, 0, 2, 100]);
        let request = request(Some(from), 7, 0x1_2345_6789);
        assert_eq!(checksum(&request), 0, "a right checksum sums up to nothing");
        frame.extend_from_slice(&request);
        assert_eq!(reply(&frame, from, 7), None, "a request is no answer");
        frame[ETHERNET + 20] = REPLY_V4;
        assert_eq!(reply(&frame, from, 7), Some((Mac([2, 0, 0, 0, 1, 11]), 0x1_2345_6789)));
        assert_eq!(reply(&frame, from, 8), None, "another prober's");
        for short in 0..frame.len() {
            assert_eq!(reply(&frame[..short], from, 7), None);
        }
    }
}
