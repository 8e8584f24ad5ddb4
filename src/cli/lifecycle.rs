//! `vipd reload`, `vipd reexec`: the agent itself.

use super::change::{self, ChangeArgs};
use super::{Exit, Failure, Place};
use crate::control::client::{self, Changed, ClientError};
use crate::control::events::{Step, What};
use crate::control::protocol::{Code, Complaint, Verb, Word};
use crate::sys::clock;
use std::path::Path;
use std::time::Duration;

/// The next agent is there after a fraction of a second.
const NEXT: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn reload(place: &Place, args: ChangeArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Reload {}, args)
}

pub(super) fn reexec(place: &Place, args: ChangeArgs) -> Result<Exit, Failure> {
    change::run(place, Verb::Reexec {}, args)
}

/// The agent that took the order for `operation` has ended: what does the next one behind `socket` say of it?
///
/// # Errors
/// When it was not carried out, or nobody speaks of it in time: then `lost`.
pub(super) fn ask_next(
    socket: &Path,
    operation: &str,
    lost: ClientError,
) -> Result<Changed, ClientError> {
    let until = clock::monotonic() + NEXT;
    while clock::monotonic() < until {
        for event in client::history(socket, None, None).unwrap_or_default() {
            let What::Operation { operation: of, step } = &event.what else { continue };
            let operation = Some(of.clone()).filter(|of| of == operation);
            match step {
                _ if operation.is_none() => {}
                Step::Done => {
                    return Ok(Changed::Done(Word { operation, message: event.message }));
                }
                Step::Aborted => {
                    let (code, message) = (Code::Aborted, event.message);
                    return Err(ClientError::Refused(Complaint { code, operation, message }));
                }
                Step::Started | Step::Progress => {}
            }
        }
        std::thread::sleep(LOOK);
    }
    Err(lost)
}
