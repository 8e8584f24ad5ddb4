//! The queue of the kernel thread: which order is carried out next.
//!
//! Called by the `kernel` thread alone. Releases go before renewals, renewals before claims; claims and
//! renewals go in chunks of 64 messages, so that nothing waits behind 5000 of them; several claims
//! take turns. Whatever blocks for long (removing a device) comes last.

use super::claim::Claim;
use super::claims::Claims;
use super::cleanup::{Cleaned, clean};
use super::host::Host;
use super::netlink::{CHUNK, Refusal};
use crate::sys::clock;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Applied, KernelAddr, KernelFault, Own, Renew, Renewed, Want};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{InstanceIx, LinkIx};

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do.
    Idle,
    /// Something was done, more may be left.
    Busy,
    /// An order to hold or free addresses is finished.
    Applied(Applied),
    /// An order to renew is finished.
    Renewed(Renewed),
}

/// Carries out the engine's orders. Blocking; lives on a thread of its own, in the network namespace
/// of that thread.
#[derive(Debug)]
pub struct Worker {
    host: Host,
    runtime_dir: PathBuf,
    /// At most one per instance: the newest.
    waiting: VecDeque<Own>,
    renewals: VecDeque<Renewal>,
    /// Renewals whose time was over before they were done: the next one of the same instance goes on there.
    stopped: BTreeMap<InstanceIx, Stopped>,
    claims: VecDeque<Claim>,
}

/// How far a renewal came. To begin anew each time would never renew the last of thousands of addresses.
#[derive(Copy, Clone, Debug)]
struct Stopped {
    position: usize,
    secs: u32,
    /// When the first chunk was sent.
    at: Instant,
}

/// A renewal in progress.
#[derive(Debug)]
struct Renewal {
    order: Renew,
    /// Position in `order.instances`, and in what that instance holds.
    next: (usize, usize),
    /// When the first chunk was sent, of this renewal or of those that it goes on with.
    at: Option<Instant>,
    failed: Vec<(InstanceIx, KernelFault)>,
}

impl Worker {
    /// Opens the request socket, and installs the packet filter of instances with `accept = false`.
    ///
    /// # Errors
    /// When the process is out of descriptors or netlink is not there. A filter that cannot be
    /// installed is no error here: it refuses the claims that need it.
    pub fn new(model: Arc<Model>, runtime_dir: &Path, claims: Arc<Claims>) -> io::Result<Self> {
        Ok(Self {
            host: Host::open(model, runtime_dir, claims)?,
            runtime_dir: runtime_dir.to_owned(),
            waiting: VecDeque::new(),
            renewals: VecDeque::new(),
            stopped: BTreeMap::new(),
            claims: VecDeque::new(),
        })
    }

    /// Takes an order. It replaces an older one of the same instance, finished or not: an order that
    /// was replaced gives no [`Applied`].
    pub fn own(&mut self, order: Own) {
        self.waiting.retain(|o| o.instance != order.instance);
        self.claims.retain(|c| c.instance() != order.instance);
        self.waiting.push_back(order);
    }

    /// Takes an order to renew.
    pub fn renew(&mut self, order: Renew) {
        self.renewals.push_back(Renewal { order, next: (0, 0), at: None, failed: Vec::new() });
    }

    /// Does the most urgent piece of work: a whole release, or one chunk of anything else.
    pub fn step(&mut self) -> Step {
        if let Some(at) = self.waiting.iter().position(|o| o.want == Want::Free)
            && let Some(order) = self.waiting.remove(at)
        {
            self.stopped.remove(&order.instance);
            let result = self.host.free(order.instance);
            return applied(&order, clock::monotonic(), result);
        }
        if let Some(renewal) = self.renewals.pop_front() {
            return self.renew_chunk(renewal);
        }
        if let Some(order) = self.waiting.pop_front() {
            // What is held will be in another order.
            self.stopped.remove(&order.instance);
            return match Claim::begin(&mut self.host, &order) {
                Ok(claim) => self.claim_chunk(claim),
                Err(fault) => {
                    self.host.give_up(order.instance, &fault);
                    applied(&order, clock::monotonic(), Err(fault))
                }
            };
        }
        // What is only taken off goes last: another instance may be about to take it over.
        let next = self.claims.iter().position(Claim::adds).unwrap_or(0);
        if let Some(claim) = self.claims.remove(next) {
            return self.claim_chunk(claim);
        }
        if self.host.tidy() { Step::Busy } else { Step::Idle }
    }

