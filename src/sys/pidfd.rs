//! Processes as descriptors: a death is seen at once, and a number that was given anew is no mistake.
//!
//! Called by the health checks on the `main` thread and by their helper threads. Needs no capability.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};

/// A descriptor of process `pid` (Linux 5.3), readable from the moment at which the process has ended.
///
/// # Errors
/// `ESRCH` when there is no such process, `EMFILE` and `ENFILE` when out of descriptors.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: the call takes two integers and touches no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor (close-on-exec) for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the process of this descriptor ended? A zombie has.
///
/// # Errors
/// `ENOMEM`.
pub fn has_ended(pidfd: impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_death_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let fd = pidfd(child.id()).unwrap();
        assert!(!has_ended(&fd).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&fd).unwrap());
        assert_eq!(pidfd(u32::MAX).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
