//! `vipd exec`: runs hooks, activations and script checks for the agent.

use super::{Exit, Failure, Place};
use crate::runtime::exec;
use clap::Args;

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Serve the agent at the other end of standard input instead of listening
    #[arg(long, hide = true)]
    inherited: bool,
}

pub(super) fn run(place: &Place, args: &ExecArgs) -> Result<Exit, Failure> {
    let host = place.host()?;
    let served = if args.inherited {
        exec::inherited(&place.config, &host)
    } else {
        exec::listen(&place.config, &host, &place.runtime_dir)
    };
    served.map_err(|error| Failure::new(Exit::Failed, error))?;
    Ok(Exit::Done)
}
