//! `vipd status`: the status document of the running agent, for people or as JSON, and its verdict as exit code.

use super::{Exit, Failure, Place, say};
use crate::control::client;
use crate::control::socket_path;
use crate::control::status::{Check, Instance, Moves, Peer, Status};
use clap::Args;
use std::fmt::Write;

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print the document as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(place: &Place, args: &StatusArgs) -> Result<Exit, Failure> {
    let status = client::status(&socket_path(&place.runtime_dir))?;
    if args.json {
        let text =
            serde_json::to_string_pretty(&status).map_err(|e| Failure::new(Exit::Failed, e))?;
        say(text);
    } else {
        say(table(&status).trim_end());
    }
    Ok(verdict(&status))
}

/// The worst that is true of any instance.
fn verdict(status: &Status) -> Exit {
    let any = |test: fn(&Instance) -> bool| status.instances.iter().any(test);
    if any(|i| i.alarms.iter().any(|alarm| alarm.code == "dual-active")) {
        Exit::DualActive
    } else if any(|i| i.owner.is_none()) {
        Exit::NobodyActive
    } else if !status.alarms.is_empty()
        || any(|i| !i.alarms.is_empty() || i.condition.is_some())
        || status.peers.iter().any(|p| {
            !p.alive || p.paths.iter().any(|path| path.heard_s.is_none() || !path.hears_me)
        })
    {
        Exit::Degraded
    } else {
        Exit::Done
    }
}

/// One screen of 80 columns: a line per instance, what is behind it, peers, what to look at.
fn table(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = render(status, &mut out);
    out
}

fn render(status: &Status, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "vipd {}   host {}   cluster {}   up {}   config {}",
        status.version,
        status.host,
        status.cluster,
        age(status.uptime_s),
        status.config_hash.get(..8).unwrap_or(&status.config_hash),
    )?;
    let width = status
        .instances
        .iter()
        .map(|i| label(status, i).len())
        .max()
        .unwrap_or(0)
        .max("INSTANCE".len());
    writeln!(
        out,
        "\n{:width$}  {:<10}  {:<7}  {:<9}  OWNER",
        "INSTANCE", "STATE", "SINCE", "PRIORITY"
    )?;
    for i in &status.instances {
        writeln!(
            out,
            "{:width$}  {:<10}  {:<7}  {:<9}  {}",
            label(status, i),
            i.state,
            age(i.since_s),
            format!("{}/{}", i.priority, i.configured_priority),
            owner(i),
        )?;
    }
    for i in &status.instances {
        details(&label(status, i), i, out)?;
    }
    if !status.checks.is_empty() {
        checks(&status.checks, out)?;
    }
    if !status.peers.is_empty() {
        writeln!(out)?;
        for peer in &status.peers {
            peer_lines(peer, out)?;
        }
    }
    for alarm in &status.alarms {
        writeln!(out, "\n! {}", alarm.message)?;
    }
    if let Some(refused) = &status.scheduling.refused {
        writeln!(out, "\nnot in real time: {refused}")?;
    }
    Ok(())
}

/// The name of the instance, with its family where it has several entries.
fn label(status: &Status, i: &Instance) -> String {
    let several = status.instances.iter().filter(|other| other.name == i.name).count() > 1;
    match i.families.first() {
        Some(family) if several => format!("{}/{}", i.name, family.family),
        _ => i.name.clone(),
    }
}

