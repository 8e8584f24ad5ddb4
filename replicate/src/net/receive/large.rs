//! A large file that is put together out of the version that is here and what comes over the link.
//!
//! First its outline is compared with the version that is here, segment by segment: what is the same is there at once, in one
//! pass of reading, hashing and writing. Short runs of what is lacking come over the link; long ones may only have moved: they
//! come as lists of chunks, which are looked for in those parts of the old version that were not the same. Nothing here is
//! believed: the hash of the whole decides. Looking through a large version takes long, and gives way to a claim and to a stop.

use crate::net::chunk::Index;
use crate::ports::{ReadSeek, StageFile};
use crate::segment::{Layout, Run, Tag};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Octets that several threads compare between two looks at whether to go on.
const BETWEEN: usize = 32 << 20;
/// Octets that are copied at once.
const COPY: usize = 64 * 1024;

/// Goes on, or says why not.
pub(super) type Look<'l> = &'l dyn Fn() -> io::Result<()>;

/// Something that has to be put at an offset.
#[derive(Copy, Clone, Debug)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) len: u32,
    pub(super) from: Origin,
}

/// Where it comes from.
#[derive(Copy, Clone, Debug)]
pub(super) enum Origin {
    /// At this offset of the version that is here.
    Base(u64),
    Link,
}

pub(super) struct Large {
    file: Box<dyn StageFile>,
    base: Option<Box<dyn ReadSeek>>,
    /// It was read to its end, or as far as it can be read.
    ended: bool,
    layout: Layout,
    /// By segment, as far as it is outlined.
    lacks: Vec<bool>,
    /// Long runs that were not told in chunks yet.
    moved: VecDeque<Run>,
    /// How far the first of them was.
    told: u64,
    index: Option<Index>,
    buffer: Vec<u8>,
    /// The version that is here cannot be read any more: the rest is only read past.
    spoilt: bool,
}

impl Large {
    /// A file of `size` octets, nothing of which is there.
    pub(super) fn new(
        file: Box<dyn StageFile>,
        base: Option<Box<dyn ReadSeek>>,
        size: u64,
    ) -> Self {
        let (layout, lacks, moved) = (Layout::of(size), Vec::new(), VecDeque::new());
        let (buffer, spoilt) = (Vec::new(), false);
        let ended = base.is_none();
        Self { file, base, ended, layout, lacks, moved, told: 0, index: None, buffer, spoilt }
    }

    /// Segments that were not outlined yet.
    pub(super) fn unseen(&self) -> usize {
        self.layout.count() - self.lacks.len()
    }

    /// Every segment was compared.
    pub(super) fn outlined(&self) -> bool {
        self.unseen() == 0
    }

    /// Compares the next segments and puts those that are the same: which are lacking?
    pub(super) fn compare(&mut self, tags: &[Tag], look: Look<'_>) -> io::Result<Vec<bool>> {
        let from = self.lacks.len();
        let mut rest = tags;
        if let Some(base) = self.base.as_deref().and_then(ReadSeek::as_file) {
            let at_once = (BETWEEN / self.layout.len(0).max(1)).max(1);
            while let Some((some, others)) = rest.split_at_checked(at_once.min(rest.len()))
                && !some.is_empty()
            {
                look()?;
                let Some(kept) = self.file.keep_all(base, self.lacks.len(), some) else { break };
                self.lacks.extend(kept?.iter().map(|kept| !kept));
                rest = others;
            }
        }
        for tag in rest {
            look()?;
            let at = self.lacks.len();
            self.buffer.resize(self.layout.len(at), 0);
            let base = self.base.as_mut().filter(|_| !self.ended);
            // Where it ends, or cannot be read, nothing behind is the same either.
            self.ended = base.is_none_or(|base| base.read_exact(&mut self.buffer).is_err());
            let same = !self.ended && self.file.keep(at, &self.buffer, *tag)?;
            self.lacks.push(!same);
        }
        Ok(self.compared(from))
    }

    /// Segments from `from` on were compared: which are lacking?
    fn compared(&mut self, from: usize) -> Vec<bool> {
        if self.outlined() {
            self.moved =
                self.layout.runs(&self.lacks).into_iter().filter(|run| run.moved).collect();
        }
        self.lacks[from..].to_vec()
    }

