//! Small values, from keepalived's spelling to that of vipd.toml.
//!
//! Used by the rooms of `import`. Pure functions of one value each.

use crate::config::value;
use std::fmt::Write as _;

/// `text` as a TOML string.
pub(super) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// TOML strings as a list.
pub(super) fn strings<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let all: Vec<_> = texts.into_iter().map(string).collect();
    format!("[{}]", all.join(", "))
}

/// A name as a key of TOML: bare where that means the same.
pub(super) fn key(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { string(name) }
}

/// Milliseconds as a duration of vipd.toml, in quotes.
pub(super) fn duration(millis: u64) -> String {
    if millis.is_multiple_of(1000) {
        format!("\"{}s\"", millis / 1000)
    } else {
        format!("\"{millis}ms\"")
    }
}

/// Seconds with or without a fraction, in milliseconds; finer parts are cut off.
pub(super) fn millis(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    whole.checked_mul(1000)?.checked_add(thousandths.parse().ok()?)
}

/// A name that vipd takes, as near to `name` as can be.
pub(super) fn name(name: &str) -> String {
    if value::is_name(name) {
        return name.to_owned();
    }
    let legal = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let mapped: String = name.chars().map(legal).take(56).collect();
    let trimmed = mapped.trim_start_matches(['-', '_', '.']);
    if trimmed.is_empty() { "unnamed".to_owned() } else { trimmed.to_owned() }
}

/// The first of `wanted`, `wanted-2`, `wanted-3` ... that is not taken.
pub(super) fn unused(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2_u32..).map(|n| format!("{wanted}-{n}")).find(|name| !taken(name)).unwrap_or_default()
}

/// The words of a command as keepalived splits them: at white space, but not inside of single quotes.
pub(super) fn command(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut inside, mut quoted) = (false, false);
    for c in text.chars() {
        match c {
            '\'' => {
                inside = !inside;
                quoted = true;
            }
            c if c.is_whitespace() && !inside => {
                if !word.is_empty() || quoted {
                    words.push(std::mem::take(&mut word));
                }
                quoted = false;
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() || quoted {
        words.push(word);
    }
    words
}

/// A word as a shell reads it back.
pub(super) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_to_milliseconds() {
        assert_eq!(millis("1"), Some(1000));
        assert_eq!(millis("0.05"), Some(50));
        assert_eq!(millis(".5"), Some(500));
        assert_eq!(millis("1.23456"), Some(1234));
        assert_eq!(millis("-1"), None);
        assert_eq!(millis("."), None);
        assert_eq!(millis("99999999999999999999"), None);
        assert_eq!(duration(1500), "\"1500ms\"");
        assert_eq!(duration(60_000), "\"60s\"");
    }

    #[test]
    fn names_and_words() {
        assert_eq!(name("VI_1"), "VI_1");
        assert_eq!(name("_web front"), "web-front");
        assert_eq!(name("ÄÖ"), "unnamed");
        assert_eq!(unused("a", |n| n == "a" || n == "a-2"), "a-3");
        assert_eq!(command("/bin/sh -c 'a b' ''"), ["/bin/sh", "-c", "a b", ""]);
        assert_eq!(shell("it's"), "'it'\\''s'");
        assert_eq!(string("a\"\\\u{1}"), "\"a\\\"\\\\\\u0001\"");
    }
}
