//! The bounded queue into the protocol thread, with the bell that wakes it.
//!
//! Written by the threads `main` and `kernel`, read by `protocol` alone. The reader never waits for a
//! writer; a writer waits when the reader is behind, because what it carries must not be lost.

use crate::kernel::MonitorEvent;
use crate::sys::Waker;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tokio::sync::oneshot;
use vipd_core::config::model::Model;
use vipd_core::engine::Secrets;
use vipd_core::engine::io::{Applied, Memory, OperatorOrder, Reading, Renewed, ReplicaState};
use vipd_core::engine::simulate::Picture;
use vipd_core::time::Duration;
use vipd_core::types::{CheckIx, InstanceIx, SetIx};

use super::protocol::Report;
use super::told::Outlet;

/// Messages in flight. A dump of all links fits; more only means that the writer waits.
const DEPTH: usize = 1024;

/// What the other threads tell the protocol thread.
#[derive(Debug)]
pub(super) enum Message {
    /// From the netlink monitor.
    Network(MonitorEvent),
    /// From the kernel thread.
    Applied(Applied),
    /// From the kernel thread.
    Renewed(Renewed),
    /// From the control socket: what is going on?
    Report(oneshot::Sender<Report>),
    /// From the control socket: for the play of an event.
    Picture(oneshot::Sender<Picture>),
    /// From a check.
    Check(CheckIx, Reading),
    /// From the executor: an activation ended.
    Activated {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// Ready to claim, or why not.
        result: Result<(), Arc<str>>,
    },
    /// From the hooks that were asked before an ordered claim.
    PrePromoted {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// They agree, or who refuses and why.
        result: Result<(), Arc<str>>,
    },
    /// From the barrier of a planned move.
    BarrierDone {
        /// Which instance.
        instance: InstanceIx,
        /// Number of the order.
        order: u64,
        /// The target has everything, or why not.
        result: Result<(), Arc<str>>,
    },
    /// From the replicator: how the copy of a set stands here; `None`: nobody knows.
    Replica(SetIx, Option<ReplicaState>),
    /// From the thread that stores: what was remembered of an instance is on the disk, or is not.
    Stored {
        /// Which instance, by name.
        instance: Arc<str>,
        /// The epochs up to here are reserved.
        reserved: u64,
        /// Or why not.
        result: Result<(), Arc<str>>,
    },
    /// From the control socket: would this be carried out, and what would it do?
    Judge {
        /// Which instance; `None`: all of this host.
        instance: Option<InstanceIx>,
        /// What.
        order: OperatorOrder,
        /// What would happen, or why not and what to do.
        answer: oneshot::Sender<Result<String, String>>,
    },
    /// From the control socket: an operator says so.
    Order {
        /// Number of the operation.
        id: u64,
        /// Which instance; `None`: all of this host.
        instance: Option<InstanceIx>,
        /// What.
        order: OperatorOrder,
    },
    /// From the main thread: another configuration comes. Answered when all that does not go on with it is gone.
    Retire {
        /// Which one.
        model: Arc<Model>,
        /// The answer.
        done: oneshot::Sender<()>,
    },
    /// From the main thread: it comes into force. What is sent after this is numbered by it.
    Reload(Box<Reload>),
    /// From the main thread: another agent is about to go on.
    PrepareRestart,
    /// From the main thread: not yet.
    AbortRestart,
    /// From the signal handler: leave cleanly.
    Stop,
}

/// Another configuration comes into force.
#[derive(Debug)]
pub(super) struct Reload {
    /// What it means.
    pub model: Arc<Model>,
    /// Its keys.
    pub secrets: Secrets,
    /// What was stored of instances that are new.
    pub recalled: Vec<(Option<InstanceIx>, Memory)>,
    /// Where to tell from then on; where it was told until then is closed.
    pub told: Outlet,
}

/// The writing end; one per thread.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    queue: SyncSender<Message>,
    wake: Arc<Waker>,
}

/// The protocol thread is gone.
#[derive(Debug, thiserror::Error)]
#[error("the protocol thread has ended")]
pub(super) struct Gone;

impl Sender {
    /// Hands over `message`; waits while the queue is full.
    ///
    /// # Errors
    /// When the protocol thread has ended.
    pub(super) fn send(&self, message: Message) -> Result<(), Gone> {
        self.queue.send(message).map_err(|_| Gone)?;
        self.wake.ring();
        Ok(())
    }
}

/// Why there is no report.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unanswered {
    /// The protocol thread has ended.
    #[error("the agent is stopping")]
    Stopping,
    /// The queue is full, or the answer did not come in time.
    #[error("the protocol thread does not answer")]
    Silent,
}

impl Sender {
    /// Asks what is going on; waits for the answer no longer than `patience`, and not at all while the queue is full.
    ///
    /// # Errors
    /// When the protocol thread has ended or does not answer.
    pub(super) async fn ask(&self, patience: Duration) -> Result<Report, Unanswered> {
        let (tx, rx) = oneshot::channel();
        match self.queue.try_send(Message::Report(tx)) {
            Ok(()) => self.wake.ring(),
            Err(TrySendError::Full(_)) => return Err(Unanswered::Silent),
            Err(TrySendError::Disconnected(_)) => return Err(Unanswered::Stopping),
        }
        match tokio::time::timeout(patience, rx).await {
            Ok(answer) => answer.map_err(|_| Unanswered::Stopping),
            Err(_) => Err(Unanswered::Silent),
        }
    }

    /// Hands over `message` if there is room; what comes again by itself may be lost to a full queue.
    pub(super) fn offer(&self, message: Message) {
        if self.queue.try_send(message).is_ok() {
            self.wake.ring();
        }
    }
}

/// The reading end: the protocol thread's.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Receiver<Message>,
    wake: Arc<Waker>,
}

impl Inbox {
    /// The next message, without waiting.
    pub(super) fn next(&self) -> Option<Message> {
        self.queue.try_recv().ok()
    }

    /// Forgets earlier wake-ups; to be called before the queue is read, so that none is missed.
    pub(super) fn acknowledge(&self) {
        self.wake.clear();
    }

    /// Wakes the reader once more: it left messages in the queue.
    pub(super) fn remind(&self) {
        self.wake.ring();
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// A new queue.
///
/// # Errors
/// When the process is out of descriptors.
pub(super) fn queue() -> io::Result<(Sender, Inbox)> {
    let wake = Arc::new(Waker::new()?);
    let (tx, rx) = sync_channel(DEPTH);
    Ok((Sender { queue: tx, wake: Arc::clone(&wake) }, Inbox { queue: rx, wake }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use vipd_core::types::LinkIx;

    #[test]
    fn a_writer_waits_for_room_and_nothing_is_lost() {
        let (tx, rx) = queue().unwrap();
        let writer = std::thread::spawn(move || {
            for index in 0..3 * u16::try_from(DEPTH).unwrap() {
                tx.send(Message::Network(MonitorEvent::FrameSeen(LinkIx(index)))).unwrap();
            }
        });
        let mut seen = 0;
        while seen < 3 * u16::try_from(DEPTH).unwrap() {
            rx.acknowledge();
            while let Some(message) = rx.next() {
                assert!(
                    matches!(message, Message::Network(MonitorEvent::FrameSeen(link)) if link.0 == seen)
                );
                seen += 1;
            }
        }
        writer.join().unwrap();
    }

    #[test]
    fn a_writer_learns_that_the_reader_is_gone() {
        let (tx, rx) = queue().unwrap();
        drop(rx);
        assert!(tx.send(Message::Stop).is_err());
    }
}
