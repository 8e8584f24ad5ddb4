//! Kinds of messages: their numbers, their names, what they weigh.

use super::entry::entry_len;
use super::*;

pub(super) const HELLO: u8 = 1;
pub(super) const WELCOME: u8 = 2;
pub(super) const PING: u8 = 3;
pub(super) const BYE: u8 = 4;
pub(super) const OFFER: u8 = 5;
pub(super) const ENTRIES: u8 = 6;
pub(super) const GONE: u8 = 7;
pub(super) const BASELESS: u8 = 8;
pub(super) const NEEDS: u8 = 9;
pub(super) const REFUSED: u8 = 10;
pub(super) const FILES: u8 = 11;
pub(super) const CHUNKS: u8 = 12;
pub(super) const LACKS: u8 = 13;
pub(super) const DATA: u8 = 14;
pub(super) const SENT: u8 = 15;
pub(super) const ABORT: u8 = 16;
pub(super) const TAKEN: u8 = 17;
pub(super) const CURRENT: u8 = 18;
pub(super) const ASK_AGAIN: u8 = 19;
pub(super) const WITHHELD: u8 = 20;
pub(super) const OUTLINE: u8 = 21;

impl Message {
    /// Its name in the protocol, for errors.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Ping => "ping",
            Self::Bye(_) => "bye",
            Self::Offer(_) => "offer",
            Self::Entries(_) => "entries",
            Self::Gone(_) => "gone",
            Self::Baseless => "baseless",
            Self::Needs(_) => "needs",
            Self::Refused(_) => "refused",
            Self::Files(_) => "files",
            Self::Outline(_) => "outline",
            Self::Chunks(_) => "chunks",
            Self::Lacks(_) => "lacks",
            Self::Data(_) => "data",
            Self::Sent => "sent",
            Self::Abort => "abort",
            Self::Taken(..) => "taken",
            Self::Current(_) => "current",
            Self::AskAgain => "ask-again",
            Self::Withheld(_) => "withheld",
        }
    }

    /// Its kind on the link.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Welcome(_) => WELCOME,
            Self::Ping => PING,
            Self::Bye(_) => BYE,
            Self::Offer(_) => OFFER,
            Self::Entries(_) => ENTRIES,
            Self::Gone(_) => GONE,
            Self::Baseless => BASELESS,
            Self::Needs(_) => NEEDS,
            Self::Refused(_) => REFUSED,
            Self::Files(_) => FILES,
            Self::Outline(_) => OUTLINE,
            Self::Chunks(_) => CHUNKS,
            Self::Lacks(_) => LACKS,
            Self::Data(_) => DATA,
            Self::Sent => SENT,
            Self::Abort => ABORT,
            Self::Taken(..) => TAKEN,
            Self::Current(_) => CURRENT,
            Self::AskAgain => ASK_AGAIN,
            Self::Withheld(_) => WITHHELD,
        }
    }

    /// Octets that it takes in memory, about.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Files(body) | Self::Data(body) => body.len(),
                Self::Entries(entries) => {
                    entries.iter().map(|e| size_of::<Entry>() + entry_len(e)).sum()
                }
                Self::Gone(paths) => paths.iter().map(|p| 24 + p.as_bytes().len()).sum(),
                Self::Needs(needs) => needs.files.len() * size_of::<(u32, bool)>(),
                Self::Outline(outline) => size_of_val(outline.tags.as_slice()),
                Self::Chunks(chunks) => size_of_val(chunks.list.as_slice()),
                Self::Lacks(lacks) => lacks.len(),
                Self::Withheld(entries) => size_of_val(entries.as_slice()),
                _ => 0,
            }
    }
}

/// The name of a kind.
pub(super) const fn name_of(kind: u8) -> Option<&'static str> {
    Some(match kind {
        HELLO => "hello",
        WELCOME => "welcome",
        PING => "ping",
        BYE => "bye",
        OFFER => "offer",
        ENTRIES => "entries",
        GONE => "gone",
        BASELESS => "baseless",
        NEEDS => "needs",
        REFUSED => "refused",
        FILES => "files",
        OUTLINE => "outline",
        CHUNKS => "chunks",
        LACKS => "lacks",
        DATA => "data",
        SENT => "sent",
        ABORT => "abort",
        TAKEN => "taken",
        CURRENT => "current",
        ASK_AGAIN => "ask-again",
        WITHHELD => "withheld",
        _ => return None,
    })
}
