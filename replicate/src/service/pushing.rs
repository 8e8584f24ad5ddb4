//! The threads that bring a set to the other hosts, one for each, while this host owns.

use super::worker::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use vipd_core::replica::{PeerReport, SetReport};
use vipd_core::types::Epoch;
use vipd_replicator::net::send::{Ended, Handle, Progress, Pusher};
use vipd_replicator::net::{Events, Me, SetId};
use vipd_replicator::ports::Refusal;
use vipd_replicator::set::Set;

/// Between two looks whether there is something to offer.
const NO_OFFER: Duration = Duration::from_millis(50);

/// To whom a set is pushed, and as whom.
pub(super) struct Others {
    pub me: Me,
    pub id: SetId,
    /// The other hosts of the instance, each with its addresses in the order of the networks.
    pub hosts: Vec<(Arc<str>, Vec<SocketAddr>)>,
}

/// The threads of one ownership.
pub(super) struct Pushing(Vec<(Arc<str>, Handle)>);

impl Pushing {
    /// Starts a thread for each of `others`; a host without one is an alarm.
    pub(super) fn start(set: &Set, others: &Others, shared: &Arc<Shared>) -> Self {
        let each = others.hosts.iter().filter_map(|(host, addresses)| {
            let handle = Handle::new();
            let pusher = Pusher {
                me: others.me.clone(),
                set: others.id.clone(),
                peer: Arc::clone(host),
                bandwidth: set.config().bandwidth,
                events: events(Arc::clone(shared)),
                handle: handle.clone(),
            };
            let (mut source, addresses) = (set.source(), addresses.clone());
            let thread = std::thread::Builder::new().name(format!("to {host}"));
            match thread.spawn(move || {
                // Between a claim and its first tree there is nothing to offer.
                while pusher.run(&addresses, &mut *source) == Ended::NotOwner {
                    std::thread::sleep(NO_OFFER);
                }
            }) {
                Ok(_) => Some((Arc::clone(host), handle)),
                Err(error) => {
                    shared.fault("threads", format!("nothing is pushed to {host}: {error}"));
                    None
                }
            }
        });
        Self(each.collect())
    }

    /// There is something new.
    pub(super) fn wake(&self) {
        self.0.iter().for_each(|(_, handle)| handle.wake());
    }

    /// An operator did something about a refusal.
    pub(super) fn ask_again(&self) {
        self.0.iter().for_each(|(_, handle)| handle.ask_again());
    }

    /// Only what `host` acknowledges of what is offered to it from here on counts as confirmed.
    pub(super) fn ask_again_of(&self, host: &str) {
        self.0.iter().filter(|(of, _)| **of == *host).for_each(|(_, handle)| handle.ask_again());
    }

    /// Ends all of them, also in the middle of a transfer; does not wait.
    pub(super) fn stop(&self) {
        self.0.iter().for_each(|(_, handle)| handle.stop());
    }

    /// How far the one to `host` is.
    pub(super) fn progress(&self, host: &str) -> Option<Progress> {
        self.0.iter().find(|(of, _)| **of == *host).map(|(_, handle)| handle.progress())
    }

    /// A host that knows of a newer ownership, and which.
    pub(super) fn refused_as_stale(&self) -> Option<(Arc<str>, Epoch)> {
        self.0.iter().find_map(|(host, handle)| match handle.progress().refused {
            Some(Refusal::StaleEpoch(epoch)) => Some((Arc::clone(host), epoch)),
            _ => None,
        })
    }

    /// What the threads know of the other hosts, into `report`.
    pub(super) fn complete(&self, report: &mut SetReport) {
        let newest = (report.epoch, report.generation);
        for (host, handle) in &self.0 {
            let at = report.peers.iter().position(|peer| *peer.host == **host);
            let at = at.unwrap_or_else(|| {
                report.peers.push(PeerReport { host: host.to_string(), ..PeerReport::default() });
                report.peers.len() - 1
            });
            let peer = &mut report.peers[at];
            let progress = handle.progress();
            peer.connected = progress.connected;
            peer.refused = progress.refused.map(|refusal| refusal.to_string());
            if let Some(position) = progress.acknowledged {
                peer.generation = position.generation;
                peer.in_sync = progress.connected
                    && peer.refused.is_none()
                    && (position.epoch.into(), position.generation) == newest;
            } else {
                peer.in_sync = false;
            }
            let moving = progress.octets_total > 0 && !peer.in_sync;
            peer.progress = moving.then_some((progress.octets, progress.octets_total));
        }
        report.peers.sort_by(|a, b| a.host.cmp(&b.host));
    }
}

/// Lines of the sessions, to the agent's log.
fn events(shared: Arc<Shared>) -> Events {
    Arc::new(move |event| {
        shared.count(event.kind);
        shared.tell(event.to_string(), false);
    })
}
