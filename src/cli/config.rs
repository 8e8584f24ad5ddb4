//! `vipd config diff`: what a reload would change here, and what each change costs.

use super::{Exit, Failure, Place, say};
use crate::control::client;
use crate::control::socket_path;
use crate::control::status::Status;
use crate::runtime::keys;
use crate::runtime::load::{self, LoadError};
use crate::runtime::reload::{costs, lines};
use crate::runtime::standing;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use vipd_core::config::diff::Difference;
use vipd_core::config::model::Model;

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Say what a reload would change here, what each change costs, and which hosts run another configuration
    Diff(DiffArgs),
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// File to compare with what the agent runs, instead of the one of --config
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(place: &Place, args: &ConfigArgs) -> Result<Exit, Failure> {
    let ConfigVerb::Diff(DiffArgs { file }) = &args.verb;
    let file = file.as_ref().unwrap_or(&place.config);
    let invalid = |error: LoadError| Failure::new(Exit::Config, error);
    let new = load::for_host(file, &place.host()?).map_err(invalid)?;
    let status = client::status(&socket_path(&place.runtime_dir))?;
    let old = in_force(place, &status)?;
    for warning in &new.warnings {
        say(warning);
    }
    let difference = Difference::between(&old, &new.meaning);
    let changes = lines(&difference);
    if changes.is_empty() {
        say(format_args!("{}: nothing changes on this host", file.display()));
    }
    for line in changes.iter().chain(&costs(&difference, &old, &status)) {
        say(line);
    }
    if let Err(error) = keys::secrets(&new.meaning) {
        say(format_args!("warning: a reload would refuse this file: {error}"));
    }
    say(peers(&status, &new.meaning));
    Ok(Exit::Done)
}

/// What the agent runs: the copy that it keeps, if that is the one.
fn in_force(place: &Place, status: &Status) -> Result<Model, Failure> {
    let missing = |why: &str| {
        let copy = place.state_dir.join("last-good.toml");
        let text = format!(
            "cannot tell what the agent runs: {}: {why}; run this as root, with the --config, --host and --state-dir of \
             the agent",
            copy.display()
        );
        Failure::new(Exit::Failed, text)
    };
    let text = standing::last_good(&place.state_dir, &place.config)
        .ok_or_else(|| missing("no copy of that file can be read there"))?;
    let copy = load::of_text(text, &place.config, &place.host()?)
        .map_err(|_| missing("the copy is not a configuration"))?;
    if status.config_hash != hash(&copy.meaning) {
        return Err(missing("the copy is of another configuration"));
    }
    Ok(copy.meaning)
}

fn hash(model: &Model) -> String {
    format!("{:016x}", model.hash)
}

/// Which hosts run another configuration than this one.
fn peers(status: &Status, new: &Model) -> String {
    let file = hash(new);
    let agent = if file == status.config_hash {
        "the agent runs this configuration".to_owned()
    } else {
        format!("the agent runs {}, the file is {file}", status.config_hash)
    };
    let others: Vec<&str> = status
        .alarms
        .iter()
        .filter(|alarm| alarm.code == "config-mismatch")
        .map(|alarm| alarm.message.as_str())
        .collect();
    match (status.peers.is_empty(), others.as_slice()) {
        (true, _) => format!("{agent}; what the other hosts run is unknown without heartbeats"),
        (false, []) => format!("{agent}; the other hosts that are heard run the same as it"),
        (false, others) => format!("{agent}; {}", others.join("; ")),
    }
}
