//! Figures of virtual routers and of instances.
//!
//! A series of a virtual router bears the family that is elected: where both families share their fate it is the
//! leading one, and stands for both. Adverts are counted by family.

use super::{Figures, Labels, Loop, Out, in_seconds, plainly};
use crate::telemetry::tally::InstanceTally;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};
use vipd_core::config::model::{Instance, Model};
use vipd_core::engine::io::{Alarm, Cause};
use vipd_core::engine::snapshot::{Snapshot, UnitView};
use vipd_core::histogram::Histogram;
use vipd_core::time::Duration;
use vipd_core::types::{Class, Family, InstanceIx, State};
use vipd_core::wire::receive::RouterCounters;

/// Names of counters that count errors, as reasons; what is not here is no error.
const REASONS: &[(&str, &str)] = &[
    ("ip-ttl-errors", "ip-ttl"),
    ("version-errors", "version"),
    ("vrid-errors", "vrid"),
    ("checksum-errors", "checksum"),
    ("packet-length-errors", "length"),
    ("invalid-type-pkts-rcvd", "type"),
    ("interval-errors", "interval"),
    ("address-list-errors", "address-list"),
    ("auth-type-errors", "auth-type"),
    ("auth-failures", "auth-failure"),
    ("trailer-malformed", "trailer-malformed"),
    ("trailer-stale", "trailer-stale"),
    ("trailer-unknown-key", "trailer-unknown-key"),
    ("trailer-bad-tag", "trailer-bad-tag"),
    ("trailer-replay", "trailer-replay"),
    ("trailer-missing", "trailer-missing"),
];

fn reason(counter: &str) -> Option<&'static str> {
    REASONS.iter().find(|(name, _)| *name == counter).map(|(_, reason)| *reason)
}

/// Labels of the instance `ix`.
fn labels_of(model: &Model, instance: &Instance) -> Labels {
    let link = model.links.get(usize::from(instance.link.0));
    vec![
        ("vipd_instance", instance.name.to_string()),
        ("vrid", instance.vrid.to_string()),
        ("interface", link.map_or_else(String::new, |l| l.name.to_string())),
    ]
}

fn with(labels: &Labels, name: &'static str, value: impl ToString) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_string()));
    labels
}

/// A virtual router with the labels of its series.
struct Router<'s> {
    instance: Labels,
    labels: Labels,
    unit: &'s UnitView,
}

/// What the numbers of `vipd_state` mean.
const STATES: &str =
    "0 initialize, 1 backup, 2 active, 3 fault, 4 drained, 5 frozen, 6 held, 7 conflict.";

/// One number for state, class and what keeps it from owning: the worst that applies to a host that does not own.
fn state(snapshot: &Snapshot, unit: &UnitView) -> u64 {
    let conflict = || {
        let mine = |(of, alarm): &(Option<InstanceIx>, Alarm)| {
            *of == Some(unit.instance) && matches!(alarm, Alarm::Conflict(..))
        };
        snapshot.alarms.iter().any(mine)
    };
    match (unit.state, unit.class) {
        (State::Active, _) => 2,
        (State::Initialize, _) if matches!(unit.cause, Cause::Startup | Cause::Stop) => 0,
        (State::Initialize, _) | (_, Class::Unable) => 3,
        (_, Class::Drained) => 4,
        (State::Backup, _) if conflict() => 7,
        (_, Class::Held) => 6,
        (State::Backup, _) if unit.frozen.is_some() => 5,
        (State::Backup, _) => 1,
    }
}

/// Could it own, if nobody better did?
pub(crate) fn eligible(unit: &UnitView) -> bool {
    unit.state != State::Initialize && unit.class <= Class::Held && !unit.leaving
}

/// States, priorities and adverts.
pub(super) fn routers(out: &mut Out<'_>, model: &Model, snapshot: &Snapshot) -> fmt::Result {
    let routers: Vec<Router<'_>> = snapshot
        .units
        .iter()
        .map(|unit| {
            let instance = labels_of(model, model.instance(unit.instance));
            let family = unit.families.first().map_or(Family::V4, |(family, ..)| *family);
            Router { labels: with(&instance, "family", family), instance, unit }
        })
        .collect();
    standing(out, snapshot, &routers)?;
    moment(out, &routers)?;
    adverts(out, snapshot, &routers)
}

/// One series of each router.
fn each<'r, V>(
    routers: &'r [Router<'_>],
    value: impl Fn(&UnitView) -> V + 'r,
) -> impl Iterator<Item = (&'r [(&'static str, String)], V)> {
    routers.iter().map(move |r| (r.labels.as_slice(), value(r.unit)))
}

