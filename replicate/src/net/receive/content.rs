//! Fills a stage with what the sender sends: each file that was asked for once, in any order, none longer than its
//! manifest says.

use super::large::{Large, Origin, Piece};
use crate::manifest::{Entry, Manifest};
use crate::net::chunk::{AVERAGES, LARGE, longest};
use crate::net::error::NetError;
use crate::net::wire::{Chunks, Outline, Pieces};
use crate::ports::{Refusal, Stage, StageFile};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};

/// Large files that a sender may have open.
const MAX_OPEN: usize = 8;
/// Lists of what they lack that may wait for their data.
const MAX_LISTS: usize = 16;

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
    /// Large files that are being put together, in the order in which they were outlined.
    large: Vec<(usize, Large)>,
    /// What they lack, in the order in which it comes.
    lists: VecDeque<List>,
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
    size: u64,
    left: u64,
}

/// What has to be put into a large file next.
struct List {
    wanted: usize,
    pieces: VecDeque<Piece>,
    /// With it the file is complete.
    last: bool,
}

impl<'a> Filling<'a> {
    /// Refuses a stage that needs what its manifest does not have.
    pub(super) fn new(stage: Box<dyn Stage>, manifest: &'a Manifest) -> Result<Self, Refusal> {
        let mut files = Vec::new();
        for need in stage.needs() {
            let entry = manifest.at(need.entry);
            let Some((entry, (size, _))) = entry.and_then(|entry| Some((entry, entry.file()?)))
            else {
                let text = "the stage needs a file that the offer does not have: a bug of vipd";
                return Err(Refusal::Disk(text.into()));
            };
            let base = size > LARGE && stage.base(entry).is_some();
            files.push(Wanted { entry: need.entry, base, done: false, again: false });
        }
        files.sort_unstable_by_key(|wanted| wanted.entry);
        files.dedup_by_key(|wanted| wanted.entry);
        let (whole, large, lists) = (None, Vec::new(), VecDeque::new());
        Ok(Self { stage, manifest, files, whole, large, lists })
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
            let underway = self.large.iter().any(|(of, _)| *of == wanted)
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
                None if piece.first && self.large.is_empty() => {
                    let (entry, size) = self.entry(&self.files[wanted]);
                    let file = self.stage.create(entry).map_err(|e| disk(entry, e))?;
                    Whole { wanted, file, size, left: size }
                }
                Some(whole) if !piece.first && whole.wanted == wanted => whole,
                _ => return wrong("pieces out of order"),
            };
            let Some(left) = whole.left.checked_sub(piece.octets.len() as u64) else {
                return wrong("a file that is longer than its manifest says");
            };
            let entry = self.manifest_entry(wanted);
            let offset = whole.size - whole.left;
            whole.file.put(offset, piece.octets).map_err(|e| disk(entry, e))?;
            whole.left = left;
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

    /// The next segments of a large file: which of them are lacking? The others are there. [`Filling::copy`] has to follow.
    pub(super) fn outline(&mut self, outline: &Outline) -> Result<Vec<bool>, Trouble> {
        let wrong = |what| Err(NetError::protocol("outline", what).into());
        let wanted = self.wanted(outline.entry, "outline")?;
        let (entry, size) = self.entry(&self.files[wanted]);
        if self.whole.is_some() || !self.files[wanted].base || outline.tags.is_empty() {
            return wrong("nothing that was asked for");
        }
        match self.large.last() {
            Some((of, large)) if *of == wanted && !large.outlined() => {}
            Some((_, large)) if !large.outlined() => return wrong("files out of order"),
            _ if self.large.iter().any(|(of, _)| *of == wanted) => {
                return wrong("more segments than its manifest says");
            }
            _ if self.large.len() >= MAX_OPEN => return wrong("too many files at once"),
            _ => {
                let base = self.stage.base(entry);
                let file = self.stage.create(entry).map_err(|e| disk(entry, e))?;
                self.large.push((wanted, Large::new(file, base, size)));
            }
        }
        // invariant: it was just found or put there.
        let Some((_, large)) = self.large.last_mut() else { return Ok(Vec::new()) };
        if outline.tags.len() > large.unseen() {
            return wrong("more segments than its manifest says");
        }
        let look = || self.stage.look().map_err(io::Error::other);
        let lacks = large.compare(&outline.tags, &look).map_err(|e| disk(entry, e))?;
        if large.outlined() {
            let (pieces, last) = (large.short_runs(), large.complete());
            self.open(List { wanted, pieces, last }, "outline")?;
        }
        Ok(lacks)
    }

