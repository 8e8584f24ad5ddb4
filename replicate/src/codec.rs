//! Entries and trees as octets for the files of a set, and back.
//!
//! Numbers are big-endian, names and values preceded by their length. Whoever reads has checked a hash over all of it
//! before, so what does not decode was written by another version, or by a fault here.

use crate::manifest::{Entry, Hash, Kind};
use crate::path::RelPath;
use crate::ports::Position;
use std::io;
use std::sync::Arc;
use vipd_core::types::Epoch;

/// Octets that are no such thing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Octets that are handed on at once.
const PIECE: usize = 64 * 1024;

/// Takes octets that were collected, a piece after the other.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Collects octets.
#[derive(Debug, Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    /// Hands on what was collected, once it is worth it: what is written as a whole need not be in memory as a whole.
    pub(crate) fn hand_on(&mut self, sink: Sink<'_>) -> io::Result<()> {
        if self.0.len() < PIECE { Ok(()) } else { self.hand_on_rest(sink) }
    }
    /// The same with whatever is left.
    pub(crate) fn hand_on_rest(&mut self, sink: Sink<'_>) -> io::Result<()> {
        sink(&self.0)?;
        self.0.clear();
        Ok(())
    }
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }
    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_be_bytes());
    }
    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend(value.to_be_bytes());
    }
    /// At most 4 GiB, as everything here.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend(value);
    }
    pub(crate) fn path(&mut self, path: &RelPath) {
        self.0.extend(path.root().to_be_bytes());
        self.bytes(path.as_bytes());
    }
    pub(crate) fn position(&mut self, position: Position) {
        self.u64(position.epoch.number);
        self.u8(position.epoch.host);
        self.u64(position.generation);
    }
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.path(&entry.path);
        match &entry.kind {
            Kind::File { size, hash } => {
                self.u8(0);
                self.u64(*size);
                self.0.extend(hash);
            }
            Kind::Folder => self.u8(1),
            Kind::Link { target } => {
                self.u8(2);
                self.bytes(target);
            }
        }
        self.u32(entry.mode);
        self.u32(entry.uid);
        self.u32(entry.gid);
        self.i64(entry.mtime_ns);
        self.u32(u32::try_from(entry.xattrs.len()).unwrap_or(u32::MAX));
        for (name, value) in &entry.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }
}

/// Reads octets.
#[derive(Debug)]
pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }
    pub(crate) fn hash(&mut self) -> Result<Hash, Malformed> {
        self.array()
    }
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }
    pub(crate) fn path(&mut self) -> Result<RelPath, Malformed> {
        let root = u16::from_be_bytes(self.array()?);
        RelPath::new(root, self.bytes()?).map_err(|_| Malformed)
    }
    pub(crate) fn position(&mut self) -> Result<Position, Malformed> {
        let epoch = Epoch { number: self.u64()?, host: self.u8()? };
        Ok(Position { epoch, generation: self.u64()? })
    }
    pub(crate) fn entry(&mut self) -> Result<Arc<Entry>, Malformed> {
        let path = self.path()?;
        let kind = match self.u8()? {
            0 => Kind::File { size: self.u64()?, hash: self.hash()? },
            1 => Kind::Folder,
            2 => Kind::Link { target: self.bytes()?.to_vec() },
            _ => return Err(Malformed),
        };
        let (mode, uid, gid) = (self.u32()?, self.u32()?, self.u32()?);
        let mtime_ns = self.i64()?;
        let mut xattrs = Vec::new();
        for _ in 0..self.u32()? {
            xattrs.push((self.bytes()?.to_vec(), self.bytes()?.to_vec()));
        }
        Ok(Arc::new(Entry { path, kind, mode, uid, gid, mtime_ns, xattrs }))
    }
}
