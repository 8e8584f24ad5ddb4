//! What the monitor knows: links, addresses and default routes, kept up to date by netlink messages.
//!
//! Pure, called by the monitor alone. It follows the kernel level by level: whatever an event says, the
//! state after it is what is compared and reported, so that lost or doubled events do no harm.

use super::address::Seen;
use super::claims::Claims;
use super::link;
use super::monitor::MonitorEvent;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use vipd_core::config::model::Link;
use vipd_core::engine::io::{KernelAddr, LinkState};
use vipd_core::types::{IfIndex, LinkIx, Mac};

/// One interface of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Device {
    name: String,
    mac: Vec<u8>,
    mtu: u32,
    running: bool,
    parent: Option<u32>,
    received: u64,
}

/// One address with what tells a change from a renewal.
#[derive(Copy, Clone, Debug)]
struct Known {
    seen: Seen,
    ours: bool,
}

/// A configured service interface and what was last said of it.
#[derive(Debug)]
struct Watched {
    name: Arc<str>,
    reported: Option<LinkState>,
    /// Say it again, changed or not.
    again: bool,
    /// How long it settles at most, centiseconds.
    settle: u32,
    settling: Option<Settling>,
}

/// An interface on which nobody was heard since its carrier came up.
#[derive(Copy, Clone, Debug)]
struct Settling {
    /// Frames counted at that time.
    from: u64,
    /// Then, in centiseconds.
    since: u32,
}

impl Watched {
    fn new(link: &Link) -> Self {
        let settle = u32::try_from(link.settle.as_millis() / 10).unwrap_or(u32::MAX);
        Self { name: link.name.clone(), reported: None, again: false, settle, settling: None }
    }
}

/// The mirror of the kernel.
#[derive(Debug)]
pub(super) struct Table {
    watched: Vec<Watched>,
    claims: Arc<Claims>,
    devices: BTreeMap<u32, Device>,
    addresses: BTreeMap<u32, Vec<Known>>,
    /// Interface and next hop of default routes, counted.
    gateways: BTreeMap<(u32, IpAddr), BTreeSet<(u32, u32)>>,
    /// The kernel drops IPv4 routes without a word when their interface goes down or loses an address.
    routes_in_doubt: bool,
}

impl Table {
    pub(super) fn new(links: &[Link], claims: Arc<Claims>) -> Self {
        let watched = links.iter().map(Watched::new).collect();
        Self {
            watched,
            claims,
            devices: BTreeMap::new(),
            addresses: BTreeMap::new(),
            gateways: BTreeMap::new(),
            routes_in_doubt: false,
        }
    }

    /// Have routes perhaps gone of which no event told? Asking clears it.
    pub(super) fn routes_in_doubt(&mut self) -> bool {
        std::mem::take(&mut self.routes_in_doubt)
    }

    /// Other interfaces are configured. What is known of those that remain stays.
    pub(super) fn watch(&mut self, links: &[Link]) {
        let mut before = std::mem::take(&mut self.watched);
        self.watched = links
            .iter()
            .map(|link| {
                let fresh = Watched::new(link);
                match before.iter().position(|w| w.name == link.name) {
                    Some(at) => {
                        // Positions may have changed, so its state is said again.
                        let known = before.swap_remove(at);
                        Watched { again: true, settle: fresh.settle, ..known }
                    }
                    None => fresh,
                }
            })
            .collect();
    }

    /// Everything anew, after a start or a lost event.
    pub(super) fn replace(
        &mut self,
        messages: Vec<RouteNetlinkMessage>,
        now: u32,
        out: &mut VecDeque<MonitorEvent>,
    ) {
        self.devices.clear();
        self.addresses.clear();
        self.gateways.clear();
        let mut silent = VecDeque::new();
        for m in messages {
            self.absorb(m, now, &mut silent);
        }
        self.report_links(now, out);
        for (link, w) in (0u16..).map(LinkIx).zip(&self.watched) {
            let Some(index) = self.index_of(&w.name) else { continue };
            let present = self.present(index, now);
            out.push_back(MonitorEvent::Addresses { link, present });
        }
    }

    /// One event.
    pub(super) fn apply(
        &mut self,
        message: RouteNetlinkMessage,
        now: u32,
        out: &mut VecDeque<MonitorEvent>,
    ) {
        if self.absorb(message, now, out) {
            self.report_links(now, out);
        }
    }

