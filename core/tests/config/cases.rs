//! Files with one thing wrong: where it is told, in which words, and with which fix.

use vipd_core::config::{Diagnostic, Severity, Style, load_all_hosts};

/// A legal file without heartbeats.
pub(crate) const PLAIN: &str = r#"
[hosts.lb1]
[hosts.lb2]

[instance.web]
vrid = 51
interface = "eth0"
addresses = ["192.0.2.10/24"]
priority = { lb1 = 150, lb2 = 100 }
#more
"#;

/// A legal file with heartbeats and two instances.
pub(crate) const BEATS: &str = r#"
[cluster]
name = "shop"
key-file = "/k"
#cluster
[hosts.lb1]
paths = ["192.0.2.11", "10.9.0.11"]
[hosts.lb2]
paths = ["192.0.2.12", "10.9.0.12"]

[instance.web]
vrid = 51
interface = "eth0"
addresses = ["192.0.2.10/24", "fe80::10/64"]
priority = { lb1 = 150, lb2 = 100 }
#web
[instance.wan]
vrid = 52
interface = "eth0"
addresses = ["192.0.2.20/24"]
priority = { lb1 = 150, lb2 = 100 }
#wan
"#;

/// What becomes of `base` when `from` is replaced by `to`. `#!` in `to` marks the line of the finding.
pub(crate) struct Case<'a>(
    pub(crate) &'a str,
    pub(crate) &'a str,
    pub(crate) &'a str,
    pub(crate) Severity,
    pub(crate) &'a str,
    pub(crate) &'a str,
);

/// Shorthand of the table.
pub(crate) const E: Severity = Severity::Error;
pub(crate) const W: Severity = Severity::Warning;
const VRID: &str = "vrid = 51";
const ETH: &str = "interface = \"eth0\"";
const ADDR: &str = "addresses = [\"192.0.2.10/24\"]";
pub(crate) const PRIO: &str = "priority = { lb1 = 150, lb2 = 100 }\n#more";
pub(crate) const MORE: &str = "#more";

