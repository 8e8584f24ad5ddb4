//! One agent per runtime folder: a lock that the kernel drops with the process, whatever ended it.
//!
//! Taken by `vipd run` and `vipd cleanup`. A stale file means nothing; only the lock on it does.

use crate::sys::inherit;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the file.
const FILE: &str = "lock";

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: Flock<File>,
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// An agent is alive.
    #[error("another agent runs with this runtime folder{}: it holds {path}", holder(.pid))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        pid: Option<u32>,
    },
    /// The folder or the file cannot be made.
    #[error("{path}: {error}; give another --runtime-dir, or run as root")]
    Io {
        /// Which one.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
}

impl LockError {
    /// Is it held, rather than broken?
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. })
    }
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl Lock {
    /// Takes the lock of `runtime_dir`, making the folder if needed, and writes our process id into it.
    ///
    /// # Errors
    /// When another process holds it, or the folder cannot be written.
    pub(super) fn take(runtime_dir: &Path) -> Result<Self, LockError> {
        let path = runtime_dir.join(FILE);
        let io = |error| LockError::Io { path: path.clone(), error };
        fs::create_dir_all(runtime_dir)
            .map_err(|error| LockError::Io { path: runtime_dir.to_owned(), error })?;
        // Never truncated on open: a loser must not wipe the holder's process id.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(io)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let pid =
                    file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { path, pid });
            }
            Err((_, errno)) => return Err(io(errno.into())),
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io)?;
        Ok(Self { file })
    }

    /// The lock that the program before this one left open as `number`, in the same process; `None`: it is not there.
    pub(super) fn inherited(runtime_dir: &Path, number: RawFd) -> Option<Self> {
        let place = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let wanted = fs::metadata(runtime_dir.join(FILE)).ok().map(place)?;
        let fd = inherit::take(number, |fd| {
            let copy = fd.try_clone().map(File::from);
            copy.and_then(|file| file.metadata()).is_ok_and(|meta| place(meta) == wanted)
        })?;
        // The lock belongs to the open file: who holds it gets it again.
        Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock).ok().map(|file| Self { file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn second_holder_is_refused_by_name_and_the_lock_ends_with_its_holder() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().join("run");
        let first = Lock::take(&dir).unwrap();
        let said = Lock::take(&dir).unwrap_err().to_string();
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        drop(first);
        Lock::take(&dir).unwrap();
    }
}
