//! The screen of `vipd status`: who owns what, since when and why, who is next, and what to look at.

use super::verdict::verdict;
use crate::cli::Exit;
use crate::cli::screen::{
    BAD, Cell, FAINT, GOOD, PLAIN, Screen, TITLE, WARN, age, cell, octets, plain, state_style,
    tenths,
};
use crate::control::status::{Check, Hook, Instance, Moves, Peer, Status};
use anstyle::Style;
use vipd_core::replica::{PeerReport, SetReport};

/// From here on the age of a standby stands out: its owner speaks each second.
const OLD_MS: u64 = 5000;

/// One screen of 80 columns.
pub(super) fn screen(status: &Status) -> String {
    let mut screen = Screen::default();
    let config = status.config_hash.get(..8).unwrap_or(&status.config_hash);
    let differs = status.alarms.iter().any(|alarm| alarm.code == "config-mismatch");
    let same = match (status.peers.iter().any(|peer| peer.alive), differs) {
        (true, false) => ", same on peers",
        (true, true) => ", DIFFERS",
        (false, _) => "",
    };
    screen.line(
        &format!(
            "vipd {}  host {}  cluster {}  up {}  config {config}{same}",
            status.version,
            status.host,
            status.cluster,
            age(status.uptime_s),
        ),
        TITLE,
    );
    screen.gap();
    let rows: Vec<Vec<Cell>> = status.instances.iter().map(|i| row(status, i)).collect();
    screen.table(&["INSTANCE", "STATE", "SINCE", "PRIORITY", "OWNER", "NEXT OWNER"], &rows);
    for i in &status.instances {
        details(status, i, &mut screen);
    }
    if !status.peers.is_empty() {
        screen.gap();
        for peer in &status.peers {
            peer_line(peer, &mut screen);
        }
    }
    foot(status, &mut screen);
    screen.into_text()
}

/// The name of the instance, with its family where it has several entries.
pub(in crate::cli) fn label(status: &Status, i: &Instance) -> String {
    let several = status.instances.iter().filter(|other| other.name == i.name).count() > 1;
    match i.families.first() {
        Some(family) if several => format!("{}/{}", i.name, family.family),
        _ => i.name.clone(),
    }
}

fn row(status: &Status, i: &Instance) -> Vec<Cell> {
    let condition = i.condition.as_deref();
    let state = match condition {
        Some(condition) => format!("{} {condition}", i.state.to_uppercase()),
        None => i.state.to_uppercase(),
    };
    let lowered = i.priority != i.configured_priority;
    let priority = if lowered {
        cell(format!("{}/{}", i.priority, i.configured_priority), WARN)
    } else {
        plain(i.priority.to_string())
    };
    vec![
        plain(label(status, i)),
        cell(state, state_style(&i.state, condition)),
        plain(age(i.since_s)),
        priority,
        cell(owner(i), if i.owner.is_none() { BAD } else { PLAIN }),
        next_owner(i),
    ]
}

/// Who owns, as far as this host knows.
pub(in crate::cli) fn owner(i: &Instance) -> String {
    let Some(owner) = &i.owner else { return "nobody".into() };
    let who = if owner.this_host { Some("this host") } else { owner.host.as_deref() };
    match (who, owner.address.as_deref()) {
        (Some(who), _) => who.to_owned(),
        (None, Some(address)) => address.to_owned(),
        (None, None) => "unknown".into(),
    }
}

fn next_owner(i: &Instance) -> Cell {
    match &i.why.successor {
        Some(next) => {
            let who = if next.this_host { "this host" } else { &next.host };
            plain(format!("{who} in {}", age(next.after_s)))
        }
        // Alone by configuration, or VRRP hosts that say nothing as backups.
        None if i.why.order.iter().all(|c| c.this_host || c.state.is_none()) => {
            cell("unknown", FAINT)
        }
        None => cell("nobody", WARN),
    }
}

