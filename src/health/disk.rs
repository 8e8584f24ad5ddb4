//! `disk`: space, inodes, read-only, and whether a write comes through.
//!
//! Everything happens aside: `statvfs` hangs where a file server is dead, `fsync` where a disk is.

use super::aside::Aside;
use super::outcome::{Outcome, is_own_trouble, words};
use super::task::Measure;
use nix::sys::statvfs::{Statvfs, statvfs};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use vipd_core::engine::io::Verdict;

/// What is written: one block.
const PROBE: [u8; 4096] = [0x5a; 4096];

/// What a disk check looks at.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) path: PathBuf,
    pub(super) warn: f32,
    pub(super) fail: f32,
    /// Name of the file to write in `path`.
    pub(super) write: Option<String>,
}

/// `disk = "/var"`.
#[derive(Debug)]
pub(super) struct Disk {
    limits: Limits,
    aside: Aside,
}

impl Disk {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, aside: Aside::new(Verdict::Fail) }
    }
}

impl Measure for Disk {
    const LATE: Verdict = Verdict::Fail;

    async fn run(&mut self) -> Outcome {
        let limits = self.limits.clone();
        let measured = self.aside.run(move || measure(&limits)).await;
        measured.unwrap_or_else(|instead| {
            instead.about(format_args!("disk {}", self.limits.path.display()))
        })
    }
}

fn measure(limits: &Limits) -> Outcome {
    let what = format!("disk {}", limits.path.display());
    let numbers = match statvfs(&limits.path) {
        Ok(numbers) => numbers,
        Err(e) => {
            let e = io::Error::from(e);
            let verdict = if is_nothing_there(&e) { Verdict::Unknown } else { Verdict::Fail };
            return Outcome::new(verdict, format!("{what}: {}", words(&e)));
        }
    };
    // The flag of `statvfs` is also set where only the unit's sandbox is read-only.
    let read_only = read_only(&limits.path);
    if read_only == Some(true) {
        return Outcome::fail(format!("{what}: the file system is read-only"));
    }
    let outcome = room(&what, &free(&numbers), limits);
    let Some(name) = limits.write.as_ref().filter(|_| outcome.verdict != Verdict::Fail) else {
        return outcome;
    };
    match write(&limits.path.join(name)) {
        Ok(()) => Outcome::new(outcome.verdict, format!("{}, written", outcome.detail)),
        Err(e) if is_refusal(&e) => Outcome::unknown(format!(
            "{what}: vipd may not write here: {}: give its user the right, and its unit a ReadWritePaths=",
            words(&e)
        )),
        Err(e) if is_own_trouble(&e) => Outcome::unknown(format!("{what}: {}", words(&e))),
        Err(e) => Outcome::fail(format!("{what}: write of 4 KiB: {}", words(&e))),
    }
}

/// A path that is not there, or not for vipd, is no disk that failed.
fn is_nothing_there(e: &io::Error) -> bool {
    let path = [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::ELOOP, libc::ENOSYS];
    is_own_trouble(e) || e.raw_os_error().is_some_and(|n| path.contains(&n))
}

/// Of the agent, not of the disk: its rights, or its sandbox where the file system itself is writable.
fn is_refusal(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

/// Percent free for ordinary users, as `df` counts: space, and inodes where the file system has a number of them.
fn free(numbers: &Statvfs) -> Vec<(&'static str, f64)> {
    let used = numbers.blocks().saturating_sub(numbers.blocks_free());
    let available = numbers.blocks_available();
    let kinds = [
        ("space", available, used + available),
        ("inodes", numbers.files_available(), numbers.files()),
    ];
    let share = |part: u64, whole: u64| part as f64 * 100.0 / whole as f64;
    kinds
        .into_iter()
        .filter(|(_, _, whole)| *whole > 0)
        .map(|(kind, part, whole)| (kind, share(part, whole)))
        .collect()
}

/// The scarcest kind against the limits.
fn room(what: &str, free: &[(&'static str, f64)], limits: &Limits) -> Outcome {
    let Some((kind, share)) = free.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Outcome::unknown(format!("{what}: the file system has no size"));
    };
    let say =
        |sign: &str, limit: f32| format!("{what}: {share:.1} % of {kind} free {sign} {limit} %");
    if *share < f64::from(limits.fail) {
        Outcome::fail(say("<", limits.fail))
    } else if *share < f64::from(limits.warn) {
        Outcome::warn(say("<", limits.warn))
    } else {
        Outcome::pass(say(">=", limits.warn))
    }
}

/// Is the file system itself read-only, whatever the mount in our sandbox is? `None`: the kernel does not say.
fn read_only(path: &Path) -> Option<bool> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    let place = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd())).ok()?;
    let mount = info.lines().find_map(|l| l.strip_prefix("mnt_id:"))?.trim();
    super_block_read_only(&fs::read_to_string("/proc/self/mountinfo").ok()?, mount)
}

