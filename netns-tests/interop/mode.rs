//! The ways in which vipd and a peer can be set to speak with each other.

use std::path::PathBuf;
use std::time::Duration;
use vipd_agent::lab::agent::Kind;
use vipd_agent::lab::plan::{Adverts, Families, Heartbeats, MacMode, Plan, Preempt};

/// Whose program runs on the other host.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// keepalived, as Debian ships it.
    Keepalived,
    /// FRR's zebra and vrrpd, as Debian ships them.
    Frr,
}

impl Peer {
    fn kind(self) -> Kind {
        match self {
            Self::Keepalived => Kind::Keepalived,
            Self::Frr => Kind::Frr,
        }
    }
}

/// Which of the two is preferred, and plays on the first host.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// vipd has the higher priority.
    VipdFirst,
    /// The peer has.
    PeerFirst,
}

impl Role {
    /// Both.
    pub(crate) const BOTH: [Self; 2] = [Self::VipdFirst, Self::PeerFirst];

    /// In the name of a trial.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::VipdFirst => "vipd-stronger",
            Self::PeerFirst => "peer-stronger",
        }
    }

    /// The second host has the higher address; who that is.
    pub(crate) const fn higher_address(self) -> &'static str {
        match self {
            Self::VipdFirst => "peer-higher",
            Self::PeerFirst => "vipd-higher",
        }
    }

    /// The host of vipd.
    pub(crate) const fn vipd(self) -> usize {
        match self {
            Self::VipdFirst => 0,
            Self::PeerFirst => 1,
        }
    }
}

/// One way.
#[derive(Debug)]
pub(crate) struct Mode {
    /// In the name of a trial.
    pub(crate) name: &'static str,
    /// Who is the peer.
    pub(crate) peer: Peer,
    /// VRRP version.
    pub(crate) version: u8,
    /// Family of the virtual address.
    pub(crate) families: Families,
    /// Where adverts go.
    pub(crate) adverts: Adverts,
    /// Which MAC vipd has as owner.
    pub(crate) mac: MacMode,
    /// Does IPv4 of version 3 have the pseudo-header in the checksum?
    pub(crate) pseudo_header: bool,
    /// Further lines of vipd's instance.
    pub(crate) vipd: &'static str,
    /// Further lines of keepalived's instance.
    pub(crate) keepalived: &'static str,
}

/// keepalived version 2, nothing special.
const PLAIN: Mode = Mode {
    name: "",
    peer: Peer::Keepalived,
    version: 2,
    families: Families::V4,
    adverts: Adverts::Multicast,
    mac: MacMode::Interface,
    pseudo_header: false,
    vipd: "",
    keepalived: "",
};

/// keepalived version 3 over IPv4, as keepalived sends it.
const V3: Mode = Mode { version: 3, pseudo_header: true, vipd: "checksum = \"rfc5798\"", ..PLAIN };

const V3_IPV6: Mode = Mode { version: 3, families: Families::V6, ..PLAIN };

/// FRR knows no other MAC than the virtual one, and announces once: vipd must have the same one, see
/// `docs/interop.md`.
const FRR: Mode = Mode { peer: Peer::Frr, mac: MacMode::Virtual, ..V3 };

/// What vipd sends when not told otherwise; no peer of Debian's takes it.
pub(crate) const RFC9568: Mode = Mode { name: "rfc9568", pseudo_header: false, vipd: "", ..V3 };

/// All that are played.
pub(crate) const MODES: &[Mode] = &[
    Mode { name: "keepalived-v2", ..PLAIN },
    Mode {
        name: "keepalived-v2-simple-text",
        vipd: "simple-text = \"secret\"",
        keepalived: "authentication {\n    auth_type PASS\n    auth_pass secret\n  }",
        ..PLAIN
    },
    Mode { name: "keepalived-v3-ipv4", ..V3 },
    Mode { name: "keepalived-v3-ipv6", ..V3_IPV6 },
    Mode { name: "keepalived-v3-ipv4-unicast", adverts: Adverts::Unicast, ..V3 },
    Mode {
        name: "keepalived-v3-ipv6-unicast",
        adverts: Adverts::Unicast,
        // keepalived leaves the hop limit of unicast IPv6 to the kernel, which says 64.
        keepalived: "unicast_ttl 255",
        ..V3_IPV6
    },
    Mode { name: "keepalived-v3-ipv4-virtual-mac", mac: MacMode::Virtual, ..V3 },
    Mode { name: "keepalived-v3-ipv6-virtual-mac", mac: MacMode::Virtual, ..V3_IPV6 },
    Mode { name: "frr-v3-ipv4", ..FRR },
    Mode { name: "frr-v3-ipv6", families: Families::V6, pseudo_header: false, vipd: "", ..FRR },
];

/// vipd of this build.
pub(crate) fn vipd() -> Kind {
    Kind::Vipd(PathBuf::from(env!("CARGO_BIN_EXE_vipd")))
}

impl Mode {
    /// Advertisement interval: the shortest that the version allows, not below 100 ms.
    pub(crate) const fn interval(&self) -> Duration {
        match self.version {
            2 => Duration::from_secs(1),
            _ => Duration::from_millis(100),
        }
    }

    /// What both hosts are told.
    pub(crate) fn plan(&self, priorities: Vec<u8>) -> Plan {
        Plan {
            priorities,
            version: self.version,
            families: self.families,
            adverts: self.adverts,
            mac: self.mac,
            interval: self.interval(),
            heartbeats: Heartbeats::Off,
            preempt: Preempt::After(Duration::ZERO),
            ..Plan::default()
        }
    }

    /// Who plays on which host.
    pub(crate) fn cast(&self, role: Role, plan: &Plan) -> Vec<(Kind, Plan)> {
        let vipd = (vipd(), Plan { instance_extra: self.vipd.to_owned(), ..plan.clone() });
        let peer =
            (self.peer.kind(), Plan { instance_extra: self.keepalived.to_owned(), ..plan.clone() });
        match role {
            Role::VipdFirst => vec![vipd, peer],
            Role::PeerFirst => vec![peer, vipd],
        }
    }
}