fn details(status: &Status, i: &Instance, screen: &mut Screen) {
    screen.gap();
    let place = match (i.applied, i.lease_left_s) {
        (true, Some(left)) => format!(", on this host, lease {left:.1}s"),
        (true, None) => ", on this host".into(),
        (false, _) => String::new(),
    };
    let head = format!("{}  ", label(status, i));
    let addresses = i.addresses.join(", ");
    screen.entry(&head, &format!("VRID {} on {}: {addresses}{place}", i.vrid, i.interface), PLAIN);
    screen.entry("  why     ", &i.cause, PLAIN);
    if let Some(next) = &i.next {
        screen.entry("  next    ", next, PLAIN);
    }
    let others: Vec<String> = i
        .why
        .order
        .iter()
        .filter(|c| !c.this_host)
        .map(|c| match (&c.state, c.alive) {
            (Some(state), true) => format!("{} {state} {} {}", c.host, c.priority, c.class),
            (Some(state), false) => format!("{} silent, was {state}", c.host),
            (None, _) => format!("{} not heard", c.host),
        })
        .collect();
    if !others.is_empty() && !status.peers.is_empty() {
        screen.entry("  others  ", &others.join(", "), PLAIN);
    }
    let mine: Vec<&Check> = status.checks.iter().filter(|c| i.checks.contains(&c.name)).collect();
    if !mine.is_empty() {
        let words: Vec<String> = mine.iter().map(|check| check_word(check)).collect();
        screen.entry("  checks  ", &words.join(", "), PLAIN);
    }
    for check in mine.iter().filter(|check| !well(check)) {
        let since = check.since_s.map_or_else(String::new, |s| format!(" for {}", age(s)));
        let text = format!(
            "check {} {}{since} ({}): {}",
            check.name,
            check.last.as_deref().unwrap_or("unknown"),
            check.severity,
            check.detail
        );
        screen.entry("  ! ", &text, WARN);
    }
    for set in &i.replicas {
        replica(set, screen);
    }
    let hooks = || status.hooks.iter().filter(|hook| hook.instance == i.name);
    let pushes: Vec<String> = hooks().filter_map(push_word).collect();
    if !pushes.is_empty() {
        screen.entry("  pushes  ", &pushes.join(", "), PLAIN);
    }
    for hook in hooks().filter(|hook| hook.failures > 0) {
        let times =
            if hook.failures > 1 { format!(" ({} times)", hook.failures) } else { String::new() };
        let (name, event, ago) = (&hook.name, &hook.event, age(hook.age_s));
        let text = format!("hook {name} on {event} {}{times}, {ago} ago", hook.told);
        screen.entry("  ! ", &text, WARN);
    }
    for wait in &i.waits {
        screen.entry("  waits   ", wait, PLAIN);
    }
    if !i.standby.is_empty() && i.standby != "hot" {
        screen.entry("  standby ", &i.standby, PLAIN);
    }
    if let Some(flap) = flap_line(i) {
        screen.entry("  moves   ", &flap, PLAIN);
    }
    for family in i.families.iter().filter(|family| family.source.is_none()) {
        let text = format!("{}: no source address, sends no adverts", family.family);
        screen.entry("  ! ", &text, WARN);
    }
    for alarm in &i.alarms {
        screen.entry("  ! ", &alarm.message, if alarm.code == "dual-active" { BAD } else { WARN });
    }
}

/// A set of state files: where each standby is, or how far this one is behind.
fn replica(set: &SetReport, screen: &mut Screen) {
    let head = format!("  replica {}: ", set.set);
    if !set.owns {
        let (text, style) = follower(set);
        return screen.entry(&head, &text, style);
    }
    if set.peers.is_empty() {
        return screen.entry(&head, "no other host yet", WARN);
    }
    for peer in &set.peers {
        let rpo = peer.rpo_ms.map_or_else(|| "unknown".into(), tenths);
        let at = format!("gen {}.{}", set.epoch.number, peer.generation);
        let (text, style) = match peer {
            PeerReport { refused: Some(why), .. } => (format!("refuses: {why}"), BAD),
            PeerReport { connected: false, .. } => (format!("NOT CONNECTED, {at} rpo {rpo}"), BAD),
            PeerReport { progress: Some((done, all)), .. } => {
                (format!("{} of {} sent", octets(*done), octets(*all)), WARN)
            }
            PeerReport { in_sync: true, .. } => (format!("in sync {at} rpo {rpo}"), PLAIN),
            _ => {
                let pending = pending(peer.pending_files, peer.pending_bytes);
                (format!("behind, {at} rpo {rpo}, {pending}"), WARN)
            }
        };
        screen.entry(&head, &format!("{} {text}", peer.host), style);
    }
}

