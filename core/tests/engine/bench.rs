//! One engine with a kernel that does what it is told, and everything that the engine said.

use std::net::IpAddr;
use std::sync::Arc;
use vipd_core::config::{load, model::Model};
use vipd_core::engine::io::{
    Alarm, Announce, Applied, Cause, Event, EventKind, HeartbeatOut, Input, KernelAddr,
    KernelFault, LinkState, NeighbourIn, Output, Own, Packet, Probe, Renew, Renewed, Transmit,
    Want,
};
use vipd_core::engine::snapshot::{Snapshot, UnitView};
use vipd_core::engine::{Engine, Secrets};
use vipd_core::time::{Duration, Instant, Now, Utc};
use vipd_core::types::{Family, IfIndex, InstanceIx, LinkIx, Mac, State};
use vipd_core::wire::vrrp::Advert;

/// The one service interface of most tests.
pub(crate) const ETH0: LinkIx = LinkIx(0);
/// The instance of most tests.
pub(crate) const WEB: InstanceIx = InstanceIx(0);
/// Its IPv4 address.
pub(crate) const VIP: &str = "192.0.2.10";
/// When every bench begins: not at the start of the clock, so that "long ago" exists.
const START: Instant = Instant::from_millis(100_000);
/// Universal time at the start of the monotonic clock, in 2^-16 s.
const UTC0: u64 = 1_700_000_000 << 16;

/// A group of three without heartbeats; `more` goes into the instance.
pub(crate) fn plain(more: &str) -> String {
    group("", more)
}

/// The same with heartbeats on two networks.
pub(crate) fn beating(more: &str) -> String {
    group("paths", more)
}

/// A second instance, `zoo`, with the ranks of `web` and on an interface of its own.
pub(crate) const ZOO: &str = "\
    [instance.zoo]\nvrid = 52\ninterface = \"eth1\"\naddresses = [\"198.51.100.10/24\"]\n\
    priority = { lb1 = 150, lb2 = 100, lb3 = 50 }\npreempt-delay = \"0s\"\nhold-down = \"0s\"\nsettle = \"off\"\n";

/// Both move together.
pub(crate) const TOGETHER: &str = "[sync.all]\ninstances = [\"web\", \"zoo\"]\n";

fn group(paths: &str, more: &str) -> String {
    let host = |n: u8| match paths {
        "" => format!("[hosts.lb{n}]\n"),
        _ => format!("[hosts.lb{n}]\n{paths} = [\"192.0.2.1{n}\", \"10.9.0.1{n}\"]\n"),
    };
    let mut text = String::from("[cluster]\nname = \"shop\"\nkey-file = \"/k\"\n");
    if paths.is_empty() {
        text.clear();
    }
    (1..=3).for_each(|n| text += &host(n));
    text += "[instance.web]\nvrid = 51\ninterface = \"eth0\"\n";
    for (key, default) in [
        ("addresses", "[\"192.0.2.10/24\"]"),
        ("priority", "{ lb1 = 150, lb2 = 100, lb3 = 50 }"),
        ("advert-interval", "\"1s\""),
        ("preempt-delay", "\"0s\""),
        ("hold-down", "\"0s\""),
        ("settle", "\"off\""),
    ] {
        if !more.lines().take_while(|l| !l.starts_with('[')).any(|l| l.starts_with(key)) {
            text += &format!("{key} = {default}\n");
        }
    }
    text + more
}

/// The configuration as `host` sees it.
pub(crate) fn model(text: &str, host: &str) -> Model {
    match load(text, "vipd.toml", host) {
        Ok((model, _)) => model,
        Err(errors) => panic!("{errors:#?}\n{text}"),
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Hardware address of host `n`.
pub(crate) fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

/// eth0 of host `n`: 192.0.2.1n and fe80::1n.
pub(crate) fn eth0(n: u8) -> LinkState {
    LinkState {
        index: IfIndex::new(2),
        running: true,
        mac: mac(n),
        mtu: 1500,
        addrs: vec![ip(&format!("192.0.2.1{n}")), ip(&format!("fe80::1{n}"))],
        gateways: Vec::new(),
    }
}

/// Something that the engine said.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Advert(Transmit, Advert),
    Beat(HeartbeatOut),
    Announce(Announce),
    Probe(Probe),
    Own(Own),
    Renew(Renew),
    Activate(vipd_core::types::InstanceIx, u64),
    PrePromote(vipd_core::types::InstanceIx, u64, Option<vipd_core::types::HostIx>),
    NotPromoted(vipd_core::types::InstanceIx, u64),
    Barrier(InstanceIx, u64, vipd_core::types::HostIx),
    BarrierOver(u64, bool),
    Event(Event),
}

/// What the kernel does with orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Orders {
    /// Carries them out at once.
    Done,
    /// Refuses claims and renewals.
    Failed(KernelFault),
    /// Says nothing; the test does.
    Pending,
}

