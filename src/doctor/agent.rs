//! What the configuration, the key files and the running agent say of themselves.

use super::{Finding, Patient};
use crate::sys::capability;

/// Seconds after which a path counts as cut where the file does not say how often heartbeats come.
const UNHEARD: f64 = 60.0;

/// Is the configuration valid?
pub(super) fn config(patient: &Patient) -> Vec<Finding> {
    let invalid = patient.model.as_ref().err().map(|why| {
        Finding::problem("config", "the configuration cannot be used")
            .seen(why.clone())
            .fix("mend the file until `vipd check` says that it is valid")
    });
    invalid.into_iter().collect()
}

/// Can the keys be read, by nobody else?
pub(super) fn keys(patient: &Patient) -> Vec<Finding> {
    let wrong = patient.keys.as_ref().map(|why| {
        let fix = why.split_once("; ").map_or(why.as_str(), |(_, fix)| fix);
        Finding::problem("keys", "a key file is not used").seen(why.clone()).fix(fix)
    });
    wrong.into_iter().collect()
}

/// Does the agent answer, and is it the one of this file?
pub(super) fn reachable(patient: &Patient) -> Vec<Finding> {
    let status =
        match &patient.status {
            Ok(status) => status,
            Err(why) => {
                return vec![Finding::problem("agent", "no agent answers").seen(why.clone()).fix(
                    "systemctl start vipd; if it is running: the same --runtime-dir for both",
                )];
            }
        };
    let mut found = Vec::new();
    if let Some(model) = patient.model()
        && status.config_hash != format!("{:016x}", model.hash)
    {
        found.push(
            Finding::problem("agent", "the agent runs with another configuration than the file")
                .seen(format!("agent {}, file {:016x}", status.config_hash, model.hash))
                .fix("vipd reload"),
        );
    }
    for alarm in status.alarms.iter().chain(status.instances.iter().flat_map(|i| &i.alarms)) {
        let fix = match alarm.code.as_str() {
            "advert-path-broken" => {
                "let protocol 112 pass on both hosts (docs/firewall.md) and look at IGMP snooping on the switch"
            }
            "duplicate-vrid" => "give one of the two groups another VRID",
            "config-not-used" => {
                "mend the file until `vipd check` says that it is valid, then `vipd reload`"
            }
            "config-mismatch" => "install the same file on every host, then `vipd reload`",
            "address-fight" => {
                "find who removes the address: `ip monitor address`, network managers"
            }
            "conflict" => {
                "take the address off the other machine, or give the instance another one"
            }
            "dual-active" | "deaf-peer" => "mend the network between the hosts",
            _ => continue,
        };
        found.push(
            Finding::problem("agent", &*alarm.message)
                .seen(format!("alarm {}", alarm.code))
                .fix(fix),
        );
    }
    found
}

/// Has the agent the rights that it wants, and this process those to look?
pub(super) fn rights(patient: &Patient) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(missing) = capability::check() {
        let text = missing.to_string();
        let (what, fix) = text.split_once(": ").unwrap_or((&text, ""));
        let weight =
            if patient.status.is_err() { super::Weight::Problem } else { super::Weight::Note };
        found.push(
            Finding::new("rights", weight, what).seen("the capabilities of this process").fix(fix),
        );
    }
    if let Some(refused) = patient.status().and_then(|s| s.scheduling.refused.as_ref()) {
        let (what, fix) = refused.split_once(": ").unwrap_or((refused, ""));
        found.push(
            Finding::problem("rights", what)
                .seen("the agent was refused it at its start")
                .fix(fix.trim_end_matches("; the agent runs without")),
        );
    }
    found
}

/// Who hears whom?
pub(super) fn peers(patient: &Patient) -> Vec<Finding> {
    let mut found = Vec::new();
    let heartbeat = patient.model().and_then(|model| model.heartbeat.as_ref());
    // Three missed heartbeats are a cut, as for the engine.
    let patience = heartbeat.map_or(UNHEARD, |h| (h.interval.duration() * 3).as_secs_f64());
    for peer in patient.status().iter().flat_map(|s| &s.peers) {
        let name = &peer.host;
        if !peer.alive {
            found.push(
                Finding::problem("peers", format!("{name} is silent on all paths"))
                    .seen("no heartbeat on any of its addresses")
                    .fix("start vipd there; let UDP port 7112 pass on both hosts; compare the key files"),
            );
            continue;
        }
        for path in &peer.paths {
            let address = &path.address;
            let stale = path.heard_s.is_none_or(|s| s > patience);
            let what = match (stale, path.hears_me) {
                (false, true) => continue,
                (false, false) => {
                    format!("{name} is heard over {address}, but does not hear this host there")
                }
                (true, true) => {
                    format!("{name} hears this host over {address}, but is not heard there")
                }
                (true, false) => format!("the path to {name} over {address} is cut"),
            };
            let heard = path
                .heard_s
                .map_or_else(|| "never heard".into(), |s| format!("last heard {s:.1} s ago"));
            found.push(
                Finding::problem("peers", what)
                    .seen(format!("heartbeats: {heard}, hears us: {}", if path.hears_me { "yes" } else { "no" }))
                    .fix("the deaf side: its filter (UDP port 7112), rp_filter, its route back; else switch or cable"),
            );
        }
    }
    found
}

/// Do the clocks agree? Only signed adverts ask.
pub(super) fn clock(patient: &Patient) -> Vec<Finding> {
    let mut found = Vec::new();
    for i in patient.status().iter().flat_map(|s| &s.instances) {
        for family in &i.families {
            let stale = family.counters.get("trailer-stale").copied().unwrap_or(0);
            if stale > 0 {
                found.push(
                    Finding::problem(
                        "clock",
                        format!(
                            "{}: clocks of the hosts differ too much for signed adverts",
                            i.name
                        ),
                    )
                    .seen(format!("{stale} adverts refused: time stamp outside the window"))
                    .fix("run chrony or systemd-timesyncd on every host"),
                );
            }
        }
    }
    found
}
