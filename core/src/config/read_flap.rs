//! What keeps an address from bouncing: damping, move budget, stickiness, pace of the priority.
//!
//! Called by `read_instance`. What is not told is as in `FlapControl::default`.

use super::diagnostic::Findings;
use super::duration;
use super::keys::{damping, instance, move_budget};
use super::model::{Budget, Damping, FlapControl};
use super::section::{Section, TableOr};
use super::value::{self, Wrong};
use crate::time::Duration;
use std::ops::RangeInclusive;
use toml::de::DeValue;

/// Most limits of a budget.
const LIMITS_MAX: usize = 8;
const LENGTHS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const PACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const PENALTIES: RangeInclusive<i64> = 1..=1_000_000;

/// The part of an instance that keeps its address from bouncing.
pub(super) fn read(section: &Section<'_>, findings: &mut Findings<'_>) -> FlapControl {
    let default = FlapControl::default();
    let damping = match section.table_or(&instance::DAMPING, "off", findings) {
        Some(TableOr::Word) => None,
        Some(TableOr::Table(table)) => Some(read_damping(&table, findings)),
        None => default.damping,
    };
    let budget = match section.table_or(&instance::MOVE_BUDGET, "off", findings) {
        Some(TableOr::Word) => None,
        Some(TableOr::Table(table)) => Some(read_budget(&table, findings)),
        None => default.budget,
    };
    let stickiness =
        section.optional(&instance::STICKINESS, findings, |v| value::integer(v, 0..=253));
    let hold = section.optional(&instance::PRIORITY_HOLD, findings, |v| value::duration(v, PACES));
    FlapControl {
        damping,
        budget,
        stickiness: stickiness.map_or(default.stickiness, |at| at.value),
        priority_hold: hold.map_or(default.priority_hold, |at| at.value),
    }
}

fn read_damping(section: &Section<'_>, findings: &mut Findings<'_>) -> Damping {
    section.refuse_unknown(damping::ALL, findings);
    let default = Damping::default();
    let before = findings.count();
    let length = |key, default: Duration, f: &mut Findings<'_>| {
        section.optional(key, f, |v| value::duration(v, LENGTHS)).map_or(default, |at| at.value)
    };
    let penalty = |key, default: u32, f: &mut Findings<'_>| {
        section.optional(key, f, |v| value::integer(v, PENALTIES)).map_or(default, |at| at.value)
    };
    let read = Damping {
        half_life: length(&damping::HALF_LIFE, default.half_life, findings),
        suppress: penalty(&damping::SUPPRESS, default.suppress, findings),
        reuse: penalty(&damping::REUSE, default.reuse, findings),
        ceiling: penalty(&damping::CEILING, default.ceiling, findings),
        max_suppress: length(&damping::MAX_SUPPRESS, default.max_suppress, findings),
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
    let default = Budget::default();
    Budget {
        limits: limits.map_or(default.limits, |l| l.value.into_iter().map(|at| at.value).collect()),
        quiet: quiet.map_or(default.quiet, |at| at.value),
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
