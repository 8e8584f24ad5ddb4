//! Messages over a stream: records, pings, time-outs, and an end that any thread can make.
//!
//! Used by the two drivers, which know it as a [`Channel`]. A thread of its own reads, so that a driver that is busy with
//! its disk still hears that the other host is alive and says so itself; it never lets more than
//! [`Options::inbox`] octets wait.

pub use super::channel::Channel;
pub use super::stream::Stream;

use super::error::NetError;
use super::noise::{self, Cipher, LinkKey, MAX_PLAIN, is_timeout};
use super::wire::{Assembler, Message, Packer};
use super::{clock, limit::Bucket};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often the reading thread looks up.
const TICK: Duration = Duration::from_millis(100);
/// A farewell must not hold up anybody.
const FAREWELL: Duration = Duration::from_millis(300);
/// Time for a record to come whole: a length that was changed on the way makes one wait for octets that never come.
const RECORD_LIMIT: Duration = Duration::from_secs(30);
/// Octets that are read at once, at most.
const READ_AHEAD: usize = 256 * 1024;
/// A reading thread needs little.
const STACK: usize = 512 * 1024;

/// Times and limits of a link.
#[derive(Clone, Debug)]
pub struct Options {
    /// Octets per second that this side sends; `None`: no limit.
    pub bandwidth: Option<u64>,
    /// For the handshake.
    pub handshake: Duration,
    /// Silence after which this side says that it is alive.
    pub ping_after: Duration,
    /// Silence after which the other side counts as dead.
    pub dead_after: Duration,
    /// Octets of messages that may wait for the driver; a message beyond that waits on the link.
    pub inbox: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bandwidth: None,
            handshake: super::send::HANDSHAKE_LIMIT,
            ping_after: Duration::from_secs(1),
            dead_after: Duration::from_secs(5),
            inbox: 2 * 1024 * 1024,
        }
    }
}

/// One side of an encrypted connection.
pub struct Link {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

/// Wakes or ends a link from another thread.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// Lets [`Channel::receive`] return at once, now or when it is next called.
    pub fn wake(&self) {
        self.0.inbox().woken = true;
        self.0.arrived.notify_all();
    }

    /// Ends the connection; both threads of it come back soon.
    pub fn close(&self, why: &'static str) {
        self.0.end(NetError::Stopped(why));
    }
}

struct Shared {
    stream: Arc<dyn Stream>,
    cipher: Cipher,
    options: Options,
    writer: Mutex<Writer>,
    inbox: Mutex<Inbox>,
    /// Something is in the inbox, or it has ended.
    arrived: Condvar,
    /// There is room in the inbox, or it has ended.
    emptied: Condvar,
    ended: AtomicBool,
    /// When the last record went out, nanoseconds of the clock.
    last_sent: AtomicU64,
    sent_octets: AtomicU64,
}

struct Writer {
    packer: Packer,
    /// Plain text of the next record.
    plain: Vec<u8>,
    records: Records,
}

/// Records that go out.
struct Records {
    bucket: Bucket,
    /// That went out.
    count: u64,
    /// The last one.
    sealed: Vec<u8>,
}

impl Records {
    /// Octets of plain text of one that is full.
    fn piece(&self) -> usize {
        self.bucket.piece(MAX_PLAIN)
    }
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<(Message, usize)>,
    octets: usize,
    woken: bool,
    end: Option<NetError>,
}

impl Link {
    /// The side that connected.
    ///
    /// # Errors
    /// Of the handshake.
    pub fn call(
        stream: Arc<dyn Stream>,
        key: &LinkKey,
        options: Options,
    ) -> Result<Self, NetError> {
        stream.prepare().map_err(|e| NetError::io("setting up the connection", e))?;
        let cipher = noise::call(&*stream, key, options.handshake)?;
        Self::start(stream, cipher, options)
    }

    /// The side that was called.
    ///
    /// # Errors
    /// Of the handshake.
    pub fn answer(
        stream: Arc<dyn Stream>,
        key: &LinkKey,
        options: Options,
    ) -> Result<Self, NetError> {
        stream.prepare().map_err(|e| NetError::io("setting up the connection", e))?;
        let cipher = noise::answer(&*stream, key, options.handshake)?;
        Self::start(stream, cipher, options)
    }

