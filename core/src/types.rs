//! The words of DESIGN section 2 as types that cannot hold an illegal value.
//!
//! Used everywhere. Nothing here decides anything.

use crate::time::Duration;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;

/// A value outside its range, with the range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is out of range: {range}")]
pub struct OutOfRange {
    /// Which quantity.
    pub what: &'static str,
    /// The refused value.
    pub value: String,
    /// The legal values in words.
    pub range: &'static str,
}

/// Virtual router identifier, 1-255 (RFC 9568 section 5.2.3).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `value` as a VRID.
    ///
    /// # Errors
    /// When `value` is 0.
    pub fn new(value: u8) -> Result<Self, OutOfRange> {
        NonZeroU8::new(value).map(Self).ok_or_else(|| OutOfRange {
            what: "VRID",
            value: value.to_string(),
            range: "1 to 255",
        })
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vrid {}", self.0)
    }
}

/// Priority of a host for an instance, 1-255; 255 is the address owner (RFC 9568 section 5.2.4).
/// The 0 of a release exists on the wire only, as a plain octet.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(NonZeroU8);

impl Priority {
    /// The address owner.
    pub const OWNER: Self = Self(NonZeroU8::MAX);
    /// The weakest priority that still claims.
    pub const MIN: Self = Self(NonZeroU8::MIN);

    /// `value` as a priority.
    ///
    /// # Errors
    /// When `value` is 0.
    pub fn new(value: u8) -> Result<Self, OutOfRange> {
        NonZeroU8::new(value).map(Self).ok_or_else(|| OutOfRange {
            what: "priority",
            value: value.to_string(),
            range: "1 to 254, or 255 for the owner of the address",
        })
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// True for 255.
    pub fn is_owner(self) -> bool {
        self == Self::OWNER
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {}", self.0)
    }
}

/// Advertisement interval, exact centiseconds, 1-4095 in v3 (10 ms to 40.95 s); v2 carries whole
/// seconds up to 255 s, which fit as well: 25500.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u16);

impl Interval {
    /// The default of both RFCs.
    pub const SECOND: Self = Self(100);

    /// `cs` centiseconds, for version 3.
    ///
    /// # Errors
    /// When `cs` is 0 or above 4095, the width of the field.
    pub fn from_centis(cs: u16) -> Result<Self, OutOfRange> {
        if (1..=4095).contains(&cs) {
            Ok(Self(cs))
        } else {
            Err(OutOfRange {
                what: "advert interval (centiseconds)",
                value: cs.to_string(),
                range: "1 to 4095",
            })
        }
    }

    /// `s` whole seconds, for version 2.
    ///
    /// # Errors
    /// When `s` is 0.
    pub fn from_secs(s: u8) -> Result<Self, OutOfRange> {
        if s == 0 {
            Err(OutOfRange {
                what: "advert interval (seconds)",
                value: s.to_string(),
                range: "1 to 255",
            })
        } else {
            Ok(Self(u16::from(s) * 100))
        }
    }

    /// `cs` centiseconds of either version, as they are stored and told over heartbeats: whole seconds beyond the range
    /// of version 3 are intervals of version 2.
    ///
    /// # Errors
    /// When neither version has such an interval.
    pub fn of_either(cs: u16) -> Result<Self, OutOfRange> {
        Self::from_centis(cs).or_else(|e| match u8::try_from(cs / 100) {
            Ok(secs) if cs.is_multiple_of(100) => Self::from_secs(secs),
            _ => Err(e),
        })
    }

    /// Centiseconds.
    pub const fn centis(self) -> u16 {
        self.0
    }

    /// Whole seconds, rounded down: the v2 field.
    pub fn whole_secs(self) -> u8 {
        u8::try_from(self.0 / 100).unwrap_or(u8::MAX)
    }

