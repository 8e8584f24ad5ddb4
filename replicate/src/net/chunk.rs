//! Cutting where the content says, so that what is inserted in the middle moves no other cut (FastCDC, DESIGN 5.13): for the
//! parts of a large file that are not where they were.
//!
//! Both sides cut alike; if a release ever cuts otherwise, deltas become larger, and nothing else happens: chunks are
//! compared by their hashes, and files by theirs.

use crate::segment::{Tag, tag};
use fastcdc::v2020::FastCDC;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Files above this are compared with the version that the other side has, octets.
pub const LARGE: u64 = 1024 * 1024;
/// Average lengths of chunks, as binary logarithms: 64 KiB for files up to 16 GiB, then twice that for twice the size,
/// up to 1 MiB.
pub const AVERAGES: std::ops::RangeInclusive<u8> = 16..=20;
/// Chunks of a file that are looked for at most: 24 octets each.
const MAX_INDEX: usize = 512 * 1024;

/// Average length of the chunks of a file of `size` octets, as a binary logarithm.
pub fn average_for(size: u64) -> u8 {
    AVERAGES.clone().find(|log| size >> log <= 1 << 18).unwrap_or(*AVERAGES.end())
}

/// The longest chunk for that average, octets; all but the last of a file have at least a sixteenth of it.
pub const fn longest(average: u8) -> usize {
    4 << average
}

/// Cuts what it reads.
pub struct Cutter<R> {
    from: R,
    average: usize,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl<R: Read> Cutter<R> {
    /// Cuts what `from` has, in chunks of that average (binary logarithm; see [`AVERAGES`], others are moved into it).
    pub fn new(from: R, average: u8) -> Self {
        let average = 1 << average.clamp(*AVERAGES.start(), *AVERAGES.end());
        let buffer = vec![0; (8 * average).max(1 << 20)];
        Self { from, average, buffer, start: 0, end: 0, ended: false }
    }

    /// The next chunk; `None`: the end.
    ///
    /// # Errors
    /// Of reading.
    pub fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        let longest = 4 * self.average;
        if self.end - self.start < longest && !self.ended {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < self.buffer.len() && !self.ended {
                match self.from.read(&mut self.buffer[self.end..]) {
                    Ok(0) => self.ended = true,
                    Ok(len) => self.end += len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let there = &self.buffer[self.start..self.end];
        let Some(chunk) = FastCDC::new(there, self.average / 4, self.average, longest).next()
        else {
            return Ok(None);
        };
        let chunk = &there[..chunk.length];
        self.start += chunk.len();
        Ok(Some(chunk))
    }
}

/// Where which chunk lies in a file.
#[derive(Debug, Default)]
pub struct Index {
    /// Tag, offset, length; sorted. What is found by 64 bits of a hash is not taken for granted: the hash of the whole file
    /// decides.
    chunks: Vec<(Tag, u64, u32)>,
}

impl Index {
    /// Of what `from` has in `places` (offsets; behind its end there is nothing); of more than 512 Ki chunks the first ones. Places
    /// that no chunk may fill are left out: there may be a hundred thousand of them.
    ///
    /// # Errors
    /// Of reading.
    pub fn build(
        mut from: impl Read + Seek,
        places: &[Range<u64>],
        average: u8,
    ) -> io::Result<Self> {
        let mut chunks = Vec::new();
        let long = |place: &&Range<u64>| place.end - place.start >= longest(average) as u64;
        for place in places.iter().filter(long) {
            let mut offset = from.seek(SeekFrom::Start(place.start))?;
            let mut cutter = Cutter::new((&mut from).take(place.end - place.start), average);
            while chunks.len() < MAX_INDEX
                && let Some(chunk) = cutter.next_chunk()?
            {
                let len = chunk.len() as u32;
                chunks.push((tag(blake3::hash(chunk).as_bytes()), offset, len));
                offset += u64::from(len);
            }
        }
        chunks.sort_unstable();
        Ok(Self { chunks })
    }

    /// Where a chunk with that tag and length is.
    pub fn find(&self, key: Tag, len: u32) -> Option<u64> {
        let from = self.chunks.partition_point(|(tag, ..)| *tag < key);
        let same = self.chunks[from..].iter().take_while(|(tag, ..)| *tag == key);
        same.into_iter().find(|(_, _, has)| *has == len).map(|(_, offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The same octets for the same seed.
    fn octets(seed: u8, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
        out
    }

    fn lengths(content: &[u8], average: u8) -> Vec<usize> {
        let mut cutter = Cutter::new(content, average);
        let mut all = Vec::new();
        while let Some(chunk) = cutter.next_chunk().unwrap() {
            all.push(chunk.len());
        }
        all
    }

    #[test]
    fn chunks_cover_the_file_and_keep_to_their_limits() {
        let content = octets(1, 9 << 20);
        let all = lengths(&content, 16);
        assert_eq!(all.iter().sum::<usize>(), content.len());
        let (last, others) = all.split_last().unwrap();
        assert!(others.iter().all(|len| (16 << 10..=256 << 10).contains(len)), "{all:?}");
        assert!(*last <= 256 << 10);
        let average = content.len() / all.len();
        assert!((48 << 10..112 << 10).contains(&average), "{average}");
        assert!(lengths(&[], 16).is_empty());
        assert_eq!(lengths(&[7], 16), [1]);
    }

    #[test]
    fn how_a_reader_hands_it_out_does_not_matter() {
        struct Drip<'a>(&'a [u8]);
        impl Read for Drip<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let len = into.len().min(4093);
                self.0.read(&mut into[..len])
            }
        }
        let content = octets(2, 5 << 20);
        let mut cutter = Cutter::new(Drip(&content), 16);
        let mut all = Vec::new();
        while let Some(chunk) = cutter.next_chunk().unwrap() {
            all.push(chunk.len());
        }
        assert_eq!(all, lengths(&content, 16));
    }

    #[test]
    fn an_insertion_leaves_all_other_chunks_as_they_are() {
        let before = octets(3, 16 << 20);
        let all = 0..u64::MAX;
        let index = Index::build(io::Cursor::new(&before), &[all], 16).unwrap();
        let middle = 8 << 20;
        let after = [&before[..middle], &octets(4, 1000), &before[middle..]].concat();
        let mut cutter = Cutter::new(after.as_slice(), 16);
        let (mut lacking, mut offset) = (0, 0);
        while let Some(chunk) = cutter.next_chunk().unwrap() {
            match index.find(tag(blake3::hash(chunk).as_bytes()), chunk.len() as u32) {
                Some(at) => assert_eq!(chunk, &before[at as usize..][..chunk.len()], "{offset}"),
                None => lacking += chunk.len(),
            }
            offset += chunk.len();
        }
        assert!(lacking < 1 << 20, "{lacking} octets");
    }

    #[test]
    fn the_list_of_a_large_file_stays_short() {
        assert_eq!(average_for(10 << 30), 16);
        assert_eq!(average_for(32 << 30), 17);
        assert_eq!(average_for(u64::MAX), 20);
    }
}
