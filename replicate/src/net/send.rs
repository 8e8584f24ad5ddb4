//! The owner's side: brings one set to one other host, and keeps it there.
//!
//! Called by the service, one thread for each set and host. Offers what [`Source`] has newest, sends what the other
//! host lacks of it, and while there is nothing new says so each second.

mod content;
mod session;

use super::error::NetError;
use super::link::{Link, Options, Stream, Waker};
use super::{Event, Events, Me, SetId, clock};
use crate::manifest::{Hash, Manifest};
use crate::ports::{Position, Refusal, Source};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use session::drive;

/// Time for a connection to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Time for the handshake.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
/// Between two attempts to connect: from, and at most.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Pushes one set to one other host.
pub struct Pusher {
    /// This host.
    pub me: Me,
    /// The set.
    pub set: SetId,
    /// The other host, `[host.NAME]`.
    pub peer: Arc<str>,
    /// Octets per second; `None`: no limit.
    pub bandwidth: Option<u64>,
    /// Takes what is worth a line in the log.
    pub events: Events,
    /// By which the service wakes and stops it, and sees how far it is.
    pub handle: Handle,
}

/// Why [`Pusher::run`] came to its end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// [`Handle::stop`].
    Stopped,
    /// [`Source::offer`] has nothing to offer: this host is not the owner.
    NotOwner,
    /// The other host knows of a newer ownership; told by [`Source::refused`]. Never the end of [`Pusher::run`].
    Stale,
}

/// What a pusher remembers of the other host from one connection to the next.
#[derive(Default)]
pub struct Memory {
    /// What it last acknowledged: base of the next manifest.
    pub(crate) acknowledged: Option<(Hash, Arc<Manifest>)>,
    /// It knows of a newer ownership than this one: no more offers under this or an older one.
    pub(crate) stale: Option<vipd_core::types::Epoch>,
}

impl Pusher {
    /// Connects to one of `addresses` (the first that answers), pushes, and begins anew when the connection ends, until
    /// [`Handle::stop`] or until `source` offers nothing. After [`Refusal::StaleEpoch`] it waits for an offer under
    /// a newer epoch than the one that was refused.
    pub fn run(&self, addresses: &[SocketAddr], source: &mut dyn Source) -> Ended {
        let mut memory = Memory::default();
        let mut pause = RECONNECT.0;
        let mut told: Option<(&'static str, u64)> = None;
        loop {
            if self.handle.stopped() {
                return Ended::Stopped;
            }
            let Some(offer) = source.offer() else { return Ended::NotOwner };
            if memory.stale.is_some_and(|refused| offer.position.epoch <= refused) {
                self.handle.pause(RECONNECT.1);
                continue;
            }
            let begun = clock::now();
            let end = self
                .connect(addresses)
                .and_then(|stream| self.session(Arc::new(stream), source, &mut memory));
            match end {
                Ok(Ended::Stale) => continue,
                Ok(ended) => return ended,
                Err(_) if self.handle.stopped() => return Ended::Stopped,
                Err(error) => {
                    // The same again and again is told once a minute or so: pauses grow to five seconds.
                    let same = told.filter(|(kind, _)| *kind == error.kind()).map(|(_, n)| n);
                    if same.is_none_or(|n| n % 16 == 0) {
                        self.tell(error.kind(), error.to_string(), same.unwrap_or(0).min(15));
                    }
                    told = Some((error.kind(), same.unwrap_or(0) + 1));
                }
            }
            if clock::now().saturating_sub(begun) > Duration::from_secs(30) {
                (pause, told) = (RECONNECT.0, None);
            }
            self.handle.pause(pause);
            pause = (pause * 2).min(RECONNECT.1);
        }
    }

    /// Pushes over one connected stream until it ends. `memory` is kept for the next connection to the same host.
    ///
    /// # Errors
    /// What ended it, if neither the service nor the source did.
    pub fn session(
        &self,
        stream: Arc<dyn Stream>,
        source: &mut dyn Source,
        memory: &mut Memory,
    ) -> Result<Ended, NetError> {
        let options = Options { bandwidth: self.bandwidth, ..Options::default() };
        let mut link = Link::call(stream, &self.me.key, options)?;
        self.handle.connected(Some(link.waker()));
        let end = drive(&mut link, self, source, memory);
        self.handle.connected(None);
        link.end(&end);
        end
    }

    fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, NetError> {
        let mut last = NetError::Stopped("no address of the host is configured");
        for address in addresses {
            match TcpStream::connect_timeout(address, CONNECT_LIMIT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = NetError::io(format!("connecting to {address}"), error),
            }
        }
        Err(last)
    }

    pub(crate) fn tell(&self, kind: &'static str, text: String, repeated: u64) {
        let (peer, set) = (self.peer.to_string(), Some(self.set.name.clone()));
        (self.events)(Event { peer, set, kind, text, repeated });
    }
}

/// The service's hold on a pusher that runs on another thread. Clones are the same handle.
#[derive(Clone, Default)]
pub struct Handle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
    octets: AtomicU64,
    octets_total: AtomicU64,
    files: AtomicU64,
    files_total: AtomicU64,
    on_link: AtomicU64,
}

