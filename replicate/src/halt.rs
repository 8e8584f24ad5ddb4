//! When work on a set that goes on for long has to end early: the set is closed, or this host becomes the owner.
//!
//! Set from outside, without a lock, while the work goes on ([`crate::set::Set::announce`], [`crate::set::Set::stop`]); looked at
//! by everything that scans, hashes, copies or puts files in place, before each step of it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is asked of the work on a set.
#[derive(Debug, Default)]
pub(crate) struct Halt {
    /// The set is closed: nothing of it may be touched any more.
    stop: AtomicBool,
    /// The agent says that this host owns: its files are the service's, and nothing that came in may touch them.
    claim: AtomicBool,
}

/// What one piece of work has to look at.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Look<'h> {
    stop: &'h AtomicBool,
    claim: Option<&'h AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Halted;

impl Halt {
    /// For work that the owner does, or whoever: it ends when the set is closed.
    pub(crate) const fn any(&self) -> Look<'_> {
        Look { stop: &self.stop, claim: None }
    }

    /// For work that only a standby does: it ends when this host becomes the owner as well.
    pub(crate) const fn standby(&self) -> Look<'_> {
        Look { stop: &self.stop, claim: Some(&self.claim) }
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Does the agent say that this host owns? What it said before.
    pub(crate) fn claiming(&self, claiming: bool) -> bool {
        self.claim.swap(claiming, Ordering::AcqRel)
    }
}

impl Look<'_> {
    /// Goes on.
    ///
    /// # Errors
    /// It must not: [`crate::error::Error::io`] makes [`crate::error::Error::Interrupted`] of it.
    pub(crate) fn look(self) -> io::Result<()> {
        let claim = self.claim.is_some_and(|claim| claim.load(Ordering::Acquire));
        if claim || self.stop.load(Ordering::Acquire) {
            Err(io::Error::other(Halted))
        } else {
            Ok(())
        }
    }
}

/// Is it the error of [`Look::look`]?
pub(crate) fn halted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Halted>())
}
