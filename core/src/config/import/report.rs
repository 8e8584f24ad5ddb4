//! What became of every line of keepalived's file.
//!
//! Filled by the rooms of `import`, printed by the command line.

use super::Place;
use super::blocks::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// Longest quotation of a line, characters.
const QUOTE_MAX: usize = 60;

/// What became of a line.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fate {
    /// Not in vipd.toml.
    Dropped,
    /// vipd does nearly that.
    Approximated,
    /// vipd does that.
    Exact,
}

/// One line of a file, or a word of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whose file.
    pub host: Arc<str>,
    /// Which file.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// The line, shortened; without passwords and keys.
    pub text: String,
    /// What became of it.
    pub fate: Fate,
    /// Where it is now, or what to do.
    pub note: String,
}

/// What became of everything.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// By host, in the order of the lines.
    pub entries: Vec<Entry>,
    /// What has to be settled before a vipd runs beside a keepalived of the same group.
    pub beside: Vec<String>,
    /// What `vipd check` says of the new file.
    pub check: Vec<String>,
}

impl Report {
    /// How many lines had this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.entries.iter().filter(|entry| entry.fate == fate).count()
    }

    /// Did everything go over as it was?
    pub fn is_exact(&self) -> bool {
        self.count(Fate::Exact) == self.entries.len() && self.check.is_empty()
    }

    /// The report as plain text.
    pub fn render(&self) -> String {
        let mut out = format!(
            "{} dropped, {} approximated, {} exact\n",
            self.count(Fate::Dropped),
            self.count(Fate::Approximated),
            self.count(Fate::Exact)
        );
        for (fate, title) in [
            (Fate::Dropped, "Dropped: not in vipd.toml"),
            (Fate::Approximated, "Approximated: vipd does nearly that"),
            (Fate::Exact, "Exact"),
        ] {
            self.render_fate(fate, title, &mut out);
        }
        // Writing to a String does not fail.
        for (title, list) in [
            ("Before a vipd runs beside a keepalived of the same group", &self.beside),
            ("vipd check", &self.check),
        ] {
            if !list.is_empty() {
                let _ = writeln!(out, "\n{title}:");
                for text in list {
                    let _ = writeln!(out, "  - {}", text.trim_end().replace('\n', "\n    "));
                }
            }
        }
        out
    }

    /// The lines of one fate; what is the same in several places is told once.
    fn render_fate(&self, fate: Fate, title: &str, out: &mut String) {
        let mut told: Vec<(&Entry, Vec<String>)> = Vec::new();
        let mut known: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.fate == fate) {
            let place = format!("{}:{}", entry.file, entry.line);
            let at = *known.entry((&entry.text, &entry.note)).or_insert(told.len());
            match told.get_mut(at) {
                None => told.push((entry, vec![place])),
                Some((_, places)) if places.contains(&place) => {}
                Some((_, places)) => places.push(place),
            }
        }
        if told.is_empty() {
            return;
        }
        // Writing to a String does not fail.
        let _ = writeln!(out, "\n{title}:");
        for (Entry { text, note, .. }, places) in told {
            let _ = writeln!(out, "  {text}\n      {note}\n      {}", places.join(" "));
        }
    }
}

/// Collects the entries of one host.
pub(super) struct Notes {
    host: Arc<str>,
    entries: Vec<Entry>,
    told: BTreeSet<usize>,
    beside: Vec<String>,
}

impl Notes {
    pub(super) fn new(host: &str) -> Self {
        let (entries, told, beside) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self { host: host.into(), entries, told, beside }
    }

    /// Something about a line that is no node.
    pub(super) fn line(&mut self, place: &Place, text: &str, fate: Fate, note: impl Into<String>) {
        self.entries.push(Entry {
            host: Arc::clone(&self.host),
            file: Arc::clone(&place.file),
            line: place.line,
            text: quotation(text),
            fate,
            note: note.into(),
        });
    }

    pub(super) fn note(&mut self, node: &Node, fate: Fate, note: impl Into<String>) {
        self.told.insert(node.id);
        self.line(&node.place, &without_secrets(&node.words), fate, note);
    }

    pub(super) fn exact(&mut self, node: &Node, note: impl Into<String>) {
        self.note(node, Fate::Exact, note);
    }

    pub(super) fn approximated(&mut self, node: &Node, note: impl Into<String>) {
        self.note(node, Fate::Approximated, note);
    }

    pub(super) fn dropped(&mut self, node: &Node, note: impl Into<String>) {
        self.note(node, Fate::Dropped, note);
    }

    /// The whole block has one fate.
    pub(super) fn whole(&mut self, node: &Node, fate: Fate, note: &str) {
        let mut inner: Vec<&Node> = node.children.iter().collect();
        let mut lines = 0;
        while let Some(node) = inner.pop() {
            lines += 1;
            self.told.insert(node.id);
            inner.extend(&node.children);
        }
        match lines {
            0 => self.note(node, fate, note),
            1 => self.note(node, fate, format!("with the line in it: {note}")),
            _ => self.note(node, fate, format!("with the {lines} lines in it: {note}")),
        }
    }

    /// Something to settle before vipd and keepalived run in one group.
    pub(super) fn beside(&mut self, text: String) {
        self.beside.push(text);
    }

    /// Says of every line that nobody spoke of that it is lost.
    pub(super) fn sweep(&mut self, nodes: &[Node]) {
        for node in nodes {
            if !self.told.contains(&node.id) {
                let text = "is not understood here, and not carried over: look it up in keepalived.conf(5)";
                self.dropped(node, text);
            }
            self.sweep(&node.children);
        }
    }

    /// Adds everything to `report`.
    pub(super) fn finish(mut self, report: &mut Report) {
        // Of the lines of included files only the order is known: the files stay together.
        self.entries.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        // What two addresses of a line share is said once.
        self.entries.dedup();
        report.entries.append(&mut self.entries);
        for text in self.beside {
            if !report.beside.contains(&text) {
                report.beside.push(text);
            }
        }
    }
}

/// Words up to a password or a key: the report ends in tickets.
fn without_secrets(words: &[String]) -> String {
    match words.iter().position(|word| word == "auth_pass" || word == "key") {
        Some(at) if at + 1 < words.len() => words[..=at].join(" ") + " ...",
        _ => words.join(" "),
    }
}

/// The line in one short row that cannot steer a terminal.
fn quotation(text: &str) -> String {
    let mut out: String =
        text.chars().take(QUOTE_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        out.push_str("...");
    }
    out
}
