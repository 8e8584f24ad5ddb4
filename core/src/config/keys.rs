//! Every key of the file: its name, what it takes, an example. Errors, suggestions, the manual page, the JSON schema
//! (see `reference`) and the test of `docs/configuration.md` are made from these tables.

/// A key of one section.
#[derive(Copy, Clone, Debug)]
pub struct Key {
    /// How it is written.
    pub name: &'static str,
    /// What it takes, in words that go on "must be ...".
    pub expect: &'static str,
    /// A legal value as written in the file.
    pub example: &'static str,
}

macro_rules! keys {
    ($(#[$doc:meta])* $section:ident { $($constant:ident $name:literal $expect:literal $example:literal;)* }) => {
        $(#[$doc])*
        #[allow(unused_imports, reason = "each reader takes the keys it needs")]
        pub(super) mod $section {
            use super::Key;
            $(pub(in super::super) const $constant: Key =
                Key { name: $name, expect: $expect, example: $example };)*
            pub(in super::super) const ALL: &[Key] = &[$($constant),*];
        }
    };
}

keys! {
    /// The file itself: its sections.
    file {
        CLUSTER "cluster" "a table" "{ name = \"shop\" }";
        HOSTS "hosts" "a table of hosts" "{ lb1 = {}, lb2 = {} }";
        INSTANCE "instance" "a table of instances" "{ web = { vrid = 51 } }";
        POOL "pool" "a table of pools" "{ shops = { vrids = \"100-111\" } }";
        SYNC "sync" "a table of sync groups" "{ all = { instances = [\"lan\", \"wan\"] } }";
        CHECK "check" "a table of checks" "{ nginx = { http = \"http://127.0.0.1/healthz\" } }";
        HOOK "hook" "a table of hooks" "{ notify = { on = [\"active\"], run = [\"/etc/vipd/hooks/notify\"] } }";
        REPLICATE "replicate" "a table of sets" "{ leases = { instance = \"web\", paths = [\"/var/lib/dhcp\"] } }";
        TELEMETRY "telemetry" "a table" "{ listen = \"127.0.0.1:9650\" }";
    }
}

keys! {
    /// `[cluster]`
    cluster {
        NAME "name" "1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit" "\"shop\"";
        KEY_FILE "key-file" "an absolute path" "\"/etc/vipd/cluster.key\"";
        HEARTBEAT_PORT "heartbeat-port" "an integer from 1 to 65535" "7112";
        REPLICATE_PORT "replicate-port" "an integer from 1 to 65535" "7113";
    }
}

keys! {
    /// `[hosts.NAME]`
    host {
        PATHS "paths" "a list of addresses of this host, one per network" "[\"192.0.2.11\", \"10.9.0.11\"]";
        CAPACITY "capacity" "an integer from 1 to 1000000" "100";
    }
}

keys! {
    /// `[instance.NAME]`
    instance {
        VRID "vrid" "an integer from 1 to 255" "51";
        INTERFACE "interface" "an interface name of 1 to 15 characters" "\"eth0\"";
        ADDRESSES "addresses" "a list of addresses or ranges with prefix length" "[\"192.0.2.10/24\", \"2001:db8::10/64\"]";
        UNADVERTISED "unadvertised" "a list of addresses or ranges with prefix length" "[\"192.0.2.20-29/24\"]";
        PRIORITY "priority" "an integer from 1 to 255, or a table of them by host" "{ lb1 = 150, lb2 = 100 }";
        ADVERT_INTERVAL "advert-interval" "a duration from 10ms to 40.95s in steps of 10ms (version 2: whole seconds from 1s to 255s)" "\"1s\"";
        VERSION "version" "2 or 3" "3";
        PREEMPT "preempt" "true or false" "true";
        PREEMPT_DELAY "preempt-delay" "a duration from 0s to 24h" "\"60s\"";
        HOLD_DOWN "hold-down" "a duration from 0s to 24h" "\"10s\"";
        ACCEPT "accept" "true or false" "true";
        VIRTUAL_MAC "virtual-mac" "true or false" "false";
        CLAIM "claim" "\"address\" or \"route\"" "\"address\"";
        STANDBY "standby" "\"hot\", \"warm\" or \"cold\"" "\"hot\"";
        ACTIVATION "activation" "a table" "{ run = [\"/etc/vipd/hooks/start\"] }";
        CHECKS "checks" "a list of check names" "[\"nginx\", \"uplink\"]";
        DAMPING "damping" "a table, or \"off\"" "{ half-life = \"10m\", suppress = 2500 }";
        MOVE_BUDGET "move-budget" "a table, or \"off\"" "{ limits = [\"3 in 10m\"] }";
        STICKINESS "stickiness" "an integer from 0 to 253" "10";
        PRIORITY_HOLD "priority-hold" "a duration from 0s to 1h" "\"10s\"";
        LOAD "load" "an integer from 0 to 1000000" "40";
        UNICAST_PEERS "unicast-peers" "a list of addresses of the other hosts" "[\"192.0.2.11\", \"192.0.2.12\"]";
        SOURCE "source" "an address of this host, or a list of one per family" "{ lb1 = \"192.0.2.11\", lb2 = \"192.0.2.12\" }";
        CHECKSUM "checksum" "\"rfc9568\" or \"rfc5798\"" "\"rfc9568\"";
        SIMPLE_TEXT "simple-text" "1 to 8 printable ASCII characters" "\"secret\"";
        HMAC "hmac" "a table" "{ mode = \"enforce\", keys = { \"1\" = \"/etc/vipd/advert.key\" } }";
        LEASE "lease" "\"on\" or \"off\"" "\"on\"";
        STALE_HOLDER_WAIT "stale-holder-wait" "\"on\" or \"off\"" "\"on\"";
        ON_CONFLICT "on-conflict" "\"alarm\" or \"refuse\"" "\"alarm\"";
        FATE "fate" "\"shared\" or \"independent\"" "\"shared\"";
        PREFIX_ROUTE "prefix-route" "true or false" "false";
        TARGETS "targets" "a list of addresses on the service segment" "[\"192.0.2.1\"]";
        STRICT "strict" "true or false" "false";
        SETTLE "settle" "a duration from 0s to 10m, or \"off\"" "\"35s\"";
        ROUTE "route" "a list of tables" "[{ to = \"0.0.0.0/0\", via = \"192.0.2.1\" }]";
        RULE "rule" "a list of tables" "[{ from = \"192.0.2.10/32\", table = 100, preference = 1000 }]";
    }
}

keys! {
    /// `[instance.NAME.hmac]`
    hmac {
        MODE "mode" "\"receive-only\", \"permissive\" or \"enforce\"" "\"enforce\"";
        KEYS "keys" "a table of absolute paths by key id, 1 to 255" "{ \"1\" = \"/etc/vipd/advert.key\" }";
        ACTIVE_KEY "active-key" "the id of one of the keys, 1 to 255" "1";
        WINDOW "window" "a duration from 1s to 300s, or \"monotonic\"" "\"5s\"";
    }
}

keys! {
    /// `[instance.NAME.activation]`
    activation {
        RUN "run" "a list: the absolute path of a program, and its arguments" "[\"/etc/vipd/hooks/start\", \"web\"]";
        READY "ready" "the name of a check" "\"nginx\"";
        TIMEOUT "timeout" "a duration from 1s to 1h" "\"30s\"";
        USER "user" "the name of a user" "\"vipd-hooks\"";
        ENV "env" "a table of texts by name" "{ SITE = \"north\" }";
    }
}

keys! {
    /// `[instance.NAME.damping]`
    damping {
        HALF_LIFE "half-life" "a duration from 1s to 24h" "\"10m\"";
        SUPPRESS "suppress" "an integer from 1 to 1000000" "2500";
        REUSE "reuse" "an integer from 1 to 1000000" "1000";
        CEILING "ceiling" "an integer from 1 to 1000000" "10000";
        MAX_SUPPRESS "max-suppress" "a duration from 1s to 24h" "\"60m\"";
    }
}

keys! {
    /// `[instance.NAME.move-budget]`
    move_budget {
        LIMITS "limits" "a list of \"N in DURATION\", N from 1 to 64, DURATION from 1s to 24h" "[\"3 in 10m\", \"6 in 60m\"]";
        QUIET "quiet" "a duration from 1s to 24h" "\"60m\"";
    }
}

keys! {
    /// `[[instance.NAME.route]]`
    route {
        TO "to" "a prefix whose host bits are zero" "\"0.0.0.0/0\"";
        VIA "via" "the address of a router" "\"192.0.2.1\"";
        SRC "src" "an address" "\"192.0.2.10\"";
        TABLE "table" "an integer from 1 to 4294967295" "254";
        METRIC "metric" "an integer from 0 to 4294967295" "100";
    }
}

keys! {
    /// `[[instance.NAME.rule]]`
    rule {
        FROM "from" "a prefix whose host bits are zero" "\"192.0.2.10/32\"";
        TO "to" "a prefix whose host bits are zero" "\"10.0.0.0/8\"";
        TABLE "table" "an integer from 1 to 4294967295" "100";
        PREFERENCE "preference" "an integer from 1 to 32765" "1000";
    }
}

keys! {
    /// `[sync.NAME]`
    sync {
        INSTANCES "instances" "a list of instance names" "[\"lan\", \"wan\"]";
    }
}

keys! {
    /// `[pool.NAME]`: these, and the keys of an instance that [`pool_keys`] lets through.
    pool {
        VRIDS "vrids" "a range of integers from 1 to 255, or a list of integers and ranges" "\"100-111\"";
        ADDRESSES "addresses" "a list of addresses or ranges, one address for each VRID" "[\"192.0.2.100-111/24\"]";
        HOSTS "hosts" "a list of host names" "[\"lb1\", \"lb2\", \"lb3\"]";
    }
}

/// Keys of an instance that a pool decides itself, or that make sense for one address only.
const NOT_IN_POOLS: &[Key] = &[
    instance::VRID,
    instance::ADDRESSES,
    instance::UNADVERTISED,
    instance::PRIORITY,
    instance::ROUTE,
    instance::RULE,
];

/// Every key of `[pool.NAME]`.
pub(super) fn pool_keys() -> Vec<Key> {
    let decided = |key: &&Key| !NOT_IN_POOLS.iter().any(|k| k.name == key.name);
    pool::ALL.iter().chain(instance::ALL.iter().filter(decided)).copied().collect()
}

keys! {
    /// `[check.NAME]`. Which keys go with which kind: [`KINDS`].
    check {
        LINK "link" "an interface name of 1 to 15 characters" "\"eth1\"";
        ADDRESS "address" "an address of this host" "\"192.0.2.11\"";
        ROUTE "route" "a prefix whose host bits are zero" "\"0.0.0.0/0\"";
        INSTANCE "instance" "the name of an instance" "\"wan\"";
        GATEWAY "gateway" "the address of a neighbour" "\"192.0.2.1\"";
        PING "ping" "an address, or a list of at most 16" "\"192.0.2.1\"";
        TCP "tcp" "an address with a port" "\"127.0.0.1:443\"";
        HTTP "http" "a URL that begins with http:// or https://" "\"http://127.0.0.1/healthz\"";
        DNS "dns" "the address of a server, with a port unless it is 53" "\"127.0.0.1\"";
        UNIX "unix" "an absolute path of at most 107 octets" "\"/run/app.sock\"";
        UNIT "unit" "the name of a systemd unit with its ending" "\"nginx.service\"";
        PROCESS "process" "the name of a process, 1 to 15 octets" "\"nginx\"";
        PID_FILE "pid-file" "an absolute path" "\"/run/nginx.pid\"";
        SCRIPT "script" "a list: the absolute path of a program, and its arguments" "[\"/usr/lib/nagios/plugins/check_load\"]";
        FILE "file" "an absolute path" "\"/run/app/health\"";
        ABSENT "absent" "an absolute path" "\"/etc/vipd/drain\"";
        PRESSURE "pressure" "\"cpu\", \"memory\" or \"io\"" "\"memory\"";
        DISK "disk" "an absolute path" "\"/var\"";
        INTERVAL "interval" "a duration from 100ms to 1h" "\"2s\"";
        TIMEOUT "timeout" "a duration from 10ms to 10m" "\"1s\"";
        FALL "fall" "an integer from 1 to 100" "3";
        RISE "rise" "an integer from 1 to 100" "2";
        SEVERITY "severity" "\"info\", \"degrade\", \"fail\", \"fatal\" or \"drain\"" "\"fail\"";
        WEIGHT "weight" "an integer from 0 to 253" "20";
        MIN_SPEED "min-speed" "a speed in Mbit/s, an integer from 1 to 1000000" "1000";
        MIN_SLAVES "min-slaves" "an integer from 1 to 64" "2";
        ACTIVE "active" "true or false" "true";
        INTERFACE "interface" "an interface name of 1 to 15 characters" "\"eth0\"";
        SOURCE "source" "an address of this host" "{ lb1 = \"192.0.2.11\", lb2 = \"192.0.2.12\" }";
        METHOD "method" "an HTTP method in capital letters" "\"GET\"";
        HOST "host" "a Host header: a name or address, with a port if need be" "\"shop.example\"";
        STATUS "status" "a status or range of statuses from 100 to 599, or a list of them" "[\"200-299\", 401]";
        BODY "body" "a text of 1 to 1024 octets" "\"ready\"";
        SERVER_NAME "server-name" "a host name" "\"shop.example\"";
        VERIFY "verify" "true or false" "true";
        CA_FILE "ca-file" "an absolute path" "\"/etc/ssl/own-ca.pem\"";
        EXPIRY "expiry" "a duration from 0s to 2160h" "\"336h\"";
        NAME "name" "a domain name" "\"shop.example\"";
        RECORD "record" "\"A\", \"AAAA\", \"SOA\", \"NS\" or \"TXT\"" "\"A\"";
        AT_LEAST "at-least" "an integer from 1 to 10000" "1";
        AT_MOST "at-most" "an integer from 0 to 10000" "1";
        USER "user" "the name of a user" "\"nagios\"";
        ENV "env" "a table of texts by name" "{ SITE = \"north\" }";
        MAX_AGE "max-age" "a duration from 1s to 24h" "\"60s\"";
        WARN "warn" "a number of percent from 0 to 100" "20.0";
        FAIL "fail" "a number of percent from 0 to 100" "60.0";
        WRITE "write" "true or false" "false";
    }
}

/// The kinds of checks: the key that says the kind, and the keys that only some kinds take.
pub(super) const KINDS: &[(Key, &[Key])] = &[
    (check::LINK, &[check::MIN_SPEED, check::MIN_SLAVES]),
    (check::ADDRESS, &[]),
    (check::ROUTE, &[]),
    (check::INSTANCE, &[check::ACTIVE]),
    (check::GATEWAY, &[check::INTERFACE]),
    (check::PING, &[check::SOURCE, check::AT_LEAST]),
    (check::TCP, &[check::SOURCE]),
    (
        check::HTTP,
        &[
            check::METHOD,
            check::HOST,
            check::STATUS,
            check::BODY,
            check::SERVER_NAME,
            check::VERIFY,
            check::CA_FILE,
            check::EXPIRY,
        ],
    ),
    (check::DNS, &[check::NAME, check::RECORD]),
    (check::UNIX, &[]),
    (check::UNIT, &[]),
    (check::PROCESS, &[check::AT_LEAST, check::AT_MOST]),
    (check::PID_FILE, &[]),
    (check::SCRIPT, &[check::USER, check::ENV]),
    (check::FILE, &[check::MAX_AGE]),
    (check::ABSENT, &[]),
    (check::PRESSURE, &[check::WARN, check::FAIL]),
    (check::DISK, &[check::WARN, check::FAIL, check::WRITE]),
];

keys! {
    /// `[hook.NAME]`
    hook {
        ON "on" "a list of \"active\", \"backup\", \"fault\", \"stop\", \"sync-interval\", \"sync-change\", \"sync-barrier\", \"pre-promote\", \"post-promote\", \"pre-demote\", \"post-demote\" and \"verify\"" "[\"active\", \"backup\", \"fault\"]";
        RUN "run" "a list: the absolute path of a program, and its arguments" "[\"/etc/vipd/hooks/notify\"]";
        FIFO "fifo" "an absolute path" "\"/run/app/notify.fifo\"";
        CALL "call" "\"vipd\" or \"keepalived\"" "\"vipd\"";
        INSTANCES "instances" "a list of instance names" "[\"web\"]";
        USER "user" "the name of a user" "\"vipd-hooks\"";
        ENV "env" "a table of texts by name" "{ SITE = \"north\" }";
        TIMEOUT "timeout" "a duration from 100ms to 10m" "\"30s\"";
        INTERVAL "interval" "a duration from 1s to 168h" "\"60s\"";
        WATCH "watch" "a list of absolute paths" "[\"/var/lib/app\"]";
        DEBOUNCE "debounce" "a duration from 10ms to 60s" "\"500ms\"";
    }
}

keys! {
    /// `[replicate.NAME]`
    replicate {
        INSTANCE "instance" "the name of an instance" "\"web\"";
        PATHS "paths" "a list of absolute paths" "[\"/var/lib/dhcp\"]";
        EXCLUDE "exclude" "a list of shell patterns" "[\"*.tmp\", \"cache/*\"]";
        DEBOUNCE "debounce" "a duration from 10ms to 60s" "\"500ms\"";
        MAX_DELAY "max-delay" "a duration from 10ms to 1h" "\"5s\"";
        SCAN_INTERVAL "scan-interval" "a duration from 1s to 24h" "\"60s\"";
        ATOMIC_SET "atomic-set" "true or false" "false";
        XATTRS "xattrs" "true or false" "false";
        SETUID "setuid" "true or false" "false";
        OUTWARD_LINKS "outward-links" "true or false" "false";
        REQUIRE_MOUNTPOINT "require-mountpoint" "true or false" "false";
        BANDWIDTH "bandwidth" "a rate such as \"50MB/s\", or octets per second from 10000 to 100000000000" "\"50MB/s\"";
        DELETE_GUARD "delete-guard" "an integer from 1 to 100" "25";
        TRASH_VERSIONS "trash-versions" "an integer from 0 to 1000" "10";
        TRASH_AGE "trash-age" "a duration from 1m to 8784h" "\"168h\"";
        RESCUE_QUOTA "rescue-quota" "a size such as \"500MB\" or \"1GiB\", or octets from 1 to 1000000000000000" "\"1GiB\"";
        PROMOTE_GATE "promote-gate" "\"prefer\", \"require\" or \"ignore\"" "\"prefer\"";
        MAX_AGE "max-age" "a duration from 2s to 24h" "\"60s\"";
        MAX_PENDING "max-pending" "a size such as \"500MB\" or \"1GiB\", or octets from 1 to 1000000000000000" "\"100MB\"";
    }
}

keys! {
    /// `[telemetry]`
    telemetry {
        LISTEN "listen" "an address with a port, or the absolute path of a socket" "\"127.0.0.1:9650\"";
    }
}

/// Every section but the file itself, by its heading as the manual writes it.
pub(super) const SECTIONS: &[(&str, &[Key])] = &[
    ("[cluster]", cluster::ALL),
    ("[hosts.NAME]", host::ALL),
    ("[instance.NAME]", instance::ALL),
    ("[instance.NAME.hmac]", hmac::ALL),
    ("[instance.NAME.activation]", activation::ALL),
    ("[instance.NAME.damping]", damping::ALL),
    ("[instance.NAME.move-budget]", move_budget::ALL),
    ("[[instance.NAME.route]]", route::ALL),
    ("[[instance.NAME.rule]]", rule::ALL),
    ("[pool.NAME]", pool::ALL),
    ("[sync.NAME]", sync::ALL),
    ("[check.NAME]", check::ALL),
    ("[hook.NAME]", hook::ALL),
    ("[replicate.NAME]", replicate::ALL),
    ("[telemetry]", telemetry::ALL),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use toml::de::{DeTable, DeValue};

    #[test]
    fn the_manual_has_every_key_in_this_order() {
        let manual = include_str!("../../../docs/configuration.md");
        for (heading, keys) in SECTIONS {
            let (_, section) = manual.split_once(&format!("\n## `{heading}`\n")).unwrap();
            let section = section.split("\n## ").next().unwrap();
            let rows = section.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next());
            assert_eq!(rows.collect::<Vec<_>>(), keys.iter().map(|k| k.name).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_full_file_of_the_tests_has_every_key() {
        fn written(table: &DeTable<'_>, keys: &mut Vec<String>) {
            for (key, value) in table.iter() {
                keys.push(key.get_ref().to_string());
                match value.get_ref() {
                    DeValue::Table(inner) => written(inner, keys),
                    DeValue::Array(list) => list
                        .iter()
                        .filter_map(|v| v.get_ref().as_table())
                        .for_each(|inner| written(inner, keys)),
                    _ => {}
                }
            }
        }
        let text = include_str!("../../tests/config/full.toml");
        let mut keys = Vec::new();
        written(DeTable::parse(text).unwrap().get_ref(), &mut keys);
        for key in SECTIONS.iter().flat_map(|(_, keys)| *keys) {
            assert!(keys.iter().any(|k| k == key.name), "{} is not in full.toml", key.name);
        }
    }

    #[test]
    fn examples_are_toml() {
        for key in SECTIONS.iter().flat_map(|(_, keys)| *keys).chain(file::ALL) {
            assert!(DeValue::parse(key.example).is_ok(), "{}", key.name);
        }
    }
}
