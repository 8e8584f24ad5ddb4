//! Makes a warm or cold standby able to serve: the program, then its readiness check, both within one time limit.
//!
//! Runs on the main thread; the answer goes back to the engine by the order's number. One activation of an instance at
//! a time: a later order waits for the earlier one's end.

use super::queue::{Message, Sender};
use super::standing::InForce;
use crate::exec::client::Runner;
use crate::exec::protocol::{Occasion, Which};
use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use vipd_core::config::model::{Activation, Model};
use vipd_core::engine::io::{Reading, Verdict};
use vipd_core::types::InstanceIx;

/// Between the limit of a program and the word of `vipd exec` that it ended it.
const GRACE: Duration = Duration::from_secs(5);

/// The last word of each check, by name, for whoever waits for the next one. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    all: Arc<StdMutex<HashMap<Arc<str>, Last>>>,
}

/// What a check said last.
type Last = watch::Sender<Option<Reading>>;

impl Readings {
    /// A check was run.
    pub(super) fn note(&self, check: &Arc<str>, reading: &Reading) {
        self.of(check).send_replace(Some(reading.clone()));
    }

    fn of(&self, check: &Arc<str>) -> Last {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(Arc::clone(check)).or_insert_with(|| watch::Sender::new(None)).clone()
    }

    /// Waits for a run of `check` from now on that passes; `why` holds what the last one said meanwhile.
    async fn pass(&self, check: &Arc<str>, why: &mut String) {
        let mut reader = self.of(check).subscribe();
        reader.mark_unchanged();
        while reader.changed().await.is_ok() {
            if let Some(reading) = &*reader.borrow_and_update() {
                if reading.verdict == Verdict::Pass {
                    return;
                }
                *why = reading.detail.to_string();
            }
        }
    }
}

/// Runs activations.
#[derive(Debug)]
pub(super) struct Activations {
    in_force: InForce,
    /// What orders are numbered by: behind what is in force, while the last words of an earlier engine are heard.
    model: Arc<Model>,
    runner: Runner,
    readings: Readings,
    engine: Sender,
    /// By instance.
    turns: HashMap<Arc<str>, Arc<Mutex<()>>>,
}

impl Activations {
    /// For the standbys of what is in force; results go to `engine`.
    pub(super) fn new(
        in_force: InForce,
        runner: Runner,
        readings: Readings,
        engine: Sender,
    ) -> Self {
        let model = in_force.model();
        Self { in_force, model, runner, readings, engine, turns: HashMap::new() }
    }

    /// Another configuration is in force, and orders are numbered by it from now on: what runs goes on.
    pub(super) fn reload(&mut self, model: &Arc<Model>, runner: Runner) {
        self.model = Arc::clone(model);
        self.runner = runner;
    }

    /// Starts the activation of `instance` as order `order`.
    pub(super) fn begin(&mut self, instance: InstanceIx, order: u64, occasion: Occasion) {
        let model = Arc::clone(&self.model);
        let configured = model.instance(instance);
        let Some(activation) = configured.standby.activation().cloned() else {
            let Some(instance) = self.in_force.instance(&configured.name) else { return };
            let result = Err("the configuration has no activation for it".into());
            let _ = self.engine.send(Message::Activated { instance, order, result });
            return;
        };
        let turn = Arc::clone(self.turns.entry(Arc::clone(&configured.name)).or_default());
        let (runner, readings) = (self.runner.clone(), self.readings.clone());
        let (engine, in_force) = (self.engine.clone(), self.in_force.clone());
        let name = Arc::clone(&configured.name);
        tokio::spawn(async move {
            let _turn = turn.lock().await;
            tracing::info!("{name}: activation begins");
            let began = Instant::now();
            let result = activate(&model, &activation, &runner, &readings, occasion).await;
            match &result {
                Ok(()) => {
                    tracing::info!("{name}: ready after {:.1} s", began.elapsed().as_secs_f64());
                }
                Err(why) => tracing::warn!("{name}: activation failed: {why}"),
            }
            let result = result.map_err(Arc::from);
            // The instance may have another number by now, or be gone.
            let Some(instance) = in_force.instance(&name) else { return };
            // The agent may be stopping.
            let _ = engine.send(Message::Activated { instance, order, result });
        });
    }
}

async fn activate(
    model: &Model,
    activation: &Activation,
    runner: &Runner,
    readings: &Readings,
    occasion: Occasion,
) -> Result<(), String> {
    let limit = activation.program.timeout;
    let deadline = Instant::now() + limit;
    let which = Which::Activation(occasion.name.clone());
    let done = runner.run(which, Some(occasion), limit + GRACE).await;
    if !done.end.is_success() {
        return Err(format!("the program {}", done.end));
    }
    let Some(check) = activation.ready else { return Ok(()) };
    let mut why = "it has not been run since".to_owned();
    let name = &model.check(check).name;
    let passed = tokio::time::timeout_at(deadline, readings.pass(name, &mut why)).await;
    passed.map_err(|_| {
        let secs = limit.as_secs_f64();
        format!("check {name} did not pass within {secs:.1} s: {why}")
    })
}
