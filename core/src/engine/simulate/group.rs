//! The players and their kernels, in virtual time.
//!
//! Small on purpose: a hop and an order to a kernel take a fixed short time, nothing is lost, nobody hangs. What wants to
//! be tried under such faults is `core/tests/sim`.

use super::super::io::{
    Applied, Event, EventKind, HeartbeatIn, Input, NeighbourIn, OperationStep, Output, Own, Packet,
    Reading, Renewed, Want,
};
use super::super::{Engine, Slot};
use super::copies::Copies;
use super::network::{Cut, Wires};
use super::stand_in::cast;
use super::story::{Fact, Story};
use super::{Player, Prediction, Supposed, WhatIf};
use crate::config::model::Model;
use crate::policy::Closed;
use crate::time::{Duration, Instant, Now, Utc};
use crate::types::{CheckIx, HostIx, InstanceIx, LinkIx, PathIx, State, Verdict};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A frame takes this long to its receivers.
pub(super) const HOP: Duration = Duration::from_micros(100);
/// A kernel takes this long for an order.
pub(super) const KERNEL: Duration = Duration::from_millis(1);
/// Longer than this nothing is played.
const LONGEST: Duration = Duration::from_secs(600);
/// Nor more than so many inputs.
const WORK: u32 = 2_000_000;
/// The number of the operation that an order is.
const OPERATION: u64 = 1;

/// This host, in [`Group::actors`].
pub(super) const ME: usize = 0;

/// A host that plays.
pub(super) struct Actor {
    pub(super) name: Arc<str>,
    pub(super) host: Option<HostIx>,
    pub(super) engine: Engine,
    /// What its kernel has, by instance: families.
    pub(super) held: BTreeMap<InstanceIx, [bool; 2]>,
    /// It has power, and its agent has not ended.
    runs: bool,
    pub(super) powered: bool,
}

/// What is on its way.
pub(super) enum Item {
    Advert {
        from: usize,
        to: usize,
        link: LinkIx,
        src: IpAddr,
        dst: IpAddr,
        payload: Arc<[u8]>,
    },
    Heartbeat {
        to: usize,
        path: PathIx,
        src: SocketAddr,
        payload: Arc<[u8]>,
    },
    Neighbour {
        to: usize,
        seen: NeighbourIn,
    },
    Applied {
        at: usize,
        own: Own,
    },
    Renewed {
        at: usize,
        order: u64,
    },
    Activated {
        at: usize,
        instance: InstanceIx,
        order: u64,
    },
    Reading {
        check: CheckIx,
        verdict: Verdict,
    },
    Stored {
        at: usize,
        instance: InstanceIx,
        reserved: u64,
    },
    /// It is time to look at copies of state files.
    Copies,
}

/// The play.
pub(super) struct Group {
    pub(super) actors: Vec<Actor>,
    pub(super) wires: Wires,
    now: Instant,
    /// What makes universal time of monotonic time.
    began: Now,
    queue: BTreeMap<(Instant, u32), Item>,
    sequence: u32,
    work: u32,
    readings: Option<(CheckIx, Verdict)>,
    /// Since then a host may take the address from an owner that it outranks, and has not.
    opened: Option<Instant>,
    pub(super) story: Story,
    pub(super) copies: Copies,
    supposed: Vec<Supposed>,
}

impl Group {
    /// `me` and the others as they are at `now`.
    pub(super) fn new(me: Engine, models: &[Model], now: Now) -> Self {
        let mut supposed = Vec::new();
        let stand_ins = cast(&me, models, now, &mut supposed);
        let broken: Vec<HostIx> = me
            .reporter
            .alarms
            .keys()
            .filter_map(|(_, alarm)| match alarm {
                super::super::io::Alarm::AdvertPathBroken(host) => Some(*host),
                _ => None,
            })
            .collect();
        let actor = |name, host, engine| Actor {
            name,
            host,
            held: held(&engine),
            engine,
            runs: true,
            powered: true,
        };
        let host = me.model.host;
        let mut actors = vec![actor(Arc::clone(me.model.host_name(host)), Some(host), me)];
        actors.extend(stand_ins.into_iter().map(|s| actor(s.name, s.host, s.engine)));
        let plays = |host: HostIx| actors.iter().position(|a| a.host == Some(host));
        let deaf = broken.into_iter().filter_map(plays).collect();
        Self {
            wires: Wires::new(&actors, deaf, now.mono),
            now: now.mono,
            began: now,
            queue: BTreeMap::new(),
            sequence: 0,
            work: 0,
            readings: None,
            opened: None,
            story: Story::default(),
            copies: Copies::default(),
            supposed,
            actors,
        }
    }

