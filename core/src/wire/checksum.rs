//! The Internet checksum (RFC 1071) and the pseudo-headers of IPv4 and IPv6.
//!
//! Called by every other file of this room. Knows nothing of message layouts.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A running one's complement sum.
#[derive(Copy, Clone, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self(0)
    }

    /// The pseudo-header in front of an IPv4 message: source, destination, zero, protocol, length.
    pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> Self {
        Self(u64::from(protocol) + u64::from(len)).with(&src.octets()).with(&dst.octets())
    }

    /// The pseudo-header of RFC 8200 section 8.1; `len` is the length of the whole upper-layer packet.
    pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, len: u32) -> Self {
        Self(u64::from(len >> 16) + u64::from(len & 0xffff) + u64::from(next_header))
            .with(&src.octets())
            .with(&dst.octets())
    }

    /// This sum and `octets`. An odd last octet counts as the high half of a word, so only the last
    /// piece of a message may have an odd length.
    #[must_use]
    pub fn with(self, octets: &[u8]) -> Self {
        let words = octets.chunks_exact(2);
        let odd = words.remainder().first().map_or(0, |&o| u64::from(o) << 8);
        // 64 bits cannot overflow: that would take 2^48 words.
        let sum: u64 = words.map(|w| u64::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        Self(self.0 + sum + odd)
    }

    fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // The loop leaves 16 bits.
        sum as u16
    }

    /// The checksum of what was summed with the checksum field as zero. A result of 0 is sent as it
    /// is: VRRP and ICMPv6 have no "no checksum" value.
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Does what was summed, received checksum included, verify?
    pub fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::new().with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    #[test]
    fn an_odd_octet_is_the_high_half_of_a_word() {
        assert_eq!(
            Sum::new().with(&[1, 2, 3]).checksum(),
            Sum::new().with(&[1, 2, 3, 0]).checksum()
        );
    }

    #[test]
    fn a_message_with_its_checksum_verifies_and_no_single_bit_may_differ() {
        let mut message = [0x45, 0x12, 0, 0, 0xff, 0x70];
        let sum = Sum::new().with(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        assert!(Sum::new().with(&message).is_valid());
        for bit in 0..48 {
            let mut bad = message;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!Sum::new().with(&bad).is_valid(), "bit {bit}");
        }
    }

    #[test]
    fn nothing_at_all_is_not_valid() {
        assert!(!Sum::new().with(&[0; 8]).is_valid());
    }
}