fn follower(set: &SetReport) -> (String, Style) {
    let at = format!("gen {}.{}", set.epoch.number, set.generation);
    match set.age_ms {
        None if set.generation == 0 => ("nothing received yet".into(), BAD),
        None => (format!("age unknown, {at}"), BAD),
        Some(_) if set.pending_files > 0 || set.pending_bytes > 0 => {
            let behind = tenths(set.age_ms.unwrap_or_default());
            let pending = pending(set.pending_files, set.pending_bytes);
            (format!("{behind} behind, {pending}, {at}"), WARN)
        }
        Some(age) if age > OLD_MS => (format!("{} old, {at}", tenths(age)), WARN),
        Some(age) => (format!("in sync {at}, {} old", tenths(age)), PLAIN),
    }
}

fn pending(count: u64, bytes: u64) -> String {
    let files = if count == 1 { "file" } else { "files" };
    format!("{count} {files} / {} pending", octets(bytes))
}

fn well(check: &Check) -> bool {
    !check.unknown
        && !matches!(check.last.as_deref(), Some("fail" | "warn" | "unknown"))
        && !matches!(check.state.as_deref(), Some("fail" | "warn"))
}

/// What a hook says of the replicas that it makes.
fn push_word(hook: &Hook) -> Option<String> {
    let behind = age(hook.rpo_s?);
    let generation = hook.generation.as_ref().map(|g| format!(", generation {g}"));
    Some(format!("{} at most {behind} behind{}", hook.name, generation.unwrap_or_default()))
}

fn check_word(check: &Check) -> String {
    let state = check.state.as_deref().unwrap_or("not yet");
    let progress = check
        .progress
        .map(|(n, of)| format!(" ({} {n}/{of})", check.last.as_deref().unwrap_or_default()));
    format!("{} {state}{}", check.name, progress.unwrap_or_default())
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

fn peer_line(peer: &Peer, screen: &mut Screen) {
    let paths: Vec<String> = peer
        .paths
        .iter()
        .map(|path| match (path.heard_s, path.hears_me) {
            (Some(s), true) => format!("{} heard {} ago, hears us", path.address, age(s)),
            (Some(s), false) => format!("{} heard {} ago, DEAF to us", path.address, age(s)),
            (None, _) => format!("{} never heard", path.address),
        })
        .collect();
    let head = format!("peer {}  ", peer.host);
    if peer.alive {
        screen.entry(&head, &format!("alive: {}", paths.join("; ")), GOOD);
    } else {
        screen.entry(&head, &format!("SILENT on all paths: {}", paths.join("; ")), BAD);
    }
}

fn foot(status: &Status, screen: &mut Screen) {
    screen.gap();
    let last = status.instances.iter().min_by(|a, b| a.since_s.total_cmp(&b.since_s));
    if let Some(i) = last {
        let (name, ago) = (label(status, i), age(i.since_s));
        let text = format!("{ago} ago, {name} became {}: {}", i.state, i.cause);
        screen.entry("LAST  ", &text, PLAIN);
    }
    let mut warnings: Vec<&str> = status.alarms.iter().map(|alarm| &*alarm.message).collect();
    let refused = status.scheduling.refused.as_ref().map(|why| format!("not in real time: {why}"));
    warnings.extend(refused.as_deref());
    for warning in &warnings {
        screen.entry("WARN  ", warning, WARN);
    }
    if warnings.is_empty() {
        screen.entry("WARN  ", "none", FAINT);
    }
    let verdict = verdict(status);
    let code = verdict.exit as u8;
    let (word, style) = match verdict.exit {
        Exit::Done => ("healthy", GOOD),
        Exit::NobodyActive => ("NOBODY ACTIVE", BAD),
        Exit::DualActive => ("DUAL ACTIVE", BAD),
        _ => ("degraded", WARN),
    };
    let colon = if verdict.reasons.is_empty() { "" } else { ": " };
    let text = format!("{word} (exit {code}){colon}{}", verdict.reasons.join(", "));
    screen.entry("STATE ", &text, style);
}
