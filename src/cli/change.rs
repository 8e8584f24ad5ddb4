//! What all verbs that change something share: `--reason`, `--dry-run`, `--wait`, `--json`, the answer and its exit code.

use super::{Exit, Failure, Place, lifecycle, say};
use crate::control::client::{self, Changed, ClientError};
use crate::control::protocol::{Body, Code, How, LONGEST_WAIT, Verb, Word};
use crate::control::socket_path;
use clap::Args;
use serde_json::json;
use std::time::Duration;
use vipd_core::config::parse_duration;

/// How a change is made.
#[derive(Clone, Debug, Args)]
pub struct ChangeArgs {
    /// Why: for the log and the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only say what would happen, or why it would be refused
    #[arg(long)]
    dry_run: bool,
    /// Follow the operation to its end, this long at most
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "60s", value_parser = time)]
    wait: Option<Duration>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// The instance that a verb is about.
#[derive(Clone, Debug, Args)]
pub struct InstanceArgs {
    /// The instance, as in `[instance.NAME]`
    pub(super) instance: String,
    #[command(flatten)]
    pub(super) change: ChangeArgs,
}

/// A length of time as in the configuration.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(time) if !time.is_zero() => Ok(time),
        _ => Err(format!(
            "'{text}' is not a time such as 500ms, 30s, 10m or 2h; a bare --wait goes last"
        )),
    }
}

/// Orders `verb` and tells what came of it.
pub(super) fn run(place: &Place, verb: Verb, args: ChangeArgs) -> Result<Exit, Failure> {
    let ChangeArgs { reason, dry_run, wait, json } = args;
    let how = How { reason, dry_run, wait_s: wait.map(|w| w.min(LONGEST_WAIT).as_secs_f64()) };
    let on_the_way = |body: &Body| {
        if let (Body::Accepted(word) | Body::Progress(word), false) = (body, json) {
            say(sentence(word));
        }
    };
    let socket = socket_path(&place.runtime_dir);
    let ends_agent = matches!(verb, Verb::Reexec {});
    let changed = match client::change(&socket, verb, how, on_the_way) {
        Err(ClientError::Lost { operation, error }) if ends_agent => {
            let lost = ClientError::Lost { operation: operation.clone(), error };
            lifecycle::ask_next(&socket, &operation, lost)
        }
        changed => changed,
    };
    if json {
        say(document(&changed));
    }
    let changed = changed.map_err(Failure::from)?;
    if !json {
        say(match &changed {
            Changed::Accepted(word) | Changed::Done(word) => sentence(word),
            Changed::Would(word) => format!("would happen: {}", word.message),
        });
    }
    Ok(Exit::Done)
}

fn sentence(word: &Word) -> String {
    match &word.operation {
        Some(operation) => format!("operation {operation}: {}", word.message),
        None => word.message.clone(),
    }
}

/// The outcome for programs.
fn document(changed: &Result<Changed, ClientError>) -> serde_json::Value {
    let (outcome, operation, message) = match changed {
        Ok(Changed::Accepted(word)) => (json!("accepted"), &word.operation, word.message.clone()),
        Ok(Changed::Done(word)) => (json!("done"), &word.operation, word.message.clone()),
        Ok(Changed::Would(word)) => (json!("would"), &word.operation, word.message.clone()),
        Err(ClientError::Refused(c)) => (json!(c.code), &c.operation, c.message.clone()),
        Err(error @ ClientError::Lost { operation, .. }) => {
            let outcome = json!(Code::OutcomeUnknown);
            return json!({"schema": 1, "outcome": outcome, "operation": operation, "message": error.to_string()});
        }
        Err(ClientError::Permission { .. }) => (json!(Code::Forbidden), &None, error_text(changed)),
        Err(_) => (json!("unreachable"), &None, error_text(changed)),
    };
    json!({"schema": 1, "outcome": outcome, "operation": operation, "message": message})
}

fn error_text(changed: &Result<Changed, ClientError>) -> String {
    changed.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Permission { .. } => Exit::Permission,
            ClientError::Lost { .. } => Exit::Unknown,
            ClientError::Unreachable { .. }
            | ClientError::NoReplicator { .. }
            | ClientError::Garbled(_) => Exit::Unreachable,
            ClientError::Refused(complaint) => match complaint.code {
                Code::Forbidden => Exit::Permission,
                Code::Config => Exit::Config,
                Code::Refused | Code::Aborted => Exit::Refused,
                Code::OutcomeUnknown => Exit::Unknown,
                Code::Malformed => Exit::Usage,
                Code::Version
                | Code::TooLong
                | Code::Busy
                | Code::TimedOut
                | Code::TooSlow
                | Code::Unavailable => Exit::Unreachable,
            },
        };
        let refused = matches!(&error, ClientError::Refused(c) if c.code == Code::Refused);
        Self::new(exit, if refused { format!("refused: {error}") } else { error.to_string() })
    }
}
