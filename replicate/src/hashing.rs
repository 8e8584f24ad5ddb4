//! Hashes of files on the disk, and what is remembered of them.
//!
//! Called by scans, by a stage that looks through what is left of an earlier attempt, and by whoever verifies. Ends early where it is
//! told to. Must never write.

use crate::halt::Look;
use crate::manifest::Hash;
use crate::segment::Layout;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Octets that are read at once.
pub(crate) const CHUNK: usize = 256 * 1024;
/// Several threads hash a file of so many octets. Larger ones, sparse ones most likely, would have too many segments.
pub(crate) const SHARED: std::ops::Range<u64> = 8 << 20..4 << 40;
/// So many of them at most.
const THREADS: usize = 4;
/// Pieces of work that one of them takes at once.
const SHARE: usize = 4;
/// Values that are remembered at most, of all files together: 8 MiB, a file of 16 GiB.
const REMEMBERED: usize = 1 << 18;

/// Size and hash of what is left to read of `file`; ends early when `look` says so.
pub(crate) fn hash(
    file: &mut File,
    buffer: &mut Vec<u8>,
    look: Look<'_>,
) -> io::Result<(u64, Hash)> {
    buffer.resize(CHUNK, 0);
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    loop {
        look.look()?;
        let length = match file.read(buffer) {
            Ok(0) => return Ok((size, *hasher.finalize().as_bytes())),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..length).unwrap_or_default());
        size += length as u64;
    }
}

/// Values of the segments of `file`, which has `size` octets, by several threads; ends early when `look` says so.
pub(crate) fn values(file: &File, size: u64, look: Look<'_>) -> io::Result<Vec<Hash>> {
    let layout = Layout::of(size);
    let (count, per) = (layout.count(), layout.span(CHUNK));
    let spans = shared(count.div_ceil(per), |span, buffer| {
        look.look()?;
        let segments = span * per..count.min((span + 1) * per);
        let start = layout.offset(segments.start);
        buffer.resize((layout.offset(segments.end) - start) as usize, 0);
        file.read_exact_at(buffer, start)?;
        let within = |at| (layout.offset(at) - start) as usize;
        let value = |at| layout.hash(at, &buffer[within(at)..within(at + 1)]);
        Ok(segments.map(value).collect::<Vec<_>>())
    });
    Ok(spans?.concat())
}

/// What `work` gives for each of `0..count`, by several threads, each with a buffer of its own; ends early with the first error.
pub(crate) fn shared<T: Default + Send>(
    count: usize,
    work: impl Fn(usize, &mut Vec<u8>) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let share = || {
        let (mut done, mut buffer) = (Vec::new(), Vec::new());
        loop {
            let from = next.fetch_add(SHARE, Ordering::Relaxed);
            if from >= count || failed.load(Ordering::Relaxed) {
                return Ok(done);
            }
            for at in from..count.min(from + SHARE) {
                done.push((at, work(at, &mut buffer)?));
            }
        }
    };
    let noted = || share().inspect_err(|_| failed.store(true, Ordering::Relaxed));
    // No more than there are shares.
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let threads = threads.min(count.div_ceil(SHARE));
    let mut all: Vec<T> = (0..count).map(|_| T::default()).collect();
    thread::scope(|scope| {
        // Where there are no more threads to be had this one does it alone.
        let other = |_| thread::Builder::new().spawn_scoped(scope, noted).ok();
        let others: Vec<_> = (1..threads).filter_map(other).collect();
        let mut shares = vec![noted()];
        shares.extend(others.into_iter().map(|other| {
            let fault = |_| Err(io::Error::other("a thread that hashes ended by a fault of vipd"));
            other.join().unwrap_or_else(fault)
        }));
        for share in shares {
            for (at, value) in share? {
                all[at] = value;
            }
        }
        Ok(all)
    })
}

/// Values of the segments of those large files that were hashed last: a session that has to outline one need not read it again.
/// Only what follows from the hash of the file is told, so it is right whatever became of the file.
#[derive(Debug, Default)]
pub(crate) struct Outlines(VecDeque<(Hash, Arc<Vec<Hash>>)>);

impl Outlines {
    /// The file with that hash has segments with these values; of very many the oldest are forgotten.
    pub(crate) fn put(&mut self, hash: Hash, values: Vec<Hash>) {
        if !values.is_empty() {
            self.push(hash, Arc::new(values));
        }
    }

    fn push(&mut self, hash: Hash, values: Arc<Vec<Hash>>) {
        self.0.retain(|(known, _)| *known != hash);
        self.0.push_back((hash, values));
        let mut all: usize = self.0.iter().map(|(_, values)| values.len()).sum();
        while all > REMEMBERED
            && let Some((_, oldest)) = self.0.pop_front()
        {
            all -= oldest.len();
        }
    }

    /// Adds what `newer` knows.
    pub(crate) fn extend(&mut self, newer: Self) {
        for (hash, values) in newer.0 {
            self.push(hash, values);
        }
    }

    /// Values of the segments of the file with that hash.
    pub(crate) fn get(&self, hash: &Hash) -> Option<Arc<Vec<Hash>>> {
        let known = self.0.iter().find(|(known, _)| known == hash);
        known.map(|(_, values)| Arc::clone(values))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::halt::{Halt, halted};

    #[test]
    fn several_threads_find_the_hash_that_one_finds() {
        let dir = tempfile::tempdir().unwrap();
        let halt = Halt::default();
        for size in [8 << 20, (8 << 20) + 17, (9 << 20) - 1] {
            let mut content = vec![0; size];
            blake3::Hasher::new().finalize_xof().fill(&mut content);
            let path = dir.path().join("file");
            std::fs::write(&path, &content).unwrap();
            let file = File::open(&path).unwrap();
            let found = values(&file, size as u64, halt.any()).unwrap();
            let hash = Layout::of(size as u64).whole(&found);
            assert_eq!(hash, *blake3::hash(&content).as_bytes());
            let short = values(&file, size as u64 + 1, halt.any()).unwrap_err();
            assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        }
        halt.stop();
        let file = File::open(dir.path().join("file")).unwrap();
        assert!(halted(&values(&file, 8 << 20, halt.any()).unwrap_err()));
    }

    #[test]
    fn of_many_outlines_the_newest_stay() {
        let (mut all, mut newer) = (Outlines::default(), Outlines::default());
        let values = |n: u8, count| vec![[n; 32]; count];
        all.put([1; 32], values(1, REMEMBERED / 2));
        all.put([2; 32], values(2, REMEMBERED / 2));
        all.put([0; 32], Vec::new());
        newer.put([1; 32], values(1, REMEMBERED / 2));
        newer.put([3; 32], values(3, 1));
        all.extend(newer);
        assert_eq!(all.get(&[0; 32]), None);
        assert_eq!(all.get(&[1; 32]).unwrap().len(), REMEMBERED / 2);
        assert_eq!(all.get(&[2; 32]), None, "the oldest by then");
        assert_eq!(*all.get(&[3; 32]).unwrap(), values(3, 1));
        all.put([4; 32], values(4, REMEMBERED + 1));
        assert_eq!(all.get(&[4; 32]), None, "more than is remembered");
    }
}
