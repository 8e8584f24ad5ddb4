#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::manifest::Kind;
use crate::path::BadPath;

fn at(number: u64) -> Position {
    Position { epoch: Epoch { number, host: 3 }, generation: number * 7 }
}

fn entries() -> Vec<Entry> {
    let entry = |name: &[u8], kind| Entry {
        path: RelPath::new(2, name).unwrap(),
        kind,
        mode: 0o4755,
        uid: 1,
        gid: u32::MAX,
        mtime_ns: -5,
        xattrs: vec![(b"a".to_vec(), Vec::new()), (b"b".to_vec(), vec![0; 300])],
    };
    vec![
        entry(b"f", Kind::File { size: 1 << 40, hash: [9; 32] }),
        entry(&[0xff, b'/', b'x'], Kind::Folder),
        entry(b"l", Kind::Link { target: vec![b'/'; MAX_TARGET] }),
    ]
}

/// One of each kind.
fn all() -> Vec<Message> {
    let mut files = Vec::new();
    Piece { entry: 1, first: true, last: true, octets: b"abc" }.write(&mut files);
    let lacks = |count| (0..count).map(|n| n % 3 == 0).collect();
    let offered = Offered {
        position: at(5),
        lineage: (0..MAX_LINEAGE as u64).map(at).collect(),
        root: [1; 32],
        base: Some([2; 32]),
        entries: MAX_ENTRIES,
        put: 3,
        gone: 4,
    };
    vec![
        Message::Hello(Hello {
            cluster: "c".into(),
            host: "\u{e4}".into(),
            to: String::new(),
            set: "s".repeat(MAX_NAME),
            digest: [4; 32],
            epoch: at(1).epoch,
        }),
        Message::Welcome(Welcome { host: "b".into(), position: at(2), root: [3; 32] }),
        Message::Ping,
        Message::Bye("why".into()),
        Message::Offer(Offered { base: None, entries: 3, put: 3, gone: 0, ..offered.clone() }),
        Message::Offer(offered),
        Message::Entries(entries().into_iter().map(Arc::new).collect()),
        Message::Gone(entries().into_iter().map(|entry| entry.path).collect()),
        Message::Baseless,
        Message::Needs(Needs { files: vec![(7, true), (u32::MAX, false)], last: true }),
        Message::Needs(Needs::default()),
        Message::Refused(Refusal::StaleEpoch(at(9).epoch)),
        Message::Refused(Refusal::Diverged(at(9))),
        Message::Refused(Refusal::Guard("g".into())),
        Message::Refused(Refusal::NotHere("n".into())),
        Message::Refused(Refusal::Disk("d".into())),
        Message::Files(files),
        Message::Chunks(Chunks { entry: 4, average: 16, list: vec![(7, 5); MAX_CHUNKS] }),
        Message::Outline(Outline { entry: 4, tags: vec![u64::MAX - 7; MAX_CHUNKS] }),
        Message::Outline(Outline { entry: 0, tags: Vec::new() }),
        Message::Lacks(lacks(0)),
        Message::Lacks(lacks(9)),
        Message::Lacks(lacks(MAX_CHUNKS)),
        Message::Data(vec![1, 2, 3]),
        Message::Sent,
        Message::Abort,
        Message::Taken(at(3), [5; 32]),
        Message::Current(Current { position: at(3), behind: Behind { files: 1, ms: u64::MAX } }),
        Message::AskAgain,
        Message::Withheld(vec![0, 7, u32::MAX]),
    ]
}

fn packed(messages: &[Message]) -> Vec<u8> {
    let mut packer = Packer::new().unwrap();
    let mut out = Vec::new();
    for message in messages {
        let body = message.body();
        let (header, octets) = packer.pack(message.kind(), &body);
        out.extend(header);
        out.extend_from_slice(octets);
    }
    out
}

/// Whoever adds a message, or changes what one holds, changes this test, and gives [`FORMAT`] a new number: a replicator
/// that does not know a kind ends the session at it.
#[test]
fn every_message_belongs_to_a_format() {
    let kinds: std::collections::BTreeSet<u8> = all().iter().map(Message::kind).collect();
    let known: Vec<u8> = (0..=u8::MAX)
        .filter(|kind| !matches!(Message::decode(*kind, Vec::new()), Err(NetError::Unknown(_))))
        .collect();
    assert_eq!(known, kinds.into_iter().collect::<Vec<_>>(), "one of each kind is tested");
    assert_eq!((FORMAT, OLDEST, known.len(), known.last()), (2, 2, 21, Some(&21)));
    // A sum over the octets of one of each.
    let octets: Vec<u8> = all().iter().flat_map(|message| message.body().into_owned()).collect();
    let sum = blake3::hash(&octets).to_hex();
    assert_eq!(&sum[..8], "37a5f2e8", "what a message holds has changed");
}

