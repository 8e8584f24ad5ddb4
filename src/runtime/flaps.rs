//! What flap control remembers over a restart: one small file per instance in the state folder.
//!
//! Read by the main thread at start. Written by a thread of its own, newest record first, replaced atomically and
//! synced: neither the protocol thread nor the main loop waits for a disk, and the end of the agent only a little. A file that makes no sense costs its memory,
//! never the start.

use crate::sys::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use vipd_core::config::model::Model;
use vipd_core::engine::io::FlapRecord;
use vipd_core::types::InstanceIx;

/// Folder in the state folder.
const FOLDER: &str = "flap";
/// Version of the format.
const VERSION: u32 = 1;
/// No record is longer, octets.
const LONGEST: u64 = 64 * 1024;
/// Moves kept of a file: more cannot have been stored.
const MOVES: usize = 1024;
/// The end of the agent waits this long for the disk; nothing is owned any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// The file's content. Times are UTC, milliseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Stored {
    version: u32,
    instance: String,
    penalty: u32,
    at_ms: u64,
    suppressed_ms: Option<u64>,
    moves_ms: Vec<u64>,
    held_ms: Option<u64>,
}

/// What was stored for the instances of `model`, and what of it could not be used.
pub(super) fn read(
    state_dir: &Path,
    model: &Model,
) -> (Vec<(InstanceIx, FlapRecord)>, Vec<String>) {
    let (mut records, mut warnings) = (Vec::new(), Vec::new());
    for (ix, instance) in model.iter() {
        let path = path(state_dir, &instance.name);
        match read_one(&path, &instance.name) {
            Ok(Some(record)) => records.push((ix, record)),
            Ok(None) => {}
            Err(error) => warnings.push(format!(
                "{}: {error}; flap control of {} starts with nothing to remember, the file is replaced with the next \
                 record",
                path.display(),
                instance.name
            )),
        }
    }
    (records, warnings)
}

fn path(state_dir: &Path, instance: &str) -> PathBuf {
    state_dir.join(FOLDER).join(format!("{instance}.json"))
}

fn read_one(path: &Path, instance: &str) -> io::Result<Option<FlapRecord>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let stored: Stored = serde_json::from_slice(&text)?;
    if stored.version != VERSION {
        let said = format!("version {} of the format, this agent knows {VERSION}", stored.version);
        return Err(io::Error::other(said));
    }
    if stored.instance != instance {
        return Err(io::Error::other(format!("is about instance {}", stored.instance)));
    }
    if stored.moves_ms.len() > MOVES || !stored.moves_ms.is_sorted() {
        return Err(io::Error::other("its moves are not in order"));
    }
    Ok(Some(FlapRecord {
        penalty: stored.penalty,
        at_ms: stored.at_ms,
        suppressed_ms: stored.suppressed_ms,
        moves_ms: stored.moves_ms,
        held_ms: stored.held_ms,
    }))
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    records: Option<Sender<(String, FlapRecord)>>,
    /// Breaks when all is written.
    written: Receiver<()>,
    patience: Duration,
}

impl Writer {
    /// For records in `state_dir`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(state_dir: &Path) -> io::Result<Self> {
        let (records, waiting) = channel();
        let (writes, written) = channel();
        let folder = state_dir.to_owned();
        std::thread::Builder::new().name("store".into()).spawn(move || {
            write_all(&folder, &waiting);
            drop(writes);
        })?;
        Ok(Self { records: Some(records), written, patience: PATIENCE })
    }

    /// Stores `record` for `instance`, soon.
    pub(super) fn store(&self, instance: &str, record: &FlapRecord) {
        if let Some(records) = &self.records {
            // Bounded by the engine: a record is made for a move or an acknowledgement.
            let _ = records.send((instance.to_owned(), record.clone()));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.records = None;
        // What was given is written, unless the disk hangs.
        if self.written.recv_timeout(self.patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the state folder takes nothing for {:?}: penalties and moves may be forgotten; is its disk alive?",
                self.patience
            );
        }
    }
}