#[derive(Default)]
struct Orders {
    stop: bool,
    ask_again: bool,
    woken: bool,
    link: Option<Waker>,
    acknowledged: Option<Position>,
    confirmed: Option<Position>,
    refused: Option<Refusal>,
}

/// How far a pusher is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// There is a connection whose handshake succeeded.
    pub connected: bool,
    /// What the other host last acknowledged over the newest connection.
    pub acknowledged: Option<Position>,
    /// What it acknowledged of what was offered over the newest connection since [`Handle::ask_again`].
    pub confirmed: Option<Position>,
    /// Why it does not take what is offered.
    pub refused: Option<Refusal>,
    /// Octets of files that are done in the transfer that is on; what the other host had already counts as done.
    pub octets: u64,
    /// Octets of all files of the transfer that is on; 0: none is on.
    pub octets_total: u64,
    /// Files that are done in the transfer that is on.
    pub files: u64,
    /// Files of the transfer that is on.
    pub files_total: u64,
    /// Octets that went over the link since the handle was made, with all that encryption and protocol add.
    pub on_link: u64,
}

impl Handle {
    /// For one pusher.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree was sealed, or the state of the source changed: look now, not at the next second.
    pub fn wake(&self) {
        self.order(|orders| orders.woken = true);
    }

    /// Offer again now, also what is acknowledged: an operator did something about a refusal, or somebody wants to know
    /// what the other host has at this moment: [`Progress::confirmed`] begins anew.
    pub fn ask_again(&self) {
        self.order(|orders| {
            (orders.ask_again, orders.woken, orders.confirmed) = (true, true, None);
        });
    }

    /// End: [`Pusher::run`] returns soon, also out of a transfer, which the next one resumes.
    pub fn stop(&self) {
        self.order(|orders| orders.stop = true);
        if let Some(link) = &self.lock().link {
            link.close("it stops");
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let orders = self.lock();
        Progress {
            connected: orders.link.is_some(),
            acknowledged: orders.acknowledged,
            confirmed: orders.confirmed,
            refused: orders.refused.clone(),
            octets: load(&self.0.octets),
            octets_total: load(&self.0.octets_total),
            files: load(&self.0.files),
            files_total: load(&self.0.files_total),
            on_link: load(&self.0.on_link),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut orders = self.lock();
        change(&mut orders);
        self.0.changed.notify_all();
        if let Some(link) = &orders.link {
            link.wake();
        }
    }

    fn stopped(&self) -> bool {
        self.lock().stop
    }

    /// Waits until something is ordered, at most `most`.
    fn pause(&self, most: Duration) {
        let still = |orders: &mut Orders| !(orders.stop || orders.woken);
        let orders = self.lock();
        let waited = self.0.changed.wait_timeout_while(orders, most, still);
        let (mut orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        orders.woken = false;
    }

    fn connected(&self, link: Option<Waker>) {
        let mut orders = self.lock();
        if orders.stop
            && let Some(link) = &link
        {
            link.close("it stops");
        }
        if link.is_some() {
            // Of an earlier session: the other host may have lost since what it acknowledged then.
            (orders.acknowledged, orders.confirmed, orders.refused) = (None, None, None);
        }
        orders.link = link;
    }

    /// Was `ask_again` ordered since this was last asked?
    fn take_ask_again(&self) -> bool {
        std::mem::take(&mut self.lock().ask_again)
    }

    fn acknowledged(&self, position: Position) {
        let mut orders = self.lock();
        (orders.acknowledged, orders.refused) = (Some(position), None);
        // While it is still to be asked again, this answers what was offered before.
        if !orders.ask_again {
            orders.confirmed = Some(position);
        }
    }

    /// It has the tree, but not all of its files.
    fn incomplete(&self, position: Position, why: Refusal) {
        let mut orders = self.lock();
        (orders.acknowledged, orders.confirmed, orders.refused) = (Some(position), None, Some(why));
    }

    fn refused(&self, refusal: &Refusal) {
        self.lock().refused = Some(refusal.clone());
    }

    fn begin(&self, files: u64, octets: u64) {
        self.0.files.store(0, Ordering::Relaxed);
        self.0.octets.store(0, Ordering::Relaxed);
        self.0.files_total.store(files, Ordering::Relaxed);
        self.0.octets_total.store(octets, Ordering::Relaxed);
    }

    fn done(&self, files: u64, octets: u64) {
        self.0.files.fetch_add(files, Ordering::Relaxed);
        self.0.octets.fetch_add(octets, Ordering::Relaxed);
    }

    fn on_link(&self, octets: u64) {
        self.0.on_link.fetch_add(octets, Ordering::Relaxed);
    }
}
