//! Hashes of files by their segments, so that two versions of a large file are compared piece by piece without another pass
//! over them.
//!
//! BLAKE3 is a tree over blocks of 1 KiB: the hash of a file follows from those of its aligned segments (section 2.1 of the BLAKE3
//! paper; `blake3::hazmat`). Used by both sides of a session for what lies where in a large file, and by the stage, which knows
//! by it whether a file came out as its manifest says. A tag says what to try, the hash of the whole decides. Must never call
//! a file complete of which a segment was not seen.

use crate::manifest::Hash;
use blake3::Hasher;
use blake3::hazmat::{
    HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

/// Lengths of segments as binary logarithms: from 8 KiB for files of 16 MiB to 64 KiB for those of 128 MiB to 16 GiB, then twice
/// that for twice the size.
const LENGTHS: std::ops::RangeInclusive<u8> = 13..=22;
/// The length that suits most files.
const USUAL: u8 = 16;
/// What the other side lacks in one piece is cut by its content from this length on, octets, since it may only have moved.
const MOVED: u64 = 1 << 20;

/// First octets of the hash of a segment.
pub type Tag = u64;

/// How a file of a certain size is divided.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u64,
    log: u8,
}

impl Layout {
    /// Of a file of `size` octets.
    pub fn of(size: u64) -> Self {
        let most = |log| if log < USUAL { 1 << 11 } else { 1 << 18 };
        let log = LENGTHS.clone().find(|log| size >> log <= most(*log));
        Self { size, log: log.unwrap_or(*LENGTHS.end()) }
    }

    /// Octets of the file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Segments of the file: at least one.
    pub fn count(&self) -> usize {
        usize::try_from(self.size.div_ceil(1 << self.log).max(1)).unwrap_or(usize::MAX)
    }

    /// Offset of segment `at`; of the one behind the last: the size.
    pub fn offset(&self, at: usize) -> u64 {
        ((at as u64) << self.log).min(self.size)
    }

    /// Octets of segment `at`.
    pub fn len(&self, at: usize) -> usize {
        (self.offset(at + 1) - self.offset(at)) as usize
    }

    /// Segments that have about so many octets together: short ones are not worth a call each.
    pub fn span(&self, octets: usize) -> usize {
        (octets >> self.log).max(1)
    }

    /// A hasher for segment `at`.
    fn hasher(&self, at: usize) -> Hasher {
        let mut hasher = Hasher::new();
        if at > 0 {
            hasher.set_input_offset(self.offset(at));
        }
        hasher
    }

    /// Its value: that of a part of the tree, or of the whole where there is one segment only.
    fn value(&self, hasher: &Hasher) -> Hash {
        if self.count() == 1 { *hasher.finalize().as_bytes() } else { hasher.finalize_non_root() }
    }

    /// Value of segment `at` with that content.
    pub fn hash(&self, at: usize, octets: &[u8]) -> Hash {
        let mut hasher = self.hasher(at);
        hasher.update(octets);
        self.value(&hasher)
    }

    /// The runs of `true` in `lacks`. Both sides see the same.
    pub fn runs(&self, lacks: &[bool]) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut from = 0;
        for part in lacks.chunk_by(|a, b| a == b) {
            let to = from + part.len();
            if part.first() == Some(&true) {
                let moved = self.offset(to) - self.offset(from) >= MOVED;
                runs.push(Run { from, to, moved });
            }
            from = to;
        }
        runs
    }

    /// Hash of the file whose segments have these values.
    pub fn whole(&self, values: &[Hash]) -> Hash {
        match values {
            [] => *Hasher::new().finalize().as_bytes(),
            [one] => *one,
            _ => {
                let (left, right) = self.halves(values, self.size);
                *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
            }
        }
    }

    /// Values of the two subtrees below a node over `len` octets.
    fn halves(&self, values: &[Hash], len: u64) -> (Hash, Hash) {
        let left = left_subtree_len(len);
        // A subtree of more than one segment is divided at one.
        let (first, second) = values.split_at((left >> self.log) as usize);
        (self.node(first, left), self.node(second, len - left))
    }

    fn node(&self, values: &[Hash], len: u64) -> Hash {
        if let [one] = values {
            return *one;
        }
        let (left, right) = self.halves(values, len);
        merge_subtrees_non_root(&left, &right, Mode::Hash)
    }
}

