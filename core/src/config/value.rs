//! One value of the file -> one typed value, or why not.
//!
//! Used by [`super::section`]. Every function is pure and looks at a single value; what values mean
//! together is decided in `check`.

use super::{duration, size};
use crate::time::Duration;
use crate::types::{Interval, Version, Vip};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use toml::de::DeValue;

/// Why a value was refused.
pub(super) enum Wrong {
    /// Not what the key takes; in words that go on "must be ..., not ...".
    Not(String),
    /// A reason and a fix of its own.
    Because(String, String),
}

impl Wrong {
    /// The value itself is the reason.
    pub(super) fn value(value: &DeValue<'_>) -> Self {
        Self::Not(describe(value))
    }

    pub(super) fn because(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Because(why.into(), fix.into())
    }
}

/// Most addresses that one range may stand for.
const RANGE_MAX: u32 = 16_384;

/// A value in few words.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(s) if s.chars().count() > 40 => {
            format!("\"{}...\"", s.chars().take(40).collect::<String>().escape_debug())
        }
        DeValue::String(s) => format!("\"{}\"", s.escape_debug()),
        DeValue::Integer(i) => i.to_string(),
        DeValue::Float(f) => f.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => format!("the date {d}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub(super) fn text<'d>(value: &'d DeValue<'_>) -> Result<&'d str, Wrong> {
    value.as_str().ok_or_else(|| Wrong::value(value))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| Wrong::value(value))
}

/// A whole number in `range`.
pub(super) fn integer<T>(value: &DeValue<'_>, range: RangeInclusive<i64>) -> Result<T, Wrong>
where
    T: TryFrom<i64>,
{
    let number = value.as_integer().and_then(|i| i64::from_str_radix(i.as_str(), i.radix()).ok());
    number
        .filter(|n| range.contains(n))
        .and_then(|n| T::try_from(n).ok())
        .ok_or_else(|| Wrong::value(value))
}

/// One of several words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Wrong> {
    let text = text(value)?;
    words.iter().find(|(w, _)| *w == text).map(|(_, t)| *t).ok_or_else(|| Wrong::value(value))
}

/// `"on"` or `"off"`.
pub(super) fn on_off(value: &DeValue<'_>) -> Result<bool, Wrong> {
    word(value, &[("on", true), ("off", false)])
}

/// A duration in `range`.
pub(super) fn duration(
    value: &DeValue<'_>,
    range: RangeInclusive<Duration>,
) -> Result<Duration, Wrong> {
    duration::parse(text(value)?).filter(|d| range.contains(d)).ok_or_else(|| Wrong::value(value))
}

/// A duration in `range`, or the word that stands for none.
pub(super) fn duration_or(
    value: &DeValue<'_>,
    range: RangeInclusive<Duration>,
    none: &str,
) -> Result<Option<Duration>, Wrong> {
    if value.as_str() == Some(none) { Ok(None) } else { duration(value, range).map(Some) }
}

/// A number of octets in `range`, as text with a unit or as a number.
pub(super) fn size(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
    let octets = match value {
        DeValue::String(text) => size::parse(text),
        _ => integer(value, 0..=i64::MAX).ok(),
    };
    octets.filter(|n| range.contains(n)).ok_or_else(|| Wrong::value(value))
}

/// A number of octets per second in `range`.
pub(super) fn rate(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
    match value {
        DeValue::String(text) => {
            let octets = text.strip_suffix("/s").and_then(size::parse);
            octets.filter(|n| range.contains(n)).ok_or_else(|| Wrong::value(value))
        }
        _ => size(value, range),
    }
}

