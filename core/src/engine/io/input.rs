//! What comes into the engine: packets, the kernel's news and answers, readings of checks, orders of an operator.
//!
//! Made by the runtime, one at a time for `Engine::handle`; plain data, it must never hold a handle of the system.

use super::super::Secrets;
use super::{KernelFault, OperatorOrder};
use crate::config::model::Model;
use crate::time::{Duration, Instant};
use crate::types::{CheckIx, IfIndex, InstanceIx, LinkIx, Mac, PathIx, Reading, RouterId, SetIx};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Something that happened. Exactly one per call of `Engine::handle`.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The deadline has passed. Given only after every socket was drained (DESIGN 5.3).
    Timeout,
    /// A VRRP datagram (protocol 112) arrived.
    Packet(Packet<'a>),
    /// A UDP datagram arrived on a heartbeat path.
    Heartbeat(HeartbeatIn<'a>),
    /// Somebody spoke ARP or NDP for an address of ours, or answered a probe.
    Neighbour(NeighbourIn),
    /// `sendmsg` of the advert last put out for this router returned.
    Sent {
        /// Whose advert.
        router: RouterId,
        /// Accepted by the kernel?
        accepted: bool,
    },
    /// What the kernel says of a service interface, whole, whenever it may have changed.
    Link {
        /// Which one.
        link: LinkIx,
        /// Its state.
        state: LinkState,
    },
    /// Every address on a service interface (its macvlan devices included), after a dump.
    Addresses {
        /// Which one.
        link: LinkIx,
        /// All addresses, ours and foreign.
        present: &'a [KernelAddr],
    },
    /// One address appeared or changed; not reported for our own adds and renewals.
    AddressAdded {
        /// Where.
        link: LinkIx,
        /// What.
        addr: KernelAddr,
    },
    /// One address went away, whoever removed it.
    AddressRemoved {
        /// Where.
        link: LinkIx,
        /// What.
        addr: IpAddr,
    },
    /// A frame from somebody else was received on this interface since carrier-up.
    FrameSeen(LinkIx),
    /// The kernel thread finished an [`Own`](super::Own) order, in whole or with an error.
    Applied(Applied),
    /// The kernel thread finished a [`Renew`](super::Renew) order.
    Renewed(Renewed),
    /// A check ran, or could not be run.
    Check {
        /// Which one.
        check: CheckIx,
        /// What it came to.
        reading: Reading,
    },
    /// The activation asked for by [`Output::Activate`](super::Output::Activate) ended.
    Activated {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// Ready to claim, or why not.
        result: Result<(), Arc<str>>,
    },
    /// The hooks asked for by [`Output::PrePromote`](super::Output::PrePromote) have spoken.
    PrePromoted {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// They agree, or who refuses and why.
        result: Result<(), Arc<str>>,
    },
    /// The barrier asked for by [`Output::Barrier`](super::Output::Barrier) is reached, or cannot be.
    BarrierDone {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// The target has everything, or why not.
        result: Result<(), Arc<str>>,
    },
    /// How the copy of a set of state files stands on this host: at each word of the replicator, and when it is gone.
    Replica {
        /// Which set.
        set: SetIx,
        /// How; `None`: nobody knows, the replicator does not run.
        state: Option<ReplicaState>,
    },
    /// What [`EventKind::Remember`](super::EventKind::Remember) gave of an instance is on the disk, or cannot be put
    /// there now; the edge goes on trying and says so again.
    Stored {
        /// Which instance.
        instance: InstanceIx,
        /// [`EpochRecord::reserved`](super::EpochRecord::reserved) of what was given.
        reserved: u64,
        /// Stored, or why not.
        result: Result<(), Arc<str>>,
    },
    /// An operator says so.
    Order {
        /// Number of the operation: comes back in [`EventKind::Operation`](super::EventKind::Operation).
        id: u64,
        /// Which instance; `None`: all of this host.
        instance: Option<InstanceIx>,
        /// What.
        order: OperatorOrder,
    },
    /// The agent is about to be started anew and shall be missed by nobody (DESIGN 5.7). Finished when
    /// `Engine::may_exec` is true.
    PrepareRestart,
    /// It will not be started anew after all.
    AbortRestart,
    /// Another configuration is about to come into force: instances that cannot go on with it in place, or that it does
    /// not have, are handed over and released as in a clean stop. Finished when `Engine::retired` is true.
    Retire(Arc<Model>),
    /// It comes into force, after [`Input::Retire`] of the same model has finished. Inputs from here on are numbered by
    /// it.
    Reload(Arc<Model>, Secrets),
    /// Leave cleanly: hand over, then release (DESIGN 5.5). Finished when `Engine::stopped` is true.
    Stop,
}

/// How a copy of state files stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// Everything that the owner had so long ago is here, as it last said; `None`: unknown.
    pub age: Option<Duration>,
    /// Octets that were still to come, by its last word.
    pub pending: u64,
}

