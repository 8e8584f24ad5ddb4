//! Sessions over socket pairs, with whatever may happen to the octets between them.

use crate::pipe::{me, pusher};
use crate::trees::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};
use vipd_replicator::manifest::Manifest;
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::link::{Channel, Link, Options};
use vipd_replicator::net::noise::LinkKey;
use vipd_replicator::net::receive::{Opened, Receiver, Sets};
use vipd_replicator::net::send::{self, Ended, Memory, Pusher};
use vipd_replicator::net::wire::{Current, FORMAT, Message, OLDEST};
use vipd_replicator::net::{Event, Events, Me};
use vipd_replicator::ports::*;

/// One set, open to whoever asks for it.
pub(crate) struct One<T>(pub(crate) T);

impl<T: Target + Clone + Sync + 'static> Sets for One<T> {
    fn open(&self, set: &str, _: &str) -> Result<Opened, Refusal> {
        if set != "s" {
            return Err(Refusal::NotHere(format!("there is no set {set}")));
        }
        Ok(Opened { digest: [1; 32], target: Box::new(self.0.clone()) })
    }
}

/// Events, collected.
pub(crate) fn events() -> (Events, Arc<Mutex<Vec<Event>>>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&all);
    (Arc::new(move |event| into.lock().unwrap().push(event)), all)
}

pub(crate) fn hurried() -> Options {
    Options {
        handshake: Duration::from_secs(2),
        ping_after: Duration::from_millis(50),
        dead_after: Duration::from_millis(400),
        ..Options::default()
    }
}

/// Answers on `stream`; gives the events in the end.
fn standby<T: Target + Clone + Sync + 'static>(
    stream: UnixStream,
    target: &T,
    options: Options,
    who: Me,
) -> JoinHandle<Vec<Event>> {
    let sets = Arc::new(One(target.clone()));
    thread::spawn(move || {
        let (events, all) = events();
        Receiver::new(who, sets, events).serve(Arc::new(stream), "peer", options, || {});
        std::mem::take(&mut *all.lock().unwrap())
    })
}

/// Calls on `stream`.
fn owner(
    stream: UnixStream,
    pusher: &Pusher,
    source: &MemSource,
    options: Options,
) -> Result<Ended, NetError> {
    let mut link = Link::call(Arc::new(stream), &pusher.me.key, options)?;
    let end = send::drive(&mut link, pusher, &mut source.clone(), &mut Memory::default());
    link.end(&end);
    end
}

fn small() -> Tree {
    Tree::of(&[("a", b"some text".to_vec()), ("b", octets(1, 30_000))])
}

/// Copies octets from one stream to the other; `change` may do something to them, with the number of the first.
fn carry(
    from: &UnixStream,
    to: &UnixStream,
    mut change: impl FnMut(u64, &mut [u8]) + Send + 'static,
) -> JoinHandle<u64> {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        let mut count = 0;
        loop {
            match from.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(len) => {
                    change(count, &mut buffer[..len]);
                    count += len as u64;
                    if to.write_all(&buffer[..len]).is_err() {
                        break;
                    }
                }
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
        count
    })
}

/// A session through somebody who turns one bit: of octet `at`, on the way to the standby or back. Gives the octets
/// that went there and back.
fn tampered(at: Option<u64>, back: bool) -> ((u64, u64), Result<Ended, NetError>, MemTarget) {
    let (here, middle_here) = UnixStream::pair().unwrap();
    let (middle_there, there) = UnixStream::pair().unwrap();
    let flip = move |mine: bool| {
        move |count: u64, octets: &mut [u8]| {
            if let Some(at) = at.filter(|_| mine).and_then(|at| at.checked_sub(count))
                && let Some(octet) = octets.get_mut(at as usize)
            {
                *octet ^= 4;
            }
        }
    };
    let carried = (
        carry(&middle_here, &middle_there, flip(!back)),
        carry(&middle_there, &middle_here, flip(back)),
    );
    let target = MemTarget::default();
    // A length that grew waits for octets: quickly given up.
    let options = Options { ping_after: Duration::from_secs(3), ..hurried() };
    let other = standby(there, &target, options.clone(), me("b"));
    let pusher = pusher();
    let source = MemSource::new(small(), at_one());
    source.stop_after(1, &pusher.handle);
    let end = owner(here, &pusher, &source, options);
    other.join().unwrap();
    let counts = (carried.0.join().unwrap(), carried.1.join().unwrap());
    if at.is_some() {
        assert!(source.lock().acknowledged.is_empty() || end.is_ok());
    }
    (counts, end, target)
}

