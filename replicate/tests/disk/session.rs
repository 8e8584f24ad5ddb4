//! Two sets on real folders and a real session between them: what is read and hashed once only, and what comes of it where that
//! was believed in vain.

use crate::common::{Host, assert_same, epoch, rel, settle};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use vipd_replicator::manifest::{Entry, Hash};
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::link::Options;
use vipd_replicator::net::noise::LinkKey;
use vipd_replicator::net::receive::{Opened, Receiver, Sets};
use vipd_replicator::net::send::{Ended, Handle, Memory, Pusher};
use vipd_replicator::net::{Me, SetId};
use vipd_replicator::path::RelPath;
use vipd_replicator::ports::{Offer, Position, ReadSeek, Refusal, Source};
use vipd_replicator::set::Set;

struct One(Set);

impl Sets for One {
    fn open(&self, _: &str, _: &str) -> Result<Opened, Refusal> {
        Ok(Opened { digest: [0; 32], target: self.0.target() })
    }
}

/// The source of a set, watched, and lied about.
struct Watched {
    inner: Box<dyn Source>,
    handle: Handle,
    read: Arc<AtomicU64>,
    /// Names of files that were not as they should be.
    changed: Arc<Mutex<Vec<RelPath>>>,
    /// Answers of [`Source::proves`]; `None`: the truth.
    proofs: Option<Vec<bool>>,
    asked: AtomicU64,
    /// What is read in place of every file.
    other: Option<Vec<u8>>,
}

/// Counts what is read.
struct Counted(Box<dyn ReadSeek>, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(into)?;
        self.1.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Source for Watched {
    fn offer(&mut self) -> Option<Offer> {
        self.inner.offer()
    }
    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadSeek>> {
        let file = match &self.other {
            Some(other) => Box::new(io::Cursor::new(other.clone())),
            None if self.proofs.is_none() => return self.inner.open(path),
            None => self.inner.open(path)?,
        };
        Ok(Box::new(Counted(file, Arc::clone(&self.read))))
    }
    fn proves(&self, entry: &Entry, file: &dyn ReadSeek) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) as usize;
        match &self.proofs {
            Some(proofs) => proofs.get(asked).copied().unwrap_or(false),
            None => self.inner.proves(entry, file),
        }
    }
    fn outline(&self, hash: &Hash) -> Option<Arc<Vec<Hash>>> {
        self.inner.outline(hash)
    }
    fn changed_underway(&mut self, path: &RelPath) {
        self.changed.lock().unwrap().push(path.clone());
        self.handle.stop();
    }
    fn acknowledged(&mut self, peer: &str, position: Position, root: Hash) {
        self.inner.acknowledged(peer, position, root);
        self.handle.stop();
    }
    fn refused(&mut self, peer: &str, refusal: &Refusal) {
        self.inner.refused(peer, refusal);
        self.handle.stop();
    }
}

fn watched(host: &Host) -> Watched {
    Watched {
        inner: host.set().source(),
        handle: Handle::new(),
        read: Arc::default(),
        changed: Arc::default(),
        proofs: None,
        asked: AtomicU64::new(0),
        other: None,
    }
}

fn me(host: &str) -> Me {
    Me { cluster: "c".into(), host: host.into(), key: LinkKey::derive(&[7; 32], "c") }
}

/// One session, until `source` has learnt what became of its tree.
fn session(source: &mut Watched, b: &Host) -> Result<Ended, NetError> {
    let events: vipd_replicator::net::Events = Arc::new(|_| ());
    let receiver = Receiver::new(me("b"), Arc::new(One(b.set().clone())), Arc::clone(&events));
    let pusher = Pusher {
        me: me("a"),
        set: SetId { name: "test".into(), digest: [0; 32] },
        peer: "b".into(),
        bandwidth: None,
        events,
        handle: source.handle.clone(),
    };
    let (here, there) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| receiver.serve(Arc::new(there), "a", Options::default(), || ()));
        pusher.session(Arc::new(here), source, &mut Memory::default())
    })
}

/// Octets that do not repeat.
fn octets(seed: u8, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
    out
}

const SIZE: usize = 16 << 20;