    /// Takes a message in; true when the state of a link may have changed by it.
    fn absorb(
        &mut self,
        message: RouteNetlinkMessage,
        now: u32,
        out: &mut VecDeque<MonitorEvent>,
    ) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(m) => self.new_link(m),
            RouteNetlinkMessage::DelLink(m) => {
                // A bridge says "deleted" of a port that leaves it; only AF_UNSPEC is the end.
                if u8::from(m.header.interface_family) == 0 {
                    self.devices.remove(&m.header.index);
                    self.addresses.remove(&m.header.index);
                    self.gateways.retain(|(index, _), _| *index != m.header.index);
                }
            }
            RouteNetlinkMessage::NewAddress(m) => {
                return Seen::parse(&m).is_some_and(|seen| self.new_address(seen, now, out));
            }
            RouteNetlinkMessage::DelAddress(m) => {
                let Some(seen) = Seen::parse(&m) else { return false };
                self.doubt_routes(seen.index, self.claims.ours(&seen));
                if let Some(known) = self.addresses.get_mut(&seen.index) {
                    known.retain(|k| {
                        (k.seen.addr, k.seen.prefix_len) != (seen.addr, seen.prefix_len)
                    });
                    if known.iter().any(|k| k.seen.addr == seen.addr) {
                        return false;
                    }
                }
                if let Some(link) = self.link_of(seen.index) {
                    out.push_back(MonitorEvent::AddressRemoved { link, addr: seen.addr });
                }
            }
            RouteNetlinkMessage::NewRoute(m) => {
                for (index, gateway) in default_route(&m) {
                    self.gateways.entry((index, gateway)).or_default().insert(identity(&m));
                }
            }
            RouteNetlinkMessage::DelRoute(m) => {
                for at in default_route(&m) {
                    if let Some(routes) = self.gateways.get_mut(&at) {
                        routes.remove(&identity(&m));
                    }
                }
                self.gateways.retain(|_, routes| !routes.is_empty());
            }
            _ => return false,
        }
        true
    }

    /// Frames received so far on the interface of `link`.
    fn received(&self, link: usize) -> Option<u64> {
        let index = self.index_of(&self.watched.get(link)?.name)?;
        self.devices.get(&index).map(|d| d.received)
    }

    /// Indices of the interfaces that settle: nobody was heard since the carrier came up, and the
    /// longest wait is not over.
    pub(super) fn settling(&self, now: u32) -> Vec<u32> {
        self.watched
            .iter()
            .filter(|w| w.settling.is_some_and(|s| now.wrapping_sub(s.since) < w.settle))
            .filter_map(|w| self.index_of(&w.name))
            .collect()
    }

    /// Takes in fresh frame counters of settling interfaces.
    pub(super) fn hear(
        &mut self,
        messages: Vec<RouteNetlinkMessage>,
        now: u32,
        out: &mut VecDeque<MonitorEvent>,
    ) {
        for m in messages {
            if let RouteNetlinkMessage::NewLink(m) = m {
                self.new_link(m);
            }
        }
        self.report_links(now, out);
    }

    /// Says which settling interfaces have received a frame.
    fn report_frames(&mut self, out: &mut VecDeque<MonitorEvent>) {
        for at in 0..self.watched.len() {
            let received = self.received(at).unwrap_or(0);
            let w = &mut self.watched[at];
            if w.settling.is_some_and(|s| received > s.from) {
                w.settling = None;
                if let Ok(link) = u16::try_from(at) {
                    out.push_back(MonitorEvent::FrameSeen(LinkIx(link)));
                }
            }
        }
    }

    fn new_link(&mut self, m: LinkMessage) {
        // Bridges and others speak of their ports in families of their own, without most attributes.
        if u8::from(m.header.interface_family) != 0 {
            return;
        }
        if !m.header.flags.contains(LinkFlags::Up) {
            self.doubt_routes(m.header.index, false);
        }
        let device = self.devices.entry(m.header.index).or_default();
        device.running = m.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        for a in m.attributes {
            match a {
                LinkAttribute::IfName(n) => device.name = n,
                LinkAttribute::Address(mac) => device.mac = mac,
                LinkAttribute::Mtu(mtu) => device.mtu = mtu,
                LinkAttribute::Link(parent) => device.parent = Some(parent),
                LinkAttribute::Stats64(s) => device.received = s.rx_packets,
                _ => {}
            }
        }
    }

    /// An interface went down or lost an address: its default routes may be gone.
    fn doubt_routes(&mut self, index: u32, by_us: bool) {
        self.routes_in_doubt |= !by_us && self.gateways.keys().any(|(i, _)| *i == index);
    }

    /// False when nothing changed that anybody wants to know: our own adds and renewals.
    fn new_address(&mut self, seen: Seen, now: u32, out: &mut VecDeque<MonitorEvent>) -> bool {
        let ours = self.claims.ours(&seen);
        let list = self.addresses.entry(seen.index).or_default();
        let same =
            |k: &&mut Known| (k.seen.addr, k.seen.prefix_len) == (seen.addr, seen.prefix_len);
        let before = match list.iter_mut().find(same) {
            Some(k) => Some(std::mem::replace(k, Known { seen, ours })),
            None => {
                list.push(Known { seen, ours });
                None
            }
        };
        if ours && before.is_none_or(|b| b.ours) {
            return false;
        }
        if before.is_some_and(|b| b.ours == ours && b.seen.usable == seen.usable) {
            return false;
        }
        if let Some(link) = self.link_of(seen.index) {
            out.push_back(MonitorEvent::AddressAdded { link, addr: seen.report(ours, now) });
        }
        true
    }

    /// Says of each service interface what changed since it was last said.
    fn report_links(&mut self, now: u32, out: &mut VecDeque<MonitorEvent>) {
        for at in 0..self.watched.len() {
            let state = self.state(&self.watched[at].name);
            let received = self.received(at);
            let w = &mut self.watched[at];
            if w.reported.as_ref() == Some(&state) && !w.again {
                continue;
            }
            w.again = false;
            let was_running =
                w.reported.as_ref().is_some_and(|r| r.running && r.index == state.index);
            if state.running && !was_running {
                w.settling = received.map(|from| Settling { from, since: now });
            } else if !state.running {
                w.settling = None;
            }
            w.reported = Some(state.clone());
            if let Ok(link) = u16::try_from(at) {
                out.push_back(MonitorEvent::Link { link: LinkIx(link), state });
            }
        }
        self.report_frames(out);
    }

    fn state(&self, name: &str) -> LinkState {
        let Some((index, device)) = self.devices.iter().find(|(_, d)| d.name == name) else {
            return LinkState::default();
        };
        let addrs = self.addresses.get(index).into_iter().flatten();
        let mac: [u8; 6] = device.mac.as_slice().try_into().unwrap_or_default();
        LinkState {
            index: IfIndex::new(*index),
            running: device.running,
            mac: Mac(mac),
            mtu: device.mtu,
            addrs: addrs.filter(|k| k.seen.usable && !k.ours).map(|k| k.seen.addr).collect(),
            gateways: self.gateways.keys().filter(|(i, _)| i == index).map(|(_, g)| *g).collect(),
        }
    }

    fn index_of(&self, name: &str) -> Option<u32> {
        self.devices.iter().find(|(_, d)| d.name == name).map(|(index, _)| *index)
    }

    /// The service interface that `index` is, or on which it is a device of ours.
    fn link_of(&self, index: u32) -> Option<LinkIx> {
        let mut device = self.devices.get(&index)?;
        if link::is_ours(&device.name, &device.mac) {
            device = self.devices.get(&device.parent?)?;
        }
        let at = self.watched.iter().position(|w| *w.name == *device.name)?;
        u16::try_from(at).ok().map(LinkIx)
    }

    /// Addresses of the interface and of our devices on it.
    fn present(&self, parent: u32, now: u32) -> Vec<KernelAddr> {
        let devices = self.devices.iter().filter(|(index, d)| {
            **index == parent || (d.parent == Some(parent) && link::is_ours(&d.name, &d.mac))
        });
        devices
            .filter_map(|(index, _)| self.addresses.get(index))
            .flatten()
            .map(|k| k.seen.report(k.ours, now))
            .collect()
    }
}