    /// A list of chunks of what is lacking and may have moved: which of them are? [`Filling::copy`] has to follow.
    pub(super) fn chunks(&mut self, chunks: &Chunks) -> Result<Vec<bool>, Trouble> {
        let wrong = |what| Err(NetError::protocol("chunks", what).into());
        let wanted = self.wanted(chunks.entry, "chunks")?;
        if !AVERAGES.contains(&chunks.average) {
            return wrong("an average length out of range");
        }
        if chunks.list.iter().any(|(_, len)| *len == 0 || *len as usize > longest(chunks.average)) {
            return wrong("a chunk of an impossible length");
        }
        let entry = self.manifest_entry(wanted);
        let large = self.large.iter_mut().find(|(of, _)| *of == wanted);
        let Some((_, large)) = large.filter(|(_, large)| large.outlined() && !large.complete())
        else {
            return wrong("nothing that was asked for");
        };
        let octets = chunks.list.iter().map(|(_, len)| u64::from(*len)).sum::<u64>();
        if octets == 0 || octets > large.left_of_run() {
            return wrong("another length than the run that is lacking");
        }
        let look = || self.stage.look().map_err(io::Error::other);
        let pieces = large.find(&chunks.list, chunks.average, &look);
        let pieces = pieces.map_err(|e| disk(entry, e))?;
        let lacks = pieces.iter().map(|piece| matches!(piece.from, Origin::Link)).collect();
        let last = large.complete();
        self.open(List { wanted, pieces, last }, "chunks")?;
        Ok(lacks)
    }

    fn open(&mut self, list: List, message: &'static str) -> Result<(), NetError> {
        if self.lists.len() >= MAX_LISTS {
            let what = "too many that were not followed by their data";
            return Err(NetError::protocol(message, what));
        }
        self.lists.push_back(list);
        Ok(())
    }

    /// Octets that were lacking.
    pub(super) fn data(&mut self, mut octets: &[u8]) -> Result<(), Trouble> {
        while !octets.is_empty() {
            self.copy()?;
            let Some(list) = self.lists.front_mut() else {
                return Err(NetError::protocol("data", "more than was lacking").into());
            };
            // `copy` has stopped at one that comes over the link.
            let Some(piece) = list.pieces.front_mut() else { continue };
            let (now, rest) = octets.split_at(octets.len().min(piece.len as usize));
            octets = rest;
            let at = piece.at;
            piece.at += now.len() as u64;
            piece.len -= now.len() as u32;
            if piece.len == 0 {
                list.pieces.pop_front();
            }
            let wanted = list.wanted;
            if let Some((_, large)) = self.large.iter_mut().find(|(of, _)| *of == wanted) {
                let put = large.put(at, now);
                put.map_err(|e| disk(self.manifest_entry(wanted), e))?;
            }
        }
        self.copy()
    }

    /// Copies what is here, up to what comes next over the link.
    pub(super) fn copy(&mut self) -> Result<(), Trouble> {
        while let Some(list) = self.lists.front_mut() {
            let (wanted, last) = (list.wanted, list.last);
            let Some(at) = self.large.iter().position(|(of, _)| *of == wanted) else {
                return Err(NetError::protocol("data", "of a file that is complete").into());
            };
            match list.pieces.front() {
                Some(Piece { from: Origin::Link, .. }) => return Ok(()),
                Some(piece) => {
                    let look = || self.stage.look().map_err(io::Error::other);
                    let copied = self.large[at].1.copy(*piece, &look);
                    list.pieces.pop_front();
                    copied.map_err(|e| disk(self.manifest_entry(wanted), e))?;
                }
                None => {
                    self.lists.pop_front();
                    if last {
                        match self.large.remove(at).1.into_file() {
                            Some(file) => self.finish(wanted, file)?,
                            None => self.again(wanted),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The sender has nothing more: is everything there that was asked for?
    pub(super) fn sent(&self) -> Result<(), Trouble> {
        let open = self.whole.is_some() || !self.large.is_empty() || !self.lists.is_empty();
        if open || self.files.iter().any(|wanted| !wanted.done) {
            return Err(NetError::protocol("sent", "not all that was asked for has come").into());
        }
        Ok(())
    }

    fn finish(&mut self, wanted: usize, file: Box<dyn StageFile>) -> Result<(), Trouble> {
        match file.finish() {
            Ok(()) => self.files[wanted].done = true,
            Err(error) if error.kind() == ErrorKind::InvalidData => self.again(wanted),
            Err(error) => {
                return Err(disk(self.manifest_entry(wanted), error).into());
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

    fn manifest_entry(&self, wanted: usize) -> &'a Entry {
        self.entry(&self.files[wanted]).0
    }

    /// The entry of a file and its size.
    fn entry(&self, wanted: &Wanted) -> (&'a Entry, u64) {
        // invariant: `new` has looked every one up.
        let entry = &self.manifest.entries()[wanted.entry as usize];
        (entry, entry.file().map_or(0, |(size, _)| size))
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What the disk says of a file, or why the stage does not go on.
fn disk(entry: &Entry, error: io::Error) -> Refusal {
    match error.downcast() {
        Ok(refusal) => refusal,
        Err(error) => Refusal::Disk(format!("{}: {error}", entry.path)),
    }
}
