//! Values that a configuration cannot have: V10-V13. The whole table of refusals: `tests/config`.

use crate::bench::plain;
use vipd_core::config::{Severity, load};

/// What is said of `more`: the worst severity and the texts.
fn judged(more: &str) -> (Option<Severity>, String) {
    match load(&plain(more), "vipd.toml", "lb1") {
        Ok((_, warnings)) if warnings.is_empty() => (None, String::new()),
        Ok((_, warnings)) => (Some(Severity::Warning), format!("{warnings:?}")),
        Err(errors) => (Some(Severity::Error), format!("{errors:?}")),
    }
}

fn refused(more: &str, because: &str) {
    let (severity, text) = judged(more);
    assert_eq!(severity, Some(Severity::Error), "{more}");
    assert!(text.contains(because), "{more}: {text}");
}

#[test]
fn v10_a_first_ipv6_address_that_is_not_link_local_is_a_warning() {
    let (severity, text) = judged("addresses = [\"2001:db8::10/64\"]");
    assert_eq!(severity, Some(Severity::Warning));
    assert!(text.contains("link-local"), "{text}");
    assert_eq!(judged("addresses = [\"fe80::a/64\", \"2001:db8::10/64\"]").0, None);
}

#[test]
fn v11_lists_that_are_empty_or_too_long() {
    refused("addresses = []", "address");
    assert_eq!(judged("addresses = [\"10.1.0.1-10.1.0.255/16\"]").0, None);
    refused("addresses = [\"10.1.0.1-10.1.1.0/16\"]", "255");
    let v6 = |n| {
        let list: Vec<_> = (1..=n).map(|i| format!("\"fe80::{i:x}/64\"")).collect();
        format!("addresses = [{}]", list.join(", "))
    };
    assert_eq!(judged(&v6(90)).0, None);
    refused(&v6(91), "90");
}

#[test]
fn v12_intervals() {
    for more in
        ["advert-interval = \"0s\"", "advert-interval = \"40.96s\"", "advert-interval = \"5ms\""]
    {
        refused(more, "10ms");
    }
    assert_ne!(judged("advert-interval = \"40.95s\"").0, Some(Severity::Error));
    refused("version = 2\nadvert-interval = \"256s\"", "255s");
    assert_ne!(judged("version = 2\nadvert-interval = \"255s\"").0, Some(Severity::Error));
}

#[test]
fn v13_vrid_and_priority() {
    for vrid in ["0", "256", "-1"] {
        let text = plain("").replace("vrid = 51", &format!("vrid = {vrid}"));
        assert!(load(&text, "vipd.toml", "lb1").is_err(), "{vrid}");
    }
    refused("priority = { lb1 = 0, lb2 = 100, lb3 = 50 }", "1 to 255");
    refused("priority = { lb1 = 256, lb2 = 100, lb3 = 50 }", "1 to 255");
}
