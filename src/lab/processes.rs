//! Ending processes of a machine for good, and waiting for those that are ours.
//!
//! The only place that waits for children of the room: process 1 inherits whatever an agent leaves
//! behind, and an agent that finds a zombie under its old process id may refuse to start.

use super::clock::{now, sleep_until};
use super::netns::Netns;
use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::time::Duration;

/// Kills every process of a machine, and those that they start meanwhile.
///
/// # Errors
/// When one survives for 2 s.
pub fn kill_all(ns: &Netns) -> anyhow::Result<()> {
    let limit = now() + Duration::from_secs(2);
    loop {
        let pids = ns.processes()?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in &pids {
            signal(*pid, Signal::SIGKILL)?;
        }
        for pid in &pids {
            reap(*pid);
        }
        if now() > limit {
            bail!("processes {pids:?} of {} survive SIGKILL", ns.name());
        }
        sleep_until(now() + Duration::from_micros(200));
    }
}

/// Sends a signal; a process that is gone is none's concern.
///
/// # Errors
/// When it may not be signalled.
pub fn signal(pid: i32, signal: Signal) -> anyhow::Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot send {signal} to process {pid}")),
    }
}

/// Takes the exit status of a child that has ended; true when there is no such child any more.
pub fn reap(pid: i32) -> bool {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => true,
        Err(e) => e == Errno::ECHILD,
        Ok(_) => false,
    }
}

/// Waits until a child has ended, at most `bound`; false when it goes on.
#[must_use]
pub fn wait_end(pid: i32, bound: Duration) -> bool {
    let limit = now() + bound;
    while !reap(pid) {
        if now() > limit {
            return false;
        }
        sleep_until(now() + Duration::from_millis(1));
    }
    true
}
