//! The file as read: typed values with their places, per-host tables resolved for each host.
//!
//! Made by `read` and `read_instance`, looked at by `check`, turned into the model by `resolve`.
//! Single values are legal; what they mean together is not yet proved.

use super::model::{
    Account, Call, ChecksumFlavour, Claim, FlapControl, Gate, HmacMode, Listen, Moment, OnConflict,
    Probe, Program, Severity, StandbyKind,
};
use super::section::{At, Span};
use crate::time::Duration;
use crate::types::{Family, Interval, Priority, Version, Vip, Vrid};
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The whole file.
pub(super) struct File {
    /// `[cluster]`.
    pub(super) cluster: ClusterDecl,
    /// Sorted by name.
    pub(super) hosts: Vec<HostDecl>,
    /// Where `[hosts]` is; the start of the file when it is not.
    pub(super) hosts_span: Span,
    /// Every `[instance.NAME]`, those with errors included, sorted by name.
    pub(super) instance_names: Vec<At<Arc<str>>>,
    /// Where `[instance]` is; the start of the file when it is not.
    pub(super) instances_span: Span,
    /// The instances in which each host takes part, by position of the host, sorted by name.
    pub(super) views: Vec<Vec<InstanceDecl>>,
    /// Sorted by name.
    pub(super) groups: Vec<GroupDecl>,
    /// Every `[check.NAME]`, those with errors included, sorted by name.
    pub(super) check_names: Vec<At<Arc<str>>>,
    /// The checks that instances of each host use, by position of the host, sorted by name. One that no
    /// instance uses is in none of them.
    pub(super) checks: Vec<Vec<CheckDecl>>,
    /// Every `[hook.NAME]`, sorted by name.
    pub(super) hook_names: Vec<At<Arc<str>>>,
    /// The hooks as each host sees them, whether or not it runs one of their instances, by position of the host, sorted by name.
    pub(super) hooks: Vec<Vec<HookDecl>>,
    /// Every `[replicate.NAME]`, those with errors included, sorted by name.
    pub(super) set_names: Vec<At<Arc<str>>>,
    /// Sorted by name.
    pub(super) sets: Vec<ReplicateDecl>,
    /// `[telemetry]` as each host sees it, by position of the host.
    pub(super) telemetry: Vec<TelemetryDecl>,
}

impl File {
    /// Each host with its instances.
    pub(super) fn by_host(&self) -> impl Iterator<Item = (&HostDecl, &[InstanceDecl])> {
        self.hosts.iter().zip(self.views.iter().map(Vec::as_slice))
    }

    /// What each host that takes part says of the instance `name`, in the order of the hosts.
    pub(super) fn views_of(&self, name: &str) -> Vec<(&HostDecl, &InstanceDecl)> {
        self.views_at(name).into_iter().map(|(at, decl)| (&self.hosts[at], decl)).collect()
    }

    /// As [`Self::views_of`], with the positions of the hosts.
    pub(super) fn views_at(&self, name: &str) -> Vec<(usize, &InstanceDecl)> {
        let of_host = |(at, instances): (usize, &'_ Vec<InstanceDecl>)| {
            let found = instances.binary_search_by(|i| i.name.value.as_ref().cmp(name)).ok()?;
            Some((at, found))
        };
        let found = self.views.iter().enumerate().filter_map(of_host);
        found.map(|(at, found)| (at, &self.views[at][found])).collect()
    }

    /// Each host with its instances and the checks that they use.
    pub(super) fn with_checks(
        &self,
    ) -> impl Iterator<Item = (&HostDecl, &[InstanceDecl], &[CheckDecl])> {
        self.by_host()
            .zip(&self.checks)
            .map(|((host, instances), c)| (host, instances, c.as_slice()))
    }

    /// Do hosts have heartbeat paths?
    pub(super) fn has_heartbeats(&self) -> bool {
        self.hosts.iter().any(|host| !host.paths.value.is_empty())
    }
}

/// `[cluster]`.
pub(super) struct ClusterDecl {
    /// Where the section is, or where it would be.
    pub(super) span: Span,
    pub(super) name: Option<At<Arc<str>>>,
    pub(super) key_file: Option<At<PathBuf>>,
    pub(super) heartbeat_port: Option<At<u16>>,
    pub(super) replicate_port: Option<At<u16>>,
}

/// `[hosts.NAME]`.
pub(super) struct HostDecl {
    pub(super) name: At<Arc<str>>,
    pub(super) paths: At<Vec<At<IpAddr>>>,
    /// Load that it can carry; `None`: not written.
    pub(super) capacity: Option<At<u32>>,
}

