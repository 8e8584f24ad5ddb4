//! Listens for adverts of others: VRIDs in use, with their senders, and groups that collide with one of ours.

use super::{Finding, Patient};
use crate::sys::{Delivery, VrrpSocket};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Instant;
use vipd_core::config::model::{Instance, Model};
use vipd_core::types::{Family, IfIndex, LinkIx, Version};
use vipd_core::wire::vrrp::Advert;

/// Both, so that groups of unicast peers are heard as well.
const EVERYTHING: Delivery = Delivery { multicast: true, unicast: true };
/// Longer than any advert.
const DATAGRAM: usize = 8192;

/// Somebody who advertises.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sender {
    link: String,
    ix: u16,
    v6: bool,
    vrid: u8,
    src: IpAddr,
}

/// Listens on every service interface for as long as was asked for.
pub(super) fn probe(patient: &Patient) -> Vec<Finding> {
    let (Some(model), Some(scan)) = (patient.model(), patient.scan) else { return Vec::new() };
    let mut found = Vec::new();
    let mut sockets = Vec::new();
    for (n, link) in (0u16..).zip(&model.links) {
        let index = patient.read(&format!("sys/class/net/{}/ifindex", link.name));
        let Some(index) = index.and_then(|i| i.parse().ok()).and_then(IfIndex::new) else {
            continue;
        };
        for family in Family::ALL {
            match VrrpSocket::open(&link.name, index, family, EVERYTHING) {
                Ok(socket) => sockets.push((n, link.name.to_string(), family, socket)),
                Err(why) => found.push(
                    Finding::note(
                        "network",
                        format!("nobody listened on {} ({family})", link.name),
                    )
                    .seen(why.to_string())
                    .fix("run `vipd doctor` as root, with the interface up"),
                ),
            }
        }
    }
    let mut heard: BTreeMap<Sender, (Advert, u32)> = BTreeMap::new();
    let until = Instant::now() + scan;
    let mut buf = [0; DATAGRAM];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || sockets.is_empty() {
            break;
        }
        let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds: Vec<PollFd> = sockets
            .iter()
            .map(|(.., socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
        for (ix, link, family, socket) in &mut sockets {
            while let Ok(Some(datagram)) = socket.recv(&mut buf) {
                let Some(advert) = read(*family, &buf[datagram.payload]) else { continue };
                let sender = Sender {
                    link: link.clone(),
                    ix: *ix,
                    v6: *family == Family::V6,
                    vrid: advert.vrid.get(),
                    src: datagram.src,
                };
                let entry = heard.entry(sender).or_insert((advert, 0));
                entry.1 += 1;
            }
        }
    }
    found.extend(
        heard
            .iter()
            .map(|(sender, (advert, count))| judge(model, sender, advert, *count))
            .flatten(),
    );
    found
}

/// An advert by its version nibble; a trailer of signed adverts is cut off by the count of addresses.
fn read(family: Family, message: &[u8]) -> Option<Advert> {
    let version = match message.first()? >> 4 {
        2 => Version::V2,
        3 => Version::V3,
        _ => return None,
    };
    let len = vipd_core::wire::vrrp::message_len(version, family, usize::from(*message.get(3)?));
    Advert::decode(version, family, message.get(..len)?)
}

fn judge(model: &Model, sender: &Sender, advert: &Advert, count: u32) -> Option<Finding> {
    let family = if sender.v6 { Family::V6 } else { Family::V4 };
    let list: Vec<String> = advert.addresses.iter().map(ToString::to_string).collect();
    let seen = format!(
        "{count} adverts of {} (version {}, priority {}) for {}",
        sender.src,
        if advert.version == Version::V2 { 2 } else { 3 },
        advert.priority,
        list.join(", ")
    );
    let ours = |i: &&Instance| i.link == LinkIx(sender.ix) && i.vrid == advert.vrid;
    let Some(instance) = model.instances.iter().find(ours) else {
        let what = format!("VRID {} on {} ({family}) belongs to others", sender.vrid, sender.link);
        return Some(
            Finding::note("network", what)
                .seen(seen)
                .fix("nothing; do not take this VRID for an instance"),
        );
    };
    let mut mine: Vec<IpAddr> = instance.advertised(family).map(|vip| vip.addr).collect();
    let mut theirs = advert.addresses.clone();
    mine.sort();
    theirs.sort();
    (mine != theirs).then(|| {
        let what = format!(
            "VRID {} of instance {} is used for other addresses on {} ({family})",
            sender.vrid, instance.name, sender.link
        );
        Finding::problem("network", what).seen(seen).fix(format!(
            "another VRID for {}, unless {} is a host of this group with an older file",
            instance.name, sender.src
        ))
    })
}
