//! The real engine as the brain of a host.

use crate::host::{Brain, LINK};
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Input, Memory, Output};
use vipd_core::engine::{Engine, Secrets};
use vipd_core::time::{Instant, Now};
use vipd_core::types::InstanceIx;

/// Makes an engine; every host has the same cluster key.
pub(crate) fn real(model: Arc<Model>, boot: u64, now: Now) -> Box<dyn Brain> {
    let secrets = secrets(&model);
    Box::new(Engine::new(model, secrets, boot, now))
}

/// The keys of a host.
pub(crate) fn secrets(model: &Model) -> Secrets {
    let cluster_key = model.heartbeat.is_some().then(|| vec![0x5a; 32]);
    let trailers = model.instances.iter().map(|_| None).collect();
    Secrets { cluster_key, trailers }
}

impl Brain for Engine {
    fn handle(&mut self, now: Now, input: Input<'_>) {
        Self::handle(self, now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Self::poll_output(self)
    }

    fn deadline(&self) -> Instant {
        Self::deadline(self)
    }

    fn stopped(&self) -> bool {
        Self::stopped(self)
    }

    fn retired(&self) -> bool {
        Self::retired(self)
    }

    fn start_as_backup(&mut self, until: Instant) {
        Self::start_as_backup(self, until);
    }

    fn recall(&mut self, instance: Option<InstanceIx>, memory: Memory) {
        Self::recall(self, instance, memory);
    }

    fn settling(&self) -> bool {
        Self::settling(self, LINK)
    }
}
