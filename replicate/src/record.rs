//! What a set must remember over a restart, and the small files that hold such things: replaced as a whole, with a
//! version and a hash, readable for people.
//!
//! Used by the store. A file that is not as it was written is an error that names it; nothing repairs it silently.

use crate::codec::Sink;
use crate::disk::{self, Dir};
use crate::error::Error;
use crate::fail;
use crate::ports::Position;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use vipd_core::types::Epoch;

/// First word of each file.
const MAGIC: &str = "vipd-replica";
/// Of the format.
const VERSION: &str = "1";

/// An [`Epoch`] or [`Position`] in JSON.
mod plain {
    use super::{Epoch, Position};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) mod epoch {
        use super::{Deserialize, Deserializer, Epoch, Serialize, Serializer};
        pub(crate) fn serialize<S: Serializer>(e: &Epoch, s: S) -> Result<S::Ok, S::Error> {
            (e.number, e.host).serialize(s)
        }
        pub(crate) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Epoch, D::Error> {
            let (number, host) = Deserialize::deserialize(d)?;
            Ok(Epoch { number, host })
        }
    }

    pub(super) type Words = (u64, u8, u64);

    pub(super) fn words(p: Position) -> Words {
        (p.epoch.number, p.epoch.host, p.generation)
    }

    pub(super) fn position((number, host, generation): Words) -> Position {
        Position { epoch: Epoch { number, host }, generation }
    }

    pub(super) mod at {
        use super::{Deserialize, Deserializer, Position, Serialize, Serializer, position, words};
        pub(crate) fn serialize<S: Serializer>(p: &Position, s: S) -> Result<S::Ok, S::Error> {
            words(*p).serialize(s)
        }
        pub(crate) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Position, D::Error> {
            Ok(position(Deserialize::deserialize(d)?))
        }
    }

    pub(super) mod maybe {
        use super::{Deserialize, Deserializer, Position, Serialize, Serializer, position, words};
        pub(crate) fn serialize<S: Serializer>(
            p: &Option<Position>,
            s: S,
        ) -> Result<S::Ok, S::Error> {
            p.map(words).serialize(s)
        }
        pub(crate) fn deserialize<'d, D: Deserializer<'d>>(
            d: D,
        ) -> Result<Option<Position>, D::Error> {
            Ok(Option::deserialize(d)?.map(position))
        }
    }

    pub(super) mod list {
        use super::{Deserialize, Deserializer, Position, Serialize, Serializer, position, words};
        pub(crate) fn serialize<S: Serializer>(p: &[Position], s: S) -> Result<S::Ok, S::Error> {
            p.iter().copied().map(words).collect::<Vec<_>>().serialize(s)
        }
        pub(crate) fn deserialize<'d, D: Deserializer<'d>>(
            d: D,
        ) -> Result<Vec<Position>, D::Error> {
            Ok(Vec::deserialize(d)?.into_iter().map(position).collect())
        }
    }
}

/// What a set must remember. Positions are lists of three numbers: ownership, its host, generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which set: a folder that was moved shows.
    pub(crate) set: String,
    /// Where the tree stands. Generation 0: claimed, nothing sealed yet; the tree is then the newest of `lineage`.
    #[serde(with = "plain::at")]
    pub(crate) position: Position,
    /// What the tree descends from.
    #[serde(with = "plain::list")]
    pub(crate) lineage: Vec<Position>,
    /// The newest ownership that is known.
    #[serde(with = "plain::epoch")]
    pub(crate) known: Epoch,
    /// The newest tree that this host has in common with another: taken from it, or acknowledged by it.
    #[serde(with = "plain::maybe")]
    pub(crate) synced: Option<Position>,
    /// Who sent the tree; `None`: it was made here.
    pub(crate) from: Option<String>,
    /// The number and the length of the file that holds the tree, and the hash of its last part.
    pub(crate) file: u64,
    pub(crate) length: u64,
    pub(crate) last: String,
    /// What was refused last and waits for an operator.
    pub(crate) refused: Option<Refused>,
    /// The tree on disk may be other than the committed one in any place: a step failed in between.
    pub(crate) suspect: bool,
    /// This host became the owner while a tree was put in place, and its files are of two trees: for the operator, until he has
    /// seen it or a whole tree has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) torn: Option<String>,
    /// A tree that is put in place without files whose content its owner has lost.
    #[serde(default, with = "plain::maybe", skip_serializing_if = "Option::is_none")]
    pub(crate) holed: Option<Position>,
    /// Another host has trees of this ownership that this host does not know: nothing is pushed under it any more.
    pub(crate) forgot: bool,
    /// What identifies each root, once there was a tree in it.
    pub(crate) marks: Vec<Option<String>>,
    /// Seconds since 1970.
    pub(crate) verified_s: Option<u64>,
}

