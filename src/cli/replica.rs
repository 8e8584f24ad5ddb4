//! `vipd replica`: how the state files that follow an address stand, asked of the replicator.

use super::screen::{BAD, Cell, PLAIN, Screen, WARN, cell, octets, plain, show, tenths};
use super::{Exit, Failure, Place, say, status};
use crate::control::client;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use vipd_core::replica::{Ask, Entry, PeerReport, SOCKET, Said, SetReport, Verified, Version};

/// What is asked of the replicator.
#[derive(Debug, Subcommand)]
pub enum ReplicaVerb {
    /// How all sets stand, on this host and, of those that it pushes, on the others
    Status(Output),
    /// Read every file again and compare it with what was sent; ends with 1 when one differs
    Verify(SetArgs),
    /// Trees that were made and taken, and what went wrong
    Log(LogArgs),
    /// List versions of a file that were kept aside, or put one back
    Restore(RestoreArgs),
    /// Say that a tree which deletes very much, or does not descend from this one, may be taken
    Ack(OneSetArgs),
}

#[derive(Debug, Args)]
pub struct Output {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct SetArgs {
    /// The set, as in `[replicate.NAME]` [default: all]
    set: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct LogArgs {
    /// The set, as in `[replicate.NAME]` [default: all]
    set: Option<String>,
    /// Only the newest
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The set, as in `[replicate.NAME]`
    set: String,
    /// The file, with its whole path
    path: PathBuf,
    /// The version to put back [default: list the versions]
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    /// Put it there, where nothing may be yet [default: in its place]
    #[arg(long, value_name = "FILE", requires = "version")]
    to: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct OneSetArgs {
    /// The set, as in `[replicate.NAME]`
    set: String,
    #[command(flatten)]
    output: Output,
}

/// Runs `verb`.
pub(super) fn run(place: &Place, verb: ReplicaVerb) -> Result<Exit, Failure> {
    let (ask, json) = match verb {
        ReplicaVerb::Status(output) => (Ask::Status {}, output.json),
        ReplicaVerb::Verify(args) => (Ask::Verify { set: args.set }, args.output.json),
        ReplicaVerb::Log(args) => (Ask::Log { set: args.set, last: args.last }, args.output.json),
        ReplicaVerb::Restore(RestoreArgs { set, path, version, to, output }) => {
            let (path, to) = (text(path)?, to.map(text).transpose()?);
            (Ask::Restore { set, path, version, to }, output.json)
        }
        ReplicaVerb::Ack(args) => (Ask::Ack { set: args.set }, args.output.json),
    };
    let said = client::replica(&place.runtime_dir.join(SOCKET), &ask)?;
    let exit = exit(&said);
    if json {
        status::say_json(&said)?;
        return Ok(exit);
    }
    match said {
        Said::Sets(sets) => show(&sets_screen(&sets)),
        Said::Verified(found) => say_verified(&found),
        Said::Log(entries) => {
            // Until nobody reads any more.
            let _ = entries.iter().all(|entry| say(line(entry)));
        }
        Said::Versions(versions) => show(&versions_screen(&versions)),
        Said::Done(what) => {
            say(what);
        }
    }
    Ok(exit)
}

/// An absolute path as text.
fn text(path: PathBuf) -> Result<String, Failure> {
    let path = std::path::absolute(&path)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?;
    path.into_os_string().into_string().map_err(|path| {
        let shown = path.to_string_lossy().into_owned();
        Failure::new(Exit::Usage, format!("{shown}: only names in UTF-8 can be asked for"))
    })
}

fn exit(said: &Said) -> Exit {
    let bad = match said {
        Said::Sets(sets) => {
            let bad =
                |set: &SetReport| !set.alarms.is_empty() || (!set.owns && set.age_ms.is_none());
            return if sets.iter().any(bad) { Exit::Degraded } else { Exit::Done };
        }
        Said::Verified(found) => found.iter().any(|found| found.divergent > 0),
        Said::Log(_) | Said::Versions(_) | Said::Done(_) => false,
    };
    if bad { Exit::Failed } else { Exit::Done }
}

fn sets_screen(sets: &[SetReport]) -> String {
    let mut screen = Screen::default();
    if sets.is_empty() {
        screen.line("no sets are configured: [replicate.NAME]", PLAIN);
        return screen.into_text();
    }
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for set in sets {
        let tree = format!("{}.{}", set.epoch.number, set.generation);
        let unknown = if set.generation == 0 { "never" } else { "unknown" };
        let (role, lag) = if set.owns {
            ("owner", set.rpo_ms.map_or_else(|| cell("unknown", WARN), |ms| plain(tenths(ms))))
        } else {
            ("standby", set.age_ms.map_or_else(|| cell(unknown, BAD), |ms| plain(tenths(ms))))
        };
        let pending = format!("{} / {}", set.pending_files, octets(set.pending_bytes));
        rows.push(vec![
            plain(&*set.set),
            plain(&*set.instance),
            plain(role),
            plain(tree),
            lag,
            plain(pending),
        ]);
    }
    screen.table(&["SET", "INSTANCE", "ROLE", "TREE", "RPO/AGE", "PENDING"], &rows);
    for set in sets {
        let head = format!("{}  ", set.set);
        for peer in &set.peers {
            let (text, style) = peer_words(peer);
            screen.entry(&head, &format!("{}: {text}", peer.host), style);
        }
        if set.rescued_files > 0 {
            let text =
                format!("{} files in the rescue folder: `vipd replica log`", set.rescued_files);
            screen.entry(&head, &text, WARN);
        }
        for alarm in &set.alarms {
            screen.entry(&format!("{head}! "), alarm, WARN);
        }
    }
    screen.into_text()
}

fn peer_words(peer: &PeerReport) -> (String, anstyle::Style) {
    let rpo = peer.rpo_ms.map_or_else(|| "unknown".to_owned(), tenths);
    let at = format!("tree {}, RPO {rpo}", peer.generation);
    match peer {
        PeerReport { refused: Some(why), .. } => (format!("refuses: {why}; {at}"), BAD),
        PeerReport { connected: false, .. } => (format!("not connected, {at}"), BAD),
        PeerReport { progress: Some((done, all)), .. } => {
            (format!("{} of {} sent, {at}", octets(*done), octets(*all)), WARN)
        }
        PeerReport { in_sync: true, .. } => (format!("in sync, {at}"), PLAIN),
        _ => (format!("behind, {at}, {} to come", octets(peer.pending_bytes)), WARN),
    }
}

fn versions_screen(versions: &[Version]) -> String {
    let mut screen = Screen::default();
    if versions.is_empty() {
        screen.line("no version of this file was kept", PLAIN);
        return screen.into_text();
    }
    let rows: Vec<Vec<Cell>> = versions
        .iter()
        .map(|v| vec![plain(&*v.name), plain(time(v.at_s)), plain(octets(v.size))])
        .collect();
    screen.table(&["VERSION", "KEPT SINCE", "SIZE"], &rows);
    screen.into_text()
}

fn say_verified(found: &[Verified]) {
    for set in found {
        let (files, bytes) = (set.files, octets(set.bytes));
        say(match set.divergent {
            0 => format!("{}: {files} files, {bytes}: all as sent", set.set),
            n => format!("{}: {files} files, {bytes}: {n} DIFFER", set.set),
        });
        for line in &set.differs {
            say(format!("  {line}"));
        }
    }
}

fn line(entry: &Entry) -> String {
    let mark = if entry.alarm { "! " } else { "" };
    format!("{}  {}  {mark}{}", time(entry.at_s), entry.set, entry.text)
}

fn time(at_s: u64) -> String {
    if at_s == 0 {
        return "-".to_owned();
    }
    let at = i64::try_from(at_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.map_or_else(|| at_s.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_without_word_of_its_owner_is_degraded_and_shown() {
        let set = SetReport {
            set: "leases".into(),
            instance: "web".into(),
            alarms: vec!["the root /srv is not mounted".into()],
            ..SetReport::default()
        };
        assert_eq!(exit(&Said::Sets(vec![set.clone()])), Exit::Degraded);
        let text = anstream::adapter::strip_str(&sets_screen(&[set])).to_string();
        assert!(
            text.contains("never") && text.contains("! the root /srv is not mounted"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn an_owner_shows_each_other_host() {
        let peer = |host: &str, in_sync| PeerReport {
            host: host.into(),
            connected: true,
            in_sync,
            generation: 12,
            rpo_ms: Some(if in_sync { 0 } else { 1234 }),
            progress: (!in_sync).then_some((3 << 20, 10 << 20)),
            ..PeerReport::default()
        };
        let set = SetReport {
            set: "leases".into(),
            instance: "web".into(),
            owns: true,
            rpo_ms: Some(1234),
            peers: vec![
                peer("lb2", true),
                peer("lb3", false),
                PeerReport { host: "lb4".into(), ..PeerReport::default() },
            ],
            ..SetReport::default()
        };
        let text = anstream::adapter::strip_str(&sets_screen(&[set])).to_string();
        for wanted in [
            "1.2 s",
            "lb2: in sync, tree 12, RPO 0.0 s",
            "lb3: 3 MiB of 10 MiB sent, tree 12, RPO 1.2 s",
            "lb4: not connected, tree 0, RPO unknown",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[test]
    fn verify_ends_with_one_when_a_file_differs() {
        let found = |divergent| Said::Verified(vec![Verified { divergent, ..Verified::default() }]);
        assert_eq!((exit(&found(0)), exit(&found(2))), (Exit::Done, Exit::Failed));
    }
}
