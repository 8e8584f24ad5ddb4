//! Two sides that talk in memory and in virtual time: one of them runs at a time, so that each run is the same.

use crate::trees::{MemSource, MemTarget};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use vipd_replicator::net::error::NetError;
use vipd_replicator::net::link::Channel;
use vipd_replicator::net::noise::LinkKey;
use vipd_replicator::net::receive::{self, Notes};
use vipd_replicator::net::send::{self, Ended, Handle, Memory, Pusher};
use vipd_replicator::net::wire::{Assembler, Hello, Message, Packer, Welcome};
use vipd_replicator::net::{Me, SetId};
use vipd_replicator::ports::Target;

/// A message and the octets that it took.
pub(crate) type Seen = (usize, Message, usize);

#[derive(Default)]
struct State {
    /// To each side.
    queues: [VecDeque<Message>; 2],
    /// Whose turn it is.
    turn: usize,
    /// Until when each side waits; `None`: it runs.
    waits: [Option<Duration>; 2],
    now: Duration,
    closed: bool,
    /// Messages in both directions so far.
    count: usize,
    /// The connection is cut in place of this message.
    cut_at: Option<usize>,
    seen: Vec<Seen>,
    octets: [u64; 2],
}

#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    turned: Condvar,
}

/// One side of it.
pub(crate) struct Side {
    pipe: Arc<Pipe>,
    me: usize,
    packer: Packer,
    assembler: Assembler,
}

/// Two sides; the first one runs first.
pub(crate) fn pair(cut_at: Option<usize>) -> (Side, Side) {
    let pipe = Arc::new(Pipe::default());
    pipe.state.lock().unwrap().cut_at = cut_at;
    let side = |me| Side {
        pipe: Arc::clone(&pipe),
        me,
        packer: Packer::new().unwrap(),
        assembler: Assembler::new().unwrap(),
    };
    (side(0), side(1))
}

impl Side {
    fn state(&self) -> MutexGuard<'_, State> {
        self.pipe.state.lock().unwrap()
    }

    /// The second side waits for its first turn.
    pub(crate) fn enter_second(&self) {
        let turn = |state: &mut State| state.turn != self.me;
        drop(self.pipe.turned.wait_while(self.state(), turn).unwrap());
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock().unwrap();
        state.closed = true;
        state.turn = 1 - self.me;
        self.pipe.turned.notify_all();
    }
}

impl Channel for Side {
    fn send(&mut self, message: &Message) -> Result<(), NetError> {
        // Through the octets, as on a link.
        let body = message.body();
        let (header, octets) = self.packer.pack(message.kind(), &body);
        let octets = [header.as_slice(), octets].concat();
        let heard = self.assembler.next(&mut octets.as_slice())?.expect("a whole message");
        assert_eq!(heard, *message);
        let mut state = self.pipe.state.lock().unwrap();
        if state.cut_at == Some(state.count) {
            state.closed = true;
        }
        if state.closed {
            return Err(NetError::Closed);
        }
        state.count += 1;
        state.octets[self.me] += octets.len() as u64;
        let (me, len) = (self.me, octets.len());
        state.seen.push((me, heard.clone(), len));
        state.queues[1 - self.me].push_back(heard);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), NetError> {
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Message>, NetError> {
        let (me, other) = (self.me, 1 - self.me);
        let mut state = self.state();
        let until = state.now + wait;
        loop {
            if let Some(message) = state.queues[me].pop_front() {
                return Ok(Some(message));
            }
            if state.closed {
                return Err(NetError::Closed);
            }
            if state.now >= until {
                return Ok(None);
            }
            state.waits[me] = Some(until);
            match state.waits[other] {
                // Both wait for nothing: time goes on.
                Some(theirs) if state.queues[other].is_empty() => {
                    state.now = until.min(theirs);
                    if theirs < until {
                        state.turn = other;
                    }
                }
                _ => state.turn = other,
            }
            self.pipe.turned.notify_all();
            state = self.pipe.turned.wait_while(state, |s| s.turn != me).unwrap();
            state.waits[me] = None;
        }
    }

    fn now(&self) -> Duration {
        self.state().now
    }

    fn sent_octets(&self) -> u64 {
        self.state().octets[self.me]
    }
}

pub(crate) fn me(host: &str) -> Me {
    let key = LinkKey::derive(&[7; 32], "c");
    Me { cluster: "c".into(), host: host.into(), key }
}

pub(crate) fn pusher() -> Pusher {
    Pusher {
        me: me("a"),
        set: SetId { name: "s".into(), digest: [1; 32] },
        peer: "b".into(),
        bandwidth: None,
        events: Arc::new(|_| {}),
        handle: Handle::new(),
    }
}

/// What came of a session, and what was said.
pub(crate) struct Run {
    pub(crate) sender: Result<Ended, NetError>,
    pub(crate) receiver: NetError,
    pub(crate) seen: Vec<Seen>,
}

impl Run {
    /// Octets of the messages of one side.
    pub(crate) fn octets(&self, side: usize) -> usize {
        self.seen.iter().filter(|(from, ..)| *from == side).map(|(.., octets)| octets).sum()
    }

    /// Names of the messages, in their order, those of the receiver with `<`.
    pub(crate) fn names(&self) -> String {
        let name = |(from, message, _): &Seen| {
            if *from == 0 { message.name().to_owned() } else { format!("<{}", message.name()) }
        };
        self.seen.iter().map(name).collect::<Vec<_>>().join(" ")
    }
}

/// A session from its hello to its end.
pub(crate) fn run(
    pusher: &Pusher,
    source: &MemSource,
    memory: &mut Memory,
    target: &MemTarget,
    cut_at: Option<usize>,
) -> Run {
    let (mut sender, receiver) = pair(cut_at);
    let pipe = Arc::clone(&sender.pipe);
    let mut target = target.clone();
    let standby = thread::spawn(move || {
        let mut channel = receiver;
        channel.enter_second();
        welcome(&mut channel, &mut target)
            .and_then(|()| receive::drive(&mut channel, "a", &mut target, &Notes::default()))
    });
    let ended = send::drive(&mut sender, pusher, &mut source.clone(), memory);
    drop(sender);
    let receiver = standby.join().unwrap().unwrap_err();
    let seen = std::mem::take(&mut pipe.state.lock().unwrap().seen);
    Run { sender: ended, receiver, seen }
}

/// As the receiver does, without its checks.
fn welcome(channel: &mut Side, target: &mut MemTarget) -> Result<(), NetError> {
    match channel.receive(Duration::from_secs(1))? {
        Some(Message::Hello(Hello { .. })) => {}
        other => panic!("{other:?}"),
    }
    let (position, manifest) = target.standing();
    channel.send(&Message::Welcome(Welcome { host: "b".into(), position, root: manifest.root() }))
}