#[rustfmt::skip]
const CASES: &[Case<'_>] = &[
    // Syntax, keys, kinds.
    Case(PLAIN, VRID, "vrid = #!", E, "not TOML", "quotes"),
    Case(PLAIN, VRID, "vrid = 51\nvrid = 52 #!", E, "duplicate key", ""),
    Case(PLAIN, VRID, "vird = 51 #!\nvrid = 51", E, "unknown key \"vird\" in [instance.web]", "did you mean \"vrid\"?"),
    Case(PLAIN, VRID, "frobnicate = 51 #!\nvrid = 51", E, "unknown key \"frobnicate\"", "[instance.web] takes: vrid, interface"),
    Case(PLAIN, "[instance.web]", "[instances.web] #!", E, "unknown key \"instances\" in the file", "did you mean \"instance\"?"),
    Case(PLAIN, "[hosts.lb1]", "[hosts.lb1] #h\npath = [] #!", E, "unknown key \"path\" in [hosts.lb1]", "did you mean \"paths\"?"),
    Case(PLAIN, MORE, "[sync.x] #s\nmembers = [] #!\ninstances = [\"web\"]", E, "unknown key \"members\" in [sync.x]", "instances"),
    Case(PLAIN, MORE, "hmac.key = {} #!\nhmac.keys = { 1 = \"/k\" }", E, "unknown key \"key\" in [instance.web.hmac]", "did you mean \"keys\"?"),
    Case(PLAIN, VRID, "vrid = \"51\" #!", E, "vrid must be an integer from 1 to 255, not \"51\"", "vrid = 51"),
    Case(PLAIN, "[instance.web]\nvrid = 51", "[instance.web] #!", E, "[instance.web] has no vrid", "add vrid = 51"),
    Case(PLAIN, "[instance.web]", "[cluster] #c\nheartbeat-port = 0 #!\n[instance.web]", E, "heartbeat-port must be an integer from 1 to 65535, not 0", "7112"),
    Case(PLAIN, "[instance.web]", "[cluster] #c\nkey-file = \"k\" #!\n[instance.web]", E, "key-file must be an absolute path, not \"k\"", "/etc/vipd/cluster.key"),
    Case(PLAIN, "[hosts.lb1]", "[hosts.\"l b\"] #!", E, "\"l b\" is not a name for [hosts.l b]", "letters"),
    Case(PLAIN, MORE, "[telemetry] #t\nlisten = \"9650\" #!", E, "9650 has no address", "write \"127.0.0.1:9650\""),
    Case(PLAIN, MORE, "[telemetry] #t\nlisten = \"127.0.0.1\" #!", E, "127.0.0.1 has no port", "with your port"),
    Case(PLAIN, MORE, "[telemetry] #t\nlisten = \"0.0.0.0:9650\" #!", E, "0.0.0.0:9650 is not one address", "127.0.0.1:9650"),
    Case(PLAIN, MORE, "[telemetry] #t\nlisten = 9650 #!", E, "listen must be an address with a port, or the absolute path of a socket, not 9650", "127.0.0.1:9650"),
    Case(PLAIN, MORE, "[telemetry] #t\nlisten = \"192.0.2.10:9650\" #!", E, "only while it owns it", "an address that the host keeps"),
    Case(PLAIN, MORE, "[telemetry] #t\nlisten = \"192.0.2.11:9650\" #!", W, "neither password nor TLS", "let a firewall admit"),
    Case(PLAIN, MORE, "[telemetry] #t\nlisten = { lb1 = \"127.0.0.1:9650\" } #!", E, "listen has no value for host lb2", "add lb2"),
    Case(PLAIN, MORE, "[telemetry] #t\nport = 9650 #!", E, "unknown key \"port\" in", "listen"),
    Case(PLAIN, MORE, "rule = [7] #!", E, "rule must be a list of tables, not 7", "preference"),
    Case(PLAIN, MORE, "hmac = 7 #!", E, "hmac must be a table, not 7", "keys"),
    Case(PLAIN, "[hosts.lb2]", "[hosts]\nlb2 = 7 #!", E, "hosts.lb2 must be a table, not 7", "begin a section with [hosts.lb2]"),
    // Single values.
    Case(PLAIN, VRID, "vrid = 0 #!", E, "1 to 255, not 0", "vrid = 51"),
    Case(PLAIN, VRID, "vrid = 256 #!", E, "1 to 255, not 256", "vrid = 51"),
    Case(PLAIN, ETH, "interface = \"an-interface-name\" #!", E, "1 to 15 characters", "eth0"),
    Case(PLAIN, ETH, "interface = \"\" #!", E, "1 to 15 characters, not \"\"", "eth0"),
    Case(PLAIN, PRIO, "priority = { lb1 = 0, lb2 = 100 } #!", E, "1 to 255, or a table of them by host, not 0", "lb1 = 150"),
    Case(PLAIN, MORE, "advert-interval = \"5ms\" #!", E, "10ms to 40.95s", "\"1s\""),
    Case(PLAIN, MORE, "advert-interval = \"15ms\" #!", E, "steps of 10ms, not 15ms", "multiple of 10ms"),
    Case(PLAIN, MORE, "advert-interval = \"41s\" #!", E, "10ms to 40.95s", "\"1s\""),
    Case(PLAIN, MORE, "advert-interval = 1 #!", E, "must be a duration from 10ms", "\"1s\""),
    Case(PLAIN, MORE, "version = 4 #!", E, "version must be 2 or 3, not 4", "version = 3"),
    Case(PLAIN, MORE, "preempt-delay = \"25h\" #!", E, "0s to 24h, not \"25h\"", "60s"),
    Case(PLAIN, MORE, "lease = true #!", E, "\"on\" or \"off\", not true", "lease = \"on\""),
    Case(PLAIN, MORE, "settle = \"1h\" #!", E, "0s to 10m, or \"off\", not \"1h\"", "35s"),
    Case(PLAIN, MORE, "claim = \"adress\" #!", E, "\"address\" or \"route\", not \"adress\"", "claim = \"address\""),
    // Addresses.
    Case(PLAIN, ADDR, "addresses = [] #!", E, "not an empty one", "192.0.2.10/24"),
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.300/24\"] #!", E, "\"192.0.2.300/24\" does not fit into addresses", "192.0.2.10/24"),
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.10/33\"] #!", E, "no legal prefix length", "1 to 32"),
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.0/24\"] #!", E, "is the network address of its /24", "host address"),
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.255/24\"] #!", E, "is the broadcast address of its /24", "host address"),
    Case(PLAIN, ADDR, "addresses = [\"224.0.0.18\"] #!", E, "a multicast address", "unicast"),
    Case(PLAIN, ADDR, "addresses = [\"0.1.2.3\"] #!", E, "in 0.0.0.0/8", "unicast"),
    Case(PLAIN, ADDR, "addresses = [\"250.1.2.3\"] #!", E, "in 240.0.0.0/4", "unicast"),
    Case(PLAIN, ADDR, "addresses = [\"255.255.255.255\"] #!", E, "the broadcast address", "unicast"),
    Case(PLAIN, ADDR, "addresses = [\"127.0.0.2/8\"] #!", E, "a loopback address", "unicast"),
    Case(PLAIN, ADDR, "addresses = [\"::/64\"] #!", E, "the unspecified address", "unicast"),
    Case(PLAIN, ADDR, "addresses = [\"::ffff:192.0.2.1\"] #!", E, "IPv4 address in IPv6 form", "unicast"),
    Case(PLAIN, ADDR, "addresses = [\"fe80::1%eth0\"] #!", E, "names an interface", "write fe80::1 here"),
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.20-10/24\"] #!", E, "runs backwards", "192.0.2.10-192.0.2.20"),
    Case(PLAIN, ADDR, "addresses = [\"10.0.0.1-10.255.0.1/8\"] #!", E, "has 16711681 addresses", "at most 16384"),
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.10/24\", \"192.0.2.10\"] #!", E, "192.0.2.10 is twice in instance web", "remove one"),
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.1-192.0.2.254/24\", \"10.0.0.1\", \"10.0.0.2\"] #!", E, "256 ipv4 addresses; one advert holds 255", "move 1 of them to unadvertised"),
    Case(PLAIN, MORE, "unadvertised = [\"2001:db8::1\"] #!", E, "addresses has no ipv6 one", "at least one ipv6 address"),
    Case(PLAIN, ADDR, "addresses = [\"2001:db8::1\"] #!", W, "is not link-local (RFC 9568 section 5.2.9)", "begin the IPv6 addresses with a link-local one"),
    Case(PLAIN, ADDR, "strict = true\naddresses = [\"2001:db8::1\"] #!", E, "strict hosts refuse such adverts", "link-local one"),
    Case(BEATS, "[\"192.0.2.10/24\", \"fe80::10/64\"]", "[\"192.0.2.20/24\", \"fe80::10/64\"] #!", E, "192.0.2.20 is also in instance wan (line 20)", "moves with one instance"),
    Case(BEATS, "\"fe80::10/64\"]", "\"10.9.0.12/24\"] #!", E, "10.9.0.12 is a heartbeat path of host lb2", "no host has for itself"),
    Case(BEATS, "#web", "targets = [\"192.0.2.20\"] #!", E, "a gate on an address of its own", "gateway"),
    Case(BEATS, "#web", "targets = [\"192.0.2.12\"] #!", W, "target 192.0.2.12 is host lb2 itself", "outside the group"),
    Case(PLAIN, MORE, "on-conflict = \"refuse\" #!", W, "on-conflict = \"refuse\" has no effect", "add paths"),
    Case(PLAIN, MORE, "targets = [\"192.0.2.1\"] #!", W, "targets have no effect", "add paths"),
    // Versions and authentication.
    Case(PLAIN, MORE, "version = 2\nadvert-interval = \"1.5s\" #!", E, "version 2 carries whole seconds, not 1.5s", "advert-interval = \"2s\", or version = 3"),
    Case(PLAIN, MORE, "version = 2\nadvert-interval = \"256s\" #!", E, "1s to 255s", "\"1s\""),
    Case(PLAIN, ADDR, "version = 2\naddresses = [\"192.0.2.10/24\", \"fe80::1/64\"] #!", E, "version 2, which knows IPv4 only", "version = 3"),
    Case(PLAIN, MORE, "simple-text = \"secret\" #!", E, "version 2 only", "hmac"),
    Case(PLAIN, MORE, "version = 2\nsimple-text = \"too long!\" #!", E, "1 to 8 printable ASCII characters, not one of 9 octets", "secret"),
    Case(PLAIN, MORE, "version = 2\nhmac.keys.1 = \"/k\"\nsimple-text = \"secret\" #!", E, "simple-text and hmac in one instance", "keep hmac"),
    Case(PLAIN, MORE, "version = 2\nchecksum = \"rfc5798\" #!", W, "checksum has no effect", "remove checksum"),
    Case(PLAIN, MORE, "hmac.keys = { 0 = \"/k\" } #!", E, "by key id, 1 to 255, not \"0\"", "\"1\""),
    Case(PLAIN, MORE, "hmac.keys = { 1 = \"k\" } #!", E, "absolute paths by key id, 1 to 255, not \"k\"", "advert.key"),
    Case(PLAIN, MORE, "hmac.keys = { 1 = \"/k\" }\nhmac.active-key = 2 #!", E, "active-key 2 is not among the keys: 1", "add \"2\" = \"/path\""),
    Case(PLAIN, MORE, "hmac.keys = { 1 = \"/k\", 2 = \"/l\" } #!", E, "but no active-key", "active-key = ID"),
    Case(PLAIN, MORE, "hmac.mode = \"enforce\" #!", E, "[instance.web.hmac] has no keys", "add keys ="),
    Case(PLAIN, MORE, "hmac.keys = {} #!", E, "hmac has no keys", "add keys"),
    Case(PLAIN, MORE, "hmac.window = \"10m\" #!\nhmac.keys = { 1 = \"/k\" }", E, "1s to 300s, or \"monotonic\", not \"10m\"", "5s"),
    Case(PLAIN, MORE, "[instance.web.hmac] #!\nkeys = { 1 = \"/k\" }\nmode = { lb1 = \"enforce\", lb2 = \"receive-only\" }", E, "lb1 requires the trailer (enforce), lb2 sends none", "every host permissive"),
    Case(PLAIN, MORE, "[instance.web.hmac]\nactive-key = { lb1 = 1, lb2 = 2 } #!\nkeys = { lb1 = { 1 = \"/k\" }, lb2 = { 1 = \"/k\", 2 = \"/l\" } }", E, "lb2 signs with key 2, which lb1 does not have", "give every host key 2"),
    // Who is preferred, and what hosts must share.
    Case(PLAIN, PRIO, "priority = { lb1 = 150, lb3 = 100 } #!", E, "names host \"lb3\", which is not in the file", "did you mean \"lb1\"? hosts in the file: lb1, lb2"),
    Case(PLAIN, PRIO, "priority = 100 #!", W, "lb1 and lb2 both have priority 100", "lb1 = 150, lb2 = 100"),
    Case(PLAIN, "[instance.web]", "[instance.x] #!\nvrid = 9\ninterface = \"e\"\naddresses = [\"10.0.0.1\"]\n[instance.web]", W, "both have priority 100", "say who is preferred"),
    Case(PLAIN, PRIO, "priority = 255 #!", E, "both have priority 255", "1 to 254"),
    Case(PLAIN, PRIO, "priority = { lb1 = 255, lb2 = 1 }\npreempt = false #!", W, "preempt = false has no effect at priority 255", "253"),
    Case(PLAIN, PRIO, "priority = { lb1 = 254, lb2 = 1 } #!", W, "254 is what an owner advertises", "253"),
    Case(PLAIN, PRIO, "priority = { lb1 = 150 } #!", W, "only host lb1 takes part", "other hosts"),
    Case(PLAIN, PRIO, "priority = {} #!", E, "no host takes part in instance web", "give hosts a priority: lb1, lb2"),
    Case(PLAIN, PRIO, "priority = { lb3 = 100 } #!", E, "names host \"lb3\"", "lb1, lb2"),
    Case(PLAIN, "interface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\npriority = { lb1 = 150, lb2 = 100 }", "interface = { lb1 = \"e\", lb2 = \"f\" } #!\naddresses = [\"192.0.2.10/24\"]\npriority = { lb1 = 150 }", W, "interface for lb2 is not used: priority leaves that host out", "give lb2 a priority"),
    Case(PLAIN, MORE, "preempt = false\npreempt-delay = \"5s\" #!", W, "preempt-delay has no effect", "remove"),
    Case(PLAIN, MORE, "advert-interval = \"240ms\" #!", W, "\"a crash moves nothing\" holds from 250ms up", "250ms"),
    Case(PLAIN, ETH, "interface = { lb1 = \"eth0\" } #!", E, "interface has no value for host lb2", "add lb2 = \"eth0\" to the table"),
    Case(PLAIN, ETH, "interface = { lb1 = \"eth0\", lb2 = \"e\", lb9 = \"f\" } #!", E, "interface of [instance.web] names host \"lb9\"", "hosts in the file: lb1, lb2"),
    Case(PLAIN, VRID, "vrid = { lb1 = 51, lb2 = 52 } #!", E, "vrid differs between lb1 and lb2", "one vrid for all"),
    Case(PLAIN, MORE, "version = { lb1 = 2, lb2 = 3 } #!", E, "version differs between lb1 and lb2", "one version"),
    Case(PLAIN, MORE, "advert-interval = { lb1 = \"1s\", lb2 = \"2s\" } #!", W, "advert-interval differs", "one advert-interval"),
    Case(PLAIN, MORE, "version = 2\nadvert-interval = { lb1 = \"1s\", lb2 = \"2s\" } #!", E, "version 2 discards adverts with another interval", "one advert-interval"),
    Case(PLAIN, ADDR, "addresses = { lb1 = [\"10.0.0.1\"], lb2 = [\"10.0.0.2\"] } #!", E, "addresses differs between lb1 and lb2", "one addresses"),
    Case(PLAIN, MORE, "version = 2\nsimple-text = { lb1 = \"a\", lb2 = \"b\" } #!", E, "simple-text differs", "one simple-text"),
    Case(BEATS, "#wan", "#\n[instance.x]\nvrid = 51 #!\ninterface = \"eth0\"\naddresses = [\"10.0.0.1\"]\npriority = { lb1 = 2, lb2 = 1 }", E, "vrid 51 is used twice for ipv4 on eth0: also by instance web (line 12)", "vrid of its own"),
    Case(PLAIN, MORE, "unadvertised = { lb1 = [], lb2 = [\"10.0.0.2\"] } #!", E, "unadvertised differs between lb1 and lb2", "one unadvertised"),
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.10-13/24\"]\nunadvertised = [\"192.0.2.12-15/24\"] #!", E, "192.0.2.12 is twice in instance web", "remove one"),
    // Hosts and heartbeats.
    Case(PLAIN, "[hosts.lb1]", "[hosts.lb1]\npaths = [\"10.0.0.1-9\"] #!", E, "\"10.0.0.1-9\" does not fit into paths", "paths ="),
    Case(PLAIN, "[hosts.lb1]", "[hosts.lb1]\npaths = [\"10.0.0.1\", \"10.0.0.2\", \"10.0.0.3\", \"10.0.0.4\", \"10.0.0.5\", \"10.0.0.6\", \"10.0.0.7\", \"10.0.0.8\", \"10.0.0.9\"] #!", E, "9 paths; a host has at most 8", "enough"),
    Case(PLAIN, "[hosts.lb1]", "[cluster]\nheartbeat-port = 99 #!\n[hosts.lb1]", W, "heartbeat-port has no effect", "add paths"),
    Case(PLAIN, "[hosts.lb1]\n[hosts.lb2]", "[hosts] #!", E, "the file has no host", "[hosts.NAME]"),
    Case("[hosts.a]\n[hosts.b]\n[instance]\n", "[instance]", "[instance] #!", E, "the file has no instance", "add a section [instance.NAME]"),
    Case("[hosts.a]\n[hosts.b]\n", "[hosts.a]", "[hosts.a] #h", E, "the file has no instance", "add instance ="),
    Case(PLAIN, "[hosts.lb2]", "", W, "lb1 is the only host", "each other host"),
    Case(BEATS, "paths = [\"192.0.2.12\", \"10.9.0.12\"]", "paths = [\"192.0.2.12\"] #!", E, "host lb2 has 1 paths, host lb1 has 2", "one address per heartbeat network"),
    Case(BEATS, "\"10.9.0.12\"]", "\"fd00::12\"] #!", E, "path fd00::12 is ipv6, its counterpart on lb1 10.9.0.11 is ipv4", "same order"),
    Case(BEATS, "\"10.9.0.12\"]", "\"10.9.0.11\"] #!", E, "path 10.9.0.11 is also a path of host lb1", "host's own"),
    Case(BEATS, "\"10.9.0.12\"]", "\"fe80::12\"] #!", E, "path fe80::12 is link-local", "fd00::/8"),
    Case(BEATS, "[cluster]\nname = \"shop\"\nkey-file = \"/k\"", "[cluster] #!\nname = \"shop\"", E, "no key-file: heartbeats are always signed", "vipd keygen"),
    Case(BEATS, "[cluster]\nname = \"shop\"", "[cluster] #!", E, "[cluster] has no name", "add name"),
    Case(PLAIN, "[hosts.lb1]", "[cluster]\nkey-file = \"/k\" #!\n[hosts.lb1]", W, "key-file has no effect: no host has heartbeat paths", "add paths"),
    Case(PLAIN, MORE, "fate = \"shared\" #!", E, "fate = \"shared\" needs heartbeats", "fate = \"independent\""),
    Case(PLAIN, MORE, "stale-holder-wait = \"on\" #!", W, "stale-holder-wait has no effect", "add paths"),
    // Ways of claiming and speaking.
    Case(PLAIN, ADDR, "addresses = [\"192.0.2.10/24\", \"fe80::1/64\"]\nclaim = \"route\" #!", E, "claim = \"route\" is for IPv4", "claim = \"address\""),
    Case(PLAIN, MORE, "virtual-mac = true\nclaim = \"route\" #!", E, "arp_ignore", "remove virtual-mac"),
    Case(PLAIN, MORE, "unicast-peers = [\"192.0.2.11\"]\nvirtual-mac = true #!", E, "virtual-mac with unicast-peers", "remove"),
    Case(PLAIN, MORE, "unicast-peers = [] #!", E, "not an empty one", "unicast-peers ="),
    Case(PLAIN, MORE, "unicast-peers = [\"fd00::1\", \"192.0.2.11\"] #!", E, "peer fd00::1 is ipv6, but the instance has no ipv6 address", "remove the peer"),
    Case(PLAIN, MORE, "unicast-peers = [\"192.0.2.10\"] #!", E, "is a virtual address of instance web", "stays on the peer"),
    Case(PLAIN, MORE, "unicast-peers = [\"192.0.2.11\", \"192.0.2.11\"] #!", E, "192.0.2.11 is twice in unicast-peers", "remove one"),
    Case(BEATS, "#wan", "unicast-peers = [\"192.0.2.11\"] #!", E, "no ipv4 address of another host than lb1", "each other host"),
    Case(BEATS, "#web", "unicast-peers = [\"192.0.2.11\", \"192.0.2.12\"] #!", E, "no ipv6 address of another host", "ipv6 address of each other"),
    Case(PLAIN, MORE, "source = \"192.0.2.10\" #!", E, "source 192.0.2.10 is a virtual address of instance web", "stays on the host"),
    Case(PLAIN, MORE, "source = [\"192.0.2.11\", \"192.0.2.12\"] #!", E, "two ipv4 addresses", "one address per family"),
    Case(PLAIN, MORE, "source = \"fe80::1\" #!", W, "source fe80::1 has no effect", "remove it"),
    Case(BEATS, "#web", "source = \"2001:db8::1\" #!", E, "is not link-local (RFC 9568 section 5.1.2.1)", "link-local address of the interface"),
    Case(PLAIN, MORE, "source = \"192.0.2.11\" #!", E, "lb1 and lb2 have the same source 192.0.2.11", "source = { lb1 ="),
    Case(PLAIN, MORE, "unicast-peers = [\"192.0.2.11\", \"192.0.2.12\"] #!", W, "nothing tells which of unicast-peers is lb1 itself", "table by host"),
    Case(PLAIN, MORE, "source = { lb1 = \"192.0.2.11\", lb2 = \"192.0.2.12\" }\nunicast-peers = [\"192.0.2.12\", \"192.0.2.13\"] #!", W, "lb2 does not send to 192.0.2.11, the source of lb1", "add \"192.0.2.11\""),
    // Routes and rules.
    Case(PLAIN, MORE, "[[instance.web.route]] #!", E, "[[instance.web.route]] has no to", "0.0.0.0/0"),
    Case(PLAIN, MORE, "[instance.web.route] #r\nto = \"0.0.0.0/0\"", E, "route must be a list of tables, not a table", "[[instance.web.route]]"),
    Case(PLAIN, MORE, "[[instance.web.route]]\nto = \"10.0.0.1/8\" #!", E, "has host bits set", "write 10.0.0.0/8"),
    Case(PLAIN, MORE, "[[instance.web.route]]\nto = \"10.0.0.0/8\"\nsrc = \"192.0.2.11\" #!", E, "src 192.0.2.11 is not an address of instance web", "leave src out"),
    Case(PLAIN, MORE, "[[instance.web.route]]\nto = \"10.0.0.0/8\"\nvia = \"fe80::1\" #!", E, "of the other family", "ipv4"),
    Case(PLAIN, MORE, "[[instance.web.route]]\nto = \"10.0.0.0/8\"\nvia = \"192.0.2.10\" #!", E, "via 192.0.2.10 is a virtual address", "router outside"),
    Case(PLAIN, MORE, "[[instance.web.route]]\nto = \"2001:db8::/32\" #!", E, "the instance has no ipv6 address", "move the route"),
    Case(PLAIN, MORE, "[[instance.web.route]]\nto = \"0.0.0.0/0\"\n[[instance.web.route]]\nto = \"0.0.0.0/0\" #!", E, "exists twice", "different metrics"),
    Case(PLAIN, MORE, "[[instance.web.rule]] #!\ntable = 9\npreference = 9", E, "a rule needs from or to", "from = \"PREFIX\""),
    Case(PLAIN, MORE, "[[instance.web.rule]]\nfrom = \"10.0.0.1\"\nto = \"fd00::/8\" #!\ntable = 9\npreference = 9", E, "mixes families", "one rule per family"),
    Case(PLAIN, MORE, "[[instance.web.rule]]\nfrom = \"10.0.0.1\"\ntable = 9\npreference = 32766 #!", E, "1 to 32765, not 32766", "1000"),
    Case(PLAIN, MORE, "rule = [{ from = \"10.0.0.1\", table = 9, preference = 9 }, { from = \"10.0.0.2\", table = 9, preference = 9 }] #!", E, "preference 9 is used twice", "of its own"),
    // Sync groups.
    Case(BEATS, "#wan", "[sync.all]\ninstances = [\"web\", \"wam\"] #!", E, "sync group all names instance \"wam\"", "did you mean \"wan\"?"),
    Case(BEATS, "#wan", "[sync.a]\ninstances = [\"web\", \"wan\"]\n[sync.b]\ninstances = [\"web\", \"wan\"] #!", E, "instance web is already in sync group a", "moves with one group"),
    Case(BEATS, "#wan", "[sync.a]\ninstances = [\"web\", \"web\"] #!", E, "instance web is already in sync group a", "moves with one group"),
    Case(BEATS, "#wan", "[sync.a]\ninstances = [\"web\"] #!", W, "has one member", "add the instances"),
    Case(BEATS, "#wan", "[sync.a]\ninstances = [] #!", E, "not an empty one", "lan"),
    Case(BEATS, "priority = { lb1 = 150, lb2 = 100 }\n#wan", "priority = { lb1 = 100, lb2 = 150 }\n[sync.a]\ninstances = [\"web\", \"wan\"] #!", E, "web and wan prefer different hosts (lb1 and lb2): they would move without end", "same order"),
    Case(BEATS, "priority = { lb1 = 150, lb2 = 100 }\n#wan", "priority = { lb1 = 100, lb2 = 150 }\npreempt = false\n[sync.a]\ninstances = [\"web\", \"wan\"] #!", W, "web and wan prefer different hosts (lb1 and lb2)", "same order"),
    Case(BEATS, "priority = { lb1 = 150, lb2 = 100 }\n#wan", "priority = { lb1 = 100 }\n[sync.a]\ninstances = [\"web\", \"wan\"] #!", E, "run on different hosts (lb1, lb2 and lb1)", "same hosts"),
];

