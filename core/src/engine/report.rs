//! Events, alarms and their limits: everything is told once, floods are counted.

use super::io::{Alarm, Event, EventKind, Output};
use super::peers::Peers;
use super::reload::Renumber;
use super::unit::Unit;
use super::{Engine, Slot};
use crate::time::{Duration, Instant};
use crate::types::{Family, InstanceIx};
use crate::wire::heartbeat::HeartbeatError;
use crate::wire::receive::Reason;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One line per source and reason in this time.
const QUIET: Duration = Duration::from_secs(60);
/// Sources remembered; the oldest goes.
const SOURCES: usize = 64;

/// Standing alarms about what others send; a flood under ever new addresses raises no more, the counters have it.
const ALARMS: usize = 64;

/// Is there no other sign of the end of this condition than that its evidence stops?
fn rests_on_packets(alarm: &Alarm) -> bool {
    matches!(
        alarm,
        Alarm::DuplicateVrid(_)
            | Alarm::DuplicateOwner(_)
            | Alarm::Conflict(..)
            | Alarm::AddressFight
            | Alarm::DualActive(_)
    )
}

/// What has been told already.
#[derive(Clone, Default)]
pub(super) struct Reporter {
    /// By source and reason: when told, and how many since.
    refused: BTreeMap<(IpAddr, &'static str), (Instant, u64)>,
    /// Alarms that stand, with the time of the last evidence.
    pub(super) alarms: BTreeMap<(Option<InstanceIx>, Alarm), Instant>,
}

impl Reporter {
    /// What alarms speak of has other numbers; those of what is gone have ended before.
    pub(super) fn renumber(&mut self, renumber: &Renumber) {
        let alarms = std::mem::take(&mut self.alarms).into_iter();
        self.alarms = alarms
            .filter_map(|((instance, alarm), at)| {
                let instance = match instance {
                    Some(ix) => Some(renumber.instance(ix)?),
                    None => None,
                };
                Some(((instance, renumber.alarm(&alarm)?), at))
            })
            .collect();
    }
}

impl Engine {
    pub(super) fn event(
        &mut self,
        instance: Option<InstanceIx>,
        family: Option<Family>,
        kind: EventKind,
    ) {
        let at = self.now.mono;
        self.push(Output::Event(Event { at, instance, family, kind }));
    }

    /// Raises or ends an alarm; told on a change only.
    pub(super) fn alarm(&mut self, instance: Option<InstanceIx>, alarm: Alarm, on: bool) {
        let key = (instance, alarm.clone());
        let alarms = &mut self.reporter.alarms;
        if on && rests_on_packets(&alarm) && !alarms.contains_key(&key) {
            let standing = alarms.keys().filter(|(_, a)| rests_on_packets(a));
            if standing.count() >= ALARMS {
                return;
            }
        }
        let changed = if on {
            alarms.insert(key, self.now.mono).is_none()
        } else {
            alarms.remove(&key).is_some()
        };
        if changed {
            self.event(instance, None, EventKind::Alarm(alarm, on));
            self.plan_alarms();
        }
    }

    /// Ends the alarms of an instance that `which` picks.
    pub(super) fn clear_alarms(&mut self, instance: InstanceIx, which: impl Fn(&Alarm) -> bool) {
        let over: Vec<Alarm> = self
            .reporter
            .alarms
            .keys()
            .filter(|(i, a)| *i == Some(instance) && which(a))
            .map(|(_, a)| a.clone())
            .collect();
        for alarm in over {
            self.alarm(Some(instance), alarm, false);
        }
    }

    /// Alarms that rest on what others send end when that stops.
    pub(super) fn alarms_due(&mut self) {
        let now = self.now.mono;
        let over: Vec<(Option<InstanceIx>, Alarm)> = self
            .timed_alarms()
            .filter(|(_, until)| *until <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for (instance, alarm) in over {
            self.alarm(instance, alarm, false);
        }
        self.plan_alarms();
    }

    fn plan_alarms(&mut self) {
        let at = self.timed_alarms().map(|(_, until)| until).min().unwrap_or(Instant::MAX);
        self.set_slot(Slot::Alarms, at);
    }

    /// Alarms that end when their evidence stops, and when they do if there is no more of it.
    fn timed_alarms(&self) -> impl Iterator<Item = (&(Option<InstanceIx>, Alarm), Instant)> {
        let timed = self.reporter.alarms.iter().filter(|((_, alarm), _)| rests_on_packets(alarm));
        timed.map(|(key, at)| (key, *at + self.quiet(key)))
    }

    /// How long nothing may speak for it. A second owner speaks with every advert and every heartbeat; an owner that was
    /// preempted may do so once more, where that crosses our claim.
    fn quiet(&self, (instance, alarm): &(Option<InstanceIx>, Alarm)) -> Duration {
        let (Some(instance), Alarm::DualActive(_)) = (instance, alarm) else { return QUIET };
        let adverts = self.units.iter().find(|u| u.instance == *instance).map(Unit::interval);
        let beats = self.peers.as_ref().and_then(Peers::slowest);
        adverts.unwrap_or(Duration::ZERO).max(beats.unwrap_or(Duration::ZERO)) * 7 / 2
    }

    /// A datagram was refused. The counters have it; a line is written once per source and reason a minute, and
    /// for an unknown VRID or destination never: other groups' traffic is normal.
    pub(super) fn report_refused(&mut self, src: IpAddr, reason: Reason) {
        if !matches!(reason, Reason::Vrid | Reason::Destination) {
            self.refused(src, reason.name());
        }
    }

    /// A heartbeat was refused.
    pub(super) fn report_heartbeat(&mut self, src: IpAddr, error: HeartbeatError) {
        self.refused(
            src,
            match error {
                HeartbeatError::NotOurs => "heartbeat-not-ours",
                HeartbeatError::Version => "heartbeat-version",
                HeartbeatError::Truncated => "heartbeat-truncated",
                HeartbeatError::BadTag => "heartbeat-bad-tag",
                HeartbeatError::Malformed(_) => "heartbeat-malformed",
            },
        );
    }

    fn refused(&mut self, src: IpAddr, reason: &'static str) {
        let now = self.now.mono;
        let told = &mut self.reporter.refused;
        let key = (src, reason);
        if let Some((at, more)) = told.get_mut(&key)
            && now.since(*at) < QUIET
        {
            *more += 1;
            return;
        }
        let suppressed = told.get(&key).map_or(0, |(_, more)| *more);
        if told.len() >= SOURCES
            && let Some(oldest) = told.iter().min_by_key(|(_, (at, _))| *at).map(|(k, _)| *k)
        {
            told.remove(&oldest);
        }
        told.insert(key, (now, 0));
        self.event(None, None, EventKind::Refused { src, reason, suppressed });
    }
}
