//! What happens to a received VRRP datagram before the state machine sees it: the checks of RFC 9568
//! section 7.1 and RFC 3768 section 7.1, in an order that makes the counters exact.
//!
//! Called by the engine for every datagram. It neither logs nor changes any state but counters and
//! the replay marks of the trailer.

use super::auth::{TRAILER_LEN, TrailerError, Verifier};
use super::checksum::Sum;
pub use super::counters::{GlobalCounters, RouterCounters};
use super::vrrp::{self, Advert, HEADER_LEN};
use crate::config::model::ChecksumFlavour;
use crate::time::Utc;
use crate::types::{Family, Interval, Version, Vrid};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use subtle::ConstantTimeEq;

/// A datagram of protocol 112, as the socket delivered it from the right interface.
#[derive(Copy, Clone, Debug)]
pub struct Datagram<'a> {
    /// Family of the IP header.
    pub family: Family,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// What follows the IP header, trimmed to the IP length.
    pub payload: &'a [u8],
}

/// What one virtual router expects of adverts, and its counters.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its version.
    pub version: Version,
    /// Its family.
    pub family: Family,
    /// Its VRID.
    pub vrid: Vrid,
    /// Its advertised addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Its own advertisement interval.
    pub interval: Interval,
    /// Does this host own the addresses (priority 255)?
    pub owner: bool,
    /// Unicast: the senders to listen to; `None`: multicast.
    pub unicast_peers: Option<Vec<IpAddr>>,
    /// Version 2: the password, zero-padded; `None`: no authentication.
    pub simple_text: Option<[u8; 8]>,
    /// Discard adverts whose first IPv6 address is not link-local, instead of counting them.
    pub strict: bool,
    /// Compare the address list with ours.
    pub check_list: bool,
    /// Trailer; `None`: an advert with trailer is too long.
    pub verifier: Option<Verifier>,
    /// Counters of this virtual router.
    pub counters: RouterCounters,
}

/// An advert for the state machine, and what is worth a log line about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The advert.
    pub advert: Advert,
    /// Version 3: its interval is not ours.
    pub interval_mismatch: bool,
    /// Its address list is not ours.
    pub list_mismatch: bool,
    /// Its first IPv6 address is not link-local (RFC 9568 section 5.2.9).
    pub first_address_not_link_local: bool,
    /// Both the sender and this host say that they own the addresses (RFC 9568, erratum 8298).
    pub duplicate_owner: bool,
    /// Version 3 over IPv4: which reading of the checksum verified.
    pub flavour: Option<ChecksumFlavour>,
    /// A trailer was there and verified.
    pub authenticated: bool,
    /// The sender's clock is off by more than half the window of the trailer.
    pub stale_warning: bool,
}

/// Why a datagram was discarded.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not sent to the group or, unicast, not from a peer to us.
    Destination,
    /// Sent from an address of ours: looped back, or a duplicate address.
    OwnSource,
    /// TTL or hop limit is not 255.
    IpTtl,
    /// The length does not fit.
    Length,
    /// Not our version.
    Version,
    /// Not an advertisement.
    Type,
    /// Not a VRID of ours.
    Vrid,
    /// No address.
    AddrCountZero,
    /// The checksum does not verify.
    Checksum,
    /// Version 2: an authentication type that does not exist.
    AuthTypeUnknown,
    /// Version 2: not our authentication type.
    AuthTypeMismatch,
    /// Version 2: not our password.
    AuthFailure,
    /// The trailer was refused.
    Trailer(TrailerError),
    /// The first IPv6 address is not link-local.
    FirstAddressNotLinkLocal,
    /// Sent to the IPv6 group from an address that is not link-local.
    SourceNotLinkLocal,
    /// Interval 0.
    IntervalZero,
    /// Version 2: not our interval.
    IntervalMismatch,
    /// Version 2: not our addresses, and not from their owner.
    AddressListMismatch,
}

