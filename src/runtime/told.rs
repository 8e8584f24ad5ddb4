//! What the protocol thread tells the main thread, and the bounded way there.
//!
//! The protocol thread never waits: what does not fit is lost and counted. So that a flood of events, or a log that hangs,
//! costs events alone, places are kept free: the last of them for the orders of the engine, those before for what is
//! stored and for ends of operations, because somebody waits for these.

use tokio::sync::mpsc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Event, EventKind};
use vipd_core::time::Instant;
use vipd_core::types::{HostIx, InstanceIx};

/// Events that may wait for the log.
const EVENTS: usize = 1024;
/// Places beyond that, for each instance and for the host: more orders than come of an instance while a main thread stands
/// still, since each of them waits for an answer or is the end of one that did.
const KEPT: usize = 16;

/// What the thread has to tell the main thread.
#[allow(clippy::large_enum_variant, reason = "nearly all that is told is an event")]
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// From the engine.
    Event(Event),
    /// A standby has to be made able to serve; the answer is `Input::Activated`.
    Activate {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
    },
    /// Pre-promote hooks are asked; the answer is `Input::PrePromoted`.
    PrePromote {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// Who hands over; `None`: an operator promotes this host.
        from: Option<HostIx>,
    },
    /// The claim that they were asked for does not come.
    NotPromoted {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
    },
    /// The writer is quieted and its last words are brought to the target; the answer is `Input::BarrierDone`.
    Barrier {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// Who takes over.
        to: HostIx,
        /// The answer is of no use after this time.
        deadline: Instant,
    },
    /// That is over.
    BarrierOver {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// The addresses move; else the writer goes on here.
        moved: bool,
    },
    /// A socket could not be opened: the sentence for the log.
    Socket(String),
}

impl Told {
    /// Places that are not for it, of those that are `kept`.
    fn leaves(&self, kept: usize) -> usize {
        match self {
            Self::Activate { .. }
            | Self::PrePromote { .. }
            | Self::NotPromoted { .. }
            | Self::Barrier { .. }
            | Self::BarrierOver { .. } => 0,
            Self::Event(event) => match &event.kind {
                EventKind::Remember(_) | EventKind::Boot { .. } => kept / 2,
                EventKind::Operation { step, .. } if step.is_end() => kept / 2,
                _ => kept,
            },
            Self::Socket(_) => kept,
        }
    }
}

/// The end of the protocol thread. What it has told is read in the order in which it was.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    way: mpsc::Sender<Told>,
    kept: usize,
}

/// It did not fit, or nobody reads any more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Untold;

/// A way for what an engine of `model` has to tell.
pub(super) fn channel(model: &Model) -> (Outlet, mpsc::Receiver<Told>) {
    let kept = KEPT * (model.instances.len() + 1);
    let (way, end) = mpsc::channel(EVENTS + kept);
    (Outlet { way, kept }, end)
}

impl Outlet {
    /// Tells, without waiting.
    ///
    /// # Errors
    /// When there is no place for it.
    pub(super) fn tell(&self, told: Told) -> Result<(), Untold> {
        // This thread alone takes places: there are not fewer a moment later.
        if self.way.capacity() <= told.leaves(self.kept) {
            return Err(Untold);
        }
        self.way.try_send(told).map_err(|_| Untold)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use vipd_core::engine::io::{Memory, OperationStep};

    const TEXT: &str = "\
        [hosts.lb1]\n[hosts.lb2]\n\
        [instance.web]\nvrid = 51\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\n\
        priority = { lb1 = 150, lb2 = 100 }\n";

    fn event(kind: EventKind) -> Told {
        Told::Event(Event { at: Instant::ZERO, instance: None, family: None, kind })
    }

    /// The log hangs and events come in masses: neither orders nor what somebody waits for are lost with them.
    #[test]
    fn a_flood_of_events_leaves_room_for_orders_and_for_what_is_awaited() {
        let (model, _) = vipd_core::config::load(TEXT, "vipd.toml", "lb1").unwrap();
        let (outlet, mut end) = channel(&model);
        let flood = || event(EventKind::Released);
        let step = OperationStep::Done("moved".into());
        let mut told = 0;
        while outlet.tell(flood()).is_ok() {
            told += 1;
        }
        assert_eq!(told, EVENTS);
        assert_eq!(outlet.tell(Told::Socket("eth0".into())), Err(Untold));
        let awaited =
            [EventKind::Remember(Memory::default()), EventKind::Operation { id: 1, step }];
        for kind in &awaited {
            assert_eq!(outlet.tell(event(kind.clone())), Ok(()));
        }
        while outlet.tell(event(awaited[0].clone())).is_ok() {}
        let instance = InstanceIx(0);
        let mut orders = 0;
        while outlet.tell(Told::BarrierOver { instance, order: orders, moved: false }).is_ok() {
            orders += 1;
        }
        assert_eq!(
            orders,
            u64::try_from(KEPT).unwrap(),
            "half of what is kept, of an instance and the host"
        );
        // In the order in which it was told; a place that is free again is for orders first.
        assert!(matches!(end.try_recv(), Ok(Told::Event(_))));
        assert_eq!(outlet.tell(flood()), Err(Untold));
        assert_eq!(outlet.tell(Told::NotPromoted { instance, order: 99 }), Ok(()));
        let rest: Vec<Told> = std::iter::from_fn(|| end.try_recv().ok()).collect();
        assert!(matches!(rest.last(), Some(Told::NotPromoted { order: 99, .. })));
        let over = rest.iter().filter(|told| matches!(told, Told::BarrierOver { .. })).count();
        assert_eq!(u64::try_from(over), Ok(orders));
        assert_eq!(outlet.tell(flood()), Ok(()));
    }
}
