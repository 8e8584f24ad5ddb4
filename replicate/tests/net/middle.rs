//! What happens in the middle of large files: refusals, answers ahead of their turn, files that change, versions that mislead,
//! a full disk, a claim.

use crate::pipe::{Run, pusher, run};
use crate::prompt::Prompt;
use crate::trees::*;
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::receive::{self, Notes};
use vipd_replicator::net::send::{self, Ended, Memory};
use vipd_replicator::net::wire::{Chunks, Message, Needs, Offered, Outline, Welcome};
use vipd_replicator::ports::{Position, Refusal};
use vipd_replicator::segment::Layout;

const MIB: usize = 1 << 20;

/// What a receiver lacks of a large file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Lacks {
    /// It has no version of it.
    Whole,
    /// Every other segment.
    Short,
    /// Everything, which may have moved.
    Moved,
}

/// Answers of a receiver that lacks so much of the first `files` entries, up to the contents.
fn receiver(message: &Message, files: u32, lacks: Lacks) -> Vec<Message> {
    let one = match message {
        Message::Hello(_) => Message::Welcome(Welcome {
            host: "b".into(),
            position: Position::default(),
            root: [0; 32],
        }),
        Message::Offer(_) => {
            let files = (0..files).map(|n| (n, lacks != Lacks::Whole)).collect();
            Message::Needs(Needs { files, last: true })
        }
        Message::Outline(Outline { tags, .. }) => {
            Message::Lacks((0..tags.len()).map(|n| lacks == Lacks::Moved || n % 2 == 0).collect())
        }
        Message::Chunks(Chunks { list, .. }) => Message::Lacks(vec![true; list.len()]),
        _ => return Vec::new(),
    };
    vec![one]
}

/// Pushes a large file to a receiver that says `word` when the second message with contents has come; how many came in all, what
/// was said last, and how it ended.
fn interrupted(lacks: Lacks, word: &Message) -> (usize, MemSource, Result<Ended, NetError>) {
    let source = MemSource::new(Tree::of(&[("large", octets(1, 8 * MIB))]), at(1, 1));
    let pusher = pusher();
    let handle = pusher.handle.clone();
    let mut contents = 0;
    let mut channel = Prompt::new(|message: &Message| match message {
        Message::Data(_) | Message::Files(_) => {
            contents += 1;
            if contents == 2 { vec![word.clone()] } else { Vec::new() }
        }
        Message::Abort => {
            handle.stop();
            vec![Message::Abort]
        }
        other => receiver(other, 1, lacks),
    });
    let end = send::drive(&mut channel, &pusher, &mut source.clone(), &mut Memory::default());
    let aborted = channel.said.last() == Some(&"abort");
    assert_eq!(aborted, matches!(word, Message::Refused(_)), "{:?}", channel.said);
    (contents, source, end)
}

#[test]
fn a_refusal_or_a_farewell_is_heard_before_the_rest_of_a_large_file_goes() {
    for lacks in [Lacks::Whole, Lacks::Short, Lacks::Moved] {
        let full = Refusal::Disk("full".into());
        let (contents, source, end) = interrupted(lacks, &Message::Refused(full.clone()));
        assert_eq!(contents, 2, "{lacks:?}");
        assert!(matches!(end, Ok(Ended::Stopped)), "{lacks:?}: {end:?}");
        assert_eq!(source.lock().refused, [full], "{lacks:?}");
        let (contents, source, end) = interrupted(lacks, &Message::Bye("I go".into()));
        assert_eq!(contents, 2, "{lacks:?}");
        assert!(matches!(&end, Err(NetError::Bye(why)) if why == "I go"), "{lacks:?}: {end:?}");
        assert!(source.lock().acknowledged.is_empty());
    }
}

#[test]
fn what_is_heard_in_the_middle_of_a_large_file_is_kept_for_its_turn() {
    let files = [("a", octets(1, 8 * MIB)), ("b", octets(2, 8 * MIB)), ("c", octets(3, 8 * MIB))];
    for lacks in [Lacks::Short, Lacks::Moved] {
        let source = MemSource::new(Tree::of(&files), at(1, 1));
        let root = source.lock().tree.manifest().root();
        let pusher = pusher();
        source.stop_after(1, &pusher.handle);
        let (mut came, mut asked) = (0, 0);
        let mut channel = Prompt::new(|message: &Message| match message {
            Message::Data(octets) => {
                came += octets.len();
                asked += 1;
                // It crossed what was offered, or an operator is quick: what is underway goes on.
                if asked % 3 == 0 { vec![Message::AskAgain] } else { Vec::new() }
            }
            Message::Sent => vec![Message::Taken(at(1, 1), root)],
            other => receiver(other, 3, lacks),
        });
        let end = send::drive(&mut channel, &pusher, &mut source.clone(), &mut Memory::default());
        assert!(matches!(end, Ok(Ended::Stopped)), "{lacks:?}: {end:?} {:?}", channel.said);
        // Their answers lay there before their turn.
        let outlines = channel.said.iter().position(|name| *name == "data").unwrap();
        assert!(channel.said[..outlines].iter().filter(|name| **name == "outline").count() > 2);
        let all = if lacks == Lacks::Moved { 24 * MIB } else { 12 * MIB };
        assert_eq!(came, all, "{lacks:?}");
        assert_eq!(source.lock().acknowledged, [(at(1, 1), root)]);
    }
}

