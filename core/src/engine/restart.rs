//! Before a planned restart of the agent (DESIGN 5.7): peers are made patient, leases long enough for them, and what
//! the next agent has to know is written down.
//!
//! Three adverts name an interval of at least a second, which Backups of version 3 adopt; with it their
//! Active_Down_Interval outlasts the gap between two processes. Heartbeats say the same of themselves. Only then leases
//! are renewed for that interval, and only what the kernel confirmed counts.

use super::holding::Holding;
use super::io::{
    CheckHandover, Handover, HeardHandover, InstanceHandover, LinkHandover, UnitHandover,
};
use super::unit::Unit;
use super::{Engine, Slot};
use crate::config::model::Probe;
use crate::time::{Duration, Instant};
use crate::types::{CheckIx, Family, InstanceIx, Interval, LinkIx};
use crate::vrrp::Heard;

/// So many adverts are to name the longer interval: one or two may be lost.
pub(super) const STRETCHED_ADVERTS: u8 = 3;
/// The interval that they name at least, and heartbeats with them.
pub(super) const RESTART: Interval = Interval::SECOND;
/// They follow each other at an interval, but not more slowly than this.
const GAP: Duration = Duration::from_millis(100);

/// A restart is near.
#[derive(Clone)]
pub(super) struct Preparing {
    since: Instant,
    /// Heartbeats, and adverts of whoever owned from the beginning, were sent so often.
    rounds: u8,
}

impl Engine {
    pub(super) fn prepare_restart(&mut self) {
        if self.stopping || self.preparing.is_some() {
            return;
        }
        self.preparing = Some(Preparing { since: self.now.mono, rounds: 0 });
        (0..self.units.len()).for_each(|u| self.lengthened(u));
        for unit in &mut self.units {
            unit.stretched = Some(unit.vr.params().interval.max(RESTART));
            unit.stretched_sent = 0;
        }
        self.restart_due();
    }

    /// Back to the own interval: peers adopt it with the next advert, which goes out at once.
    pub(super) fn abort_restart(&mut self) {
        if self.preparing.take().is_none() {
            return;
        }
        self.set_slot(Slot::Restart, Instant::MAX);
        for u in 0..self.units.len() {
            let unit = &mut self.units[u];
            unit.stretched = None;
            unit.stretched_sent = 0;
            if unit.is_active() && unit.overslept.is_none() {
                let priority = unit.vr.params().priority;
                self.advertise(u, priority);
            }
        }
        for ix in (0u16..).map(InstanceIx).take(self.holdings.len()) {
            if self.holding(ix).lease_secs.is_some() {
                // What the kernel has is longer until the next renewal: too short a belief only makes it careful.
                self.holdings[usize::from(ix.0)].lease_secs = self.lease_wanted(ix);
            }
        }
        self.urgent();
    }

    /// Another round, for whoever has not told often enough: also for who became owner meanwhile.
    pub(super) fn restart_due(&mut self) {
        let Some(preparing) = &mut self.preparing else { return };
        preparing.rounds = preparing.rounds.saturating_add(1);
        if preparing.rounds <= STRETCHED_ADVERTS {
            self.urgent();
        }
        for u in 0..self.units.len() {
            let unit = &self.units[u];
            if unit.is_active()
                && unit.overslept.is_none()
                && unit.stretched_sent < STRETCHED_ADVERTS
            {
                let priority = unit.vr.params().priority;
                self.advertise(u, priority);
            }
        }
        self.set_slot(Slot::Restart, self.now.mono + GAP.min(self.fastest));
    }

    /// An advert in `family` was accepted by sendmsg; the last one that is needed permits the longer lease.
    pub(super) fn stretched_accepted(&mut self, u: usize, family: Family) {
        let unit = &mut self.units[u];
        let leads = unit.voices.first().is_some_and(|voice| voice.family == family);
        let told = self.preparing.is_some() || unit.lengthens.is_some();
        if told && leads {
            unit.stretched_sent = unit.stretched_sent.saturating_add(1);
            if unit.stretched_sent == STRETCHED_ADVERTS {
                self.renew_all_at(self.now.mono);
                self.lengthened(u);
            }
        }
    }

