//! Listeners on loopback: who comes in, who does not, and that it makes no difference to the others.

use crate::link::{One, events};
use crate::pipe::{me, pusher};
use crate::trees::*;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};
use vipd_replicator::net::Event;
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::link::Options;
use vipd_replicator::net::listen::{Limits, Listener};
use vipd_replicator::net::receive::Receiver;
use vipd_replicator::net::send::{Ended, Memory, Pusher};
use vipd_replicator::net::wire::{FORMAT, OLDEST};
use vipd_replicator::ports::Refusal;

struct Host {
    listener: Listener,
    receiver: Arc<Receiver>,
    target: MemTarget,
    events: Arc<Mutex<Vec<Event>>>,
    address: SocketAddr,
}

fn host(limits: Limits) -> Host {
    let target = MemTarget::default();
    let (told, events) = events();
    let sets = Arc::new(One(target.clone()));
    let receiver = Arc::new(Receiver::new(me("b"), sets, told.clone()));
    let any = ["127.0.0.1:0".parse().unwrap()];
    let options = Options { handshake: Duration::from_secs(5), ..Options::default() };
    let listener = Listener::start(&any, Arc::clone(&receiver), limits, options, told).unwrap();
    let address = listener.addresses()[0];
    Host { listener, receiver, target, events, address }
}

