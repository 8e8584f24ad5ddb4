//! Contents of files: whole ones in batches, large ones by what the other side lacks.
//!
//! Nobody waits for an answer between two files, and for the list of a large file's chunks only a few lists later.

use super::*;
use crate::manifest::{Entry, Kind};
use crate::net::chunk::{Cutter, LARGE, average_for};
use crate::net::link::Channel;
use crate::net::wire::{Chunks, MAX_BODY, MAX_CHUNKS, Message, PIECE_HEADER, Piece};
use crate::path::RelPath;
use crate::ports::ReadSeek;
use std::collections::VecDeque;
use std::io::{self, Read, SeekFrom};

/// Files are read in pieces of this, octets.
const READ: usize = 128 * 1024;
/// From this on a message with contents goes, octets: one more piece would still fit.
const BATCH: usize = MAX_BODY - READ - PIECE_HEADER;
/// Lists of chunks that wait for an answer; the receiver allows more.
const WINDOW: usize = 4;

/// What became of a transfer.
pub(super) enum Outcome {
    /// All of it went.
    Complete,
    /// All of it went but these files, which the source withholds.
    Without(Vec<RelPath>),
    /// A file is not as its manifest says.
    Changed(RelPath),
    /// The other host does not go on.
    Refused(Refusal),
}

/// Why a file was not sent to its end.
enum Break {
    Outcome(Outcome),
    Net(NetError),
}

impl From<NetError> for Break {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}

pub(super) struct Content<'a> {
    pub(super) channel: &'a mut dyn Channel,
    pub(super) source: &'a dyn Source,
    pub(super) manifest: &'a Manifest,
    pub(super) handle: &'a Handle,
}

/// A list of chunks that the other side has not answered yet.
struct List<'a> {
    entry: &'a Entry,
    /// Offset in the file, length, hash.
    chunks: Vec<(u64, u32, Hash)>,
    last: bool,
}

impl<'a> Content<'a> {
    /// Sends what `needs` names: positions in the manifest, and whether the other side has a version to copy from.
    pub(super) fn send(mut self, needs: &[(u32, bool)]) -> Result<Outcome, NetError> {
        let mut files = Vec::with_capacity(needs.len());
        for (number, base) in needs {
            let entry = self.manifest.entries().get(*number as usize);
            let Some(Entry { kind: Kind::File { size, hash }, .. }) = entry else { continue };
            files.push((*number, *size, *hash, *base && *size > LARGE));
        }
        match self.whole_files(&files).and_then(|()| self.large_files(&files)) {
            Ok(()) => Ok(Outcome::Complete),
            Err(Break::Outcome(outcome)) => Ok(outcome),
            Err(Break::Net(error)) => Err(error),
        }
    }

