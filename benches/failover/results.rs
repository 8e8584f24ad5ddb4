//! Samples of many jobs: median, range, ratio; and the lines of Markdown tables.

use crate::job::{Job, Sample, Who};
use std::fmt::Write as _;
use std::process::Command;

/// The samples of one section.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<(Job, Vec<Sample>)>);

impl Results {
    /// Adds what jobs found.
    pub(crate) fn add(&mut self, done: Vec<(Job, Vec<Sample>)>) {
        self.0.extend(done);
    }

    /// All values called `name` of the jobs that `wanted` picks.
    pub(crate) fn values(&self, name: &str, wanted: impl Fn(&Job) -> bool) -> Values {
        let jobs = self.0.iter().filter(|(job, _)| wanted(job));
        let samples = jobs.flat_map(|(_, samples)| samples).filter(|s| s.name == name);
        let mut values: Vec<_> = samples.map(|s| s.value).collect();
        values.sort_unstable_by(f64::total_cmp);
        Values(values)
    }

    /// As [`Results::values`], of one agent at one interval.
    pub(crate) fn of(&self, name: &str, who: Who, interval_ms: u64) -> Values {
        self.values(name, |job| job.who == who && job.interval_ms == interval_ms)
    }
}

/// Sorted values.
#[derive(Debug)]
pub(crate) struct Values(Vec<f64>);

impl Values {
    /// How many.
    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }

    /// The value below which this part (0 to 1) of all lies.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of a list of samples"
        )]
        let at = (last as f64 * part).round() as usize;
        self.0.get(at).copied()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// The largest.
    pub(crate) fn max(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// How many are not 0.
    pub(crate) fn set(&self) -> usize {
        self.0.iter().filter(|v| **v != 0.0).count()
    }

    /// Median with the range behind it.
    pub(crate) fn text(&self) -> String {
        let (Some(low), Some(median), Some(high)) = (self.quantile(0.0), self.median(), self.max())
        else {
            return "-".into();
        };
        if number(low) == number(high) {
            return number(median);
        }
        format!("{} ({}-{})", number(median), number(low), number(high))
    }

    /// Median alone.
    pub(crate) fn middle(&self) -> String {
        self.median().map_or_else(|| "-".into(), number)
    }

    /// Ratio of the medians, this one to the other.
    pub(crate) fn ratio(&self, other: &Self) -> String {
        match (self.median(), other.median()) {
            (Some(a), Some(b)) if b > 0.0 => number(a / b),
            (Some(a), Some(_)) if a > 0.0 => "to 0".into(),
            (Some(_), Some(_)) => "both 0".into(),
            _ => "-".into(),
        }
    }
}

/// Three figures are all that such numbers are worth.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 99.5 => format!("{value:.0}"),
        v if v >= 9.95 => format!("{value:.1}"),
        v if v >= 0.0995 => format!("{value:.2}"),
        v if v >= 0.0005 => format!("{value:.3}"),
        _ => "0".into(),
    }
}

/// A Markdown table.
#[derive(Debug)]
pub(crate) struct Table(String);

impl Table {
    /// With these heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let mut table = Self(String::new());
        table.row(heads);
        table.row(&vec!["---"; heads.len()]);
        table
    }

    /// Adds a line.
    pub(crate) fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "| {} |", cells.join(" | "));
    }

    /// The text.
    pub(crate) fn text(self) -> String {
        self.0
    }
}

/// What this run was made on.
pub(crate) fn machine() -> String {
    let said = |program: &str, arg: &str, line: fn(&std::process::Output) -> &[u8]| {
        let out = Command::new(program).arg(arg).output().ok();
        let text = out.map(|o| String::from_utf8_lossy(line(&o)).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("not found").trim().to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{}; kernel {}; {processors} processors; {}; vipd {}; load at the start {}\n",
        said("date", "+%F %R UTC", |o| &o.stdout),
        said("uname", "-r", |o| &o.stdout),
        said("keepalived", "--version", |o| &o.stderr),
        env!("CARGO_PKG_VERSION"),
        load(),
    )
}

/// Load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
