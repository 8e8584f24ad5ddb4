//! Who may sit down: so many clients, and some more seats for root alone.

use super::{Caller, Limits};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The seats of a server.
#[derive(Debug)]
pub(super) struct Seats {
    all: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
}

impl Seats {
    /// As many as `limits` says.
    pub(super) fn new(limits: &Limits) -> Self {
        let seats = |n| Arc::new(Semaphore::new(n));
        Self { all: seats(limits.connections), reserve: seats(limits.reserve) }
    }

    /// One for `caller`, given back when dropped; `None`: all are taken.
    pub(super) fn take(&self, caller: &Caller) -> Option<OwnedSemaphorePermit> {
        let free = |seats: &Arc<Semaphore>| Arc::clone(seats).try_acquire_owned().ok();
        free(&self.all).or_else(|| (caller.uid == 0).then(|| free(&self.reserve)).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_do_not_keep_root_out() {
        let seats = Seats::new(&Limits { connections: 2, reserve: 1, ..Limits::default() });
        let caller = |uid| Caller { uid, gid: uid, groups: vec![], pid: None };
        let taken = [seats.take(&caller(1)), seats.take(&caller(1))];
        assert!(taken.iter().all(Option::is_some));
        assert!(seats.take(&caller(1)).is_none());
        let root = seats.take(&caller(0));
        assert!(root.is_some());
        assert!(seats.take(&caller(0)).is_none());
        drop(taken);
        assert!(seats.take(&caller(1)).is_some());
    }
}
