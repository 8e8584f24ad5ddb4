//! One set, one that works with it: the lock of the state folder, and how fast what goes on ends.

use crate::common::{Host, epoch, push, sync};
use std::time::Duration;
use vipd_replicator::clock::Clock;
use vipd_replicator::error::Error;
use vipd_replicator::set::{Scope, Set};

/// So many octets of zeros take a debug build many seconds to hash.
const LARGE: u64 = 64 << 30;

#[test]
fn a_state_folder_is_open_once_until_it_is_closed() {
    let a = Host::new("a");
    a.write("file", "1");
    a.claim(1, 1);
    let again = || Set::open(a.config.clone(), &a.base.join("state"), Clock::system());
    let error = again().unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "{error}");
    assert!(error.to_string().contains("state/replicate/test: another vipd-replicate"), "{error}");
    a.set().stop();
    assert!(again().is_err(), "stopping is not enough: somebody may still write");
    assert!(a.set().close(Duration::from_secs(10)));
    let next = again().unwrap();
    // Who still holds the old one can do no harm with it.
    for done in [
        a.set().claim(epoch(9, 1)),
        a.set().seal(&Scope::Everything).map(drop),
        a.set().prune().map(drop),
        a.set().follow(epoch(9, 1)),
    ] {
        assert!(matches!(done, Err(Error::Interrupted)), "{done:?}");
    }
    next.claim(epoch(2, 1)).unwrap();
    assert_eq!(next.position().epoch, epoch(2, 1));
}

#[test]
fn what_reads_a_large_file_ends_when_the_set_is_closed() {
    let a = Host::new("a");
    a.claim(1, 1);
    std::fs::File::create(a.path("large")).unwrap().set_len(LARGE).unwrap();
    let set = a.set().clone();
    let scan = std::thread::spawn(move || set.seal(&Scope::Everything));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!scan.is_finished());
    let since = Clock::system().steady_ms();
    a.set().stop();
    assert!(a.set().close(Duration::from_secs(10)), "it still reads");
    let took = Clock::system().steady_ms() - since;
    assert!(matches!(scan.join().unwrap(), Err(Error::Interrupted)));
    eprintln!("closed after {took} ms");
    assert!(a.set().report().alarms.is_empty(), "to end is no fault");
}

#[test]
fn a_claim_does_not_wait_for_a_standby_that_looks_through_a_large_file() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("file", "1");
    a.claim(1, 1);
    sync(&a, &b);
    std::fs::File::create(b.path("large")).unwrap().set_len(LARGE).unwrap();
    let set = b.set().clone();
    let drift = std::thread::spawn(move || set.drift());
    std::thread::sleep(Duration::from_millis(200));
    let since = Clock::system().steady_ms();
    b.set().announce(true);
    b.set().claim(epoch(2, 2)).unwrap();
    let took = Clock::system().steady_ms() - since;
    eprintln!("claimed after {took} ms");
    assert!(took < 10_000);
    assert!(matches!(drift.join().unwrap(), Err(Error::Interrupted)));
    // Told that somebody else owns after all, it takes trees again.
    std::fs::remove_file(b.path("large")).unwrap();
    b.set().announce(false);
    b.set().follow(epoch(2, 2)).unwrap();
    a.claim(3, 1);
    push(&a, &b).unwrap();
}
