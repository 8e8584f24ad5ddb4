//! What the engine wants done: datagrams to send, orders to the kernel thread, activations, and events to tell.
//!
//! Written by the engine, carried out in this order by the runtime; plain data, it must never do anything itself.

use super::Event;
use crate::config::model::Model;
use crate::time::Instant;
use crate::types::{HostIx, InstanceIx, LinkIx, Mac, PathIx, RouterId};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Something to do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send this advert now; report with [`Input::Sent`](super::Input::Sent).
    Send(Transmit),
    /// Send this heartbeat now.
    Heartbeat(HeartbeatOut),
    /// Send this gratuitous ARP or unsolicited NA now.
    Announce(Announce),
    /// Ask a neighbour: unicast ARP request or NS.
    Probe(Probe),
    /// Kernel thread: put on or take off the addresses of an instance.
    Own(Own),
    /// Kernel thread: renew leases.
    Renew(Renew),
    /// Make this host able to serve before it claims; answered by [`Input::Activated`](super::Input::Activated).
    Activate {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order, growing.
        order: u64,
    },
    /// Ask the operator's pre-promote hooks before an ordered claim; answered by
    /// [`Input::PrePromoted`](super::Input::PrePromoted).
    PrePromote {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order, growing.
        order: u64,
        /// The owner that hands over; `None`: an operator promotes this host.
        from: Option<HostIx>,
    },
    /// The claim that the hooks of that order were asked for does not come: they undo what they did.
    NotPromoted {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
    },
    /// In a planned move, before the target claims: quiet the writer, and bring everything that it wrote to `to`;
    /// answered by [`Input::BarrierDone`](super::Input::BarrierDone).
    Barrier {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order, growing.
        order: u64,
        /// Who takes over.
        to: HostIx,
        /// The answer is of no use after this time.
        deadline: Instant,
    },
    /// The barrier of that order is over, once, whatever came of it.
    BarrierOver {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// This host does not own the addresses any more; else it goes on as owner, and so does the writer.
        moved: bool,
    },
    /// Tell: log, metrics, hooks, subscribers.
    Event(Event),
    /// From here on everything is numbered by this model. Orders to the kernel that are not finished are void; what is
    /// still wanted follows.
    Reloaded(Arc<Model>),
}

/// An advert to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The virtual router that speaks.
    pub router: RouterId,
    /// Interface to leave by.
    pub link: LinkIx,
    /// Source address.
    pub src: IpAddr,
    /// Destinations: the group, or each unicast peer.
    pub dst: Vec<IpAddr>,
    /// Virtual router MAC as Ethernet source, or the interface's own: a host that does not serve the addresses yet,
    /// or no longer, must not move the switches' tables.
    pub virtual_mac: bool,
    /// VRRP message, one per destination (they differ where the checksum covers the destination);
    /// IPv6 checksums are final.
    pub payload: Vec<Vec<u8>>,
}

/// A heartbeat to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatOut {
    /// The path, whose socket sends it.
    pub path: PathIx,
    /// The peer.
    pub to: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// A gratuitous ARP (IPv4) or unsolicited NA (IPv6) to send.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Whose address.
    pub router: RouterId,
    /// Interface to leave by.
    pub link: LinkIx,
    /// The address.
    pub addr: IpAddr,
    /// Hardware address that holds it from now on: Ethernet source and content.
    pub mac: Mac,
}

/// A question to one neighbour.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Interface to leave by (always the parent, never a macvlan).
    pub link: LinkIx,
    /// The address asked for.
    pub addr: IpAddr,
    /// Whom to ask (Ethernet destination): the silent peer, or broadcast / solicited-node when `None`.
    pub to: Option<Mac>,
    /// Ethernet source and ARP sender hardware address; ARP sender address is 0.0.0.0.
    pub from: Mac,
    /// NS source: our link-local address. `None` for ARP.
    pub source: Option<IpAddr>,
}

/// Put on or take off the addresses of one instance: the newest order of an instance wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Which instance.
    pub instance: InstanceIx,
    /// Number of the order, growing; comes back in [`Applied`](super::Applied).
    pub order: u64,
    /// What is wanted.
    pub want: Want,
}

/// What the kernel shall hold for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Every claimed address of the instance, with its device, routes, rules and filters.
    Hold {
        /// Lifetime in whole seconds; `None`: for ever.
        lease_secs: Option<u32>,
        /// Do nothing when this instant has passed: another host may own by now.
        not_after: Instant,
        /// Families whose router is active.
        families: [bool; 2],
    },
    /// Nothing of it.
    Free,
}

/// Renew leases: every address held for these instances, in one burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    /// Which instances, with the lifetime in whole seconds.
    pub instances: Vec<(InstanceIx, u32)>,
    /// Number of the order, growing.
    pub order: u64,
    /// Checked just before each chunk is sent; an expired order is dropped and reported so.
    pub not_after: Instant,
}