    /// A new configuration. What is held stays, under the instance of the same name; what belongs to
    /// no instance any more is released. Orders not finished are dropped: they speak of the old one.
    pub fn reload(&mut self, model: Arc<Model>) {
        self.waiting.clear();
        self.renewals.clear();
        self.stopped.clear();
        self.claims.clear();
        self.host.reload(model);
    }

    /// Takes off everything in this network namespace that bears our tag, of this agent or an earlier one.
    pub fn cleanup(&mut self) -> Cleaned {
        self.waiting.clear();
        self.renewals.clear();
        self.stopped.clear();
        self.claims.clear();
        clean(&mut self.host, &self.runtime_dir)
    }

    /// Every address of a service interface and of our devices on it, as it is now.
    ///
    /// # Errors
    /// When the kernel refuses the dump. A missing interface has no addresses.
    pub fn snapshot(&mut self, link: LinkIx) -> Result<Vec<KernelAddr>, Refusal> {
        self.host.snapshot(link)
    }

    fn claim_chunk(&mut self, mut claim: Claim) -> Step {
        match claim.advance(&mut self.host) {
            None => {
                self.claims.push_back(claim);
                Step::Busy
            }
            Some(result) => applied(claim.order(), claim.begun(), result),
        }
    }

    fn renew_chunk(&mut self, mut renewal: Renewal) -> Step {
        let now = clock::monotonic();
        if now > renewal.order.not_after {
            self.stop(&renewal);
            for (instance, _) in renewal.order.instances.split_off(renewal.next.0) {
                renewal.fail(instance, KernelFault::Late);
            }
            return renewal.finish(now);
        }
        renewal.at.get_or_insert(now);
        let (mut requests, mut whose) = (Vec::new(), Vec::new());
        // What is held is looked up for each chunk: a release may have come in between, and a
        // renewal of a released address would put it on again.
        while requests.len() < CHUNK
            && let Some(&(instance, secs)) = renewal.order.instances.get(renewal.next.0)
        {
            // A claim in progress has not listed all that is held yet, and puts a new lease on everything itself.
            if self.claims.iter().any(|c| c.instance() == instance) {
                renewal.fail(instance, KernelFault::Late);
                renewal.next = (renewal.next.0 + 1, 0);
                continue;
            }
            if renewal.next.1 == 0
                && let Some(stopped) = self.stopped.remove(&instance)
                && stopped.secs == secs
                && now.since(stopped.at) < Duration::from_secs(secs.into())
            {
                renewal.next.1 = stopped.position;
                renewal.at = renewal.at.min(Some(stopped.at));
            }
            let all = self.host.renewals(instance, secs, renewal.next.1);
            let room = CHUNK - requests.len();
            let mut taken = 0;
            for request in all.take(room) {
                requests.push(request);
                whose.push(instance);
                taken += 1;
            }
            renewal.next = if taken == room {
                (renewal.next.0, renewal.next.1 + taken)
            } else {
                (renewal.next.0 + 1, 0)
            };
        }
        for (instance, answer) in whose.into_iter().zip(self.host.net.batch(&requests)) {
            if let Err(e) = answer {
                renewal.fail(instance, self.host.fault(instance, "renew a lease", &e));
            }
        }
        if renewal.next.0 < renewal.order.instances.len() {
            self.renewals.push_front(renewal);
            return Step::Busy;
        }
        renewal.finish(now)
    }

    /// Remembers how far this came, where nothing failed so far.
    fn stop(&mut self, renewal: &Renewal) {
        let (n, position) = renewal.next;
        if let (Some(&(instance, secs)), Some(at)) = (renewal.order.instances.get(n), renewal.at)
            && position > 0
            && !renewal.has_failed(instance)
        {
            self.stopped.insert(instance, Stopped { position, secs, at });
        }
    }
}

impl Renewal {
    fn has_failed(&self, instance: InstanceIx) -> bool {
        self.failed.iter().any(|(i, _)| *i == instance)
    }

    /// The first fault of an instance is the one that is told.
    fn fail(&mut self, instance: InstanceIx, fault: KernelFault) {
        if !self.has_failed(instance) {
            self.failed.push((instance, fault));
        }
    }

    fn finish(self, at: Instant) -> Step {
        Step::Renewed(Renewed {
            order: self.order.order,
            at: self.at.unwrap_or(at),
            failed: self.failed,
        })
    }
}

fn applied(order: &Own, at: Instant, result: Result<(), KernelFault>) -> Step {
    Step::Applied(Applied { instance: order.instance, order: order.order, at, result })
}
