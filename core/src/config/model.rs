//! What a checked configuration means for one host: the input of the engine and of the kernel edge.
//!
//! Made by `config::load` for one host name; every per-host table is resolved, every value is legal,
//! every cross-reference is an index. Nothing here is `Option` because it "might be wrong".

mod check;
mod hook;
mod policy;
mod replicate;
mod telemetry;

pub use check::{Check, DnsRecord, HttpProbe, Probe, Process, Resource, Severity};
pub use hook::{Account, Call, Hook, HookRun, Moment, Program};
pub use policy::{Activation, Budget, Damping, FlapControl, Standby, StandbyKind};
pub use replicate::{Gate, Replicate};
pub use telemetry::{Listen, Telemetry};

use super::hash::stable_hash;
use crate::time::Duration;
use crate::types::{
    CheckIx, Family, HostIx, InstanceIx, Interval, LinkIx, Priority, Version, Vip, Vrid,
};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The whole configuration as one host sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// `[cluster] name`; binds the heartbeat keys, so that two groups with one key stay apart.
    pub cluster: Arc<str>,
    /// This host.
    pub host: HostIx,
    /// All hosts, sorted by name.
    pub hosts: Vec<Host>,
    /// Heartbeats; `None`: no host has `paths`, plain VRRP.
    pub heartbeat: Option<Heartbeat>,
    /// Service interfaces of this host, by first mention.
    pub links: Vec<Link>,
    /// Instances that this host takes part in, sorted by name.
    pub instances: Vec<Instance>,
    /// Sync groups, sorted by name.
    pub sync_groups: Vec<SyncGroup>,
    /// Checks that an instance of this host uses, sorted by name.
    pub checks: Vec<Check>,
    /// Hooks of this host, sorted by name.
    pub hooks: Vec<Hook>,
    /// Sets of state files of those instances, sorted by name.
    pub replicates: Vec<Replicate>,
    /// TCP port of replication, the same on every host.
    pub replicate_port: u16,
    /// What this host serves about itself.
    pub telemetry: Telemetry,
    /// 64-bit hash of the meaning of the file, the same on every host: shown by peers that differ.
    pub hash: u64,
}

impl Model {
    /// The instance at `ix`.
    pub fn instance(&self, ix: InstanceIx) -> &Instance {
        &self.instances[usize::from(ix.0)]
    }

    /// The check at `ix`.
    pub fn check(&self, ix: CheckIx) -> &Check {
        &self.checks[usize::from(ix.0)]
    }

    /// The name of the host at `ix`.
    pub fn host_name(&self, ix: HostIx) -> &Arc<str> {
        &self.hosts[usize::from(ix.0)].name
    }

    /// By which number epochs know the host at `ix`. Made from the names, so that it stays the same when hosts come or go:
    /// epochs are kept on disks, and hosts compare them with one another while their files differ. Only a host that comes
    /// or goes with the same number as another, one of 256, may change that one's.
    pub fn epoch_host(&self, ix: HostIx) -> u8 {
        let hash = |host: &Host| stable_hash(host.name.as_bytes());
        // No group has more hosts than there are numbers.
        let mut hosts: Vec<(u64, u8)> = self.hosts.iter().map(hash).zip(0..u8::MAX).collect();
        hosts.sort_unstable();
        let mut taken = BTreeSet::new();
        for (hash, at) in hosts {
            let mut number = hash.to_le_bytes()[0];
            while !taken.insert(number) {
                number = number.wrapping_add(1);
            }
            if at == ix.0 {
                return number;
            }
        }
        ix.0
    }

    /// The sets of state files that follow the instance at `ix`.
    pub fn sets_of(&self, ix: InstanceIx) -> impl Iterator<Item = &Replicate> {
        self.replicates.iter().filter(move |set| set.instance == ix)
    }

    /// All instances with their positions.
    pub fn iter(&self) -> impl Iterator<Item = (InstanceIx, &Instance)> {
        (0u16..).map(InstanceIx).zip(&self.instances)
    }
}

/// A machine of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `[hosts.NAME]`.
    pub name: Arc<str>,
    /// Heartbeat addresses, one per network, in the order of the networks; empty: none.
    pub paths: Vec<IpAddr>,
}

/// How heartbeats run (DESIGN 5.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// UDP port, the same on every host.
    pub port: u16,
    /// The cluster key.
    pub key_file: PathBuf,
    /// Time between two heartbeats on one path: the smallest advert interval of all instances.
    pub interval: Interval,
}

