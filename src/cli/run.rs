//! `vipd run`: the agent in the foreground.

use super::{Exit, Failure, Place};
use crate::runtime::agent::{self, Options, RunError};

pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    let options = Options {
        config: place.config.clone(),
        host: place.host()?,
        runtime_dir: place.runtime_dir.clone(),
        state_dir: place.state_dir.clone(),
    };
    agent::run(&options).map_err(|error| Failure::new(code(&error), error))?;
    Ok(Exit::Done)
}

/// The exit code tells a restart loop what no restart mends.
fn code(error: &RunError) -> Exit {
    match error {
        RunError::Capability(_) => Exit::Permission,
        RunError::Lock(error) if error.is_held() => Exit::Refused,
        RunError::Namespace(crate::sys::AlreadyRunning::Taken) => Exit::Refused,
        RunError::Config(_) | RunError::Key(_) => Exit::Config,
        RunError::Lock(_)
        | RunError::Namespace(_)
        | RunError::Io { .. }
        | RunError::Died(_)
        | RunError::Stuck(_) => Exit::Failed,
    }
}