    fn entry(&self, number: u32) -> &'a Entry {
        // invariant: `send` has looked every number up.
        &self.manifest.entries()[number as usize]
    }

    fn whole_files(&mut self, files: &[(u32, u64, Hash, bool)]) -> Result<(), Break> {
        let mut batch = Vec::with_capacity(BATCH + READ + PIECE_HEADER);
        let mut done = (0, 0);
        for (number, size, hash, _) in files.iter().filter(|(.., in_chunks)| !in_chunks) {
            let entry = self.entry(*number);
            let changed = || Break::Outcome(Outcome::Changed(entry.path.clone()));
            let mut file = self.source.open(&entry.path).map_err(|_| changed())?;
            let mut hasher = blake3::Hasher::new();
            let (mut left, mut first) = (*size, true);
            loop {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(READ);
                let header = batch.len();
                Piece::write_header(&mut batch, *number, first, false, len as u32);
                let octets = batch.len();
                batch.resize(octets + len, 0);
                // Shorter than it was: it changed.
                file.read_exact(&mut batch[octets..]).map_err(|_| changed())?;
                hasher.update(&batch[octets..]);
                left -= len as u64;
                first = false;
                done.1 += len as u64;
                if left == 0 {
                    if hasher.finalize() != *hash {
                        return Err(changed());
                    }
                    // Only now is it the last one.
                    batch[header + 4] |= Piece::LAST;
                    done.0 += 1;
                }
                if batch.len() >= BATCH {
                    self.send_bulk(Message::Files(std::mem::take(&mut batch)), &mut done)?;
                    batch.reserve(BATCH + READ + PIECE_HEADER);
                }
                if left == 0 {
                    break;
                }
            }
        }
        if !batch.is_empty() {
            self.send_bulk(Message::Files(batch), &mut done)?;
        }
        Ok(())
    }

    /// Sends contents, counts `done` (files, octets) and sees whether the other side still wants them.
    fn send_bulk(&mut self, message: Message, done: &mut (u64, u64)) -> Result<(), Break> {
        self.channel.send(&message)?;
        let (files, octets) = std::mem::take(done);
        self.handle.done(files, octets);
        match self.channel.receive(Duration::ZERO)? {
            None | Some(Message::AskAgain) => Ok(()),
            Some(Message::Refused(refusal)) => Err(Break::Outcome(Outcome::Refused(refusal))),
            Some(Message::Bye(text)) => Err(Break::Net(NetError::Bye(text))),
            Some(other) => Err(Break::Net(NetError::protocol(other.name(), "nothing was asked"))),
        }
    }

    fn large_files(&mut self, files: &[(u32, u64, Hash, bool)]) -> Result<(), Break> {
        let mut lists = VecDeque::new();
        let mut reading = None;
        for (number, size, hash, _) in files.iter().filter(|(.., in_chunks)| *in_chunks) {
            self.cut(*number, *size, *hash, &mut lists, &mut reading)?;
        }
        while !lists.is_empty() {
            self.settle(&mut lists, &mut reading)?;
        }
        Ok(())
    }

    /// Tells how a file is cut, and sends what of the earlier ones is lacking.
    fn cut(
        &mut self,
        number: u32,
        size: u64,
        hash: Hash,
        lists: &mut VecDeque<List<'a>>,
        reading: &mut Option<Reading<'a>>,
    ) -> Result<(), Break> {
        let entry = self.entry(number);
        let changed = || Break::Outcome(Outcome::Changed(entry.path.clone()));
        let file = self.source.open(&entry.path).map_err(|_| changed())?;
        let average = average_for(size);
        let mut cutter = Cutter::new(file.take(size), average);
        let mut hasher = blake3::Hasher::new();
        let (mut offset, mut first) = (0, true);
        while offset < size {
            let mut list = List { entry, chunks: Vec::with_capacity(MAX_CHUNKS), last: false };
            while list.chunks.len() < MAX_CHUNKS && offset < size {
                let chunk = cutter.next_chunk().map_err(|_| changed())?.ok_or_else(changed)?;
                hasher.update(chunk);
                list.chunks.push((offset, chunk.len() as u32, *blake3::hash(chunk).as_bytes()));
                offset += chunk.len() as u64;
            }
            list.last = offset == size;
            if list.last && hasher.finalize() != hash {
                return Err(changed());
            }
            self.channel.send(&Message::Chunks(Chunks {
                entry: number,
                average,
                first,
                last: list.last,
                list: list.chunks.iter().map(|(_, len, hash)| (*hash, *len)).collect(),
            }))?;
            self.channel.flush()?;
            first = false;
            lists.push_back(list);
            while lists.len() >= WINDOW {
                self.settle(lists, reading)?;
            }
        }
        Ok(())
    }

    /// Sends what is lacking of the oldest list.
    fn settle(
        &mut self,
        lists: &mut VecDeque<List<'a>>,
        reading: &mut Option<Reading<'a>>,
    ) -> Result<(), Break> {
        let Some(list) = lists.pop_front() else { return Ok(()) };
        let lacks = self.lacks()?;
        if lacks.len() != list.chunks.len() {
            return Err(Break::Net(NetError::protocol("lacks", "another count than was asked")));
        }
        let changed = || Break::Outcome(Outcome::Changed(list.entry.path.clone()));
        let mut data = Vec::new();
        for ((offset, len, hash), lacks) in list.chunks.iter().zip(lacks) {
            if lacks {
                let from = data.len();
                data.resize(from + *len as usize, 0);
                self.read_at(list.entry, *offset, &mut data[from..], reading)
                    .map_err(|_| changed())?;
                if blake3::hash(&data[from..]) != *hash {
                    return Err(changed());
                }
                while data.len() >= BATCH {
                    let rest = data.split_off(data.len().min(BATCH));
                    self.channel.send(&Message::Data(std::mem::replace(&mut data, rest)))?;
                }
            }
            self.handle.done(0, u64::from(*len));
        }
        if !data.is_empty() {
            self.channel.send(&Message::Data(data))?;
        }
        self.handle.done(u64::from(list.last), 0);
        Ok(())
    }

    fn lacks(&mut self) -> Result<Vec<bool>, Break> {
        loop {
            match self.channel.receive(Duration::from_secs(1))? {
                Some(Message::Lacks(lacks)) => return Ok(lacks),
                Some(Message::Refused(refusal)) => {
                    return Err(Break::Outcome(Outcome::Refused(refusal)));
                }
                Some(Message::Bye(text)) => return Err(Break::Net(NetError::Bye(text))),
                Some(Message::AskAgain) | None => {}
                Some(other) => {
                    let error = NetError::protocol(other.name(), "lacks must come here");
                    return Err(Break::Net(error));
                }
            }
            if self.handle.stopped() {
                return Err(Break::Net(NetError::Stopped("it stops")));
            }
        }
    }

    fn read_at(
        &self,
        entry: &'a Entry,
        offset: u64,
        into: &mut [u8],
        reading: &mut Option<Reading<'a>>,
    ) -> io::Result<()> {
        let same = reading.take().filter(|reading| std::ptr::eq(reading.entry, entry));
        let mut now = match same {
            Some(reading) => reading,
            None => Reading { entry, file: self.source.open(&entry.path)? },
        };
        now.file.seek(SeekFrom::Start(offset))?;
        now.file.read_exact(into)?;
        *reading = Some(now);
        Ok(())
    }
}

/// The file whose chunks are being sent.
struct Reading<'a> {
    entry: &'a Entry,
    file: Box<dyn ReadSeek>,
}