/// A service interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface name.
    pub name: Arc<str>,
    /// Longest wait for a first frame after start and after carrier-up; zero: none (DESIGN 5.12).
    pub settle: Duration,
}

/// One VRID on one interface with its addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// `[instance.NAME]`.
    pub name: Arc<str>,
    /// 64-bit hash of the name: how heartbeats name the instance. Unique in the file.
    pub key: u64,
    /// Virtual router identifier.
    pub vrid: Vrid,
    /// Service interface.
    pub link: LinkIx,
    /// VRRP version of the IPv4 router; the IPv6 router always speaks version 3.
    pub version: Version,
    /// Advertised addresses, in order, both families. IPv6: a link-local address comes first.
    pub addresses: Vec<Vip>,
    /// Claimed, leased and announced, but not in the advert.
    pub unadvertised: Vec<Vip>,
    /// Priority of each host, by [`HostIx`]; `None`: that host does not take part.
    pub priorities: Vec<Option<Priority>>,
    /// Priority of this host.
    pub priority: Priority,
    /// Advertisement interval of this host.
    pub interval: Interval,
    /// Take the address from a weaker owner.
    pub preempt: bool,
    /// Healthy this long before taking the address from a weaker owner.
    pub preempt_delay: Duration,
    /// Not claiming by preemption this long after losing the address to a fault.
    pub hold_down: Duration,
    /// Accept packets to the address when not its owner at 255 (RFC 9568 Accept_Mode; default true).
    pub accept: bool,
    /// Use the virtual router MAC on a macvlan device.
    pub virtual_mac: bool,
    /// How the address is put on the host.
    pub claim: Claim,
    /// Multicast, or unicast to these peers, by family.
    pub transport: Transport,
    /// Source address of adverts by family; `None`: first non-virtual address (IPv6: link-local).
    pub source: [Option<IpAddr>; 2],
    /// Checksum of version 3 over IPv4 in what is sent; both flavours are accepted.
    pub checksum: ChecksumFlavour,
    /// Authentication.
    pub auth: Auth,
    /// Finite kernel lifetime of claimed addresses (DESIGN 5.1).
    pub lease: bool,
    /// Wait for a silent peer's kernel to let go (DESIGN 5.2).
    pub stale_holder_wait: bool,
    /// What an unknown host that answers for the address does to a claim.
    pub on_conflict: OnConflict,
    /// Do the two families share their fate (DESIGN 5.11)? Only with heartbeats.
    pub shared_fate: bool,
    /// Install addresses with the configured prefix length instead of /32 or /128.
    pub prefix_route: bool,
    /// Targets on the service segment that tell a dead peer from a cut link; empty: gateway, neighbours.
    pub targets: Vec<IpAddr>,
    /// Routes that exist only while active.
    pub routes: Vec<VirtualRoute>,
    /// Policy rules that exist only while active.
    pub rules: Vec<VirtualRule>,
    /// Refuse what RFC 9568 lets a receiver refuse: a first IPv6 address that is not link-local.
    pub strict: bool,
    /// Does this host claim by itself?
    pub standby: Standby,
    /// Standby of each host, by [`HostIx`]: who would claim without being told; `None`: does not take part.
    pub standbys: Vec<Option<StandbyKind>>,
    /// Checks that say whether this host is fit to own; positions in [`Model::checks`].
    pub checks: Vec<CheckIx>,
    /// What keeps the address from bouncing.
    pub flap: FlapControl,
}

