//! The lines of keepalived's file -> logical lines for one host: continuation, conditions, variables.
//!
//! Called by `import`, once for each host. What it reads itself (conditions, definitions) it puts into the report.

use super::lexer::{self, Token};
use super::report::{Fate, Notes};
use super::{Line, Place, SyntaxError};
use std::collections::BTreeMap;

/// Variables inside of variables are put in this deep.
const DEPTH_MAX: usize = 16;
/// Longest logical line, octets: beyond it variables multiply.
const LINE_MAX: usize = 64 * 1024;
/// Most octets of all logical lines.
const TOTAL_MAX: usize = 16 * 1024 * 1024;
/// What keepalived fills in by itself, and an importer on another machine cannot.
const BUILT_IN: [&str; 4] = ["${_PWD}", "${_INSTANCE}", "${_RANDOM", "${_ENV"];

/// A logical line.
pub(super) struct Logical {
    pub(super) place: Place,
    pub(super) tokens: Vec<Token>,
}

/// The logical lines that `host` reads. `hosts`: all that are imported.
pub(super) fn lines(
    source: &[Line],
    host: &str,
    hosts: &[&str],
    notes: &mut Notes,
) -> Result<Vec<Logical>, SyntaxError> {
    let mut reader =
        Reader { host, hosts, definitions: BTreeMap::new(), total: 0, out: Vec::new() };
    let mut lines = source.iter();
    while let Some(line) = lines.next() {
        let place = Place { file: line.file.clone(), line: line.number };
        if line.expanded {
            let text = "read; its lines are listed under the file that they stand in";
            notes.line(&place, line.text.trim(), Fate::Exact, text);
            continue;
        }
        // keepalived skips NULs as well; TOML and programs take none.
        let mut text = line.text.trim().replace('\0', "");
        while is_continued(&text) {
            text.pop();
            let Some(next) = lines.next() else { break };
            text.push('\n');
            text.push_str(next.text.trim());
            if text.len() > LINE_MAX {
                return Err(too_long(&place));
            }
        }
        reader.read(&place, &text, notes)?;
    }
    Ok(reader.out)
}

/// Does the line go on? An even number of backslashes stands for half as many of them.
fn is_continued(text: &str) -> bool {
    text.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn too_long(place: &Place) -> SyntaxError {
    SyntaxError {
        place: place.clone(),
        message: "the line becomes too long when variables are put in".into(),
        help: "write it out in shorter lines".into(),
    }
}

struct Reader<'s> {
    host: &'s str,
    hosts: &'s [&'s str],
    definitions: BTreeMap<String, String>,
    total: usize,
    out: Vec<Logical>,
}

impl Reader<'_> {
    fn read(&mut self, place: &Place, text: &str, notes: &mut Notes) -> Result<(), SyntaxError> {
        let Some(text) = self.wanted(place, text, notes) else { return Ok(()) };
        if let Some((name, value)) = definition(text) {
            // The value may be a password.
            let told = format!("${name}=...");
            notes.line(place, &told, Fate::Exact, "the value is put in where it is used");
            self.definitions.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        let expanded = self.expand(text, 0).ok_or_else(|| too_long(place))?;
        self.total += expanded.len();
        if self.total > TOTAL_MAX {
            return Err(too_long(place));
        }
        if let Some(name) = BUILT_IN.iter().find(|name| expanded.contains(**name)) {
            let text = format!("{name} is left as it is: write the value");
            notes.line(place, &expanded, Fate::Approximated, text);
        }
        if expanded.starts_with('~') {
            let text = "a line that stands for several is not multiplied: write them out";
            notes.line(place, &expanded, Fate::Dropped, text);
            return Ok(());
        }
        for one in expanded.split('\n') {
            let tokens = lexer::tokens(one).map_err(|message| SyntaxError {
                place: place.clone(),
                message: message.into(),
                help: "close it, or put a backslash before a quote that is meant as such".into(),
            })?;
            if !tokens.is_empty() {
                self.out.push(Logical { place: place.clone(), tokens });
            }
        }
        Ok(())
    }

    /// The line without its condition; `None`: it is for other hosts.
    fn wanted<'t>(&self, place: &Place, text: &'t str, notes: &mut Notes) -> Option<&'t str> {
        let Some(condition) = text.strip_prefix('@') else { return Some(text) };
        let (condition, rest) = condition.split_once(char::is_whitespace)?;
        let (named, wanted) = match condition.strip_prefix('^') {
            Some(named) => (named, false),
            None => (condition, true),
        };
        let rest = rest.trim_start();
        if (short(self.host) == named) == wanted {
            return Some(rest);
        }
        // The rest of the line may be a password.
        let told = format!("@{condition} {}", rest.split_whitespace().next().unwrap_or(""));
        if wanted && !self.hosts.iter().any(|host| short(host) == named) {
            let text = format!(
                "is for {named}, which is not among the hosts: import it with {named}=FILE"
            );
            notes.line(place, &told, Fate::Dropped, text);
        } else {
            let text = format!("is not for {}", self.host);
            notes.line(place, &told, Fate::Exact, text);
        }
        None
    }

    /// `text` with the variables put in; `None`: too long, or they contain each other.
    fn expand(&self, text: &str, depth: usize) -> Option<String> {
        if depth > DEPTH_MAX {
            return None;
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let (name, after) = match rest.strip_prefix('{') {
                Some(braced) => braced.split_once('}').unwrap_or(("", rest)),
                None => rest.split_at(name_length(rest)),
            };
            match (name, self.definitions.get(name)) {
                ("_HASH", _) => out.push_str("\\#"),
                ("_BANG", _) => out.push_str("\\!"),
                (_, Some(value)) => out.push_str(&self.expand(value, depth + 1)?),
                // One word, whatever it says: `${_RANDOM 1 9}`.
                (built_in, None) if built_in.starts_with('_') && built_in.contains(' ') => {
                    let word = built_in.replace(char::is_whitespace, "_");
                    out.push_str(&format!("${{{word}}}"));
                }
                // Whatever is not defined stays as it is.
                _ => {
                    out.push('$');
                    continue;
                }
            }
            rest = after;
            if out.len() > LINE_MAX {
                return None;
            }
        }
        out.push_str(rest);
        (out.len() <= LINE_MAX).then_some(out)
    }
}

/// The hostname without its domain, which is what keepalived compares.
fn short(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

fn name_length(text: &str) -> usize {
    text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
}

/// `$NAME=value`.
fn definition(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('$')?;
    let (name, rest) = rest.split_at(name_length(rest));
    let value = rest.trim_start().strip_prefix('=')?;
    (!name.is_empty()).then(|| (name, value.trim()))
}
