//! `process` and `pid-file`: what runs, and when it stops running.
//!
//! What was found is watched by descriptors, so that a death is seen at once; `/proc` is looked through at the
//! interval of the check alone, for what is new.

use super::aside::Aside;
use super::file::open;
use super::folder::Folder;
use super::outcome::{Outcome, is_own_trouble, words};
use super::task::Measure;
use crate::sys::Readable;
use crate::sys::pidfd::{has_ended, pidfd};
use futures_util::future::{poll_fn, select};
use std::fs;
use std::future::{Future, pending};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use vipd_core::engine::io::Verdict;

/// Processes of one name that are watched; those above are only counted.
const WATCHED: usize = 32;
/// Digits of a process number, and some air.
const LONGEST: u64 = 32;

/// `process = "nginx"`.
#[derive(Debug)]
pub(super) struct Named {
    name: Arc<str>,
    at_least: u32,
    at_most: Option<u32>,
    aside: Aside,
    watched: Vec<Readable>,
}

impl Named {
    pub(super) fn new(name: Arc<str>, at_least: u32, at_most: Option<u32>) -> Self {
        let aside = Aside::new(Verdict::Unknown);
        Self { name, at_least, at_most, aside, watched: Vec::new() }
    }
}

impl Measure for Named {
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        self.watched.clear();
        let name = Arc::clone(&self.name);
        let found = match self.aside.run(move || find(Path::new("/proc"), &name)).await {
            Ok(Ok(found)) => found,
            Ok(Err(e)) => return Outcome::unknown(format!("/proc: {}", words(&e))),
            Err(instead) => return instead.about("/proc"),
        };
        self.watched = found.alive.iter().filter_map(|p| Readable::new(p).ok()).collect();
        let (name, least, count) = (&self.name, self.at_least, found.count);
        let what = format!("process {name}: {count} running");
        if let Some(most) = self.at_most.filter(|most| count > u64::from(*most)) {
            Outcome::fail(format!("{what} > {most}"))
        } else if count >= u64::from(least) && !(found.hidden && self.at_most.is_some()) {
            match self.at_most {
                Some(most) => Outcome::pass(format!("{what}, {least} to {most} wanted")),
                None => Outcome::pass(format!("{what} >= {least}")),
            }
        } else if found.hidden {
            Outcome::unknown(format!(
                "{what} that vipd may see: processes of other users are hidden from it (ProtectProc= of its unit)"
            ))
        } else {
            Outcome::fail(format!("{what} < {least}"))
        }
    }

    async fn changed(&mut self) {
        let mut deaths: Vec<_> = self.watched.iter().map(|p| Box::pin(p.ready())).collect();
        // Few, and woken seldom: no need for a set that knows who woke it.
        poll_fn(|cx| {
            let any = deaths.iter_mut().any(|d| d.as_mut().poll(cx).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// What `/proc` says about a name.
#[derive(Debug)]
struct Found {
    count: u64,
    /// The first of them.
    alive: Vec<OwnedFd>,
    /// Not every process can be seen.
    hidden: bool,
}

fn find(proc: &Path, name: &str) -> io::Result<Found> {
    let mut found = Found { count: 0, alive: Vec::new(), hidden: !proc.join("1").exists() };
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let stat = match fs::read(entry.path().join("stat")) {
            Ok(stat) => stat,
            Err(e) if is_own_trouble(&e) => return Err(e),
            // It ended meanwhile.
            Err(_) => continue,
        };
        if !runs(&stat, name) {
            continue;
        }
        found.count += 1;
        if found.alive.len() < WATCHED {
            found.alive.extend(pidfd(pid));
        }
    }
    Ok(found)
}

/// Is this `/proc/PID/stat` of a process with this name that has not ended? A name may contain anything.
fn runs(stat: &[u8], name: &str) -> bool {
    let (Some(from), Some(to)) =
        (stat.iter().position(|b| *b == b'('), stat.iter().rposition(|b| *b == b')'))
    else {
        return false;
    };
    let state = stat.get(to + 2);
    stat.get(from + 1..to) == Some(name.as_bytes())
        && !matches!(state, None | Some(b'Z' | b'X' | b'x'))
}

/// `pid-file = "/run/nginx.pid"`.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    aside: Aside,
    folder: Folder,
    process: Option<Readable>,
}

impl PidFile {
    pub(super) fn new(path: PathBuf) -> Self {
        let folder = Folder::of(&path);
        Self { path, aside: Aside::new(Verdict::Unknown), folder, process: None }
    }
}

impl Measure for PidFile {
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        let (arm, path) = (self.folder.arm(), self.path.clone());
        self.process = None;
        let read = self.aside.run(move || {
            arm();
            read(&path)
        });
        let what = format!("pid-file {}", self.path.display());
        let text = match read.await {
            Ok(Ok(text)) => text,
            Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => {
                return Outcome::fail(format!("{what}: {}", words(&e)));
            }
            Ok(Err(e)) => return Outcome::unknown(format!("{what}: {}", words(&e))),
            Err(instead) => return instead.about(what),
        };
        let Some(pid) = text.trim_ascii().parse::<u32>().ok().filter(|pid| *pid > 0) else {
            return Outcome::unknown(format!("{what}: not a process number: {:.20?}", text.trim()));
        };
        let process = pidfd(pid).and_then(|p| Ok((has_ended(&p)?, p)));
        match process {
            Ok((false, process)) => {
                self.process = Readable::new(&process).ok();
                Outcome::pass(format!("{what}: process {pid} runs"))
            }
            Ok((true, _)) => Outcome::fail(format!("{what}: process {pid} has ended")),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
                Outcome::fail(format!("{what}: no process {pid}"))
            }
            Err(e) => Outcome::unknown(format!("{what}: process {pid}: {}", words(&e))),
        }
    }

    async fn changed(&mut self) {
        let ended = async {
            match &self.process {
                Some(process) => process.ready().await,
                None => pending().await,
            }
        };
        let file = self.folder.changed();
        select(pin!(ended), pin!(file)).await;
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    open(path)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::process::{Child, Command};
    use std::time::Duration;
    use tokio::time::timeout;

    /// A process with a name of its own.
    fn start(name: &str) -> Child {
        // The program is open before its folder goes.
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(name);
        std::os::unix::fs::symlink("/bin/sleep", &path).unwrap();
        Command::new(path).arg("60").spawn().unwrap()
    }

    #[test]
    fn names_are_exact_and_zombies_do_not_run() {
        assert!(runs(b"7 (nginx) S 1 7", "nginx"));
        assert!(runs(b"7 (a) Z (b) c) R 1", "a) Z (b) c"));
        assert!(!runs(b"7 (nginx) Z 1 7", "nginx"));
        assert!(!runs(b"7 (nginx2) S 1 7", "nginx"));
        for bad in [&b""[..], b"(", b")(", b"7 (nginx)", b"7 (nginx) ", b"\xff\xff"] {
            assert!(!runs(bad, "nginx"), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_death_is_seen_at_once() {
        let (mut one, mut two) = (start("vipd-test-abc"), start("vipd-test-abc"));
        let mut named = Named::new("vipd-test-abc".into(), 2, None);
        while named.run().await.verdict != Verdict::Pass {
            // Between fork and exec they bear our name.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(timeout(Duration::from_millis(50), named.changed()).await.is_err());
        one.kill().unwrap();
        timeout(Duration::from_secs(5), named.changed()).await.unwrap();
        // Nobody has waited for it yet.
        let outcome = named.run().await;
        assert_eq!(outcome, Outcome::fail("process vipd-test-abc: 1 running < 2"));
        assert!(timeout(Duration::from_millis(50), named.changed()).await.is_err());
        two.kill().unwrap();
        one.wait().unwrap();
        two.wait().unwrap();
        assert_eq!(named.run().await.verdict, Verdict::Fail);
    }

    #[tokio::test]
    async fn too_many_and_none_at_all_are_told() {
        let mut none = Named::new("vipd-test-few".into(), 0, Some(0));
        let passes = Outcome::pass("process vipd-test-few: 0 running, 0 to 0 wanted");
        assert_eq!(none.run().await, passes);
        let mut one = start("vipd-test-few");
        while none.run().await.verdict == Verdict::Pass {
            // Between fork and exec it bears our name.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(none.run().await, Outcome::fail("process vipd-test-few: 1 running > 0"));
        one.kill().unwrap();
        one.wait().unwrap();
        assert_eq!(none.run().await, passes);
    }

    #[test]
    fn hidden_processes_are_known_to_be_hidden() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("12")).unwrap();
        fs::write(proc.path().join("12/stat"), "12 (nginx) S 1").unwrap();
        let found = find(proc.path(), "nginx").unwrap();
        assert!(found.hidden);
        assert_eq!(found.count, 1);
        assert!(!find(Path::new("/proc"), "nginx").unwrap().hidden);
    }

    #[tokio::test]
    async fn the_file_and_the_process_are_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("x.pid");
        let mut check = PidFile::new(path.clone());
        assert_eq!(check.run().await.verdict, Verdict::Fail, "no file");
        let mut child = start("vipd-test-pid");
        fs::write(&path, format!("{}\n", child.id())).unwrap();
        timeout(Duration::from_secs(5), check.changed()).await.unwrap();
        assert_eq!(check.run().await.verdict, Verdict::Pass);
        child.kill().unwrap();
        timeout(Duration::from_secs(5), check.changed()).await.unwrap();
        let ended = check.run().await;
        assert!(ended.detail.ends_with("has ended"), "{}", ended.detail);
        child.wait().unwrap();
        let gone = check.run().await;
        assert_eq!(gone.verdict, Verdict::Fail);
        assert!(gone.detail.contains("no process"), "{}", gone.detail);
        for (bad, verdict) in [
            ("", Verdict::Unknown),
            ("0", Verdict::Unknown),
            ("-1", Verdict::Unknown),
            ("nginx", Verdict::Unknown),
            ("4294967295", Verdict::Fail),
        ] {
            fs::write(&path, bad).unwrap();
            assert_eq!(check.run().await.verdict, verdict, "{bad}");
        }
    }
}
