//! What operators order: judged first, then carried out; each operation is reported until it is done or aborted.

mod judge;

use super::Engine;
use super::io::{EventKind, OperationStep, OperatorOrder};
use crate::types::InstanceIx;

impl Engine {
    /// An operator says so: what [`Engine::judge`] refuses ends at once.
    pub(super) fn on_order(&mut self, id: u64, instance: Option<InstanceIx>, order: OperatorOrder) {
        let judged = match self.judge(instance, &order) {
            Ok(judged) => judged,
            Err(why) => {
                self.operation(id, instance, OperationStep::Aborted(why.into()));
                return;
            }
        };
        self.operation(id, instance, OperationStep::Started);
        for ix in self.meant(instance) {
            self.acknowledge(ix);
            if order == OperatorOrder::Promote {
                self.promote(ix);
            }
        }
        self.operation(id, instance, OperationStep::Done(judged.into()));
    }

    /// The instances that an order is about.
    fn meant(&self, instance: Option<InstanceIx>) -> Vec<InstanceIx> {
        match instance {
            Some(ix) => vec![ix],
            None => self.model.iter().map(|(ix, _)| ix).collect(),
        }
    }

    fn operation(&mut self, id: u64, instance: Option<InstanceIx>, step: OperationStep) {
        self.event(instance, None, EventKind::Operation { id, step });
    }
}
