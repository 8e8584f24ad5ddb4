//! `vipd promote` and `vipd ack`: an operator's order to the running agent.

use super::{Exit, Failure, Place, say};
use crate::control::client::{self, ClientError};
use crate::control::protocol::{Code, Verb};
use crate::control::socket_path;
use clap::Args;

#[derive(Debug, Args)]
pub struct OrderArgs {
    /// The instance, as in `[instance.NAME]`
    instance: String,
}

pub(super) fn promote(place: &Place, args: OrderArgs) -> Result<Exit, Failure> {
    order(place, Verb::Promote { instance: args.instance })
}

pub(super) fn ack(place: &Place, args: OrderArgs) -> Result<Exit, Failure> {
    order(place, Verb::Ack { instance: args.instance })
}

fn order(place: &Place, verb: Verb) -> Result<Exit, Failure> {
    let done = client::order(&socket_path(&place.runtime_dir), verb)
        .map_err(|error| Failure::new(exit(&error), error))?;
    say(done);
    Ok(Exit::Done)
}

fn exit(error: &ClientError) -> Exit {
    match error {
        ClientError::Permission { .. } => Exit::Permission,
        ClientError::Refused(complaint) => match complaint.code {
            Code::Forbidden => Exit::Permission,
            Code::Refused => Exit::Refused,
            Code::Malformed
            | Code::Version
            | Code::TooLong
            | Code::Busy
            | Code::TimedOut
            | Code::Unavailable => Exit::Unreachable,
        },
        ClientError::Unreachable { .. } | ClientError::Garbled(_) => Exit::Unreachable,
    }
}
