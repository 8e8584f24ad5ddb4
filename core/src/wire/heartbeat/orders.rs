//! Octets of what operators ordered: the end of an instance record, which releases without orders skip.
//!
//! One octet says which parts follow, in the order of its bits; nothing follows where nothing was ordered.

use super::codec::Reader;
use super::{Freeze, HeartbeatError, MoveAnswer, MoveRequest, Orders, Refusal};

/// Which parts follow.
mod part {
    pub(super) const REQUEST: u8 = 1 << 0;
    pub(super) const ANSWER: u8 = 1 << 1;
    pub(super) const FREEZE: u8 = 1 << 2;
    /// A request that holds, behind all that releases without it read.
    pub(super) const HOLDING: u8 = 1 << 3;
}

/// Flags of a request.
const FORCE: u8 = 1 << 0;
const PIN: u8 = 1 << 1;
const PREEMPTS: u8 = 1 << 2;
/// Flags of an answer.
const REFUSED: u8 = 1 << 0;
const READY: u8 = 1 << 1;

const REQUEST_LEN: usize = 8 + 8 + 4 + 1;
const ANSWER_LEN: usize = 8 + 8 + 1 + 1 + 4;
const FREEZE_LEN: usize = 4 + 4;

/// Longest of all.
pub(super) const MAX_LEN: usize = 1 + REQUEST_LEN + ANSWER_LEN + FREEZE_LEN;

impl Orders {
    /// Octets that [`Orders::write`] appends.
    pub(super) fn encoded_len(&self) -> usize {
        let parts = [
            (self.request.is_some(), REQUEST_LEN),
            (self.answer.is_some(), ANSWER_LEN),
            (self.freeze.is_some(), FREEZE_LEN),
        ];
        let len: usize = parts.into_iter().filter(|(there, _)| *there).map(|(_, len)| len).sum();
        if len == 0 { 0 } else { 1 + len }
    }

    /// Appends what is not a flag of the record.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let parts = [
            (part::REQUEST, self.request.is_some_and(|r| !r.hold)),
            (part::ANSWER, self.answer.is_some()),
            (part::FREEZE, self.freeze.is_some()),
            (part::HOLDING, self.request.is_some_and(|r| r.hold)),
        ];
        let parts =
            parts.into_iter().filter(|(_, there)| *there).fold(0, |all, (bit, _)| all | bit);
        if parts == 0 {
            return;
        }
        out.push(parts);
        if let Some(request) = self.request.filter(|r| !r.hold) {
            request.write(out);
        }
        if let Some(answer) = &self.answer {
            out.extend(answer.to.to_be_bytes());
            out.extend(answer.number.to_be_bytes());
            let refused = if answer.refusal.is_some() { REFUSED } else { 0 };
            out.push(refused | if answer.ready { READY } else { 0 });
            out.push(answer.refusal.map_or(0, |why| why as u8));
            out.extend(answer.ready_in_ms.to_be_bytes());
        }
        if let Some(freeze) = &self.freeze {
            out.extend(freeze.serial.to_be_bytes());
            out.extend(freeze.left_s.to_be_bytes());
        }
        if let Some(request) = self.request.filter(|r| r.hold) {
            request.write(out);
        }
    }

    /// Reads what [`Orders::write`] wrote; the flags are the record's.
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, HeartbeatError> {
        let mut orders = Self::default();
        if r.is_empty() {
            return Ok(orders);
        }
        let parts = r.u8()?;
        if parts & part::REQUEST != 0 {
            orders.request = Some(MoveRequest::read(r, false)?);
        }
        if parts & part::ANSWER != 0 {
            let (to, number, flags, why) = (r.u64()?, r.u64()?, r.u8()?, r.u8()?);
            let refusal = (flags & REFUSED != 0).then(|| Refusal::of(why));
            let (ready_in_ms, ready) = (r.u32()?, flags & READY != 0);
            orders.answer = Some(MoveAnswer { to, number, refusal, ready_in_ms, ready });
        }
        if parts & part::FREEZE != 0 {
            orders.freeze = Some(Freeze { serial: r.u32()?, left_s: r.u32()? });
        }
        if parts & part::HOLDING != 0 {
            orders.request = Some(MoveRequest::read(r, true)?);
        }
        Ok(orders)
    }
}

impl MoveRequest {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.to.to_be_bytes());
        out.extend(self.number.to_be_bytes());
        out.extend(self.left_ms.to_be_bytes());
        let flags = [(FORCE, self.force), (PIN, self.pin), (PREEMPTS, self.preempts)];
        let flags = flags.into_iter().filter(|(_, set)| *set);
        out.push(flags.fold(0, |all, (bit, _)| all | bit));
    }

    fn read(r: &mut Reader<'_>, hold: bool) -> Result<Self, HeartbeatError> {
        let (to, number, left_ms, flags) = (r.u64()?, r.u64()?, r.u32()?, r.u8()?);
        let is = |bit| flags & bit != 0;
        let (force, pin, preempts) = (is(FORCE), is(PIN), is(PREEMPTS));
        Ok(Self { to, number, left_ms, force, pin, preempts, hold })
    }
}

impl Refusal {
    /// Every reason that this release knows, by its number on the wire.
    const ALL: [Self; 12] = [
        Self::Other,
        Self::Unable,
        Self::Failing,
        Self::Drained,
        Self::Frozen,
        Self::Starting,
        Self::Stopping,
        Self::Activation,
        Self::Suppressed,
        Self::Deaf,
        Self::Vetoed,
        Self::Stale,
    ];

    fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_number() {
        for (number, why) in (0u8..).zip(Refusal::ALL) {
            assert_eq!((why as u8, Refusal::of(number)), (number, why));
        }
        assert_eq!(Refusal::of(200), Refusal::Other);
    }
}
