//! The checks: what is measured of links, services, processes, files and the host itself (DESIGN 5.14).
//!
//! Called by the runtime, on the `main` thread, inside tokio: [`Checks::start`], and dropping it ends them all. A
//! reading goes to `report` and from there to the engine as `Input::Check`. This room only measures: how many readings
//! make a check fail, and what follows, is the core's. Nothing of it runs on the protocol thread, and what may block
//! (disks, `/proc`, name resolution) does not even block `main`.
//!
//! What the target did is a verdict. What this host could not try (out of descriptors, memory, threads, or without the
//! right to) is [`Verdict::Unknown`]. A run that takes too long fails where somebody else had to answer, and is unknown
//! where only this host had to look.
//!
//! | file | what |
//! |---|---|
//! | `task` | one check: grid, timeout, events between |
//! | `aside` | a thread for what may block |
//! | `outcome` | verdict and one line |
//! | `connect`, `http`, `dns`, `ping`, `gateway` | what answers over the network |
//! | `net` | links, addresses and routes of this host, with the kernel's events |
//! | `process`, `unit`, `script` | what runs |
//! | `file`, `pressure`, `disk` | what lies there, what is scarce |
//!
//! [`Verdict::Unknown`]: vipd_core::engine::io::Verdict::Unknown

mod aside;
mod connect;
mod disk;
mod dns;
mod file;
mod folder;
mod gateway;
mod http;
mod net;
mod netlink;
mod outcome;
mod ping;
mod pressure;
mod process;
mod script;
mod task;
mod tls;
mod unit;

pub use script::{ScriptEnd, ScriptError, Scripts};

use netlink::{Events, Topic};
use std::sync::Arc;
use task::{Measure, watch};
use tokio::task::JoinSet;
use vipd_core::config::model::{Check, Model, Probe, Process};
use vipd_core::engine::io::Reading;
use vipd_core::time::Duration;
use vipd_core::types::CheckIx;

/// The first runs are spread over this much, or over their interval where that is less: late enough to keep the
/// starts apart, soon enough for a first word.
const SPREAD: Duration = Duration::from_secs(1);

/// The running checks of a configuration. Dropping it ends them.
#[derive(Debug)]
pub struct Checks {
    /// Kept to be dropped.
    _tasks: JoinSet<()>,
}

impl Checks {
    /// Starts every check of `model` that is measured ([`Probe::Instance`] is judged by the engine). Inside a tokio
    /// runtime with I/O and time. `report` is called from tasks of that runtime and must not block; `scripts` runs
    /// the programs of script checks.
    pub fn start(
        model: &Arc<Model>,
        report: impl Fn(CheckIx, Reading) + Clone + Send + 'static,
        scripts: impl Scripts,
    ) -> Self {
        let mut starter = Starter {
            tasks: JoinSet::new(),
            report,
            first: Duration::ZERO,
            scripts: Arc::new(scripts),
            bus: Arc::default(),
            events: Events::default(),
        };
        let total = u32::try_from(model.checks.len().max(1)).unwrap_or(u32::MAX);
        for (n, check) in (0u16..).zip(&model.checks) {
            starter.first = check.interval.min(SPREAD) * u32::from(n) / total;
            starter.start(model, CheckIx(n), check);
        }
        if starter.events.is_needed() {
            starter.tasks.spawn(starter.events.run());
        }
        Self { _tasks: starter.tasks }
    }
}

/// What every check needs to start.
struct Starter<R, S> {
    tasks: JoinSet<()>,
    report: R,
    first: Duration,
    scripts: Arc<S>,
    bus: Arc<unit::Bus>,
    events: Events,
}

impl<R: Fn(CheckIx, Reading) + Clone + Send + 'static, S: Scripts> Starter<R, S> {
    fn start(&mut self, model: &Model, ix: CheckIx, check: &Check) {
        match check.probe.clone() {
            // Judged by the engine.
            Probe::Instance { .. } => {}
            Probe::Tcp { to, source } => self.spawn(ix, check, connect::Tcp { to, source }),
            Probe::Unix { path } => self.spawn(ix, check, connect::Unix { path }),
            Probe::Process(Process::Name { name, at_least, at_most }) => {
                self.spawn(ix, check, process::Named::new(name, at_least, at_most));
            }
            Probe::Process(Process::PidFile(path)) => {
                self.spawn(ix, check, process::PidFile::new(path));
            }
            Probe::Script(program) => {
                let scripts = Arc::clone(&self.scripts);
                self.spawn(ix, check, script::Script { check: ix, program, scripts });
            }
            Probe::File { path, max_age } => {
                self.spawn(ix, check, file::Number::new(path, max_age));
            }
            Probe::Absent { path } => self.spawn(ix, check, file::Absent::new(path)),
            Probe::Pressure { resource, warn, fail } => {
                self.spawn(ix, check, pressure::Pressure::new(resource, warn, fail));
            }
            Probe::Disk { path, warn, fail, write } => {
                let write = write.then(|| format!(".vipd-write-probe.{}", check.name));
                let limits = disk::Limits { path, warn, fail, write };
                self.spawn(ix, check, disk::Disk::new(limits));
            }
            Probe::Link { interface, min_speed, min_slaves } => {
                let wake = self.events.listen(Topic::Link(Arc::clone(&interface)));
                let limits = net::Limits { speed: min_speed, slaves: min_slaves };
                self.spawn(ix, check, net::Link::new(interface, limits, wake));
            }
            Probe::Address { addr } => {
                let wake = self.events.listen(Topic::Address(addr));
                self.spawn(ix, check, net::Address::new(addr, wake));
            }
            Probe::Route { to } => {
                let wake = self.events.listen(Topic::Route(to));
                self.spawn(ix, check, net::Route::new(to, wake));
            }
            Probe::Gateway { addr, link } => {
                // An index of the model that the check comes from.
                let Some(link) = model.links.get(usize::from(link.0)) else { return };
                self.spawn(ix, check, gateway::Gateway::new(addr, Arc::clone(&link.name)));
            }
            Probe::Ping { addrs, at_least, source } => {
                self.spawn(ix, check, ping::Ping::new(addrs, at_least, source));
            }
            Probe::Http(probe) => self.spawn(ix, check, http::Http::new(probe, check.timeout)),
            Probe::Dns { server, name, record } => {
                self.spawn(ix, check, dns::Dns { server, name, record });
            }
            Probe::Unit { name } => {
                let bus = Arc::clone(&self.bus);
                self.spawn(ix, check, unit::Unit { name, bus });
            }
        }
    }

    fn spawn(&mut self, ix: CheckIx, check: &Check, measure: impl Measure) {
        let (check, first, report) = (check.clone(), self.first, self.report.clone());
        self.tasks.spawn(async move {
            let interval = check.interval;
            // Of its own task, which ends with this one.
            let mut running = JoinSet::new();
            running.spawn(watch(ix, check, first, measure, report.clone()));
            while let Some(Ok(())) = running.join_next().await {}
            // An error in vipd: better no word on the target than the last one for ever.
            loop {
                report(ix, task::crashed());
                tokio::time::sleep(interval.max(SPREAD)).await;
            }
        });
    }
}
