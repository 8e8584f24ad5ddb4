//! Bodies of messages.

use super::*;
use crate::manifest::Kind;
use crate::path::MAX_LEN;
use std::borrow::Cow;

/// Kinds of messages.
mod kind {
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
}

/// Kinds of entries.
const FILE: u8 = 1;
const FOLDER: u8 = 2;
const LINK: u8 = 3;

/// Octets of an entry beside its name, target and attributes, at most.
const ENTRY_FIXED: usize = 2 + 2 + 1 + 8 + 32 + 4 + 4 + 4 + 8 + 2;

/// Octets of `entry` in a message, at most; what [`BATCH`] is counted in.
pub fn entry_len(entry: &Entry) -> usize {
    let target = if let Kind::Link { target } = &entry.kind { 2 + target.len() } else { 0 };
    let xattrs: usize = entry.xattrs.iter().map(|(n, v)| 6 + n.len() + v.len()).sum();
    ENTRY_FIXED + entry.path.as_bytes().len() + target + xattrs
}

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
            Self::Hello(_) => kind::HELLO,
            Self::Welcome(_) => kind::WELCOME,
            Self::Ping => kind::PING,
            Self::Bye(_) => kind::BYE,
            Self::Offer(_) => kind::OFFER,
            Self::Entries(_) => kind::ENTRIES,
            Self::Gone(_) => kind::GONE,
            Self::Baseless => kind::BASELESS,
            Self::Needs(_) => kind::NEEDS,
            Self::Refused(_) => kind::REFUSED,
            Self::Files(_) => kind::FILES,
            Self::Outline(_) => kind::OUTLINE,
            Self::Chunks(_) => kind::CHUNKS,
            Self::Lacks(_) => kind::LACKS,
            Self::Data(_) => kind::DATA,
            Self::Sent => kind::SENT,
            Self::Abort => kind::ABORT,
            Self::Taken(..) => kind::TAKEN,
            Self::Current(_) => kind::CURRENT,
            Self::AskAgain => kind::ASK_AGAIN,
            Self::Withheld(_) => kind::WITHHELD,
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
            Self::Bye(text) => {
                short(&mut out, cut(text, MAX_TEXT).as_bytes());
            }
            Self::Offer(offer) => {
                write_offer(&mut out, offer);
            }
            Self::Entries(entries) => {
                for entry in entries {
                    write_entry(&mut out, entry);
                }
            }
            Self::Gone(paths) => {
                for path in paths {
                    write_path(&mut out, path);
                }
            }
            Self::Needs(needs) => {
                out.push(u8::from(needs.last));
                for (entry, base) in &needs.files {
                    out.extend(entry.to_be_bytes());
                    out.push(u8::from(*base));
                }
            }
            Self::Withheld(entries) => {
                out.extend(entries.iter().flat_map(|entry| entry.to_be_bytes()));
            }
            Self::Refused(refusal) => {
                write_refusal(&mut out, refusal);
            }
            // The bulk: not copied.
            Self::Files(body) | Self::Data(body) => return Cow::Borrowed(body),
            Self::Chunks(chunks) => {
                out.extend(chunks.entry.to_be_bytes());
                out.push(chunks.average);
                for (tag, len) in &chunks.list {
                    out.extend(tag.to_be_bytes());
                    out.extend(len.to_be_bytes());
                }
            }
            Self::Outline(outline) => {
                out.extend(outline.entry.to_be_bytes());
                out.extend(outline.tags.iter().flat_map(|tag| tag.to_be_bytes()));
            }
            Self::Lacks(lacks) => {
                out.extend((lacks.len() as u16).to_be_bytes());
                for eight in lacks.chunks(8) {
                    out.push(eight.iter().rev().fold(0, |octet, bit| octet << 1 | u8::from(*bit)));
                }
            }
            Self::Taken(at, root) => {
                position(&mut out, *at);
                out.extend(root);
            }
            Self::Current(current) => {
                position(&mut out, current.position);
                out.extend(current.pending_files.to_be_bytes());
                out.extend(current.pending_bytes.to_be_bytes());
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
        let r = &mut Reader::new(name_of(kind).ok_or(NetError::Unknown(kind))?, &body);
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
            kind::OFFER => Self::Offer(read_offer(r)?),
            kind::ENTRIES => {
                let mut entries = Vec::new();
                while !r.is_empty() {
                    entries.push(read_entry(r, entries.len() as u32)?);
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
            kind::NEEDS => {
                let last = r.flag()?;
                let mut files = Vec::new();
                while !r.is_empty() {
                    if files.len() == MAX_NEEDS {
                        return Err(r.wrong("too many in one message"));
                    }
                    files.push((r.u32()?, r.flag()?));
                }
                Self::Needs(Needs { files, last })
            }
            kind::WITHHELD => {
                let mut entries = Vec::new();
                while !r.is_empty() {
                    if entries.len() == MAX_NEEDS {
                        return Err(r.wrong("too many in one message"));
                    }
                    entries.push(r.u32()?);
                }
                Self::Withheld(entries)
            }
            kind::REFUSED => Self::Refused(read_refusal(r)?),
            kind::CHUNKS => {
                let (entry, average) = (r.u32()?, r.u8()?);
                let list = read_list(r, |r| Ok((r.u64()?, r.u32()?)))?;
                Self::Chunks(Chunks { entry, average, list })
            }
            kind::OUTLINE => {
                Self::Outline(Outline { entry: r.u32()?, tags: read_list(r, Reader::u64)? })
            }
            kind::LACKS => {
                let count = usize::from(r.u16()?);
                if count > MAX_CHUNKS {
                    return Err(r.wrong("more chunks than a message has"));
                }
                let bits = r.take(count.div_ceil(8))?;
                Self::Lacks((0..count).map(|at| bits[at / 8] >> (at % 8) & 1 == 1).collect())
            }
            kind::SENT => Self::Sent,
            kind::ABORT => Self::Abort,
            kind::TAKEN => Self::Taken(r.position()?, r.hash()?),
            kind::CURRENT => Self::Current(Current {
                position: r.position()?,
                pending_files: r.u64()?,
                pending_bytes: r.u64()?,
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

const fn name_of(kind: u8) -> Option<&'static str> {
    Some(match kind {
        kind::HELLO => "hello",
        kind::WELCOME => "welcome",
        kind::PING => "ping",
        kind::BYE => "bye",
        kind::OFFER => "offer",
        kind::ENTRIES => "entries",
        kind::GONE => "gone",
        kind::BASELESS => "baseless",
        kind::NEEDS => "needs",
        kind::REFUSED => "refused",
        kind::FILES => "files",
        kind::OUTLINE => "outline",
        kind::CHUNKS => "chunks",
        kind::LACKS => "lacks",
        kind::DATA => "data",
        kind::SENT => "sent",
        kind::ABORT => "abort",
        kind::TAKEN => "taken",
        kind::CURRENT => "current",
        kind::ASK_AGAIN => "ask-again",
        kind::WITHHELD => "withheld",
        _ => return None,
    })
}

/// `text` up to `most` octets, not within a character.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Octets with their length in two octets in front; callers keep below 65,536.
fn short(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend((octets.len() as u16).to_be_bytes());
    out.extend_from_slice(octets);
}

fn epoch(out: &mut Vec<u8>, epoch: Epoch) {
    out.extend(epoch.number.to_be_bytes());
    out.push(epoch.host);
}

fn position(out: &mut Vec<u8>, at: Position) {
    epoch(out, at.epoch);
    out.extend(at.generation.to_be_bytes());
}

fn write_path(out: &mut Vec<u8>, path: &RelPath) {
    out.extend(path.root().to_be_bytes());
    short(out, path.as_bytes());
}

fn write_offer(out: &mut Vec<u8>, offer: &Offered) {
    position(out, offer.position);
    let newest = &offer.lineage[offer.lineage.len().saturating_sub(MAX_LINEAGE)..];
    out.push(newest.len() as u8);
    for at in newest {
        position(out, *at);
    }
    out.extend(offer.root);
    out.push(u8::from(offer.base.is_some()));
    out.extend(offer.base.iter().flatten());
    for count in [offer.entries, offer.put, offer.gone] {
        out.extend(count.to_be_bytes());
    }
}

fn read_offer(r: &mut Reader<'_>) -> Result<Offered, NetError> {
    let position = r.position()?;
    let count = usize::from(r.u8()?);
    if count > MAX_LINEAGE {
        return Err(r.wrong("too long a lineage"));
    }
    let lineage = (0..count).map(|_| r.position()).collect::<Result<Vec<_>, _>>()?;
    let root = r.hash()?;
    let base = if r.flag()? { Some(r.hash()?) } else { None };
    let (entries, put, gone) = (r.u32()?, r.u32()?, r.u32()?);
    if entries > MAX_ENTRIES || put > entries || gone > MAX_ENTRIES {
        return Err(r.wrong("more entries than a set may have"));
    }
    if base.is_none() && (put != entries || gone != 0) {
        return Err(r.wrong("a whole manifest that is not whole"));
    }
    Ok(Offered { position, lineage, root, base, entries, put, gone })
}

fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    write_path(out, &entry.path);
    match &entry.kind {
        Kind::File { size, hash } => {
            out.push(FILE);
            out.extend(size.to_be_bytes());
            out.extend(hash);
        }
        Kind::Folder => out.push(FOLDER),
        Kind::Link { target } => {
            out.push(LINK);
            short(out, target);
        }
    }
    for number in [entry.mode, entry.uid, entry.gid] {
        out.extend(number.to_be_bytes());
    }
    out.extend(entry.mtime_ns.to_be_bytes());
    out.extend((entry.xattrs.len() as u16).to_be_bytes());
    for (name, value) in &entry.xattrs {
        short(out, name);
        out.extend((value.len() as u32).to_be_bytes());
        out.extend_from_slice(value);
    }
}

fn read_entry(r: &mut Reader<'_>, number: u32) -> Result<Entry, NetError> {
    let path = r.path(number)?;
    let kind = match r.u8()? {
        FILE => Kind::File { size: r.u64()?, hash: r.hash()? },
        FOLDER => Kind::Folder,
        LINK => {
            let target = r.short(MAX_TARGET)?;
            if target.is_empty() || target.contains(&0) {
                return Err(r.wrong("a link that points nowhere"));
            }
            Kind::Link { target: target.into() }
        }
        _ => return Err(r.wrong("an entry of an unknown kind")),
    };
    // Offsets within a file are signed in system calls.
    if matches!(kind, Kind::File { size, .. } if i64::try_from(size).is_err()) {
        return Err(r.wrong("a file that is larger than files can be"));
    }
    let (mode, uid, gid) = (r.u32()?, r.u32()?, r.u32()?);
    if mode > 0o7777 {
        return Err(r.wrong("permission bits above 07777"));
    }
    let mtime_ns = r.u64()?.cast_signed();
    let count = usize::from(r.u16()?);
    let mut xattrs = Vec::new();
    let mut octets = 0;
    for _ in 0..count {
        let name = r.short(MAX_NAME)?;
        let len = r.u32()? as usize;
        octets += name.len() + len;
        if octets > MAX_XATTRS_LEN || xattrs.len() == MAX_XATTRS {
            return Err(r.wrong("too many extended attributes"));
        }
        if name.is_empty() || name.contains(&0) {
            return Err(r.wrong("an extended attribute without a name"));
        }
        let pair = (name.to_vec(), r.take(len)?.to_vec());
        if xattrs.last().is_some_and(|(before, _): &(Vec<u8>, Vec<u8>)| *before >= pair.0) {
            return Err(r.wrong("extended attributes out of order"));
        }
        xattrs.push(pair);
    }
    Ok(Entry { path, kind, mode, uid, gid, mtime_ns, xattrs })
}

/// What is left of a body, as at most [`MAX_CHUNKS`] of the same.
fn read_list<'a, T>(
    r: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, NetError>,
) -> Result<Vec<T>, NetError> {
    let mut list = Vec::new();
    while !r.is_empty() {
        if list.len() == MAX_CHUNKS {
            return Err(r.wrong("too many in one message"));
        }
        list.push(read(r)?);
    }
    Ok(list)
}

fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    match refusal {
        Refusal::StaleEpoch(known) => {
            out.push(1);
            epoch(out, *known);
        }
        Refusal::Diverged(at) => {
            out.push(2);
            position(out, *at);
        }
        Refusal::Guard(text) => {
            out.push(3);
            short(out, cut(text, MAX_TEXT).as_bytes());
        }
        Refusal::NotHere(text) => {
            out.push(4);
            short(out, cut(text, MAX_TEXT).as_bytes());
        }
        Refusal::Disk(text) => {
            out.push(5);
            short(out, cut(text, MAX_TEXT).as_bytes());
        }
    }
}

fn read_refusal(r: &mut Reader<'_>) -> Result<Refusal, NetError> {
    Ok(match r.u8()? {
        1 => Refusal::StaleEpoch(r.epoch()?),
        2 => Refusal::Diverged(r.position()?),
        3 => Refusal::Guard(r.text(MAX_TEXT)?),
        4 => Refusal::NotHere(r.text(MAX_TEXT)?),
        5 => Refusal::Disk(r.text(MAX_TEXT)?),
        _ => return Err(r.wrong("an unknown reason")),
    })
}

/// Takes fields off a body; none is longer than what is there.
pub(super) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(message: &'static str, rest: &'a [u8]) -> Self {
        Self { message, rest }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    const fn wrong(&self, what: &'static str) -> NetError {
        NetError::protocol(self.message, what)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], NetError> {
        let (field, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| self.wrong("it ends within a field"))?;
        self.rest = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NetError> {
        let (field, rest) =
            self.rest.split_first_chunk().ok_or_else(|| self.wrong("it ends within a field"))?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn u8(&mut self) -> Result<u8, NetError> {
        self.array::<1>().map(|[octet]| octet)
    }

    fn u16(&mut self) -> Result<u16, NetError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, NetError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, NetError> {
        self.array().map(u64::from_be_bytes)
    }

    fn flag(&mut self) -> Result<bool, NetError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong("a flag that is neither 0 nor 1")),
        }
    }

    fn hash(&mut self) -> Result<Hash, NetError> {
        self.array()
    }

    fn epoch(&mut self) -> Result<Epoch, NetError> {
        Ok(Epoch { number: self.u64()?, host: self.u8()? })
    }

    fn position(&mut self) -> Result<Position, NetError> {
        Ok(Position { epoch: self.epoch()?, generation: self.u64()? })
    }

    fn short(&mut self, most: usize) -> Result<&'a [u8], NetError> {
        let len = usize::from(self.u16()?);
        if len > most {
            return Err(self.wrong("a field over its limit"));
        }
        self.take(len)
    }

    fn text(&mut self, most: usize) -> Result<String, NetError> {
        let octets = self.short(most)?;
        let text = str::from_utf8(octets).map_err(|_| self.wrong("a text that is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn path(&mut self, entry: u32) -> Result<RelPath, NetError> {
        let root = self.u16()?;
        let name = self.short(MAX_LEN)?;
        RelPath::new(root, name).map_err(|bad| NetError::Path { entry, bad })
    }
}
