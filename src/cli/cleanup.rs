//! `vipd cleanup`: removes what a dead agent left on this host, and says what it was.

use super::{Exit, Failure, Place, say};
use crate::runtime::cleanup::{self, CleanupError};
use crate::sys::AlreadyRunning;

pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    let done =
        cleanup::run(&place.config, &place.host()?, &place.runtime_dir).map_err(|error| {
            let exit = match &error {
                CleanupError::Capability(_) => Exit::Permission,
                CleanupError::Lock(lock) if lock.is_held() => Exit::Refused,
                CleanupError::Namespace(AlreadyRunning::Taken) => Exit::Refused,
                CleanupError::Lock(_) | CleanupError::Namespace(_) | CleanupError::Netlink(_) => {
                    Exit::Failed
                }
            };
            Failure::new(exit, error)
        })?;
    for name in &done.told {
        say(format_args!("{name}: peers were told that this host leaves (priority 0)"));
    }
    for reason in &done.untold {
        eprintln!("vipd: peers were not told: {}", reason.trim_end());
    }
    let cleaned = &done.cleaned;
    let counts = [
        (cleaned.addresses, "addresses"),
        (cleaned.devices, "virtual MAC devices"),
        (cleaned.routes, "routes"),
        (cleaned.rules, "policy rules"),
        (usize::from(cleaned.filter), "packet filter"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        say(format_args!("removed: {count} {what}"));
    }
    if cleaned.settings > 0 {
        say(format_args!("put back: {} kernel settings", cleaned.settings));
    }
    if cleaned.is_empty() {
        say("nothing of vipd was on this host");
    }
    for error in &cleaned.errors {
        eprintln!("vipd: {error}");
    }
    Ok(if cleaned.errors.is_empty() { Exit::Done } else { Exit::Failed })
}
