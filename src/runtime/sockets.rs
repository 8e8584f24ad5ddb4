//! The sockets of the protocol thread: which exist, on which interface index, and what to do when one cannot be had.
//!
//! Opened when the monitor reports an interface, closed when its index changes. A socket that cannot be opened is
//! tried again each second and whenever its link is reported; the failure is told once.

use crate::sys::{Delivery, FrameSocket, HeartbeatSocket, Poller, VrrpSocket};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use vipd_core::config::model::{Model, Transport};
use vipd_core::engine::io::{HeartbeatOut, LinkState, Transmit};
use vipd_core::time::{Duration, Instant};
use vipd_core::types::{Family, IfIndex, LinkIx, Mac, PathIx};

/// Time between two attempts to open what could not be opened.
const RETRY: Duration = Duration::from_secs(1);

/// What a descriptor in the poller is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// The timer of the loop.
    Timer,
    /// The bell of the queue.
    Inbox,
    /// Adverts.
    Vrrp(LinkIx, Family),
    /// ARP or neighbour advertisements.
    Frame(LinkIx, Family),
    /// Heartbeats.
    Heartbeat(PathIx),
}

impl Token {
    /// As the number that the poller keeps.
    pub(super) fn encode(self) -> u64 {
        let with = |kind: u64, link: LinkIx, family: Family| {
            kind << 32 | u64::from(link.0) << 1 | u64::from(family == Family::V6)
        };
        match self {
            Self::Timer => 0,
            Self::Inbox => 1,
            Self::Heartbeat(path) => 2 << 32 | u64::from(path.0),
            Self::Vrrp(link, family) => with(3, link, family),
            Self::Frame(link, family) => with(4, link, family),
        }
    }

    /// Back from the number; `None` for one that [`Token::encode`] does not make.
    pub(super) fn decode(number: u64) -> Option<Self> {
        let low = number & 0xffff_ffff;
        let link = LinkIx(u16::try_from(low >> 1).ok()?);
        let family = if low & 1 == 1 { Family::V6 } else { Family::V4 };
        match number >> 32 {
            0 if low == 0 => Some(Self::Timer),
            0 if low == 1 => Some(Self::Inbox),
            2 => u8::try_from(low).ok().map(|path| Self::Heartbeat(PathIx(path))),
            3 => Some(Self::Vrrp(link, family)),
            4 => Some(Self::Frame(link, family)),
            _ => None,
        }
    }
}

/// One service interface in one family.
#[derive(Debug)]
struct Voice {
    delivery: Delivery,
    vrrp: Option<VrrpSocket>,
    frames: Option<FrameSocket>,
}

/// One heartbeat path.
#[derive(Debug)]
struct PathSocket {
    own: SocketAddr,
    socket: Option<HeartbeatSocket>,
}

/// All sockets of this host.
#[derive(Debug)]
pub(super) struct Sockets {
    names: Vec<Arc<str>>,
    indices: Vec<Option<IfIndex>>,
    voices: BTreeMap<(LinkIx, Family), Voice>,
    paths: Vec<PathSocket>,
    retry_at: Instant,
    /// What was told about which socket, so that it is told once.
    complaints: BTreeMap<Token, String>,
    errors: u64,
}

impl Sockets {
    /// None open yet.
    pub(super) fn new(model: &Model) -> Self {
        let mut voices = BTreeMap::new();
        for instance in &model.instances {
            for family in instance.families() {
                let voice = voices.entry((instance.link, family)).or_insert(Voice {
                    delivery: Delivery { multicast: false, unicast: false },
                    vrrp: None,
                    frames: None,
                });
                match instance.transport {
                    Transport::Multicast => voice.delivery.multicast = true,
                    Transport::Unicast(_) => voice.delivery.unicast = true,
                }
            }
        }
        let own_paths =
            model.hosts.get(usize::from(model.host.0)).map(|h| h.paths.clone()).unwrap_or_default();
        let paths = model
            .heartbeat
            .iter()
            .flat_map(|heartbeat| own_paths.iter().map(|own| SocketAddr::new(*own, heartbeat.port)))
            .map(|own| PathSocket { own, socket: None })
            .collect();
        Self {
            names: model.links.iter().map(|link| Arc::clone(&link.name)).collect(),
            indices: vec![None; model.links.len()],
            voices,
            paths,
            retry_at: Instant::ZERO,
            complaints: BTreeMap::new(),
            errors: 0,
        }
    }

