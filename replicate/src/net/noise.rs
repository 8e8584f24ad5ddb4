//! Who may speak, and octets that nobody else reads or changes: `Noise_NNpsk0_25519_AESGCM_BLAKE2s`.
//!
//! Called by the link. The key shared by the cluster proves that both sides belong to it, fresh keys on both sides
//! that what was recorded stays secret when it leaks later. A host that holds the key is believed the name it says.
//!
//! On the stream, first from the side that connects, then from the other:
//!
//! | Octets | Field |
//! |---|---|
//! | 4 | magic `vipr` |
//! | 1 | format of the speaker |
//! | 1 | oldest format that it understands |
//! | 2 | length of the handshake message |
//! | 48, 54 | handshake message; that of the answer carries the six octets above once more, authenticated |
//!
//! and after that records: length (2), and so many octets of Noise.

use super::clock;
use super::error::NetError;
use super::link::Stream;
use super::wire::{FORMAT, OLDEST};
use hkdf::Hkdf;
use sha2::Sha256;
use snow::{Builder, HandshakeState, StatelessTransportState};
use std::fmt;
use std::io;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use zeroize::Zeroizing;

/// Most octets of plain text in a record.
pub const MAX_PLAIN: usize = 65_535 - TAG;
/// Octets that a record adds to its plain text.
pub const RECORD_OVERHEAD: usize = 2 + TAG;
const TAG: usize = 16;
/// Records under one key; then both sides go on to the next, each direction by itself.
const REKEY_AFTER: u64 = 1 << 16;

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_BLAKE2s";
const PROLOGUE: &[u8] = b"vipd replicate";
const PREAMBLE: [u8; 6] = [b'v', b'i', b'p', b'r', FORMAT, OLDEST];
const CALL_LEN: usize = 48;
const ANSWER_LEN: usize = 48 + PREAMBLE.len();

/// The key of the links of one cluster.
#[derive(Clone)]
pub struct LinkKey(Zeroizing<[u8; 32]>);

impl LinkKey {
    /// The link key of the cluster named `cluster`, derived from its key (HKDF-SHA-256): two clusters with one key do
    /// not understand each other.
    pub fn derive(cluster_key: &[u8], cluster: &str) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(cluster.as_bytes()), cluster_key)
            .expand(b"vipd replicate 1", &mut *key)
            // invariant: 32 octets are within the 255 hash lengths of RFC 5869.
            .unwrap_or_else(|_| unreachable!("HKDF gives up to 8160 octets"));
        Self(key)
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(..)")
    }
}

/// The keys of one connection, both directions. One thread seals, another opens.
pub(super) struct Cipher(RwLock<StatelessTransportState>);

impl Cipher {
    /// Record number `number` of this direction, with its length in front, into `out`. `plain` has at most
    /// [`MAX_PLAIN`] octets.
    pub(super) fn seal(
        &self,
        number: u64,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), NetError> {
        if number > 0 && number.is_multiple_of(REKEY_AFTER) {
            self.0.write().unwrap_or_else(PoisonError::into_inner).rekey_outgoing();
        }
        let len = plain.len() + TAG;
        out.resize(2 + len, 0);
        out[..2].copy_from_slice(&(len as u16).to_be_bytes());
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.write_message(number, plain, &mut out[2..])
            .map_err(|_| NetError::Stopped("a record could not be sealed"))?;
        Ok(())
    }

    /// Opens record number `number` of the other direction.
    pub(super) fn open(
        &self,
        number: u64,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), NetError> {
        if number > 0 && number.is_multiple_of(REKEY_AFTER) {
            self.0.write().unwrap_or_else(PoisonError::into_inner).rekey_incoming();
        }
        out.resize(record.len(), 0);
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let len = keys.read_message(number, record, out).map_err(|_| NetError::Tampered(number))?;
        out.truncate(len);
        Ok(())
    }
}

/// The side that connects. `limit`: for the whole handshake.
pub(super) fn call(
    stream: &dyn Stream,
    key: &LinkKey,
    limit: Duration,
) -> Result<Cipher, NetError> {
    let io = Handshake::new(stream, limit);
    let mut noise = state(key, &PREAMBLE, true)?;
    io.say(&PREAMBLE, &mut noise, &[])?;
    let theirs = io.hear_preamble()?;
    let repeated = io.hear(&mut noise, ANSWER_LEN)?;
    if repeated != theirs {
        return Err(NetError::Key("the answer was changed on the way"));
    }
    finish(noise)
}

