//! All instances of this host: one call in, data out, ONE deadline.
//!
//! Contract: [`Engine::handle`] with one [`Input`], then [`Engine::poll_output`] until `None`, then sleep until
//! [`Engine::deadline`]. [`Input::Timeout`] is given only after every socket was drained (DESIGN 5.3), or after
//! [`Engine::set_read_until`] has said how far. The engine never blocks, never looks at a clock and never forgets an
//! input; the same inputs give the same outputs.
//!
//! Called by the runtime's protocol thread, the simulation and the fuzzer.
//!
//! Rooms: `unit` what is elected (one virtual router, or both families in shared fate); `adverts` packets in and
//! out; `claim` becoming and ceasing to be owner; `stale` and `silence` what has to be known before a claim after
//! silence; `holding` what the kernel holds; `lease` its lifetimes; `leave` the clean stop, `yielding` what stays
//! for a better host; `late` slow kernels; `fitness` checks, class and
//! priority; `flap` penalties and the move budget; `offer` how an unfit owner lets go; `standby` warm and cold;
//! `promotion` whether an operator's would succeed; `epoch` who owns under which number, `replica` is the copy good enough;
//! `operate` what operators order; `reload` another configuration; `restart` what precedes a planned start of the agent,
//! `resume` what follows it;
//! `peers` and `heartbeats` in and out; `link` interfaces and their neighbours; `sync` groups; `report` events and
//! limits; `snapshot` what status shows, `explain` why it is so; `simulate` what would happen.

mod adverts;
mod agenda;
mod claim;
mod epoch;
pub mod explain;
mod fitness;
mod flap;
mod heartbeats;
mod holding;
pub mod io;
mod late;
mod lease;
mod leave;
mod link;
mod offer;
mod operate;
mod peers;
mod prepare;
mod promotion;
pub mod reload;
mod replica;
mod report;
mod restart;
mod resume;
mod silence;
pub mod simulate;
pub mod snapshot;
mod stale;
mod standby;
mod sync;
mod unit;
mod yielding;

use crate::config::model::Model;
use crate::policy::replica::Copy;
use crate::time::{Duration, Instant, Now};
use crate::types::{Family, InstanceIx, LinkIx, RouterId, Vrid};
use crate::wire::auth::KeyRing;
use crate::wire::receive::GlobalCounters;
use agenda::Agenda;
use epoch::Epochs;
use fitness::{Checks, Fitness};
use flap::Ownership;
use holding::Holding;
use io::{Input, Output};
use lease::RenewClock;
use link::Link;
use operate::{Closing, Orders};
use peers::Peers;
use reload::Retirement;
use report::Reporter;
use restart::Preparing;
use standby::StandbyState;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use sync::Groups;
use unit::Unit;

