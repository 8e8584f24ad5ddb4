//! The history on disk: a line of JSON for each entry in the state folder, so that it survives a restart.
//!
//! Read at the start. Written by a thread of its own; a history that cannot be kept costs its memory and nothing else, so
//! lines are not synced one by one. Nobody waits for it but the answer to an order, and that not for long.

use super::{Entry, When};
use crate::control::events::Event;
use crate::sys::file;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;
use tokio::sync::watch;
use vipd_core::time::Instant;

/// Name in the state folder.
const FILE: &str = "history.jsonl";
/// No file is read further, octets.
const LONGEST: u64 = 16 * 1024 * 1024;
/// Lines that may wait for the disk.
const WAITING: usize = 1024;
/// The end of the agent waits this long for the disk; nothing is owned any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Which start of the machine: its monotonic clock is meant.
    machine: String,
    /// Nanoseconds on that clock.
    at_ns: u64,
    event: Event,
}

/// Which start of the machine this is.
fn machine() -> &'static str {
    static MACHINE: OnceLock<String> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    })
}

fn line(entry: &Entry) -> Option<String> {
    // Entries of an earlier start of the machine are lines already.
    let When::Here(at) = entry.when else { return None };
    let line = Line {
        machine: machine().to_owned(),
        at_ns: at.as_nanos(),
        event: Event { age_s: 0.0, ..entry.event.clone() },
    };
    serde_json::to_string(&line).ok()
}

fn entry(line: &str) -> Option<Entry> {
    let Line { machine: of, at_ns, event } = serde_json::from_str(line).ok()?;
    let when = match of == machine() {
        true => When::Here(Instant::from_nanos(at_ns)),
        false => When::Earlier(event.time.parse().ok()?),
    };
    Some(Entry { event, when })
}

/// What is on disk.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// The same, as they stand in the file.
    lines: VecDeque<String>,
    /// What was wrong with it.
    pub warning: Option<String>,
}

/// The newest `keep` entries in `state_dir`.
pub(super) fn read(state_dir: &Path, keep: usize) -> Found {
    let path = state_dir.join(FILE);
    let mut text = Vec::new();
    let read = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    let mut found = Found::default();
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return found,
        Err(error) => {
            found.warning = Some(format!("{}: {error}; the history starts empty", path.display()));
            return found;
        }
        Ok(_) => {}
    }
    let (mut bad, text) = (0_usize, String::from_utf8_lossy(&text));
    for line in text.lines() {
        match entry(line) {
            Some(entry) => {
                found.entries.push(entry);
                found.lines.push_back(line.to_owned());
            }
            None => bad += 1,
        }
    }
    let old = found.entries.len().saturating_sub(keep);
    found.entries.drain(..old);
    found.lines.drain(..old);
    // One that was being written when the machine went down is no news.
    if bad > 1 {
        found.warning =
            Some(format!("{}: {bad} lines are not of a history; left out", path.display()));
    }
    found
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Option<SyncSender<String>>,
    /// Lines that were given.
    given: u64,
    /// How many of them are written, or could not be. Closed when the thread has ended.
    dealt_with: watch::Receiver<u64>,
    /// Breaks when all is written.
    written: Receiver<()>,
}

/// The moment when everything stored so far is in the file, or could not be written.
#[derive(Debug)]
pub(super) struct Stored {
    given: u64,
    dealt_with: watch::Receiver<u64>,
}

impl Stored {
    /// Waits for it, no longer than `patience`: nothing waits for a disk that hangs. What is in the file survives the end
    /// of the agent, whatever ends it, not that of the machine.
    pub(super) async fn wait(mut self, patience: Duration) {
        let reached = self.dealt_with.wait_for(|lines| *lines >= self.given);
        // Late, or the thread is gone: the line is in the log.
        let _ = tokio::time::timeout(patience, reached).await;
    }
}

impl Writer {
    /// For the file in `state_dir`, which has `found` and shall keep `keep` lines.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(state_dir: &Path, keep: usize, found: Found) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let mut disk =
            Disk { path: state_dir.join(FILE), keep, lines: found.lines, file: None, written: 0 };
        let (writes, written) = channel();
        let (progress, dealt_with) = watch::channel(0);
        std::thread::Builder::new().name("history".into()).spawn(move || {
            disk.write_all(&waiting, &progress);
            drop(writes);
        })?;
        Ok(Self { lines: Some(lines), given: 0, dealt_with, written })
    }

    /// Stores `entry`, soon; not at all when the disk is far behind.
    pub(super) fn store(&mut self, entry: &Entry) {
        if let (Some(lines), Some(line)) = (&self.lines, line(entry)) {
            self.given += u64::from(lines.try_send(line).is_ok());
        }
    }

    /// When what was stored so far is dealt with.
    pub(super) fn stored(&self) -> Stored {
        Stored { given: self.given, dealt_with: self.dealt_with.clone() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines = None;
        // What was given is written, unless the disk hangs.
        let _ = self.written.recv_timeout(PATIENCE);
    }
}