/// First octets of the value of a segment.
pub fn tag(value: &Hash) -> Tag {
    let [a, b, c, d, e, f, g, h, ..] = *value;
    Tag::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Segments `from..to` that the other side lacks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first one.
    pub from: usize,
    /// Behind the last one.
    pub to: usize,
    /// So long that it is cut by its content, which may be elsewhere in the other version.
    pub moved: bool,
}

/// The hash of a file whose segments come in any order, each from its start to its end.
#[derive(Debug)]
pub struct Segments {
    layout: Layout,
    /// Up to the last segment that is known: how large the file is to become is only claimed.
    values: Vec<Option<Hash>>,
    /// The one that is coming, and its octets so far.
    current: Option<(usize, usize, Hasher)>,
}

impl Segments {
    /// Of a file of `size` octets, nothing of which is there.
    pub fn new(size: u64) -> Self {
        Self { layout: Layout::of(size), values: Vec::new(), current: None }
    }

    /// How the file is divided.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// These octets are at `offset`. What does not go on where the segment had come to begins it anew, and leaves it
    /// unknown unless it begins at its start.
    pub fn put(&mut self, mut offset: u64, mut octets: &[u8]) {
        while !octets.is_empty() && offset < self.layout.size {
            let at = (offset >> self.layout.log) as usize;
            let within = (offset - self.layout.offset(at)) as usize;
            let left = self.layout.len(at) - within;
            let (now, rest) = octets.split_at(octets.len().min(left));
            (octets, offset) = (rest, offset + now.len() as u64);
            let known = self.current.take().filter(|(of, has, _)| (*of, *has) == (at, within));
            let mut hasher = match known {
                Some((.., hasher)) => hasher,
                None if within == 0 => self.layout.hasher(at),
                None => {
                    self.set(at, None);
                    continue;
                }
            };
            hasher.update(now);
            if now.len() == left {
                self.set(at, Some(self.layout.value(&hasher)));
            } else {
                self.set(at, None);
                self.current = Some((at, within + now.len(), hasher));
            }
        }
    }

    /// These octets are segment `at`, if its tag is that: then it is there, and belongs at the offset that is told.
    pub fn keep(&mut self, at: usize, octets: &[u8], tag: Tag) -> Option<u64> {
        let value = self.layout.hash(at, octets);
        if self::tag(&value) != tag {
            return None;
        }
        self.set(at, Some(value));
        Some(self.layout.offset(at))
    }

    /// The value of segment `at`; `None`: not all of it is there.
    pub fn value(&self, at: usize) -> Option<Hash> {
        self.values.get(at).copied().flatten()
    }

    /// Segment `at` has this value.
    pub fn set(&mut self, at: usize, value: Option<Hash>) {
        self.current.take_if(|(of, ..)| *of == at);
        if value.is_some() && (self.values.len()..self.layout.count()).contains(&at) {
            self.values.resize(at + 1, None);
        }
        if let Some(known) = self.values.get_mut(at) {
            *known = value;
        }
    }

