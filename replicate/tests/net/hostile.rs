//! A sender, or a receiver, that holds the key and means harm: nothing is taken, nothing grows, nobody panics.

use crate::pipe::{Side, pair, pusher};
use crate::trees::*;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use vipd_replicator::manifest::{Entry, Kind, Manifest};
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::link::Channel;
use vipd_replicator::net::receive::{self, Notes};
use vipd_replicator::net::send::{self, Ended, Memory};
use vipd_replicator::net::wire::{Chunks, Message, Needs, Offered, Outline, Piece, Welcome};
use vipd_replicator::ports::Position;

/// What the standby says to a sender that says `messages`, whatever it hears.
fn standby_hears(target: &MemTarget, messages: &[Message]) -> NetError {
    let (mut sender, mut receiver) = pair(None);
    for message in messages {
        sender.send(message).unwrap();
    }
    let mut target = target.clone();
    thread::spawn(move || {
        // Never reads; leaves in the end.
        let _ = sender.receive(Duration::from_secs(60)).map(|_| drop(sender));
    });
    receiver.enter_second();
    receive::drive(&mut receiver, "a", &mut target, &Notes::default()).unwrap_err()
}

fn offered(entries: &[Entry]) -> Offered {
    let manifest = Manifest::new(entries.to_vec());
    let count = entries.len() as u32;
    Offered {
        position: at(1, 1),
        lineage: Vec::new(),
        root: manifest.root(),
        base: None,
        entries: count,
        put: count,
        gone: 0,
    }
}

fn told(entries: &[Entry]) -> Message {
    Message::Entries(entries.iter().cloned().map(Arc::new).collect())
}

/// An offer of `entries`, and `then`.
fn offer(entries: &[Entry], then: Vec<Message>) -> Vec<Message> {
    let mut all = vec![Message::Offer(offered(entries))];
    if !entries.is_empty() {
        all.push(told(entries));
    }
    all.extend(then);
    all
}

fn piece(entry: u32, first: bool, last: bool, octets: &[u8]) -> Message {
    let mut body = Vec::new();
    Piece { entry, first, last, octets }.write(&mut body);
    Message::Files(body)
}

fn refused(messages: &[Message], why: &str) {
    let target = MemTarget::default();
    let error = standby_hears(&target, messages).to_string();
    assert!(error.contains(why), "{error}, not {why}");
    assert_eq!(target.lock().tree, Tree::default());
    assert_eq!(target.lock().commits, 0);
}

#[test]
fn a_manifest_that_is_not_the_offered_one_is_refused() {
    let two = [file("a", b"1"), file("b", b"2")];
    refused(
        &[Message::Offer(Offered { root: [0; 32], ..offered(&[]) })],
        "does not hash to the root",
    );
    let other = [file("a", b"1"), file("b", b"3")];
    let wrong = vec![Message::Offer(offered(&two)), told(&other)];
    refused(&wrong, "does not hash to the root");
    let backwards = [file("b", b"2"), file("a", b"1")];
    refused(&[Message::Offer(offered(&two)), told(&backwards)], "out of order");
    let twice = [file("a", b"1"), file("a", b"1")];
    refused(&[Message::Offer(offered(&two)), told(&twice)], "out of order");
}

#[test]
fn counts_that_lie_are_refused() {
    let two = [file("a", b"1"), file("b", b"2")];
    let more = Offered { entries: 1, put: 1, ..offered(&two) };
    refused(&[Message::Offer(more), told(&two)], "more than was announced");
    // Four million announced: nothing is set aside for them.
    let less = Offered { entries: 4_000_000, put: 4_000_000, ..offered(&two) };
    refused(&[Message::Offer(less), told(&two), Message::Sent], "must come here");
    refused(&[Message::Offer(offered(&two)), Message::Entries(Vec::new())], "must come here");
    let empty = MemTarget::default().lock().tree.manifest().root();
    let gone = Offered { base: Some(empty), put: 0, entries: 5, gone: 1, ..offered(&[]) };
    let messages = [Message::Offer(gone), Message::Gone(vec![path("x")])];
    refused(&messages, "another number of entries");
}