/// Secrets, read from their files by the edge. Never printed.
#[derive(Clone, Default)]
pub struct Secrets {
    /// The cluster key; needed when the model has heartbeats.
    pub cluster_key: Option<Vec<u8>>,
    /// Trailer keys, one entry per instance of the model.
    pub trailers: Vec<Option<KeyRing>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// Position of a unit in [`Engine::units`].
type UnitIx = usize;

/// The engine of one host.
#[derive(Clone)]
pub struct Engine {
    model: Arc<Model>,
    /// Number of this start.
    boot: u64,
    /// Boot counter and sequence of the last heartbeat, while a reload has switched them off.
    numbered: Option<(u64, u64)>,
    now: Now,
    /// All adverts that arrived before this were given to the engine; [`Instant::MAX`]: none waits.
    read_until: Instant,
    started: Instant,
    outputs: VecDeque<Output>,
    agenda: Agenda,
    links: Vec<Link>,
    units: Vec<Unit>,
    /// Which unit and which of its voices speaks for a VRID.
    routers: BTreeMap<(LinkIx, Family, Vrid), (UnitIx, usize)>,
    /// The units of each instance.
    by_instance: Vec<Vec<UnitIx>>,
    /// Which instance of this host a heartbeat speaks of.
    by_key: BTreeMap<u64, InstanceIx>,
    /// Whose virtual address it is.
    by_addr: BTreeMap<(LinkIx, IpAddr), InstanceIx>,
    /// The shortest advert interval.
    fastest: Duration,
    holdings: Vec<Holding>,
    groups: Groups,
    checks: Checks,
    /// By instance.
    fitness: Vec<Fitness>,
    /// Instances whose class is not `healthy`, as last told.
    unwell: usize,
    /// By instance: who owned last.
    ownership: Vec<Ownership>,
    /// By instance.
    standby: Vec<StandbyState>,
    /// By instance.
    epochs: Vec<Epochs>,
    /// Instances whose state follows the address.
    stateful: Vec<InstanceIx>,
    /// By set of state files.
    copies: Vec<Copy>,
    orders: Orders,
    renew: RenewClock,
    peers: Option<Peers>,
    global: GlobalCounters,
    reporter: Reporter,
    /// A clean stop was asked for.
    stopping: bool,
    /// They leave because another configuration comes.
    retiring: Retirement,
    /// It was asked for, and state is brought to a successor first.
    closing: Option<Closing>,
    /// Nothing is adopted, and nothing claimed before this time: the agent kept crashing, or died while leaving.
    backup_until: Option<Instant>,
    /// A restart of the agent is near.
    preparing: Option<Preparing>,
    /// The agent before this one said then what this one goes on with.
    resumed_from: Option<Instant>,
    /// Timers have run: what the kernel has was read before.
    begun: bool,
}

impl Engine {
    /// An engine in Initialize everywhere: it takes part as soon as links are reported. `boot` is this start's
    /// number, higher than at every earlier start of this host.
    pub fn new(model: Arc<Model>, secrets: Secrets, boot: u64, now: Now) -> Self {
        let mut units = Vec::new();
        let mut routers = BTreeMap::new();
        let mut by_instance = Vec::new();
        let mut by_key = BTreeMap::new();
        let mut by_addr = BTreeMap::new();
        for (ix, instance) in model.iter() {
            let ring = secrets.trailers.get(usize::from(ix.0)).and_then(Option::as_ref);
            by_key.insert(instance.key, ix);
            by_addr.extend(instance.claimed().map(|v| ((instance.link, v.addr), ix)));
            let first = units.len();
            for unit in Unit::of(ix, instance, ring, now.mono) {
                for (v, voice) in unit.voices.iter().enumerate() {
                    routers.insert((instance.link, voice.family, instance.vrid), (units.len(), v));
                }
                units.push(unit);
            }
            by_instance.push((first..units.len()).collect());
        }
        let fastest = units.iter().map(Unit::interval).min().unwrap_or(Duration::MAX);
        let peers = Peers::new(&model, &secrets, boot);
        let slots = units.len() + Slot::FIXED;
        let mut engine = Self {
            links: model.links.iter().map(Link::new).collect(),
            holdings: model.instances.iter().map(Holding::new).collect(),
            groups: Groups::new(&model, &units),
            checks: Checks::new(&model, now.mono),
            unwell: 0,
            fitness: model.instances.iter().map(Fitness::new).collect(),
            ownership: vec![Ownership::default(); model.instances.len()],
            standby: vec![StandbyState::default(); model.instances.len()],
            epochs: vec![Epochs::default(); model.instances.len()],
            stateful: model
                .iter()
                .map(|(ix, _)| ix)
                .filter(|ix| model.barrier(*ix).is_some())
                .collect(),
            copies: vec![Copy::default(); model.replicates.len()],
            orders: Orders::new(&model),
            renew: RenewClock::default(),
            agenda: Agenda::new(slots),
            started: now.mono,
            outputs: VecDeque::new(),
            reporter: Reporter::default(),
            global: GlobalCounters::default(),
            stopping: false,
            retiring: Retirement::default(),
            closing: None,
            backup_until: None,
            preparing: None,
            resumed_from: None,
            begun: false,
            model,
            boot,
            numbered: None,
            now,
            read_until: Instant::MAX,
            units,
            routers,
            by_instance,
            by_key,
            by_addr,
            fastest,
            peers,
        };
        engine.first_judgement();
        if engine.peers.is_some() {
            engine.set_slot(Slot::Heartbeat, now.mono);
        }
        engine
    }

    /// Starts as Backup whatever is found on the interfaces, and claims nothing before `until` (DESIGN 5.7). To be
    /// called before the first input.
    pub fn start_as_backup(&mut self, until: Instant) {
        self.backup_until = Some(until);
    }

    /// Says how far the sockets were read before the next [`Input::Timeout`]: every advert that arrived earlier was given
    /// in; [`Instant::MAX`]: none waits. Under a flood timers run all the same, but silence is judged by what was read.
    pub fn set_read_until(&mut self, read_until: Instant) {
        self.read_until = read_until;
    }

