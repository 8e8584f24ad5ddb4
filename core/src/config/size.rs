//! Numbers of octets as an operator writes them: `500MB`, `1GiB`; rates: `50MB/s`.
//!
//! Used by [`super::value`]. Exact: whole numbers only.

/// Units: decimal ones as networks and disks are sold, binary ones as memory is.
const UNITS: [(&str, u64); 8] = [
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// `text` as a number of octets: a whole number and a unit, nothing between them. `None`: anything else, or too much
/// for 64 bits.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (number, unit) =
        UNITS.iter().find_map(|(name, octets)| Some((text.strip_suffix(name)?, *octets)))?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units_exactly_and_refuses_the_rest() {
        for (text, octets) in [
            ("1kB", 1_000),
            ("50MB", 50_000_000),
            ("0GB", 0),
            ("1KiB", 1024),
            ("2GiB", 2 << 30),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(parse(text), Some(octets), "{text}");
        }
        for text in [
            "",
            "MB",
            "5",
            "5 MB",
            "5mb",
            "5K",
            "5B",
            "-5MB",
            "+5MB",
            "1.5GB",
            "5MBit",
            "99999999TB",
            "٥MB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
