//! `vipd doctor`: what on this host or on its networks works against vipd, with evidence and fix.
//!
//! Called by the command line. One file for each kind of probe; a probe looks and changes nothing. What it could not
//! look at is a note, never a finding: unknown is not bad.

mod agent;
mod filter;
mod interfaces;
mod managers;
mod network;
mod settings;

use crate::control::status::Status;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use vipd_core::config::model::Model;
use vipd_core::types::HostIx;

/// How much a finding matters.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Works against vipd, now or at the next failure.
    Problem,
    /// Could not be looked at, or is worth knowing.
    Note,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The probe that found it.
    pub probe: &'static str,
    /// True: works against vipd. False: could not be looked at, or is worth knowing.
    pub problem: bool,
    /// What.
    pub what: String,
    /// Where it was seen.
    pub evidence: String,
    /// What to do.
    pub fix: String,
}

impl Finding {
    fn new(probe: &'static str, weight: Weight, what: impl Into<String>) -> Self {
        let what = what.into();
        let problem = weight == Weight::Problem;
        Self { probe, problem, what, evidence: String::new(), fix: String::new() }
    }

    fn problem(probe: &'static str, what: impl Into<String>) -> Self {
        Self::new(probe, Weight::Problem, what)
    }

    fn note(probe: &'static str, what: impl Into<String>) -> Self {
        Self::new(probe, Weight::Note, what)
    }

    fn seen(self, evidence: impl Into<String>) -> Self {
        Self { evidence: evidence.into(), ..self }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// What the probes look at.
#[derive(Debug)]
pub struct Patient {
    /// The configuration as this host sees it, or why there is none.
    pub model: Result<Model, String>,
    /// The status document of the running agent, or why there is none.
    pub status: Result<Status, String>,
    /// What is wrong with the keys of the configuration.
    pub keys: Option<String>,
    /// Where `/run`, `/etc`, `/proc` and `/sys` are.
    pub root: PathBuf,
    /// Listen on the networks for so long.
    pub scan: Option<Duration>,
}

impl Patient {
    /// The content of a file below the root, without blanks around it.
    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    fn model(&self) -> Option<&Model> {
        self.model.as_ref().ok()
    }

    fn status(&self) -> Option<&Status> {
        self.status.as_ref().ok()
    }

    /// Names of the service interfaces.
    fn links(&self) -> Vec<&str> {
        self.model().iter().flat_map(|model| &model.links).map(|link| &*link.name).collect()
    }
}

/// A probe and what it is called.
type Probe = (&'static str, fn(&Patient) -> Vec<Finding>);

/// Every probe, in the order in which it is told.
const PROBES: [Probe; 12] = [
    ("config", agent::config),
    ("keys", agent::keys),
    ("agent", agent::reachable),
    ("rights", agent::rights),
    ("peers", agent::peers),
    ("clock", agent::clock),
    ("interfaces", interfaces::probe),
    ("settings", settings::probe),
    ("routes", settings::routes),
    ("filter", filter::probe),
    ("managers", managers::probe),
    ("network", network::probe),
];

/// What was looked at and what was found.
#[derive(Debug, serde::Serialize)]
pub struct Report {
    /// Names of the probes that ran.
    pub probes: Vec<&'static str>,
    /// What they found.
    pub findings: Vec<Finding>,
}

/// Examines `patient` with every probe; those on the network only when a scan is asked for.
pub fn examine(patient: &Patient) -> Report {
    let ran = PROBES.iter().filter(|(name, _)| *name != "network" || patient.scan.is_some());
    let probes: Vec<&Probe> = ran.collect();
    Report {
        findings: probes.iter().flat_map(|(_, probe)| probe(patient)).collect(),
        probes: probes.iter().map(|(name, _)| *name).collect(),
    }
}

/// Heartbeat paths of this host: its own address, that of the peer, the peer's name.
fn paths(model: &Model) -> Vec<(IpAddr, IpAddr, &str)> {
    let of = |host: HostIx| model.hosts.get(usize::from(host.0));
    let own: &[IpAddr] = of(model.host).map_or(&[], |host| &host.paths);
    let others = (0u8..).map(HostIx).zip(&model.hosts).filter(|(ix, _)| *ix != model.host);
    others
        .flat_map(|(_, host)| {
            own.iter().zip(&host.paths).map(|(mine, theirs)| (*mine, *theirs, &*host.name))
        })
        .collect()
}

/// The interface that bears `addr`.
fn interface_of(addr: IpAddr) -> Option<String> {
    let all = nix::ifaddrs::getifaddrs().ok()?;
    let mut bears = all.filter(|each| {
        let address = each.address.as_ref();
        match addr {
            IpAddr::V4(addr) => {
                address.and_then(|a| a.as_sockaddr_in()).is_some_and(|a| a.ip() == addr)
            }
            IpAddr::V6(addr) => {
                address.and_then(|a| a.as_sockaddr_in6()).is_some_and(|a| a.ip() == addr)
            }
        }
    });
    bears.next().map(|each| each.interface_name)
}