    fn start(stream: Arc<dyn Stream>, cipher: Cipher, options: Options) -> Result<Self, NetError> {
        let starting = |error| NetError::io("starting a link", error);
        stream.set_read_timeout(TICK).map_err(starting)?;
        let assembler = Assembler::new().map_err(starting)?;
        let writer = Writer {
            packer: Packer::new().map_err(starting)?,
            plain: Vec::with_capacity(MAX_PLAIN),
            records: Records {
                bucket: Bucket::new(options.bandwidth),
                count: 0,
                sealed: Vec::new(),
            },
        };
        let shared = Arc::new(Shared {
            stream,
            cipher,
            options,
            writer: Mutex::new(writer),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            emptied: Condvar::new(),
            ended: AtomicBool::new(false),
            last_sent: AtomicU64::new(nanos(clock::now())),
            sent_octets: AtomicU64::new(0),
        });
        let of_reader = Arc::clone(&shared);
        let reader = thread::Builder::new()
            .name("replica-read".into())
            .stack_size(STACK)
            .spawn(move || {
                let ends = Ends(&of_reader);
                let Err(error) = of_reader.read(assembler) else { return };
                ends.0.end(error);
            })
            .map_err(starting)?;
        Ok(Self { shared, reader: Some(reader) })
    }

    /// For other threads.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// Tells the other side why it ends, if that can be told at once, and ends.
    pub fn end<T>(self, why: &Result<T, NetError>) {
        let text = match why {
            Ok(_) => "this host has nothing more to say".to_owned(),
            Err(error) => error.to_string(),
        };
        if !self.shared.ended.load(Ordering::Relaxed)
            && let Ok(mut writer) = self.shared.writer.try_lock()
        {
            let until = Some(clock::now() + FAREWELL);
            // Whoever is gone does not hear it.
            let _ = self.shared.write(&mut writer, &Message::Bye(text), until);
            let _ = self.shared.flush(&mut writer, until);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.end(NetError::Stopped("the session is over"));
        if let Some(reader) = self.reader.take() {
            // A panic there has ended the link, and was reported where it happened.
            let _ = reader.join();
        }
    }
}

impl Channel for Link {
    fn send(&mut self, message: &Message) -> Result<(), NetError> {
        let mut writer = self.shared.writer();
        self.shared.write(&mut writer, message, None).map_err(|e| self.shared.cause(e))
    }

