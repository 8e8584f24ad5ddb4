//! Fills a stage with what the sender sends: each file that was asked for once, in any order, none longer than its
//! manifest says.

use crate::manifest::{Entry, Kind, Manifest};
use crate::net::chunk::{AVERAGES, Index, LARGE, longest};
use crate::net::error::NetError;
use crate::net::wire::{Chunks, Pieces};
use crate::ports::{ReadSeek, Refusal, Stage, StageFile};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, SeekFrom};

/// Lists of chunks that a sender may have open.
const MAX_LISTS: usize = 8;
/// Octets that are copied at once.
const COPY: usize = 64 * 1024;

/// Why a transfer does not go on.
pub(super) enum Trouble {
    /// The session is over.
    Net(NetError),
    /// This offer is.
    Refused(Refusal),
}

impl From<NetError> for Trouble {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}

/// A stage, and what is still to come.
pub(super) struct Filling<'a> {
    stage: Box<dyn Stage>,
    manifest: &'a Manifest,
    /// By entry.
    files: Vec<Wanted>,
    /// A whole file that has begun.
    whole: Option<Whole>,
    /// The last list that came: of which file, and how far that is known.
    cutting: Option<Cutting>,
    /// Chunks whose turn has not come.
    lists: VecDeque<List>,
    /// The large file that is being put together.
    large: Option<Large>,
}

/// A file that was asked for.
struct Wanted {
    entry: u32,
    /// There is a version to copy from.
    base: bool,
    done: bool,
    /// It did not come out as its manifest says.
    again: bool,
}

struct Whole {
    wanted: usize,
    file: Box<dyn StageFile>,
    left: u64,
}

struct Cutting {
    wanted: usize,
    average: u8,
    index: Index,
    known: u64,
}

struct List {
    wanted: usize,
    first: bool,
    last: bool,
    /// Where each chunk comes from, and its length.
    chunks: VecDeque<(Origin, u32)>,
}

/// Where a chunk comes from.
#[derive(Copy, Clone)]
enum Origin {
    /// At this offset of the version that is there.
    Base(u64),
    Link,
}

struct Large {
    file: Box<dyn StageFile>,
    base: Option<Box<dyn ReadSeek>>,
    /// The version that is there is not what it was: the rest is only read past.
    spoilt: bool,
}

impl<'a> Filling<'a> {
    /// Refuses a stage that needs what its manifest does not have.
    pub(super) fn new(stage: Box<dyn Stage>, manifest: &'a Manifest) -> Result<Self, Refusal> {
        let mut files = Vec::new();
        for need in stage.needs() {
            let entry = manifest.entries().get(need.entry as usize);
            let Some(entry @ Entry { kind: Kind::File { size, .. }, .. }) = entry else {
                let text = "the stage needs a file that the offer does not have: a bug of vipd";
                return Err(Refusal::Disk(text.into()));
            };
            let base = *size > LARGE && stage.base(entry).is_some();
            files.push(Wanted { entry: need.entry, base, done: false, again: false });
        }
        files.sort_unstable_by_key(|wanted| wanted.entry);
        files.dedup_by_key(|wanted| wanted.entry);
        let (whole, cutting, lists, large) = (None, None, VecDeque::new(), None);
        Ok(Self { stage, manifest, files, whole, cutting, lists, large })
    }

    /// What is asked for: entries, and whether there is a version of them here.
    pub(super) fn needs(&mut self) -> Vec<(u32, bool)> {
        for wanted in self.files.iter_mut().filter(|wanted| wanted.again) {
            // The version that is there has misled once.
            (wanted.done, wanted.again, wanted.base) = (false, false, false);
        }
        let open = self.files.iter().filter(|wanted| !wanted.done);
        open.map(|wanted| (wanted.entry, wanted.base)).collect()
    }

    /// Files that are lacking, and their octets.
    pub(super) fn lacking(&self) -> (u64, u64) {
        let sizes = self.files.iter().map(|wanted| self.entry(wanted).1);
        (self.files.len() as u64, sizes.fold(0, u64::saturating_add))
    }

    /// Has any file to be asked for again?
    pub(super) fn has_again(&self) -> bool {
        self.files.iter().any(|wanted| wanted.again)
    }

    /// Everything is there.
    pub(super) fn commit(self) -> Result<(), Refusal> {
        self.stage.commit()
    }

