//! Times that reach back before this boot: what flap control remembers over a restart.

use crate::time::{Duration, Instant, Now};

/// Milliseconds on the monotonic clock; negative: before its start.
pub type Stamp = i64;

/// `d` in whole milliseconds.
pub fn ms(d: Duration) -> Stamp {
    Stamp::try_from(d.as_millis()).unwrap_or(Stamp::MAX / 4)
}

/// `at` as a stamp.
pub fn stamp(at: Instant) -> Stamp {
    Stamp::try_from(at.as_nanos() / 1_000_000).unwrap_or(Stamp::MAX / 4)
}

/// The first instant that is not before `stamp`.
pub fn instant(stamp: Stamp) -> Instant {
    let nanos = u64::try_from(stamp).map_or(0, |ms| ms.saturating_mul(1_000_000));
    Instant::from_nanos(nanos)
}

fn utc_ms(now: Now) -> u64 {
    u64::try_from((u128::from(now.utc.0) * 1000) >> 16).unwrap_or(u64::MAX)
}

/// `stamp` in milliseconds since 1970.
pub fn to_utc(stamp: Stamp, now: Now) -> u64 {
    utc_ms(now).saturating_add_signed(stamp.saturating_sub(self::stamp(now.mono)))
}

/// The stamp of `utc`, milliseconds since 1970. What lies ahead, after a step of the clock, is now.
pub fn of_utc(utc: u64, now: Now) -> Stamp {
    let age = utc_ms(now).saturating_sub(utc);
    stamp(now.mono).saturating_sub(Stamp::try_from(age).unwrap_or(Stamp::MAX / 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Utc;

    #[test]
    fn there_and_back_over_a_reboot() {
        let early = Now { mono: Instant::from_millis(900_000), utc: Utc(1_700_000_000 << 16) };
        let later = Now { mono: Instant::from_millis(2000), utc: Utc(1_700_000_060 << 16) };
        let told = to_utc(880_000, early);
        assert_eq!(of_utc(told, early), 880_000);
        assert_eq!(of_utc(told, later), 2000 - 80_000);
        assert_eq!(of_utc(told + 10_000_000, later), 2000);
    }
}