impl Reason {
    /// Name in events and in the conformance vectors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Destination => "destination-not-group",
            Self::OwnSource => "own-source-address",
            Self::IpTtl => "ip-ttl",
            Self::Length => "length",
            Self::Version => "version",
            Self::Type => "type",
            Self::Vrid => "vrid",
            Self::AddrCountZero => "addr-count-zero",
            Self::Checksum => "checksum",
            Self::AuthTypeUnknown => "auth-type-unknown",
            Self::AuthTypeMismatch => "auth-type-mismatch",
            Self::AuthFailure => "auth-failure",
            Self::Trailer(TrailerError::Malformed) => "trailer-malformed",
            Self::Trailer(TrailerError::Stale) => "trailer-stale",
            Self::Trailer(TrailerError::UnknownKey) => "trailer-unknown-key",
            Self::Trailer(TrailerError::BadTag) => "trailer-bad-tag",
            Self::Trailer(TrailerError::Replay) => "trailer-replay",
            Self::Trailer(TrailerError::Missing) => "trailer-missing",
            Self::FirstAddressNotLinkLocal => "first-address-not-link-local",
            Self::SourceNotLinkLocal => "source-not-link-local",
            Self::IntervalZero => "interval-zero",
            Self::IntervalMismatch => "interval-mismatch",
            Self::AddressListMismatch => "address-list-mismatch",
        }
    }

    /// Name of the counter that moves; `None`: none does.
    pub const fn counter(self) -> Option<&'static str> {
        Some(match self {
            Self::Destination | Self::OwnSource | Self::SourceNotLinkLocal => return None,
            Self::IpTtl => "ip-ttl-errors",
            Self::Length | Self::AddrCountZero => "packet-length-errors",
            Self::Version => "version-errors",
            Self::Type => "invalid-type-pkts-rcvd",
            Self::Vrid => "vrid-errors",
            Self::Checksum => "checksum-errors",
            Self::AuthTypeUnknown | Self::AuthTypeMismatch => "auth-type-errors",
            Self::AuthFailure => "auth-failures",
            Self::Trailer(_) => self.name(),
            Self::FirstAddressNotLinkLocal | Self::AddressListMismatch => "address-list-errors",
            Self::IntervalZero | Self::IntervalMismatch => "interval-errors",
        })
    }

    /// Moves the counter. TTL, version, VRID and checksum errors belong to the host (RFC 8347), the
    /// others to the virtual router that the VRID octet names, or to the host when it names none.
    fn count(self, global: &mut GlobalCounters, router: Option<&mut RouterCounters>) {
        let counter = match (self, router) {
            (Self::Destination | Self::OwnSource | Self::SourceNotLinkLocal, _) => return,
            (Self::IpTtl, _) => &mut global.ip_ttl_errors,
            (Self::Version, _) => &mut global.version_errors,
            (Self::Vrid, _) => &mut global.vrid_errors,
            (Self::Checksum, _) => &mut global.checksum_errors,
            (Self::Type, None) => &mut global.invalid_type_pkts_rcvd,
            // Only Length comes here: the other reasons are found after the virtual router.
            (_, None) => &mut global.packet_length_errors,
            (Self::Type, Some(r)) => &mut r.invalid_type_pkts_rcvd,
            (Self::Length | Self::AddrCountZero, Some(r)) => &mut r.packet_length_errors,
            (Self::AuthTypeUnknown | Self::AuthTypeMismatch, Some(r)) => &mut r.auth_type_errors,
            (Self::AuthFailure, Some(r)) => &mut r.auth_failures,
            (Self::Trailer(e), Some(r)) => match e {
                TrailerError::Malformed => &mut r.trailer_malformed,
                TrailerError::Stale => &mut r.trailer_stale,
                TrailerError::UnknownKey => &mut r.trailer_unknown_key,
                TrailerError::BadTag => &mut r.trailer_bad_tag,
                TrailerError::Replay => &mut r.trailer_replay,
                TrailerError::Missing => &mut r.trailer_missing,
            },
            (Self::FirstAddressNotLinkLocal | Self::AddressListMismatch, Some(r)) => {
                &mut r.address_list_errors
            }
            (Self::IntervalZero | Self::IntervalMismatch, Some(r)) => &mut r.interval_errors,
        };
        *counter += 1;
    }
}

