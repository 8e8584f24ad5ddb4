//! What a ruleset of nftables does with a packet, as far as that can be told by reading it.
//!
//! Called by `filter`, with what `nft -n -j list ruleset` prints. A condition that cannot be judged (a limit, a
//! connection's state, a map, an extension of iptables) makes the answer unknown where it matters, never "dropped".

use serde_json::Value;
use std::net::IpAddr;
use vipd_core::types::Family;

/// Chains deeper than this are not followed; the kernel allows 16.
const DEPTH: u8 = 16;
/// `ct state new`, as `nft -n` prints it.
const CT_NEW: u64 = 8;
/// `meta pkttype multicast`, as `nft -n` prints it.
const MULTICAST: u64 = 2;

/// Where a packet meets the filter.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It arrives.
    In,
    /// It leaves.
    Out,
}

/// What is known of a packet.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) way: Way,
    pub(super) link: String,
    pub(super) family: Family,
    /// IP protocol.
    pub(super) protocol: u8,
    pub(super) src: Option<IpAddr>,
    pub(super) dst: Option<IpAddr>,
    /// Source and destination port, of UDP.
    pub(super) port: Option<u16>,
}

/// What drops a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Drop {
    /// Family, table and name of the chain, as `nft list chain` wants them.
    pub(super) chain: String,
    /// The rule or the policy.
    pub(super) by: String,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// No rule of the chain decides.
    Open,
    Accepted,
    Dropped(Drop),
    /// It hangs on what cannot be judged.
    Unknown,
}

/// A ruleset as `nft -j` prints it.
#[derive(Debug)]
pub(super) struct Ruleset {
    entries: Vec<Value>,
}

impl Ruleset {
    /// Reads the output of `nft -n -j list ruleset`; `None` when it is something else.
    pub(super) fn read(json: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(json).ok()?;
        Some(Self { entries: document.get("nftables")?.as_array()?.clone() })
    }

    /// The rule or policy that drops `packet` for sure.
    pub(super) fn drops(&self, packet: &Packet) -> Option<Drop> {
        let hooks: &[&str] = match packet.way {
            Way::In => &["prerouting", "input"],
            Way::Out => &["output", "postrouting"],
        };
        let families: [&str; 2] = match packet.family {
            Family::V4 => ["inet", "ip"],
            Family::V6 => ["inet", "ip6"],
        };
        let bases = self.all("chain").filter(|chain| {
            hooks.contains(&word(chain, "hook")) && families.contains(&word(chain, "family"))
        });
        // One drop is enough, whatever other chains accept.
        bases.filter_map(|chain| self.base(chain, packet)).next()
    }

    fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.entries.iter().filter_map(move |entry| entry.get(kind))
    }

    fn base(&self, chain: &Value, packet: &Packet) -> Option<Drop> {
        match self.chain(chain, word(chain, "name"), packet, 0) {
            Fate::Dropped(by) => Some(by),
            Fate::Open if word(chain, "policy") == "drop" => {
                let chain = title(chain);
                let by = format!("no rule of chain {chain} accepts them, and its policy is drop");
                Some(Drop { chain, by })
            }
            Fate::Open | Fate::Accepted | Fate::Unknown => None,
        }
    }

    /// Follows the rules of the chain `name` in the table of `place`.
    fn chain(&self, place: &Value, name: &str, packet: &Packet, depth: u8) -> Fate {
        let same = |rule: &&Value| {
            ["family", "table"].iter().all(|key| rule.get(key) == place.get(key))
                && word(rule, "chain") == name
        };
        if depth > DEPTH {
            return Fate::Unknown;
        }
        for rule in self.all("rule").filter(same) {
            match self.rule(rule, packet, depth) {
                Step::Next => {}
                Step::Return => return Fate::Open,
                Step::Ends(fate) => return fate,
            }
        }
        Fate::Open
    }

    fn rule(&self, rule: &Value, packet: &Packet, depth: u8) -> Step {
        // False: a condition of the rule cannot be judged.
        let mut certain = true;
        for statement in rule.get("expr").and_then(Value::as_array).into_iter().flatten() {
            let Some((kind, body)) = statement.as_object().and_then(|s| s.iter().next()) else {
                continue;
            };
            let fate = match kind.as_str() {
                "match" => match self.matches(rule, body, packet) {
                    Some(false) => return Step::Next,
                    Some(true) => continue,
                    None => {
                        certain = false;
                        continue;
                    }
                },
                "counter" | "log" | "mangle" | "comment" | "ct helper" | "notrack" => continue,
                "accept" => Fate::Accepted,
                "drop" | "reject" => {
                    let (chain, handle) = (title(rule), rule.get("handle").unwrap_or(&Value::Null));
                    let by = format!("{kind} in chain {chain}, rule with handle {handle}");
                    Fate::Dropped(Drop { chain, by })
                }
                "return" if certain => return Step::Return,
                "jump" | "goto" => {
                    let fate = self.chain(rule, word(body, "target"), packet, depth + 1);
                    match (kind.as_str(), fate) {
                        ("jump", Fate::Open) => continue,
                        // The base chain goes on after a goto as after its own last rule.
                        ("goto", Fate::Open) if certain => return Step::Return,
                        (_, fate) => fate,
                    }
                }
                "vmap" | "return" => return Step::Ends(Fate::Unknown),
                // A limit, an extension of iptables, a queue: whether the rest applies is unknown.
                _ => {
                    certain = false;
                    continue;
                }
            };
            return match fate {
                fate if certain => Step::Ends(fate),
                // It may be dropped here; what follows decides for the others.
                Fate::Dropped(_) => Step::Next,
                Fate::Open | Fate::Accepted | Fate::Unknown => Step::Ends(Fate::Unknown),
            };
        }
        Step::Next
    }

    /// Does the packet meet the condition? `None`: cannot be told.
    fn matches(&self, rule: &Value, condition: &Value, packet: &Packet) -> Option<bool> {
        let field = match field(condition.get("left")?, packet) {
            Known::Is(field) => field,
            Known::Absent => return Some(false),
            Known::Unknown => return None,
        };
        let holds = self.contains(rule, condition.get("right")?, &field)?;
        match word(condition, "op") {
            "==" | "in" => Some(holds),
            "!=" => Some(!holds),
            _ => None,
        }
    }

    fn contains(&self, rule: &Value, right: &Value, field: &Field) -> Option<bool> {
        let any = |values: &[Value]| {
            let answers: Vec<Option<bool>> =
                values.iter().map(|value| self.contains(rule, value, field)).collect();
            if answers.contains(&Some(true)) {
                Some(true)
            } else if answers.contains(&None) {
                None
            } else {
                Some(false)
            }
        };
        match right {
            Value::Array(values) => any(values),
            Value::Number(number) => match field {
                Field::Number(mine) => Some(number.as_u64()? == *mine),
                Field::Link(_) | Field::Addr(_) => None,
            },
            Value::String(name) => match (name.strip_prefix('@'), field) {
                (Some(set), _) => {
                    let of =
                        |s: &&Value| word(s, "name") == set && s.get("table") == rule.get("table");
                    any(self.all("set").find(of)?.get("elem")?.as_array()?)
                }
                (None, Field::Link(link)) => Some(match name.strip_suffix('*') {
                    Some(start) => link.starts_with(start),
                    None => link == name,
                }),
                (None, Field::Addr(addr)) => Some(name.parse::<IpAddr>().ok()? == *addr),
                (None, Field::Number(_)) => None,
            },
            Value::Object(object) => {
                let (kind, body) = object.iter().next()?;
                match (kind.as_str(), field) {
                    ("set", _) => any(body.as_array()?),
                    ("elem", _) => self.contains(rule, body.get("val")?, field),
                    ("range", Field::Number(mine)) => {
                        let ends = body.as_array()?;
                        Some((ends.first()?.as_u64()?..=ends.get(1)?.as_u64()?).contains(mine))
                    }
                    ("range", Field::Addr(mine)) => {
                        let ends = body.as_array()?;
                        let end = |n: usize| ends.get(n)?.as_str()?.parse::<IpAddr>().ok();
                        Some((end(0)?..=end(1)?).contains(mine))
                    }
                    ("prefix", Field::Addr(mine)) => {
                        let len = u8::try_from(body.get("len")?.as_u64()?).ok()?;
                        let addr = word(body, "addr").parse().ok()?;
                        Some(ipnet::IpNet::new(addr, len).ok()?.contains(mine))
                    }
                    _ => None,
                }
            }
            Value::Null | Value::Bool(_) => None,
        }
    }
}