struct Disk {
    path: PathBuf,
    keep: usize,
    /// What the file should hold.
    lines: VecDeque<String>,
    file: Option<File>,
    /// Lines in it.
    written: usize,
}

impl Disk {
    fn write_all(&mut self, waiting: &Receiver<String>, progress: &watch::Sender<u64>) {
        let mut told = false;
        while let Ok(first) = waiting.recv() {
            let fresh: Vec<String> = std::iter::once(first).chain(waiting.try_iter()).collect();
            self.lines.extend(fresh.iter().cloned());
            self.lines.drain(..self.lines.len().saturating_sub(self.keep));
            match self.write(&fresh) {
                Ok(()) => told = false,
                Err(error) => {
                    self.file = None;
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            "{}: {error}; the history is forgotten when the agent restarts: make the folder writable",
                            self.path.display()
                        );
                    }
                }
            }
            progress.send_modify(|lines| *lines += u64::try_from(fresh.len()).unwrap_or(u64::MAX));
        }
    }

    /// Appends `fresh`; writes the whole file anew where there is none open, and when it has twice what is kept.
    fn write(&mut self, fresh: &[String]) -> io::Result<()> {
        match &mut self.file {
            Some(file) if self.written + fresh.len() <= 2 * self.keep => {
                file.write_all(text(fresh).as_bytes())?;
                self.written += fresh.len();
                Ok(())
            }
            _ => self.rewrite(),
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        file::replace_durably(&self.path, text(self.lines.make_contiguous()), 0o640)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        self.written = self.lines.len();
        Ok(())
    }
}

fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::super::blank;
    use super::*;
    use crate::control::events::What;

    fn number(seq: u64) -> Entry {
        let what = What::Agent { version: "0".into(), up: true };
        let event = Event { seq, time: "2026-11-23T17:00:00Z".into(), ..blank("up".into(), what) };
        Entry { event, when: When::Here(Instant::from_nanos(seq)) }
    }

    fn numbers(found: &Found) -> Vec<u64> {
        found.entries.iter().map(|entry| entry.event.seq).collect()
    }

    #[test]
    fn the_newest_entries_survive_any_number_of_runs() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let mut seq = 0;
        for _run in 0..5 {
            let mut writer = Writer::start(dir, 10, read(dir, 10)).unwrap();
            for _ in 0..7 {
                seq += 1;
                writer.store(&number(seq));
            }
            drop(writer);
            let want: Vec<u64> = (seq.saturating_sub(10) + 1..=seq).collect();
            assert_eq!(numbers(&read(dir, 10)), want);
        }
        let lines = fs::read_to_string(dir.join(FILE)).unwrap().lines().count();
        assert!(lines <= 20, "{lines} lines");
    }

    #[test]
    fn who_waits_finds_his_line_in_the_file() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut writer = Writer::start(dir, 10, read(dir, 10)).unwrap();
        for seq in 1..=50 {
            writer.store(&number(seq));
            runtime.block_on(writer.stored().wait(Duration::from_secs(60)));
            assert_eq!(numbers(&read(dir, 10)).last(), Some(&seq));
        }
        // What cannot be written is not waited for, either.
        fs::remove_dir_all(dir).unwrap();
        fs::write(dir, "no folder").unwrap();
        let from = crate::sys::clock::monotonic();
        for seq in 51..=71 {
            writer.store(&number(seq));
            runtime.block_on(writer.stored().wait(Duration::from_secs(60)));
        }
        let took = crate::sys::clock::monotonic().since(from);
        assert!(took.as_millis() < 30_000, "{took:?}");
        assert!(read(dir, 10).warning.is_some(), "the last could not be written");
        fs::remove_file(dir).unwrap();
    }

    #[test]
    fn rubbish_is_left_out_and_told() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let good = line(&number(7)).unwrap();
        let cut = &good[..good.len() / 2];
        let other = good.replace(machine(), "another-start");
        fs::write(dir.join(FILE), format!("{good}\n{other}\n{cut}")).unwrap();
        let found = read(dir, 10);
        assert_eq!(numbers(&found), [7, 7]);
        assert!(matches!(found.entries[1].when, When::Earlier(_)));
        assert_eq!(found.warning, None, "the line that was being written");
        fs::write(dir.join(FILE), format!("what?\n{good}\n[]\n\u{0}\n")).unwrap();
        let found = read(dir, 10);
        assert_eq!(numbers(&found), [7]);
        assert!(found.warning.unwrap().contains("3 lines"));
        fs::remove_file(dir.join(FILE)).unwrap();
        fs::create_dir(dir.join(FILE)).unwrap();
        assert!(read(dir, 10).warning.is_some());
    }
}