/// One host.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) model: Arc<Model>,
    pub(crate) now: Instant,
    /// Everything said, with its time.
    pub(crate) log: Vec<(Instant, Said)>,
    /// Does sendmsg take adverts?
    pub(crate) sends: bool,
    pub(crate) orders: Orders,
    /// Which interface state it came up with.
    n: u8,
}

impl Bench {
    /// Host `n` of the group in `text`, its interfaces not yet reported.
    pub(crate) fn down(text: &str, n: u8) -> Self {
        Self::of(model(text, &format!("lb{n}")), n, vec![])
    }

    /// Of a finished model.
    pub(crate) fn of(
        model: Model,
        n: u8,
        trailers: Vec<Option<vipd_core::wire::auth::KeyRing>>,
    ) -> Self {
        Self::started(model, n, trailers, START)
    }

    /// As [`Bench::down`], started later.
    pub(crate) fn down_at(text: &str, n: u8, at: Instant) -> Self {
        Self::started(model(text, &format!("lb{n}")), n, vec![], at)
    }

    fn started(
        model: Model,
        n: u8,
        trailers: Vec<Option<vipd_core::wire::auth::KeyRing>>,
        at: Instant,
    ) -> Self {
        let model = Arc::new(model);
        let cluster_key = model.heartbeat.is_some().then(|| vec![0x5a; 32]);
        let secrets = Secrets { cluster_key, trailers };
        let engine = Engine::new(Arc::clone(&model), secrets, 1, Self::stamp(at));
        Self { engine, model, now: at, log: Vec::new(), sends: true, orders: Orders::Done, n }
    }

    /// Host `n` with its interfaces up and nothing on them.
    pub(crate) fn up(text: &str, n: u8) -> Self {
        let mut bench = Self::down(text, n);
        bench.link_up();
        bench
    }

    /// Host `n` as owner: the others are silent. The log is empty.
    pub(crate) fn owner(text: &str, n: u8) -> Self {
        let mut bench = Self::up(text, n);
        bench.become_owner();
        bench
    }

    pub(crate) fn become_owner(&mut self) {
        let patience = self.model.instances[0].interval.duration() * 5;
        let end = self.now + patience;
        while self.state() != State::Active && self.engine.deadline() <= end {
            self.step();
        }
        assert_eq!(self.state(), State::Active, "nobody else is there");
        self.log.clear();
    }

    pub(crate) fn link_up(&mut self) {
        for link in 0..self.model.links.len() {
            let link = LinkIx(u16::try_from(link).unwrap());
            self.give(Input::Link { link, state: eth0(self.n) });
            self.give(Input::Addresses { link, present: &[] });
        }
    }

    pub(crate) fn stamp(at: Instant) -> Now {
        let whole = u128::from(at.as_nanos()) << 16;
        Now { mono: at, utc: Utc(UTC0 + u64::try_from(whole / 1_000_000_000).unwrap()) }
    }

    /// Hands over one input and does what comes out of it.
    pub(crate) fn give(&mut self, input: Input<'_>) {
        self.engine.handle(Self::stamp(self.now), input);
        while let Some(output) = self.engine.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.now;
        let stamp = Self::stamp(now);
        let (said, answer) = match output {
            Output::Send(t) => {
                let answer = Input::Sent { router: t.router, accepted: self.sends };
                let advert = self.decode(&t);
                (Said::Advert(t, advert), Some(answer))
            }
            Output::Own(own) => {
                let result = match (&self.orders, &own.want) {
                    (Orders::Pending, _) => None,
                    (Orders::Failed(fault), Want::Hold { .. }) => Some(Err(fault.clone())),
                    _ => Some(Ok(())),
                };
                let (instance, order) = (own.instance, own.order);
                let applied = |result| Applied { instance, order, at: now, result };
                (Said::Own(own), result.map(applied).map(Input::Applied))
            }
            Output::Renew(renew) => {
                let order = renew.order;
                let failed = match &self.orders {
                    Orders::Pending => None,
                    Orders::Failed(f) => {
                        Some(renew.instances.iter().map(|(ix, _)| (*ix, f.clone())).collect())
                    }
                    Orders::Done => Some(Vec::new()),
                };
                let renewed = |failed| Input::Renewed(Renewed { order, at: now, failed });
                (Said::Renew(renew), failed.map(renewed))
            }
            Output::Heartbeat(beat) => (Said::Beat(beat), None),
            Output::Announce(a) => (Said::Announce(a), None),
            Output::Probe(p) => (Said::Probe(p), None),
            Output::Activate { instance, order } => (Said::Activate(instance, order), None),
            Output::PrePromote { instance, order, from } => {
                (Said::PrePromote(instance, order, from), None)
            }
            Output::NotPromoted { instance, order } => (Said::NotPromoted(instance, order), None),
            Output::Barrier { instance, order, to, .. } => {
                (Said::Barrier(instance, order, to), None)
            }
            Output::BarrierOver { order, moved, .. } => (Said::BarrierOver(order, moved), None),
            Output::Event(e) => (Said::Event(e), None),
            Output::Reloaded(model) => {
                self.model = model;
                return;
            }
        };
        self.log.push((now, said));
        if let Some(answer) = answer {
            self.engine.handle(stamp, answer);
        }
    }

