//! What another file changes and what that costs: every key of an instance, one by one, and what goes with it.

use std::collections::BTreeSet;
use vipd_core::config::diff::{Cost, Difference, Fate, cost_of};
use vipd_core::config::model::Model;
use vipd_core::config::{load, reference};

const BASE: &str = "[cluster]\nname = \"shop\"\nkey-file = \"/k\"\n\
    [hosts.lb1]\npaths = [\"192.0.2.11\"]\n[hosts.lb2]\npaths = [\"192.0.2.12\"]\n\
    [instance.web]\nvrid = 51\ninterface = \"eth0\"\npriority = { lb1 = 150, lb2 = 100 }\n";
const SECTIONS: &str = "[check.app]\ntcp = \"127.0.0.1:80\"\n[check.db]\ntcp = \"127.0.0.1:81\"\n\
    [instance.zoo]\nvrid = 60\ninterface = \"eth0\"\naddresses = [\"192.0.2.60/24\"]\nchecks = [\"app\", \"db\"]\n\
    priority = { lb1 = 150, lb2 = 100 }\n";
const V4: &str = "addresses = [\"192.0.2.10/24\"]";

fn model(text: &str) -> Model {
    match load(text, "vipd.toml", "lb1") {
        Ok((model, _)) => model,
        Err(errors) => panic!("{errors:#?}\n{text}"),
    }
}

/// The file with these lines in `web`; a line replaces that of its key.
fn file(lines: &[&str]) -> String {
    let key = |line: &str| line.split(" =").next().unwrap().to_owned();
    let own: BTreeSet<String> = lines.iter().map(|line| key(line)).collect();
    let mut text = String::new();
    for line in BASE.lines().filter(|line| !own.contains(&key(line))) {
        text += line;
        text += "\n";
    }
    if !own.contains("addresses") {
        text += &format!("{V4}\n");
    }
    lines.iter().for_each(|line| text += &format!("{line}\n"));
    text + SECTIONS
}

fn between(old: &[&str], new: &[&str]) -> Difference {
    Difference::between(&model(&file(old)), &model(&file(new)))
}

/// The key, and what stands in the section before and after.
const EDITS: &[(&str, &[&str], &[&str])] = &[
    ("vrid", &["vrid = 51"], &["vrid = 52"]),
    ("interface", &["interface = \"eth0\""], &["interface = \"eth1\""]),
    ("addresses", &[V4], &["addresses = [\"192.0.2.10/24\", \"192.0.2.20/24\"]"]),
    ("unadvertised", &[], &["unadvertised = [\"192.0.2.30/24\"]"]),
    ("priority", &[], &["priority = { lb1 = 151, lb2 = 100 }"]),
    ("advert-interval", &[], &["advert-interval = \"2s\""]),
    ("version", &[], &["version = 2"]),
    ("preempt", &[], &["preempt = false"]),
    ("preempt-delay", &[], &["preempt-delay = \"5s\""]),
    ("hold-down", &[], &["hold-down = \"5s\""]),
    ("accept", &[], &["accept = false"]),
    ("virtual-mac", &[], &["virtual-mac = true"]),
    ("claim", &[], &["claim = \"route\""]),
    ("standby", &[], &["standby = { lb1 = \"hot\", lb2 = \"cold\" }"]),
    (
        "activation",
        &["standby = \"cold\"", "activation = { run = [\"/bin/a\"] }"],
        &["standby = \"cold\"", "activation = { run = [\"/bin/b\"] }"],
    ),
    ("checks", &["checks = [\"app\"]"], &["checks = [\"app\", \"db\"]"]),
    ("damping", &[], &["damping = \"off\""]),
    ("move-budget", &[], &["move-budget = \"off\""]),
    ("stickiness", &[], &["stickiness = 3"]),
    ("priority-hold", &[], &["priority-hold = \"3s\""]),
    ("load", &[], &["load = 3"]),
    ("unicast-peers", &[], &["unicast-peers = [\"192.0.2.11\", \"192.0.2.12\"]"]),
    ("source", &[], &["source = { lb1 = \"192.0.2.11\", lb2 = \"192.0.2.12\" }"]),
    ("checksum", &[], &["checksum = \"rfc5798\""]),
    ("simple-text", &["version = 2"], &["version = 2", "simple-text = \"secret\""]),
    ("hmac", &[], &["hmac = { keys = { \"1\" = \"/k1\" } }"]),
    ("lease", &[], &["lease = \"off\""]),
    ("stale-holder-wait", &[], &["stale-holder-wait = \"off\""]),
    ("on-conflict", &[], &["on-conflict = \"refuse\""]),
    (
        "fate",
        &["addresses = [\"fe80::10/64\", \"192.0.2.10/24\"]"],
        &["addresses = [\"fe80::10/64\", \"192.0.2.10/24\"]", "fate = \"independent\""],
    ),
    ("prefix-route", &[], &["prefix-route = true"]),
    ("targets", &[], &["targets = [\"192.0.2.1\"]"]),
    ("strict", &[], &["strict = true"]),
    ("settle", &[], &["settle = \"60s\""]),
    ("route", &[], &["route = [{ to = \"10.0.0.0/8\", via = \"192.0.2.1\" }]"]),
    ("rule", &[], &["rule = [{ from = \"192.0.2.10/32\", table = 7, preference = 7 }]"]),
];

