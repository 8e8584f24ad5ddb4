//! What a change of a large file costs on the link.

use crate::pipe::{Run, pusher, run};
use crate::trees::*;
use vipd_replicator::net::send::{Ended, Memory};

const SIZE: usize = 256 << 20;
const CHANGE: usize = 1 << 20;

/// From one content of a file to another; all that both sides said, as the link carries it before it is encrypted.
fn cost(before: Vec<u8>, after: Vec<u8>) -> Run {
    let target = MemTarget::new(Tree::of(&[("large", before)]), at(1, 1));
    let source = MemSource::new(Tree::of(&[("large", after)]), at(1, 2));
    let pusher = pusher();
    source.stop_after(1, &pusher.handle);
    let run = run(&pusher, &source, &mut Memory::default(), &target, None);
    assert!(matches!(run.sender, Ok(Ended::Stopped)), "{:?}", run.sender);
    assert!(target.lock().tree == source.lock().tree);
    run
}

#[test]
fn a_change_in_the_middle_costs_its_own_size_and_a_list() {
    let before = octets(1, SIZE);
    let mut after = before.clone();
    after[SIZE / 2..][..CHANGE].copy_from_slice(&octets(2, CHANGE));
    let run = cost(before, after);
    // The change, the segment that it shares with its neighbour, and 8 octets for each of 4096.
    let there = run.octets(0);
    assert!((CHANGE..CHANGE + 110_000).contains(&there), "{there} octets");
    assert!(run.octets(1) < 3000, "{} octets back", run.octets(1));
}

#[test]
fn an_insertion_in_the_middle_costs_its_own_size_and_a_list() {
    let before = octets(1, SIZE);
    let after = [&before[..SIZE / 2], &octets(2, CHANGE), &before[SIZE / 2..]].concat();
    let there = cost(before, after).octets(0);
    // The change, up to two chunks of 256 KiB around it, 8 octets for each segment and 12 for each chunk of the second half.
    assert!((CHANGE..CHANGE + 620_000).contains(&there), "{there} octets");
}

#[test]
fn what_grows_at_its_end_costs_its_end() {
    let before = octets(1, 32 << 20);
    let after = [before.as_slice(), &octets(2, 10_000)].concat();
    let there = cost(before, after).octets(0);
    assert!(there < 80_000, "{there} octets");
}

#[test]
fn runs_of_zeros_cost_nothing() {
    let target = MemTarget::default();
    let mut sparse = vec![0; 64 << 20];
    sparse[40 << 20] = 1;
    let source = MemSource::new(Tree::of(&[("sparse", sparse)]), at(1, 2));
    let pusher = pusher();
    source.stop_after(1, &pusher.handle);
    let run = run(&pusher, &source, &mut Memory::default(), &target, None);
    assert!(target.lock().tree == source.lock().tree);
    assert!(run.octets(0) < 64_000, "{} octets", run.octets(0));
}

/// A step of SplitMix64: the same numbers for the same seed.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut out = *state;
    out = (out ^ (out >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    out = (out ^ (out >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (out ^ (out >> 31)) as usize
}

#[test]
fn whatever_was_done_to_large_files_they_come_out_right() {
    for seed in 0..12 {
        let mut state = seed;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for file in 0..6 {
            let old = octets(seed * 10 + file, 1_000_000 + next(&mut state) % 5_000_000);
            let mut new = old.clone();
            for edit in 0..next(&mut state) % 4 {
                let from = next(&mut state) % new.len();
                let longest = [10, 100_000, 3_000_000][next(&mut state) % 3];
                let to = new.len().min(from + next(&mut state) % longest);
                let piece: Vec<_> = match next(&mut state) % 5 {
                    0 => new.splice(from..to, []).collect(),
                    1 => new.splice(from..to, octets(1000 + edit as u64, to - from)).collect(),
                    2 => new.splice(from..from, octets(2000 + edit as u64, to - from)).collect(),
                    3 => new.splice(from..to, vec![0; to - from]).collect(),
                    _ => new.drain(from..to).collect(),
                };
                if next(&mut state).is_multiple_of(3) {
                    let at = next(&mut state) % (new.len() + 1);
                    new.splice(at..at, piece);
                }
                new.push(edit as u8);
            }
            before.push((format!("file{file}"), old));
            after.push((format!("file{file}"), new));
        }
        let tree = |files: &[(String, Vec<u8>)]| {
            let files: Vec<_> = files.iter().map(|(n, c)| (n.as_str(), c.clone())).collect();
            Tree::of(&files)
        };
        let target = MemTarget::new(tree(&before), at(1, 1));
        let source = MemSource::new(tree(&after), at(1, 2));
        let pusher = pusher();
        source.stop_after(1, &pusher.handle);
        let run = run(&pusher, &source, &mut Memory::default(), &target, None);
        assert!(matches!(run.sender, Ok(Ended::Stopped)), "{seed}: {:?}", run.sender);
        assert!(target.lock().tree == source.lock().tree, "{seed}");
        // Nothing was asked for again: all of it came out right at once.
        assert_eq!(run.names().matches("<needs").count(), 1, "{seed}: {}", run.names());
    }
}
