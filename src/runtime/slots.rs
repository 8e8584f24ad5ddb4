//! Orders on their way to the kernel thread: one slot per instance, the newest order wins (DESIGN section 4).
//!
//! Written by the protocol thread, which must never wait: the lock is held for a few moves only, by either side,
//! and never across a system call. Read by the kernel thread, whose worker decides what comes first.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Own, Renew};
use vipd_core::types::InstanceIx;

/// What waits for the kernel thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Orders {
    /// From here on orders are numbered by this configuration.
    pub model: Option<Arc<Model>>,
    /// At most one for each instance.
    pub own: Vec<Own>,
    /// Oldest first; each instance is in one of them at most.
    pub renew: Vec<Renew>,
}

/// Both ends hold one.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug)]
struct State {
    model: Option<Arc<Model>>,
    own: Vec<Option<Own>>,
    /// Each instance is in one of them at most, so there are never more than instances.
    renew: VecDeque<Renew>,
    closed: bool,
}

impl Slots {
    /// Empty slots for `instances` instances.
    pub(super) fn new(instances: usize) -> Self {
        let own = vec![None; instances];
        let state = State { model: None, own, renew: VecDeque::new(), closed: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), filled: Condvar::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of the other side leaves the slots whole: every change is a single move.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another configuration: what waits is void, the engine orders anew what it still wants.
    pub(super) fn reload(&self, model: &Arc<Model>) {
        let own = vec![None; model.instances.len()];
        let mut state = self.lock();
        let old = std::mem::replace(&mut state.own, own);
        state.renew.clear();
        state.model = Some(Arc::clone(model));
        drop(state);
        drop(old);
        self.shared.filled.notify_one();
    }

    /// Replaces what is waiting for the instance. An earlier renewal of it is dropped with it: an address that
    /// shall go must not be renewed, and one that is put on gets its lifetime that way.
    pub(super) fn own(&self, order: Own) {
        let mut state = self.lock();
        state.forget_renewal(|instance| instance == order.instance);
        if let Some(slot) = state.own.get_mut(usize::from(order.instance.0)) {
            *slot = Some(order);
        }
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Adds a renewal; older ones keep only the instances that this one does not name.
    pub(super) fn renew(&self, order: Renew) {
        let mut state = self.lock();
        state
            .forget_renewal(|instance| order.instances.iter().any(|(named, _)| *named == instance));
        state.renew.push_back(order);
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Everything that waits, without waiting for more.
    pub(super) fn take(&self) -> Orders {
        self.lock().take()
    }

    /// Everything that waits, at least one order; `None` when closed and empty.
    pub(super) fn wait(&self) -> Option<Orders> {
        let mut state = self.lock();
        loop {
            let orders = state.take();
            if orders != Orders::default() {
                return Some(orders);
            }
            if state.closed {
                return None;
            }
            state = self.shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more orders will come; the kernel thread ends after those that wait.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.shared.filled.notify_all();
    }
}

impl State {
    fn forget_renewal(&mut self, which: impl Fn(InstanceIx) -> bool) {
        for renew in &mut self.renew {
            renew.instances.retain(|(instance, _)| !which(*instance));
        }
        self.renew.retain(|renew| !renew.instances.is_empty());
    }

    fn take(&mut self) -> Orders {
        Orders {
            model: self.model.take(),
            own: self.own.iter_mut().filter_map(Option::take).collect(),
            renew: self.renew.drain(..).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use vipd_core::engine::io::Want;
    use vipd_core::time::Instant;

    fn hold(instance: u16, order: u64) -> Own {
        let want =
            Want::Hold { lease_secs: Some(2), not_after: Instant::MAX, families: [true, false] };
        Own { instance: InstanceIx(instance), order, want }
    }

    fn free(instance: u16, order: u64) -> Own {
        Own { want: Want::Free, ..hold(instance, order) }
    }

    fn renew(order: u64, instances: &[u16]) -> Renew {
        let instances = instances.iter().map(|i| (InstanceIx(*i), 2)).collect();
        Renew { instances, order, not_after: Instant::MAX }
    }

    #[test]
    fn newest_order_of_an_instance_wins() {
        let slots = Slots::new(2);
        slots.own(hold(0, 1));
        slots.own(free(0, 2));
        slots.own(hold(1, 3));
        slots.own(hold(0, 4));
        assert_eq!(slots.take(), Orders { own: vec![hold(0, 4), hold(1, 3)], ..Orders::default() });
        assert_eq!(slots.take(), Orders::default());
        slots.close();
        assert_eq!(slots.wait(), None);
    }

    #[test]
    fn nothing_that_shall_go_is_renewed() {
        let slots = Slots::new(2);
        slots.renew(renew(1, &[0, 1]));
        slots.own(free(0, 2));
        slots.close();
        assert_eq!(
            slots.wait(),
            Some(Orders {
                own: vec![free(0, 2)],
                renew: vec![renew(1, &[1])],
                ..Orders::default()
            })
        );
        assert_eq!(slots.wait(), None);
    }

    #[test]
    fn stays_bounded_however_many_orders_come() {
        let slots = Slots::new(3);
        for order in 0..10_000 {
            slots.renew(renew(order, &[0, 1, 2]));
            slots.renew(renew(order, &[1]));
        }
        assert!(slots.lock().renew.len() <= 3);
    }

    #[test]
    fn a_waiting_reader_is_woken() {
        let slots = Slots::new(1);
        let reader = std::thread::spawn({
            let slots = slots.clone();
            move || slots.wait()
        });
        slots.own(free(0, 9));
        assert_eq!(
            reader.join().unwrap(),
            Some(Orders { own: vec![free(0, 9)], ..Orders::default() })
        );
    }
}
