//! What was done to a room, and when. Written by a stage, read by the timeline.

use std::sync::{Arc, Mutex, PoisonError};
use vipd_core::time::Instant;

/// What was done to a room, with its moment.
#[derive(Clone, Debug)]
pub struct Note {
    /// When.
    pub at: Instant,
    /// What, in words.
    pub text: String,
}

/// What was done to a room; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<Note>>>);

impl Journal {
    /// Adds an entry.
    pub fn note(&self, at: Instant, text: impl Into<String>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(Note { at, text: text.into() });
    }

    /// Entries in `from..to`.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> Vec<Note> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter(|n| n.at >= from && n.at < to).cloned().collect()
    }
}
