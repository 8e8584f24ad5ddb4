//! Large files of which the other side has a version: first the outline, then what is lacking of it.
//!
//! Short runs of lacking segments are sent as they are. Long ones may only have moved: they are cut by their content, and
//! of the chunks those are sent that are not found on the other side. Questions go out ahead of their answers.

use super::{Break, Content, Outcome};
use crate::manifest::{Entry, Hash};
use crate::net::chunk::{Cutter, average_for};
use crate::net::error::NetError;
use crate::net::wire::{Chunks, MAX_CHUNKS, Message, Outline};
use crate::ports::ReadSeek;
use crate::segment::{Layout, Run, Segments, tag};
use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::sync::Arc;

/// Questions that wait for an answer; the receiver allows more. It looks through the old version when the first list of chunks
/// comes: meanwhile this side cuts.
const WINDOW: usize = 12;
/// Files that are open; the receiver allows more.
const OPEN: usize = 4;
/// Segments of all files that are open, if there is more than one: their values are kept.
const SEGMENTS: usize = 1 << 18;

pub(super) struct LargeFiles<'c, 'a> {
    content: &'c mut Content<'a>,
    /// Not begun.
    waiting: VecDeque<(u32, u64, Hash)>,
    open: Vec<Large<'a>>,
    asked: VecDeque<Ask>,
}

/// A file that is being sent.
struct Large<'a> {
    number: u32,
    entry: &'a Entry,
    hash: Hash,
    layout: Layout,
    file: Box<dyn ReadSeek>,
    /// Of all segments, where the source remembers them.
    known: Option<Arc<Vec<Hash>>>,
    /// Of the segments that were outlined.
    values: Vec<Hash>,
    /// Of those that were answered.
    lacks: Vec<bool>,
    /// Long runs that were not cut yet.
    moved: VecDeque<Run>,
    cutting: Option<Cutting>,
    /// Lists of chunks that wait for an answer.
    lists: usize,
}

/// A run that is being cut.
struct Cutting {
    run: Run,
    at: u64,
    end: u64,
    cutter: Cutter<Take<Box<dyn ReadSeek>>>,
    /// Of what was cut: it has to be what was outlined.
    segments: Segments,
}

/// What the other side was asked, of which file.
enum Ask {
    /// So many segments.
    Outline(u32, usize),
    /// Offset, length and hash of each chunk.
    Chunks(u32, Vec<(u64, u32, Hash)>),
}

impl<'c, 'a> LargeFiles<'c, 'a> {
    /// Those of `files` that are marked.
    pub(super) fn new(content: &'c mut Content<'a>, files: &[(u32, u64, Hash, bool)]) -> Self {
        let marked = files.iter().filter(|(.., large)| *large);
        let waiting = marked.map(|(number, size, hash, _)| (*number, *size, *hash)).collect();
        Self { content, waiting, open: Vec::new(), asked: VecDeque::new() }
    }

    pub(super) fn send(mut self) -> Result<(), Break> {
        loop {
            while self.asked.len() < WINDOW && self.ask()? {}
            let Some(ask) = self.asked.pop_front() else { return Ok(()) };
            let lacks = self.content.lacks()?;
            match ask {
                Ask::Outline(number, count) => self.outlined(number, count, lacks)?,
                Ask::Chunks(number, chunks) => self.cut(number, &chunks, &lacks)?,
            }
        }
    }

    /// Asks what is next; `false`: there is nothing before an answer comes.
    fn ask(&mut self) -> Result<bool, Break> {
        if let Some(at) = self.open.iter().position(|large| large.cutting.is_some()) {
            self.ask_chunks(at)?;
            return Ok(true);
        }
        let begun = self.open.iter().position(|large| !large.is_outlined());
        let at = match begun {
            Some(at) => at,
            None if self.open.len() < OPEN => {
                let known: usize = self.open.iter().map(|large| large.layout.count()).sum();
                let next = self.waiting.front();
                let next = next.filter(|(_, size, _)| {
                    known == 0 || known + Layout::of(*size).count() <= SEGMENTS
                });
                let Some((number, size, hash)) = next.copied() else { return Ok(false) };
                self.waiting.pop_front();
                let entry = self.content.entry(number);
                let file = self.content.source.open(&entry.path).map_err(|_| changed(entry))?;
                self.open.push(Large {
                    number,
                    entry,
                    hash,
                    layout: Layout::of(size),
                    file,
                    known: self.content.source.outline(&hash),
                    values: Vec::new(),
                    lacks: Vec::new(),
                    moved: VecDeque::new(),
                    cutting: None,
                    lists: 0,
                });
                self.open.len() - 1
            }
            None => return Ok(false),
        };
        let large = &mut self.open[at];
        let (number, from) = (large.number, large.values.len());
        large.outline().map_err(|_| changed(large.entry))?;
        let tags: Vec<_> = large.values[from..].iter().map(tag).collect();
        self.asked.push_back(Ask::Outline(number, tags.len()));
        self.content.channel.send(&Message::Outline(Outline { entry: number, tags }))?;
        self.content.channel.flush()?;
        Ok(true)
    }

    fn ask_chunks(&mut self, at: usize) -> Result<(), Break> {
        let large = &mut self.open[at];
        let (number, average) = (large.number, average_for(large.layout.size()));
        let chunks = large.next_chunks().map_err(|_| changed(large.entry))?;
        large.lists += 1;
        if large.cutting.is_none() {
            self.begin_cutting(at)?;
        }
        let list = chunks.iter().map(|(_, len, hash)| (tag(hash), *len)).collect();
        self.asked.push_back(Ask::Chunks(number, chunks));
        self.content.channel.send(&Message::Chunks(Chunks { entry: number, average, list }))?;
        self.content.channel.flush()?;
        Ok(())
    }

