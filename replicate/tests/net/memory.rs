//! How much memory a large file takes: both sides in one process of its own, over TCP, with files that are made up as they
//! are read and forgotten as they are written.

use crate::link::One;
use crate::pipe::{me, pusher};
use crate::trees::{at, entry};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use vipd_replicator::manifest::{Entry, Hash, Kind, Manifest};
use vipd_replicator::net::link::Options;
use vipd_replicator::net::listen::{Limits, Listener};
use vipd_replicator::net::receive::Receiver;
use vipd_replicator::net::send::{Handle, Memory};
use vipd_replicator::path::RelPath;
use vipd_replicator::ports::*;
use vipd_replicator::segment::{Segments, Tag};

/// Set in the process that is measured: `whole` or `delta`.
const CHILD: &str = "VIPD_TEST_MEMORY";
/// A gibibyte; ten in the long run (`VIPD_LONG=1`).
static SIZE: LazyLock<u64> =
    LazyLock::new(|| if std::env::var_os("VIPD_LONG").is_some() { 10 << 30 } else { 1 << 30 });
const INSERTED: u64 = 1 << 20;
/// What the issue allows for each of both sides; here both are in one process.
const LIMIT_KIB: u64 = 64 * 1024;

/// Noise with every fourth mebibyte zero, and a part of other noise in the middle if it is the newer version.
#[derive(Clone)]
struct MadeUp {
    newer: bool,
    at: u64,
}

impl MadeUp {
    fn size(newer: bool) -> u64 {
        *SIZE + if newer { INSERTED } else { 0 }
    }

    fn new(newer: bool) -> Self {
        Self { newer, at: 0 }
    }

    fn hash(newer: bool) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(Self::new(newer)).unwrap();
        *hasher.finalize().as_bytes()
    }
}

impl Read for MadeUp {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = Self::size(self.newer) - self.at;
        // Up to the next limit of a mebibyte: all parts begin at one.
        let part = (1 << 20) - self.at % (1 << 20);
        let len = left.min(part).min(into.len() as u64) as usize;
        let middle = *SIZE / 2;
        let (seed, from) = match self.at {
            at if self.newer && (middle..middle + INSERTED).contains(&at) => (2, at),
            at if self.newer && at >= middle + INSERTED => (1, at - INSERTED),
            at => (1, at),
        };
        if (from >> 20) % 4 == 3 {
            into[..len].fill(0);
        } else {
            // One output for each mebibyte, so that every place costs the same.
            let mut hasher = blake3::Hasher::new();
            hasher.update(&[seed]).update(&(from >> 20).to_be_bytes());
            let mut out = hasher.finalize_xof();
            out.set_position(from % (1 << 20));
            out.fill(&mut into[..len]);
        }
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for MadeUp {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.at = at;
        Ok(at)
    }
}

fn manifest(newer: bool) -> Arc<Manifest> {
    static HASHES: LazyLock<[Hash; 2]> = LazyLock::new(|| [false, true].map(MadeUp::hash));
    let (size, hash) = (MadeUp::size(newer), HASHES[usize::from(newer)]);
    Arc::new(Manifest::new(vec![entry("large", Kind::File { size, hash })]))
}

struct Owner(Handle);

impl Source for Owner {
    fn offer(&mut self) -> Option<Offer> {
        let manifest = manifest(true);
        let root = manifest.root();
        Some(Offer { position: at(1, 2), lineage: Vec::new(), manifest, root })
    }
    fn open(&self, _: &RelPath) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(MadeUp::new(true)))
    }
    fn changed_underway(&mut self, path: &RelPath) {
        panic!("{path}");
    }
    fn acknowledged(&mut self, _: &str, _: Position, _: Hash) {
        self.0.stop();
    }
    fn refused(&mut self, _: &str, refusal: &Refusal) {
        panic!("{refusal}");
    }
}

#[derive(Clone)]
struct Standby {
    has: bool,
    commits: Arc<Mutex<u64>>,
}

