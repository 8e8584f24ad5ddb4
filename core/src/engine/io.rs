//! What goes into the engine and what comes out: the whole boundary between deciding and doing.

mod order;

pub use crate::types::{Reading, Verdict};
pub use order::{OperationStep, OperatorOrder};

use crate::time::{Duration, Instant};
use crate::types::{
    CheckIx, Class, Epoch, Family, HostIx, IfIndex, InstanceIx, LinkIx, Mac, PathIx, RouterId,
    State, Vip,
};
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
    /// The kernel thread finished an [`Own`] order, in whole or with an error.
    Applied(Applied),
    /// The kernel thread finished a [`Renew`] order.
    Renewed(Renewed),
    /// A check ran, or could not be run.
    Check {
        /// Which one.
        check: CheckIx,
        /// What it came to.
        reading: Reading,
    },
    /// The activation asked for by [`Output::Activate`] ended.
    Activated {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// Ready to claim, or why not.
        result: Result<(), Arc<str>>,
    },
    /// An operator says so.
    Order {
        /// Number of the operation: comes back in [`EventKind::Operation`].
        id: u64,
        /// Which instance; `None`: all of this host.
        instance: Option<InstanceIx>,
        /// What.
        order: OperatorOrder,
    },
    /// Leave cleanly: hand over, then release (DESIGN 5.5). Finished when `Engine::stopped` is true.
    Stop,
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

/// Something to do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send this advert now; report with [`Input::Sent`].
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
    /// Make this host able to serve before it claims; answered by [`Input::Activated`].
    Activate {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order, growing.
        order: u64,
    },
    /// Tell: log, metrics, hooks, subscribers.
    Event(Event),
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
    /// Number of the order, growing; comes back in [`Applied`].
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

/// Result of an [`Own`] order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Which instance.
    pub instance: InstanceIx,
    /// The order's number.
    pub order: u64,
    /// When the last address was confirmed.
    pub at: Instant,
    /// What came of it.
    pub result: Result<(), KernelFault>,
}

/// Result of a [`Renew`] order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The order's number.
    pub order: u64,
    /// When the burst was sent: leases run from here.
    pub at: Instant,
    /// Instances whose addresses could not all be renewed, with the reason.
    pub failed: Vec<(InstanceIx, KernelFault)>,
}

/// Why the kernel did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelFault {
    /// `not_after` had passed.
    #[error("the order was too late: another host may own the address by now")]
    Late,
    /// The address is already on this host and is not ours.
    #[error(
        "{0} is already on this host and was not put there by vipd: remove it, or leave it out of the configuration"
    )]
    Foreign(IpAddr),
    /// The interface does not exist.
    #[error("interface {0} does not exist")]
    NoInterface(Arc<str>),
    /// The kernel refused.
    #[error("{what}: {error}")]
    Refused {
        /// What was tried.
        what: String,
        /// The kernel's words.
        error: String,
    },
}

/// Something worth telling, with its cause (DESIGN 5.15).
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// Which instance; `None`: the host.
    pub instance: Option<InstanceIx>,
    /// Which family, where it matters.
    pub family: Option<Family>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A virtual router changed state.
    Transition {
        /// From.
        from: State,
        /// To.
        to: State,
        /// Why.
        cause: Cause,
        /// Owner after the change, where known.
        owner: Option<IpAddr>,
        /// Effective priority.
        priority: u8,
        /// Epoch of the claim, when becoming active.
        epoch: Epoch,
    },
    /// The kernel confirmed a claim; announcements went out.
    Claimed {
        /// From the decision to the kernel's confirmation.
        took: Duration,
        /// How many addresses.
        addresses: usize,
    },
    /// The addresses are gone from this host.
    Released,
    /// The kernel could not do what it was asked.
    KernelFailed(KernelFault),
    /// Somebody removed an address of ours; it was put back.
    Repaired(Vip),
    /// A datagram was refused; at most one per source and reason in 60 s.
    Refused {
        /// Sender.
        src: IpAddr,
        /// Why, as `docs/conformance.md` names it.
        reason: &'static str,
        /// Refused since the last such event.
        suppressed: u64,
    },
    /// A peer appeared, or is gone on all paths.
    Peer {
        /// Which host.
        host: HostIx,
        /// Heard from again, or gone.
        alive: bool,
    },
    /// The boot counter in use changed: to be stored, so that the next start is above it.
    Boot {
        /// The counter in use from now on.
        counter: u64,
        /// The peer that remembered a higher one than was stored here.
        told_by: HostIx,
    },
    /// A condition that an operator has to look at began (`true`) or ended.
    Alarm(Alarm, bool),
    /// A check settled on another verdict.
    Check {
        /// Which one.
        check: CheckIx,
        /// Before; `None`: it had said nothing yet.
        from: Option<Verdict>,
        /// Now.
        to: Verdict,
        /// What was seen.
        detail: Arc<str>,
    },
    /// Class of eligibility or effective priority changed.
    Standing {
        /// Class now.
        class: Class,
        /// Effective priority now.
        priority: u8,
        /// Why.
        reason: StandingReason,
    },
    /// What flap control must remember over a restart of the agent: to be stored, replacing what was stored before
    /// for this instance, and given back to `Engine::recall`.
    Remember(FlapRecord),
    /// What became of an operator's order.
    Operation {
        /// Its number, as in [`Input::Order`].
        id: u64,
        /// How far it is.
        step: OperationStep,
    },
}

