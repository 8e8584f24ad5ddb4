//! Runs the committed fuzz corpus on a stable compiler: what the fuzzer found once stays found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/replica.rs"]
#[expect(unreachable_pub, reason = "a library of its own in the fuzz crate")]
mod replica;

use std::fs;
use std::path::Path;

fn run(target: &str, on: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs = 0;
    for file in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        // Shown when the test fails.
        let path = file.unwrap().path();
        eprintln!("{}", path.display());
        let data = fs::read(&path).unwrap();
        on(&data);
        // Cut short, and with an octet changed: most of what a fuzzer tries first.
        for at in (0..data.len()).step_by(data.len().div_ceil(64).max(1)) {
            on(&data[..at]);
            let mut changed = data.clone();
            changed[at] ^= 1 << (at % 8);
            on(&changed);
        }
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
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