/// Pushes until one tree is acknowledged.
fn push(source: &MemSource, target: &MemTarget) -> Run {
    let pusher = pusher();
    source.stop_after(1, &pusher.handle);
    let run = run(&pusher, source, &mut Memory::default(), target, None);
    assert!(matches!(run.sender, Ok(Ended::Stopped)), "{:?}", run.sender);
    assert!(target.lock().tree == source.lock().tree, "{}", run.names());
    let standby = target.lock();
    assert_eq!((standby.commits, standby.open), (1, 0));
    drop(standby);
    run
}

/// A large file is at the owner as `offered`, and changes in the middle of the transfer as `drift` says; the tree after it has
/// `after`. The round in which it changed is taken back before all of it was sent.
fn changes_underway(
    before: &[u8],
    offered: &[u8],
    after: &[u8],
    drift: impl FnOnce(&mut Owner),
) -> Run {
    let target = MemTarget::new(Tree::of(&[("large", before.to_vec())]), at(1, 1));
    let source = MemSource::new(Tree::of(&[("large", offered.to_vec())]), at(1, 2));
    drift(&mut source.lock());
    let (after, standby) = (after.to_vec(), target.clone());
    let untouched = target.lock().tree.clone();
    source.lock().rescan = Some(Box::new(move |owner| {
        assert!(standby.lock().tree == untouched, "what is there stays as it is");
        (owner.drifting, owner.drifted, owner.fickle) = Default::default();
        owner.tree.put("large", after.clone());
        owner.position = at(1, 3);
    }));
    let run = push(&source, &target);
    let names = run.names();
    assert_eq!(source.lock().changed, [path("large")], "{names}");
    let (first, second) = names.split_once(" abort ").expect("it is taken back");
    assert!(!first.contains(" sent") && !first.contains("<taken"), "{first}");
    assert!(second.ends_with("sent <taken current"), "{second}");
    assert_eq!(names.matches("<needs").count(), 2, "{names}");
    assert_eq!(target.lock().position, at(1, 3));
    run
}

#[test]
fn a_file_that_changes_while_it_is_cut_is_taken_back_and_never_mixed() {
    // What it becomes lies at the other side, chunk for chunk: nothing would be read again after the cut.
    let before = octets(1, 48 * MIB);
    let after = [&octets(3, 100), before.as_slice()].concat();
    let run = changes_underway(&before, &octets(2, 48 * MIB), &after, |owner| {
        owner.drifting.insert(path("large"), before.clone());
    });
    // The receiver puts together what it was told before.
    assert!(run.names().contains(" chunks abort <lacks <abort "), "{}", run.names());
}

#[test]
fn a_file_that_changes_between_outline_and_contents_is_taken_back() {
    let before = octets(1, 4 * MIB);
    let mut offered = before.clone();
    for at in [MIB, 3 * MIB] {
        offered[at..][..100_000].copy_from_slice(&octets(2, 100_000));
    }
    changes_underway(&before, &offered, &octets(3, 3 * MIB), |owner| {
        owner.fickle.push(path("large"));
    });
}

/// Several large files, all of which become other, with an insertion at their start.
fn several() -> (Tree, Tree) {
    let (mut before, mut after) = (Tree::default(), Tree::default());
    for n in 0..6 {
        let (name, old) = (format!("large{n}"), octets(n, 2 * MIB + 300_000));
        before.put(&name, old.clone());
        after.put(&name, [octets(10 + n, 100), old].concat());
    }
    (before, after)
}

/// The files that were asked for, round by round.
fn rounds(run: &Run) -> Vec<Vec<u32>> {
    let needs = run.seen.iter().filter_map(|(_, message, _)| match message {
        Message::Needs(needs) => Some(needs.files.iter().map(|(entry, _)| *entry).collect()),
        _ => None,
    });
    needs.collect()
}

