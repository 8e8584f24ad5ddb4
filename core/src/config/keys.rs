//! Every key of the file: its name, what it takes, an example. Errors, suggestions and the test of
//! `docs/configuration.md` are made from these tables.

/// A key of one section.
#[derive(Copy, Clone, Debug)]
pub(super) struct Key {
    /// How it is written.
    pub(super) name: &'static str,
    /// What it takes, in words that go on "must be ...".
    pub(super) expect: &'static str,
    /// A legal value as written in the file.
    pub(super) example: &'static str,
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
        SYNC "sync" "a table of sync groups" "{ all = { instances = [\"lan\", \"wan\"] } }";
    }
}

keys! {
    /// `[cluster]`
    cluster {
        NAME "name" "1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit" "\"shop\"";
        KEY_FILE "key-file" "an absolute path" "\"/etc/vipd/cluster.key\"";
        HEARTBEAT_PORT "heartbeat-port" "an integer from 1 to 65535" "7112";
    }
}

keys! {
    /// `[hosts.NAME]`
    host {
        PATHS "paths" "a list of addresses of this host, one per network" "[\"192.0.2.11\", \"10.9.0.11\"]";
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
        STANDBY "standby" "\"hot\" (\"warm\" and \"cold\" are not in this version)" "\"hot\"";
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

/// Sections and keys that the design has and this version of vipd does not.
pub(super) const NOT_YET: &[&str] = &["check", "hook", "pool", "replicate", "checks"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use toml::de::{DeTable, DeValue};

    const SECTIONS: [(&str, &[Key]); 7] = [
        ("## `[cluster]`", cluster::ALL),
        ("## `[hosts.NAME]`", host::ALL),
        ("## `[instance.NAME]`", instance::ALL),
        ("## `[instance.NAME.hmac]`", hmac::ALL),
        ("## `[[instance.NAME.route]]`", route::ALL),
        ("## `[[instance.NAME.rule]]`", rule::ALL),
        ("## `[sync.NAME]`", sync::ALL),
    ];

    #[test]
    fn the_manual_has_every_key_in_this_order() {
        let manual = include_str!("../../../docs/configuration.md");
        for (heading, keys) in SECTIONS {
            let (_, section) = manual.split_once(&format!("{heading}\n")).unwrap();
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