/// `[instance.NAME]` as one host sees it.
#[derive(Clone)]
pub(super) struct InstanceDecl {
    pub(super) name: At<Arc<str>>,
    /// What a message calls it when it is about the section: `instance web`, or `pool shops` for all members of a
    /// pool, so that what is wrong with the section is told once.
    pub(super) subject: Arc<str>,
    pub(super) vrid: At<Vrid>,
    pub(super) interface: At<Arc<str>>,
    pub(super) version: At<Version>,
    pub(super) addresses: At<Vec<At<Vip>>>,
    pub(super) unadvertised: Vec<At<Vip>>,
    pub(super) priority: At<Priority>,
    pub(super) interval: At<Interval>,
    pub(super) preempt: At<bool>,
    /// `None`: not written.
    pub(super) preempt_delay: Option<At<Duration>>,
    pub(super) hold_down: Duration,
    pub(super) accept: bool,
    pub(super) virtual_mac: At<bool>,
    pub(super) claim: At<Claim>,
    /// `None`: multicast.
    pub(super) unicast_peers: Option<At<Vec<At<IpAddr>>>>,
    pub(super) source: Vec<At<IpAddr>>,
    /// `None`: not written.
    pub(super) checksum: Option<At<ChecksumFlavour>>,
    pub(super) simple_text: Option<At<[u8; 8]>>,
    pub(super) hmac: Option<HmacDecl>,
    pub(super) lease: bool,
    /// `None`: not written.
    pub(super) stale_holder_wait: Option<At<bool>>,
    /// `None`: not written.
    pub(super) on_conflict: Option<At<OnConflict>>,
    /// `None`: not written; else: is it shared?
    pub(super) shared_fate: Option<At<bool>>,
    pub(super) prefix_route: bool,
    pub(super) targets: Vec<At<IpAddr>>,
    pub(super) strict: At<bool>,
    /// Zero: off.
    pub(super) settle: Duration,
    pub(super) routes: Vec<RouteDecl>,
    pub(super) rules: Vec<RuleDecl>,
    pub(super) standby: At<StandbyKind>,
    pub(super) activation: Option<ActivationDecl>,
    pub(super) checks: Vec<At<Arc<str>>>,
    pub(super) flap: FlapControl,
    /// `None`: not written.
    pub(super) load: Option<At<u32>>,
}

impl InstanceDecl {
    /// Advertised, then unadvertised addresses.
    pub(super) fn claimed(&self) -> impl Iterator<Item = &At<Vip>> {
        self.addresses.value.iter().chain(&self.unadvertised)
    }

    /// The first advertised address of `family`: there is a virtual router in that family.
    pub(super) fn router(&self, family: Family) -> Option<&At<Vip>> {
        self.addresses.value.iter().find(|vip| vip.value.family() == family)
    }

    /// The checks that say something about this instance, the one of its activation included.
    pub(super) fn uses(&self) -> impl Iterator<Item = &At<Arc<str>>> {
        let ready = self.activation.as_ref().and_then(|a| a.ready.as_ref());
        self.checks.iter().chain(ready)
    }

    /// Is `addr` among the claimed addresses?
    pub(super) fn claims(&self, addr: IpAddr) -> bool {
        self.claimed().any(|vip| vip.value.addr == addr)
    }
}

/// `[instance.NAME.hmac]`.
#[derive(Clone)]
pub(super) struct HmacDecl {
    pub(super) span: Span,
    pub(super) mode: HmacMode,
    /// By id.
    pub(super) keys: Vec<(At<u8>, PathBuf)>,
    pub(super) active_key: Option<At<u8>>,
    /// Outer `None`: not written; inner `None`: `monotonic`.
    pub(super) window: Option<Option<Duration>>,
}

impl HmacDecl {
    /// Id of the key that signs: the configured one, else the only one.
    pub(super) fn active_key(&self) -> Option<u8> {
        match (&self.active_key, self.keys.as_slice()) {
            (Some(id), _) => Some(id.value),
            (None, [(id, _)]) => Some(id.value),
            _ => None,
        }
    }
}

/// `[[instance.NAME.route]]`.
#[derive(Clone)]
pub(super) struct RouteDecl {
    pub(super) to: At<IpNet>,
    pub(super) via: Option<At<IpAddr>>,
    pub(super) src: Option<At<IpAddr>>,
    pub(super) table: u32,
    pub(super) metric: u32,
}

/// `[[instance.NAME.rule]]`.
#[derive(Clone)]
pub(super) struct RuleDecl {
    pub(super) span: Span,
    pub(super) from: Option<At<IpNet>>,
    pub(super) to: Option<At<IpNet>>,
    pub(super) table: u32,
    pub(super) preference: At<u32>,
}