    /// Until nothing more comes of it.
    pub(super) fn play(mut self, what: &WhatIf) -> Prediction {
        self.meet();
        let begun = self.now;
        self.story.begin(begun, &self.actors);
        self.happen(what);
        let mut end = self.quiet_at();
        loop {
            self.run_until(end);
            if self.work >= WORK || end.since(begun) >= LONGEST {
                break;
            }
            // Whatever happened last may have more to come of it, as may a gate that opens.
            let next = self.quiet_at().max(self.gates_open());
            if next <= end {
                break;
            }
            end = next.min(begun + LONGEST);
        }
        let cut_short = self.work >= WORK || self.quiet_at() > self.now;
        if self.actors.len() > 1 {
            self.suppose_for(what);
        }
        let players = self
            .actors
            .iter()
            .map(|a| Player { name: Arc::clone(&a.name), model: Arc::clone(&a.engine.model) });
        Prediction {
            refused: None,
            operation: self.story.operation(),
            played: self.now.since(begun),
            cut_short,
            players: players.collect(),
            outcomes: self.outcomes(),
            alarms: std::mem::take(&mut self.story.alarms),
            supposed: self.supposed,
        }
    }

    fn suppose_for(&mut self, what: &WhatIf) {
        match what {
            WhatIf::Partition(_) => self.supposed.push(Supposed::TargetsOnBothSides),
            WhatIf::Check(..) => self.supposed.push(Supposed::ChecksElsewhere),
            _ => {}
        }
    }

    // Beginning -----------------------------------------------------------------------------------------------

    /// Everybody tells everybody what it is, twice: what it is, and that it hears the others.
    fn meet(&mut self) {
        let mut beat = Duration::ZERO;
        for n in 0..self.actors.len() {
            let engine = &mut self.actors[n].engine;
            if let Some(peers) = &engine.peers {
                beat = beat.max(peers.config.interval.duration());
                engine.set_slot(Slot::Heartbeat, self.now);
            }
            let waiting: Vec<Own> = engine.unconfirmed().collect();
            for own in waiting {
                self.after(KERNEL, Item::Applied { at: n, own });
            }
        }
        if self.begin_copies() {
            self.suppose(Supposed::CopiesFollow);
        }
        // The heartbeat of that time, and its way.
        self.run_until(self.now + beat + beat / 10 + KERNEL * 5);
    }

    /// The owners say so now: their adverts are as fresh as they can be when the event comes.
    fn adverts_of(&mut self, actor: usize) {
        let now = self.clock();
        let engine = &mut self.actors[actor].engine;
        engine.now = now;
        for u in 0..engine.units.len() {
            if engine.units[u].is_active() && engine.units[u].leaving.is_none() {
                let priority = engine.units[u].vr.params().priority;
                engine.advertise(u, priority);
            }
        }
        self.carry_out(actor);
        self.run_until(self.now + HOP);
    }

    fn happen(&mut self, what: &WhatIf) {
        match *what {
            WhatIf::PeerDead(host) => {
                if let Some(n) = self.actors.iter().position(|a| a.host == Some(host)) {
                    self.power_off(n);
                }
            }
            WhatIf::PowerOff => self.power_off(ME),
            WhatIf::LinkDown(link) => {
                let mut state = self.actors[ME].engine.links[usize::from(link.0)].state.clone();
                state.running = false;
                self.story.note(self.now, Fact::Unplugged(link));
                self.feed(ME, Input::Link { link, state });
            }
            WhatIf::Partition(link) => {
                (0..self.actors.len()).for_each(|n| self.adverts_of(n));
                self.wires.cut = Some(link.map_or(Cut::Everything, Cut::Link));
                self.story.begins_again(self.now);
            }
            WhatIf::Check(check, verdict) => {
                self.readings = Some((check, verdict));
                self.next_reading(check, verdict);
            }
            WhatIf::Stop => self.feed(ME, Input::Stop),
            WhatIf::Order(instance, order) => {
                self.feed(ME, Input::Order { id: OPERATION, instance, order });
            }
        }
    }

    fn power_off(&mut self, n: usize) {
        self.adverts_of(n);
        self.story.begins_again(self.now);
        self.actors[n].runs = false;
        self.actors[n].powered = false;
        self.actors[n].held.clear();
        self.story.note(self.now, Fact::Off(n));
    }

    fn next_reading(&mut self, check: CheckIx, verdict: Verdict) {
        let interval = self.actors[ME].engine.model.check(check).interval;
        self.after(interval, Item::Reading { check, verdict });
    }

    // Time ----------------------------------------------------------------------------------------------------

