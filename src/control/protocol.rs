//! JSON lines, one request, one answer: `{"v":1,"verb":"status"}` -> `{"v":1,"status":{..}}`,
//! `{"v":1,"verb":"promote","instance":"web"}` -> `{"v":1,"done":"..."}`, or
//! `{"v":1,"error":{"code":"..","message":".."}}`.
//!
//! Parsing never fails silently: whatever arrives gets an answer that says what was wrong with it.

use super::status::Status;
use serde::{Deserialize, Serialize};

/// Version of the protocol; another one is answered with an error that names this one.
pub const VERSION: u32 = 1;
/// Longest request in octets, its newline included.
pub const LONGEST_REQUEST: usize = 64 * 1024;
/// Longest answer that a client reads, in octets.
pub const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// The status document.
    Status {},
    /// Claim: a standby that does not do so by itself, or one that is held.
    Promote {
        /// Which instance.
        instance: String,
    },
    /// The reason why moves were held was looked at.
    Ack {
        /// Which instance.
        instance: String,
    },
}

impl Verb {
    /// As it is written.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Status {} => "status",
            Self::Promote { .. } => "promote",
            Self::Ack { .. } => "ack",
        }
    }

    /// Does it change anything? Then only root and the group of administrators may.
    pub const fn changes(&self) -> bool {
        match self {
            Self::Status {} => false,
            Self::Promote { .. } | Self::Ack { .. } => true,
        }
    }
}

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// [`VERSION`].
    pub v: u32,
    /// What is asked.
    #[serde(flatten)]
    pub verb: Verb,
}

/// One line from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`].
    pub v: u32,
    /// What came of it.
    #[serde(flatten)]
    pub body: Body,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// The answer to [`Verb::Status`].
    Status(Box<Status>),
    /// It was ordered: a sentence for people.
    Done(String),
    /// Nothing was done.
    Error(Complaint),
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// Kinds of errors.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Not JSON, not an object, a field missing, unknown or of another type, an unknown verb.
    Malformed,
    /// Another version of the protocol.
    Version,
    /// More than [`LONGEST_REQUEST`] octets without a newline.
    TooLong,
    /// Too many connections; try again.
    Busy,
    /// No complete request in time.
    TimedOut,
    /// The agent cannot answer now: it is starting or stopping.
    Unavailable,
    /// Not by this user.
    Forbidden,
    /// It makes no sense here and now; the message says why.
    Refused,
}

impl Answer {
    /// An error.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self { v: VERSION, body: Body::Error(Complaint { code, message: message.into() }) }
    }

    /// The status document.
    pub fn status(status: Status) -> Self {
        Self { v: VERSION, body: Body::Status(Box::new(status)) }
    }

    /// It was ordered.
    pub fn done(text: impl Into<String>) -> Self {
        Self { v: VERSION, body: Body::Done(text.into()) }
    }

    /// As a line with its newline.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_else(|_| {
            // Only maps whose keys are no strings cannot be written, and none of ours is one.
            br#"{"v":1,"error":{"code":"unavailable","message":"the answer is not JSON"}}"#.to_vec()
        });
        line.push(b'\n');
        line
    }
}

/// The request in `line`, with or without its newline.
///
/// # Errors
/// The answer to send instead.
pub fn parse(line: &[u8]) -> Result<Request, Answer> {
    let malformed = |error: serde_json::Error| Answer::error(Code::Malformed, error.to_string());
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(line).map_err(malformed)?;
    // The version first: a later version may have fields that this one does not know.
    let v = fields.remove("v").unwrap_or_default();
    let v: u32 = serde_json::from_value(v)
        .map_err(|error| Answer::error(Code::Malformed, format!("field `v`: {error}")))?;
    if v != VERSION {
        let message = format!("version {v} was asked for, this agent speaks version {VERSION}");
        return Err(Answer::error(Code::Version, message));
    }
    let verb = serde_json::from_value(fields.into()).map_err(malformed)?;
    Ok(Request { v, verb })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;

    fn code(line: &[u8]) -> Code {
        match parse(line).unwrap_err().body {
            Body::Error(complaint) => complaint.code,
            Body::Status(_) | Body::Done(_) => panic!("no error"),
        }
    }

    #[test]
    fn understands_a_request() {
        let want = Request { v: 1, verb: Verb::Status {} };
        assert_eq!(parse(b"{\"v\":1,\"verb\":\"status\"}\n").unwrap(), want);
        assert_eq!(parse(&serde_json::to_vec(&want).unwrap()).unwrap(), want);
        let want = Request { v: 1, verb: Verb::Promote { instance: "web".into() } };
        let line = b"{\"v\":1,\"verb\":\"promote\",\"instance\":\"web\"}\n";
        assert_eq!(parse(line).unwrap(), want);
        assert_eq!(parse(&serde_json::to_vec(&want).unwrap()).unwrap(), want);
    }

    #[test]
    fn says_what_is_wrong() {
        for line in [
            b"".as_slice(),
            b"hello",
            b"[]",
            b"{}",
            b"{\"v\":\"1\",\"verb\":\"status\"}",
            b"{\"v\":1}",
            b"{\"v\":1,\"verb\":\"reboot\"}",
            b"{\"v\":1,\"verb\":\"promote\"}",
            b"{\"v\":1,\"verb\":\"ack\",\"instance\":[\"web\"]}",
            b"{\"v\":1,\"verb\":\"status\",\"instance\":\"web\"}",
            b"{\"v\":1,\"verb\":\"status\",\"sudo\":true}",
            b"{\"v\":1,\"verb\":\"status\"} {}",
            b"\xff\xfe\x00",
            b"{\"v\":-1,\"verb\":\"status\"}",
        ] {
            assert_eq!(code(line), Code::Malformed, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(code(b"{\"v\":2,\"word\":\"later\"}"), Code::Version);
    }

    #[test]
    fn deep_nesting_is_an_error_not_an_overflow() {
        let line = [b"{\"v\":".as_slice(), &b"[".repeat(60_000)].concat();
        assert_eq!(code(&line), Code::Malformed);
    }
}
