//! Configuration: TOML text -> `schema` (typed values with places) -> check (what can be proved)
//! -> [`model`].
//!
//! Called by `vipd run`, `vipd check` and the tests. It reads no files: the caller hands over the text,
//! and looks after what only the machine knows (does the interface exist, who may read the key file).
//!
//! The walk over the parsed document is by hand and not by `Deserialize`: it keeps the place of every
//! key and value, resolves per-host tables in one spot, and goes on after an error, so that one run
//! reports all of them.

mod canonical;
mod check;
mod diagnostic;
pub mod diff;
mod duration;
mod hash;
pub mod import;
mod keys;
pub mod model;
mod rank;
mod read;
mod read_check;
mod read_flap;
mod read_instance;
mod read_pool;
mod read_program;
mod read_replicate;
pub mod reference;
mod resolve;
mod resolve_health;
mod schema;
mod section;
mod shape;
mod size;
mod target;
mod value;

pub use diagnostic::{Diagnostic, Severity, Style};
pub use duration::parse as parse_duration;
pub use hash::stable_hash;

use diagnostic::Findings;
use model::Model;
use section::Span;
use toml::de::DeTable;

/// The configuration as `host` sees it, with warnings. `text` is the content of the file, `file` its
/// name for messages.
///
/// # Errors
/// Every error of the file, warnings included, in the order of the text: syntax errors alone when there
/// are any; else all wrong values; and that `host` is not in `[hosts]`. The verdict on the file is the
/// same on every host.
pub fn load(
    text: &str,
    file: &str,
    host: &str,
) -> Result<(Model, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut findings = Findings::new(text);
    let Some((mut models, hosts)) = models(text, file, &mut findings) else {
        return Err(findings.into_sorted());
    };
    let names: Vec<&str> = models.iter().map(|m| m.host_name(m.host).as_ref()).collect();
    let Some(at) = names.iter().position(|name| *name == host) else {
        findings.error(
            &hosts,
            format!("{file} has no host \"{}\"", host.escape_debug()),
            format!("add it, or choose one of the hosts with --host: {}", names.join(", ")),
        );
        return Err(findings.into_sorted());
    };
    Ok((models.swap_remove(at), findings.into_sorted()))
}

/// The configuration as each host sees it, by [`crate::types::HostIx`], with warnings.
///
/// # Errors
/// As [`load`], but for the host.
pub fn load_all_hosts(
    text: &str,
    file: &str,
) -> Result<(Vec<Model>, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut findings = Findings::new(text);
    match models(text, file, &mut findings) {
        Some((models, _)) => Ok((models, findings.into_sorted())),
        None => Err(findings.into_sorted()),
    }
}

/// The models of all hosts and the place of `[hosts]`; `None`: there are errors among the findings.
fn models(text: &str, file: &str, findings: &mut Findings<'_>) -> Option<(Vec<Model>, Span)> {
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        findings.error(
            &error.span().unwrap_or_default(),
            format!("{file} is not TOML here: {}", error.message()),
            "correct the syntax: strings stand in quotes, lists in [], tables in {}, sections begin with [NAME]",
        );
    }
    // What the parser recovers after a syntax error is a guess: no findings are made from it.
    if findings.has_errors() {
        return None;
    }
    let declared = read::read(document.get_ref(), findings);
    check::check(&declared, findings);
    (!findings.has_errors()).then(|| (resolve::resolve(&declared), declared.hosts_span))
}
