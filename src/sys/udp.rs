//! The heartbeat socket: UDP on one path.
//!
//! Called by the protocol thread. The content is the core's.

use super::clock::Ages;
use super::packet;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use vipd_core::time::Duration;

/// DSCP CS6.
const CS6: u32 = 0xC0;

/// A received heartbeat; the octets are in the caller's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Sender.
    pub src: SocketAddr,
    /// Octets in the buffer.
    pub len: usize,
    /// Time since arrival in the kernel, clamped to what is possible.
    pub age: Duration,
}

/// Heartbeats of one path. Readable ([`AsFd`]) when something waits.
#[derive(Debug)]
pub struct HeartbeatSocket {
    socket: Socket,
    ages: Ages,
    ancillary: Vec<u8>,
}

impl HeartbeatSocket {
    /// Binds to the path's own address and port. The address need not be there yet.
    ///
    /// # Errors
    /// `EADDRINUSE`: another program has the port.
    pub fn open(own: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(own);
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
        packet::widen(&socket);
        packet::stamp(&socket)?;
        if own.is_ipv4() {
            socket.set_freebind_v4(true)?;
            socket.set_tos_v4(CS6)?;
        } else {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
            socket.set_tclass_v6(CS6)?;
        }
        // Control traffic leaves before bulk data in the device queue (TC_PRIO_CONTROL).
        let _without_the_right = socket.set_priority(7);
        socket
            .bind(&own.into())
            .map_err(|e| io::Error::new(e.kind(), format!("heartbeat path {own}: {e}")))?;
        Ok(Self { socket, ages: Ages::new(), ancillary: packet::ancillary() })
    }

    /// The next datagram, into `buf`; `None` when none waits. A longer one is cut.
    ///
    /// # Errors
    /// Those that earlier sends provoked (`ECONNREFUSED` by ICMP); the socket remains usable.
    pub fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Datagram>> {
        loop {
            let Some(meta) = packet::receive(&self.socket, buf, &mut self.ancillary)? else {
                self.ages.drained();
                return Ok(None);
            };
            if let Some(src) = meta.src {
                let age = self.ages.of(meta.stamp);
                return Ok(Some(Datagram { src, len: meta.len, age }));
            }
        }
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// `ENETUNREACH`, `EHOSTUNREACH`, `WouldBlock`, `EINVAL` while the own address is missing: the
    /// path is not usable now.
    pub fn send_to(&self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let sent = self.socket.send_to(payload, &to.into())?;
        if sent == payload.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl AsFd for HeartbeatSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