    /// May this process end now, for another one to go on? True when peers were told, leases are long enough, and nothing
    /// is on its way: no handover, no order to the kernel.
    pub fn may_exec(&self) -> bool {
        let Some(preparing) = self.preparing.as_ref().filter(|_| !self.stopping) else {
            return false;
        };
        let told = |unit: &Unit| !unit.is_active() || unit.stretched_sent >= STRETCHED_ADVERTS;
        let settled = |unit: &Unit| {
            unit.leaving.is_none() && unit.yielding.is_none() && unit.overslept.is_none()
        };
        preparing.rounds >= STRETCHED_ADVERTS
            && self.units.iter().all(|unit| settled(unit) && told(unit))
            && self.model.iter().all(|(ix, _)| self.move_view(ix).is_none() && !self.activates(ix))
            && (0u16..).zip(&self.holdings).all(|(ix, holding)| {
                holding.is_empty() || self.lasts(InstanceIx(ix), holding, preparing.since)
            })
    }

    /// Will what the kernel holds outlast the gap?
    fn lasts(&self, ix: InstanceIx, holding: &Holding, since: Instant) -> bool {
        let wanted = self.lease_wanted(ix);
        let renewed = holding.lease_secs == wanted && holding.confirmed >= Some(since);
        holding.applied() && !holding.repairing() && (wanted.is_none() || renewed)
    }

    /// What the next agent goes on with. After it nothing more may be sent.
    pub fn handover(&self) -> Handover {
        let now = self.now.mono;
        let links = (0u16..).map(LinkIx).zip(&self.links).zip(&self.model.links);
        let heard = links
            .filter(|((ix, link), _)| link.usable() && !self.settling(*ix))
            .filter_map(|((_, link), config)| {
                let index = link.state.index?.get();
                Some(LinkHandover { name: config.name.to_string(), index })
            });
        let checks = (0u16..).map(CheckIx).zip(&self.model.checks).filter_map(|(ix, config)| {
            let state = &self.checks.states[usize::from(ix.0)];
            // What the engine sees itself it sees again.
            let seen_here = matches!(config.probe, Probe::Instance { .. });
            Some(CheckHandover {
                name: config.name.to_string(),
                verdict: state.settled().filter(|_| !seen_here)?,
                since: state.since(),
                detail: state.detail().to_string(),
            })
        });
        let peers = self.peers.iter().flat_map(|peers| peers.iter());
        Handover {
            at: now,
            boot: self.peers.as_ref().map_or(0, |peers| peers.boot),
            seq: self.peers.as_ref().map_or(0, |peers| peers.seq),
            backup_until: self.backup_until.filter(|until| *until > now),
            links: heard.collect(),
            instances: self.model.iter().map(|(ix, _)| self.instance_handover(ix)).collect(),
            checks: checks.collect(),
            peers: peers.map(|peer| peer.hand_over(self.model.host_name(peer.host))).collect(),
        }
    }

    fn instance_handover(&self, ix: InstanceIx) -> InstanceHandover {
        let known = &self.ownership[usize::from(ix.0)];
        let epoch = self.epoch_of(ix);
        InstanceHandover {
            name: self.model.instance(ix).name.to_string(),
            epoch: epoch.number,
            epoch_host: epoch.host,
            owner: known.owner,
            owner_at: known.at,
            owner_left: known.left,
            units: self.units_of(ix).into_iter().map(|u| self.unit_handover(u)).collect(),
        }
    }

    fn unit_handover(&self, u: usize) -> UnitHandover {
        let unit = &self.units[u];
        let (healthy_since, lost_at) = unit.gates.times();
        let unheard_by = unit.gates.waits_for();
        UnitHandover {
            family: unit.voices.first().map_or(0, |voice| number(voice.family)),
            active: unit.is_active() && self.holding(unit.instance).applied(),
            since: unit.since,
            pinned: unit.pinned,
            told_cs: unit.told_interval().centis(),
            adverts_sent: unit.adverts_sent,
            heard: unit.vr.heard().map(|heard| HeardHandover::from(*heard)),
            active_interval_cs: unit.vr.active_interval().centis(),
            healthy_since,
            lost_at,
            unheard_by: unheard_by.map(|host| self.model.host_name(host).to_string()),
            barred_until: unit.barred_until,
        }
    }
}

/// As it is written.
pub(super) const fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

impl From<Heard> for HeardHandover {
    fn from(heard: Heard) -> Self {
        let Heard { src, priority, interval, at } = heard;
        Self { src, priority, interval_cs: interval.centis(), at }
    }
}
