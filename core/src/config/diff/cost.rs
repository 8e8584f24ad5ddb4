//! What changing a key costs at a reload. The manual has the same table, and a test of this file compares the two.

use super::super::keys;
use super::INSTANCE;
use std::fmt::{self, Display};

/// What a change costs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cost {
    /// Takes effect in place: no state changes, no packet is lost.
    Hot,
    /// Takes effect in place; until the other hosts have it too, they and this host differ in what they say to each
    /// other.
    Soft,
    /// The instance is handed over where another host can take over, and begins anew as backup.
    Hard,
}

impl Cost {
    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

impl Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Keys whose change is hard, by section. `docs/configuration.md` has the same list.
const HARD: &[(&str, &[keys::Key])] = &[
    (
        INSTANCE,
        &[
            keys::instance::VRID,
            keys::instance::INTERFACE,
            keys::instance::VERSION,
            keys::instance::VIRTUAL_MAC,
            keys::instance::CLAIM,
            keys::instance::FATE,
            keys::instance::PREFIX_ROUTE,
        ],
    ),
    ("[pool.NAME]", &[keys::pool::VRIDS]),
    ("[sync.NAME]", &[keys::sync::INSTANCES]),
];

/// Keys whose change is soft, by section. `docs/configuration.md` has the same list.
const SOFT: &[(&str, &[keys::Key])] = &[
    ("[cluster]", &[keys::cluster::NAME, keys::cluster::KEY_FILE, keys::cluster::HEARTBEAT_PORT]),
    ("[hosts.NAME]", &[keys::host::PATHS]),
    (
        INSTANCE,
        &[
            keys::instance::UNICAST_PEERS,
            keys::instance::SOURCE,
            keys::instance::SIMPLE_TEXT,
            keys::instance::HMAC,
        ],
    ),
    (
        "[instance.NAME.hmac]",
        &[keys::hmac::MODE, keys::hmac::KEYS, keys::hmac::ACTIVE_KEY, keys::hmac::WINDOW],
    ),
];

/// What changing `key` of `section`, a heading as the manual writes it, costs. Some values of a hot key cost more: the
/// manual names them, and [`Change::cost`](super::Change::cost) knows.
pub fn cost_of(section: &str, key: &str) -> Cost {
    let has = |table: &[(&str, &[keys::Key])]| {
        table.iter().any(|(s, keys)| *s == section && keys.iter().any(|k| k.name == key))
    };
    if has(HARD) {
        Cost::Hard
    } else if has(SOFT) {
        Cost::Soft
    } else {
        Cost::Hot
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_table_names_keys_that_exist() {
        for (section, keys) in HARD.iter().chain(SOFT) {
            let (_, known) = keys::SECTIONS.iter().find(|(s, _)| s == section).unwrap();
            for key in *keys {
                assert!(known.iter().any(|k| k.name == key.name), "{section} {}", key.name);
            }
        }
    }

    /// `docs/configuration.md` lists the keys that are not hot; what it does not list is hot.
    #[test]
    fn the_manual_says_the_same() {
        let manual = include_str!("../../../../docs/configuration.md");
        let (_, section) = manual.split_once("\n## What a reload changes\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        for (cost, table) in [(Cost::Hard, HARD), (Cost::Soft, SOFT)] {
            let rows: Vec<&str> =
                section.lines().filter(|line| line.starts_with(&format!("| {cost} | `"))).collect();
            let wanted: Vec<String> = table
                .iter()
                .map(|(section, keys)| {
                    let names: Vec<String> = keys.iter().map(|k| format!("`{}`", k.name)).collect();
                    format!("| {cost} | `{section}` | {} |", names.join(", "))
                })
                .collect();
            assert_eq!(rows, wanted);
        }
    }
}
