//! Failpoints: before and after every step that touches the disk, so that tests can end the process or fail the step
//! there.
//!
//! They do something only in builds with debug assertions, and only on a thread that called [`arm`]; elsewhere
//! `point` is `Ok(())`.

use std::io;

/// What happens at the chosen hit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: hits are counted.
    Count,
    /// SIGKILL to the own process.
    Kill,
    /// The step fails as on a broken disk.
    Error,
}

#[cfg(debug_assertions)]
mod armed {
    use super::Action;
    use std::cell::RefCell;
    use std::io;

    enum Does {
        Action(Action),
        Call(Option<Box<dyn FnOnce()>>),
    }

    struct Armed {
        hits: u64,
        at: u64,
        does: Does,
        names: Vec<&'static str>,
    }

    thread_local! {
        static ARMED: RefCell<Option<Armed>> = const { RefCell::new(None) };
    }

    /// From here on, on this thread: `action` at hit number `at`, counted from 1.
    pub fn arm(at: u64, action: Action) {
        ARMED.set(Some(Armed { hits: 0, at, does: Does::Action(action), names: Vec::new() }));
    }

    /// As [`arm`]; at that hit `call` is called, in which failpoints do nothing, and the step goes on.
    pub fn arm_call(at: u64, call: impl FnOnce() + 'static) {
        let does = Does::Call(Some(Box::new(call)));
        ARMED.set(Some(Armed { hits: 0, at, does, names: Vec::new() }));
    }

    /// No failpoints on this thread any more.
    ///
    /// Returns the names that were hit, in their order.
    pub fn disarm() -> Vec<&'static str> {
        ARMED.take().map(|armed| armed.names).unwrap_or_default()
    }

    pub(crate) fn point(name: &'static str) -> io::Result<()> {
        let Some(mut armed) = ARMED.take() else { return Ok(()) };
        armed.hits += 1;
        armed.names.push(name);
        let mut done = Ok(());
        if armed.hits == armed.at {
            match &mut armed.does {
                Does::Call(call) => {
                    if let Some(call) = call.take() {
                        call();
                    }
                }
                Does::Action(Action::Count) => {}
                Does::Action(Action::Kill) => {
                    // The process is gone when this returns, unless it may not signal itself.
                    let _ = rustix::process::kill_process(
                        rustix::process::getpid(),
                        rustix::process::Signal::KILL,
                    );
                    done = Err(io::Error::other("killed"));
                }
                Does::Action(Action::Error) => {
                    done = Err(io::Error::other(format!("failpoint {name}")));
                }
            }
        }
        ARMED.set(Some(armed));
        done
    }
}

#[cfg(debug_assertions)]
pub use armed::{arm, arm_call, disarm};

/// A step that touches the disk begins or is done.
///
/// # Errors
/// Where a test asked for it.
#[inline]
pub(crate) fn point(name: &'static str) -> io::Result<()> {
    #[cfg(debug_assertions)]
    return armed::point(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        Ok(())
    }
}
