//! The sections of the new file -> its text.
//!
//! Called by `import`, last.

use super::draft::Keys;
use super::merge::Section;
use super::text;
use std::fmt::Write as _;

/// Longest line of a list before it is broken.
const WIDTH: usize = 110;

/// The file.
pub(super) fn file(hosts: &[&str], sections: &[Section]) -> String {
    let mut out = head(hosts, sections);
    for host in hosts {
        line(&mut out, format_args!("[hosts.{}]", text::key(host)));
    }
    for section in sections {
        out.push('\n');
        if let Some(comment) = section.comment {
            line(&mut out, format_args!("{comment}"));
        }
        let name = format!("{}.{}", section.kind, text::key(&section.name));
        line(&mut out, format_args!("[{name}]"));
        keys(&section.keys, &mut out);
        for (kind, table) in &section.tables {
            line(&mut out, format_args!("\n[[{name}.{kind}]]"));
            keys(table, &mut out);
        }
    }
    out
}

fn head(hosts: &[&str], sections: &[Section]) -> String {
    let mut out = String::from(
        "# Made by `vipd import` from keepalived.conf; the same file for every host.\n#\n",
    );
    out.push_str(
        "# Plain VRRP, so that it runs beside keepalived while you migrate (docs/migration.md). When every host runs\n\
         # vipd, add [cluster] and paths for heartbeats, without which a cut link looks like a dead peer:\n#\n\
         #   [cluster]\n#   name = \"...\"\n#   key-file = \"/etc/vipd/cluster.key\"      # vipd keygen\n\
         #   [hosts.NAME]\n#   paths = [\"...\"]                         # an address of the host on each network\n",
    );
    let has =
        |key: &str| sections.iter().any(|s| s.kind == "instance" && s.keys.get(key).is_some());
    if has("preempt-delay") {
        let stickiness = if has("stickiness") { ", stickiness, priority-hold" } else { "" };
        let _ = write!(
            out,
            "#\n# preempt-delay, hold-down{stickiness}: as keepalived behaves. Without these lines an address moves less often.\n"
        );
    }
    if has("checksum") {
        out.push_str("# checksum: what keepalived wants; not needed once every host runs vipd.\n");
    }
    if let [only] = hosts {
        let _ = write!(
            out,
            "#\n# Only {only} is here. The others of the group belong into the same file: vipd import {only}=FILE NAME=FILE ...\n"
        );
    }
    out.push('\n');
    out
}

fn keys(keys: &Keys, out: &mut String) {
    for (key, value) in &keys.0 {
        let one = format!("{key} = {value}");
        let broken = (one.len() > WIDTH).then(|| broken_list(value)).flatten();
        match broken {
            Some(list) => line(out, format_args!("{key} = {list}")),
            None => line(out, format_args!("{one}")),
        }
    }
}

/// A long list of strings, one on each line; `None`: it is none, or has a comma in a string.
fn broken_list(value: &str) -> Option<String> {
    let inner = value.strip_prefix('[')?.strip_suffix(']')?;
    let parts: Vec<&str> = inner.split(", ").collect();
    let whole = |part: &&str| {
        part.len() >= 2
            && part.starts_with('"')
            && part.ends_with('"')
            && part.matches('"').count() == 2
    };
    parts.iter().all(whole).then(|| {
        let lines: String = parts.iter().map(|part| format!("    {part},\n")).collect();
        format!("[\n{lines}]")
    })
}

fn line(out: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = out.write_fmt(args);
    out.push('\n');
}
