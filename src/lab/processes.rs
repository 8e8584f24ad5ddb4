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
    let mut killed = Vec::new();
    loop {
        let pids = ns.processes()?;
        for pid in &pids {
            signal(*pid, Signal::SIGKILL)?;
        }
        if pids.is_empty() {
            break;
        }
        killed.extend(pids);
        if now() > limit {
            bail!("processes {killed:?} of {} survive SIGKILL", ns.name());
        }
        sleep_until(now() + Duration::from_micros(200));
    }
    // A process that has ended is on no machine any more, and still there until it is waited for.
    if !wait_gone(&killed, Duration::from_secs(2)) {
        bail!("processes {killed:?} of {} do not end", ns.name());
    }
    Ok(())
}

/// Waits until none of these processes exists, not even as a zombie, at most `bound`; false when one
/// does. Those whose parents have ended have become children of the room.
#[must_use]
pub fn wait_gone(pids: &[i32], bound: Duration) -> bool {
    let limit = now() + bound;
    let exists = |pid: &i32| {
        reap(*pid);
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    };
    while pids.iter().any(exists) {
        if now() > limit {
            return false;
        }
        sleep_until(now() + Duration::from_millis(1));
    }
    true
}

/// Number and command line of a process; `None`: there is no such process.
#[must_use]
pub fn describe(pid: i32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(format!("{pid} ({})", String::from_utf8_lossy(&line).replace('\0', " ").trim()))
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

/// Of `all`: `root`, its descendants, and the members of its process group, whose parents may have
/// ended before them. Ended processes that nobody has waited for count.
#[must_use]
pub fn tree(all: &[i32], root: i32) -> Vec<i32> {
    let mut found = vec![root];
    // (pid, parent, process group): fields 4 and 5 of /proc/PID/stat, behind the name in brackets.
    let links: Vec<(i32, i32, i32)> = all
        .iter()
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
            Some((*pid, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect();
    loop {
        let more: Vec<i32> = links
            .iter()
            .filter(|(pid, parent, group)| {
                !found.contains(pid) && (found.contains(parent) || *group == root)
            })
            .map(|(pid, ..)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}