impl Instance {
    /// Families in which this instance runs a virtual router: those of the advertised addresses.
    pub fn families(&self) -> impl Iterator<Item = Family> + '_ {
        Family::ALL.into_iter().filter(|f| self.addresses.iter().any(|a| a.family() == *f))
    }

    /// The family that leads in a shared fate: that of the first address (DESIGN 5.11).
    pub fn leader(&self) -> Family {
        self.addresses.first().map_or(Family::V4, Vip::family)
    }

    /// Advertised addresses of one family, in order.
    pub fn advertised(&self, family: Family) -> impl Iterator<Item = &Vip> {
        self.addresses.iter().filter(move |a| a.family() == family)
    }

    /// Every address that is claimed, advertised or not.
    pub fn claimed(&self) -> impl Iterator<Item = &Vip> {
        self.addresses.iter().chain(&self.unadvertised)
    }

    /// What the kernel lists as addresses of an interface while this host is active: with `claim = "route"` the
    /// anchor stands for all IPv4 addresses, the others are local routes.
    pub fn listed(&self) -> impl Iterator<Item = &Vip> {
        let anchor = self.claimed().position(|v| v.addr.is_ipv4());
        let by_route = self.claim == Claim::Route;
        self.claimed()
            .enumerate()
            .filter(move |(n, v)| !by_route || !v.addr.is_ipv4() || Some(*n) == anchor)
            .map(|(_, v)| v)
    }

    /// VRRP version in `family`.
    pub fn version_in(&self, family: Family) -> Version {
        match family {
            Family::V4 => self.version,
            Family::V6 => Version::V3,
        }
    }

    /// Advert source configured for `family`.
    pub fn source_in(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.source[0],
            Family::V6 => self.source[1],
        }
    }

    /// May adverts be sent from `addr` where no source is configured? Of IPv6 the link-local address (RFC 9568
    /// section 5.1.2.1), unless the peers are named by wider ones: they know this host by its address of that kind.
    pub fn is_source(&self, addr: IpAddr) -> bool {
        let IpAddr::V6(addr) = addr else { return true };
        let wider = |peer: &IpAddr| matches!(peer, IpAddr::V6(p) if !p.is_unicast_link_local());
        let wanted = match &self.transport {
            Transport::Multicast => false,
            Transport::Unicast(peers) => peers.iter().any(wider),
        };
        addr.is_unicast_link_local() != wanted
    }

    /// Length of the address lease in whole seconds: the largest below 3T - 0.4 s, at least 1
    /// (DESIGN 5.1); `None` without leases. `interval` is the one peers currently believe.
    pub fn lease_secs(&self, interval: Interval) -> Option<u32> {
        self.lease.then(|| {
            let budget_ms = (u32::from(interval.centis()) * 30).saturating_sub(400);
            (budget_ms.saturating_sub(1) / 1000).max(1)
        })
    }
}

/// How an address is put on the host.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// As interface addresses.
    Address,
    /// IPv4: one leased anchor address and local routes that use it as source; for large sets.
    Route,
}

/// Where adverts go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transport {
    /// The VRRP group of the family.
    Multicast,
    /// Each of these peers (this host's own addresses already removed).
    Unicast(Vec<IpAddr>),
}

/// What the checksum of version 3 over IPv4 covers.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ChecksumFlavour {
    /// The message alone (RFC 9568).
    Rfc9568,
    /// With a pseudo-header, as keepalived and FRR read RFC 5798.
    Rfc5798,
}

/// Authentication of adverts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Auth {
    /// None.
    None,
    /// Version 2 authentication type 1: eight octets, zero-padded (RFC 2338 section 5.3.10).
    SimpleText([u8; 8]),
    /// HMAC-SHA-256 trailer.
    Hmac(HmacAuth),
}

/// The advert trailer of draft-cassen-vrrp-auth-hmac.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HmacAuth {
    /// Who sends and who must send.
    pub mode: HmacMode,
    /// Key files by id; not empty.
    pub keys: Vec<(u8, PathBuf)>,
    /// Id of the key that signs; one of `keys`.
    pub active_key: u8,
    /// Freshness window; `None`: sequence only (`monotonic`).
    pub window: Option<Duration>,
}

/// Roll-out of the trailer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum HmacMode {
    /// Verify if present, send none.
    ReceiveOnly,
    /// Send, accept without.
    Permissive,
    /// Send, require.
    Enforce,
}

/// Answer to an unknown host that uses the address.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum OnConflict {
    /// Claim all the same, with an alarm.
    Alarm,
    /// Do not claim while it answers.
    Refuse,
}

/// A route that exists only while the instance is active.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualRoute {
    /// Destination; `0.0.0.0/0` and `::/0` for the default route.
    pub to: IpNet,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// Preferred source; IPv4: a claimed address, so that the route goes with it (DESIGN 5.1).
    pub src: Option<IpAddr>,
    /// Routing table; 254 is `main`.
    pub table: u32,
    /// Metric; 0: the kernel's default.
    pub metric: u32,
}

/// A policy rule that exists only while the instance is active.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualRule {
    /// Family of the rule.
    pub family: Family,
    /// Source prefix.
    pub from: Option<IpNet>,
    /// Destination prefix.
    pub to: Option<IpNet>,
    /// Table to look up.
    pub table: u32,
    /// Preference of the rule; unique per family.
    pub preference: u32,
}

/// Instances that move together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncGroup {
    /// `[sync.NAME]`.
    pub name: Arc<str>,
    /// Members.
    pub members: Vec<InstanceIx>,
}
