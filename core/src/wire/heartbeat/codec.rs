//! Octets of a heartbeat.

use super::*;
use crate::wire::auth::hmac;
use hmac::Mac as _;
use std::net::{Ipv4Addr, Ipv6Addr};

const MAGIC: [u8; 4] = *b"vipd";
/// What we write. Grows with each change, also with those that old readers skip.
pub(super) const FORMAT: u8 = 4;
/// The oldest reader that understands what we write.
const READABLE_BY: u8 = 1;
const PREAMBLE_LEN: usize = MAGIC.len() + 2;
const TAG_LEN: usize = 16;

/// Kinds of records.
mod kind {
    pub(super) const HEADER: u8 = 1;
    pub(super) const HEARD: u8 = 2;
    pub(super) const LINK: u8 = 3;
    pub(super) const INSTANCE: u8 = 4;
}

/// Kind and length in front of every record.
const RECORD_LEN: usize = 2;
/// Longest contents of each kind.
const HEADER_LEN: usize = 8 + 8 + 8 + 8 + 2 + 1 + 1 + 1 + MAX_VERSION_LEN;
const HEARD_LEN: usize = 8 + 1 + 8 + 8 + 2;
const LINK_LEN: usize = 6 + 1 + 1 + MAX_LINK_ADDRESSES * 17;
const INSTANCE_LEN: usize = 8 + 1 + 1 + 1 + 1 + 8 + 1 + 2 + 8 + 2 + 8 + 2 + 2;

pub(super) const INSTANCE_RECORD_LEN: usize = RECORD_LEN + INSTANCE_LEN;

/// Longest datagram without instances.
pub(super) const fn len_without_instances(heards: usize, links: usize) -> usize {
    PREAMBLE_LEN
        + (RECORD_LEN + HEADER_LEN)
        + heards * (RECORD_LEN + HEARD_LEN)
        + links * (RECORD_LEN + LINK_LEN)
        + TAG_LEN
}

/// Flags of an instance record.
mod flag {
    pub(super) const APPLIED: u16 = 1 << 0;
    pub(super) const HOLDS: u16 = 1 << 1;
    pub(super) const RELEASING: u16 = 1 << 2;
    pub(super) const LEAVING: u16 = 1 << 3;
    pub(super) const HEARS: u16 = 1 << 4;
    pub(super) const TARGET_KNOWN: u16 = 1 << 5;
    pub(super) const TARGET: u16 = 1 << 6;
    pub(super) const OWNER_KNOWN: u16 = 1 << 7;
    pub(super) const OWNER: u16 = 1 << 8;
    pub(super) const RELEASE_REQUEST: u16 = 1 << 9;
    pub(super) const VIRTUAL_MAC: u16 = 1 << 10;
    pub(super) const PINNED: u16 = 1 << 11;
    pub(super) const FAILBACK: u16 = 1 << 12;
    pub(super) const STALE: u16 = 1 << 13;
    pub(super) const PLANS_PREEMPTION: u16 = 1 << 14;
}

