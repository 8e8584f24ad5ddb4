//! The file as read: typed values with their places, per-host tables resolved for each host.
//!
//! Made by `read` and `read_instance`, looked at by `check`, turned into the model by `resolve`.
//! Single values are legal; what they mean together is not yet proved.

use super::model::{ChecksumFlavour, Claim, HmacMode, OnConflict};
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
}

impl File {
    /// Each host with its instances.
    pub(super) fn by_host(&self) -> impl Iterator<Item = (&HostDecl, &[InstanceDecl])> {
        self.hosts.iter().zip(self.views.iter().map(Vec::as_slice))
    }

    /// What each host that takes part says of the instance `name`, in the order of the hosts.
    pub(super) fn views_of(&self, name: &str) -> Vec<(&HostDecl, &InstanceDecl)> {
        self.by_host()
            .filter_map(|(host, instances)| {
                let at = instances.binary_search_by(|i| i.name.value.as_ref().cmp(name)).ok()?;
                Some((host, &instances[at]))
            })
            .collect()
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
}

/// `[hosts.NAME]`.
pub(super) struct HostDecl {
    pub(super) name: At<Arc<str>>,
    pub(super) paths: At<Vec<At<IpAddr>>>,
}

/// `[instance.NAME]` as one host sees it.
#[derive(Clone)]
pub(super) struct InstanceDecl {
    pub(super) name: At<Arc<str>>,
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
    pub(super) on_conflict: OnConflict,
    /// `None`: not written; else: is it shared?
    pub(super) shared_fate: Option<At<bool>>,
    pub(super) prefix_route: bool,
    pub(super) targets: Vec<At<IpAddr>>,
    pub(super) strict: At<bool>,
    /// Zero: off.
    pub(super) settle: Duration,
    pub(super) routes: Vec<RouteDecl>,
    pub(super) rules: Vec<RuleDecl>,
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

/// `[sync.NAME]`.
pub(super) struct GroupDecl {
    pub(super) name: At<Arc<str>>,
    pub(super) members: At<Vec<At<Arc<str>>>>,
}
