//! Blocking route netlink for building rooms: links, bridges, ports, addresses.
//!
//! Called by the topology and by the faults. It acts in the network namespace of the thread that opened
//! it and knows nothing of agents; the agent's own netlink is `kernel`, which is judged by this one
//! and therefore never used here.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkHeader, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use vipd_core::types::Mac;

/// One socket, one request in flight.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
    seq: u32,
}

/// One end of a virtual cable.
#[derive(Debug, Clone)]
pub struct VethEnd<'a> {
    /// Name of the interface.
    pub name: &'a str,
    /// Its Ethernet address.
    pub mac: Mac,
}

impl Rtnl {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, seq: 0 })
    }

    /// Index of the interface called `name`.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn index(&mut self, name: &str) -> io::Result<u32> {
        self.header(name).map(|h| h.index)
    }

    /// Does the interface have a carrier? That is: is the other end of its cable up?
    ///
    /// # Errors
    /// `NotFound` when there is no such interface.
    pub fn has_carrier(&mut self, name: &str) -> io::Result<bool> {
        self.header(name).map(|h| h.flags.contains(LinkFlags::LowerUp))
    }

    fn header(&mut self, name: &str) -> io::Result<LinkHeader> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.into()));
        let reply = self.exchange(RouteNetlinkMessage::GetLink(link), 0)?;
        reply
            .into_iter()
            .find_map(|m| match m {
                RouteNetlinkMessage::NewLink(l) => Some(l.header),
                _ => None,
            })
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {name}")))
    }

    /// Makes a bridge without snooping, so that nothing depends on who joined which group.
    ///
    /// # Errors
    /// When the kernel refuses it (no bridge module) or the name is taken.
    pub fn add_bridge(&mut self, name: &str) -> io::Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.into()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ]));
        self.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)?;
        self.index(name)
    }

    /// Lays a cable from this namespace to `peer_ns`.
    ///
    /// # Errors
    /// When the kernel refuses it (no veth module) or a name is taken.
    pub fn add_veth(
        &mut self,
        here: &VethEnd<'_>,
        there: &VethEnd<'_>,
        peer_ns: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(there.name.into()));
        peer.attributes.push(LinkAttribute::Address(there.mac.0.to_vec()));
        peer.attributes.push(LinkAttribute::NetNsFd(peer_ns.as_raw_fd()));
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(here.name.into()));
        link.attributes.push(LinkAttribute::Address(here.mac.0.to_vec()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn set_state(&mut self, name: &str, state: LinkState) -> io::Result<()> {
        let mut link = self.link(name)?;
        link.header.change_mask = LinkFlags::Up;
        if state == LinkState::Up {
            link.header.flags = LinkFlags::Up;
        }
        self.change(RouteNetlinkMessage::NewLink(link), 0)
    }

    /// Plugs a port into a bridge; it leaves the bridge in which it was.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub fn set_bridge(&mut self, port: &str, bridge: &str) -> io::Result<()> {
        let index = self.index(bridge)?;
        let mut link = self.link(port)?;
        link.attributes.push(LinkAttribute::Controller(index));
        self.change(RouteNetlinkMessage::NewLink(link), 0)
    }

    /// Takes a port out of its bridge: a cable that is plugged in and leads nowhere. Forwarding ends at
    /// once, before the call returns.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn unplug(&mut self, port: &str) -> io::Result<()> {
        let mut link = self.link(port)?;
        link.attributes.push(LinkAttribute::Controller(0));
        self.change(RouteNetlinkMessage::NewLink(link), 0)
    }

    /// Removes an interface; of a cable both ends go.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn delete(&mut self, name: &str) -> io::Result<()> {
        let link = self.link(name)?;
        self.change(RouteNetlinkMessage::DelLink(link), 0)
    }

    /// Puts an address on an interface, permanent and without duplicate address detection.
    ///
    /// # Errors
    /// When there is no such interface or the address is there already.
    pub fn add_address(&mut self, name: &str, addr: IpAddr, prefix_len: u8) -> io::Result<()> {
        let message = self.address(name, addr, prefix_len)?;
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes `gateway`, reachable through the interface, the default route of its family.
    ///
    /// # Errors
    /// When there is no such interface, the gateway is not on its network, or there is a default already.
    pub fn add_default_route(&mut self, name: &str, gateway: IpAddr) -> io::Result<()> {
        let mut route = RouteMessage::default();
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.protocol = RouteProtocol::Boot;
        route.header.scope = RouteScope::Universe;
        route.header.kind = RouteType::Unicast;
        let (family, gateway) = match gateway {
            IpAddr::V4(a) => (AddressFamily::Inet, RouteAddress::Inet(a)),
            IpAddr::V6(a) => (AddressFamily::Inet6, RouteAddress::Inet6(a)),
        };
        route.header.address_family = family;
        route.attributes.push(RouteAttribute::Gateway(gateway));
        route.attributes.push(RouteAttribute::Oif(self.index(name)?));
        // FRR sends router advertisements: the kernel may have learnt a default route meanwhile.
        self.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Takes an address off an interface.
    ///
    /// # Errors
    /// When there is no such interface or address.
    pub fn delete_address(&mut self, name: &str, addr: IpAddr, prefix_len: u8) -> io::Result<()> {
        let message = self.address(name, addr, prefix_len)?;
        self.change(RouteNetlinkMessage::DelAddress(message), 0)
    }

    /// Every address of this namespace with the index of its interface.
    ///
    /// # Errors
    /// When the dump fails.
    pub fn addresses(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let reply = self.exchange(request, NLM_F_DUMP)?;
        Ok(reply
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewAddress(a) => Some((a.header.index, address_of(a)?)),
                _ => None,
            })
            .collect())
    }

    /// Indexes of the interfaces of this namespace that `protodown` shuts.
    ///
    /// # Errors
    /// When the dump fails.
    pub fn shut_links(&mut self) -> io::Result<Vec<u32>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let reply = self.exchange(request, NLM_F_DUMP)?;
        let shut = |m: &RouteNetlinkMessage| match m {
            RouteNetlinkMessage::NewLink(l) if is_shut(l) == Some(true) => Some(l.header.index),
            _ => None,
        };
        Ok(reply.iter().filter_map(shut).collect())
    }

    fn link(&mut self, name: &str) -> io::Result<LinkMessage> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        Ok(link)
    }

    fn address(&mut self, name: &str, addr: IpAddr, prefix_len: u8) -> io::Result<AddressMessage> {
        let mut message = AddressMessage::default();
        message.header.index = self.index(name)?;
        message.header.prefix_len = prefix_len;
        message.header.family = match addr {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Local(addr));
        message.attributes.push(AddressAttribute::Address(addr));
        Ok(message)
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, flags | NLM_F_ACK).map(drop)
    }

    /// Sends one request and reads until its end: an acknowledgement, the end of a dump or a lone reply.
    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.seq += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.seq;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let alone = flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut found = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages(&datagram) {
                if message.header.sequence_number != self.seq {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::InnerMessage(m) => found.push(m),
                    _ => {}
                }
            }
            if alone && !found.is_empty() {
                return Ok(found);
            }
        }
    }
}

/// Up or down.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// Administratively up.
    Up,
    /// Administratively down: the other end of a cable loses its carrier.
    Down,
}

/// The messages of one datagram; stops at the first that cannot be read.
pub(super) fn messages(
    datagram: &[u8],
) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).ok()?;
        // RFC 3549 section 2.3.2: messages are aligned to four octets.
        let length = usize::try_from(message.header.length).ok()?.next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        (length > 0).then_some(message)
    })
}

/// Does `protodown` shut the interface that `message` is about? `None`: it does not say.
pub(super) fn is_shut(message: &LinkMessage) -> Option<bool> {
    message.attributes.iter().find_map(|a| match a {
        LinkAttribute::ProtoDown(value) => Some(*value != 0),
        _ => None,
    })
}

/// The address that `message` is about: `IFA_LOCAL`, else `IFA_ADDRESS` (IPv6 has only that).
pub(super) fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}
