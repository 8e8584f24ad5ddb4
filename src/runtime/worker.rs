//! The kernel thread: takes orders from the slots, lets the netlink worker carry them out, reports back.
//!
//! It may block in the kernel for milliseconds; that is why it is a thread. It decides nothing.

use super::queue::{Gone, Message, Sender};
use super::slots::{Orders, Slots};
use crate::kernel::{Step, Worker};

/// Runs until the slots are closed and empty, or nobody listens any more.
pub(super) fn run(mut worker: Worker, slots: &Slots, results: &Sender) {
    while let Some(orders) = slots.wait() {
        hand_over(&mut worker, orders);
        if finish(&mut worker, slots, results).is_err() {
            return;
        }
    }
}

/// Steps until there is nothing left to do; newer orders are taken in between.
fn finish(worker: &mut Worker, slots: &Slots, results: &Sender) -> Result<(), Gone> {
    loop {
        match worker.step() {
            Step::Idle => return Ok(()),
            Step::Busy => {}
            Step::Applied(applied) => results.send(Message::Applied(applied))?,
            Step::Renewed(renewed) => results.send(Message::Renewed(renewed))?,
        }
        hand_over(worker, slots.take());
    }
}

fn hand_over(worker: &mut Worker, orders: Orders) {
    if let Some(model) = orders.model {
        worker.reload(model);
    }
    for order in orders.own {
        worker.own(order);
    }
    for order in orders.renew {
        worker.renew(order);
    }
}