fn details(label: &str, i: &Instance, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\n{label}: VRID {} on {}", i.vrid, i.interface)?;
    if let Some(condition) = &i.condition {
        writeln!(out, "  condition  {condition}")?;
    }
    writeln!(out, "  cause      {}", i.cause)?;
    let place = if i.applied { "on this host" } else { "not on this host" };
    for (n, address) in i.addresses.iter().enumerate() {
        let (title, place) = if n == 0 { ("addresses", place) } else { ("", "") };
        writeln!(out, "{}", format!("  {title:9}  {address:<28}  {place}").trim_end())?;
    }
    if let Some(left) = i.lease_left_s {
        writeln!(out, "  lease      {left:.1} s left")?;
    }
    if let Some(next) = &i.next {
        writeln!(out, "  next       {next}")?;
    }
    for (n, wait) in i.waits.iter().enumerate() {
        writeln!(out, "  {:9}  {wait}", if n == 0 { "waits" } else { "" })?;
    }
    if !i.standby.is_empty() && i.standby != "hot" {
        writeln!(out, "  standby    {}", i.standby)?;
    }
    if let Some(flap) = flap_line(i) {
        writeln!(out, "  moves      {flap}")?;
    }
    for family in i.families.iter().filter(|family| family.source.is_none()) {
        writeln!(out, "  {:9}  no source address: sends no adverts", family.family)?;
    }
    for alarm in &i.alarms {
        writeln!(out, "  ! {}", alarm.message)?;
    }
    Ok(())
}

/// Moves and penalty, where there is something to say.
fn flap_line(i: &Instance) -> Option<String> {
    let moved = i.flap.moves.iter().any(|moves| moves.count > 0);
    let penalty = i.flap.penalty.filter(|penalty| *penalty > 0);
    if !moved && penalty.is_none() {
        return None;
    }
    let window = |m: &Moves| format!("{} of {} in {}", m.count, m.limit, age(m.within_s));
    let mut words: Vec<String> = i.flap.moves.iter().map(window).collect();
    words.extend(penalty.map(|penalty| format!("penalty {penalty}")));
    Some(words.join(", "))
}

/// A line per check: name, verdict, since when, what was seen.
fn checks(all: &[Check], out: &mut String) -> std::fmt::Result {
    let width = all.iter().map(|check| check.name.len()).max().unwrap_or(0).max("CHECK".len());
    writeln!(
        out,
        "\n{:width$}  {:<7}  {:<7}  {:<8}  SEEN",
        "CHECK", "VERDICT", "SINCE", "SEVERITY"
    )?;
    for check in all {
        let state = match &check.state {
            Some(state) => state.as_str(),
            None => "-",
        };
        let since = check.since_s.map_or_else(|| "-".into(), age);
        let progress = check.progress.map_or_else(String::new, |(n, of)| {
            format!("{} {n}/{of}: ", check.last.as_deref().unwrap_or_default())
        });
        let head =
            format!("{:width$}  {state:<7}  {since:<7}  {:<8}  ", check.name, check.severity);
        let seen = format!("{progress}{}", check.detail);
        writeln!(out, "{}", shortened(format!("{head}{seen}")).trim_end())?;
    }
    Ok(())
}

/// Not wider than a terminal of 80 columns; the whole text is in the JSON document.
fn shortened(line: String) -> String {
    match line.char_indices().nth(80) {
        None => line,
        Some(_) => line.chars().take(77).chain("...".chars()).collect(),
    }
}

fn owner(i: &Instance) -> String {
    let Some(owner) = &i.owner else { return "nobody".into() };
    let who = if owner.this_host { Some("this host") } else { owner.host.as_deref() };
    match (who, owner.address.as_deref()) {
        (Some(who), Some(address)) => format!("{who} ({address})"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "unknown".into(),
    }
}

fn peer_lines(peer: &Peer, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "peer {}: {}",
        peer.host,
        if peer.alive { "alive" } else { "silent on all paths" }
    )?;
    for path in &peer.paths {
        let heard = path
            .heard_s
            .map_or_else(|| "never heard".to_owned(), |s| format!("heard {s:.1} s ago"));
        let back = if path.hears_me { "hears this host" } else { "does not hear this host" };
        writeln!(out, "  {:<28}  {heard}, {back}", path.address)?;
    }
    Ok(())
}

