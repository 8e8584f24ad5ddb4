//! Descriptors that a program leaves open for the one that goes on in its place, in the same process.
//!
//! Called by the runtime around exec, for the two locks of the agent: let go of, somebody else could take them in
//! between. Decides nothing.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Lets `fd` outlive exec; its number there.
///
/// # Errors
/// When the descriptor is not open, which a borrowed one is.
pub fn leave_open(fd: impl AsFd) -> io::Result<RawFd> {
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(fd.as_fd().as_raw_fd())
}

fn close_on_exec(fd: impl AsFd) -> io::Result<()> {
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// What the program before this one left open under `number`, if `is_it` recognises it; closed on exec again.
///
/// To be called before this program opens anything that it keeps, once for each number.
pub fn take(number: RawFd, is_it: impl FnOnce(&OwnedFd) -> bool) -> Option<OwnedFd> {
    // SAFETY: fcntl with F_GETFD takes no pointer and changes nothing.
    if number <= 2 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the number is open and, by the contract above, nobody in this program owns it: it was open before main.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if is_it(&fd) && close_on_exec(&fd).is_ok() {
        return Some(fd);
    }
    // Somebody else's, against the contract: left as it is, not closed.
    let _left = std::os::fd::IntoRawFd::into_raw_fd(fd);
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn what_was_left_open_is_taken_if_it_is_the_right_one() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = leave_open(&file).unwrap();
        assert_eq!(file.into_raw_fd(), number);
        assert!(take(number, |_| false).is_none());
        let fd = take(number, |_| true).unwrap();
        let flags = fcntl(&fd, FcntlArg::F_GETFD).unwrap();
        assert_eq!(FdFlag::from_bits_truncate(flags), FdFlag::FD_CLOEXEC);
        assert!(take(1_000_000, |_| true).is_none(), "not open");
    }
}
