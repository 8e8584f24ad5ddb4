//! Makes a warm or cold standby able to serve: the program, then its readiness check, both within one time limit.
//!
//! Runs on the main thread; the answer goes back to the engine by the order's number. One activation of an instance at
//! a time: a later order waits for the earlier one's end.

use super::queue::{Message, Sender};
use crate::exec::client::Runner;
use crate::exec::protocol::{Occasion, Which};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use vipd_core::config::model::{Activation, Model};
use vipd_core::engine::io::{Reading, Verdict};
use vipd_core::types::{CheckIx, InstanceIx};

/// Between the limit of a program and the word of `vipd exec` that it ended it.
const GRACE: Duration = Duration::from_secs(5);

/// The last word of each check, for whoever waits for the next one.
#[derive(Clone, Debug)]
pub(super) struct Readings {
    all: Arc<Vec<watch::Sender<Option<Reading>>>>,
}

impl Readings {
    /// Nothing read yet.
    pub(super) fn new(model: &Model) -> Self {
        let all = model.checks.iter().map(|_| watch::Sender::new(None)).collect();
        Self { all: Arc::new(all) }
    }

    /// A check was run.
    pub(super) fn note(&self, check: CheckIx, reading: &Reading) {
        if let Some(sender) = self.all.get(usize::from(check.0)) {
            sender.send_replace(Some(reading.clone()));
        }
    }

    /// Waits for a run of `check` from now on that passes; `why` holds what the last one said meanwhile.
    async fn pass(&self, check: CheckIx, why: &mut String) {
        let Some(sender) = self.all.get(usize::from(check.0)) else {
            return std::future::pending().await;
        };
        let mut reader = sender.subscribe();
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
    model: Arc<Model>,
    runner: Runner,
    readings: Readings,
    engine: Sender,
    turns: HashMap<InstanceIx, Arc<Mutex<()>>>,
}

impl Activations {
    /// For the standbys of `model`; results go to `engine`.
    pub(super) fn new(
        model: Arc<Model>,
        runner: Runner,
        readings: Readings,
        engine: Sender,
    ) -> Self {
        Self { model, runner, readings, engine, turns: HashMap::new() }
    }

    /// Starts the activation of `instance` as order `order`.
    pub(super) fn begin(&mut self, instance: InstanceIx, order: u64, occasion: Occasion) {
        let configured = self.model.instance(instance);
        let Some(activation) = configured.standby.activation().cloned() else {
            let result = Err("the configuration has no activation for it".into());
            let _ = self.engine.send(Message::Activated { instance, order, result });
            return;
        };
        let turn = Arc::clone(self.turns.entry(instance).or_default());
        let (runner, readings) = (self.runner.clone(), self.readings.clone());
        let (engine, model) = (self.engine.clone(), Arc::clone(&self.model));
        let name = configured.name.to_string();
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
    let passed = tokio::time::timeout_at(deadline, readings.pass(check, &mut why)).await;
    passed.map_err(|_| {
        let secs = limit.as_secs_f64();
        format!("check {} did not pass within {secs:.1} s: {why}", model.check(check).name)
    })
}
