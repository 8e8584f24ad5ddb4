//! The files of this folder, both hosts of each pair into one file.

use std::fs;
use std::path::{Path, PathBuf};
use vipd_core::config::import::{Line, Source, import, include_of, lines};
use vipd_core::config::load_all_hosts;

const PAIRS: [&str; 16] = [
    "single-pair",
    "router-vmac",
    "unicast-cloud",
    "ipv6-v3",
    "dual-stack",
    "script-weights",
    "nopreempt",
    "auth-v2",
    "notify-fifo",
    "includes",
    "active-active",
    "routes-rules",
    "lvs-director",
    "haproxy",
    "kubernetes-api",
    "database",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// The lines of a file, with those that it includes.
fn read(path: &str) -> Vec<Line> {
    let text = fs::read_to_string(folder().join(path)).unwrap();
    let mut all = Vec::new();
    for mut line in lines(path, &text) {
        let files = include_of(&line.text).map(|pattern| matching(&pattern)).unwrap_or_default();
        line.expanded = !files.is_empty();
        all.push(line);
        all.extend(files.iter().flat_map(|file| read(file)));
    }
    all
}

/// Files of the folder that fit a pattern like `vrrp.d/*.conf`.
fn matching(pattern: &str) -> Vec<String> {
    let Some((head, tail)) = pattern.split_once('*') else { return vec![pattern.to_owned()] };
    let names = fs::read_dir(folder().join(head)).unwrap();
    let mut files: Vec<_> = names
        .map(|name| format!("{head}{}", name.unwrap().file_name().to_str().unwrap()))
        .collect();
    files.retain(|file| file.ends_with(tail));
    files.sort();
    files
}

fn pair(name: &str) -> Vec<Source> {
    let of =
        |host: &str| Source { host: host.to_owned(), lines: read(&format!("{name}.{host}.conf")) };
    vec![of("lb1"), of("lb2")]
}

pub(crate) fn compare(path: &Path, found: &str, wrong: &mut Vec<String>) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected != found {
        wrong.push(format!("{} differs; it is now:\n{found}", path.display()));
    }
}

#[test]
fn every_pair_becomes_the_file_and_the_report_beside_it() {
    let mut wrong = Vec::new();
    for name in PAIRS {
        let made = import(&pair(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        compare(&folder().join(format!("{name}.toml")), &made.toml, &mut wrong);
        compare(&folder().join(format!("{name}.report")), &made.report.render(), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_pair_passes_vipd_check() {
    for name in PAIRS {
        let made = import(&pair(name)).unwrap();
        let (models, warnings) = load_all_hosts(&made.toml, "vipd.toml").unwrap_or_else(|errors| {
            panic!("{name}: {errors:#?}\n{}", made.toml);
        });
        assert_eq!(models.len(), 2, "{name}");
        assert!(models.iter().all(|model| !model.instances.is_empty()), "{name}");
        assert_eq!(warnings.len(), made.report.check.len(), "{name}: {:?}", made.report.check);
    }
}

#[test]
fn one_file_alone_works_and_says_what_is_missing() {
    for name in PAIRS {
        let made = import(&pair(name)[..1]).unwrap_or_else(|e| panic!("{name}: {e}"));
        load_all_hosts(&made.toml, "vipd.toml")
            .unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
        assert!(made.toml.contains("# Only lb1 is here."), "{name}");
    }
}

#[test]
fn every_line_of_every_file_is_in_the_report() {
    for name in PAIRS {
        let sources = pair(name);
        let report = import(&sources).unwrap().report;
        for source in &sources {
            // Inside of a block that is dropped as a whole: how deep.
            let mut dropped = 0_i32;
            for line in &source.lines {
                let text = line.text.split(['#', '!']).next().unwrap().trim();
                let depth = i32::from(text.ends_with('{')) - i32::from(text == "}");
                let inside = dropped > 0;
                if inside
                    || ["virtual_server", "notification_email {"]
                        .iter()
                        .any(|b| text.starts_with(b))
                {
                    dropped += depth;
                }
                // A bare brace says nothing by itself; a line that goes on is told where it begins.
                if inside || text == "}" || text.is_empty() || text == "eth1 \\" {
                    continue;
                }
                let told = report.entries.iter().any(|entry| {
                    (&*entry.host, &*entry.file, entry.line)
                        == (source.host.as_str(), &*line.file, line.number)
                });
                assert!(told, "{}:{}: {text}", line.file, line.number);
            }
        }
    }
}