/// The side that is called. `limit`: for the whole handshake.
pub(super) fn answer(
    stream: &dyn Stream,
    key: &LinkKey,
    limit: Duration,
) -> Result<Cipher, NetError> {
    let io = Handshake::new(stream, limit);
    let theirs = match io.hear_preamble() {
        Err(error @ NetError::Format { .. }) => {
            // So that the other side can tell its operator.
            io.write(&PREAMBLE)?;
            return Err(error);
        }
        other => other?,
    };
    let mut noise = state(key, &theirs, false)?;
    io.hear(&mut noise, CALL_LEN)?;
    io.say(&PREAMBLE, &mut noise, &PREAMBLE)?;
    finish(noise)
}

fn state(key: &LinkKey, caller: &[u8], calls: bool) -> Result<HandshakeState, NetError> {
    let build = || {
        let prologue = [PROLOGUE, caller].concat();
        let builder = Builder::new(PATTERN.parse()?).prologue(&prologue)?.psk(0, &key.0)?;
        if calls { builder.build_initiator() } else { builder.build_responder() }
    };
    build().map_err(|_: snow::Error| NetError::Key("no random numbers from the system"))
}

fn finish(noise: HandshakeState) -> Result<Cipher, NetError> {
    let keys =
        noise.into_stateless_transport_mode().map_err(|_| NetError::Key("it did not end"))?;
    Ok(Cipher(RwLock::new(keys)))
}

/// A handshake on its stream, with the time that is left for it.
struct Handshake<'a> {
    stream: &'a dyn Stream,
    limit: Duration,
    until: Duration,
}

impl<'a> Handshake<'a> {
    fn new(stream: &'a dyn Stream, limit: Duration) -> Self {
        Self { stream, limit, until: clock::now() + limit }
    }

    fn say(
        &self,
        preamble: &[u8],
        noise: &mut HandshakeState,
        payload: &[u8],
    ) -> Result<(), NetError> {
        let mut message = [0; ANSWER_LEN];
        let len = noise
            .write_message(payload, &mut message)
            .map_err(|_| NetError::Key("no random numbers from the system"))?;
        let mut out = preamble.to_vec();
        out.extend((len as u16).to_be_bytes());
        out.extend(&message[..len]);
        self.write(&out)
    }

    fn hear(&self, noise: &mut HandshakeState, expected: usize) -> Result<Vec<u8>, NetError> {
        let mut len = [0; 2];
        self.read(&mut len)?;
        if usize::from(u16::from_be_bytes(len)) != expected {
            return Err(NetError::NotOurs);
        }
        let mut message = vec![0; expected];
        self.read(&mut message)?;
        let mut payload = vec![0; expected];
        let len = noise
            .read_message(&message, &mut payload)
            .map_err(|_| NetError::Key("it was made with another key"))?;
        payload.truncate(len);
        Ok(payload)
    }

    fn hear_preamble(&self) -> Result<[u8; PREAMBLE.len()], NetError> {
        let mut theirs = [0; PREAMBLE.len()];
        self.read(&mut theirs)?;
        let [a, b, c, d, format, oldest] = theirs;
        if [a, b, c, d] != PREAMBLE[..4] {
            return Err(NetError::NotOurs);
        }
        if oldest > FORMAT || format < OLDEST {
            return Err(NetError::Format { theirs: format, oldest, ours: FORMAT });
        }
        Ok(theirs)
    }

    /// The time that is left; the time of a whole handshake, not of a read, so that octets that trickle in do not help.
    fn left(&self) -> Result<Duration, NetError> {
        let left = self.until.saturating_sub(clock::now());
        if left < Duration::from_millis(1) {
            return Err(NetError::Slow(self.limit.as_millis() as u64));
        }
        Ok(left)
    }

    fn read(&self, mut into: &mut [u8]) -> Result<(), NetError> {
        while !into.is_empty() {
            let left = self.left()?;
            let doing = |error| NetError::io("reading the handshake", error);
            self.stream.set_read_timeout(left).map_err(doing)?;
            match self.stream.read(into) {
                Ok(0) => return Err(NetError::Key("the other host closed the connection")),
                Ok(len) => into = &mut into[len..],
                Err(error) if is_timeout(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(NetError::Key("the other host closed the connection"));
                }
                Err(error) => return Err(doing(error)),
            }
        }
        Ok(())
    }

    fn write(&self, mut octets: &[u8]) -> Result<(), NetError> {
        while !octets.is_empty() {
            self.left()?;
            match self.stream.write(octets) {
                Ok(len) => octets = &octets[len..],
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(NetError::io("writing the handshake", error)),
            }
        }
        Ok(())
    }
}

/// A time-out of the socket, or a signal: try again.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
