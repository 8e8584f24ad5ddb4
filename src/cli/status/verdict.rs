//! What `vipd status` comes to: the worst that is true of any instance, with the reasons, and as monitoring wants it.

use crate::cli::Exit;
use crate::control::status::{Instance, Status};
use std::process::ExitCode;

/// How the agent and its group are.
pub(super) struct Verdict {
    /// For `status`.
    pub(super) exit: Exit,
    /// What is not as it should be; empty: nothing.
    pub(super) reasons: Vec<String>,
}

/// The verdict on a document.
pub(super) fn verdict(status: &Status) -> Verdict {
    let mut reasons = Vec::new();
    let mut exit = Exit::Done;
    let mut found = |code: Exit, reason: String| {
        exit = if code as u8 > exit as u8 { code } else { exit };
        reasons.push(reason);
    };
    for i in &status.instances {
        if i.alarms.iter().any(|alarm| alarm.code == "dual-active") {
            found(Exit::DualActive, format!("{} has two owners", i.name));
        } else if i.owner.is_none() {
            found(Exit::NobodyActive, format!("nobody owns {}", i.name));
        }
        if let Some(condition) = &i.condition {
            found(Exit::Degraded, format!("{} is {condition} here", i.name));
        }
        for alarm in i.alarms.iter().filter(|alarm| alarm.code != "dual-active") {
            found(Exit::Degraded, format!("{}: {}", i.name, alarm.code));
        }
    }
    for alarm in &status.alarms {
        found(Exit::Degraded, alarm.code.clone());
    }
    for peer in &status.peers {
        let broken =
            |path: &&crate::control::status::Path| path.heard_s.is_none() || !path.hears_me;
        if !peer.alive {
            found(Exit::Degraded, format!("peer {} is silent", peer.host));
        } else if let Some(path) = peer.paths.iter().find(broken) {
            found(
                Exit::Degraded,
                format!("the path to {} over {} is cut", peer.host, path.address),
            );
        }
    }
    Verdict { exit, reasons }
}

/// One line with figures, and the code of a monitoring plug-in.
pub(super) fn nagios(status: &Status) -> (String, ExitCode) {
    let verdict = verdict(status);
    let (word, code) = match verdict.exit {
        Exit::Done => ("OK", 0),
        Exit::NobodyActive | Exit::DualActive => ("CRITICAL", 2),
        _ => ("WARNING", 1),
    };
    let said = if verdict.reasons.is_empty() {
        let each = status.instances.iter().map(|i| format!("{} {}", i.name, i.state));
        each.collect::<Vec<_>>().join(", ")
    } else {
        verdict.reasons.join(", ")
    };
    // A bar ends the text of a plug-in.
    let said = said.replace('|', "/");
    let mut figures: Vec<String> = status.instances.iter().flat_map(figures).collect();
    let alive = status.peers.iter().filter(|peer| peer.alive).count();
    if !status.peers.is_empty() {
        figures.push(format!("peers={alive};;;0;{}", status.peers.len()));
    }
    figures.push(format!("uptime={:.0}s;;;0", status.uptime_s));
    (format!("VIPD {word} - {said} | {}", figures.join(" ")), code.into())
}

fn figures(i: &Instance) -> Vec<String> {
    let family = i.families.first().map_or("", |family| family.family.as_str());
    let name = format!("{}_{family}", i.name);
    vec![
        format!("'{name}_active'={};;;0;1", u8::from(i.state == "active")),
        format!("'{name}_priority'={};;;0;255", i.priority),
        format!("'{name}_since'={:.0}s;;;0", i.since_s),
    ]
}
