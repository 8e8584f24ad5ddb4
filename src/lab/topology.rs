//! The cabling of a room: hosts and a client on a service network, hosts on a second network.
//!
//! ```text
//!             service (bridge)              beat (bridge)
//!   client ---+---+---+--- router           +---+---+
//!   .200    h1   h2   h3   .1  eth0         h1  h2  h3  eth1
//!          .11  .12  .13   192.0.2.0/24    .11 .12 .13  10.9.0.0/24
//!          ::11 ::12 ::13  2001:db8::/64
//! ```
//!
//! The client stands for the rest of the world: it is the gateway of every host. The router is there only in rooms
//! that ask for it, to be watched and lost.
//! The bridges are in a network namespace of their own, so that a room is gone when it is dropped. Called by whoever builds a room; what breaks
//! it is in `faults`.

use super::netlink::{LinkState, Rtnl, VethEnd};
use super::netns::Netns;
use anyhow::{Context as _, anyhow};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vipd_core::types::Mac;

/// Most hosts that a room has: the addresses .11 to .99 are theirs.
pub const MAX_HOSTS: usize = 16;
/// The service interface of every host and of the client.
pub const SERVICE_LINK: &str = "eth0";
/// The interface of every host on the second network.
pub const BEAT_LINK: &str = "eth1";
/// The switch of the service network.
pub const SERVICE: &str = "service";
/// Where hosts go that a partition cuts off.
pub const ISLAND: &str = "island";
/// The switch of the second network.
pub const BEAT: &str = "beat";
/// The second half of a second network that is split as well.
pub const BEAT_ISLAND: &str = "beat-island";
/// The name of the client.
pub const CLIENT: &str = "client";
/// The name of the router.
pub const ROUTER: &str = "router";

/// One of the two networks of a room.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Net {
    /// Where the virtual address and the client are.
    Service,
    /// Where only hosts are: the second path of heartbeats.
    Beat,
}

impl Net {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Service, Self::Beat];

    /// Interface of a host on this network.
    #[must_use]
    pub const fn link(self) -> &'static str {
        match self {
            Self::Service => SERVICE_LINK,
            Self::Beat => BEAT_LINK,
        }
    }

    /// Switch port of the machine called `name`.
    #[must_use]
    pub fn port(self, name: &str) -> String {
        match self {
            Self::Service => format!("{name}-s"),
            Self::Beat => format!("{name}-b"),
        }
    }

    /// The switch to which a machine belongs when nothing is cut.
    #[must_use]
    pub const fn switch(self) -> &'static str {
        match self {
            Self::Service => SERVICE,
            Self::Beat => BEAT,
        }
    }

    /// The switch behind a partition.
    #[must_use]
    pub const fn island(self) -> &'static str {
        match self {
            Self::Service => ISLAND,
            Self::Beat => BEAT_ISLAND,
        }
    }
}

/// Name of the host with this position: h1, h2, ...
#[must_use]
pub fn host_name(ix: usize) -> String {
    format!("h{}", ix + 1)
}

/// Last part of the addresses of the host with this position: 11, 12, ...
fn number(ix: usize) -> u8 {
    u8::try_from(11 + ix).unwrap_or(u8::MAX)
}

/// IPv4 address of a host on a network.
#[must_use]
pub fn host_v4(ix: usize, net: Net) -> Ipv4Addr {
    match net {
        Net::Service => Ipv4Addr::new(192, 0, 2, number(ix)),
        Net::Beat => Ipv4Addr::new(10, 9, 0, number(ix)),
    }
}

/// IPv6 address of a host on the service network. Its decimal digits read like those of IPv4.
#[must_use]
pub fn host_v6(ix: usize) -> Ipv6Addr {
    let n = u16::from(number(ix));
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n / 10 * 16 + n % 10)
}

/// Ethernet address of a host on a network.
#[must_use]
pub fn host_mac(ix: usize, net: Net) -> Mac {
    let net = match net {
        Net::Service => 1,
        Net::Beat => 2,
    };
    Mac([0x02, 0, 0, 0, net, number(ix)])
}

/// IPv4 address of the client.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
/// IPv6 address of the client.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200);
/// Ethernet address of the client.
pub const CLIENT_MAC: Mac = Mac([0x02, 0, 0, 0, 1, 200]);

/// IPv4 address of the router.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// IPv6 address of the router.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Ethernet address of the router.
pub const ROUTER_MAC: Mac = Mac([0x02, 0, 0, 0, 1, 1]);

/// A host of the room.
#[derive(Debug)]
pub struct Host {
    name: String,
    ns: Option<Netns>,
}

impl Host {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine.
    ///
    /// # Errors
    /// When its power is off.
    pub fn ns(&self) -> anyhow::Result<&Netns> {
        self.ns.as_ref().ok_or_else(|| anyhow!("{} has no power", self.name))
    }

    /// Is it a running machine?
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.ns.is_some()
    }

    /// Takes the machine away; dropping it ends its network.
    pub(super) const fn take(&mut self) -> Option<Netns> {
        self.ns.take()
    }
}

/// Switches, hosts and client. One at a time in a process: agents find their files by host name.
#[derive(Debug)]
pub struct Topology {
    pub(super) switch: Rtnl,
    pub(super) switch_ns: Netns,
    hosts: Vec<Host>,
    client: Netns,
    router: Option<Netns>,
}

