//! `pressure`: time lost for want of CPU, memory or I/O, as the kernel measures it.

use super::outcome::{Outcome, words};
use super::task::Measure;
use std::path::{Path, PathBuf};
use vipd_core::config::model::Resource;
use vipd_core::engine::io::Verdict;

/// Where the kernel tells.
const FOLDER: &str = "/proc/pressure";

/// `pressure = "memory"`.
#[derive(Debug)]
pub(super) struct Pressure {
    file: PathBuf,
    name: &'static str,
    /// `some`: anybody waited; `full`: nobody got on.
    line: &'static str,
    warn: f32,
    fail: f32,
}

impl Pressure {
    pub(super) fn new(resource: Resource, warn: f32, fail: f32) -> Self {
        Self::in_folder(Path::new(FOLDER), resource, warn, fail)
    }

    fn in_folder(folder: &Path, resource: Resource, warn: f32, fail: f32) -> Self {
        // CPU has no meaningful `full` line for the whole host.
        let (name, line) = match resource {
            Resource::Cpu => ("cpu", "some"),
            Resource::Memory => ("memory", "full"),
            Resource::Io => ("io", "full"),
        };
        Self { file: folder.join(name), name, line, warn, fail }
    }

    fn judge(&self, text: &str) -> Outcome {
        let Some(avg10) = avg10(text, self.line) else {
            let file = self.file.display();
            return Outcome::unknown(format!("{file}: no line \"{} avg10=\"", self.line));
        };
        let what = format!("{} {} avg10 = {avg10} %", self.name, self.line);
        if avg10 > self.fail {
            Outcome::fail(format!("{what} > {} %", self.fail))
        } else if avg10 > self.warn {
            Outcome::warn(format!("{what} > {} %", self.warn))
        } else {
            Outcome::pass(format!("{what} <= {} %", self.warn))
        }
    }
}

impl Measure for Pressure {
    const LATE: Verdict = Verdict::Unknown;

    // procfs, read from memory: does not block.
    async fn run(&mut self) -> Outcome {
        match std::fs::read_to_string(&self.file) {
            Ok(text) => self.judge(&text),
            Err(e) => {
                let file = self.file.display();
                // Where it is not built in, and where it is not switched on.
                let absent = matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP));
                let fix = if absent { ": the kernel needs CONFIG_PSI and psi=1" } else { "" };
                Outcome::unknown(format!("{file}: {}{fix}", words(&e)))
            }
        }
    }
}

/// Percent of the last ten seconds in the line that begins with `line`.
fn avg10(text: &str, line: &str) -> Option<f32> {
    text.lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(' '))?
        .split(' ')
        .find_map(|field| field.strip_prefix("avg10="))?
        .parse()
        .ok()
        .filter(|share| (0.0..=100.0).contains(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "some avg10=61.50 avg60=9.00 avg300=1.00 total=123\n\
                        full avg10=34.00 avg60=5.00 avg300=0.50 total=99\n";

    fn outcome(resource: Resource, warn: f32, fail: f32, text: &str) -> Outcome {
        Pressure::new(resource, warn, fail).judge(text)
    }

    #[test]
    fn the_right_line_is_compared_with_both_limits() {
        let memory = outcome(Resource::Memory, 20.0, 60.0, TEXT);
        assert_eq!(memory, Outcome::warn("memory full avg10 = 34 % > 20 %"));
        let cpu = outcome(Resource::Cpu, 20.0, 60.0, TEXT);
        assert_eq!(cpu, Outcome::fail("cpu some avg10 = 61.5 % > 60 %"));
        let io = outcome(Resource::Io, 34.0, 60.0, TEXT);
        assert_eq!(io, Outcome::pass("io full avg10 = 34 % <= 34 %"));
    }

    #[test]
    fn what_the_kernel_does_not_say_is_unknown() {
        for text in [
            "",
            "full",
            "full ",
            "full avg10",
            "full avg10=",
            "full avg10=x avg60=1",
            "full avg10=nan",
            "full avg10=-1",
            "full avg10=1e9",
            "fuller avg10=3.0",
            "some avg10=1.0 avg60=1.0",
            "\u{0}\u{ff}",
        ] {
            let got = outcome(Resource::Io, 1.0, 2.0, text);
            assert_eq!(got.verdict, Verdict::Unknown, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_kernel_without_it_is_unknown() {
        let none = Path::new("/proc/nowhere");
        let outcome = Pressure::in_folder(none, Resource::Cpu, 1.0, 2.0).run().await;
        assert_eq!(outcome.verdict, Verdict::Unknown);
    }
}
