//! A file that comes in: written where it belongs, hashed on the way, and under way to the disk before it is complete.
//!
//! Made by a stage for each content that is to come, and used where files are copied on this host. Must never let a content
//! count as complete that is not what its manifest says.

use crate::disk::{self, Dir};
use crate::fail;
use crate::halt::Look;
use crate::hashing;
use crate::manifest::{Entry, Hash, Kind};
use crate::meta;
use crate::ports::StageFile;
use crate::segment::{self, Layout, Segments, Tag};
use crate::stage::{Places, SINGLY};
use crate::state::Shared;
use crate::store::hex;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Zeros in pieces of this size become holes.
const HOLE: usize = 4096;
/// From so many octets on what was written starts its way to the disk, so that little is left to wait for in the end. Not more: the
/// kernel drops from memory what is on the disk already when the call that starts it returns, and the next tree is compared with it.
const START: u64 = 1 << 20;
/// Nothing waits.
const NOTHING: (u64, Range<u64>) = (0, Range { start: u64::MAX, end: 0 });
/// Files below this are small: they go to the disk all together, and are of no use in part.
const WORTH: u64 = 1 << 20;

pub(crate) fn part_name(hash: &Hash, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}.{suffix}", hex(hash)))
}

/// A file that comes in.
pub(crate) struct Part {
    shared: Arc<Shared>,
    places: Arc<Places>,
    sink: Sink,
    segments: Segments,
    /// What it is to become.
    entry: Entry,
    /// It is made where it will be ready, under this number.
    number: Option<u32>,
    hash: Hash,
    size: u64,
    /// There is what an earlier attempt wrote.
    earlier: bool,
}

impl Part {
    /// The file that is to become `entry`; `number`: under which it is ready then, where only one place has that content.
    pub(crate) fn create(
        shared: Arc<Shared>,
        places: Arc<Places>,
        entry: &Entry,
        number: Option<u32>,
    ) -> io::Result<Self> {
        let Kind::File { size, hash } = entry.kind else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file"));
        };
        let (parts, part, prev) =
            (&places.parts, part_name(&hash, "part"), part_name(&hash, "prev"));
        let number = number.filter(|_| size < WORTH);
        let mut earlier = false;
        if places.left && number.is_none() {
            // What an earlier attempt wrote is what this one may copy from.
            let length = |path: &Path| io::Result::Ok(parts.see(path)?.map(|seen| seen.size));
            let (written, before) = (length(&part)?, length(&prev)?);
            if written > before {
                parts.rename(&part, parts, &prev)?;
            }
            earlier = written.max(before).is_some();
        }
        // A small file is no use to anybody in part: it is made where it is taken from, and each name of it costs.
        let file = match number {
            Some(number) => places.ready.create(number.to_string())?,
            None => parts.create(&part)?,
        };
        let (sink, segments, entry) = (Sink::new(file), Segments::new(size), entry.clone());
        Ok(Self { shared, places, sink, segments, entry, number, hash, size, earlier })
    }
}

impl StageFile for Part {
    fn put(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        if offset.saturating_add(octets.len() as u64) > self.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more octets than announced"));
        }
        self.sink.put(offset, octets)?;
        self.segments.put(offset, octets);
        Ok(())
    }

    fn keep(&mut self, at: usize, octets: &[u8], tag: Tag) -> io::Result<bool> {
        let Some(offset) = self.segments.keep(at, octets, tag) else { return Ok(false) };
        self.sink.put(offset, octets)?;
        Ok(true)
    }

    fn keep_all(
        &mut self,
        base: &File,
        from: usize,
        tags: &[Tag],
    ) -> Option<io::Result<Vec<bool>>> {
        let (layout, sink) = (self.segments.layout(), &self.sink);
        let per = layout.span(hashing::CHUNK);
        let spans: Vec<_> = tags.chunks(per).collect();
        let values = hashing::shared(spans.len(), |n, buffer| {
            let tags = spans.get(n).copied().unwrap_or_default();
            keep_span(base, sink, layout, from + n * per, tags, buffer)
        });
        let keep = |values: Vec<Vec<Option<Hash>>>| {
            let values = values.concat();
            for (n, value) in values.iter().enumerate().filter(|(_, value)| value.is_some()) {
                let at = from + n;
                self.segments.set(at, *value);
                self.sink.wrote(layout.offset(at), layout.offset(at + 1));
            }
            values.iter().map(Option::is_some).collect()
        };
        Some(values.map(keep))
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let (part, prev) = (part_name(&self.hash, "part"), part_name(&self.hash, "prev"));
        let Places { complete, parts, ready, .. } = &*self.places;
        self.sink.end()?;
        self.shared.stage.still()?;
        if self.sink.length != self.size || self.segments.whole() != Some(self.hash) {
            match self.number {
                Some(number) => ready.unlink(number.to_string().as_ref())?,
                None => parts.unlink(&part)?,
            }
            let text = "the content is not what the manifest says";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        // While it is open: of many files that saves opening each once more.
        if let Err(error) = meta::apply(&self.sink.file, &self.entry, &self.shared.config) {
            let (name, path) = (&self.shared.config.name, &self.entry.path);
            let text = format!("[replicate.{name}] {path}: owner, mode or attributes: {error}");
            let mut state = self.shared.state();
            state.count("disk");
            state.alarm("disk", text);
            return Err(error);
        }
        fail::point("staged")?;
        if self.number.is_none() {
            parts.rename(&part, complete, Path::new(&hex(&self.hash)))?;
            if self.earlier {
                parts.unlink(&prev)?;
            }
        }
        let mut finished = self.places.finished();
        if let Some(number) = self.number {
            finished.ready.insert(number);
            self.shared.made(finished.ready.len(), ready);
        } else {
            // Of more files than that the whole file system is told to write.
            let hold = self.size >= WORTH && finished.complete.len() < SINGLY;
            finished.complete.insert(self.hash, hold.then_some(self.sink.file));
        }
        drop(finished);
        let mut state = self.shared.state();
        let (files, octets) = state.pending;
        state.pending = (files.saturating_sub(1), octets.saturating_sub(self.size));
        Ok(())
    }
}

