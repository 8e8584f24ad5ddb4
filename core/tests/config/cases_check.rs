//! Checks with one thing wrong.

use super::cases::{BEATS, Case, E, MORE, PLAIN, W, tell};
use vipd_core::config::Severity;

/// Three instances that watch each other in a circle, and one beside it.
const CIRCLE: &str = r#"
hosts = { lb1 = {}, lb2 = {} }
[instance]
dmz = { vrid = 9, interface = "eth9", addresses = ["10.9.0.1"], priority = { lb1 = 9 }, checks = ["on-wan"] }
lan = { vrid = 1, interface = "eth0", addresses = ["10.1.0.1"], priority = { lb1 = 2, lb2 = 1 }, checks = ["on-vpn"] }
vpn = { vrid = 2, interface = "eth0", addresses = ["10.2.0.1"], priority = { lb1 = 2, lb2 = 1 }, checks = ["on-wan"] }
wan = { vrid = 3, interface = "eth0", addresses = ["10.3.0.1"], priority = { lb1 = 2, lb2 = 1 }, checks = ["on-lan"] }
[check.on-vpn]
instance = "vpn"
[check.on-wan]
instance = "wan"
[check.on-lan]
instance = "lan"
#end
"#;

/// Lines of a check that an instance of [`PLAIN`] uses, and what is told of them.
type Lines = (&'static str, Severity, &'static str, &'static str);

#[rustfmt::skip]
const LINES: &[Lines] = &[
    ("tcp = \"127.0.0.1:80\"\nhttp = \"http://127.0.0.1\" #!", E, "[check.x] has tcp and http: a check looks at one thing", "two checks"),
    ("ping = \"192.0.2.1\"\ntcp = \"127.0.0.1:80\" #!", E, "has ping and tcp", "two checks"),
    ("tcp = \"127.0.0.1:80\"\nmethod = \"GET\" #!", E, "method is for checks of kind http, and [check.x] is of kind tcp", "remove method"),
    ("tcp = \"127.0.0.1:80\"\nwarn = 5 #!", E, "warn is for checks of kind pressure, disk", "remove warn"),
    ("link = \"eth0\"\nsource = \"192.0.2.11\" #!", E, "source is for checks of kind ping, tcp", "remove source"),
    ("unix = \"/run/a\"\nmin-speed = 9 #!", E, "min-speed is for checks of kind", "remove min-speed"),
    ("unix = \"/run/a\"\nmin-slaves = 9 #!", E, "min-slaves is for checks of kind", "remove min-slaves"),
    ("unix = \"/run/a\"\nactive = true #!", E, "active is for checks of kind", "remove active"),
    ("unix = \"/run/a\"\ninterface = \"eth0\" #!", E, "interface is for checks of kind", "remove interface"),
    ("unix = \"/run/a\"\nhost = \"a\" #!", E, "host is for checks of kind", "remove host"),
    ("unix = \"/run/a\"\nstatus = 200 #!", E, "status is for checks of kind", "remove status"),
    ("unix = \"/run/a\"\nbody = \"a\" #!", E, "body is for checks of kind", "remove body"),
    ("unix = \"/run/a\"\nserver-name = \"a\" #!", E, "server-name is for checks of kind", "remove server-name"),
    ("unix = \"/run/a\"\nverify = true #!", E, "verify is for checks of kind", "remove verify"),
    ("unix = \"/run/a\"\nca-file = \"/a\" #!", E, "ca-file is for checks of kind", "remove ca-file"),
    ("unix = \"/run/a\"\nexpiry = \"1h\" #!", E, "expiry is for checks of kind", "remove expiry"),
    ("unix = \"/run/a\"\nname = \"a\" #!", E, "name is for checks of kind", "remove name"),
    ("unix = \"/run/a\"\nrecord = \"A\" #!", E, "record is for checks of kind", "remove record"),
    ("unix = \"/run/a\"\nat-least = 2 #!", E, "at-least is for checks of kind", "remove at-least"),
    ("unix = \"/run/a\"\nuser = \"a\" #!", E, "user is for checks of kind", "remove user"),
    ("unix = \"/run/a\"\nenv = { A = \"b\" } #!", E, "env is for checks of kind", "remove env"),
    ("unix = \"/run/a\"\nmax-age = \"5s\" #!", E, "max-age is for checks of kind", "remove max-age"),
    ("unix = \"/run/a\"\nfail = 5 #!", E, "fail is for checks of kind", "remove fail"),
    ("unix = \"/run/a\"\nwrite = true #!", E, "write is for checks of kind", "remove write"),
    ("tpc = \"127.0.0.1:80\" #!", E, "unknown key \"tpc\" in [check.x]", "did you mean \"tcp\"?"),
    ("tcp = \"127.0.0.1:80\"\ninterval = \"50ms\" #!", E, "100ms to 1h, not \"50ms\"", "2s"),
    ("tcp = \"127.0.0.1:80\"\ninterval = \"61m\" #!", E, "100ms to 1h, not \"61m\"", "2s"),
    ("tcp = \"127.0.0.1:80\"\ninterval = 2 #!", E, "100ms to 1h, not 2", "2s"),
    ("tcp = \"127.0.0.1:80\"\ntimeout = \"5ms\" #!", E, "10ms to 10m, not \"5ms\"", "1s"),
    ("tcp = \"127.0.0.1:80\"\ninterval = \"15m\"\ntimeout = \"11m\" #!", E, "10ms to 10m, not \"11m\"", "1s"),
    ("tcp = \"127.0.0.1:80\"\ntimeout = \"3s\" #!", E, "timeout 3s is longer than the interval 2s", "timeout = \"2000ms\" or less"),
    ("tcp = \"127.0.0.1:80\"\nfall = 0 #!", E, "fall must be an integer from 1 to 100, not 0", "fall = 3"),
    ("tcp = \"127.0.0.1:80\"\nrise = 101 #!", E, "rise must be an integer from 1 to 100, not 101", "rise = 2"),
    ("tcp = \"127.0.0.1:80\"\nseverity = \"warn\" #!", E, "\"fatal\" or \"drain\", not \"warn\"", "severity = \"fail\""),
    ("tcp = \"127.0.0.1:80\"\nseverity = \"drain\" #!", E, "severity \"drain\" is for a switch of the operator, and tcp is none", "absent, file or script"),
    ("tcp = \"127.0.0.1:80\"\nseverity = \"degrade\"\nweight = 254 #!", E, "0 to 253, not 254", "weight = 20"),
    ("tcp = \"127.0.0.1:80\"\nseverity = \"degrade\"\nweight = -1 #!", E, "0 to 253, not -1", "weight = 20"),
    ("tcp = \"127.0.0.1:80\"\nweight = 20 #!", W, "weight has no effect", "severity = \"degrade\""),
    ("pressure = \"io\"\nseverity = \"info\"\nweight = 20 #!", W, "weight has no effect", "remove weight"),
    ("http = \"http://127.0.0.1/\"\nweight = 20 #!", W, "weight has no effect", "remove weight"),
    ("link = \"an-interface-name\" #!", E, "1 to 15 characters, not \"an-interface-name\"", "link = \"eth1\""),
    ("link = \"eth1\"\nmin-speed = 0 #!", E, "1 to 1000000, not 0", "1000"),
    ("link = \"eth1\"\nmin-slaves = 65 #!", E, "1 to 64, not 65", "2"),
    ("address = \"192.0.2.11/24\" #!", E, "address must be an address of this host", "192.0.2.11"),
    ("route = \"10.0.0.1/8\" #!", E, "has host bits set", "10.0.0.0/8"),
    ("instance = \"we b\" #!", E, "instance must be the name of an instance", "wan"),
    ("instance = \"wep\" #!", E, "check x names instance \"wep\", which is not in the file", "did you mean \"web\"?"),
    ("gateway = \"0.0.0.0\" #!", E, "the unspecified address", "unicast"),
    ("gateway = \"192.0.2.1\"\ninterface = \"eth9\" #!", E, "eth9 is not a service interface of host lb1", "eth0"),
    ("ping = \"127.0.0.1\" #!", E, "a loopback address", "unicast"),
    ("ping = [\"192.0.2.1\", \"192.0.2.1\"] #!", E, "192.0.2.1 is asked twice", "once"),
    ("ping = [] #!", E, "nobody is asked", "at least one"),
    ("ping = [\"192.0.2.1\", \"192.0.2.2\"]\nat-least = 3 #!", E, "at-least 3 of 2 addresses: it could never pass", "at-least = 2"),
    ("ping = [\"192.0.2.1\", \"fd00::1\"]\nsource = \"192.0.2.11\" #!", E, "source 192.0.2.11 and fd00::1 are of different families", "an ipv6 source"),
    ("process = \"nginx\"\nat-least = 2\nat-most = 1 #!", E, "at-most 1 is below at-least 2: it could never pass", "leave one"),
    ("process = \"nginx\"\nat-most = -1 #!", E, "0 to 10000, not -1", "1"),
    ("ping = \"192.0.2.1\"\nsource = \"fd00::1\" #!", E, "source fd00::1 and 192.0.2.1 are of different families", "an ipv4 source"),
    ("tcp = \"localhost:80\" #!", E, "tcp must be an address with a port, not \"localhost:80\"", "127.0.0.1:443"),
    ("tcp = \"127.0.0.1\" #!", E, "127.0.0.1 has no port", "127.0.0.1:443"),
    ("tcp = \"::1\" #!", E, "::1 has no port", "[::1]:443"),
    ("tcp = \"127.0.0.1:0\" #!", E, "without a usable port", "address and port"),
    ("tcp = \"0.0.0.0:80\" #!", E, "the unspecified address", "address and port"),
    ("tcp = \"224.0.0.1:80\" #!", E, "a multicast address", "address and port"),
    ("tcp = \"[::1]:443\"\nsource = \"192.0.2.11\" #!", E, "different families", "an ipv6 source"),
    ("http = \"ftp://127.0.0.1/\" #!", E, "begins with http:// or https://, not", "healthz"),
    ("http = \"http://a b/\" #!", E, "no spaces", "%XX"),
    ("http = \"http://a/#top\" #!", E, "never sent to a server", "remove it"),
    ("http = \"http://u:p@a/\" #!", E, "a user in a URL", "remove it"),
    ("http = \"http://a:99999/\" #!", E, "http must be a URL", "healthz"),
    ("http = \"http://127.0.0.1/\"\nmethod = \"get\" #!", E, "capital letters, not \"get\"", "GET"),
    ("http = \"http://127.0.0.1/\"\nmethod = \"CONNECT\" #!", E, "capital letters, not \"CONNECT\"", "GET"),
    ("http = \"http://127.0.0.1/\"\nhost = \"a/b\" #!", E, "Host header", "shop.example"),
    ("http = \"http://127.0.0.1/\"\nstatus = 99 #!", E, "100 to 599", "200-299"),
    ("http = \"http://127.0.0.1/\"\nstatus = \"300-200\" #!", E, "runs backwards", "\"200-300\""),
    ("http = \"http://127.0.0.1/\"\nstatus = [\"2xx\"] #!", E, "\"2xx\" does not fit into status", "status ="),
    ("http = \"http://127.0.0.1/\"\nbody = \"\" #!", E, "1 to 1024 octets, not \"\"", "ready"),
    ("http = \"http://127.0.0.1/\"\nmethod = \"HEAD\"\nbody = \"ready\" #!", E, "HEAD has no body", "GET"),
    ("http = \"http://127.0.0.1/\"\nserver-name = \"a\" #!", E, "server-name is about TLS", "https://"),
    ("http = \"http://127.0.0.1/\"\nverify = true #!", E, "verify is about TLS", "https://"),
    ("http = \"http://127.0.0.1/\"\nca-file = \"/a\" #!", E, "ca-file is about TLS", "https://"),
    ("http = \"http://127.0.0.1/\"\nexpiry = \"1h\" #!", E, "expiry is about TLS", "https://"),
    ("http = \"https://127.0.0.1/\"\nserver-name = \"a b\" #!", E, "a host name, not \"a b\"", "shop.example"),
    ("http = \"https://127.0.0.1/\"\nverify = \"no\" #!", E, "true or false, not \"no\"", "true"),
    ("http = \"https://127.0.0.1/\"\nca-file = \"ca.pem\" #!", E, "an absolute path, not \"ca.pem\"", "own-ca.pem"),
    ("http = \"https://127.0.0.1/\"\nverify = false\nca-file = \"/ca.pem\" #!", W, "ca-file has no effect", "remove verify"),
    ("http = \"https://127.0.0.1/\"\nexpiry = \"91d\" #!", E, "0s to 2160h, not \"91d\"", "336h"),
    ("name = \"a.example\"\ndns = \"resolver\" #!", E, "with a port unless it is 53, not \"resolver\"", "127.0.0.1"),
    ("dns = \"127.0.0.1\"\nname = \"a b\" #!", E, "a domain name, not \"a b\"", "shop.example"),
    ("dns = \"127.0.0.1\"\nname = \"1.2.3.4\" #!", E, "a domain name", "shop.example"),
    ("dns = \"127.0.0.1\"\nname = \"a.example\"\nrecord = \"a\" #!", E, "\"A\", \"AAAA\"", "record = \"A\""),
    ("unix = \"run/a.sock\" #!", E, "at most 107 octets", "/run/app.sock"),
    ("unix = \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" #!", E, "at most 107 octets", "/run/app.sock"),
    ("unit = \"nginx\" #!", E, "nginx does not end like the name of a unit", "\"nginx.service\""),
    ("unit = \"ng inx.service\" #!", E, "systemd unit", "nginx.service"),
    ("process = \"a-name-of-16-oct\" #!", E, "more than 15 octets", "probably \"a-name-of-16-oc\""),
    ("process = \"/usr/sbin/nginx\" #!", E, "known by its name, not by its path", "pid-file"),
    ("process = \"\" #!", E, "1 to 15 octets, not \"\"", "nginx"),
    ("process = \"nginx\"\nat-least = 0 #!", E, "1 to 10000, not 0", "1"),
    ("pid-file = \"nginx.pid\" #!", E, "pid-file must be an absolute path", "nginx.pid"),
    ("script = \"/bin/true\" #!", E, "script must be a list", "plugins"),
    ("script = [] #!", E, "not an empty one", "plugins"),
    ("script = [\"check_x\"] #!", E, "the program \"check_x\" is not an absolute path", "whole path"),
    ("script = [\"/bin/x\", 5] #!", E, "5 does not fit into script", "plugins"),
    ("script = [\"/bin/x\"]\nuser = \"Big Joe\" #!", E, "the name of a user, not \"Big Joe\"", "nagios"),
    ("script = [\"/bin/x\"]\nenv = { \"A-B\" = \"c\" } #!", E, "\"A-B\" is not the name of a variable", "letters"),
    ("script = [\"/bin/x\"]\nenv = { VIPD_EVENT = \"c\" } #!", E, "VIPD_EVENT is vipd's own", "another name"),
    ("script = [\"/bin/x\"]\nenv = { A = 5 } #!", E, "env must be a table of texts by name, not 5", "SITE"),
    ("script = [\"/bin/x\"]\nenv = \"A=b\" #!", E, "env must be a table of texts", "SITE"),
    ("file = \"health\" #!", E, "file must be an absolute path", "health"),
    ("file = \"/run/h\"\nmax-age = \"0s\" #!", E, "1s to 24h, not \"0s\"", "60s"),
    ("absent = \"drain\" #!", E, "absent must be an absolute path", "drain"),
    ("pressure = \"disk\" #!", E, "\"cpu\", \"memory\" or \"io\", not \"disk\"", "memory"),
    ("pressure = \"cpu\"\nwarn = 100.1 #!", E, "percent from 0 to 100", "20"),
    ("pressure = \"cpu\"\nwarn = nan #!", E, "percent from 0 to 100", "20"),
    ("pressure = \"cpu\"\nfail = \"60%\" #!", E, "percent from 0 to 100", "60"),
    ("pressure = \"memory\"\nwarn = 61 #!", E, "warn 61 is above fail 60", "below fail"),
    ("pressure = \"cpu\"\nfail = 50 #!", E, "warn 60 is above fail 50", "below fail"),
    ("disk = \"var\" #!", E, "disk must be an absolute path", "/var"),
    ("disk = \"/\"\nwarn = 0.5 #!", E, "warn 0.5 is below fail 1", "above fail"),
    ("disk = \"/\"\nwrite = 1 #!", E, "true or false, not 1", "false"),
    ("gateway = { lb1 = \"192.0.2.1\" } #!", E, "gateway has no value for host lb2", "add lb2 ="),
    ("tcp = { lb1 = \"127.0.0.1:80\", lb2 = \"127.0.0.1:80\", lb3 = \"127.0.0.1:80\" } #!", E, "tcp of [check.x] names host \"lb3\"", "hosts in the file"),
    ("gateway = \"192.0.2.10\" #!", E, "check x asks 192.0.2.10, a virtual address of instance web: a gate on an address of its own", "does not move"),
    ("ping = [\"192.0.2.1\", \"192.0.2.10\"] #!", E, "asks 192.0.2.10, a virtual address", "does not move"),
    ("ping = \"192.0.2.10\" #!", E, "a gate on an address of its own", "does not move"),
    ("tcp = \"192.0.2.10:80\" #!", E, "a gate on an address of its own", "127.0.0.1"),
    ("http = \"http://192.0.2.10/\" #!", E, "a gate on an address of its own", "127.0.0.1"),
    ("dns = \"192.0.2.10\"\nname = \"a\" #", E, "a gate on an address of its own", "127.0.0.1"),
    ("address = \"192.0.2.10\" #!", E, "a gate on an address of its own", "own address"),
    ("instance = \"web\" #!", E, "instance web depends on itself: web -> web", "sync group"),
];

#[rustfmt::skip]
const CASES: &[Case<'_>] = &[
    Case(PLAIN, MORE, "checks = [\"x\"]\n[check.x] #!\n", E, "[check.x] does not say what it looks at", "add one of: link, address"),
    Case(PLAIN, MORE, "checks = [\"x\"]\n[check.x] #!\ndns = \"127.0.0.1\"", E, "[check.x] has no name", "add name ="),
    Case(BEATS, "#wan", "checks = [\"x\"]\n[check.x]\ntcp = \"192.0.2.10:80\" #!", W, "wherever that one is, all hosts see the same", "kind instance"),
    Case(BEATS, "#wan", "checks = [\"x\"]\n[check.x]\nping = \"192.0.2.10\" #!", E, "a virtual address of instance web", "does not move"),
    Case(BEATS, "#wan", "checks = [\"nginy\"] #!\n[check.nginx]\nlink = \"eth1\"", E, "instance wan names check \"nginy\", which is not in the file", "did you mean \"nginx\"?"),
    Case(BEATS, "#wan", "checks = [\"x\", \"x\"] #!\n[check.x]\nlink = \"eth1\"", E, "check x is twice in instance wan", "remove one"),
    Case(BEATS, "#wan", "checks = \"x\" #!\n[check.x]\nlink = \"eth1\"", E, "checks must be a list of check names, not \"x\"", "nginx"),
    Case(BEATS, "#wan", "[check.x] #!\nlink = \"eth1\"", W, "check x is not used", "add it to the checks of an instance"),
    Case(BEATS, "#wan", "checks = [\"a b\"] #!", E, "\"a b\" does not fit into checks", "nginx"),
    Case(PLAIN, MORE, "checks = [\"x\"]\n[instance.wan]\nvrid = 51\ninterface = \"eth1\"\naddresses = [\"198.51.100.10/24\"]\npriority = { lb1 = 150, lb2 = 100 }\nchecks = [\"x\"]\n[check.x]\ngateway = \"192.0.2.1\" #!", E, "check x is used by instances on eth0, eth1: where should 192.0.2.1 be asked?", "add interface"),
    Case(PLAIN, MORE, "checks = [\"x\"]\n[instance.wan]\nvrid = 51\ninterface = \"eth1\"\naddresses = [\"198.51.100.10/24\"]\npriority = { lb1 = 150, lb2 = 100 }\nchecks = [\"x\"]\n[check.x]\ninstance = \"web\" #!", E, "instance web depends on itself: web -> web", "sync group"),
    Case(CIRCLE, "#end", "", E, "instance lan depends on itself: lan -> vpn -> wan -> lan", "make a sync group"),
    Case(CIRCLE, "instance = \"lan\"\n#end", "instance = \"dmz\" #!", E, "watches instance dmz, which does not run on host lb2", "give lb2 a priority"),
];

#[test]
fn every_wrong_check_is_told_at_its_place_with_a_fix() {
    let sections: Vec<String> =
        LINES.iter().map(|(lines, ..)| format!("checks = [\"x\"]\n[check.x]\n{lines}")).collect();
    let cases: Vec<Case<'_>> = LINES
        .iter()
        .zip(&sections)
        .map(|((_, severity, message, help), section)| {
            Case(PLAIN, MORE, section, *severity, message, help)
        })
        .collect();
    tell(&cases);
    tell(CASES);
}
