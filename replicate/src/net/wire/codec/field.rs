//! Fields of bodies, as octets and back. None is longer than its limit, and none than what is there.

use super::*;
use crate::path::MAX_LEN;

/// `text` up to `most` octets, not within a character.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Octets with their length in two octets in front; callers keep below 65,536.
pub(super) fn short(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend((octets.len() as u16).to_be_bytes());
    out.extend_from_slice(octets);
}

pub(super) fn epoch(out: &mut Vec<u8>, epoch: Epoch) {
    out.extend(epoch.number.to_be_bytes());
    out.push(epoch.host);
}

pub(super) fn position(out: &mut Vec<u8>, at: Position) {
    epoch(out, at.epoch);
    out.extend(at.generation.to_be_bytes());
}

pub(super) fn path(out: &mut Vec<u8>, path: &RelPath) {
    out.extend(path.root().to_be_bytes());
    short(out, path.as_bytes());
}

/// Takes fields off a body; none is longer than what is there.
pub(in crate::net::wire) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(in crate::net::wire) const fn new(message: &'static str, rest: &'a [u8]) -> Self {
        Self { message, rest }
    }

    pub(in crate::net::wire) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn wrong(&self, what: &'static str) -> NetError {
        NetError::protocol(self.message, what)
    }

    pub(in crate::net::wire) fn take(&mut self, len: usize) -> Result<&'a [u8], NetError> {
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

    pub(in crate::net::wire) fn u8(&mut self) -> Result<u8, NetError> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(super) fn u16(&mut self) -> Result<u16, NetError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(in crate::net::wire) fn u32(&mut self) -> Result<u32, NetError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, NetError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, NetError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong("a flag that is neither 0 nor 1")),
        }
    }

    pub(super) fn hash(&mut self) -> Result<Hash, NetError> {
        self.array()
    }

    pub(super) fn epoch(&mut self) -> Result<Epoch, NetError> {
        Ok(Epoch { number: self.u64()?, host: self.u8()? })
    }

    pub(super) fn position(&mut self) -> Result<Position, NetError> {
        Ok(Position { epoch: self.epoch()?, generation: self.u64()? })
    }

    pub(super) fn short(&mut self, most: usize) -> Result<&'a [u8], NetError> {
        let len = usize::from(self.u16()?);
        if len > most {
            return Err(self.wrong("a field over its limit"));
        }
        self.take(len)
    }

    pub(super) fn text(&mut self, most: usize) -> Result<String, NetError> {
        let octets = self.short(most)?;
        let text = str::from_utf8(octets).map_err(|_| self.wrong("a text that is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(super) fn path(&mut self, entry: u32) -> Result<RelPath, NetError> {
        let root = self.u16()?;
        let name = self.short(MAX_LEN)?;
        RelPath::new(root, name).map_err(|bad| NetError::Path { entry, bad })
    }
}
