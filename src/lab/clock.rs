//! The one clock of a room: `CLOCK_MONOTONIC` as [`Instant`], the same in every namespace.
//!
//! Called by everything in the lab that stamps or waits. Never the time of day.

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use std::time::Duration;
use vipd_core::time::Instant;

/// What time it is.
#[must_use]
pub fn now() -> Instant {
    // invariant: CLOCK_MONOTONIC exists on every Linux, so that reading it cannot fail
    let t = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(TimeSpec::new(0, 0));
    let secs = u64::try_from(t.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec()).unwrap_or(0);
    Instant::from_nanos(secs * 1_000_000_000 + nanos)
}

/// Sleeps until `at`, through signals; returns at once when `at` has passed.
pub fn sleep_until(at: Instant) {
    let secs = i64::try_from(at.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = i64::try_from(at.as_nanos() % 1_000_000_000).unwrap_or(0);
    let request = TimeSpec::new(secs, nanos);
    let flags = ClockNanosleepFlags::TIMER_ABSTIME;
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &request) == Err(Errno::EINTR) {}
}

/// Milliseconds to the microsecond, as tables and JSON show them.
#[must_use]
pub fn millis(d: Duration) -> f64 {
    (d.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
