//! The main thread while the agent runs: who is heard in which order, and how it ends.
//!
//! Started by `agent` when everything else runs. It tells what happens by way of `duties`, and puts another configuration
//! in force by way of `reloading`.

use super::duties::Duties;
use super::{Ended, Main, RunError, io_at, notify, patience};
use crate::control::server::{Limits, Server};
use crate::control::socket_path;
use crate::kernel;
use crate::runtime::control::Control;
use crate::runtime::crashes;
use crate::runtime::ending::Turn;
use crate::runtime::handover::Left;
use crate::runtime::observe;
use crate::runtime::protocol::End;
use crate::runtime::queue::Message;
use crate::runtime::reload::{self, Asker};
use crate::runtime::successor;
use crate::runtime::tasks::{Asked, No, Task, Tasks};
use crate::sys::clock;
use sd_notify::NotifyState;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use vipd_core::engine::io::OperationStep;

/// The last words of a clean stop.
const STOPPED: &str = "stopped; nothing is owned by this host";
/// The last word before another agent goes on.
const REPLACED: &str = "ends for the next agent of this host; addresses stay";
/// Between the end of the protocol thread and its word of it.
const LAST_WORD: Duration = Duration::from_secs(1);
/// For signals that came before they were held back.
const LAST_SIGNALS: Duration = Duration::from_millis(1);