    /// Files that will not come.
    pub(super) fn withhold(&mut self, entries: &[u32]) -> Result<(), Trouble> {
        for entry in entries {
            let wanted = self.wanted(*entry, "withheld")?;
            let underway = self.lists.iter().any(|list| list.wanted == wanted)
                || self.cutting.as_ref().is_some_and(|cutting| cutting.wanted == wanted)
                || self.whole.as_ref().is_some_and(|whole| whole.wanted == wanted);
            if underway {
                return Err(NetError::protocol("withheld", "a file that is underway").into());
            }
            self.stage.withhold(*entry)?;
            self.files[wanted].done = true;
        }
        Ok(())
    }

    /// Pieces of whole files.
    pub(super) fn files(&mut self, body: &[u8]) -> Result<(), Trouble> {
        let wrong = |what| Err(NetError::protocol("files", what).into());
        let mut pieces = Pieces(body);
        while let Some(piece) = pieces.next_piece()? {
            let wanted = self.wanted(piece.entry, "files")?;
            let mut whole = match self.whole.take() {
                None if piece.first && self.lists.is_empty() => {
                    let (entry, left) = self.entry(&self.files[wanted]);
                    let file = self.stage.create(entry).map_err(|e| disk(entry, &e))?;
                    Whole { wanted, file, left }
                }
                Some(whole) if !piece.first && whole.wanted == wanted => whole,
                _ => return wrong("pieces out of order"),
            };
            let Some(left) = whole.left.checked_sub(piece.octets.len() as u64) else {
                return wrong("a file that is longer than its manifest says");
            };
            whole.left = left;
            let entry = self.entry(&self.files[wanted]).0;
            whole.file.write_all(piece.octets).map_err(|e| disk(entry, &e))?;
            if !piece.last {
                self.whole = Some(whole);
            } else if left > 0 {
                return wrong("a file that is shorter than its manifest says");
            } else {
                self.finish(wanted, whole.file)?;
            }
        }
        Ok(())
    }

    /// A list of chunks: which of them are lacking? [`Filling::copy`] has to follow.
    pub(super) fn chunks(&mut self, chunks: &Chunks) -> Result<Vec<bool>, Trouble> {
        let wrong = |what| Err(NetError::protocol("chunks", what).into());
        let wanted = self.wanted(chunks.entry, "chunks")?;
        let (entry, size) = self.entry(&self.files[wanted]);
        if !AVERAGES.contains(&chunks.average) {
            return wrong("an average length out of range");
        }
        if self.whole.is_some() || !self.files[wanted].base || chunks.list.is_empty() {
            return wrong("nothing that was asked for");
        }
        if self.lists.len() >= MAX_LISTS {
            return wrong("too many that were not followed by their data");
        }
        let mut cutting = match self.cutting.take() {
            None if chunks.first => {
                // Twice the same file would be found at the end of the first.
                if self.lists.iter().any(|list| list.wanted == wanted) {
                    return wrong("a file that is underway");
                }
                let base = self.stage.base(entry);
                // A version that cannot be read is none.
                let index = base.and_then(|base| Index::build(base, chunks.average).ok());
                let index = index.unwrap_or_default();
                Cutting { wanted, average: chunks.average, index, known: 0 }
            }
            Some(cutting)
                if !chunks.first
                    && cutting.wanted == wanted
                    && cutting.average == chunks.average =>
            {
                cutting
            }
            _ => return wrong("lists out of order"),
        };
        let mut list = VecDeque::with_capacity(chunks.list.len());
        for (hash, len) in &chunks.list {
            if *len == 0 || *len as usize > longest(chunks.average) {
                return wrong("a chunk of an impossible length");
            }
            cutting.known += u64::from(*len);
            let from = cutting.index.find(hash, *len).map_or(Origin::Link, Origin::Base);
            list.push_back((from, *len));
        }
        if cutting.known > size || (chunks.last && cutting.known < size) {
            return wrong("a file of another length than its manifest says");
        }
        let lacks = list.iter().map(|(from, _)| matches!(from, Origin::Link)).collect();
        let (first, last) = (chunks.first, chunks.last);
        self.lists.push_back(List { wanted, first, last, chunks: list });
        self.cutting = (!last).then_some(cutting);
        Ok(lacks)
    }

