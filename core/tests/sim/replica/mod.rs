//! Sets of state files that follow the address (DESIGN 5.13, P2, P5): each host has a model of the replicator with a disk of
//! its own, and a service that writes numbered records while it owns.
//!
//! `disk` is what a tree does to another (pure), `process` what a replicator knows, `drive` what happens when, `pushing`
//! between two hosts, `moving` in a planned move; `draw` is what goes wrong, `runs` are the tests. Judged by `invariants/state.rs`.

pub(crate) mod disk;
mod draw;
pub(crate) mod drive;
mod moving;
pub(crate) mod process;
mod pushing;
mod runs;

pub(crate) use draw::{draw, with_set};

use crate::rng::Rng;
use std::fmt;
use std::sync::Arc;
use vipd_core::config::model::{Gate, Replicate};
use vipd_core::time::Duration;
use vipd_core::types::InstanceIx;

/// The set of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setup {
    pub(crate) gate: Gate,
    pub(crate) max_age: Duration,
    pub(crate) debounce: Duration,
    /// The longest time between two records.
    pub(crate) pace: Duration,
}

impl Setup {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            gate: *rng.pick(&[Gate::Prefer, Gate::Prefer, Gate::Require, Gate::Ignore]),
            max_age: rng.duration(Duration::from_secs(4), Duration::from_secs(12)),
            debounce: rng.duration(Duration::from_millis(20), Duration::from_millis(500)),
            pace: rng.duration(Duration::from_millis(200), Duration::from_millis(2000)),
        }
    }

    pub(crate) fn set(&self) -> Replicate {
        Replicate {
            name: Arc::from("state"),
            instance: InstanceIx(0),
            paths: vec!["/srv/state".into()],
            exclude: Vec::new(),
            debounce: self.debounce,
            max_delay: Duration::from_secs(5),
            scan_interval: Duration::from_secs(60),
            atomic: false,
            xattrs: false,
            setuid: false,
            outward_links: false,
            require_mount: false,
            bandwidth: None,
            delete_guard: 25,
            trash_versions: 10,
            trash_age: Duration::from_secs(7 * 86_400),
            rescue_quota: u64::MAX,
            gate: self.gate,
            max_age: self.max_age,
            max_pending: None,
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gate, max_age, debounce, pace } = self;
        write!(f, "{gate:?} {max_age:?}, sealed after {debounce:?}, a record in {pace:?}")
    }
}
