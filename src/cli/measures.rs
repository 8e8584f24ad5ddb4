//! `vipd checks` and `vipd peers`: what this host measures, and whom it hears.

use super::screen::{BAD, Cell, FAINT, GOOD, PLAIN, Screen, WARN, age, cell, plain, show};
use super::{Exit, Failure, Place, status};
use crate::control::status::{Check, Peer};
use clap::Args;

#[derive(Debug, Args)]
pub struct TableArgs {
    /// Print this part of the status document as JSON
    #[arg(long)]
    json: bool,
}

/// `vipd checks`; ends with 1 when a check is not well.
pub(super) fn checks(place: &Place, args: &TableArgs) -> Result<Exit, Failure> {
    let status = status::ask(place)?;
    if args.json {
        status::say_json(&status.checks)?;
    } else if status.checks.is_empty() {
        show("no instance of this host uses a check\n");
    } else {
        show(&check_table(&status.checks));
    }
    let well = |check: &Check| !check.unknown && check.state.as_deref().is_none_or(|s| s == "pass");
    Ok(if status.checks.iter().all(well) { Exit::Done } else { Exit::Failed })
}

/// `vipd peers`; ends with 1 when a peer is silent or does not hear this host somewhere.
pub(super) fn peers(place: &Place, args: &TableArgs) -> Result<Exit, Failure> {
    let status = status::ask(place)?;
    if args.json {
        status::say_json(&status.peers)?;
    } else if status.peers.is_empty() {
        show("no heartbeats are configured: backups of plain VRRP say nothing of themselves\n");
    } else {
        show(&peer_table(&status.peers));
    }
    let well = |peer: &Peer| peer.alive && peer.paths.iter().all(|path| path.hears_me);
    Ok(if status.peers.iter().all(well) { Exit::Done } else { Exit::Failed })
}

fn check_table(all: &[Check]) -> String {
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|check| {
            let (state, style) = match check.state.as_deref() {
                Some("pass") => ("pass", GOOD),
                Some("warn") => ("warn", WARN),
                Some("fail") => ("FAIL", BAD),
                Some(other) => (other, WARN),
                None => ("-", FAINT),
            };
            let progress = check.progress.map_or_else(String::new, |(n, of)| {
                format!("{} {n}/{of}: ", check.last.as_deref().unwrap_or_default())
            });
            let seen = format!("{progress}{}", check.detail);
            let ago = |s: Option<f64>| s.map_or_else(|| "-".into(), age);
            vec![
                plain(&*check.name),
                cell(state, style),
                plain(ago(check.since_s)),
                plain(ago(check.last_s)),
                plain(&*check.severity),
                cell(seen, if check.unknown { WARN } else { PLAIN }),
            ]
        })
        .collect();
    let mut screen = Screen::default();
    screen.table(&["CHECK", "VERDICT", "SINCE", "RAN", "SEVERITY", "SEEN"], &rows);
    screen.into_text()
}

fn peer_table(all: &[Peer]) -> String {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for peer in all {
        let (state, style) = if peer.alive { ("alive", GOOD) } else { ("SILENT", BAD) };
        for (n, path) in peer.paths.iter().enumerate() {
            let once = |text: &str| if n == 0 { text.to_owned() } else { String::new() };
            let heard = path.heard_s.map_or_else(|| "never".into(), |s| format!("{} ago", age(s)));
            let (hears, hears_style) = if path.hears_me { ("yes", GOOD) } else { ("NO", BAD) };
            rows.push(vec![
                plain(once(&peer.host)),
                cell(once(state), style),
                plain(once(&peer.version)),
                plain(&*path.address),
                cell(heard, if path.heard_s.is_none() { BAD } else { PLAIN }),
                cell(hears, hears_style),
            ]);
        }
    }
    let mut screen = Screen::default();
    screen.table(&["PEER", "STATE", "VERSION", "PATH", "HEARD", "HEARS US"], &rows);
    screen.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::Path;

    #[test]
    fn tables_keep_to_80_columns() {
        let check = Check {
            name: "nginx".into(),
            state: Some("fail".into()),
            since_s: Some(12.0),
            last_s: Some(0.4),
            severity: "fail".into(),
            detail: "http 127.0.0.1:80: status 503, and a body that is much longer than the line"
                .into(),
            last: Some("pass".into()),
            progress: Some((1, 2)),
            unknown: false,
        };
        let path = |address: &str, hears_me: bool| Path {
            address: address.into(),
            heard_s: hears_me.then_some(0.42),
            hears_me,
        };
        let peer = Peer {
            host: "lb2".into(),
            alive: true,
            version: "0.1.0".into(),
            paths: vec![
                path("10.9.0.12", true),
                path("2001:db8:1111:2222:3333:4444:5555:12", false),
            ],
        };
        for (text, wanted) in [
            (check_table(&[check]), "nginx  FAIL     12s    0.4s  fail      pass 1/2: http"),
            (peer_table(&[peer]), "lb2   alive  0.1.0    10.9.0.12"),
        ] {
            let text = anstream::adapter::strip_str(&text).to_string();
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.contains(wanted), "{text}");
        }
    }
}
