//! `script = [..]`: somebody else starts it and ends it, here its exit code becomes a verdict.

use super::outcome::{Outcome, span};
use super::task::Measure;
use std::future::Future;
use std::sync::Arc;
use vipd_core::config::model::Program;
use vipd_core::engine::io::Verdict;
use vipd_core::time::Duration;
use vipd_core::types::CheckIx;

/// Who ends a program that takes too long has this much time more: TERM, two seconds, KILL, the report.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the operator's programs, as their users, bounded in time and output, in process groups of their own.
pub trait Scripts: Send + Sync + 'static {
    /// Runs the program of the script check `check` until it ends, at most for the check's `timeout`: then its process
    /// group is ended. Dropping the future may let the program go on to that limit, not further.
    fn run(&self, check: CheckIx) -> impl Future<Output = Result<ScriptEnd, ScriptError>> + Send;
}

/// A program that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptEnd {
    /// Exit code, 0 to 255.
    pub code: i32,
    /// First line of its output; what follows the first 200 characters is cut.
    pub line: String,
}

/// A program that did not end by itself, or never began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It took too long and was ended.
    #[error("timeout after {}", span(*.0))]
    TimedOut(Duration),
    /// A signal ended it.
    #[error("ended by signal {0}")]
    Signal(i32),
    /// It could not be started: why, with the fix.
    #[error("{0}")]
    NotStarted(String),
}

/// A script check.
#[derive(Debug)]
pub(super) struct Script<S> {
    pub(super) check: CheckIx,
    pub(super) program: Program,
    pub(super) scripts: Arc<S>,
}

impl<S: Scripts> Measure for Script<S> {
    // The executor itself did not answer.
    const LATE: Verdict = Verdict::Unknown;

    async fn run(&mut self) -> Outcome {
        let path = self.program.argv.first().map_or("", |p| p);
        let name = path.rsplit('/').next().unwrap_or(path);
        match self.scripts.run(self.check).await {
            Ok(ScriptEnd { code, line }) => {
                let line = line.trim();
                let colon = if line.is_empty() { "" } else { ": " };
                Outcome::new(verdict(code), format!("{name}: exit {code}{colon}{line}"))
            }
            Err(e @ ScriptError::NotStarted(_)) => {
                Outcome::unknown(format!("{name}: not started: {e}"))
            }
            Err(e) => Outcome::fail(format!("{name}: {e}")),
        }
    }

    fn patience(&self, timeout: Duration) -> Duration {
        timeout.max(self.program.timeout) + GRACE
    }
}

/// The exit codes of monitoring plugins; any other is a failure.
fn verdict(code: i32) -> Verdict {
    match code {
        0 => Verdict::Pass,
        1 => Verdict::Warn,
        3 => Verdict::Unknown,
        _ => Verdict::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vipd_core::config::model::Account;

    struct Fake(Result<ScriptEnd, ScriptError>);

    impl Scripts for Fake {
        async fn run(&self, _: CheckIx) -> Result<ScriptEnd, ScriptError> {
            self.0.clone()
        }
    }

    async fn outcome(end: Result<ScriptEnd, ScriptError>) -> Outcome {
        let program = Program {
            argv: vec!["/usr/lib/nagios/plugins/check_x".into()],
            account: Account::Default,
            env: Vec::new(),
            timeout: Duration::from_secs(1),
        };
        Script { check: CheckIx(0), program, scripts: Arc::new(Fake(end)) }.run().await
    }

    #[tokio::test]
    async fn exit_codes_are_those_of_plugins() {
        for (code, verdict) in [
            (0, Verdict::Pass),
            (1, Verdict::Warn),
            (2, Verdict::Fail),
            (3, Verdict::Unknown),
            (4, Verdict::Fail),
            (126, Verdict::Fail),
            (127, Verdict::Fail),
            (255, Verdict::Fail),
        ] {
            let got = outcome(Ok(ScriptEnd { code, line: "OK - 3 users\nmore".into() })).await;
            assert_eq!(got.verdict, verdict, "{code}");
            assert_eq!(got.detail, format!("check_x: exit {code}: OK - 3 users"));
        }
    }

    #[tokio::test]
    async fn what_did_not_start_is_unknown_and_what_hung_failed() {
        let no = outcome(Err(ScriptError::NotStarted("fork: out of processes".into()))).await;
        assert_eq!(no, Outcome::unknown("check_x: not started: fork: out of processes"));
        let hung = outcome(Err(ScriptError::TimedOut(Duration::from_secs(1)))).await;
        assert_eq!(hung, Outcome::fail("check_x: timeout after 1 s"));
        let killed = outcome(Err(ScriptError::Signal(11))).await;
        assert_eq!(killed, Outcome::fail("check_x: ended by signal 11"));
    }
}
