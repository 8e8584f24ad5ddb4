//! The HMAC trailer of adverts (draft-cassen-vrrp-auth-hmac, as keepalived 2.4.2 sends it).
//!
//! [`Signer`] is called by the virtual router for each advert that it sends, [`Verifier`] by
//! [`super::receive`]. Keys are never printed and leave no copy in freed memory.

mod keys;

pub(in crate::wire) use keys::hmac;
pub use keys::{KEY_LEN, KeyError, KeyRing, parse_key};

use super::vrrp::{self, HEADER_LEN};
use crate::config::model::HmacMode;
use crate::time::{Duration, Utc};
use crate::types::{Version, Vrid};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::net::IpAddr;

/// Length of the trailer in octets.
pub const TRAILER_LEN: usize = 28;
/// HMAC-SHA-256 cut to 128 bits: the only scheme there is.
const SCHEME: u8 = 1;
/// Octets of the trailer that the tag covers as they are; the tag follows.
const CLEAR_LEN: usize = 12;
const TAG_LEN: usize = TRAILER_LEN - CLEAR_LEN;

/// Why a trailer was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum TrailerError {
    /// Scheme is not 1, or reserved octets are not 0.
    Malformed,
    /// The time stamp is outside the window.
    Stale,
    /// No key with that id.
    UnknownKey,
    /// The tag does not verify.
    BadTag,
    /// The sequence number is not beyond the last one accepted from that sender.
    Replay,
    /// There is none, and one is required.
    Missing,
}

/// Appends trailers. One for each virtual router that sends.
#[derive(Clone, Debug)]
pub struct Signer {
    ring: KeyRing,
    window: Option<u64>,
    last: Option<u64>,
}

impl Signer {
    /// A signer with the active key of `ring`. `window` as for [`Verifier::new`]: how far the
    /// sequence may run ahead of the clock before it is set back.
    pub fn new(ring: KeyRing, window: Option<Duration>) -> Self {
        Self { ring, window: window.map(ticks), last: None }
    }

    /// Goes on after `before`, which signed for the same virtual router.
    pub fn go_on(&mut self, before: &Self) {
        self.last = before.last;
    }

    /// Appends the trailer to `message`; for IPv6 also writes the message checksum anew, over message
    /// and trailer, because that is what IPv6 covers.
    pub fn sign(
        &mut self,
        now: Utc,
        version: Version,
        vrid: Vrid,
        src: IpAddr,
        dst: IpAddr,
        message: &mut Vec<u8>,
    ) {
        let sequence = self.next(sequence_at(now));
        let mut clear = [0; CLEAR_LEN];
        clear[0] = SCHEME;
        clear[1] = self.ring.active();
        clear[4..].copy_from_slice(&sequence.to_be_bytes());
        let tag = input(self.ring.active_key(), version, vrid, src, message, &clear)
            .finalize()
            .into_bytes();
        message.extend(clear);
        message.extend(&tag[..TAG_LEN]);
        if let (IpAddr::V6(s), IpAddr::V6(d)) = (src, dst) {
            let pseudo = vrrp::pseudo_v6(s, d, message.len());
            vrrp::set_checksum(message, pseudo);
        }
    }

    fn next(&mut self, clock: u64) -> u64 {
        let next = match self.last {
            None => clock,
            Some(last) => {
                let ahead = distance(clock, last);
                // A clock that was corrected backwards: peers would find our stamps outside their
                // window for as long as we insist on the old sequence.
                let lost = self.window.is_some_and(|w| ahead > 0 && ahead as u64 >> 16 > w);
                if ahead < 0 || lost { clock } else { last.wrapping_add(1) }
            }
        };
        self.last = Some(next);
        next
    }
}

/// Checks trailers. One for each virtual router that receives.
#[derive(Clone, Debug)]
pub struct Verifier {
    ring: KeyRing,
    mode: HmacMode,
    window: Option<u64>,
    peers: usize,
    /// Least recently used first.
    marks: Vec<Mark>,
}

/// The last sequence number accepted from a sender.
#[derive(Copy, Clone, Debug)]
struct Mark {
    src: IpAddr,
    sequence: u64,
    at: Utc,
}

impl Verifier {
    /// A verifier for `ring`.
    ///
    /// `window`: how far a time stamp may be from our clock, `None` for the `monotonic` mode, in which
    /// only the sequence counts. `peers`: senders whose sequence is remembered, at least 1; beyond that
    /// the one not heard for longest is forgotten.
    pub fn new(ring: KeyRing, mode: HmacMode, window: Option<Duration>, peers: usize) -> Self {
        Self { ring, mode, window: window.map(ticks), peers: peers.max(1), marks: Vec::new() }
    }

    /// Goes on with what `before`, of the same virtual router, accepted: nothing of that is accepted again.
    pub fn go_on(&mut self, before: Self) {
        self.marks = before.marks;
        let excess = self.marks.len().saturating_sub(self.peers);
        self.marks.drain(..excess);
    }