/// A VRRP datagram as received.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// Interface of arrival.
    pub link: LinkIx,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// VRRP message, after the IP header, trimmed to the IP length.
    pub payload: &'a [u8],
    /// Time between arrival in the kernel and this call, clamped to what is possible.
    pub age: Duration,
}

/// A heartbeat datagram as received.
#[derive(Clone, Debug)]
pub struct HeartbeatIn<'a> {
    /// The path on whose socket it arrived.
    pub path: PathIx,
    /// Sender.
    pub src: SocketAddr,
    /// UDP payload.
    pub payload: &'a [u8],
    /// Time between arrival in the kernel and this call.
    pub age: Duration,
}

/// ARP or NDP evidence that `mac` holds `addr`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NeighbourIn {
    /// Interface of arrival.
    pub link: LinkIx,
    /// The address spoken for: ARP sender address, or NA target.
    pub addr: IpAddr,
    /// Who speaks: ARP sender hardware address, or target link-layer option.
    pub mac: Mac,
    /// True for an answer sent to us, false for an announcement to all.
    pub reply: bool,
}

/// State of a service interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Kernel index; `None`: the interface does not exist.
    pub index: Option<IfIndex>,
    /// Administratively up and carrier present.
    pub running: bool,
    /// Hardware address.
    pub mac: Mac,
    /// Maximum transmission unit, octets.
    pub mtu: u32,
    /// Usable (not tentative) unicast addresses that do not bear our tag, in the kernel's order:
    /// primary IPv4 first, link-local IPv6 included.
    pub addrs: Vec<IpAddr>,
    /// Next hops of default routes through this interface: the targets of last resort.
    pub gateways: Vec<IpAddr>,
}

/// An address as the kernel has it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KernelAddr {
    /// The address.
    pub addr: IpAddr,
    /// Prefix length on the interface.
    pub prefix_len: u8,
    /// Does it bear our tag (IFA_PROTO, or the claims file on kernels before 5.18)?
    pub ours: bool,
    /// Time since the kernel last touched its lifetime.
    pub age: Duration,
    /// What is left of its lifetime; `None`: for ever.
    pub valid_for: Option<Duration>,
}

/// Result of an [`Own`](super::Own) order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Which instance.
    pub instance: InstanceIx,
    /// The order's number.
    pub order: u64,
    /// Not after the first address was put on: leases run from here at the earliest.
    pub at: Instant,
    /// What came of it.
    pub result: Result<(), KernelFault>,
}

/// Result of a [`Renew`](super::Renew) order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The order's number.
    pub order: u64,
    /// When the burst was sent, or the first part of a renewal that it goes on with: leases run from here at the earliest.
    pub at: Instant,
    /// Instances whose addresses could not all be renewed, with the reason.
    pub failed: Vec<(InstanceIx, KernelFault)>,
}