    /// What comes over the link without more ado, once the outline is complete.
    pub(super) fn short_runs(&self) -> VecDeque<Piece> {
        let short = self.layout.runs(&self.lacks).into_iter().filter(|run| !run.moved);
        let segments = short.flat_map(|run| run.from..run.to);
        let piece = |at| Piece {
            at: self.layout.offset(at),
            len: self.layout.len(at) as u32,
            from: Origin::Link,
        };
        segments.map(piece).collect()
    }

    /// Once the outline is complete: it is known where everything comes from.
    pub(super) fn complete(&self) -> bool {
        self.moved.is_empty()
    }

    /// What was not told yet of the run whose turn it is.
    pub(super) fn left_of_run(&self) -> u64 {
        self.moved.front().map_or(0, |run| self.layout.offset(run.to) - self.next(run))
    }

    fn next(&self, run: &Run) -> u64 {
        self.told.max(self.layout.offset(run.from))
    }

    /// Looks for these chunks, which are the next of the run whose turn it is and not longer than it.
    pub(super) fn find(
        &mut self,
        list: &[(Tag, u32)],
        average: u8,
        look: Look<'_>,
    ) -> io::Result<VecDeque<Piece>> {
        if self.index.is_none() {
            let places = self.other_places();
            let base = self.base.as_mut();
            // What cannot be read is looked for in vain.
            let index = base
                .and_then(|base| Index::build(Looking { base, look }, &places, average).ok())
                .unwrap_or_default();
            look()?;
            self.index = Some(index);
        }
        let (Some(run), Some(index)) = (self.moved.front(), &self.index) else {
            return Ok(VecDeque::new());
        };
        let mut at = self.next(run);
        let mut pieces = VecDeque::with_capacity(list.len());
        for (tag, len) in list {
            let from = index.find(*tag, *len).map_or(Origin::Link, Origin::Base);
            pieces.push_back(Piece { at, len: *len, from });
            at += u64::from(*len);
        }
        if at == self.layout.offset(run.to) {
            self.moved.pop_front();
        }
        self.told = at;
        Ok(pieces)
    }

    /// The parts of the version that is here which are not the same as in the new one.
    fn other_places(&self) -> Vec<Range<u64>> {
        let offset = |at| self.layout.offset(at);
        let mut places: Vec<_> = self
            .layout
            .runs(&self.lacks)
            .into_iter()
            .map(|run| offset(run.from)..offset(run.to))
            .collect();
        // It may be longer.
        match places.last_mut() {
            Some(last) if last.end == self.layout.size() => last.end = u64::MAX,
            _ => places.push(self.layout.size()..u64::MAX),
        }
        places
    }

    /// Copies what is here.
    pub(super) fn copy(&mut self, piece: Piece, look: Look<'_>) -> io::Result<()> {
        let Origin::Base(from) = piece.from else { return Ok(()) };
        let mut done = 0;
        while done < u64::from(piece.len) && !self.spoilt {
            look()?;
            let len = (u64::from(piece.len) - done).min(COPY as u64);
            self.buffer.resize(len as usize, 0);
            if read_at(self.base.as_deref_mut(), from + done, &mut self.buffer).is_err() {
                self.spoilt = true;
                return Ok(());
            }
            self.file.put(piece.at + done, &self.buffer)?;
            done += len;
        }
        Ok(())
    }

    /// What came over the link.
    pub(super) fn put(&mut self, at: u64, octets: &[u8]) -> io::Result<()> {
        if self.spoilt { Ok(()) } else { self.file.put(at, octets) }
    }

    /// The file, which is complete; `None`: it did not work.
    pub(super) fn into_file(self) -> Option<Box<dyn StageFile>> {
        (!self.spoilt).then_some(self.file)
    }
}

/// Reads no further when it must not go on.
struct Looking<'a> {
    base: &'a mut Box<dyn ReadSeek>,
    look: Look<'a>,
}

impl Read for Looking<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (self.look)()?;
        self.base.read(into)
    }
}

impl Seek for Looking<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.base.seek(to)
    }
}

fn read_at(
    base: Option<&mut (dyn ReadSeek + 'static)>,
    at: u64,
    into: &mut [u8],
) -> io::Result<()> {
    let base = base.ok_or(ErrorKind::NotFound)?;
    match (*base).as_file() {
        Some(file) => file.read_exact_at(into, at),
        None => {
            base.seek(SeekFrom::Start(at))?;
            base.read_exact(into)
        }
    }
}