    /// Another configuration: sockets that it needs as well stay open under their new tokens, others are closed, missing
    /// ones opened. Gives what is newly wrong.
    pub(super) fn reload(&mut self, model: &Model, poller: &Poller, now: Instant) -> Vec<String> {
        let mut before = std::mem::replace(self, Self::new(model));
        self.errors = before.errors;
        // What cannot be renamed is opened anew.
        for ((link, family), voice) in &mut self.voices {
            let name = self.names.get(usize::from(link.0));
            let Some(was) = before.names.iter().position(|known| Some(known) == name) else {
                continue;
            };
            if let Some(index) = self.indices.get_mut(usize::from(link.0)) {
                *index = before.indices.get(was).copied().flatten();
            }
            let was = LinkIx(u16::try_from(was).unwrap_or(u16::MAX));
            let Some(known) = before.voices.get_mut(&(was, *family)) else { continue };
            if known.delivery == voice.delivery {
                let token = Token::Vrrp(*link, *family).encode();
                voice.vrrp = known.vrrp.take().filter(|s| poller.rename(s, token).is_ok());
            }
            let token = Token::Frame(*link, *family).encode();
            voice.frames = known.frames.take().filter(|s| poller.rename(s, token).is_ok());
        }
        for (path, number) in self.paths.iter_mut().zip(0u8..) {
            let token = Token::Heartbeat(PathIx(number)).encode();
            let known = before.paths.iter_mut().find(|known| known.own == path.own);
            let socket = known.and_then(|known| known.socket.take());
            path.socket = socket.filter(|s| poller.rename(s, token).is_ok());
        }
        // Their addresses are free before others are opened.
        drop(before);
        self.open_missing(poller, now)
    }

    /// The monitor reported `link`: sockets of another index go, missing ones are opened.
    pub(super) fn update(
        &mut self,
        link: LinkIx,
        state: &LinkState,
        poller: &Poller,
        now: Instant,
    ) -> Vec<String> {
        if let Some(index) = self.indices.get_mut(usize::from(link.0)) {
            *index = state.index;
        }
        for ((_, _), voice) in self.voices.iter_mut().filter(|((at, _), _)| *at == link) {
            if voice.vrrp.as_ref().is_some_and(|s| Some(s.index()) != state.index) {
                voice.vrrp = None;
            }
            if voice.frames.as_ref().is_some_and(|s| Some(s.index()) != state.index) {
                voice.frames = None;
            }
        }
        self.open_missing(poller, now)
    }

    /// When the next attempt is due; [`Instant::MAX`] when nothing is missing.
    pub(super) fn due(&self) -> Instant {
        self.retry_at
    }

    /// Opens what is missing and can be opened; gives what is newly wrong.
    pub(super) fn open_missing(&mut self, poller: &Poller, now: Instant) -> Vec<String> {
        let mut news = Vec::new();
        let mut missing = false;
        let mut done = |token: Token,
                        result: Result<(), io::Error>,
                        complaints: &mut BTreeMap<Token, String>| {
            let Err(error) = result else {
                complaints.remove(&token);
                return;
            };
            missing = true;
            let text = error.to_string();
            if complaints.get(&token) != Some(&text) {
                news.push(text.clone());
                complaints.insert(token, text);
            }
        };
        for ((link, family), voice) in &mut self.voices {
            let at = usize::from(link.0);
            let (Some(name), Some(Some(index))) = (self.names.get(at), self.indices.get(at)) else {
                continue;
            };
            if voice.vrrp.is_none() {
                let token = Token::Vrrp(*link, *family);
                let opened = VrrpSocket::open(name, *index, *family, voice.delivery)
                    .and_then(|socket| poller.add(&socket, token.encode()).map(|()| socket));
                done(token, opened.map(|socket| voice.vrrp = Some(socket)), &mut self.complaints);
            }
            if voice.frames.is_none() {
                let token = Token::Frame(*link, *family);
                let opened = FrameSocket::open(*index, *family)
                    .and_then(|socket| poller.add(&socket, token.encode()).map(|()| socket))
                    .map_err(|e| {
                        io::Error::new(
                            e.kind(),
                            format!("{name}: cannot open a packet socket: {e}"),
                        )
                    });
                done(token, opened.map(|socket| voice.frames = Some(socket)), &mut self.complaints);
            }
        }
        for (path, number) in
            self.paths.iter_mut().zip(0u8..).filter(|(path, _)| path.socket.is_none())
        {
            let token = Token::Heartbeat(PathIx(number));
            let opened = HeartbeatSocket::open(path.own)
                .and_then(|socket| poller.add(&socket, token.encode()).map(|()| socket));
            done(token, opened.map(|socket| path.socket = Some(socket)), &mut self.complaints);
        }
        self.retry_at = if missing { now + RETRY } else { Instant::MAX };
        news
    }

