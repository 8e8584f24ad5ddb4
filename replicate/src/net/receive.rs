//! The standby's side: takes what the owner pushes.
//!
//! [`Receiver::serve`] is called by the listener for each connection that comes in, on a thread of its own. One set has
//! one session at a time: of two senders the one with the newer ownership, of one sender the newer connection.

mod content;
mod large;
mod manifest;
mod session;

use super::error::NetError;
use super::link::{Channel, Link, Options, Stream, Waker};
use super::listen::Quiet;
use super::wire::{Hello, Message, Welcome};
use super::{Events, Me};
use crate::manifest::Hash;
use crate::ports::{Refusal, Target};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vipd_core::types::Epoch;

pub use session::drive;

/// How long a newer session waits for the one before it, which may be putting a tree in place.
const REPLACE_LIMIT: Duration = Duration::from_secs(10);
/// How long one that was refused may take to go.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// Which sets this host takes, and from whom.
pub trait Sets: Send + Sync {
    /// The set `set`, to be pushed by the host `from`; at most one at a time is in use.
    ///
    /// # Errors
    /// [`Refusal::NotHere`]: there is no such set or no such host in the configuration, or this host owns it;
    /// [`Refusal::Disk`]: its root is not there.
    fn open(&self, set: &str, from: &str) -> Result<Opened, Refusal>;
}

/// A set that can be pushed.
pub struct Opened {
    /// [`SetId::digest`](super::SetId::digest) as this host has it.
    pub digest: Hash,
    /// Where its files are put.
    pub target: Box<dyn Target>,
}

/// All sessions of a host that takes sets.
pub struct Receiver {
    me: Me,
    sets: Arc<dyn Sets>,
    quiet: Quiet,
    sessions: Mutex<HashMap<String, Slot>>,
    left: Condvar,
}

/// The session of a set.
struct Slot {
    number: u64,
    waker: Waker,
    notes: Arc<Notes>,
}

/// What a session and the rest of the process tell each other.
#[derive(Default)]
pub struct Notes {
    /// An operator did something about a refusal: let the sender offer again.
    ask_again: AtomicBool,
    /// The newest ownership under which the sender pushed.
    epoch: Mutex<Epoch>,
}

impl Notes {
    /// Lets the sender offer again at the next opportunity of the session.
    pub fn ask_again(&self) {
        self.ask_again.store(true, Ordering::Relaxed);
    }

    fn take_ask_again(&self) -> bool {
        self.ask_again.swap(false, Ordering::Relaxed)
    }

    fn epoch(&self) -> Epoch {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pushed_under(&self, epoch: Epoch) {
        let mut known = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        *known = epoch.max(*known);
    }
}

impl Receiver {
    /// For the whole host. `events` hears of sessions that begin and of those that end for a reason.
    pub fn new(me: Me, sets: Arc<dyn Sets>, events: Events) -> Self {
        let (sessions, left) = (Mutex::default(), Condvar::new());
        Self { me, sets, quiet: Quiet::new(events), sessions, left }
    }

    /// Serves one connection to its end. `address`: who calls, for the log. `admitted` is called once the caller has
    /// proved that it belongs to the cluster.
    pub fn serve(
        &self,
        stream: Arc<dyn Stream>,
        address: &str,
        options: Options,
        admitted: impl FnOnce(),
    ) {
        let limit = options.handshake;
        let hello = Link::answer(stream, &self.me.key, options).and_then(|mut link| {
            match link.receive(limit)? {
                Some(Message::Hello(hello)) => Ok((link, hello)),
                Some(other) => Err(NetError::protocol(other.name(), "hello must come first")),
                None => Err(NetError::Slow(limit.as_millis() as u64)),
            }
        });
        let (mut link, hello) = match hello {
            Ok(pair) => pair,
            Err(error) => return self.quiet.tell(address, None, error.kind(), &error.to_string()),
        };
        admitted();
        let end = self.session(&mut link, &hello);
        let (peer, set) = (hello.host.as_str(), Some(hello.set.as_str()));
        if let Err(error) = &end {
            self.quiet.tell(peer, set, error.kind(), &error.to_string());
        }
        link.end(&end);
    }

    /// Lets the sender of `set` offer again: an operator did something about a refusal.
    pub fn ask_again(&self, set: &str) {
        if let Some(slot) = self.sessions().get(set) {
            slot.notes.ask_again();
            slot.waker.wake();
        }
    }