#[test]
fn every_key_of_an_instance_costs_what_the_table_says() {
    let sections = reference::sections();
    let section = sections.iter().find(|s| s.heading == "[instance.NAME]").unwrap();
    let keys: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
    assert_eq!(
        keys,
        EDITS.iter().map(|(key, ..)| *key).collect::<Vec<_>>(),
        "an edit for each key"
    );
    for (key, old, new) in EDITS {
        let difference = between(old, new);
        let wanted = cost_of("[instance.NAME]", key);
        let of_web = difference.find("web");
        let changes: Vec<_> =
            of_web.iter().flat_map(|i| &i.changes).chain(&difference.host).collect();
        match *key {
            // Means something to `vipd check` alone.
            "load" => assert!(changes.is_empty(), "{changes:?}"),
            _ => {
                let change = changes.iter().find(|c| c.what == *key);
                let change = change.unwrap_or_else(|| panic!("{key}: {difference:?}"));
                assert_eq!(change.cost, wanted, "{key}: {difference:?}");
                assert!(changes.iter().all(|c| c.what == *key), "{key}: {changes:?}");
                let fate = if wanted == Cost::Hard { Fate::Anew } else { Fate::InPlace };
                assert_eq!(difference.fate("web"), fate, "{key}");
            }
        }
        assert_eq!(difference.fate("zoo"), Fate::InPlace);
        assert!(difference.find("zoo").is_none(), "{key}: zoo is untouched");
        assert!(between(new, new).is_empty(), "{key}: the same file");
    }
}

#[test]
fn some_values_cost_more() {
    let hard = |old: &[&str], new: &[&str]| {
        assert_eq!(between(old, new).fate("web"), Fate::Anew, "{old:?} {new:?}");
    };
    hard(&[V4], &["addresses = [\"192.0.2.10/24\", \"fe80::10/64\"]"]);
    hard(
        &["addresses = [\"192.0.2.10/24\", \"fe80::10/64\"]"],
        &["addresses = [\"fe80::10/64\", \"192.0.2.10/24\"]"],
    );
    hard(&["claim = \"route\""], &["claim = \"route\"", "addresses = [\"192.0.2.20/24\"]"]);
    hard(&[], &["priority = { lb1 = 255, lb2 = 100 }"]);
}

#[test]
fn instances_come_and_go_and_groups_stay_together() {
    let (base, sync) = (file(&[]), "[sync.all]\ninstances = [\"web\", \"zoo\"]\n");
    let both = format!("{base}{sync}");
    let of = |old: &str, new: &str| Difference::between(&model(old), &model(new));
    let grouped = of(&base, &both);
    assert_eq!((grouped.fate("web"), grouped.fate("zoo")), (Fate::Anew, Fate::Anew));
    // One member begins anew: both do.
    let moved = of(&both, &both.replace("vrid = 60", "vrid = 61"));
    assert_eq!((moved.fate("web"), moved.fate("zoo")), (Fate::Anew, Fate::Anew));
    let alone = base.split("[instance.zoo]").next().unwrap();
    let gone = of(&base, alone);
    assert_eq!((gone.fate("web"), gone.fate("zoo")), (Fate::InPlace, Fate::Gone));
    assert_eq!(of(alone, &base).fate("zoo"), Fate::New);
    assert!(of(alone, &base).find("web").is_none());
}

#[test]
fn what_belongs_to_the_host_is_told_beside_instances() {
    let base = file(&["checks = [\"app\"]"]);
    let of = |new: &str| {
        let difference = Difference::between(&model(&base), &model(new));
        assert!(difference.instances.is_empty(), "{difference:?}");
        let told = difference.host.into_iter().map(|c| (c.what, c.cost, c.how));
        told.collect::<Vec<_>>()
    };
    let hot = |what: &str, how: &str| vec![(what.to_owned(), Cost::Hot, how.to_owned())];
    let soft = |what: &str, how: &str| vec![(what.to_owned(), Cost::Soft, how.to_owned())];
    assert_eq!(of(&base), vec![]);
    assert_eq!(of(&base.replace(":80", ":90")), hot("check app", "changed"));
    let hook = "[hook.note]\non = [\"active\"]\nrun = [\"/bin/true\"]\n";
    assert_eq!(of(&format!("{base}{hook}")), hot("hook note", "new"));
    let listen = "[telemetry]\nlisten = \"127.0.0.1:9650\"\n";
    assert_eq!(of(&format!("{base}{listen}")), hot("listen", "nowhere -> 127.0.0.1:9650"));
    assert_eq!(of(&base.replace("\"shop\"", "\"mail\"")), soft("name", "\"shop\" -> \"mail\""));
    let paths = base.replace("[\"192.0.2.12\"]", "[\"192.0.2.13\"]");
    assert_eq!(of(&paths), soft("paths", "of lb2: +192.0.2.13 -192.0.2.12"));
    let host = base.replace("[hosts.lb2]", "[hosts.lb3]\npaths = [\"192.0.2.13\"]\n[hosts.lb2]");
    assert_eq!(of(&host), soft("hosts", "+lb3"));
}
