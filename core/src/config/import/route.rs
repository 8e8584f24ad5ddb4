//! Lines of `virtual_routes` and `virtual_rules`.
//!
//! Called by `complete`, when it is known which instance has which addresses.

use super::blocks::Node;
use super::draft::Keys;
use super::report::Notes;
use super::text;
use ipnet::IpNet;
use std::net::IpAddr;

/// A route.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) to: IpNet,
    pub(super) via: Option<IpAddr>,
    pub(super) src: Option<IpAddr>,
    pub(super) dev: Option<String>,
    table: Option<u32>,
    metric: Option<u32>,
}

impl Route {
    /// As a table of vipd.toml.
    pub(super) fn keys(&self) -> Keys {
        let mut keys = Keys::default();
        keys.set("to", text::string(&self.to.to_string()));
        if let Some(via) = self.via {
            keys.set("via", text::string(&via.to_string()));
        }
        if let Some(src) = self.src {
            keys.set("src", text::string(&src.to_string()));
        }
        if let Some(table) = self.table {
            keys.set("table", table.to_string());
        }
        if let Some(metric) = self.metric {
            keys.set("metric", metric.to_string());
        }
        keys
    }
}

/// A prefix as `ip route` takes it: host bits do not count.
fn prefix(word: &str, is_v6: bool) -> Option<IpNet> {
    match word {
        "default" | "all" | "any" => {
            let all = if is_v6 { "::/0" } else { "0.0.0.0/0" };
            all.parse().ok()
        }
        _ => match word.parse::<IpAddr>() {
            Ok(addr) => Some(addr.into()),
            Err(_) => word.parse::<IpNet>().ok().map(|net| net.trunc()),
        },
    }
}

/// A table by number or by one of the names that every host has.
fn table(word: &str) -> Option<u32> {
    match word {
        "main" => Some(254),
        "default" => Some(253),
        "local" => Some(255),
        number => number.parse().ok().filter(|n| *n > 0),
    }
}

/// A unicast address.
fn address(word: Option<&str>) -> Option<IpAddr> {
    let addr = word?.split('/').next()?.parse::<IpAddr>().ok()?;
    (!addr.is_unspecified() && !addr.is_multicast() && !addr.is_loopback()).then_some(addr)
}

/// The route of a line; `None`: said to the report. `is_v6`: of the instance, for routes that do not tell.
pub(super) fn read(line: &Node, is_v6: bool, notes: &mut Notes) -> Option<Route> {
    let is_v6 = is_v6 && !line.words.iter().any(|w| w.parse::<std::net::Ipv4Addr>().is_ok())
        || line.words.iter().any(|w| w.parse::<std::net::Ipv6Addr>().is_ok());
    let mut route = Route {
        to: prefix("default", is_v6)?,
        via: None,
        src: None,
        dev: None,
        table: None,
        metric: None,
    };
    let mut to = None;
    let mut words = line.words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "src" => route.src = address(words.next()),
            "via" | "gw" => {
                let next = words.next();
                let next = if matches!(next, Some("inet" | "inet6")) { words.next() } else { next };
                route.via = address(next);
                if route.via.is_none() {
                    notes.dropped(line, "the next hop is no address");
                    return None;
                }
            }
            "dev" | "oif" => route.dev = words.next().map(str::to_owned),
            "table" => match words.next().and_then(table) {
                Some(number) => route.table = Some(number),
                None => {
                    notes.dropped(line, "the table has a name of this host only: write its number from /etc/iproute2/rt_tables");
                    return None;
                }
            },
            "metric" | "priority" | "preference" => {
                route.metric = words.next().and_then(|w| w.parse().ok());
            }
            "to" | "unicast" | "no_track" => {}
            "scope" | "proto" | "protocol" => {
                words.next();
            }
            "nexthop" | "or" => {
                notes.dropped(
                    line,
                    "a route over several next hops has no counterpart: write one route with one",
                );
                return None;
            }
            "blackhole" | "unreachable" | "prohibit" | "throw" | "local" | "broadcast"
            | "multicast" | "nat" => {
                notes.dropped(line, format!("routes of type {word} have no counterpart: write them into the network configuration"));
                return None;
            }
            "onlink" | "initcwnd" | "initrwnd" | "mtu" | "advmss" | "rtt" | "rttvar" | "window"
            | "cwnd" | "ssthresh" | "realms" | "hoplimit" | "tos" | "dsfield" | "encap"
            | "quickack" | "congctl" | "expires" | "pref" | "reordering" | "rto_min"
            | "features" | "fastopen_no_cookie" | "ttl-propagate" => {
                if word != "onlink" {
                    words.next();
                }
                notes.dropped(
                    line,
                    format!("{word}: routes of vipd have to, via, src, table and metric"),
                );
            }
            word if to.is_none() => match prefix(word, is_v6) {
                Some(net) => to = Some(net),
                None => {
                    notes.dropped(line, format!("\"{word}\" is no destination"));
                    return None;
                }
            },
            other => notes.dropped(line, format!("\"{other}\" is not understood here")),
        }
    }
    let Some(to) = to else {
        notes.dropped(line, "has no destination");
        return None;
    };
    route.to = to;
    if [route.via, route.src].into_iter().flatten().any(|a| a.is_ipv4() != to.addr().is_ipv4()) {
        notes.dropped(line, "destination, next hop and source are of different families");
        return None;
    }
    Some(route)
}

/// The rule of a line: is it IPv4, and its keys without `preference`, which may be written too.
pub(super) fn rule(
    line: &Node,
    is_v6: bool,
    notes: &mut Notes,
) -> Option<(bool, Keys, Option<u32>)> {
    let (mut from, mut to, mut lookup, mut preference) = (None, None, None, None);
    let mut words = line.words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "from" => {
                from = words
                    .next()
                    .filter(|w| *w != "all" && *w != "any")
                    .and_then(|w| prefix(w, is_v6))
            }
            "to" => {
                to = words
                    .next()
                    .filter(|w| *w != "all" && *w != "any")
                    .and_then(|w| prefix(w, is_v6))
            }
            "table" | "lookup" => match words.next().and_then(table) {
                Some(number) => lookup = Some(number),
                None => {
                    notes.dropped(line, "the table has a name of this host only: write its number from /etc/iproute2/rt_tables");
                    return None;
                }
            },
            "priority" | "preference" | "order" | "pref" => {
                preference =
                    words.next().and_then(|w| w.parse().ok()).filter(|n| (1..=32_765).contains(n));
            }
            "no_track" => {}
            other => {
                notes.dropped(
                    line,
                    format!("\"{other}\": rules of vipd have from, to, table and preference"),
                );
                return None;
            }
        }
    }
    let (Some(lookup), Some(any)) = (lookup, from.or(to)) else {
        notes.dropped(line, "a rule of vipd needs a table, and from or to");
        return None;
    };
    if from.zip(to).is_some_and(|(a, b): (IpNet, IpNet)| a.addr().is_ipv4() != b.addr().is_ipv4()) {
        notes.dropped(line, "from and to are of different families");
        return None;
    }
    let mut keys = Keys::default();
    for (key, net) in [("from", from), ("to", to)] {
        if let Some(net) = net {
            keys.set(key, text::string(&net.to_string()));
        }
    }
    keys.set("table", lookup.to_string());
    Some((any.addr().is_ipv4(), keys, preference))
}
