//! How the last runs of the agent ended: a crash loop must not become a loop of claims (DESIGN 5.7).
//!
//! One small file in the runtime folder, written at each start, removed at a clean end. Used by the main thread at
//! start and stop; a folder that cannot be written costs the memory, never the start.

use crate::sys::file;
use std::fs;
use std::path::Path;
use vipd_core::time::{Duration, Instant};

/// Name of the file.
const FILE: &str = "run";
/// Crashes further apart than this do not make a loop.
const WINDOW: Duration = Duration::from_secs(10);
/// From this crash on the agent waits before it claims anything: 1, 2, 4 .. seconds.
const PATIENCE: u32 = 3;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// What the last runs mean for this one.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// Crashes in a row.
    pub crashes: u32,
    /// The last run died while it handed over: its addresses are no longer its own.
    pub died_leaving: bool,
}

impl Past {
    /// How long nothing is claimed.
    pub(super) fn wait(self) -> Duration {
        match self.crashes.checked_sub(PATIENCE) {
            None => Duration::ZERO,
            Some(more) => Duration::from_secs(1 << more.min(10)).min(LONGEST),
        }
    }

    /// Must this run start as Backup, whatever it finds on the interfaces?
    pub(super) fn starts_as_backup(self) -> bool {
        self.died_leaving || !self.wait().is_zero()
    }
}

/// Reads how the last run ended and notes that this one began at `now`.
pub(super) fn begin(runtime_dir: &Path, now: Instant) -> Past {
    let text = fs::read_to_string(runtime_dir.join(FILE)).unwrap_or_default();
    let past = judge(&text, now);
    note(runtime_dir, past.crashes, now, false);
    past
}

/// Notes that this run, which `past` came before, hands over from now on.
pub(super) fn leaving(runtime_dir: &Path, past: Past, now: Instant) {
    note(runtime_dir, past.crashes, now, true);
}

/// Forgets: this run ended cleanly.
pub(super) fn end(runtime_dir: &Path) {
    // Not there: could not be written either.
    let _gone = fs::remove_file(runtime_dir.join(FILE));
}

fn note(runtime_dir: &Path, crashes: u32, now: Instant, leaving: bool) {
    let text = format!("{crashes} {} {leaving}\n", now.as_nanos());
    if let Err(error) = file::replace(&runtime_dir.join(FILE), text) {
        tracing::warn!("{}: {error}: crashes are not counted", runtime_dir.join(FILE).display());
    }
}

/// `text`: crashes before the last run, when it began on the monotonic clock, whether it was leaving.
fn judge(text: &str, now: Instant) -> Past {
    let mut words = text.split_whitespace();
    let (Some(crashes), Some(began), Some(leaving)) = (words.next(), words.next(), words.next())
    else {
        return Past::default();
    };
    let (Ok(crashes), Ok(began)) = (crashes.parse::<u32>(), began.parse::<u64>()) else {
        return Past::default();
    };
    let before = Past { crashes, died_leaving: false };
    // A clock that went back: the machine was started anew.
    let lived = now.since(Instant::from_nanos(began));
    let again = Instant::from_nanos(began) <= now && lived < WINDOW + before.wait();
    Past {
        crashes: if again { crashes.saturating_add(1) } else { 0 },
        died_leaving: leaving == "true" && again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    #[test]
    fn the_third_crash_in_a_row_waits_and_the_wait_doubles() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let mut now = at(100);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let past = begin(dir, now);
            waits.push(past.wait().as_secs());
            now = now + past.wait() + Duration::from_secs(1);
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]);
        end(dir);
        assert_eq!(begin(dir, now), Past::default());
        leaving(dir, Past::default(), now);
        assert!(begin(dir, now + Duration::from_secs(1)).starts_as_backup());
    }

    #[test]
    fn old_crashes_and_rubbish_do_not_count() {
        assert_eq!(judge("5 1000000000 false", at(200)), Past::default());
        assert_eq!(judge("5 900000000000 false", at(1)), Past::default(), "the clock went back");
        for rubbish in ["", "x y z", "1", "-1 2 true", "1 2"] {
            assert_eq!(judge(rubbish, at(1)), Past::default(), "{rubbish}");
        }
    }
}
