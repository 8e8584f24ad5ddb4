//! Bodies of messages: which fields each has, in which order. Fields, entries and lists have files of their own.

mod content;
mod entry;
mod field;
mod kind;
mod offer;

use super::*;
use field::{cut, epoch, position, short};
use std::borrow::Cow;

pub use entry::entry_len;
pub(super) use field::Reader;

impl Message {
    /// Its body. One that outgrows [`MAX_BODY`] is the fault of the caller, who batches.
    pub fn body(&self) -> Cow<'_, [u8]> {
        let mut out = Vec::new();
        match self {
            Self::Hello(hello) => {
                for text in [&hello.cluster, &hello.host, &hello.to, &hello.set] {
                    short(&mut out, cut(text, MAX_NAME).as_bytes());
                }
                out.extend(hello.digest);
                epoch(&mut out, hello.epoch);
            }
            Self::Welcome(welcome) => {
                short(&mut out, cut(&welcome.host, MAX_NAME).as_bytes());
                position(&mut out, welcome.position);
                out.extend(welcome.root);
            }
            Self::Bye(text) => short(&mut out, cut(text, MAX_TEXT).as_bytes()),
            Self::Offer(offer) => offer::write_offer(&mut out, offer),
            Self::Entries(entries) => {
                for entry in entries {
                    entry::write(&mut out, entry);
                }
            }
            Self::Gone(paths) => {
                for path in paths {
                    field::path(&mut out, path);
                }
            }
            Self::Needs(needs) => content::write_needs(&mut out, needs),
            Self::Withheld(entries) => content::write_withheld(&mut out, entries),
            Self::Refused(refusal) => offer::write_refusal(&mut out, refusal),
            // The bulk: not copied.
            Self::Files(body) | Self::Data(body) => return Cow::Borrowed(body),
            Self::Chunks(chunks) => content::write_chunks(&mut out, chunks),
            Self::Outline(outline) => content::write_outline(&mut out, outline),
            Self::Lacks(lacks) => content::write_lacks(&mut out, lacks),
            Self::Taken(at, root) => {
                position(&mut out, *at);
                out.extend(root);
            }
            Self::Current(current) => {
                position(&mut out, current.position);
                out.extend(current.behind.files.to_be_bytes());
                // Older releases read it as octets that are still to come: too careful, never too bold.
                out.extend(current.behind.ms.to_be_bytes());
            }
            Self::Ping | Self::Baseless | Self::Sent | Self::Abort | Self::AskAgain => {}
        }
        Cow::Owned(out)
    }

    /// Reads a message of `kind` out of its `body`.
    ///
    /// # Errors
    /// What is wrong with it; see [`NetError`].
    pub fn decode(kind: u8, body: Vec<u8>) -> Result<Self, NetError> {
        // Contents of files are the bulk of all traffic: not copied again.
        match kind {
            kind::FILES => return Ok(Self::Files(body)),
            kind::DATA => return Ok(Self::Data(body)),
            _ => {}
        }
        let r = &mut Reader::new(kind::name_of(kind).ok_or(NetError::Unknown(kind))?, &body);
        let message = match kind {
            kind::HELLO => Self::Hello(Hello {
                cluster: r.text(MAX_NAME)?,
                host: r.text(MAX_NAME)?,
                to: r.text(MAX_NAME)?,
                set: r.text(MAX_NAME)?,
                digest: r.hash()?,
                epoch: r.epoch()?,
            }),
            kind::WELCOME => Self::Welcome(Welcome {
                host: r.text(MAX_NAME)?,
                position: r.position()?,
                root: r.hash()?,
            }),
            kind::PING => Self::Ping,
            kind::BYE => Self::Bye(r.text(MAX_TEXT)?),
            kind::OFFER => Self::Offer(offer::read_offer(r)?),
            kind::ENTRIES => {
                let mut entries = Vec::new();
                while !r.is_empty() {
                    entries.push(Arc::new(entry::read(r, entries.len() as u32)?));
                }
                Self::Entries(entries)
            }
            kind::GONE => {
                let mut paths = Vec::new();
                while !r.is_empty() {
                    paths.push(r.path(paths.len() as u32)?);
                }
                Self::Gone(paths)
            }
            kind::BASELESS => Self::Baseless,
            kind::NEEDS => Self::Needs(content::read_needs(r)?),
            kind::WITHHELD => Self::Withheld(content::read_withheld(r)?),
            kind::REFUSED => Self::Refused(offer::read_refusal(r)?),
            kind::CHUNKS => Self::Chunks(content::read_chunks(r)?),
            kind::OUTLINE => Self::Outline(content::read_outline(r)?),
            kind::LACKS => Self::Lacks(content::read_lacks(r)?),
            kind::SENT => Self::Sent,
            kind::ABORT => Self::Abort,
            kind::TAKEN => Self::Taken(r.position()?, r.hash()?),
            kind::CURRENT => Self::Current(Current {
                position: r.position()?,
                behind: Behind { files: r.u64()?, ms: r.u64()? },
            }),
            kind::ASK_AGAIN => Self::AskAgain,
            _ => return Err(NetError::Unknown(kind)),
        };
        if !r.is_empty() {
            return Err(r.wrong("octets behind its end"));
        }
        Ok(message)
    }
}
