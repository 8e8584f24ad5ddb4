//! One host: an agent that runs, hangs or is dead, its sockets' queues, and the kernel below.

use crate::kernel::{Kernel, Report};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{
    HeartbeatIn, Input, LinkState, Memory, NeighbourIn, Output, Packet, ReplicaState,
};
use vipd_core::time::{Instant, Now};
use vipd_core::types::{Family, InstanceIx, LinkIx, Mac, PathIx, SetIx};

/// The service interface of every host.
pub(crate) const LINK: LinkIx = LinkIx(0);

/// What decides: the engine, or a stand-in that tries the world itself.
pub(crate) trait Brain {
    fn handle(&mut self, now: Now, input: Input<'_>);
    fn poll_output(&mut self) -> Option<Output>;
    fn deadline(&self) -> Instant;
    fn stopped(&self) -> bool;
    /// Has everything left that does not go on with the configuration that comes?
    fn retired(&self) -> bool;
    /// Before the first input: the last run died while it handed over (DESIGN 5.7).
    fn start_as_backup(&mut self, until: Instant);
    /// Before the first input: what the last run stored, of the instance or of the host.
    fn recall(&mut self, instance: Option<InstanceIx>, memory: Memory);
    /// Does it wait for a first frame on the service interface?
    fn settling(&self) -> bool;
}

/// State of the agent process.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Agent {
    Running,
    /// Told to stop, handing over.
    Leaving,
    /// SIGSTOP, deadlock, a frozen cgroup: the kernel goes on.
    Hung,
    /// No process; the kernel goes on.
    Dead,
    /// No machine.
    Off,
}

impl Agent {
    /// Does the process execute instructions?
    pub(crate) fn runs(self) -> bool {
        matches!(self, Self::Running | Self::Leaving)
    }
}

/// Something that waits in a queue of the process, or is handed over at once.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Advert { at: Instant, from: usize, src: IpAddr, dst: IpAddr, payload: Rc<[u8]> },
    Heartbeat { at: Instant, path: PathIx, src: SocketAddr, payload: Rc<[u8]> },
    Neighbour { addr: IpAddr, mac: Mac, reply: bool },
    FrameSeen,
    Removed(IpAddr),
    Link(LinkState),
    Report(Report),
    Replica(Option<ReplicaState>),
    Barrier { order: u64, result: Result<(), Arc<str>> },
    Stored { reserved: u64, result: Result<(), Arc<str>> },
}

impl Item {
    /// Which queue it waits in: each socket and each channel has its own.
    fn queue(&self) -> usize {
        match self {
            Self::Advert { .. } => 0,
            Self::Heartbeat { .. } => 1,
            Self::Neighbour { .. } | Self::FrameSeen => 2,
            Self::Removed(_) | Self::Link(_) => 3,
            Self::Report(_) | Self::Replica(_) | Self::Barrier { .. } | Self::Stored { .. } => 4,
        }
    }

    /// As the engine is told, with the age since arrival in the kernel.
    pub(crate) fn input(&self, now: Instant) -> Input<'_> {
        match self {
            Self::Advert { at, src, dst, payload, .. } => Input::Packet(Packet {
                link: LINK,
                src: *src,
                dst: *dst,
                ttl: 255,
                payload,
                age: now - *at,
            }),
            Self::Heartbeat { at, path, src, payload } => {
                Input::Heartbeat(HeartbeatIn { path: *path, src: *src, payload, age: now - *at })
            }
            Self::Neighbour { addr, mac, reply } => {
                Input::Neighbour(NeighbourIn { link: LINK, addr: *addr, mac: *mac, reply: *reply })
            }
            Self::FrameSeen => Input::FrameSeen(LINK),
            Self::Removed(addr) => Input::AddressRemoved { link: LINK, addr: *addr },
            Self::Link(state) => Input::Link { link: LINK, state: state.clone() },
            Self::Report(Report::Applied(a)) => Input::Applied(a.clone()),
            Self::Report(Report::Renewed(r)) => Input::Renewed(r.clone()),
            Self::Replica(state) => Input::Replica { set: SetIx(0), state: *state },
            Self::Barrier { order, result } => Input::BarrierDone {
                instance: InstanceIx(0),
                order: *order,
                result: result.clone(),
            },
            Self::Stored { reserved, result } => Input::Stored {
                instance: InstanceIx(0),
                reserved: *reserved,
                result: result.clone(),
            },
        }
    }
}