fn small() -> Tree {
    Tree::of(&[("a", b"some text".to_vec()), ("b", octets(1, 30_000))])
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begun = SystemTime::now();
    while !is() {
        assert!(begun.elapsed().unwrap() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn session(pusher: &Pusher, address: SocketAddr, source: &MemSource) -> Result<Ended, NetError> {
    let stream = Arc::new(TcpStream::connect(address).unwrap());
    pusher.session(stream, &mut source.clone(), &mut Memory::default())
}

#[test]
fn a_flood_gets_nothing_and_disturbs_nothing() {
    let host = host(Limits::default());
    let address = host.address;
    let over = AtomicBool::new(false);
    let pusher = pusher();
    let source = MemSource::new(small(), at(1, 1));
    thread::scope(|scope| {
        // A session that is there before the flood comes.
        let pushing = scope.spawn(|| session(&pusher, address, &source));
        eventually("a first tree", || source.lock().acknowledged.len() == 1);
        let flood = scope.spawn(|| {
            let mut held = Vec::new();
            let mut most_threads = 0;
            for number in 0..1000 {
                let Ok(mut stream) = TcpStream::connect(address) else { continue };
                let _ = match number % 4 {
                    0 => stream.write_all(b"vipr"),
                    1 => stream.write_all(&octets(number, 500)),
                    2 => stream.write_all(&[b'v', b'i', b'p', b'r', FORMAT, OLDEST, 0, 48]),
                    _ => Ok(()),
                };
                held.push(stream);
                if number % 50 == 0 {
                    most_threads = most_threads.max(threads());
                }
            }
            over.store(true, Ordering::Relaxed);
            (held, most_threads)
        });
        // New trees get through meanwhile, and so do new connections.
        let mut generation = 1;
        while !over.load(Ordering::Relaxed) || generation < 3 {
            generation += 1;
            {
                let mut owner = source.lock();
                owner.tree.put("c", octets(generation, 1000));
                owner.position = at(1, generation);
            }
            pusher.handle.wake();
            let newest = || source.lock().acknowledged.last().unwrap().0.generation;
            eventually("a tree in the flood", || newest() == generation);
        }
        let (held, most_threads) = flood.join().unwrap();
        let other = crate::pipe::pusher();
        let late = MemSource::new(small(), at(2, 1));
        late.stop_after(1, &other.handle);
        // All that was held open is still open.
        let end = session(&other, address, &late);
        assert!(late.lock().acknowledged.len() == 1, "{end:?}");
        assert!(most_threads < 150, "{most_threads}");
        drop(held);
        pusher.handle.stop();
        // A newer ownership has taken its place by then.
        assert!(pushing.join().unwrap().is_err());
    });
    assert_eq!(host.target.lock().tree, small());
    let events = host.events.lock().unwrap();
    let of_flood: Vec<_> = events.iter().filter(|e| e.peer.starts_with("127.")).collect();
    assert!(of_flood.iter().any(|event| event.kind == "flood"));
    assert!(of_flood.len() < 10, "{} lines in the log", of_flood.len());
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_newer_connection_takes_the_place_of_the_older_one() {
    let host = host(Limits::default());
    let (first, second) = (pusher(), pusher());
    let source = MemSource::new(small(), at(1, 1));
    thread::scope(|scope| {
        let older = scope.spawn(|| session(&first, host.address, &source));
        eventually("the first", || source.lock().acknowledged.len() == 1);
        let newer = scope.spawn(|| session(&second, host.address, &source));
        let end = older.join().unwrap();
        assert!(
            matches!(end, Err(NetError::Closed | NetError::Bye(_) | NetError::Io { .. })),
            "{end:?}"
        );
        eventually("the second", || source.lock().acknowledged.len() == 2);
        // And one of an older ownership does not.
        let third = pusher();
        let stale = MemSource::new(small(), at(0, 5));
        assert!(matches!(session(&third, host.address, &stale), Ok(Ended::Stale)));
        assert_eq!(stale.lock().refused, [Refusal::StaleEpoch(at(1, 0).epoch)]);
        assert!(!newer.is_finished());
        assert!(host.receiver.close("s", "this host owns it now", Duration::from_secs(10)));
        assert!(newer.join().unwrap().is_err());
    });
}

#[test]
fn who_means_another_host_set_or_configuration_is_told_so() {
    let host = host(Limits::default());
    let refused = |change: &dyn Fn(&mut Pusher)| {
        let mut pusher = pusher();
        change(&mut pusher);
        let source = MemSource::new(small(), at(1, 1));
        match session(&pusher, host.address, &source) {
            Err(NetError::Refused(Refusal::NotHere(text))) => text,
            other => panic!("{other:?}"),
        }
    };
    let text = refused(&|pusher| pusher.peer = "c".into());
    assert!(text.starts_with("this is b, not c"), "{text}");
    let text = refused(&|pusher| pusher.set.name = "other".into());
    assert!(text.contains("no set other"), "{text}");
    let text = refused(&|pusher| pusher.set.digest = [2; 32]);
    assert!(text.contains("configured otherwise"), "{text}");
    assert_eq!(host.target.lock().tree, Tree::default());
}

#[test]
fn a_pusher_waits_for_a_host_that_is_not_there_and_goes_on_after_it_was_away() {
    // A port that nobody listens on, for now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (told, lines) = events();
    let pusher = Pusher { events: told, ..pusher() };
    let source = MemSource::new(small(), at(1, 1));
    let handle = pusher.handle.clone();
    thread::scope(|scope| {
        let running = scope.spawn(|| pusher.run(&[address], &mut source.clone()));
        eventually("a line in the log", || !lines.lock().unwrap().is_empty());
        let target = MemTarget::default();
        let listen = |target: &MemTarget| {
            let sets = Arc::new(One(target.clone()));
            let receiver = Arc::new(Receiver::new(me("b"), sets, Arc::new(|_| {})));
            let (limits, options) = (Limits::default(), Options::default());
            let all = Arc::clone(&receiver);
            let quiet = Arc::new(|_| {});
            (Listener::start(&[address], all, limits, options, quiet).unwrap(), receiver)
        };
        let (listener, receiver) = listen(&target);
        eventually("a first tree", || target.lock().commits == 1);
        drop(listener);
        assert!(receiver.close("s", "restart", Duration::from_secs(10)));
        {
            let mut owner = source.lock();
            owner.tree.put("c", b"new".to_vec());
            owner.position = at(1, 2);
        }
        let _again = listen(&target);
        eventually("a second tree", || target.lock().position == at(1, 2));
        assert_eq!(target.lock().tree, source.lock().tree);
        handle.stop();
        assert_eq!(running.join().unwrap(), Ended::Stopped);
    });
    let lines = lines.lock().unwrap();
    assert!(lines[0].to_string().contains("connecting to 127.0.0.1"), "{}", lines[0]);
    assert!(lines.len() < 10, "{lines:?}");
}

#[test]
fn a_refusal_that_an_operator_resolves_is_asked_about_at_once() {
    let host = host(Limits::default());
    host.target.lock().refuse = vec![Refusal::Guard("half of it is gone".into())].into();
    let pusher = pusher();
    let source = MemSource::new(small(), at(1, 1));
    source.stop_after(1, &pusher.handle);
    thread::scope(|scope| {
        let pushing = scope.spawn(|| session(&pusher, host.address, &source));
        eventually("a refusal", || source.lock().refused.len() == 1);
        assert!(pusher.handle.progress().refused.is_some());
        let begun = SystemTime::now();
        host.receiver.ask_again("s");
        assert!(matches!(pushing.join().unwrap(), Ok(_) | Err(NetError::Stopped(_))));
        // Not after thirty seconds.
        assert!(begun.elapsed().unwrap() < Duration::from_secs(10));
    });
    assert_eq!(host.target.lock().tree, small());
    drop(host.listener);
}
