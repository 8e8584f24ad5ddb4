//! `gateway`: does a neighbour answer ARP or neighbour solicitations?
//!
//! Asked with frames of our own, so that no entry of the kernel's neighbour table answers for the dead. An ARP
//! question speaks for nobody (sender 0.0.0.0) and changes nobody's table.

use super::aside::Aside;
use super::net::{Interface, fault, interface};
use super::outcome::Outcome;
use super::task::Measure;
use crate::sys::{FrameSocket, Readable};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use vipd_core::engine::io::Verdict;
use vipd_core::types::{Family, IfIndex, Mac};
use vipd_core::wire::{arp, ndp};

/// The longest frame that is looked at.
const FRAME: usize = 256;
/// Frames thrown away before asking: what a queue of the default length holds, and more.
const STALE: usize = 4096;

/// `gateway = "192.0.2.1"`.
#[derive(Debug)]
pub(super) struct Gateway {
    addr: IpAddr,
    link: Arc<str>,
    aside: Aside,
    /// Kept between runs: to close a packet socket takes the kernel milliseconds.
    socket: Option<(FrameSocket, Readable)>,
}

impl Gateway {
    pub(super) fn new(addr: IpAddr, link: Arc<str>) -> Self {
        Self { addr, link, aside: Aside::new(Verdict::Unknown), socket: None }
    }

    async fn asked(&mut self, index: IfIndex, mac: Mac) -> io::Result<Mac> {
        let question = match self.addr {
            IpAddr::V4(addr) => arp::probe(mac, Mac::BROADCAST, addr).to_vec(),
            IpAddr::V6(addr) => ndp::solicitation(mac, source(addr, index)?, None, addr).to_vec(),
        };
        let family = Family::of(&self.addr);
        let (socket, readable) = match self.socket.take() {
            Some(kept) if kept.0.index() == index => self.socket.insert(kept),
            _ => {
                let socket = FrameSocket::open(index, family)?;
                socket.hear_only(self.addr)?;
                let readable = Readable::new(&socket)?;
                self.socket.insert((socket, readable))
            }
        };
        let mut buf = [0; FRAME];
        for _ in 0..STALE {
            // An error of the past as well: the interface went down and is up again.
            if matches!(socket.recv_frame(&mut buf), Ok(None)) {
                break;
            }
        }
        socket.send_frame(&question)?;
        loop {
            let seen = readable
                .read(|_| match socket.recv_frame(&mut buf)? {
                    Some(frame) => Ok(answer(self.addr, frame)),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                })
                .await?;
            if let Some(mac) = seen {
                return Ok(mac);
            }
        }
    }
}

impl Measure for Gateway {
    const LATE: Verdict = Verdict::Fail;

    async fn run(&mut self) -> Outcome {
        let what = format!("gateway {} on {}", self.addr, self.link);
        let name = Arc::clone(&self.link);
        let found = match self.aside.run(move || interface(&name)).await {
            Ok(found) => found,
            Err(instead) => return instead.about(what),
        };
        if let Some(outcome) = fault(&self.link, &found) {
            self.socket = None;
            return outcome.about(what);
        }
        let Ok(Interface { index, mac: Some(mac), .. }) = found else {
            return Outcome::unknown(format!("{what}: the interface has no Ethernet address"));
        };
        let Some(index) = IfIndex::new(index) else {
            return Outcome::unknown(format!("{what}: the interface has no index"));
        };
        match self.asked(index, mac).await {
            Ok(mac) => Outcome::pass(format!("{what}: answers from {mac}")),
            Err(e) => {
                self.socket = None;
                Outcome::network(&what, &e)
            }
        }
    }
}

/// The address from which the kernel would ask a neighbour of this scope.
fn source(to: Ipv6Addr, index: IfIndex) -> io::Result<Ipv6Addr> {
    // A link-local one: virtual addresses are not, as a rule, and every neighbour answers it.
    let near =
        if to.is_unicast_link_local() { to } else { Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1) };
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)?;
    socket.connect(&SockAddr::from(SocketAddrV6::new(near, 9, 0, index.get())))?;
    let local = socket.local_addr()?.as_socket_ipv6().map(|a| *a.ip());
    local.ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
}

/// Who holds `addr`, if this frame is its answer.
fn answer(addr: IpAddr, frame: &[u8]) -> Option<Mac> {
    match addr {
        IpAddr::V4(addr) => arp::parse(frame)
            .filter(|seen| !seen.request && seen.sender_addr == addr)
            .map(|seen| seen.sender_mac),
        IpAddr::V6(addr) => {
            ndp::parse(frame).filter(|seen| seen.solicited && seen.target == addr).map(|s| s.mac)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_announcement_or_a_stranger_is_no_answer() {
        let (mac, addr) = (Mac([2, 0, 0, 0, 0, 9]), Ipv4Addr::new(192, 0, 2, 1));
        let mut reply = arp::probe_from(mac, addr, Some(Mac([2; 6])), Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!(answer(addr.into(), &reply), None, "a request");
        // Operation: reply.
        reply[21] = 2;
        assert_eq!(answer(addr.into(), &reply), Some(mac));
        assert_eq!(answer(Ipv4Addr::new(192, 0, 2, 2).into(), &reply), None);
        assert_eq!(answer(addr.into(), &reply[..30]), None);
        let v6 = "2001:db8::1".parse().unwrap_or(Ipv6Addr::LOCALHOST);
        let unasked = ndp::unsolicited_na(mac, v6, true);
        assert_eq!(answer(v6.into(), &unasked), None);
    }
}
