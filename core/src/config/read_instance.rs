//! `[instance.NAME]` -> [`InstanceDecl`], for one host.
//!
//! Called by `read` once per instance and host, by `read_pool` once per member of a pool and host. Defaults of
//! single keys are given here.

use super::diagnostic::Findings;
use super::keys::{hmac, instance, route, rule};
use super::model::{ChecksumFlavour, Claim, HmacMode, OnConflict, StandbyKind};
use super::schema::{HmacDecl, InstanceDecl, RouteDecl, RuleDecl};
use super::section::{At, Section, refuse};
use super::value::{self, Wrong};
use super::{read_flap, read_program};
use crate::time::Duration;
use crate::types::{Interval, Priority, Version, Vip, Vrid};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Not claiming by preemption after a fault.
const DEFAULT_HOLD_DOWN: Duration = Duration::from_secs(10);
/// Longest wait for a first frame: a port that runs spanning tree forwards within 30 s.
const DEFAULT_SETTLE: Duration = Duration::from_secs(35);
/// Routing table `main`.
const MAIN_TABLE: u32 = 254;
/// Waits before claiming.
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
/// Waits for a first frame.
const SETTLES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
/// Freshness windows of the trailer.
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// What tells one instance from another: in a section of its own it is written, in a pool it is dealt.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) name: At<Arc<str>>,
    /// As [`InstanceDecl::subject`].
    pub(super) subject: Arc<str>,
    pub(super) vrid: Option<At<Vrid>>,
    pub(super) addresses: Option<At<Vec<At<Vip>>>>,
    pub(super) unadvertised: Vec<At<Vip>>,
    pub(super) priority: At<Priority>,
}

