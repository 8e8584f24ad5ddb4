//! Offers, and why one is refused.

use super::field::{Reader, cut, epoch, position, short};
use super::*;

pub(super) fn write_offer(out: &mut Vec<u8>, offer: &Offered) {
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

pub(super) fn read_offer(r: &mut Reader<'_>) -> Result<Offered, NetError> {
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

pub(super) fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
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

pub(super) fn read_refusal(r: &mut Reader<'_>) -> Result<Refusal, NetError> {
    Ok(match r.u8()? {
        1 => Refusal::StaleEpoch(r.epoch()?),
        2 => Refusal::Diverged(r.position()?),
        3 => Refusal::Guard(r.text(MAX_TEXT)?),
        4 => Refusal::NotHere(r.text(MAX_TEXT)?),
        5 => Refusal::Disk(r.text(MAX_TEXT)?),
        _ => return Err(r.wrong("an unknown reason")),
    })
}
