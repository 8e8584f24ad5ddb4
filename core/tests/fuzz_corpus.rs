//! Runs the committed fuzz corpus on a stable compiler: what the fuzzer found once stays found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "a library of its own in the fuzz crate")]
mod targets;

use std::fs;
use std::path::Path;

fn run(target: &str, on: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs = 0;
    for file in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        // Shown when the test fails.
        let path = file.unwrap().path();
        eprintln!("{}", path.display());
        on(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

#[test]
fn vrrp() {
    run("vrrp", targets::vrrp);
}

#[test]
fn heartbeat() {
    run("heartbeat", targets::heartbeat);
}

#[test]
fn arp() {
    run("arp", targets::arp);
}

#[test]
fn ndp() {
    run("ndp", targets::ndp);
}

#[test]
fn ip() {
    run("ip", targets::ip);
}

#[test]
fn key() {
    run("key", targets::key);
}

#[test]
fn import() {
    run("import", targets::import);
}
