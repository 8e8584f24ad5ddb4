//! Configuration: TOML text -> [`schema`] (typed values with places) -> check (what can be proved)
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
mod duration;
mod hash;
mod keys;
pub mod model;
mod read;
mod read_instance;
mod resolve;
mod schema;
mod section;
mod value;

pub use diagnostic::{Diagnostic, Severity, Style};
pub use hash::stable_hash;

use diagnostic::Findings;
use model::Model;
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
    let (models, warnings) = load_all_hosts(text, file)?;
    let names = || models.iter().filter_map(|m| m.hosts.get(usize::from(m.host.0)));
    let Some(at) = names().position(|h| h.name.as_ref() == host) else {
        let list = names().map(|h| h.name.as_ref()).collect::<Vec<_>>().join(", ");
        let mut findings = Findings::new(text);
        findings.error(
            &hosts_section(text),
            format!("{file} has no host \"{}\"", host.escape_debug()),
            format!("add [hosts.{host}], or choose one of the hosts with --host: {list}"),
        );
        let mut all = findings.into_sorted();
        all.extend(warnings);
        return Err(all);
    };
    // invariant: `at` is a position in an iterator over `models`.
    models.into_iter().nth(at).map(|model| (model, warnings)).ok_or_else(Vec::new)
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
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        for error in syntax_errors {
            findings.error(
                &error.span().unwrap_or_default(),
                format!("not TOML: {}", error.message()),
                format!("correct the syntax; strings need quotes, sections brackets: man vipd.toml, or the examples beside {file}"),
            );
        }
        return Err(findings.into_sorted());
    }
    let declared = read::read(document.get_ref(), &mut findings);
    check::check(&declared, &mut findings);
    if findings.has_errors() {
        return Err(findings.into_sorted());
    }
    Ok((resolve::resolve(&declared), findings.into_sorted()))
}

/// Where `[hosts]` begins in a text that is known to parse; its start when there is none.
fn hosts_section(text: &str) -> std::ops::Range<usize> {
    DeTable::parse(text)
        .ok()
        .and_then(|table| table.get_ref().get_key_value("hosts").map(|(key, _)| key.span()))
        .unwrap_or_default()
}
