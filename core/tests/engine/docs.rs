//! The tests that `docs/conformance.md` and `docs/promises.md` name are there.

use std::fs;
use std::path::{Path, PathBuf};

const DOCS: [&str; 2] =
    [include_str!("../../../docs/conformance.md"), include_str!("../../../docs/promises.md")];

/// Prefix of a name, and where what it names lives.
const HOMES: [(&str, &str); 12] = [
    ("engine::", "core/tests/engine"),
    ("wire::", "core/src/wire"),
    ("vrrp::", "core/src/vrrp"),
    ("policy::", "core/src/policy"),
    ("sim:", "core/tests/sim"),
    ("kernel:", "tests/kernel"),
    ("agent:", "tests/agent"),
    ("lab:", "tests/lab"),
    ("netns:", "netns-tests"),
    ("interop:", "netns-tests/interop"),
    ("systemd:", "netns-tests/systemd"),
    ("replicate:", "replicate/tests"),
];

/// In a document without a prefix: a name of the row's module, or of the simulation.
const TESTS: [&str; 2] = ["core/tests/engine", "core/tests/sim"];

fn place(home: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(home)
}

/// The source of the module at `place`: its file, and all below its folder.
fn source(place: &Path) -> String {
    let mut text = fs::read_to_string(place.with_extension("rs")).unwrap_or_default();
    for entry in fs::read_dir(place).into_iter().flatten() {
        let path = entry.unwrap().path();
        // Of a module with a file and a folder the folder brings both.
        if path.is_dir() && path.with_extension("rs").exists() {
            continue;
        }
        text += &source(&path.with_extension(""));
    }
    text
}

/// Is there a function, a trial or a variant of that name, or one that begins with it if it ends in a star?
fn is_named(source: &str, name: &str) -> bool {
    let (begin, whole) = match name.strip_suffix('*') {
        Some(begin) => (begin, false),
        None => (name, true),
    };
    let ends = |rest: &str| {
        !whole || !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '/')
    };
    ["fn ", "\"", "/", "::", "mod "]
        .iter()
        .any(|before| source.split(&format!("{before}{begin}")).skip(1).any(ends))
}

/// What is missing of `name`, module by module.
fn missing(home: &str, name: &str) -> Option<String> {
    let mut place = place(home);
    assert!(place.exists() || place.with_extension("rs").exists(), "{home}");
    let mut text = source(&place);
    for part in name.split("::").flat_map(|part| part.split('/')).filter(|part| *part != "*") {
        let inside = place.join(part);
        if inside.exists() || inside.with_extension("rs").exists() {
            place = inside;
            text = source(&place);
        } else if !is_named(&text, part) {
            return Some(part.to_owned());
        }
    }
    None
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let code = |doc: &'static str| doc.split('`').skip(1).step_by(2);
    let mut named = 0;
    for name in DOCS.into_iter().flat_map(code) {
        let found =
            HOMES.iter().find_map(|(prefix, home)| Some((home, name.strip_prefix(prefix)?)));
        if let Some((home, rest)) = found {
            assert_eq!(missing(home, rest), None, "{name}");
        } else if name.matches('_').count() > 1 && !name.contains(['/', ' ']) {
            let there = TESTS.iter().any(|home| missing(home, name).is_none());
            assert!(there, "{name}");
        } else {
            continue;
        }
        named += 1;
    }
    assert!(named > 120, "{named}");
    assert_eq!(missing("tests/kernel", "nobody_wrote_this").as_deref(), Some("nobody_wrote_this"));
    assert_eq!(
        missing("core/tests/engine", "claim::v5_nothing_*").as_deref(),
        Some("v5_nothing_*")
    );
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
