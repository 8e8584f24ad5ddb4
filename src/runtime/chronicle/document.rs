//! Events of the engine as kinds with fields.

use crate::control::events::{Level, Step, What};
use crate::telemetry::{
    alarm_code, cause_text, check_name, host_name, operation_name, reason_text, verdict_word,
};
use vipd_core::config::model::Model;
use vipd_core::engine::io::{EventKind, OperationStep};

/// `kind` as a document, with its cause; `None`: it is not for others.
pub(super) fn what(model: &Model, kind: &EventKind) -> Option<(What, Option<String>)> {
    let what = match kind {
        EventKind::Transition { from, to, cause, owner, priority, epoch } => {
            let what = What::Transition {
                from: from.to_string(),
                to: to.to_string(),
                owner: owner.map(|owner| owner.to_string()),
                priority: *priority,
                epoch: epoch.to_string(),
            };
            return Some((what, Some(cause_text(model, cause))));
        }
        EventKind::Standing { class, priority, reason } => {
            let what = What::Standing { class: class.to_string(), priority: *priority };
            return Some((what, Some(reason_text(model, reason))));
        }
        EventKind::Operation { id, step } => {
            let (step, text) = match step {
                OperationStep::Started => (Step::Started, None),
                OperationStep::Progress(text) => (Step::Progress, Some(text)),
                OperationStep::Done(text) => (Step::Done, Some(text)),
                OperationStep::Aborted(text) => (Step::Aborted, Some(text)),
            };
            let what = What::Operation { operation: operation_name(*id), step };
            return Some((what, text.map(|text| text.to_string())));
        }
        EventKind::KernelFailed(fault) => {
            return Some((What::KernelFault {}, Some(fault.to_string())));
        }
        EventKind::Check { check, from, to, detail } => {
            let what = What::Check {
                check: check_name(model, *check),
                from: from.map(|from| verdict_word(from).into()),
                to: verdict_word(*to).into(),
            };
            return Some((what, Some(detail.to_string())));
        }
        EventKind::Claimed { addresses, took: _ } => What::Claimed { addresses: *addresses },
        EventKind::Released => What::Released {},
        EventKind::Repaired(vip) => What::Repaired { address: vip.to_string() },
        EventKind::Refused { src, reason, suppressed } => What::Refused {
            source: src.to_string(),
            reason: (*reason).to_owned(),
            suppressed: *suppressed,
        },
        EventKind::Peer { host, alive } => {
            What::Peer { host: host_name(model, *host), alive: *alive }
        }
        EventKind::Boot { counter, told_by: _ } => What::BootCounter { counter: *counter },
        EventKind::Alarm(alarm, on) => What::Alarm { code: alarm_code(alarm).into(), on: *on },
        EventKind::Unsynced(why) => return Some((What::Unsynced {}, Some(why.to_string()))),
        EventKind::Vetoed(why) => return Some((What::Vetoed {}, Some(why.to_string()))),
        // Between the engine and its storage, and its replicator.
        EventKind::Remember(_) | EventKind::Role(_) => return None,
    };
    Some((what, None))
}

/// Three are enough for readers of events.
pub(super) fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        _ => Level::Info,
    }
}
