//! Runs the committed fuzz corpus on a stable compiler: what the fuzzer found once stays found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/replica.rs"]
#[expect(unreachable_pub, reason = "a library of its own in the fuzz crate")]
mod replica;
#[path = "../../fuzz/src/replica_put.rs"]
#[expect(unreachable_pub, reason = "a library of its own in the fuzz crate")]
mod replica_put;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::wire::{Assembler, Message};

/// The inputs of a target.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = files.map(|file| file.unwrap().path());
    let inputs: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

fn run(target: &str, on: fn(&[u8])) {
    run_with(target, 64, on);
}

/// With so many variants of each input.
fn run_with(target: &str, variants: usize, on: fn(&[u8])) {
    for (path, data) in corpus(target) {
        // Shown when the test fails.
        eprintln!("{}", path.display());
        on(&data);
        // Cut short, and with an octet changed: most of what a fuzzer tries first.
        for at in (0..data.len()).step_by(data.len().div_ceil(variants).max(1)) {
            on(&data[..at]);
            let mut changed = data.clone();
            changed[at] ^= 1 << (at % 8);
            on(&changed);
        }
    }
}

/// Kinds of the messages of a stream, as far as it has any.
fn kinds_of(mut stream: &[u8]) -> BTreeSet<u8> {
    let mut assembler = Assembler::new().unwrap();
    let mut kinds = BTreeSet::new();
    while let Ok(Some(message)) = assembler.next(&mut stream) {
        kinds.insert(message.kind());
    }
    kinds
}

#[test]
fn the_corpus_has_every_kind_of_message_in_todays_format() {
    let known = |kind: &u8| !matches!(Message::decode(*kind, vec![]), Err(NetError::Unknown(_)));
    let all: BTreeSet<u8> = (1..).take_while(known).collect();
    let bodies = corpus("replica_wire").into_iter().filter_map(|(_, data)| {
        let (kind, body) = data.split_first()?;
        Message::decode(*kind, body.to_vec()).ok()
    });
    assert_eq!(bodies.map(|message| message.kind()).collect::<BTreeSet<_>>(), all);
    // What is said in sessions comes to its end: contents of every way on one side, answers to them on the other.
    let said =
        |target| corpus(target).iter().flat_map(|(_, d)| kinds_of(d)).collect::<BTreeSet<_>>();
    let (to_standby, to_owner) = (said("replica_receive"), said("replica_send"));
    let both: BTreeSet<u8> = to_standby.union(&to_owner).copied().collect();
    let greeting = [1, 3, 4];
    let missing: Vec<_> = all.difference(&both).filter(|kind| !greeting.contains(kind)).collect();
    assert!(missing.is_empty(), "in no session: {missing:?}");
}

#[test]
fn replica_wire() {
    run("replica_wire", replica::replica_wire);
}

#[test]
fn replica_receive() {
    run("replica_receive", replica::replica_receive);
}

#[test]
fn replica_send() {
    run("replica_send", replica::replica_send);
}

#[test]
fn replica_put() {
    // Each of them makes a set on a disk.
    run_with("replica_receive", 16, replica_put::replica_put);
}
