//! Orders of operators: moves, drains, freezes, priorities (DESIGN 5.5, 5.6, 5.10). What each ends as, and who owns then.

mod drains;
mod memory;
mod moves;
mod prepare;
mod standing;

use crate::bench::{Bench, WEB, beating};
use crate::fit::{secs, world};
use crate::world::World;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{EventKind, Input, OperationStep, OperatorOrder};
use vipd_core::time::Duration;
use vipd_core::types::{HostIx, InstanceIx};

/// To a host by its position, not by force.
fn to(host: usize) -> OperatorOrder {
    OperatorOrder::Move { to: Some(HostIx(u8::try_from(host).unwrap())), force: false }
}

const ANYWHERE: OperatorOrder = OperatorOrder::Move { to: None, force: false };
const DRAIN: OperatorOrder =
    OperatorOrder::Drain { until: None, last_resort: false, allow_outage: false };
const FREEZE: OperatorOrder = OperatorOrder::Freeze { until: None };

/// Three hosts with heartbeats; lb1 owns.
fn three() -> World {
    world(&beating(""), 3, |_: &mut Model| {})
}

impl Bench {
    /// Steps of operation `id`.
    fn steps(&self, id: u64) -> Vec<OperationStep> {
        let told = self.events().into_iter().filter_map(|e| match e {
            EventKind::Operation { id: of, step } if of == id => Some(step),
            _ => None,
        });
        told.collect()
    }

    /// How operation `id` ended, once.
    fn end(&self, id: u64) -> Option<Result<String, String>> {
        let steps = self.steps(id);
        let ends: Vec<_> = steps.iter().filter(|step| step.is_end()).collect();
        assert!(ends.len() <= 1, "{steps:?}");
        assert!(ends.is_empty() || steps.last().is_some_and(OperationStep::is_end), "{steps:?}");
        ends.first().map(|step| match step {
            OperationStep::Done(text) => Ok(text.to_string()),
            OperationStep::Aborted(text) => Err(text.to_string()),
            other => panic!("{other:?}"),
        })
    }
}

impl World {
    /// Gives an order about `WEB`, or the host, to a host.
    fn order(&mut self, host: usize, id: u64, instance: Option<InstanceIx>, order: OperatorOrder) {
        self.give(host, Input::Order { id, instance, order });
    }

    /// Gives an order about `WEB` and lets time pass until it has ended; every moment has a holder, and not more than
    /// two.
    fn carried_out(&mut self, host: usize, order: OperatorOrder) -> Result<String, String> {
        self.forget();
        self.order(host, 7, Some(WEB), order);
        for _ in 0..60_000 {
            if let Some(end) = self.hosts[host].end(7) {
                return end;
            }
            self.run(Duration::from_millis(1));
            assert!(
                (1..=2).contains(&self.holders().len()),
                "{:?} at {}",
                self.holders(),
                self.now
            );
        }
        panic!("not within a minute: {:?}", self.hosts[host].steps(7));
    }

    /// One host owns and holds.
    fn only(&self, host: usize) {
        assert_eq!((self.owners(), self.holders()), (vec![host], vec![host]));
    }
}
