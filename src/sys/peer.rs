//! Who is at the other end of a unix socket, beyond user and primary group.
//!
//! Called by the control socket for each connection. Decides nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// More than this are not read; the kernel allows 65536, and nobody has them.
const MOST: usize = 1024;

/// Supplementary groups of the process that connected, as they were then (`SO_PEERGROUPS`, Linux 4.13).
///
/// # Errors
/// `ENODATA` where the kernel has no word on the peer, `ERANGE` when there are more than 1024, `ENOPROTOOPT` on
/// older kernels.
pub fn groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; MOST];
    let size = size_of::<libc::gid_t>();
    let mut len = libc::socklen_t::try_from(MOST * size).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed. The kernel writes at most `len` octets of
    // gid_t to memory of that size, which is initialised and aligned for gid_t, and stores how many it wrote in `len`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(usize::try_from(len).unwrap_or(0) / size);
    Ok(groups)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_peer_of_a_pair_has_our_groups() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut mine: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        let mut told = groups(&one).unwrap();
        mine.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, mine);
        assert!(groups(std::io::stdin()).is_err(), "not a socket of that kind");
    }
}
