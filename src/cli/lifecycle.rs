//! `vipd reload`, `vipd reexec`: the agent itself.

use super::change::{self, ChangeArgs};
use super::{Exit, Failure, Place};
use crate::control::protocol::Verb;

pub(super) fn reload(place: &Place, args: ChangeArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Reload {}, args)
}

pub(super) fn reexec(place: &Place, args: ChangeArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Reexec {}, args)
}
