//! The clocks of the host, read for the core, which has none.
//!
//! Called by the protocol thread once per turn and by everything that stamps an input.

use nix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;
use vipd_core::time::{Duration, Instant, Now, Utc};

/// `CLOCK_MONOTONIC`: nanoseconds since boot, without suspend.
pub fn monotonic() -> Instant {
    Instant::from_nanos(u64::try_from(read(ClockId::CLOCK_MONOTONIC)).unwrap_or(0))
}

/// Universal time in units of 2^-16 s, for the advert trailer alone.
pub fn utc() -> Utc {
    let nanos = u128::try_from(read(ClockId::CLOCK_REALTIME)).unwrap_or(0);
    Utc(u64::try_from((nanos << 16) / 1_000_000_000).unwrap_or(u64::MAX))
}

/// Both, read one after the other.
pub fn now() -> Now {
    Now { mono: monotonic(), utc: utc() }
}

/// Centiseconds on the clock with which the kernel stamps the lifetimes of addresses: its tick counter,
/// which starts near 0 at boot and is not quite `CLOCK_MONOTONIC` (0.25 s apart were seen). Wraps
/// after 497 days, as the stamps do.
pub fn tick_centis() -> u32 {
    static START: OnceLock<u32> = OnceLock::new();
    // SAFETY: a null pointer is allowed: the call then only returns the tick counter.
    let ticks = unsafe { libc::times(std::ptr::null_mut()) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "wraps, as the stamps do"
    )]
    let ticks = ticks as u32;
    ticks.wrapping_sub(*START.get_or_init(|| {
        let monotonic = u32::try_from(monotonic().as_nanos() / 10_000_000 % (1 << 32)).unwrap_or(0);
        tick_start(ticks, monotonic)
    }))
}

/// What the tick counter, in centiseconds, was at boot: 300 s before it wraps 32 bits of ticks, a length
/// of time that depends on the tick rate of the kernel. The rates that Linux offers lead to starts that
/// are hours apart: the right one makes the counter agree with the monotonic clock.
fn tick_start(ticks: u32, monotonic: u32) -> u32 {
    const RATES: [u64; 4] = [100, 250, 300, 1000];
    let start = |rate: u64| {
        let ticks = ((1u64 << 32) - 300 * rate) * 100 / rate;
        u32::try_from(ticks % (1 << 32)).unwrap_or(0)
    };
    let distance = |s: &u32| {
        let d = ticks.wrapping_sub(*s).wrapping_sub(monotonic);
        d.min(d.wrapping_neg())
    };
    RATES.map(start).into_iter().min_by_key(distance).unwrap_or(0)
}

/// Nanoseconds on `clock`; 0 where the kernel lacks it, which Linux does not for the two used here.
fn read(clock: ClockId) -> i128 {
    clock_gettime(clock)
        .map_or(0, |t| i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec()))
}

/// Turns the kernel's receive stamps, which are wall-clock time, into ages that cannot lie.
///
/// The wall clock may be stepped between arrival and reading. A datagram read now cannot have
/// arrived in the future, and not before the queue was last seen empty: the age is clamped to that.
#[derive(Debug)]
pub(crate) struct Ages {
    empty_at: Instant,
}

impl Ages {
    /// For a queue that is empty now.
    pub(crate) fn new() -> Self {
        Self { empty_at: monotonic() }
    }

    /// The queue was found empty.
    pub(crate) fn drained(&mut self) {
        self.empty_at = monotonic();
    }

    /// The queue was last found empty then.
    pub(crate) const fn empty_at(&self) -> Instant {
        self.empty_at
    }

    /// Age of a datagram with the wall-clock `stamp` in nanoseconds; zero without a stamp, the
    /// reading that claims least.
    pub(crate) fn of(&self, stamp: Option<i128>) -> Duration {
        stamp.map_or(Duration::ZERO, |s| {
            clamp(read(ClockId::CLOCK_REALTIME) - s, monotonic() - self.empty_at)
        })
    }
}

/// `age` in nanoseconds, kept within `0..=most`.
fn clamp(age: i128, most: Duration) -> Duration {
    Duration::from_nanos(u64::try_from(age.max(0)).unwrap_or(u64::MAX)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_negative_nor_older_than_the_empty_queue() {
        let most = Duration::from_millis(20);
        assert_eq!(clamp(-5, most), Duration::ZERO);
        assert_eq!(clamp(5_000_000, most), Duration::from_millis(5));
        assert_eq!(clamp(i128::MAX, most), most);
    }

    #[test]
    fn the_tick_clock_is_near_the_monotonic_clock() {
        let monotonic = monotonic().as_nanos() / 10_000_000 % (1 << 32);
        let apart = u64::from(tick_centis()).abs_diff(monotonic);
        assert!(apart < 500, "{apart} centiseconds apart");
    }

    #[test]
    fn the_start_of_the_tick_counter_is_found_for_each_rate() {
        // 1000 s after boot, 0.25 s ahead.
        for rate in [100u64, 250, 300, 1000] {
            let start = ((1u64 << 32) - 300 * rate) * 100 / rate;
            let ticks = ((start + 100_025) % (1 << 32)) as u32;
            assert_eq!(ticks.wrapping_sub(tick_start(ticks, 100_000)), 100_025, "at {rate} Hz");
        }
    }

    #[test]
    fn utc_has_seconds_in_the_upper_48_bits() {
        let system = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        assert!((utc().0 >> 16).abs_diff(system) <= 1);
    }
}