    fn flush(&mut self) -> Result<(), NetError> {
        let mut writer = self.shared.writer();
        self.shared.flush(&mut writer, None).map_err(|e| self.shared.cause(e))
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Message>, NetError> {
        self.flush()?;
        let shared = &self.shared;
        let nothing =
            |inbox: &mut Inbox| inbox.messages.is_empty() && inbox.end.is_none() && !inbox.woken;
        let (mut inbox, _) = shared
            .arrived
            .wait_timeout_while(shared.inbox(), wait, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((message, octets)) = inbox.messages.pop_front() {
            inbox.octets -= octets;
            shared.emptied.notify_all();
            return Ok(Some(message));
        }
        if inbox.end.is_some() {
            drop(inbox);
            return Err(shared.cause(NetError::Closed));
        }
        inbox.woken = false;
        Ok(None)
    }

    fn now(&self) -> Duration {
        clock::now()
    }

    fn sent_octets(&self) -> u64 {
        self.shared.sent_octets.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection; the first reason stays.
    fn end(&self, why: NetError) {
        self.inbox().end.get_or_insert(why);
        self.ended.store(true, Ordering::Relaxed);
        self.stream.close();
        self.arrived.notify_all();
        self.emptied.notify_all();
    }

    /// Why it ended, told once, else `error`: a broken pipe is only the symptom.
    fn cause(&self, error: NetError) -> NetError {
        let mut inbox = self.inbox();
        match inbox.end.replace(NetError::Closed) {
            Some(cause) => cause,
            None => {
                inbox.end = None;
                error
            }
        }
    }

    fn write(
        &self,
        writer: &mut Writer,
        message: &Message,
        until: Option<Duration>,
    ) -> Result<(), NetError> {
        let body = message.body();
        let Writer { packer, plain, records } = &mut *writer;
        let (header, mut octets) = packer.pack(message.kind(), &body);
        plain.extend(header);
        // What fills a record is sealed where it is: only what begins or ends in the middle of one is copied.
        let piece = records.piece();
        while plain.len() + octets.len() >= piece {
            let (now, rest) = octets.split_at(piece.saturating_sub(plain.len()));
            octets = rest;
            if plain.is_empty() {
                self.seal(records, now, until)?;
            } else {
                plain.extend_from_slice(now);
                self.seal_all(records, plain, until)?;
            }
        }
        plain.extend_from_slice(octets);
        Ok(())
    }

    fn flush(&self, writer: &mut Writer, until: Option<Duration>) -> Result<(), NetError> {
        self.seal_all(&mut writer.records, &mut writer.plain, until)
    }

    /// Sends all of `plain`, which is empty after that.
    fn seal_all(
        &self,
        records: &mut Records,
        plain: &mut Vec<u8>,
        until: Option<Duration>,
    ) -> Result<(), NetError> {
        let piece = records.piece();
        for piece in plain.chunks(piece) {
            self.seal(records, piece, until)?;
        }
        plain.clear();
        Ok(())
    }

    /// Sends a record.
    fn seal(
        &self,
        records: &mut Records,
        plain: &[u8],
        until: Option<Duration>,
    ) -> Result<(), NetError> {
        self.cipher.seal(records.count, plain, &mut records.sealed)?;
        records.count += 1;
        let wait = records.bucket.take(clock::now(), records.sealed.len());
        self.sleep(wait)?;
        self.put(&records.sealed, until)
    }

    fn sleep(&self, wait: Duration) -> Result<(), NetError> {
        let until = clock::now() + wait;
        loop {
            if self.ended.load(Ordering::Relaxed) {
                return Err(NetError::Closed);
            }
            let left = until.saturating_sub(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(TICK));
        }
    }

    fn put(&self, mut octets: &[u8], until: Option<Duration>) -> Result<(), NetError> {
        self.sent_octets.fetch_add(octets.len() as u64, Ordering::Relaxed);
        while !octets.is_empty() {
            if self.ended.load(Ordering::Relaxed) {
                return Err(NetError::Closed);
            }
            match self.stream.write(octets) {
                Ok(len) => octets = &octets[len..],
                // Whether the other side is dead, the reading thread finds out.
                Err(error) if is_timeout(&error) => {
                    if until.is_some_and(|until| clock::now() >= until) {
                        return Err(NetError::Closed);
                    }
                }
                Err(error) => return Err(NetError::io("writing to the link", error)),
            }
        }
        self.last_sent.store(nanos(clock::now()), Ordering::Relaxed);
        Ok(())
    }

    fn ping_when_due(&self) -> Result<(), NetError> {
        let quiet = nanos(clock::now()).saturating_sub(self.last_sent.load(Ordering::Relaxed));
        if quiet < nanos(self.options.ping_after) {
            return Ok(());
        }
        // Whoever holds it is writing.
        let Ok(mut writer) = self.writer.try_lock() else { return Ok(()) };
        self.write(&mut writer, &Message::Ping, None)?;
        self.flush(&mut writer, None)
    }

    /// Reads until the end. Never returns `Ok`.
    fn read(&self, mut assembler: Assembler) -> Result<(), NetError> {
        let mut ahead = vec![0; READ_AHEAD];
        let mut plain = Vec::with_capacity(MAX_PLAIN);
        let (mut filled, mut records) = (0, 0);
        let mut heard = clock::now();
        let mut begun = heard;
        loop {
            self.ping_when_due()?;
            if filled > 0 && clock::now().saturating_sub(begun) > RECORD_LIMIT {
                return Err(NetError::Tampered(records));
            }
            match self.stream.read(&mut ahead[filled..]) {
                Ok(0) => return Err(NetError::Closed),
                Ok(len) => {
                    if filled == 0 {
                        begun = clock::now();
                    }
                    filled += len;
                }
                Err(error) if is_timeout(&error) => {
                    let silent = clock::now().saturating_sub(heard);
                    if silent >= self.options.dead_after {
                        return Err(NetError::Silent(silent.as_millis() as u64));
                    }
                    continue;
                }
                Err(error) => return Err(NetError::io("reading from the link", error)),
            }
            let mut from = 0;
            while let Some(record) = record(&ahead[from..filled]) {
                self.cipher.open(records, record, &mut plain)?;
                records += 1;
                from += 2 + record.len();
                let mut input = plain.as_slice();
                while let Some(message) = assembler.next(&mut input)? {
                    self.deliver(message)?;
                }
            }
            ahead.copy_within(from..filled, 0);
            filled -= from;
            // Now, not when it was read: the time that this side took is not the other's silence.
            heard = clock::now();
            if from > 0 {
                begun = heard;
            }
        }
    }

    /// Waits until there is room: then the other side has to wait as well.
    fn deliver(&self, message: Message) -> Result<(), NetError> {
        if message == Message::Ping {
            return Ok(());
        }
        let octets = message.weight();
        loop {
            let mut inbox = self.inbox();
            if inbox.end.is_some() || self.ended.load(Ordering::Relaxed) {
                return Err(NetError::Closed);
            }
            if inbox.octets < self.options.inbox {
                inbox.octets += octets;
                inbox.messages.push_back((message, octets));
                self.arrived.notify_all();
                return Ok(());
            }
            let waited = self.emptied.wait_timeout(inbox, TICK);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            self.ping_when_due()?;
        }
    }
}

/// Ends the connection when its reading thread does, also by a panic.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end(NetError::Stopped("its reading thread failed"));
    }
}

/// The first record in `octets`, if it is complete.
fn record(octets: &[u8]) -> Option<&[u8]> {
    let (len, rest) = octets.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

/// Good for 584 years.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
