//! The tests that `docs/conformance.md` and `docs/promises.md` name are there.

const DOCS: [&str; 2] =
    [include_str!("../../../docs/conformance.md"), include_str!("../../../docs/promises.md")];

const MODULES: [(&str, &str); 14] = [
    ("adopt", include_str!("adopt.rs")),
    ("backup", include_str!("backup.rs")),
    ("beats", include_str!("beats.rs")),
    ("claim", include_str!("claim.rs")),
    ("config", include_str!("config.rs")),
    ("groups", include_str!("groups.rs")),
    ("lease", include_str!("lease.rs")),
    ("owner", include_str!("owner.rs")),
    ("refuse", include_str!("refuse.rs")),
    ("send", include_str!("send.rs")),
    ("stale", include_str!("stale.rs")),
    ("startup", include_str!("startup.rs")),
    ("stop", include_str!("stop.rs")),
    ("trailer", include_str!("trailer.rs")),
];

#[test]
fn every_engine_test_that_the_documents_name_exists() {
    let mut named = 0;
    for name in DOCS.iter().flat_map(|d| d.split('`')).filter_map(|w| w.strip_prefix("engine::")) {
        let Some((module, test)) = name.split_once("::") else { continue };
        let source = MODULES.iter().find(|(m, _)| *m == module);
        let (_, source) = source.unwrap_or_else(|| panic!("no module {module}"));
        let wanted = match test.strip_suffix('*') {
            Some(start) => format!("\nfn {start}"),
            None => format!("\nfn {test}("),
        };
        assert!(source.contains(&wanted), "engine::{name}");
        named += 1;
    }
    assert!(named > 50, "{named}");
}

#[test]
fn every_requirement_has_its_line_and_every_refusal_its_name() {
    for n in 1..=80 {
        assert_eq!(DOCS[0].matches(&format!("\n| V{n} |")).count(), 1, "V{n}");
    }
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../vectors/vrrp-vectors.json")).unwrap();
    for v in vectors["vectors"].as_array().unwrap() {
        let expect = &v["expect"];
        let reason = expect["reason"].as_str().unwrap();
        if expect["verdict"] == "discard" && reason != "protocol" {
            assert!(DOCS[0].contains(&format!("`{reason}`")), "{reason}");
        }
    }
}
