//! `[pool.NAME]` -> one instance per address, named `NAME-VRID`, with the hosts ranked for each of them.
//!
//! Called by `read`. A pool is a way to write instances: nothing after the loader knows of it.

use super::diagnostic::Findings;
use super::keys::{pool, pool_keys};
use super::rank;
use super::read_instance::{self, Identity};
use super::schema::InstanceDecl;
use super::section::{At, LeftOut, Scope, Section, unknown_name};
use super::value::{self, Wrong};
use crate::types::{Priority, Vrid};
use std::sync::Arc;
use toml::de::DeValue;

/// Priority of the host that leads.
const FIRST_PRIORITY: u8 = 200;
/// From one host to the next: less than what a check of the default weight takes beyond the default
/// stickiness, so that a degraded host loses its addresses; 32 hosts still end above 1.
const STEP: u8 = 5;

/// Adds the instances of the pool to `names` and, for each host, to `views`.
pub(super) fn read(
    name: &At<Arc<str>>,
    section: &Section<'_>,
    hosts: &[Arc<str>],
    names: &mut Vec<At<Arc<str>>>,
    views: &mut [Vec<InstanceDecl>],
    findings: &mut Findings<'_>,
) {
    section.refuse_unknown(&pool_keys(), findings);
    let Some(members) = members(name, section, findings) else { return };
    let taking_part = taking_part(name, section, hosts, findings);
    for member in &members {
        if let Some(other) = names.iter().find(|other| other.value == member.name.value) {
            findings.error(
                &member.name.span,
                format!(
                    "pool {} makes an instance {}, and line {} has one of that name",
                    name.value,
                    other.value,
                    findings.line_of(other.span.start)
                ),
                "rename the pool or the instance, or use another VRID",
            );
            return;
        }
    }
    names.extend(members.iter().map(|identity| identity.name.clone()));
    let rankings = rank::rankings(taking_part.len(), members.len());
    for (me, view) in hosts.iter().zip(views) {
        let Some(place_of_me) = taking_part.iter().position(|host| host == me) else { continue };
        let scope = Scope { hosts, taking_part: &taking_part, me, left_out: LeftOut::ByPool };
        let section = section.per_host(scope);
        for (member, ranking) in members.iter().zip(&rankings) {
            let rank = ranking.iter().position(|host| *host == place_of_me).unwrap_or_default();
            let priority = At { value: priority(rank), span: member.priority.span.clone() };
            view.extend(read_instance::read(
                Identity { priority, ..member.clone() },
                &section,
                findings,
            ));
        }
    }
}

/// Priority of the host at `rank`, counted from 0.
fn priority(rank: usize) -> Priority {
    let below = u8::try_from(rank).unwrap_or(u8::MAX).saturating_mul(STEP);
    // More hosts than a group may have are refused elsewhere.
    Priority::new(FIRST_PRIORITY.saturating_sub(below).max(1)).unwrap_or(Priority::MIN)
}

/// One identity per VRID, all with a priority that is still to be dealt; `None`: reported.
fn members(
    name: &At<Arc<str>>,
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Option<Vec<Identity>> {
    let before = findings.count();
    section.demand(&pool::VRIDS, findings);
    section.demand(&pool::ADDRESSES, findings);
    let ranges = section.one_or_list(&pool::VRIDS, findings, vrids);
    let addresses = section
        .nonempty_list(&pool::ADDRESSES, findings, value::virtual_addresses)
        .map(read_instance::expand)?;
    let vrids: Vec<At<Vrid>> = ranges
        .into_iter()
        .flat_map(|range| {
            let span = range.span;
            range.value.into_iter().map(move |value| At { value, span: span.clone() })
        })
        .collect();
    if findings.count() != before {
        return None;
    }
    for (at, vrid) in vrids.iter().enumerate() {
        if vrids[..at].iter().any(|other| other.value == vrid.value) {
            findings.error(
                &vrid.span,
                format!("vrid {} is twice in pool {}", vrid.value, name.value),
                "give every address a VRID of its own",
            );
            return None;
        }
    }
    if vrids.len() != addresses.value.len() {
        findings.error(
            &addresses.span,
            format!(
                "pool {} has {} addresses and {} VRIDs: each address moves by itself and needs one",
                name.value,
                addresses.value.len(),
                vrids.len()
            ),
            "write as many VRIDs as addresses",
        );
        return None;
    }
    let subject: Arc<str> = format!("pool {}", name.value).into();
    let member = |vrid: At<Vrid>, vip: At<_>| {
        let span = vrid.span.clone();
        Identity {
            name: At { value: format!("{}-{}", name.value, vrid.value).into(), span: span.clone() },
            subject: Arc::clone(&subject),
            vrid: Some(vrid),
            addresses: Some(At { span: vip.span.clone(), value: vec![vip] }),
            unadvertised: Vec::new(),
            priority: At { value: priority(0), span },
        }
    };
    let members: Vec<Identity> =
        vrids.into_iter().zip(addresses.value).map(|(vrid, vip)| member(vrid, vip)).collect();
    if let Some(long) =
        members.iter().find(|m| value::is_name(&name.value) && !value::is_name(&m.name.value))
    {
        findings.error(
            &name.span,
            format!(
                "the instances of the pool would bear names like {}, which is too long",
                long.name.value
            ),
            "shorten the name of the pool to 60 characters or less",
        );
    }
    Some(members)
}

/// `100`, `"100"` or `"100-111"`.
fn vrids(value: &DeValue<'_>) -> Result<Vec<Vrid>, Wrong> {
    let range: (u8, u8) = if let DeValue::Integer(_) = value {
        let number = value::integer(value, 1..=255)?;
        (number, number)
    } else {
        let text = value::text(value)?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u8>().ok().filter(|n| digits && *n > 0)
        };
        number(first).zip(number(last)).ok_or_else(|| Wrong::value(value))?
    };
    let (first, last) = range;
    if first > last {
        return Err(Wrong::because(
            format!("the range {first}-{last} runs backwards"),
            format!("write \"{last}-{first}\""),
        ));
    }
    Ok((first..=last).filter_map(|number| Vrid::new(number).ok()).collect())
}

/// The hosts that share the pool: those of `hosts`, else all of them; sorted by name.
fn taking_part(
    name: &At<Arc<str>>,
    section: &Section<'_>,
    hosts: &[Arc<str>],
    findings: &mut Findings<'_>,
) -> Vec<Arc<str>> {
    let Some(list) = section.nonempty_list(&pool::HOSTS, findings, value::name) else {
        return hosts.to_vec();
    };
    for named in &list.value {
        if !hosts.contains(&named.value) {
            unknown_name(
                "host",
                At { value: named.value.as_ref(), span: named.span.clone() },
                &format!("pool {}", name.value),
                "[hosts.NAME]",
                hosts,
                findings,
            );
        }
    }
    let named = |host: &&Arc<str>| list.value.iter().any(|at| at.value == **host);
    hosts.iter().filter(named).cloned().collect()
}