    /// Octets of chunks that were lacking.
    pub(super) fn data(&mut self, mut octets: &[u8]) -> Result<(), Trouble> {
        while !octets.is_empty() {
            self.copy()?;
            let Some(list) = self.lists.front_mut() else {
                return Err(NetError::protocol("data", "more than was lacking").into());
            };
            // `copy` has stopped at one that comes over the link.
            let Some((_, left)) = list.chunks.front_mut() else { continue };
            let (now, rest) = octets.split_at(octets.len().min(*left as usize));
            octets = rest;
            *left -= now.len() as u32;
            if *left == 0 {
                list.chunks.pop_front();
            }
            let wanted = list.wanted;
            self.put(wanted, now)?;
        }
        self.copy()
    }

    /// Copies chunks that are here, up to the next one that comes over the link.
    pub(super) fn copy(&mut self) -> Result<(), Trouble> {
        while let Some(list) = self.lists.front_mut() {
            let (wanted, first, last) = (list.wanted, list.first, list.last);
            if first && self.large.is_none() {
                list.first = false;
                let (entry, _) = self.entry(&self.files[wanted]);
                let file = self.stage.create(entry).map_err(|e| disk(entry, &e))?;
                let base = self.stage.base(entry);
                self.large = Some(Large { file, base, spoilt: false });
                continue;
            }
            match list.chunks.front() {
                Some((Origin::Link, _)) => return Ok(()),
                Some((Origin::Base(offset), len)) => {
                    let (offset, len) = (*offset, *len);
                    list.chunks.pop_front();
                    self.copy_chunk(wanted, offset, len)?;
                }
                None => {
                    self.lists.pop_front();
                    if last && let Some(large) = self.large.take() {
                        if large.spoilt {
                            self.again(wanted);
                        } else {
                            self.finish(wanted, large.file)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The sender has nothing more: is everything there that was asked for?
    pub(super) fn sent(&self) -> Result<(), Trouble> {
        let open = self.whole.is_some() || self.cutting.is_some() || !self.lists.is_empty();
        if open || self.files.iter().any(|wanted| !wanted.done) {
            return Err(NetError::protocol("sent", "not all that was asked for has come").into());
        }
        Ok(())
    }

    fn copy_chunk(&mut self, wanted: usize, offset: u64, len: u32) -> Result<(), Trouble> {
        let mut left = len as usize;
        let mut buffer = vec![0; left.min(COPY)];
        let read = |large: &mut Large, at: u64, into: &mut [u8]| {
            let base = large.base.as_mut().ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
            base.seek(SeekFrom::Start(at))?;
            base.read_exact(into)
        };
        while left > 0 {
            let now = left.min(COPY);
            let at = offset + u64::from(len) - left as u64;
            let Some(large) = &mut self.large else { return Ok(()) };
            if large.spoilt || read(large, at, &mut buffer[..now]).is_err() {
                large.spoilt = true;
                return Ok(());
            }
            self.put(wanted, &buffer[..now])?;
            left -= now;
        }
        Ok(())
    }

    fn put(&mut self, wanted: usize, octets: &[u8]) -> Result<(), Trouble> {
        let entry = self.entry(&self.files[wanted]).0;
        match &mut self.large {
            Some(large) if !large.spoilt => {
                large.file.write_all(octets).map_err(|e| disk(entry, &e).into())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, wanted: usize, file: Box<dyn StageFile>) -> Result<(), Trouble> {
        match file.finish() {
            Ok(()) => self.files[wanted].done = true,
            Err(error) if error.kind() == ErrorKind::InvalidData => self.again(wanted),
            Err(error) => {
                return Err(disk(self.entry(&self.files[wanted]).0, &error).into());
            }
        }
        Ok(())
    }

    fn again(&mut self, wanted: usize) {
        let wanted = &mut self.files[wanted];
        (wanted.done, wanted.again) = (true, true);
    }

    /// Position of an entry among those that were asked for and have not come.
    fn wanted(&self, entry: u32, message: &'static str) -> Result<usize, NetError> {
        let at = self.files.binary_search_by_key(&entry, |wanted| wanted.entry);
        at.ok()
            .filter(|at| !self.files[*at].done)
            .ok_or_else(|| NetError::protocol(message, "a file that was not asked for"))
    }

    /// The entry of a file and its size.
    fn entry(&self, wanted: &Wanted) -> (&'a Entry, u64) {
        // invariant: `new` has looked every one up.
        let entry = &self.manifest.entries()[wanted.entry as usize];
        let Kind::File { size, .. } = entry.kind else { return (entry, 0) };
        (entry, size)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn disk(entry: &Entry, error: &io::Error) -> Refusal {
    Refusal::Disk(format!("{}: {error}", entry.path))
}