    /// The hash of the file; `None`: not all of it is there.
    pub fn whole(&self) -> Option<Hash> {
        if self.layout.size == 0 {
            return Some(self.layout.whole(&[]));
        }
        if self.values.len() < self.layout.count() {
            return None;
        }
        let values: Option<Vec<Hash>> = self.values.iter().copied().collect();
        values.map(|values| self.layout.whole(&values))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    /// The same octets for the same seed.
    fn octets(seed: u8, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn segments_make_up_the_hash_that_everybody_else_computes() {
        let content = octets(1, (5 << 20) + 17);
        let lengths = [0, 1, 1023, 1024, 1025, (64 << 10) - 1, 64 << 10, (64 << 10) + 1];
        let more = [128 << 10, (128 << 10) + 1, (3 << 16) + 5, 1 << 20, (7 << 16) + 1024, 5 << 20];
        for len in lengths.into_iter().chain(more).chain([content.len()]) {
            let content = &content[..len];
            let mut segments = Segments::new(len as u64);
            segments.put(0, content);
            let hash = *blake3::hash(content).as_bytes();
            assert_eq!(segments.whole(), Some(hash), "{len}");
        }
    }

    #[test]
    fn segments_come_in_any_order_and_in_any_pieces() {
        let content = octets(2, (6 << 16) + 77);
        let hash = *blake3::hash(&content).as_bytes();
        let layout = Layout::of(content.len() as u64);
        let mut segments = Segments::new(content.len() as u64);
        let mut order: Vec<_> = (0..layout.count()).collect();
        order.rotate_left(5);
        order.reverse();
        for at in order {
            assert_eq!(segments.whole(), None);
            let from = layout.offset(at);
            let of = &content[from as usize..][..layout.len(at)];
            if at % 2 == 0 {
                segments.set(at, Some(layout.hash(at, of)));
                continue;
            }
            for (n, piece) in of.chunks(1000).enumerate() {
                segments.put(from + n as u64 * 1000, piece);
            }
        }
        assert_eq!(segments.whole(), Some(hash));
    }

    #[test]
    fn a_segment_with_a_gap_is_not_there() {
        let content = octets(3, 3 << 16);
        let mut segments = Segments::new(content.len() as u64);
        segments.put(0, &content[..70_000]);
        segments.put(70_001, &content[70_001..]);
        assert_eq!(segments.whole(), None);
        segments.put(1 << 16, &content[1 << 16..2 << 16]);
        segments.put(0, &content[..1 << 16]);
        assert_eq!(segments.whole(), Some(*blake3::hash(&content).as_bytes()));
        // And what is put again half is half there.
        segments.put(0, &content[..10]);
        assert_eq!(segments.whole(), None);
    }

    #[test]
    fn a_file_that_is_only_claimed_takes_no_memory() {
        // A list of its segments would take terabytes.
        let mut segments = Segments::new(i64::MAX as u64);
        segments.put(0, &[1; 100]);
        segments.set(usize::MAX, Some([1; 32]));
        assert!(segments.values.is_empty());
        assert_eq!(segments.whole(), None);
    }

    #[test]
    fn large_files_have_large_segments_and_not_too_many() {
        for size in [1 << 20, 16 << 20, 1 << 30, 16 << 30, 17 << 30, 1 << 40] {
            let layout = Layout::of(size);
            assert!(layout.count() <= (1 << 18) + 1, "{size}: {}", layout.count());
        }
        let length = |size| Layout::of(size).len(0);
        assert_eq!([16 << 20, 17 << 20].map(length), [8 << 10, 16 << 10]);
        assert_eq!([128 << 20, 16 << 30].map(length), [64 << 10, 64 << 10]);
        assert_eq!(length(17 << 30), 128 << 10);
        assert_eq!(Layout::of(0).count(), 1);
        assert_eq!(length(0), 0);
    }

    #[test]
    fn long_runs_may_have_moved() {
        let layout = Layout::of(100 << 16);
        let mut lacks = vec![false; layout.count()];
        let mib = (1 << 20) / layout.len(0);
        lacks[3] = true;
        lacks[50..50 + mib].fill(true);
        lacks[200..199 + mib].fill(true);
        let run = |from, to, moved| Run { from, to, moved };
        let all = [run(3, 4, false), run(50, 50 + mib, true), run(200, 199 + mib, false)];
        assert_eq!(layout.runs(&lacks), all);
        assert_eq!(layout.runs(&[]), []);
        assert_eq!(layout.runs(&[false; 9]), []);
    }

    #[test]
    fn segments_of_every_length_make_up_the_same_hash() {
        let content = octets(5, (9 << 20) + 1025);
        let hash = *blake3::hash(&content).as_bytes();
        for log in LENGTHS {
            let layout = Layout { size: content.len() as u64, log };
            let of = |at| &content[layout.offset(at) as usize..][..layout.len(at)];
            let values: Vec<_> = (0..layout.count()).map(|at| layout.hash(at, of(at))).collect();
            assert_eq!(layout.whole(&values), hash, "{log}");
        }
    }

    proptest! {
        #[test]
        fn any_length_hashes_as_a_whole(len in 0_usize..2_000_000, cut in 0_usize..2_000_000) {
            let content = octets(4, len);
            let cut = cut.min(len);
            let mut segments = Segments::new(len as u64);
            segments.put(0, &content[..cut]);
            segments.put(cut as u64, &content[cut..]);
            prop_assert_eq!(segments.whole(), Some(*blake3::hash(&content).as_bytes()));
        }
    }
}
