//! What other hosts push to this one: the listener on the heartbeat addresses, and which set takes what from whom.

use super::worker::Worker;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vipd_agent::sys::clock;
use vipd_core::config::model::Model;
use vipd_core::time::Instant;
use vipd_replicator::net::link::Options;
use vipd_replicator::net::listen::{Limits, Listener};
use vipd_replicator::net::receive::{Opened, Receiver, Sets};
use vipd_replicator::net::{Event, Events, Me, SetId};
use vipd_replicator::ports::Refusal;

/// A set, and the hosts that may push it.
pub(super) type Open = (SetId, Arc<Worker>, Vec<Arc<str>>);

/// Listens until stopped.
pub(super) struct Inbound {
    addresses: Vec<SocketAddr>,
    receiver: Arc<Receiver>,
    events: Events,
    listener: Mutex<Option<Listener>>,
    sets: Arc<Directory>,
}

#[derive(Default)]
struct Directory(Mutex<Vec<Open>>);

impl Directory {
    /// A copy, so that nobody waits for what is done with it.
    fn all(&self) -> Vec<Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, set: &str) -> Option<Open> {
        self.all().into_iter().find(|(id, ..)| *id.name == *set)
    }

    fn add(&self, open: Open) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(open);
    }
}

impl Sets for Directory {
    fn open(&self, set: &str, from: &str) -> Result<Opened, Refusal> {
        let Some((id, worker, hosts)) = self.find(set) else {
            return Err(Refusal::NotHere(format!(
                "no set {set} in the configuration of this host"
            )));
        };
        if !hosts.iter().any(|host| **host == *from) {
            return Err(Refusal::NotHere(format!(
                "{from} is no host of {}",
                worker.shared.instance
            )));
        }
        worker.shared.receives().map_err(Refusal::NotHere)?;
        Ok(Opened { digest: id.digest, target: worker.set.target() })
    }
}

impl Inbound {
    /// Listens on the heartbeat addresses of this host for pushes of `sets`.
    pub(super) fn start(model: &Model, me: Me, sets: Vec<Open>) -> Self {
        let paths = model.hosts.get(usize::from(model.host.0)).map(|host| host.paths.as_slice());
        let addresses = paths.unwrap_or_default().iter();
        let addresses =
            addresses.map(|path| SocketAddr::new(*path, model.replicate_port)).collect();
        let sets = Arc::new(Directory(Mutex::new(sets)));
        let events = events(Arc::clone(&sets));
        let receiver =
            Arc::new(Receiver::new(me, Arc::clone(&sets) as Arc<dyn Sets>, Arc::clone(&events)));
        let inbound = Self { addresses, receiver, events, listener: Mutex::new(None), sets };
        inbound.look();
        inbound
    }

    /// One more set.
    pub(super) fn add(&self, open: Open) {
        self.sets.add(open);
    }

    /// Asks for what a standby lacks; and listens, if that did not work yet.
    pub(super) fn look(&self) {
        let sets = self.sets.all();
        let lacking = sets.iter().filter(|(_, worker, _)| worker.shared.take_lacking());
        lacking.for_each(|(id, ..)| self.ask_again(&id.name));
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.is_some() {
            return;
        }
        let receiver = Arc::clone(&self.receiver);
        let events = Arc::clone(&self.events);
        let started = Listener::start(
            &self.addresses,
            receiver,
            Limits::default(),
            Options::default(),
            events,
        );
        match started {
            Ok(started) => {
                *listener = Some(started);
                sets.iter().for_each(|(_, worker, _)| worker.shared.mend("listener"));
            }
            Err(error) => {
                let said = format!("nothing can be pushed to this host: {error}");
                sets.iter().for_each(|(_, worker, _)| {
                    worker.shared.fault("listener", said.clone());
                });
            }
        }
    }

    /// Ends the session of `set`: this host owns it now. Does not wait.
    pub(super) fn close(&self, set: &str) {
        let _ = self.receiver.close(set, "this host owns the instance now", Duration::ZERO);
    }

    /// The sender of `set` may offer again.
    pub(super) fn ask_again(&self, set: &str) {
        self.receiver.ask_again(set);
    }

    /// Listens no more; sessions end, and are waited for until `until`.
    pub(super) fn stop(&self, until: Instant) {
        drop(self.listener.lock().unwrap_or_else(PoisonError::into_inner).take());
        let sets = self.sets.all();
        // All are told before one is waited for.
        for limit in [None, Some(until)] {
            for (id, ..) in &sets {
                let left = limit.map_or(Duration::ZERO, |until| until.since(clock::monotonic()));
                let _ = self.receiver.close(&id.name, "this host stops", left);
            }
        }
    }
}

/// What the sessions tell: with the set that it is about, else in the log of this process alone.
fn events(sets: Arc<Directory>) -> Events {
    Arc::new(move |event: Event| match event.set.as_deref().and_then(|set| sets.find(set)) {
        Some((_, worker, _)) => {
            worker.shared.count(event.kind);
            worker.shared.tell(event.to_string(), false);
        }
        None => {
            sets.all().iter().for_each(|(_, worker, _)| worker.shared.count(event.kind));
            tracing::warn!("{event}");
        }
    })
}
