//! The boot counter: how peers tell a restarted agent from a replayed heartbeat.
//!
//! One number in one file, one higher at each start, replaced atomically and synced before it is used.

use crate::sys::file;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file in either folder.
const FILE: &str = "boot";

/// The counter of this start, and what was wrong with keeping it.
#[derive(Debug)]
pub(super) struct Boot {
    /// At least 1.
    pub counter: u64,
    /// Set when the counter may repeat after the machine restarts.
    pub warning: Option<BootWarning>,
}

/// The counter could not be kept where it belongs.
#[derive(Debug, thiserror::Error)]
pub(super) enum BootWarning {
    /// Kept in the runtime folder, which does not survive a restart of the machine.
    #[error(
        "{path}: {error}; the boot counter is kept in the runtime folder and may repeat after the machine \
         restarts, peers may then refuse heartbeats for a while: make the folder writable"
    )]
    Unwritable {
        /// The file that could not be written.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
    /// Kept nowhere.
    #[error(
        "{path}: {error}; the boot counter is kept nowhere and will repeat: make the folder writable"
    )]
    Lost {
        /// The second file that could not be written.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
}

/// One more than the highest counter found in either folder, written to the first one that takes it.
pub(super) fn next(state_dir: &Path, runtime_dir: &Path) -> Boot {
    let last = read(state_dir).max(read(runtime_dir));
    let counter = last.saturating_add(1);
    let Err(error) = store(state_dir, counter) else {
        return Boot { counter, warning: None };
    };
    let warning = match store(runtime_dir, counter) {
        Ok(()) => BootWarning::Unwritable { path: state_dir.join(FILE), error },
        Err(error) => BootWarning::Lost { path: runtime_dir.join(FILE), error },
    };
    Boot { counter, warning: Some(warning) }
}

/// Stores `counter`, which a peer remembered, where this start's counter went.
///
/// # Errors
/// When neither folder takes it.
pub(super) fn raise(state_dir: &Path, runtime_dir: &Path, counter: u64) -> io::Result<()> {
    store(state_dir, counter).or_else(|_| store(runtime_dir, counter))
}

/// The counter in `dir`; 0 when there is none or it is not a number.
fn read(dir: &Path) -> u64 {
    fs::read_to_string(dir.join(FILE)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn store(dir: &Path, counter: u64) -> io::Result<()> {
    file::replace_durably(&dir.join(FILE), format!("{counter}\n"), 0o644)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;

    /// Folders of state and of the runtime, not made yet, and what holds them.
    fn folders() -> (PathBuf, PathBuf, tempfile::TempDir) {
        let room = tempfile::tempdir().unwrap();
        (room.path().join("state"), room.path().join("run"), room)
    }

    #[test]
    fn counts_up_from_one_and_survives() {
        let (state, run, _room) = folders();
        for want in 1..=3 {
            let boot = next(&state, &run);
            assert_eq!(boot.counter, want);
            assert!(boot.warning.is_none());
        }
        assert!(!run.exists(), "the runtime folder is the second choice only");
    }

    #[test]
    fn goes_on_in_the_runtime_folder_and_says_so() {
        let (state, run, _room) = folders();
        next(&state, &run);
        // A folder of that name: nobody, not even root, can replace it by a file.
        fs::create_dir(state.join("boot.new")).unwrap();
        assert_eq!(next(&state, &run).counter, 2);
        let third = next(&state, &run);
        assert_eq!(third.counter, 3, "does not repeat while the machine is up");
        assert!(matches!(third.warning, Some(BootWarning::Unwritable { .. })));
    }

    #[test]
    fn rubbish_counts_as_none() {
        let (state, run, _room) = folders();
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("boot"), "many").unwrap();
        assert_eq!(next(&state, &run).counter, 1);
    }
}
