//! What time it is: of the machine, or as a test says.
//!
//! Handed to [`crate::set::Set::open`]; nothing else in this crate asks for the time, but for
//! what the kernel stamped on files. Wall-clock time names and ages what is
//! kept aside; everything that is shorter than an hour is measured on the monotonic clock.

use std::sync::Arc;

/// Two clocks.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> i64 + Send + Sync>,
    steady: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Clock {
    /// The clocks of the machine.
    pub fn system() -> Self {
        let read = |id| {
            let now = rustix::time::clock_gettime(id);
            now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
        };
        Self::new(
            move || read(rustix::time::ClockId::Realtime),
            move || u64::try_from(read(rustix::time::ClockId::Boottime)).unwrap_or(0) / 1_000_000,
        )
    }

    /// `wall`: nanoseconds since 1970 (UTC), may step; `steady`: milliseconds, never goes back.
    pub fn new(
        wall: impl Fn() -> i64 + Send + Sync + 'static,
        steady: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { wall: Arc::new(wall), steady: Arc::new(steady) }
    }

    /// Nanoseconds since 1970 (UTC).
    pub fn wall_ns(&self) -> i64 {
        (self.wall)()
    }

    /// Seconds since 1970 (UTC); 0 for a clock that stands before it.
    pub fn wall_s(&self) -> u64 {
        u64::try_from(self.wall_ns() / 1_000_000_000).unwrap_or(0)
    }

    /// Milliseconds of a clock that never goes back and counts while the machine sleeps.
    pub fn steady_ms(&self) -> u64 {
        (self.steady)()
    }
}

/// The clock that the kernel stamps files with, nanoseconds since 1970.
pub(crate) fn stamp_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({} ns)", self.wall_ns())
    }
}
