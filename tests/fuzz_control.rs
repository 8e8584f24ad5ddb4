//! Runs the committed fuzz corpus of the control socket on a stable compiler.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../fuzz/src/control.rs"]
#[expect(unreachable_pub, reason = "a library of its own in the fuzz crate")]
mod control;

use std::fs;
use std::path::Path;

#[test]
fn corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/control");
    let mut inputs = 0;
    for file in fs::read_dir(&folder).unwrap() {
        // Shown when the test fails.
        let path = file.unwrap().path();
        eprintln!("{}", path.display());
        control::control(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

/// Everything that is one change away from what is meant: no fuzzer, but it runs each time.
#[test]
fn neighbours_of_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/control");
    for file in fs::read_dir(&folder).unwrap() {
        let seed = fs::read(file.unwrap().path()).unwrap();
        if seed.len() > 400 {
            continue;
        }
        for at in 0..seed.len() {
            control::control(&seed[..at]);
            control::control(&[&seed[..at], &seed[at + 1..]].concat());
            for octet in [b'"', b'{', b'}', b'9', b'-', 0, 0xff] {
                let mut other = seed.clone();
                other[at] = octet;
                control::control(&other);
            }
        }
    }
}