/// Interface and next hop of a unicast default route that is not ours.
fn default_route(m: &RouteMessage) -> Vec<(u32, IpAddr)> {
    if m.header.destination_prefix_length != 0
        || m.header.kind != RouteType::Unicast
        || super::route::is_ours(m)
    {
        return Vec::new();
    }
    let (mut index, mut gateway) = (None, None);
    let mut hops = Vec::new();
    for a in &m.attributes {
        match a {
            RouteAttribute::Oif(i) => index = Some(*i),
            RouteAttribute::Gateway(g) => gateway = ip(g),
            RouteAttribute::MultiPath(paths) => {
                for p in paths {
                    let via = p.attributes.iter().find_map(|a| match a {
                        RouteAttribute::Gateway(g) => ip(g),
                        _ => None,
                    });
                    hops.extend(via.map(|v| (p.interface_index, v)));
                }
            }
            _ => {}
        }
    }
    hops.extend(index.zip(gateway));
    hops
}

/// What tells two default routes through the same next hop apart: table and metric.
fn identity(m: &RouteMessage) -> (u32, u32) {
    let mut id = (u32::from(m.header.table), 0);
    for a in &m.attributes {
        match a {
            RouteAttribute::Table(t) => id.0 = *t,
            RouteAttribute::Priority(p) => id.1 = *p,
            _ => {}
        }
    }
    id
}

fn ip(a: &RouteAddress) -> Option<IpAddr> {
    match a {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