    /// Ends the session of `set`, and waits until its target is not in use any more, at most `wait`. `true`: it is not.
    pub fn close(&self, set: &str, why: &'static str, wait: Duration) -> bool {
        let sessions = self.sessions();
        if let Some(slot) = sessions.get(set) {
            slot.waker.close(why);
        }
        let there = |sessions: &mut HashMap<String, Slot>| sessions.contains_key(set);
        let waited = self.left.wait_timeout_while(sessions, wait, there);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, link: &mut Link, hello: &Hello) -> Result<(), NetError> {
        let refused = |link: &mut Link, refusal: Refusal| {
            link.send(&Message::Refused(refusal.clone()))?;
            // It goes when it has read why.
            let _ = link.receive(LEAVE_LIMIT);
            Err(NetError::Stopped(match refusal {
                Refusal::StaleEpoch(_) => "a newer ownership is known here",
                Refusal::Disk(_) => "the set cannot be opened here",
                _ => "the set, its configuration or the sender is not what this host has",
            }))
        };
        if let Err(refusal) = self.meant(hello) {
            return refused(link, refusal);
        }
        let notes = Arc::new(Notes::default());
        notes.pushed_under(hello.epoch);
        let number = match self.enter(hello, link.waker(), &notes) {
            Ok(number) => number,
            Err(refusal) => return refused(link, refusal),
        };
        let _leave = Leave { receiver: self, set: &hello.set, number };
        let mut target = match self.open(hello) {
            Ok(target) => target,
            Err(refusal) => return refused(link, refusal),
        };
        let (position, manifest) = target.standing();
        let (host, root) = (self.me.host.to_string(), manifest.root());
        drop(manifest);
        link.send(&Message::Welcome(Welcome { host, position, root }))?;
        self.quiet.tell(&hello.host, Some(&hello.set), "connected", "pushes this set");
        drive(link, &hello.host, &mut *target, &notes)
    }

    /// Is this the host that was meant?
    fn meant(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.cluster != *self.me.cluster {
            let text = format!("this host belongs to the cluster {}", self.me.cluster);
            return Err(Refusal::NotHere(text));
        }
        if hello.to != *self.me.host {
            return Err(Refusal::NotHere(format!(
                "this is {}, not {}: compare the addresses of the hosts in the configuration",
                self.me.host, hello.to
            )));
        }
        Ok(())
    }

    /// Takes the place of an older session of the set.
    fn enter(&self, hello: &Hello, waker: Waker, notes: &Arc<Notes>) -> Result<u64, Refusal> {
        let mut sessions = self.sessions();
        if let Some(slot) = sessions.get(&hello.set) {
            let newest = slot.notes.epoch();
            if hello.epoch < newest {
                return Err(Refusal::StaleEpoch(newest));
            }
            slot.waker.close("a newer connection took its place");
            let before = slot.number;
            let there = |all: &mut HashMap<String, Slot>| {
                all.get(&hello.set).is_some_and(|slot| slot.number == before)
            };
            let waited = self.left.wait_timeout_while(sessions, REPLACE_LIMIT, there);
            sessions = waited.unwrap_or_else(PoisonError::into_inner).0;
            // Still the same one, or a third was faster.
            if sessions.contains_key(&hello.set) {
                let text = "the session before this one has not ended yet";
                return Err(Refusal::NotHere(text.into()));
            }
        }
        let number = sessions.values().map(|slot| slot.number).max().unwrap_or(0) + 1;
        let notes = Arc::clone(notes);
        sessions.insert(hello.set.clone(), Slot { number, waker, notes });
        Ok(number)
    }

    fn open(&self, hello: &Hello) -> Result<Box<dyn Target>, Refusal> {
        let opened = self.sets.open(&hello.set, &hello.host)?;
        if opened.digest != hello.digest {
            return Err(Refusal::NotHere(format!(
                "the set {} is configured otherwise on this host: its paths, excludes and options must be alike",
                hello.set
            )));
        }
        let (position, _) = opened.target.standing();
        if hello.epoch < position.epoch {
            return Err(Refusal::StaleEpoch(position.epoch));
        }
        Ok(opened.target)
    }
}

/// Gives the place of a session free, however it ends.
struct Leave<'a> {
    receiver: &'a Receiver,
    set: &'a str,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut sessions = self.receiver.sessions();
        if sessions.get(self.set).is_some_and(|slot| slot.number == self.number) {
            sessions.remove(self.set);
        }
        self.receiver.left.notify_all();
    }
}
