//! What a measurement came to, in one line: which errors speak for the target, and which only for this host.
//!
//! Used by every measurement of this room. It must never let text of others (a script, a server) bring more than one
//! short line into logs and status.

use nix::errno::Errno;
use std::io;
use vipd_core::engine::io::Verdict;

/// Longest detail, characters.
const LONGEST: usize = 200;

/// Verdict and detail of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) detail: String,
}

impl Outcome {
    pub(super) fn new(verdict: Verdict, detail: impl AsRef<str>) -> Self {
        Self { verdict, detail: one_line(detail.as_ref()) }
    }

    pub(super) fn pass(detail: impl AsRef<str>) -> Self {
        Self::new(Verdict::Pass, detail)
    }

    pub(super) fn warn(detail: impl AsRef<str>) -> Self {
        Self::new(Verdict::Warn, detail)
    }

    pub(super) fn fail(detail: impl AsRef<str>) -> Self {
        Self::new(Verdict::Fail, detail)
    }

    pub(super) fn unknown(detail: impl AsRef<str>) -> Self {
        Self::new(Verdict::Unknown, detail)
    }

    /// The same, said of `what`.
    pub(super) fn about(self, what: impl std::fmt::Display) -> Self {
        Self::new(self.verdict, format!("{what}: {}", self.detail))
    }

    /// A network call about `what` failed: the target did not answer, unless it was this host that could not ask.
    pub(super) fn network(what: &str, e: &io::Error) -> Self {
        let verdict = if is_own_trouble(e) { Verdict::Unknown } else { Verdict::Fail };
        Self::new(verdict, format!("{what}: {}", words(e)))
    }
}

/// Is it this host that could not try: out of descriptors, memory, ports, or without the right to? A missing route, an
/// interface that is down and a refusal all say that the target is not reached, and that is what was asked.
pub(super) fn is_own_trouble(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOMEM
                | Errno::ENOBUFS
                | Errno::EAGAIN
                // A packet filter of this host.
                | Errno::EPERM
                // The source address is not here, or every local port is taken.
                | Errno::EADDRNOTAVAIL
                | Errno::EINVAL
                | Errno::EAFNOSUPPORT
                | Errno::EPROTONOSUPPORT
        )
    ) || matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::OutOfMemory)
}

/// The error without its number, beginning small: it stands in a sentence.
pub(super) fn words(e: &io::Error) -> String {
    let text = match e.raw_os_error() {
        Some(n) => Errno::from_raw(n).desc().to_owned(),
        None => e.to_string(),
    };
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // Not of an abbreviation.
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text,
    }
}

/// At most one short line without control characters.
pub(super) fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut out: String =
        line.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// A length of time for people, to three digits.
pub(super) fn span(d: std::time::Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        1000..120_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        120_000..172_800_000 => format!("{} min", ms / 60_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_this_host_lacks_says_nothing_of_the_target() {
        for (errno, verdict) in [
            (libc::EMFILE, Verdict::Unknown),
            (libc::ENFILE, Verdict::Unknown),
            (libc::ENOMEM, Verdict::Unknown),
            (libc::EADDRNOTAVAIL, Verdict::Unknown),
            (libc::ECONNREFUSED, Verdict::Fail),
            (libc::EHOSTUNREACH, Verdict::Fail),
            (libc::ENETUNREACH, Verdict::Fail),
            (libc::ENETDOWN, Verdict::Fail),
        ] {
            let outcome = Outcome::network("x", &io::Error::from_raw_os_error(errno));
            assert_eq!(outcome.verdict, verdict, "{errno}");
        }
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(Outcome::network("tcp a:1", &refused).detail, "tcp a:1: connection refused");
    }

    #[test]
    fn a_detail_is_one_short_line() {
        assert_eq!(one_line(" a\x1b[31mb\tc\nsecond"), "a [31mb c");
        assert_eq!(one_line(&"é".repeat(10_000)).chars().count(), LONGEST + 1);
        assert_eq!(one_line("\n\n"), "");
    }

    #[test]
    fn spans() {
        assert_eq!(span(Duration::from_millis(20)), "20 ms");
        assert_eq!(span(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(span(Duration::from_secs(7)), "7 s");
        assert_eq!(span(Duration::from_secs(600)), "10 min");
        assert_eq!(span(Duration::from_secs(14 * 86_400)), "14 d");
    }
}
