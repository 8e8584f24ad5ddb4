//! `[check.NAME]` -> [`CheckDecl`], for one host.
//!
//! Called by `read` once per check and host that uses it. Defaults of single keys are given here; those
//! that depend on the kind are in [`default_severity`] and [`default_weight`].

use super::diagnostic::Findings;
use super::keys::{KINDS, Key, check};
use super::model::{DnsRecord, HttpProbe, Probe, Process, Resource, Severity};
use super::read_program;
use super::schema::{CheckDecl, ProbeDecl, ProgramDecl};
use super::section::{At, Section};
use super::target;
use super::value;
use crate::time::Duration;
use crate::types::Family;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_FALL: u32 = 3;
const DEFAULT_RISE: u32 = 2;
/// A certificate is replaced within two weeks of the first warning.
const DEFAULT_EXPIRY: Duration = Duration::from_secs(14 * 86_400);
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
const EXPIRIES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(90 * 86_400);
const AGES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// Most addresses that one check pings.
const TARGETS_MAX: usize = 16;
/// Longest text that is searched for in an answer.
const BODY_MAX: usize = 1024;
/// What the kernel's figures never reach.
const NEVER: f32 = 100.0;

/// The check as the host of the section's scope sees it; `None`: something is wrong (reported).
pub(super) fn read(
    name: At<Arc<str>>,
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Option<CheckDecl> {
    let (s, f) = (section, findings);
    s.refuse_unknown(check::ALL, f);
    let (interval, timeout) = read_times(s, f);
    let fall = s.optional(&check::FALL, f, |v| value::integer(v, 1..=100));
    let rise = s.optional(&check::RISE, f, |v| value::integer(v, 1..=100));
    let severities = [
        ("info", Severity::Info),
        ("degrade", Severity::Degrade),
        ("fail", Severity::Fail),
        ("fatal", Severity::Fatal),
        ("drain", Severity::Drain),
    ];
    let severity = s.optional(&check::SEVERITY, f, |v| value::word(v, &severities));
    let weight = s.optional(&check::WEIGHT, f, |v| value::integer(v, 0..=253));

    let kind = kind_of(s, f)?;
    let probe = read_probe(kind, timeout, s, f)?;
    let severity = severity.unwrap_or_else(|| s.at(default_severity(&probe)));
    if severity.value == Severity::Drain && !is_switch(&probe) {
        f.error(
            &severity.span,
            format!(
                "severity \"drain\" is for a switch of the operator, and {} is none",
                kind.name
            ),
            "use it with absent, file or script; here \"fail\" moves the address and takes it back",
        );
    }
    let weighs = severity.value == Severity::Degrade
        || (severity.value != Severity::Info && probe.can_warn());
    if let Some(weight) = &weight
        && !weighs
    {
        f.warning(
            &weight.span,
            "weight has no effect: it counts while a check warns, and while it fails with severity \"degrade\"",
            "remove weight, or write severity = \"degrade\"",
        );
    }
    Some(CheckDecl {
        name,
        weight: weight.unwrap_or_else(|| s.at(default_weight(&probe))),
        probe: At { value: probe, span: s.key_span(&kind) },
        interval,
        timeout,
        fall: fall.map_or(DEFAULT_FALL, |at| at.value),
        rise: rise.map_or(DEFAULT_RISE, |at| at.value),
        severity,
    })
}

/// `interval` and `timeout`: a run ends before the next one begins.
fn read_times(section: &Section<'_>, findings: &mut Findings<'_>) -> (Duration, Duration) {
    let interval = section.optional(&check::INTERVAL, findings, |v| value::duration(v, INTERVALS));
    let timeout = section.optional(&check::TIMEOUT, findings, |v| value::duration(v, TIMEOUTS));
    let length = interval.map_or(DEFAULT_INTERVAL, |at| at.value);
    match timeout {
        None => (length, DEFAULT_TIMEOUT.min(length)),
        Some(timeout) => {
            if timeout.value > length {
                findings.error(
                    &timeout.span,
                    format!("timeout {:?} is longer than the interval {length:?}: the next run would be due before this one ends", timeout.value),
                    format!("timeout = \"{}ms\" or less, or a longer interval", length.as_millis()),
                );
            }
            (length, timeout.value)
        }
    }
}

/// What a failure means where the file does not say. A resource that is short is short on an equal twin
/// soon as well: it costs priority; thrashing memory and a full disk stop the service.
fn default_severity(probe: &ProbeDecl) -> Severity {
    match probe {
        ProbeDecl::Whole(Probe::Absent { .. }) => Severity::Drain,
        ProbeDecl::Whole(
            Probe::File { .. } | Probe::Pressure { resource: Resource::Cpu | Resource::Io, .. },
        ) => Severity::Degrade,
        _ => Severity::Fail,
    }
}

fn default_weight(probe: &ProbeDecl) -> u8 {
    if matches!(probe, ProbeDecl::Gateway { .. }) { 50 } else { 20 }
}

/// Is it something that an operator turns on and off?
fn is_switch(probe: &ProbeDecl) -> bool {
    matches!(probe, ProbeDecl::Whole(Probe::Absent { .. } | Probe::File { .. } | Probe::Script(_)))
}

/// The one key that says the kind; reports keys that belong to other kinds.
fn kind_of(section: &Section<'_>, findings: &mut Findings<'_>) -> Option<Key> {
    let mut written = KINDS.iter().filter(|(kind, _)| section.raw(kind).is_some());
    let Some((kind, own)) = written.next() else {
        let names: Vec<_> = KINDS.iter().map(|(kind, _)| kind.name).collect();
        findings.error(
            &section.span,
            format!("{} does not say what it looks at", section.title),
            format!("add one of: {}", names.join(", ")),
        );
        return None;
    };
    let mut only = true;
    for (other, _) in written {
        only = false;
        findings.error(
            &section.key_span(other),
            format!(
                "{} has {} and {}: a check looks at one thing",
                section.title, kind.name, other.name
            ),
            "make two checks of it",
        );
    }
    let others = KINDS.iter().flat_map(|(_, keys)| *keys);
    for key in others.filter(|key| section.raw(key).is_some()) {
        if only && !own.iter().any(|k| k.name == key.name) {
            let takers = KINDS.iter().filter(|(_, keys)| keys.iter().any(|k| k.name == key.name));
            let takers: Vec<_> = takers.map(|(kind, _)| kind.name).collect();
            findings.error(
                &section.key_span(key),
                format!(
                    "{} is for checks of kind {}, and {} is of kind {}",
                    key.name,
                    takers.join(", "),
                    section.title,
                    kind.name
                ),
                format!("remove {}", key.name),
            );
        }
    }
    only.then_some(*kind)
}

/// What is looked at; `None`: reported.
fn read_probe(
    kind: Key,
    timeout: Duration,
    s: &Section<'_>,
    f: &mut Findings<'_>,
) -> Option<ProbeDecl> {
    let whole = match kind.name {
        "instance" => {
            let name = s.optional(&kind, f, value::name);
            let active = s.optional(&check::ACTIVE, f, value::boolean);
            let active = active.is_some_and(|at| at.value);
            return name.map(|at| ProbeDecl::Instance { name: at.value, active });
        }
        "gateway" => {
            let addr = s.optional(&kind, f, value::unicast_address);
            let interface = s.optional(&check::INTERFACE, f, value::interface);
            return addr.map(|at| ProbeDecl::Gateway { addr: at.value, interface });
        }
        "link" => {
            let interface = s.optional(&kind, f, value::interface);
            let min_speed = s.optional(&check::MIN_SPEED, f, |v| value::integer(v, 1..=1_000_000));
            let min_slaves = s.optional(&check::MIN_SLAVES, f, |v| value::integer(v, 1..=64));
            Probe::Link {
                interface: interface?.value,
                min_speed: min_speed.map(|at| at.value),
                min_slaves: min_slaves.map(|at| at.value),
            }
        }
        "address" => Probe::Address { addr: s.optional(&kind, f, value::unicast_address)?.value },
        "route" => Probe::Route { to: s.optional(&kind, f, value::prefix)?.value },
        "ping" => {
            return read_ping(&kind, s, f).map(ProbeDecl::Whole);
        }
        "tcp" => {
            let to = s.optional(&kind, f, target::address_with_port);
            let source = read_source(to.as_ref().map(|at| at.value.ip()), s, f);
            Probe::Tcp { to: to?.value, source }
        }
        "http" => Probe::Http(read_http(&kind, s, f)?),
        "dns" => {
            let server = s.optional(&kind, f, target::dns_server);
            let name = s.required(&check::NAME, f, target::domain_name);
            let record = s.optional(&check::RECORD, f, |v| value::word(v, &target::RECORDS));
            Probe::Dns {
                server: server?.value,
                name: name?.value,
                record: record.map_or(DnsRecord::A, |at| at.value),
            }
        }
        "unix" => Probe::Unix { path: s.optional(&kind, f, target::unix_path)?.value },
        "unit" => Probe::Unit { name: s.optional(&kind, f, target::unit)?.value },
        "process" => {
            let name = s.optional(&kind, f, target::process);
            let at_least = s.optional(&check::AT_LEAST, f, |v| value::integer(v, 1..=10_000));
            let at_most = s.optional(&check::AT_MOST, f, |v| value::integer(v, 0..=10_000));
            if let (Some(least), Some(most)) = (&at_least, &at_most)
                && most.value < least.value
            {
                f.error(
                    &most.span,
                    format!(
                        "at-most {} is below at-least {}: it could never pass",
                        most.value, least.value
                    ),
                    "write an at-most that is not below at-least, or leave one of them out",
                );
            }
            let at_most = at_most.map(|at| at.value);
            // Of what may not run at all none has to.
            let at_least = at_least.map_or_else(|| at_most.unwrap_or(1).min(1), |at| at.value);
            Probe::Process(Process::Name { name: name?.value, at_least, at_most })
        }
        "pid-file" => Probe::Process(Process::PidFile(s.optional(&kind, f, value::path)?.value)),
        "script" => {
            let argv = read_program::argv(s, &kind, f);
            let account = read_program::account(s, &check::USER, f);
            let env = read_program::env(s, &check::ENV, f);
            Probe::Script(ProgramDecl { argv: argv?, account, env, timeout }.into())
        }
        "file" => {
            let path = s.optional(&kind, f, value::path);
            let max_age = s.optional(&check::MAX_AGE, f, |v| value::duration(v, AGES));
            Probe::File { path: path?.value, max_age: max_age.map(|at| at.value) }
        }
        "absent" => Probe::Absent { path: s.optional(&kind, f, value::path)?.value },
        "pressure" => read_pressure(&kind, s, f)?,
        _ => read_disk(&kind, s, f)?,
    };
    Some(ProbeDecl::Whole(whole))
}

/// `ping`: one address or several, of which `at-least` have to answer.
fn read_ping(key: &Key, s: &Section<'_>, f: &mut Findings<'_>) -> Option<Probe> {
    let targets = s.one_or_list(key, f, value::unicast_address);
    let at_least = s.optional(&check::AT_LEAST, f, |v| value::integer::<usize>(v, 1..=10_000));
    let mut addrs: Vec<IpAddr> = Vec::new();
    for target in &targets {
        if addrs.contains(&target.value) {
            f.error(&target.span, format!("{} is asked twice", target.value), "name it once");
        }
        addrs.push(target.value);
    }
    if addrs.len() > TARGETS_MAX {
        f.error(
            &s.key_span(key),
            format!("{} addresses, and a check asks {TARGETS_MAX} at most", addrs.len()),
            "name fewer, or make two checks of it",
        );
    }
    let least = at_least.as_ref().map_or(1, |at| at.value);
    if let Some(at) = &at_least
        && least > addrs.len()
    {
        f.error(
            &at.span,
            format!("at-least {least} of {} addresses: it could never pass", addrs.len()),
            format!("at-least = {} or less, or more addresses", addrs.len().max(1)),
        );
    }
    let mut source = None;
    for target in &addrs {
        source = read_source(Some(*target), s, f);
    }
    if addrs.is_empty() {
        if s.raw(key).is_some_and(|v| v.get_ref().is_array()) {
            f.error(&s.key_span(key), "nobody is asked", "name at least one address");
        }
        return None;
    }
    Some(Probe::Ping { addrs, at_least: least, source })
}

/// `source`, of the same family as what is asked.
fn read_source(
    to: Option<IpAddr>,
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Option<IpAddr> {
    let source = section.optional(&check::SOURCE, findings, value::unicast_address)?;
    if let Some(to) = to
        && Family::of(&to) != Family::of(&source.value)
    {
        findings.error(
            &source.span,
            format!("source {} and {to} are of different families", source.value),
            format!("use an {} source, or leave it out", Family::of(&to)),
        );
    }
    Some(source.value)
}

fn read_http(key: &Key, s: &Section<'_>, f: &mut Findings<'_>) -> Option<HttpProbe> {
    let url = s.optional(key, f, target::url);
    let method = s.optional(&check::METHOD, f, target::method);
    let host = s.optional(&check::HOST, f, target::host_header);
    let status = s.one_or_list(&check::STATUS, f, target::statuses);
    let body = s.optional(&check::BODY, f, |v| value::free_text(v, BODY_MAX));
    let server_name = s.optional(&check::SERVER_NAME, f, target::server_name);
    let verify = s.optional(&check::VERIFY, f, value::boolean).is_none_or(|at| at.value);
    let ca_file = s.optional(&check::CA_FILE, f, value::path);
    let expiry = s.optional(&check::EXPIRY, f, |v| value::duration(v, EXPIRIES));
    let url = url?.value;
    if !url.tls {
        for key in [check::SERVER_NAME, check::VERIFY, check::CA_FILE, check::EXPIRY] {
            if s.raw(&key).is_some() {
                f.error(
                    &s.key_span(&key),
                    format!("{} is about TLS, and the URL begins with http://", key.name),
                    format!("remove {}, or write https://", key.name),
                );
            }
        }
    }
    if let Some(ca_file) = &ca_file
        && !verify
    {
        f.warning(
            &ca_file.span,
            "ca-file has no effect: verify = false accepts any certificate",
            "remove verify = false",
        );
    }
    let method = method.map_or_else(|| "GET".into(), |at| at.value);
    if let Some(body) = &body
        && &*method == "HEAD"
    {
        f.error(&body.span, "an answer to HEAD has no body", "use method = \"GET\"");
    }
    let any_good = || vec![(200, 399)];
    let status: Vec<(u16, u16)> = status.into_iter().map(|at| at.value).collect();
    Some(HttpProbe {
        host_header: host.map_or(url.authority, |at| at.value),
        server_name: server_name.map_or_else(|| Arc::clone(&url.host), |at| at.value),
        url: url.whole,
        tls: url.tls,
        host: url.host,
        port: url.port,
        path: url.path,
        method,
        status: if status.is_empty() { any_good() } else { status },
        body: body.map(|at| at.value),
        verify,
        ca_file: ca_file.map(|at| at.value),
        expiry: expiry.map_or(DEFAULT_EXPIRY, |at| at.value),
    })
}

fn read_pressure(key: &Key, s: &Section<'_>, f: &mut Findings<'_>) -> Option<Probe> {
    let words = [("cpu", Resource::Cpu), ("memory", Resource::Memory), ("io", Resource::Io)];
    let resource = s.optional(key, f, |v| value::word(v, &words));
    let warn = s.optional(&check::WARN, f, value::percent).map(|at| at.value);
    let fail = s.optional(&check::FAIL, f, value::percent).map(|at| at.value);
    let resource = resource?.value;
    let (default_warn, default_fail) = match resource {
        Resource::Cpu => (60.0, NEVER),
        Resource::Memory => (20.0, 60.0),
        Resource::Io => (40.0, NEVER),
    };
    let (warn, fail) = (warn.unwrap_or(default_warn), fail.unwrap_or(default_fail));
    if warn > fail {
        f.error(
            &threshold_span(s),
            format!("warn {warn} is above fail {fail}: it would fail before it warns"),
            "write a warn below fail; left out, they depend on the resource",
        );
    }
    Some(Probe::Pressure { resource, warn, fail })
}

fn read_disk(key: &Key, s: &Section<'_>, f: &mut Findings<'_>) -> Option<Probe> {
    let path: Option<At<PathBuf>> = s.optional(key, f, value::folder);
    let warn = s.optional(&check::WARN, f, value::percent).map_or(5.0, |at| at.value);
    let fail = s.optional(&check::FAIL, f, value::percent).map_or(1.0, |at| at.value);
    let write = s.optional(&check::WRITE, f, value::boolean).is_some_and(|at| at.value);
    if warn < fail {
        f.error(
            &threshold_span(s),
            format!(
                "warn {warn} is below fail {fail}: of free space, it would fail before it warns"
            ),
            "write a warn above fail; left out, they are 5 and 1",
        );
    }
    Some(Probe::Disk { path: path?.value, warn, fail, write })
}

/// The threshold that is written: `warn`, else `fail`.
fn threshold_span(section: &Section<'_>) -> super::section::Span {
    let key = if section.raw(&check::WARN).is_some() { check::WARN } else { check::FAIL };
    section.key_span(&key)
}
