//! Script checks, by way of `vipd exec`: it starts what stands in the configuration under the check's name.

use crate::exec::client::Runner;
use crate::exec::protocol::{End, Which};
use crate::health::{ScriptEnd, ScriptError, Scripts};
use std::sync::Arc;
use vipd_core::config::model::{Check, Model, Probe, Program};
use vipd_core::time::Duration;

/// From the limit of a program to the word of `vipd exec`: TERM, two seconds, KILL.
const GRACE: Duration = Duration::from_secs(4);
/// Characters of the first line that are kept.
const LINE: usize = 200;

/// Runs script checks.
#[derive(Clone, Debug)]
pub(super) struct ScriptChecks {
    model: Arc<Model>,
    runner: Runner,
}

impl ScriptChecks {
    /// Those of `model`.
    pub(super) fn new(model: Arc<Model>, runner: Runner) -> Self {
        Self { model, runner }
    }

    fn check(&self, wanted: &Program) -> Option<&Check> {
        let is =
            |check: &&Check| matches!(&check.probe, Probe::Script(program) if program == wanted);
        self.model.checks.iter().find(is)
    }
}

impl Scripts for ScriptChecks {
    async fn run(&self, program: &Program) -> Result<ScriptEnd, ScriptError> {
        let Some(check) = self.check(program) else {
            return Err(ScriptError::NotStarted("no check runs it".into()));
        };
        let which = Which::Check(check.name.to_string());
        let done = self.runner.run(which, None, check.timeout + GRACE).await;
        match done.end {
            End::Exited(code) => {
                let line = done.output.lines().next().unwrap_or_default();
                Ok(ScriptEnd { code, line: line.chars().take(LINE).collect() })
            }
            End::Killed(signal) => Err(ScriptError::Signal(signal)),
            End::TimedOut => Err(ScriptError::TimedOut(check.timeout)),
            End::NotStarted(why) | End::Refused(why) | End::Unknown(why) => {
                Err(ScriptError::NotStarted(why))
            }
        }
    }
}