    /// Is an advert without trailer acceptable?
    ///
    /// # Errors
    /// [`TrailerError::Missing`] where one is required.
    pub fn absent(&self) -> Result<(), TrailerError> {
        match self.mode {
            HmacMode::Enforce => Err(TrailerError::Missing),
            HmacMode::Permissive | HmacMode::ReceiveOnly => Ok(()),
        }
    }

    /// Checks the trailer that followed `message` and, if it is good, remembers its sequence number.
    /// True: the clocks differ by more than half the window, which is worth a warning.
    ///
    /// # Errors
    /// The first check that fails, in the order of [`TrailerError`].
    pub fn verify(
        &mut self,
        now: Utc,
        version: Version,
        vrid: Vrid,
        src: IpAddr,
        message: &[u8],
        trailer: &[u8; TRAILER_LEN],
    ) -> Result<bool, TrailerError> {
        let [scheme, id, 0, 0, s0, s1, s2, s3, s4, s5, s6, s7, tag @ ..] = *trailer else {
            return Err(TrailerError::Malformed);
        };
        if scheme != SCHEME {
            return Err(TrailerError::Malformed);
        }
        let sequence = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        // The counter in the low 16 bits is no time.
        let off = distance(sequence_at(now), sequence & !0xffff).unsigned_abs() >> 16;
        if self.window.is_some_and(|w| off > w) {
            return Err(TrailerError::Stale);
        }
        let key = self.ring.key(id).ok_or(TrailerError::UnknownKey)?;
        let clear = trailer.first_chunk::<CLEAR_LEN>().ok_or(TrailerError::Malformed)?;
        input(key, version, vrid, src, message, clear)
            .verify_truncated_left(&tag)
            .map_err(|_| TrailerError::BadTag)?;
        self.advance(now, src, sequence)?;
        Ok(self.window.is_some_and(|w| off > w / 2))
    }

    fn advance(&mut self, now: Utc, src: IpAddr, sequence: u64) -> Result<(), TrailerError> {
        if let Some(window) = self.window {
            // A mark that a wrong clock left behind would lock its sender out; outside the window the
            // time stamp alone keeps old adverts out.
            self.marks.retain(|m| now.0.abs_diff(m.at.0) <= window);
        }
        if let Some(i) = self.marks.iter().position(|m| m.src == src) {
            if distance(self.marks[i].sequence, sequence) <= 0 {
                return Err(TrailerError::Replay);
            }
            self.marks.remove(i);
        } else if self.marks.len() >= self.peers {
            self.marks.remove(0);
        }
        self.marks.push(Mark { src, sequence, at: now });
        Ok(())
    }
}

/// `d` in units of 2^-16 s, as [`Utc`] counts.
fn ticks(d: Duration) -> u64 {
    (d.as_secs() << 16) + (u64::from(d.subsec_nanos()) << 16) / 1_000_000_000
}

/// The sequence number of a time: 32 bits of seconds, 16 of fraction, a counter of 0.
fn sequence_at(now: Utc) -> u64 {
    now.0 << 16
}

/// The sender's time by the trailer that follows a message; not verified. For who only listens: `vipd doctor`.
pub fn stamped(trailer: &[u8]) -> Option<Utc> {
    let trailer: &[u8; TRAILER_LEN] = trailer.try_into().ok()?;
    let sequence: &[u8; 8] = trailer.get(4..CLEAR_LEN)?.try_into().ok()?;
    (trailer[0] == SCHEME).then(|| Utc(u64::from_be_bytes(*sequence) >> 16))
}

/// How far `b` is ahead of `a` in serial number arithmetic (RFC 1982): seconds wrap in 2106.
fn distance(a: u64, b: u64) -> i64 {
    b.wrapping_sub(a) as i64
}

/// The HMAC over what the tag covers: a prefix that binds family, version, virtual router and source,
/// the message with checksum 0, the trailer with tag 0.
fn input(
    key: &[u8],
    version: Version,
    vrid: Vrid,
    src: IpAddr,
    message: &[u8],
    clear: &[u8; CLEAR_LEN],
) -> Hmac<Sha256> {
    let mut prefix = [0; 20];
    match src {
        IpAddr::V4(a) => {
            prefix[0] = 4;
            prefix[4..8].copy_from_slice(&a.octets());
        }
        IpAddr::V6(a) => {
            prefix[0] = 6;
            prefix[4..].copy_from_slice(&a.octets());
        }
    }
    prefix[1] = version.get();
    prefix[2] = vrid.get();
    let (header, list) = message.split_at(message.len().min(HEADER_LEN));
    let mut header_clear = [0; HEADER_LEN];
    header_clear[..header.len()].copy_from_slice(header);
    header_clear[6..].fill(0);
    let mut mac = self::hmac(key);
    mac.update(&prefix);
    mac.update(&header_clear[..header.len()]);
    mac.update(list);
    mac.update(clear);
    mac.update(&[0; TAG_LEN]);
    mac
}

#[cfg(test)]
mod tests;