impl Heartbeat {
    /// The datagram. A version text or an address list that is too long is cut.
    pub fn encode(&self, key: &HeartbeatKey) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_DATAGRAM);
        out.extend(MAGIC);
        out.extend([FORMAT, READABLE_BY]);
        record(&mut out, kind::HEADER, |out| self.write_header(out));
        for heard in &self.paths {
            record(&mut out, kind::HEARD, |out| heard.write(out));
        }
        for link in &self.links {
            record(&mut out, kind::LINK, |out| link.write(out));
        }
        for instance in &self.instances {
            record(&mut out, kind::INSTANCE, |out| instance.write(out));
        }
        let mut mac = hmac(&*key.0);
        mac.update(&out);
        out.extend(&mac.finalize().into_bytes()[..TAG_LEN]);
        out
    }

    /// Reads a datagram; nothing behind the preamble is looked at before the tag has verified.
    ///
    /// # Errors
    /// See [`HeartbeatError`].
    pub fn decode(bytes: &[u8], key: &HeartbeatKey) -> Result<Self, HeartbeatError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(HeartbeatError::NotOurs)?;
        let (&[_, readable_by], rest) =
            rest.split_first_chunk().ok_or(HeartbeatError::Truncated)?;
        if readable_by > FORMAT {
            return Err(HeartbeatError::Version);
        }
        let (records, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(HeartbeatError::Truncated)?;
        let mut mac = hmac(&*key.0);
        mac.update(&bytes[..bytes.len() - TAG_LEN]);
        mac.verify_truncated_left(tag).map_err(|_| HeartbeatError::BadTag)?;

        let mut records = Reader(records);
        let (first, contents) = records.record()?;
        if first != kind::HEADER {
            return Err(HeartbeatError::Malformed("the header is not the first record"));
        }
        let mut heartbeat = Self::read_header(contents)?;
        while !records.0.is_empty() {
            match records.record()? {
                (kind::HEADER, _) => {
                    return Err(HeartbeatError::Malformed("a second header"));
                }
                (kind::HEARD, r) => heartbeat.paths.push(Heard::read(r)?),
                (kind::LINK, r) => heartbeat.links.push(LinkRecord::read(r)?),
                (kind::INSTANCE, r) => heartbeat.instances.push(InstanceRecord::read(r)?),
                // From a newer release.
                _ => {}
            }
        }
        Ok(heartbeat)
    }

    fn write_header(&self, out: &mut Vec<u8>) {
        for n in [self.host, self.boot, self.seq, self.config] {
            out.extend(n.to_be_bytes());
        }
        out.extend(self.interval.centis().to_be_bytes());
        out.extend([self.part, self.parts]);
        let end = (0..=MAX_VERSION_LEN).rev().find(|&at| self.version.is_char_boundary(at));
        let version = &self.version[..end.unwrap_or(0)];
        out.push(version.len() as u8);
        out.extend(version.as_bytes());
    }

    fn read_header(mut r: Reader<'_>) -> Result<Self, HeartbeatError> {
        let (host, boot, seq, config) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let centis = r.u16()?;
        let interval = Interval::of_either(centis)
            .map_err(|_| HeartbeatError::Malformed("the interval is out of range"))?;
        let (part, parts) = (r.u8()?, r.u8()?);
        if part >= parts {
            return Err(HeartbeatError::Malformed("the part is not among the parts"));
        }
        let len = usize::from(r.u8()?);
        let text = r.take(len)?;
        if len > MAX_VERSION_LEN {
            return Err(HeartbeatError::Malformed("the version text is too long"));
        }
        let version = std::str::from_utf8(text)
            .map_err(|_| HeartbeatError::Malformed("the version text is not UTF-8"))?
            .to_owned();
        let (paths, links, instances) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            host,
            boot,
            seq,
            config,
            version,
            interval,
            part,
            parts,
            paths,
            links,
            instances,
        })
    }
}

impl Heard {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.host.to_be_bytes());
        out.push(self.path.0);
        out.extend(self.boot.to_be_bytes());
        out.extend(self.seq.to_be_bytes());
        out.extend(self.age_ms.to_be_bytes());
    }

    fn read(mut r: Reader<'_>) -> Result<Self, HeartbeatError> {
        Ok(Self {
            host: r.u64()?,
            path: PathIx(r.u8()?),
            boot: r.u64()?,
            seq: r.u64()?,
            age_ms: r.u16()?,
        })
    }
}

impl LinkRecord {
    fn write(&self, out: &mut Vec<u8>) {
        let addrs = &self.addrs[..self.addrs.len().min(MAX_LINK_ADDRESSES)];
        out.extend(self.mac.0);
        out.push(u8::from(self.running));
        out.push(addrs.len() as u8);
        for addr in addrs {
            match addr {
                IpAddr::V4(a) => {
                    out.push(4);
                    out.extend(a.octets());
                }
                IpAddr::V6(a) => {
                    out.push(6);
                    out.extend(a.octets());
                }
            }
        }
    }

