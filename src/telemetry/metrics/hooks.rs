//! Figures of hooks: runs by event and outcome, and how far behind the replicas may be that they make.

use super::{Figures, Labels, Out, in_seconds, plainly};
use crate::telemetry::HookOf;
use std::fmt;
use vipd_core::time::Instant;

/// Hooks that have run.
pub(super) fn encode(out: &mut Out<'_>, figures: &Figures, now: Instant) -> fmt::Result {
    let of = |(hook, instance): &HookOf| -> Labels {
        vec![("vipd_instance", instance.to_string()), ("hook", hook.to_string())]
    };
    let runs = figures.tally.hooks.iter().flat_map(|(key, tally)| {
        tally.runs.iter().map(move |((event, outcome), count)| {
            let mut labels = of(key);
            labels.extend([("event", (*event).to_owned()), ("outcome", (*outcome).to_owned())]);
            (labels, *count)
        })
    });
    out.counters(
        plainly("vipd_hook_runs", "Runs of hooks that ended, by event and outcome."),
        runs,
    )?;
    let behind = figures
        .tally
        .hooks
        .iter()
        .filter_map(|(key, tally)| Some((of(key), tally.rpo(now)?.as_secs_f64())));
    out.gauges(
        in_seconds(
            "vipd_hook_rpo",
            "Changes that the other hosts may lack by now, from what the last good push of this owner said.",
        ),
        behind,
    )
}
