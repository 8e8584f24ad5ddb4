//! Messages between two replicators, as octets and back.
//!
//! Called by the link, which has verified who made the octets; still nothing is allocated that a length in them claims
//! before it was checked against its limit, and no name gets in that is no [`RelPath`].
//!
//! A message is a header and a body. Numbers in network byte order:
//!
//! | Octets | Field |
//! |---|---|
//! | 1 | kind |
//! | 1 | 0: the body as it is; 1: compressed with zstd |
//! | 4 | octets of the body on the link |
//! | 4 | octets of the body; the same when it is not compressed |
//! | ... | body |
//!
//! An unknown kind ends the session: there is no message that could be skipped without harm. What a newer release adds
//! needs a new [`FORMAT`]; two hosts that have none in common say so in the handshake, with the one to upgrade, and keep
//! what they have.

mod codec;
mod pack;

use super::error::NetError;
use crate::manifest::{Entry, Hash};
use crate::path::RelPath;
use crate::ports::{Behind, MAX_LINEAGE, Position, Refusal};
use crate::segment::Tag;
use std::sync::Arc;
use vipd_core::types::Epoch;

pub use codec::entry_len;
pub use pack::{Assembler, Packer};

/// What this release speaks. 1, which no release spoke, had longer lists of chunks and neither outlines nor files that are
/// withheld.
pub const FORMAT: u8 = 2;
/// The oldest format that it understands, and speaks to whoever knows no newer one.
pub const OLDEST: u8 = 2;

/// Longest body, octets: a chunk of the largest kind goes in several.
pub const MAX_BODY: usize = 320 * 1024;
/// A batch is sent when it is this long, octets; leaves room below [`MAX_BODY`] for one more entry.
pub const BATCH: usize = 128 * 1024;
/// Most entries in a manifest.
pub const MAX_ENTRIES: u32 = 4_000_000;
/// Most octets of a manifest that is received, before compression.
pub const MAX_MANIFEST_OCTETS: u64 = 768 * 1024 * 1024;
/// Most octets of the extended attributes of one entry, names and values.
pub const MAX_XATTRS_LEN: usize = 96 * 1024;
/// Most extended attributes of one entry.
pub const MAX_XATTRS: usize = 256;
/// Longest target of a symbolic link, octets (PATH_MAX of Linux, less its NUL).
pub const MAX_TARGET: usize = 4095;
/// Longest name of a cluster, host or set, octets.
pub const MAX_NAME: usize = 255;
/// Longest text of a refusal or a farewell, octets; longer ones are cut.
pub const MAX_TEXT: usize = 1024;
/// Most segments in one [`Message::Outline`], and chunks in one [`Message::Chunks`].
pub const MAX_CHUNKS: usize = 512;
/// Most needs in one [`Message::Needs`].
pub const MAX_NEEDS: usize = 32 * 1024;

/// What two replicators say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Sender, first: who it is and what it wants to push.
    Hello(Hello),
    /// Receiver, in answer: what it has.
    Welcome(Welcome),
    /// Either, each second when there is nothing else.
    Ping,
    /// Either, last: why the session ends.
    Bye(String),
    /// Sender: a tree. [`Message::Entries`] and [`Message::Gone`] follow as announced.
    Offer(Offered),
    /// Sender: entries of the offered tree, or those of them that differ; sorted over all batches.
    Entries(Vec<Arc<Entry>>),
    /// Sender: what is not there any more; sorted over all batches.
    Gone(Vec<RelPath>),
    /// Receiver: it does not have the manifest that the offer builds on; the whole is needed.
    Baseless,
    /// Receiver: files that it lacks; batches, the last one marked.
    Needs(Needs),
    /// Receiver: does not take the offer; nothing was changed.
    Refused(Refusal),
    /// Sender, before contents: files of the needs, by their position in the entries of the offered manifest, whose content
    /// it does not have any more. They will not come; the offer stands without them. At most [`MAX_NEEDS`] at a time.
    Withheld(Vec<u32>),
    /// Sender: pieces of whole files, see [`Pieces`].
    Files(Vec<u8>),
    /// Sender: the segments of a large file of which the receiver has a version, up to [`MAX_CHUNKS`] at a time, in order.
    Outline(Outline),
    /// Sender: how a run of segments is cut that the receiver lacks and that may have moved
    /// ([`Run`](crate::segment::Run)), up to [`MAX_CHUNKS`] at a time; runs in order, no list reaches beyond one.
    Chunks(Chunks),
    /// Receiver: which segments or chunks of the oldest unanswered [`Message::Outline`] or [`Message::Chunks`] it lacks.
    Lacks(Vec<bool>),
    /// Sender: octets that the receiver lacks, one after the other: after the last outline of a file those of its short
    /// runs, after a list of chunks those of its chunks.
    Data(Vec<u8>),
    /// Sender: all that was needed has been sent.
    Sent,
    /// Sender: the offer is taken back, because a file was not as its manifest says, or was refused underway.
    /// Receiver: heard that; what comes from here on belongs to the next one.
    Abort,
    /// Receiver: has the tree, durably.
    Taken(Position, Hash),
    /// Sender: how it stands, each second.
    Current(Current),
    /// Receiver: an operator did something about a refusal: offer again.
    AskAgain,
}