    fn decode(&self, t: &Transmit) -> Advert {
        let instance = self.model.instance(t.router.instance);
        let version = instance.version_in(t.router.family);
        let first = t.payload.first().expect("an advert has a destination");
        let count = usize::from(first[3]);
        let len = vipd_core::wire::vrrp::message_len(version, t.router.family, count);
        Advert::decode(version, t.router.family, &first[..len]).expect("our own advert")
    }

    /// Lets time pass for `d`, serving every deadline.
    pub(crate) fn run(&mut self, d: Duration) {
        let end = self.now + d;
        let mut rounds = 0;
        while self.engine.deadline() <= end {
            self.step();
            rounds += 1;
            assert!(rounds < 1_000_000, "the engine spins at {}", self.now);
        }
        self.now = end;
    }

    /// Serves the next deadline.
    pub(crate) fn step(&mut self) {
        self.now = self.now.max(self.engine.deadline());
        self.give(Input::Timeout);
    }

    /// The process stands still for `d`: nothing is served.
    pub(crate) fn stand_still(&mut self, d: Duration) {
        self.now += d;
    }

    /// An advert of this instance from 192.0.2.1`n` (IPv6: fe80::1`n`).
    pub(crate) fn hear(&mut self, n: u8, priority: u8) {
        self.hear_advert(&self.advert(Family::V4, priority), &format!("192.0.2.1{n}"));
    }

    pub(crate) fn hear6(&mut self, n: u8, priority: u8) {
        self.hear_advert(&self.advert(Family::V6, priority), &format!("fe80::1{n}"));
    }

    /// What another host of the group would send.
    pub(crate) fn advert(&self, family: Family, priority: u8) -> Advert {
        let instance = &self.model.instances[0];
        Advert {
            version: instance.version_in(family),
            vrid: instance.vrid,
            priority,
            interval: instance.interval,
            addresses: instance.advertised(family).map(|v| v.addr).collect(),
            simple_text: None,
        }
    }

    pub(crate) fn hear_advert(&mut self, advert: &Advert, src: &str) {
        self.hear_late(advert, src, Duration::ZERO);
    }

    /// An advert that arrived in the kernel `age` ago.
    pub(crate) fn hear_late(&mut self, advert: &Advert, src: &str, age: Duration) {
        let src = ip(src);
        let dst = Family::of(&src).group();
        let payload = advert.encode(src, dst, self.model.instances[0].checksum);
        self.hear_bytes(src, dst, 255, &payload, age);
    }

    pub(crate) fn hear_bytes(
        &mut self,
        src: IpAddr,
        dst: IpAddr,
        ttl: u8,
        payload: &[u8],
        age: Duration,
    ) {
        self.give(Input::Packet(Packet { link: ETH0, src, dst, ttl, payload, age }));
    }

    /// Begins to put another file in force.
    pub(crate) fn retire(&mut self, text: &str) -> Arc<Model> {
        let next = Arc::new(model(text, &format!("lb{}", self.n)));
        self.give(Input::Retire(Arc::clone(&next)));
        next
    }

    /// Puts it in force.
    pub(crate) fn put_in_force(&mut self, next: Arc<Model>) {
        assert!(self.engine.retired(), "before everything that goes is gone");
        let cluster_key = next.heartbeat.is_some().then(|| vec![0x5a; 32]);
        let trailers = next.instances.iter().map(|_| None).collect();
        self.give(Input::Reload(next, Secrets { cluster_key, trailers }));
    }

    /// The whole reload of a file that changes nothing hard.
    pub(crate) fn reload(&mut self, text: &str) {
        let next = self.retire(text);
        self.put_in_force(next);
    }

    /// Somebody with `mac` answers or announces `addr`.
    pub(crate) fn neighbour(&mut self, addr: &str, mac: Mac, reply: bool) {
        self.give(Input::Neighbour(NeighbourIn { link: ETH0, addr: ip(addr), mac, reply }));
    }

    pub(crate) fn removed(&mut self, addr: &str) {
        self.give(Input::AddressRemoved { link: ETH0, addr: ip(addr) });
    }

