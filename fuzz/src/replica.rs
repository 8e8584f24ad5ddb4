//! Replication: messages as octets, and both sides of a session against one that says anything whatever.
//!
//! Called by the fuzz targets, and with the committed corpus by the tests of `vipd-replicate`.

use std::collections::VecDeque;
use std::io::{self, Cursor, ErrorKind};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use vipd_core::types::Epoch;
use vipd_replicator::manifest::{Entry, Hash, Kind, Manifest};
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::link::Channel;
use vipd_replicator::net::noise::LinkKey;
use vipd_replicator::net::receive::{self, Notes};
use vipd_replicator::net::send::{self, Handle, Memory, Pusher};
use vipd_replicator::net::wire::{Assembler, Message, Packer};
use vipd_replicator::net::{Me, SetId};
use vipd_replicator::path::RelPath;
use vipd_replicator::ports::*;
use vipd_replicator::segment::{Segments, Tag};

/// A stream of messages (0 in front), or the kind of one (else) and its body.
pub fn replica_wire(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    if kind == 0 {
        for message in messages(rest) {
            check(&message);
        }
    } else if let Ok(message) = Message::decode(kind, rest.to_vec()) {
        check(&message);
    }
}

/// What was read is written and read again as the same.
fn check(message: &Message) {
    let body = message.body();
    let mut packer = Packer::new().expect("memory");
    let (header, octets) = packer.pack(message.kind(), &body);
    let octets = [header.as_slice(), octets].concat();
    let mut again = Assembler::new().expect("memory");
    let heard = again.next(&mut octets.as_slice()).expect("what was written can be read");
    assert_eq!(heard.as_ref(), Some(message));
}

/// The messages of a stream up to the first that is none.
pub(crate) fn messages(mut octets: &[u8]) -> Vec<Message> {
    let mut assembler = Assembler::new().expect("memory");
    let mut all = Vec::new();
    while let Ok(Some(message)) = assembler.next(&mut octets) {
        all.push(message);
    }
    all
}

/// A standby that hears this stream: nothing is taken but what hashes to what was offered.
pub fn replica_receive(data: &[u8]) {
    let mut heard = messages(data);
    right_roots(&mut heard);
    let mut channel = Script { heard: heard.into(), now: Duration::ZERO };
    let mut target = Mirror::default();
    let state = Arc::clone(&target.0);
    let end = receive::drive(&mut channel, "a", &mut target, &Notes::default());
    assert!(end.is_err());
    let state = state.lock().expect("no panic");
    for (offer, complete) in &state.commits {
        assert_eq!(offer.manifest.root(), offer.root);
        let mut wanted = lacking(&offer.manifest);
        wanted.retain(|hash| !complete.contains(hash));
        assert!(wanted.is_empty(), "committed without the content of a file");
    }
}

/// Roots and counts of manifests that are told whole: no fuzzer finds them.
pub(crate) fn right_roots(heard: &mut [Message]) {
    for at in 0..heard.len() {
        let mut entries = Vec::new();
        for message in &heard[at + 1..] {
            let Message::Entries(more) = message else { break };
            entries.extend(more.iter().cloned());
        }
        if let Message::Offer(offer) = &mut heard[at]
            && offer.base.is_none()
        {
            offer.entries = entries.len() as u32;
            offer.put = offer.entries;
            offer.root = Manifest::new(entries).root();
        }
    }
}

/// An owner that hears this stream.
pub fn replica_send(data: &[u8]) {
    let mut channel = Script { heard: messages(data).into(), now: Duration::ZERO };
    let pusher = Pusher {
        me: Me { cluster: "c".into(), host: "a".into(), key: LinkKey::derive(&[7; 32], "c") },
        set: SetId { name: "s".into(), digest: [1; 32] },
        peer: "b".into(),
        bandwidth: None,
        events: Arc::new(|_| {}),
        handle: Handle::new(),
    };
    let mut source = Origin { asked: 0 };
    let _ = send::drive(&mut channel, &pusher, &mut source, &mut Memory::default());
    let progress = pusher.handle.progress();
    assert!(progress.octets <= progress.octets_total && progress.files <= progress.files_total);
}

/// Hears what is written down, and nothing after it.
pub(crate) struct Script {
    pub(crate) heard: VecDeque<Message>,
    pub(crate) now: Duration,
}

impl Channel for Script {
    fn send(&mut self, message: &Message) -> Result<(), NetError> {
        check(message);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), NetError> {
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Message>, NetError> {
        self.now += wait;
        match self.heard.pop_front() {
            Some(Message::Ping) => Ok(None),
            Some(message) => Ok(Some(message)),
            None => Err(NetError::Closed),
        }
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn sent_octets(&self) -> u64 {
        0
    }
}

/// A file that is large enough to be outlined, and to be told in chunks where all of it is another.
pub(crate) fn large() -> &'static Arc<Vec<u8>> {
    static LARGE: LazyLock<Arc<Vec<u8>>> = LazyLock::new(|| {
        let mut content = vec![0; (2 << 20) + 100_000];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        Arc::new(content)
    });
    &LARGE
}

fn entry(name: &str, kind: Kind) -> Entry {
    let path = RelPath::new(0, name.as_bytes()).expect("a name");
    Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime_ns: 0, xattrs: Vec::new() }
}

fn file(name: &str, content: &[u8]) -> Entry {
    let (size, hash) = (content.len() as u64, *blake3::hash(content).as_bytes());
    entry(name, Kind::File { size, hash })
}

