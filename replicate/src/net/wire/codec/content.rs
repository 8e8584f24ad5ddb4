//! What is lacking and how large files are compared: lists of numbers, none longer than its limit.

use super::field::Reader;
use super::*;

pub(super) fn write_needs(out: &mut Vec<u8>, needs: &Needs) {
    out.push(u8::from(needs.last));
    for (entry, base) in &needs.files {
        out.extend(entry.to_be_bytes());
        out.push(u8::from(*base));
    }
}

pub(super) fn read_needs(r: &mut Reader<'_>) -> Result<Needs, NetError> {
    let last = r.flag()?;
    let files = read_list(r, MAX_NEEDS, |r| Ok((r.u32()?, r.flag()?)))?;
    Ok(Needs { files, last })
}

pub(super) fn write_withheld(out: &mut Vec<u8>, entries: &[u32]) {
    out.extend(entries.iter().flat_map(|entry| entry.to_be_bytes()));
}

pub(super) fn read_withheld(r: &mut Reader<'_>) -> Result<Vec<u32>, NetError> {
    read_list(r, MAX_NEEDS, Reader::u32)
}

pub(super) fn write_outline(out: &mut Vec<u8>, outline: &Outline) {
    out.extend(outline.entry.to_be_bytes());
    out.extend(outline.tags.iter().flat_map(|tag| tag.to_be_bytes()));
}

pub(super) fn read_outline(r: &mut Reader<'_>) -> Result<Outline, NetError> {
    Ok(Outline { entry: r.u32()?, tags: read_list(r, MAX_CHUNKS, Reader::u64)? })
}

pub(super) fn write_chunks(out: &mut Vec<u8>, chunks: &Chunks) {
    out.extend(chunks.entry.to_be_bytes());
    out.push(chunks.average);
    for (tag, len) in &chunks.list {
        out.extend(tag.to_be_bytes());
        out.extend(len.to_be_bytes());
    }
}

pub(super) fn read_chunks(r: &mut Reader<'_>) -> Result<Chunks, NetError> {
    let (entry, average) = (r.u32()?, r.u8()?);
    let list = read_list(r, MAX_CHUNKS, |r| Ok((r.u64()?, r.u32()?)))?;
    Ok(Chunks { entry, average, list })
}

/// A bit for each.
pub(super) fn write_lacks(out: &mut Vec<u8>, lacks: &[bool]) {
    out.extend((lacks.len() as u16).to_be_bytes());
    for eight in lacks.chunks(8) {
        out.push(eight.iter().rev().fold(0, |octet, bit| octet << 1 | u8::from(*bit)));
    }
}

pub(super) fn read_lacks(r: &mut Reader<'_>) -> Result<Vec<bool>, NetError> {
    let count = usize::from(r.u16()?);
    if count > MAX_CHUNKS {
        return Err(r.wrong("more chunks than a message has"));
    }
    let bits = r.take(count.div_ceil(8))?;
    Ok((0..count).map(|at| bits[at / 8] >> (at % 8) & 1 == 1).collect())
}

/// What is left of a body, as at most `most` of the same.
fn read_list<'a, T>(
    r: &mut Reader<'a>,
    most: usize,
    read: impl Fn(&mut Reader<'a>) -> Result<T, NetError>,
) -> Result<Vec<T>, NetError> {
    let mut list = Vec::new();
    while !r.is_empty() {
        if list.len() == most {
            return Err(r.wrong("too many in one message"));
        }
        list.push(read(r)?);
    }
    Ok(list)
}