impl Target for Standby {
    fn standing(&self) -> (Position, Arc<Manifest>) {
        if self.has { (at(1, 1), manifest(false)) } else { (Position::default(), Arc::default()) }
    }
    fn take(&mut self, _: &str, _: &Offer) -> Result<Box<dyn Stage>, Refusal> {
        Ok(Box::new(Self { ..self.clone() }))
    }
    fn current(&mut self, _: &str, _: Position, _: Behind) {}
}

impl Stage for Standby {
    fn needs(&self) -> Vec<Need> {
        vec![Need { entry: 0, size: MadeUp::size(true) }]
    }
    fn base(&self, _: &Entry) -> Option<Box<dyn ReadSeek>> {
        self.has.then(|| Box::new(MadeUp::new(false)) as Box<dyn ReadSeek>)
    }
    fn create(&mut self, _: &Entry) -> io::Result<Box<dyn StageFile>> {
        Ok(Box::new(Forgotten(Segments::new(MadeUp::size(true)))))
    }
    fn withhold(&mut self, _: u32) -> Result<(), Refusal> {
        panic!("nothing is rotten");
    }
    fn commit(self: Box<Self>) -> Result<(), Refusal> {
        *self.commits.lock().unwrap() += 1;
        Ok(())
    }
}

struct Forgotten(Segments);

impl StageFile for Forgotten {
    fn put(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.0.put(offset, octets);
        Ok(())
    }
    fn keep(&mut self, at: usize, octets: &[u8], tag: Tag) -> io::Result<bool> {
        Ok(self.0.keep(at, octets, tag).is_some())
    }
    fn finish(self: Box<Self>) -> io::Result<()> {
        assert!(self.0.whole() == Some(MadeUp::hash(true)), "other content");
        Ok(())
    }
}

/// In the process that is measured: one transfer, then its peak and what went over the link.
fn transfer(has: bool) {
    let commits = Arc::new(Mutex::new(0));
    let sets = Arc::new(One(Standby { has, commits: Arc::clone(&commits) }));
    let told = Arc::new(|event: vipd_replicator::net::Event| println!("{event}"));
    let receiver = Arc::new(Receiver::new(me("b"), sets, told));
    let any = ["127.0.0.1:0".parse().unwrap()];
    let (limits, options) = (Limits::default(), Options::default());
    let listener = Listener::start(&any, receiver, limits, options, Arc::new(|_| {})).unwrap();
    // Hashing it takes longer than a caller may take to say hello.
    manifest(true);
    let stream = TcpStream::connect(listener.addresses()[0]).unwrap();
    let pusher = pusher();
    let mut source = Owner(pusher.handle.clone());
    let end = pusher.session(Arc::new(stream), &mut source, &mut Memory::default());
    assert_eq!(*commits.lock().unwrap(), 1, "{end:?}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let on_link = pusher.handle.progress().on_link;
    println!("\nmeasured {} {on_link}", peak.split_whitespace().nth(1).unwrap());
}

/// Peak in KiB and octets on the link of such a transfer in a process of its own.
fn measure(kind: &str) -> (u64, u64) {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::one_process_is_both_hosts", "--nocapture"])
        .env(CHILD, kind)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("measured "));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&out.stderr)));
    println!("{kind}: {line}");
    let (peak, octets) = line.split_once(' ').unwrap();
    (peak.parse().unwrap(), octets.parse().unwrap())
}

#[test]
fn one_process_is_both_hosts() {
    match std::env::var(CHILD).as_deref() {
        Ok("whole") => transfer(false),
        Ok("delta") => transfer(true),
        // Called by the tests below.
        _ => {}
    }
}

#[test]
fn a_large_file_is_sent_in_little_memory() {
    let (peak, octets) = measure("whole");
    assert!(peak < LIMIT_KIB, "{peak} KiB");
    // A quarter of it is zeros.
    let content = *SIZE / 4 * 3;
    assert!((content..content + content / 64).contains(&octets), "{octets}");
}

#[test]
fn a_mebibyte_put_into_a_large_file_is_sent_in_little_memory() {
    let (peak, octets) = measure("delta");
    assert!(peak < LIMIT_KIB, "{peak} KiB");
    // The insertion, a few chunks around it, and 8 octets for each segment of 64 KiB, 12 for each chunk of the second half.
    assert!(octets < (2 << 20) + *SIZE / 3500, "{octets}");
}
