//! Programs of the operator: `[hook.NAME]`, `[instance.NAME.activation]`, script checks.
//!
//! Called by `read`, `read_instance` and `read_check`, once per host.

use super::diagnostic::Findings;
use super::keys::{Key, activation, hook};
use super::model::{Account, Call, Moment};
use super::schema::{ActivationDecl, HookDecl, HookRunDecl, ProgramDecl};
use super::section::{At, Section, Span, refuse};
use super::value::{self, Wrong};
use crate::time::Duration;
use std::ops::RangeInclusive;
use std::sync::Arc;
use toml::de::DeValue;

/// Time for an activation that is not told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that a hook may take.
const HOOK_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(600);
/// Time that an activation may take, readiness included.
const ACTIVATION_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);
/// Longest argument or value of an environment variable, octets.
const TEXT_MAX: usize = 4096;
/// From one run of a hook to the next.
const INTERVALS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(168 * 3600);
/// Quiet after a change, and what it is if nothing is written.
const DEBOUNCES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const DEFAULT_DEBOUNCE: Duration = Duration::from_millis(500);
/// What the executor sets itself.
const OWN_VARIABLES: &str = "VIPD_";

/// The absolute path of a program and its arguments; `None`: not written, or reported.
pub(super) fn argv(
    section: &Section<'_>,
    key: &Key,
    findings: &mut Findings<'_>,
) -> Option<Vec<Arc<str>>> {
    let before = findings.count();
    let list = section.nonempty_list(key, findings, |value| {
        let text = value::text(value)?;
        let legal = text.len() <= TEXT_MAX && !text.contains('\0');
        if legal { Ok(Arc::<str>::from(text)) } else { Err(Wrong::value(value)) }
    })?;
    if let Some(program) = list.value.first()
        && value::path(&DeValue::String(program.value.as_ref().into())).is_err()
    {
        findings.error(
            &program.span,
            format!("the program \"{}\" is not an absolute path", program.value.escape_debug()),
            "programs are started without a shell and without a search path: write the whole path",
        );
    }
    (findings.count() == before).then(|| list.value.into_iter().map(|arg| arg.value).collect())
}

/// `user`: as whom.
pub(super) fn account(section: &Section<'_>, key: &Key, findings: &mut Findings<'_>) -> Account {
    section
        .optional(key, findings, value::user)
        .map_or(Account::Default, |at| Account::User(at.value))
}

/// `env`: texts by name, sorted by name.
pub(super) fn env(
    section: &Section<'_>,
    key: &Key,
    findings: &mut Findings<'_>,
) -> Vec<(Arc<str>, Arc<str>)> {
    let Some(table) = section.table(key, findings) else { return Vec::new() };
    let mut env = Vec::new();
    for (name, node) in table.entries() {
        let legal = name.value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !legal {
            let why = format!("\"{}\" is not the name of a variable", name.value.escape_debug());
            let fix = "use letters, digits and '_', beginning with a letter or '_'".to_owned();
            refuse(key, name.span, Wrong::Because(why, fix), findings);
            continue;
        }
        if name.value.starts_with(OWN_VARIABLES) {
            let why = format!(
                "{} is vipd's own: variables that begin with {OWN_VARIABLES} say what happened",
                name.value
            );
            refuse(key, name.span, Wrong::Because(why, "choose another name".to_owned()), findings);
            continue;
        }
        match node.get_ref().as_str() {
            Some(text) if text.len() <= TEXT_MAX && !text.contains('\0') => {
                env.push((Arc::from(name.value), Arc::from(text)));
            }
            _ => refuse(key, node.span(), Wrong::value(node.get_ref()), findings),
        }
    }
    env.sort();
    env
}