fn at_one() -> Position {
    at(1, 1)
}

#[test]
fn a_changed_octet_is_noticed_wherever_it_is() {
    let ((there, back), end, target) = tampered(None, false);
    assert!(matches!(end, Ok(Ended::Stopped)), "{end:?}");
    assert_eq!(target.lock().tree, small());
    // The handshake octet by octet, then some of each record. The farewell comes last: nobody needs it.
    let (there, back) = (there - 100, back - 40);
    let places = |len: u64| (0..64).step_by(3).chain((64..len).step_by(1009)).collect::<Vec<_>>();
    let all: Vec<_> = places(there)
        .into_iter()
        .map(|at| (at, false))
        .chain(places(back).into_iter().map(|at| (at, true)))
        .collect();
    // Some of them wait for a time-out: not one after the other.
    let all = Mutex::new(all.into_iter());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let next = all.lock().unwrap().next();
                    let Some((at, to_owner)) = next else { return };
                    let (_, end, target) = tampered(Some(at), to_owner);
                    assert!(end.is_err(), "octet {at}, back: {to_owner}");
                    let standby = target.lock();
                    // What came whole before that may stay; on the way back everything had come.
                    let nothing = standby.tree == Tree::default() && standby.commits == 0;
                    assert!(nothing || (to_owner && standby.tree == small()), "octet {at}");
                }
            });
        }
    });
}

#[test]
fn another_key_or_cluster_gets_nothing() {
    for key in [LinkKey::derive(&[8; 32], "c"), LinkKey::derive(&[7; 32], "d")] {
        let (here, there) = UnixStream::pair().unwrap();
        let target = MemTarget::default();
        let other = standby(there, &target, hurried(), Me { key, ..me("b") });
        let source = MemSource::new(small(), at_one());
        let end = owner(here, &pusher(), &source, hurried());
        let Err(error @ NetError::Key(_)) = end else { panic!("{end:?}") };
        let text = error.to_string();
        assert!(text.contains("compare key-file and the name of the cluster"), "{text}");
        let events = other.join().unwrap();
        assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), ["key"]);
        assert_eq!(target.lock().tree, Tree::default());
    }
}

/// What a side says first, and the length of a call behind it.
const PREAMBLE: [u8; 6] = [b'v', b'i', b'p', b'r', FORMAT, OLDEST];
const LENGTH: [u8; 2] = [0, 48];

/// What a raw caller gets for `octets`, and what the standby says of it.
fn raw(octets: &[u8]) -> (Vec<u8>, Vec<Event>) {
    let (mut here, there) = UnixStream::pair().unwrap();
    let target = MemTarget::default();
    let other = standby(there, &target, hurried(), me("b"));
    here.write_all(octets).unwrap();
    let _ = here.shutdown(Shutdown::Write);
    let mut got = Vec::new();
    match here.read_to_end(&mut got) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => {}
    }
    (got, other.join().unwrap())
}

#[test]
fn garbage_and_other_formats_get_nothing_but_a_reason() {
    let kinds = |events: &[Event]| events.iter().map(|event| event.kind).collect::<Vec<_>>();
    for octets in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &octets(3, 5000)] {
        let (got, events) = raw(octets);
        assert_eq!((got, kinds(&events)), (Vec::new(), vec!["not-ours"]));
    }
    // The right beginning, then garbage in place of a handshake.
    let (got, events) = raw(&[PREAMBLE.as_slice(), &LENGTH, &octets(4, 48)].concat());
    assert_eq!((got, kinds(&events)), (Vec::new(), vec!["key"]));
    // A newer release that does not speak our format any more, one from before the first, and what was built before files
    // could be withheld: it would end every session at that message, and get nothing of the rest either.
    for format in [*b"vipr\x09\x05", *b"vipr\x00\x00", *b"vipr\x01\x01"] {
        let (got, events) = raw(&format);
        assert_eq!((got, kinds(&events)), (PREAMBLE.to_vec(), vec!["format"]));
        assert!(events[0].text.contains("upgrade the older of them"), "{}", events[0]);
    }
    // Nothing at all, and half of a handshake.
    for octets in [Vec::new(), [PREAMBLE.as_slice(), &LENGTH, b"abc"].concat()] {
        let (got, events) = raw(&octets);
        assert_eq!((got, kinds(&events)), (Vec::new(), vec!["key"]));
    }
}

