//! Listens for adverts of others: VRIDs in use, with their senders, and groups that collide with one of ours.

use super::{Finding, Patient};
use crate::sys::listen::listen;
use std::collections::BTreeMap;
use std::net::IpAddr;
use vipd_core::config::model::{Instance, Model};
use vipd_core::types::{Family, Version};
use vipd_core::wire::vrrp::{self, Advert};

/// Somebody who advertises.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sender {
    /// Position of the interface in the configuration.
    link: usize,
    v6: bool,
    vrid: u8,
    src: IpAddr,
}

/// Listens on every service interface for as long as was asked for.
pub(super) fn probe(patient: &Patient) -> Vec<Finding> {
    let (Some(model), Some(scan)) = (patient.model(), patient.scan) else { return Vec::new() };
    let links = patient.links();
    let mut heard: BTreeMap<Sender, (Advert, u32)> = BTreeMap::new();
    let deaf = listen(&links, scan, |said| {
        let Some(advert) = read(said.family, &said.message) else { return };
        let v6 = said.family == Family::V6;
        let vrid = advert.vrid.get();
        let sender = Sender { link: said.interface, v6, vrid, src: said.src };
        let entry = heard.entry(sender).or_insert((advert, 0));
        entry.1 += 1;
    });
    let nobody = deaf.iter().map(|(link, family, why)| {
        let link = links.get(*link).copied().unwrap_or_default();
        Finding::note("network", format!("nobody listened on {link} ({family})"))
            .seen(why.to_string())
            .fix("run `vipd doctor` as root, with the interface up")
    });
    let told = heard.iter().filter_map(|(sender, (advert, count))| {
        let link = links.get(sender.link).copied().unwrap_or_default();
        judge(model, link, sender, advert, *count)
    });
    nobody.chain(told).collect()
}

/// An advert by its version nibble; a trailer of signed adverts is cut off by the count of addresses.
fn read(family: Family, message: &[u8]) -> Option<Advert> {
    let version = match message.first()? >> 4 {
        2 => Version::V2,
        3 => Version::V3,
        _ => return None,
    };
    let len = vrrp::message_len(version, family, usize::from(*message.get(3)?));
    Advert::decode(version, family, message.get(..len)?)
}

fn judge(
    model: &Model,
    link: &str,
    sender: &Sender,
    advert: &Advert,
    count: u32,
) -> Option<Finding> {
    let family = if sender.v6 { Family::V6 } else { Family::V4 };
    let list: Vec<String> = advert.addresses.iter().map(ToString::to_string).collect();
    let seen = format!(
        "{count} adverts of {} (version {}, priority {}) for {}",
        sender.src,
        if advert.version == Version::V2 { 2 } else { 3 },
        advert.priority,
        list.join(", ")
    );
    let ours = |i: &&Instance| usize::from(i.link.0) == sender.link && i.vrid == advert.vrid;
    let Some(instance) = model.instances.iter().find(ours) else {
        let what = format!("VRID {} on {} ({family}) belongs to others", sender.vrid, link);
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
            sender.vrid, instance.name, link
        );
        Finding::problem("network", what).seen(seen).fix(format!(
            "another VRID for {}, unless {} is a host of this group with an older file",
            instance.name, sender.src
        ))
    })
}