/// `[instance.NAME.activation]`.
#[derive(Clone)]
pub(super) struct ActivationDecl {
    pub(super) span: Span,
    pub(super) program: ProgramDecl,
    pub(super) ready: Option<At<Arc<str>>>,
}

/// A program of the operator.
#[derive(Clone)]
pub(super) struct ProgramDecl {
    /// Absolute path and arguments.
    pub(super) argv: Vec<Arc<str>>,
    pub(super) account: Account,
    /// By name.
    pub(super) env: Vec<(Arc<str>, Arc<str>)>,
    pub(super) timeout: Duration,
}

impl From<ProgramDecl> for Program {
    fn from(decl: ProgramDecl) -> Self {
        let ProgramDecl { argv, account, env, timeout } = decl;
        Self { argv, account, env, timeout }
    }
}

/// `[check.NAME]` as one host sees it.
pub(super) struct CheckDecl {
    pub(super) name: At<Arc<str>>,
    pub(super) probe: At<ProbeDecl>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) fall: u32,
    pub(super) rise: u32,
    pub(super) severity: At<Severity>,
    pub(super) weight: At<u8>,
}

/// What is looked at: what names other parts of the file is kept by name until all of them are known.
pub(super) enum ProbeDecl {
    /// An instance of this host.
    Instance { name: Arc<str>, active: bool },
    /// A neighbour; without an interface on the one of the instances that use the check.
    Gateway { addr: IpAddr, interface: Option<At<Arc<str>>> },
    /// Complete as read.
    Whole(Probe),
}

impl ProbeDecl {
    /// The addresses that are asked, if they are written as such.
    pub(super) fn targets(&self) -> Vec<IpAddr> {
        match self {
            Self::Gateway { addr, .. } | Self::Whole(Probe::Address { addr }) => vec![*addr],
            Self::Whole(Probe::Ping { addrs, .. }) => addrs.clone(),
            Self::Whole(Probe::Tcp { to, .. }) => vec![to.ip()],
            Self::Whole(Probe::Dns { server, .. }) => vec![server.ip()],
            Self::Whole(Probe::Http(http)) => http.host.parse().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Can it warn, that is weigh without having failed?
    pub(super) fn can_warn(&self) -> bool {
        match self {
            Self::Whole(Probe::Http(http)) => http.tls,
            Self::Whole(Probe::Script(_) | Probe::Pressure { .. } | Probe::Disk { .. }) => true,
            _ => false,
        }
    }
}

/// `[hook.NAME]` as one host sees it.
pub(super) struct HookDecl {
    pub(super) name: At<Arc<str>>,
    /// In order, each once.
    pub(super) on: Vec<Moment>,
    /// Empty: all instances.
    pub(super) instances: Vec<At<Arc<str>>>,
    pub(super) run: HookRunDecl,
    /// `None`: by moment.
    pub(super) timeout: Option<Duration>,
    /// `None`: by moment.
    pub(super) interval: Option<Duration>,
    pub(super) watch: Vec<PathBuf>,
    pub(super) debounce: Duration,
}

/// What a hook does.
pub(super) enum HookRunDecl {
    Program(ProgramDecl, Call),
    Fifo(PathBuf),
}

/// `[replicate.NAME]`, the same on every host.
pub(super) struct ReplicateDecl {
    pub(super) name: At<Arc<str>>,
    pub(super) instance: At<Arc<str>>,
    /// Without `.` and `..`.
    pub(super) paths: Vec<At<PathBuf>>,
    pub(super) exclude: Vec<Arc<str>>,
    pub(super) debounce: At<Duration>,
    pub(super) max_delay: Duration,
    pub(super) scan_interval: Duration,
    pub(super) atomic: bool,
    pub(super) xattrs: bool,
    pub(super) setuid: bool,
    pub(super) outward_links: bool,
    pub(super) require_mount: bool,
    pub(super) bandwidth: Option<u64>,
    pub(super) delete_guard: u8,
    pub(super) trash_versions: u32,
    pub(super) trash_age: Duration,
    pub(super) rescue_quota: u64,
    pub(super) gate: At<Gate>,
    pub(super) max_age: Duration,
    pub(super) max_pending: Option<u64>,
}

/// `[telemetry]` as one host sees it.
#[derive(Default)]
pub(super) struct TelemetryDecl {
    /// `None`: nothing is served.
    pub(super) listen: Option<At<Listen>>,
}

/// `[sync.NAME]`.
pub(super) struct GroupDecl {
    pub(super) name: At<Arc<str>>,
    pub(super) members: At<Vec<At<Arc<str>>>>,
}
