//! What ends a session or a handshake: each says where it happened and what to do about it.

use crate::path::BadPath;
use crate::ports::Refusal;
use std::io;

/// Why two hosts do not go on talking.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The handshake failed: another key, or no replicator at all.
    #[error(
        "the handshake failed ({0}): compare key-file and the name of the cluster on both hosts"
    )]
    Key(&'static str),
    /// What came first is not ours: some other program calls, or answers.
    #[error("this is no replicator of vipd: compare replicate-port on both hosts")]
    NotOurs,
    /// One of both is too old for the other.
    #[error(
        "the other host speaks format {theirs} and understands no older than {oldest}, this one speaks {ours}: \
         upgrade the older of them"
    )]
    Format {
        /// What the other speaks.
        theirs: u8,
        /// The oldest that it understands.
        oldest: u8,
        /// What this host speaks.
        ours: u8,
    },
    /// The handshake took too long.
    #[error(
        "the handshake took longer than {0} ms: the other host hangs, or the link is very slow"
    )]
    Slow(u64),
    /// A record on the link does not verify: changed on the way, or out of order.
    #[error("record {0} of the link does not verify: it was changed on the way")]
    Tampered(u64),
    /// Nothing came for too long, not even a ping.
    #[error("nothing was heard for {0} ms: the host is down or hangs, or the link is cut")]
    Silent(u64),
    /// The other side closed the connection.
    #[error("the other host closed the connection")]
    Closed,
    /// This side closed it: it stops, or a newer connection took its place.
    #[error("closed by this host: {0}")]
    Stopped(&'static str),
    /// The other side does not take this set at all.
    #[error("refused by the other host: {0}")]
    Refused(Refusal),
    /// The other side says why it ends.
    #[error("the other host ends the session: {0}")]
    Bye(String),
    /// A message breaks the protocol.
    #[error("message {message}: {what}; releases that do not fit, or a hostile sender")]
    Protocol {
        /// Which kind of message.
        message: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// A message of a kind that this release does not know.
    #[error("a message of the unknown kind {0}: upgrade this host")]
    Unknown(u8),
    /// A name that leads out of its root, or into the replicator's own folder.
    #[error("entry {entry} of a manifest: {bad}; a hostile sender")]
    Path {
        /// Which entry of its message, from 0.
        entry: u32,
        /// What is wrong with it.
        bad: BadPath,
    },
    /// The manifest is not the one that was offered.
    #[error(
        "the manifest does not hash to the root that was offered: damaged, or a hostile sender"
    )]
    Root,
    /// An entry that is too large to be sent.
    #[error("{path}: {what}: exclude it, or make it smaller")]
    Entry {
        /// Where.
        path: String,
        /// What is too large.
        what: &'static str,
    },
    /// Another host than the one that was called.
    #[error(
        "{asked} was called, {answered} answered: compare the addresses of the hosts in the configuration"
    )]
    Host {
        /// Who was meant.
        asked: String,
        /// Who it is.
        answered: String,
    },
    /// The socket.
    #[error("{doing}: {error}")]
    Io {
        /// What was tried, with the address where there is one.
        doing: String,
        /// What came of it.
        #[source]
        error: io::Error,
    },
}

impl NetError {
    pub(crate) fn io(doing: impl Into<String>, error: io::Error) -> Self {
        Self::Io { doing: doing.into(), error }
    }

    pub(crate) const fn protocol(message: &'static str, what: &'static str) -> Self {
        Self::Protocol { message, what }
    }

    /// Short name of the kind, for counters and for saying a thing once: `key`, `format`, `silent`, ...
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::NotOurs => "not-ours",
            Self::Format { .. } => "format",
            Self::Slow(_) => "slow",
            Self::Tampered(_) => "tampered",
            Self::Silent(_) => "silent",
            Self::Closed => "closed",
            Self::Stopped(_) => "stopped",
            Self::Refused(_) => "refused",
            Self::Bye(_) => "bye",
            Self::Protocol { .. } | Self::Unknown(_) => "protocol",
            Self::Path { .. } => "path",
            Self::Root => "root",
            Self::Entry { .. } => "entry",
            Self::Host { .. } => "host",
            Self::Io { .. } => "io",
        }
    }
}
