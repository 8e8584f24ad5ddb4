//! `vipd move`, `failback`, `promote`, `release`: who owns an instance.

use super::change::{self, ChangeArgs, InstanceArgs};
use super::{Exit, Failure, Place};
use crate::control::protocol::Verb;
use clap::Args;

#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The instance, as in `[instance.NAME]`
    instance: String,
    /// To this host [default: the best one]
    #[arg(long, value_name = "HOST")]
    to: Option<String>,
    /// Override what a refusal calls overridable
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The instance, as in `[instance.NAME]`
    instance: String,
    /// Claim with a copy of the state that is old or unknown: what it lacks is lost
    #[arg(long)]
    accept_data_loss: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) fn hand_over(place: &Place, args: MoveArgs) -> Result<Exit, Failure> {
    let MoveArgs { instance, to, force, change } = args;
    change::run(place, Verb::Move { instance, to, force }, change)
}

pub(super) fn failback(place: &Place, args: InstanceArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Failback { instance: args.instance }, args.change)
}

pub(super) fn promote(place: &Place, args: PromoteArgs) -> Result<Exit, Failure> {
    let PromoteArgs { instance, accept_data_loss, change } = args;
    change::run(place, Verb::Promote { instance, accept_data_loss }, change)
}

pub(super) fn release(place: &Place, args: InstanceArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Release { instance: args.instance }, args.change)
}