/// As [`each`], for those that have the value.
fn some<'r, V>(
    routers: &'r [Router<'_>],
    value: impl Fn(&UnitView) -> Option<V> + 'r,
) -> impl Iterator<Item = (&'r [(&'static str, String)], V)> {
    routers.iter().filter_map(move |r| Some((r.labels.as_slice(), value(r.unit)?)))
}

fn standing(out: &mut Out<'_>, snapshot: &Snapshot, routers: &[Router<'_>]) -> fmt::Result {
    let flag = |value: fn(&UnitView) -> bool| each(routers, move |u| u64::from(value(u)));
    out.gauges(plainly("vipd_state", STATES), each(routers, |u| state(snapshot, u)))?;
    out.gauges(
        plainly("vipd_is_active", "Does this host own the addresses?"),
        flag(|u| u.state == State::Active),
    )?;
    out.gauges(
        plainly("vipd_eligible", "Could this host own if nobody better did?"),
        flag(eligible),
    )?;
    out.gauges(
        plainly("vipd_priority_base", "Priority as configured."),
        each(routers, |u| u64::from(u.configured)),
    )?;
    out.gauges(
        plainly("vipd_priority_effective", "Priority in use."),
        each(routers, |u| u64::from(u.priority)),
    )?;
    out.gauges(
        plainly("vipd_epoch", "Number of the last claim of this host."),
        each(routers, |u| u.epoch.number),
    )?;
    out.gauges(
        plainly("vipd_vip_present", "Did the kernel of this host confirm every address?"),
        flag(|u| u.applied),
    )?;
    out.gauges(
        plainly("vipd_redundant", "Is another host fit to own? Only with heartbeats."),
        some(routers, |u| u.redundant.map(u64::from)),
    )
}

fn moment(out: &mut Out<'_>, routers: &[Router<'_>]) -> fmt::Result {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    out.gauges(
        in_seconds("vipd_state_since", "Time in this state."),
        each(routers, |u| u.since.as_secs_f64()),
    )?;
    out.gauges(
        in_seconds("vipd_last_transition_timestamp", "When the state was entered, in Unix time."),
        each(routers, |u| now.saturating_sub(u.since).as_secs_f64()),
    )?;
    out.gauges(
        in_seconds(
            "vipd_lease_remaining",
            "Time until the kernel drops the addresses unless renewed.",
        ),
        some(routers, |u| u.lease_left.map(|left| left.as_secs_f64())),
    )
}

fn adverts(out: &mut Out<'_>, snapshot: &Snapshot, routers: &[Router<'_>]) -> fmt::Result {
    let by_family = |count: fn(&RouterCounters) -> u64| {
        routers.iter().flat_map(move |r| {
            let families = r.unit.families.iter();
            families.map(move |(family, _, c)| (with(&r.instance, "family", family), count(c)))
        })
    };
    out.counters(
        plainly("vipd_adverts_sent", "Adverts that the kernel took."),
        by_family(|c| c.advertisement_sent),
    )?;
    out.counters(
        plainly("vipd_adverts_received", "Accepted adverts."),
        by_family(|c| c.advertisement_rcvd),
    )?;
    out.counters(
        plainly("vipd_releases_sent", "Adverts of priority 0 that the kernel took."),
        by_family(|c| c.priority_zero_pkts_sent),
    )?;
    out.counters(
        plainly("vipd_releases_received", "Accepted adverts of priority 0."),
        by_family(|c| c.priority_zero_pkts_rcvd),
    )?;
    let of_host = snapshot
        .counters
        .iter()
        .filter_map(|(name, count)| Some((vec![("reason", reason(name)?.to_owned())], count)));
    let of_routers = routers.iter().flat_map(|r| {
        r.unit.families.iter().flat_map(move |(family, _, counters)| {
            let labels = with(&r.instance, "family", family);
            counters.iter().filter_map(move |(name, count)| {
                Some((with(&labels, "reason", reason(name)?), count))
            })
        })
    });
    out.counters(
        plainly(
            "vipd_advert_errors",
            "Adverts that a check found wrong, all but interval and address-list (version 3) refused; without instance: before one was known.",
        ),
        of_host.chain(of_routers),
    )?;
    let gaps = |r: &Router<'_>| -> Vec<(Labels, Histogram)> {
        let families = r.unit.families.iter().zip(&r.unit.advert_gaps);
        families.map(|((family, ..), gaps)| (with(&r.instance, "family", family), *gaps)).collect()
    };
    out.histograms(
        in_seconds("vipd_advert_interarrival", "Time between two adverts of one owner."),
        routers.iter().flat_map(gaps),
    )
}

