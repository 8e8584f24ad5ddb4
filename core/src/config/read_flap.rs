//! What keeps an address from bouncing: damping, move budget, stickiness, pace of the priority.
//!
//! Called by `read_instance`. Gives the defaults of an instance that is not told otherwise.

use super::diagnostic::Findings;
use super::duration;
use super::keys::{damping, instance, move_budget};
use super::model::{Budget, Damping, FlapControl};
use super::section::{Section, TableOr};
use super::value::{self, Wrong};
use crate::time::Duration;
use std::ops::RangeInclusive;
use toml::de::DeValue;

/// An owner gets this much back.
const DEFAULT_STICKINESS: u8 = 10;
/// Between two changes of the effective priority.
const DEFAULT_PRIORITY_HOLD: Duration = Duration::from_secs(10);
/// Penalties (form of RFC 2439): 1000 for each loss, out after three within minutes.
const DEFAULT_DAMPING: Damping = Damping {
    half_life: Duration::from_secs(600),
    suppress: 2500,
    reuse: 1000,
    ceiling: 10_000,
    max_suppress: Duration::from_secs(3600),
};
/// Held this long after the last move.
const DEFAULT_QUIET: Duration = Duration::from_secs(3600);
/// Most limits of a budget.
const LIMITS_MAX: usize = 8;
const LENGTHS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const PACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const PENALTIES: RangeInclusive<i64> = 1..=1_000_000;

/// The part of an instance that keeps its address from bouncing.
pub(super) fn read(section: &Section<'_>, findings: &mut Findings<'_>) -> FlapControl {
    let damping = match section.table_or(&instance::DAMPING, "off", findings) {
        Some(TableOr::Word) => None,
        Some(TableOr::Table(table)) => Some(read_damping(&table, findings)),
        None => Some(DEFAULT_DAMPING),
    };
    let budget = match section.table_or(&instance::MOVE_BUDGET, "off", findings) {
        Some(TableOr::Word) => None,
        Some(TableOr::Table(table)) => Some(read_budget(&table, findings)),
        None => Some(Budget { limits: default_limits(), quiet: DEFAULT_QUIET }),
    };
    let stickiness =
        section.optional(&instance::STICKINESS, findings, |v| value::integer(v, 0..=253));
    let hold = section.optional(&instance::PRIORITY_HOLD, findings, |v| value::duration(v, PACES));
    FlapControl {
        damping,
        budget,
        stickiness: stickiness.map_or(DEFAULT_STICKINESS, |at| at.value),
        priority_hold: hold.map_or(DEFAULT_PRIORITY_HOLD, |at| at.value),
    }
}

/// A loop of two hosts is over after three moves; slower ones are caught by the hour.
fn default_limits() -> Vec<(u32, Duration)> {
    vec![(3, Duration::from_secs(600)), (6, Duration::from_secs(3600))]
}

fn read_damping(section: &Section<'_>, findings: &mut Findings<'_>) -> Damping {
    section.refuse_unknown(damping::ALL, findings);
    let before = findings.count();
    let length = |key, default: Duration, f: &mut Findings<'_>| {
        section.optional(key, f, |v| value::duration(v, LENGTHS)).map_or(default, |at| at.value)
    };
    let penalty = |key, default: u32, f: &mut Findings<'_>| {
        section.optional(key, f, |v| value::integer(v, PENALTIES)).map_or(default, |at| at.value)
    };
    let read = Damping {
        half_life: length(&damping::HALF_LIFE, DEFAULT_DAMPING.half_life, findings),
        suppress: penalty(&damping::SUPPRESS, DEFAULT_DAMPING.suppress, findings),
        reuse: penalty(&damping::REUSE, DEFAULT_DAMPING.reuse, findings),
        ceiling: penalty(&damping::CEILING, DEFAULT_DAMPING.ceiling, findings),
        max_suppress: length(&damping::MAX_SUPPRESS, DEFAULT_DAMPING.max_suppress, findings),
    };
    if findings.count() == before {
        if read.reuse >= read.suppress {
            findings.error(
                &section.key_span(&damping::REUSE),
                format!(
                    "reuse {} is not below suppress {}: a host would be free as soon as it is held",
                    read.reuse, read.suppress
                ),
                "write a reuse of half of suppress or less",
            );
        }
        if read.suppress > read.ceiling {
            findings.error(
                &section.key_span(&damping::SUPPRESS),
                format!(
                    "suppress {} is above the ceiling {}: no penalty ever reaches it",
                    read.suppress, read.ceiling
                ),
                "raise ceiling, lower suppress, or write damping = \"off\"",
            );
        }
    }
    read
}

fn read_budget(section: &Section<'_>, findings: &mut Findings<'_>) -> Budget {
    section.refuse_unknown(move_budget::ALL, findings);
    let limits = section.nonempty_list(&move_budget::LIMITS, findings, limit);
    if let Some(list) = &limits
        && list.value.len() > LIMITS_MAX
    {
        findings.error(
            &list.span,
            format!("{} limits; a budget has at most {LIMITS_MAX}", list.value.len()),
            "one for minutes and one for hours are enough",
        );
    }
    let quiet = section.optional(&move_budget::QUIET, findings, |v| value::duration(v, LENGTHS));
    Budget {
        limits: limits
            .map_or_else(default_limits, |l| l.value.into_iter().map(|at| at.value).collect()),
        quiet: quiet.map_or(DEFAULT_QUIET, |at| at.value),
    }
}

/// `3 in 10m`: so many moves within so long.
fn limit(value: &DeValue<'_>) -> Result<(u32, Duration), Wrong> {
    let parsed = value::text(value)?.split_once(" in ").and_then(|(moves, length)| {
        let digits = moves.bytes().all(|b| b.is_ascii_digit());
        let moves =
            moves.parse::<u32>().ok().filter(|n| digits && (1..=Budget::MOST_MOVES).contains(n))?;
        Some((moves, duration::parse(length).filter(|d| LENGTHS.contains(d))?))
    });
    parsed.ok_or_else(|| Wrong::value(value))
}
