//! Events in the journal of systemd: its socket is played by the test.

use super::{Agent, Host, VIP, holds, wait};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

type Entry = BTreeMap<String, String>;

/// Starts the agent where `/run` is a folder of the host's.
fn start(host: &Host) -> Agent {
    let log = fs::File::create(host.dir.join("log")).unwrap();
    let stream = log.metadata().unwrap();
    let agent = host.vipd("run");
    let child = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            "mount --bind \"$0\" /run && exec \"$@\"",
        ])
        .arg(host.dir.join("system"))
        .arg(agent.get_program())
        .args(agent.get_args())
        .env("JOURNAL_STREAM", format!("{}:{}", stream.dev(), stream.ino()))
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Agent { child }
}

/// The fields of one datagram, by the native protocol of systemd-journald.
fn entry(mut octets: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while let Some(end) = octets.iter().position(|&o| o == b'\n') {
        let line = std::str::from_utf8(&octets[..end]).unwrap();
        octets = &octets[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            entry.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (length, rest) = octets.split_first_chunk::<8>().unwrap();
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
        let value = std::str::from_utf8(&rest[..length]).unwrap();
        assert_eq!(rest[length], b'\n');
        entry.insert(line.to_owned(), value.to_owned());
        octets = &rest[length + 1..];
    }
    assert!(octets.is_empty());
    entry
}

pub(super) fn events() {
    let host = Host::with_link("journal");
    host.configure("");
    let folder = host.dir.join("system/systemd/journal");
    fs::create_dir_all(&folder).unwrap();
    let journal = UnixDatagram::bind(folder.join("socket")).unwrap();
    journal.set_nonblocking(true).unwrap();
    let agent = start(&host);
    let mut entries = Vec::new();
    let mut take = || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length) = journal.recv(&mut buffer) {
            entries.push(entry(&buffer[..length]));
        }
        // At its start the agent tries whether the journal is there.
        entries.retain(|entry| !entry.is_empty());
        entries.clone()
    };
    wait("owns", Duration::from_secs(10), || !take().is_empty() && holds(VIP));
    wait("is told", Duration::from_secs(5), || {
        take().iter().any(|e| e.get("VIPD_EVENT").is_some_and(|event| event == "claimed"))
    });
    assert_eq!(agent.stop(), 0);
    let entries = take();
    let find = |event: &str, to: Option<&str>| {
        let found = entries.iter().find(|e| {
            e.get("VIPD_EVENT").is_some_and(|name| name == event)
                && to.is_none_or(|to| e.get("VIPD_TO").is_some_and(|name| name == to))
                && e.get("VIPD_FAMILY").is_none_or(|family| family == "ipv4")
        });
        found.unwrap_or_else(|| panic!("no {event} {to:?}: {entries:#?}"))
    };
    let active = find("transition", Some("active"));
    for (field, value) in [
        ("MESSAGE_ID", "ab5e72e4931e497595b332f632186413"),
        ("PRIORITY", "5"),
        ("SYSLOG_IDENTIFIER", "vipd"),
        ("VIPD_INSTANCE", "web"),
        ("VIPD_VRID", "51"),
        ("VIPD_INTERFACE", "eth0"),
        ("VIPD_FAMILY", "ipv4"),
        ("VIPD_FROM", "backup"),
        ("VIPD_CAUSE", "silence"),
        ("VIPD_PRIORITY", "150"),
    ] {
        assert_eq!(active.get(field).map(String::as_str), Some(value), "{field}: {active:#?}");
    }
    assert!(active["MESSAGE"].starts_with("web/ipv4: backup -> active, cause: "), "{active:#?}");
    let claimed = find("claimed", None);
    assert_eq!(claimed["MESSAGE_ID"], "179cfb9945a64b098e87b54d4d7779c0");
    assert!(claimed["VIPD_TOOK_US"].parse::<u64>().is_ok(), "{claimed:#?}");
    assert_eq!(find("released", None)["MESSAGE_ID"], "b7fbfc4bdb2d4f2496371a825e315bc7");
    // What is no event has a sentence and no number, and nothing that vipd says sets a field of the journal's.
    let begun = entries.iter().find(|e| e["MESSAGE"].contains("is host lb1")).unwrap();
    assert!(!begun.contains_key("MESSAGE_ID"), "{begun:#?}");
    // No event has a field that the manual does not give its kind.
    let manual =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.md")).unwrap();
    for event in entries.iter().filter(|e| e.contains_key("MESSAGE_ID")) {
        let mut rows = manual.lines().filter(|line| line.starts_with("| `"));
        let row = rows.find(|line| line.contains(&event["MESSAGE_ID"])).unwrap();
        assert!(row.starts_with(&format!("| `{}` |", event["VIPD_EVENT"])), "{event:#?}");
        for field in event.keys().filter_map(|field| field.strip_prefix("VIPD_")) {
            let everywhere = ["EVENT", "INSTANCE", "VRID", "INTERFACE", "FAMILY", "SUPPRESSED"];
            assert!(
                everywhere.contains(&field) || row.contains(&format!("`{field}`")),
                "{field}: {event:#?}"
            );
        }
    }
}
