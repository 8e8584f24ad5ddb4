//! Script checks, by way of `vipd exec`: it starts what stands in the configuration under the check's name.

use crate::exec::client::Runner;
use crate::exec::protocol::{End, Which};
use crate::health::{ScriptEnd, ScriptError, Scripts};
use std::sync::Arc;
use vipd_core::config::model::Model;
use vipd_core::time::Duration;
use vipd_core::types::CheckIx;

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
}

impl Scripts for ScriptChecks {
    async fn run(&self, check: CheckIx) -> Result<ScriptEnd, ScriptError> {
        let check = self.model.check(check);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::exec::client::Whereabouts;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixListener;

    const CONFIG: &str = "[cluster]\nname = \"shop\"\n[hosts.lb1]\n[hosts.lb2]\n[instance.web]\nvrid = 51\n\
        interface = \"eth0\"\naddresses = [\"192.0.2.10/24\"]\nchecks = [\"a\", \"b\"]\n\
        [check.a]\nscript = [\"/bin/check\"]\n[check.b]\nscript = [\"/bin/check\"]\n";

    #[tokio::test(flavor = "current_thread")]
    async fn checks_with_the_same_program_run_under_their_own_names() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("exec.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            writer.write_all(b"{\"hello\":{\"v\":2,\"version\":\"0\"}}\n").await.unwrap();
            let mut asks = BufReader::new(reader).lines();
            while let Some(ask) = asks.next_line().await.unwrap() {
                let ask: serde_json::Value = serde_json::from_str(&ask).unwrap();
                let ended = serde_json::json!({ "ended": {
                    "run": ask["run"]["run"], "end": { "exited": 0 },
                    "output": ask["run"]["program"]["check"], "last": "", "took_ms": 1,
                }});
                writer.write_all(format!("{ended}\n").as_bytes()).await.unwrap();
            }
        });
        let (model, _) = vipd_core::config::load(CONFIG, "vipd.toml", "lb1").unwrap();
        let model = Arc::new(model);
        let whereabouts = Whereabouts { socket, command: vec![], managed: true };
        let scripts = ScriptChecks::new(Arc::clone(&model), Runner::start(whereabouts));
        for ix in [CheckIx(0), CheckIx(1)] {
            assert_eq!(scripts.run(ix).await.unwrap().line, *model.check(ix).name);
        }
    }
}
