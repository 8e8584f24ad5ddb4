//! The file that an agent leaves to the one that goes on in its place (DESIGN 5.7): what the engine knows, and the
//! locks where the process stays the same.
//!
//! Written at the end of a planned restart, read once at start and removed at that. Another release may have written it:
//! what is not known is skipped, what is missing is as if there had been no agent before. It is good for one boot of the
//! machine; how long it is good in that, the engine judges.

use super::lock::Lock;
use crate::sys::{NamespaceLock, file, inherit};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::path::Path;
use vipd_core::engine::io::Handover;

/// Name of the file in the runtime folder.
const FILE: &str = "handover";
/// Grows when a field changes its meaning: such a file is not understood, and this run starts as after a crash.
const SCHEMA: u32 = 1;

/// What is handed over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Left {
    schema: u32,
    /// Which boot of the machine.
    boot_id: String,
    /// Process that wrote it.
    pid: u32,
    /// Descriptors of the locks, for the same process.
    locks: Option<Locks>,
    /// Release that wrote it.
    pub version: String,
    /// The operation that ends when the next agent runs.
    pub operation: Option<u64>,
    /// The service manager wanted the process to end: that is still to be done.
    pub terminate: bool,
    /// What the engine knew.
    pub engine: Handover,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Locks {
    folder: RawFd,
    namespace: RawFd,
}

impl Left {
    /// Of this agent.
    pub(super) fn new(engine: Handover, operation: Option<u64>, terminate: bool) -> Self {
        Self {
            schema: SCHEMA,
            boot_id: boot_id(),
            pid: std::process::id(),
            locks: None,
            version: env!("CARGO_PKG_VERSION").into(),
            operation,
            terminate,
            engine,
        }
    }

    /// Lets the next program in this process have the locks as well. They stay open over exec from here on.
    ///
    /// # Errors
    /// When they cannot be left open.
    pub(super) fn with_locks(
        mut self,
        folder: impl AsFd,
        namespace: impl AsFd,
    ) -> io::Result<Self> {
        self.locks = Some(Locks {
            folder: inherit::leave_open(folder)?,
            namespace: inherit::leave_open(namespace)?,
        });
        Ok(self)
    }

    /// Writes it into `runtime_dir`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn write(&self, runtime_dir: &Path) -> io::Result<()> {
        file::replace(&runtime_dir.join(FILE), serde_json::to_vec(self)?)
    }

    /// What the agent before this one left, with the locks if this is the same process; a second call finds nothing.
    pub(super) fn take(runtime_dir: &Path) -> (Option<Self>, Option<(Lock, NamespaceLock)>) {
        let path = runtime_dir.join(FILE);
        let Ok(text) = fs::read(&path) else { return (None, None) };
        // Not to be read twice, not even by an agent that comes after a crash of this one.
        let _gone = fs::remove_file(&path);
        let left = match serde_json::from_slice::<Self>(&text) {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!("{}: {error}: starts as after a crash", path.display());
                return (None, None);
            }
        };
        let same_process = left.pid == std::process::id() && left.boot_id == boot_id();
        let locks = left.locks.filter(|_| same_process).and_then(|numbers| {
            let folder = Lock::inherited(runtime_dir, numbers.folder);
            folder.zip(NamespaceLock::inherited(numbers.namespace))
        });
        let understood = left.schema == SCHEMA && left.boot_id == boot_id();
        if !understood {
            tracing::warn!(
                "{}: from vipd {}, of another schema or an earlier boot: starts as after a crash",
                path.display(),
                left.version
            );
        }
        (understood.then_some(left), locks)
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn it_is_read_once_and_the_locks_go_with_it() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let lock = Lock::take(dir).unwrap();
        let (namespace, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let engine = Handover { boot: 7, seq: 40, ..Handover::default() };
        let left = Left::new(engine.clone(), Some(9), true).with_locks(&lock, &namespace).unwrap();
        left.write(dir).unwrap();
        let folder = left.locks.unwrap().folder;
        // As after exec: nobody owns the descriptor any more.
        std::mem::forget(lock);
        let held = Lock::inherited(dir, folder).unwrap();
        assert!(Lock::take(dir).is_err(), "it was never free");
        std::mem::forget(held);
        // A socket of another name is not the lock of the namespace: both are taken anew.
        let (read, locks) = Left::take(dir);
        let read = read.unwrap();
        assert_eq!((read.engine, read.operation, read.terminate), (engine, Some(9), true));
        assert!(locks.is_none());
        assert!(Left::take(dir).0.is_none(), "read once");
    }

    #[test]
    fn what_another_release_wrote_is_understood_or_left_alone() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let write = |text: &str| fs::write(dir.join(FILE), text).unwrap();
        let id = boot_id();
        write(&format!(r#"{{"schema":1,"boot-id":"{id}","mood":"calm","engine":{{"seq":3}}}}"#));
        assert_eq!(Left::take(dir).0.unwrap().engine.seq, 3);
        for not in [
            format!(r#"{{"schema":2,"boot-id":"{id}"}}"#),
            r#"{"schema":1,"boot-id":"an earlier one"}"#.into(),
            "rubbish".into(),
            String::new(),
        ] {
            write(&not);
            assert!(Left::take(dir).0.is_none(), "{not}");
        }
    }
}
