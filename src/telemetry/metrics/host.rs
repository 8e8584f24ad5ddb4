//! Figures of the host: the agent, its configuration, its peers, its checks.

use super::{Figures, Labels, Out, in_seconds, plainly};
use crate::telemetry::tally::Tally;
use crate::telemetry::text::{CONFIG_NOT_USED, alarm_code};
use crate::telemetry::{REPLICA, REPLICATOR_MISSING};
use std::collections::BTreeSet;
use std::fmt;
use vipd_core::config::model::Model;
use vipd_core::engine::io::{Alarm, PeerView, Verdict};
use vipd_core::engine::snapshot::Snapshot;

/// The agent itself; the only figures when the protocol thread does not answer.
pub(super) fn agent(out: &mut Out<'_>, figures: &Figures) -> fmt::Result {
    let Figures { model, tally, config_used, now, replicas: _ } = figures;
    let up = plainly("vipd_up", "Does the protocol thread answer? 0: nothing else is known.");
    out.gauge(up, u64::from(now.is_some()))?;
    let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    out.info(plainly("vipd_build", "Release of the agent."), &build)?;
    let config = vec![("hash", format!("{:016x}", model.hash))];
    let help = "Hash of the meaning of the configuration, the same on every host of the group.";
    out.info(plainly("vipd_config_hash", help), &config)?;
    let help = "Could the configuration file be used when it was read last? 0: the last good one is in force.";
    out.gauge(plainly("vipd_config_reload_success", help), u64::from(*config_used))?;
    let refused = tally.heartbeats_refused.iter();
    out.counters(
        plainly(
            "vipd_heartbeats_refused",
            "Refused heartbeats; repeats are added within a minute.",
        ),
        refused.map(|(reason, count)| (vec![("reason", (*reason).to_owned())], *count)),
    )?;
    let Some((snapshot, counted)) = now else { return Ok(()) };
    out.gauge(
        in_seconds("vipd_uptime", "Time since the agent started."),
        snapshot.uptime.as_secs_f64(),
    )?;
    out.gauge(
        plainly("vipd_real_time", "Was real-time scheduling granted to the protocol thread?"),
        u64::from(counted.real_time),
    )?;
    out.gauge(
        plainly("vipd_memory_locked", "Are the pages of the agent locked in memory?"),
        u64::from(counted.memory_locked),
    )?;
    out.counter(plainly("vipd_loop_wakeups", "Turns of the protocol thread."), counted.wakeups)?;
    out.histograms(
        in_seconds("vipd_loop_lateness", "Time from a deadline to its handling."),
        [(super::ALONE, counted.lateness)],
    )?;
    out.counter(
        plainly("vipd_events_untold", "Events that found the queue to the main thread full."),
        counted.untold,
    )?;
    out.counter(
        plainly("vipd_socket_errors", "Datagrams and frames that could not be read or sent."),
        counted.socket_errors,
    )?;
    out.gauges(
        plainly("vipd_interface_up", "Is the service interface there, up and with carrier?"),
        model.links.iter().zip(&snapshot.links).map(|(link, state)| {
            let up = state.index.is_some() && state.running;
            (vec![("interface", link.name.to_string())], u64::from(up))
        }),
    )?;
    alarms(out, figures, snapshot)
}

/// Alarms that stand, once each: two peers with the same trouble are one series.
fn alarms(out: &mut Out<'_>, figures: &Figures, snapshot: &Snapshot) -> fmt::Result {
    let model = &figures.model;
    let name = |alarm: &Alarm| alarm_code(alarm);
    let of_engine = snapshot.alarms.iter().map(|(ix, alarm)| (ix.map(|ix| ix.0), name(alarm)));
    let of_file = (!figures.config_used).then_some((None, CONFIG_NOT_USED));
    let standing: BTreeSet<_> = of_engine.chain(of_file).collect();
    let labels = |(ix, code): (Option<u16>, &str)| -> Labels {
        let instance = ix.and_then(|ix| model.instances.get(usize::from(ix)));
        let instance = instance.map_or_else(String::new, |i| i.name.to_string());
        vec![("vipd_instance", instance), ("alarm", code.to_owned())]
    };
    out.gauges(
        plainly(
            "vipd_alarm",
            "A condition to look at that stands now; without instance: of the host.",
        ),
        standing.into_iter().map(labels).chain(of_replicas(figures)).map(|alarm| (alarm, 1u64)),
    )
}