/// What either side has: a folder, a small file and a large one.
fn tree() -> Arc<Manifest> {
    static TREE: LazyLock<Arc<Manifest>> = LazyLock::new(|| {
        let entries = vec![entry("a", Kind::Folder), file("a/small", b"x"), file("large", large())];
        Arc::new(Manifest::new(entries))
    });
    Arc::clone(&TREE)
}

fn position(generation: u64) -> Position {
    Position { epoch: Epoch { number: 1, host: 1 }, generation }
}

/// Hashes of the files that a standby with [`tree`] does not have.
fn lacking(manifest: &Manifest) -> Vec<Hash> {
    let there = tree();
    let mut all = Vec::new();
    for entry in manifest.entries() {
        if let Kind::File { hash, .. } = entry.kind
            && there.get(&entry.path).is_none_or(|there| there.kind != entry.kind)
        {
            all.push(hash);
        }
    }
    all
}

/// An owner with [`tree`].
struct Origin {
    asked: u32,
}

impl Source for Origin {
    fn offer(&mut self) -> Option<Offer> {
        // A receiver that says yes to everything would be told for ever that it is current.
        self.asked += 1;
        let manifest = tree();
        let root = manifest.root();
        let offer = Offer { position: position(2), lineage: vec![position(1)], manifest, root };
        (self.asked < 100).then_some(offer)
    }

    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadSeek>> {
        match path.as_bytes() {
            b"a/small" => Ok(Box::new(Cursor::new(b"x"))),
            b"large" => Ok(Box::new(Cursor::new(large().as_slice()))),
            _ => panic!("{path} is no file"),
        }
    }

    fn changed_underway(&mut self, path: &RelPath) {
        panic!("{path} does not change");
    }

    fn acknowledged(&mut self, peer: &str, at: Position, root: Hash) {
        assert_eq!((peer, at, root), ("b", position(2), tree().root()));
    }

    fn refused(&mut self, _: &str, _: &Refusal) {}
}

#[derive(Default)]
struct State {
    /// Hashes of files that came whole, or were withheld.
    complete: Vec<Hash>,
    /// What was committed, and what was complete by then.
    commits: Vec<(Offer, Vec<Hash>)>,
}

/// A standby with [`tree`], which it keeps whatever it takes.
#[derive(Default)]
struct Mirror(Arc<Mutex<State>>);

impl Target for Mirror {
    fn standing(&self) -> (Position, Arc<Manifest>) {
        (position(1), tree())
    }

    fn take(&mut self, _: &str, offer: &Offer) -> Result<Box<dyn Stage>, Refusal> {
        if offer.position.epoch < position(1).epoch {
            return Err(Refusal::StaleEpoch(position(1).epoch));
        }
        Ok(Box::new(Putting { state: Arc::clone(&self.0), offer: offer.clone() }))
    }

    fn current(&mut self, _: &str, at: Position, _: Behind) {
        assert_eq!(at, position(1));
    }
}

struct Putting {
    state: Arc<Mutex<State>>,
    offer: Offer,
}

impl Stage for Putting {
    fn needs(&self) -> Vec<Need> {
        let wanted = lacking(&self.offer.manifest);
        let mut needs = Vec::new();
        for (number, entry) in self.offer.manifest.entries().iter().enumerate() {
            if let Kind::File { size, hash } = entry.kind
                && wanted.contains(&hash)
            {
                needs.push(Need { entry: number as u32, size });
            }
        }
        needs
    }

    fn base(&self, entry: &Entry) -> Option<Box<dyn ReadSeek>> {
        let there = entry.path.as_bytes() == b"large";
        there.then(|| Box::new(Cursor::new(large().as_slice())) as Box<dyn ReadSeek>)
    }

    fn create(&mut self, entry: &Entry) -> io::Result<Box<dyn StageFile>> {
        let Kind::File { size, hash } = entry.kind else { panic!("{entry:?} is no file") };
        let (state, segments) = (Arc::clone(&self.state), Segments::new(size));
        Ok(Box::new(Growing { state, segments, size, hash, written: 0 }))
    }

    fn withhold(&mut self, entry: u32) -> Result<(), Refusal> {
        let entry = self.offer.manifest.entries().get(entry as usize).expect("what was needed");
        let Kind::File { hash, .. } = entry.kind else { panic!("{entry:?} is no file") };
        self.state.lock().expect("no panic").complete.push(hash);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), Refusal> {
        let mut state = self.state.lock().expect("no panic");
        let complete = state.complete.clone();
        state.commits.push((self.offer, complete));
        Ok(())
    }
}

struct Growing {
    state: Arc<Mutex<State>>,
    segments: Segments,
    size: u64,
    hash: Hash,
    written: u64,
}

impl Growing {
    fn count(&mut self, offset: u64, octets: &[u8]) {
        self.written += octets.len() as u64;
        assert!(self.written <= self.size, "an octet was put twice");
        assert!(offset + octets.len() as u64 <= self.size, "more than the manifest says");
    }
}

impl StageFile for Growing {
    fn put(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.count(offset, octets);
        self.segments.put(offset, octets);
        Ok(())
    }

    fn keep(&mut self, at: usize, octets: &[u8], tag: Tag) -> io::Result<bool> {
        let offset = self.segments.keep(at, octets, tag);
        offset.inspect(|offset| self.count(*offset, octets));
        Ok(offset.is_some())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        if self.segments.whole() != Some(self.hash) {
            return Err(ErrorKind::InvalidData.into());
        }
        self.state.lock().expect("no panic").complete.push(self.hash);
        Ok(())
    }
}