    /// Begins to cut the next long run, if there is one.
    fn begin_cutting(&mut self, at: usize) -> Result<(), Break> {
        let large = &mut self.open[at];
        let Some(run) = large.moved.pop_front() else { return Ok(()) };
        let (at, end) = (large.layout.offset(run.from), large.layout.offset(run.to));
        let open = |source: &dyn crate::ports::Source| {
            let mut file = source.open(&large.entry.path)?;
            file.seek(SeekFrom::Start(at))?;
            io::Result::Ok(file.take(end - at))
        };
        let file = open(self.content.source).map_err(|_| changed(large.entry))?;
        let cutter = Cutter::new(file, average_for(large.layout.size()));
        let segments = Segments::new(large.layout.size());
        large.cutting = Some(Cutting { run, at, end, cutter, segments });
        Ok(())
    }

    /// An answer to a part of an outline: after the last one the short runs go out.
    fn outlined(&mut self, number: u32, count: usize, lacks: Vec<bool>) -> Result<(), Break> {
        if lacks.len() != count {
            return Err(Break::Net(NetError::protocol("lacks", "another count than was asked")));
        }
        let at = self.find(number)?;
        let large = &mut self.open[at];
        let from = large.lacks.len();
        let there =
            |(n, lacks): (usize, &bool)| if *lacks { 0 } else { large.layout.len(from + n) };
        let there = lacks.iter().enumerate().map(there).map(|len| len as u64).sum();
        self.content.handle.done(0, there);
        large.lacks.extend(lacks);
        if large.lacks.len() < large.layout.count() {
            return Ok(());
        }
        let mut data = Vec::new();
        for run in large.layout.runs(&large.lacks) {
            if run.moved {
                large.moved.push_back(run);
                continue;
            }
            for segment in run.from..run.to {
                let (offset, len) = (large.layout.offset(segment), large.layout.len(segment));
                let from = data.len();
                data.resize(from + len, 0);
                let read = large.read_at(offset, &mut data[from..]);
                let same = read.is_ok()
                    && large.layout.hash(segment, &data[from..]) == large.values[segment];
                if !same {
                    return Err(changed(large.entry));
                }
                self.content.send_full(&mut data)?;
                self.content.handle.done(0, len as u64);
            }
        }
        self.content.send_rest(data)?;
        self.begin_cutting(at)?;
        self.close(at);
        Ok(())
    }

    /// An answer to a list of chunks.
    fn cut(
        &mut self,
        number: u32,
        chunks: &[(u64, u32, Hash)],
        lacks: &[bool],
    ) -> Result<(), Break> {
        if lacks.len() != chunks.len() {
            return Err(Break::Net(NetError::protocol("lacks", "another count than was asked")));
        }
        let at = self.find(number)?;
        let large = &mut self.open[at];
        let mut data = Vec::new();
        for ((offset, len, hash), lacks) in chunks.iter().zip(lacks) {
            if *lacks {
                let from = data.len();
                data.resize(from + *len as usize, 0);
                let read = large.read_at(*offset, &mut data[from..]);
                if read.is_err() || blake3::hash(&data[from..]) != *hash {
                    return Err(changed(large.entry));
                }
                self.content.send_full(&mut data)?;
            }
            self.content.handle.done(0, u64::from(*len));
        }
        self.content.send_rest(data)?;
        large.lists -= 1;
        self.close(at);
        Ok(())
    }

    /// Forgets a file of which everything was answered.
    fn close(&mut self, at: usize) {
        let large = &self.open[at];
        if large.cutting.is_none() && large.lists == 0 {
            self.open.remove(at);
            self.content.handle.done(1, 0);
        }
    }

    fn find(&self, number: u32) -> Result<usize, Break> {
        let at = self.open.iter().position(|large| large.number == number);
        // invariant: a file stays open until all its questions are answered.
        at.ok_or(Break::Net(NetError::Stopped("a file was closed too early: a bug of vipd")))
    }
}

impl Large<'_> {
    fn is_outlined(&self) -> bool {
        self.values.len() == self.layout.count()
    }

    /// Hashes the next segments, unless their values are known.
    fn outline(&mut self) -> io::Result<()> {
        let to = self.layout.count().min(self.values.len() + MAX_CHUNKS);
        let known = self.known.as_ref().and_then(|known| known.get(self.values.len()..to));
        if let Some(known) = known {
            self.values.extend_from_slice(known);
        } else {
            let mut buffer = Vec::new();
            for at in self.values.len()..to {
                buffer.resize(self.layout.len(at), 0);
                self.file.read_exact(&mut buffer)?;
                self.values.push(self.layout.hash(at, &buffer));
            }
        }
        if self.is_outlined() && self.layout.whole(&self.values) != self.hash {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    /// The next chunks of the run that is being cut; after the last one of it nothing is.
    fn next_chunks(&mut self) -> io::Result<Vec<(u64, u32, Hash)>> {
        let mut chunks = Vec::new();
        let Some(cutting) = &mut self.cutting else { return Ok(chunks) };
        while chunks.len() < MAX_CHUNKS && cutting.at < cutting.end {
            let chunk = cutting.cutter.next_chunk()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            chunks.push((cutting.at, chunk.len() as u32, *blake3::hash(chunk).as_bytes()));
            cutting.segments.put(cutting.at, chunk);
            cutting.at += chunk.len() as u64;
        }
        if cutting.at >= cutting.end {
            let Cutting { run, segments, .. } = cutting;
            if (run.from..run.to).any(|at| segments.value(at) != self.values.get(at).copied()) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.cutting = None;
        }
        Ok(chunks)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(into)
    }
}

fn changed(entry: &Entry) -> Break {
    Break::Outcome(Outcome::Changed(entry.path.clone()))
}
