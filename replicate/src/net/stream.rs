//! What a link runs over: a connection of TCP, or a pair of sockets in tests.
//!
//! Used by the link and by the handshake.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A blocked write looks up as often.
const WRITE_TICK: Duration = Duration::from_millis(500);
/// What TCP itself allows for octets that nobody acknowledges or takes: a receiver that looks through a large file reads nothing
/// meanwhile. Whether it is dead, its silence tells.
const USER_TIMEOUT: Duration = Duration::from_secs(600);

/// A connection that can be read and written by two threads and ended by a third.
pub trait Stream: Send + Sync {
    /// Once, before anything else: options of the socket.
    ///
    /// # Errors
    /// Of the system call.
    fn prepare(&self) -> io::Result<()>;
    /// Up to [`Stream::set_read_timeout`]; 0: the end.
    ///
    /// # Errors
    /// Time-out, or of the system call.
    fn read(&self, into: &mut [u8]) -> io::Result<usize>;
    /// Up to a second or so.
    ///
    /// # Errors
    /// Time-out, or of the system call.
    fn write(&self, octets: &[u8]) -> io::Result<usize>;
    /// Not zero.
    ///
    /// # Errors
    /// Of the system call.
    fn set_read_timeout(&self, limit: Duration) -> io::Result<()>;
    /// Ends both directions at once, whoever waits in them.
    fn close(&self);
}

impl Stream for TcpStream {
    fn prepare(&self) -> io::Result<()> {
        // A small file must not wait for an acknowledgement.
        self.set_nodelay(true)?;
        self.set_write_timeout(Some(WRITE_TICK))?;
        let socket = socket2::SockRef::from(self);
        socket.set_keepalive(true)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(into)
    }

    fn write(&self, octets: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(octets)
    }

    fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        Self::set_read_timeout(self, Some(limit))
    }

    fn close(&self) {
        // Fails when the other side has closed it already.
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Stream for UnixStream {
    fn prepare(&self) -> io::Result<()> {
        self.set_write_timeout(Some(WRITE_TICK))
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(into)
    }

    fn write(&self, octets: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(octets)
    }

    fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        Self::set_read_timeout(self, Some(limit))
    }

    fn close(&self) {
        // Fails when the other side has closed it already.
        let _ = self.shutdown(Shutdown::Both);
    }
}