/// An advertisement interval that `version` can carry.
pub(super) fn interval(value: &DeValue<'_>, version: Version) -> Result<Interval, Wrong> {
    let length = duration::parse(text(value)?).ok_or_else(|| Wrong::value(value))?;
    match version {
        Version::V2 => {
            if length.subsec_nanos() != 0 {
                return Err(Wrong::because(
                    format!("version 2 carries whole seconds, not {length:?}"),
                    format!(
                        "advert-interval = \"{}s\", or version = 3 on every host",
                        length.as_secs().saturating_add(1)
                    ),
                ));
            }
            let seconds = u8::try_from(length.as_secs()).ok();
            seconds.and_then(|s| Interval::from_secs(s).ok()).ok_or_else(|| Wrong::value(value))
        }
        Version::V3 => {
            let centis = u16::try_from(length.as_millis() / 10).ok();
            let interval = centis.and_then(|cs| Interval::from_centis(cs).ok());
            let interval = interval.ok_or_else(|| Wrong::value(value))?;
            if interval.duration() != length {
                return Err(Wrong::because(
                    format!("version 3 carries steps of 10ms, not {length:?}"),
                    "round the interval to a multiple of 10ms",
                ));
            }
            Ok(interval)
        }
    }
}

/// Is `name` fit to be the name of a cluster, host, instance, pool, check, hook or sync group: safe in file
/// names, labels of metrics and log lines?
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

pub(super) fn name(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = text(value)?;
    if is_name(text) { Ok(text.into()) } else { Err(Wrong::value(value)) }
}

/// A name that Linux accepts for a network interface.
pub(super) fn interface(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = text(value)?;
    let legal = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if (1..=15).contains(&text.len()) && text.chars().all(legal) && text != "." && text != ".." {
        Ok(text.into())
    } else {
        Err(Wrong::value(value))
    }
}

/// An absolute path without a control character.
pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let text = text(value)?;
    if text.len() > 1 && text.starts_with('/') && !text.contains(char::is_control) {
        Ok(text.into())
    } else {
        Err(Wrong::value(value))
    }
}

/// An absolute path of a file or folder, the root folder included.
pub(super) fn folder(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    if value.as_str() == Some("/") { Ok("/".into()) } else { path(value) }
}

/// A whole or broken number of percent, 0 to 100.
pub(super) fn percent(value: &DeValue<'_>) -> Result<f32, Wrong> {
    let number = match value {
        DeValue::Integer(_) => integer::<u8>(value, 0..=100).ok().map(f32::from),
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
        _ => None,
    };
    number.filter(|n| (0.0..=100.0).contains(n)).ok_or_else(|| Wrong::value(value))
}

/// A text of 1 to `max` octets without a NUL.
pub(super) fn free_text(value: &DeValue<'_>, max: usize) -> Result<Arc<str>, Wrong> {
    let text = text(value)?;
    let legal = (1..=max).contains(&text.len()) && !text.contains('\0');
    if legal { Ok(text.into()) } else { Err(Wrong::value(value)) }
}

/// Name of a user as Linux tools make them.
pub(super) fn user(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = text(value)?;
    let legal = text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if legal { Ok(text.into()) } else { Err(Wrong::value(value)) }
}

/// A password of version 2, zero-padded (RFC 2338 section 5.3.10).
pub(super) fn simple_text(value: &DeValue<'_>) -> Result<[u8; 8], Wrong> {
    let text = text(value)?.as_bytes();
    if !(1..=8).contains(&text.len()) || !text.iter().all(|b| (0x20..0x7f).contains(b)) {
        // The password itself stays out of messages, which end in logs.
        return Err(Wrong::Not(format!("one of {} octets", text.len())));
    }
    let mut padded = [0; 8];
    padded[..text.len()].copy_from_slice(text);
    Ok(padded)
}

/// The address of one interface of one host.
pub(super) fn unicast_address(value: &DeValue<'_>) -> Result<IpAddr, Wrong> {
    let addr = text(value)?.parse().map_err(|_| Wrong::value(value))?;
    refuse_special(addr)?;
    Ok(addr)
}

/// What no host can own: unspecified, loopback, multicast, broadcast, mapped.
fn refuse_special(addr: IpAddr) -> Result<(), Wrong> {
    let kind = match addr {
        _ if addr.is_unspecified() => "the unspecified address",
        _ if addr.is_loopback() => "a loopback address",
        _ if addr.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "in 0.0.0.0/8, which no host may use",
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => "in 240.0.0.0/4, which is reserved",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6 form",
        _ => return Ok(()),
    };
    Err(Wrong::because(format!("{addr} is {kind}"), "use a unicast address of the network"))
}

