//! `file`: a whole number in a file. `absent`: the drain switch.

use super::aside::Aside;
use super::folder::Folder;
use super::outcome::{Outcome, span, words};
use super::task::Measure;
use crate::sys::clock;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use vipd_core::engine::io::Verdict;
use vipd_core::time::{Duration, Instant};

/// A number, a line end and some air.
const LONGEST: u64 = 64;

/// `file = "/run/app/health"`.
#[derive(Debug)]
pub(super) struct Number {
    path: PathBuf,
    max_age: Option<Duration>,
    aside: Aside,
    folder: Folder,
    seen: Option<Seen>,
}

/// One state of the file, and since when it was in it.
#[derive(Copy, Clone, Debug)]
struct Seen {
    /// Inode, time of the last change in nanoseconds, length.
    state: (u64, i128, u64),
    since: Instant,
}

impl Number {
    pub(super) fn new(path: PathBuf, max_age: Option<Duration>) -> Self {
        let folder = Folder::of(&path);
        Self { path, max_age, aside: Aside::new(Verdict::Unknown), folder, seen: None }
    }

    /// How old this state of the file is. By the monotonic clock from the first sight on, so that a step of the wall
    /// clock makes no file old; only at first sight of a file that was there before is the wall clock asked.
    fn age(&mut self, state: (u64, i128, u64), now: Instant, wall: SystemTime) -> Duration {
        let since = match self.seen {
            Some(seen) if seen.state == state => seen.since,
            Some(_) => now,
            None => {
                let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let changed = Duration::from_nanos(u64::try_from(state.1).unwrap_or(0));
                now.before(wall.saturating_sub(changed))
            }
        };
        self.seen = Some(Seen { state, since });
        now - since
    }
}

impl Measure for Number {
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        let (arm, path) = (self.folder.arm(), self.path.clone());
        let content = self.aside.run(move || {
            arm();
            read(&path)
        });
        let what = format!("file {}", self.path.display());
        let (text, state) = match content.await {
            Ok(Ok(found)) => found,
            Ok(Err(e)) => return Outcome::unknown(format!("{what}: {}", words(&e))),
            Err(instead) => return instead.about(what),
        };
        let age = self.age(state, clock::monotonic(), SystemTime::now());
        if let Some(limit) = self.max_age.filter(|limit| age > *limit) {
            return Outcome::unknown(format!("{what}: {} old > {}", span(age), span(limit)));
        }
        match text.trim_ascii().parse::<i64>() {
            Ok(0) => Outcome::pass(format!("{what}: 0")),
            Ok(n) => Outcome::fail(format!("{what}: {n}")),
            Err(_) => Outcome::unknown(format!("{what}: not a whole number: {:.20?}", text.trim())),
        }
    }

    async fn changed(&mut self) {
        self.folder.changed().await;
    }
}

/// The text and the state of a regular file, without waiting for writers of a FIFO.
fn read(path: &Path) -> io::Result<(String, (u64, i128, u64))> {
    let file = open(path)?;
    let meta = file.metadata()?;
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("longer than {LONGEST} octets, not a number")));
    }
    let changed = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok((String::from_utf8_lossy(&text).into_owned(), (meta.ino(), changed, meta.size())))
}

/// Opens a regular file for reading.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// `absent = "/etc/vipd/drain"`.
#[derive(Debug)]
pub(super) struct Absent {
    path: PathBuf,
    aside: Aside,
    folder: Folder,
}

impl Absent {
    pub(super) fn new(path: PathBuf) -> Self {
        let folder = Folder::of(&path);
        Self { path, aside: Aside::new(Verdict::Unknown), folder }
    }
}