/// The identity that a section of its own says.
pub(super) fn read_identity(
    name: At<Arc<str>>,
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Identity {
    let (s, f) = (section, findings);
    let vrid = s.required(&instance::VRID, f, |v| {
        let number = value::integer(v, 1..=255)?;
        Vrid::new(number).map_err(|e| Wrong::Not(e.value))
    });
    s.demand(&instance::ADDRESSES, f);
    let addresses = s.nonempty_list(&instance::ADDRESSES, f, value::virtual_addresses).map(expand);
    let unadvertised = s.list(&instance::UNADVERTISED, f, value::virtual_addresses).map(expand);
    let priority = s
        .optional(&instance::PRIORITY, f, |v| {
            let number = value::integer(v, 1..=255)?;
            Priority::new(number).map_err(|e| Wrong::Not(e.value))
        })
        .unwrap_or_else(|| s.at(default_priority()));
    let unadvertised = unadvertised.map(|list| list.value).unwrap_or_default();
    let subject = format!("instance {}", name.value).into();
    Identity { name, subject, vrid, addresses, unadvertised, priority }
}

/// The instance as the host of the section's scope sees it; `None`: what cannot be left out is missing
/// or wrong (reported).
pub(super) fn read(
    identity: Identity,
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Option<InstanceDecl> {
    let (s, f) = (section, findings);
    let Identity { name, subject, vrid, addresses, unadvertised, priority } = identity;

    // What cannot be left out does not end the attempt before all keys are read, so that all are reported.
    let interface = s.required(&instance::INTERFACE, f, value::interface);
    let version = s
        .optional(&instance::VERSION, f, |v| {
            value::integer(v, 2..=3).map(|n: u8| if n == 2 { Version::V2 } else { Version::V3 })
        })
        .unwrap_or_else(|| s.at(Version::V3));
    let interval = s
        .optional(&instance::ADVERT_INTERVAL, f, |v| value::interval(v, version.value))
        .unwrap_or_else(|| s.at(Interval::SECOND));
    let flag = |key, default: bool, f: &mut Findings<'_>| {
        s.optional(key, f, value::boolean).unwrap_or_else(|| s.at(default))
    };
    let standbys =
        [("hot", StandbyKind::Hot), ("warm", StandbyKind::Warm), ("cold", StandbyKind::Cold)];
    let claims = [("address", Claim::Address), ("route", Claim::Route)];
    let flavours = [("rfc9568", ChecksumFlavour::Rfc9568), ("rfc5798", ChecksumFlavour::Rfc5798)];
    let conflicts = [("alarm", OnConflict::Alarm), ("refuse", OnConflict::Refuse)];
    let fates = [("shared", true), ("independent", false)];

    let preempt = flag(&instance::PREEMPT, true, f);
    let preempt_delay = s.optional(&instance::PREEMPT_DELAY, f, |v| value::duration(v, WAITS));
    let hold_down = s.optional(&instance::HOLD_DOWN, f, |v| value::duration(v, WAITS));
    let accept = flag(&instance::ACCEPT, true, f).value;
    let virtual_mac = flag(&instance::VIRTUAL_MAC, false, f);
    let claim = s
        .optional(&instance::CLAIM, f, |v| value::word(v, &claims))
        .unwrap_or_else(|| s.at(Claim::Address));
    let unicast_peers = s.nonempty_list(&instance::UNICAST_PEERS, f, value::unicast_address);
    let source = s.one_or_list(&instance::SOURCE, f, value::unicast_address);
    let checksum = s.optional(&instance::CHECKSUM, f, |v| value::word(v, &flavours));
    let simple_text = s.optional(&instance::SIMPLE_TEXT, f, value::simple_text);
    let hmac = s.table(&instance::HMAC, f).map(|section| read_hmac(&section, f));
    let lease = s.optional(&instance::LEASE, f, value::on_off).is_none_or(|at| at.value);
    let stale_holder_wait = s.optional(&instance::STALE_HOLDER_WAIT, f, value::on_off);
    let on_conflict = s.optional(&instance::ON_CONFLICT, f, |v| value::word(v, &conflicts));
    let shared_fate = s.optional(&instance::FATE, f, |v| value::word(v, &fates));
    let prefix_route = flag(&instance::PREFIX_ROUTE, false, f).value;
    let targets = s.list(&instance::TARGETS, f, value::unicast_address);
    let strict = flag(&instance::STRICT, false, f);
    let settle = s.optional(&instance::SETTLE, f, |v| value::duration_or(v, SETTLES, "off"));
    let routes = s.tables(&instance::ROUTE, f).iter().filter_map(|r| read_route(r, f)).collect();
    let rules = s.tables(&instance::RULE, f).iter().filter_map(|r| read_rule(r, f)).collect();
    let standby = s
        .optional(&instance::STANDBY, f, |v| value::word(v, &standbys))
        .unwrap_or_else(|| s.at(StandbyKind::Hot));
    let activation = s
        .table(&instance::ACTIVATION, f)
        .and_then(|section| read_program::read_activation(&section, f));
    let checks = s.list(&instance::CHECKS, f, value::name);
    let flap = read_flap::read(s, f);
    let load = s.optional(&instance::LOAD, f, |v| value::integer(v, 0..=1_000_000));

    Some(InstanceDecl {
        name,
        subject,
        vrid: vrid?,
        interface: interface?,
        version,
        addresses: addresses?,
        unadvertised,
        priority,
        interval,
        preempt,
        preempt_delay,
        hold_down: hold_down.map_or(DEFAULT_HOLD_DOWN, |at| at.value),
        accept,
        virtual_mac,
        claim,
        unicast_peers,
        source,
        checksum,
        simple_text,
        hmac,
        lease,
        stale_holder_wait,
        on_conflict,
        shared_fate,
        prefix_route,
        targets: targets.map(|list| list.value).unwrap_or_default(),
        strict,
        settle: settle.map_or(DEFAULT_SETTLE, |at| at.value.unwrap_or_default()),
        routes,
        rules,
        standby,
        activation,
        checks: checks.map(|list| list.value).unwrap_or_default(),
        flap,
        load,
    })
}

/// Priority of a host that is not told otherwise (RFC 9568 section 6.1).
fn default_priority() -> Priority {
    // 100 is legal: the weakest one is never taken.
    Priority::new(100).unwrap_or(Priority::MIN)
}

/// Ranges expanded to addresses; each bears the place of its range.
pub(super) fn expand(ranges: At<Vec<At<Vec<Vip>>>>) -> At<Vec<At<Vip>>> {
    let addresses = ranges.value.into_iter().flat_map(|range| {
        let span = range.span;
        range.value.into_iter().map(move |vip| At { value: vip, span: span.clone() })
    });
    At { value: addresses.collect(), span: ranges.span }
}

fn read_hmac(section: &Section<'_>, findings: &mut Findings<'_>) -> HmacDecl {
    section.refuse_unknown(hmac::ALL, findings);
    let modes = [
        ("receive-only", HmacMode::ReceiveOnly),
        ("permissive", HmacMode::Permissive),
        ("enforce", HmacMode::Enforce),
    ];
    let mode = section.optional(&hmac::MODE, findings, |v| value::word(v, &modes));
    section.demand(&hmac::KEYS, findings);
    let mut keys = Vec::new();
    if let Some(table) = section.table(&hmac::KEYS, findings) {
        for (id, node) in table.entries() {
            let number = id.value.parse::<u8>().ok().filter(|n| n.to_string() == id.value);
            match number.filter(|n| *n > 0) {
                None => {
                    let found = format!("\"{}\"", id.value.escape_debug());
                    refuse(&hmac::KEYS, id.span, Wrong::Not(found), findings);
                }
                Some(number) => match value::path(node.get_ref()) {
                    Ok(path) => keys.push((At { value: number, span: id.span }, path)),
                    Err(wrong) => refuse(&hmac::KEYS, node.span(), wrong, findings),
                },
            }
        }
    }
    keys.sort_by_key(|(id, _)| id.value);
    HmacDecl {
        span: section.span.clone(),
        mode: mode.map_or(HmacMode::Enforce, |at| at.value),
        keys,
        active_key: section.optional(&hmac::ACTIVE_KEY, findings, |v| value::integer(v, 1..=255)),
        window: section
            .optional(&hmac::WINDOW, findings, |v| value::duration_or(v, WINDOWS, "monotonic"))
            .map(|at| at.value),
    }
}

fn read_route(section: &Section<'_>, findings: &mut Findings<'_>) -> Option<RouteDecl> {
    section.refuse_unknown(route::ALL, findings);
    let number = 0..=i64::from(u32::MAX);
    let to = section.required(&route::TO, findings, value::prefix);
    let via = section.optional(&route::VIA, findings, value::unicast_address);
    let src = section.optional(&route::SRC, findings, value::unicast_address);
    let table =
        section.optional(&route::TABLE, findings, |v| value::integer(v, 1..=i64::from(u32::MAX)));
    let metric = section.optional(&route::METRIC, findings, |v| value::integer(v, number));
    Some(RouteDecl {
        to: to?,
        via,
        src,
        table: table.map_or(MAIN_TABLE, |at| at.value),
        metric: metric.map_or(0, |at| at.value),
    })
}

fn read_rule(section: &Section<'_>, findings: &mut Findings<'_>) -> Option<RuleDecl> {
    section.refuse_unknown(rule::ALL, findings);
    let from = section.optional(&rule::FROM, findings, value::prefix);
    let to = section.optional(&rule::TO, findings, value::prefix);
    let table =
        section.required(&rule::TABLE, findings, |v| value::integer(v, 1..=i64::from(u32::MAX)));
    let preference =
        section.required(&rule::PREFERENCE, findings, |v| value::integer(v, 1..=32_765));
    Some(RuleDecl {
        span: section.span.clone(),
        from,
        to,
        table: table?.value,
        preference: preference?,
    })
}