#[test]
fn what_was_written_is_read_however_it_is_cut() {
    let octets = packed(&all());
    for piece in [1, 7, 1000, usize::MAX] {
        let mut assembler = Assembler::new().unwrap();
        let mut heard = Vec::new();
        for mut part in octets.chunks(piece.min(octets.len())) {
            while let Some(message) = assembler.next(&mut part).unwrap() {
                heard.push(message);
            }
            assert!(part.is_empty());
        }
        assert!(assembler.between());
        assert_eq!(heard, all());
    }
}

#[test]
fn a_body_that_ends_early_or_late_is_refused() {
    for message in all() {
        let (kind, body) = (message.kind(), message.body().into_owned());
        if matches!(message, Message::Files(_) | Message::Data(_)) {
            continue;
        }
        for len in 0..body.len() {
            let Ok(short) = Message::decode(kind, body[..len].to_vec()) else { continue };
            // Lists end where their body ends.
            assert_ne!(short, message);
            assert_eq!(*short.body(), body[..len], "{}", message.name());
        }
        let long = Message::decode(kind, [body.as_slice(), &[0]].concat());
        assert!(long.is_err(), "{}", message.name());
    }
}

#[test]
fn an_unknown_kind_says_what_to_do() {
    let error = Message::decode(200, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "a message of the unknown kind 200: upgrade this host");
}

/// An entry whose name is `name`, as a hostile sender would write it.
fn entry_named(name: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend((name.len() as u16).to_be_bytes());
    body.extend(name);
    body.push(2);
    body.extend([0; 4 * 3 + 8 + 2]);
    body
}

#[test]
fn no_name_leads_out() {
    let kind = Message::Entries(Vec::new()).kind();
    assert!(Message::decode(kind, entry_named(b"a/b")).is_ok());
    for name in [&b".."[..], b"/etc/passwd", b"a/../../b", b"a//b", b"", b"a\0b", b"./a"] {
        let error = Message::decode(kind, entry_named(name)).unwrap_err();
        assert!(matches!(error, NetError::Path { entry: 0, .. }), "{error}");
    }
    let second = [entry_named(b"a"), entry_named(b".vipd/trash")].concat();
    let error = Message::decode(kind, second).unwrap_err();
    assert!(matches!(error, NetError::Path { entry: 1, bad: BadPath::Own }), "{error}");
}

#[test]
fn fields_over_their_limit_are_refused() {
    let entry = |change: &dyn Fn(&mut Entry)| {
        let mut entry = entries().remove(0);
        change(&mut entry);
        let message = Message::Entries(vec![Arc::new(entry)]);
        Message::decode(message.kind(), message.body().into_owned())
    };
    assert!(entry(&|_| {}).is_ok());
    assert!(entry(&|e| e.mode = 0o10000).is_err());
    assert!(entry(&|e| e.kind = Kind::File { size: 1 << 63, hash: [0; 32] }).is_err());
    assert!(entry(&|e| e.kind = Kind::Link { target: vec![b'x'; MAX_TARGET + 1] }).is_err());
    assert!(entry(&|e| e.kind = Kind::Link { target: Vec::new() }).is_err());
    assert!(entry(&|e| e.kind = Kind::Link { target: b"a\0".to_vec() }).is_err());
    assert!(entry(&|e| e.xattrs[1].1 = vec![0; MAX_XATTRS_LEN]).is_err());
    assert!(entry(&|e| e.xattrs.swap(0, 1)).is_err());
    assert!(entry(&|e| e.xattrs[1].0 = b"a".to_vec()).is_err());

    let offer = |change: &dyn Fn(&mut Offered)| {
        let Message::Offer(mut offered) = all().remove(5) else { unreachable!() };
        change(&mut offered);
        let message = Message::Offer(offered);
        Message::decode(message.kind(), message.body().into_owned())
    };
    assert!(offer(&|_| {}).is_ok());
    assert!(offer(&|o| o.entries = MAX_ENTRIES + 1).is_err());
    assert!(offer(&|o| o.put = o.entries + 1).is_err());
    assert!(offer(&|o| o.gone = MAX_ENTRIES + 1).is_err());
    assert!(offer(&|o| o.base = None).is_err());

    let chunks = Chunks { entry: 0, average: 16, list: vec![(0, 1); MAX_CHUNKS + 1] };
    let chunks = Message::Chunks(chunks);
    assert!(Message::decode(chunks.kind(), chunks.body().into_owned()).is_err());
    let outline = Message::Outline(Outline { entry: 0, tags: vec![0; MAX_CHUNKS + 1] });
    assert!(Message::decode(outline.kind(), outline.body().into_owned()).is_err());
    let needs = Message::Needs(Needs { files: vec![(0, false); MAX_NEEDS + 1], last: true });
    assert!(Message::decode(needs.kind(), needs.body().into_owned()).is_err());
}

