//! What outlives a restart, flap control and what operators ordered: one small file per instance, and one of the host, in
//! the state folder.
//!
//! Read by the main thread at start. Written by a thread of its own, newest memory first, replaced atomically and
//! synced: neither the protocol thread nor the main loop waits for a disk, and the end of the agent only a little. A file
//! that makes no sense costs its memory, never the start.

use crate::sys::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{
    Away, DrainRecord, EpochRecord, FlapRecord, FreezeRecord, Memory, OrderRecord,
};
use vipd_core::types::{Epoch, InstanceIx, Priority};

/// Folder in the state folder.
const FOLDER: &str = "memory";
/// Version of the format.
const VERSION: u32 = 1;
/// No file is longer, octets.
const LONGEST: u64 = 64 * 1024;
/// Moves kept of a file: more cannot have been stored.
const MOVES: usize = 1024;
/// The end of the agent waits this long for the disk; nothing is owned any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the disk did not take is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// The file's content. Times are UTC, milliseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Stored {
    version: u32,
    /// `None`: the host.
    instance: Option<String>,
    flap: Flap,
    orders: Orders,
    /// Left out where no state follows the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epochs: Option<Epochs>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Epochs {
    reserved: u64,
    owned: Option<Pin>,
    /// Left out where nothing was heard: releases that do not know the word refuse it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heard: Option<Pin>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Flap {
    penalty: u32,
    at_ms: u64,
    suppressed_ms: Option<u64>,
    moves_ms: Vec<u64>,
    held_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Orders {
    drained: Option<Drained>,
    freeze: Option<Freeze>,
    priority: Option<Ordered>,
    away: Option<Gone>,
    pin: Option<Pin>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Drained {
    until_ms: Option<u64>,
    last_resort: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Freeze {
    serial: u32,
    until_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Ordered {
    value: u8,
    until_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Gone {
    Pinned,
    Open,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Pin {
    number: u64,
    host: u8,
}

impl Stored {
    fn of(instance: Option<&str>, memory: Memory) -> Self {
        let Memory { flap, orders, epoch } = memory;
        let FlapRecord { penalty, at_ms, suppressed_ms, moves_ms, held_ms } = flap;
        let OrderRecord { drained, freeze, priority, away, pin } = orders;
        Self {
            version: VERSION,
            instance: instance.map(ToOwned::to_owned),
            flap: Flap { penalty, at_ms, suppressed_ms, moves_ms, held_ms },
            orders: Orders {
                drained: drained
                    .map(|DrainRecord { until_ms, last_resort }| Drained { until_ms, last_resort }),
                freeze: freeze.map(|FreezeRecord { serial, until_ms }| Freeze { serial, until_ms }),
                priority: priority
                    .map(|(value, until_ms)| Ordered { value: value.get(), until_ms }),
                away: away.map(|away| match away {
                    Away::Pinned => Gone::Pinned,
                    Away::Open => Gone::Open,
                }),
                pin: pin.map(|Epoch { number, host }| Pin { number, host }),
            },
            epochs: (epoch != EpochRecord::default()).then(|| Epochs {
                reserved: epoch.reserved,
                owned: epoch.owned.map(|Epoch { number, host }| Pin { number, host }),
                heard: (epoch.heard != Epoch::default())
                    .then_some(Pin { number: epoch.heard.number, host: epoch.heard.host }),
            }),
        }
    }

    /// What is stored, if it is about `instance`.
    fn memory(self, instance: Option<&str>) -> io::Result<Memory> {
        if self.version != VERSION {
            return Err(io::Error::other(format!(
                "version {} of the format, this agent knows {VERSION}",
                self.version
            )));
        }
        if self.instance.as_deref() != instance {
            let whose =
                self.instance.map_or_else(|| "the host".to_owned(), |i| format!("instance {i}"));
            return Err(io::Error::other(format!("is about {whose}")));
        }
        let Flap { penalty, at_ms, suppressed_ms, moves_ms, held_ms } = self.flap;
        if moves_ms.len() > MOVES || !moves_ms.is_sorted() {
            return Err(io::Error::other("its moves are not in order"));
        }
        let Orders { drained, freeze, priority, away, pin } = self.orders;
        let priority = priority
            .map(|Ordered { value, until_ms }| {
                Priority::new(value).map(|value| (value, until_ms)).map_err(io::Error::other)
            })
            .transpose()?;
        Ok(Memory {
            flap: FlapRecord { penalty, at_ms, suppressed_ms, moves_ms, held_ms },
            orders: OrderRecord {
                drained: drained
                    .map(|Drained { until_ms, last_resort }| DrainRecord { until_ms, last_resort }),
                freeze: freeze.map(|Freeze { serial, until_ms }| FreezeRecord { serial, until_ms }),
                priority,
                away: away.map(|away| match away {
                    Gone::Pinned => Away::Pinned,
                    Gone::Open => Away::Open,
                }),
                pin: pin.map(|Pin { number, host }| Epoch { number, host }),
            },
            epoch: self.epochs.map_or_else(EpochRecord::default, |epochs| EpochRecord {
                reserved: epochs.reserved,
                owned: epochs.owned.map(|Pin { number, host }| Epoch { number, host }),
                heard: epochs
                    .heard
                    .map_or_else(Epoch::default, |Pin { number, host }| Epoch { number, host }),
            }),
        })
    }
}

/// What was stored of the host and of the instances of `model`, and what of it could not be used.
pub(super) fn read(
    state_dir: &Path,
    model: &Model,
) -> (Vec<(Option<InstanceIx>, Memory)>, Vec<String>) {
    let (mut memories, mut warnings) = (Vec::new(), Vec::new());
    let instances = model.iter().map(|(ix, instance)| (Some(ix), Some(&*instance.name)));
    for (ix, instance) in std::iter::once((None, None)).chain(instances) {
        let path = path(state_dir, instance);
        match read_one(&path, instance) {
            Ok(Some(memory)) => memories.push((ix, memory)),
            Ok(None) => {}
            Err(error) => warnings.push(format!(
                "{}: {error}; {} starts with nothing to remember, no drain, no pin, no penalty; the file is replaced \
                 with the next change",
                path.display(),
                instance.unwrap_or("the host")
            )),
        }
    }
    (memories, warnings)
}

fn path(state_dir: &Path, instance: Option<&str>) -> PathBuf {
    state_dir.join(FOLDER).join(format!("{}.json", stem(instance)))
}

/// Instances may have any name, that of the host's file included.
fn stem(instance: Option<&str>) -> String {
    instance.map_or_else(|| "host".to_owned(), |name| format!("instance-{name}"))
}

fn read_one(path: &Path, instance: Option<&str>) -> io::Result<Option<Memory>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let stored: Stored = serde_json::from_slice(&text)?;
    stored.memory(instance).map(Some)
}

/// Whose memory: an instance by name, or the host.
type Subject = Option<String>;

/// Hears of each write: of which instance, up to which epoch it is reserved, and whether it is on the disk. Called by the
/// thread that writes.
pub(super) type Confirm = Box<dyn Fn(&str, u64, Result<(), Arc<str>>) + Send>;

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    memories: Option<Sender<(Subject, Memory)>>,
    /// Breaks when all is written.
    written: Receiver<()>,
    patience: Duration,
}

impl Writer {
    /// For memories in `state_dir`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(state_dir: &Path, confirm: Confirm) -> io::Result<Self> {
        let (memories, waiting) = channel();
        let (writes, written) = channel();
        let folder = state_dir.to_owned();
        std::thread::Builder::new().name("store".into()).spawn(move || {
            write_all(&folder, &waiting, &confirm);
            drop(writes);
        })?;
        Ok(Self { memories: Some(memories), written, patience: PATIENCE })
    }

    /// Stores `memory` of `instance`, or of the host, soon.
    pub(super) fn store(&self, instance: Option<&str>, memory: &Memory) {
        if let Some(memories) = &self.memories {
            // Bounded by the engine: one for each move, order, or end of an order.
            let _ = memories.send((instance.map(ToOwned::to_owned), memory.clone()));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.memories = None;
        // What was given is written, unless the disk hangs.
        if self.written.recv_timeout(self.patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the state folder takes nothing for {:?}: drains, pins, penalties and moves may be forgotten; is its \
                 disk alive?",
                self.patience
            );
        }
    }
}

fn write_all(state_dir: &Path, waiting: &Receiver<(Subject, Memory)>, confirm: &Confirm) {
    let mut told = false;
    // What the disk did not take; a newer memory takes its place.
    let mut unwritten: BTreeMap<Subject, Memory> = BTreeMap::new();
    loop {
        let first = if unwritten.is_empty() {
            waiting.recv().ok()
        } else {
            match waiting.recv_timeout(RETRY) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        };
        if first.is_none() && unwritten.is_empty() {
            return;
        }
        unwritten.extend(first.into_iter().chain(waiting.try_iter()));
        for (subject, memory) in std::mem::take(&mut unwritten) {
            let reserved = memory.epoch.reserved;
            let written = write_one(state_dir, subject.as_deref(), memory.clone());
            if let Some(instance) = subject.as_deref().filter(|_| reserved > 0) {
                let result = written.as_ref().copied().map_err(|e| e.to_string().into());
                confirm(instance, reserved, result);
            }
            match written {
                Ok(()) => told = false,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            "{}: {error}; drains, pins, penalties, moves and epochs are forgotten when the agent restarts: \
                             make the folder writable",
                            path(state_dir, subject.as_deref()).display()
                        );
                    }
                    unwritten.insert(subject, memory);
                }
            }
        }
    }
}

