//! Ends what programs leave behind: background processes, daemons, whatever left its session.
//!
//! `vipd exec` is the parent of every orphan below it ([`crate::sys::process::adopt_orphans`]), so each of them shows
//! up among its children. A leftover in the session of its program gets what is left of that program's time, one that
//! made a session of its own at most the time of the programs that ran when it was first seen; then TERM, and KILL
//! two seconds later. Only children that nobody has waited for are signalled: their numbers cannot be taken by others.

use super::launch::GRACE;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// Between two looks while there is something to look after.
const TICK: Duration = Duration::from_millis(200);

/// All programs of this process and what is left of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftovers {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<i32, Session>,
    strays: HashMap<i32, Instant>,
}

/// One program; its process number is that of its session.
#[derive(Debug)]
struct Session {
    running: bool,
    /// Nothing of it is left after this, and [`GRACE`].
    until: Instant,
}

impl Leftovers {
    /// A program started as process and session `pid` and may take until `until`.
    pub(super) fn began(&self, pid: i32, until: Instant) {
        self.lock().sessions.insert(pid, Session { running: true, until });
    }

    /// It ended and was waited for; what it left may go on until `until`.
    pub(super) fn ended(&self, pid: i32, until: Instant) {
        if let Some(session) = self.lock().sessions.get_mut(&pid) {
            session.running = false;
            session.until = until;
        }
        self.sweep();
    }

    /// From now on nothing may go on.
    pub(super) fn end_all(&self) {
        let now = Instant::now();
        let mut inner = self.lock();
        for (pid, session) in &mut inner.sessions {
            session.until = session.until.min(now);
            if session.running {
                // Not waited for yet: the group is still its own.
                let _ = kill(Pid::from_raw(-pid), Signal::SIGTERM);
            }
        }
        for until in inner.strays.values_mut() {
            *until = (*until).min(now);
        }
    }

    /// Nothing runs and nothing is left?
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.sessions.is_empty() && inner.strays.is_empty()
    }

    /// Looks after what is left, for ever.
    pub(super) async fn tend(self) {
        let mut child = signal(SignalKind::child()).ok();
        loop {
            let told = async {
                match &mut child {
                    Some(child) => child.recv().await,
                    None => std::future::pending().await,
                }
            };
            if self.is_empty() {
                told.await;
            } else {
                let _ = tokio::time::timeout(TICK, told).await;
            }
            self.sweep();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self) {
        let now = Instant::now();
        let mut inner = self.lock();
        let mut seen = HashSet::new();
        for pid in children() {
            if inner.sessions.get(&pid).is_some_and(|s| s.running) {
                continue;
            }
            let Some((state, session)) = stat(pid) else { continue };
            if state == 'Z' {
                // Its end was not waited for by anybody else.
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
                continue;
            }
            let until = match inner.sessions.get(&session) {
                Some(session) if session.running => continue,
                Some(session) => session.until,
                None => {
                    let latest = inner.sessions.values().map(|s| s.until).max().unwrap_or(now);
                    *inner.strays.entry(pid).or_insert(latest)
                }
            };
            seen.insert(pid);
            seen.insert(session);
            if now >= until {
                let last = now >= until + GRACE;
                let with = if last { Signal::SIGKILL } else { Signal::SIGTERM };
                // It may have ended in between.
                let _ = kill(Pid::from_raw(pid), with);
            }
        }
        inner.sessions.retain(|pid, session| session.running || seen.contains(pid));
        inner.strays.retain(|pid, _| seen.contains(pid));
    }
}

/// Children of this process, adopted ones included.
fn children() -> Vec<i32> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut found = Vec::new();
    let mut listed = false;
    for thread in threads.flatten() {
        if let Ok(text) = fs::read_to_string(thread.path().join("children")) {
            listed = true;
            found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    // Kernels without CONFIG_PROC_CHILDREN: look at every process.
    if listed { found } else { search() }
}

fn search() -> Vec<i32> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let me = std::process::id().to_string();
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| fields(*pid).is_some_and(|f| f.get(1) == Some(&me)))
        .collect()
}

/// State and session of a process.
fn stat(pid: i32) -> Option<(char, i32)> {
    let fields = fields(pid)?;
    Some((fields.first()?.chars().next()?, fields.get(3)?.parse().ok()?))
}

/// What stands behind the name in `/proc/PID/stat`: state, parent, group, session.
fn fields(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().take(4).map(str::to_owned).collect())
}