impl Topology {
    /// Builds a room with `hosts` hosts. The process must be inside (see [`super::room`]).
    ///
    /// # Errors
    /// When there are no hosts or more than [`MAX_HOSTS`], or the kernel refuses a part (no `veth` or
    /// `bridge` module).
    pub fn build(hosts: usize) -> anyhow::Result<Self> {
        if !(1..=MAX_HOSTS).contains(&hosts) {
            return Err(anyhow!("a room has 1 to {MAX_HOSTS} hosts, not {hosts}"));
        }
        let switch_ns = Netns::new("switch")?;
        let mut switch = switch_ns.run(|| Rtnl::open().context("cannot open route netlink"))?;
        for bridge in Net::ALL.iter().flat_map(|n| [n.switch(), n.island()]) {
            switch
                .add_bridge(bridge)
                .and_then(|_| switch.set_state(bridge, LinkState::Up))
                .with_context(|| format!("cannot make switch {bridge} (kernel module bridge?)"))?;
        }
        let client = Netns::new(CLIENT)?;
        plug(&mut switch, &client, Net::Service, CLIENT_MAC)?;
        address(&client, SERVICE_LINK, CLIENT_V4.into(), 24)?;
        address(&client, SERVICE_LINK, CLIENT_V6.into(), 64)?;
        let mut room =
            Self { switch, switch_ns, hosts: Vec::with_capacity(hosts), client, router: None };
        for ix in 0..hosts {
            room.hosts.push(Host { name: host_name(ix), ns: None });
            room.power_on(ix)?;
        }
        Ok(room)
    }

    /// All hosts, on or off.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host at `ix`.
    #[must_use]
    pub fn host(&self, ix: usize) -> &Host {
        &self.hosts[ix]
    }

    pub(super) fn host_mut(&mut self, ix: usize) -> &mut Host {
        &mut self.hosts[ix]
    }

    /// The client.
    #[must_use]
    pub const fn client(&self) -> &Netns {
        &self.client
    }

    /// Adds a router to the service network; it answers at its addresses and routes nothing.
    ///
    /// # Errors
    /// As in [`Topology::build`].
    pub fn add_router(&mut self) -> anyhow::Result<()> {
        let router = Netns::new(ROUTER)?;
        plug(&mut self.switch, &router, Net::Service, ROUTER_MAC)?;
        address(&router, SERVICE_LINK, ROUTER_V4.into(), 24)?;
        address(&router, SERVICE_LINK, ROUTER_V6.into(), 64)?;
        self.router = Some(router);
        Ok(())
    }

    /// The router.
    ///
    /// # Errors
    /// When the room has none.
    pub fn router(&self) -> anyhow::Result<&Netns> {
        self.router.as_ref().context("this room has no router: its plan has no health section")
    }

    /// The machine of the switches, for who wants to listen at a port.
    #[must_use]
    pub const fn switches(&self) -> &Netns {
        &self.switch_ns
    }

    /// Gives a host a fresh kernel, plugged in and with its own addresses, as after a boot.
    ///
    /// # Errors
    /// When it is on already, or as in [`Topology::build`].
    pub fn power_on(&mut self, ix: usize) -> anyhow::Result<()> {
        if self.hosts[ix].is_on() {
            return Err(anyhow!("{} is on already", self.hosts[ix].name));
        }
        let ns = Netns::new(&self.hosts[ix].name)?;
        for net in Net::ALL {
            plug(&mut self.switch, &ns, net, host_mac(ix, net))?;
            address(&ns, net.link(), host_v4(ix, net).into(), 24)?;
        }
        address(&ns, SERVICE_LINK, host_v6(ix).into(), 64)?;
        for gateway in [IpAddr::V4(CLIENT_V4), IpAddr::V6(CLIENT_V6)] {
            ns.run(move || Ok(Rtnl::open()?.add_default_route(SERVICE_LINK, gateway)?))
                .with_context(|| format!("cannot route {} through {gateway}", ns.name()))?;
        }
        self.hosts[ix].ns = Some(ns);
        Ok(())
    }

    /// Which host has this Ethernet address on the service network?
    #[must_use]
    pub fn host_by_mac(&self, mac: Mac) -> Option<usize> {
        (0..self.hosts.len()).find(|ix| host_mac(*ix, Net::Service) == mac)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for ns in self.hosts.iter().filter_map(|h| h.ns.as_ref()) {
            // What survives here ends with the room.
            let _ = super::processes::kill_all(ns);
        }
    }
}

/// Lays the cable of one machine to one switch; both ends up.
fn plug(switch: &mut Rtnl, ns: &Netns, net: Net, mac: Mac) -> anyhow::Result<()> {
    use std::os::fd::AsFd as _;
    let port = net.port(ns.name());
    let Mac([_, _, _, _, n, host]) = mac;
    let here = VethEnd { name: &port, mac: Mac([0x02, 0xff, 0, 0, n, host]) };
    let there = VethEnd { name: net.link(), mac };
    switch
        .add_veth(&here, &there, ns.as_fd())
        .and_then(|()| switch.set_bridge(&port, net.switch()))
        .and_then(|()| switch.set_state(&port, LinkState::Up))
        .with_context(|| format!("cannot lay cable {port} (kernel module veth?)"))?;
    let link = net.link();
    ns.run(move || Ok(Rtnl::open()?.set_state(link, LinkState::Up)?))
        .with_context(|| format!("cannot set {link} of {} up", ns.name()))
}

fn address(ns: &Netns, link: &'static str, addr: IpAddr, prefix_len: u8) -> anyhow::Result<()> {
    ns.run(move || Ok(Rtnl::open()?.add_address(link, addr, prefix_len)?))
        .with_context(|| format!("cannot give {} the address {addr}", ns.name()))
}