#[test]
fn of_several_large_files_the_one_that_is_misled_is_asked_for_alone() {
    let (before, after) = several();
    let target = MemTarget::new(before, at(1, 1));
    target.lock().false_bases = vec![path("large2")];
    let run = push(&MemSource::new(after, at(1, 2)), &target);
    assert_eq!(rounds(&run), [vec![0, 1, 2, 3, 4, 5], vec![2]]);
    // As many as the sender may have open, and no more.
    assert_eq!(target.lock().most_open, 4);
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_several_large_files_costs_none_that_is_complete() {
    let (before, after) = several();
    let target = MemTarget::new(before.clone(), at(1, 1));
    target.lock().room = Some(10 * MIB as u64);
    let source = MemSource::new(after, at(1, 2));
    let standby = target.clone();
    source.lock().after_refusal = Some(Box::new(move |_| {
        let mut standby = standby.lock();
        assert!(standby.tree == before && standby.most_open > 1);
        assert_eq!(standby.open, 0, "nothing stays open");
        standby.room = None;
    }));
    let run = push(&source, &target);
    assert!(matches!(source.lock().refused.as_slice(), [Refusal::Disk(_)]));
    let rounds = rounds(&run);
    assert_eq!(rounds.len(), 2);
    assert!(rounds[1].len() < 6, "{rounds:?}");
}

#[test]
fn a_receiver_that_refuses_has_nothing_open_while_it_waits_for_the_sender() {
    let (before, after) = several();
    let target = MemTarget::new(before, at(1, 1));
    target.lock().room = Some(150_000);
    let entries = after.manifest().entries().to_vec();
    let count = entries.len() as u32;
    let offered = Offered {
        position: at(1, 2),
        lineage: Vec::new(),
        root: after.manifest().root(),
        base: None,
        entries: count,
        put: count,
        gone: 0,
    };
    let standby = target.clone();
    let mut answers = 0;
    let mut channel = Prompt::new(|message: &Message| match message {
        Message::Needs(_) => {
            let tags = vec![9; Layout::of((2 * MIB + 300_100) as u64).count()];
            let outline = |entry| Message::Outline(Outline { entry, tags: tags.clone() });
            (0..4).map(outline).collect()
        }
        Message::Lacks(_) => {
            answers += 1;
            let list = vec![(9, 100_000); 4];
            match answers {
                4 => vec![Message::Chunks(Chunks { entry: 1, average: 16, list })],
                5 => vec![Message::Data(vec![1; 100_000]); 4],
                _ => Vec::new(),
            }
        }
        Message::Refused(refusal) => {
            assert!(refusal.to_string().contains("no storage space"), "{refusal}");
            let standby = standby.lock();
            assert_eq!((standby.most_open, standby.open), (4, 0));
            vec![Message::Outline(Outline { entry: 4, tags: vec![9] }), Message::Abort]
        }
        Message::Abort => vec![Message::Bye("it has seen enough".into())],
        other => panic!("{other:?}"),
    })
    .first([Message::Offer(offered), Message::Entries(entries)]);
    let mut receiver = target.clone();
    let end = receive::drive(&mut channel, "a", &mut receiver, &Notes::default());
    assert!(matches!(end, Err(NetError::Bye(_))), "{end:?}");
    assert_eq!((channel.count("refused"), channel.count("abort")), (1, 1));
    assert_eq!(target.lock().commits, 0);
}

#[test]
fn who_becomes_the_owner_looks_no_further_through_a_large_file() {
    let before = octets(1, 24 * MIB);
    let after = [&octets(2, 100), before.as_slice()].concat();
    let size = before.len() as u64;
    // Compared by segments, indexed by chunks, copied: whatever it is at. The longest step is a buffer of the index.
    for at_octet in [MIB as u64, size + MIB as u64, 2 * size + MIB as u64] {
        let target = MemTarget::new(Tree::of(&[("large", before.clone())]), at(1, 1));
        target.lock().claims_at = Some(at_octet);
        let source = MemSource::new(Tree::of(&[("large", after.clone())]), at(1, 2));
        let (standby, untouched) = (target.clone(), target.lock().tree.clone());
        source.lock().after_refusal = Some(Box::new(move |_| {
            let mut standby = standby.lock();
            let looked = standby.looked_through;
            assert!((at_octet..=at_octet + MIB as u64).contains(&looked), "{looked}");
            assert!(standby.tree == untouched && standby.open == 0);
            // And it is a standby again.
            standby.claims_at = None;
        }));
        push(&source, &target);
        assert_eq!(source.lock().refused, [Refusal::NotHere("it claims".into())], "{at_octet}");
    }
}
