//! 100,000 small files: a scan is bounded in time and memory, and so is the change of one of them.
//!
//! Memory is that of a process that does nothing else: this program, started again for one test.

use crate::common::{Host, push, rel, settle};
use std::path::Path;
use std::process::Command;
use vipd_replicator::clock::Clock;
use vipd_replicator::set::{Place, Scope};

const BASE: &str = "VIPD_TEST_SCALE";

fn files() -> usize {
    100_000
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn timed<T>(what: &str, clock: &Clock, body: impl FnOnce() -> T) -> (T, u64) {
    let before = clock.steady_ms();
    let done = body();
    let ms = clock.steady_ms() - before;
    eprintln!("{what}: {ms} ms, peak {} KiB", peak_kib());
    (done, ms)
}

/// Not a test of its own: what the test below starts, once for each host.
#[test]
fn child() {
    let Ok(base) = std::env::var(BASE) else { return };
    let base = Path::new(&base);
    let clock = Clock::system();
    let a = Host::at("a", &base.join("a"), |_| {});
    a.set().claim(crate::common::epoch(1, 1)).unwrap();
    let (sealed, first_ms) = timed("first scan", &clock, || a.seal());
    assert!(sealed.new);
    let (sealed, again_ms) = timed("scan again, nothing changed", &clock, || a.seal());
    assert!(!sealed.new);
    settle();
    a.write("07/00007", "changed");
    let scope = Scope::Places(vec![Place { path: rel("07/00007"), deep: false }]);
    let (sealed, one_ms) = timed("one file changed", &clock, || a.set().seal(&scope).unwrap());
    assert!(sealed.new);
    eprintln!("scan={first_ms} again={again_ms} one={one_ms} peak={}", peak_kib());
    assert_eq!(a.set().source().offer().unwrap().manifest.entries().len(), files() + 100);
    assert!(first_ms < 120_000 && again_ms < 30_000 && one_ms < 10_000);
    assert!(peak_kib() < 64 * 1024, "{} KiB", peak_kib());
}

#[test]
fn a_hundred_thousand_files_are_scanned_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/root");
    for folder in 0..100 {
        let folder = root.join(format!("{folder:02}"));
        std::fs::create_dir_all(&folder).unwrap();
        for file in 0..files() / 100 {
            std::fs::write(folder.join(format!("{file:05}")), format!("{file}")).unwrap();
        }
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "scale::child", "--test-threads=1", "--nocapture"])
        .env(BASE, dir.path())
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    if std::env::var_os("VIPD_LONG").is_none_or(|long| long != "1") {
        return;
    }
    // The way to a standby, in this process.
    let (a, b) = (Host::at("a", &dir.path().join("a"), |_| {}), Host::new("b"));
    a.set().claim(crate::common::epoch(1, 1)).unwrap();
    let clock = Clock::system();
    let (_, first_ms) = timed("first copy", &clock, || push(&a, &b).unwrap());
    a.write("03/00003", "changed too");
    let scope = Scope::Places(vec![Place { path: rel("03/00003"), deep: false }]);
    let (_, one_ms) = timed("one file, sealed and copied", &clock, || {
        a.seal();
        a.set().seal(&scope).unwrap();
        push(&a, &b).unwrap()
    });
    assert_eq!(b.read("03/00003"), "changed too");
    assert!(first_ms < 300_000 && one_ms < 30_000);
}
