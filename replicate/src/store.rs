//! What a set must remember, on disk: its record, its tree, what is being applied, and the log.
//!
//! The record is the one point where something becomes true: a tree file is longer than the record says only until the
//! record is replaced, and what is beyond that length never happened. The folder is locked while a store has it open: two
//! that write one record would each undo what the other made true.

use crate::codec::{In, Sink};
use crate::disk;
use crate::error::Error;
use crate::fail;
use crate::record::{Folder, Record};
use crate::set::LogLine;
use crate::tree::{Step, Tree};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Of a part of the tree file: length and hash.
const HEAD: usize = 8 + 32;
/// A tree file is written anew when what was added to it is larger than the tree itself and than this, octets.
const SLACK: u64 = 1 << 20;
/// The log keeps at least so many lines, and at most twice as many.
const LOG_LINES: usize = 1000;

/// The folder of a set.
#[derive(Debug)]
pub(crate) struct Store {
    folder: Folder,
    /// Octets of the whole tree at the start of its file.
    base: u64,
    lines: usize,
    /// The folder was given free: it may be another's by now.
    closed: bool,
}

impl Store {
    /// Opens the folder of the set `name`, and locks it; what it says, or that there is nothing yet.
    pub(crate) fn open(state_dir: &Path, name: &str) -> Result<(Self, Record, Tree), Error> {
        let folder = Folder::make(&state_dir.join("replicate").join(name))?;
        // The folder itself: nothing more to leave behind, and the kernel gives it free when the process dies.
        match flock(&folder.dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::InUse(folder.path)),
            Err(error) => return Err(Error::io(&folder.path, error)),
        }
        let mut store = Self { folder, base: 0, lines: 0, closed: false };
        store.lines = store.log()?.len();
        let Some(body) = store.folder.unseal("record")? else {
            return Ok((
                store,
                Record { set: name.to_owned(), ..Record::default() },
                Tree::default(),
            ));
        };
        let record: Record = serde_json::from_slice(&body)
            .map_err(|error| store.folder.corrupt("record", error.to_string()))?;
        if record.set != name {
            let why = format!("it belongs to the set {:?}", record.set);
            return Err(store.folder.corrupt("record", why));
        }
        let tree = store.read_tree(&record)?;
        Ok((store, record, tree))
    }

    /// Gives the folder free; nothing is written from here on.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.closed = true;
        Ok(flock(&self.folder.dir, FlockOperation::Unlock)?)
    }

    fn writable(&self) -> Result<(), Error> {
        if self.closed { Err(Error::Interrupted) } else { Ok(()) }
    }

    pub(crate) const fn folder(&self) -> &Folder {
        &self.folder
    }

    fn read_tree(&mut self, record: &Record) -> Result<Tree, Error> {
        if record.file == 0 {
            return Ok(Tree::default());
        }
        let name = tree_name(record.file);
        let content = self.folder.read(&name)?;
        let content = content.ok_or_else(|| self.folder.corrupt(&name, "it is missing"))?;
        let length = usize::try_from(record.length).unwrap_or(usize::MAX);
        let Some(valid) = content.get(..length) else {
            return Err(self.folder.corrupt(&name, "it is shorter than the record says"));
        };
        let (mut rest, mut tree, mut last) = (In(valid), Tree::default(), String::new());
        while !rest.is_empty() {
            let malformed = |_| self.folder.corrupt(&name, "it does not decode");
            let length = rest.u64().map_err(malformed)?;
            let hash = rest.hash().map_err(malformed)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let body = rest.take(length).map_err(malformed)?;
            if *blake3::hash(body).as_bytes() != hash {
                return Err(self.folder.corrupt(&name, "a hash in it is wrong"));
            }
            last = hex(&hash);
            let step = Step::decode(&mut In(body)).map_err(malformed)?;
            if self.base == 0 {
                self.base = (HEAD + body.len()) as u64;
                tree = Tree::new(step.put);
            } else {
                tree = tree.after(step);
            }
        }
        if last != record.last {
            return Err(self.folder.corrupt(&name, "it is not the one that the record means"));
        }
        Ok(tree)
    }

    /// `record` becomes true, the tree as it is.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Error> {
        self.writable()?;
        let body = serde_json::to_vec_pretty(record)
            .map_err(|error| self.folder.error("record", error.into()))?;
        self.folder.seal("record", |sink| sink(&body))
    }

    /// `record` becomes true, together with the tree `next` after `tree`. On error nothing did.
    pub(crate) fn commit(
        &mut self,
        record: &mut Record,
        tree: &Tree,
        next: &Tree,
    ) -> Result<(), Error> {
        self.writable()?;
        let mut changed = record.clone();
        let (old, grown) = (record.file, record.length - self.base.min(record.length));
        let base = if record.file == 0 || grown > self.base.max(SLACK) {
            changed.file = record.file + 1;
            changed.length = 0;
            Some(self.add(&mut changed, |sink| Tree::default().encode_step(next, sink))?)
        } else {
            self.add(&mut changed, |sink| tree.encode_step(next, sink))?;
            None
        };
        self.write(&changed)?;
        *record = changed;
        if let Some(base) = base {
            self.base = base;
            if old != 0 {
                // What is left behind is removed with the next tree file.
                let _ = self.folder.dir.unlink(tree_name(old).as_ref());
            }
        }
        Ok(())
    }

    /// Writes a step, which `encode` gives in pieces, behind what the record knows of the tree file; its length.
    fn add(
        &self,
        record: &mut Record,
        encode: impl FnOnce(Sink<'_>) -> io::Result<()>,
    ) -> Result<u64, Error> {
        let name = tree_name(record.file);
        let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
        let write = || {
            let mut file = if record.length == 0 {
                self.folder.dir.create(&name)?
            } else {
                let path = self.folder.path.join(&name);
                let file = std::fs::OpenOptions::new().write(true).open(path)?;
                // What a crash left behind the part that the record knows.
                file.set_len(record.length)?;
                file
            };
            file.seek(SeekFrom::Start(record.length + HEAD as u64))?;
            fail::point("write tree")?;
            encode(&mut |piece| {
                hasher.update(piece);
                length += piece.len() as u64;
                file.write_all(piece)
            })?;
            // Only now are length and hash known.
            file.seek(SeekFrom::Start(record.length))?;
            file.write_all(&length.to_be_bytes())?;
            let hash = hasher.finalize();
            file.write_all(hash.as_bytes())?;
            disk::sync_file(&file)?;
            self.folder.dir.sync()?;
            Ok((hash, length))
        };
        let (hash, length) = { write }().map_err(|error| self.folder.error(&name, error))?;
        let length = HEAD as u64 + length;
        record.length += length;
        record.last = hash.to_string();
        Ok(length)
    }

    /// Adds a line to the log, which is shortened when it is too long.
    pub(crate) fn log_line(&mut self, line: &LogLine) -> Result<(), Error> {
        self.writable()?;
        let mut text =
            serde_json::to_vec(line).map_err(|error| self.folder.error("log", error.into()))?;
        text.push(b'\n');
        if self.lines >= 2 * LOG_LINES {
            let mut kept = Vec::new();
            let lines = self.log()?;
            for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
                kept.extend(serde_json::to_vec(line).unwrap_or_default());
                kept.push(b'\n');
            }
            self.lines = LOG_LINES.min(lines.len());
            self.folder.replace("log", &kept)?;
        }
        let file = self.folder.dir.append("log");
        let done = file.and_then(|mut file| file.write_all(&text));
        self.lines += 1;
        done.map_err(|error| self.folder.error("log", error))
    }

    /// The lines of the log, newest last. The last may be cut short by a crash; it is left out then.
    pub(crate) fn log(&self) -> Result<Vec<LogLine>, Error> {
        let content = self.folder.read("log")?.unwrap_or_default();
        let lines = content.split(|b| *b == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // To close the folder is not enough: a child that is being started holds a copy of it for a moment.
        let _ = self.close();
    }
}

fn tree_name(number: u64) -> String {
    format!("tree.{number}")
}

/// In lower-case letters.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_string()
}

/// The hash that has this name; `None`: it is none of [`hex`].
pub(crate) fn unhex(name: &[u8]) -> Option<[u8; 32]> {
    let hash = *blake3::Hash::from_hex(name).ok()?.as_bytes();
    (hex(&hash).as_bytes() == name).then_some(hash)
}

/// Enough of a hash to tell trees apart.
pub(crate) fn short(hash: &[u8; 32]) -> String {
    hex(hash).chars().take(16).collect()
}