    /// The adverts of one interface and family.
    pub(super) fn vrrp(&mut self, link: LinkIx, family: Family) -> Option<&mut VrrpSocket> {
        self.voices.get_mut(&(link, family))?.vrrp.as_mut()
    }

    /// The neighbours of one interface and family.
    pub(super) fn frames(&mut self, link: LinkIx, family: Family) -> Option<&mut FrameSocket> {
        self.voices.get_mut(&(link, family))?.frames.as_mut()
    }

    /// The heartbeats of one path.
    pub(super) fn heartbeats(&mut self, path: PathIx) -> Option<&mut HeartbeatSocket> {
        self.paths.get_mut(usize::from(path.0))?.socket.as_mut()
    }

    /// Sends an advert to all its destinations; true when the kernel took it for at least one of them.
    pub(super) fn send(&mut self, model: &Model, advert: &Transmit) -> bool {
        let family = advert.router.family;
        let socket = self.voices.get(&(advert.link, family)).and_then(|voice| voice.vrrp.as_ref());
        let mut accepted = false;
        for (dst, payload) in advert.dst.iter().zip(&advert.payload) {
            let sent = match socket {
                None => Err(io::ErrorKind::NotConnected.into()),
                Some(socket) if advert.virtual_mac && *dst == family.group() => {
                    let mac =
                        Mac::virtual_router(family, model.instance(advert.router.instance).vrid);
                    socket.send_from_mac(mac, advert.src, payload)
                }
                Some(socket) => socket.send(advert.src, *dst, payload),
            };
            accepted |= sent.is_ok();
            self.errors += u64::from(sent.is_err());
        }
        accepted
    }

    /// Sends a heartbeat; a path that is not usable now is the peer's to notice.
    pub(super) fn send_heartbeat(&mut self, heartbeat: &HeartbeatOut) {
        let path =
            self.paths.get(usize::from(heartbeat.path.0)).and_then(|path| path.socket.as_ref());
        let sent =
            path.is_some_and(|socket| socket.send_to(heartbeat.to, &heartbeat.payload).is_ok());
        self.errors += u64::from(!sent);
    }

    /// Sends a frame by `link`; either family's packet socket will do.
    pub(super) fn send_frame(&mut self, link: LinkIx, frame: &[u8]) {
        let socket = Family::ALL.iter().find_map(|f| self.voices.get(&(link, *f))?.frames.as_ref());
        let sent = socket.is_some_and(|socket| socket.send_frame(frame).is_ok());
        self.errors += u64::from(!sent);
    }

    /// Notes a failure to read; the socket stays.
    pub(super) fn note_error(&mut self) {
        self.errors += 1;
    }

    /// Datagrams and frames that could not be read or sent since the start.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_poller() {
        let (v4, v6) = (Family::V4, Family::V6);
        for token in [
            Token::Timer,
            Token::Inbox,
            Token::Vrrp(LinkIx(0), v4),
            Token::Vrrp(LinkIx(u16::MAX), v6),
            Token::Frame(LinkIx(7), v6),
            Token::Frame(LinkIx(8), v4),
            Token::Heartbeat(PathIx(255)),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(u64::MAX), None);
        assert_eq!(Token::decode(2), None);
    }
}