    fn read(mut r: Reader<'_>) -> Result<Self, HeartbeatError> {
        let mac = Mac(r.array()?);
        let running = r.u8()? & 1 != 0;
        let count = usize::from(r.u8()?);
        if count > MAX_LINK_ADDRESSES {
            return Err(HeartbeatError::Malformed("too many addresses of a link"));
        }
        let addrs = (0..count)
            .map(|_| match r.u8()? {
                4 => Ok(Ipv4Addr::from(r.array::<4>()?).into()),
                6 => Ok(Ipv6Addr::from(r.array::<16>()?).into()),
                _ => Err(HeartbeatError::Malformed("an address of an unknown family")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { mac, running, addrs })
    }
}

impl InstanceRecord {
    fn write(&self, out: &mut Vec<u8>) {
        let state = match self.state {
            State::Initialize => 0,
            State::Backup => 1,
            State::Active => 2,
        };
        let class = match self.class {
            Class::Healthy => 0,
            Class::Held => 1,
            Class::Failing => 2,
            Class::Drained => 3,
            Class::Unable => 4,
        };
        let flags = [
            (flag::APPLIED, self.applied),
            (flag::HOLDS, self.holds),
            (flag::RELEASING, self.releasing),
            (flag::LEAVING, self.leaving),
            (flag::HEARS, self.hears.is_some()),
            (flag::TARGET_KNOWN, self.reaches_target.is_some()),
            (flag::TARGET, self.reaches_target == Some(true)),
            (flag::OWNER_KNOWN, self.reaches_owner.is_some()),
            (flag::OWNER, self.reaches_owner == Some(true)),
            (flag::RELEASE_REQUEST, self.release_request),
            (flag::VIRTUAL_MAC, self.virtual_mac),
            (flag::PINNED, self.orders.pinned),
            (flag::FAILBACK, self.orders.failback),
            (flag::STALE, self.stale),
            (flag::PLANS_PREEMPTION, self.plans_preemption),
        ]
        .into_iter()
        .filter_map(|(bit, set)| set.then_some(bit))
        .fold(0, |all, bit| all | bit);
        out.extend(self.key.to_be_bytes());
        out.extend([self.link, state, class, self.priority]);
        out.extend(self.epoch.number.to_be_bytes());
        out.push(self.epoch.host);
        out.extend(u16::to_be_bytes(flags));
        out.extend(self.hears.unwrap_or(0).to_be_bytes());
        out.extend(self.hears_age_ms.to_be_bytes());
        out.extend(self.adverts_sent.to_be_bytes());
        out.extend(self.advert_age_ms.to_be_bytes());
        out.extend(self.lease_left_ms.to_be_bytes());
        self.orders.write(out);
    }

    fn read(mut r: Reader<'_>) -> Result<Self, HeartbeatError> {
        let (key, link) = (r.u64()?, r.u8()?);
        let state = match r.u8()? {
            0 => State::Initialize,
            1 => State::Backup,
            2 => State::Active,
            _ => return Err(HeartbeatError::Malformed("an unknown state")),
        };
        let class = match r.u8()? {
            0 => Class::Healthy,
            1 => Class::Held,
            2 => Class::Failing,
            3 => Class::Drained,
            4 => Class::Unable,
            _ => return Err(HeartbeatError::Malformed("an unknown class")),
        };
        let priority = r.u8()?;
        let epoch = Epoch { number: r.u64()?, host: r.u8()? };
        let flags = r.u16()?;
        let is = |bit| flags & bit != 0;
        let hears = r.u64()?;
        let (hears_age_ms, adverts_sent) = (r.u16()?, r.u64()?);
        let (advert_age_ms, lease_left_ms) = (r.u16()?, r.u16()?);
        let (pinned, failback) = (is(flag::PINNED), is(flag::FAILBACK));
        Ok(Self {
            key,
            link,
            state,
            class,
            priority,
            epoch,
            applied: is(flag::APPLIED),
            holds: is(flag::HOLDS),
            releasing: is(flag::RELEASING),
            leaving: is(flag::LEAVING),
            hears: is(flag::HEARS).then_some(hears),
            hears_age_ms,
            adverts_sent,
            advert_age_ms,
            lease_left_ms,
            reaches_target: is(flag::TARGET_KNOWN).then_some(is(flag::TARGET)),
            reaches_owner: is(flag::OWNER_KNOWN).then_some(is(flag::OWNER)),
            release_request: is(flag::RELEASE_REQUEST),
            virtual_mac: is(flag::VIRTUAL_MAC),
            stale: is(flag::STALE),
            plans_preemption: is(flag::PLANS_PREEMPTION),
            orders: Orders { pinned, failback, ..Orders::read(&mut r)? },
        })
    }
}

/// Appends a record whose contents `write` appends: at most 255 octets, which every kind keeps.
fn record(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend([kind, 0]);
    let start = out.len();
    write(out);
    out[start - 1] = (out.len() - start) as u8;
}

const _: () = assert!(HEADER_LEN <= 255 && LINK_LEN <= 255);
const _: () = assert!(INSTANCE_LEN + super::orders::MAX_LEN <= 255);

/// Takes values from the front.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn record(&mut self) -> Result<(u8, Self), HeartbeatError> {
        let (kind, len) = (self.u8()?, self.u8()?);
        Ok((kind, Self(self.take(usize::from(len))?)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], HeartbeatError> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(HeartbeatError::Malformed("a record ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeartbeatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Result<u8, HeartbeatError> {
        self.array().map(|[octet]| octet)
    }

    fn u16(&mut self) -> Result<u16, HeartbeatError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, HeartbeatError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, HeartbeatError> {
        self.array().map(u64::from_be_bytes)
    }
}
