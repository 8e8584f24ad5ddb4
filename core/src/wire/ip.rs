//! The IPv4 header: read from raw sockets, which deliver it, and made for packet sockets, which need it.
//!
//! Called by the socket edge. IPv6 raw sockets deliver no header.

use super::checksum::Sum;
use super::vrrp::PROTOCOL;
use std::net::Ipv4Addr;

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;
/// TTL of every advert (RFC 9568 section 5.1.1.3).
const TTL: u8 = 255;
/// DSCP CS6, network control.
const TOS: u8 = 0xc0;

/// What matters of an IPv4 packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ipv4View<'a> {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// What follows the header and its options, trimmed to the total length: Ethernet padding is gone.
    pub payload: &'a [u8],
}

/// Why octets are no IPv4 packet that can be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ipv4Error {
    /// Too short for a header, another version, or lengths that contradict each other.
    #[error("not an IPv4 packet")]
    Malformed,
    /// The total length says more than there is. The view has no payload: given to
    /// [`super::receive::validate`] like that, it is counted as the length error that it is.
    #[error("the IPv4 total length exceeds the packet")]
    Length(Ipv4View<'static>),
    /// A fragment. Raw sockets deliver whole packets, packet sockets do not.
    #[error("an IPv4 fragment")]
    Fragment,
}

/// Reads a packet with its header, options included. The header checksum is not verified: the kernel
/// did.
///
/// # Errors
/// See [`Ipv4Error`].
pub fn ipv4(packet: &[u8]) -> Result<Ipv4View<'_>, Ipv4Error> {
    let header = packet.first_chunk::<HEADER_LEN>().ok_or(Ipv4Error::Malformed)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < HEADER_LEN || total_len < header_len {
        return Err(Ipv4Error::Malformed);
    }
    let view = Ipv4View {
        src: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
        dst: Ipv4Addr::new(header[16], header[17], header[18], header[19]),
        ttl: header[8],
        protocol: header[9],
        payload: &[],
    };
    let payload = packet
        .get(..total_len)
        .and_then(|trimmed| trimmed.get(header_len..))
        .ok_or(Ipv4Error::Length(view))?;
    // More fragments, or an offset.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Ipv4Error::Fragment);
    }
    Ok(Ipv4View { payload, ..view })
}

/// The header of an advert of `payload_len` octets, trailer included: TTL 255, DSCP CS6, protocol 112,
/// not fragmented, no options. `payload_len` is at most 65515.
pub fn ipv4_header(src: Ipv4Addr, dst: Ipv4Addr, payload_len: u16) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = 0x45;
    header[1] = TOS;
    header[2..4].copy_from_slice(&payload_len.saturating_add(HEADER_LEN as u16).to_be_bytes());
    header[8] = TTL;
    header[9] = PROTOCOL;
    header[12..16].copy_from_slice(&src.octets());
    header[16..].copy_from_slice(&dst.octets());
    let checksum = Sum::new().with(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    const DST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut packet = ipv4_header(SRC, DST, payload.len() as u16).to_vec();
        packet.extend(payload);
        packet
    }

    #[test]
    fn what_is_made_reads_back_and_its_checksum_verifies() {
        let packet = packet(b"advert");
        let view = Ipv4View { src: SRC, dst: DST, ttl: 255, protocol: 112, payload: b"advert" };
        assert_eq!(ipv4(&packet), Ok(view));
        assert!(Sum::new().with(&packet[..HEADER_LEN]).is_valid());
        assert_eq!(packet[1], 0xc0);
    }

    #[test]
    fn padding_is_trimmed_and_options_are_skipped() {
        let mut padded = packet(b"advert");
        padded.extend([0; 14]);
        assert_eq!(ipv4(&padded).map(|v| v.payload), Ok(&b"advert"[..]));

        let mut options = packet(b"advert");
        options.splice(HEADER_LEN..HEADER_LEN, [0x94, 4, 0, 0]);
        options[0] = 0x46;
        options[3] += 4;
        assert_eq!(ipv4(&options).map(|v| v.payload), Ok(&b"advert"[..]));
    }

    #[test]
    fn lengths_that_lie_are_told_apart() {
        let mut long = packet(b"advert");
        long[3] += 1;
        let view = Ipv4View { src: SRC, dst: DST, ttl: 255, protocol: 112, payload: &[] };
        assert_eq!(ipv4(&long), Err(Ipv4Error::Length(view)));
        let mut short = packet(b"advert");
        short[3] = 19;
        assert_eq!(ipv4(&short), Err(Ipv4Error::Malformed));
        let mut header = packet(b"advert");
        header[0] = 0x44;
        assert_eq!(ipv4(&header), Err(Ipv4Error::Malformed));
        assert_eq!(ipv4(&[]), Err(Ipv4Error::Malformed));
    }

    #[test]
    fn fragments_are_refused_and_dont_fragment_is_not() {
        let mut p = packet(b"advert");
        p[6] = 0x20;
        assert_eq!(ipv4(&p), Err(Ipv4Error::Fragment));
        p[6..8].copy_from_slice(&[0, 1]);
        assert_eq!(ipv4(&p), Err(Ipv4Error::Fragment));
        p[6..8].copy_from_slice(&[0x40, 0]);
        assert!(ipv4(&p).is_ok());
    }
}