impl Measure for Absent {
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        let (arm, path) = (self.folder.arm(), self.path.clone());
        let found = self.aside.run(move || {
            arm();
            // A link to nowhere is a switch that somebody put there.
            path.symlink_metadata().map(drop)
        });
        let what = self.path.display();
        match found.await {
            Ok(Ok(())) => Outcome::fail(format!("{what} exists")),
            Ok(Err(e))
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Outcome::pass(format!("{what} is absent"))
            }
            Ok(Err(e)) => Outcome::unknown(format!("{what}: {}", words(&e))),
            Err(instead) => instead.about(what),
        }
    }

    async fn changed(&mut self) {
        self.folder.changed().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::fs;

    async fn says(content: &[u8]) -> Outcome {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("health");
        fs::write(&path, content).unwrap();
        Number::new(path, None).run().await
    }

    #[tokio::test]
    async fn a_number_is_a_verdict_and_anything_else_is_none() {
        for (content, verdict) in [
            (&b"0\n"[..], Verdict::Pass),
            (b" 0", Verdict::Pass),
            (b"1\n", Verdict::Fail),
            (b"-7", Verdict::Fail),
            (b"", Verdict::Unknown),
            (b"ok\n", Verdict::Unknown),
            (b"0 0", Verdict::Unknown),
            (b"\xff\xfe\x00", Verdict::Unknown),
            (b"99999999999999999999", Verdict::Unknown),
        ] {
            assert_eq!(says(content).await.verdict, verdict, "{content:?}");
        }
        let huge = says(&vec![b'0'; 4 << 20]).await;
        assert!(huge.detail.ends_with("longer than 64 octets, not a number"), "{}", huge.detail);
        assert_eq!(huge.verdict, Verdict::Unknown);
    }

    #[tokio::test]
    async fn what_is_no_file_is_unknown_and_does_not_hang() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in
            [fifo, folder.path().to_path_buf(), folder.path().join("none"), "/dev/zero".into()]
        {
            let outcome = Number::new(path, None).run().await;
            assert_eq!(outcome.verdict, Verdict::Unknown, "{}", outcome.detail);
        }
    }

    #[test]
    fn a_step_of_the_clock_makes_no_file_old() {
        let mut file = Number::new("/x".into(), None);
        let mono = |s| Instant::ZERO + Duration::from_secs(s);
        let wall = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let state = (1, 100 * 1_000_000_000, 2);
        assert_eq!(file.age(state, mono(1000), wall(130)), Duration::from_secs(30));
        assert_eq!(file.age(state, mono(1010), wall(9999)), Duration::from_secs(40));
        // Written by a clock of the future, or of the past: new it is.
        assert_eq!(file.age((1, 5, 2), mono(1011), wall(50)), Duration::ZERO);
        let mut ahead = Number::new("/x".into(), None);
        assert_eq!(ahead.age(state, mono(1), wall(50)), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_old_file_says_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("health");
        fs::write(&path, "0").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(90)).unwrap();
        let outcome = Number::new(path, Some(Duration::from_secs(60))).run().await;
        assert_eq!(outcome.verdict, Verdict::Unknown);
        assert!(outcome.detail.contains("90"), "{}", outcome.detail);
    }

    #[tokio::test]
    async fn the_switch_is_seen_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("drain");
        let mut absent = Absent::new(path.clone());
        assert_eq!(absent.run().await.verdict, Verdict::Pass);
        let wait = Duration::from_secs(5);
        fs::write(path.with_file_name("other"), "").unwrap();
        fs::write(&path, "").unwrap();
        tokio::time::timeout(wait, absent.changed()).await.unwrap();
        assert_eq!(absent.run().await.verdict, Verdict::Fail);
        fs::remove_file(&path).unwrap();
        tokio::time::timeout(wait, absent.changed()).await.unwrap();
        assert_eq!(absent.run().await.verdict, Verdict::Pass);
        // The folder goes, and comes back as another one.
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let lost = async {
            while absent.folder.is_armed() {
                absent.changed().await;
            }
        };
        tokio::time::timeout(wait, lost).await.unwrap();
        fs::create_dir(path.parent().unwrap()).unwrap();
        assert_eq!(absent.run().await.verdict, Verdict::Pass);
        fs::write(&path, "").unwrap();
        tokio::time::timeout(wait, absent.changed()).await.unwrap();
        assert_eq!(absent.run().await.verdict, Verdict::Fail);
    }
}
