//! What every Prometheus client says of its process, under the usual names.

use super::metrics::{Out, in_bytes, in_seconds, plainly};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use std::fmt;
use std::fs;
use std::time::Duration;

/// Figures of this process; what the kernel does not tell is left out.
pub(super) fn encode(out: &mut Out<'_>) -> fmt::Result {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let spent = [usage.user_time(), usage.system_time()];
        let spent: f64 = spent.iter().map(|t| seconds(t.tv_sec(), t.tv_usec())).sum();
        out.counter(in_seconds("process_cpu", "Time on a processor, user and system."), spent)?;
    }
    if let Some(resident) = resident() {
        out.gauge(in_bytes("process_resident_memory", "Resident memory."), resident)?;
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them reads the folder.
        let open = u64::try_from(open.count()).unwrap_or(u64::MAX).saturating_sub(1);
        out.gauge(plainly("process_open_fds", "Open file descriptors."), open)?;
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        out.gauge(plainly("process_max_fds", "File descriptors that may be open."), soft)?;
    }
    if let Ok(threads) = fs::read_dir("/proc/self/task") {
        let threads = u64::try_from(threads.count()).unwrap_or(u64::MAX);
        out.gauge(plainly("process_threads", "Threads."), threads)?;
    }
    if let Some(started) = started() {
        out.gauge(in_seconds("process_start_time", "When it started, in Unix time."), started)?;
    }
    Ok(())
}

fn seconds(whole: i64, micros: i64) -> f64 {
    let part = |n: i64| Duration::from_micros(u64::try_from(n).unwrap_or(0)).as_secs_f64();
    part(whole.saturating_mul(1_000_000)) + part(micros)
}

/// Resident memory in octets.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?)
}

/// When the process started, in Unix time. From figures that the kernel keeps, not from the clock: a start is the same
/// number in every scrape, so that a change of it is another start.
fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may contain anything: state is the first, starttime the twentieth (proc(5)).
    let ticks: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?.max(1);
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted: u64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    let after_boot = Duration::from_millis(ticks.saturating_mul(1000) / per_second);
    Some((Duration::from_secs(booted) + after_boot).as_secs_f64())
}
