//! `vipd drain`, `undrain`, `freeze`, `thaw`, `set-priority`, `ack`: what this host or group may do for a while.

use super::change::{self, ChangeArgs, InstanceArgs, time};
use super::{Exit, Failure, Place};
use crate::control::protocol::Verb;
use clap::Args;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Ends by itself after this time
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    term: Option<Duration>,
    /// Claim all the same when nobody else can
    #[arg(long)]
    last_resort: bool,
    /// Release even what nobody takes over
    #[arg(long)]
    allow_outage: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub struct FreezeArgs {
    /// Ends by itself after this time [default: 2h]
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    term: Option<Duration>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub struct PriorityArgs {
    /// The instance, as in `[instance.NAME]`
    instance: String,
    /// 1 to 254
    #[arg(value_name = "N", required_unless_present = "clear", conflicts_with = "clear")]
    priority: Option<u8>,
    /// The configured priority again
    #[arg(long)]
    clear: bool,
    /// Ends by itself after this time [default: holds until cleared]
    #[arg(long = "for", value_name = "TIME", value_parser = time, conflicts_with = "clear")]
    term: Option<Duration>,
    #[command(flatten)]
    change: ChangeArgs,
}

fn seconds(term: Option<Duration>) -> Option<f64> {
    term.map(|term| term.as_secs_f64())
}

pub(super) fn drain(place: &Place, args: DrainArgs) -> Result<Exit, Failure> {
    let DrainArgs { term, last_resort, allow_outage, change } = args;
    change::run(place, Verb::Drain { for_s: seconds(term), last_resort, allow_outage }, change)
}

pub(super) fn undrain(place: &Place, args: ChangeArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Undrain {}, args)
}

pub(super) fn freeze(place: &Place, args: FreezeArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Freeze { for_s: seconds(args.term) }, args.change)
}

pub(super) fn thaw(place: &Place, args: ChangeArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Thaw {}, args)
}

pub(super) fn set_priority(place: &Place, args: PriorityArgs) -> Result<Exit, Failure> {
    let PriorityArgs { instance, priority, clear: _, term, change } = args;
    change::run(place, Verb::SetPriority { instance, priority, for_s: seconds(term) }, change)
}

pub(super) fn ack(place: &Place, args: InstanceArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Ack { instance: args.instance }, args.change)
}
