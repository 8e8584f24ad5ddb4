//! Listens for adverts of others: VRIDs in use, with their senders, groups that collide with one of ours, and clocks: a
//! signed advert bears the time of its sender.

use super::{Finding, Patient};
use crate::sys::clock;
use crate::sys::listen::listen;
use std::collections::BTreeMap;
use std::net::IpAddr;
use vipd_core::config::model::{Auth, Instance, Model};
use vipd_core::types::{Family, Version};
use vipd_core::wire::auth::stamped;
use vipd_core::wire::vrrp::{self, Advert};

/// Clocks that differ by less than this are said to agree, seconds.
const AGREES: f64 = 1.0;

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
    let mut clocks: BTreeMap<IpAddr, f64> = BTreeMap::new();
    let deaf = listen(&links, scan, |said| {
        let Some((advert, trailer)) = read(said.family, &said.message) else { return };
        if let Some(theirs) = stamped(trailer) {
            // What waited in a queue looks old: the newest one is the nearest to the truth.
            let ahead = (theirs.0 as f64 - clock::utc().0 as f64) / 65_536.0;
            let known = clocks.entry(said.src).or_insert(ahead);
            *known = if ahead.abs() < known.abs() { ahead } else { *known };
        }
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
    let apart = clocks.iter().filter_map(|(src, ahead)| offset(model, *src, *ahead));
    nobody.chain(told).chain(apart).collect()
}

/// The clock of `src` is `ahead` of this one, in seconds: how much of that do signed adverts allow?
fn offset(model: &Model, src: IpAddr, ahead: f64) -> Option<Finding> {
    let window = model.instances.iter().filter_map(|i| match &i.auth {
        Auth::Hmac(hmac) => hmac.window,
        _ => None,
    });
    let window = window.min().map(|w| w.as_secs_f64());
    if ahead.abs() < AGREES {
        return None;
    }
    let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
    let what = format!("the clock of {src} is {:.1} s {direction} that of this host", ahead.abs());
    let (finding, seen) = match window {
        // Half of it: the rest is for the network and for what the clocks will do.
        Some(window) if ahead.abs() > window / 2.0 => (
            Finding::problem("network", what),
            format!("by the time in its signed adverts; the window is {window} s"),
        ),
        Some(window) => (
            Finding::note("network", what),
            format!("by the time in its signed adverts; the window is {window} s"),
        ),
        None => (
            Finding::note("network", what),
            "by the time in its signed adverts; nothing here asks for it".into(),
        ),
    };
    Some(finding.seen(seen).fix("run chrony or systemd-timesyncd on every host"))
}

/// An advert by its version nibble, and its trailer: what follows the addresses that it counts.
fn read(family: Family, message: &[u8]) -> Option<(Advert, &[u8])> {
    let version = match message.first()? >> 4 {
        2 => Version::V2,
        3 => Version::V3,
        _ => return None,
    };
    let len = vrrp::message_len(version, family, usize::from(*message.get(3)?));
    let (advert, trailer) = message.split_at_checked(len)?;
    Some((Advert::decode(version, family, advert)?, trailer))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn clocks_are_judged_by_the_window_of_signed_adverts() {
        let text = |auth: &str| {
            format!(
                "[hosts.lb1]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\n{auth}"
            )
        };
        let model = |auth: &str| {
            vipd_core::config::load(&text(auth), "vipd.toml", "lb1")
                .map(|(model, _)| model)
                .unwrap()
        };
        let src = IpAddr::from([192, 0, 2, 12]);
        let unsigned = model("");
        assert_eq!(offset(&unsigned, src, -0.4), None);
        assert!(!offset(&unsigned, src, -7.25).unwrap().problem);
        let signed = model(
            "[instance.web.hmac]\nmode = \"enforce\"\nkeys = { \"1\" = \"/etc/vipd/advert.key\" }\nwindow = \"10s\"\n",
        );
        assert!(!offset(&signed, src, 3.0).unwrap().problem);
        let found = offset(&signed, src, -7.25).unwrap();
        assert!(found.problem);
        assert_eq!(found.what, "the clock of 192.0.2.12 is 7.2 s behind that of this host");
    }
}
