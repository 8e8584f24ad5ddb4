//! Pools: what they expand to, and that their share stays even.

use super::cases::findings;
use std::collections::BTreeMap;
use vipd_core::config::load_all_hosts;
use vipd_core::config::model::Model;

/// A pool of `addresses` on `hosts`, and `more` in it.
fn text(hosts: usize, addresses: usize, more: &str) -> String {
    let hosts: String = (1..=hosts).map(|n| format!("[hosts.h{n}]\n")).collect();
    format!(
        "{hosts}[pool.p]\nvrids = '1-{addresses}'\naddresses = ['10.0.0.1-{addresses}/24']\n\
         interface = 'eth0'\n{more}\n"
    )
}

fn models(text: &str) -> Vec<Model> {
    let (models, warnings) = load_all_hosts(text, "x").unwrap();
    assert_eq!(warnings, []);
    models
}

/// Who owns each instance, by priority alone, while the host at `gone` is away.
fn owners(model: &Model, gone: Option<usize>) -> Vec<usize> {
    let owner = |i: &vipd_core::config::model::Instance| {
        let alive = i.priorities.iter().enumerate().filter(|(at, _)| Some(*at) != gone);
        alive.max_by_key(|(_, priority)| **priority).unwrap().0
    };
    model.instances.iter().map(owner).collect()
}

fn loads(owners: &[usize], hosts: usize) -> Vec<usize> {
    (0..hosts).map(|host| owners.iter().filter(|o| **o == host).count()).collect()
}

#[test]
fn twelve_addresses_on_three_hosts_as_promised() {
    let model = &models(&text(3, 12, ""))[0];
    assert_eq!(loads(&owners(model, None), 3), [4, 4, 4]);
    assert_eq!(loads(&owners(model, Some(2)), 3), [6, 6, 0]);
    assert_eq!(loads(&owners(model, Some(0)), 3), [0, 6, 6]);
}

#[test]
fn even_on_two_to_five_hosts_and_each_address_moves_at_most_once() {
    for hosts in 2..=5 {
        for addresses in [2, 7, 12, 20, 60, 255 - 1] {
            let model = &models(&text(hosts, addresses, ""))[0];
            let before = owners(model, None);
            let even =
                |loads: &[usize]| loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1;
            assert!(even(&loads(&before, hosts)));
            for gone in 0..hosts {
                let after = owners(model, Some(gone));
                let mut left = loads(&after, hosts);
                assert_eq!(left.remove(gone), 0);
                assert!(even(&left), "{addresses} on {hosts} without {gone}: {left:?}");
                for (was, is) in before.iter().zip(&after) {
                    assert!(was == is || *was == gone, "an address moved whose owner stayed");
                }
            }
        }
    }
}

#[test]
fn members_are_instances_like_others() {
    let more = "advert-interval = '500ms'\npreempt-delay = '2m'\nchecks = ['c']\n\
                standby = { h1 = 'hot', h2 = 'hot', h3 = 'cold' }\nhmac.keys.1 = '/k'\n\
                [check.c]\ntcp = '127.0.0.1:80'\n[sync.s]\ninstances = ['p-1', 'p-7']\n";
    let model = &models(&text(3, 12, more))[1];
    let names: Vec<&str> = model.instances.iter().map(|i| &*i.name).collect();
    assert_eq!(&names[..4], ["p-1", "p-10", "p-11", "p-12"], "sorted like any instance");
    let ranks: BTreeMap<u8, usize> = model.instances.iter().fold(BTreeMap::new(), |mut all, i| {
        *all.entry(i.priority.get()).or_default() += 1;
        all
    });
    assert_eq!(ranks, [(190, 4), (195, 4), (200, 4)].into());
    for instance in &model.instances {
        assert_eq!(instance.addresses.len(), 1);
        assert_eq!(instance.addresses[0].to_string(), format!("10.0.0.{}/24", instance.vrid));
        assert_eq!((instance.interval.centis(), instance.checks.len()), (50, 1));
    }
    assert_eq!(model.links.len(), 1);
}

#[test]
fn a_pool_on_some_hosts() {
    let models = models(&text(3, 4, "hosts = ['h3', 'h1']"));
    assert!(models[1].instances.is_empty());
    let model = &models[0];
    assert!(model.instances.iter().all(|i| i.priorities[1].is_none()));
    assert_eq!(loads(&owners(model, None), 3), [2, 0, 2]);
}

#[test]
fn errors_point_into_the_pool() {
    let text = text(2, 4, "#").replace("10.0.0.1-4/24", "10.0.0.1-3/24', '10.0.0.2/24");
    let all = findings(&text);
    assert!(!all.is_empty());
    assert!(all.iter().all(|d| d.line == 5), "{all:?}");
}

#[test]
fn a_default_check_moves_addresses_of_a_pool() {
    let more = "checks = ['c']\n[check.c]\npressure = 'cpu'\n";
    assert_eq!(findings(&text(3, 12, more)), []);
}

#[test]
fn load_and_capacity() {
    let capacity = |numbers: [u32; 3]| {
        let mut text = text(3, 12, "load = 10");
        for (host, number) in (1..).zip(numbers) {
            let section = format!("[hosts.h{host}]\n");
            text = text.replace(&section, &format!("{section}capacity = {number}\n"));
        }
        findings(&text).iter().map(|d| d.message.clone()).collect::<Vec<_>>()
    };
    assert!(capacity([60, 60, 60]).is_empty());
    assert_eq!(
        capacity([60, 59, 60]),
        ["when h3 fails, h2 owns a load of 60, above its capacity of 59"]
    );
    assert_eq!(
        capacity([60, 60, 39]),
        ["h3 owns a load of 40 when all hosts are well, above its capacity of 39"]
    );
}