/// Who wants to push what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// `[cluster] name`.
    pub cluster: String,
    /// Who speaks.
    pub host: String,
    /// Who is meant.
    pub to: String,
    /// Which set.
    pub set: String,
    /// [`SetId::digest`](super::SetId::digest).
    pub digest: Hash,
    /// Under which ownership.
    pub epoch: Epoch,
}

/// What the receiver has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Who answers.
    pub host: String,
    /// Where it stands.
    pub position: Position,
    /// Root of the manifest that it has.
    pub root: Hash,
}

/// An offer without its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The tree that is offered.
    pub position: Position,
    /// See [`crate::ports::Offer::lineage`].
    pub lineage: Vec<Position>,
    /// Root of its manifest.
    pub root: Hash,
    /// Root of the manifest that it is told as a difference to; `None`: it is told whole.
    pub base: Option<Hash>,
    /// Entries of the whole manifest.
    pub entries: u32,
    /// Entries that follow.
    pub put: u32,
    /// Names that follow.
    pub gone: u32,
}

/// Files that the receiver lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Position in the entries of the offered manifest, and: it has a version to copy parts from.
    pub files: Vec<(u32, bool)>,
    /// The last batch.
    pub last: bool,
}

/// A part of the outline of a large file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Position in the entries of the offered manifest.
    pub entry: u32,
    /// Of its next segments, at most [`MAX_CHUNKS`].
    pub tags: Vec<Tag>,
}

/// A part of the list of chunks of a large file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// Position in the entries of the offered manifest.
    pub entry: u32,
    /// Binary logarithm of the average length of its chunks: 16 (64 KiB) to 20.
    pub average: u8,
    /// First octets of the hash, and length, of each chunk, in the order of the file; at most [`MAX_CHUNKS`].
    pub list: Vec<(Tag, u32)>,
}

/// How the sender stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// What the receiver has acknowledged.
    pub position: Position,
    /// What changed since.
    pub behind: Behind,
}

/// A piece of a whole file in [`Message::Files`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Position in the entries of the offered manifest.
    pub entry: u32,
    /// The first piece of this file.
    pub first: bool,
    /// The last piece of this file.
    pub last: bool,
    /// Octets.
    pub octets: &'a [u8],
}

/// Octets in front of each piece.
pub const PIECE_HEADER: usize = 4 + 1 + 4;

impl Piece<'_> {
    const FIRST: u8 = 1;
    /// The bit of the octet behind the number of the entry that makes a piece the last one.
    pub const LAST: u8 = 2;

    /// Puts a piece behind others; the caller keeps the whole below [`MAX_BODY`].
    pub fn write(&self, out: &mut Vec<u8>) {
        Self::write_header(out, self.entry, self.first, self.last, self.octets.len() as u32);
        out.extend_from_slice(self.octets);
    }

    /// The header alone; `len` octets have to follow.
    pub fn write_header(out: &mut Vec<u8>, entry: u32, first: bool, last: bool, len: u32) {
        out.extend(entry.to_be_bytes());
        out.push((u8::from(first) * Self::FIRST) | (u8::from(last) * Self::LAST));
        out.extend(len.to_be_bytes());
    }
}

/// The pieces of a [`Message::Files`], one after the other.
#[derive(Clone, Debug)]
pub struct Pieces<'a>(pub &'a [u8]);

impl<'a> Pieces<'a> {
    /// The next piece.
    ///
    /// # Errors
    /// The body ends within a piece, or its flags are unknown.
    pub fn next_piece(&mut self) -> Result<Option<Piece<'a>>, NetError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut reader = codec::Reader::new("files", self.0);
        let (entry, flags, len) = (reader.u32()?, reader.u8()?, reader.u32()?);
        if flags > 3 {
            return Err(NetError::protocol("files", "unknown flags"));
        }
        let (first, last) = (flags & Piece::FIRST != 0, flags & Piece::LAST != 0);
        let octets = reader.take(len as usize)?;
        self.0 = reader.rest();
        Ok(Some(Piece { entry, first, last, octets }))
    }
}

#[cfg(test)]
mod tests;