#[test]
fn a_name_below_what_is_no_folder_is_refused() {
    let link = entry("a", Kind::Link { target: b"/etc".to_vec() });
    refused(&offer(&[link.clone(), file("a/passwd", b"x")], vec![]), "below what is no folder");
    refused(&offer(&[link, file("a/b/passwd", b"x")], vec![]), "below what is no folder");
    refused(&offer(&[file("a", b""), file("a/b", b"x")], vec![]), "below what is no folder");
}

#[test]
fn contents_that_lie_about_their_size_are_refused() {
    let one = [file("a", b"12345")];
    let case = |then: Vec<Message>, why| refused(&offer(&one, then), why);
    case(vec![piece(0, true, true, b"123456")], "longer than its manifest");
    case(vec![piece(0, true, true, b"1234"), Message::Sent], "shorter than its manifest");
    case(vec![piece(0, true, false, b"1234"), Message::Sent], "not all that was asked for");
    case(vec![Message::Sent], "not all that was asked for");
    case(vec![piece(1, true, true, b"12345")], "not asked for");
    case(vec![piece(u32::MAX, true, true, b"12345")], "not asked for");
    case(vec![piece(0, false, true, b"12345")], "out of order");
    case(vec![piece(0, true, false, b"1"), piece(0, true, false, b"1")], "out of order");
    case(vec![piece(0, true, true, b"12345"), piece(0, true, true, b"12345")], "not asked for");
    case(vec![Message::Files(vec![0; 5])], "ends within a field");
    case(vec![Message::Data(vec![1])], "more than was lacking");
    case(vec![Message::Taken(at(1, 1), [0; 32])], "must come here");
}

#[test]
fn other_content_than_the_manifest_says_is_never_taken() {
    // Asked for again three times, then refused; and the session goes on.
    let one = [file("a", b"12345")];
    let again = [piece(0, true, true, b"54321"), Message::Sent];
    let target = MemTarget::default();
    let mut all = offer(&one, [again.clone(), again.clone(), again.clone(), again].concat());
    all.extend(offer(&one, vec![piece(0, true, true, b"12345"), Message::Sent]));
    let error = standby_hears(&target, &all);
    assert!(matches!(error, NetError::Closed), "{error}");
    assert_eq!(target.lock().commits, 1);
    assert_eq!(target.lock().tree, Tree::of(&[("a", b"12345".to_vec())]));
}

#[test]
fn files_of_eight_exbibytes_cost_what_came_of_them() {
    let size = i64::MAX as u64;
    let huge = |name| entry(name, Kind::File { size, hash: [1; 32] });
    let entries = [huge("a"), huge("b"), huge("c")];
    let begun = vec![piece(0, true, false, b"12345"), Message::Sent];
    refused(&offer(&entries, begun), "not all that was asked for");
    // The same where there is a version to compare with.
    let before = Tree::of(&[("a", octets(1, 3 << 20))]);
    let target = MemTarget::new(before.clone(), at(0, 1));
    let outline = Message::Outline(Outline { entry: 0, tags: vec![9; 512] });
    let messages = offer(&entries, vec![outline, Message::Sent]);
    let error = standby_hears(&target, &messages).to_string();
    assert!(error.contains("not all that was asked for"), "{error}");
    assert!(target.lock().tree == before);
}

/// A large file and a small one, both of which become other.
fn large_before() -> Tree {
    Tree::of(&[("large", octets(1, 3 << 20)), ("small", b"1".to_vec())])
}

