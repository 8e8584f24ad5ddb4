//! The heartbeat: one authenticated UDP datagram that says what a host hears, has and owns (DESIGN 5.9).
//!
//! Called by the engine. Whether a sender is believed (boot counter, sequence) is decided there; here
//! is only: made with our key, and well formed.
//!
//! Layout, numbers in network byte order:
//!
//! | Octets | Field |
//! |---|---|
//! | 4 | magic `vipd` |
//! | 1 | format of the sender |
//! | 1 | oldest format whose readers understand it |
//! | ... | records: kind (1), length of the contents (1), contents |
//! | 16 | HMAC-SHA-256 over all before, cut to 128 bits |
//!
//! The first record is the header. A reader skips records of unknown kinds and what follows the
//! contents that it knows, so that hosts of two releases form one group.

mod codec;
mod orders;

use crate::types::{Class, Epoch, Interval, Mac, PathIx, State};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Longest heartbeat payload that every path is expected to carry in one packet, octets.
pub const MAX_DATAGRAM: usize = 1400;
/// Longest version text in octets.
pub const MAX_VERSION_LEN: usize = 32;
/// Most addresses in a [`LinkRecord`].
pub const MAX_LINK_ADDRESSES: usize = 4;
/// Instances that fit [`MAX_DATAGRAM`] beside 16 heards and 4 links; a host with more instances sends
/// several parts.
pub const MAX_INSTANCES_PER_DATAGRAM: usize = instances_per_datagram(16, 4);

/// Instances without orders that fit [`MAX_DATAGRAM`] beside that many heards and links, all of full length. At least
/// 1: what leaves no room for one makes a longer datagram, which IP then fragments.
pub const fn instances_per_datagram(heards: usize, links: usize) -> usize {
    let room = MAX_DATAGRAM.saturating_sub(codec::len_without_instances(heards, links));
    let fitting = room / codec::INSTANCE_RECORD_LEN;
    if fitting == 0 { 1 } else { fitting }
}

/// `records` in parts that each fit [`MAX_DATAGRAM`] beside that many heards and links; at least one part.
pub fn parts(records: &[InstanceRecord], heards: usize, links: usize) -> Vec<&[InstanceRecord]> {
    let room = MAX_DATAGRAM.saturating_sub(codec::len_without_instances(heards, links));
    let (mut parts, mut from, mut used) = (Vec::new(), 0, 0);
    for (ix, record) in records.iter().enumerate() {
        let len = codec::INSTANCE_RECORD_LEN + record.orders.encoded_len();
        if ix > from && used + len > room {
            parts.push(&records[from..ix]);
            (from, used) = (ix, 0);
        }
        used += len;
    }
    parts.push(&records[from..]);
    parts
}

/// The key of the heartbeats of one cluster.
#[derive(Clone)]
pub struct HeartbeatKey(Zeroizing<[u8; 32]>);

impl HeartbeatKey {
    /// The heartbeat key of the cluster named `cluster`, derived from its key (HKDF-SHA-256): two
    /// clusters with one key do not understand each other.
    pub fn derive(cluster_key: &[u8], cluster: &str) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(cluster.as_bytes()), cluster_key)
            .expand(b"vipd heartbeat 1", &mut *key)
            // invariant: 32 octets are within the 255 hash lengths of RFC 5869.
            .unwrap_or_else(|_| unreachable!("HKDF gives up to 8160 octets"));
        Self(key)
    }
}

impl fmt::Debug for HeartbeatKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeartbeatKey(..)")
    }
}

/// What a host says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Sender: 64-bit hash of its name.
    pub host: u64,
    /// Boot counter of its agent, growing with each start.
    pub boot: u64,
    /// Sequence number within this boot, growing with each datagram on all paths.
    pub seq: u64,
    /// Hash of the meaning of its configuration.
    pub config: u64,
    /// Its release, at most [`MAX_VERSION_LEN`] octets.
    pub version: String,
    /// Time until its next heartbeat on this path.
    pub interval: Interval,
    /// Which part this is, from 0.
    pub part: u8,
    /// How many parts there are, at least 1.
    pub parts: u8,
    /// What it last heard from whom on which path.
    pub paths: Vec<Heard>,
    /// Its service interfaces.
    pub links: Vec<LinkRecord>,
    /// Its instances, or this part of them.
    pub instances: Vec<InstanceRecord>,
}

/// What the sender last heard from one host on one path.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who was heard: hash of its name.
    pub host: u64,
    /// On which path.
    pub path: PathIx,
    /// Boot counter of that heartbeat.
    pub boot: u64,
    /// Sequence number of that heartbeat.
    pub seq: u64,
    /// How long ago in milliseconds; 65535: longer, or never.
    pub age_ms: u16,
}

/// A service interface of the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRecord {
    /// Its hardware address.
    pub mac: Mac,
    /// Up, with carrier.
    pub running: bool,
    /// Its first IPv4 and its link-local IPv6 address; at most [`MAX_LINK_ADDRESSES`].
    pub addrs: Vec<IpAddr>,
}