/// The segments from `first` on, one for each of `tags`, of which those go to `sink` that `base` has in the same places: their
/// values.
fn keep_span(
    base: &File,
    sink: &Sink,
    layout: Layout,
    first: usize,
    tags: &[Tag],
    buffer: &mut Vec<u8>,
) -> io::Result<Vec<Option<Hash>>> {
    let start = layout.offset(first);
    let within = |n: usize| (layout.offset(first + n) - start) as usize;
    buffer.resize(within(tags.len()), 0);
    let there = read_some_at(base, buffer, start);
    let value = |(n, tag): (usize, &Tag)| {
        // Where it ends, or cannot be read, it is not the same.
        let octets = buffer.get(within(n)..within(n + 1)).filter(|_| within(n + 1) <= there)?;
        let value = layout.hash(first + n, octets);
        (segment::tag(&value) == *tag).then_some(value)
    };
    let values: Vec<_> = tags.iter().enumerate().map(value).collect();
    let mut n = 0;
    for run in values.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let to = n + run.len();
        if let Some(octets) = buffer.get(within(n)..within(to))
            && run.first().is_some_and(Option::is_some)
        {
            sink.write(start + within(n) as u64, octets)?;
        }
        n = to;
    }
    Ok(values)
}

/// Reads as far as that goes; so many octets.
fn read_some_at(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(length) if length > 0 => done += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => break,
        }
    }
    done
}

/// Copies `from`, which must have that size and hash.
pub(crate) fn copy(
    from: &mut File,
    folder: &Dir,
    to: &Path,
    (size, hash): (u64, &Hash),
    look: Look<'_>,
) -> io::Result<()> {
    let mut sink = Sink::new(folder.create(to)?);
    let (mut buffer, mut hasher) = (vec![0; hashing::CHUNK], blake3::Hasher::new());
    loop {
        look.look()?;
        let length = from.read(&mut buffer)?;
        let octets = buffer.get(..length).unwrap_or_default();
        if octets.is_empty() {
            break;
        }
        hasher.update(octets);
        sink.put(sink.length, octets)?;
    }
    sink.end()?;
    if sink.length == size && hasher.finalize().as_bytes() == hash {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "changed while it was copied"))
}

/// Writes with holes where there are zeros; nothing twice.
struct Sink {
    file: File,
    /// Behind the last octet that was put.
    length: u64,
    /// Octets in the file as the disk has it: holes at its end do not count yet.
    there: AtomicU64,
    /// What did not start its way to the disk: octets, and where they begin and end.
    waiting: (u64, Range<u64>),
    /// Whose turn it is to write: the kernel lets one at a time write to a file, and whoever waits for that there may keep a
    /// processor busy.
    turn: Mutex<()>,
}

impl Sink {
    /// Into `file`, which is empty.
    const fn new(file: File) -> Self {
        Self { file, length: 0, there: AtomicU64::new(0), waiting: NOTHING, turn: Mutex::new(()) }
    }

    fn put(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.write(offset, octets)?;
        self.wrote(offset, offset + octets.len() as u64);
        Ok(())
    }

    /// Several threads may write at once; [`Sink::wrote`] has to follow.
    fn write(&self, mut offset: u64, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            let zeros: usize =
                octets.chunks(HOLE).take_while(|piece| hole(piece)).map(<[u8]>::len).sum();
            octets = octets.get(zeros..).unwrap_or_default();
            let data = octets.chunks(HOLE).take_while(|p| !hole(p)).map(<[u8]>::len).sum();
            let (write, rest) = octets.split_at_checked(data).unwrap_or_default();
            offset += zeros as u64;
            let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.file.write_all_at(write, offset)?;
            drop(turn);
            offset += data as u64;
            octets = rest;
            if data > 0 {
                self.there.fetch_max(offset, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// What is there from `from` to `to` was written.
    fn wrote(&mut self, from: u64, to: u64) {
        self.length = self.length.max(to);
        let (octets, place) = &mut self.waiting;
        *octets += to - from;
        *place = place.start.min(from)..place.end.max(to);
        if *octets >= START {
            self.start();
        }
    }

    fn start(&mut self) {
        let (_, place) = std::mem::replace(&mut self.waiting, NOTHING);
        disk::start_writing(&self.file, place);
    }

    /// A hole at the end belongs to the file too.
    fn end(&mut self) -> io::Result<()> {
        if *self.there.get_mut() < self.length {
            self.file.set_len(self.length)?;
        }
        if self.length >= WORTH {
            self.start();
        }
        Ok(())
    }
}

fn hole(piece: &[u8]) -> bool {
    piece.len() == HOLE && piece.iter().all(|octet| *octet == 0)
}
