//! The threads of the agent: the main loop, and the two real-time ones beside it.
//!
//! Started once by [`super::agent`], which hears when one ends. Nothing here waits for a thread that hangs.

use super::agent::{RunError, io_at};
use super::protocol::{End, Protocol};
use super::queue::{Message, Sender};
use super::slots::Slots;
use super::worker;
use crate::kernel::Worker;
use crate::sys::sched::{self, Granted};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;

/// Priority of the protocol thread; the kernel thread runs one below.
const REAL_TIME: u8 = 20;
/// A real-time thread that computes this long without waiting has gone wrong. The kernel thread does not wait while it
/// puts on addresses: 5000 of them take 0.3 s, and more each the more there are.
const BRAKE: Duration = Duration::from_secs(5);
/// Runs `work` on a loop of one thread. What blocks in a thread of its own is not waited for in the end: a name service
/// that hangs does not keep the process.
///
/// # Errors
/// When the kernel gives no poller.
pub(super) fn main_loop<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// The two threads beside this one.
pub(super) struct Threads {
    pub slots: Slots,
    pub protocol_ended: oneshot::Receiver<io::Result<End>>,
    pub kernel_ended: oneshot::Receiver<()>,
    pub scheduling: Arc<OnceLock<Granted>>,
    pub memory: Arc<OnceLock<Granted>>,
}

impl Threads {
    /// Starts both; the protocol thread begins with `first`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(
        mut protocol: Protocol,
        first: Vec<Message>,
        worker: Worker,
        slots: Slots,
        results: Sender,
    ) -> Result<Self, RunError> {
        let (scheduling, memory) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let (kernel_tx, kernel_ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("kernel".into())
            .spawn({
                let slots = slots.clone();
                move || {
                    // What is refused here is refused to the protocol thread as well, which tells.
                    let _ = sched::real_time(REAL_TIME - 1, BRAKE);
                    worker::run(worker, &slots, &results);
                    let _ = kernel_tx.send(());
                }
            })
            .map_err(io_at("cannot start the kernel thread"))?;
        let (protocol_tx, protocol_ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("protocol".into())
            .spawn({
                let (scheduling, memory) = (Arc::clone(&scheduling), Arc::clone(&memory));
                move || {
                    let _ = memory.set(sched::lock_memory());
                    let _ = scheduling.set(sched::real_time(REAL_TIME, BRAKE));
                    protocol.begin(first);
                    let _ = protocol_tx.send(protocol.run());
                }
            })
            .map_err(io_at("cannot start the protocol thread"))?;
        Ok(Self { slots, protocol_ended, kernel_ended, scheduling, memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn what_hangs_aside_does_not_keep_the_process() {
        let began = clock::monotonic();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let done = main_loop(async move {
            tokio::task::spawn_blocking(move || ended.recv_timeout(Duration::from_secs(20)));
            tokio::task::yield_now().await;
            7
        });
        assert_eq!(done.ok(), Some(7));
        assert!(
            (clock::monotonic() - began) < Duration::from_secs(10),
            "{:?}",
            (clock::monotonic() - began)
        );
        drop(end);
    }
}