/// Queues of a process that does not read: a full one drops what comes, as a socket buffer does.
#[derive(Default)]
pub(crate) struct Queues([VecDeque<Item>; 5]);

/// Datagrams that fit into the default receive buffer.
const QUEUE: usize = 256;

impl Queues {
    pub(crate) const COUNT: usize = 5;

    pub(crate) fn push(&mut self, item: Item) {
        let number = item.queue();
        let queue = &mut self.0[number];
        // Channels inside the process and the link state are not lossy.
        if queue.len() < QUEUE || number == 4 || matches!(item, Item::Link(_)) {
            queue.push_back(item);
        }
    }

    pub(crate) fn pop(&mut self, queue: usize) -> Option<Item> {
        self.0[queue].pop_front()
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Default::default();
    }

    /// Adverts that wait, oldest first: sender, arrival, family, priority.
    pub(crate) fn adverts(
        &self,
    ) -> impl DoubleEndedIterator<Item = (usize, Instant, Family, u8)> + '_ {
        self.0[0].iter().filter_map(|item| match item {
            Item::Advert { at, from, src, payload, .. } => {
                Some((*from, *at, Family::of(src), payload[2]))
            }
            _ => None,
        })
    }
}

pub(crate) struct Host {
    pub(crate) model: Arc<Model>,
    /// Comes into force when what does not go on with it is gone.
    pub(crate) coming: Option<Arc<Model>>,
    /// The instance leaves for that.
    pub(crate) retires: bool,
    pub(crate) agent: Agent,
    pub(crate) brain: Option<Box<dyn Brain>>,
    pub(crate) kernel: Kernel,
    pub(crate) queues: Queues,
    /// Carrier of the service interface; counts the reasons why it is missing.
    pub(crate) carrier_cuts: u32,
    /// Starts of the agent so far.
    pub(crate) boot: u64,
    /// Orders wait for the kernel thread.
    pub(crate) kernel_busy: bool,
    /// The kernel thread was to act while the process hung, or while its kernel was busy with something else.
    pub(crate) kernel_due: bool,
    /// Others that hold the lock of its kernel.
    pub(crate) slow: u32,
    /// The one timer: what it is set to, and the number of the setting.
    pub(crate) timer: Option<Instant>,
    pub(crate) timer_gen: u64,
    /// The agent was told to stop and has not left yet.
    pub(crate) leaving: bool,
    /// The last run died while it handed over, as its runtime folder tells the next one.
    pub(crate) died_leaving: bool,
    /// Faults that want the agent hung, dead or off, as counters: they may overlap.
    pub(crate) hung: u32,
    pub(crate) dead: u32,
    pub(crate) off: u32,
    /// Failures of its service that are on.
    pub(crate) sick: u32,
    /// What is on its disk: of the host, of the instance.
    pub(crate) memory: [Memory; 2],
}

impl Host {
    pub(crate) fn new(model: Model, kernel: Kernel) -> Self {
        Self {
            model: Arc::new(model),
            coming: None,
            retires: false,
            agent: Agent::Dead,
            brain: None,
            kernel,
            queues: Queues::default(),
            carrier_cuts: 0,
            boot: 0,
            kernel_busy: false,
            kernel_due: false,
            slow: 0,
            timer: None,
            timer_gen: 0,
            leaving: false,
            died_leaving: false,
            hung: 0,
            dead: 0,
            off: 0,
            sick: 0,
            memory: Default::default(),
        }
    }

    pub(crate) fn powered(&self) -> bool {
        self.off == 0
    }

    /// Does the service interface pass frames?
    pub(crate) fn connected(&self) -> bool {
        self.powered() && self.carrier_cuts == 0
    }
}