/// Why class or effective priority changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingReason {
    /// A check, by its settled verdict.
    Check(CheckIx, Verdict),
    /// Penalties went over the limit.
    Suppressed {
        /// Penalty.
        penalty: u32,
    },
    /// Penalties are below the limit again.
    Reused,
    /// The move budget is spent.
    Held,
    /// The hold ended: acknowledged, or quiet for long enough.
    HoldOver,
    /// The checks had their first word.
    Settled,
}

/// Flap control of one instance, as stored. Times are UTC, milliseconds since 1970: a restart may be a reboot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlapRecord {
    /// Penalty at `at_ms`.
    pub penalty: u32,
    /// When the penalty had this value.
    pub at_ms: u64,
    /// Held by the penalty since then.
    pub suppressed_ms: Option<u64>,
    /// Automatic moves, oldest first.
    pub moves_ms: Vec<u64>,
    /// Held by the budget since then.
    pub held_ms: Option<u64>,
}

/// Conditions that an operator has to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alarm {
    /// Adverts of a peer are silent, its heartbeats are not.
    AdvertPathBroken(HostIx),
    /// Two hosts own the address.
    DualActive(IpAddr),
    /// A host outside the group answers for the address.
    Conflict(IpAddr, Mac),
    /// Adverts with our VRID and other addresses.
    DuplicateVrid(IpAddr),
    /// The kernel of a silent peer still serves the address.
    StaleHolder(HostIx),
    /// A weaker peer keeps advertising: it does not hear us.
    DeafPeer(IpAddr),
    /// A peer's configuration differs from ours.
    ConfigMismatch(HostIx),
    /// Two hosts say that they are the owner at 255.
    DuplicateOwner(IpAddr),
    /// The address keeps being removed by somebody on this host.
    AddressFight,
    /// One family has no source address.
    FamilyDegraded(Family),
    /// A peer runs with a boot counter that we have already seen.
    BootCounterBehind(HostIx),
    /// The move budget is spent: held until acknowledged or quiet.
    Held,
    /// Penalties are over the limit: this host is second choice.
    Suppressed,
    /// A check could not be run, again and again.
    CheckUnknown(CheckIx),
    /// Nobody would take over by himself.
    NoStandby,
    /// The activation of this standby failed.
    ActivationFailed,
}

/// Why a virtual router changed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The agent started.
    Startup,
    /// A running owner was found after a restart of the agent (DESIGN 5.7).
    Adopted,
    /// No advert for this long.
    Silence(Duration),
    /// The owner said that it leaves.
    Released,
    /// This host's priority is higher than the owner's.
    Preempts(u8),
    /// A peer with this priority won.
    Outranked(u8),
    /// A peer of the same priority has the higher address.
    TieBreak,
    /// A peer said over a heartbeat that it cannot own.
    PeerUnable(HostIx),
    /// Settled over heartbeats between two owners.
    Settled(HostIx),
    /// A member of the sync group moved.
    SyncGroup,
    /// The interface is gone, down or has no carrier.
    LinkDown,
    /// The interface is usable again.
    LinkUp,
    /// The interface has no source address for adverts.
    NoSource,
    /// The agent stood still for this long.
    Overslept(Duration),
    /// The address ended by its own lifetime.
    LeaseEnded,
    /// The kernel could not hold the address.
    KernelFault,
    /// A clean stop.
    Stop,
    /// Asked by the peer that reaches the service segment.
    Isolated,
    /// This check fails.
    CheckFailed(CheckIx),
    /// The owner let go because this host is the better one: its class was lower.
    Offered(HostIx),
    /// Offered, and nobody came: the owner goes on.
    NobodyCame,
    /// An operator promoted this host.
    Promoted,
}

/// What a peer is known to be, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Which host.
    pub host: HostIx,
    /// Is it heard on any path?
    pub alive: bool,
    /// Per path: time since it was last heard.
    pub heard: Vec<Option<Duration>>,
    /// Per path: has it heard us within the last interval, by its own word?
    pub hears_me: Vec<bool>,
    /// Its release.
    pub version: String,
}