/// A prefix whose host bits are zero; a bare address is a host prefix.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<IpNet, Wrong> {
    let text = text(value)?;
    let net = match text.parse::<IpAddr>() {
        Ok(addr) => IpNet::from(addr),
        Err(_) => text.parse::<IpNet>().map_err(|_| Wrong::value(value))?,
    };
    if net.addr() != net.network() {
        let trunc = net.trunc();
        return Err(Wrong::because(
            format!("{net} has host bits set"),
            format!("write {trunc} for the network, or {} for the one address", net.addr()),
        ));
    }
    Ok(net)
}

/// A virtual address, or the virtual addresses of an IPv4 range (`192.0.2.100-111/24` or
/// `10.1.0.1-10.1.19.136/16`).
pub(super) fn virtual_addresses(value: &DeValue<'_>) -> Result<Vec<Vip>, Wrong> {
    let text = text(value)?;
    let (range, length) = match text.split_once('/') {
        Some((range, length)) => {
            let digits = length.bytes().all(|b| b.is_ascii_digit());
            let length = length.parse::<u8>().ok().filter(|_| digits);
            (range, Some(length.ok_or_else(|| Wrong::value(value))?))
        }
        None => (text, None),
    };
    let Some((first, last)) = range.split_once('-') else {
        let addr = range.parse().map_err(|_| match range.split_once('%') {
            Some((addr, scope)) => Wrong::because(
                format!("{text} names an interface"),
                format!("write {addr} here and interface = \"{scope}\" in the instance"),
            ),
            None => Wrong::value(value),
        })?;
        return Ok(vec![virtual_address(addr, length)?]);
    };
    let first: Ipv4Addr = first.parse().map_err(|_| Wrong::value(value))?;
    let last = last_of_range(first, last).ok_or_else(|| Wrong::value(value))?;
    let (from, to) = (u32::from(first), u32::from(last));
    if from > to {
        return Err(Wrong::because(
            format!("the range {text} runs backwards"),
            format!("write {last}-{first}"),
        ));
    }
    if to - from >= RANGE_MAX {
        return Err(Wrong::because(
            format!("the range {text} has {} addresses", u64::from(to - from) + 1),
            format!("one range holds at most {RANGE_MAX}: split it among instances"),
        ));
    }
    (from..=to).map(|addr| virtual_address(Ipv4Addr::from(addr).into(), length)).collect()
}

/// End of a range: a whole address, or the last octet alone.
fn last_of_range(first: Ipv4Addr, last: &str) -> Option<Ipv4Addr> {
    if last.contains('.') {
        return last.parse().ok();
    }
    let [a, b, c, _] = first.octets();
    let digits = !last.is_empty() && last.bytes().all(|x| x.is_ascii_digit());
    last.parse().ok().filter(|_| digits).map(|d| Ipv4Addr::new(a, b, c, d))
}

fn virtual_address(addr: IpAddr, length: Option<u8>) -> Result<Vip, Wrong> {
    refuse_special(addr)?;
    let host = if addr.is_ipv4() { 32 } else { 128 };
    let prefix_len = length.unwrap_or(host);
    if !(1..=host).contains(&prefix_len) {
        return Err(Wrong::because(
            format!("{addr}/{prefix_len} has no legal prefix length"),
            format!("the prefix length is that of the network, 1 to {host}"),
        ));
    }
    if let IpAddr::V4(v4) = addr
        && prefix_len <= 30
    {
        let host_bits = u32::MAX >> prefix_len;
        let what = match u32::from(v4) & host_bits {
            0 => "network",
            bits if bits == host_bits => "broadcast",
            _ => return Ok(Vip { addr, prefix_len }),
        };
        return Err(Wrong::because(
            format!("{addr} is the {what} address of its /{prefix_len}"),
            "use a host address of the network, or correct the prefix length",
        ));
    }
    Ok(Vip { addr, prefix_len })
}