enum Step {
    Next,
    Return,
    Ends(Fate),
}

/// A field of the packet that a rule looks at.
enum Field {
    Number(u64),
    Link(String),
    Addr(IpAddr),
}

enum Known {
    Is(Field),
    /// A packet of this kind has no such field.
    Absent,
    Unknown,
}

fn field(left: &Value, packet: &Packet) -> Known {
    let number = |n: u64| Known::Is(Field::Number(n));
    let link = |way: Way| match packet.way == way {
        true => Known::Is(Field::Link(packet.link.clone())),
        false => Known::Absent,
    };
    let multicast = packet.dst.is_some_and(|dst| dst.is_multicast());
    if let Some(meta) = left.get("meta") {
        return match word(meta, "key") {
            "l4proto" => number(packet.protocol.into()),
            "nfproto" => number(if packet.family == Family::V4 { 2 } else { 10 }),
            "iif" | "iifname" => link(Way::In),
            "oif" | "oifname" => link(Way::Out),
            "pkttype" if multicast => number(MULTICAST),
            _ => Known::Unknown,
        };
    }
    if let Some(ct) = left.get("ct") {
        // Nobody answers to a group: its packets stay new for ever.
        return match word(ct, "key") {
            "state" if multicast => number(CT_NEW),
            _ => Known::Unknown,
        };
    }
    let Some(payload) = left.get("payload") else { return Known::Unknown };
    let addr = |addr: Option<IpAddr>| addr.map_or(Known::Unknown, |a| Known::Is(Field::Addr(a)));
    match (word(payload, "protocol"), word(payload, "field")) {
        ("ip", _) if packet.family == Family::V6 => Known::Absent,
        ("ip6", _) if packet.family == Family::V4 => Known::Absent,
        ("ip", "protocol") | ("ip6", "nexthdr") => number(packet.protocol.into()),
        ("ip" | "ip6", "saddr") => addr(packet.src),
        ("ip" | "ip6", "daddr") => addr(packet.dst),
        ("udp", "sport" | "dport") | ("th", "sport" | "dport") => {
            packet.port.map_or(Known::Absent, |port| number(port.into()))
        }
        ("tcp" | "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah" | "udplite", _) => {
            Known::Absent
        }
        _ => Known::Unknown,
    }
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The chain itself or the chain of a rule, as `nft list chain` wants it.
fn title(entry: &Value) -> String {
    let chain = if entry.get("chain").is_some() { "chain" } else { "name" };
    format!("{} {} {}", word(entry, "family"), word(entry, "table"), word(entry, chain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    fn ruleset(policy: &str, rules: &[Value]) -> Ruleset {
        let place = |name: &str| json!({"family": "inet", "table": "f", "chain": name});
        let mut entries = vec![
            json!({"chain": {"family": "inet", "table": "f", "name": "input", "hook": "input", "policy": policy}}),
            json!({"set": {"family": "inet", "table": "f", "name": "hosts", "elem": [{"prefix": {"addr": "10.0.0.0", "len": 8}}]}}),
            json!({"chain": {"family": "inet", "table": "f", "name": "speak"}}),
        ];
        let mut rule = place("speak");
        rule["expr"] = json!([is("meta", "l4proto", json!(112)), {"accept": null}]);
        entries.push(json!({"rule": rule}));
        for (n, expr) in rules.iter().enumerate() {
            let mut rule = place("input");
            rule["expr"] = expr.clone();
            rule["handle"] = json!(n);
            entries.push(json!({"rule": rule}));
        }
        Ruleset::read(&json!({"nftables": entries}).to_string()).unwrap()
    }

    fn is(kind: &str, key: &str, right: Value) -> Value {
        let left = match kind {
            "meta" | "ct" => json!({kind: {"key": key}}),
            protocol => json!({"payload": {"protocol": protocol, "field": key}}),
        };
        json!({"match": {"op": "==", "left": left, "right": right}})
    }

    fn advert(src: Option<&str>) -> Packet {
        Packet {
            way: Way::In,
            link: "eth0".into(),
            family: Family::V4,
            protocol: 112,
            src: src.map(|src| src.parse().unwrap()),
            dst: Some(Family::V4.group()),
            port: None,
        }
    }

    fn heartbeat() -> Packet {
        let dst = Some("10.9.0.11".parse().unwrap());
        Packet { protocol: 17, port: Some(7112), dst, ..advert(Some("10.9.0.12")) }
    }

    #[test]
    fn rules_and_policies_that_drop_are_found() {
        let cases = [
            (
                "accept",
                vec![json!([is("ip", "protocol", json!(112)), {"counter": {}}, {"drop": null}])],
                true,
            ),
            (
                "accept",
                vec![json!([is("meta", "l4proto", json!({"set": [17, 112]})), {"reject": null}])],
                true,
            ),
            ("accept", vec![json!([is("tcp", "dport", json!(22)), {"drop": null}])], false),
            ("drop", vec![json!([is("ct", "state", json!([2, 4])), {"accept": null}])], true),
            ("drop", vec![json!([is("ct", "state", json!([2, 4, 8])), {"accept": null}])], false),
            (
                "drop",
                vec![json!([is("meta", "iifname", json!("eth*")), {"jump": {"target": "speak"}}])],
                false,
            ),
            (
                "drop",
                vec![json!([is("meta", "iifname", json!("lo")), {"jump": {"target": "speak"}}])],
                true,
            ),
            ("drop", vec![json!([is("ip", "saddr", json!("@hosts")), {"accept": null}])], false),
            ("drop", vec![json!([is("ip6", "saddr", json!("@hosts")), {"accept": null}])], true),
            ("drop", vec![json!([{"limit": {"rate": 3}}, {"accept": null}])], false),
            ("accept", vec![json!([{"limit": {"rate": 3}}, {"drop": null}])], false),
        ];
        for (n, (policy, rules, drops)) in cases.into_iter().enumerate() {
            let found = ruleset(policy, &rules).drops(&advert(Some("10.9.0.12")));
            assert_eq!(found.is_some(), drops, "case {n}: {found:?}");
        }
    }

    #[test]
    fn a_sender_that_is_not_known_may_be_any() {
        let rules = [json!([is("ip", "saddr", json!("@hosts")), {"accept": null}])];
        assert_eq!(ruleset("drop", &rules).drops(&advert(None)), None);
    }

    #[test]
    fn heartbeats_have_a_port_and_may_belong_to_a_connection() {
        let closed = ruleset(
            "accept",
            &[json!([is("udp", "dport", json!({"range": [7000, 7200]})), {"drop": null}])],
        );
        let by = closed.drops(&heartbeat()).unwrap();
        assert_eq!(by.by, "drop in chain inet f input, rule with handle 0");
        assert_eq!(by.chain, "inet f input");
        assert_eq!(closed.drops(&advert(None)), None);
        let open = ruleset("drop", &[json!([is("ct", "state", json!([2, 4])), {"accept": null}])]);
        assert_eq!(open.drops(&heartbeat()), None);
        assert!(open.drops(&Packet { way: Way::Out, ..heartbeat() }).is_none());
    }
}