pub(crate) fn findings(text: &str) -> Vec<Diagnostic> {
    match load_all_hosts(text, "test.toml") {
        Ok((_, warnings)) => {
            assert!(warnings.iter().all(|w| !w.is_error()));
            warnings
        }
        Err(all) => {
            assert!(all.iter().any(Diagnostic::is_error));
            all
        }
    }
}

#[test]
fn the_bases_are_legal() {
    assert_eq!(findings(PLAIN), []);
    assert_eq!(findings(BEATS), []);
}

#[test]
fn every_case_is_told_at_its_place_with_a_fix() {
    tell(CASES);
}

/// Every case is told on the line that is marked, in these words.
pub(crate) fn tell(cases: &[Case<'_>]) {
    let mut missed = Vec::new();
    for Case(base, from, to, severity, message, help) in cases {
        assert!(base.contains(from), "{from} is not in the base");
        let text = base.replacen(from, to, 1);
        let all = findings(&text);
        let found = all.iter().find(|d| {
            let marked = text.lines().nth(d.line - 1).unwrap_or("").contains("#!");
            d.severity == *severity
                && d.message.contains(message)
                && d.help.contains(help)
                && (marked || !text.contains("#!"))
        });
        if found.is_none() {
            let got: Vec<_> = all.iter().map(ToString::to_string).collect();
            missed.push(format!(
                "{to}\n  wanted {severity}: {message} (fix: {help})\n  got {}\n",
                got.join("\n      ")
            ));
        }
    }
    assert!(missed.is_empty(), "\n{}", missed.join("\n"));
}

#[test]
fn all_errors_are_told_at_once() {
    let text = PLAIN
        .replace(VRID, "vrid = 0")
        .replace(ETH, "interface = 7")
        .replace(MORE, "lease = 1\naccpt = true");
    let lines: Vec<_> = findings(&text).iter().map(|d| d.line).collect();
    assert_eq!(lines, [6, 7, 10, 11]);
}

#[test]
fn a_shared_value_is_told_once_for_all_hosts() {
    let text = PLAIN.replace(ADDR, "addresses = [\"192.0.2.10/24\", \"x\"]");
    assert_eq!(findings(&text).len(), 1);
}

#[test]
fn link_local_addresses_are_of_one_interface() {
    let two = |second: &str| {
        PLAIN.replace("192.0.2.10/24", "fe80::1/64")
            + "[instance.x]\nvrid = 9\naddresses = [\"fe80::1/64\"]\npriority = { lb1 = 2, lb2 = 1 }\n"
            + &format!("interface = \"{second}\"\n")
    };
    assert_eq!(findings(&two("eth1")), []);
    assert_eq!(findings(&two("eth0")).len(), 1);
}

#[test]
fn ipv6_adverts_hold_90_addresses_or_89_with_a_trailer() {
    let with = |count: u16, more: &str| {
        let list: Vec<_> = (0..count).map(|n| format!("\"fe80::1:{n:x}/64\"")).collect();
        findings(&PLAIN.replace("\"192.0.2.10/24\"", &list.join(", ")).replace(MORE, more))
    };
    assert_eq!(with(90, ""), []);
    assert!(with(91, "")[0].message.starts_with("91 ipv6 addresses; one advert holds 90"));
    assert_eq!(with(89, "hmac.keys.1 = '/k'"), []);
    assert!(with(90, "hmac.keys.1 = '/k'")[0].help.starts_with("move 1 of them"));
}

#[test]
fn limits_of_hosts_and_instances() {
    let hosts: String = (0..33).map(|n| format!("[hosts.h{n}]\n")).collect();
    let text = PLAIN.replace("[hosts.lb1]", &(hosts + "[hosts.lb1]"));
    assert!(findings(&text)[0].message.starts_with("35 hosts; a group has at most 32"));
    let instances: String = (0..4001)
        .map(|n| {
            let (high, low) = (n / 250, n % 250 + 1);
            format!(
                "[instance.i{n}]\nvrid = {low}\ninterface = \"e{high}\"\n\
                 addresses = [\"10.0.{high}.{low}\"]\npriority = {{ lb1 = 2, lb2 = 1 }}\n"
            )
        })
        .collect();
    let all = findings(&(PLAIN.to_owned() + &instances));
    assert_eq!(all.len(), 1);
    assert!(all[0].message.starts_with("4002 instances; a file has at most 4000"));
}

#[test]
fn of_a_long_line_only_the_place_is_shown() {
    let list: Vec<_> = (1..200).map(|n| format!("\"192.0.2.{n}/24\"")).collect();
    let text = PLAIN.replace("\"192.0.2.10/24\"", &(list.join(", ") + ", 7"));
    let shown = findings(&text)[0].render(&text, "x");
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[2].starts_with("8 | ...") && lines[2].ends_with(", 7]"), "{}", lines[2]);
    assert_eq!(lines[3].find('^'), lines[2].rfind('7'));
}

#[test]
fn a_file_does_not_steer_the_terminal() {
    let text = PLAIN.replace("[hosts.lb1]", "[hosts.\"\\u001b[2J\"]\n[hosts.lb1]");
    for found in findings(&text) {
        assert!(!found.render(&text, "x").contains('\x1b'), "{found:?}");
    }
}

#[test]
fn rendered_with_place_line_underline_and_fix() {
    let text = PLAIN.replace(VRID, "\tvrid = 300 # router");
    let found = &findings(&text)[0];
    assert_eq!(
        found.render(&text, "vipd.toml"),
        "vipd.toml:6:9: error: vrid must be an integer from 1 to 255, not 300\n  |\n\
         6 | \tvrid = 300 # router\n  | \t       ^^^\n\
         fix: for example: vrid = 51\n"
    );
    let coloured = found.render_styled(&text, "vipd.toml", &Style::ANSI);
    assert!(coloured.contains("\x1b[1;31merror\x1b[0m: vrid"));
    assert_eq!(
        found.to_string(),
        "line 6, column 9: error: vrid must be an integer from 1 to 255, not 300 \
         (fix: for example: vrid = 51)"
    );
}
