//! Counts what happens: what metrics say about the past, which a snapshot of the engine does not know.
//!
//! Fed by the main thread with every event and every reading of a check, also with those that the log holds back. What
//! the protocol thread could not tell is not in it; `vipd_events_untold_total` says how often that happened.

use super::hooks::{HookOf, HookRun, HookTally};
use super::text::cause_code;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Alarm, Cause, Event, EventKind, Reading};
use vipd_core::engine::reload::Renumber;
use vipd_core::histogram::{Histogram, OUTAGES};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{CheckIx, Family, InstanceIx, State};

/// What is counted of one instance.
#[derive(Clone, Debug)]
pub(super) struct InstanceTally {
    /// Transitions by family of the virtual router, new state and cause.
    pub(super) transitions: BTreeMap<(Family, State, &'static str), u64>,
    /// Time from the last advert of an owner that fell silent to the confirmed claim of this host.
    pub(super) outages: Histogram,
    pub(super) repairs: u64,
    pub(super) conflicts: u64,
    pub(super) kernel_failures: u64,
    /// Time with two owners that is over.
    dual: Duration,
    /// Two owners since then.
    dual_since: Option<Instant>,
}

impl InstanceTally {
    const fn new() -> Self {
        Self {
            transitions: BTreeMap::new(),
            outages: Histogram::new(OUTAGES),
            repairs: 0,
            conflicts: 0,
            kernel_failures: 0,
            dual: Duration::ZERO,
            dual_since: None,
        }
    }

    /// Time with two owners until `now`.
    pub(super) fn dual(&self, now: Instant) -> Duration {
        self.dual + self.dual_since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

/// What is counted of one check.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct CheckTally {
    /// Runs.
    pub(super) runs: u64,
    /// Time of all runs.
    pub(super) took: Duration,
    /// Time of the last run.
    pub(super) last: Duration,
    /// Runs that took longer than the interval of the check.
    pub(super) late: u64,
}

/// The counts of one agent.
#[derive(Clone, Debug)]
pub struct Tally {
    pub(super) instances: Vec<InstanceTally>,
    pub(super) checks: Vec<CheckTally>,
    /// Refused heartbeats by reason.
    pub(super) heartbeats_refused: BTreeMap<&'static str, u64>,
    intervals: Vec<Duration>,
    leaders: Vec<Family>,
    /// Claims because of silence, not yet confirmed: how long it was.
    claiming: HashMap<InstanceIx, Duration>,
    /// Alarms of two owners that stand, by instance.
    two_owners: HashMap<InstanceIx, usize>,
    /// By hook and instance, those that ran.
    pub(super) hooks: BTreeMap<HookOf, HookTally>,
}

impl Tally {
    /// Nothing has happened yet.
    pub fn new(model: &Model) -> Self {
        Self {
            instances: model.instances.iter().map(|_| InstanceTally::new()).collect(),
            checks: vec![CheckTally::default(); model.checks.len()],
            heartbeats_refused: BTreeMap::new(),
            intervals: model.checks.iter().map(|c| c.interval).collect(),
            leaders: model.instances.iter().map(|i| i.leader()).collect(),
            claiming: HashMap::new(),
            two_owners: HashMap::new(),
            hooks: BTreeMap::new(),
        }
    }

    /// A hook was run for an instance; of a good push `line` is what it said last.
    pub fn hook(&mut self, hook: &Arc<str>, instance: &Arc<str>, run: HookRun, line: Option<&str>) {
        self.hooks.entry((Arc::clone(hook), Arc::clone(instance))).or_default().note(run, line);
    }

    /// This host does not own the instance: it pushes nothing.
    pub fn not_owner(&mut self, instance: &Arc<str>) {
        let of = self.hooks.iter_mut().filter(|((_, name), _)| name == instance);
        of.for_each(|(_, tally)| tally.forget_push());
    }