    /// Takes one input. `now` must not be earlier than in the last call.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.now = Now { mono: now.mono.max(self.now.mono), utc: now.utc };
        self.notice_oversleep();
        match input {
            Input::Timeout => self.run_due(),
            Input::Packet(packet) => self.on_packet(&packet),
            Input::Heartbeat(heartbeat) => self.on_heartbeat(&heartbeat),
            Input::Neighbour(neighbour) => self.on_neighbour(&neighbour),
            Input::Sent { router, accepted } => self.on_sent(router, accepted),
            Input::Link { link, state } => self.on_link(link, state),
            Input::Addresses { link, present } => self.on_addresses(link, present),
            Input::AddressAdded { link, addr } => self.on_address_added(link, &addr),
            Input::AddressRemoved { link, addr } => self.on_address_removed(link, addr),
            Input::FrameSeen(link) => self.on_frame_seen(link),
            Input::Applied(applied) => self.on_applied(&applied),
            Input::Renewed(renewed) => self.on_renewed(&renewed),
            Input::Check { check, reading } => self.on_check(check, &reading),
            Input::Activated { instance, order, result } => {
                self.on_activated(instance, order, result);
            }
            Input::PrePromoted { instance, order, result } => {
                self.on_prepared(instance, order, result);
            }
            Input::BarrierDone { instance, order, result } => {
                self.on_barrier_done(instance, order, result);
            }
            Input::Replica { set, state } => self.on_replica(set, state),
            Input::Stored { instance, reserved, result } => {
                self.on_stored(instance, reserved, &result);
            }
            Input::Order { id, instance, order } => self.on_order(id, instance, order),
            Input::PrepareRestart => self.prepare_restart(),
            Input::AbortRestart => self.abort_restart(),
            Input::Retire(model) => self.retire(&model),
            Input::Reload(model, secrets) => self.reload(&model, secrets),
            Input::Stop => self.on_stop(),
        }
        self.close();
        self.follow_retirement();
        self.follow_epochs();
        self.tell_peers_if_urgent();
    }

    /// The next thing to do, in order; `None`: sleep until [`Engine::deadline`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Timeout`] at the latest; [`Instant::MAX`]: only on other inputs.
    pub fn deadline(&self) -> Instant {
        self.agenda.next()
    }

    /// True once a clean stop has finished: nothing is owned, nothing is left to say.
    pub fn stopped(&self) -> bool {
        self.stopping
            && self.units.iter().all(|u| u.leaving.is_none() && !u.is_active())
            && self.holdings.iter().all(Holding::is_empty)
    }

    /// Is this interface waiting for its first frame ([`Input::FrameSeen`])?
    pub fn settling(&self, link: LinkIx) -> bool {
        self.links[usize::from(link.0)].settling(self.now.mono)
    }

    fn run_due(&mut self) {
        let now = self.now.mono;
        self.begun = true;
        while let Some(slot) = self.agenda.take(now) {
            match Slot::of(slot, self.units.len()) {
                Slot::Unit(u) => self.unit_due(u),
                Slot::Heartbeat => self.heartbeat_due(),
                Slot::Renew => self.renew_due(),
                Slot::Reach => self.reach_due(),
                Slot::Alarms => self.alarms_due(),
                Slot::Restart => self.restart_due(),
                Slot::Orders => self.orders_due(),
            }
        }
    }

    fn set_slot(&mut self, slot: Slot, at: Instant) {
        let n = slot.index(self.units.len());
        self.agenda.set(n, at);
    }

    /// Puts the unit's next deadline into the agenda; to be called after whatever touched its timers.
    fn rearm(&mut self, u: UnitIx) {
        let at = self.unit_deadline(u);
        self.set_slot(Slot::Unit(u), at);
    }

    fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn router_id(&self, u: UnitIx, family: Family) -> RouterId {
        RouterId { instance: self.units[u].instance, family }
    }

    /// The units of an instance: at most one per family, so the copy is small.
    fn units_of(&self, instance: InstanceIx) -> Vec<UnitIx> {
        self.by_instance[usize::from(instance.0)].clone()
    }
}

/// Who wants to be called.
enum Slot {
    Unit(UnitIx),
    Heartbeat,
    Renew,
    Reach,
    Alarms,
    Restart,
    Orders,
}

impl Slot {
    const FIXED: usize = 6;

    fn index(&self, units: usize) -> usize {
        match self {
            Self::Heartbeat => units,
            Self::Renew => units + 1,
            Self::Reach => units + 2,
            Self::Alarms => units + 3,
            Self::Orders => units + 4,
            Self::Restart => units + 5,
            Self::Unit(u) => *u,
        }
    }

    fn of(index: usize, units: usize) -> Self {
        match index.checked_sub(units) {
            None => Self::Unit(index),
            Some(0) => Self::Heartbeat,
            Some(1) => Self::Renew,
            Some(2) => Self::Reach,
            Some(3) => Self::Alarms,
            Some(4) => Self::Orders,
            Some(_) => Self::Restart,
        }
    }
}