/// What is told of an instance as a whole.
pub(super) fn instances(
    out: &mut Out<'_>,
    figures: &Figures,
    snapshot: &Snapshot,
    counted: &Loop,
) -> fmt::Result {
    let model = &figures.model;
    let labels: Vec<Labels> = model.instances.iter().map(|i| labels_of(model, i)).collect();
    let tallies = || labels.iter().map(Vec::as_slice).zip(&figures.tally.instances);
    out.gauges(
        in_seconds("vipd_advert_interval", "Advertisement interval as configured."),
        labels
            .iter()
            .map(Vec::as_slice)
            .zip(model.instances.iter().map(|i| i.interval.duration().as_secs_f64())),
    )?;
    out.counters(
        plainly("vipd_transitions", "Changes of state, by new state and cause."),
        labels.iter().zip(&figures.tally.instances).flat_map(|(labels, tally)| {
            tally.transitions.iter().map(move |((family, to, cause), count)| {
                let labels = with(labels, "family", family);
                (with(&with(&labels, "to", to), "cause", cause), *count)
            })
        }),
    )?;
    out.histograms(
        in_seconds(
            "vipd_failover_gap",
            "From the last advert of an owner that fell silent, or from the start, to the confirmed claim of this host.",
        ),
        tallies().map(|(l, t)| (l, t.outages)),
    )?;
    let counter = |value: fn(&InstanceTally) -> u64| tallies().map(move |(l, t)| (l, value(t)));
    out.counters(
        plainly("vipd_vip_repairs", "Addresses that somebody removed, put back."),
        counter(|t| t.repairs),
    )?;
    out.counters(
        plainly("vipd_conflicts", "Times that a foreign host was found with an address."),
        counter(|t| t.conflicts),
    )?;
    out.counters(
        plainly("vipd_kernel_failures", "Orders that the kernel did not carry out."),
        counter(|t| t.kernel_failures),
    )?;
    out.counters(
        plainly("vipd_garp_sent", "Gratuitous ARP and unsolicited ND announcements."),
        labels.iter().map(Vec::as_slice).zip(counted.announced.iter().copied()),
    )?;
    out.counters(
        in_seconds("vipd_dual_active", "Time in which this host and another one owned."),
        tallies().map(|(l, t)| (l, t.dual(snapshot.at).as_secs_f64())),
    )?;
    let dual = |ix: usize| {
        let mine = |(of, alarm): &(Option<InstanceIx>, Alarm)| {
            of.is_some_and(|of| usize::from(of.0) == ix) && matches!(alarm, Alarm::DualActive(_))
        };
        u64::from(snapshot.alarms.iter().any(mine))
    };
    out.gauges(
        plainly("vipd_dual_active", "Does this host own, and hear another owner?"),
        labels.iter().map(Vec::as_slice).enumerate().map(|(ix, l)| (l, dual(ix))),
    )?;
    flap(out, snapshot, &labels)
}

/// What keeps addresses from bouncing.
fn flap(out: &mut Out<'_>, snapshot: &Snapshot, labels: &[Labels]) -> fmt::Result {
    // Of an instance with two units the first: flap control is one.
    let first = |ix: usize| snapshot.units.iter().find(|u| usize::from(u.instance.0) == ix);
    let rows: Vec<(&Labels, &UnitView)> =
        labels.iter().enumerate().filter_map(|(ix, l)| Some((l, first(ix)?))).collect();
    let damped = || rows.iter().filter(|(_, u)| u.flap.penalty.is_some());
    out.gauges(
        plainly("vipd_penalty", "Penalty for losing the addresses; only with damping."),
        damped().map(|(l, u)| (l.as_slice(), u64::from(u.flap.penalty.unwrap_or(0)))),
    )?;
    out.gauges(
        plainly("vipd_suppressed", "Second choice because of penalties?"),
        damped().map(|(l, u)| (l.as_slice(), u64::from(u.flap.suppressed.is_some()))),
    )?;
    out.gauges(
        plainly("vipd_hold", "Held by the move budget until acknowledged or quiet?"),
        rows.iter()
            .filter(|(_, u)| !u.flap.moves.is_empty())
            .map(|(l, u)| (l.as_slice(), u64::from(u.flap.held.is_some()))),
    )?;
    let windows = |value: fn(&(u32, u32, Duration)) -> u32| {
        rows.iter().flat_map(move |(l, u)| {
            u.flap.moves.iter().map(move |window| {
                (with(l, "window", format!("{}s", window.2.as_secs())), u64::from(value(window)))
            })
        })
    };
    out.gauges(
        plainly("vipd_moves_window", "Automatic moves in each window of the budget."),
        windows(|w| w.0),
    )?;
    out.gauges(
        plainly("vipd_moves_limit", "With so many moves in the window the instance is held."),
        windows(|w| w.1),
    )
}
