//! Fault schedules: what goes wrong, when and for how long. Drawn from a seed, printable, shrinkable.
//!
//! Every fault ends by itself, so that any subset of a schedule is a schedule: shrinking is leaving out.

use crate::reloads::Edit;
use crate::rng::Rng;
use crate::scenario::{Scenario, host_name};
use crate::wire::{Kind, Net, Nodes, Trouble};
use std::fmt;
use vipd_core::engine::io::OperatorOrder;
use vipd_core::time::{Duration, Instant};
use vipd_core::types::InstanceIx;

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Trouble on a net; cuts in both directions are two of these.
    Wire(Vec<Trouble>),
    /// The service interface of a host loses its carrier.
    Carrier(usize),
    /// The agent stands still; its kernel does not.
    Pause(usize),
    /// SIGKILL; started again when the fault ends.
    Kill(usize),
    /// The power goes; comes back when the fault ends.
    PowerOff(usize),
    /// A clean stop; started again when the fault ends.
    Stop(usize),
    /// The client resolves the addresses anew: whoever answers last gets the packets.
    Resolve,
    /// Somebody on the host removes the addresses by hand.
    Remove(usize),
    /// The service of a host fails, as its check says.
    Sick(usize),
    /// An operator gives an order to the agent of a host, `None`: of the one that has the address, about the instance or
    /// about the host.
    Order(Option<usize>, Option<InstanceIx>, OperatorOrder),
    /// Another file on a host, made of these changes; the agent is told.
    Reload(usize, Edit),
    /// Operators take back on every host what was ordered.
    Tidy,
    /// The replicator of a host is killed; started again when the fault ends.
    ReplicatorDown(usize),
    /// It crawls.
    ReplicatorSlow(usize),
    /// The disk of an agent takes nothing.
    DiskFull(usize),
    /// The kernel of a host changes nothing that it is asked for: somebody else holds its lock.
    KernelSlow(usize),
    /// An operator accepts the trees that wait for one, on every host.
    Accept,
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timed {
    pub(crate) at: Instant,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// All faults of one run.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Schedule(pub(crate) Vec<Timed>);

impl Schedule {
    /// A schedule for `scenario`: one to eight faults after a start without any.
    pub(crate) fn draw(rng: &mut Rng, scenario: &Scenario) -> Self {
        let t = scenario.t();
        let warm = scenario.longest_down() * 2 + Duration::from_millis(200);
        let horizon = Duration::from_secs(2) + t * 8;
        let mut faults: Vec<Timed> = (0..rng.between(1, 8))
            .map(|_| {
                let at = Instant::ZERO + warm + rng.duration(Duration::ZERO, horizon);
                let lasts = match rng.below(4) {
                    0 => rng.duration(Duration::ZERO, t * 2),
                    1 => rng.duration(t * 2, t * 5),
                    2 => rng.duration(t * 3, t * 4),
                    _ => rng.duration(t * 5, t * 5 + Duration::from_secs(3)),
                };
                Timed { at, lasts, fault: draw_fault(rng, scenario) }
            })
            .collect();
        // Machines that start do not start together.
        if rng.chance(300) {
            let fault = Fault::PowerOff(rng.below(scenario.hosts as u64) as usize);
            faults.push(Timed {
                at: Instant::ZERO,
                lasts: rng.duration(Duration::ZERO, t * 6),
                fault,
            });
        }
        faults.sort_by_key(|f| f.at);
        Self(faults)
    }

    /// One to six failures of services, short and long, at any time of the schedule.
    pub(crate) fn add_sickness(&mut self, rng: &mut Rng, scenario: &Scenario) {
        let t = scenario.t();
        let warm = Instant::ZERO + scenario.longest_down() * 2;
        let horizon = self.end().since(warm) + t * 4;
        for _ in 0..rng.between(1, 6) {
            let at = warm + rng.duration(Duration::ZERO, horizon);
            let lasts = match rng.below(3) {
                0 => rng.duration(Duration::ZERO, t),
                1 => rng.duration(t, t * 5),
                _ => rng.duration(t * 5, t * 20 + Duration::from_secs(3)),
            };
            let fault = Fault::Sick(rng.below(scenario.hosts as u64) as usize);
            self.0.push(Timed { at, lasts, fault });
        }
        self.0.sort_by_key(|f| f.at);
    }

    /// When the last fault has ended.
    pub(crate) fn end(&self) -> Instant {
        self.0.iter().map(|f| f.at + f.lasts).max().unwrap_or_default()
    }

    /// The same without one fault.
    pub(crate) fn without(&self, ix: usize) -> Self {
        let mut fewer = self.clone();
        fewer.0.remove(ix);
        fewer
    }
}

pub(crate) fn draw_fault(rng: &mut Rng, scenario: &Scenario) -> Fault {
    let hosts = scenario.hosts as u64;
    let host = rng.below(hosts) as usize;
    match rng.below(16) {
        0..=2 => Fault::Pause(host),
        3 | 4 => Fault::Kill(host),
        5 => Fault::PowerOff(host),
        6 => Fault::Stop(host),
        7 => Fault::Carrier(host),
        8 => Fault::Resolve,
        9 => Fault::Remove(host),
        _ => Fault::Wire(draw_troubles(rng, scenario)),
    }
}

fn draw_troubles(rng: &mut Rng, scenario: &Scenario) -> Vec<Trouble> {
    let everybody: Nodes = (1 << (scenario.hosts + 1)) - 1;
    // Some nodes against the others; the gateway falls on either side.
    let some = rng.between(1, u64::from(everybody) - 1) as Nodes;
    let t = scenario.t();
    let kind = match rng.below(10) {
        0..=4 => Kind::Cut,
        5 => Kind::NoAdverts,
        6 => Kind::Loss(rng.between(50, 600) as u32),
        7 => Kind::Delay(rng.duration(Duration::ZERO, t * 2)),
        8 => Kind::Reorder(rng.duration(Duration::ZERO, t)),
        _ => Kind::Duplicate(rng.between(50, 1000) as u32),
    };
    let nets: &[Net] = match rng.below(4) {
        0 | 1 => &[Net::Service],
        2 => &[Net::Second],
        _ => &[Net::Service, Net::Second],
    };
    let ways = match rng.below(3) {
        0 => vec![(some, everybody & !some)],
        1 => vec![(some, everybody & !some), (everybody & !some, some)],
        _ if matches!(kind, Kind::Cut) => vec![(some, everybody)],
        _ => vec![(everybody, everybody)],
    };
    nets.iter()
        .flat_map(|net| ways.iter().map(move |(from, to)| (*net, *from, *to)))
        .map(|(net, from, to)| Trouble { net, from, to, kind })
        .collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(troubles) => {
                for (i, t) in troubles.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(
                        f,
                        "{comma}{:?} {:?} {} -> {}",
                        t.kind,
                        t.net,
                        names(t.from),
                        names(t.to)
                    )?;
                }
                Ok(())
            }
            Self::Carrier(h) => write!(f, "carrier lost on {}", host_name(*h)),
            Self::Pause(h) => write!(f, "pause {}", host_name(*h)),
            Self::Kill(h) => write!(f, "kill {}", host_name(*h)),
            Self::PowerOff(h) => write!(f, "power off {}", host_name(*h)),
            Self::Stop(h) => write!(f, "stop {}", host_name(*h)),
            Self::Resolve => write!(f, "client resolves"),
            Self::Remove(h) => write!(f, "addresses removed by hand on {}", host_name(*h)),
            Self::Sick(h) => write!(f, "the service of {} fails", host_name(*h)),
            Self::Order(h, about, order) => {
                let whole = if about.is_none() { " (the host)" } else { "" };
                let host = h.map_or_else(|| "the owner".to_string(), host_name);
                write!(f, "order on {host}{whole}: {order:?}")
            }
            Self::Reload(h, edit) => write!(f, "reload on {}: {edit:?}", host_name(*h)),
            Self::ReplicatorDown(h) => write!(f, "replicator of {} is dead", host_name(*h)),
            Self::ReplicatorSlow(h) => write!(f, "replicator of {} is slow", host_name(*h)),
            Self::DiskFull(h) => write!(f, "the agent of {} cannot store", host_name(*h)),
            Self::KernelSlow(h) => write!(f, "the kernel of {} is busy", host_name(*h)),
            Self::Accept => write!(f, "operators accept the trees that wait"),
            Self::Tidy => write!(f, "operators take back what they ordered"),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for timed in &self.0 {
            writeln!(f, "  {} for {:?}: {}", timed.at, timed.lasts, timed.fault)?;
        }
        Ok(())
    }
}

/// Letters of the nodes; the one after the last host is the gateway.
fn names(nodes: Nodes) -> String {
    (0..8).filter(|n| nodes & 1 << n != 0).map(host_name).collect()
}
