//! Who may come in: a listener that a flood does not fill.
//!
//! Started by the service. A caller has no more than one thread and one socket until it has proved that it belongs to
//! the cluster, not for longer than the handshake may take, and not many at once: when there are too many, the oldest
//! goes, from the same address first, because an honest caller needs milliseconds.

use super::error::NetError;
use super::link::{Options, Stream};
use super::receive::Receiver;
use super::{Event, Events, clock};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connections that wait for `accept`.
const BACKLOG: i32 = 128;
/// After an error that may last: no descriptor is free.
const BREATH: Duration = Duration::from_millis(100);
/// A session decodes and compresses; its buffers are on the heap.
const STACK: usize = 1024 * 1024;
/// The same about the same peer is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Peers and kinds that are remembered for that.
const REMEMBERED: usize = 1024;

/// How many may come in.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Handshakes at once.
    pub handshakes: usize,
    /// Handshakes at once from one address.
    pub per_address: usize,
    /// Connections at once, sessions and handshakes together.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshakes: 32, per_address: 8, connections: 256 }
    }
}

/// Listens until it is dropped.
pub struct Listener {
    door: Arc<Door>,
    sockets: Vec<Arc<Socket>>,
    threads: Vec<JoinHandle<()>>,
}

struct Door {
    receiver: Arc<Receiver>,
    limits: Limits,
    options: Options,
    quiet: Quiet,
    /// Oldest first.
    waiting: Mutex<Vec<Waiting>>,
    connections: AtomicUsize,
    closed: AtomicBool,
}

/// A caller that has proved nothing yet.
struct Waiting {
    from: IpAddr,
    stream: Arc<TcpStream>,
}

impl Listener {
    /// Listens on `addresses`, which need not be there yet, and gives callers to `receiver`. Sessions outlive the
    /// listener; [`Receiver::close`] ends them.
    ///
    /// # Errors
    /// An address cannot be listened on; the others are not, either.
    pub fn start(
        addresses: &[SocketAddr],
        receiver: Arc<Receiver>,
        limits: Limits,
        options: Options,
        events: Events,
    ) -> Result<Self, NetError> {
        let sockets = addresses
            .iter()
            .map(|address| {
                let doing = |error| NetError::io(format!("listening on {address}"), error);
                listen(*address).map(Arc::new).map_err(doing)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let door = Arc::new(Door {
            receiver,
            limits,
            options,
            quiet: Quiet::new(events),
            waiting: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let mut listener = Self { door, sockets, threads: Vec::new() };
        for socket in &listener.sockets {
            let (door, socket) = (Arc::clone(&listener.door), Arc::clone(socket));
            let thread = thread::Builder::new()
                .name("replica-listen".into())
                .spawn(move || door.accept_all(&socket))
                .map_err(|error| NetError::io("starting the listener", error))?;
            listener.threads.push(thread);
        }
        Ok(listener)
    }

    /// What it listens on, with the port that the kernel chose where none was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let of = |socket: &Arc<Socket>| socket.local_addr().ok()?.as_socket();
        self.sockets.iter().filter_map(of).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.door.closed.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // Wakes `accept`.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
        for caller in self.door.waiting().drain(..) {
            caller.stream.close();
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

impl Door {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept_all(self: &Arc<Self>, socket: &Socket) {
        while !self.closed.load(Ordering::Relaxed) {
            match socket.accept() {
                Ok((stream, address)) => {
                    if let Some(address) = address.as_socket() {
                        self.admit(Arc::new(stream.into()), address);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) if self.closed.load(Ordering::Relaxed) => {}
                Err(error) => {
                    self.quiet.tell("listener", None, "io", &format!("accepting: {error}"));
                    thread::sleep(BREATH);
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: Arc<TcpStream>, address: SocketAddr) {
        let from = address.ip().to_canonical();
        let name = from.to_string();
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.limits.connections {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return self.quiet.tell(&name, None, "flood", "too many connections: one was closed");
        }
        if self.make_room(from) {
            self.quiet.tell(&name, None, "flood", "too many handshakes: the oldest was closed");
        }
        self.waiting().push(Waiting { from, stream: Arc::clone(&stream) });
        let door = Arc::clone(self);
        let started = thread::Builder::new().name("replica".into()).stack_size(STACK).spawn({
            let stream = Arc::clone(&stream);
            move || {
                let shown = Arc::clone(&stream);
                let admitted = || door.forget(&shown);
                let _left = Left { door: &door, stream: &shown };
                door.receiver.serve(stream, &name, door.options.clone(), admitted);
            }
        });
        if let Err(error) = started {
            self.forget(&stream);
            self.connections.fetch_sub(1, Ordering::Relaxed);
            self.quiet.tell("listener", None, "io", &format!("starting a thread: {error}"));
        }
    }

    /// Closes the oldest handshake if there are too many; was that so?
    fn make_room(&self, from: IpAddr) -> bool {
        let mut waiting = self.waiting();
        let same = waiting.iter().filter(|w| w.from == from).count();
        let oldest = if same >= self.limits.per_address {
            waiting.iter().position(|w| w.from == from)
        } else if waiting.len() >= self.limits.handshakes {
            Some(0)
        } else {
            None
        };
        let Some(oldest) = oldest else { return false };
        waiting.remove(oldest).stream.close();
        true
    }

    fn forget(&self, stream: &Arc<TcpStream>) {
        self.waiting().retain(|w| !Arc::ptr_eq(&w.stream, stream));
    }
}

/// Counts a connection out, however it ends.
struct Left<'a> {
    door: &'a Door,
    stream: &'a Arc<TcpStream>,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.door.forget(self.stream);
        self.door.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Peer with set, and kind of event.
type Subject = (String, &'static str);

/// Tells what happens, but the same about the same peer only once a minute, with the count of what was left out.
pub(super) struct Quiet {
    events: Events,
    /// When it was last told, and how often it was left out since.
    told: Mutex<HashMap<Subject, (Duration, u64)>>,
}

impl Quiet {
    pub(super) fn new(events: Events) -> Self {
        Self { events, told: Mutex::default() }
    }

    pub(super) fn tell(&self, peer: &str, set: Option<&str>, kind: &'static str, text: &str) {
        let now = clock::now();
        let repeated = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (format!("{peer} {}", set.unwrap_or_default()), kind);
            if let Some((last, left_out)) = told.get_mut(&key) {
                if now.saturating_sub(*last) < TELL_AGAIN {
                    *left_out += 1;
                    return;
                }
                *last = now;
                std::mem::take(left_out)
            } else {
                if told.len() >= REMEMBERED {
                    told.retain(|_, (last, _)| now.saturating_sub(*last) < TELL_AGAIN);
                }
                // Still full: a flood from very many addresses, of which some were told.
                if told.len() >= REMEMBERED {
                    return;
                }
                told.insert(key, (now, 0));
                0
            }
        };
        let (peer, text, set) = (peer.to_owned(), text.to_owned(), set.map(Into::into));
        (self.events)(Event { peer, set, kind, text, repeated });
    }
}
