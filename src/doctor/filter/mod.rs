//! Packet filters that eat adverts or heartbeats.

mod ruleset;

use super::{Finding, Patient};
use ruleset::{Packet, Ruleset, Way};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use vipd_core::config::model::{Model, Transport};
use vipd_core::types::Family;
use vipd_core::wire::vrrp;

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// Asks the ruleset what it does with every kind of packet that vipd lives by.
pub(super) fn probe(patient: &Patient) -> Vec<Finding> {
    let Some(model) = patient.model() else { return Vec::new() };
    let mut found = Vec::new();
    let old = patient.read("proc/net/ip_tables_names").filter(|tables| !tables.is_empty());
    if let Some(tables) = old {
        found.push(
            Finding::note("filter", "rules of iptables-legacy are there and were not looked at")
                .seen(format!("/proc/net/ip_tables_names: {}", tables.replace('\n', " ")))
                .fix("iptables-legacy -S: let protocol 112 and the heartbeat port pass"),
        );
    }
    let rules = match listed() {
        Ok(rules) => rules,
        Err(why) => {
            found.push(
                Finding::note("filter", "the packet filter was not looked at")
                    .seen(why)
                    .fix("install nftables and run `vipd doctor` as root"),
            );
            return found;
        }
    };
    found.extend(adverts(model, &rules));
    found.extend(heartbeats(model, &rules));
    found
}

fn listed() -> Result<Ruleset, String> {
    let output = Command::new("nft")
        .args(["-n", "-j", "list", "ruleset"])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run nft: {e}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("nft: {}", words.lines().next().unwrap_or("no reason given")));
    }
    Ruleset::read(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| "nft printed something else than a ruleset".into())
}

fn adverts(model: &Model, rules: &Ruleset) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for instance in &model.instances {
        let Some(link) = model.links.get(usize::from(instance.link.0)) else { continue };
        for family in instance.families() {
            let far: Vec<IpAddr> = match &instance.transport {
                Transport::Multicast => vec![family.group()],
                Transport::Unicast(peers) => {
                    peers.iter().copied().filter(|peer| Family::of(peer) == family).collect()
                }
            };
            for far in far {
                let own = instance.source_in(family);
                let group = far.is_multicast();
                let packet = |way: Way| Packet {
                    way,
                    link: link.name.to_string(),
                    family,
                    protocol: vrrp::PROTOCOL,
                    src: if way == Way::Out { own } else { Some(far).filter(|_| !group) },
                    dst: if way == Way::Out || group { Some(far) } else { own },
                    port: None,
                };
                let allow = "meta l4proto 112 accept";
                for way in [Way::In, Way::Out] {
                    found.extend(dropped(rules, &packet(way), "adverts", allow));
                }
            }
        }
    }
    // Several instances on one interface have one answer.
    found.dedup_by(|a, b| a == b);
    found
}

fn heartbeats(model: &Model, rules: &Ruleset) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(port) = model.heartbeat.as_ref().map(|heartbeat| heartbeat.port) else { return found };
    for (own, theirs, host) in super::paths(model) {
        let Some(link) = super::interface_of(own) else { continue };
        let packet = |way: Way| Packet {
            way,
            link: link.clone(),
            family: Family::of(&own),
            protocol: UDP,
            src: Some(if way == Way::Out { own } else { theirs }),
            dst: Some(if way == Way::Out { theirs } else { own }),
            port: Some(port),
        };
        let what = format!("heartbeats ({host}, {theirs})");
        for way in [Way::In, Way::Out] {
            found.extend(dropped(rules, &packet(way), &what, &format!("udp dport {port} accept")));
        }
    }
    found
}

fn dropped(rules: &Ruleset, packet: &Packet, what: &str, allow: &str) -> Option<Finding> {
    let drop = rules.drops(packet)?;
    let way = if packet.way == Way::In { "arrive" } else { "leave" };
    let name = if packet.family == Family::V4 { "IPv4" } else { "IPv6" };
    Some(
        Finding::problem(
            "filter",
            format!("nftables drops {what} that {way} on {} ({name})", packet.link),
        )
        .seen(drop.by)
        .fix(format!(
            "nft insert rule {} {allow}\nand the same in the file that the ruleset is loaded from; docs/firewall.md",
            drop.chain
        )),
    )
}
