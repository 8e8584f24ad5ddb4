//! The protocol thread: an epoll loop around the engine. Reads everything, then lets timers act (DESIGN 5.3).
//!
//! Started by the runtime with the inputs of the first dump. It never blocks (it rests for a moment when a flood would keep
//! it busy for good), never logs, touches no file and no netlink; what it has to tell goes through a bounded queue, and
//! what does not fit is counted.

mod reload;

use super::neighbours::{Filter, announcement, question};
use super::pulse::Pulse;
use super::queue::{Inbox, Message};
use super::rest::Rest;
use super::slots::Slots;
use super::sockets::{Sockets, Token};
use super::told::{Outlet, Told};
use crate::kernel::MonitorEvent;
use crate::sys::{DeadlineTimer, Poller, clock};
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Handover, HeartbeatIn, Input, Memory, Output, Packet};
use vipd_core::engine::snapshot::Snapshot;
use vipd_core::engine::{Engine, Secrets};
use vipd_core::histogram::{Histogram, LATENESS};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, InstanceIx, LinkIx, PathIx};

/// Datagrams read from one socket before the others get their turn.
const READS_PER_TURN: usize = 64;
/// Rounds over all readable sockets before timers act all the same: a flood must not silence us. What waits longer in a
/// queue for adverts the engine is told of ([`Engine::set_read_until`]).
const ROUNDS: usize = 16;
/// Messages taken from the other threads in one round.
const MESSAGES_PER_TURN: usize = 256;
/// Longest datagram or frame: a full IPv6 list of 255 addresses with its trailer, or a jumbo frame.
const BUFFER: usize = 9216;

/// How the thread came to its end.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing is owned any more.
    Stopped,
    /// Another agent goes on with this.
    Replaced(Box<Handover>),
}

/// Answer to [`Message::Report`].
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// The configuration by which the rest is numbered.
    pub model: Arc<Model>,
    /// What the engine says.
    pub snapshot: Snapshot,
    /// What the loop counted.
    pub counters: LoopCounters,
    /// ARP and ND announcements handed to a socket, by instance.
    pub announced: Vec<u64>,
}

/// What the loop counted since the start.
#[derive(Copy, Clone, Debug)]
pub(super) struct LoopCounters {
    /// Turns.
    pub wakeups: u64,
    /// Longest time from a deadline to its handling.
    pub latest: Duration,
    /// From deadlines to their handling.
    pub lateness: Histogram,
    /// Times that not everything could be told.
    pub untold: u64,
    /// Datagrams and frames that could not be read or sent.
    pub socket_errors: u64,
}

impl Default for LoopCounters {
    fn default() -> Self {
        Self {
            wakeups: 0,
            latest: Duration::ZERO,
            lateness: Histogram::new(LATENESS),
            untold: 0,
            socket_errors: 0,
        }
    }
}

/// Everything that the thread owns.
pub(super) struct Protocol {
    engine: Engine,
    model: Arc<Model>,
    poller: Poller,
    timer: DeadlineTimer,
    armed: Instant,
    /// When the loop last had done everything; deadlines before that it knew of then.
    slept_at: Instant,
    inbox: Inbox,
    slots: Slots,
    told: Outlet,
    /// Where to tell once another configuration is in force.
    told_next: Option<Outlet>,
    /// Waits for the engine to be ready for another configuration.
    retiring: Option<oneshot::Sender<()>>,
    sockets: Sockets,
    filters: Vec<Filter>,
    pulse: Option<Pulse>,
    rest: Rest,
    counters: LoopCounters,
    announced: Vec<u64>,
    tokens: Vec<Token>,
    buffer: Vec<u8>,
}

/// What [`Protocol::new`] needs from the runtime.
pub(super) struct Parts {
    /// The configuration.
    pub model: Arc<Model>,
    /// Its keys.
    pub secrets: Secrets,
    /// Number of this start.
    pub boot: u64,
    /// What was stored of earlier runs, of instances or of the host.
    pub recalled: Vec<(Option<InstanceIx>, Memory)>,
    /// What the agent before this one left, if it was to be replaced by this one.
    pub left: Option<Handover>,
    /// Set after crashes: starts as Backup and claims nothing for this long.
    pub backup_for: Option<Duration>,
    /// Reading end of the queue.
    pub inbox: Inbox,
    /// Orders for the kernel thread.
    pub slots: Slots,
    /// To the main thread.
    pub told: Outlet,
    /// To the service manager.
    pub pulse: Option<Pulse>,
}

