//! Lengths of time as an operator writes them: `10ms`, `1s`, `40.95s`, `2m`, `1h`.
//!
//! Used by the reading room of `config`, and by the command line. Exact: no floating point.

use crate::time::Duration;

/// Units, longest spelling of a shared ending first (`ms` ends in `s`).
const UNITS: [(&str, u64); 4] =
    [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

/// `text` as a length of time: a decimal number and one of `ms`, `s`, `m`, `h`, nothing between them.
/// `None` when it is anything else, finer than a nanosecond or too long for 64 bits of nanoseconds.
pub fn parse(text: &str) -> Option<Duration> {
    let (number, unit) =
        UNITS.iter().find_map(|(name, nanos)| Some((text.strip_suffix(name)?, *nanos)))?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let mut nanos = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes().map(|b| u64::from(b - b'0')) {
        // A digit below a nanosecond must be zero, else the value would be rounded.
        if scale % 10 != 0 && digit != 0 {
            return None;
        }
        scale /= 10;
        nanos = nanos.checked_add(digit * scale)?;
    }
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_exactly() {
        for (text, nanos) in [
            ("10ms", 10_000_000),
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("40.95s", 40_950_000_000),
            ("0.25s", 250_000_000),
            ("1.5m", 90_000_000_000),
            ("2h", 7_200_000_000_000),
            ("1.000000001s", 1_000_000_001),
            ("1.0000000010s", 1_000_000_001),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_length_of_time() {
        for text in [
            "",
            "s",
            "ms",
            "1",
            "1.s",
            ".5s",
            "1 s",
            "-1s",
            "+1s",
            "1e3s",
            "1us",
            "1sec",
            "1,5s",
            "1.2.3s",
            "1.0000000001s",
            "99999999999999999999s",
            "6000000h",
            "١s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