fn write_all(state_dir: &Path, waiting: &Receiver<(String, FlapRecord)>) {
    let mut told = false;
    while let Ok(first) = waiting.recv() {
        let newest: BTreeMap<String, FlapRecord> =
            std::iter::once(first).chain(waiting.try_iter()).collect();
        for (instance, record) in newest {
            match write_one(state_dir, &instance, record) {
                Ok(()) => told = false,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            "{}: {error}; penalties and moves are forgotten when the agent restarts: make the folder \
                             writable",
                            path(state_dir, &instance).display()
                        );
                    }
                }
            }
        }
    }
}

fn write_one(state_dir: &Path, instance: &str, record: FlapRecord) -> io::Result<()> {
    let FlapRecord { penalty, at_ms, suppressed_ms, moves_ms, held_ms } = record;
    let stored = Stored {
        version: VERSION,
        instance: instance.to_owned(),
        penalty,
        at_ms,
        suppressed_ms,
        moves_ms,
        held_ms,
    };
    let mut text = serde_json::to_vec(&stored)?;
    text.push(b'\n');
    file::replace_durably(&path(state_dir, instance), text, 0o640)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::sys::clock;
    use std::fs;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vipd-flaps-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn the_newest_record_survives() {
        let dir = dir("s");
        let record = |penalty| FlapRecord {
            penalty,
            at_ms: 1_700_000_000_000,
            suppressed_ms: Some(3),
            moves_ms: vec![1, 2],
            held_ms: None,
        };
        let writer = Writer::start(&dir).unwrap();
        for penalty in 0..100 {
            writer.store("web", &record(penalty));
        }
        drop(writer);
        assert_eq!(read_one(&path(&dir, "web"), "web").unwrap(), Some(record(99)));
        assert_eq!(read_one(&path(&dir, "dns"), "dns").unwrap(), None);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_disk_that_hangs_does_not_keep_the_agent() {
        let dir = dir("h");
        let fresh = dir.join(FOLDER).join("web.new");
        fs::create_dir_all(dir.join(FOLDER)).unwrap();
        // Nobody reads: opening it to write hangs.
        nix::unistd::mkfifo(&fresh, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut writer = Writer::start(&dir).unwrap();
        writer.patience = Duration::from_millis(100);
        writer.store("web", &FlapRecord::default());
        let began = clock::monotonic();
        drop(writer);
        assert!(
            (100..2000).contains(&(clock::monotonic() - began).as_millis()),
            "{:?}",
            (clock::monotonic() - began)
        );
        // Lets the thread go.
        let _reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fresh).unwrap();
    }

    #[test]
    fn rubbish_is_named_and_never_believed() {
        let dir = dir("r");
        fs::create_dir_all(dir.join(FOLDER)).unwrap();
        let path = path(&dir, "web");
        let good = r#"{"version":1,"instance":"web","penalty":1,"at-ms":1,"suppressed-ms":null,"moves-ms":[],"held-ms":null}"#;
        fs::write(&path, good).unwrap();
        assert!(read_one(&path, "web").unwrap().is_some());
        for (rubbish, says) in [
            (String::new(), "EOF"),
            ("many".into(), "expected"),
            (good.replace("\"version\":1", "\"version\":2"), "version 2"),
            (good.replace("web", "dns"), "instance dns"),
            (good.replace("\"moves-ms\":[]", "\"moves-ms\":[5,4]"), "order"),
            (good.replace("\"penalty\":1", "\"penalty\":-1"), "invalid value"),
            (good.replace("\"penalty\":1", "\"penalty\":99999999999"), "invalid value"),
            ("[".repeat(100_000), "invalid type"),
            (" ".repeat(1 << 20), "EOF"),
        ] {
            fs::write(&path, &rubbish).unwrap();
            let said = read_one(&path, "web").unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read_one(&path, "web").is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
