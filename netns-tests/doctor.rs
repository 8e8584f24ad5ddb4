//! `vipd doctor` on hosts with something broken for real: each fault is found, with what mends it, and only that.

use crate::arena::{Arena, FIRST, SECOND, wait};
use libtest_mimic::Trial;
use serde_json::Value;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;
use vipd_agent::lab::agent::Condition;
use vipd_agent::lab::clock::now;
use vipd_agent::lab::netlink::LinkState;
use vipd_agent::lab::plan::Plan;
use vipd_agent::lab::topology::{Net, host_v4};
use vipd_agent::sys::{Delivery, VrrpSocket};
use vipd_core::config::model::ChecksumFlavour;
use vipd_core::types::{Family, IfIndex, Interval, Version, Vrid};
use vipd_core::wire::vrrp::Advert;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn(&mut Arena)| {
        Trial::test(format!("doctor/{name}"), move || {
            let mut arena = Arena::elected(Plan::default());
            test(&mut arena);
            arena.close();
            Ok(())
        })
    };
    vec![
        trial("filters", filters),
        trial("settings", settings),
        trial("peers", peers),
        trial("files_and_rights", files_and_rights),
        trial("strangers", strangers),
    ]
}

/// What `vipd doctor` finds on a host; its exit code says whether there is a problem.
fn examine(arena: &Arena, ix: usize, more: &[&str]) -> Vec<Value> {
    let verb = [&["doctor", "--json"], more].concat();
    report(arena, ix, arena.stage.agent(ix).vipd(&verb).unwrap())
}

fn report(arena: &Arena, ix: usize, command: Command) -> Vec<Value> {
    // With the /sys of its own network, as a machine or a container has it.
    let mut inside = Command::new("unshare");
    inside.args(["-m", "sh", "-c", "mount -t sysfs sysfs /sys && exec \"$0\" \"$@\""]);
    inside.arg(command.get_program()).args(command.get_args());
    let ns = arena.stage.room().host(ix).ns().unwrap();
    let out = ns.run(move || Ok(inside.output()?)).unwrap();
    let report: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    let findings = report["findings"].as_array().unwrap().clone();
    let sick = findings.iter().any(|finding| finding["problem"] == true);
    assert_eq!(out.status.code(), Some(i32::from(sick)), "{report:#}");
    findings
}

/// The only finding of `probe`, with these words in what it says, shows or advises.
#[track_caller]
fn finds(findings: &[Value], probe: &str, words: &[&str]) {
    let of: Vec<&Value> = findings.iter().filter(|finding| finding["probe"] == probe).collect();
    for word in words {
        assert!(
            of.iter().any(|finding| finding.to_string().contains(word)),
            "{word}: {findings:#?}"
        );
    }
    for finding in of {
        for key in ["what", "evidence", "fix"] {
            assert_ne!(finding[key], "", "{finding:#}");
        }
    }
}

/// Nothing is found by `probe`.
#[track_caller]
fn silent(findings: &[Value], probe: &str) {
    assert!(findings.iter().all(|finding| finding["probe"] != probe), "{findings:#?}");
}

fn filters(arena: &mut Arena) {
    silent(&examine(arena, FIRST, &[]), "filter");
    let nft = |words: &str| arena.run(SECOND, &format!("nft {words}"));
    nft("add table inet eats");
    nft("add chain inet eats input { type filter hook input priority 0 ; }");
    nft("add rule inet eats input meta l4proto 112 drop");
    let found = examine(arena, SECOND, &[]);
    finds(&found, "filter", &["drops adverts that arrive on", "nft insert rule inet eats input"]);
    nft("insert rule inet eats input meta l4proto 112 accept");
    silent(&examine(arena, SECOND, &[]), "filter");
    nft("add rule inet eats input udp dport 7112 drop");
    let found = examine(arena, SECOND, &[]);
    finds(&found, "filter", &["drops heartbeats (h1, ", "udp dport 7112 accept"]);
    nft("delete table inet eats");
    // What ordinary firewalls look like: closed, but for what belongs to a connection.
    nft("add table ip closed");
    nft("add chain ip closed out { type filter hook output priority 0 ; policy drop ; }");
    nft("add rule ip closed out ct state established,related accept");
    let found = examine(arena, SECOND, &[]);
    finds(&found, "filter", &["drops adverts that leave on", "its policy is drop"]);
    nft("delete table ip closed");
    silent(&examine(arena, SECOND, &[]), "filter");
}

fn settings(arena: &mut Arena) {
    let found = examine(arena, SECOND, &[]);
    silent(&found, "settings");
    silent(&found, "routes");
    let interface = service_link(arena);
    let sysctl = |key: &str, value: u8| {
        arena.run(SECOND, &format!("sysctl -qw net.ipv4.conf.{interface}.{key}={value}"));
    };
    sysctl("arp_ignore", 8);
    let found = examine(arena, SECOND, &[]);
    finds(&found, "settings", &["does not answer ARP", "arp_ignore is 8", "arp_ignore=1"]);
    sysctl("arp_ignore", 0);
    // The way back to the peer's other address leads over the service network: what comes from there is dropped.
    let (theirs, mine) = (host_v4(FIRST, Net::Beat), host_v4(SECOND, Net::Beat));
    arena.run(SECOND, &format!("ip route add {theirs}/32 dev {interface}"));
    let found = examine(arena, SECOND, &[]);
    finds(&found, "routes", &[&theirs.to_string(), &mine.to_string()]);
    arena.run(SECOND, &format!("ip route del {theirs}/32 dev {interface}"));
    silent(&examine(arena, SECOND, &[]), "routes");
    silent(&examine(arena, SECOND, &[]), "interfaces");
    arena.stage.set_cable(SECOND, Net::Service, LinkState::Down).unwrap();
    finds(
        &examine(arena, SECOND, &[]),
        "interfaces",
        &["is down or without carrier", "ip link set"],
    );
    arena.stage.set_cable(SECOND, Net::Service, LinkState::Up).unwrap();
    arena.calm();
}