    fn clock(&self) -> Now {
        let passed = self.now.since(self.began.mono).as_nanos();
        let passed = u64::try_from((passed << 16) / 1_000_000_000).unwrap_or(0);
        Now { mono: self.now, utc: Utc(self.began.utc.0.saturating_add(passed)) }
    }

    pub(super) fn after(&mut self, d: Duration, item: Item) {
        self.sequence += 1;
        self.queue.insert((self.now + d, self.sequence), item);
    }

    fn run_until(&mut self, end: Instant) {
        while self.work < WORK {
            let running = (0..self.actors.len()).filter(|n| self.actors[*n].runs);
            let timer = running.map(|n| (self.actors[n].engine.deadline(), n)).min();
            let item = self.queue.first_key_value().map(|((at, _), _)| *at);
            match (item, timer) {
                // What was sent is read before timers act.
                (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    if let Some((_, item)) = self.queue.pop_first() {
                        self.arrive(item);
                    }
                }
                (_, Some((due, n))) if due <= end => {
                    self.now = self.now.max(due);
                    self.feed(n, Input::Timeout);
                }
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }

    /// From then on nothing more comes of what has happened so far.
    fn quiet_at(&self) -> Instant {
        let units = self.actors.iter().flat_map(|a| &a.engine.units);
        let slowest = units.map(|u| u.interval()).max().unwrap_or_default();
        let mut at = self.story.last() + slowest * 4 + Duration::from_secs(2);
        if let Some((check, verdict)) = self.readings {
            let me = &self.actors[ME].engine;
            let config = me.model.check(check);
            let rounds = config.fall.max(config.rise).max(3) + 1;
            let settled = me.checks.states[usize::from(check.0)].settled() == Some(verdict);
            if !settled {
                at = at.max(self.story.begun() + config.interval * rounds);
            }
        }
        if self.story.operates() {
            at = at.max(self.now + slowest);
        }
        at
    }

    /// When the last gate opens that keeps a host from an owner that it outranks, and the way from there.
    fn gates_open(&mut self) -> Instant {
        let mut at = Instant::ZERO;
        let mut open = false;
        for actor in self.actors.iter().filter(|a| a.runs) {
            for (u, unit) in actor.engine.units.iter().enumerate() {
                let weaker =
                    unit.vr.heard().is_some_and(|h| h.priority < unit.vr.params().priority);
                if unit.state() != State::Backup || !weaker {
                    continue;
                }
                let way = unit.interval() * 5;
                match actor.engine.preempt_gate(u) {
                    Some(Closed::Delay(opens) | Closed::HoldDown(opens))
                        if opens != Instant::MAX =>
                    {
                        at = at.max(opens + way);
                    }
                    Some(Closed::OwnerBrings(_)) | None => {
                        // What keeps it for longer than that way is no gate.
                        open = true;
                        at = at.max(self.opened.unwrap_or(self.now) + way);
                    }
                    Some(_) => {}
                }
            }
        }
        self.opened = open.then(|| self.opened.unwrap_or(self.now));
        at
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn running(&self, n: usize) -> bool {
        self.actors[n].runs
    }

    // Inputs and outputs --------------------------------------------------------------------------------------

    pub(super) fn feed(&mut self, n: usize, input: Input<'_>) {
        let now = self.clock();
        self.work += 1;
        self.actors[n].engine.handle(now, input);
        self.carry_out(n);
    }

    fn carry_out(&mut self, n: usize) {
        let now = self.clock();
        while let Some(output) = self.actors[n].engine.poll_output() {
            match output {
                Output::Send(transmit) => {
                    let accepted = self.plugged(n, transmit.link);
                    let router = transmit.router;
                    if accepted {
                        self.send_advert(n, transmit);
                    }
                    self.actors[n].engine.handle(now, Input::Sent { router, accepted });
                }
                Output::Heartbeat(out) => self.send_heartbeat(n, out),
                Output::Announce(announce) => self.announce(n, &announce),
                Output::Probe(probe) => self.ask(n, &probe),
                Output::Own(own) => self.after(KERNEL, Item::Applied { at: n, own }),
                Output::Renew(renew) => {
                    self.after(KERNEL, Item::Renewed { at: n, order: renew.order });
                }
                Output::Activate { instance, order } => {
                    self.suppose(Supposed::Activates(Arc::clone(&self.actors[n].name)));
                    self.after(KERNEL, Item::Activated { at: n, instance, order });
                }
                Output::PrePromote { instance, order, .. } => {
                    self.suppose(Supposed::Agrees(Arc::clone(&self.actors[n].name)));
                    let agreed = Input::PrePromoted { instance, order, result: Ok(()) };
                    self.actors[n].engine.handle(now, agreed);
                }
                Output::Barrier { instance, order, .. } => {
                    self.suppose(Supposed::Agrees(Arc::clone(&self.actors[n].name)));
                    let reached = Input::BarrierDone { instance, order, result: Ok(()) };
                    self.actors[n].engine.handle(now, reached);
                }
                Output::NotPromoted { .. } | Output::BarrierOver { .. } | Output::Reloaded(_) => {}
                Output::Event(event) => self.told(n, event),
            }
        }
        if self.actors[n].engine.stopped() {
            self.actors[n].runs = false;
        }
    }

    fn suppose(&mut self, what: Supposed) {
        if !self.supposed.contains(&what) {
            self.supposed.push(what);
        }
    }

    fn told(&mut self, n: usize, event: Event) {
        match event.kind {
            EventKind::Transition { from, to, cause, .. } => {
                let Some(ix) = event.instance else { return };
                let key = self.actors[n].engine.model.instance(ix).key;
                let fact =
                    Fact::Transition { player: n, key, family: event.family, from, to, cause };
                self.story.note(self.now, fact);
            }
            EventKind::Operation { id: OPERATION, step } if n == ME => match step {
                OperationStep::Done(text) => {
                    self.story.note(self.now, Fact::Ended { done: true, text });
                }
                OperationStep::Aborted(text) => {
                    self.story.note(self.now, Fact::Ended { done: false, text });
                }
                OperationStep::Started => self.story.operation_started(),
                OperationStep::Progress(_) => {}
            },
            EventKind::Alarm(alarm, true) => self.story.alarm(self.now, n, event.instance, alarm),
            EventKind::Check { .. } if n == ME => self.story.note(self.now, Fact::Checked),
            EventKind::Remember(memory) => {
                if let Some(ix) = event.instance {
                    self.store(n, ix, memory.epoch.reserved);
                }
            }
            _ => {}
        }
    }

    fn arrive(&mut self, item: Item) {
        match item {
            Item::Advert { from, to, link, src, dst, payload } => {
                if self.actors[to].runs && self.plugged(to, link) && !self.deaf_to(from, to) {
                    let age = Duration::ZERO;
                    let packet = Packet { link, src, dst, ttl: 255, payload: &payload, age };
                    self.feed(to, Input::Packet(packet));
                }
            }
            Item::Heartbeat { to, path, src, payload } => {
                if self.actors[to].runs {
                    let age = Duration::ZERO;
                    self.feed(
                        to,
                        Input::Heartbeat(HeartbeatIn { path, src, payload: &payload, age }),
                    );
                }
            }
            Item::Neighbour { to, seen } => {
                if self.actors[to].runs && self.plugged(to, seen.link) {
                    self.feed(to, Input::Neighbour(seen));
                }
            }
            Item::Applied { at, own } => self.applied(at, &own),
            Item::Renewed { at, order } => {
                if self.actors[at].runs {
                    let renewed = Renewed { order, at: self.now, failed: Vec::new() };
                    self.feed(at, Input::Renewed(renewed));
                }
            }
            Item::Activated { at, instance, order } => {
                if self.actors[at].runs {
                    self.feed(at, Input::Activated { instance, order, result: Ok(()) });
                }
            }
            Item::Stored { at, instance, reserved } => {
                if self.actors[at].runs {
                    self.feed(at, Input::Stored { instance, reserved, result: Ok(()) });
                }
            }
            Item::Copies => self.copies_follow(),
            Item::Reading { check, verdict } => {
                let reading = Reading { verdict, detail: "supposed".into(), took: Duration::ZERO };
                if self.actors[ME].runs {
                    self.feed(ME, Input::Check { check, reading });
                    self.next_reading(check, verdict);
                }
            }
        }
    }

    /// The kernel has done it.
    fn applied(&mut self, n: usize, own: &Own) {
        if !self.actors[n].powered {
            return;
        }
        let ix = own.instance;
        let families = match own.want {
            Want::Hold { families, .. } => families,
            Want::Free => [false; 2],
        };
        let key = self.actors[n].engine.model.instance(ix).key;
        self.actors[n].held.insert(ix, families);
        self.story.note(self.now, Fact::Holds { player: n, key, families });
        if self.actors[n].runs {
            let applied = Applied { instance: ix, order: own.order, at: self.now, result: Ok(()) };
            self.feed(n, Input::Applied(applied));
        }
    }
}

/// What the kernel of this host has now, as far as its agent knows.
fn held(engine: &Engine) -> BTreeMap<InstanceIx, [bool; 2]> {
    let mut held = BTreeMap::new();
    for unit in engine.units.iter().filter(|unit| unit.keeps_addresses()) {
        let families: &mut [bool; 2] = held.entry(unit.instance).or_default();
        for voice in &unit.voices {
            families[voice.family as usize] = true;
        }
    }
    held
}