impl Protocol {
    /// Makes the engine and the poller; opens no socket yet.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let Parts { model, secrets, boot, recalled, left, backup_for, inbox, slots, told, pulse } =
            parts;
        let poller = Poller::new()?;
        let timer = DeadlineTimer::new()?;
        poller.add(&timer, Token::Timer.encode())?;
        poller.add(&inbox, Token::Inbox.encode())?;
        let now = clock::now();
        let mut engine = Engine::new(Arc::clone(&model), secrets, boot, now);
        recall(&mut engine, recalled);
        if let Some(left) = left {
            engine.resume(&left);
        }
        if let Some(wait) = backup_for {
            engine.start_as_backup(now.mono + wait);
        }
        Ok(Self {
            engine,
            sockets: Sockets::new(&model),
            filters: (0u16..)
                .map(LinkIx)
                .zip(&model.links)
                .map(|(link, _)| Filter::new(&model, link))
                .collect(),
            announced: vec![0; model.instances.len()],
            model,
            poller,
            timer,
            armed: Instant::MAX,
            slept_at: clock::monotonic(),
            inbox,
            slots,
            told,
            told_next: None,
            retiring: None,
            pulse,
            rest: Rest::default(),
            counters: LoopCounters::default(),
            tokens: Vec::new(),
            buffer: vec![0; BUFFER],
        })
    }

    /// Takes what the first dump said, so that sockets are open and left-over addresses known before any timer.
    pub(super) fn begin(&mut self, first: Vec<Message>) {
        for message in first {
            self.take_message(message);
        }
        self.tend_sockets(clock::monotonic());
    }

    /// Runs until a clean stop is finished, or another agent can go on.
    ///
    /// # Errors
    /// When the kernel refuses to wait or to set a timer, which a correct program does not meet.
    pub(super) fn run(mut self) -> io::Result<End> {
        loop {
            self.arm()?;
            self.tokens.clear();
            self.tokens.extend(self.poller.wait()?.filter_map(Token::decode));
            let woke_at = clock::monotonic();
            self.drain()?;
            self.act();
            if self.engine.stopped() {
                return Ok(End::Stopped);
            }
            if let Some(done) = self.retiring.take_if(|_| self.engine.retired()) {
                // Whoever waited for it may have something else to do by now.
                let _ = done.send(());
            }
            if self.engine.may_exec() {
                // Nothing is read or said after this.
                return Ok(End::Replaced(Box::new(self.engine.handover())));
            }
            let slept = woke_at.since(self.slept_at);
            self.slept_at = clock::monotonic();
            if let Some(rest) = self.rest.due(slept, self.slept_at.since(woke_at)) {
                std::thread::sleep(rest);
            }
        }
    }

    fn arm(&mut self) -> io::Result<()> {
        let mut at = self.engine.deadline().min(self.sockets.due());
        if let Some(pulse) = &self.pulse {
            at = at.min(pulse.due());
        }
        if at != self.armed {
            self.timer.arm(Some(at))?;
            self.armed = at;
        }
        Ok(())
    }

    /// Reads all sockets and the queue until they are dry, or the bound is reached.
    fn drain(&mut self) -> io::Result<()> {
        self.counters.wakeups += 1;
        for _ in 0..ROUNDS {
            let tokens = std::mem::take(&mut self.tokens);
            for token in &tokens {
                self.read(*token);
            }
            // The same memory again.
            self.tokens = tokens;
            self.tokens.clear();
            self.tokens.extend(self.poller.ready()?.filter_map(Token::decode));
            if self.tokens.is_empty() {
                break;
            }
        }
        let read_until = self.read_until();
        self.engine.set_read_until(read_until);
        Ok(())
    }

    /// What arrived before this was read from every socket for adverts that still has some.
    fn read_until(&mut self) -> Instant {
        let sockets = &mut self.sockets;
        let waiting = self.tokens.iter().filter_map(|token| match token {
            Token::Vrrp(link, family) => Some(sockets.vrrp(*link, *family)?.read_until()),
            _ => None,
        });
        waiting.min().unwrap_or(Instant::MAX)
    }

    /// Timers, after everything that was queued.
    fn act(&mut self) {
        let now = clock::now();
        let deadline = self.engine.deadline();
        if deadline <= now.mono {
            // A deadline in the past means "at once": it is late from when the loop knew of it.
            let late = now.mono - deadline.max(self.slept_at);
            self.counters.latest = self.counters.latest.max(late);
            self.counters.lateness.observe(late);
            self.engine.handle(now, Input::Timeout);
            self.carry_out();
        }
        if self.sockets.due() <= now.mono {
            self.tend_sockets(now.mono);
        }
        if let Some(pulse) = &mut self.pulse {
            pulse.beat(now.mono);
        }
    }

    fn read(&mut self, token: Token) {
        match token {
            Token::Timer => {
                self.timer.clear();
                self.armed = Instant::MAX;
            }
            Token::Inbox => {
                self.inbox.acknowledge();
                for taken in 0.. {
                    if taken == MESSAGES_PER_TURN {
                        // The rest in the next round.
                        self.inbox.remind();
                        break;
                    }
                    let Some(message) = self.inbox.next() else { break };
                    self.take_message(message);
                }
            }
            Token::Vrrp(link, family) => self.read_adverts(link, family),
            Token::Frame(link, family) => self.read_frames(link, family),
            Token::Heartbeat(path) => self.read_heartbeats(path),
        }
    }

    fn read_adverts(&mut self, link: LinkIx, family: Family) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..READS_PER_TURN {
            let Some(socket) = self.sockets.vrrp(link, family) else { break };
            match socket.recv(&mut buffer) {
                Ok(Some(seen)) => {
                    self.frame_seen(link);
                    let payload = buffer.get(seen.payload.clone()).unwrap_or_default();
                    self.feed(Input::Packet(Packet {
                        link,
                        src: seen.src,
                        dst: seen.dst,
                        ttl: seen.ttl,
                        payload,
                        age: seen.age,
                    }));
                }
                Ok(None) => break,
                Err(_) => {
                    self.sockets.note_error();
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    fn read_frames(&mut self, link: LinkIx, family: Family) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let now = clock::monotonic();
        for _ in 0..READS_PER_TURN {
            let Some(socket) = self.sockets.frames(link, family) else { break };
            let frame = match socket.recv_frame(&mut buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => {
                    self.sockets.note_error();
                    break;
                }
            };
            let spoken =
                self.filters.get_mut(usize::from(link.0)).and_then(|f| f.read(family, frame, now));
            self.frame_seen(link);
            if let Some(neighbour) = spoken {
                self.feed(Input::Neighbour(neighbour));
            }
        }
        self.buffer = buffer;
    }

    fn read_heartbeats(&mut self, path: PathIx) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..READS_PER_TURN {
            let Some(socket) = self.sockets.heartbeats(path) else { break };
            match socket.recv(&mut buffer) {
                Ok(Some(seen)) => {
                    let payload = buffer.get(..seen.len).unwrap_or_default();
                    self.feed(Input::Heartbeat(HeartbeatIn {
                        path,
                        src: seen.src,
                        payload,
                        age: seen.age,
                    }));
                }
                Ok(None) => break,
                // An earlier send came back as an ICMP error; more may wait behind it.
                Err(_) => self.sockets.note_error(),
            }
        }
        self.buffer = buffer;
    }

    /// Only while somebody waits for it: it would double every input otherwise.
    fn frame_seen(&mut self, link: LinkIx) {
        if self.engine.settling(link) {
            self.feed(Input::FrameSeen(link));
        }
    }

    fn take_message(&mut self, message: Message) {
        match message {
            Message::Network(event) => self.take_network(event),
            Message::Applied(applied) => self.feed(Input::Applied(applied)),
            Message::Renewed(renewed) => self.feed(Input::Renewed(renewed)),
            Message::Report(answer) => {
                // The asker may have given up.
                let _ = answer.send(self.report());
            }
            Message::Picture(answer) => {
                // The asker may have given up.
                let _ = answer.send(self.engine.picture());
            }
            Message::Replica(set, state) => self.feed(Input::Replica { set, state }),
            Message::Stored { instance, reserved, result } => {
                // Numbered here: the thread that stores does not know which configuration is in force.
                let known = self.model.iter().find(|(_, known)| known.name == instance);
                if let Some((instance, _)) = known {
                    self.feed(Input::Stored { instance, reserved, result });
                }
            }
            Message::Check(check, reading) => self.feed(Input::Check { check, reading }),
            Message::Activated { instance, order, result } => {
                self.feed(Input::Activated { instance, order, result });
            }
            Message::PrePromoted { instance, order, result } => {
                self.feed(Input::PrePromoted { instance, order, result });
            }
            Message::BarrierDone { instance, order, result } => {
                self.feed(Input::BarrierDone { instance, order, result });
            }
            Message::Judge { instance, order, answer } => {
                // The asker may have given up.
                let _ = answer.send(self.engine.judge(instance, &order));
            }
            Message::Order { id, instance, order } => {
                self.feed(Input::Order { id, instance, order });
            }
            Message::Retire { model, done } => {
                self.retiring = Some(done);
                self.feed(Input::Retire(model));
            }
            Message::Reload(reload) => self.reload(*reload),
            Message::PrepareRestart => self.feed(Input::PrepareRestart),
            Message::AbortRestart => self.feed(Input::AbortRestart),
            Message::Stop => self.feed(Input::Stop),
        }
    }

    fn take_network(&mut self, event: MonitorEvent) {
        match event {
            MonitorEvent::Link { link, state } => {
                let news = self.sockets.update(link, &state, &self.poller, clock::monotonic());
                self.tell_sockets(news);
                if let Some(filter) = self.filters.get_mut(usize::from(link.0)) {
                    filter.update(&state);
                }
                self.feed(Input::Link { link, state });
            }
            MonitorEvent::Addresses { link, present } => {
                self.feed(Input::Addresses { link, present: &present })
            }
            MonitorEvent::AddressAdded { link, addr } => {
                self.feed(Input::AddressAdded { link, addr })
            }
            MonitorEvent::AddressRemoved { link, addr } => {
                self.feed(Input::AddressRemoved { link, addr })
            }
            MonitorEvent::FrameSeen(link) => self.frame_seen(link),
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        self.engine.handle(clock::now(), input);
        self.carry_out();
    }

    /// Does what the engine wants, in order.
    fn carry_out(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send(advert) => {
                    let accepted = self.sockets.send(&self.model, &advert);
                    self.engine
                        .handle(clock::now(), Input::Sent { router: advert.router, accepted });
                }
                Output::Heartbeat(heartbeat) => self.sockets.send_heartbeat(&heartbeat),
                Output::Announce(announce) => {
                    let instance = usize::from(announce.router.instance.0);
                    if let Some(count) = self.announced.get_mut(instance) {
                        *count += 1;
                    }
                    self.sockets.send_frame(announce.link, &announcement(&announce))
                }
                Output::Probe(probe) => {
                    if let Some(filter) = self.filters.get_mut(usize::from(probe.link.0)) {
                        filter.let_answer(probe.addr, clock::monotonic());
                    }
                    if let Some(frame) = question(&probe) {
                        self.sockets.send_frame(probe.link, &frame);
                    }
                }
                Output::Own(order) => self.slots.own(order),
                Output::Renew(order) => self.slots.renew(order),
                Output::Activate { instance, order } => {
                    self.tell(Told::Activate { instance, order })
                }
                Output::PrePromote { instance, order, from } => {
                    self.tell(Told::PrePromote { instance, order, from });
                }
                Output::NotPromoted { instance, order } => {
                    self.tell(Told::NotPromoted { instance, order });
                }
                Output::Barrier { instance, order, to, deadline } => {
                    self.tell(Told::Barrier { instance, order, to, deadline });
                }
                Output::BarrierOver { instance, order, moved } => {
                    self.tell(Told::BarrierOver { instance, order, moved });
                }
                Output::Event(event) => self.tell(Told::Event(event)),
                Output::Reloaded(model) => self.put_in_force(model),
            }
        }
    }

    fn tend_sockets(&mut self, now: Instant) {
        let news = self.sockets.open_missing(&self.poller, now);
        self.tell_sockets(news);
    }

    fn tell_sockets(&mut self, news: Vec<String>) {
        for text in news {
            self.tell(Told::Socket(text));
        }
    }

    fn tell(&mut self, told: Told) {
        if self.told.tell(told).is_err() {
            self.counters.untold += 1;
        }
    }

    fn report(&self) -> Report {
        let counters = LoopCounters { socket_errors: self.sockets.errors(), ..self.counters };
        let snapshot = self.engine.snapshot(clock::monotonic());
        let model = Arc::clone(&self.model);
        Report { model, snapshot, counters, announced: self.announced.clone() }
    }
}

/// Gives the engine what was stored, before it decides anything.
fn recall(engine: &mut Engine, recalled: Vec<(Option<InstanceIx>, Memory)>) {
    for (instance, memory) in recalled {
        engine.recall(instance, memory);
    }
}
