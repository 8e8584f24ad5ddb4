//! Drawing for people: 80 columns, columns that line up, colour only where a terminal reads and NO_COLOR is not set.
//!
//! Called by the verbs that show something. Text is laid out first and painted afterwards, so that a screen reads the
//! same without colours. It must never know what is shown.

use anstyle::{AnsiColor, Style};
use std::io::Write;

/// Every screen fits a terminal of this width.
pub(super) const WIDTH: usize = 80;

/// As it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// As it should be, and the answer that one looks for.
pub(super) const OWNS: Style = AnsiColor::Green.on_default().bold();
/// To be looked at.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// Does not work.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Titles.
pub(super) const TITLE: Style = Style::new().bold();
/// Of lesser interest.
pub(super) const FAINT: Style = Style::new().dimmed();
/// As any text.
pub(super) const PLAIN: Style = Style::new();

/// A field of a table.
pub(super) struct Cell {
    text: String,
    style: Style,
}

/// A field in the style of its meaning.
pub(super) fn cell(text: impl Into<String>, style: Style) -> Cell {
    Cell { text: text.into(), style }
}

/// A field as any text.
pub(super) fn plain(text: impl Into<String>) -> Cell {
    cell(text, PLAIN)
}

/// A screen that grows line by line.
#[derive(Default)]
pub(super) struct Screen {
    text: String,
}

impl Screen {
    /// Everything, with its colours.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.text.push('\n');
    }

    /// One line in one style, cut at the edge.
    pub(super) fn line(&mut self, text: &str, style: Style) {
        self.text.push_str(&painted(&cut(text, WIDTH), style));
        self.text.push('\n');
    }

    /// `head`, then `text` in `style`, continued below its own beginning where it is long.
    pub(super) fn entry(&mut self, head: &str, text: &str, style: Style) {
        let indent = head.chars().count();
        let mut lines = wrapped(text, WIDTH.saturating_sub(indent)).into_iter();
        self.text.push_str(head);
        self.text.push_str(&painted(&lines.next().unwrap_or_default(), style));
        self.text.push('\n');
        for line in lines {
            self.text.push_str(&" ".repeat(indent));
            self.text.push_str(&painted(&line, style));
            self.text.push('\n');
        }
    }

    /// A table with its titles. The last column gives way where the line would be too long, then the widest one.
    pub(super) fn table(&mut self, titles: &[&str], rows: &[Vec<Cell>]) {
        let mut widths: Vec<usize> = titles.iter().map(|title| title.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let gaps = 2 * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > WIDTH {
            let last = widths.len() - 1;
            let keeps = titles[last].chars().count().max(20);
            let widest = (0..last).max_by_key(|n| widths[*n]).unwrap_or(last);
            let shrinks = if widths[last] > keeps { last } else { widest };
            widths[shrinks] = widths[shrinks].saturating_sub(1);
        }
        let heads: Vec<Cell> = titles.iter().map(|title| cell(*title, FAINT)).collect();
        for row in [&heads].into_iter().chain(rows) {
            let mut line = String::new();
            for (n, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let text = cut(&cell.text, *width);
                let blank = width.saturating_sub(text.chars().count());
                line.push_str(&painted(&text, cell.style));
                if n + 1 < row.len() {
                    line.push_str(&" ".repeat(blank + 2));
                }
            }
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }
}

fn painted(text: &str, style: Style) -> String {
    if text.is_empty() || style == PLAIN {
        return text.to_owned();
    }
    format!("{style}{text}{style:#}")
}

/// Not longer than `width`; the whole text is in the JSON document.
fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(3)).chain("...".chars()).collect(),
    }
}

/// Lines of at most `width`, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, width)),
        }
    }
    lines
}

/// `text` with lines broken between words where they are longer than a screen is wide. Lines quoted from a file, which
/// something below points into, stay as they are.
pub(super) fn broken(text: &str) -> String {
    let quoted = |line: &str| {
        let number = line.split_once('|').map(|(number, _)| number.trim());
        number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    let lines = text.lines().flat_map(|line| match line.chars().count() > WIDTH && !quoted(line) {
        true => wrapped(line, WIDTH),
        false => vec![line.to_owned()],
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Milliseconds as seconds: `1.2 s`.
pub(super) fn tenths(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// `48 KiB`, `1.5 GiB`.
pub(super) fn octets(n: u64) -> String {
    let mut unit = 1u64;
    for name in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if n < unit.saturating_mul(1024) || name == "TiB" {
            let (whole, tenth) = (n / unit, n % unit * 10 / unit);
            let exact = tenth == 0 || whole >= 10;
            return if exact {
                format!("{whole} {name}")
            } else {
                format!("{whole}.{tenth} {name}")
            };
        }
        unit *= 1024;
    }
    n.to_string()
}

/// Prints a screen. A closed pipe (`vipd status | head`) is not an error.
pub(super) fn show(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(for_stdout(text).as_bytes()).and_then(|()| out.flush());
}

/// `text` with its colours, or without them where standard output is no terminal or NO_COLOR is set.
pub(super) fn for_stdout(text: &str) -> String {
    match anstream::AutoStream::choice(&std::io::stdout()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

/// A length of time in at most six characters: `4.2s`, `59s`, `12m03s`, `3h04m`, `12d03h`.
pub(super) fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (d, h, m, s) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (d, h, m) {
        (0, 0, 0) if s < 10 => format!("{:.1}s", seconds.max(0.0)),
        (0, 0, 0) => format!("{s}s"),
        (0, 0, m) => format!("{m}m{s:02}s"),
        (0, h, m) => format!("{h}h{m:02}m"),
        (d, h, _) => format!("{d}d{h:02}h"),
    }
}

/// How a state looks.
pub(super) fn state_style(state: &str, condition: Option<&str>) -> Style {
    match (state, condition) {
        ("active", None) => OWNS,
        ("initialize", _) => BAD,
        (_, Some(_)) => WARN,
        _ => PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fit_their_column() {
        for (seconds, want) in [
            (-1.0, "0.0s"),
            (4.23, "4.2s"),
            (59.9, "59s"),
            (723.0, "12m03s"),
            (11_050.0, "3h04m"),
            (1e6, "11d13h"),
        ] {
            assert_eq!(age(seconds), want);
        }
    }

    #[test]
    fn long_text_stays_below_its_own_beginning() {
        let mut screen = Screen::default();
        screen.entry("  ! ", &"word ".repeat(40), PLAIN);
        let text = screen.into_text();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")), "{text}");
    }

    #[test]
    fn a_message_is_broken_but_not_what_it_quotes() {
        let quote = format!("16 | {}", "key = 1 ".repeat(12));
        let text = broken(&format!("{}\n{quote}\n   | ^^^\nfix: it", "word ".repeat(20)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2..], [quote.as_str(), "   | ^^^", "fix: it"], "{text}");
        assert!(lines[..2].iter().all(|line| line.len() <= WIDTH), "{text}");
    }

    #[test]
    fn a_table_keeps_to_the_width_and_colours_do_not_count() {
        let mut screen = Screen::default();
        let long = "x".repeat(90);
        screen.table(&["A", "B"], &[vec![cell("1", GOOD), plain(long.clone())]]);
        screen.table(&["LONG", "B"], &[vec![plain(long), cell("owner of it all", GOOD)]]);
        let text = anstream::adapter::strip_str(&screen.into_text()).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("1  xxx") && text.contains("owner of it all"), "{text}");
    }
}
