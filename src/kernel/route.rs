//! Routes and rules: local routes of `claim = "route"`, virtual routes, virtual rules.
//!
//! Called by the worker and by clean-up. All bear the tag. Local routes go with the anchor, the only
//! address of their interface. Virtual IPv4 routes of table `main` have a leased address as source and go
//! with it; those of other tables do not (measured: the kernel looks through `main` alone), and stay
//! until a release or clean-up. IPv6 routes carry a lifetime of their own.

use super::OUR_TAG;
use super::address::family;
use super::netlink::{Netlink, Refusal, Request};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vipd_core::config::model::{VirtualRoute, VirtualRule};
use vipd_core::types::Family;

/// Table `local`.
const LOCAL: u8 = 255;

/// Makes the kernel answer for an address as if it were one of the interface, for as long as `anchor`
/// is there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) index: u32,
    pub(super) addr: Ipv4Addr,
    pub(super) anchor: Ipv4Addr,
}

impl Local {
    /// First add; refused when there is a local route already.
    pub(super) fn add(&self) -> Request {
        (RouteNetlinkMessage::NewRoute(self.message()), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Over a local route that is ours.
    pub(super) fn replace(&self) -> Request {
        (RouteNetlinkMessage::NewRoute(self.message()), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn message(&self) -> RouteMessage {
        let mut m = RouteMessage::default();
        m.header = RouteHeader {
            address_family: AddressFamily::Inet,
            destination_prefix_length: 32,
            table: LOCAL,
            protocol: RouteProtocol::Other(OUR_TAG),
            scope: RouteScope::Host,
            kind: RouteType::Local,
            ..RouteHeader::default()
        };
        m.attributes = vec![
            RouteAttribute::Destination(IpAddr::V4(self.addr).into()),
            RouteAttribute::PrefSource(IpAddr::V4(self.anchor).into()),
            RouteAttribute::Oif(self.index),
        ];
        m
    }
}

/// Every address with a local route of its own, and whether that is ours.
pub(super) fn locals(net: &mut Netlink) -> Result<HashMap<IpAddr, bool>, Refusal> {
    let mut m = RouteMessage::default();
    m.header.address_family = AddressFamily::Inet;
    m.header.table = LOCAL;
    let mut found = HashMap::new();
    for m in net.dump(&RouteNetlinkMessage::GetRoute(m))? {
        let RouteNetlinkMessage::NewRoute(r) = m else { continue };
        if r.header.table != LOCAL || r.header.destination_prefix_length != 32 {
            continue;
        }
        for a in &r.attributes {
            if let RouteAttribute::Destination(RouteAddress::Inet(to)) = a {
                *found.entry(IpAddr::V4(*to)).or_insert(true) &= is_ours(&r);
            }
        }
    }
    Ok(found)
}

/// Does the kernel deliver packets to `addr`, which was put on interface `index`, on this host? Asked for that interface, as
/// one of a VRF has a table of its own. An IPv6 address gets its local route from a work
/// queue, up to milliseconds after the add was acknowledged.
pub(super) fn delivers(net: &mut Netlink, index: u32, addr: Ipv6Addr) -> bool {
    let mut m = RouteMessage::default();
    m.header.address_family = AddressFamily::Inet6;
    m.header.destination_prefix_length = 128;
    m.attributes =
        vec![RouteAttribute::Destination(IpAddr::V6(addr).into()), RouteAttribute::Oif(index)];
    let found = net.get(&RouteNetlinkMessage::GetRoute(m));
    matches!(found, Ok(Some(RouteNetlinkMessage::NewRoute(r))) if r.header.kind == RouteType::Local)
}

/// First add of a virtual route; refused when the same one is there.
pub(super) fn add(r: &VirtualRoute, index: u32, src: Option<IpAddr>, secs: Option<u32>) -> Request {
    let m = virtual_route(r, index, src, secs);
    (RouteNetlinkMessage::NewRoute(m), NLM_F_CREATE | NLM_F_EXCL)
}

/// Renewal of the lifetime of a virtual route that is ours.
pub(super) fn renew(
    r: &VirtualRoute,
    index: u32,
    src: Option<IpAddr>,
    secs: Option<u32>,
) -> Request {
    let m = virtual_route(r, index, src, secs);
    (RouteNetlinkMessage::NewRoute(m), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Removal of a virtual route that bears the tag.
pub(super) fn delete(r: &VirtualRoute, index: u32) -> Request {
    let mut m = virtual_route(r, index, None, None);
    // The kernel compares the scope of IPv4 routes, unless told that any will do.
    m.header.scope = RouteScope::NoWhere;
    (RouteNetlinkMessage::DelRoute(m), 0)
}

/// Does the route need renewing: has it a lifetime of its own?
pub(super) fn has_lifetime(r: &VirtualRoute) -> bool {
    r.to.addr().is_ipv6()
}

/// Family of a virtual route.
pub(super) fn family_of(r: &VirtualRoute) -> Family {
    Family::of(&r.to.addr())
}

fn virtual_route(
    r: &VirtualRoute,
    index: u32,
    src: Option<IpAddr>,
    secs: Option<u32>,
) -> RouteMessage {
    let mut m = RouteMessage::default();
    m.header = RouteHeader {
        address_family: family(&r.to.addr()),
        destination_prefix_length: r.to.prefix_len(),
        // Table numbers above an octet are in the attribute alone.
        table: u8::try_from(r.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: RouteProtocol::Other(OUR_TAG),
        scope: if r.via.is_none() && r.to.addr().is_ipv4() {
            RouteScope::Link
        } else {
            RouteScope::Universe
        },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    m.attributes = vec![
        RouteAttribute::Destination(r.to.network().into()),
        RouteAttribute::Oif(index),
        RouteAttribute::Table(r.table),
    ];
    if let Some(via) = r.via {
        m.attributes.push(RouteAttribute::Gateway(via.into()));
    }
    if let Some(src) = src {
        m.attributes.push(RouteAttribute::PrefSource(src.into()));
    }
    if r.metric != 0 {
        m.attributes.push(RouteAttribute::Priority(r.metric));
    }
    if let (Some(secs), true) = (secs, has_lifetime(r)) {
        m.attributes.push(RouteAttribute::Expires(secs));
    }
    m
}

/// Adds a virtual rule; refused when the same one is there.
pub(super) fn add_rule(r: &VirtualRule) -> Request {
    (RouteNetlinkMessage::NewRule(rule(r)), NLM_F_CREATE | NLM_F_EXCL)
}

/// Removes a virtual rule.
pub(super) fn delete_rule(r: &VirtualRule) -> Request {
    (RouteNetlinkMessage::DelRule(rule(r)), 0)
}

fn rule(r: &VirtualRule) -> RuleMessage {
    let mut m = RuleMessage::default();
    m.header.family = match r.family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    m.header.src_len = r.from.map_or(0, |n| n.prefix_len());
    m.header.dst_len = r.to.map_or(0, |n| n.prefix_len());
    m.header.table = u8::try_from(r.table).unwrap_or(0);
    m.header.action = RuleAction::ToTable;
    let network = |n: IpNet| n.network();
    m.attributes.extend(r.from.map(network).map(RuleAttribute::Source));
    m.attributes.extend(r.to.map(network).map(RuleAttribute::Destination));
    m.attributes.push(RuleAttribute::Priority(r.preference));
    m.attributes.push(RuleAttribute::Table(r.table));
    m.attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(OUR_TAG)));
    m
}

/// All routes of one family, in every table.
pub(super) fn dump_request(family: Family) -> RouteNetlinkMessage {
    let mut m = RouteMessage::default();
    m.header.address_family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    RouteNetlinkMessage::GetRoute(m)
}

/// Does the route bear our tag?
pub(super) fn is_ours(m: &RouteMessage) -> bool {
    u8::from(m.header.protocol) == OUR_TAG
}

/// Is the route that stands where `r` should go ours?
pub(super) fn virtual_is_ours(net: &mut Netlink, r: &VirtualRoute) -> bool {
    let to = RouteAttribute::Destination(r.to.network().into());
    net.dump(&dump_request(family_of(r))).is_ok_and(|routes| {
        routes.iter().any(|m| match m {
            RouteNetlinkMessage::NewRoute(m) => {
                is_ours(m)
                    && m.header.destination_prefix_length == r.to.prefix_len()
                    // The default route has no destination attribute.
                    && (r.to.prefix_len() == 0 || m.attributes.contains(&to))
                    && m.attributes.contains(&RouteAttribute::Table(r.table))
            }
            _ => false,
        })
    })
}

/// What names a dumped route in a removal: the rest (cache counters, lifetimes) is the kernel's.
pub(super) fn named(mut m: RouteMessage) -> RouteMessage {
    m.attributes.retain(|a| {
        matches!(
            a,
            RouteAttribute::Destination(_)
                | RouteAttribute::Oif(_)
                | RouteAttribute::Table(_)
                | RouteAttribute::Gateway(_)
                | RouteAttribute::Priority(_)
        )
    });
    m.header.flags = Default::default();
    m
}

/// All rules of one family.
pub(super) fn rule_dump_request(family: Family) -> RouteNetlinkMessage {
    let mut m = RuleMessage::default();
    m.header.family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    RouteNetlinkMessage::GetRule(m)
}

/// Does the rule bear our tag?
pub(super) fn rule_is_ours(m: &RuleMessage) -> bool {
    m.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Other(OUR_TAG)))
}