fn two() -> (Host, Host) {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.write("large", octets(1, SIZE));
    settle();
    a.claim(1, 1);
    b.set().follow(epoch(1, 1)).unwrap();
    (a, b)
}

#[test]
fn of_a_large_file_that_was_scanned_only_what_is_sent_is_read_again() {
    let (a, b) = two();
    session(&mut watched(&a), &b).unwrap();
    assert_same(&a, &b);
    settle();
    let mut file = File::options().write(true).open(a.path("large")).unwrap();
    file.seek(SeekFrom::Start(5_000_000)).unwrap();
    file.write_all(&octets(2, 100_000)).unwrap();
    a.seal();
    let mut source = watched(&a);
    source.proofs = Some(Vec::new());
    session(&mut source, &b).unwrap();
    assert_same(&a, &b);
    b.assert_clean();
    let read = source.read.load(Ordering::Relaxed);
    assert!((100_000..120_000).contains(&read), "{read} octets");
    drop(source);
    // After a restart nothing is remembered: it is outlined from the disk.
    settle();
    let (mut a, b) = (a, b);
    file.write_all(&octets(3, 100_000)).unwrap();
    a.seal();
    a.reopen();
    a.set().claim(epoch(1, 1)).unwrap();
    let mut source = watched(&a);
    source.proofs = Some(Vec::new());
    session(&mut source, &b).unwrap();
    assert_same(&a, &b);
    assert!(source.read.load(Ordering::Relaxed) > SIZE as u64);
}

#[test]
fn a_file_that_nobody_touched_is_sent_without_another_hash() {
    let (a, b) = two();
    let mut source = watched(&a);
    session(&mut source, &b).unwrap();
    assert_eq!(source.asked.load(Ordering::Relaxed), 1, "before it is read");
    assert_same(&a, &b);
    // One that was is hashed while it is sent: its stamps alone are no reason to take it back.
    let (a, b) = two();
    let mut source = watched(&a);
    source.proofs = Some(vec![false]);
    session(&mut source, &b).unwrap();
    assert!(source.changed.lock().unwrap().is_empty());
    assert_same(&a, &b);
}

#[test]
fn a_file_that_was_changed_under_the_eyes_of_the_kernel_is_found_by_the_receiver_and_then_by_the_sender()
 {
    let (a, b) = two();
    let mut source = watched(&a);
    source.proofs = Some(vec![true; 100]);
    source.other = Some(octets(9, SIZE));
    session(&mut source, &b).unwrap();
    assert_eq!(*source.changed.lock().unwrap(), [rel("large")]);
    let read = source.read.load(Ordering::Relaxed);
    assert_eq!(read, 2 * SIZE as u64, "once believed, and once hashed");
    assert!(!b.path("large").exists());
    // Nothing of it is taken for the content.
    session(&mut watched(&a), &b).unwrap();
    assert_same(&a, &b);
    b.assert_clean();
}

#[test]
fn the_kernel_tells_of_the_very_file_that_was_hashed_and_of_no_other() {
    let (a, _) = two();
    let source = a.set().source();
    let offer = source_offer(&a);
    let entry = offer.manifest.get(&rel("large")).unwrap();
    let open = || source.open(&rel("large")).unwrap();
    let before = open();
    assert!(source.proves(entry, &*before));
    settle();
    let mut other = entry.clone();
    std::sync::Arc::make_mut(&mut other).mode ^= 0o100;
    assert!(!source.proves(&other, &*before), "an entry of another tree");
    assert!(!source.proves(entry, &io::Cursor::new(octets(1, SIZE))), "no file");
    fs::copy(a.path("large"), a.path("copy")).unwrap();
    let time = fs::metadata(a.path("large")).unwrap().modified().unwrap();
    File::open(a.path("copy")).unwrap().set_modified(time).unwrap();
    fs::rename(a.path("copy"), a.path("large")).unwrap();
    assert!(!source.proves(entry, &*open()), "another file in its place");
    File::options().append(true).open(a.path("large")).unwrap().write_all(b"x").unwrap();
    assert!(!source.proves(entry, &*open()), "written to");
}

fn source_offer(host: &Host) -> Offer {
    host.set().source().offer().unwrap()
}
