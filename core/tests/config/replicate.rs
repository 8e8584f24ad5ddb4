//! Sets of state files: what a legal one means, and what is proved of a wrong one.

use super::cases::{BEATS, Case, E, MORE, PLAIN, W, tell};
use std::time::Duration;
use vipd_core::config::load_all_hosts;
use vipd_core::config::model::{Gate, Model};
use vipd_core::types::InstanceIx;

/// Lines that are added to [`BEATS`], and what is told of them.
#[rustfmt::skip]
const LINES: &[(&str, vipd_core::config::Severity, &str, &str)] = &[
    ("[replicate.x] #!\ninstance = \"web\"", E, "[replicate.x] has no paths", "add paths = [\"/var/lib/dhcp\"]"),
    ("[replicate.x] #!\npaths = [\"/a\"]", E, "[replicate.x] has no instance", "add instance = \"web\""),
    ("[replicate.x]\ninstance = \"wbe\" #!\npaths = [\"/a\"]", E, "set x names instance \"wbe\"", "did you mean \"web\"?"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a\"]\nexcludes = [] #!", E, "unknown key \"excludes\" in [replicate.x]", "did you mean \"exclude\"?"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [] #!", E, "not an empty one", "/var/lib/dhcp"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"a\"] #!", E, "\"a\" does not fit into paths", "/var/lib/dhcp"),
    ("[replicate.x]\ninstance = \"web\"\npaths = { lb1 = [\"/a\"], lb2 = [\"/b\"] } #!", E, "paths must be a list of absolute paths, not a table", "/var/lib/dhcp"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a/../b\"] #!", E, "/a/../b goes up by \"..\"", "as it is"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"//\"] #!", E, "the whole file system", "name folders"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a\", \"/a/b\"] #!", E, "/a/b and /a of set x are one inside of the other", "in one set"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a/b/\"]\n[replicate.y]\ninstance = \"web\"\npaths = [\"/a/b\"] #!", E, "/a/b and /a/b of set x", "in one set"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a/b\"]\n[replicate.y]\ninstance = \"wan\"\npaths = [\"/a\"] #!", E, "wan and web may have different owners: both would push it", "in one set"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/var/lib\"] #!", E, "/var/lib and /var/lib/vipd, where vipd's own memory is", "narrower"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/var/lib/vipd/trash\"] #!", E, "where vipd's own memory is", "narrower"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/k\"] #!", E, "where the cluster key is", "narrower"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a\"]\ndebounce = \"10s\" #!", E, "debounce 10s is longer than max-delay 5s", "longer one"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a\"]\nbandwidth = \"50MB\" #!", E, "bandwidth must be a rate such as \"50MB/s\"", "50MB/s"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a\"]\nmax-pending = \"5M\" #!", E, "max-pending must be a size such as", "100MB"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a\"]\npromote-gate = \"strict\" #!", E, "\"prefer\", \"require\" or \"ignore\", not \"strict\"", "prefer"),
    ("[replicate.x]\ninstance = \"web\"\npaths = [\"/a\"]\nmax-age = \"1s\" #!", E, "2s to 24h", "60s"),
];

#[test]
fn every_wrong_line_is_told_with_its_place_and_its_fix() {
    let mut cases: Vec<Case<'_>> = LINES
        .iter()
        .map(|(lines, severity, message, help)| {
            Case(BEATS, "#wan", lines, *severity, message, help)
        })
        .collect();
    let set = "[replicate.x] #!\ninstance = \"web\"\npaths = [\"/a\"]";
    cases.push(Case(
        PLAIN,
        MORE,
        set,
        E,
        "sets are sent along the heartbeat paths",
        "add paths to every [hosts.NAME]",
    ));
    cases.push(Case(
        BEATS,
        "#cluster",
        "replicate-port = 9 #!",
        W,
        "replicate-port has no effect",
        "[replicate.NAME]",
    ));
    tell(&cases);
}

const SETS: &str = "[replicate.b]\ninstance = \"web\"\npaths = [\"/srv/x/\", \"/srv/xy\"]\n\
    [replicate.a]\ninstance = \"web\"\npaths = [\"/etc/dhcp\"]\nbandwidth = \"50MB/s\"\nmax-pending = 4096\n";

fn models(text: &str) -> (Vec<Model>, Vec<String>) {
    let (models, warnings) = load_all_hosts(text, "x").unwrap();
    (models, warnings.into_iter().map(|w| w.message).collect())
}

#[test]
fn two_sets_of_one_instance_with_defaults() {
    let (models, warnings) = models(&BEATS.replace("#wan", SETS));
    assert!(warnings.is_empty(), "{warnings:?}");
    for model in &models {
        let [a, b] = model.replicates.as_slice() else { panic!("{:?}", model.replicates) };
        assert_eq!((&*a.name, &*b.name, model.replicate_port), ("a", "b", 7113));
        assert_eq!(model.instance(a.instance).name.as_ref(), "web");
        assert_eq!(b.paths, ["/srv/x", "/srv/xy"].map(std::path::PathBuf::from));
        assert_eq!((a.bandwidth, a.max_pending), (Some(50_000_000), Some(4096)));
        assert_eq!((b.debounce, b.max_delay), (Duration::from_millis(500), Duration::from_secs(5)));
        assert_eq!(
            (b.gate, b.max_age, b.max_pending),
            (Gate::Prefer, Duration::from_secs(60), None)
        );
        assert_eq!((b.delete_guard, b.trash_versions, b.rescue_quota), (25, 10, 1 << 30));
        assert_eq!(b.trash_age, Duration::from_secs(7 * 86_400));
        assert_eq!(model.sets_of(a.instance).count(), 2);
        assert_eq!(model.sets_of(InstanceIx(u16::MAX)).count(), 0);
    }
}

#[test]
fn a_host_knows_the_sets_of_its_instances_alone() {
    let text = BEATS.replace("#wan", SETS).replacen("{ lb1 = 150, lb2 = 100 }", "{ lb1 = 150 }", 1);
    let (models, warnings) = models(&text);
    assert_eq!((models[0].replicates.len(), models[1].replicates.len()), (2, 0));
    assert_eq!(warnings, ["only host lb1 takes part in instance web"]);
    let required = text.replace("max-pending = 4096", "promote-gate = \"require\"");
    let errors = load_all_hosts(&required, "x").unwrap_err();
    assert!(
        errors.iter().any(|e| e.is_error() && e.message.contains("asks for a copy")),
        "{errors:?}"
    );
}

#[test]
fn a_host_that_takes_the_address_back_at_once_is_warned_of() {
    let eager = BEATS.replace("#wan", SETS).replace("#web", "preempt-delay = \"0s\"");
    let (_, warnings) = models(&eager);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("a returning host takes web back at once"), "{warnings:?}");
    let (_, warnings) = models(&eager.replace("preempt-delay", "preempt = false\npreempt-delay"));
    assert!(!warnings.iter().any(|w| w.contains("takes web back")), "{warnings:?}");
}
