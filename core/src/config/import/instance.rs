//! `vrrp_instance` as it is written.
//!
//! Called by `translate`. What a line means beside others is decided in `complete`, which also says so to the report;
//! lines that mean something by themselves are reported here.

use super::address::{self, Address};
use super::blocks::Node;
use super::hooks;
use super::keywords::{self, Scope};
use super::report::Notes;
use super::text;
use super::trackers::Kind;
use std::net::IpAddr;

/// What `track_*` blocks name.
#[derive(Copy, Clone)]
pub(super) enum Tracked {
    Interface,
    Named(Kind),
}

/// A `vrrp_instance`; a value with its line where the line is still to be reported.
pub(super) struct Written<'n> {
    pub(super) node: &'n Node,
    pub(super) interface: Option<&'n Node>,
    pub(super) vrid: Option<(&'n Node, u8)>,
    pub(super) priority: Option<(&'n Node, u8)>,
    pub(super) state: Option<&'n Node>,
    /// Milliseconds.
    pub(super) interval: Option<(&'n Node, u64)>,
    pub(super) version: Option<(&'n Node, u8)>,
    pub(super) nopreempt: Option<&'n Node>,
    /// Milliseconds.
    pub(super) preempt_delay: Option<(&'n Node, u64)>,
    pub(super) addresses: Vec<(&'n Node, Address)>,
    pub(super) excluded: Vec<(&'n Node, Address)>,
    pub(super) source: Option<(&'n Node, IpAddr)>,
    pub(super) track_source: Option<&'n Node>,
    pub(super) peers: Option<(&'n Node, Vec<IpAddr>)>,
    pub(super) has_ttl: bool,
    pub(super) authentication: Option<&'n Node>,
    pub(super) hmac: Option<&'n Node>,
    pub(super) vmac: Option<&'n Node>,
    pub(super) accept: Option<(&'n Node, bool)>,
    pub(super) strict: Option<(&'n Node, bool)>,
    pub(super) short_checksum: Option<(&'n Node, bool)>,
    pub(super) tracked: Vec<(&'n Node, Tracked)>,
    pub(super) routes: Vec<&'n Node>,
    pub(super) rules: Vec<&'n Node>,
    pub(super) notify: Vec<&'n Node>,
}

/// Is a switch on? It stands alone, or with a word.
pub(super) fn is_on(line: &Node) -> bool {
    !matches!(line.arg(), "off" | "false" | "no")
}

/// The lines of tracking blocks, those of `track_*` with the things named on the line itself included.
pub(super) fn tracked_lines<'n>(
    block: &'n Node,
    what: Tracked,
    notes: &mut Notes,
) -> Vec<(&'n Node, Tracked)> {
    notes.exact(block, "its lines below");
    block.children.iter().map(|line| (line, what)).collect()
}

/// Which things a block of this keyword tracks.
pub(super) fn tracks(keyword: &str) -> Option<Tracked> {
    match keyword {
        "track_interface" => Some(Tracked::Interface),
        other => Kind::of_use(other).map(Tracked::Named),
    }
}

/// Reads a block.
pub(super) fn read<'n>(node: &'n Node, notes: &mut Notes) -> Written<'n> {
    let mut it = Written {
        node,
        interface: None,
        vrid: None,
        priority: None,
        state: None,
        interval: None,
        version: None,
        nopreempt: None,
        preempt_delay: None,
        addresses: Vec::new(),
        excluded: Vec::new(),
        source: None,
        track_source: None,
        peers: None,
        has_ttl: false,
        authentication: None,
        hmac: None,
        vmac: None,
        accept: None,
        strict: None,
        short_checksum: None,
        tracked: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        notify: Vec::new(),
    };
    for line in &node.children {
        read_line(&mut it, line, notes);
    }
    it
}

fn read_line<'n>(it: &mut Written<'n>, line: &'n Node, notes: &mut Notes) {
    match line.keyword() {
        "interface" => it.interface = Some(line),
        "state" => it.state = Some(line),
        "virtual_router_id" => it.vrid = octet(line, notes),
        "priority" => it.priority = octet(line, notes),
        "advert_int" => it.interval = seconds(line, notes),
        "preempt_delay" => it.preempt_delay = seconds(line, notes),
        "version" | "vrrp_version" => match line.arg() {
            "2" => it.version = Some((line, 2)),
            "3" => it.version = Some((line, 3)),
            _ => notes.dropped(line, "is no version: 2 or 3"),
        },
        "nopreempt" => it.nopreempt = Some(line),
        "preempt" => {
            notes.exact(line, "preempt");
            if let Some(earlier) = it.nopreempt.take() {
                notes.exact(earlier, "a preempt below takes it back");
            }
        }
        "virtual_ipaddress" => read_addresses(&mut it.addresses, line, "addresses", notes),
        "virtual_ipaddress_excluded" => {
            read_addresses(&mut it.excluded, line, "unadvertised", notes);
        }
        "no_virtual_ipaddress" => {
            notes.dropped(line, "an instance of vipd has an address; without one, let a hook of an instance that has one do the work");
        }
        "unicast_src_ip" | "mcast_src_ip" => match line.arg().parse() {
            Ok(addr) => it.source = Some((line, addr)),
            Err(_) => notes.dropped(line, "is no address"),
        },
        "track_src_ip" => it.track_source = Some(line),
        "unicast_peer" => read_peers(it, line, notes),
        "unicast_ttl" => {
            it.has_ttl = line.arg() == "255";
            if it.has_ttl {
                notes.exact(line, "vipd sends 255, and takes nothing less");
            } else {
                notes.approximated(line, "vipd sends 255, and takes nothing less: peers behind a router are not possible");
            }
        }
        "mcast_dst_ip" => {
            if matches!(line.arg(), "224.0.0.18" | "ff02::12") {
                notes.exact(line, "the group of VRRP");
            } else {
                notes.dropped(
                    line,
                    "vipd speaks to the group of VRRP only, 224.0.0.18 and ff02::12",
                );
                notes.beside(format!(
                    "{}: remove mcast_dst_ip from keepalived, or use unicast",
                    it.node.arg()
                ));
            }
        }
        "authentication" => it.authentication = Some(line),
        "auth_hmac" => it.hmac = Some(line),
        "use_vmac" => it.vmac = Some(line),
        "accept" => it.accept = Some((line, true)),
        "no_accept" => it.accept = Some((line, false)),
        "strict_mode" | "vrrp_strict" => it.strict = Some((line, is_on(line))),
        "v3_checksum_as_v2" => it.short_checksum = Some((line, is_on(line))),
        "down_timer_adverts" => {
            if line.arg() == "3" {
                notes.exact(line, "a silent owner is replaced after three adverts");
            } else {
                notes.dropped(line, "vipd waits for three adverts, as RFC 9568 says: a shorter advert-interval finds out sooner");
            }
        }
        "virtual_routes" => {
            notes.exact(line, "its lines below");
            it.routes.extend(&line.children);
        }
        "virtual_rules" => {
            notes.exact(line, "its lines below");
            it.rules.extend(&line.children);
        }
        notify if hooks::is_notify(notify) => it.notify.push(line),
        other => match (tracks(other), keywords::fate(Scope::Instance, other)) {
            (Some(what), _) => it.tracked.extend(tracked_lines(line, what, notes)),
            (None, Some((fate, why))) => notes.whole(line, fate, why),
            // The sweep says that it is lost.
            (None, None) => {}
        },
    }
}

/// A number from 1 to 255.
fn octet<'n>(line: &'n Node, notes: &mut Notes) -> Option<(&'n Node, u8)> {
    match line.arg().parse::<u8>() {
        Ok(number) if number > 0 => Some((line, number)),
        _ => {
            notes.dropped(line, "is no number from 1 to 255");
            None
        }
    }
}

fn seconds<'n>(line: &'n Node, notes: &mut Notes) -> Option<(&'n Node, u64)> {
    let found = text::millis(line.arg());
    if found.is_none() {
        notes.dropped(line, "is no number of seconds");
    }
    Some((line, found?))
}

fn read_addresses<'n>(
    list: &mut Vec<(&'n Node, Address)>,
    block: &'n Node,
    key: &str,
    notes: &mut Notes,
) {
    notes.exact(block, "its lines below");
    for line in &block.children {
        let Some(address) = address::read(line, notes) else { continue };
        if list.iter().any(|(_, other)| other.addr == address.addr) {
            notes.exact(line, "is there already");
            continue;
        }
        notes.exact(line, key);
        list.push((line, address));
    }
}

fn read_peers<'n>(it: &mut Written<'n>, block: &'n Node, notes: &mut Notes) {
    let mut peers = Vec::new();
    for line in &block.children {
        match line.keyword().parse::<IpAddr>() {
            Ok(addr) if !addr.is_multicast() && !addr.is_unspecified() && !addr.is_loopback() => {
                if !peers.contains(&addr) {
                    peers.push(addr);
                }
                if line.args().is_empty() {
                    notes.exact(line, "unicast-peers");
                } else {
                    notes.approximated(
                        line,
                        "unicast-peers; vipd takes adverts with TTL 255 only, from next to it",
                    );
                }
            }
            _ => notes.dropped(line, "is no address of a host"),
        }
    }
    if peers.is_empty() {
        notes.approximated(
            block,
            "without a peer keepalived falls back to multicast, and so does this",
        );
    } else {
        it.peers = Some((block, peers));
    }
}