/// What was refused and waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Trees of this ownership; for the owner itself: its own.
    #[serde(with = "plain::epoch")]
    pub(crate) epoch: Epoch,
    /// Why.
    pub(crate) what: Waits,
    /// For people.
    pub(crate) text: String,
    /// The operator accepts it.
    pub(crate) accepted: bool,
}

/// What an operator may accept.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Waits {
    /// A tree deletes more than the guard allows.
    Guard,
    /// A tree does not descend from what this host last synced.
    Diverged,
    /// Fewer files at the source than the guard allows.
    Source,
    /// A root is another folder than before.
    Root,
}

/// An open folder and its name, for errors.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: Dir,
    pub(crate) path: PathBuf,
}

impl Folder {
    /// Made, mode 0700, where it is missing.
    pub(crate) fn make(path: &Path) -> Result<Self, Error> {
        let made = std::fs::DirBuilder::new().recursive(true).create(path);
        made.and_then(|()| Dir::open(path))
            .map(|dir| Self { dir, path: path.to_path_buf() })
            .map_err(|error| Error::io(path, error))
    }

    /// An error that `name` in this folder is not as it was written.
    pub(crate) fn corrupt(&self, name: &str, why: impl Into<String>) -> Error {
        let fix = format!(
            "nothing was changed; restore it from a backup, or move {} away: this host then takes part as one that \
             never had the set, and what differs from the owner's files is kept in the rescue folder",
            self.path.display()
        );
        Error::Corrupt { path: self.path.join(name), why: why.into(), fix }
    }

    pub(crate) fn error(&self, name: &str, error: io::Error) -> Error {
        Error::io(self.path.join(name), error)
    }

    /// The content of `name`; `None`: no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut file = match self.dir.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            done => done.map_err(|error| self.error(name, error))?,
        };
        let mut content = Vec::new();
        io::Read::read_to_end(&mut file, &mut content).map_err(|error| self.error(name, error))?;
        Ok(Some(content))
    }

    /// Replaces `name` by `content`, durably.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.replace_with(name, |file| file.write_all(content))
    }

    fn replace_with(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), Error> {
        let replace = || {
            let fresh = format!("{name}.new");
            let mut file = self.dir.create(&fresh)?;
            fail::point("write")?;
            write(&mut file)?;
            disk::sync_file(&file)?;
            self.dir.rename(fresh.as_ref(), &self.dir, name.as_ref())?;
            self.dir.sync()
        };
        replace().map_err(|error| self.error(name, error))
    }

    /// Replaces `name` by a body, which `encode` hands on in pieces, behind a line with version and hash.
    pub(crate) fn seal(
        &self,
        name: &str,
        encode: impl FnOnce(Sink<'_>) -> io::Result<()>,
    ) -> Result<(), Error> {
        let line = |hash: blake3::Hash| format!("{MAGIC} {VERSION} {hash}\n");
        self.replace_with(name, |file| {
            // As long as the one that takes its place.
            file.write_all(line(blake3::Hash::from_bytes([0; 32])).as_bytes())?;
            let mut hasher = blake3::Hasher::new();
            encode(&mut |piece| {
                hasher.update(piece);
                file.write_all(piece)
            })?;
            file.rewind()?;
            file.write_all(line(hasher.finalize()).as_bytes())
        })
    }

    /// The body that [`Folder::seal`] wrote; `None`: no such file.
    pub(crate) fn unseal(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(mut content) = self.read(name)? else { return Ok(None) };
        let Some(end) = content.iter().position(|b| *b == b'\n') else {
            return Err(self.corrupt(name, "no first line"));
        };
        let head = String::from_utf8_lossy(&content[..end]).into_owned();
        content.drain(..=end);
        let words: Vec<_> = head.trim_end().split(' ').collect();
        match words.as_slice() {
            [MAGIC, VERSION, hash] if *hash == blake3::hash(&content).to_string() => {
                Ok(Some(content))
            }
            [MAGIC, VERSION, _] => Err(self.corrupt(name, "its hash is wrong")),
            [MAGIC, version, _] => {
                let why = format!("format {version}, of a newer vipd; this one reads {VERSION}");
                Err(self.corrupt(name, why))
            }
            _ => Err(self.corrupt(name, "its first line is not of vipd")),
        }
    }
}