/// `[instance.NAME.activation]`.
pub(super) fn read_activation(
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Option<ActivationDecl> {
    section.refuse_unknown(activation::ALL, findings);
    section.demand(&activation::RUN, findings);
    let argv = argv(section, &activation::RUN, findings);
    let ready = section.optional(&activation::READY, findings, value::name);
    let timeout = section
        .optional(&activation::TIMEOUT, findings, |v| value::duration(v, ACTIVATION_TIMEOUTS));
    let account = account(section, &activation::USER, findings);
    let env = env(section, &activation::ENV, findings);
    let timeout = timeout.map_or(DEFAULT_TIMEOUT, |at| at.value);
    let program = ProgramDecl { argv: argv?, account, env, timeout };
    Some(ActivationDecl { span: section.span.clone(), program, ready })
}

/// `[hook.NAME]` as the host of the section's scope sees it; `None`: something is wrong (reported).
pub(super) fn read_hook(
    name: At<Arc<str>>,
    section: &Section<'_>,
    findings: &mut Findings<'_>,
) -> Option<HookDecl> {
    section.refuse_unknown(hook::ALL, findings);
    section.demand(&hook::ON, findings);
    let on = section.nonempty_list(&hook::ON, findings, |v| value::word(v, &Moment::ALL));
    let instances = section.nonempty_list(&hook::INSTANCES, findings, value::name);
    let timeout = section.optional(&hook::TIMEOUT, findings, |v| value::duration(v, HOOK_TIMEOUTS));
    let interval = section.optional(&hook::INTERVAL, findings, |v| value::duration(v, INTERVALS));
    let watch = section.nonempty_list(&hook::WATCH, findings, value::path);
    let debounce = section.optional(&hook::DEBOUNCE, findings, |v| value::duration(v, DEBOUNCES));
    let mut moments: Vec<Moment> =
        on.iter().flat_map(|list| &list.value).map(|at| at.value).collect();
    moments.sort_unstable();
    moments.dedup();
    let timeout = timeout.map(|at| at.value);
    let longest = timeout.or_else(|| moments.iter().map(|m| m.time()).max()).unwrap_or_default();
    let run = read_run(section, longest, findings);
    if let (Some(on), Some(run)) = (&on, &run) {
        check_moments(section, &moments, &on.span, run, findings);
    }
    on?;
    Some(HookDecl {
        name,
        on: moments,
        instances: instances.map(|l| l.value).unwrap_or_default(),
        run: run?,
        timeout,
        interval: interval.map(|at| at.value),
        watch: watch.map(|l| l.value.into_iter().map(|at| at.value).collect()).unwrap_or_default(),
        debounce: debounce.map_or(DEFAULT_DEBOUNCE, |at| at.value),
    })
}

/// What the moments of a hook need, and what needs them.
fn check_moments(
    section: &Section<'_>,
    on: &[Moment],
    span: &Span,
    run: &HookRunDecl,
    findings: &mut Findings<'_>,
) {
    let has = |moment: Moment| on.contains(&moment);
    let written = |key: &Key| section.raw(key).is_some();
    let title = &section.title;
    let strange = on.iter().find(|m| !m.is_state());
    if let (Some(moment), false) = (strange, matches!(run, HookRunDecl::Program(_, Call::Vipd))) {
        let word = Moment::ALL.iter().find(|(_, m)| m == moment).map_or("", |(word, _)| word);
        findings.error(
            span,
            format!("{title} speaks as keepalived does, which knows no \"{word}\""),
            "use run with call = \"vipd\", or keep to active, backup, fault and stop",
        );
    }
    if has(Moment::SyncChange) && !written(&hook::WATCH) {
        findings.error(
            span,
            format!("{title} runs on sync-change and watches nothing"),
            format!("add watch = {}", hook::WATCH.example),
        );
    }
    let paced = has(Moment::SyncInterval) || has(Moment::Verify);
    for (key, needed, moments) in [
        (hook::WATCH, has(Moment::SyncChange), "\"sync-change\""),
        (hook::DEBOUNCE, has(Moment::SyncChange), "\"sync-change\""),
        (hook::INTERVAL, paced, "\"sync-interval\" or \"verify\""),
    ] {
        if written(&key) && !needed {
            findings.error(
                &section.key_span(&key),
                format!("{title} has {} and never runs on {moments}", key.name),
                format!("add {moments} to on, or remove {}", key.name),
            );
        }
    }
    if has(Moment::PreDemote) && !has(Moment::PostPromote) {
        findings.warning(
            span,
            format!("{title} runs on pre-demote and not on post-promote"),
            "a move that is given up after pre-demote is told as post-promote: add it, so that what was stopped goes on",
        );
    }
}

fn read_run(
    section: &Section<'_>,
    timeout: Duration,
    findings: &mut Findings<'_>,
) -> Option<HookRunDecl> {
    let calls = [("vipd", Call::Vipd), ("keepalived", Call::Keepalived)];
    let fifo = section.optional(&hook::FIFO, findings, value::path);
    let argv = argv(section, &hook::RUN, findings);
    let call = section.optional(&hook::CALL, findings, |v| value::word(v, &calls));
    let account = account(section, &hook::USER, findings);
    let env = env(section, &hook::ENV, findings);
    match (section.raw(&hook::RUN).is_some(), section.raw(&hook::FIFO).is_some()) {
        (false, false) => {
            findings.error(
                &section.span,
                format!("{} has neither run nor fifo", section.title),
                format!("add run = {} or fifo = {}", hook::RUN.example, hook::FIFO.example),
            );
            None
        }
        (true, true) => {
            findings.error(
                &section.key_span(&hook::FIFO),
                format!("{} has both run and fifo", section.title),
                "make two hooks of it",
            );
            None
        }
        (false, true) => {
            for key in [hook::CALL, hook::USER, hook::ENV, hook::TIMEOUT] {
                if section.raw(&key).is_some() {
                    findings.error(
                        &section.key_span(&key),
                        format!(
                            "{} is about a program, and {} writes into a fifo",
                            key.name, section.title
                        ),
                        format!("remove {}, or use run instead of fifo", key.name),
                    );
                }
            }
            fifo.map(|path| HookRunDecl::Fifo(path.value))
        }
        (true, false) => {
            let call = call.map_or(Call::Vipd, |at| at.value);
            argv.map(|argv| HookRunDecl::Program(ProgramDecl { argv, account, env, timeout }, call))
        }
    }
}