/// Alarms of the replicator and about it.
fn of_replicas(figures: &Figures) -> Vec<Labels> {
    let Some(replicas) = &figures.replicas else { return Vec::new() };
    let alarmed = replicas.sets.iter().filter(|set| !set.alarms.is_empty());
    let instances: BTreeSet<&str> = alarmed.map(|set| &*set.instance).collect();
    let label = |instance: &str, code: &str| -> Labels {
        vec![("vipd_instance", instance.to_owned()), ("alarm", code.to_owned())]
    };
    let of_host = replicas.missing.then(|| label("", REPLICATOR_MISSING));
    instances.into_iter().map(|instance| label(instance, REPLICA)).chain(of_host).collect()
}

/// The other hosts, where heartbeats run.
pub(super) fn peers(out: &mut Out<'_>, model: &Model, snapshot: &Snapshot) -> fmt::Result {
    let peer = |view: &PeerView| ("peer", model.host_name(view.host).to_string());
    let of_peer = |value: fn(&PeerView) -> bool| {
        snapshot.peers.iter().map(move |view| (vec![peer(view)], u64::from(value(view))))
    };
    out.gauges(plainly("vipd_peer_up", "Is the peer heard on any path?"), of_peer(|p| p.alive))?;
    out.gauges(
        plainly("vipd_config_peer_mismatch", "Does the peer run with another configuration?"),
        snapshot.peers.iter().map(|view| {
            let differs = snapshot.alarms.contains(&(None, Alarm::ConfigMismatch(view.host)));
            (vec![peer(view)], u64::from(differs))
        }),
    )?;
    let path = |view: &PeerView, at: usize| -> Labels {
        let paths = model.hosts.get(usize::from(view.host.0)).map(|h| h.paths.as_slice());
        let address = paths.and_then(|paths| paths.get(at)).map(ToString::to_string);
        vec![peer(view), ("path", address.unwrap_or_else(|| at.to_string()))]
    };
    out.gauges(
        plainly("vipd_peer_hears_me", "Does the peer hear this host on the path, by its own word?"),
        snapshot.peers.iter().flat_map(|view| {
            let paths = view.hears_me.iter().enumerate();
            paths.map(move |(at, hears)| (path(view, at), u64::from(*hears)))
        }),
    )?;
    out.gauges(
        in_seconds("vipd_peer_last_heard", "Time since a heartbeat of the peer came by the path."),
        snapshot.peers.iter().flat_map(|view| {
            let paths = view.heard.iter().enumerate();
            paths.filter_map(move |(at, ago)| Some((path(view, at), (*ago)?.as_secs_f64())))
        }),
    )
}

/// The checks. Verdicts have the numbers of monitoring plug-ins.
pub(super) fn checks(
    out: &mut Out<'_>,
    model: &Model,
    snapshot: &Snapshot,
    tally: &Tally,
) -> fmt::Result {
    let number = |verdict: Option<Verdict>| match verdict {
        Some(Verdict::Pass) => 0u64,
        Some(Verdict::Warn) => 1,
        Some(Verdict::Fail) => 2,
        Some(Verdict::Unknown) | None => 3,
    };
    let labels: Vec<Labels> =
        model.checks.iter().map(|check| vec![("check", check.name.to_string())]).collect();
    out.gauges(
        plainly("vipd_check_status", "Verdict that counts: 0 pass, 1 warn, 2 fail, 3 unknown."),
        labels.iter().map(Vec::as_slice).zip(
            snapshot
                .checks
                .iter()
                .map(|c| number(if c.unknown { Some(Verdict::Unknown) } else { c.settled })),
        ),
    )?;
    let runs = || labels.iter().map(Vec::as_slice).zip(&tally.checks);
    out.gauges(
        in_seconds("vipd_check_duration", "How long the last run took."),
        runs().filter(|(_, t)| t.runs > 0).map(|(l, t)| (l, t.last.as_secs_f64())),
    )?;
    out.counters(
        in_seconds("vipd_check_run", "Time that all runs took."),
        runs().map(|(l, t)| (l, t.took.as_secs_f64())),
    )?;
    out.counters(plainly("vipd_check_runs", "Runs."), runs().map(|(l, t)| (l, t.runs)))?;
    out.counters(
        plainly("vipd_check_late", "Runs that took longer than the interval of the check."),
        runs().map(|(l, t)| (l, t.late)),
    )
}
