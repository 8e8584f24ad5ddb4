//! The VRRP advertisement, version 2 (RFC 3768, RFC 2338 for simple text) and version 3 (RFC 9568).
//!
//! Called by the virtual router to make adverts and by [`super::receive`] to read them. Judges nothing:
//! whether an advert is acceptable is `receive`'s business.

use super::auth::TRAILER_LEN;
use super::checksum::Sum;
use crate::config::model::ChecksumFlavour;
use crate::types::{Family, Interval, Version, Vrid};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// Type of an advertisement; there is no other.
pub const ADVERTISEMENT: u8 = 1;
/// Length of the fixed part of a message.
pub const HEADER_LEN: usize = 8;
/// Length of the authentication data that ends every version 2 message.
pub const AUTH_DATA_LEN: usize = 8;
/// Most addresses that an advert can carry: the width of its count field.
pub const MAX_ADDRESSES: usize = 255;

/// Where the checksum is.
const CHECKSUM: std::ops::Range<usize> = 6..8;
/// RFC 2338 section 5.3.6.
pub(super) const AUTH_NONE: u8 = 0;
/// RFC 2338 section 5.3.6.
pub(super) const AUTH_SIMPLE_TEXT: u8 = 1;
/// RFC 2338 section 5.3.6; known, never accepted.
pub(super) const AUTH_AH: u8 = 2;

/// An advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Protocol version.
    pub version: Version,
    /// Virtual router.
    pub vrid: Vrid,
    /// Priority of the sender; 0: it leaves, 255: it owns the addresses.
    pub priority: u8,
    /// Advertisement interval of the sender. Version 3: at most 40.95 s; version 2: whole seconds.
    pub interval: Interval,
    /// Virtual addresses, all of one family, 1 to [`MAX_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// Version 2: authentication data of type 1; `None`: type 0. Version 3 has none.
    pub simple_text: Option<[u8; 8]>,
}

impl Advert {
    /// The message with its final checksum, without trailer.
    ///
    /// The family is that of `src`; `dst` counts in the checksum of IPv6 and, with
    /// [`ChecksumFlavour::Rfc5798`], of version 3 over IPv4. Addresses of the other family and those
    /// beyond [`MAX_ADDRESSES`] do not fit the message and are left out (the configuration refuses them).
    pub fn encode(&self, src: IpAddr, dst: IpAddr, flavour: ChecksumFlavour) -> Vec<u8> {
        let family = Family::of(&src);
        let fitting =
            || self.addresses.iter().filter(|a| Family::of(a) == family).take(MAX_ADDRESSES);
        let count = fitting().count();
        // Room for the trailer, so that signing does not move the message.
        let mut out = Vec::with_capacity(message_len(self.version, family, count) + TRAILER_LEN);
        out.push(self.version.get() << 4 | ADVERTISEMENT);
        out.push(self.vrid.get());
        out.push(self.priority);
        out.push(u8::try_from(count).unwrap_or(u8::MAX));
        match self.version {
            Version::V2 => {
                out.push(self.simple_text.map_or(AUTH_NONE, |_| AUTH_SIMPLE_TEXT));
                out.push(self.interval.whole_secs().max(1));
            }
            Version::V3 => out.extend(self.interval.centis().min(4095).to_be_bytes()),
        }
        out.extend([0, 0]);
        for addr in fitting() {
            match addr {
                IpAddr::V4(a) => out.extend(a.octets()),
                IpAddr::V6(a) => out.extend(a.octets()),
            }
        }
        if self.version == Version::V2 {
            out.extend(self.simple_text.unwrap_or_default());
        }
        let pseudo = match (src, dst, self.version, flavour) {
            (IpAddr::V4(s), IpAddr::V4(d), Version::V3, ChecksumFlavour::Rfc5798) => {
                pseudo_v4(s, d, out.len())
            }
            (IpAddr::V6(s), IpAddr::V6(d), ..) => pseudo_v6(s, d, out.len()),
            _ => Sum::new(),
        };
        set_checksum(&mut out, pseudo);
        out
    }

    /// Reads a message whose length fits its count field (see [`message_len`]); `None` when it does
    /// not, or when VRID or interval is 0. The checksum is not looked at.
    pub fn decode(version: Version, family: Family, message: &[u8]) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER_LEN>()?;
        if message.len() != message_len(version, family, usize::from(header[3])) {
            return None;
        }
        let interval = match version {
            Version::V2 => Interval::from_secs(header[5]),
            Version::V3 => Interval::from_centis(interval_field(header)),
        };
        let (list, auth_data) = match version {
            Version::V2 => rest.split_at(rest.len() - AUTH_DATA_LEN),
            Version::V3 => (rest, &[][..]),
        };
        Some(Self {
            version,
            vrid: Vrid::new(header[1]).ok()?,
            priority: header[2],
            interval: interval.ok()?,
            addresses: match family {
                Family::V4 => {
                    list.as_chunks::<4>().0.iter().map(|&a| Ipv4Addr::from(a).into()).collect()
                }
                Family::V6 => {
                    list.as_chunks::<16>().0.iter().map(|&a| Ipv6Addr::from(a).into()).collect()
                }
            },
            simple_text: match (version, header[4]) {
                (Version::V2, AUTH_SIMPLE_TEXT) => auth_data.try_into().ok(),
                _ => None,
            },
        })
    }
}

/// Length of a message with `count` addresses, trailer not included.
pub const fn message_len(version: Version, family: Family, count: usize) -> usize {
    let auth_data = match version {
        Version::V2 => AUTH_DATA_LEN,
        Version::V3 => 0,
    };
    HEADER_LEN + count * address_len(family) + auth_data
}

const fn address_len(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// Interval of a version 3 header in centiseconds: the reserved upper 4 bits are ignored
/// (RFC 9568 section 5.2.6).
pub(super) fn interval_field(header: &[u8; HEADER_LEN]) -> u16 {
    u16::from_be_bytes([header[4], header[5]]) & 0x0fff
}

/// Pseudo-header of an IPv4 VRRP message.
pub(super) fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, len: usize) -> Sum {
    // A message has at most 16 + 255 * 4 octets.
    Sum::pseudo_v4(src, dst, PROTOCOL, u16::try_from(len).unwrap_or(u16::MAX))
}

/// Pseudo-header of an IPv6 VRRP message; `len` includes the trailer.
pub(super) fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, len: usize) -> Sum {
    Sum::pseudo_v6(src, dst, PROTOCOL, u32::try_from(len).unwrap_or(u32::MAX))
}

/// Writes the checksum of `covered`, which starts with a message, on top of `pseudo`.
pub(super) fn set_checksum(covered: &mut [u8], pseudo: Sum) {
    if covered.len() < HEADER_LEN {
        return;
    }
    covered[CHECKSUM].fill(0);
    let sum = pseudo.with(covered).checksum();
    covered[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}
