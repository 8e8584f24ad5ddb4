//! Reads the configuration file; used by `vipd run` and `vipd check`. What it means is the core's business.

use std::path::{Path, PathBuf};
use std::{fs, io};
use vipd_core::config::model::Model;
use vipd_core::config::{self, Diagnostic};

/// The file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("configuration file {path}: {error}; name another one with --config")]
    Read {
        /// Which one.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
    /// It is wrong; every finding with its place and its fix.
    #[error("{rendered}{path} is not used: {}", errors(*.count))]
    Invalid {
        /// Which one.
        path: PathBuf,
        /// The findings as text.
        rendered: String,
        /// The first error in one line: place, what is wrong, fix.
        first: String,
        /// Errors among them.
        count: usize,
    },
}

impl LoadError {
    /// In one line.
    pub fn summary(&self) -> String {
        match self {
            Self::Read { .. } => self.to_string(),
            Self::Invalid { first, count: 1, .. } => first.clone(),
            Self::Invalid { first, count, .. } => format!("{first} (and {} more)", count - 1),
        }
    }
}

fn errors(count: usize) -> String {
    if count == 1 { "1 error".into() } else { format!("{count} errors") }
}

/// What the file means.
#[derive(Debug)]
pub struct Loaded<M> {
    /// For one host or for all.
    pub meaning: M,
    /// Findings that do not keep it from being used, as text.
    pub warnings: Vec<String>,
    /// The file itself.
    pub text: String,
}

/// The file as `host` sees it.
///
/// # Errors
/// When it cannot be read, is wrong, or does not know `host`.
pub fn for_host(path: &Path, host: &str) -> Result<Loaded<Model>, LoadError> {
    with(path, |text, file| config::load(text, file, host))
}

/// The file as each of its hosts sees it.
///
/// # Errors
/// When it cannot be read or is wrong.
pub fn for_all(path: &Path) -> Result<Loaded<Vec<Model>>, LoadError> {
    with(path, config::load_all_hosts)
}

/// What was read from `path` before, as `host` sees it.
///
/// # Errors
/// When it is wrong, or does not know `host`.
pub fn of_text(text: String, path: &Path, host: &str) -> Result<Loaded<Model>, LoadError> {
    judge(text, path, |text, file| config::load(text, file, host))
}

fn with<M>(
    path: &Path,
    load: impl FnOnce(&str, &str) -> Result<(M, Vec<Diagnostic>), Vec<Diagnostic>>,
) -> Result<Loaded<M>, LoadError> {
    let text = fs::read_to_string(path)
        .map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    judge(text, path, load)
}

fn judge<M>(
    text: String,
    path: &Path,
    load: impl FnOnce(&str, &str) -> Result<(M, Vec<Diagnostic>), Vec<Diagnostic>>,
) -> Result<Loaded<M>, LoadError> {
    let file = path.display().to_string();
    let render = |finding: &Diagnostic| finding.render(&text, &file);
    match load(&text, &file) {
        Ok((meaning, warnings)) => {
            let warnings = warnings.iter().map(render).collect();
            Ok(Loaded { meaning, text, warnings })
        }
        Err(findings) => {
            let mut errors = findings.iter().filter(|finding| finding.is_error());
            let first = errors
                .next()
                .map(|f| format!("{file}:{}:{}: {}; fix: {}", f.line, f.column, f.message, f.help));
            Err(LoadError::Invalid {
                path: path.to_owned(),
                rendered: findings.iter().map(|finding| render(finding) + "\n").collect(),
                first: first.unwrap_or_default(),
                count: findings.iter().filter(|finding| finding.is_error()).count(),
            })
        }
    }
}