    /// As a length of time.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.duration())
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// VRRP version of an instance. IPv6 is always version 3.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// RFC 3768 (simple text of RFC 2338 optional); IPv4 only.
    V2,
    /// RFC 9568.
    V3,
}

impl Version {
    /// The number on the wire.
    pub const fn get(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// Address family.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are listed everywhere.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `addr`.
    pub const fn of(addr: &IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The group to which adverts go: 224.0.0.18 or ff02::12 (RFC 9568 section 5.1).
    pub const fn group(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
        }
    }

    /// Length of a host prefix: 32 or 128.
    pub const fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}

/// Ethernet address.
#[derive(Copy, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Virtual router MAC (RFC 9568 section 7.3): 00:00:5e:00:01:VRID, for IPv6 00:00:5e:00:02:VRID.
    pub const fn virtual_router(family: Family, vrid: Vrid) -> Self {
        let fam = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        Self([0, 0, 0x5e, 0, fam, vrid.get()])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Kernel index of a network interface; never 0.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IfIndex(pub NonZeroU32);

impl IfIndex {
    /// `index` as the kernel gave it; `None` for 0.
    pub fn new(index: u32) -> Option<Self> {
        NonZeroU32::new(index).map(Self)
    }

    /// The kernel's number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// Virtual address with the prefix length that the operator wrote. On the interface it is /32 or
/// /128 unless `prefix-route` is set (DESIGN 5.8).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vip {
    /// The address.
    pub addr: IpAddr,
    /// Prefix length as configured; a host prefix when none was written.
    pub prefix_len: u8,
}

impl Vip {
    /// Family of the address.
    pub const fn family(&self) -> Family {
        Family::of(&self.addr)
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix_len)
    }
}

/// Position of a host in [`crate::config::model::Model::hosts`]; hosts are sorted by name, so that it
/// is the same number on every host that has the same configuration.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostIx(pub u8);

/// Position of an instance in [`crate::config::model::Model::instances`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstanceIx(pub u16);

/// Position of a check in [`crate::config::model::Model::checks`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CheckIx(pub u16);

/// Position of a set of state files in [`crate::config::model::Model::replicates`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SetIx(pub u16);

/// Position of a service interface in [`crate::config::model::Model::links`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkIx(pub u16);

/// Position of a heartbeat path: the n-th entry of `paths` of every host is on the same network.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PathIx(pub u8);

/// One virtual router (RFC 9568): an instance in one family.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RouterId {
    /// The instance.
    pub instance: InstanceIx,
    /// Its family.
    pub family: Family,
}

/// Ownership counter of an instance (DESIGN 5.13): totally ordered, higher at each claim.
#[derive(Copy, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch {
    /// Grows with each claim.
    pub number: u64,
    /// Who claimed, by `Model::epoch_host`; breaks ties.
    pub host: u8,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.host)
    }
}

/// State of an instance or virtual router, as RFC 9568 names them.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Not taking part: starting, stopped or unable (no link, no source address).
    Initialize,
    /// Listening.
    Backup,
    /// Owning.
    Active,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
        })
    }
}

/// What one run of a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Good, bad or unknown.
    pub verdict: Verdict,
    /// One line for people: what was seen, with its value.
    pub detail: Arc<str>,
    /// How long the run took.
    pub took: Duration,
}

/// Good, bad or unknown; worse is greater, unknown is neither (DESIGN 5.14).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Costs priority: the check's weight.
    Warn,
    /// What the check's severity says.
    Fail,
    /// It could not be run, or had nothing to say.
    Unknown,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Held => "held",
            Self::Failing => "failing",
            Self::Drained => "drained",
            Self::Unable => "unable",
        })
    }
}

/// Class of eligibility (DESIGN 5.10); a smaller class is the better owner.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Healthy and free to claim.
    Healthy,
    /// Healthy, but held or damped: claims when nobody better does.
    Held,
    /// A `fail` check fails.
    Failing,
    /// Drained by an operator.
    Drained,
    /// Cannot own: link down, no source address, released.
    Unable,
}