/// A length of time in at most six characters: `4.2s`, `59s`, `12m03s`, `3h04m`, `12d03h`.
fn age(seconds: f64) -> String {
    let mut text = String::new();
    let whole = seconds.max(0.0) as u64;
    let (d, h, m, s) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    let _ = match (d, h, m) {
        (0, 0, 0) if s < 10 => write!(text, "{:.1}s", seconds.max(0.0)),
        (0, 0, 0) => write!(text, "{s}s"),
        (0, 0, m) => write!(text, "{m}m{s:02}s"),
        (0, h, m) => write!(text, "{h}h{m:02}m"),
        (d, h, _) => write!(text, "{d}d{h:02}h"),
    };
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::control::status::{Alarm, Family, Flap, Owner, Path, SCHEMA, Scheduling};

    fn status() -> Status {
        let family = Family {
            family: "ipv4".into(),
            source: Some("192.0.2.12".into()),
            ..Family::default()
        };
        let web = Instance {
            name: "web".into(),
            vrid: 51,
            interface: "eth0".into(),
            state: "backup".into(),
            since_s: 273_600.0,
            cause: "the agent started".into(),
            priority: 80,
            configured_priority: 100,
            owner: Some(Owner {
                host: Some("lb2".into()),
                address: Some("192.0.2.11".into()),
                this_host: false,
            }),
            next: Some("claims in 3.61 s if no advert comes".into()),
            addresses: vec!["192.0.2.10/24".into()],
            families: vec![family],
            flap: Flap {
                penalty: Some(1200),
                moves: vec![Moves { count: 1, limit: 3, within_s: 600.0 }],
                ..Flap::default()
            },
            ..Instance::default()
        };
        let path = Path { address: "10.9.0.12".into(), heard_s: Some(0.42), hears_me: true };
        Status {
            schema: SCHEMA,
            version: "0.1.0".into(),
            cluster: "shop".into(),
            host: "lb1".into(),
            config_hash: "9f3a12bc00000000".into(),
            uptime_s: 42.0,
            scheduling: Scheduling { real_time: true, memory_locked: true, refused: None },
            instances: vec![web],
            checks: vec![
                Check {
                    name: "nginx".into(),
                    state: Some("pass".into()),
                    since_s: Some(12.0),
                    severity: "fail".into(),
                    detail: "http 127.0.0.1:80: status 503, and a body that is much longer than the line".into(),
                    last: Some("fail".into()),
                    last_s: Some(0.4),
                    progress: Some((2, 3)),
                    unknown: false,
                },
                Check { name: "disk".into(), severity: "degrade".into(), ..Check::default() },
            ],
            peers: vec![Peer {
                host: "lb2".into(),
                alive: true,
                version: "0.1.0".into(),
                paths: vec![path],
            }],
            interfaces: vec![],
            alarms: vec![],
            counters: [].into(),
        }
    }

    #[test]
    fn reads_well_on_80_columns() {
        let text = table(&status());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(
            text.contains("web       backup      3d04h    80/100     lb2 (192.0.2.11)"),
            "{text}"
        );
        assert!(
            text.contains("nginx  pass     12s      fail      fail 2/3: http 127.0.0.1:80"),
            "{text}"
        );
        assert!(text.contains("moves      1 of 3 in 10m00s, penalty 1200"), "{text}");
        assert!(text.contains("heard 0.4 s ago, hears this host"), "{text}");
        assert!(text.contains("next       claims in 3.61 s"), "{text}");
    }

    #[test]
    fn verdict_is_the_worst() {
        let mut s = status();
        assert_eq!(verdict(&s), Exit::Done);
        s.peers[0].paths[0].hears_me = false;
        assert_eq!(verdict(&s), Exit::Degraded);
        s.instances[0].owner = None;
        assert_eq!(verdict(&s), Exit::NobodyActive);
        s.instances[0].alarms.push(Alarm { code: "dual-active".into(), message: "two".into() });
        assert_eq!(verdict(&s), Exit::DualActive);
    }

    #[test]
    fn ages_fit_their_column() {
        for (seconds, want) in [
            (-1.0, "0.0s"),
            (4.23, "4.2s"),
            (59.9, "59s"),
            (723.0, "12m03s"),
            (11_050.0, "3h04m"),
            (1e6, "11d13h"),
        ] {
            assert_eq!(age(seconds), want);
        }
    }
}