/// Says `messages` after the offer: the standby ends it with `why`, and keeps what it has.
fn large_case(messages: Vec<Message>, why: &str) {
    let after = [file("large", &octets(2, 3 << 20)), file("small", b"2")];
    let target = MemTarget::new(large_before(), at(0, 1));
    let error = standby_hears(&target, &offer(&after, messages)).to_string();
    assert!(error.contains(why), "{error}, not {why}");
    assert_eq!(target.lock().tree, large_before());
}

#[test]
fn outlines_that_lie_are_refused() {
    let outline = |entry, count| Message::Outline(Outline { entry, tags: vec![9; count] });
    let data = |len| Message::Data(vec![0; len]);
    large_case(vec![outline(1, 1)], "nothing that was asked for");
    large_case(vec![outline(2, 1)], "not asked for");
    large_case(vec![outline(0, 0)], "nothing that was asked for");
    large_case(vec![outline(0, 385)], "more segments");
    large_case(vec![outline(0, 40), outline(0, 345)], "more segments");
    large_case(vec![outline(0, 384), outline(0, 1)], "more segments");
    large_case(vec![outline(0, 40), piece(1, true, true, b"2")], "out of order");
    large_case(vec![piece(1, true, false, b""), outline(0, 1)], "nothing that was asked for");
    large_case(vec![outline(0, 384), Message::Sent], "not all that was asked for");
    large_case(vec![outline(0, 40), data(1)], "more than was lacking");
    large_case(vec![outline(0, 384), data(1)], "more than was lacking");
    large_case(vec![outline(0, 384), Message::Withheld(vec![0])], "underway");
}

#[test]
fn too_many_files_at_once_are_refused() {
    let names: Vec<String> = (0..9).map(|n| format!("large{n}")).collect();
    let tree = |seed| {
        let files: Vec<_> = names.iter().map(|n| (n.as_str(), octets(seed, 3 << 20))).collect();
        Tree::of(&files)
    };
    let outline = |entry| Message::Outline(Outline { entry, tags: vec![9; 384] });
    let after: Vec<_> = tree(2).entries.into_values().collect();
    let target = MemTarget::new(tree(1), at(0, 1));
    let error = standby_hears(&target, &offer(&after, (0..9).map(outline).collect())).to_string();
    assert!(error.contains("too many"), "{error}");
    let half = Message::Outline(Outline { entry: 0, tags: vec![9; 40] });
    let error = standby_hears(&target, &offer(&after, vec![half, outline(1)])).to_string();
    assert!(error.contains("out of order"), "{error}");
    assert_eq!(target.lock().tree, tree(1));
}

#[test]
fn lists_of_chunks_that_lie_are_refused() {
    let outline = Message::Outline(Outline { entry: 0, tags: vec![9; 384] });
    let list = |count: usize, len: u32| vec![(9, len); count];
    let chunks = Chunks { entry: 0, average: 16, list: list(1, 1000) };
    let case = |lists: Vec<Chunks>, then: Vec<Message>, why: &str| {
        let lists = lists.into_iter().map(Message::Chunks);
        large_case(std::iter::once(outline.clone()).chain(lists).chain(then).collect(), why);
    };
    let with = |change: &dyn Fn(&mut Chunks)| {
        let mut chunks = chunks.clone();
        change(&mut chunks);
        vec![chunks]
    };
    case(with(&|c| c.average = 15), vec![], "out of range");
    case(with(&|c| c.average = 21), vec![], "out of range");
    case(with(&|c| c.average = 255), vec![], "out of range");
    case(with(&|c| c.list = list(1, 0)), vec![], "impossible length");
    case(with(&|c| c.list = list(1, (256 << 10) + 1)), vec![], "impossible length");
    case(with(&|c| c.list = list(13, 256 << 10)), vec![], "another length");
    case(with(&|c| c.list = Vec::new()), vec![], "another length");
    case(with(&|c| c.entry = 1), vec![], "nothing that was asked for");
    case(with(&|c| c.entry = 2), vec![], "not asked for");
    case(vec![chunks.clone(); 17], vec![], "too many that were not followed");
    case(vec![chunks.clone()], vec![Message::Data(vec![0; 1001])], "more than was lacking");
    case(vec![chunks.clone()], vec![Message::Sent], "not all that was asked for");
    case(vec![chunks.clone()], vec![piece(1, true, true, b"2")], "out of order");
    // Before its file is outlined.
    large_case(vec![Message::Chunks(chunks)], "nothing that was asked for");
}