/// A header in front of `body`.
fn framed(kind: u8, method: u8, on_link: usize, full: usize, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, method];
    out.extend((on_link as u32).to_be_bytes());
    out.extend((full as u32).to_be_bytes());
    out.extend(body);
    out
}

#[test]
fn what_a_body_claims_is_checked_before_anything_is_allocated() {
    let next = |octets: &[u8]| Assembler::new().unwrap().next(&mut &*octets);
    let data = Message::Data(Vec::new()).kind();
    assert!(next(&framed(data, 0, MAX_BODY + 1, MAX_BODY + 1, &[])).is_err());
    assert!(next(&framed(data, 1, 10, u32::MAX as usize, &[])).is_err());
    assert!(next(&framed(data, 0, 1, 2, &[0])).is_err());
    assert!(next(&framed(data, 1, 2, 2, &[0; 2])).is_err());
    assert!(next(&framed(data, 2, 1, 1, &[0])).is_err());
    assert!(next(&framed(data, 0, 3, 3, &[0; 2])).unwrap().is_none());
}

#[test]
fn a_bomb_does_not_go_off() {
    // A gigabyte of zeros in a few kilobytes, that claims to be small.
    let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap();
    assert!(bomb.len() < MAX_BODY);
    let data = Message::Data(Vec::new()).kind();
    let octets = framed(data, 1, bomb.len(), bomb.len() + 1, &bomb);
    let error = Assembler::new().unwrap().next(&mut octets.as_slice()).unwrap_err();
    assert!(error.to_string().contains("does not decompress to its length"), "{error}");
    // One that claims more than it has.
    let small = zstd::bulk::compress(&[0; 1000], 1).unwrap();
    let octets = framed(data, 1, small.len(), 1001, &small);
    assert!(Assembler::new().unwrap().next(&mut octets.as_slice()).is_err());
    let octets = framed(data, 1, small.len(), 1000, &small);
    let heard = Assembler::new().unwrap().next(&mut octets.as_slice()).unwrap();
    assert_eq!(heard, Some(Message::Data(vec![0; 1000])));
}

#[test]
fn what_does_not_shrink_goes_as_it_is() {
    let mut packer = Packer::new().unwrap();
    let mut noise = vec![0; 200_000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let (header, octets) = packer.pack(14, &noise);
    assert_eq!((header[1], octets.len()), (0, noise.len()));
    let (header, octets) = packer.pack(14, &[0; 256 * 1024]);
    assert_eq!(header[1], 1);
    assert!(octets.len() < 100, "zeros cost {}", octets.len());
}

#[test]
fn pieces_are_read_one_after_the_other() {
    let mut body = Vec::new();
    let pieces = [
        Piece { entry: 1, first: true, last: false, octets: b"ab" },
        Piece { entry: 1, first: false, last: true, octets: b"" },
        Piece { entry: 2, first: true, last: true, octets: b"c" },
    ];
    for piece in &pieces {
        piece.write(&mut body);
    }
    let mut heard = Pieces(&body);
    for piece in &pieces {
        assert_eq!(heard.next_piece().unwrap(), Some(*piece));
    }
    assert_eq!(heard.next_piece().unwrap(), None);
    assert!(Pieces(&body[..body.len() - 1]).clone().next_piece().is_ok());
    let mut cut = Pieces(&body[..10]);
    assert!(cut.next_piece().is_err());
    body[4] = 4;
    assert!(Pieces(&body).next_piece().is_err());
}
