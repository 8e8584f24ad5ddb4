//! Pre-promote hooks: who is to own because somebody ordered it asks the operator's programs first, and they may refuse.
//!
//! Asked by `standby` on the way to a claim. A claim that nobody ordered never comes here: its hooks run beside it, and
//! nothing waits for them (DESIGN 5.4).

use super::io::{Cause, Output};
use super::{Engine, UnitIx};
use crate::config::model::Moment;
use crate::time::{Duration, Instant};
use crate::types::{HostIx, InstanceIx};
use std::sync::Arc;

/// Beyond the programs' own time: their end, and the way of the answer.
const SLACK: Duration = Duration::from_secs(5);
/// Done and not used at once, they are asked again after this.
const STAYS_DONE: Duration = Duration::from_secs(60);

/// Where the hooks of an instance are.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Preparing {
    /// Not asked.
    #[default]
    Idle,
    /// Asked; taken to have refused when nothing came until then.
    Running { order: u64, until: Instant },
    /// They agree.
    Done { order: u64, until: Instant },
}

impl Engine {
    /// How long the hooks of a promotion may take; `None`: there are none.
    pub(super) fn preparation(&self, ix: InstanceIx) -> Option<Duration> {
        self.model.time_at(ix, Moment::PrePromote)
    }

    /// The claim for `cause` waits for its hooks. `Some`: ask again then; `None`: nothing to wait for.
    pub(super) fn preparation_forbids(&mut self, ix: InstanceIx, cause: &Cause) -> Option<Instant> {
        let from = match cause {
            Cause::MovedHere(host) => Some(*host),
            Cause::Promoted => None,
            _ => return None,
        };
        let time = self.preparation(ix)?;
        let now = self.now.mono;
        match self.standby(ix).preparing {
            Preparing::Done { until, .. } if until > now => None,
            Preparing::Running { until, .. } => Some(until.max(now + Duration::from_millis(10))),
            Preparing::Idle | Preparing::Done { .. } => Some(self.prepare(ix, from, now + time)),
        }
    }

    fn prepare(&mut self, ix: InstanceIx, from: Option<HostIx>, until: Instant) -> Instant {
        let order = self.next_order();
        let until = until + SLACK;
        self.standby_mut(ix).preparing = Preparing::Running { order, until };
        self.push(Output::PrePromote { instance: ix, order, from });
        until
    }

    pub(super) fn on_prepared(&mut self, ix: InstanceIx, order: u64, result: Result<(), Arc<str>>) {
        let known = self.standby.get(usize::from(ix.0)).map(|s| s.preparing);
        if !matches!(known, Some(Preparing::Running { order: o, .. }) if o == order) {
            return;
        }
        match result {
            Ok(()) => {
                let until = self.now.mono + STAYS_DONE;
                self.standby_mut(ix).preparing = Preparing::Done { order, until };
                // The target of a move gets ready while the source still writes: the activation comes next.
                if let Some(from) = self.held_for(ix) {
                    self.make_ready(ix, from);
                }
                self.unpark(ix);
                self.urgent();
            }
            Err(why) => self.preparation_refused(ix, &why),
        }
    }

    /// No answer came in time.
    pub(super) fn preparation_due(&mut self, ix: InstanceIx) {
        if matches!(self.standby(ix).preparing, Preparing::Running { until, .. } if until <= self.now.mono)
        {
            self.preparation_refused(ix, "no answer in time");
        }
    }

    fn preparation_refused(&mut self, ix: InstanceIx, why: &str) {
        self.preparation_off(ix);
        self.promotion_vetoed(ix, why);
        self.unpark(ix);
    }

    /// The claim that hooks were asked for does not come: what they did for it has to be undone.
    pub(super) fn preparation_off(&mut self, ix: InstanceIx) {
        let before = std::mem::take(&mut self.standby_mut(ix).preparing);
        if let Preparing::Running { order, .. } | Preparing::Done { order, .. } = before {
            self.push(Output::NotPromoted { instance: ix, order });
        }
    }

    /// Would an ordered claim wait for no hook?
    pub(super) fn is_prepared(&self, ix: InstanceIx) -> bool {
        let done = match self.standby(ix).preparing {
            Preparing::Done { until, .. } => until > self.now.mono,
            Preparing::Idle | Preparing::Running { .. } => false,
        };
        done || self.preparation(ix).is_none()
    }

    /// What the hooks agreed to is needed for longer.
    pub(super) fn stay_prepared(&mut self, ix: InstanceIx) {
        let later = self.now.mono + STAYS_DONE;
        if let Preparing::Done { until, .. } = &mut self.standby_mut(ix).preparing {
            *until = later;
        }
    }

    /// Hooks are being asked: their answer would be lost to the next agent.
    pub(super) fn prepares(&self, ix: InstanceIx) -> bool {
        matches!(self.standby(ix).preparing, Preparing::Running { .. })
    }

    /// Do hooks of an instance that moves with the unit still speak?
    pub(super) fn group_prepares(&self, u: UnitIx) -> bool {
        self.group(u).into_iter().any(|ix| self.prepares(ix))
    }
}
