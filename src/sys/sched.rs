//! Real-time scheduling of the calling thread and locked memory of the process.
//!
//! Called once at start by the protocol and the kernel thread. Not being allowed is a normal result:
//! the answer says what was granted, the runtime shows it and goes on.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::hint::black_box;
use std::io;
use vipd_core::time::Duration;

/// Stack touched in advance, so that no page fault meets the first packet, octets.
const STACK: usize = 128 << 10;

/// What the host granted; `Err` holds the kernel's reason with the fix.
pub type Granted = Result<(), String>;

/// Puts the calling thread into `SCHED_RR` at `priority` (1-99). Threads and programs that it starts
/// do not inherit that (`SCHED_RESET_ON_FORK`). `brake` bounds the CPU time that a real-time thread
/// of this process may use without sleeping: beyond it the kernel ends the process with `SIGXCPU`,
/// so that a bug cannot take the machine away; the lease then takes the addresses off.
///
/// # Errors
/// As text, when the host does not allow it.
pub fn real_time(priority: u8, brake: Duration) -> Granted {
    let micros = u64::try_from(brake.as_micros()).unwrap_or(u64::MAX);
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_RTTIME) {
        // Best effort: lowering a limit is always allowed.
        let _unlimited = setrlimit(Resource::RLIMIT_RTTIME, micros.min(hard), hard);
    }
    let param = libc::sched_param { sched_priority: i32::from(priority) };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 names the calling thread, and the pointer is to a live, initialised structure that
    // the kernel only reads.
    let rc = unsafe { libc::sched_setscheduler(0, policy, &raw const param) };
    if rc == 0 {
        return Ok(());
    }
    Err(format!(
        "real-time scheduling refused ({}): allow it with LimitRTPRIO={priority} or CAP_SYS_NICE; \
         the agent runs without",
        io::Error::last_os_error()
    ))
}

/// Keeps the pages of the process in memory as they are used, and touches the stack of the calling
/// thread.
///
/// # Errors
/// As text, when the host does not allow it.
pub fn lock_memory() -> Granted {
    touch_stack();
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: the call takes no pointers; it changes how pages are kept, not what they hold.
    let rc = unsafe { libc::mlockall(flags) };
    if rc == 0 {
        return Ok(());
    }
    Err(format!(
        "locking memory refused ({}): allow it with LimitMEMLOCK=infinity or CAP_IPC_LOCK; \
         the agent runs without",
        io::Error::last_os_error()
    ))
}

/// Faults the next pages of the stack in.
#[inline(never)]
fn touch_stack() {
    let mut pages = [0u8; STACK];
    for at in (0..STACK).step_by(4096) {
        pages[at] = 1;
    }
    black_box(&pages);
}