/// The options of the file system in `/proc/self/mountinfo`: the last field, after those of the mount.
fn super_block_read_only(mountinfo: &str, mount: &str) -> Option<bool> {
    let line = mountinfo.lines().find(|l| l.split(' ').next() == Some(mount))?;
    let options = line.split_once(" - ")?.1.split(' ').nth(2)?;
    Some(options.split(',').any(|o| o == "ro"))
}

/// Writes, syncs and removes one block in a file that nobody else can have made a link of.
fn write(path: &Path) -> io::Result<()> {
    // Of a run that was killed.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(&PROBE).and_then(|()| file.sync_all());
    let removed = fs::remove_file(path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn limits(path: &Path, warn: f32, fail: f32, write: Option<&str>) -> Limits {
        Limits { path: path.to_owned(), warn, fail, write: write.map(Into::into) }
    }

    #[test]
    fn the_scarcest_kind_decides() {
        let l = limits(Path::new("/"), 10.0, 2.0, None);
        let both = |space, inodes| room("disk /", &[("space", space), ("inodes", inodes)], &l);
        assert_eq!(both(50.0, 10.0), Outcome::pass("disk /: 10.0 % of inodes free >= 10 %"));
        assert_eq!(both(50.0, 9.9), Outcome::warn("disk /: 9.9 % of inodes free < 10 %"));
        assert_eq!(both(1.96, 9.9), Outcome::fail("disk /: 2.0 % of space free < 2 %"));
        assert_eq!(room("disk /", &[], &l).verdict, Verdict::Unknown);
    }

    #[test]
    fn a_read_only_sandbox_is_no_read_only_disk() {
        let info = "36 35 98:0 /m /var ro,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                    37 35 98:1 / /srv ro shared:2 master:1 - ext4 /dev/x ro,relatime\n\
                    bad line\n38 35 - - ext4";
        assert_eq!(super_block_read_only(info, "36"), Some(false));
        assert_eq!(super_block_read_only(info, "37"), Some(true));
        for none in ["38", "3", "", "bad"] {
            assert_eq!(super_block_read_only(info, none), None, "{none}");
        }
    }

    #[tokio::test]
    async fn a_block_is_written_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".probe"), "left over").unwrap();
        let mut disk = Disk::new(limits(folder.path(), 0.0, 0.0, Some(".probe")));
        let outcome = disk.run().await;
        assert_eq!(outcome.verdict, Verdict::Pass, "{}", outcome.detail);
        assert!(outcome.detail.ends_with(">= 0 %, written"), "{}", outcome.detail);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let full = Disk::new(limits(folder.path(), 101.0, 101.0, None)).run().await;
        assert_eq!(full.verdict, Verdict::Fail, "{}", full.detail);
    }

    #[tokio::test]
    async fn what_cannot_be_tried_is_unknown() {
        let gone = Disk::new(limits(Path::new("/nowhere"), 5.0, 1.0, None)).run().await;
        assert_eq!(gone.verdict, Verdict::Unknown);
        // Nobody may create files there, root neither.
        let proc = measure(&limits(Path::new("/proc/self"), 0.0, 0.0, Some("probe")));
        assert_ne!(proc.verdict, Verdict::Pass, "{}", proc.detail);
    }
}
