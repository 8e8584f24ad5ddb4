//! What the main thread does with events beside telling them: programs, checks, moves, the replicator, figures, the disk.
//!
//! Made when the agent starts; a reload exchanges parts of it. Fed with everything that the protocol thread tells.

use super::{Main, Options, notify, reloading};
use crate::exec;
use crate::exec::client::{Runner, Whereabouts};
use crate::health::Checks;
use crate::runtime::activation::{Activations, Readings};
use crate::runtime::boot;
use crate::runtime::hooks::Hooks;
use crate::runtime::moving::Moving;
use crate::runtime::observe::{Counting, Serving};
use crate::runtime::queue::Message;
use crate::runtime::replica::Replication;
use crate::runtime::scripts::ScriptChecks;
use crate::runtime::sync::Syncs;
use crate::runtime::told::Told;
use crate::sys::clock;
use crate::telemetry::Teller;
use sd_notify::NotifyState;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use vipd_core::engine::io::{Event, EventKind, OperationStep, Reading};
use vipd_core::types::CheckIx;

/// What the main thread does with events beside telling them.
pub(super) struct Duties {
    pub(super) teller: Teller,
    pub(super) counting: Counting,
    pub(super) hooks: Hooks,
    pub(super) activations: Activations,
    pub(super) moving: Moving<Replication>,
    pub(super) replication: Replication,
    pub(super) syncs: Syncs,
    /// The way to the programs of `vipd exec`.
    pub(super) runner: Runner,
    pub(super) readings: Readings,
    /// They end with it.
    pub(super) checks: Option<Checks>,
    pub(super) monitoring: Option<Serving>,
}

impl Main<'_> {
    pub(super) fn duties(&self) -> Duties {
        let runner = self.runner();
        let readings = Readings::default();
        let counting = self.facts.counting.clone();
        let engine = self.sender.clone();
        let activations =
            Activations::new(self.facts.in_force.clone(), runner.clone(), readings.clone(), engine);
        Duties {
            checks: Some(self.checks(&counting, &readings, &runner)),
            teller: Teller::new(Arc::clone(&self.model)),
            hooks: Hooks::new(Arc::clone(&self.model), runner.clone(), counting.clone()),
            counting,
            moving: Moving::new(
                self.facts.in_force.clone(),
                self.sender.clone(),
                self.facts.replication.clone(),
            ),
            replication: self.facts.replication.clone(),
            syncs: Syncs::start(&self.model),
            activations,
            runner,
            readings,
            monitoring: None,
        }
    }

    /// A way to the programs of the configuration in force.
    pub(super) fn runner(&self) -> Runner {
        if reloading::has_programs(&self.model) {
            Runner::start(self.executor())
        } else {
            Runner::none()
        }
    }

    /// The checks of the configuration in force, started.
    pub(super) fn checks(
        &self,
        counting: &Counting,
        readings: &Readings,
        runner: &Runner,
    ) -> Checks {
        let (readings, counting) = (readings.clone(), counting.clone());
        let (engine, model) = (self.sender.clone(), Arc::clone(&self.model));
        let report = move |check: CheckIx, reading: Reading| {
            readings.note(&model.check(check).name, &reading);
            counting.check(check, &reading);
            engine.offer(Message::Check(check, reading));
        };
        let scripts = ScriptChecks::new(Arc::clone(&self.model), runner.clone());
        Checks::start(&self.model, report, scripts)
    }

    /// Where `vipd exec` is, and how it is started as a child: the same program with the same four options.
    fn executor(&self) -> Whereabouts {
        let Options { config, host, runtime_dir, state_dir } = self.options;
        let options: [(&str, &OsStr); 4] = [
            ("--config", config.as_os_str()),
            ("--host", host.as_ref()),
            ("--runtime-dir", runtime_dir.as_os_str()),
            ("--state-dir", state_dir.as_os_str()),
        ];
        // The file that this process runs, whatever has become of its name.
        let mut command = vec![OsString::from("/proc/self/exe")];
        for (name, value) in options {
            command.extend([OsString::from(name), value.to_owned()]);
        }
        Whereabouts {
            socket: exec::socket_path(runtime_dir),
            command,
            managed: std::env::var_os("NOTIFY_SOCKET").is_some(),
        }
    }

    pub(super) fn tell_step(&self, duties: &mut Duties, id: u64, step: OperationStep) {
        let kind = EventKind::Operation { id, step };
        let event = Event { at: clock::monotonic(), instance: None, family: None, kind };
        self.tell(duties, Told::Event(event));
    }

    pub(super) fn tell(&self, duties: &mut Duties, told: Told) {
        let event = match told {
            Told::Socket(text) => {
                tracing::warn!("{text}; trying again each second");
                return;
            }
            Told::Activate { instance, order } => {
                let occasion = duties.hooks.activation(instance);
                duties.activations.begin(instance, order, occasion);
                return;
            }
            Told::PrePromote { instance, order, from } => {
                duties.moving.pre_promote(&duties.hooks, instance, order, from);
                return;
            }
            Told::NotPromoted { instance, order } => {
                duties.moving.not_promoted(&duties.hooks, instance, order);
                return;
            }
            Told::Barrier { instance, order, to, deadline } => {
                duties.moving.barrier(&duties.hooks, instance, order, to, deadline);
                return;
            }
            Told::BarrierOver { instance, order, moved } => {
                duties.moving.barrier_over(&duties.hooks, instance, order, moved);
                return;
            }
            Told::Event(event) => event,
        };
        if let EventKind::Role(_) = event.kind {
            duties.replication.roles_changed();
        }
        let telling = duties.teller.tell(&event);
        if let Some(state) = &telling.state {
            notify(&[NotifyState::Status(state)]);
        }
        duties.counting.observe(&event);
        self.chronicle.event(&event, telling);
        duties.hooks.observe(&event);
        if let EventKind::Remember(memory) = &event.kind {
            let instance = event.instance.map(|ix| &*self.model.instance(ix).name);
            self.store.store(instance, memory);
        }
        if let EventKind::Boot { counter, .. } = event.kind {
            let Options { state_dir, runtime_dir, .. } = self.options;
            if let Err(error) = boot::raise(state_dir, runtime_dir, counter) {
                tracing::warn!("cannot store the boot counter: {error}");
            }
        }
    }
}
