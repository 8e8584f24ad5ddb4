//! `ping`: ICMP echo over a raw socket, for which vipd has the right anyhow: the unprivileged kind depends on a sysctl
//! that not every distribution opens.

use super::outcome::Outcome;
use super::task::Measure;
use crate::sys::Readable;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use vipd_core::engine::io::Verdict;
use vipd_core::wire::checksum::Sum;

const HEADER: usize = 8;
/// Tells our echo from those of other programs and of other checks.
const COOKIE: usize = 8;
const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

/// `ping = "192.0.2.1"`, or a list of which some have to answer.
#[derive(Debug)]
pub(super) struct Ping {
    addrs: Vec<IpAddr>,
    at_least: usize,
    source: Option<IpAddr>,
    sequence: u16,
}

impl Ping {
    pub(super) fn new(addrs: Vec<IpAddr>, at_least: usize, source: Option<IpAddr>) -> Self {
        Self { addrs, at_least, source, sequence: 0 }
    }
}

impl Measure for Ping {
    const LATE: Verdict = Verdict::Fail;

    /// All at once; it ends as soon as it is decided, so that a silent one costs its time only where it counts.
    async fn run(&mut self) -> Outcome {
        self.sequence = self.sequence.wrapping_add(1);
        let (sequence, source) = (self.sequence, self.source);
        let mut asked: FuturesUnordered<_> = self
            .addrs
            .iter()
            .map(|addr| async move { (*addr, echo(*addr, source, sequence).await) })
            .collect();
        let spare = self.addrs.len().saturating_sub(self.at_least);
        let (mut answers, mut failed) = (0, 0);
        let mut last = String::new();
        while let Some((addr, result)) = asked.next().await {
            let what = format!("ping {addr}");
            let outcome = match result {
                Ok(()) => Outcome::pass(format!("{what}: answers")),
                Err(e) => Outcome::network(&what, &e),
            };
            match outcome.verdict {
                Verdict::Pass => answers += 1,
                Verdict::Fail => failed += 1,
                _ => {}
            }
            last = outcome.detail;
            if answers >= self.at_least || failed > spare {
                break;
            }
        }
        let verdict = match () {
            () if answers >= self.at_least => Verdict::Pass,
            () if failed > spare => Verdict::Fail,
            // Too many of them this host could not ask.
            () => Verdict::Unknown,
        };
        let all = self.addrs.len();
        if all > 1 {
            last = format!("{answers} of {all} answer, {} wanted; {last}", self.at_least);
        }
        Outcome::new(verdict, last)
    }
}

async fn echo(addr: IpAddr, source: Option<IpAddr>, sequence: u16) -> io::Result<()> {
    let mut cookie = [0; COOKIE];
    getrandom::fill(&mut cookie).map_err(io::Error::other)?;
    let socket = open(addr, source)?;
    let readable = Readable::new(&socket)?;
    let request = request(addr.is_ipv4(), sequence, cookie);
    socket.send(&request)?;
    let mut buf = [0; 2048];
    loop {
        let len =
            readable.read(|fd| Ok(recv(fd.as_raw_fd(), &mut buf, MsgFlags::MSG_DONTWAIT)?)).await?;
        let packet = buf.get(..len).unwrap_or_default();
        if is_reply(addr.is_ipv4(), packet, sequence, cookie) {
            return Ok(());
        }
    }
}

/// A socket that hears this address alone.
fn open(addr: IpAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let (domain, protocol) = match addr {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    socket.connect(&SockAddr::from(SocketAddr::new(addr, 0)))?;
    Ok(socket)
}

/// An echo request. The kernel sees to the checksum of IPv6, which covers addresses.
fn request(v4: bool, sequence: u16, cookie: [u8; COOKIE]) -> [u8; HEADER + COOKIE] {
    let mut m = [0; HEADER + COOKIE];
    m[0] = if v4 { REQUEST_V4 } else { REQUEST_V6 };
    m[4..6].copy_from_slice(&cookie[..2]);
    m[6..8].copy_from_slice(&sequence.to_be_bytes());
    m[HEADER..].copy_from_slice(&cookie);
    if v4 {
        let checksum = Sum::default().with(&m).checksum();
        m[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    m
}

/// Is this the answer to that request? IPv4 comes with its header.
fn is_reply(v4: bool, packet: &[u8], sequence: u16, cookie: [u8; COOKIE]) -> bool {
    let header = if v4 { packet.first().map_or(0, |b| usize::from(b & 15) * 4) } else { 0 };
    let mut wanted = request(v4, sequence, cookie);
    wanted[0] = if v4 { REPLY_V4 } else { REPLY_V6 };
    let Some(message) = packet.get(header..) else { return false };
    // All but the checksum, which the kernel saw to.
    message.len() >= wanted.len()
        && message.starts_with(&wanted[..2])
        && message.get(4..wanted.len()) == wanted.get(4..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_echo_is_an_answer() {
        let cookie = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut reply = request(true, 7, cookie);
        assert!(Sum::default().with(&reply).is_valid());
        reply[0] = REPLY_V4;
        let packet = |m: &[u8]| [&[0x45][..], &[0; 19], m].concat();
        assert!(is_reply(true, &packet(&reply), 7, cookie));
        assert!(!is_reply(true, &packet(&reply), 8, cookie));
        assert!(!is_reply(true, &packet(&reply), 7, [0; 8]));
        assert!(!is_reply(true, &packet(&request(true, 7, cookie)), 7, cookie), "the question");
        for bad in [&b""[..], &[0x45], &[0x4f; 30], &packet(&reply[..15]), &[0xff; 60]] {
            assert!(!is_reply(true, bad, 7, cookie));
            assert!(!is_reply(false, bad, 7, cookie));
        }
        let mut reply = request(false, 7, cookie);
        reply[0] = REPLY_V6;
        assert!(is_reply(false, &reply, 7, cookie));
    }
}