/// Runs a datagram through all checks; moves exactly one error counter when one fails.
///
/// `own`: the addresses of the interface that are not virtual. `find`: the virtual router of that
/// VRID on the interface and in the family of the datagram; called at most once.
///
/// # Errors
/// The first check that fails.
pub fn validate<'r>(
    d: &Datagram<'_>,
    own: &[IpAddr],
    now: Utc,
    global: &mut GlobalCounters,
    find: impl FnOnce(Vrid) -> Option<&'r mut Receiver>,
) -> Result<Accepted, Reason> {
    // Whether the destination is right depends on the virtual router, so it is looked up first; what
    // is counted still follows the order of the checks.
    let mut receiver = d
        .payload
        .get(1)
        .and_then(|&vrid| Vrid::new(vrid).ok())
        .and_then(find)
        .filter(|r| r.family == d.family);
    let result = check(d, own, now, receiver.as_deref_mut());
    let router = receiver.map(|r| &mut r.counters);
    match &result {
        Err(reason) => reason.count(global, router),
        Ok(accepted) => {
            if let Some(counters) = router {
                accepted.count(counters);
            }
        }
    }
    result
}

impl Accepted {
    fn count(&self, counters: &mut RouterCounters) {
        counters.advertisement_rcvd += 1;
        counters.priority_zero_pkts_rcvd += u64::from(self.advert.priority == 0);
        counters.interval_errors += u64::from(self.interval_mismatch);
        counters.address_list_errors +=
            u64::from(self.list_mismatch || self.first_address_not_link_local);
    }
}

/// Checks 1 to 7, which need no receiver; then the rest.
fn check(
    d: &Datagram<'_>,
    own: &[IpAddr],
    now: Utc,
    receiver: Option<&mut Receiver>,
) -> Result<Accepted, Reason> {
    let group = d.dst == d.family.group();
    let destination = match receiver.as_deref() {
        Some(Receiver { unicast_peers: Some(peers), .. }) => {
            own.contains(&d.dst) && peers.contains(&d.src)
        }
        Some(_) => group,
        None => group || own.contains(&d.dst),
    };
    if !destination {
        return Err(Reason::Destination);
    }
    if own.contains(&d.src) {
        return Err(Reason::OwnSource);
    }
    if d.ttl != 255 {
        return Err(Reason::IpTtl);
    }
    let header = d.payload.first_chunk::<HEADER_LEN>().ok_or(Reason::Length)?;
    let version = match (header[0] >> 4, d.family) {
        (2, Family::V4) => Version::V2,
        (3, _) => Version::V3,
        _ => return Err(Reason::Version),
    };
    if receiver.as_deref().is_some_and(|r| r.version != version) {
        return Err(Reason::Version);
    }
    if header[0] & 0x0f != vrrp::ADVERTISEMENT {
        return Err(Reason::Type);
    }
    receiver.ok_or(Reason::Vrid)?.check(d, header, now)
}

impl Receiver {
    /// Checks 8 to 15.
    fn check(
        &mut self,
        d: &Datagram<'_>,
        header: &[u8; HEADER_LEN],
        now: Utc,
    ) -> Result<Accepted, Reason> {
        let count = usize::from(header[3]);
        if count == 0 {
            return Err(Reason::AddrCountZero);
        }
        let (message, trailer) = d
            .payload
            .split_at_checked(vrrp::message_len(self.version, self.family, count))
            .ok_or(Reason::Length)?;
        let trailer = match (<&[u8; TRAILER_LEN]>::try_from(trailer), &self.verifier) {
            (Ok(trailer), Some(_)) => Some(trailer),
            _ if trailer.is_empty() => None,
            _ => return Err(Reason::Length),
        };
        let flavour = checksum(d, self.version, message).ok_or(Reason::Checksum)?;
        if self.version == Version::V2 {
            self.check_simple_text(header, message)?;
        }
        let stale_warning = self.check_trailer(d, now, message, trailer)?;

        if d.family == Family::V6 && self.unicast_peers.is_none() && !is_link_local(&d.src) {
            return Err(Reason::SourceNotLinkLocal);
        }
        // Interval 0 is the only thing left that an advert cannot have.
        let decoded = Advert::decode(self.version, self.family, message);
        let first_address_not_link_local = d.family == Family::V6
            && message
                .get(HEADER_LEN..)
                .and_then(<[u8]>::first_chunk::<16>)
                .is_none_or(|a| !is_link_local(&IpAddr::from(*a)));
        if first_address_not_link_local && self.strict {
            return Err(Reason::FirstAddressNotLinkLocal);
        }
        let advert = decoded.ok_or(Reason::IntervalZero)?;
        let interval_mismatch = advert.interval != self.interval;
        let list_mismatch = self.check_list && !same_set(&advert.addresses, &self.addresses);
        if self.version == Version::V2 {
            if interval_mismatch {
                return Err(Reason::IntervalMismatch);
            }
            if list_mismatch && advert.priority != 255 {
                return Err(Reason::AddressListMismatch);
            }
        }
        Ok(Accepted {
            interval_mismatch,
            list_mismatch,
            first_address_not_link_local,
            duplicate_owner: self.owner && advert.priority == 255,
            flavour,
            authenticated: trailer.is_some(),
            stale_warning,
            advert,
        })
    }

