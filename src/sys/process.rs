//! What has to happen between fork and exec, and what only the parent of orphans can do.
//!
//! Called by `vipd exec` alone. Decides nothing: who runs as whom, and for how long, is told.

use nix::unistd::{Gid, Uid};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// As whom a program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// Supplementary groups.
    pub groups: Vec<Gid>,
}

/// Makes `command` start in a session (and so a process group) of its own, without any descriptor of this process but
/// 0 to 2, as `identity` where one is given, and makes the kernel kill it when this process dies.
pub fn detach(command: &mut Command, identity: Option<Identity>) {
    // SAFETY: the closure runs in the child between fork and exec. It allocates nothing, takes no lock and makes only
    // system calls that are async-signal-safe; what it needs was allocated before the fork and is only read.
    unsafe {
        command.pre_exec(move || {
            succeeded(libc::setsid())?;
            if let Some(identity) = &identity {
                let groups = identity.groups.as_slice();
                // Gid is a transparent wrapper of gid_t.
                succeeded(libc::setgroups(groups.len(), groups.as_ptr().cast()))?;
                succeeded(libc::setgid(identity.gid.as_raw()))?;
                succeeded(libc::setuid(identity.uid.as_raw()))?;
            }
            libc::umask(0o022);
            // After the change of user, which resets it.
            succeeded(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // At exec, not now: std reports a failed exec through a descriptor. Kernels before 5.11 lack the flag;
            // every descriptor that vipd opens has it by itself.
            let _ = libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
}

/// Makes this process the parent of every descendant whose own parent ends: nothing escapes by forking twice.
///
/// # Errors
/// On kernels that lack it (before 3.4).
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: sets an attribute of this process; takes no pointers.
    succeeded(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}

fn succeeded(returned: libc::c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
