//! Health checks as configured: what is looked at, how often, and what its result means (DESIGN 5.10, 5.14).

use crate::time::Duration;
use crate::types::{InstanceIx, LinkIx};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::Program;

/// One check. The edge measures it, the policy decides what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// `[check.NAME]`.
    pub name: Arc<str>,
    /// What is looked at.
    pub probe: Probe,
    /// From the start of one run to the start of the next.
    pub interval: Duration,
    /// A run that takes longer has failed and is ended.
    pub timeout: Duration,
    /// Worse readings in a row until the check is worse; at least 1.
    pub fall: u32,
    /// Better readings in a row until the check is better; at least 1.
    pub rise: u32,
    /// What a failure means.
    pub severity: Severity,
    /// Taken off the priority while it warns, and while it fails with [`Severity::Degrade`]; 0 to 253.
    pub weight: u8,
}

/// What a failed check means for an instance that uses it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Shown, nothing else.
    Info,
    /// Costs priority: [`Check::weight`].
    Degrade,
    /// The host is second choice: an owner hands over if a better one is there.
    Fail,
    /// The host lets go even if nobody takes over.
    Fatal,
    /// A switch of the operator: the host is drained while it is on.
    Drain,
}

/// What is looked at. Exactly one key of the section says which.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// `link = "eth1"`: exists, is up, has carrier; a bond with enough active slaves.
    Link {
        /// Interface.
        interface: Arc<str>,
        /// Least speed, Mbit/s.
        min_speed: Option<u32>,
        /// Least number of active slaves of a bond.
        min_slaves: Option<u32>,
    },
    /// `address = "192.0.2.11"`: is on this host and usable.
    Address {
        /// The address.
        addr: IpAddr,
    },
    /// `route = "10.0.0.0/8"`: a route to exactly this prefix is in the main table.
    Route {
        /// Destination; a zero-length prefix is the default route.
        to: IpNet,
    },
    /// `instance = "wan"`: that instance of this host is no fault, or owns. Judged by the engine, nothing is measured.
    Instance {
        /// Which one; never the instance that uses the check, nor one that depends on it.
        instance: InstanceIx,
        /// It has to be Active.
        active: bool,
    },
    /// `gateway = "192.0.2.1"`: answers ARP or neighbour solicitations.
    Gateway {
        /// The neighbour.
        addr: IpAddr,
        /// Where it is asked; a service interface of the model.
        link: LinkIx,
    },
    /// `ping = "192.0.2.1"`, or a list: answers ICMP echo.
    Ping {
        /// Whom, one at least.
        addrs: Vec<IpAddr>,
        /// How many of them have to answer, 1 to all.
        at_least: usize,
        /// Source address.
        source: Option<IpAddr>,
    },
    /// `tcp = "127.0.0.1:443"`: accepts a connection.
    Tcp {
        /// Where.
        to: SocketAddr,
        /// Source address.
        source: Option<IpAddr>,
    },
    /// `http = "https://shop.example/healthz"`.
    Http(HttpProbe),
    /// `dns = "192.0.2.53"`: answers a question.
    Dns {
        /// Server.
        server: SocketAddr,
        /// Name asked for.
        name: Arc<str>,
        /// Record type asked for.
        record: DnsRecord,
    },
    /// `unix = "/run/app.sock"`: accepts a connection.
    Unix {
        /// Path of the socket.
        path: PathBuf,
    },
    /// `unit = "nginx.service"`: systemd says that it is active.
    Unit {
        /// Unit.
        name: Arc<str>,
    },
    /// `process = "nginx"` or `pid-file = "/run/nginx.pid"`.
    Process(Process),
    /// `script = ["/usr/lib/nagios/plugins/check_x"]`: 0 passes, 1 warns, 2 fails, 3 is unknown; others fail.
    Script(Program),
    /// `file = "/run/app/health"`: a whole number in a file; 0 passes, others fail. Unreadable: unknown.
    File {
        /// Path.
        path: PathBuf,
        /// An older file says nothing: unknown.
        max_age: Option<Duration>,
    },
    /// `absent = "/etc/vipd/drain"`: fails while the file exists.
    Absent {
        /// Path.
        path: PathBuf,
    },
    /// `pressure = "memory"`: pressure stall information.
    Pressure {
        /// Which resource.
        resource: Resource,
        /// Warns above this share of lost time, percent of ten seconds.
        warn: f32,
        /// Fails above this share.
        fail: f32,
    },
    /// `disk = "/var"`: space, inodes, writable.
    Disk {
        /// A path on the file system.
        path: PathBuf,
        /// Warns below this share of free space or inodes, percent.
        warn: f32,
        /// Fails below this share, and when it is read-only.
        fail: f32,
        /// Writes and syncs a file of 4 KiB in this folder, in a thread of its own.
        write: bool,
    },
}

impl Probe {
    /// Does it look at something outside of this host, which the peers may miss at the same moment?
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Gateway { .. } | Self::Ping { .. } | Self::Dns { .. } => true,
            Self::Tcp { to, .. } => !to.ip().is_loopback(),
            Self::Http(http) => {
                let address = http.host.parse::<IpAddr>();
                address.map_or(&*http.host != "localhost", |ip| !ip.is_loopback())
            }
            _ => false,
        }
    }
}

/// An HTTP or HTTPS request. The URL is taken apart by the loader.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The URL as configured, for messages.
    pub url: Arc<str>,
    /// HTTPS?
    pub tls: bool,
    /// Where to connect; a name is resolved by the edge at each run, inside the timeout.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Path with query.
    pub path: Arc<str>,
    /// Request method.
    pub method: Arc<str>,
    /// `Host` header.
    pub host_header: Arc<str>,
    /// Name for the TLS handshake and the certificate.
    pub server_name: Arc<str>,
    /// Statuses that pass, ranges inclusive; default 200 to 399.
    pub status: Vec<(u16, u16)>,
    /// Text that the first 64 KiB of the body must contain.
    pub body: Option<Arc<str>>,
    /// Verify the certificate.
    pub verify: bool,
    /// Trust these authorities instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Warns when the certificate ends sooner than this.
    pub expiry: Duration,
}

/// What is asked of a DNS server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DnsRecord {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Start of authority.
    Soa,
    /// Name server.
    Ns,
    /// Text.
    Txt,
}

/// A process that has to run, or must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// By exact name (`comm`).
    Name {
        /// Name, at most 15 octets.
        name: Arc<str>,
        /// Least number.
        at_least: u32,
        /// Greatest number.
        at_most: Option<u32>,
    },
    /// The one whose number is in this file.
    PidFile(PathBuf),
}

/// What the kernel measures the pressure of (Linux 4.20).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `some` of `/proc/pressure/cpu`.
    Cpu,
    /// `full` of `/proc/pressure/memory`.
    Memory,
    /// `full` of `/proc/pressure/io`.
    Io,
}
