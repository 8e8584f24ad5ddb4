//! What the operator reads at the end: the table, or one JSON document.

use super::args::LabArgs;
use super::play::Row;
use super::timeline::Entry;
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write};

/// Colours on a terminal, none elsewhere.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Paint {
    /// ANSI colours.
    Colour,
    /// Plain text.
    Plain,
}

impl Paint {
    /// Colours when standard output is a terminal and `NO_COLOR` is not set.
    #[must_use]
    pub fn detect() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        if io::stdout().is_terminal() && !plain { Self::Colour } else { Self::Plain }
    }

    /// What went well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What went wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// What was done.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// Writes the table of what came of each scene.
///
/// # Errors
/// When `out` cannot be written.
pub fn table(out: &mut impl Write, rows: &[Row], paint: Paint) -> io::Result<()> {
    let about = rows.iter().map(|r| r.about.len()).max().unwrap_or(0);
    let head = format!(
        "{:<14} {:<about$} {:<14} {:>10} {:>6} {:>10} {:>9} {:>6}",
        "scenario",
        "what happened",
        "owner",
        "outage ms",
        "lost",
        "two owners",
        "nobody ms",
        "moves"
    );
    writeln!(out, "\n{}", paint.strong(&head))?;
    for row in rows {
        let list = |hosts: &[String]| match hosts {
            [] => "-".to_owned(),
            hosts => hosts.join("+"),
        };
        let owner = format!("{} -> {}", list(&row.before), list(&row.after));
        let line = format!(
            "{:<14} {:<about$} {:<14} {:>10.1} {:>6} {:>10.1} {:>9.1} {:>6}",
            row.scenario,
            row.about,
            owner,
            row.client.outage_ms,
            row.client.lost,
            row.two_owners_ms,
            row.nobody_ms,
            match row.moves_allowed {
                Some(allowed) => format!("{}/{allowed}", row.moves),
                None => row.moves.to_string(),
            },
        );
        let good = row.is_as_expected() && row.after.len() == 1;
        writeln!(out, "{}", if good { line } else { paint.bad(&line) })?;
        if !row.reached {
            let seconds = row.watched_ms / 1000.0;
            writeln!(out, "{:<14} {} in {seconds:.1} s", "", row.expect.missed())?;
        }
    }
    writeln!(
        out,
        "\noutage: longest run of probes without answer, one probe per millisecond and address\n\
         two owners: ms in which two hosts had it (a clean stop of vipd overlaps on purpose)\n\
         moves: how often the address went to another host, and behind the stroke how often it may"
    )?;
    let late = rows.iter().map(|r| r.client.prober_late_ms).fold(0.0, f64::max);
    if late > 5.0 {
        writeln!(out, "note: the prober itself was up to {late:.0} ms late; this machine is busy")?;
    }
    Ok(())
}

/// Writes everything as one JSON document.
///
/// # Errors
/// When `out` cannot be written.
pub fn json(
    out: &mut impl Write,
    args: &LabArgs,
    rows: &[Row],
    events: &[Entry],
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        agent: super::args::AgentName,
        hosts: usize,
        interval_ms: u128,
        family: super::plan::Families,
        scenarios: &'a [Row],
        events: &'a [Entry],
    }
    let document = Document {
        agent: args.agent,
        hosts: args.hosts,
        interval_ms: args.interval.as_millis(),
        family: args.family,
        scenarios: rows,
        events,
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}
