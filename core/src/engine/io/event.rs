//! What the engine tells: events with their cause, alarms, and what is known of a peer.
//!
//! Read by the log, the metrics, the hooks and the subscribers; the wording is theirs, here are only the facts.

use super::{Memory, OperationStep};
use crate::engine::snapshot::RoleView;
use crate::time::{Duration, Instant};
use crate::types::{CheckIx, Class, Epoch, Family, HostIx, InstanceIx, Mac, State, Verdict, Vip};
use std::net::IpAddr;
use std::sync::Arc;

/// Why the kernel did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelFault {
    /// `not_after` had passed.
    #[error("the kernel thread came too late for the order")]
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
    /// What must outlive a restart of the agent: to be stored, replacing what was stored before for this instance, or
    /// for the host where the event has none, and given back to `Engine::recall`.
    Remember(Memory),
    /// Of an instance whose state follows the address: who owns changed, or the newest ownership that is known.
    Role(RoleView),
    /// The agent stops, or hands the instance over for another configuration, and what was written here last is on no other
    /// host that takes over: why.
    Unsynced(Arc<str>),
    /// Pre-promote hooks were asked for a claim that somebody ordered, and it is not done: who refuses, and why.
    Vetoed(Arc<str>),
    /// What became of an operator's order.
    Operation {
        /// Its number, as in [`Input::Order`](super::Input::Order).
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
    /// An operator drained it.
    Drained,
    /// It is not drained any more.
    Undrained,
    /// An operator set the priority, or took that back, or its time was over.
    PriorityOrdered,
    /// The configuration changed.
    Reload,
    /// The copy of the state became old or unknown (`true`), or is good again.
    Replica(bool),
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
    /// An operator drained this host.
    Drained,
    /// An operator stopped preemption and voluntary moves in the group.
    Frozen,
    /// The copy of the state here is old or unknown: second choice, or no claim at all, as configured.
    ReplicaStale,
    /// The disk takes no reservation of epochs: after a power cut this host relies on its peers to remember.
    StateUnwritable,
    /// This host is stronger and waits for the address, whose state could not be brought there: why.
    NotBrought(HostIx, Arc<str>),
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
    /// A planned move brought the address here, from this host: by an operator's order, a drain, a preemption.
    MovedHere(HostIx),
    /// The address was moved away as planned: to this host, or, by an operator, to whoever came.
    MovedAway(Option<HostIx>),
    /// An operator drained this host.
    Drained,
    /// The configuration changed in a way that a running instance cannot follow.
    Reload,
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
