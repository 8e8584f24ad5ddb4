//! What the thread of a set and the rest of the service know of it in common: role, faults, counters, the senders.
//!
//! Locks here are held for a moment only, never while a disk is touched.

use super::super::pushing::Pushing;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::UnboundedSender;
use vipd_core::replica::Word;
use vipd_core::types::Epoch;

/// What the agent says of this host and the instance of the set.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::service) struct Stand {
    /// This host owns: it pushes.
    pub owns: bool,
    /// The newest ownership that is known.
    pub epoch: Epoch,
}

/// What the thread and the service know of a set.
pub(in crate::service) struct Shared {
    /// `[replicate.NAME]`.
    pub name: Arc<str>,
    /// Its instance.
    pub instance: Arc<str>,
    /// Sends to the other hosts, while this one may push.
    pub(super) pushing: Mutex<Option<Pushing>>,
    /// What the agent said last; `None`: nothing yet.
    pub(super) stand: Mutex<Option<Stand>>,
    /// May others push to this host?
    pub(super) receives: Mutex<Result<(), String>>,
    /// What an operator has to look at, by what it is about.
    pub(super) faults: Mutex<BTreeMap<String, String>>,
    /// Errors by kind.
    pub(super) errors: Mutex<BTreeMap<String, u64>>,
    /// Files of this standby are not what they should be: the owner is to offer its tree again.
    pub(super) lacking: AtomicBool,
    pub(super) words: UnboundedSender<Word>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(name: Arc<str>, instance: Arc<str>, words: UnboundedSender<Word>) -> Self {
        Self {
            name,
            instance,
            pushing: Mutex::new(None),
            stand: Mutex::new(None),
            receives: Mutex::new(Err("who owns the instance is not known yet".to_owned())),
            faults: Mutex::default(),
            errors: Mutex::default(),
            lacking: AtomicBool::new(false),
            words,
        }
    }

    /// An error of that kind happened. Sessions that begin and end in good order are none.
    pub(in crate::service) fn count(&self, kind: &str) {
        if ["connected", "closed", "stopped", "bye"].contains(&kind) {
            return;
        }
        *lock(&self.errors).entry(kind.to_owned()).or_default() += 1;
    }

    /// Something worth a line in the log of the agent.
    pub(in crate::service) fn tell(&self, text: String, alarm: bool) {
        let _ = self.words.send(Word::Event { set: self.name.to_string(), text, alarm });
    }

    /// `text` without the name of the set: whoever reads it sees that anyhow.
    pub(super) fn plain<'t>(&self, text: &'t str) -> &'t str {
        let name = format!("[replicate.{}] ", self.name);
        text.trim_start_matches(&*name)
    }

    /// A condition to look at, until [`Shared::mend`].
    pub(in crate::service) fn fault(&self, about: &str, text: String) {
        lock(&self.faults).insert(about.to_owned(), text);
    }

    /// It is over.
    pub(in crate::service) fn mend(&self, about: &str) {
        lock(&self.faults).remove(about);
    }

    /// Is the owner to offer its tree again? Says so once.
    pub(in crate::service) fn take_lacking(&self) -> bool {
        self.lacking.swap(false, Ordering::Relaxed)
    }

    /// Why this host takes nothing.
    ///
    /// # Errors
    /// That.
    pub(in crate::service) fn receives(&self) -> Result<(), String> {
        lock(&self.receives).clone()
    }
}