#[test]
fn nothing_comes_before_its_time() {
    for message in [
        told(&[file("a", b"")]),
        piece(0, true, true, b""),
        Message::Needs(Needs::default()),
        Message::Lacks(vec![true]),
        Message::Baseless,
        Message::Data(vec![0]),
    ] {
        let error = standby_hears(&MemTarget::default(), std::slice::from_ref(&message));
        assert!(matches!(error, NetError::Protocol { .. }), "{}: {error}", message.name());
    }
}

/// What the owner says to a receiver that answers `messages`, one for each that it hears and that wants an answer.
fn owner_hears(tree: Tree, messages: Vec<Message>) -> Result<Ended, NetError> {
    let (mut sender, mut receiver): (Side, Side) = pair(None);
    let answers = thread::spawn(move || {
        receiver.enter_second();
        let mut answers = messages.into_iter();
        while let Ok(heard) = receiver.receive(Duration::from_secs(60)) {
            let wants = matches!(
                heard,
                Some(
                    Message::Hello(_)
                        | Message::Sent
                        | Message::Outline(_)
                        | Message::Chunks(_)
                        | Message::Offer(_)
                )
            );
            if !wants {
                continue;
            }
            let Some(answer) = answers.next() else { return };
            if receiver.send(&answer).is_err() {
                return;
            }
        }
    });
    let source = MemSource::new(tree, at(1, 1));
    let (pusher, mut memory) = (pusher(), Memory::default());
    let end = send::drive(&mut sender, &pusher, &mut source.clone(), &mut memory);
    assert!(source.lock().acknowledged.is_empty());
    drop(sender);
    answers.join().unwrap();
    end
}

#[test]
fn a_receiver_cannot_ask_for_what_is_not_there() {
    let welcome = |host: &str| {
        let (host, position) = (host.to_owned(), Position::default());
        Message::Welcome(Welcome { host, position, root: [0; 32] })
    };
    let mut tree = Tree::of(&[("b", octets(1, 2 << 20))]);
    tree.put_entry(entry("a", Kind::Folder));
    let case = |answers: Vec<Message>, why: &str| {
        let all = std::iter::once(welcome("b")).chain(answers).collect();
        let error = owner_hears(tree.clone(), all).unwrap_err().to_string();
        assert!(error.contains(why), "{error}, not {why}");
    };
    let needs = |files: &[(u32, bool)]| Message::Needs(Needs { files: files.to_vec(), last: true });
    case(vec![needs(&[(2, false)])], "the manifest does not have");
    case(vec![needs(&[(u32::MAX, false)])], "the manifest does not have");
    case(vec![needs(&[(0, false)])], "the manifest does not have");
    case(vec![needs(&[(1, false), (1, false)])], "out of order");
    case(vec![Message::Needs(Needs::default())], "an empty batch");
    case(vec![Message::Taken(at(1, 1), [0; 32])], "needs must come here");
    case(vec![needs(&[]), Message::Taken(at(1, 2), [0; 32])], "taken must come here");
    case(vec![needs(&[(1, true)]), Message::Lacks(vec![true])], "another count");
    case(vec![needs(&[(1, true)]), Message::Sent], "lacks must come here");
    case(vec![Message::Baseless], "needs must come here");
    let error = owner_hears(tree.clone(), vec![welcome("c")]).unwrap_err();
    assert!(matches!(error, NetError::Host { .. }), "{error}");
    assert!(owner_hears(tree, vec![Message::Sent]).is_err());
}
