//! Figures of replication, as the replicator tells them.

use super::{Labels, Out, Replicas, in_bytes, in_seconds, plainly};
use std::fmt;
use vipd_core::replica::SetReport;

fn labels(set: &SetReport) -> Labels {
    vec![("vipd_instance", set.instance.clone()), ("set", set.set.clone())]
}

fn with(set: &SetReport, name: &'static str, value: &str) -> Labels {
    let mut labels = labels(set);
    labels.push((name, value.to_owned()));
    labels
}

fn seconds(ms: u64) -> f64 {
    // Exact up to 285,000 years.
    ms as f64 / 1e3
}

/// The replicator, its sets, and the other hosts as it knows them.
pub(super) fn replicas(out: &mut Out<'_>, replicas: &Replicas) -> fmt::Result {
    let sets = &replicas.sets;
    let each = |value: fn(&SetReport) -> u64| sets.iter().map(move |s| (labels(s), value(s)));
    out.gauge(
        plainly("vipd_replica_connected", "Does the replicator speak to the agent?"),
        u64::from(replicas.connected && !replicas.missing),
    )?;
    out.gauges(
        plainly("vipd_replica_owns", "Does this host push the set?"),
        each(|s| u64::from(s.owns)),
    )?;
    out.gauges(
        in_seconds(
            "vipd_replica_rpo",
            "Changes that would be lost if the owner died now and the standby that lacks most took over; of a \
             standby, its age. Missing: unknown.",
        ),
        sets.iter().filter_map(|s| Some((labels(s), seconds(s.rpo_ms?)))),
    )?;
    let peers = || sets.iter().flat_map(|s| s.peers.iter().map(|p| (with(s, "peer", &p.host), p)));
    out.gauges(
        in_seconds(
            "vipd_replica_peer_rpo",
            "Owner: changes that would be lost if it died now and the other host took over. Missing: unknown.",
        ),
        peers().filter_map(|(labels, p)| Some((labels, seconds(p.rpo_ms?)))),
    )?;
    out.gauges(
        in_bytes(
            "vipd_replica_peer_pending",
            "Owner: octets that the other host has not acknowledged.",
        ),
        peers().map(|(labels, p)| (labels, p.pending_bytes)),
    )?;
    out.gauges(
        in_seconds(
            "vipd_replica_age",
            "Standby: everything that the owner had so long ago is here. Missing: unknown.",
        ),
        sets.iter().filter(|s| !s.owns).filter_map(|s| Some((labels(s), seconds(s.age_ms?)))),
    )?;
    out.gauges(
        plainly("vipd_replica_pending_files", "Files that wait to be taken; owner: that the standby with most to come has not acknowledged."),
        each(|s| s.pending_files),
    )?;
    out.gauges(in_bytes("vipd_replica_pending", "Octets of them."), each(|s| s.pending_bytes))?;
    out.gauges(
        plainly("vipd_replica_generation", "Number of the newest tree within its ownership."),
        each(|s| s.generation),
    )?;
    out.gauges(
        plainly("vipd_divergent_files", "Files in the rescue folder."),
        each(|s| s.rescued_files),
    )?;
    out.gauges(
        plainly(
            "vipd_replica_last_verify_timestamp_seconds",
            "Unix time of the last verification.",
        ),
        sets.iter().filter_map(|s| Some((labels(s), s.verified_s?))),
    )?;
    out.gauges(
        plainly("vipd_replica_in_sync", "Owner: does the other host have the newest tree?"),
        peers().map(|(labels, p)| (labels, u64::from(p.in_sync))),
    )?;
    out.gauges(
        plainly("vipd_replica_peer_connected", "Owner: is there a connection to the other host?"),
        peers().map(|(labels, p)| (labels, u64::from(p.connected))),
    )?;
    out.counters(
        plainly("vipd_replica_errors", "Errors of the replicator since its start, by kind."),
        sets.iter().flat_map(|s| {
            s.errors.iter().map(move |(kind, count)| (with(s, "kind", kind), *count))
        }),
    )
}
