//! Skew_Time and Active_Down_Interval (RFC 9568 section 6.1, RFC 3768 section 6.1), in nanoseconds: in whole
//! centiseconds the skew at 10 ms intervals would be 0 for everybody and all Backups would claim together.

use crate::time::Duration;
use crate::types::{Interval, Version};

/// Skew_Time of a host with `priority` (1-255).
///
/// Version 3: (256 - priority) x Active_Adver_Interval / 256. Version 2: (256 - priority) / 256 s.
pub fn skew(version: Version, priority: u8, active_interval: Interval) -> Duration {
    let unit = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => active_interval.duration(),
    };
    unit * (256 - u32::from(priority)) / 256
}

/// Active_Down_Interval: 3 x Active_Adver_Interval + Skew_Time.
pub fn active_down(version: Version, priority: u8, active_interval: Interval) -> Duration {
    active_interval.duration() * 3 + skew(version, priority, active_interval)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The reference values of protocol.md section 2 (V35).
    #[test]
    fn reference_values() {
        let cs = |n| Interval::from_centis(n).unwrap();
        let us = |d: Duration| d.as_nanos() as f64 / 1000.0;
        assert_eq!(us(skew(Version::V3, 100, cs(100))), 609_375.0);
        assert_eq!(us(active_down(Version::V3, 100, cs(100))), 3_609_375.0);
        assert_eq!(us(skew(Version::V3, 100, cs(1))), 6_093.75);
        assert_eq!(us(active_down(Version::V3, 100, cs(1))), 36_093.75);
        assert_eq!(active_down(Version::V3, 100, cs(4095)).as_micros(), 147_803_906);
        let five = Interval::from_secs(5).unwrap();
        assert_eq!(us(skew(Version::V2, 100, five)), 609_375.0);
        assert_eq!(us(active_down(Version::V2, 100, five)), 15_609_375.0);
    }
}