    /// What hooks came to, by name and instance.
    pub fn hooks(&self) -> impl Iterator<Item = (&HookOf, &HookTally)> {
        self.hooks.iter()
    }

    /// Another configuration: what was counted of what it has as well goes on.
    pub fn reload(&mut self, model: &Model, renumber: &Renumber) {
        let before = std::mem::replace(self, Self::new(model));
        self.heartbeats_refused = before.heartbeats_refused;
        for (was, tally) in (0u16..).map(InstanceIx).zip(before.instances) {
            let now =
                renumber.instance(was).and_then(|ix| self.instances.get_mut(usize::from(ix.0)));
            if let Some(mine) = now {
                *mine = tally;
            }
        }
        for (was, tally) in (0u16..).map(CheckIx).zip(before.checks) {
            let now = renumber.check(was).and_then(|ix| self.checks.get_mut(usize::from(ix.0)));
            if let Some(mine) = now {
                *mine = tally;
            }
        }
        let place = |ix: InstanceIx| renumber.instance(ix);
        self.claiming =
            before.claiming.into_iter().filter_map(|(ix, at)| Some((place(ix)?, at))).collect();
        self.two_owners =
            before.two_owners.into_iter().filter_map(|(ix, n)| Some((place(ix)?, n))).collect();
        let known = |hook: &Arc<str>, name: &Arc<str>| {
            model.hooks.iter().any(|h| h.name == *hook)
                && model.instances.iter().any(|i| i.name == *name)
        };
        self.hooks =
            before.hooks.into_iter().filter(|((hook, name), _)| known(hook, name)).collect();
    }

    /// A check was run.
    pub fn check(&mut self, check: CheckIx, reading: &Reading) {
        let slot = usize::from(check.0);
        let (Some(tally), Some(interval)) = (self.checks.get_mut(slot), self.intervals.get(slot))
        else {
            return;
        };
        tally.runs += 1;
        tally.took = tally.took.saturating_add(reading.took);
        tally.last = reading.took;
        tally.late += u64::from(reading.took > *interval);
    }

    /// Something happened.
    pub fn observe(&mut self, event: &Event) {
        if let EventKind::Refused { reason, suppressed, .. } = &event.kind
            && reason.starts_with("heartbeat-")
        {
            *self.heartbeats_refused.entry(reason).or_default() += 1 + suppressed;
        }
        let Some(ix) = event.instance else { return };
        let slot = usize::from(ix.0);
        let (Some(tally), Some(leader)) = (self.instances.get_mut(slot), self.leaders.get(slot))
        else {
            return;
        };
        match &event.kind {
            EventKind::Transition { from, to, cause, .. } => {
                // From a state to itself: cannot take part, told once more.
                if from != to {
                    let key = (event.family.unwrap_or(*leader), *to, cause_code(cause));
                    *tally.transitions.entry(key).or_default() += 1;
                }
                match (to, cause) {
                    (State::Active, Cause::Silence(length)) => {
                        self.claiming.insert(ix, *length);
                    }
                    _ => drop(self.claiming.remove(&ix)),
                }
            }
            EventKind::Claimed { took, .. } => {
                if let Some(silence) = self.claiming.remove(&ix) {
                    tally.outages.observe(silence + *took);
                }
            }
            EventKind::Repaired(_) => tally.repairs += 1,
            EventKind::KernelFailed(_) => tally.kernel_failures += 1,
            EventKind::Alarm(Alarm::Conflict(..), true) => tally.conflicts += 1,
            EventKind::Alarm(Alarm::DualActive(_), on) => {
                let owners = self.two_owners.entry(ix).or_default();
                *owners = if *on { *owners + 1 } else { owners.saturating_sub(1) };
                match (*owners, tally.dual_since) {
                    (0, Some(since)) => {
                        tally.dual += event.at.since(since);
                        tally.dual_since = None;
                    }
                    (1.., None) => tally.dual_since = Some(event.at),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