/// One instance, as its host sees it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct InstanceRecord {
    /// Hash of its name.
    pub key: u64,
    /// Position of its interface in [`Heartbeat::links`]; not checked here.
    pub link: u8,
    /// State.
    pub state: State,
    /// Class of eligibility.
    pub class: Class,
    /// Effective priority.
    pub priority: u8,
    /// Epoch of the ownership, own or observed.
    pub epoch: Epoch,
    /// The kernel confirmed all addresses.
    pub applied: bool,
    /// Any of the addresses may still be in the kernel.
    pub holds: bool,
    /// The addresses go in 20 ms at the latest.
    pub releasing: bool,
    /// Said priority 0 and hands over.
    pub leaving: bool,
    /// Host, by the hash of its name, or 0 for a foreign one, whose adverts it accepted in the last
    /// 3 T; `None`: nobody's.
    pub hears: Option<u64>,
    /// Age of the last accepted advert in milliseconds; 65535: longer, or never.
    pub hears_age_ms: u16,
    /// Adverts that the kernel took.
    pub adverts_sent: u64,
    /// Age of the last of them in milliseconds; 65535: longer, or never.
    pub advert_age_ms: u16,
    /// What is left of the confirmed lease in milliseconds; 0: none, 65535: for ever.
    pub lease_left_ms: u16,
    /// Does it reach the targets on the service segment? `None`: unknown.
    pub reaches_target: Option<bool>,
    /// Does it reach the owner on the service segment? `None`: unknown.
    pub reaches_owner: Option<bool>,
    /// Asks the owner to release.
    pub release_request: bool,
    /// Uses the virtual router MAC.
    pub virtual_mac: bool,
    /// Its copy of the state is old or unknown; releases that do not know this read the class alone.
    pub stale: bool,
    /// Owner: state files follow the address, and it brings them to a stronger host that says the same. Backup: it would
    /// preempt, and waits for that. Releases that do not know it neither bring nor wait.
    pub plans_preemption: bool,
    /// What operators ordered, and what hosts agree on for it.
    pub orders: Orders,
}

impl InstanceRecord {
    /// Does its host own, and not hand over?
    pub fn owns(&self) -> bool {
        self.state == State::Active && !self.leaving
    }
}

/// What an operator's orders make a host say of an instance; behind what older releases read.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Owns because an operator said so, and keeps it.
    pub pinned: bool,
    /// An operator ended what moves left behind, on every host.
    pub failback: bool,
    /// Asks a host to take over.
    pub request: Option<MoveRequest>,
    /// Answers the request of a host.
    pub answer: Option<MoveAnswer>,
    /// The newest word on preemption and voluntary moves in the group; `None`: never spoken.
    pub freeze: Option<Freeze>,
}

/// An owner asks a host to take over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    /// Who is asked: hash of its name.
    pub to: u64,
    /// Number of the request, growing over restarts of the sender.
    pub number: u64,
    /// Not to be followed after this time, milliseconds.
    pub left_ms: u32,
    /// Also where it would be refused, as far as that can be overridden.
    pub force: bool,
    /// The new owner keeps the address.
    pub pin: bool,
    /// Nobody ordered it: the host that is asked outranks the owner, and is brought its state first.
    pub preempts: bool,
    /// Only gets ready, and does not claim before the request comes without this. Releases that do not know it see no
    /// request at all, so that none of them claims too soon.
    pub hold: bool,
}

/// What a host says to a [`MoveRequest`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MoveAnswer {
    /// Whose request: hash of its name.
    pub to: u64,
    /// Number of the request.
    pub number: u64,
    /// Why not; `None`: it takes over when it is ready.
    pub refusal: Option<Refusal>,
    /// It may take this long to get ready, milliseconds.
    pub ready_in_ms: u32,
    /// It is ready, and holds as it was asked to.
    pub ready: bool,
}

/// Why a host does not take over.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// A reason of a newer release.
    Other = 0,
    /// It cannot own: a link, an address or a `fatal` check is missing.
    Unable = 1,
    /// A check fails there.
    Failing = 2,
    /// It is drained.
    Drained = 3,
    /// Preemption and voluntary moves are frozen.
    Frozen = 4,
    /// It has just started and may not claim yet.
    Starting = 5,
    /// It is stopping.
    Stopping = 6,
    /// Its activation failed.
    Activation = 7,
    /// Penalties are over the limit there.
    Suppressed = 8,
    /// It does not hear the adverts of the owner.
    Deaf = 9,
    /// Its pre-promote hooks said no.
    Vetoed = 10,
    /// Its copy of the state is old or unknown.
    Stale = 11,
}

/// Preemption and voluntary moves are stopped in the whole group, or go on again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Number of the order: the highest one counts. Unique: its lowest octet is the host that gave it, by
    /// [`Model::epoch_host`](crate::config::model::Model::epoch_host).
    pub serial: u32,
    /// What is left of it in seconds; 0: they go on, [`Freeze::FOR_EVER`]: until ordered.
    pub left_s: u32,
}

impl Freeze {
    /// [`Freeze::left_s`] without an end.
    pub const FOR_EVER: u32 = u32::MAX;
}

/// Why a datagram is no heartbeat for us.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeartbeatError {
    /// It does not start with the magic.
    #[error("not a heartbeat")]
    NotOurs,
    /// It needs a newer reader.
    #[error("a heartbeat of a newer release: upgrade this host")]
    Version,
    /// It ends too early to hold a tag.
    #[error("a truncated heartbeat")]
    Truncated,
    /// Made with another key, or changed on the way.
    #[error("a heartbeat made with another key or cluster name: compare both on all hosts")]
    BadTag,
    /// Authentic, but not well formed.
    #[error("a malformed heartbeat: {0}")]
    Malformed(&'static str),
}

#[cfg(test)]
mod tests;
