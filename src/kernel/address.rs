//! Addresses as the kernel has them and as we order them: message <-> value.
//!
//! Called by the worker and the monitor. Pure: nothing here talks to the kernel.

use super::OUR_TAG;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;
use vipd_core::engine::io::KernelAddr;
use vipd_core::time::Duration;

/// Lifetime "for ever".
const FOREVER: u32 = u32::MAX;

/// One address to put on one interface.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) index: u32,
    pub(super) addr: IpAddr,
    pub(super) prefix_len: u8,
    /// With the connected route of its prefix.
    pub(super) prefix_route: bool,
}

impl Placement {
    /// First add: refused when the address is there already.
    pub(super) fn add(&self, lease_secs: Option<u32>) -> (RouteNetlinkMessage, u16) {
        (RouteNetlinkMessage::NewAddress(self.message(lease_secs)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Renewal. Every attribute is repeated: a replace without flags drops nodad, one without the tag
    /// drops the tag.
    pub(super) fn renew(&self, lease_secs: Option<u32>) -> (RouteNetlinkMessage, u16) {
        (RouteNetlinkMessage::NewAddress(self.message(lease_secs)), NLM_F_REPLACE)
    }

    /// Removal.
    pub(super) fn delete(&self) -> (RouteNetlinkMessage, u16) {
        let mut m = self.bare();
        m.attributes.push(AddressAttribute::Local(self.addr));
        m.attributes.push(AddressAttribute::Address(self.addr));
        (RouteNetlinkMessage::DelAddress(m), 0)
    }

    fn bare(&self) -> AddressMessage {
        let mut m = AddressMessage::default();
        m.header.family = family(&self.addr);
        m.header.prefix_len = self.prefix_len;
        m.header.index = self.index;
        m
    }

    fn message(&self, lease_secs: Option<u32>) -> AddressMessage {
        let mut flags = AddressFlags::empty();
        if !self.prefix_route {
            flags |= AddressFlags::Noprefixroute;
        }
        let mut m = self.bare();
        let mut life = CacheInfo::default();
        life.ifa_valid = lease_secs.unwrap_or(FOREVER);
        life.ifa_preferred = life.ifa_valid;
        if self.addr.is_ipv6() {
            // Usable at once (RFC 9568 leaves no room for duplicate address detection in a takeover),
            // and never chosen as source of the host's own connections.
            flags |= AddressFlags::Nodad;
            m.header.flags = AddressHeaderFlags::Nodad;
            life.ifa_preferred = 0;
        }
        m.attributes = vec![
            AddressAttribute::Local(self.addr),
            AddressAttribute::Address(self.addr),
            AddressAttribute::Flags(flags),
            AddressAttribute::CacheInfo(life),
            AddressAttribute::Protocol(AddressProtocol::Other(OUR_TAG)),
        ];
        m
    }
}

/// Request for the addresses of one interface, or of all with index 0. Kernels without strict checks
/// answer with all: the reader filters.
pub(super) fn dump_request(index: u32) -> RouteNetlinkMessage {
    let mut m = AddressMessage::default();
    m.header.index = index;
    RouteNetlinkMessage::GetAddress(m)
}

/// An address as a message tells it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) index: u32,
    pub(super) addr: IpAddr,
    pub(super) prefix_len: u8,
    /// `IFA_PROTO`; `None` for untagged addresses and on kernels before 5.18.
    pub(super) tag: Option<u8>,
    /// Can be used as a source: neither tentative nor failed.
    pub(super) usable: bool,
    /// Centiseconds since boot when its lifetime was last touched.
    touched: u32,
    valid_secs: u32,
}

impl Seen {
    /// Reads an address message; `None` without an address of IPv4 or IPv6.
    pub(super) fn parse(m: &AddressMessage) -> Option<Self> {
        let mut seen = Self {
            index: m.header.index,
            addr: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            prefix_len: m.header.prefix_len,
            tag: None,
            usable: true,
            touched: 0,
            valid_secs: FOREVER,
        };
        let mut flags = AddressFlags::from_bits_retain(u32::from(m.header.flags.bits()));
        let (mut local, mut address) = (None, None);
        for a in &m.attributes {
            match a {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Protocol(p) => seen.tag = Some(u8::from(*p)),
                AddressAttribute::Flags(f) => flags = *f,
                AddressAttribute::CacheInfo(c) => {
                    seen.touched = c.tstamp;
                    seen.valid_secs = c.ifa_valid;
                }
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the peer's.
        seen.addr = local.or(address)?;
        let unusable = AddressFlags::Dadfailed | AddressFlags::Tentative;
        seen.usable = !flags.intersects(unusable) || flags.contains(AddressFlags::Optimistic);
        Some(seen)
    }

    /// For the engine; `now` is [`clock::tick_centis`](crate::sys::clock::tick_centis).
    pub(super) fn report(&self, ours: bool, now: u32) -> KernelAddr {
        let age = now.wrapping_sub(self.touched);
        // Stamps of this very centisecond may lie ahead of our reading of the clock.
        let age = if age > u32::MAX / 2 { 0 } else { age };
        KernelAddr {
            addr: self.addr,
            prefix_len: self.prefix_len,
            ours,
            age: Duration::from_millis(u64::from(age) * 10),
            valid_for: (self.valid_secs != FOREVER)
                .then(|| Duration::from_secs(u64::from(self.valid_secs))),
        }
    }
}

/// The kernel's word for the family of `addr`.
pub(super) fn family(addr: &IpAddr) -> AddressFamily {
    match addr {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn placement(addr: &str) -> Placement {
        let addr: IpAddr = addr.parse().unwrap();
        let prefix_len = if addr.is_ipv4() { 32 } else { 128 };
        Placement { index: 3, addr, prefix_len, prefix_route: false }
    }

    fn message(request: (RouteNetlinkMessage, u16)) -> AddressMessage {
        match request.0 {
            RouteNetlinkMessage::NewAddress(m) => m,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn renewals_repeat_everything_that_the_first_add_said() {
        for addr in ["192.0.2.10", "2001:db8::10"] {
            let p = placement(addr);
            assert_eq!(message(p.add(Some(2))), message(p.renew(Some(2))));
            assert_eq!(p.add(None).1, NLM_F_CREATE | NLM_F_EXCL);
            assert_eq!(p.renew(None).1, NLM_F_REPLACE);
        }
    }

    #[test]
    fn ipv6_is_usable_at_once_and_never_a_source() {
        let m = message(placement("2001:db8::10").add(Some(2)));
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        assert!(m.attributes.contains(&AddressAttribute::Flags(flags)));
        let life = m.attributes.iter().find_map(|a| match a {
            AddressAttribute::CacheInfo(c) => Some((c.ifa_preferred, c.ifa_valid)),
            _ => None,
        });
        assert_eq!(life, Some((0, 2)));
    }

    #[test]
    fn an_address_message_is_read_back() {
        let m = message(placement("192.0.2.10").add(Some(2)));
        let seen = Seen::parse(&m).unwrap();
        assert_eq!((seen.index, seen.prefix_len, seen.tag), (3, 32, Some(OUR_TAG)));
        let k = seen.report(true, 150);
        assert_eq!(k.age, Duration::from_millis(1500));
        assert_eq!(k.valid_for, Some(Duration::from_secs(2)));
    }
}