#[test]
fn a_caller_learns_that_it_is_too_old() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let answer = thread::spawn(move || {
        there.write_all(b"vipr\x09\x05").unwrap();
        let mut rest = Vec::new();
        let _ = there.read_to_end(&mut rest);
    });
    let end = owner(here, &pusher(), &MemSource::default(), hurried());
    assert!(matches!(end, Err(NetError::Format { theirs: 9, oldest: 5, ours: FORMAT })), "{end:?}");
    answer.join().unwrap();
}

#[test]
fn octets_that_trickle_in_do_not_hold_a_handshake_open() {
    let (mut here, there) = UnixStream::pair().unwrap();
    let options = Options { handshake: Duration::from_millis(300), ..hurried() };
    let other = standby(there, &MemTarget::default(), options, me("b"));
    let begun = SystemTime::now();
    while here.write_all(b"v").is_ok() && begun.elapsed().unwrap() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(100));
        if other.is_finished() {
            break;
        }
    }
    let events = other.join().unwrap();
    assert!(["slow", "not-ours"].contains(&events[0].kind), "{}", events[0]);
    assert!(begun.elapsed().unwrap() < Duration::from_secs(3));
}

/// Takes its time.
#[derive(Clone)]
struct Busy(MemTarget, Duration);

impl Target for Busy {
    fn standing(&self) -> (Position, Arc<Manifest>) {
        self.0.standing()
    }
    fn take(&mut self, from: &str, offer: &Offer) -> Result<Box<dyn Stage>, Refusal> {
        thread::sleep(self.1);
        self.0.take(from, offer)
    }
    fn current(&mut self, from: &str, position: Position, behind: Behind) {
        self.0.current(from, position, behind);
    }
}

#[test]
fn a_host_that_is_busy_with_its_disk_is_not_dead() {
    let (here, there) = UnixStream::pair().unwrap();
    let target = MemTarget::default();
    let options = Options { dead_after: Duration::from_secs(1), ..hurried() };
    let busy = Busy(target.clone(), Duration::from_secs(3));
    let other = standby(there, &busy, options.clone(), me("b"));
    let pusher = pusher();
    let source = MemSource::new(small(), at_one());
    source.stop_after(1, &pusher.handle);
    let end = owner(here, &pusher, &source, options);
    assert!(matches!(end, Ok(Ended::Stopped)), "{end:?}");
    assert_eq!(target.lock().tree, small());
    other.join().unwrap();
}

#[test]
fn a_link_that_is_cut_without_a_word_is_noticed() {
    let (here, middle_here) = UnixStream::pair().unwrap();
    let (middle_there, there) = UnixStream::pair().unwrap();
    let target = MemTarget::default();
    let other = standby(there, &target, hurried(), me("b"));
    let carried = [
        carry(&middle_here, &middle_there, |count, _| {
            // Nothing gets through any more, and nothing is closed.
            if count > 5_000 {
                thread::sleep(Duration::from_secs(2));
            }
        }),
        carry(&middle_there, &middle_here, |_, _| {}),
    ];
    let tree = Tree::of(&[("large", octets(1, 4 << 20))]);
    let end = owner(here, &pusher(), &MemSource::new(tree, at_one()), hurried());
    let events = other.join().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert!(kinds.contains(&"silent"), "{kinds:?} {end:?}");
    assert!(end.is_err());
    assert_eq!(target.lock().tree, Tree::default());
    drop(carried);
}

