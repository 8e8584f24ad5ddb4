//! The configuration from outside: example files, wrong files, any text.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use vipd_core::config;

#[test]
fn pair_loads_for_both_hosts() {
    let text = include_str!("../../config/pair.toml");
    for host in ["lb1", "lb2"] {
        let (model, warnings) = config::load(text, "pair.toml", host).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(model.instances.len(), 1);
        println!("{model:#?}");
    }
}