impl Main<'_> {
    pub(super) async fn run(mut self) -> Result<Ended, RunError> {
        let control = Server::bind(&socket_path(&self.options.runtime_dir), Limits::default())
            .map_err(io_at("cannot listen on the control socket"))?;
        let mut duties = self.duties();
        duties.monitoring = observe::start(&self.facts, &self.sender);
        let (tasks, mut asked) = Tasks::new();
        let (sender, chronicle) = (self.sender.clone(), self.chronicle.clone());
        let handler = Control::new(self.facts.clone(), sender, chronicle, tasks, self.boot);
        let control = tokio::spawn(control.serve(handler));
        let replication = tokio::spawn(self.facts.replication.clone().tend());
        let ended = self.serve(&mut duties, &mut asked).await;
        replication.abort();
        control.abort();
        // Its file goes with it.
        let _ = control.await;
        // What the engine said last.
        while let Ok(told) = self.events.try_recv() {
            self.tell(&mut duties, told);
        }
        match &ended {
            Ok(Ended::Stopped) => {
                self.chronicle.agent(false, STOPPED.into());
                duties.hooks.stop().await;
            }
            Ok(Ended::Replaced(..)) => self.chronicle.agent(false, REPLACED.into()),
            Err(_) => {}
        }
        ended
    }

    async fn serve(
        &mut self,
        duties: &mut Duties,
        asked: &mut mpsc::Receiver<Asked>,
    ) -> Result<Ended, RunError> {
        let signals = io_at("cannot listen to signals");
        let mut terminate = signal(SignalKind::terminate()).map_err(&signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(&signals)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(&signals)?;
        successor::welcome_signals();
        // The protocol thread has begun when it answers: sockets are open, left-overs known.
        let (tx, begun) = oneshot::channel();
        self.sender.send(Message::Report(tx)).map_err(|_| RunError::Died("protocol"))?;
        begun.await.map_err(|_| RunError::Died("protocol"))?;
        self.tell_scheduling();
        notify(&[NotifyState::Ready]);
        let cluster = match &*self.model.cluster {
            "" => "a group without a name",
            name => name,
        };
        let line = format!(
            "vipd {} is host {} of {cluster}, {} instances",
            env!("CARGO_PKG_VERSION"),
            self.model.host_name(self.model.host),
            self.model.instances.len()
        );
        tracing::info!("{line}");
        self.chronicle.agent(true, line);

        if let Some(left) = self.left.take() {
            self.goes_on(duties, &left);
        }
        let mut kernel_runs = true;
        let mut ended = loop {
            tokio::select! {
                // Ends first: what else happens then is a consequence.
                biased;
                ended = &mut self.threads.protocol_ended => break self.protocol_ended(ended)?,
                _ = &mut self.threads.kernel_ended => {
                    kernel_runs = false;
                    match last_word(&mut self.threads.protocol_ended).await {
                        Some(ended) => break self.protocol_ended(ended)?,
                        None => return Err(RunError::Died("kernel")),
                    }
                }
                turn = self.ending.next() => match turn {
                    Turn::Stop => self.stop(),
                    Turn::Tell(id, step) => self.tell_step(duties, id, step),
                    Turn::OutOfPatience => return Err(self.remove_by_force()),
                },
                turn = self.reloads.next() => match turn {
                    reload::Turn::Read(asker, read) => self.judge(duties, asker, read).await,
                    reload::Turn::Retired(candidate, operation) => {
                        self.put_in_force(duties, *candidate, operation).await;
                    }
                },
                Some(told) = self.events.recv() => self.tell(duties, told),
                due = duties.syncs.next() => duties.hooks.due(due.hook, due.moment),
                event = self.monitor.next() => {
                    let event = event.map_err(io_at("cannot watch the network"))?;
                    self.hand_over(Message::Network(event));
                }
                Some(asked) = asked.recv() => self.take(asked),
                _ = hangup.recv() => {
                    let began = NotifyState::monotonic_usec_now().ok();
                    let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(began).collect();
                    notify(&states);
                    self.reloads.ask(Asker::Signal, self.facts.in_force.model());
                }
                _ = terminate.recv() => self.ending.terminate(),
                _ = interrupt.recv() => {
                    if self.ending.stop("SIGINT").is_some() {
                        self.stop();
                    }
                }
            }
        };
        self.threads.slots.close();
        if kernel_runs {
            // Closed, so it ends after what it has in hand.
            let _ = (&mut self.threads.kernel_ended).await;
        }
        crashes::end(&self.options.runtime_dir);
        if let Ended::Replaced(_, next) = &mut ended {
            // What comes from here on waits for the next agent; what came a moment ago is passed on.
            successor::hold_signals();
            let late = tokio::time::timeout(LAST_SIGNALS, terminate.recv()).await;
            next.terminate |= late.is_ok() && !next.managed;
            tracing::info!("{REPLACED}");
        } else {
            tracing::info!("{STOPPED}");
        }
        Ok(ended)
    }

    /// The protocol thread has ended: as it was to, or not.
    fn protocol_ended(
        &self,
        ended: Result<io::Result<End>, oneshot::error::RecvError>,
    ) -> Result<Ended, RunError> {
        match (ended, self.ending.replaced()) {
            (Ok(Ok(End::Stopped)), _) if self.ending.stopping() => Ok(Ended::Stopped),
            (Ok(Ok(End::Replaced(engine))), Some(next)) => Ok(Ended::Replaced(engine, next)),
            (Ok(Err(error)), _) => Err(RunError::Io { what: "the protocol thread", error }),
            _ => Err(RunError::Died("protocol")),
        }
    }

    /// Begins the clean stop.
    fn stop(&self) {
        notify(&[NotifyState::Stopping]);
        crashes::leaving(&self.options.runtime_dir, self.past, clock::monotonic());
        self.hand_over(Message::Stop);
    }

    /// This agent goes on for another one, and ends what that one had begun.
    fn goes_on(&mut self, duties: &mut Duties, left: &Left) {
        let gap = clock::monotonic().since(left.engine.at);
        let line = format!("goes on for vipd {}, {gap:.0?} after its last word", left.version);
        tracing::info!("{line}");
        if let Some(id) = left.operation {
            self.tell_step(duties, id, OperationStep::Done(line.into()));
        }
        if left.terminate {
            self.ending.terminate();
        }
    }

    /// What an operator asks of this thread.
    fn take(&mut self, asked: Asked) {
        match asked.task {
            Task::Reexec if self.reloads.busy() => {
                let _ = asked.answer.send(Err(No::Refused("a reload is under way".into())));
            }
            Task::Reexec => self.ending.reexec(asked),
            Task::Reload => self.reloads.ask(Asker::Operator(asked), self.facts.in_force.model()),
        }
    }

    pub(super) fn hand_over(&self, message: Message) {
        // A protocol thread that has ended says so by itself, with its reason.
        let _ = self.sender.send(message);
    }

    /// The engine did not finish: the addresses go all the same, without a handover.
    fn remove_by_force(&self) -> RunError {
        self.threads.slots.close();
        match kernel::cleanup(&self.options.runtime_dir) {
            Ok(cleaned) => cleaned.errors.iter().for_each(|error| tracing::error!("{error}")),
            Err(error) => tracing::error!(
                "cannot remove the addresses: {error}; their leases end by themselves"
            ),
        }
        RunError::Stuck(patience(&self.model))
    }

    fn tell_scheduling(&self) {
        for granted in [&self.threads.scheduling, &self.threads.memory] {
            if let Some(Err(reason)) = granted.get() {
                tracing::warn!("{reason}");
            }
        }
    }
}

/// The kernel thread has ended. It does when it finds nobody to report to: the protocol thread may have ended a moment before,
/// and its word says how. `None`: it goes on.
async fn last_word<T>(protocol_ended: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LAST_WORD, protocol_ended).await.ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_word_of_the_protocol_thread_may_come_behind_the_end_of_the_kernel_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (tx, mut ended) = oneshot::channel();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                tx.send("as it was to").unwrap();
            });
            assert_eq!(last_word(&mut ended).await, Some(Ok("as it was to")));
            // One that goes on without the other is a fault, and noticed before a lease has ended.
            let (tx, mut ended) = oneshot::channel::<()>();
            let waited = tokio::time::timeout(Duration::from_secs(10), last_word(&mut ended));
            assert_eq!(waited.await, Ok(None));
            drop(tx);
        });
    }
}
