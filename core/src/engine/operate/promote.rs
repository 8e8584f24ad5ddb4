//! A promotion that was ordered: this host is to own, whatever else is true of it.

use super::Waits;
use crate::engine::Engine;
use crate::engine::io::EventKind;
use crate::time::Duration;
use crate::types::InstanceIx;
use crate::wire::heartbeat::Refusal;

/// What a promotion may take beyond what it waits for: a silent holder, an activation.
const PROMOTION: Duration = Duration::from_secs(60);

impl Engine {
    pub(super) fn start_promotion(&mut self, id: u64, instance: Option<InstanceIx>) {
        let Some(ix) = instance else { return };
        self.acknowledge(ix);
        let activation = self.model.instance(ix).standby.activation();
        let activation = activation.map(|a| a.program.timeout);
        let patience: Duration =
            activation.into_iter().chain(self.preparation(ix)).chain([PROMOTION]).sum();
        self.open(id, instance, Waits::Promotion, [ix], patience);
        self.promote(ix);
        self.plan_orders();
    }

    /// Pre-promote hooks of `ix` refuse: what was ordered is not done, for nothing that moves with it. Nobody's fault, and
    /// tried again only when ordered again.
    pub(in crate::engine) fn promotion_vetoed(&mut self, ix: InstanceIx, why: &str) {
        self.event(Some(ix), None, EventKind::Vetoed(why.into()));
        let member = self.name(ix).to_owned();
        let together = self.together(ix);
        // None of them is asked again meanwhile: the order of one would be that of all.
        for o in &together {
            self.takeover_failed(*o, Refusal::Vetoed);
            self.withdraw(*o);
        }
        for o in together {
            self.end_waits(o, Waits::Promotion, |name| {
                let with =
                    if o == ix { String::new() } else { format!("{member} moves with it, ") };
                Err(format!("{name} is not promoted: {with}{why}"))
            });
        }
    }
}
