//! The pure core of vipd (DESIGN section 3): everything that decides, nothing that does.
//!
//! Rooms, arrows pointing down: `engine` -> `policy`, `vrrp`, `reconcile` -> `wire` -> `types`, `time`;
//! `config` makes the [`config::model::Model`] that the engine runs.
//! No I/O, no clock, no threads, no randomness, no logging: inputs carry the time, outputs are data.

pub mod config;
pub mod engine;
pub mod histogram;
pub mod policy;
pub mod reconcile;
pub mod replica;
pub mod time;
pub mod types;
pub mod vrrp;
pub mod wire;