#[test]
fn who_vanishes_on_tcp_is_told_by_silence_and_who_is_slow_is_not_cut_off_by_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, _) = listener.accept().unwrap();
    let sockets = [&here, &there].map(|socket| socket.try_clone().unwrap());
    let key = me("b").key;
    let gone = thread::spawn({
        let key = key.clone();
        move || {
            // Says nothing, takes nothing off the link, and does not close it.
            let never = Duration::from_secs(3600);
            let options = Options { inbox: 1, ping_after: never, dead_after: never, ..hurried() };
            Link::answer(Arc::new(there), &key, options).unwrap()
        }
    });
    let mut link = Link::call(Arc::new(here), &key, hurried()).unwrap();
    let gone = gone.join().unwrap();
    // TCP counts octets that a full window keeps back as not acknowledged: looking through a file of 100 GB takes minutes.
    for socket in &sockets {
        let limit = socket2::SockRef::from(socket).tcp_user_timeout().unwrap();
        assert!(limit.is_some_and(|limit| limit >= Duration::from_secs(300)), "{limit:?}");
    }
    let begun = SystemTime::now();
    let noise = octets(1, 200_000);
    let error = loop {
        if let Err(error) = link.send(&Message::Data(noise.clone())) {
            break error;
        }
    };
    assert!(matches!(error, NetError::Silent(_)), "{error}");
    assert!(begun.elapsed().unwrap() < Duration::from_secs(4), "ten times what silence may last");
    drop((link, gone));
}

#[test]
fn a_stop_ends_a_transfer_that_the_other_side_does_not_read() {
    let (here, there) = UnixStream::pair().unwrap();
    let key = me("b").key;
    let deaf = thread::spawn(move || {
        // Says that it is alive, and takes nothing off the link.
        let options = Options { inbox: 1, ..Options::default() };
        let mut link = Link::answer(Arc::new(there), &key, options).unwrap();
        while !matches!(link.receive(Duration::from_secs(5)), Ok(Some(Message::Hello(_)))) {}
        let welcome = vipd_replicator::net::wire::Welcome {
            host: "b".into(),
            position: Position::default(),
            root: [0; 32],
        };
        link.send(&Message::Welcome(welcome)).unwrap();
        let needs = vipd_replicator::net::wire::Needs { files: vec![(0, false)], last: true };
        link.send(&Message::Needs(needs)).unwrap();
        link.flush().unwrap();
        link
    });
    let tree = Tree::of(&[("large", octets(1, 16 << 20))]);
    let pusher = pusher();
    let (handle, source) = (pusher.handle.clone(), MemSource::new(tree, at_one()));
    let pushing = thread::spawn(move || {
        let stream = Arc::new(here);
        pusher.session(stream, &mut source.clone(), &mut Memory::default())
    });
    let link = deaf.join().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(!pushing.is_finished());
    assert!(handle.progress().connected && handle.progress().octets_total == 16 << 20);
    let begun = SystemTime::now();
    handle.stop();
    let end = pushing.join().unwrap();
    assert!(end.is_err(), "{end:?}");
    assert!(begun.elapsed().unwrap() < Duration::from_secs(3));
    drop(link);
}

#[test]
fn keys_are_changed_underway() {
    let (here, there) = UnixStream::pair().unwrap();
    let key = me("b").key;
    let count = 70_000;
    let reader = thread::spawn({
        let key = key.clone();
        move || {
            let mut link = Link::answer(Arc::new(there), &key, Options::default()).unwrap();
            for number in 0..count {
                match link.receive(Duration::from_secs(20)).unwrap() {
                    Some(Message::Current(current)) => assert_eq!(current.behind.files, number),
                    other => panic!("{other:?}"),
                }
            }
        }
    });
    let mut link = Link::call(Arc::new(here), &key, Options::default()).unwrap();
    for number in 0..count {
        let behind = Behind { files: number, ms: 0 };
        let current = Current { position: at_one(), behind };
        link.send(&Message::Current(current)).unwrap();
        // A record each.
        link.flush().unwrap();
    }
    reader.join().unwrap();
}

#[test]
fn a_limited_link_keeps_to_its_rate() {
    let (here, there) = UnixStream::pair().unwrap();
    let key = me("b").key;
    let reader = thread::spawn({
        let key = key.clone();
        move || {
            let mut link = Link::answer(Arc::new(there), &key, hurried()).unwrap();
            // Never silent for as long as one counts as dead.
            while !matches!(link.receive(Duration::from_secs(9)).unwrap(), Some(Message::Sent)) {}
        }
    });
    let options = Options { bandwidth: Some(100_000), ..hurried() };
    let mut link = Link::call(Arc::new(here), &key, options).unwrap();
    let begun = SystemTime::now();
    link.send(&Message::Data(octets(1, 200_000))).unwrap();
    link.send(&Message::Sent).unwrap();
    link.flush().unwrap();
    // The burst is a tenth of a second.
    assert!(begun.elapsed().unwrap() >= Duration::from_millis(1850));
    reader.join().unwrap();
}
