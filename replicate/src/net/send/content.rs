//! Contents of files: whole ones in batches here, large ones by what the other side lacks ([`large`]).
//!
//! Nobody waits for an answer between two files.

mod large;

use super::*;
use crate::manifest::Entry;
use crate::net::chunk::LARGE;
use crate::net::link::Channel;
use crate::net::wire::{MAX_BODY, Message, PIECE_HEADER, Piece};
use crate::path::RelPath;
use large::LargeFiles;
use std::collections::VecDeque;

/// Files are read in pieces of this, octets.
const READ: usize = 128 * 1024;
/// From this on a message with contents goes, octets: one more piece would still fit.
const BATCH: usize = MAX_BODY - READ - PIECE_HEADER;

/// Answers that may come while something is sent: more than the questions that are ever open.
const EARLY: usize = 64;

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
    channel: &'a mut dyn Channel,
    source: &'a dyn Source,
    manifest: &'a Manifest,
    handle: &'a Handle,
    /// What the other side asks for did not come out right when it was sent before: nothing is believed without a hash.
    again: bool,
    /// Answers that came while something was sent.
    early: VecDeque<Vec<bool>>,
}

impl<'a> Content<'a> {
    pub(super) fn new(
        channel: &'a mut dyn Channel,
        source: &'a dyn Source,
        manifest: &'a Manifest,
        handle: &'a Handle,
        again: bool,
    ) -> Self {
        Self { channel, source, manifest, handle, again, early: VecDeque::new() }
    }

    /// Sends what `needs` names: positions in the manifest, and whether the other side has a version to copy from.
    pub(super) fn send(mut self, needs: &[(u32, bool)]) -> Result<Outcome, NetError> {
        let mut files = Vec::with_capacity(needs.len());
        for (number, base) in needs {
            let file = self.manifest.at(*number).and_then(|entry| entry.file());
            let Some((size, hash)) = file else { continue };
            files.push((*number, size, *hash, *base && size > LARGE));
        }
        match self.whole_files(&files).and_then(|()| LargeFiles::new(&mut self, &files).send()) {
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
            // The other side hashes what comes and asks again for what is not as the manifest says: hashed here once more only
            // where the kernel does not tell that it is what was hashed.
            let proven = !self.again && *size > LARGE && self.source.proves(entry, &*file);
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
                if !proven {
                    hasher.update(&batch[octets..]);
                }
                left -= len as u64;
                first = false;
                done.1 += len as u64;
                if left == 0 {
                    // What changed since it was proven the other side finds, and asks for again.
                    if !proven && hasher.finalize() != *hash {
                        return Err(changed());
                    }
                    // Only now is it the last one.
                    batch[header + 4] |= Piece::LAST;
                    done.0 += 1;
                }
                if batch.len() >= BATCH {
                    self.send_bulk(&mut batch, &mut done)?;
                }
                if left == 0 {
                    break;
                }
            }
        }
        if !batch.is_empty() {
            self.send_bulk(&mut batch, &mut done)?;
        }
        Ok(())
    }

    /// Sends the contents in `batch`, which is empty after that, counts `done` (files, octets) and sees whether the other side
    /// still wants them.
    fn send_bulk(&mut self, batch: &mut Vec<u8>, done: &mut (u64, u64)) -> Result<(), Break> {
        let message = Message::Files(std::mem::take(batch));
        self.channel.send(&message)?;
        if let Message::Files(sent) = message {
            // Its memory serves the next one.
            *batch = sent;
            batch.clear();
        }
        let (files, octets) = std::mem::take(done);
        self.handle.done(files, octets);
        match self.hear(Duration::ZERO)? {
            None => Ok(()),
            Some(other) => Err(NetError::protocol(other.name(), "nothing was asked").into()),
        }
    }

    /// What the other side says to contents. What ends them ends them whenever it is heard.
    fn hear(&mut self, wait: Duration) -> Result<Option<Message>, Break> {
        match self.channel.receive(wait)? {
            // It crossed what is sent.
            Some(Message::AskAgain) | None => Ok(None),
            Some(Message::Refused(refusal)) => Err(Break::Outcome(Outcome::Refused(refusal))),
            Some(Message::Bye(text)) => Err(NetError::Bye(text).into()),
            Some(message) => Ok(Some(message)),
        }
    }

    fn lacks(&mut self) -> Result<Vec<bool>, Break> {
        if let Some(early) = self.early.pop_front() {
            return Ok(early);
        }
        loop {
            match self.hear(Duration::from_secs(1))? {
                None => {}
                Some(Message::Lacks(lacks)) => return Ok(lacks),
                Some(other) => return Err(no_answer(&other)),
            }
            if self.handle.stopped() {
                return Err(Break::Net(NetError::Stopped("it stops")));
            }
        }
    }

    /// Sends what fills messages of `data`.
    fn send_full(&mut self, data: &mut Vec<u8>) -> Result<(), Break> {
        while data.len() >= BATCH {
            let rest = data.split_off(BATCH);
            self.channel.send(&Message::Data(std::mem::replace(data, rest)))?;
            self.look_up()?;
        }
        Ok(())
    }

    /// In the middle of what may be gigabytes: does the other side still want them?
    fn look_up(&mut self) -> Result<(), Break> {
        match self.hear(Duration::ZERO)? {
            None => {}
            Some(answer @ Message::Lacks(_)) if self.early.len() == EARLY => {
                return Err(no_answer(&answer));
            }
            Some(Message::Lacks(lacks)) => self.early.push_back(lacks),
            Some(other) => return Err(no_answer(&other)),
        }
        Ok(())
    }

    /// Sends what is left of `data`.
    fn send_rest(&mut self, data: Vec<u8>) -> Result<(), Break> {
        if !data.is_empty() {
            self.channel.send(&Message::Data(data))?;
        }
        Ok(())
    }
}

fn no_answer(message: &Message) -> Break {
    NetError::protocol(message.name(), "lacks must come here").into()
}