/// The interface of the instance.
fn service_link(arena: &Arena) -> String {
    arena.status(SECOND)["instances"][0]["interface"].as_str().unwrap().to_owned()
}

fn peers(arena: &mut Arena) {
    silent(&examine(arena, FIRST, &[]), "peers");
    // One direction of one path.
    let theirs = host_v4(SECOND, Net::Beat);
    let nft = |words: &str| arena.run(FIRST, &format!("nft {words}"));
    nft("add table inet deaf");
    nft("add chain inet deaf input { type filter hook input priority 0 ; }");
    nft(&format!("add rule inet deaf input ip saddr {theirs} udp dport 7112 drop"));
    // Three heartbeats are missed before a path counts as cut.
    wait(Duration::from_secs(6));
    let found = examine(arena, SECOND, &[]);
    finds(&found, "peers", &["does not hear this host there", "hears us: no"]);
    finds(&examine(arena, FIRST, &[]), "peers", &["h2 hears this host over", "is not heard there"]);
    nft("delete table inet deaf");
    wait(Duration::from_secs(3));
    silent(&examine(arena, SECOND, &[]), "peers");
    arena.stage.stop(SECOND).unwrap();
    wait(Duration::from_secs(6));
    finds(&examine(arena, FIRST, &[]), "peers", &["h2 is silent on all paths"]);
    finds(&examine(arena, SECOND, &[]), "agent", &["no agent answers", "systemctl start vipd"]);
    assert_eq!(arena.stage.agent(SECOND).condition(), Condition::Down);
}

fn files_and_rights(arena: &mut Arena) {
    let found = examine(arena, SECOND, &[]);
    silent(&found, "config");
    silent(&found, "keys");
    let original = std::fs::read_to_string(arena.stage.agent(SECOND).config()).unwrap();
    arena.edit_config(SECOND, |text| format!("{text}\n# another file\n"));
    silent(&examine(arena, SECOND, &[]), "agent");
    arena.edit_config(SECOND, |text| {
        text.replacen("[instance.web]", "[instance.web]\ninterface-x = 1", 1)
    });
    finds(&examine(arena, SECOND, &[]), "config", &["interface-x", "vipd check"]);
    arena.edit_config(SECOND, |_| original.clone());
    let key = original.lines().find_map(|line| line.strip_prefix("key-file = ")?.split('"').nth(1));
    let key = key.expect("heartbeats have a key").to_owned();
    arena.run(SECOND, &format!("chmod 644 {key}"));
    finds(&examine(arena, SECOND, &[]), "keys", &["chmod"]);
    arena.run(SECOND, &format!("chmod 600 {key}"));
    silent(&examine(arena, SECOND, &[]), "keys");
    let plain = arena.stage.agent(SECOND).vipd(&["doctor", "--json"]).unwrap();
    let mut weak = Command::new("setpriv");
    weak.arg("--bounding-set=-net_raw").arg(plain.get_program()).args(plain.get_args());
    finds(&report(arena, SECOND, weak), "rights", &["CAP_NET_RAW is missing"]);
}

fn strangers(arena: &mut Arena) {
    silent(&examine(arena, SECOND, &["--scan", "1s"]), "network");
    let vrid = arena.stage.plan().vrid;
    let interface = service_link(arena);
    let ns = arena.stage.room().host(FIRST).ns().unwrap();
    let src: IpAddr = host_v4(FIRST, Net::Service).into();
    let strangers = ns
        .run(move || {
            let index = nix::net::if_::if_nametoindex(&*interface)?;
            let only_sends = Delivery { multicast: false, unicast: false };
            let index = IfIndex::new(index).unwrap();
            Ok(VrrpSocket::open(&interface, index, Family::V4, only_sends)?)
        })
        .unwrap();
    let advert = |vrid: u8| {
        let advert = Advert {
            version: Version::V3,
            vrid: Vrid::new(vrid).unwrap(),
            priority: 1,
            interval: Interval::from_centis(100).unwrap(),
            addresses: vec!["192.0.2.77".parse().unwrap()],
            simple_text: None,
        };
        let group = Family::V4.group();
        strangers.send(src, group, &advert.encode(src, group, ChecksumFlavour::Rfc5798)).unwrap();
    };
    let arena = &*arena;
    let found = std::thread::scope(|scope| {
        let scan = scope.spawn(|| examine(arena, SECOND, &["--scan", "2s"]));
        let since = now();
        while now().since(since) < Duration::from_secs(3) && !scan.is_finished() {
            advert(99);
            advert(vrid);
            wait(Duration::from_millis(100));
        }
        scan.join().unwrap()
    });
    let sender = src.to_string();
    finds(
        &found,
        "network",
        &[
            "VRID 99 on",
            "belongs to others",
            &sender,
            "192.0.2.77",
            &format!("VRID {vrid} of instance web is used for other addresses"),
        ],
    );
}
