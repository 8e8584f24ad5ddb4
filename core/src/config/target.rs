//! What checks aim at, one value at a time: host and port, URL, HTTP statuses, names of units, processes
//! and domains.
//!
//! Used by `read_check` and, for where metrics are served, by `read`. Pure, like [`super::value`]; nothing is resolved or connected here.

use super::model::{DnsRecord, Listen};
use super::value::{self, Wrong};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use toml::de::DeValue;

/// Longest path of a unix socket (`sun_path` without its final NUL).
const UNIX_PATH_MAX: usize = 107;
/// Longest name of a process (`comm` without its final NUL).
const COMM_MAX: usize = 15;
/// Longest name of a systemd unit.
const UNIT_MAX: usize = 255;
/// Kinds of units that can be active.
const UNIT_ENDINGS: [&str; 9] =
    ["service", "socket", "target", "mount", "automount", "timer", "path", "swap", "scope"];

/// `192.0.2.1:443` or `[2001:db8::1]:443`.
pub(super) fn address_with_port(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let text = value::text(value)?;
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return reachable(addr);
    }
    Err(match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(addr)) => missing_port(text, &format!("[{addr}]")),
        Ok(IpAddr::V4(addr)) => missing_port(text, &addr.to_string()),
        Err(_) => Wrong::value(value),
    })
}

fn missing_port(text: &str, host: &str) -> Wrong {
    Wrong::because(format!("{text} has no port"), format!("write \"{host}:443\", with your port"))
}

/// As [`address_with_port`]; without a port it is 53.
pub(super) fn dns_server(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let text = value::text(value)?;
    let bare = || text.parse::<IpAddr>().map(|addr| SocketAddr::new(addr, 53));
    reachable(text.parse::<SocketAddr>().or_else(|_| bare()).map_err(|_| Wrong::value(value))?)
}

/// An address that somebody can listen at.
fn reachable(addr: SocketAddr) -> Result<SocketAddr, Wrong> {
    let kind = match addr.ip() {
        ip if ip.is_unspecified() => "the unspecified address",
        ip if ip.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        _ if addr.port() == 0 => "without a usable port: 0",
        _ => return Ok(addr),
    };
    Err(Wrong::because(format!("{addr} is {kind}"), "write the address and port of the service"))
}

/// A URL in its parts.
pub(super) struct Url {
    /// As written.
    pub(super) whole: Arc<str>,
    pub(super) tls: bool,
    /// Name or address, without brackets.
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// Host and port as written: the `Host` header.
    pub(super) authority: Arc<str>,
    /// Path and query, at least `/`.
    pub(super) path: Arc<str>,
}

/// `http://HOST[:PORT][/PATH][?QUERY]`, or https (RFC 9110 section 4.2). No user, no fragment.
pub(super) fn url(value: &DeValue<'_>) -> Result<Url, Wrong> {
    let text = value::text(value)?;
    let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(Wrong::value(value)),
    };
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Wrong::because(
            "a URL has no spaces and no letters beyond ASCII",
            "write such characters as %XX, names of hosts in their xn-- form",
        ));
    }
    if text.contains('#') {
        return Err(Wrong::because(
            "what follows a # is never sent to a server",
            "remove it from the URL",
        ));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Wrong::because(
            "a user in a URL is not supported",
            "remove it, and check a path that needs no password",
        ));
    }
    let default_port = if tls { 443 } else { 80 };
    let (host, port) = host_and_port(authority, default_port).ok_or_else(|| Wrong::value(value))?;
    let path = match path.strip_prefix('?') {
        Some(_) => format!("/{path}"),
        None if path.is_empty() => "/".to_owned(),
        None => path.to_owned(),
    };
    Ok(Url {
        whole: text.into(),
        tls,
        host: host.into(),
        port,
        authority: authority.into(),
        path: path.into(),
    })
}

/// Host without brackets, and port.
fn host_and_port(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            return Some((host, port.map_or(Some(default_port), port_number)?));
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    is_host_name(host).then_some((host, port.map_or(Some(default_port), port_number)?))
}

fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// An IPv4 address, or labels of letters, digits, `-` and `_` (RFC 1123 section 2.1). A name whose last label
/// is a number is taken for an address, and must be one.
fn is_host_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let numeric = labels.clone().next_back().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if numeric {
        return text.parse::<std::net::Ipv4Addr>().is_ok();
    }
    text.len() <= 253 && labels.clone().all(is_label)
}

/// A host name or address: what a certificate is for.
pub(super) fn server_name(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = value::text(value)?;
    let legal = is_host_name(text) || text.parse::<Ipv6Addr>().is_ok();
    if legal { Ok(text.into()) } else { Err(Wrong::value(value)) }
}

/// The value of a `Host` header.
pub(super) fn host_header(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = value::text(value)?;
    if host_and_port(text, 80).is_some() { Ok(text.into()) } else { Err(Wrong::value(value)) }
}

/// A name in the domain name system; `.` is its root.
pub(super) fn domain_name(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = value::text(value)?;
    let numeric = text.parse::<std::net::Ipv4Addr>().is_ok();
    if text == "." || (is_host_name(text) && !numeric) {
        Ok(text.into())
    } else {
        Err(Wrong::value(value))
    }
}

