//! `[replicate.NAME]`: state files that follow an instance.
//!
//! Called by `read`, once for the whole file: a set is the same on every host, so no value is a table by host.
//! What sets mean beside each other, instances and the cluster is in `check`.

use super::diagnostic::Findings;
use super::keys::{Key, replicate};
use super::model::Gate;
use super::schema::ReplicateDecl;
use super::section::{At, Section};
use super::value::{self, Wrong};
use crate::time::Duration;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use toml::de::DeValue;

const DEBOUNCES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const DELAYS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const SCANS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const TRASH_AGES: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(8784 * 3600);
const AGES: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(86_400);
/// Octets per second.
const RATES: RangeInclusive<u64> = 10_000..=100_000_000_000;
const SIZES: RangeInclusive<u64> = 1..=1_000_000_000_000_000;
/// Longest pattern, octets.
const PATTERN_MAX: usize = 4096;

/// One set; `None`: something is wrong (reported).
pub(super) fn read(
    name: At<Arc<str>>,
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Option<ReplicateDecl> {
    section.refuse_unknown(replicate::ALL, findings);
    let instance = section.required(&replicate::INSTANCE, findings, value::name);
    section.demand(&replicate::PATHS, findings);
    let paths = section.nonempty_list(&replicate::PATHS, findings, folder);
    let exclude = section.list(&replicate::EXCLUDE, findings, pattern);
    let length =
        |key: &Key, default: Duration, range: RangeInclusive<Duration>, f: &mut Findings<'_>| {
            section
                .optional(key, f, |v| value::duration(v, range))
                .unwrap_or_else(|| section.at(default))
        };
    let debounce = length(&replicate::DEBOUNCE, Duration::from_millis(500), DEBOUNCES, findings);
    let max_delay = length(&replicate::MAX_DELAY, Duration::from_secs(5), DELAYS, findings);
    let scan_interval = length(&replicate::SCAN_INTERVAL, Duration::from_secs(60), SCANS, findings);
    let flag = |key: &Key, f: &mut Findings<'_>| {
        section.optional(key, f, value::boolean).is_some_and(|at| at.value)
    };
    let atomic = flag(&replicate::ATOMIC_SET, findings);
    let xattrs = flag(&replicate::XATTRS, findings);
    let setuid = flag(&replicate::SETUID, findings);
    let outward_links = flag(&replicate::OUTWARD_LINKS, findings);
    let require_mount = flag(&replicate::REQUIRE_MOUNTPOINT, findings);
    let bandwidth = section.optional(&replicate::BANDWIDTH, findings, |v| value::rate(v, RATES));
    let guard =
        section.optional(&replicate::DELETE_GUARD, findings, |v| value::integer(v, 1..=100));
    let versions =
        section.optional(&replicate::TRASH_VERSIONS, findings, |v| value::integer(v, 0..=1000));
    let week = Duration::from_secs(7 * 86_400);
    let trash_age = length(&replicate::TRASH_AGE, week, TRASH_AGES, findings);
    let rescue = section.optional(&replicate::RESCUE_QUOTA, findings, |v| value::size(v, SIZES));
    let gates = [("prefer", Gate::Prefer), ("require", Gate::Require), ("ignore", Gate::Ignore)];
    let gate = section.optional(&replicate::PROMOTE_GATE, findings, |v| value::word(v, &gates));
    let max_age = length(&replicate::MAX_AGE, Duration::from_secs(60), AGES, findings);
    let pending = section.optional(&replicate::MAX_PENDING, findings, |v| value::size(v, SIZES));
    Some(ReplicateDecl {
        name,
        instance: instance?,
        paths: paths?.value,
        exclude: exclude
            .map_or_else(Vec::new, |l| l.value.into_iter().map(|at| at.value).collect()),
        debounce,
        max_delay: max_delay.value,
        scan_interval: scan_interval.value,
        atomic,
        xattrs,
        setuid,
        outward_links,
        require_mount,
        bandwidth: bandwidth.map(|at| at.value),
        delete_guard: guard.map_or(25, |at| at.value),
        trash_versions: versions.map_or(10, |at| at.value),
        trash_age: trash_age.value,
        rescue_quota: rescue.map_or(1 << 30, |at| at.value),
        gate: gate.unwrap_or_else(|| section.at(Gate::default())),
        max_age: max_age.value,
        max_pending: pending.map(|at| at.value),
    })
}

/// An absolute path without `..`, which could be compared with no other one.
fn folder(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let path = value::path(value)?;
    let plain = Path::new(&path).components().collect::<PathBuf>();
    if plain.components().any(|part| part == Component::ParentDir) {
        return Err(Wrong::because(
            format!("{} goes up by \"..\"", path.display()),
            "write the path as it is",
        ));
    }
    if plain.parent().is_none() {
        return Err(Wrong::because(
            "the whole file system is no set of state files",
            "name folders",
        ));
    }
    Ok(plain)
}

fn pattern(value: &DeValue<'_>) -> Result<Arc<str>, Wrong> {
    let text = value::free_text(value, PATTERN_MAX)?;
    if text.chars().any(char::is_control) { Err(Wrong::value(value)) } else { Ok(text) }
}
