//! Entries of manifests.

use super::field::{self, Reader, short};
use super::*;
use crate::manifest::Kind;

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

pub(super) fn write(out: &mut Vec<u8>, entry: &Entry) {
    field::path(out, &entry.path);
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

pub(super) fn read(r: &mut Reader<'_>, number: u32) -> Result<Entry, NetError> {
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