    /// Check 10 of version 2 (RFC 2338 section 5.3.6 and 5.3.10).
    fn check_simple_text(&self, header: &[u8; HEADER_LEN], message: &[u8]) -> Result<(), Reason> {
        match (header[4], &self.simple_text) {
            (vrrp::AUTH_NONE, None) => Ok(()),
            (vrrp::AUTH_SIMPLE_TEXT, Some(password)) => {
                let sent = &message[message.len() - vrrp::AUTH_DATA_LEN..];
                if bool::from(sent.ct_eq(password)) { Ok(()) } else { Err(Reason::AuthFailure) }
            }
            (vrrp::AUTH_NONE | vrrp::AUTH_SIMPLE_TEXT | vrrp::AUTH_AH, _) => {
                Err(Reason::AuthTypeMismatch)
            }
            _ => Err(Reason::AuthTypeUnknown),
        }
    }

    /// Check 10 of the trailer.
    fn check_trailer(
        &mut self,
        d: &Datagram<'_>,
        now: Utc,
        message: &[u8],
        trailer: Option<&[u8; TRAILER_LEN]>,
    ) -> Result<bool, Reason> {
        match (&mut self.verifier, trailer) {
            (None, _) => Ok(false),
            (Some(verifier), None) => verifier.absent().map(|()| false),
            (Some(verifier), Some(trailer)) => {
                verifier.verify(now, self.version, self.vrid, d.src, message, trailer)
            }
        }
        .map_err(Reason::Trailer)
    }
}

/// Check 9. Outer `None`: it does not verify. Version 3 over IPv4 has two readings, both accepted:
/// the message alone (RFC 9568 section 5.2.8), or with a pseudo-header (RFC 5798), whose destination
/// some senders fill with the group even when they send to one peer.
fn checksum(d: &Datagram<'_>, version: Version, message: &[u8]) -> Option<Option<ChecksumFlavour>> {
    match (d.src, d.dst, version) {
        (IpAddr::V6(src), IpAddr::V6(dst), _) => {
            // IPv6 covers the trailer as well.
            let sum = vrrp::pseudo_v6(src, dst, d.payload.len()).with(d.payload);
            sum.is_valid().then_some(None)
        }
        (IpAddr::V4(src), IpAddr::V4(dst), Version::V3) => {
            if Sum::new().with(message).is_valid() {
                return Some(Some(ChecksumFlavour::Rfc9568));
            }
            let legacy =
                |dst: Ipv4Addr| vrrp::pseudo_v4(src, dst, message.len()).with(message).is_valid();
            (legacy(dst) || legacy(Ipv4Addr::new(224, 0, 0, 18)))
                .then_some(Some(ChecksumFlavour::Rfc5798))
        }
        _ => Sum::new().with(message).is_valid().then_some(None),
    }
}

fn is_link_local(addr: &IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local())
}

/// Does `list` hold exactly the members of `set`, in whatever order? Runs for every advert, so it does
/// not allocate.
fn same_set(list: &[IpAddr], set: &BTreeSet<IpAddr>) -> bool {
    if list.iter().eq(set) {
        return true;
    }
    let mut sorted = [IpAddr::V4(Ipv4Addr::UNSPECIFIED); vrrp::MAX_ADDRESSES];
    let Some(sorted) = sorted.get_mut(..list.len()) else { return false };
    sorted.copy_from_slice(list);
    sorted.sort_unstable();
    sorted.chunk_by(PartialEq::eq).map(|same| &same[0]).eq(set)
}

#[cfg(test)]
mod tests;