    /// The result of the newest order.
    pub(crate) fn applied(&mut self, result: Result<(), KernelFault>) {
        let order = self.owns().last().expect("an order").1.clone();
        let (instance, order) = (order.instance, order.order);
        self.give(Input::Applied(Applied { instance, order, at: self.now, result }));
    }

    /// The order of this number was carried out.
    pub(crate) fn applied_order(&mut self, order: u64) {
        let instance = WEB;
        self.give(Input::Applied(Applied { instance, order, at: self.now, result: Ok(()) }));
    }

    pub(crate) fn dump(&mut self, present: &[KernelAddr]) {
        self.give(Input::Addresses { link: ETH0, present });
    }

    // What it is.

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.engine.snapshot(self.now)
    }

    pub(crate) fn unit(&self) -> UnitView {
        self.snapshot().units[0].clone()
    }

    pub(crate) fn state(&self) -> State {
        self.unit().state
    }

    /// Time until it would claim.
    pub(crate) fn claims_in(&self) -> Duration {
        self.unit().next_claim.expect("a Backup").0
    }

    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        self.snapshot().alarms.into_iter().map(|(_, a)| a).collect()
    }

    // What it said.

    fn pick<T>(&self, which: impl Fn(&Said) -> Option<T>) -> Vec<(Instant, T)> {
        self.log.iter().filter_map(|(at, said)| Some((*at, which(said)?))).collect()
    }

    pub(crate) fn adverts(&self) -> Vec<(Instant, Advert)> {
        self.pick(|s| if let Said::Advert(_, a) = s { Some(a.clone()) } else { None })
    }

    pub(crate) fn priorities(&self) -> Vec<u8> {
        self.adverts().into_iter().map(|(_, a)| a.priority).collect()
    }

    pub(crate) fn sent(&self) -> Vec<Transmit> {
        let all = self.pick(|s| if let Said::Advert(t, _) = s { Some(t.clone()) } else { None });
        all.into_iter().map(|(_, t)| t).collect()
    }

    pub(crate) fn announced(&self) -> Vec<(Instant, Announce)> {
        self.pick(|s| if let Said::Announce(a) = s { Some(*a) } else { None })
    }

    pub(crate) fn probes(&self) -> Vec<(Instant, Probe)> {
        self.pick(|s| if let Said::Probe(p) = s { Some(*p) } else { None })
    }

    pub(crate) fn owns(&self) -> Vec<(Instant, Own)> {
        self.pick(|s| if let Said::Own(o) = s { Some(o.clone()) } else { None })
    }

    pub(crate) fn holds(&self) -> usize {
        self.owns().iter().filter(|(_, o)| o.want != Want::Free).count()
    }

    pub(crate) fn frees(&self) -> Vec<Instant> {
        self.owns().iter().filter(|(_, o)| o.want == Want::Free).map(|(at, _)| *at).collect()
    }

    pub(crate) fn renewals(&self) -> Vec<(Instant, Renew)> {
        self.pick(|s| if let Said::Renew(r) = s { Some(r.clone()) } else { None })
    }

    pub(crate) fn events(&self) -> Vec<EventKind> {
        let all = self.pick(|s| if let Said::Event(e) = s { Some(e.kind.clone()) } else { None });
        all.into_iter().map(|(_, e)| e).collect()
    }

    /// Events with their time and their instance.
    pub(crate) fn told(&self) -> Vec<Event> {
        let all = self.pick(|s| if let Said::Event(e) = s { Some(e.clone()) } else { None });
        all.into_iter().map(|(_, e)| e).collect()
    }

    /// The same host with another agent, which starts at `now`; `boot`: the number of that start.
    pub(crate) fn restart_at(&mut self, now: Instant, boot: u64) {
        let cluster_key = self.model.heartbeat.is_some().then(|| vec![0x5a; 32]);
        let secrets = Secrets { cluster_key, trailers: vec![] };
        self.engine = Engine::new(Arc::clone(&self.model), secrets, boot, Self::stamp(now));
        self.now = now;
    }

    /// The causes of its changes of state, with the state entered.
    pub(crate) fn causes(&self) -> Vec<(State, Cause)> {
        let events = self.events().into_iter();
        events
            .filter_map(|e| match e {
                EventKind::Transition { to, cause, .. } => Some((to, cause)),
                _ => None,
            })
            .collect()
    }

    /// The order of what was said, in short words.
    pub(crate) fn story(&self) -> Vec<&'static str> {
        let word = |s: &Said| match s {
            Said::Advert(_, a) if a.priority == 0 => Some("release"),
            Said::Advert(..) => Some("advert"),
            Said::Own(o) if o.want == Want::Free => Some("free"),
            Said::Own(_) => Some("hold"),
            Said::Announce(_) => Some("announce"),
            _ => None,
        };
        self.log.iter().filter_map(|(_, s)| word(s)).collect()
    }
}
