//! What is configured in one run: hosts, interval, families, heartbeats, priorities; and the `Model` of each host.
//!
//! Drawn from the seed. Faults are another matter: `schedule.rs`.

use crate::checks;
use crate::replica::Setup;
use crate::rng::Rng;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use vipd_core::config::model::{
    Auth, Check, ChecksumFlavour, Claim, FlapControl, Heartbeat, Host, Instance, Link, Model,
    OnConflict, Standby, StandbyKind, Telemetry, Transport,
};
use vipd_core::time::Duration;
use vipd_core::types::{CheckIx, HostIx, Interval, LinkIx, Mac, Priority, Version, Vip, Vrid};

/// The UDP port of heartbeats in every run.
const HEARTBEAT_PORT: u16 = 1985;

/// The kernel removes a lapsed address at the latest this much after its time (measured; DESIGN 5.1).
pub(crate) const KERNEL_LATENESS: Duration = Duration::from_millis(1300);

/// Address families of the one instance.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    V4,
    V6,
    Dual,
}

/// One group of hosts with one instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) hosts: usize,
    pub(crate) interval: Interval,
    pub(crate) heartbeats: bool,
    pub(crate) families: Families,
    pub(crate) version: Version,
    pub(crate) priorities: Vec<u8>,
    pub(crate) preempt: bool,
    pub(crate) preempt_delay: Duration,
    pub(crate) hold_down: Duration,
    pub(crate) settle: Duration,
    pub(crate) virtual_mac: bool,
    /// `stale-holder-wait`; on wherever heartbeats run, unless a breakage switches it off.
    pub(crate) stale_holder_wait: bool,
    /// A check of the service, and flap control with its defaults.
    pub(crate) checks: bool,
    /// Operators give orders.
    pub(crate) operators: bool,
    /// Kernels are busy with something else at times.
    pub(crate) slow: bool,
    /// Files change.
    pub(crate) reloads: bool,
    /// A set of state files follows the address.
    pub(crate) replica: Option<Setup>,
}