fn write_one(state_dir: &Path, instance: Option<&str>, memory: Memory) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Stored::of(instance, memory))?;
    text.push(b'\n');
    file::replace_durably(&path(state_dir, instance), text, 0o640)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::sys::clock;
    use std::fs;

    fn memory(penalty: u32) -> Memory {
        Memory {
            flap: FlapRecord {
                penalty,
                at_ms: 1_700_000_000_000,
                suppressed_ms: Some(3),
                moves_ms: vec![1, 2],
                held_ms: None,
            },
            orders: OrderRecord {
                drained: Some(DrainRecord { until_ms: Some(7), last_resort: true }),
                freeze: Some(FreezeRecord { serial: 256, until_ms: None }),
                priority: Some((Priority::new(200).unwrap(), Some(9))),
                away: Some(Away::Pinned),
                pin: Some(Epoch { number: 5, host: 1 }),
            },
            epoch: EpochRecord {
                reserved: 69,
                owned: Some(Epoch { number: 4, host: 0 }),
                heard: Epoch { number: 3, host: 1 },
            },
        }
    }

    #[test]
    fn the_newest_memory_survives_of_each() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let (confirmed, told) = channel();
        let confirm = move |instance: &str, reserved, result: Result<(), Arc<str>>| {
            let _ = confirmed.send((instance.to_owned(), reserved, result.is_ok()));
        };
        let writer = Writer::start(dir, Box::new(confirm)).unwrap();
        for penalty in 0..100 {
            writer.store(Some("web"), &memory(penalty));
            writer.store(Some("host"), &memory(penalty + 1));
            writer.store(None, &Memory::default());
        }
        drop(writer);
        // Of the host nothing is told, of an instance only what is on the disk.
        let told: Vec<_> = told.try_iter().collect();
        assert!(told.contains(&("web".to_owned(), 69, true)), "{told:?}");
        assert!(told.iter().all(|(_, _, stored)| *stored), "{told:?}");
        let stored = |instance| read_one(&path(dir, instance), instance).unwrap();
        assert_eq!(stored(Some("web")), Some(memory(99)));
        assert_eq!(stored(Some("host")), Some(memory(100)));
        assert_eq!(stored(None), Some(Memory::default()));
        assert_eq!(stored(Some("dns")), None);
    }

    #[test]
    fn a_disk_that_hangs_does_not_keep_the_agent() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let fresh = dir.join(FOLDER).join("instance-web.new");
        fs::create_dir_all(dir.join(FOLDER)).unwrap();
        // Nobody reads: opening it to write hangs.
        nix::unistd::mkfifo(&fresh, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut writer = Writer::start(dir, Box::new(|_, _, _| {})).unwrap();
        writer.patience = Duration::from_millis(100);
        writer.store(Some("web"), &Memory::default());
        let began = clock::monotonic();
        drop(writer);
        let took = (clock::monotonic() - began).as_millis();
        assert!((100..2000).contains(&took), "{took} ms");
        // Lets the thread go.
        let _reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fresh).unwrap();
    }

    #[test]
    fn rubbish_is_named_and_never_believed() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        fs::create_dir_all(dir.join(FOLDER)).unwrap();
        let path = path(dir, Some("web"));
        let read = || read_one(&path, Some("web"));
        let good = serde_json::to_string(&Stored::of(Some("web"), memory(1))).unwrap();
        fs::write(&path, &good).unwrap();
        assert!(read().unwrap().is_some());
        for (rubbish, says) in [
            (String::new(), "EOF"),
            ("many".into(), "expected"),
            (good.replace("\"version\":1", "\"version\":2"), "version 2"),
            (good.replace("\"web\"", "\"dns\""), "instance dns"),
            (good.replace("\"web\"", "null"), "the host"),
            (good.replace("\"moves-ms\":[1,2]", "\"moves-ms\":[5,4]"), "order"),
            (good.replace("\"penalty\":1", "\"penalty\":-1"), "invalid value"),
            (good.replace("\"penalty\":1", "\"penalty\":99999999999"), "invalid value"),
            (good.replace("\"value\":200", "\"value\":0"), "priority"),
            (good.replace("\"pinned\"", "\"lost\""), "unknown variant"),
            (good.replace("\"reserved\":69", "\"reserved\":-1"), "invalid value"),
            ("[".repeat(100_000), "invalid type"),
            (" ".repeat(1 << 20), "EOF"),
        ] {
            fs::write(&path, &rubbish).unwrap();
            let said = read().unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read().is_err());
    }
}
