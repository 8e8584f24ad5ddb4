//! Events, alarms and their limits: everything is told once, floods are counted.

use super::Engine;
use super::io::{Alarm, Event, EventKind, Output};
use crate::time::{Duration, Instant};
use crate::types::{Family, InstanceIx};
use crate::wire::receive::Reason;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One line per source and reason in this time.
const QUIET: Duration = Duration::from_secs(60);
/// Sources remembered; the oldest goes.
const SOURCES: usize = 64;

/// What has been told already.
#[derive(Default)]
pub(super) struct Reporter {
    /// By source and reason: when told, and how many since.
    refused: BTreeMap<(IpAddr, &'static str), (Instant, u64)>,
    pub(super) alarms: BTreeSet<(Option<InstanceIx>, Alarm)>,
}

impl Engine {
    pub(super) fn event(&mut self, instance: Option<InstanceIx>, family: Option<Family>, kind: EventKind) {
        let at = self.now.mono;
        self.push(Output::Event(Event { at, instance, family, kind }));
    }

    /// Raises or ends an alarm; told on a change only.
    pub(super) fn alarm(&mut self, instance: Option<InstanceIx>, alarm: Alarm, on: bool) {
        let key = (instance, alarm.clone());
        let changed =
            if on { self.reporter.alarms.insert(key) } else { self.reporter.alarms.remove(&key) };
        if changed {
            self.event(instance, None, EventKind::Alarm(alarm, on));
        }
    }

    /// Ends the alarms of an instance that `which` picks.
    pub(super) fn clear_alarms(&mut self, instance: InstanceIx, which: impl Fn(&Alarm) -> bool) {
        let over: Vec<Alarm> = self
            .reporter
            .alarms
            .iter()
            .filter(|(i, a)| *i == Some(instance) && which(a))
            .map(|(_, a)| a.clone())
            .collect();
        for alarm in over {
            self.alarm(Some(instance), alarm, false);
        }
    }

    /// A datagram was refused. The counters have it; a line is written once per source and reason a minute, and
    /// for an unknown VRID or destination never: other groups' traffic is normal.
    pub(super) fn report_refused(&mut self, src: IpAddr, reason: Reason) {
        if matches!(reason, Reason::Vrid | Reason::Destination) {
            return;
        }
        let now = self.now.mono;
        let told = &mut self.reporter.refused;
        let key = (src, reason.name());
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
        self.event(None, None, EventKind::Refused { src, reason: reason.name(), suppressed });
    }
}
