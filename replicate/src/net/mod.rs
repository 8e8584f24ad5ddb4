//! Between two hosts: everything that lies between a [`Source`](crate::ports::Source), two TCP streams and a
//! [`Target`](crate::ports::Target) (DESIGN P5, 5.13).
//!
//! ```text
//!  service ── Pusher::run ── send ── Link ══ Noise over TCP ══ Link ── receive ── Receiver::serve <── Listener
//!                 │ Handle    │                                           │             │
//!                 wake, stop  Source                                      Target        Sets (who may push what)
//! ```
//!
//! The service (crate's own process) does this:
//!
//! 1. [`Me`] once: names and [`LinkKey::derive`](noise::LinkKey::derive).
//! 2. As a standby: implement [`Sets`](receive::Sets), make one [`Receiver`](receive::Receiver), give it to
//!    [`Listener::start`](listen::Listener::start). When an operator acknowledged something:
//!    [`Receiver::ask_again`](receive::Receiver::ask_again). When this host becomes the owner:
//!    [`Receiver::close`](receive::Receiver::close), and `Sets::open` refuses from then on.
//! 3. As the owner: for each set and each other host one thread with a [`Pusher`](send::Pusher) and a
//!    [`Source`](crate::ports::Source) of its own; [`Handle::wake`](send::Handle::wake) when a tree was sealed (it goes
//!    out at once; a barrier is that, and then waiting for `Source::acknowledged`), [`Handle::stop`](send::Handle::stop)
//!    at the end, [`Handle::progress`](send::Handle::progress) for reports.
//!
//! Threads block: sessions are few (hosts times sets), and so does the disk. Each session has one thread that works and
//! one that reads the link; whoever closes the socket ends both.
//!
//! Rooms: [`noise`] keys, handshake, records; [`wire`] messages as octets; [`chunk`] cutting large files; [`limit`]
//! bandwidth; [`link`] messages over a stream, pings, time-outs; [`send`] and [`receive`] the two sides; [`listen`] who
//! may come in; [`error`] what goes wrong.

mod channel;
pub mod chunk;
mod clock;
pub mod error;
pub mod limit;
pub mod link;
pub mod listen;
pub mod noise;
pub mod receive;
pub mod send;
mod stream;
pub mod wire;

use crate::manifest::Hash;
use noise::LinkKey;
use std::fmt;
use std::sync::Arc;

/// This host, as it presents itself to others.
#[derive(Clone, Debug)]
pub struct Me {
    /// `[cluster] name`.
    pub cluster: Arc<str>,
    /// Its own name in `[host.NAME]`.
    pub host: Arc<str>,
    /// Proves that it belongs to the cluster.
    pub key: LinkKey,
}

/// A set of files as two hosts must agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetId {
    /// `[replicate.NAME]`.
    pub name: Arc<str>,
    /// BLAKE3 over what has to be alike on all hosts: paths, excludes, options that change what a tree means. Made by
    /// the service.
    pub digest: Hash,
}

/// Something worth a line in the log. Repeated ones are counted, not said again: see [`Event::repeated`].
#[derive(Clone, Debug)]
pub struct Event {
    /// Who: the name of a host once it is known, its address until then.
    pub peer: String,
    /// Which set, once it is known.
    pub set: Option<Arc<str>>,
    /// Short name of the kind, for counters: that of [`NetError`](error::NetError::kind), or `connected`, `flood`.
    pub kind: &'static str,
    /// One line for people: what happened and what to do about it.
    pub text: String,
    /// How often the same happened with the same peer since it was last told.
    pub repeated: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.peer)?;
        if let Some(set) = &self.set {
            write!(f, "set {set}: ")?;
        }
        f.write_str(&self.text)?;
        if self.repeated > 0 {
            write!(f, " ({} more of these)", self.repeated)?;
        }
        Ok(())
    }
}

/// Takes events; called from the threads of sessions, so it must not block for long.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;
