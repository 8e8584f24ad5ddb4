//! keepalived.conf -> vipd.toml and a report of what became of every line.
//!
//! Called by `vipd import` and the tests. It reads no files: the caller hands over lines, with those of included files
//! in place of the lines that include them ([`include_of`]).
//!
//! One file a host: `preprocess` (conditions, variables) -> `blocks` -> `translate` -> a draft. Then `merge` brings the
//! hosts together and `write` makes the text, which is judged like any other file. Nothing is lost without a word:
//! every node has a number, and what nobody spoke of is reported as dropped.

mod address;
mod authentication;
mod blocks;
mod complete;
mod draft;
mod globals;
mod hooks;
mod instance;
mod keywords;
mod lexer;
mod merge;
mod parts;
mod preprocess;
mod probe;
mod report;
mod route;
mod routing;
mod text;
mod trackers;
mod translate;
mod write;

pub use report::{Entry, Fate, Report};

use report::Notes;
use std::fmt;
use std::sync::Arc;

/// What the new file is called in messages about it.
const TARGET: &str = "vipd.toml";

/// A line of a file of keepalived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// File, as the operator calls it.
    pub file: Arc<str>,
    /// Number, from 1.
    pub number: usize,
    /// What it says.
    pub text: String,
    /// It includes files, whose lines follow.
    pub expanded: bool,
}

/// What keepalived reads on one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Name of the host in the new file.
    pub host: String,
    /// In order.
    pub lines: Vec<Line>,
}

impl Source {
    /// The file `file` with the content `text`, nothing included.
    pub fn new(host: &str, file: &str, text: &str) -> Self {
        Self { host: host.to_owned(), lines: lines(file, text) }
    }
}

/// `text` as lines of `file`.
pub fn lines(file: &str, text: &str) -> Vec<Line> {
    let file: Arc<str> = file.into();
    let line = |(at, text): (usize, &str)| Line {
        file: Arc::clone(&file),
        number: at + 1,
        text: text.to_owned(),
        expanded: false,
    };
    text.lines().enumerate().map(line).collect()
}

/// The pattern of a line that includes files: a path, with wildcards, relative to the file that it stands in.
pub fn include_of(line: &str) -> Option<String> {
    let line = line.trim_start();
    let (keyword, _) = line.split_once(char::is_whitespace)?;
    if !matches!(
        keyword,
        "include" | "includer" | "includem" | "includew" | "includeb" | "includea"
    ) {
        return None;
    }
    let tokens = lexer::tokens(line).ok()?;
    match tokens.get(1)? {
        lexer::Token::Word(pattern) => Some(pattern.clone()),
        _ => None,
    }
}

/// Where a line stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// File, as the operator calls it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
}

/// A file that keepalived could not read either.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place: Place { file, line }, message, help } = self;
        write!(f, "{file}:{line}: error: {message}\nfix: {help}")
    }
}

/// Why there is no new file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportError {
    /// A host has no name that vipd takes, or two have the same.
    Host(String),
    /// A file cannot be understood.
    Syntax(SyntaxError),
    /// There is no instance in any file; the report tells what there is.
    Nothing(Report),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(text) => f.write_str(text),
            Self::Syntax(error) => error.fmt(f),
            Self::Nothing(report) => {
                write!(
                    f,
                    "{}\nno vrrp_instance can be imported: there is nothing for vipd to do",
                    report.render()
                )
            }
        }
    }
}

/// The new file and what became of the old ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// Text of vipd.toml.
    pub toml: String,
    /// What became of every line.
    pub report: Report,
}

/// Imports the files of all `sources`, one a host, into one vipd.toml.
///
/// # Errors
/// Host names that cannot be, a file that cannot be understood, files without a `vrrp_instance`.
pub fn import(sources: &[Source]) -> Result<Import, ImportError> {
    let hosts: Vec<&str> = sources.iter().map(|source| source.host.as_str()).collect();
    for (at, host) in hosts.iter().enumerate() {
        if !super::value::is_name(host) {
            return Err(ImportError::Host(format!(
                "\"{}\" is no name of a host: use 1 to 64 letters, digits, '-', '_' or '.'",
                host.escape_debug()
            )));
        }
        if hosts[..at].contains(host) {
            return Err(ImportError::Host(format!(
                "two files are for {host}: give every host one, NAME=FILE"
            )));
        }
    }
    let mut report = Report::default();
    let mut sides = Vec::new();
    for source in sources {
        let mut notes = Notes::new(&source.host);
        let lines = preprocess::lines(&source.lines, &source.host, &hosts, &mut notes)
            .map_err(ImportError::Syntax)?;
        let tree = blocks::tree(lines).map_err(ImportError::Syntax)?;
        sides.push(translate::side(&source.host, &tree, &mut notes));
        notes.finish(&mut report);
    }
    if sides.iter().all(|side| side.instances.is_empty()) {
        return Err(ImportError::Nothing(report));
    }
    let (sections, problems) = merge::merge(sides);
    let toml = write::file(&hosts, &sections);
    report.check = problems;
    report.check.extend(judge(&toml));
    Ok(Import { toml, report })
}

/// What the loader finds in the new file.
fn judge(toml: &str) -> Vec<String> {
    let findings = match super::load_all_hosts(toml, TARGET) {
        Ok((_, warnings)) => warnings,
        Err(findings) => findings,
    };
    findings.iter().map(|finding| finding.render(toml, TARGET)).collect()
}
