//! Keys of the advert trailer: how a key file is read, which keys are legal, which one signs.

use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use std::fmt;
use std::ops::RangeInclusive;
use zeroize::Zeroizing;

/// Legal lengths of a key in octets.
pub const KEY_LEN: RangeInclusive<usize> = 32..=64;

/// Why a key or a set of keys is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too short or too long.
    #[error("the key has {0} octets: make one of 32 to 64, for example with `vipd keygen`")]
    Length(usize),
    /// Hexadecimal with a digit too few.
    #[error("the key has an odd number of hexadecimal digits ({0}): one is missing or too many")]
    OddHex(usize),
    /// Key id 0.
    #[error("key id 0 is not legal: number the keys 1 to 255")]
    ZeroId,
    /// Two keys with one id.
    #[error("key id {0} is used twice: give each key an id of its own")]
    DuplicateId(u8),
    /// The active key is not there.
    #[error("the active key {0} is not among the keys: add it, or choose another one")]
    NoActive(u8),
}

/// Reads the contents of a key file: hexadecimal digits with white space around them, or else the key
/// itself, octet for octet.
///
/// # Errors
/// [`KeyError::Length`] outside [`KEY_LEN`]; [`KeyError::OddHex`].
pub fn parse_key(contents: &[u8]) -> Result<Vec<u8>, KeyError> {
    let digits = contents.trim_ascii();
    let key = if !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit) {
        let (pairs, odd) = digits.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(KeyError::OddHex(digits.len()));
        }
        // Exact capacity: a vector that grows leaves pieces of the key behind.
        let mut key = Vec::with_capacity(pairs.len());
        key.extend(pairs.iter().map(|&[high, low]| nibble(high) << 4 | nibble(low)));
        Zeroizing::new(key)
    } else {
        Zeroizing::new(contents.to_vec())
    };
    check_len(&key)?;
    Ok(key.to_vec())
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a' - 10),
    }
}

fn check_len(key: &[u8]) -> Result<(), KeyError> {
    if KEY_LEN.contains(&key.len()) { Ok(()) } else { Err(KeyError::Length(key.len())) }
}

/// The keys of an instance by id; several during a change of keys, one of them signs.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<(u8, Zeroizing<Vec<u8>>)>,
    /// Position in `keys`.
    active: usize,
}

impl KeyRing {
    /// A ring of `keys`, of which the one with id `active` signs.
    ///
    /// # Errors
    /// A key outside [`KEY_LEN`], an id that is 0 or used twice, `active` without a key.
    pub fn new(keys: Vec<(u8, Vec<u8>)>, active: u8) -> Result<Self, KeyError> {
        // First of all, so that refused keys are wiped as well.
        let keys: Vec<_> = keys.into_iter().map(|(id, key)| (id, Zeroizing::new(key))).collect();
        for (i, (id, key)) in keys.iter().enumerate() {
            if *id == 0 {
                return Err(KeyError::ZeroId);
            }
            if keys[..i].iter().any(|(other, _)| other == id) {
                return Err(KeyError::DuplicateId(*id));
            }
            check_len(key)?;
        }
        let active =
            keys.iter().position(|(id, _)| *id == active).ok_or(KeyError::NoActive(active))?;
        Ok(Self { keys, active })
    }

    /// Id of the key that signs.
    pub fn active(&self) -> u8 {
        self.keys[self.active].0
    }

    pub(super) fn active_key(&self) -> &[u8] {
        &self.keys[self.active].1
    }

    pub(super) fn key(&self, id: u8) -> Option<&[u8]> {
        self.keys.iter().find(|(other, _)| *other == id).map(|(_, key)| key.as_slice())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("ids", &self.keys.iter().map(|(id, _)| id).collect::<Vec<_>>())
            .field("active", &self.active())
            .finish_non_exhaustive()
    }
}

/// HMAC-SHA-256 with `key`; HMAC takes keys of any length.
pub(in crate::wire) fn hmac(key: &[u8]) -> Hmac<Sha256> {
    // invariant: HMAC has no illegal key length (RFC 2104 section 2).
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}
