//! What is wrong with a configuration, where, and what to do about it; and its plain-text form.
//!
//! Filled by the reading and checking rooms of `config`, printed by the command line. It never decides
//! what is legal.

use std::fmt;
use std::ops::Range;

/// Longest part of a line that is shown, in characters.
const LINE_MAX: usize = 160;
/// What is shown of a longer line before the span, in characters.
const LEAD: usize = 40;

/// Does a finding stop the configuration from being used?
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used; the operator should know.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One finding in a configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Octets of the text that the finding is about.
    pub span: Range<usize>,
    /// Line of the start of the span, from 1.
    pub line: usize,
    /// Column of the start of the span in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// Escape sequences around the parts of a rendered finding; empty strings for plain text.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Style {
    /// Before the word `error`.
    pub error: &'static str,
    /// Before the word `warning`.
    pub warning: &'static str,
    /// Before the word `fix`.
    pub fix: &'static str,
    /// Before the gutter and the underline.
    pub gutter: &'static str,
    /// After each of them.
    pub reset: &'static str,
}

impl Style {
    /// No escape sequences: files, pipes, logs.
    pub const PLAIN: Self = Self { error: "", warning: "", fix: "", gutter: "", reset: "" };
    /// ANSI colours: terminals.
    pub const ANSI: Self = Self {
        error: "\x1b[1;31m",
        warning: "\x1b[1;33m",
        fix: "\x1b[1;32m",
        gutter: "\x1b[1;34m",
        reset: "\x1b[0m",
    };
}

impl Diagnostic {
    /// True for an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding as plain text: place and message, the offending line underlined, the fix. `text` is
    /// what was loaded, `file` how the operator calls it.
    pub fn render(&self, text: &str, file: &str) -> String {
        self.render_styled(text, file, &Style::PLAIN)
    }

    /// As [`Self::render`], with the escape sequences of `style`.
    pub fn render_styled(&self, text: &str, file: &str, style: &Style) -> String {
        let severity_style = match self.severity {
            Severity::Error => style.error,
            Severity::Warning => style.warning,
        };
        let reset = style.reset;
        let mut out = format!(
            "{file}:{}:{}: {severity_style}{}{reset}: {}\n",
            self.line, self.column, self.severity, self.message
        );
        if let Some(source) = text.lines().nth(self.line.saturating_sub(1)) {
            let number = self.line.to_string();
            let gutter = style.gutter;
            let blank = " ".repeat(number.len());
            let (shown, underline) = self.excerpt(text, source);
            out += &format!("{gutter}{blank} |{reset}\n");
            out += &format!("{gutter}{number} |{reset} {shown}\n");
            out += &format!("{gutter}{blank} | {underline}{reset}\n");
        }
        out += &format!("{}fix{reset}: {}\n", style.fix, self.help);
        out
    }

    /// `source`, the first line of the span, and carets below the span. A span over several lines is
    /// underlined on its first one; of a long line only what is around the span is shown.
    fn excerpt(&self, text: &str, source: &str) -> (String, String) {
        let at = self.column.saturating_sub(1);
        let from = if source.chars().count() > LINE_MAX { at.saturating_sub(LEAD) } else { 0 };
        let shown: String = printable(source).chars().skip(from).take(LINE_MAX).collect();
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let before: String = shown.chars().take(at - from).map(blank).collect();
        let marked = text.get(self.span.clone()).and_then(|s| s.lines().next()).unwrap_or("");
        let room = LINE_MAX.saturating_sub(at - from);
        let carets = "^".repeat(marked.chars().count().min(room).max(1));
        let (cut, indent) = if from > 0 { ("...", "   ") } else { ("", "") };
        (format!("{cut}{shown}"), format!("{indent}{before}{carets}"))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}: {} (fix: {})",
            self.line, self.column, self.severity, self.message, self.help
        )
    }
}

/// `text` without control characters other than the tab: a file must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Collects findings; knows the lines of the text.
pub(super) struct Findings<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    list: Vec<Diagnostic>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Self { text, line_starts: std::iter::once(0).chain(breaks).collect(), list: Vec::new() }
    }

    pub(super) fn error(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Error, span, message.into(), help.into());
    }

    pub(super) fn warning(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, span, message.into(), help.into());
    }

    fn push(&mut self, severity: Severity, span: &Range<usize>, message: String, help: String) {
        let (line, column) = self.position(span.start);
        let (message, help) = (printable(&message), printable(&help));
        self.list.push(Diagnostic { severity, span: span.clone(), line, column, message, help });
    }

    /// Line and column, from 1, of the octet at `offset`.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..offset).map_or(0, |s| s.chars().count()) + 1;
        (line, column)
    }

    /// The line of the octet at `offset`: how a message refers to a second place.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.position(offset).0
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(Diagnostic::is_error)
    }

    /// All findings in the order of the text. A value that several hosts share is read once for each of
    /// them, so the same finding may come several times: it is told once.
    pub(super) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|a, b| {
            (a.span.start, a.severity, &a.message, a.span.end).cmp(&(
                b.span.start,
                b.severity,
                &b.message,
                b.span.end,
            ))
        });
        self.list.dedup();
        self.list
    }
}