/// Types of records by name.
pub(super) const RECORDS: [(&str, DnsRecord); 5] = [
    ("A", DnsRecord::A),
    ("AAAA", DnsRecord::Aaaa),
    ("SOA", DnsRecord::Soa),
    ("NS", DnsRecord::Ns),
    ("TXT", DnsRecord::Txt),
];

/// `200`, `"200"` or `"200-399"`.
pub(super) fn statuses(value: &DeValue<'_>) -> Result<(u16, u16), Wrong> {
    if let DeValue::Integer(_) = value {
        return value::integer(value, 100..=599).map(|status| (status, status));
    }
    let text = value::text(value)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|n| digits && (100..=599).contains(n))
    };
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(first), Some(last)) => Err(Wrong::because(
            format!("the range {text} runs backwards"),
            format!("write \"{last}-{first}\""),
        )),
        _ => Err(Wrong::value(value)),
    }
}

/// An HTTP method that needs no content.
pub(super) fn method(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = value::text(value)?;
    let legal = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase());
    if text == "CONNECT" || !legal { Err(Wrong::value(value)) } else { Ok(text.into()) }
}

/// Path of a unix socket.
pub(super) fn unix_path(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    value::path(value).and_then(|path| {
        let fits = path.as_os_str().len() <= UNIX_PATH_MAX;
        if fits { Ok(path) } else { Err(Wrong::value(value)) }
    })
}

/// Where metrics are served: an address of this host with a port, or a socket.
pub(super) fn listen(value: &DeValue<'_>) -> Result<Listen, Wrong> {
    let text = value::text(value)?;
    if text.starts_with('/') {
        return unix_path(value).map(Listen::Unix);
    }
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Err(Wrong::because(
            format!("{text} has no address"),
            format!("write \"127.0.0.1:{port}\": this host alone can ask"),
        ));
    }
    match text.parse::<SocketAddr>() {
        Ok(addr) if addr.ip().is_unspecified() || addr.ip().is_multicast() || addr.port() == 0 => {
            Err(Wrong::because(
                format!("{addr} is not one address of this host with a port"),
                "write \"127.0.0.1:9650\", or the address of this host in the management network",
            ))
        }
        Ok(addr) => Ok(Listen::Tcp(addr)),
        Err(_) => address_with_port(value).map(Listen::Tcp),
    }
}

/// Name of a systemd unit.
pub(super) fn unit(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = value::text(value)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    if text.is_empty() || text.len() > UNIT_MAX || !text.bytes().all(legal) {
        return Err(Wrong::value(value));
    }
    match text.rsplit_once('.') {
        Some((name, ending)) if !name.is_empty() && UNIT_ENDINGS.contains(&ending) => {
            Ok(text.into())
        }
        _ => Err(Wrong::because(
            format!("{text} does not end like the name of a unit"),
            format!("write \"{text}.service\", or one of: {}", UNIT_ENDINGS.join(", ")),
        )),
    }
}

/// Name of a process as the kernel keeps it.
pub(super) fn process(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = value::text(value)?;
    if text.len() > COMM_MAX && !text.contains(char::is_control) {
        let cut: String = text.chars().take(COMM_MAX).collect();
        return Err(Wrong::because(
            format!(
                "\"{}\" has more than {COMM_MAX} octets, and the kernel keeps no more",
                text.escape_debug()
            ),
            format!("write what /proc/PID/comm says, probably \"{cut}\""),
        ));
    }
    let legal = text.bytes().all(|b| b.is_ascii_graphic()) && !text.is_empty();
    if text.starts_with('/') && legal {
        return Err(Wrong::because(
            "a process is known by its name, not by its path",
            "write what /proc/PID/comm says, or use pid-file",
        ));
    }
    if legal { Ok(text.into()) } else { Err(Wrong::value(value)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn parsed(text: &str) -> Result<Url, Wrong> {
        url(&DeValue::String(text.into()))
    }

    #[test]
    fn takes_a_url_apart() {
        for (text, tls, host, port, authority, path) in [
            ("http://127.0.0.1/healthz", false, "127.0.0.1", 80, "127.0.0.1", "/healthz"),
            ("https://shop.example", true, "shop.example", 443, "shop.example", "/"),
            (
                "https://shop.example:8443?a=b/c",
                true,
                "shop.example",
                8443,
                "shop.example:8443",
                "/?a=b/c",
            ),
            ("http://[::1]:8080/a?b", false, "::1", 8080, "[::1]:8080", "/a?b"),
            ("http://[2001:db8::1]", false, "2001:db8::1", 80, "[2001:db8::1]", "/"),
            ("http://app_1/", false, "app_1", 80, "app_1", "/"),
        ] {
            let url = parsed(text).ok().unwrap();
            let got = (url.tls, &*url.host, url.port, &*url.authority, &*url.path);
            assert_eq!(got, (tls, host, port, authority, path), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_url_of_ours() {
        for text in [
            "",
            "ftp://a",
            "HTTP://a",
            "http:/a",
            "http://",
            "http:///x",
            "http://a:0/",
            "http://a:65536/",
            "http://a:+80/",
            "http://a:/",
            "http://u@a/",
            "http://a/#x",
            "http://a b/",
            "http://[::1/",
            "http://[::1]x/",
            "http://[127.0.0.1]/",
            "http://::1/",
            "http://1.2.3.4.5/",
            "http://300.1.1.1/",
            "http://-a/",
            "http://a..b/",
            "http://ä.example/",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
