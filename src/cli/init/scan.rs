//! Which VRIDs are used on an interface: listens for adverts, sends nothing.

use crate::sys::listen;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use vipd_core::types::Family;

/// Who sent adverts, by VRID.
pub(super) type Heard = BTreeMap<u8, BTreeSet<IpAddr>>;

/// Listens on `interface` for `time`.
///
/// # Errors
/// In words: the interface is not there, or the right to listen is missing.
pub(super) fn listen(interface: &str, time: Duration) -> Result<Heard, String> {
    let mut heard = Heard::new();
    let deaf = listen::listen(&[interface], time, |said| {
        // Version and type, then the VRID (RFC 9568 section 5.1).
        if let [0x21 | 0x31, vrid, ..] = said.message[..] {
            heard.entry(vrid).or_default().insert(said.src);
        }
    });
    let missing = |why: &io::Error| why.kind() == io::ErrorKind::PermissionDenied;
    if deaf.iter().any(|(.., why)| missing(why)) {
        return Err("no right to listen for protocol 112 (CAP_NET_RAW): run as root".into());
    }
    // A host may be without IPv6, or without IPv4 on that interface.
    match deaf.first() {
        Some((.., why)) if deaf.len() == Family::ALL.len() => Err(why.to_string()),
        _ => Ok(heard),
    }
}
