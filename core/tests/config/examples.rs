//! Every example file loads on every host without a warning; what comes out is what was meant.

use std::net::IpAddr;
use std::time::Duration;
use vipd_core::config::model::{Auth, ChecksumFlavour, Gate, Model, StandbyKind, Transport};
use vipd_core::config::{load, load_all_hosts, stable_hash};
use vipd_core::types::{HostIx, InstanceIx};

const EXAMPLES: &[(&str, &str)] = &[
    ("pair.toml", include_str!("../../../config/pair.toml")),
    ("dual-stack.toml", include_str!("../../../config/dual-stack.toml")),
    ("router-virtual-mac.toml", include_str!("../../../config/router-virtual-mac.toml")),
    ("active-active.toml", include_str!("../../../config/active-active.toml")),
    ("unicast-cloud.toml", include_str!("../../../config/unicast-cloud.toml")),
    ("auth-hmac.toml", include_str!("../../../config/auth-hmac.toml")),
    ("health-checks.toml", include_str!("../../../config/health-checks.toml")),
    ("warm-standby.toml", include_str!("../../../config/warm-standby.toml")),
    ("files-rsync.toml", include_str!("../../../config/files-rsync.toml")),
    ("router-conntrackd.toml", include_str!("../../../config/router-conntrackd.toml")),
    ("cold-standby.toml", include_str!("../../../config/cold-standby.toml")),
    ("active-active-pool.toml", include_str!("../../../config/active-active-pool.toml")),
    ("replication-hot.toml", include_str!("../../../config/replication-hot.toml")),
    ("replication-warm.toml", include_str!("../../../config/replication-warm.toml")),
    ("replication-cold.toml", include_str!("../../../config/replication-cold.toml")),
    (
        "replication-active-active.toml",
        include_str!("../../../config/replication-active-active.toml"),
    ),
];

fn example(name: &str, host: &str) -> Model {
    let text = EXAMPLES.iter().find(|(n, _)| *n == name).unwrap().1;
    load(text, name, host).unwrap().0
}

#[test]
fn every_example_loads_on_every_host() {
    for (file, text) in EXAMPLES {
        let (models, warnings) = load_all_hosts(text, file).unwrap();
        assert_eq!(warnings, [], "{file}");
        assert!(models.len() >= 2);
        for (ix, model) in (0u8..).zip(&models) {
            assert_eq!(model.host, HostIx(ix));
            assert_eq!(model.hash, models[0].hash, "{file}: one hash for all hosts");
            let (alone, _) = load(text, file, model.host_name(model.host)).unwrap();
            assert_eq!(alone, *model);
            assert!(!model.instances.is_empty());
        }
    }
}

#[test]
fn pair_as_each_host_sees_it() {
    let (first, second) = (example("pair.toml", "lb1"), example("pair.toml", "lb2"));
    assert_eq!((first.host, second.host), (HostIx(0), HostIx(1)));
    let web = first.instance(InstanceIx(0));
    assert_eq!(web.priority.get(), 150);
    assert_eq!(second.instance(InstanceIx(0)).priority.get(), 100);
    assert_eq!(web.priorities, second.instance(InstanceIx(0)).priorities);
    assert_eq!(web.key, stable_hash(b"web"));
    assert_eq!(web.preempt_delay, Duration::from_secs(60));
    assert_eq!(web.hold_down, Duration::from_secs(10));
    assert!(web.accept && web.lease && web.preempt && web.shared_fate && web.stale_holder_wait);
    assert_eq!(first.links[0].settle, Duration::from_secs(35));
    let heartbeat = first.heartbeat.unwrap();
    assert_eq!((heartbeat.port, heartbeat.interval.centis()), (7112, 100));
    assert_eq!(first.hosts[1].paths[1], "10.9.0.12".parse::<IpAddr>().unwrap());
}

#[test]
fn per_host_values_and_ranges() {
    assert_eq!(&*example("dual-stack.toml", "lb2").links[0].name, "ens3");
    let router = example("router-virtual-mac.toml", "r1");
    let wan = router.instances.iter().find(|i| &*i.name == "wan").unwrap();
    assert_eq!(wan.unadvertised.len(), 10);
    assert_eq!(wan.unadvertised[9].to_string(), "198.51.100.29/24");
    assert_eq!(router.sync_groups[0].members, [InstanceIx(0), InstanceIx(1)]);
    assert_eq!((wan.routes.len(), wan.rules.len()), (1, 1));
}

#[test]
fn own_addresses_are_no_peers() {
    let peers = |host| match example("unicast-cloud.toml", host).instances.remove(0).transport {
        Transport::Unicast(peers) => peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        Transport::Multicast => panic!("unicast was configured"),
    };
    assert_eq!(peers("a"), ["10.1.0.12", "10.1.0.13"]);
    assert_eq!(peers("b"), ["10.1.0.11", "10.1.0.13"]);
}

#[test]
fn without_paths_it_is_plain_vrrp() {
    let model = example("auth-hmac.toml", "fw1");
    assert!(model.heartbeat.is_none());
    let gw = &model.instances[0];
    assert!(!gw.shared_fate);
    assert_eq!(gw.checksum, ChecksumFlavour::Rfc5798);
    let Auth::Hmac(hmac) = &gw.auth else { panic!("hmac was configured") };
    assert_eq!((hmac.active_key, hmac.keys.len()), (2, 2));
    assert_eq!(hmac.window, Some(Duration::from_secs(5)));
}

