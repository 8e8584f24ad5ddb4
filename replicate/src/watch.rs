//! What changes in the roots of a set, as it happens: recursive inotify, debounced.
//!
//! Started by the service for a host that owns; tells [`Set::dirty`] as soon as an event was read, and the service when
//! it is time to scan. Must never be believed to see everything: queues overflow, so full scans remain.

use crate::error::Error;
use crate::set::{Scope, Set};

/// What the service hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Changes have settled, `max_delay` or `scan_interval` is over, or events were lost: [`Set::seal`] now.
    Due(Scope),
    /// Not everything is watched: full scans, each `max_delay` after the last, replace the rest. Why, and the fix.
    Degraded(String),
}

/// A thread that watches; ends when this is dropped.
#[derive(Debug)]
pub struct Watch {}

impl Watch {
    /// Watches the roots of `set`. `tell` is called on the watching thread and must not block for long. The first
    /// [`Change::Due`] comes at once, for everything.
    ///
    /// # Errors
    /// No inotify at all: out of descriptors.
    pub fn start(_set: &Set, _tell: impl FnMut(Change) + Send + 'static) -> Result<Self, Error> {
        Err(Error::Refused("not built yet".to_owned()))
    }
}