impl Scenario {
    /// The scenario of `seed`.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let hosts = rng.between(2, 5) as usize;
        let interval = match rng.below(10) {
            0..=1 => 1,
            2..=5 => 10,
            _ => 100,
        };
        let families = *rng.pick(&[Families::V4, Families::V6, Families::Dual]);
        let v2 = interval == 100 && families == Families::V4 && rng.chance(300);
        let heartbeats = rng.chance(500);
        let mut priorities: Vec<u8> = Vec::new();
        while priorities.len() < hosts {
            let p = rng.between(1, 25) as u8 * 10;
            // Equal priorities are legal and have a tie-break of their own: leave some in.
            if !priorities.contains(&p) || rng.chance(100) {
                priorities.push(p);
            }
        }
        if rng.chance(80) {
            priorities[0] = 255;
        }
        let t = Duration::from_millis(interval * 10);
        Self {
            hosts,
            interval: Interval::from_centis(interval as u16).unwrap(),
            heartbeats,
            families,
            version: if v2 { Version::V2 } else { Version::V3 },
            priorities,
            preempt: rng.chance(750),
            preempt_delay: if rng.chance(600) { Duration::ZERO } else { rng.duration(t, t * 8) },
            hold_down: if rng.chance(700) { Duration::ZERO } else { rng.duration(t, t * 10) },
            settle: if rng.chance(500) { Duration::ZERO } else { Duration::from_secs(35) },
            virtual_mac: rng.chance(100),
            stale_holder_wait: heartbeats,
            checks: false,
            operators: false,
            slow: false,
            reloads: false,
            replica: None,
        }
    }

    /// With or without heartbeats, and what goes with them.
    pub(crate) fn set_heartbeats(&mut self, on: bool) {
        self.heartbeats = on;
        self.stale_holder_wait = on;
    }

    /// Advertisement interval.
    pub(crate) fn t(&self) -> Duration {
        self.interval.duration()
    }

    /// Skew_Time of a host (protocol.md section 2); in version 2 it does not depend on the interval.
    pub(crate) fn skew(&self, host: usize) -> Duration {
        let missing = 256 - u32::from(self.priorities[host]);
        match self.version {
            Version::V2 => Duration::from_secs(1) * missing / 256,
            Version::V3 => self.t() * missing / 256,
        }
    }

    /// Active_Down_Interval of a host.
    pub(crate) fn down(&self, host: usize) -> Duration {
        self.t() * 3 + self.skew(host)
    }

    /// The longest Active_Down_Interval of all hosts.
    pub(crate) fn longest_down(&self) -> Duration {
        if self.operators {
            // Of a host at priority 1, which an operator may make of anyone.
            return self.t() * 4;
        }
        (0..self.hosts).map(|h| self.down(h)).max().unwrap_or_default()
    }

    /// Length of the kernel lease.
    pub(crate) fn lease(&self) -> Duration {
        let secs = self.model(0).instances[0].lease_secs(self.interval).unwrap_or(0);
        Duration::from_secs(u64::from(secs))
    }

    /// After this much calm nothing moves any more: leases ended, delays passed, timers ran out.
    pub(crate) fn to_settle(&self) -> Duration {
        self.longest_down() * 3
            + self.preempt_delay
            + self.hold_down
            + self.lease()
            + KERNEL_LATENESS
    }

    /// Addresses of the instance, in configured order.
    pub(crate) fn vips(&self) -> Vec<Vip> {
        let v4 = Vip { addr: Ipv4Addr::new(192, 0, 2, 10).into(), prefix_len: 24 };
        let link_local = Vip { addr: "fe80::10".parse().unwrap(), prefix_len: 64 };
        let v6 = Vip { addr: "2001:db8::10".parse().unwrap(), prefix_len: 64 };
        match self.families {
            Families::V4 => vec![v4],
            Families::V6 => vec![link_local, v6],
            Families::Dual => vec![v4, link_local, v6],
        }
    }

    fn model_checks(&self) -> Vec<Check> {
        if self.checks { vec![checks::service()] } else { Vec::new() }
    }

    /// The configuration as host `me` sees it.
    pub(crate) fn model(&self, me: usize) -> Model {
        let priority = |h: usize| Priority::new(self.priorities[h]).unwrap();
        let hosts = (0..self.hosts)
            .map(|h| Host {
                name: host_name(h).into(),
                paths: if self.heartbeats { heartbeat_addrs(h).to_vec() } else { Vec::new() },
            })
            .collect();
        Model {
            cluster: "sim".into(),
            host: HostIx(me as u8),
            hosts,
            heartbeat: self.heartbeats.then(|| Heartbeat {
                port: HEARTBEAT_PORT,
                key_file: "/nonexistent/cluster.key".into(),
                interval: self.interval,
            }),
            links: vec![Link { name: "svc".into(), settle: self.settle }],
            instances: vec![Instance {
                name: Arc::from("web"),
                key: 0x5eed_0001,
                vrid: Vrid::new(51).unwrap(),
                link: LinkIx(0),
                version: self.version,
                addresses: self.vips(),
                unadvertised: Vec::new(),
                priorities: (0..self.hosts).map(|h| Some(priority(h))).collect(),
                priority: priority(me),
                interval: self.interval,
                preempt: self.preempt,
                preempt_delay: self.preempt_delay,
                hold_down: self.hold_down,
                accept: true,
                virtual_mac: self.virtual_mac,
                claim: Claim::Address,
                transport: Transport::Multicast,
                source: [None, None],
                checksum: ChecksumFlavour::Rfc9568,
                auth: Auth::None,
                lease: true,
                stale_holder_wait: self.stale_holder_wait,
                on_conflict: OnConflict::Alarm,
                shared_fate: self.heartbeats,
                prefix_route: false,
                targets: Vec::new(),
                routes: Vec::new(),
                rules: Vec::new(),
                strict: false,
                standby: Standby::Hot,
                standbys: vec![Some(StandbyKind::Hot); self.hosts],
                checks: self.model_checks().iter().map(|_| CheckIx(0)).collect(),
                flap: if self.checks { FlapControl::default() } else { FlapControl::OFF },
            }],
            sync_groups: Vec::new(),
            checks: self.model_checks(),
            hooks: Vec::new(),
            replicates: self.replica.iter().map(Setup::set).collect(),
            replicate_port: 7113,
            telemetry: Telemetry::default(),
            hash: 0x0dd0_c0de,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hosts {:?}, T {}, {:?} {:?}, heartbeats {}, preempt {} after {:?}, hold-down {:?}, settle {:?}, virtual MAC {}",
            self.hosts,
            self.priorities,
            self.interval,
            self.version,
            self.families,
            self.heartbeats,
            self.preempt,
            self.preempt_delay,
            self.hold_down,
            self.settle,
            self.virtual_mac,
        )?;
        self.replica.iter().try_for_each(|set| write!(f, ", set {set}"))
    }
}

/// `a`, `b`, `c` ...
pub(crate) fn host_name(h: usize) -> String {
    char::from(b'a' + h as u8).to_string()
}

/// Hardware address of a host on the service net; `h` = number of hosts: the gateway.
pub(crate) fn mac(h: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, h as u8 + 1])
}

/// The host's own addresses on the service net.
pub(crate) fn own_addrs(h: usize) -> Vec<IpAddr> {
    let n = h as u8 + 11;
    vec![
        Ipv4Addr::new(192, 0, 2, n).into(),
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xff, u16::from(n)).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)).into(),
    ]
}

/// Heartbeat addresses: the first path shares the service net, the second has a net of its own.
pub(crate) fn heartbeat_addrs(h: usize) -> [IpAddr; 2] {
    let n = h as u8 + 11;
    [Ipv4Addr::new(192, 0, 2, n).into(), Ipv4Addr::new(10, 9, 0, n).into()]
}

/// Source of a heartbeat of host `h` on `path`.
pub(crate) fn heartbeat_source(h: usize, path: usize) -> SocketAddr {
    SocketAddr::new(heartbeat_addrs(h)[path], HEARTBEAT_PORT)
}

/// The gateway: the one machine on the service net that is not of the group.
pub(crate) fn gateways() -> [IpAddr; 2] {
    [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into()]
}
