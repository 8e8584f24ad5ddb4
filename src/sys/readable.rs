//! A descriptor that the tokio runtime of the main thread waits for.
//!
//! Called by the kernel monitor and the health checks; the protocol thread has its own [`super::Poller`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A non-blocking descriptor, registered for reading.
#[derive(Debug)]
pub struct Readable {
    inner: AsyncFd<OwnedFd>,
}

impl Readable {
    /// Registers a duplicate of `fd`, which may be closed afterwards. Inside a tokio runtime with I/O.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new(fd: impl AsFd) -> io::Result<Self> {
        let owned = fd.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the value that is registered, is never replaced in it,
        // and is closed only after `AsyncFd` has deregistered it on drop.
        let inner = unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) }
            .map_err(io::Error::from)?;
        Ok(Self { inner })
    }

    /// Waits until `read` gives something other than `WouldBlock`. Cancelling it loses nothing: `read`
    /// is not interrupted.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn read<R>(
        &self,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.inner.async_io(Interest::READABLE, |fd| read(fd.as_fd())).await
    }

    /// Waits until the descriptor is readable: for one that is never read, as a process is.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn ready(&self) -> io::Result<()> {
        self.inner.readable().await.map(|mut guard| guard.retain_ready())
    }
}