#[test]
fn a_host_that_priority_leaves_out_does_not_take_part() {
    let text = include_str!("../../../config/unicast-cloud.toml").replace(", c = 100", "");
    let (models, warnings) = load_all_hosts(&text, "x").unwrap();
    assert_eq!(warnings, []);
    assert!(models[2].instances.is_empty() && models[2].links.is_empty());
    assert_eq!(models[0].instances[0].priorities[2], None);
}

#[test]
fn defaults_that_depend_on_other_values() {
    let text = "
        [hosts.a]
        [hosts.b]
        [instance.x]
        vrid = 1
        interface = 'eth0'
        addresses = ['10.1.0.1-10.1.1.4/16']
        priority = { a = 2, b = 1 }
        advert-interval = '40s'
        hmac = { keys = { '7' = '/k' } }
        settle = 'off'
        [[instance.x.route]]
        to = '0.0.0.0/0'
        [instance.y]
        vrid = 2
        interface = 'eth0'
        addresses = ['10.2.0.1']
        priority = { a = 2, b = 1 }
        settle = '3s'
        ";
    let text = text.replace("10.1.1.4/16", "10.1.0.200/16");
    let (model, warnings) = load(&text, "x", "a").unwrap();
    assert_eq!(warnings, []);
    let x = &model.instances[0];
    assert_eq!(x.addresses.len(), 200);
    let Auth::Hmac(hmac) = &x.auth else { panic!("hmac was configured") };
    assert_eq!((hmac.active_key, hmac.window), (7, Some(Duration::from_secs(120))));
    assert_eq!(x.routes[0].src, Some("10.1.0.1".parse().unwrap()));
    assert_eq!(model.links.len(), 1);
    assert_eq!(model.links[0].settle, Duration::from_secs(3), "the largest of its instances");
    assert_eq!(model.instances[1].addresses[0].prefix_len, 32);
}

#[test]
fn large_sets_expand() {
    let text = "
        hosts = { a = {}, b = {} }
        [instance.x]
        vrid = 1
        interface = 'eth0'
        addresses = ['10.1.0.1/16']
        unadvertised = ['10.1.0.2-10.1.19.136/16']
        priority = { a = 2, b = 1 }
        claim = 'route'
        ";
    let (model, _) = load(text, "x", "b").unwrap();
    assert_eq!(model.instances[0].unadvertised.len(), 19 * 256 + 136 - 1);
}

#[test]
fn hash_is_of_the_meaning() {
    let hash = |text: &str| load_all_hosts(text, "x").unwrap().0[0].hash;
    let text = include_str!("../../../config/pair.toml");
    let original = hash(text);
    let uncommented: String =
        text.lines().map(|l| l.split('#').next().unwrap().to_owned() + "\n").collect();
    assert_eq!(hash(&uncommented), original);
    let same = text
        .replace("\"60s\"", "'1m'")
        .replace("interface = \"eth0\"", "interface = { lb1 = 'eth0', lb2 = 'eth0' }")
        .replace("vrid = 51", "vrid = 0x33");
    assert_ne!(same, text);
    assert_eq!(hash(&same), original);
    for (from, to) in [
        ("vrid = 51", "vrid = 52"),
        ("\"60s\"", "\"61s\""),
        ("lb2 = 100", "lb2 = 101"),
        ("10.9.0.12", "10.9.0.13"),
        ("\"shop\"", "\"shoq\""),
        ("\"eth0\"", "{ lb1 = 'eth0', lb2 = 'eth1' }"),
    ] {
        assert_ne!(hash(&text.replace(from, to)), original, "{from} -> {to}");
    }
}

#[test]
fn a_host_that_is_not_in_the_file() {
    let text = include_str!("../../../config/pair.toml");
    let errors = load(text, "pair.toml", "lb3").unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].message, "pair.toml has no host \"lb3\"");
    assert!(errors[0].help.ends_with("--host: lb1, lb2"), "{}", errors[0].help);
    assert!(text.lines().nth(errors[0].line - 1).unwrap().starts_with("[hosts."));
}

#[test]
fn replication_profiles_mean_what_they_say() {
    let hot = example("replication-hot.toml", "edge1");
    assert!(hot.replicates[0].atomic && hot.replicates[0].gate == Gate::Prefer);
    let warm = example("replication-warm.toml", "dhcp2");
    assert_eq!(warm.instance(InstanceIx(0)).standby.kind(), StandbyKind::Warm);
    let cold = example("replication-cold.toml", "spare");
    assert_eq!(cold.instance(InstanceIx(0)).standby.kind(), StandbyKind::Cold);
    let set = &cold.replicates[0];
    assert_eq!((set.gate, set.require_mount), (Gate::Require, true));
    assert_eq!(set.bandwidth, Some(20_000_000));
    let both = example("replication-active-active.toml", "shop1");
    let of = |set: &str| both.replicates.iter().find(|s| &*s.name == set).unwrap().instance;
    let preferred = |set: &str| both.instance(of(set)).priority.get() == 150;
    assert!(preferred("orders") && !preferred("images"));
}
