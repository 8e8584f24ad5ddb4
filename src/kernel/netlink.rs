//! A blocking request socket of rtnetlink: one request or one batch in flight, every answer awaited.
//!
//! Called by the worker on the kernel thread and by the monitor for its dumps. It knows messages, not
//! what they mean. A lost answer ends in a timeout and a fresh socket, never in a hang.

use crate::sys::netlink::messages;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::AsRawFd;

/// Messages in one datagram: their answers fit any receive buffer, and nobody waits long behind them.
pub(super) const CHUNK: usize = 64;
/// The longest answer of a healthy kernel is a device removal of some 25 ms.
const PATIENCE_SECS: i64 = 2;
/// `NLM_F_CAPPED` and `NLM_F_ACK_TLVS` of an answer, `NLMSGERR_ATTR_MSG`.
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;
const ATTR_MSG: u16 = 1;

/// The kernel's "no", with its own words where it gave some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// Extended text of the kernel; empty on old kernels and where it has none.
    pub text: String,
}

impl Refusal {
    pub(super) fn from_io(e: &io::Error) -> Self {
        Self { errno: Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)), text: String::new() }
    }

    fn words(&self) -> String {
        if self.text.is_empty() {
            self.errno.desc().to_owned()
        } else {
            format!("{} ({})", self.text, self.errno.desc())
        }
    }
}

/// Outcome of one request.
pub(super) type Answer = Result<(), Refusal>;

/// One request: the message and its flags beyond `REQUEST` and `ACK`.
pub(super) type Request = (RouteNetlinkMessage, u16);

/// A request socket.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buf: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: connect()?, sequence: 0, buf: vec![0; 64 << 10] })
    }

    /// One request and its answer.
    pub(super) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Answer {
        self.batch(&[(message, flags)]).pop().unwrap_or(Ok(()))
    }

    /// Up to [`CHUNK`] requests in one datagram, in order; an answer for each.
    pub(super) fn batch(&mut self, requests: &[Request]) -> Vec<Answer> {
        let first = self.sequence.wrapping_add(1);
        let mut octets = Vec::with_capacity(requests.len() * 96);
        for (message, flags) in requests {
            self.encode(&mut octets, message, flags | NLM_F_ACK);
        }
        let mut answers: Vec<Option<Answer>> = vec![None; requests.len()];
        let mut missing = requests.len();
        let broken = self.exchange(&octets, |header, payload| {
            let at = header.sequence_number.wrapping_sub(first) as usize;
            if let (Some(slot), Some(answer)) = (answers.get_mut(at), answer(header, payload)) {
                missing -= usize::from(slot.is_none());
                *slot = Some(answer);
            }
            missing == 0
        });
        answers
            .into_iter()
            .map(|a| {
                a.unwrap_or_else(|| broken.clone().and_then(|()| Err(Refusal::from_io(&timeout()))))
            })
            .collect()
    }

    /// Everything that a dump request gives; messages that cannot be decoded are left out.
    pub(super) fn dump(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        self.collect(message, NLM_F_DUMP)
    }

    /// The answer of a request for one object.
    pub(super) fn get(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Refusal> {
        Ok(self.collect(message, NLM_F_ACK)?.pop())
    }

    fn collect(
        &mut self,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let mut octets = Vec::new();
        self.encode(&mut octets, message, flags);
        let sequence = self.sequence;
        let mut found = Vec::new();
        let mut refused = Ok(());
        self.exchange(&octets, |header, payload| {
            if header.sequence_number != sequence {
                return false;
            }
            match payload {
                NetlinkPayload::InnerMessage(m) => found.push(m),
                NetlinkPayload::Done(_) => return true,
                other => {
                    if let Some(a) = answer(header, other) {
                        refused = a;
                        return true;
                    }
                }
            }
            false
        })?;
        refused.map(|()| found)
    }

    fn encode(&mut self, octets: &mut Vec<u8>, message: &RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut m = NetlinkMessage::new(header, NetlinkPayload::from(message.clone()));
        m.finalize();
        let at = octets.len();
        octets.resize(at + m.buffer_len().next_multiple_of(4), 0);
        m.serialize(&mut octets[at..]);
    }

    /// Sends, then reads messages into `take` until it is content. A silent or broken socket is
    /// replaced, so that a late answer cannot meet the next request.
    fn exchange(
        &mut self,
        octets: &[u8],
        mut take: impl FnMut(&NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>) -> bool,
    ) -> Result<(), Refusal> {
        let result = (|| {
            self.socket.send_to(octets, &SocketAddr::new(0, 0), 0)?;
            loop {
                let n = match recv(self.socket.as_raw_fd(), &mut self.buf, MsgFlags::empty()) {
                    Err(Errno::EINTR) => continue,
                    Err(Errno::EAGAIN) => return Err(timeout()),
                    other => other?,
                };
                for (header, payload) in messages(self.buf.get(..n).unwrap_or_default()) {
                    if take(&header, payload) {
                        return Ok(());
                    }
                }
            }
        })();
        result.map_err(|e: io::Error| {
            if let Ok(fresh) = connect() {
                self.socket = fresh;
            }
            Refusal::from_io(&e)
        })
    }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    // Extended errors, without a copy of the request; old kernels have neither.
    let _no_texts = socket.set_ext_ack(true);
    let _longer = socket.set_cap_ack(true);
    // Dumps of one interface instead of all; where it is missing the reader filters.
    let _dumps_all = socket.set_netlink_get_strict_chk(true);
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECS))?;
    Ok(socket)
}

fn timeout() -> io::Error {
    io::Error::from_raw_os_error(libc::ETIMEDOUT)
}

/// The answer in an error or acknowledgement message.
fn answer(header: &NetlinkHeader, payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Answer> {
    let NetlinkPayload::Error(e) = payload else { return None };
    Some(match e.code {
        None => Ok(()),
        Some(code) => Err(Refusal {
            errno: Errno::from_raw(code.get().wrapping_abs()),
            text: extended_text(header.flags, &e.header).unwrap_or_default(),
        }),
    })
}

/// The text attribute that follows the copied request in an error message.
fn extended_text(flags: u16, copied: &[u8]) -> Option<String> {
    if flags & ACK_TLVS == 0 {
        return None;
    }
    let request_len = u32::from_ne_bytes(*copied.first_chunk()?) as usize;
    let skip = if flags & CAPPED == 0 { request_len.next_multiple_of(4) } else { 16 };
    let mut attributes = copied.get(skip..)?;
    while let Some(head) = attributes.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let value = attributes.get(4..len)?;
        if kind == ATTR_MSG {
            let text = value.split(|b| *b == 0).next().unwrap_or_default();
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_extended_error_is_found_behind_the_request() {
        let mut tail = vec![32, 0, 0, 0];
        tail.extend([0u8; 12]);
        let message = b"ipv4: Address already assigned\0";
        tail.extend((4 + message.len() as u16).to_ne_bytes());
        tail.extend(ATTR_MSG.to_ne_bytes());
        tail.extend(message);
        let text = extended_text(CAPPED | ACK_TLVS, &tail);
        assert_eq!(text.as_deref(), Some("ipv4: Address already assigned"));
        assert_eq!(extended_text(CAPPED, &tail), None);
        assert_eq!(extended_text(CAPPED | ACK_TLVS, &tail[..20]), None);
        assert_eq!(extended_text(ACK_TLVS, &tail), None, "the uncapped request is longer");
    }
}
